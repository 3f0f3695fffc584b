//! What can go wrong with a call to the simulated disk, and the log of the calls.

use std::io;
use std::sync::Arc;

/// A call to the disk or to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// `Disk::create_new`
    Create,
    /// `Disk::open_read`, `Disk::open_write`
    Open,
    /// `Disk::link_new`; the path is the new name
    Link,
    /// `Disk::rename`; the path is the new name
    Rename,
    /// `Disk::remove`
    Remove,
    /// `Disk::list`
    List,
    /// `Disk::create_dir`
    CreateDir,
    /// `Disk::sync_dir`
    SyncDir,
    /// `Disk::free_bytes`
    FreeBytes,
    /// `Disk::lock`
    Lock,
    /// `File::read_at`
    Read,
    /// `File::write_at`
    Write,
    /// `File::sync_data`
    Sync,
    /// `File::allocate`
    Allocate,
    /// `File::set_len`
    SetLen,
    /// `File::bytes`
    Bytes,
}

impl Op {
    /// Changes what the disk holds, or makes it durable.
    pub fn is_change(self) -> bool {
        !matches!(self, Self::Open | Self::List | Self::FreeBytes | Self::Lock | Self::Read | Self::Bytes)
    }
}

/// One call, as it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Runs from 1.
    pub number: u64,
    /// Which call.
    pub op: Op,
    /// Relative to the data directory.
    pub path: Arc<str>,
    /// Where in the file; 0 for calls without an offset.
    pub offset: u64,
    /// How many bytes were asked for; the length for `Allocate` and `SetLen`.
    pub bytes: u64,
}

/// What one call does instead of its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Fails with `EIO` and does nothing. A sync that fails loses what it should have made durable: it stays readable
    /// and is gone after a power cut, whatever is synced later.
    Eio,
    /// Fails with `EIO` after a part of the effect: half of a write; a sync keeps any subset and loses the rest.
    EioPartly,
    /// Fails with `EIO` although the effect took place: the outcome is unknown to the caller.
    EioDone,
    /// Fails with `ENOSPC` and does nothing; a sync loses as with `Eio`.
    Enospc,
    /// Not at this call but at the first `sync_data` from it on: `ENOSPC` of delayed allocation, which loses as `Eio`.
    EnospcAtSync,
    /// A write writes half. No effect on other calls.
    Short,
    /// Fails with `EINTR` and does nothing.
    Interrupted,
}

impl Fault {
    /// All of them, for loops.
    pub const ALL: [Self; 7] =
        [Self::Eio, Self::EioPartly, Self::EioDone, Self::Enospc, Self::EnospcAtSync, Self::Short, Self::Interrupted];

    /// Whether the call has an effect, in part or in full.
    pub(super) fn has_effect(self) -> bool {
        matches!(self, Self::EioPartly | Self::EioDone | Self::Short)
    }

    pub(super) fn error(self) -> io::Error {
        match self {
            Self::Eio | Self::EioPartly | Self::EioDone => io::Error::from_raw_os_error(5),
            Self::Enospc | Self::EnospcAtSync => no_space(),
            Self::Short => io::ErrorKind::WriteZero.into(),
            Self::Interrupted => io::ErrorKind::Interrupted.into(),
        }
    }
}

pub(super) fn no_space() -> io::Error {
    io::Error::from_raw_os_error(28)
}

pub(super) fn power_cut() -> io::Error {
    io::Error::other("simulated power cut")
}

/// When a fault strikes.
#[derive(Clone, Debug)]
pub(super) enum When {
    At(u64),
    From(u64),
    Next(Op, String),
}

/// What strikes when. Each strikes once, except `From`.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    faults: Vec<(When, Fault)>,
}

impl Plan {
    pub(super) fn add(&mut self, when: When, fault: Fault) {
        self.faults.push((when, fault));
    }

    pub(super) fn clear(&mut self) {
        self.faults.clear();
    }

    /// The fault of this call, if any.
    pub(super) fn strike(&mut self, call: &Call) -> Option<Fault> {
        let strikes = |(when, fault): &(When, Fault)| match when {
            When::At(number) if *fault == Fault::EnospcAtSync => *number <= call.number && call.op == Op::Sync,
            When::At(number) => *number == call.number,
            When::From(number) => *number <= call.number && (*fault != Fault::EnospcAtSync || call.op == Op::Sync),
            When::Next(op, part) => *op == call.op && call.path.contains(part.as_str()),
        };
        let at = self.faults.iter().position(strikes)?;
        let (when, fault) = self.faults.get(at)?.clone();
        if !matches!(when, When::From(_)) {
            self.faults.remove(at);
        }
        Some(fault)
    }
}

//! A file that holds nothing but space: given up when the disk is full, for what gives space back.
//!
//! It is there from an open on, as long as the disk has room for it beside the reserve. A manifest edit, or a cut that
//! takes dropped tables away, that finds the disk full gets it; it is made again when there is room. Nothing depends on it,
//! so it is never synced.

use std::io;
use std::path::Path;

use crate::disk::Disk;
use crate::world::World;

const PATH: &str = "ballast";

pub(crate) struct Ballast {
    world: World,
    bytes: u64,
    /// What else must be free for it to be made.
    reserve_bytes: u64,
    held: bool,
}

impl Ballast {
    /// Of `bytes`; 0: none. What a former process left counts if it is as long.
    pub(crate) fn new(world: &World, bytes: u64, reserve_bytes: u64) -> Self {
        let found = found_bytes(&*world.disk).unwrap_or_default();
        let mut ballast = Self { world: world.clone(), bytes, reserve_bytes, held: found.is_some() };
        if ballast.held && found != Some(bytes) {
            ballast.give_up();
        }
        ballast
    }

    /// Makes it if it is missing and there is room.
    pub(crate) fn restore(&mut self) {
        let wanted = self.reserve_bytes.saturating_add(self.bytes);
        if self.held || self.bytes == 0 || !self.world.disk.free_bytes().is_ok_and(|free| wanted <= free) {
            return;
        }
        let made = self.world.disk.create_new(Path::new(PATH)).and_then(|file| file.allocate(self.bytes));
        self.held = true;
        if let Err(error) = made {
            tracing::warn!(%error, "the ballast could not be made, it will be tried again");
            self.give_up();
        }
    }

    /// Gives its space back. `false`: there was none.
    pub(crate) fn give_up(&mut self) -> bool {
        if !std::mem::take(&mut self.held) {
            return false;
        }
        match self.world.disk.remove(Path::new(PATH)) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, "the ballast could not be given up");
                false
            }
        }
    }
}

/// The length of the file that is there.
fn found_bytes(disk: &dyn Disk) -> io::Result<Option<u64>> {
    let entries = disk.list(Path::new(""))?;
    Ok(entries.into_iter().find(|entry| entry.name == PATH && !entry.is_dir).map(|entry| entry.bytes))
}

//! A disk in memory that fails as real ones do. One seed replays one run.
//!
//! [`SimDisk::crash_at`] stops the process at a call, [`SimDisk::crash`] gives the disk that a power cut leaves: any
//! subset of the unsynced 512-byte sectors and names, as a [`Survival`] draws it. [`SimDisk::restart`] gives the disk
//! after the process alone was killed: everything that was visible is there, durable or not.
//! [`SimDisk::fail_at`] and its sisters make single calls fail. Damage at rest: [`SimDisk::flip_bit`] and others.
//!
//! Always true:
//! - what [`super::File::sync_data`] and [`super::Disk::sync_dir`] promise holds after every crash, and no more;
//! - a crash does not change the disk it was taken from, so one run serves many draws; but that disk is dead from then on;
//! - the call at which the power fails may take effect, as an unsynced one; no later call does.

mod calls;
mod content;
mod fault;
mod names;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::content::Inode;
use self::fault::{Plan, When, power_cut};
use self::names::{Entry, Names};
use crate::clock::sim::SimRng;

pub use self::content::SECTOR_BYTES;
pub use self::fault::{Call, Fault, Op};

/// The log of calls keeps no more than this.
const LOG_CALLS_MAX: usize = 1 << 20;
/// What an unlimited disk says is free.
const FREE_BYTES: u64 = 1 << 40;

/// What of the unsynced state a power cut leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Survival {
    /// Nothing.
    None,
    /// Everything.
    All,
    /// Each sector, length and name by chance.
    Random,
    /// In each file the writes up to some point of time, in the middle of one; of the names those up to another point.
    Prefix,
    /// As `Random`, in units of 4 KiB.
    Pages,
    /// As `Random`, and new space that was not written holds old bytes of somebody else.
    Stale,
}

impl Survival {
    /// All of them, for loops.
    pub const ALL: [Self; 6] = [Self::None, Self::All, Self::Random, Self::Prefix, Self::Pages, Self::Stale];
}

/// See [`SimDisk::watch`].
pub type Watch = Arc<dyn Fn() + Send + Sync>;

/// A simulated disk. Clones are the same disk.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Clone)]
struct State {
    seed: u64,
    rng: SimRng,
    calls: u64,
    log: Vec<Call>,
    crash_at: Option<u64>,
    dead: bool,
    watch: Option<Watch>,
    plan: Plan,
    capacity: Option<u64>,
    used: u64,
    locked: bool,
    names: Names,
    inodes: BTreeMap<u32, Inode>,
    next_inode: u32,
}

/// How a call that was let through goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Run,
    /// Takes effect, then the power is gone.
    Die,
    Fault(Fault),
}

impl Step {
    /// Whether the call does its work. For writes of a part see `write_at`.
    fn has_effect(self) -> bool {
        match self {
            Self::Run | Self::Die => true,
            Self::Fault(fault) => fault.has_effect(),
        }
    }

    /// What the caller hears.
    fn answer<T>(self, value: T) -> io::Result<T> {
        match self {
            Self::Run | Self::Fault(Fault::Short) => Ok(value),
            Self::Die => Err(power_cut()),
            Self::Fault(fault) => Err(fault.error()),
        }
    }
}

impl SimDisk {
    /// An empty disk.
    pub fn new(seed: u64) -> Self {
        let state = State {
            seed,
            rng: SimRng::new(seed),
            calls: 0,
            log: Vec::new(),
            crash_at: None,
            dead: false,
            watch: None,
            plan: Plan::default(),
            capacity: None,
            used: 0,
            locked: false,
            names: Names::new(),
            inodes: BTreeMap::new(),
            next_inode: 1,
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// The number of calls so far.
    pub fn calls(&self) -> u64 {
        self.lock_state().calls
    }

    /// The calls so far, at most the first million.
    pub fn log(&self) -> Vec<Call> {
        self.lock_state().log.clone()
    }

    /// The `number`-th call, counted from 1, and all after it fail: the process is dead.
    pub fn crash_at(&self, number: u64) {
        self.lock_state().crash_at = Some(number);
    }

    /// Runs before every call from now on, while the disk is locked: it may do anything that calls no disk. `None`: nothing.
    pub fn watch(&self, watch: Option<Watch>) {
        self.lock_state().watch = watch;
    }

    /// Whether the power failed, or this disk was left by `crash`, `reboot` or `restart`.
    pub fn is_dead(&self) -> bool {
        self.lock_state().dead
    }

    /// The disk after a power cut now. The seed draws what survives.
    pub fn crash(&self, survival: Survival, seed: u64) -> Self {
        let mut state = self.lock_state();
        state.dead = true;
        let mut rng = SimRng::new(seed ^ state.seed.rotate_left(32));
        let names = state.names.after_crash(survival, &mut rng);
        let mut inodes: BTreeMap<u32, Inode> = BTreeMap::new();
        for (_, number) in names.files() {
            if let Some(inode) = inodes.get_mut(&number) {
                inode.links += 1;
            } else if let Some(before) = state.inodes.get(&number) {
                let mut inode = Inode::durable(before.after_crash(survival, &mut rng));
                inode.inherit_bad_sectors(before);
                inode.links = 1;
                inodes.insert(number, inode);
            }
        }
        let used = inodes.values().map(|inode| inode.charged).sum();
        let next_inode = state.next_inode;
        let (seed, capacity) = (rng.next_u64(), state.capacity);
        drop(state);
        let disk = Self::new(seed);
        let mut after = disk.lock_state();
        (after.capacity, after.used, after.names) = (capacity, used, names);
        (after.inodes, after.next_inode) = (inodes, next_inode);
        drop(after);
        disk
    }

    /// The disk after a power cut now; the disk's own seed draws how much survives.
    pub fn reboot(&self) -> Self {
        let (survival, seed) = {
            let mut state = self.lock_state();
            let draw = state.rng.below(Survival::ALL.len() as u64) as usize;
            (Survival::ALL[draw], state.rng.next_u64())
        };
        self.crash(survival, seed)
    }

    /// The disk after the process was killed and the machine ran on: nothing visible is lost, nothing more is durable.
    pub fn restart(&self) -> Self {
        let mut state = self.lock_state();
        state.dead = true;
        let mut after = state.clone();
        drop(state);
        (after.calls, after.crash_at, after.dead, after.locked, after.watch) = (0, None, false, false, None);
        after.log.clear();
        after.plan.clear();
        let numbers: Vec<u32> = after.inodes.keys().copied().collect();
        for number in numbers {
            after.inodes.entry(number).and_modify(|inode| inode.handles = 0);
            after.release(number);
        }
        Self { state: Arc::new(Mutex::new(after)) }
    }

    /// The `number`-th call, counted from 1, fails; once.
    pub fn fail_at(&self, number: u64, fault: Fault) {
        self.lock_state().plan.add(When::At(number), fault);
    }

    /// The `number`-th call and all after it fail, until [`Self::heal`].
    pub fn fail_from(&self, number: u64, fault: Fault) {
        self.lock_state().plan.add(When::From(number), fault);
    }

    /// The next call of this kind on a path that contains `part` fails; once.
    pub fn fail_next(&self, op: Op, part: &str, fault: Fault) {
        self.lock_state().plan.add(When::Next(op, part.into()), fault);
    }

    /// Takes back all faults that did not strike yet.
    pub fn heal(&self) {
        self.lock_state().plan.clear();
    }

    /// How many bytes all files may have together, holes included; `None` for no limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock_state().capacity = bytes;
    }

    /// Paths of all visible files, sorted by directory and name.
    pub fn files(&self) -> Vec<String> {
        self.lock_state().names.files().map(|(path, _)| path).collect()
    }

    /// The visible bytes of a file. Not a call.
    pub fn file_bytes(&self, path: &str) -> io::Result<Vec<u8>> {
        let mut state = self.lock_state();
        let inode = state.file(path)?;
        let mut bytes = vec![0; inode.live.bytes as usize];
        inode.live.read(0, &mut bytes);
        Ok(bytes)
    }

    /// Puts a file of these bytes there, durable, replacing what was there. Not a call.
    pub fn put_file(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.lock_state();
        let mut inode = Inode::holding(bytes);
        (inode.links, inode.charged) = (1, bytes.len() as u64);
        state.used += bytes.len() as u64;
        let number = state.next_inode;
        state.next_inode += 1;
        let before = state.names.file(path).ok();
        state.names.set_at_rest(path, Some(Entry::File(number)))?;
        state.inodes.insert(number, inode);
        state.unlink(before);
        Ok(())
    }

    /// Flips one bit (0 to 7) of the byte at `offset`, at rest.
    pub fn flip_bit(&self, path: &str, offset: u64, bit: u8) -> io::Result<()> {
        self.lock_state().file(path)?.edit_byte(offset, |byte| *byte ^= 1 << (bit & 7));
        Ok(())
    }

    /// Zeroes the sector that holds `offset`, at rest.
    pub fn zero_sector(&self, path: &str, offset: u64) -> io::Result<()> {
        let start = offset / SECTOR_BYTES * SECTOR_BYTES;
        let mut state = self.lock_state();
        let inode = state.file(path)?;
        (start..start + SECTOR_BYTES).for_each(|at| inode.edit_byte(at, |byte| *byte = 0));
        Ok(())
    }

    /// Every read of the sector that holds `offset` fails with `EIO`, until it is written again.
    pub fn spoil_sector(&self, path: &str, offset: u64) -> io::Result<()> {
        self.lock_state().file(path)?.spoil_sector(offset);
        Ok(())
    }

    /// Cuts or grows a file, at rest.
    pub fn cut_file(&self, path: &str, bytes: u64) -> io::Result<()> {
        let mut content = self.file_bytes(path)?;
        content.resize(bytes as usize, 0);
        self.put_file(path, &content)
    }

    /// Takes a file away, at rest.
    pub fn delete_file(&self, path: &str) -> io::Result<()> {
        let mut state = self.lock_state();
        let inode = state.names.file(path)?;
        state.names.set_at_rest(path, None)?;
        state.unlink(Some(inode));
        Ok(())
    }

    /// Puts a copy of a file elsewhere, at rest.
    pub fn copy_file(&self, from: &str, to: &str) -> io::Result<()> {
        self.put_file(to, &self.file_bytes(from)?)
    }

    /// Exchanges the contents of two files, at rest.
    pub fn swap_files(&self, a: &str, b: &str) -> io::Result<()> {
        let (of_a, of_b) = (self.file_bytes(a)?, self.file_bytes(b)?);
        self.put_file(a, &of_b)?;
        self.put_file(b, &of_a)
    }

    fn lock_state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Counts and logs the call, and says how it goes on.
    fn begin(&mut self, op: Op, path: &str, offset: u64, bytes: u64) -> io::Result<Step> {
        if self.dead {
            return Err(power_cut());
        }
        if let Some(watch) = &self.watch {
            watch();
        }
        self.calls += 1;
        let call = Call { number: self.calls, op, path: path.into(), offset, bytes };
        let fault = self.plan.strike(&call);
        if self.log.len() < LOG_CALLS_MAX {
            self.log.push(call);
        }
        if self.crash_at.is_some_and(|at| at <= self.calls) {
            self.dead = true;
            return Ok(Step::Die);
        }
        Ok(fault.map_or(Step::Run, Step::Fault))
    }

    fn file(&mut self, path: &str) -> io::Result<&mut Inode> {
        let number = self.names.file(path)?;
        self.inode(number)
    }

    fn inode(&mut self, number: u32) -> io::Result<&mut Inode> {
        self.inodes.get_mut(&number).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// How far a file may grow.
    fn room(&self) -> u64 {
        self.capacity.map_or(u64::MAX / 2, |capacity| capacity.saturating_sub(self.used))
    }

    fn charge(&mut self, number: u32) {
        if let Some(inode) = self.inodes.get_mut(&number) {
            self.used = self.used - inode.charged + inode.live.bytes;
            inode.charged = inode.live.bytes;
        }
    }

    fn unlink(&mut self, number: Option<u32>) {
        if let Some(number) = number {
            self.inodes.entry(number).and_modify(|inode| inode.links = inode.links.saturating_sub(1));
            self.release(number);
        }
    }

    /// Gives the space of a file free that has no name and is not open; forgets it when no crash can bring it back.
    fn release(&mut self, number: u32) {
        if let Some(inode) = self.inodes.get_mut(&number).filter(|inode| inode.links == 0 && inode.handles == 0) {
            self.used -= inode.charged;
            inode.charged = 0;
            if !self.names.may_return(number) {
                self.inodes.remove(&number);
            }
        }
    }

    /// Forgets files that the last sync of a directory made unreachable.
    fn release_all(&mut self) {
        let is_orphan = |inode: &Inode| inode.links == 0 && inode.handles == 0;
        let orphans: Vec<u32> = self.inodes.iter().filter(|(_, i)| is_orphan(i)).map(|(number, _)| *number).collect();
        orphans.into_iter().for_each(|number| self.release(number));
    }
}

/// The engine's paths: relative, ASCII, without `.` and `..`.
fn text(path: &Path) -> io::Result<&str> {
    let text = path.to_str().ok_or(io::Error::from(io::ErrorKind::InvalidInput))?;
    let is_plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    if text.is_empty() || (text.is_ascii() && text.split('/').all(is_plain)) {
        Ok(text)
    } else {
        Err(io::ErrorKind::InvalidInput.into())
    }
}

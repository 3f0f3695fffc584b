//! All that the engine can reach: a disk and a clock.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::clock::sim::SimClock;
use crate::clock::{Clock, SystemClock};
use crate::disk::Disk;
use crate::disk::real::{Reader, RealDisk};
use crate::disk::sim::SimDisk;
use crate::{Error, Result};

/// The world of one engine. Clones share it.
#[derive(Clone)]
pub struct World {
    /// The data directory.
    pub disk: Arc<dyn Disk>,
    /// Time and chance.
    pub clock: Arc<dyn Clock>,
}

impl World {
    /// A directory of the operating system, created if absent, and its clock.
    pub fn real(dir: impl AsRef<Path>) -> Result<Self> {
        Self::real_with(dir, Reader::default())
    }

    /// The same, with a way to read data files.
    pub fn real_with(dir: impl AsRef<Path>, reader: Reader) -> Result<Self> {
        let dir: PathBuf = dir.as_ref().into();
        let disk = RealDisk::open(dir.clone()).map_err(|source| Error::io("open directory", dir, source))?;
        let disk = disk.with_reader(reader);
        Ok(Self { disk: Arc::new(disk), clock: Arc::new(SystemClock::new()) })
    }

    /// A simulated world from one seed. To crash it, keep the disk: see [`World::of`].
    pub fn sim(seed: u64) -> Self {
        Self::of(&SimDisk::new(seed), &SimClock::new(seed))
    }

    /// The world of a simulated disk and clock that the test holds on to.
    pub fn of(disk: &SimDisk, clock: &SimClock) -> Self {
        Self { disk: Arc::new(disk.clone()), clock: Arc::new(clock.clone()) }
    }
}

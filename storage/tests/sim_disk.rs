//! The simulated disk finds the classic bugs of storage engines: each is planted in a toy writer and must be found
//! within 10,000 crash points, and the toy without a bug must survive them all.
//!
//! The toy keeps numbered values: an append-only log in `wal/`, and a manifest that repeats all values and names the log.

use std::io;
use std::path::Path;

use marigram_storage::disk::sim::{Fault, SimDisk, Survival};
use marigram_storage::disk::{Disk, File, read_exact_at, write_all_at};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    None,
    AckBeforeSync,
    NoSyncOfNewLogName,
    NoSyncOfManifestName,
    ManifestInPlace,
    RenameBeforeDataSync,
    OldLogRemovedBeforeManifestIsNamed,
    FailedSyncTriedAgain,
    FailedSyncIgnored,
    ShortWriteIgnored,
    LogWithoutChecksum,
    ManifestWithoutChecksum,
    LengthNotSynced,
    LogReusedWithoutSalt,
    CacheTrustedAfterRestart,
}

const BUGS: [Bug; 14] = [
    Bug::AckBeforeSync,
    Bug::NoSyncOfNewLogName,
    Bug::NoSyncOfManifestName,
    Bug::ManifestInPlace,
    Bug::RenameBeforeDataSync,
    Bug::OldLogRemovedBeforeManifestIsNamed,
    Bug::FailedSyncTriedAgain,
    Bug::FailedSyncIgnored,
    Bug::ShortWriteIgnored,
    Bug::LogWithoutChecksum,
    Bug::ManifestWithoutChecksum,
    Bug::LengthNotSynced,
    Bug::LogReusedWithoutSalt,
    Bug::CacheTrustedAfterRestart,
];

/// Longer than a sector, so a record can tear.
const PAYLOAD_BYTES: usize = 700;
const RECORD_BYTES: usize = 24 + PAYLOAD_BYTES;
const VALUES_PER_LOG: u64 = 3;
const LOG_BYTES: u64 = VALUES_PER_LOG * RECORD_BYTES as u64;

fn payload(value: u64) -> [u8; PAYLOAD_BYTES] {
    std::array::from_fn(|at| (value as usize * 31 + at) as u8 | 1)
}

fn checksum(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(bytes)
}

struct Toy<'a> {
    disk: &'a SimDisk,
    bug: Bug,
    log: Box<dyn File>,
    log_number: u64,
    in_log: u64,
    values: u64,
}

fn log_path(number: u64) -> String {
    format!("wal/{number}")
}

impl<'a> Toy<'a> {
    /// Recovers, then writes everything again: nothing that a former process wrote is trusted.
    fn open(disk: &'a SimDisk, bug: Bug) -> io::Result<Self> {
        disk.create_dir("wal".as_ref())?;
        disk.sync_dir("".as_ref())?;
        let (values, log_number, in_log) = recover(disk, bug)?;
        if bug == Bug::CacheTrustedAfterRestart && disk.open_read(log_path(log_number).as_ref()).is_ok() {
            let log = disk.open_write(log_path(log_number).as_ref())?;
            return Ok(Self { disk, bug, log, log_number, in_log, values });
        }
        let names = disk.list("wal".as_ref())?;
        let next = names.iter().filter_map(|entry| entry.name.parse::<u64>().ok()).max().map_or(1, |n| n + 1);
        let log = new_log(disk, next, bug)?;
        let mut toy = Self { disk, bug, log, log_number: next, in_log: 0, values };
        toy.write_manifest(next)?;
        for entry in names {
            disk.remove(Path::new("wal").join(entry.name).as_ref())?;
        }
        toy.in_log = 0;
        Ok(toy)
    }

    /// Returns once the value is durable.
    fn append(&mut self) -> io::Result<()> {
        if self.in_log == VALUES_PER_LOG {
            self.roll()?;
        }
        let value = self.values;
        let mut record = Vec::with_capacity(RECORD_BYTES);
        record.extend_from_slice(&value.to_le_bytes());
        let salt = if self.bug == Bug::LogReusedWithoutSalt { 0 } else { self.log_number };
        record.extend_from_slice(&salt.to_le_bytes());
        record.extend_from_slice(&payload(value));
        let sum = checksum(&record);
        record.extend_from_slice(&sum.to_le_bytes());
        let offset = self.in_log * RECORD_BYTES as u64;
        match self.bug {
            Bug::ShortWriteIgnored => drop(self.log.write_at(offset, &record)?),
            _ => write_all_at(&*self.log, offset, &record)?,
        }
        match self.bug {
            Bug::AckBeforeSync => {}
            Bug::FailedSyncTriedAgain => self.log.sync_data().or_else(|_| self.log.sync_data())?,
            Bug::FailedSyncIgnored => drop(self.log.sync_data()),
            _ => self.log.sync_data()?,
        }
        self.in_log += 1;
        self.values += 1;
        Ok(())
    }

    fn roll(&mut self) -> io::Result<()> {
        let (old, next) = (self.log_number, self.log_number + 1);
        if self.bug == Bug::LogReusedWithoutSalt {
            self.disk.rename(log_path(old).as_ref(), log_path(next).as_ref())?;
            self.disk.sync_dir("wal".as_ref())?;
        } else {
            self.log = new_log(self.disk, next, self.bug)?;
        }
        if self.bug == Bug::OldLogRemovedBeforeManifestIsNamed {
            self.disk.remove(log_path(old).as_ref())?;
            self.disk.sync_dir("wal".as_ref())?;
        }
        self.write_manifest(next)?;
        if !matches!(self.bug, Bug::OldLogRemovedBeforeManifestIsNamed | Bug::LogReusedWithoutSalt) {
            self.disk.remove(log_path(old).as_ref())?;
        }
        (self.log_number, self.in_log) = (next, 0);
        Ok(())
    }

    /// Temporary file, sync, rename, sync of the directory.
    fn write_manifest(&mut self, log: u64) -> io::Result<()> {
        let mut bytes = log.to_le_bytes().to_vec();
        for value in 0..self.values {
            bytes.extend_from_slice(&value.to_le_bytes());
            bytes.extend_from_slice(&payload(value));
        }
        bytes.extend_from_slice(&checksum(&bytes).to_le_bytes());
        if self.bug == Bug::ManifestInPlace && self.disk.open_read("manifest".as_ref()).is_ok() {
            let file = self.disk.open_write("manifest".as_ref())?;
            write_all_at(&*file, 0, &bytes)?;
            return file.sync_data();
        }
        match self.disk.remove("manifest.tmp".as_ref()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = self.disk.create_new("manifest.tmp".as_ref())?;
        write_all_at(&*file, 0, &bytes)?;
        if !matches!(self.bug, Bug::RenameBeforeDataSync | Bug::ManifestWithoutChecksum) {
            file.sync_data()?;
        }
        self.disk.rename("manifest.tmp".as_ref(), "manifest".as_ref())?;
        if self.bug != Bug::NoSyncOfManifestName {
            self.disk.sync_dir("".as_ref())?;
        }
        if self.bug == Bug::ManifestWithoutChecksum {
            file.sync_data()?;
        }
        Ok(())
    }
}

fn new_log(disk: &SimDisk, number: u64, bug: Bug) -> io::Result<Box<dyn File>> {
    let log = disk.create_new(log_path(number).as_ref())?;
    log.allocate(LOG_BYTES)?;
    if bug != Bug::LengthNotSynced {
        log.sync_data()?;
    }
    if bug != Bug::NoSyncOfNewLogName {
        disk.sync_dir("wal".as_ref())?;
    }
    Ok(log)
}

/// (values, log, how many of them are in the log). An error is damage.
fn recover(disk: &dyn Disk, bug: Bug) -> io::Result<(u64, u64, u64)> {
    let damage = || io::Error::from(io::ErrorKind::InvalidData);
    let mut manifest = match disk.open_read("manifest".as_ref()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((0, 0, 0)),
        other => read_all(&*other?)?,
    };
    let sum = manifest.split_off(manifest.len().checked_sub(8).ok_or_else(damage)?);
    if bug != Bug::ManifestWithoutChecksum && sum != checksum(&manifest).to_le_bytes() {
        return Err(damage());
    }
    let (log_number, entries) = manifest.split_first_chunk::<8>().ok_or_else(damage)?;
    let log_number = u64::from_le_bytes(*log_number);
    let mut values = 0;
    for entry in entries.chunks(8 + PAYLOAD_BYTES) {
        if entry != [&u64::to_le_bytes(values)[..], &payload(values)].concat() {
            return Err(damage());
        }
        values += 1;
    }
    let log = read_all(&*disk.open_read(log_path(log_number).as_ref())?)?;
    if (log.len() as u64) < LOG_BYTES {
        return Err(damage());
    }
    let mut in_log = 0;
    for record in log.chunks_exact(RECORD_BYTES) {
        let (body, sum) = record.split_at(RECORD_BYTES - 8);
        let is_written = body[..16].iter().any(|byte| *byte != 0);
        let is_whole = match bug {
            Bug::LogWithoutChecksum => is_written,
            _ => sum == checksum(body).to_le_bytes(),
        };
        let salt = if bug == Bug::LogReusedWithoutSalt { 0 } else { log_number };
        if !is_whole || body[8..16] != salt.to_le_bytes() {
            break;
        }
        if body[..8] != u64::to_le_bytes(values) || body[16..] != payload(values) {
            return Err(damage());
        }
        (values, in_log) = (values + 1, in_log + 1);
    }
    Ok((values, log_number, in_log))
}

fn read_all(file: &dyn File) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; file.bytes()? as usize];
    read_exact_at(file, 0, &mut bytes)?;
    Ok(bytes)
}

/// What the outside knows: so many values are durable, so many were begun.
#[derive(Clone, Copy, Default)]
struct Known {
    acknowledged: u64,
    begun: u64,
}

/// Writes until something fails; a failure ends the process.
fn run(disk: &SimDisk, bug: Bug, mut known: Known) -> Known {
    let Ok(mut toy) = Toy::open(disk, bug) else { return known };
    known = Known { acknowledged: toy.values, begun: toy.values };
    for _ in 0..8 {
        known.begun += 1;
        if toy.append().is_err() {
            break;
        }
        known.acknowledged = toy.values;
    }
    known
}

/// Counts crash points until one shows the bug.
struct Hunt {
    bug: Bug,
    points: u64,
    points_max: u64,
}

impl Hunt {
    fn is_over(&self) -> bool {
        self.points >= self.points_max
    }

    /// Takes the power away now, several ways; true if something was lost or invented.
    fn is_found(&mut self, disk: &SimDisk, known: Known) -> bool {
        Survival::ALL.into_iter().any(|survival| {
            self.points += 1;
            let after = disk.crash(survival, self.points);
            match recover(&after, self.bug) {
                Ok((values, _, _)) => values < known.acknowledged || known.begun < values,
                Err(_) => true,
            }
        })
    }

    /// The number of the crash point that shows the bug.
    fn hunt(mut self) -> Option<u64> {
        for seed in 0.. {
            let probe = SimDisk::new(seed);
            run(&probe, self.bug, Known::default());
            for at in 1..=probe.calls() {
                let disk = SimDisk::new(seed);
                disk.crash_at(at);
                let known = run(&disk, self.bug, Known::default());
                // Once more on what was left, to crash what recovery wrote.
                let second = disk.reboot();
                second.crash_at(1 + (at + seed * 7) % 40);
                if self.is_found(&disk, known) {
                    return Some(self.points);
                }
                let known = run(&second, self.bug, known);
                if self.is_found(&second, known) {
                    return Some(self.points);
                }
                let fault = Fault::ALL[(at + seed) as usize % Fault::ALL.len()];
                let disk = SimDisk::new(seed);
                disk.fail_at(at, fault);
                let known = run(&disk, self.bug, Known::default());
                let restarted = disk.restart();
                restarted.crash_at(1 + (at * 5 + seed) % 40);
                if self.is_found(&disk, known) {
                    return Some(self.points);
                }
                let known = run(&restarted, self.bug, known);
                if self.is_found(&restarted, known) {
                    return Some(self.points);
                }
                if self.is_over() {
                    return None;
                }
            }
        }
        None
    }
}

fn hunt(bug: Bug, points_max: u64) -> Option<u64> {
    Hunt { bug, points: 0, points_max }.hunt()
}

#[test]
fn the_writer_without_a_bug_survives_every_crash_point() {
    assert_eq!(hunt(Bug::None, 40_000), None);
}

#[test]
fn every_planted_bug_is_found_within_ten_thousand_crash_points() {
    let found: Vec<_> = BUGS.into_iter().map(|bug| (bug, hunt(bug, 10_000))).collect();
    println!("{found:?}");
    assert!(found.iter().all(|(_, at)| at.is_some()), "{found:?}");
}

#[test]
fn one_seed_replays_one_run() {
    let trace = |seed| {
        let disk = SimDisk::new(seed);
        disk.crash_at(40);
        run(&disk, Bug::None, Known::default());
        let after = disk.reboot();
        let files: Vec<_> = after.files().iter().map(|path| after.file_bytes(path).unwrap()).collect();
        (disk.log(), after.files(), files)
    };
    assert_eq!(trace(3), trace(3));
    assert!((4..40).any(|seed| trace(3).2 != trace(seed).2));
}

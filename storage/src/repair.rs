//! Making a damaged store open again, by giving up what is damaged: nothing is guessed, nothing is deleted.
//!
//! A damaged segment leaves the manifest; a log is believed up to its first damaged group, and what it tells is written into
//! segments. Files that only damage names are moved to `aside/`, where nobody looks. What was lost is told as exactly as
//! it is known: tables, times and sequences. Where a newer version of a row is lost, an older one shows again: that is the
//! loss. A manifest that cannot be read is not repaired here. A segment of which only postings or padding are damaged stays:
//! readers do without them, and nothing of it is lost.
//!
//! It may be stopped at any point and run again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::open::{LostLog, Salvage, open_with};
use crate::options::{Options, Threads};
use crate::stats::Counters;
use crate::verify::{Problem, Verified, verify};
use crate::world::World;

/// Where damaged files are moved.
const ASIDE_DIR: &str = "aside";
const WAL_DIR: &str = "wal";

/// A segment that is given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostSegment {
    /// Its table, or the id of one that is dropped.
    pub table: String,
    /// Relative to the data directory.
    pub path: PathBuf,
    /// How many rows it had.
    pub rows: u64,
    /// First and last time, ns.
    pub times: (i64, i64),
    /// First and last sequence of its batches.
    pub sequences: (u64, u64),
    /// Place and broken rule.
    pub reason: String,
}

/// What a repair gave up, or would give up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Everything that was not as it was written.
    pub verified: Verified,
    /// Segments.
    pub segments: Vec<LostSegment>,
    /// The end of the log.
    pub log: Option<LostLog>,
    /// Files that were moved, and where to; with a dry run those that would be.
    pub moved: Vec<(PathBuf, PathBuf)>,
}

impl Repaired {
    /// Nothing is damaged, and nothing was changed.
    pub fn is_sound(&self) -> bool {
        self.verified.problems.is_empty()
    }

    /// Segments that stay though they are damaged: every row of them can be read.
    pub fn kept(&self) -> impl Iterator<Item = &Problem> {
        self.verified.problems.iter().filter(|problem| problem.rows_readable)
    }

    /// There is nothing to give up.
    pub fn is_lossless(&self) -> bool {
        self.verified.problems.iter().all(|problem| problem.rows_readable)
    }
}

/// Verifies a store whose lock the caller holds, and gives up what is damaged; with `dry_run` it only says what it would
/// give up. The log begins anew, with slots as `options` say.
///
/// # Errors
/// What cannot be repaired: a manifest that cannot be read, or that lacks an edit which the log names.
pub fn repair(world: &World, options: &Options, dry_run: bool) -> Result<Repaired> {
    let verified = verify(world)?;
    let mut repaired =
        Repaired { segments: lost_segments(&verified), log: verified.lost_log.clone(), verified, moved: Vec::new() };
    if repaired.is_lossless() {
        return Ok(repaired);
    }
    if repaired.verified.is_final {
        let of_manifest = repaired.verified.problems.iter().filter(|problem| problem.path.starts_with("manifest"));
        let reason = of_manifest.map(|problem| problem.reason.as_str()).collect::<Vec<_>>();
        let reason = format!("it cannot be repaired, only restored: {}", reason.join("; "));
        return Err(Error::corrupt("manifest", 0, reason));
    }
    let mut aside = Aside { world, dry_run, moved: Vec::new() };
    if dry_run {
        aside.checkpoints(&repaired.verified)?;
        for file in files_of(&repaired.verified) {
            aside.take(&file)?;
        }
        if repaired.log.is_some() {
            aside.log()?;
        }
        repaired.moved = aside.moved;
        return Ok(repaired);
    }
    let options = Options { threads: Threads::None, ballast_bytes: 0, ..options.clone() };
    let mut salvage = Salvage { lost: None, set_aside: &mut || aside.log() };
    let mut opened = open_with(world, &options, &Arc::new(Counters::default()), Some(&mut salvage))?;
    repaired.log = salvage.lost;
    // An open that began anew has a checkpoint of its own: the damaged ones say nothing any more.
    aside.checkpoints(&repaired.verified)?;
    let removed: Vec<_> = repaired.verified.damaged.iter().map(|(entry, _)| entry.id()).collect();
    if !removed.is_empty() {
        let (edit, freed) = opened.keeper.give_up_segments(removed)?;
        // Before anything that an edit freed is moved, a group of the log names it.
        opened.committer.placed(0, edit)?;
        for file in freed {
            aside.take(&file.path())?;
        }
    }
    repaired.moved = aside.moved;
    Ok(repaired)
}

fn lost_segments(verified: &Verified) -> Vec<LostSegment> {
    let told = verified.damaged.iter().filter_map(|(entry, first)| Some((entry, verified.problems.get(*first)?)));
    let lost = told.map(|(entry, problem)| LostSegment {
        table: problem.table.clone().unwrap_or_default(),
        path: problem.path.clone(),
        rows: entry.rows,
        times: (entry.time_min, entry.time_max),
        sequences: (entry.sequence_min, entry.sequence_max),
        reason: problem.reason.clone(),
    });
    lost.collect()
}

/// The files in which every live segment is damaged.
fn files_of(verified: &Verified) -> Vec<PathBuf> {
    let mut files: Vec<_> = verified.damaged.iter().map(|(entry, _)| entry.file).collect();
    files.dedup();
    let whole = files.into_iter().filter(|file| {
        let damaged = verified.damaged.iter().filter(|(entry, _)| entry.file == *file).count();
        verified.live.get(file).copied() == Some(damaged as u64)
    });
    whole.map(|file| file.path()).collect()
}

/// Moves files to `aside/`.
struct Aside<'a> {
    world: &'a World,
    dry_run: bool,
    moved: Vec<(PathBuf, PathBuf)>,
}

impl Aside<'_> {
    fn take(&mut self, path: &Path) -> Result<()> {
        let stamp = self.world.clock.wall_ns().max(0);
        let name = path.to_string_lossy().replace('/', "-");
        let to = PathBuf::from(format!("{ASIDE_DIR}/{stamp:020}-{name}"));
        if !self.dry_run {
            let disk = &self.world.disk;
            disk.create_dir(ASIDE_DIR.as_ref()).map_err(|error| Error::io("create directory", ASIDE_DIR, error))?;
            match disk.rename(path, &to) {
                // It is the file that is missing.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
                moved => moved.map_err(|error| Error::io("set aside", path, error))?,
            }
            let dir = path.parent().unwrap_or(Path::new(""));
            for dir in [Path::new(ASIDE_DIR), dir, Path::new("")] {
                disk.sync_dir(dir).map_err(|error| Error::io("sync directory", dir, error))?;
            }
        }
        self.moved.push((path.to_owned(), to));
        Ok(())
    }

    fn log(&mut self) -> Result<()> {
        let entries = match self.world.disk.list(WAL_DIR.as_ref()) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(|error| Error::io("list", WAL_DIR, error))?,
        };
        for entry in entries.into_iter().filter(|entry| !entry.is_dir) {
            self.take(&Path::new(WAL_DIR).join(entry.name))?;
        }
        Ok(())
    }

    fn checkpoints(&mut self, verified: &Verified) -> Result<()> {
        for path in &verified.damaged_checkpoints {
            self.take(path)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Engine;
    use crate::clock::sim::SimClock;
    use crate::disk::sim::{SimDisk, Survival};
    use crate::draft::{Draft, DraftSeries, DraftTable};
    use crate::schema::TableMode;
    use crate::values::{FieldColumn, Values};

    fn options() -> Options {
        Options {
            threads: Threads::None,
            wal_slot_bytes: 16 << 10,
            wal_bytes_max: 64 << 10,
            disk_reserve_bytes: 0,
            merge_segments_min: 100,
            ..Options::default()
        }
    }

    fn draft(tables: &[&str], from: i64) -> Draft {
        let table = |name: &&str| {
            let mut series = DraftSeries::default();
            series.push_tag(0, b"a");
            series.finish();
            let field = FieldColumn { column: "v".to_owned(), rows: None, values: Values::I64(vec![from; 10]) };
            DraftTable {
                name: (*name).to_owned(),
                mode: TableMode::Upsert,
                tags: vec!["host".to_owned()],
                series,
                row_series: vec![0; 10],
                times: (from..from + 10).collect(),
                fields: vec![field],
            }
        };
        Draft { tables: tables.iter().map(table).collect(), position: None }
    }

    /// Three cuts and three bodies in the log, as a killed process leaves them.
    fn store() -> (SimDisk, World) {
        let (disk, clock) = (SimDisk::new(1), SimClock::new(1));
        let world = World::of(&disk, &clock);
        let engine = Engine::open(world.clone(), options()).unwrap();
        for from in [0, 100, 200] {
            engine.write("main", &draft(&["cpu", "mem"], from)).unwrap();
            engine.cut().unwrap();
        }
        for from in [300, 400, 500] {
            engine.write("main", &draft(&["cpu"], from)).unwrap();
        }
        drop(engine);
        let disk = disk.crash(Survival::All, 1);
        let world = World::of(&disk, &clock);
        (disk, world)
    }

    /// The first times of the bodies that a table has.
    fn bodies(world: &World, table: &str) -> Vec<i64> {
        let engine = Engine::open(world.clone(), options()).unwrap();
        let snapshot = engine.snapshot();
        let database = snapshot.catalog().database("main").unwrap().id;
        let table = snapshot.catalog().table(database, table).unwrap().clone();
        let bodies = (0..6).map(|body| body * 100).filter(|from| {
            let time = crate::time::TimeRange::new(*from, from + 10).unwrap();
            let request = crate::ScanRequest { columns: vec![], time, tags: vec![], parts_max: 1 };
            let parts = snapshot.scan(table.id, &request).unwrap().parts;
            let rows: usize = parts.into_iter().flatten().map(|batch| batch.unwrap().num_rows()).sum();
            assert!(rows == 0 || rows == 10);
            rows == 10
        });
        bodies.collect()
    }

    fn repair_now(world: &World, dry_run: bool) -> Repaired {
        repair(world, &options(), dry_run).unwrap()
    }

    #[test]
    fn a_sound_store_is_not_touched() {
        let (disk, world) = store();
        let calls = disk.log().into_iter().filter(|call| call.op.is_change()).count();
        assert!(repair_now(&world, false).is_sound());
        assert_eq!(disk.log().into_iter().filter(|call| call.op.is_change()).count(), calls);
        assert_eq!(bodies(&world, "cpu"), [0, 100, 200, 300, 400, 500]);
    }

    #[test]
    fn damaged_segments_are_given_up_and_told() {
        let (disk, world) = store();
        let files: Vec<_> = disk.files().into_iter().filter(|file| file.starts_with("data/")).collect();
        let [first, second, _] = files.as_slice() else { panic!("{files:?}") };
        // One segment of two in the first file, the whole second file.
        disk.flip_bit(first, 100, 3).unwrap();
        disk.delete_file(second).unwrap();
        let before: Vec<_> = disk.files().iter().map(|file| (file.clone(), disk.file_bytes(file).unwrap())).collect();
        let dry = repair_now(&world, true);
        let after: Vec<_> = disk.files().iter().map(|file| (file.clone(), disk.file_bytes(file).unwrap())).collect();
        assert!(before == after, "a dry run changes nothing");
        let repaired = repair_now(&world, false);
        assert_eq!(dry.segments, repaired.segments);
        let lost: Vec<_> =
            repaired.segments.iter().map(|lost| (lost.table.as_str(), lost.times, lost.rows, lost.sequences)).collect();
        let (cpu_1, sequences) = (lost[0], lost[1].3);
        assert_eq!((cpu_1.0, cpu_1.1, cpu_1.2), ("cpu", (0, 9), 10));
        assert_eq!(lost[1..], [("cpu", (100, 109), 10, sequences), ("mem", (100, 109), 10, sequences)]);
        assert_eq!(repaired.log, None);
        assert!(verify(&world).unwrap().problems.is_empty());
        assert!(repair_now(&world, false).is_sound());
        assert_eq!(bodies(&world, "cpu"), [200, 300, 400, 500]);
        assert_eq!(bodies(&world, "mem"), [0, 200]);
    }

    #[test]
    fn a_file_of_damage_only_is_set_aside() {
        let (disk, world) = store();
        let file = disk.files().into_iter().find(|file| file.starts_with("data/")).unwrap();
        let bytes = disk.file_bytes(&file).unwrap();
        disk.flip_bit(&file, 20, 0).unwrap();
        let dry = repair_now(&world, true);
        let repaired = repair_now(&world, false);
        assert_eq!(repaired.segments.len(), 2);
        let [(from, to)] = repaired.moved.as_slice() else { panic!("{:?}", repaired.moved) };
        assert_eq!((dry.moved.len(), from.to_str()), (1, Some(file.as_str())));
        assert_eq!(disk.file_bytes(to.to_str().unwrap()).unwrap().len(), bytes.len());
        assert_eq!(bodies(&world, "mem"), [100, 200]);
    }

    #[test]
    fn a_log_is_believed_up_to_its_damage() {
        let (disk, world) = store();
        let (_, world) = damaged_in_second_body(&disk, &world);
        let refused = Engine::open(world.clone(), options());
        assert!(matches!(refused, Err(Error::Corrupt { .. })));
        let dry = repair_now(&world, true);
        let repaired = repair_now(&world, false);
        let lost = repaired.log.unwrap();
        assert_eq!(dry.log.unwrap(), lost);
        assert!(lost.reason.contains("wal/"), "{}", lost.reason);
        assert!(repaired.moved.iter().all(|(from, _)| from.starts_with("wal")) && repaired.moved == dry.moved);
        assert_eq!(bodies(&world, "cpu"), [0, 100, 200, 300]);
        assert_eq!(bodies(&world, "mem"), [0, 100, 200]);
    }

    #[test]
    fn a_log_that_is_gone_is_told_and_begun_anew() {
        let (disk, world) = store();
        for file in disk.files().into_iter().filter(|file| file.starts_with("wal/")) {
            disk.delete_file(&file).unwrap();
        }
        let repaired = repair_now(&world, false);
        assert!(repaired.log.is_some());
        assert_eq!(bodies(&world, "cpu"), [0, 100, 200]);
    }

    #[test]
    fn a_repair_that_is_cut_off_is_run_again() {
        let (disk, world) = store();
        let file = disk.files().into_iter().find(|file| file.starts_with("data/")).unwrap();
        disk.flip_bit(&file, 20, 0).unwrap();
        let (disk, _) = damaged_in_second_body(&disk, &world);
        let clock = SimClock::new(2);
        let mut done = 0;
        for call in 1.. {
            let dying = disk.crash(Survival::All, 1);
            dying.crash_at(dying.calls() + call);
            if repair(&World::of(&dying, &clock), &options(), false).is_ok() {
                break;
            }
            for survival in [Survival::None, Survival::All, Survival::Random] {
                let disk = dying.crash(survival, call);
                let world = World::of(&disk, &clock);
                repair(&world, &options(), false).unwrap_or_else(|error| panic!("call {call}, {survival:?}: {error}"));
                assert_eq!(bodies(&world, "cpu"), [100, 200, 300], "call {call}, {survival:?}");
                assert_eq!(bodies(&world, "mem"), [100, 200], "call {call}, {survival:?}");
            }
            done = call;
        }
        assert!(done > 30, "{done}");
    }

    /// The same with a flipped bit in the second of the three bodies of the log.
    fn damaged_in_second_body(disk: &SimDisk, world: &World) -> (SimDisk, World) {
        let first = verify(world).unwrap().wal_first_sequence;
        for path in disk.files().into_iter().filter(|file| file.starts_with("wal/")) {
            let bytes = disk.file_bytes(&path).unwrap();
            for offset in (512..bytes.len() as u64).step_by(512) {
                if bytes[offset as usize..].iter().take(64).all(|byte| *byte == 0) {
                    continue;
                }
                let trial = disk.crash(Survival::All, 1);
                trial.flip_bit(&path, offset + 70, 1).unwrap();
                let damaged = World { disk: Arc::new(trial.clone()), clock: Arc::clone(&world.clock) };
                if verify(&damaged).unwrap().lost_log.is_some_and(|lost| lost.first_sequence == first + 1) {
                    return (trial, damaged);
                }
            }
        }
        panic!("no group holds it");
    }
}

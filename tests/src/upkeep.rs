//! What is done to a store, or happens to it, that changes no answer: orders, looks at what is stored, damage that hides
//! nothing, time.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use marigram_storage::clock::Clock;
use marigram_storage::clock::sim::{SimClock, SimRng};
use marigram_storage::disk::sim::SimDisk;
use marigram_storage::disk::{Disk, File};
use marigram_storage::segment::SectionKind;
use marigram_storage::{Engine, Error, SegmentInfo, TaskState, segments_of};

const MINUTE_NS: u64 = 60_000_000_000;
const DAY_NS: i64 = 24 * 60 * MINUTE_NS as i64;

/// One such thing.
#[derive(Clone, Debug)]
pub enum Upkeep {
    /// `OPTIMIZE TABLE`, of one of the tables that are there, by number; with `FINAL` or not.
    Optimize(u64, bool),
    /// The same with `FINAL`; the first compaction that runs is given up behind so many of its calls to the disk.
    Cancel(u64, u64),
    /// A round of the scrubber, and a cut, behind which what it found is mended.
    Scrub,
    /// A bit of some segment flips where no reader needs it, and is found at once, or some time.
    Flaw(u64, bool),
    /// So many nanoseconds pass.
    Pass(u64),
    /// The wall clock is set forth by so many nanoseconds, or back.
    Jump(i64),
}

impl Upkeep {
    /// Draws one; `has_time`: the clocks may move.
    pub fn draw(rng: &mut SimRng, has_time: bool) -> Self {
        match rng.below(16) {
            0..=4 => Self::Optimize(rng.next_u64(), rng.chance(5)),
            5 | 6 => Self::Cancel(rng.next_u64(), rng.below(24)),
            7 => Self::Scrub,
            8..=11 => Self::Flaw(rng.next_u64(), rng.chance(6)),
            12..=14 if has_time => Self::Pass(rng.below(6 * 60) * MINUTE_NS),
            15 if has_time => Self::Jump(rng.below(4 * DAY_NS as u64) as i64 - 2 * DAY_NS),
            _ => Self::Scrub,
        }
    }

    /// Does it. What was given up, or names what is not there, is no failure.
    pub fn run(&self, engine: &Engine, disk: &SimDisk, clock: &SimClock) -> Result<(), Error> {
        match self {
            Self::Optimize(table, is_final) => optimize(engine, *table, *is_final),
            Self::Cancel(table, calls) => {
                watch_and_cancel(engine, disk, *calls);
                let done = optimize(engine, *table, true);
                disk.watch(None);
                done
            }
            Self::Scrub => scrub(engine),
            Self::Flaw(draw, is_found) => {
                flip_spare_bit(engine, disk, *draw)?;
                if *is_found { scrub(engine) } else { Ok(()) }
            }
            Self::Pass(ns) => {
                clock.advance_ns(*ns);
                Ok(())
            }
            Self::Jump(ns) => {
                clock.set_wall_ns(clock.wall_ns().saturating_add(*ns));
                Ok(())
            }
        }
    }
}

fn optimize(engine: &Engine, table: u64, is_final: bool) -> Result<(), Error> {
    let catalog = engine.schema();
    let mut tables = Vec::new();
    for database in catalog.databases() {
        tables.extend(catalog.tables(database.id).map(|table| (&database.name, &table.name)));
    }
    if tables.is_empty() {
        return Ok(());
    }
    let (database, table) = tables[(table % tables.len() as u64) as usize];
    match engine.optimize(database, table, is_final) {
        Ok(_) | Err(Error::Cancelled) => Ok(()),
        Err(error) => Err(error),
    }
}

fn scrub(engine: &Engine) -> Result<(), Error> {
    while !engine.scrub().ended_round {}
    engine.cut()
}

/// The first compaction that runs is given up behind `calls` calls to the disk.
fn watch_and_cancel(engine: &Engine, disk: &SimDisk, calls: u64) {
    let (engine, left) = (engine.clone(), AtomicU64::new(calls + 1));
    disk.watch(Some(Arc::new(move || {
        let tasks = engine.tasks();
        let running = tasks.iter().find(|task| task.state == TaskState::Running);
        if let Some(task) = running.filter(|_| left.load(Ordering::Relaxed) > 0)
            && left.fetch_sub(1, Ordering::Relaxed) == 1
        {
            engine.cancel_task(task.id);
        }
    })));
}

/// Flips a bit of postings or of what pads sections. Reads beside the disk: it is no call.
fn flip_spare_bit(engine: &Engine, disk: &SimDisk, draw: u64) -> Result<(), Error> {
    let snapshot = engine.snapshot();
    let mut segments: Vec<SegmentInfo> = Vec::new();
    for table in snapshot.catalog().all_tables() {
        segments.extend(snapshot.segments(table.id)?);
    }
    let mut rng = SimRng::new(draw);
    if segments.is_empty() {
        return Ok(());
    }
    let info = &segments[rng.below(segments.len() as u64) as usize];
    let spare = spare(&disk.file_bytes(&info.file).unwrap(), info)?;
    let bytes: Vec<u64> = spare.into_iter().flatten().collect();
    if !bytes.is_empty() {
        let at = bytes[rng.below(bytes.len() as u64) as usize];
        disk.flip_bit(&info.file, at, rng.below(8) as u8).unwrap();
    }
    Ok(())
}

/// Where in its file a segment has what no reader needs.
fn spare(file: &[u8], info: &SegmentInfo) -> Result<Vec<Range<u64>>, Error> {
    let (aside, path) = (SimDisk::new(0), Path::new(&info.file));
    aside.create_dir(path.parent().unwrap()).unwrap();
    aside.put_file(&info.file, file).unwrap();
    let file: Arc<dyn File> = Arc::from(aside.open_read(path).unwrap());
    let mut spare = Vec::new();
    for reader in segments_of(&file, path)?.iter().filter(|reader| reader.offset() == info.offset) {
        for section in &reader.footer().sections {
            let (start, end) = (info.offset + section.offset, info.offset + section.offset + section.bytes);
            if matches!(section.kind, SectionKind::POSTINGS | SectionKind::POSTINGS_INDEX) {
                spare.push(start..end);
            }
            spare.push(end..end.next_multiple_of(8));
        }
    }
    Ok(spare)
}

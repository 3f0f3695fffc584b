//! Opening a store: nothing that a former process wrote is trusted until it is written again.
//!
//! Lock, newest checkpoint and edits, replay, cut, checkpoint of a new epoch, new log, serve. Batches of one generation
//! are replayed into one memtable; where a generation ends, a cut had been begun, and replay cuts there too: memory is
//! bounded as it was when the batches were written. Where it is bounded more tightly by now, rows are written out before the
//! generation ends, into files that the cut at its end commits (`crate::keeper`); its series stay in memory.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::applier::Applier;
use crate::batch::Batch;
use crate::catalog::{Catalog, Database, Fact};
use crate::committer::{Committer, decode_positions};
use crate::disk::DiskLock;
use crate::error::{Error, Result};
use crate::generation::Generation;
use crate::keeper::Keeper;
use crate::lease::Lease;
use crate::manifest::{Change, Manifest, State};
use crate::memory::Accountant;
use crate::options::Options;
use crate::placement::Placement;
use crate::schema::DatabaseId;
use crate::snapshot::Snapshot;
use crate::stats::Counters;
use crate::tombstone::Tombstones;
use crate::wal::{self, ReplayFrom, WalIdentity, WalOptions, WalWriter};
use crate::world::World;

/// The database that always exists.
pub const MAIN_DATABASE: &str = "main";

pub(crate) struct Opened {
    pub(crate) series_seed: u64,
    pub(crate) generation: Arc<Generation>,
    pub(crate) committer: Committer,
    pub(crate) applier: Applier,
    pub(crate) keeper: Keeper,
}

/// What a damaged log no longer tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostLog {
    /// The first batch that is lost; so are all behind it.
    pub first_sequence: u64,
    /// File, place and the rule that is broken.
    pub reason: String,
}

/// The caller holds the lock of the directory. After [`Error::DiskFull`] nothing is lost, and it may be tried again.
pub(crate) fn open(world: &World, options: &Options, counters: &Arc<Counters>) -> Result<Opened> {
    open_with(world, options, counters, None)
}

/// How an open goes on behind a damaged log.
pub(crate) struct Salvage<'a> {
    /// What it does not tell is noted here.
    pub(crate) lost: Option<LostLog>,
    /// Called before the new log begins.
    pub(crate) set_aside: &'a mut dyn FnMut() -> Result<()>,
}

/// With `salvage`, a damaged log ends where its damage is. Only repair asks for that.
pub(crate) fn open_with(
    world: &World,
    options: &Options,
    counters: &Arc<Counters>,
    mut salvage: Option<&mut Salvage<'_>>,
) -> Result<Opened> {
    let (manifest, state) = Manifest::open(world)?;
    if let Some(file) = manifest.findings().missing_files.first() {
        tracing::error!(file = %file, "a data file is missing");
    }
    counters.replayed_rows.store(0, Ordering::Relaxed);
    let catalog = decode_catalog(&state)?;
    let positions = decode_positions(&state.cut.positions)
        .map_err(|reason| Error::corrupt("manifest", 0, format!("positions of the last cut: {reason}")))?;
    let placement = Arc::new(Placement::new(world, &state, &Placement::empty(&counters.memory)));
    let tables = catalog.all_tables().cloned().collect();
    let tombstones = decode_tombstones(&state, &counters.memory)?;
    let mut keeper = Keeper::new(
        world.clone(),
        options.clone(),
        manifest,
        Arc::clone(&placement),
        Arc::clone(counters),
        tables,
        tombstones.clone(),
    );
    let epoch = keeper.manifest_mut().epoch();
    let first = Arc::new(Generation::new(u64::from(epoch) << 32));
    let (sequence, tombstones) = (state.cut.sequence, Arc::new(tombstones));
    let memory = Arc::clone(&counters.memory);
    let applier = Applier::new(state.series_seed, sequence, Arc::new(catalog), first, placement, tombstones, memory);
    let mut replay = Replay { keeper, applier, positions, counters: Arc::clone(counters) };
    match (replay.run(world, &state), &mut salvage) {
        (Err(error), Some(salvage)) if error.is_damage() => {
            let first_sequence = replay.applier.sequence() + 1;
            salvage.lost = Some(LostLog { first_sequence, reason: error.to_string() });
        }
        (replayed, _) => replayed?,
    }
    let Replay { mut keeper, mut applier, mut positions, .. } = replay;

    if applier.catalog().database(MAIN_DATABASE).is_none() {
        applier = create_main(applier)?;
    }
    // Generations that live rows use never meet those of the log: this one is of the new epoch.
    let generation = Arc::new(Generation::new((u64::from(epoch) << 32) + 1));
    cut(&mut keeper, &mut applier, Arc::clone(&generation), &mut positions)?;
    keeper.manifest_mut().checkpoint()?;
    keeper.manifest_mut().set_aside_unnamed()?;
    keeper.sweep_trash();
    keeper.ballast_mut().restore();
    let state = Arc::clone(keeper.manifest_mut().state());
    if let Some(Salvage { lost: Some(_), set_aside }) = salvage {
        set_aside()?;
    }
    let wal = WalWriter::start(
        world,
        WalIdentity { database_id: state.database_id, epoch, shard: 0 },
        wal_options(options),
        applier.sequence() + 1,
        state.last_edit,
    )?;
    // From here on somebody may be told that a write is stored: a log that is lost is missed.
    let state = keeper.manifest_mut().commit(Change { log_begun: true, ..Change::default() })?;
    counters.note_wal(&wal);
    let committer = Committer::new(
        world.clone(),
        wal,
        options.disk_reserve_bytes,
        Arc::clone(&generation),
        state.last_edit,
        positions,
    );
    Ok(Opened { series_seed: state.series_seed, generation, committer, applier, keeper })
}

fn wal_options(options: &Options) -> WalOptions {
    let slots = options.wal_bytes_max / options.wal_slot_bytes.max(1);
    WalOptions { slot_bytes: options.wal_slot_bytes, slots_max: u32::try_from(slots).unwrap_or(u32::MAX).max(2) }
}

/// `main` is a fact like any other: it takes a sequence and is in the cut of the first open.
fn create_main(mut applier: Applier) -> Result<Applier> {
    let id = DatabaseId(applier.catalog().next_database().0);
    let fact = Fact::Database(Database { id, name: MAIN_DATABASE.to_owned() });
    let generation = applier.active().generation.number;
    let batch = Batch { generation, facts: vec![fact], ..Batch::default() };
    applier.apply(applier.sequence() + 1, batch).map_err(|reason| Error::invalid("database", reason))?;
    Ok(applier)
}

struct Replay {
    keeper: Keeper,
    applier: Applier,
    positions: BTreeMap<u128, u64>,
    counters: Arc<Counters>,
}

impl Replay {
    fn run(&mut self, world: &World, state: &State) -> Result<()> {
        let manifest_edit = state.last_edit;
        let sequence = self.applier.sequence() + 1;
        // The first sequence is that of `main`, in the cut of the first open. All others came out of a log, whose slots
        // are there for ever.
        if sequence > 2 && !wal::exists(world)? {
            return Err(Error::corrupt("wal", 0, "the log is missing"));
        }
        let from = ReplayFrom { sequence, manifest_edit, log_epoch: state.log_epoch };
        let identity = WalIdentity { database_id: state.database_id, epoch: state.epoch, shard: 0 };
        let started = world.clock.monotonic_ns();
        let mut cuts_ns = 0;
        let replayed = wal::replay(world, identity, from, &mut |sequence, kind, positions, payload| {
            let corrupt = |reason: String| Error::corrupt("wal", 0, format!("sequence {sequence}: {reason}"));
            let batch = Batch::read(kind, payload).map_err(corrupt)?;
            let active = self.applier.active();
            if active.generation.number != batch.generation {
                let generation = Arc::new(Generation::new(batch.generation));
                let before = world.clock.monotonic_ns();
                cut(&mut self.keeper, &mut self.applier, generation, &mut self.positions)?;
                cuts_ns += world.clock.monotonic_ns().saturating_sub(before);
            }
            let rows: usize = batch.tables.iter().map(|rows| rows.times.len()).sum();
            self.counters.replayed_rows.fetch_add(rows as u64, Ordering::Relaxed);
            self.applier.apply(sequence, batch).map_err(corrupt)?;
            for position in positions {
                self.positions.insert(position.source, position.to);
            }
            if is_full(&self.applier, &self.counters.memory) {
                let before = world.clock.monotonic_ns();
                cut_ahead(&mut self.keeper, &mut self.applier)?;
                cuts_ns += world.clock.monotonic_ns().saturating_sub(before);
            }
            Ok(())
        })?;
        let replay_ns = world.clock.monotonic_ns().saturating_sub(started).saturating_sub(cuts_ns);
        self.counters.replay_ns.store(replay_ns, Ordering::Relaxed);
        self.keeper.manifest_mut().require_edit(replayed.manifest_edit)?;
        self.counters.replayed_batches.store(replayed.batches, Ordering::Relaxed);
        Ok(())
    }
}

/// Whether replay holds so much that some of it must be written out, which takes memory too, and rows that are worth a file.
/// Half of it ends a generation when it is written, and a little more may come behind it.
fn is_full(applier: &Applier, memory: &Accountant) -> bool {
    let admitted = memory.shares().admitted_bytes();
    let rows = applier.active().charged_rows();
    admitted / 8 * 5 < memory.rows_used() && admitted / 8 < rows
}

/// Writes out what is in memory, in the middle of a generation.
fn cut_ahead(keeper: &mut Keeper, applier: &mut Applier) -> Result<()> {
    let generation = Arc::clone(&applier.active().generation);
    // No edit says anything of it, so the positions do not matter.
    let sealed = applier.seal(generation, BTreeMap::new());
    let placement = keeper.write_ahead(&sealed)?;
    applier.place(placement, Some(&sealed.memtable));
    Ok(())
}

/// Seals what is in memory and writes it out; the applier goes on in `generation`.
fn cut(
    keeper: &mut Keeper,
    applier: &mut Applier,
    generation: Arc<Generation>,
    positions: &mut BTreeMap<u128, u64>,
) -> Result<()> {
    let sealed = applier.seal(generation, positions.clone());
    keeper.enqueue(sealed);
    while let Some(placed) = keeper.cut_next()? {
        applier.place(placed.placement, Some(&placed.memtable));
    }
    Ok(())
}

/// The state of a store that nobody has open, without changing anything: what the manifest places plus what the log
/// holds, in memory. Fails with [`Error::Overloaded`] if that is more than `memory_bytes_max`.
pub fn read_only(world: &World, memory_bytes_max: u64) -> Result<(Snapshot, Box<dyn DiskLock>)> {
    let lock = take_lock(world)?;
    let (applier, _) = in_memory(world, memory_bytes_max, &Accountant::unlimited())?;
    let published = applier.published().load_full();
    let lease = Lease::forever(Arc::clone(&published), world.clock.random_u64());
    Ok((Snapshot::new(&published, lease), lock))
}

/// The same under a lock that the caller holds, and the seed of the store.
pub(crate) fn in_memory(world: &World, memory_bytes_max: u64, memory: &Arc<Accountant>) -> Result<(Applier, u64)> {
    let (state, _) = Manifest::read(world)?;
    let catalog = decode_catalog(&state)?;
    let placement = Arc::new(Placement::new(world, &state, &Placement::empty(memory)));
    let first = Arc::new(Generation::new(0));
    let tombstones = Arc::new(decode_tombstones(&state, memory)?);
    let (sequence, catalog, memory) = (state.cut.sequence, Arc::new(catalog), Arc::clone(memory));
    let mut applier = Applier::new(state.series_seed, sequence, catalog, first, placement, tombstones, memory);
    let from =
        ReplayFrom { sequence: applier.sequence() + 1, manifest_edit: state.last_edit, log_epoch: state.log_epoch };
    let identity = WalIdentity { database_id: state.database_id, epoch: state.epoch, shard: 0 };
    let replayed = wal::replay(world, identity, from, &mut |sequence, kind, _positions, payload| {
        let corrupt = |reason: String| Error::corrupt("wal", 0, format!("sequence {sequence}: {reason}"));
        let batch = Batch::read(kind, payload).map_err(corrupt)?;
        if applier.active().generation.number != batch.generation {
            // What a cut would have written stays in memory here.
            applier.seal(Arc::new(Generation::new(batch.generation)), BTreeMap::new());
        }
        applier.apply(sequence, batch).map_err(corrupt)?;
        let used_bytes = applier.memory_bytes();
        if used_bytes > memory_bytes_max {
            return Err(Error::Overloaded { used_bytes, bytes_max: memory_bytes_max });
        }
        Ok(())
    })?;
    state.require_edit(replayed.manifest_edit)?;
    applier.publish();
    Ok((applier, state.series_seed))
}

pub(crate) fn take_lock(world: &World) -> Result<Box<dyn DiskLock>> {
    world.disk.lock().map_err(|source| match source.kind() {
        std::io::ErrorKind::WouldBlock => Error::Locked { path: "lock".into() },
        _ => Error::io("lock", "lock", source),
    })
}

fn decode_tombstones(state: &State, memory: &Arc<Accountant>) -> Result<Tombstones> {
    Tombstones::decode(&state.cut.tombstones, memory)
        .map_err(|reason| Error::corrupt("manifest", 0, format!("tombstones of the last cut: {reason}")))
}

fn decode_catalog(state: &State) -> Result<Catalog> {
    Catalog::decode(&state.cut.catalog)
        .map_err(|reason| Error::corrupt("manifest", 0, format!("catalog of the last cut: {reason}")))
}

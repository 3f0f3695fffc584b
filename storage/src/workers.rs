//! The four threads of an open engine, and what they tell each other.
//!
//! ```text
//! producers ─► queue ─► committer ─► applier ─► keeper ◄─► compactor
//!                          ▲            ▲          │
//!                          └── placed ──┴─ place ──┘
//! ```
//!
//! The queue is bounded by bytes, the channel to the applier by count, cuts by their callers. The keeper sends back
//! twice: the applier publishes what it placed, the committer names its edit in the log and frees slots. No thread waits
//! for one that may be waiting for it: the committer waits for the applier only, the keeper for the applier only, the
//! applier for nobody. The compactor gets one job at a time and answers each, so neither it nor the keeper waits.

mod slots;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, TryRecvError, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::applier::{Applier, Sealed};
use crate::committer::{Committer, Logged, Submission};
use crate::compaction::{Done, Job};
use crate::engine::{Command, Inline, Shared};
use crate::error::{Error, Result};
use crate::generation::Generation;
use crate::keeper::{EraseStep, Keeper, OptimizeReply, Optimized};
use crate::memtable::MemSet;
use crate::placement::Placement;
use crate::priority::{lower_priority, shorten_slice};
use crate::schema::TableId;
use crate::wal::ZeroStep;
use crate::wal::queue::Drained;

use self::slots::{Orders, fill_slot, prepare_slot};

/// A group is at most this large, so that its sync stays short.
const GROUP_BYTES_MAX: u64 = 1 << 20;
/// After this much silence a witness group follows the last one.
const WITNESS_AFTER: Duration = Duration::from_millis(10);
/// A cut that failed is tried again after this long.
const CUT_RETRY: Duration = Duration::from_secs(1);

/// Compactions are that much nicer than the threads that acknowledge.
const COMPACTOR_NICE: u8 = 10;

type CutReply = SyncSender<Result<()>>;

/// To the applier.
enum Step {
    Group(Vec<Logged>),
    Seal {
        generation: Arc<Generation>,
        positions: BTreeMap<u128, u64>,
        reply: Option<CutReply>,
    },
    Place {
        placement: Arc<Placement>,
        cut: Option<Arc<MemSet>>,
    },
    /// Somebody's answer, behind what was placed for it.
    Optimized {
        reply: OptimizeReply,
        answer: Result<Optimized>,
    },
    Stop,
}

/// To the keeper.
pub(crate) enum Task {
    Cut {
        sealed: Sealed,
        reply: Option<CutReply>,
    },
    Compacted(Done),
    Optimize {
        table: TableId,
        is_final: bool,
        reply: OptimizeReply,
    },
    /// No byte of batches up to this one is in the log.
    LogZeroed(u64),
    /// Deletes may be a reason to do something.
    Look,
    Stop,
}

pub(crate) fn start(shared: &Arc<Shared>, parts: Inline) -> Result<Vec<JoinHandle<()>>> {
    let Inline { committer, applier, keeper } = parts;
    // Two groups may wait for the applier; then the log waits too.
    let (to_applier, steps) = sync_channel(2);
    // As many as there are callers of `cut`, and one of our own.
    let (to_keeper, tasks) = channel();
    let (to_compactor, jobs) = sync_channel(1);
    let back_to_keeper = to_keeper.clone();
    let _first = shared.to_keeper.set(to_keeper.clone());
    let for_compactor = Arc::clone(shared);
    let back_to_applier = to_applier.clone();
    let for_applier = Arc::clone(shared);
    let for_keeper = Arc::clone(shared);
    let for_committer = Arc::clone(shared);
    Ok(vec![
        guard(shared, "applier", move || {
            shorten_slice();
            applier_loop(&for_applier, applier, &steps, &to_keeper);
        })?,
        guard(shared, "keeper", move || keeper_thread(&for_keeper, keeper, &tasks, &back_to_applier, to_compactor))?,
        guard(shared, "compactor", move || compactor_loop(&for_compactor, &jobs, &back_to_keeper))?,
        guard(shared, "committer", move || {
            shorten_slice();
            committer_loop(&for_committer, committer, &to_applier);
        })?,
    ])
}

/// The thread that waits for the disk to have space.
pub(crate) fn start_resume(shared: &Arc<Shared>) -> Result<JoinHandle<()>> {
    let resuming = Arc::clone(shared);
    guard(shared, "resume", move || resuming.resume_loop())
}

/// The thread that reads what is stored again.
pub(crate) fn start_scrub(shared: &Arc<Shared>) -> Result<JoinHandle<()>> {
    let scrubbing = Arc::clone(shared);
    guard(shared, "scrubber", move || {
        if let Err(error) = crate::priority::lower_priority(19) {
            tracing::warn!(%error, "the scrubber runs at the priority of writes");
        }
        scrubbing.scrub_loop();
    })
}

/// A thread whose panic ends all writing, as a failed sync does: nobody waits for it in vain.
fn guard(shared: &Arc<Shared>, name: &'static str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let shared = Arc::clone(shared);
    spawn(name, move || {
        if catch_unwind(AssertUnwindSafe(body)).is_err() {
            shared.poison(&Error::invalid("thread", format!("{name} panicked")));
        }
    })
}

fn spawn(name: &'static str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .map_err(|error| Error::io("start thread", name, error))
}

fn committer_loop(shared: &Arc<Shared>, mut committer: Committer, to_applier: &SyncSender<Step>) {
    let mut silent = true;
    let mut orders = Orders::default();
    let ended = loop {
        let wait = if silent { None } else { Some(WITNESS_AFTER) };
        let commands = match shared.queue.drain(GROUP_BYTES_MAX, wait) {
            Drained::Entries(commands) => commands,
            Drained::Idle => {
                silent = true;
                match committer.witness() {
                    Ok(()) => {
                        // What was applied since the last look may have filled the memtable, and writes may wait for that
                        // before they come here.
                        if shared.cut_wanted(committer.wal().used_bytes()) {
                            seal(shared, &mut committer, to_applier, None);
                        }
                        continue;
                    }
                    Err(error) => break Err(error),
                }
            }
            Drained::Closed => break Ok(()),
        };
        silent = false;
        match run_commands(shared, &mut committer, &mut orders, commands, to_applier) {
            Ok(true) => {}
            Ok(false) => break Ok(()),
            Err(error) => break Err(error),
        }
        shared.counters.note_wal(committer.wal());
    };
    if let Err(error) = ended {
        shared.poison(&error);
    }
    shared.queue.close();
    // Whoever still waits learns from the dropped reply that nothing will come.
    while let Drained::Entries(_) = shared.queue.drain(u64::MAX, Some(Duration::ZERO)) {}
    let _gone = to_applier.send(Step::Stop);
}

/// `Ok(false)`: stop.
fn run_commands(
    shared: &Arc<Shared>,
    committer: &mut Committer,
    orders: &mut Orders,
    commands: Vec<Command>,
    to_applier: &SyncSender<Step>,
) -> Result<bool> {
    let mut group: Vec<Submission> = Vec::with_capacity(commands.len());
    let mut go_on = true;
    let mut may_zero = false;
    for command in commands {
        match command {
            Command::Write(submission) => group.push(submission),
            Command::Cut(reply) => {
                write_group(committer, &mut group, to_applier)?;
                shared.pressure.cutting.store(true, Ordering::Release);
                seal(shared, committer, to_applier, reply);
            }
            Command::Placed { sequence, edit } => {
                write_group(committer, &mut group, to_applier)?;
                committer.placed(sequence, edit)?;
                shared.wake_waiters();
                may_zero = true;
            }
            Command::Zero(through) => {
                committer.zeroing = Some(through);
                may_zero = true;
            }
            Command::Zeroed(done) => {
                committer.wal_mut().zeroed(&done);
                shared.wake_waiters();
                may_zero = true;
                if let Err(error) = done.outcome {
                    tracing::warn!(%error, "a slot of the log could not be filled with zeros");
                    // Asked for again by the keeper, not at once and for ever.
                    committer.zeroing = None;
                }
            }
            Command::Slot(prepared) => match prepared {
                Ok(prepared) => {
                    committer.wal_mut().add_slot(prepared);
                    shared.wake_waiters();
                }
                Err(error) => {
                    tracing::warn!(%error, "the log could not grow");
                    committer.wal_mut().cancel_order();
                    // Ordered again when somebody writes, and not by each who does: the disk may be full.
                    orders.note_failure(shared.world.clock.monotonic_ns());
                }
            },
            Command::Stop => go_on = false,
        }
    }
    write_group(committer, &mut group, to_applier)?;
    if committer.wal().needs_slot()
        && orders.may(shared.world.clock.monotonic_ns())
        && let Some(order) = committer.wal_mut().order_slot()
    {
        prepare_slot(shared, order);
    }
    if may_zero {
        zero(shared, committer, to_applier)?;
    }
    if shared.cut_wanted(committer.wal().used_bytes()) {
        seal(shared, committer, to_applier, None);
    }
    Ok(go_on)
}

/// Goes on to rid the log of old batches, if somebody asked for that.
fn zero(shared: &Arc<Shared>, committer: &mut Committer, to_applier: &SyncSender<Step>) -> Result<()> {
    let Some(through) = committer.zeroing else { return Ok(()) };
    match committer.zero_step(through) {
        Ok(ZeroStep::Done) => {
            committer.zeroing = None;
            if let Some(to_keeper) = shared.to_keeper.get() {
                let _gone = to_keeper.send(Task::LogZeroed(through));
            }
        }
        Ok(ZeroStep::Zero(order)) => fill_slot(shared, order),
        Ok(ZeroStep::Cut) => {
            if !shared.pressure.cutting.swap(true, Ordering::AcqRel) {
                seal(shared, committer, to_applier, None);
            }
        }
        Ok(ZeroStep::Wait) => {}
        Err(error) if committer.wal().is_poisoned() => return Err(error),
        Err(error) => {
            tracing::warn!(%error, "the log could not be freed of old batches");
            committer.zeroing = None;
        }
    }
    Ok(())
}

fn write_group(committer: &mut Committer, group: &mut Vec<Submission>, to_applier: &SyncSender<Step>) -> Result<()> {
    if group.is_empty() {
        return Ok(());
    }
    let logged = committer.commit(std::mem::take(group))?;
    if !logged.is_empty() {
        let _gone = to_applier.send(Step::Group(logged));
    }
    Ok(())
}

fn seal(shared: &Shared, committer: &mut Committer, to_applier: &SyncSender<Step>, reply: Option<CutReply>) {
    let (generation, positions) = committer.seal();
    shared.registry.start_generation(Arc::clone(&generation));
    let _gone = to_applier.send(Step::Seal { generation, positions, reply });
}

fn applier_loop(shared: &Shared, mut applier: Applier, steps: &Receiver<Step>, to_keeper: &Sender<Task>) {
    while let Some(step) = next_step(&mut applier, steps) {
        match step {
            Step::Group(logged) => shared.apply(&mut applier, logged),
            Step::Seal { generation, positions, reply } => {
                let sealed = applier.seal(generation, positions);
                let _gone = to_keeper.send(Task::Cut { sealed, reply });
            }
            Step::Place { placement, cut } => {
                applier.place(placement, cut.as_ref());
                shared.wake_waiters();
            }
            Step::Optimized { reply, answer } => drop(reply.try_send(answer)),
            Step::Stop => break,
        }
    }
    let _gone = to_keeper.send(Task::Stop);
}

/// What comes next; until then, and where too much is owed, chunks of memtables are merged. `None`: nobody sends any more.
fn next_step(applier: &mut Applier, steps: &Receiver<Step>) -> Option<Step> {
    while applier.is_behind() && applier.merge_step() {}
    loop {
        match steps.try_recv() {
            Ok(step) => return Some(step),
            Err(TryRecvError::Disconnected) => return None,
            Err(TryRecvError::Empty) if applier.merge_step() => {}
            Err(TryRecvError::Empty) => return steps.recv().ok(),
        }
    }
}

/// Runs one compaction after the other, each given up once the keeper has gone.
fn compactor_loop(shared: &Shared, jobs: &Receiver<Job>, to_keeper: &Sender<Task>) {
    if let Err(error) = lower_priority(COMPACTOR_NICE) {
        tracing::warn!(%error, "compactions run at full priority");
    }
    while let Ok(job) = jobs.recv() {
        let _gone = to_keeper.send(Task::Compacted(job.run(&shared.world)));
    }
}

fn keeper_thread(
    shared: &Shared,
    mut keeper: Keeper,
    tasks: &Receiver<Task>,
    to_applier: &SyncSender<Step>,
    to_compactor: SyncSender<Job>,
) {
    keeper_loop(shared, &mut keeper, tasks, to_applier, &to_compactor);
    // Nobody commits any more: what is being written would be for nothing.
    keeper.abandon();
}

fn keeper_loop(
    shared: &Shared,
    keeper: &mut Keeper,
    tasks: &Receiver<Task>,
    to_applier: &SyncSender<Step>,
    to_compactor: &SyncSender<Job>,
) {
    let mut replies: Vec<CutReply> = Vec::new();
    loop {
        let wait = match (keeper.has_pending(), keeper.is_tight()) {
            (true, _) => CUT_RETRY,
            (false, true) => CUT_RETRY.min(shared.options.look_period()),
            (false, false) => shared.options.look_period(),
        };
        let task = match tasks.recv_timeout(wait) {
            Ok(task) => Some(task),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        shared.leases.expire();
        if matches!(task, Some(Task::Look)) {
            // Before it looks: who comes later sends another.
            shared.keeper_woken.swap(false, Ordering::AcqRel);
        }
        let mut outcome = Ok(());
        match task {
            Some(Task::Cut { sealed, reply }) => {
                keeper.enqueue(sealed);
                replies.extend(reply);
            }
            Some(Task::Compacted(done)) => {
                outcome = keeper.finish(done).map(|placement| publish(shared, placement, to_applier));
            }
            Some(Task::Optimize { table, is_final, reply }) => keeper.optimize(table, is_final, Some(reply)),
            Some(Task::LogZeroed(through)) => keeper.log_is_zeroed(through),
            Some(Task::Stop) => return,
            Some(Task::Look) | None if keeper.has_pending() => {}
            Some(Task::Look) | None => {
                keeper.tidy_trash();
                keeper.ballast_mut().restore();
            }
        }
        let tried_cut = keeper.has_pending();
        let mut outcome = outcome.and_then(|()| cut_all(shared, keeper, to_applier));
        if outcome.is_ok() {
            outcome = erase(shared, keeper, to_applier);
        }
        if tried_cut {
            answer_cuts(&mut replies, &outcome);
        }
        if let Err(error) = outcome {
            if matches!(error, Error::Poisoned) {
                shared.poison(&error);
                return;
            }
            shared.counters.cuts_failed.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(%error, "cut failed, it will be tried again");
        }
        if let Some(job) = keeper.next_job() {
            // There is room: the one before was answered.
            let _gone = to_compactor.try_send(job);
        }
        for (reply, answer) in keeper.take_answers() {
            if let Some(reply) = reply {
                let _gone = to_applier.send(Step::Optimized { reply, answer });
            }
        }
    }
}

fn answer_cuts(replies: &mut Vec<CutReply>, outcome: &Result<()>) {
    for reply in replies.drain(..) {
        let _gone = reply.try_send(match outcome {
            Ok(()) => Ok(()),
            Err(Error::Poisoned) => Err(Error::Poisoned),
            Err(Error::DiskFull { free_bytes, reserve_bytes }) => {
                Err(Error::DiskFull { free_bytes: *free_bytes, reserve_bytes: *reserve_bytes })
            }
            Err(error) => Err(Error::ReadOnly { reason: format!("the cut failed: {error}") }),
        });
    }
}

/// Writes every pending cut.
fn cut_all(shared: &Shared, keeper: &mut Keeper, to_applier: &SyncSender<Step>) -> Result<()> {
    while let Some(placed) = keeper.cut_next()? {
        let _gone = to_applier.send(Step::Place { placement: placed.placement, cut: Some(placed.memtable) });
        // Before the committer looks whether the next one is due.
        if !keeper.has_pending() {
            shared.pressure.cutting.store(false, Ordering::Release);
        }
        let _closed = shared.queue.push(Command::Placed { sequence: placed.sequence, edit: placed.edit }, 0, None);
    }
    Ok(())
}

/// Goes on to erase what deletes took away. The only error is `Poisoned`.
fn erase(shared: &Shared, keeper: &mut Keeper, to_applier: &SyncSender<Step>) -> Result<()> {
    if !keeper.has_pending()
        && keeper.is_cut_due(&shared.published_tombstones())
        && !shared.pressure.cutting.swap(true, Ordering::AcqRel)
    {
        // A round that begins behind it takes this delete along.
        let _closed = shared.queue.push(Command::Cut(None), 0, None);
        return Ok(());
    }
    match keeper.erase_step()? {
        EraseStep::Rest => {}
        EraseStep::Log(through) => {
            let _closed = shared.queue.push(Command::Zero(through), 0, None);
        }
        EraseStep::Ended(placement) => publish(shared, Some(placement), to_applier),
    }
    Ok(())
}

/// Shows what a compaction has placed.
fn publish(shared: &Shared, placement: Option<Arc<Placement>>, to_applier: &SyncSender<Step>) {
    let Some(placement) = placement else { return };
    let edit = placement.edit;
    let _gone = to_applier.send(Step::Place { placement, cut: None });
    let _closed = shared.queue.push(Command::Placed { sequence: 0, edit }, 0, None);
}

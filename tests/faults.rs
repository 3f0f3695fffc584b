//! Scripted scenarios in which every call to the disk crashes once, under every kind of survival, and fails once, in
//! every way that a call can fail.
//!
//! After a crash the next open shows a prefix with everything acknowledged. A failure is a typed error or no error: an
//! engine whose log or manifest could not be synced is poisoned for good and goes on answering; one whose data file
//! failed goes on writing. Then the process starts again, and later the power fails: nothing acknowledged is lost.

#![allow(clippy::unwrap_used, reason = "a test fails where it must not go on")]

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use marigram_storage::clock::sim::SimClock;
use marigram_storage::disk::sim::{Call, Fault, Op as DiskOp, SimDisk, Survival};
use marigram_storage::draft::{Draft, DraftSeries, DraftTable};
use marigram_storage::schema::{ColumnKind, DAY_NS, TableMode};
use marigram_storage::values::{FieldColumn, Values};
use marigram_storage::{Engine, Error, MemoryShares, Options, Reason};
use marigram_tests::rig::{open, small_options, verdict};
use marigram_tests::{Alter, Doomed, History, Model, Op, Upkeep, read};

#[derive(Clone, Debug)]
enum Step {
    Do(Op),
    /// What no answer shows.
    Keep(Upkeep),
    /// A cut whose data file cannot be created: the rows stay in memory and in the log, the generation has ended.
    FailedCut,
    Close,
    /// The process is killed; the next step opens the store again.
    Kill,
    /// The same, and the next one may hold so many bytes in memory.
    Limit(u64),
}

struct Scenario {
    name: &'static str,
    steps: Vec<Step>,
    options: Options,
}

fn scenarios() -> Vec<Scenario> {
    let mut history = History::new(7);
    let mut write = || Step::Do(Op::Write("main".to_owned(), history.draft()));
    let cut = || Step::Do(Op::Cut);
    let scenario = |name, steps: Vec<Step>| Scenario { name, steps, options: small_options() };
    let mut all = Vec::new();

    all.push(scenario("fresh store, first writes", vec![write(), write(), write()]));
    let mut cuts = scenario("cuts of several tables", vec![write(), write(), cut(), write(), write(), cut()]);
    cuts.options.ballast_bytes = 4 << 10;
    all.push(cuts);

    let mut wrap = scenario("slots change and the ring wraps", (0..26).map(|_| write()).collect());
    wrap.options.wal_slot_bytes = 8 << 10;
    wrap.options.wal_bytes_max = 24 << 10;
    all.push(wrap);

    let other = || Step::Do(Op::Write("other".to_owned(), History::new(11).draft()));
    let drop_cpu = || Step::Do(Op::DropTable("main".to_owned(), "cpu".to_owned()));
    let drop_database = |name: &str| Step::Do(Op::DropDatabase(name.to_owned()));
    all.push(scenario(
        "drops, and files that go to the trash",
        vec![
            write(),
            other(),
            cut(),
            drop_cpu(),
            write(),
            cut(),
            drop_database("other"),
            cut(),
            drop_database("main"),
            cut(),
            Step::Kill,
            write(),
        ],
    ));

    let mut merge = scenario("small segments are merged", vec![write(), cut(), write(), cut(), write(), cut()]);
    merge.options.merge_segments_min = 2;
    all.push(merge);

    all.push(scenario(
        "replay of two generations",
        vec![write(), Step::FailedCut, write(), write(), Step::Kill, write()],
    ));
    let delete = || Step::Do(Op::Delete("main".to_owned(), "cpu".to_owned(), Doomed::all(false)));
    let mut erase = scenario("deletes are erased", vec![write(), cut(), write(), delete(), cut(), write()]);
    erase.options.delete_bound = Duration::ZERO;
    all.push(erase);
    all.push(scenario(
        "deletes are replayed, and segments written again for them",
        vec![write(), cut(), write(), delete(), Step::Kill, write(), delete(), cut(), Step::Kill, write(), cut()],
    ));

    let mut cold = scenario("segments are written small", vec![write(), cut(), write(), cut()]);
    (cold.options.recompress_after, cold.options.late_grace) = (Duration::ZERO, Some(Duration::ZERO));
    all.push(cold);

    // What leaves is resolved to its keys, some in segments and some in memory.
    let by_keys = || Step::Do(Op::Delete("main".to_owned(), "cpu".to_owned(), Doomed::all(true)));
    let mut others = History::new(17);
    let mut of_cpu = || {
        let drafts = std::iter::repeat_with(|| others.draft());
        let has_cpu = |draft: &Draft| draft.tables.iter().any(|table| table.name == "cpu");
        Step::Do(Op::Write("main".to_owned(), drafts.into_iter().find(has_cpu).unwrap()))
    };
    let mut keys = scenario(
        "keys are deleted and erased",
        vec![of_cpu(), cut(), of_cpu(), by_keys(), Step::Kill, of_cpu(), cut(), of_cpu(), by_keys(), cut()],
    );
    keys.options.delete_bound = Duration::ZERO;
    all.push(keys);

    let order = |table| Step::Keep(Upkeep::Optimize(table, true));
    all.push(scenario(
        "orders make segments small",
        vec![write(), cut(), write(), order(0), delete(), write(), order(0), order(1), order(0)],
    ));
    all.push(scenario(
        "flawed segments are mended",
        vec![write(), cut(), Step::Keep(Upkeep::Flaw(1, true)), order(1), Step::Keep(Upkeep::Flaw(7, false)), order(1)],
    ));

    let twice = History::new(13).draft();
    let again = || Step::Do(Op::Write("main".to_owned(), twice.clone()));
    all.push(scenario("late rows repeat keys", vec![again(), write(), cut(), again(), write(), cut(), again()]));

    let alter = |alter| Step::Do(Op::Alter("main".to_owned(), "cpu".to_owned(), alter));
    let name = |name: &str| name.to_owned();
    all.push(scenario(
        "tables change",
        vec![
            write(),
            alter(Alter::Add(name("rack"), ColumnKind::Tag)),
            alter(Alter::Rename(name("a"), name("z"))),
            write(),
            cut(),
            alter(Alter::Hide(name("d"))),
            alter(Alter::Width(DAY_NS / 4)),
            Step::Kill,
            write(),
        ],
    ));

    // The log of one generation holds more than the second process may: it writes files that no edit names before the end.
    let many = |from| Step::Do(Op::Write("main".to_owned(), rows(from)));
    let mut small = scenario(
        "replay of more than memory may hold",
        vec![
            many(0),
            many(700),
            delete(),
            many(1400),
            other(),
            many(2100),
            drop_database("other"),
            many(2800),
            Step::Limit(SMALL_LIMIT),
            Step::Limit(1 << 30),
            write(),
        ],
    );
    small.options.memtable_bytes_max = 8 << 20;
    small.options.wal_slot_bytes = 1 << 20;
    small.options.wal_bytes_max = 8 << 20;
    small.options.stripe_rows_max = 5000;
    small.options.memory = MemoryShares { limit_bytes: 1 << 30, bodies_bytes: 0, statements_bytes: 0 };
    all.push(small);

    all.push(scenario("close", vec![write(), write(), Step::Close, write(), Step::Close]));
    all
}

/// Of it, 230 KiB are for rows that come in, and reading all of them finds room.
const SMALL_LIMIT: u64 = 424 << 10;

/// Rows of ten series, from a time on.
fn rows(from: i64) -> Draft {
    let mut series = DraftSeries::default();
    for host in 0..10 {
        series.push_tag(0, format!("h{host}").as_bytes());
        series.finish();
    }
    let times: Vec<i64> = (from..from + 1200).collect();
    let table = DraftTable {
        name: "cpu".to_owned(),
        mode: TableMode::Upsert,
        tags: vec!["host".to_owned()],
        series,
        row_series: times.iter().map(|time| (time % 10) as u32).collect(),
        fields: vec![FieldColumn { column: "many".to_owned(), rows: None, values: Values::I64(times.clone()) }],
        times,
    };
    Draft { tables: vec![table], position: None }
}

/// What is to happen at one call of a scenario.
#[derive(Clone, Copy, Debug)]
enum Blow {
    None,
    Crash(u64),
    Fail(u64, Fault),
}

/// One run of a scenario.
struct Run {
    disk: SimDisk,
    clock: SimClock,
    options: Options,
    blow: Blow,
    /// Calls on the disks before this one.
    calls_before: u64,
    /// All calls of the disks before this one.
    log: Vec<Call>,
    engine: Option<Engine>,
    certain: Model,
    possible: Option<Model>,
    poisoned: bool,
    open_failed: bool,
}

/// The disk died.
struct Dead;

impl Run {
    fn new(scenario: &Scenario, blow: Blow) -> Self {
        let run = Self {
            disk: SimDisk::new(3),
            clock: SimClock::new(5),
            options: scenario.options.clone(),
            blow,
            calls_before: 0,
            log: Vec::new(),
            engine: None,
            certain: Model::default(),
            possible: None,
            poisoned: false,
            open_failed: false,
        };
        run.arm();
        run
    }

    fn arm(&self) {
        match self.blow {
            Blow::Crash(at) if self.calls_before < at => self.disk.crash_at(at - self.calls_before),
            Blow::Fail(at, fault) if self.calls_before < at => self.disk.fail_at(at - self.calls_before, fault),
            _ => {}
        }
    }

    fn restart(&mut self) {
        self.engine = None;
        self.calls_before += self.disk.calls();
        self.log.extend(self.disk.log());
        self.disk = self.disk.restart();
        self.arm();
    }

    fn check(&mut self) -> Result<(), String> {
        if let Some(engine) = &self.engine {
            self.certain = verdict(engine, &self.certain, self.possible.as_ref())?;
            self.possible = None;
        }
        Ok(())
    }

    /// Opens if need be; a failed open is tried again by a new process.
    fn engine(&mut self) -> Result<Result<Engine, Dead>, String> {
        for _ in 0..2 {
            if let Some(engine) = &self.engine {
                return Ok(Ok(engine.clone()));
            }
            match open(&self.disk, &self.clock, &self.options) {
                Ok(engine) => {
                    self.engine = Some(engine);
                    if let Err(reason) = self.check() {
                        return if self.disk.is_dead() { Ok(Err(Dead)) } else { self.read_again(reason) };
                    }
                }
                Err(_) if self.disk.is_dead() => return Ok(Err(Dead)),
                Err(Error::Io { .. } | Error::DiskFull { .. } | Error::Poisoned) => {
                    self.open_failed = true;
                    self.restart();
                }
                Err(error) => return Err(format!("open: not an error of the disk: {error}")),
            }
        }
        match &self.engine {
            Some(engine) => Ok(Ok(engine.clone())),
            None => Err("a second open failed, too".to_owned()),
        }
    }

    /// A fault may have struck a read: once.
    fn read_again(&mut self, reason: String) -> Result<Result<Engine, Dead>, String> {
        let of_a_segment = reason.contains(" is damaged between ") && reason.contains(": cannot ");
        if !reason.starts_with("read failed: cannot ") && !of_a_segment {
            return Err(reason);
        }
        self.check()?;
        match &self.engine {
            Some(engine) => Ok(Ok(engine.clone())),
            None => Err(reason),
        }
    }

    fn play(&mut self, steps: &[Step]) -> Result<Result<(), Dead>, String> {
        for (at, step) in steps.iter().enumerate() {
            let Ok(engine) = self.engine()? else { return Ok(Err(Dead)) };
            match step {
                Step::Do(op) => {
                    if let Err(dead) = self.act(&engine, op).map_err(|reason| format!("step {at}: {reason}"))? {
                        return Ok(Err(dead));
                    }
                }
                Step::Keep(upkeep) => {
                    let kept = upkeep.run(&engine, &self.disk, &self.clock);
                    if self.disk.is_dead() {
                        return Ok(Err(Dead));
                    }
                    if let Err(error) = kept {
                        self.typed(&error).map_err(|reason| format!("step {at}: {reason}"))?;
                    }
                    if engine.is_poisoned() {
                        self.poisoned = true;
                        self.restart();
                    }
                }
                Step::FailedCut => {
                    self.disk.fail_next(DiskOp::Create, "data/", Fault::Eio);
                    let failed = engine.cut();
                    if self.disk.is_dead() {
                        return Ok(Err(Dead));
                    }
                    match failed {
                        Err(Error::Poisoned) => self.poisoned = true,
                        Err(_) => {}
                        // A new process found nothing to cut.
                        Ok(()) if self.poisoned || self.open_failed => self.disk.heal(),
                        Ok(()) => return Err("a cut without a data file succeeded".to_owned()),
                    }
                }
                Step::Close => {
                    let closed = engine.close();
                    if self.disk.is_dead() {
                        return Ok(Err(Dead));
                    }
                    if let Err(error) = closed {
                        self.poisoned |= engine.is_poisoned();
                        self.typed(&error)?;
                        self.restart();
                    }
                    self.engine = None;
                }
                Step::Kill => {
                    self.restart();
                    continue;
                }
                Step::Limit(limit_bytes) => {
                    self.options.memory.limit_bytes = *limit_bytes;
                    self.restart();
                    continue;
                }
            }
            if self.disk.is_dead() {
                // It died where the engine may go on: in a merge, a removal, a move to the trash.
                return Ok(Err(Dead));
            }
            drop(engine);
        }
        match self.engine()? {
            Ok(_) => Ok(Ok(())),
            Err(dead) => Ok(Err(dead)),
        }
    }

    fn act(&mut self, engine: &Engine, op: &Op) -> Result<Result<(), Dead>, String> {
        let mut next = self.certain.clone();
        op.fold(&mut next);
        match op.run(engine) {
            Ok(()) => {
                self.certain = next;
                if engine.is_poisoned() && !self.disk.is_dead() {
                    self.poisoned = true;
                    self.restart();
                }
            }
            Err(_) if self.disk.is_dead() => {
                self.possible = Some(next);
                return Ok(Err(Dead));
            }
            Err(error) if engine.is_poisoned() => {
                self.typed(&error)?;
                self.possible = Some(next);
                self.poisoned = true;
                // For good; and reads go on.
                let again = op.run(engine);
                if !matches!(again, Err(Error::Poisoned)) {
                    return Err(format!("a poisoned engine answered {again:?}"));
                }
                let shown = read(&engine.snapshot()).map_err(|error| format!("a poisoned engine: {error}"))?;
                if shown != self.certain {
                    return Err("a poisoned engine shows what it did not acknowledge".to_owned());
                }
                self.restart();
            }
            Err(Error::Poisoned) => return Err("poisoned, and does not know it".to_owned()),
            Err(error) => self.typed(&error)?,
        }
        Ok(Ok(()))
    }

    fn typed(&self, error: &Error) -> Result<(), String> {
        match error {
            Error::Io { .. } | Error::DiskFull { .. } | Error::Overloaded { .. } | Error::Poisoned => Ok(()),
            // What was struck is a read of a segment.
            Error::Damaged { reason, .. } if reason.starts_with("cannot ") => Ok(()),
            error => Err(format!("not an error of the disk: {error}")),
        }
    }

    /// The call that was struck, and those before it on all disks.
    fn struck(&self) -> Option<(Call, Vec<Call>)> {
        let Blow::Fail(at, _) = self.blow else { return None };
        let mut log = [self.log.clone(), self.disk.log()].concat();
        log.truncate(at as usize);
        Some((log.pop()?, log))
    }
}

/// Opens what a power cut left and holds it against the model; then the store goes on working.
fn recover(run: &Run, disk: &SimDisk, go_on: bool) -> Result<(), String> {
    let engine = open(disk, &run.clock, &run.options).map_err(|error| format!("open: {error}"))?;
    let mut shown = verdict(&engine, &run.certain, run.possible.as_ref())?;
    if go_on {
        let op = Op::Write("main".to_owned(), History::new(99).draft());
        op.run(&engine).map_err(|error| format!("write after recovery: {error}"))?;
        op.fold(&mut shown);
        engine.cut().map_err(|error| format!("cut after recovery: {error}"))?;
        verdict(&engine, &shown, None)?;
    }
    Ok(())
}

/// Returns how many ends of the history it judged.
fn crash_each_call(scenario: &Scenario, calls: u64) -> Result<u64, String> {
    for at in 1..=calls {
        let mut run = Run::new(scenario, Blow::Crash(at));
        let label = |reason: String| format!("crash at call {at} of {calls}: {reason}");
        if run.play(&scenario.steps).map_err(label)?.is_ok() {
            return Err(label("it did not crash".to_owned()));
        }
        for (mode, survival) in Survival::ALL.into_iter().enumerate() {
            let disk = run.disk.crash(survival, at);
            recover(&run, &disk, at % 6 == mode as u64).map_err(|reason| label(format!("{survival:?}: {reason}")))?;
        }
        // The process alone was killed; the power fails while the next one opens, or after it.
        let killed = run.disk.restart();
        killed.crash_at(1 + at * 7 % 60);
        drop(open(&killed, &run.clock, &run.options));
        let disk = killed.crash(Survival::ALL[(at % 6) as usize], at);
        recover(&run, &disk, false).map_err(|reason| label(format!("killed, then a power cut: {reason}")))?;
    }
    Ok(calls * (Survival::ALL.len() as u64 + 1))
}

/// Whether the fault can make a difference at this call.
fn applies(fault: Fault, call: &Call) -> bool {
    match fault {
        Fault::Eio | Fault::EioDone => true,
        Fault::EioPartly => matches!(call.op, DiskOp::Write | DiskOp::Sync | DiskOp::SyncDir),
        Fault::Enospc => call.op.is_change(),
        Fault::EnospcAtSync => call.op == DiskOp::Write,
        Fault::Short => call.op == DiskOp::Write,
        Fault::Interrupted => matches!(call.op, DiskOp::Write | DiskOp::Read | DiskOp::Sync),
    }
}

/// A slot that is being made is not part of the log yet: its second sync makes it one.
fn makes_slot(before: &[Call], struck: &Call) -> bool {
    let before = before.iter().filter(|call| call.path == struck.path);
    let syncs = before.fold(None, |syncs, call| match call.op {
        DiskOp::Create => Some(0),
        DiskOp::Sync => syncs.map(|syncs| syncs + 1),
        _ => syncs,
    });
    syncs.is_some_and(|syncs| syncs < 2)
}

/// A free slot that is filled with zeros is not part of the log: it is opened for that, written behind its head, synced.
fn fills_slot(before: &[Call], struck: &Call) -> bool {
    let of_path = |call: &&Call| call.path == struck.path;
    let before = before.iter().rev().take_while(of_path);
    let ops: Vec<(DiskOp, u64)> = before.take(2).map(|call| (call.op, call.offset)).collect();
    match struck.op {
        DiskOp::Write => struck.offset == 512 && ops.first().is_some_and(|(op, _)| *op == DiskOp::Open),
        _ => ops == [(DiskOp::Write, 512), (DiskOp::Open, 0)],
    }
}

/// Returns how many failures it judged.
fn fail_each_call(scenario: &Scenario, calls: &[Call]) -> Result<u64, String> {
    let mut points = 0;
    for (at, call) in (1..).zip(calls) {
        for fault in Fault::ALL.into_iter().filter(|fault| applies(*fault, call)) {
            let label = |reason: String| format!("{fault:?} at call {at}, {:?} {}: {reason}", call.op, call.path);
            let mut run = Run::new(scenario, Blow::Fail(at, fault));
            if run.play(&scenario.steps).map_err(label)?.is_err() {
                return Err(label("the disk died of an error".to_owned()));
            }
            judge(&mut run, fault).map_err(label)?;
            points += 1;
        }
    }
    Ok(points)
}

fn judge(run: &mut Run, fault: Fault) -> Result<(), String> {
    let stopped = run.poisoned || run.open_failed;
    if let Some((struck, before)) = run.struck().filter(|_| fault == Fault::Eio) {
        let on_log = struck.path.starts_with("wal/") && matches!(struck.op, DiskOp::Sync | DiskOp::Write);
        let must_stop = match struck.op {
            _ if on_log => !makes_slot(&before, &struck) && !fills_slot(&before, &struck),
            DiskOp::Sync | DiskOp::SyncDir => struck.path.starts_with("manifest"),
            _ => false,
        };
        if must_stop && !stopped {
            return Err("a failed sync did not stop the writing".to_owned());
        }
        if struck.path.starts_with("data") && run.poisoned {
            return Err("a data file that nothing names stopped the writing".to_owned());
        }
    }
    // What failed is done now.
    let engine = run.engine.clone().ok_or("no engine")?;
    engine.cut().map_err(|error| format!("the next cut: {error}"))?;
    run.check()?;
    drop(engine);
    run.engine = None;
    for survival in [Survival::None, Survival::Random] {
        recover(run, &run.disk.crash(survival, 1), false).map_err(|reason| format!("later power cut: {reason}"))?;
    }
    Ok(())
}

fn over(name: &str) {
    let scenario = scenarios().into_iter().find(|scenario| scenario.name == name).unwrap();
    let mut clean = Run::new(&scenario, Blow::None);
    assert!(clean.play(&scenario.steps).unwrap().is_ok());
    let calls = [clean.log.clone(), clean.disk.log()].concat();
    let verdict = catch_unwind(AssertUnwindSafe(|| -> Result<u64, String> {
        Ok(crash_each_call(&scenario, calls.len() as u64)? + fail_each_call(&scenario, &calls)?)
    }));
    match verdict {
        Ok(Ok(points)) => eprintln!("points: {points}"),
        Ok(Err(reason)) => panic!("{name}: {reason}"),
        Err(_) => panic!("{name}: panicked"),
    }
}

#[test]
fn a_fresh_store() {
    over("fresh store, first writes");
}

#[test]
fn cuts_of_several_tables() {
    over("cuts of several tables");
}

#[test]
fn slot_changes_and_a_ring_that_wraps() {
    over("slots change and the ring wraps");
}

#[test]
fn drops_and_trash() {
    over("drops, and files that go to the trash");
}

#[test]
fn merges() {
    over("small segments are merged");
}

#[test]
fn replay_of_two_generations() {
    over("replay of two generations");
}

#[test]
fn replay_under_a_smaller_limit() {
    over("replay of more than memory may hold");
}

#[test]
fn closing() {
    over("close");
}

#[test]
fn erasing() {
    over("deletes are erased");
}

#[test]
fn deletes_and_replay() {
    over("deletes are replayed, and segments written again for them");
}

#[test]
fn recompression() {
    over("segments are written small");
}

#[test]
fn erasing_keys() {
    over("keys are deleted and erased");
}

#[test]
fn orders() {
    over("orders make segments small");
}

#[test]
fn mending() {
    over("flawed segments are mended");
}

#[test]
fn late_rows() {
    over("late rows repeat keys");
}

#[test]
fn changes_of_tables() {
    over("tables change");
}

#[test]
fn the_scenarios_reach_what_they_are_named_for() {
    let reasons = RefCell::new(Vec::new());
    let stats = |name: &str| {
        let scenario = scenarios().into_iter().find(|scenario| scenario.name == name).unwrap();
        let mut run = Run::new(&scenario, Blow::None);
        assert!(run.play(&scenario.steps).unwrap().is_ok());
        let log = [run.log.clone(), run.disk.log()].concat();
        let engine = run.engine.unwrap();
        reasons.borrow_mut().clone_from(&engine.tasks().iter().map(|task| task.reason).collect());
        (engine.stats(), log)
    };
    let heads = |log: &[Call]| {
        log.iter().filter(|call| call.op == DiskOp::Write && call.path.starts_with("wal/") && call.offset == 0).count()
    };
    let (_, log) = stats("slots change and the ring wraps");
    assert!(heads(&log) > 8, "the ring of three slots wraps");
    let (_, log) = stats("drops, and files that go to the trash");
    assert!(log.iter().any(|call| call.op == DiskOp::Rename && call.path.starts_with("trash/")));
    assert!(stats("small segments are merged").0.merges > 0);
    assert!(stats("replay of two generations").0.replayed_batches >= 3);
    let (erased, log) = stats("deletes are erased");
    assert_eq!((erased.erasures_ended, erased.erasures_open), (1, 0));
    assert!(log.iter().any(|call| call.op == DiskOp::Write && call.path.starts_with("wal/") && call.offset == 512));
    let replayed = stats("deletes are replayed, and segments written again for them").0;
    assert!(replayed.erasures_open == 2 && replayed.tombstones == 2, "{replayed:?}");
    let (_, log) = stats("replay of more than memory may hold");
    let files = log.iter().filter(|call| call.op == DiskOp::Create && call.path.starts_with("data/")).count();
    assert!(files > 1, "{files}: one cut is all that a replay of one generation needs");
    assert!(stats("segments are written small").0.compaction_rows > 0);
    assert!(stats("late rows repeat keys").0.rows_resent > 0);
    let erased = stats("keys are deleted and erased").0;
    assert!(erased.deletes > 0 && (erased.erasures_ended, erased.erasures_open) == (2, 0), "{erased:?}");
    stats("orders make segments small");
    let orders = reasons.borrow().iter().filter(|reason| **reason == Reason::Optimize).count();
    assert!(orders >= 3, "{:?}", reasons.borrow());
    stats("flawed segments are mended");
    let mended = [Reason::Mend, Reason::Optimize].map(|reason| reasons.borrow().contains(&reason));
    assert_eq!(mended, [true, true], "{:?}", reasons.borrow());
}

/// A file of data that failed is discarded alone: the rows stay readable, the next cut writes them.
#[test]
fn a_cut_that_fails_keeps_its_rows_and_is_done_by_the_next() {
    for fault in [Fault::Eio, Fault::EioPartly, Fault::EioDone, Fault::Enospc] {
        for op in [DiskOp::Create, DiskOp::Write, DiskOp::Sync] {
            let (disk, clock) = (SimDisk::new(1), SimClock::new(1));
            let engine = open(&disk, &clock, &small_options()).unwrap();
            let mut model = Model::default();
            let write = Op::Write("main".to_owned(), History::new(3).draft());
            write.run(&engine).unwrap();
            write.fold(&mut model);
            let files = disk.files().iter().filter(|path| path.starts_with("data/")).count();
            disk.fail_next(op, "data/", fault);
            let error = engine.cut().unwrap_err();
            let full = matches!(error, Error::DiskFull { .. });
            assert!(full == (fault == Fault::Enospc), "{op:?} {fault:?}: {error}");
            assert!(!engine.is_poisoned());
            assert_eq!(read(&engine.snapshot()).unwrap(), model);
            let left = disk.files().iter().filter(|path| path.starts_with("data/")).count();
            assert!(left == files || op == DiskOp::Create, "{op:?} {fault:?}: the file is gone");
            engine.cut().unwrap();
            assert_eq!(read(&engine.snapshot()).unwrap(), model);
            drop(engine);
            let disk = disk.crash(Survival::None, 1);
            let engine = open(&disk, &clock, &small_options()).unwrap();
            assert_eq!(read(&engine.snapshot()).unwrap(), model);
            assert_eq!(engine.stats().replayed_batches, 0, "the cut was durable");
        }
    }
}

/// The slots change their length at an open; a crash anywhere in it leaves a store that opens.
#[test]
fn slots_of_another_length_are_made_without_losing_the_log() {
    let write = Op::Write("main".to_owned(), History::new(3).draft());
    let mut model = Model::default();
    write.fold(&mut model);
    let clock = SimClock::new(1);
    let disk = SimDisk::new(1);
    let engine = open(&disk, &clock, &small_options()).unwrap();
    write.run(&engine).unwrap();
    drop(engine);
    let mut larger = small_options();
    larger.wal_slot_bytes *= 2;
    for at in 1.. {
        let disk = disk.crash(Survival::None, 1);
        disk.crash_at(at);
        let opened = open(&disk, &clock, &larger).is_ok() && !disk.is_dead();
        for survival in Survival::ALL {
            let disk = disk.crash(survival, at);
            let engine = open(&disk, &clock, &small_options()).unwrap_or_else(|error| panic!("call {at}: {error}"));
            assert_eq!(read(&engine.snapshot()).unwrap(), model, "call {at}");
        }
        if opened {
            assert!(at > 20);
            break;
        }
    }
}

/// One way to lose slots: which of them, and whether the files go or their heads alone.
fn lose(disk: &SimDisk, lost: impl Fn(&str) -> bool, delete: bool) {
    let slots = disk.files().into_iter().filter(|path| path.starts_with("wal/") && lost(path));
    for path in slots {
        match delete {
            true => disk.delete_file(&path).unwrap(),
            false => disk.zero_sector(&path, 0).unwrap(),
        }
    }
}

#[track_caller]
fn is_missed(disk: &SimDisk, clock: &SimClock, what: &str) {
    match open(disk, clock, &small_options()) {
        Err(Error::Corrupt { path, .. }) => assert!(path.starts_with("wal"), "{what}: {}", path.display()),
        Err(error) => panic!("{what}: {error}"),
        Ok(engine) => panic!("{what}: it opens, with sequence {}", engine.snapshot().sequence()),
    }
    let world = marigram_storage::World::of(disk, clock);
    assert!(marigram_storage::read_only(&world, 1 << 30).is_err(), "{what}: a reader is told as well");
}

/// The log of the first open holds the first write, and no cut has named anything since: its loss is noticed.
#[test]
fn the_first_log_of_a_store_does_not_vanish_unnoticed() {
    for delete in [true, false] {
        let (disk, clock) = (SimDisk::new(1), SimClock::new(1));
        let engine = open(&disk, &clock, &small_options()).unwrap();
        Op::Write("main".to_owned(), History::new(3).draft()).run(&engine).unwrap();
        drop(engine);
        let disk = disk.crash(Survival::All, 1);
        lose(&disk, |_| true, delete);
        is_missed(&disk, &clock, if delete { "deleted" } else { "zeroed" });
    }
}

/// As above after cuts and restarts. What is left of the logs of former opens does not pass for the log of now.
#[test]
fn a_later_log_does_not_vanish_unnoticed() {
    let (disk, clock) = (SimDisk::new(1), SimClock::new(1));
    let write = Op::Write("main".to_owned(), History::new(3).draft());
    let mut options = small_options();
    options.wal_slot_bytes = 8 << 10;
    let engine = open(&disk, &clock, &options).unwrap();
    // The ring grows to some slots: a restart uses two of them, the others keep the heads of this life.
    for _ in 0..12 {
        write.run(&engine).unwrap();
    }
    drop(engine);
    let disk = disk.restart();
    let engine = open(&disk, &clock, &options).unwrap();
    write.run(&engine).unwrap();
    let written = |path: &str| disk.log().iter().any(|call| call.op == DiskOp::Write && call.path.as_ref() == path);
    let used: Vec<String> = disk.files().into_iter().filter(|path| path.starts_with("wal/") && written(path)).collect();
    let slots = disk.files().iter().filter(|path| path.starts_with("wal/")).count();
    assert!(used.len() >= 2 && used.len() < slots, "{} of {slots} slots are in use", used.len());
    drop(engine);
    for delete in [true, false] {
        for all in [true, false] {
            let disk = disk.crash(Survival::All, 1);
            lose(&disk, |path| all || used.iter().any(|used| used == path), delete);
            is_missed(&disk, &clock, &format!("all: {all}, deleted: {delete}"));
        }
    }
}

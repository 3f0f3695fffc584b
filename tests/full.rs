//! A disk that is full: writes are refused before the log is touched, reads go on, and everything resumes by itself.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test fails where it must not go on")]

use std::time::{Duration, Instant};

use marigram_storage::clock::sim::SimClock;
use marigram_storage::disk::sim::{Op as DiskOp, SimDisk, Survival};
use marigram_storage::{Error, Options, Threads};
use marigram_tests::rig::{open, small_options};
use marigram_tests::{History, Model, Op, read};

fn used(disk: &SimDisk) -> u64 {
    disk.files().iter().map(|path| disk.file_bytes(path).unwrap().len() as u64).sum()
}

fn log_writes(disk: &SimDisk) -> usize {
    disk.log().iter().filter(|call| call.op == DiskOp::Write && call.path.starts_with("wal/")).count()
}

fn write(history: &mut History) -> Op {
    Op::Write("main".to_owned(), history.draft())
}

#[test]
fn writes_are_refused_before_the_log_is_touched_and_resume_by_themselves() {
    for threads in [Threads::None, Threads::Background] {
        let (disk, clock) = (SimDisk::new(1), SimClock::new(1));
        let options = Options { disk_reserve_bytes: 50_000, threads, ..small_options() };
        let engine = open(&disk, &clock, &options).unwrap();
        let mut history = History::new(1);
        let mut model = Model::default();
        let before = write(&mut history);
        before.run(&engine).unwrap();
        before.fold(&mut model);

        disk.set_capacity(Some(used(&disk) + 40_000));
        // A witness of the last group may still be on its way.
        std::thread::sleep(Duration::from_millis(100));
        let logged = log_writes(&disk);
        for _ in 0..3 {
            let error = write(&mut history).run(&engine).unwrap_err();
            assert!(matches!(error, Error::DiskFull { reserve_bytes: 50_000, .. }), "{error}");
        }
        assert_eq!(log_writes(&disk), logged, "the log was touched");
        assert_eq!(read(&engine.snapshot()).unwrap(), model);
        // Drops are never refused for want of space.
        let drop = Op::DropTable("main".to_owned(), "cpu".to_owned());
        drop.run(&engine).unwrap();
        drop.fold(&mut model);

        disk.set_capacity(None);
        let after = write(&mut history);
        after.run(&engine).unwrap();
        after.fold(&mut model);
        assert_eq!(read(&engine.snapshot()).unwrap(), model);
        std::mem::drop(engine);
        let engine = open(&disk.crash(Survival::None, 1), &clock, &options).unwrap();
        assert_eq!(read(&engine.snapshot()).unwrap(), model, "a refused write left nothing");
    }
}

#[test]
fn a_cut_that_does_not_fit_keeps_its_rows_and_is_tried_again() {
    for threads in [Threads::None, Threads::Background] {
        let (disk, clock) = (SimDisk::new(1), SimClock::new(1));
        let options = Options { threads, ..small_options() };
        let engine = open(&disk, &clock, &options).unwrap();
        let mut history = History::new(2);
        let mut model = Model::default();
        let mut act = |op: Op| {
            op.run(&engine).unwrap();
            op.fold(&mut model);
        };
        act(write(&mut history));
        act(write(&mut history));
        disk.set_capacity(Some(used(&disk)));
        let error = engine.cut().unwrap_err();
        assert!(matches!(error, Error::DiskFull { .. }), "{error}");
        // The log has its space already: with no reserve asked for, writes go on.
        act(write(&mut history));
        assert!(!engine.is_poisoned());
        assert_eq!(read(&engine.snapshot()).unwrap(), model);

        disk.set_capacity(None);
        if threads == Threads::None {
            engine.cut().unwrap();
        } else {
            // Nobody asks for it.
            let until = Instant::now() + Duration::from_secs(30);
            while engine.stats().memtables_sealed > 0 {
                assert!(Instant::now() < until, "the cut was not tried again");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        assert!(engine.stats().segments > 0);
        assert_eq!(read(&engine.snapshot()).unwrap(), model);
        drop(engine);
        let engine = open(&disk.crash(Survival::None, 1), &clock, &options).unwrap();
        assert_eq!(read(&engine.snapshot()).unwrap(), model);
    }
}

/// An open needs space for its cut and its checkpoint. Without it, it shows everything, takes no write, and goes on by
/// itself.
#[test]
fn an_open_on_a_full_disk_reads_and_resumes_by_itself() {
    for threads in [Threads::None, Threads::Background] {
        let options = Options { threads, ..small_options() };
        let (disk, clock) = (SimDisk::new(1), SimClock::new(1));
        let engine = open(&disk, &clock, &options).unwrap();
        let mut model = Model::default();
        let mut history = History::new(3);
        let op = write(&mut history);
        op.run(&engine).unwrap();
        op.fold(&mut model);
        drop(engine);
        let full = used(&disk);
        // From no byte free to enough, so that each step of the open is the one that does not fit.
        let mut starved = 0;
        let step = if threads == Threads::None { 300 } else { 5000 };
        for free in (0..20_000).step_by(step) {
            let disk = disk.crash(Survival::All, 1);
            disk.set_capacity(Some(full + free));
            let engine = open(&disk, &clock, &options).unwrap();
            assert_eq!(read(&engine.snapshot()).unwrap(), model, "{free} bytes free");
            let mut model = model.clone();
            let op = write(&mut history);
            if engine.is_starved() {
                starved += 1;
                let error = op.run(&engine).unwrap_err();
                assert!(matches!(error, Error::DiskFull { .. }), "{free} bytes free: {error}");
                assert!(matches!(engine.cut(), Err(Error::DiskFull { .. })));
                assert_eq!(read(&engine.snapshot()).unwrap(), model, "{free} bytes free");
                // Stopped and started on a disk that is as full, it is where it was.
                engine.close().unwrap();
                drop(engine);
                let engine = open(&disk, &clock, &options).unwrap();
                assert!(engine.is_starved() && engine.stats().starved == 1);
                let before = engine.snapshot();
                disk.set_capacity(None);
                let until = Instant::now() + Duration::from_secs(60);
                while let Err(error) = op.run(&engine) {
                    assert!(matches!(error, Error::DiskFull { .. }), "{error}");
                    assert!(Instant::now() < until, "writes did not resume");
                    std::thread::sleep(Duration::from_millis(10));
                }
                assert_eq!(read(&before).unwrap(), model, "a snapshot of before");
                op.fold(&mut model);
                assert!(!engine.is_starved() && engine.stats().starved == 0);
                engine.cut().unwrap();
                assert_eq!(read(&engine.snapshot()).unwrap(), model);
            }
            let disk = disk.crash(Survival::None, 1);
            disk.set_capacity(None);
            let engine = open(&disk, &clock, &options).unwrap();
            assert_eq!(read(&engine.snapshot()).unwrap(), model, "{free} bytes free");
        }
        assert!(starved > 0 && starved < 20_000 / step, "{starved}");
    }
}

/// The ballast is there, is given up for a drop on a full disk, and comes back when there is room.
#[test]
fn the_ballast_lets_a_drop_give_space_back() {
    let (disk, clock) = (SimDisk::new(1), SimClock::new(1));
    let ballast_bytes = 30_000;
    let options = Options { ballast_bytes, trash_keep: Duration::ZERO, ..small_options() };
    let engine = open(&disk, &clock, &options).unwrap();
    let length = |disk: &SimDisk| disk.file_bytes("ballast").map_or(0, |bytes| bytes.len() as u64);
    assert_eq!(length(&disk), ballast_bytes);
    let mut history = History::new(4);
    let mut model = Model::default();
    let mut act = |op: Op| {
        op.run(&engine).unwrap();
        op.fold(&mut model);
    };
    for _ in 0..4 {
        act(write(&mut history));
        act(Op::Cut);
    }
    act(write(&mut history));
    // Somebody else fills the disk.
    disk.set_capacity(Some(used(&disk)));
    assert!(matches!(engine.cut(), Err(Error::DiskFull { .. })), "rows alone do not get the ballast");
    assert_eq!(length(&disk), ballast_bytes);
    let full = used(&disk);
    for table in ["cpu", "mem", "clicks", "disk"] {
        act(Op::DropTable("main".to_owned(), table.to_owned()));
    }
    engine.cut().unwrap();
    assert_eq!(length(&disk), 0);
    assert!(used(&disk) + 1000 < full, "files of dropped tables are gone");
    assert_eq!(read(&engine.snapshot()).unwrap(), model);
    disk.set_capacity(None);
    engine.write("main", &history.draft()).unwrap();
    engine.cut().unwrap();
    assert_eq!(length(&disk), ballast_bytes);
    drop(engine);
    // Another length, or none, is taken over by the next open.
    let engine = open(&disk, &clock, &Options { ballast_bytes: 500, ..options.clone() }).unwrap();
    assert_eq!(length(&disk), 500);
    drop(engine);
    drop(open(&disk, &clock, &Options { ballast_bytes: 0, ..options }).unwrap());
    assert!(!disk.files().contains(&"ballast".to_owned()));
}

/// A log without a free slot waits for the cut that frees one, or for one more slot; nobody is refused.
#[test]
fn writes_wait_for_a_slot_of_the_log() {
    for slots in [2, 4] {
        let (disk, clock) = (SimDisk::new(1), SimClock::new(1));
        let wal_slot_bytes = 8 << 10;
        let wal_bytes_max = slots * wal_slot_bytes;
        let options = Options { threads: Threads::Background, wal_slot_bytes, wal_bytes_max, ..small_options() };
        let engine = open(&disk, &clock, &options).unwrap();
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let engine = &engine;
                scope.spawn(move || {
                    let mut history = History::new(writer);
                    for number in 0..60 {
                        let written = write(&mut history).run(engine);
                        assert!(written.is_ok(), "write {number} of writer {writer}: {written:?}");
                    }
                });
            }
        });
        assert_eq!(engine.stats().writes_overloaded, 0);
        assert!(engine.stats().cuts > 5, "the ring was full now and then");
    }
}

/// What nothing frees is told as overloaded, after the wait, and resumes by itself.
#[test]
fn a_log_that_nothing_frees_is_overloaded_until_a_cut_fits() {
    let (disk, clock) = (SimDisk::new(1), SimClock::new(1));
    let options = Options {
        threads: Threads::Background,
        wal_slot_bytes: 8 << 10,
        wal_bytes_max: 16 << 10,
        write_wait: Duration::from_millis(50),
        ..small_options()
    };
    let engine = open(&disk, &clock, &options).unwrap();
    let mut history = History::new(1);
    let mut model = Model::default();
    disk.set_capacity(Some(used(&disk)));
    let refused = loop {
        let op = write(&mut history);
        match op.run(&engine) {
            Ok(()) => op.fold(&mut model),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, Error::Overloaded { .. }), "{refused}");
    assert!(engine.stats().writes_overloaded > 0 && !engine.is_poisoned());
    assert_eq!(read(&engine.snapshot()).unwrap(), model);

    disk.set_capacity(None);
    let op = write(&mut history);
    let until = Instant::now() + Duration::from_secs(60);
    while let Err(error) = op.run(&engine) {
        assert!(matches!(error, Error::Overloaded { .. }), "{error}");
        assert!(Instant::now() < until, "the log was never freed");
    }
    op.fold(&mut model);
    assert_eq!(read(&engine.snapshot()).unwrap(), model);
}

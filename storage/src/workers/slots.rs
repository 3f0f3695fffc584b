//! Threads that make slots of the log, or fill them with zeros again: off the write path, short-lived, and one of each at most.

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::spawn;
use crate::engine::{Command, Shared};
use crate::sync::lock;
use crate::wal::{SlotOrder, ZeroOrder};

/// After a slot could not be made none is ordered for so long: each order is a thread.
const ORDER_AGAIN: Duration = Duration::from_secs(1);

/// When a slot may be ordered.
#[derive(Debug, Default)]
pub(super) struct Orders {
    not_before_ns: u64,
}

impl Orders {
    /// Whether one may, by the monotonic clock.
    pub(super) fn may(&self, now_ns: u64) -> bool {
        self.not_before_ns <= now_ns
    }

    /// The last one came to nothing.
    pub(super) fn note_failure(&mut self, now_ns: u64) {
        self.not_before_ns = now_ns.saturating_add(ORDER_AGAIN.as_nanos() as u64);
    }
}

/// Keeps a thread for who stops the engine, and lets go of those that have ended: each holds its stack until somebody does.
fn keep(threads: &Mutex<Vec<JoinHandle<()>>>, thread: JoinHandle<()>) {
    let mut threads = lock(threads);
    threads.retain(|thread| !thread.is_finished());
    threads.push(thread);
}

/// Slots are made off the write path: filling one with zeros takes as long as writing it.
pub(super) fn prepare_slot(shared: &Arc<Shared>, order: SlotOrder) {
    let state = Arc::clone(shared);
    let made = spawn("wal slot", move || {
        let prepared = order.prepare(&state.world);
        let _closed = state.queue.push(Command::Slot(prepared), 0, None);
    });
    match made {
        // Whoever stops the engine waits for it: the next process must find slots whole or not at all.
        Ok(thread) => keep(&shared.threads, thread),
        Err(error) => {
            let _closed = shared.queue.push(Command::Slot(Err(error)), 0, None);
        }
    }
}

/// Nor is the log held up by what fills one with zeros again.
pub(super) fn fill_slot(shared: &Arc<Shared>, order: ZeroOrder) {
    let state = Arc::clone(shared);
    let order = Arc::new(Mutex::new(Some(order)));
    let theirs = Arc::clone(&order);
    let made = spawn("wal slot", move || {
        if let Some(order) = lock(&theirs).take() {
            let _closed = state.queue.push(Command::Zeroed(order.run(&state.world)), 0, None);
        }
    });
    match made {
        Ok(thread) => keep(&shared.threads, thread),
        Err(error) => {
            if let Some(order) = lock(&order).take() {
                let _closed = shared.queue.push(Command::Zeroed(order.fail(error)), 0, None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::sim::SimClock;
    use crate::disk::sim::{Call, Op, SimDisk};
    use crate::draft::{Draft, DraftSeries, DraftTable};
    use crate::schema::TableMode;
    use crate::values::{FieldColumn, Values};
    use crate::{Engine, Options, World};

    #[test]
    fn threads_that_have_ended_are_let_go() {
        let threads = Mutex::default();
        let (end, wait) = std::sync::mpsc::channel::<()>();
        let runs = std::thread::spawn(move || assert!(wait.recv().is_err()));
        keep(&threads, runs);
        for _ in 0..100 {
            let ends = std::thread::spawn(|| {});
            while !ends.is_finished() {
                std::thread::yield_now();
            }
            keep(&threads, ends);
            assert!(lock(&threads).len() <= 2, "the one that runs, and the last");
        }
        drop(end);
        lock(&threads).drain(..).for_each(|thread| thread.join().unwrap());
    }

    #[test]
    fn a_slot_that_could_not_be_made_is_not_ordered_at_once() {
        let mut orders = Orders::default();
        assert!(orders.may(0));
        orders.note_failure(5);
        assert!(!orders.may(5) && !orders.may(1_000_000_004));
        assert!(orders.may(1_000_000_005));
    }

    fn rows(number: i64) -> Draft {
        let mut series = DraftSeries::default();
        series.push_tag(0, b"a");
        series.finish();
        let values = (0..100).map(|row: i64| (number * 100 + row).wrapping_mul(0x1E37_79B9_7F4A_7C15)).collect();
        let values = Values::I64(values);
        let table = DraftTable {
            name: "cpu".to_owned(),
            mode: TableMode::Upsert,
            tags: vec!["host".to_owned()],
            series,
            row_series: vec![0; 100],
            times: (0..100).map(|row| number * 1000 + row).collect(),
            fields: vec![FieldColumn { column: "v".to_owned(), rows: None, values }],
        };
        Draft { tables: vec![table], position: None }
    }

    /// The log is full and so is the disk: whoever is refused orders a slot, and a thread, once in a while.
    #[test]
    fn refused_writes_are_no_storm_of_threads() {
        let (disk, clock) = (SimDisk::new(1), SimClock::new(1));
        let options = Options {
            wal_slot_bytes: 8 << 10,
            wal_bytes_max: 64 << 10,
            write_wait: Duration::from_millis(40),
            disk_reserve_bytes: 0,
            ..Options::default()
        };
        let engine = Engine::open(World::of(&disk, &clock), options).unwrap();
        engine.write("main", &rows(0)).unwrap();
        disk.set_capacity(Some(0));
        let is_order = |call: &Call| call.op == Op::Create && call.path.starts_with("wal/");
        let refused = (1..40).filter(|number| engine.write("main", &rows(*number)).is_err()).count();
        assert!(refused > 20, "{refused} are refused");
        let orders = disk.log().iter().filter(|call| is_order(call)).count();
        assert!((3..=4).contains(&orders), "two slots at the start, one or two orders later, not {orders}");
    }
}

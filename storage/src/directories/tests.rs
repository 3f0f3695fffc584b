//! What is kept stays within its share, who holds something goes on, and a store under a small limit answers as under a large.

use super::*;
use crate::draft::{Draft, DraftSeries, DraftTable};
use crate::memory::MemoryShares;
use crate::merge::TagFilter;
use crate::scan::ScanRequest;
use crate::schema::{ColumnId, TableMode};
use crate::time::TimeRange;
use crate::values::{FieldColumn, Values};
use crate::{Engine, Options, Threads, World};

/// 100 bytes for directories, 962 for rows that are let in.
const SHARES: MemoryShares = MemoryShares { limit_bytes: 1600, bodies_bytes: 0, statements_bytes: 0 };

struct Shelf {
    memory: Arc<Accountant>,
    directories: Arc<Directories>,
    slots: Vec<Arc<Slot<usize>>>,
}

impl Shelf {
    fn new(slots: usize) -> Self {
        let memory = Accountant::new(SHARES);
        let directories = Directories::new(&memory);
        Self { memory, directories, slots: (0..slots).map(|_| Arc::default()).collect() }
    }

    /// What a slot holds, 30 bytes of it.
    fn get(&self, slot: usize) -> Result<Arc<Held<usize>>> {
        self.directories.get(&self.slots[slot], || Ok(Held::new(slot, self.directories.admit("slot", 30)?)))
    }

    fn used(&self) -> u64 {
        self.memory.used(MemoryUse::Directories)
    }

    /// The slots that are read when they are asked for.
    fn absent(&self) -> Vec<usize> {
        let is_absent = |slot: &usize| matches!(*lock(&self.slots[*slot].state), State::Absent);
        (0..self.slots.len()).filter(is_absent).collect()
    }
}

#[test]
fn what_nobody_came_back_for_goes_first() {
    let shelf = Shelf::new(6);
    for slot in [0, 1, 2, 0] {
        assert_eq!(**shelf.get(slot).unwrap(), slot);
    }
    assert_eq!((shelf.used(), shelf.directories.reads(), shelf.absent()), (90, 3, vec![3, 4, 5]));
    // The hand passes 0 for now.
    shelf.get(3).unwrap();
    assert_eq!((shelf.used(), shelf.absent()), (90, vec![1, 4, 5]));
    shelf.get(4).unwrap();
    shelf.get(5).unwrap();
    assert_eq!((shelf.used(), shelf.directories.reads()), (90, 6));
    assert_eq!(shelf.absent().len(), 3);
    drop(shelf.slots);
    assert_eq!(shelf.memory.total(), 0, "it goes with its segment");
}

#[test]
fn who_holds_something_goes_on_and_counts() {
    let shelf = Shelf::new(40);
    let held: Vec<_> = (0..3).map(|slot| shelf.get(slot).unwrap()).collect();
    for slot in 3..40 {
        assert_eq!(**shelf.get(slot).unwrap(), slot);
        assert_eq!(shelf.used(), 90, "what finds no room is dropped by its last user");
    }
    assert!(held.iter().enumerate().all(|(slot, held)| ***held == slot));
    // Of what is lent all users have one.
    let (first, second) = (shelf.get(9).unwrap(), shelf.get(9).unwrap());
    assert!(Arc::ptr_eq(&first, &second));
    assert_eq!((shelf.used(), shelf.memory.rows_used()), (120, 20), "what is beyond the share is missing for rows");
    drop((first, second, held));
    assert_eq!((shelf.used(), shelf.memory.rows_used()), (90, 0));
}

#[test]
fn the_next_who_asks_is_refused_where_rows_have_no_room_either() {
    let shelf = Shelf::new(40);
    let rows = shelf.memory.try_hold(812).unwrap();
    let held: Vec<_> = (0..40).map_while(|slot| shelf.get(slot).ok()).collect();
    assert_eq!((held.len(), shelf.used()), (5, 150), "100 of the share and 62 of the room of rows");
    match shelf.get(30) {
        Err(Error::TooLarge { what: "slot", bytes: 30, bytes_max: 13 }) => {}
        other => panic!("{other:?}"),
    }
    assert!(shelf.memory.total() <= SHARES.limit_bytes);
    assert!(shelf.memory.try_hold(14).is_err(), "writes are let in for less");
    drop(held);
    assert_eq!(**shelf.get(30).unwrap(), 30, "a failure is not kept");
    drop(rows);
}

/// Sixty segments of 300 series, whose directories need more than a megabyte, and tag columns that need as much again.
fn store(limit_bytes: u64) -> Engine {
    let options = Options {
        memory: MemoryShares { limit_bytes, bodies_bytes: 0, statements_bytes: 0 },
        merge_segments_min: 1000,
        threads: Threads::None,
        disk_reserve_bytes: 0,
        ..Options::default()
    };
    let engine = Engine::open(World::sim(1), options).unwrap();
    for day in 0..60_i64 {
        let mut series = DraftSeries::default();
        for host in 0..300 {
            series.push_tag(0, format!("host-with-a-long-name-{host}").as_bytes());
            series.push_tag(1, format!("rack-{}", host % 7).as_bytes());
            series.finish();
        }
        let table = DraftTable {
            name: "cpu".to_owned(),
            mode: TableMode::Upsert,
            tags: vec!["host".to_owned(), "rack".to_owned()],
            series,
            row_series: (0..300).collect(),
            times: vec![day * 86_400_000_000_000; 300],
            fields: vec![FieldColumn {
                column: "v".to_owned(),
                rows: None,
                values: Values::I64((0..300).map(|host| day * 1000 + host).collect()),
            }],
        };
        engine.write("main", &Draft { tables: vec![table], position: None }).unwrap();
        engine.cut().unwrap();
    }
    engine
}

/// Rows and the sum of their values, of all series and of one rack, and how often something was read for that.
fn answers(engine: &Engine) -> (Vec<(usize, i64)>, u64) {
    let before = engine.stats().directories_read;
    let snapshot = engine.snapshot();
    let table = Arc::clone(snapshot.catalog().all_tables().next().unwrap());
    let column = |name: &str| table.stored_columns().iter().find(|column| column.name == name).unwrap().id;
    let mut answers = Vec::new();
    for _ in 0..2 {
        for values in [None, Some("rack-3")] {
            let tags = values.map(|value| TagFilter { column: column("rack"), values: vec![Some(value.to_owned())] });
            let columns = vec![ColumnId::TIME, column("v")];
            let request = ScanRequest { columns, time: TimeRange::ALL, tags: tags.into_iter().collect(), parts_max: 2 };
            let (mut rows, mut sum) = (0, 0);
            for part in snapshot.scan(table.id, &request).unwrap().parts {
                for batch in part {
                    let batch = batch.unwrap();
                    let values = batch.column(1).as_any().downcast_ref::<arrow_array::Int64Array>().unwrap();
                    rows += batch.num_rows();
                    sum += values.values().iter().sum::<i64>();
                }
            }
            answers.push((rows, sum));
        }
    }
    (answers, engine.stats().directories_read - before)
}

#[test]
fn a_store_under_a_small_limit_answers_the_same() {
    let (large, small) = (store(1 << 30), store(4 << 20));
    let (want, reads) = answers(&large);
    assert_eq!(want[0], (60 * 300, (0..60).map(|day| day * 300_000 + 44_850).sum::<i64>()));
    assert_eq!(reads, 60 + 60, "each directory and each tag column once");
    let kept = large.memory().used(MemoryUse::Directories);
    let share = small.memory().shares().max_of(MemoryUse::Directories);
    assert!(share * 2 < kept, "{kept} bytes do not fit {share}");
    let (got, reads) = answers(&small);
    assert_eq!(got, want);
    assert!(reads > 300, "what was dropped is read again: {reads}");
    let usage = small.memory().usage();
    let usage = usage.iter().find(|usage| usage.of == Some(MemoryUse::Directories)).unwrap();
    assert!(usage.bytes_peak <= share, "{usage:?}");
    assert!(usage.bytes > share / 2, "{usage:?}");
    assert_eq!(small.memory().rows_used(), 0);
}

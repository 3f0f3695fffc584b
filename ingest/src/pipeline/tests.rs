//! What becomes of bodies, on an engine without threads.

use marigram_storage::clock::sim::SimClock;
use marigram_storage::disk::sim::SimDisk;
use marigram_storage::{Options, SchemaLimits, World};

use super::*;

/// A road into an engine on a disk of its own, without threads.
struct Road {
    disk: SimDisk,
    pipeline: Pipeline,
}

impl Road {
    fn open(disk: SimDisk, create_databases: bool) -> Self {
        Self::within(disk, create_databases, SchemaLimits::default())
    }

    fn within(disk: SimDisk, create_databases: bool, limits: SchemaLimits) -> Self {
        let options = Options {
            threads: marigram_storage::Threads::None,
            create_databases,
            wal_slot_bytes: 1 << 20,
            wal_bytes_max: 4 << 20,
            write_wait: Duration::ZERO,
            disk_reserve_bytes: 0,
            limits,
            ..Options::default()
        };
        let engine = Engine::open(World::of(&disk, &SimClock::new(1)), options).unwrap();
        let limits = Limits {
            line_bytes_max: 1 << 20,
            line_columns_max: 64,
            table_columns_max: 64,
            future_max: None,
            create_databases,
        };
        Self { disk, pipeline: Pipeline::new(engine, limits, Arc::default()) }
    }

    fn new() -> Self {
        Self::open(SimDisk::new(3), true)
    }

    fn body<'a>(&self, accept_partial: bool, number: Option<u64>, text: &'a str) -> Body<'a> {
        let position = number.map(|to| SourcePosition { source: 9, from: to - 1, to });
        let precision = Precision::Nanosecond;
        Body { database: "x", precision, accept_partial, position, now_ns: 1000, text: text.as_bytes() }
    }

    fn store(&self, accept_partial: bool, number: Option<u64>, text: &str) -> Result<Stored, Error> {
        self.pipeline.store(&self.body(accept_partial, number, text))
    }

    /// Rows stored, lines refused, bodies replayed so far.
    fn counted(&self) -> (u64, u64, u64) {
        let metrics = self.pipeline.metrics();
        (metrics.rows.get(), metrics.lines_refused.get(), metrics.bodies_replayed.get())
    }
}

#[test]
fn good_lines_are_stored_and_bad_ones_named_and_each_is_counted_once() {
    let road = Road::new();
    let stored = road.store(true, None, "m v=1i 1\nbad\nm v=2i 2\nm v=\"x\" 3").unwrap();
    let refused = stored.refused.unwrap();
    assert_eq!((stored.rows, refused.count, refused.good, refused.good_stored), (2, 2, 2, true));
    assert_eq!(refused.errors.iter().map(|error| error.line).collect::<Vec<_>>(), [2, 4]);
    assert_eq!(road.counted(), (2, 2, 0));
    let strict = road.store(false, None, "m v=3i 3\nbad").unwrap();
    let refused = strict.refused.unwrap();
    assert_eq!((strict.rows, refused.count, refused.good, refused.good_stored), (0, 1, 1, false));
    assert_eq!(road.counted(), (2, 3, 0));
    let typed = road.store(true, None, "m v=1.5 4").unwrap();
    assert_eq!(typed.refused.unwrap().errors[0].line, 1, "the catalog knows the type");
}

#[test]
fn a_body_that_is_no_text_or_has_no_database_stores_nothing() {
    let road = Road::new();
    let body = Body {
        database: "x",
        precision: Precision::Nanosecond,
        accept_partial: true,
        position: None,
        now_ns: 0,
        text: b"m v=1 1\n\xff",
    };
    assert!(matches!(road.pipeline.store(&body), Err(Error::Body(BodyError::NotUtf8 { offset: 8 }))));
    assert_eq!(road.counted(), (0, 0, 0));
    let closed = Road::open(SimDisk::new(4), false);
    let missing = closed.store(true, None, "m v=1 1");
    assert!(matches!(missing, Err(Error::Storage(StorageError::NotFound { what: "database", .. }))), "{missing:?}");
}

#[test]
fn the_latest_time_follows_the_clock() {
    let mut road = Road::new();
    assert_eq!(road.store(true, None, "m v=1i 9223372036854775806").unwrap().rows, 1);
    road.pipeline.limits.future_max = Some(Duration::from_nanos(500));
    let stored = road.store(true, None, "m v=1i 1500\nm v=2i 1501\nm v=3i").unwrap(); // the clock shows 1000
    assert_eq!((stored.rows, stored.refused.unwrap().errors[0].line), (2, 2));
    assert_eq!(road.pipeline.metrics().lines_future.get(), 1);
    road.pipeline.limits.future_max = Some(Duration::MAX);
    assert_eq!(road.pipeline.limits.time_max_ns(1000), i64::MAX);
}

#[test]
fn a_numbered_body_is_settled_by_being_taken_whatever_it_holds() {
    let road = Road::new();
    let send = |number, text: &str| road.store(true, Some(number), text);
    assert_eq!(send(7, "m v=7i 7\nbad").unwrap().rows, 1);
    assert!(send(7, "m v=7i 7\nbad").unwrap().replayed);
    let refused = send(8, "bad\nworse").unwrap().refused.unwrap();
    assert_eq!((refused.count, refused.good), (2, 0));
    assert!(send(8, "m v=8i 8").unwrap().replayed, "mended lines go under the next number");
    assert_eq!(send(9, "").unwrap(), Stored::default());
    assert_eq!(send(10, "# nothing\n\n").unwrap(), Stored::default());
    let gap = send(12, "m v=12i 12");
    assert!(matches!(gap, Err(Error::Storage(StorageError::PositionGap { expected: 10, sent: 11 }))), "{gap:?}");
    // All of it is as durable as rows are.
    let road = Road::open(road.disk.reboot(), true);
    assert!(road.store(true, Some(10), "m v=10i 10").unwrap().replayed);
    assert_eq!(road.store(true, Some(11), "m v=11i 11").unwrap().rows, 1);
    assert_eq!(road.counted(), (1, 0, 1));
}

#[test]
fn a_numbered_body_that_was_not_taken_leaves_its_number_open() {
    let road = Road::new();
    assert_eq!(road.store(true, Some(1), "m v=1i 1").unwrap().rows, 1);
    assert!(road.store(false, Some(2), "m v=2i 2\nbad").unwrap().refused.is_some());
    assert_eq!(road.store(false, Some(2), "m v=2i 2").unwrap().rows, 1);
    assert_eq!(road.store(false, Some(3), "m v=3i 3").unwrap().rows, 1);
}

#[test]
fn a_source_may_begin_with_a_body_that_stores_nothing_and_makes_nothing() {
    let road = Road::new();
    assert!(road.store(true, Some(5), "bad").unwrap().refused.is_some());
    assert!(road.pipeline.engine.schema().database("x").is_none(), "no database for no rows");
    assert!(road.store(true, Some(5), "m v=1i 1").unwrap().replayed);
    assert_eq!(road.store(true, Some(6), "m v=1i 1").unwrap().rows, 1);
}

/// Which lines a write was refused, and what was stored.
#[track_caller]
fn refused(stored: Result<Stored, Error>) -> (u64, Vec<u32>) {
    let stored = stored.unwrap();
    let lines = stored.refused.map(|refused| refused.errors.iter().map(|error| error.line).collect());
    (stored.rows, lines.unwrap_or_default())
}

fn limited(limits: SchemaLimits) -> Road {
    Road::within(SimDisk::new(3), true, limits)
}

#[test]
fn a_series_over_the_limit_is_refused_however_it_is_spelled_and_others_go_on() {
    let road = limited(SchemaLimits { table_series_max: 3, ..SchemaLimits::default() });
    let store = |text: &str| refused(road.store(true, None, text));
    assert_eq!(store("m,a=1,b=2 v=1 1\nm,a=1\\ 0 v=1 1"), (2, vec![]));
    // One has room; lines of the next are refused in any order of tags and with any escapes, those of the first are not.
    let body = "m,a=1,c=3 v=1 1\nm,b=5,a=5\\ 5 v=1 1\nm,a=5\\ 5,b=5 v=2 2\nm,b=2,a=1 v=2 2\nm,c=3,a=1 v=2 2\nm,b=5,a=5\\ 5 v=3 3\nm,a=1\\ 0 v=2 2";
    assert_eq!(store(body), (4, vec![2, 3, 6]));
    assert_eq!(store("m v=1 1\nm,a=1 v=1 1\nm,b=2 v=1 1\nm,a=1\\ 0 v=3 3"), (1, vec![1, 2, 3]));
    assert_eq!(road.counted(), (7, 6, 0));
    assert_eq!(refused(road.store(false, None, "m,a=1\\ 0 v=4 4\nm,a=9 v=1 1")), (0, vec![2]));
    // What is refused names nothing.
    assert_eq!(store("m,z=1 v=1,w=1 1\nm,a=1,b=2 v=4 4"), (1, vec![1]));
    let schema = road.pipeline.engine.schema();
    let known = schema.table(schema.database("x").unwrap().id, "m").unwrap();
    assert_eq!(
        known.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>(),
        ["time", "a", "b", "v", "c"]
    );
}

#[test]
fn room_of_a_database_goes_by_lines_and_not_by_tables() {
    let road = limited(SchemaLimits { database_series_max: 3, ..SchemaLimits::default() });
    let store = |text: &str| refused(road.store(true, None, text));
    assert_eq!(store("a,t=1 v=1 1\nb,t=1 v=1 1\na,t=2 v=1 1\nb,t=2 v=1 1\na,t=3 v=1 1\nb,t=1 v=2 2"), (4, vec![4, 5]));
    assert_eq!(store("c v=1 1"), (0, vec![1]));
    let schema = road.pipeline.engine.schema();
    assert!(schema.table(schema.database("x").unwrap().id, "c").is_none());
    road.pipeline.engine.cut().unwrap();
    // Those that are stored come beside new ones.
    assert_eq!(store("a,t=4 v=1 1\na,t=5 v=1 1\na,t=6 v=1 1\na,t=7 v=1 1\na,t=1 v=3 3\nb,t=1 v=3 3"), (5, vec![4]));
}

#[test]
fn lines_that_would_make_a_table_or_column_too_many_are_refused() {
    let road = limited(SchemaLimits { tables_max: 2, columns_max: 3, ..SchemaLimits::default() });
    let store = |text: &str| refused(road.store(true, None, text));
    // What a bad line would make uses nothing up, nor does what is over another limit.
    assert_eq!(
        store("bad v=\na v=1,w=1,x=1,y=1 1\nb,t=1 v=1 1\na,t=1 v=1 1\nc v=1 1\nb v=1,w=1 2"),
        (3, vec![1, 2, 5])
    );
    assert_eq!(store("c v=1 1\na w=1 2\na,u=1 v=1 2\nb w=2 3\na,t=1 w=2 3"), (3, vec![1, 3]));
    let other = Body { database: "y", ..road.body(true, None, "a v=1 1") };
    assert_eq!(refused(road.pipeline.store(&other)), (0, vec![1]), "tables are those of the store");
    assert!(road.pipeline.engine.schema().database("y").is_none());
    assert_eq!(refused(road.store(false, None, "a v=1 1\nc v=1 1")), (0, vec![2]));
}

/// Whoever is behind: a line of what is there is stored, and no body is refused whole.
#[test]
fn writers_that_compete_for_the_last_room_all_get_an_answer() {
    let road = limited(SchemaLimits { columns_max: 20, table_series_max: 20, ..SchemaLimits::default() });
    assert_eq!(refused(road.store(true, None, "m,h=0 v=1 1")), (1, vec![]));
    let writer = |writer: u64| {
        for body in 0..10 {
            let (name, time) = (format!("{writer}_{body}"), writer * 100 + body + 2);
            let text = format!("m,h=0 v=1 {time}\nm,h={name} v=1 1\nm,h={name}_ v=1 1\nm,h=0 c{name}=1 1");
            let stored = road.store(true, None, &text).unwrap();
            assert!((1..=4).contains(&stored.rows), "{stored:?}");
            assert!(stored.refused.is_none_or(|refused| refused.errors.iter().all(|error| error.line != 1)));
        }
    };
    std::thread::scope(|scope| (0..4).for_each(|at| drop(scope.spawn(move || writer(at)))));
    let engine = &road.pipeline.engine;
    let schema = engine.schema();
    let known = schema.table(schema.database("x").unwrap().id, "m").unwrap();
    assert_eq!(known.user_columns(), 20);
    let series = engine.stats().memtable_series;
    assert!((19..=20).contains(&series), "{series}");
}

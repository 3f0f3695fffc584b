//! A statement whose snapshot expires ends with 72000, never with a part of its answer.

use marigram_query::{QueryErrorKind, Request, Response};
use marigram_storage::draft::{Draft, DraftSeries, DraftTable};
use marigram_storage::schema::TableMode;
use marigram_storage::values::{FieldColumn, Values};
use marigram_storage::{Engine, MemoryShares, MemoryUse, Options, Threads, World};

use futures::StreamExt;

use super::{Store, until};

/// Rows of a write; six of them take 7 of the 19 MB that rows may, and eight start a cut.
const ROWS: i64 = 50_000;

fn rows(number: i64) -> Draft {
    let mut series = DraftSeries::default();
    series.finish();
    let times: Vec<i64> = (number * ROWS..(number + 1) * ROWS).collect();
    let table = DraftTable {
        name: "gauge".to_owned(),
        mode: TableMode::Upsert,
        tags: Vec::new(),
        series,
        row_series: vec![0; times.len()],
        fields: vec![FieldColumn { column: "n".to_owned(), rows: None, values: Values::I64(times.clone()) }],
        times,
    };
    Draft { tables: vec![table], position: None }
}

#[test]
fn a_statement_that_is_in_the_way_of_writes_ends_with_72000() {
    let memory = MemoryShares { limit_bytes: 32 << 20, bodies_bytes: 0, statements_bytes: 0 };
    let options = Options { memory, threads: Threads::None, disk_reserve_bytes: 0, ..Options::default() };
    let engine = Engine::open(World::sim(1), options).unwrap();
    for number in 0..6 {
        engine.write("main", &rows(number)).unwrap();
    }
    let store = Store::over(engine);
    let request = Request::new("main", "SELECT time, n FROM gauge");
    let response = store.runtime.block_on(store.query.execute(request)).unwrap();
    let Response::Rows { mut stream, .. } = response else { panic!("it has rows") };
    let first = store.runtime.block_on(stream.next()).unwrap().unwrap();
    assert!(first.num_rows() > 0);
    assert_eq!(store.rows("SELECT count(*) FROM system.snapshots WHERE age_ms >= 0")[0][0], "2");
    store.engine.cut().unwrap();
    for number in 6..12 {
        store.engine.write("main", &rows(number)).unwrap();
    }
    let younger = store.engine.snapshot();
    store.engine.cut().unwrap();
    let pinned = || store.engine.memory().used(MemoryUse::Pinned);
    assert!(pinned() > 12 << 20, "{} bytes are kept by both", pinned());
    let mut number = 12;
    while store.engine.stats().snapshots_expired == 0 {
        store.engine.write("main", &rows(number)).unwrap();
        number += 1;
        assert!(number < 40, "nothing expires");
    }
    assert!((6 << 20..8 << 20).contains(&pinned()), "{} bytes are kept by the younger one", pinned());
    drop(younger);
    let error = store.runtime.block_on(async {
        let mut read = first.num_rows() as i64;
        loop {
            match stream.next().await {
                Some(Ok(batch)) => read += batch.num_rows() as i64,
                Some(Err(error)) => break error,
                None => panic!("it ended with {read} rows"),
            }
        }
    });
    assert_eq!((error.kind, error.sqlstate), (QueryErrorKind::SnapshotGone, "72000"), "{error}");
    assert_eq!(store.rows("SELECT count(*) FROM gauge")[0][0], (number * ROWS).to_string());
    let shown = store.rows("SELECT name, bytes_max FROM system.memory ORDER BY bytes_max DESC LIMIT 1");
    assert_eq!(shown, [["total".to_owned(), (32 << 20).to_string()]]);
    drop(stream);
    until(|| store.engine.leases().is_empty());
}

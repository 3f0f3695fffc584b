//! What damage of one segment does to queries of all: which columns, times and series are asked for decides whether it is
//! met, and what answers, answers right. An older version never shows through.

use std::collections::BTreeMap;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampNanosecondType};
use arrow_array::{Array, RecordBatch};
use marigram_storage::clock::sim::{SimClock, SimRng};
use marigram_storage::disk::sim::{SimDisk, Survival};
use marigram_storage::draft::{Draft, DraftSeries, DraftTable};
use marigram_storage::schema::{ColumnId, Table, TableMode};
use marigram_storage::time::TimeRange;
use marigram_storage::values::{FieldColumn, Values};
use marigram_storage::{Engine, Error, ScanRequest, SegmentInfo, TagFilter};
use marigram_tests::rig::{open, small_options};

/// Rows of a series in each body: more than a vector, so that series share pages.
const ROWS: i64 = 30;
const HOSTS: [&str; 3] = ["a", "b", "c"];

/// Body `number`: its hosts from time `from` on. Field `a` is in every row; `b` only in every other body.
fn body(number: i64, hosts: &[&str], from: i64) -> Draft {
    let mut series = DraftSeries::default();
    for host in hosts {
        series.push_tag(0, host.as_bytes());
        series.finish();
    }
    let count = hosts.len() * ROWS as usize;
    let mut fields = vec![FieldColumn { column: "a".to_owned(), rows: None, values: Values::I64(vec![number; count]) }];
    if number % 2 == 0 {
        let values = Values::F64(vec![number as f64; count]);
        fields.push(FieldColumn { column: "b".to_owned(), rows: None, values });
    }
    let table = DraftTable {
        name: "cpu".to_owned(),
        mode: TableMode::Upsert,
        tags: vec!["host".to_owned()],
        series,
        row_series: (0..hosts.len() as u32).flat_map(|host| vec![host; ROWS as usize]).collect(),
        times: hosts.iter().flat_map(|_| from..from + ROWS).collect(),
        fields,
    };
    Draft { tables: vec![table], position: None }
}

/// (host, time, a, b), as far as they were asked for.
type Row = (Option<String>, Option<i64>, Option<i64>, Option<u64>);

/// One question: columns, times, hosts.
#[derive(Clone, Debug)]
struct Question {
    columns: &'static [&'static str],
    times: (i64, i64),
    hosts: &'static [&'static str],
}

fn questions() -> Vec<Question> {
    let mut all = Vec::new();
    for columns in [&["host", "time", "a", "b"][..], &["a"], &["b"], &["time", "b"], &["host"], &[]] {
        for times in [(0, 1000), (0, 10), (25, 35), (40, 50), (70, 80)] {
            for hosts in [&[][..], &["a"], &["c"]] {
                all.push(Question { columns, times, hosts });
            }
        }
    }
    all
}

fn table(engine: &Engine) -> Table {
    let snapshot = engine.snapshot();
    let catalog = snapshot.catalog();
    catalog.table(catalog.database("main").unwrap().id, "cpu").unwrap().as_ref().clone()
}

/// The rows of the answer, sorted.
fn ask(engine: &Engine, table: &Table, question: &Question) -> Result<Vec<Row>, Error> {
    let id = |name: &&str| table.column(name).map(|column| column.id).unwrap_or(ColumnId::TIME);
    let host = table.column("host").unwrap().id;
    let values = question.hosts.iter().map(|host| Some((*host).to_owned())).collect();
    let request = ScanRequest {
        columns: question.columns.iter().map(id).collect(),
        time: TimeRange::new(question.times.0, question.times.1).unwrap(),
        tags: if question.hosts.is_empty() { vec![] } else { vec![TagFilter { column: host, values }] },
        parts_max: 2,
    };
    let mut rows = Vec::new();
    for part in engine.snapshot().scan(table.id, &request)?.parts {
        for batch in part {
            let batch = batch?;
            rows.extend((0..batch.num_rows()).map(|row| read(question, &batch, row)));
        }
    }
    rows.sort();
    Ok(rows)
}

fn read(question: &Question, batch: &RecordBatch, row: usize) -> Row {
    let mut out = Row::default();
    for (name, array) in question.columns.iter().zip(batch.columns()) {
        if array.is_null(row) {
            continue;
        }
        match *name {
            "host" => out.0 = Some(array.as_string_view().value(row).to_owned()),
            "time" => out.1 = Some(array.as_primitive::<TimestampNanosecondType>().value(row)),
            "a" => out.2 = Some(array.as_primitive::<Int64Type>().value(row)),
            _ => out.3 = Some(array.as_primitive::<Float64Type>().value(row).to_bits()),
        }
    }
    out
}

/// Segments that overlap in turn, rows in memory, and a partition that nothing overlaps.
struct Store {
    disk: SimDisk,
    clock: SimClock,
    segments: Vec<SegmentInfo>,
    answers: Vec<Vec<Row>>,
}

fn store() -> Store {
    let (disk, clock) = (SimDisk::new(1), SimClock::new(1));
    let mut options = small_options();
    options.merge_segments_min = 100;
    let engine = open(&disk, &clock, &options).unwrap();
    // Overlapping versions of hosts a and b; c is in the second body only.
    for (number, hosts, from) in [(1, &HOSTS[..2], 0), (2, &HOSTS[..], 10), (3, &HOSTS[..2], 20), (4, &HOSTS[..1], 65)]
    {
        engine.write("main", &body(number, hosts, from)).unwrap();
        engine.cut().unwrap();
    }
    let table = table(&engine);
    let segments = engine.snapshot().segments(table.id).unwrap();
    assert_eq!(segments.len(), 4);
    let answers = questions().iter().map(|question| ask(&engine, &table, question).unwrap()).collect();
    engine.close().unwrap();
    Store { disk: disk.crash(Survival::All, 1), clock, segments, answers }
}

impl Store {
    /// Asks everything; whatever answers, answers right, and an error names the table, the file, and times of a segment
    /// of that file that meet what was asked. Returns which questions were refused.
    fn judge(&self, disk: &SimDisk, what: &str) -> Vec<bool> {
        let engine = open(disk, &self.clock, &small_options()).unwrap();
        let table = table(&engine);
        let mut refused = Vec::new();
        for (question, want) in questions().iter().zip(&self.answers) {
            refused.push(match ask(&engine, &table, question) {
                Ok(rows) => {
                    assert_eq!(rows, *want, "{what}: wrong rows for {question:?}");
                    false
                }
                Err(Error::Damaged { table, from, to, reason }) => {
                    assert_eq!(table, "cpu");
                    let meets = from < question.times.1 && question.times.0 <= to;
                    assert!(meets, "{what}: {question:?} is refused for {from} to {to}: {reason}");
                    let named = self.segments.iter().filter(|info| reason.contains(&info.file));
                    let of = named.min_by_key(|info| reason.find(&info.file));
                    let of = of.unwrap_or_else(|| panic!("{what}: no file is named: {reason}"));
                    assert!(of.times.0 <= from && to <= of.times.1, "{what}: {from} to {to}: {reason}");
                    true
                }
                Err(error) => panic!("{what}: {question:?}: {error}"),
            });
        }
        // What the damage does not touch goes on.
        engine.write("main", &body(9, &HOSTS, 200)).unwrap();
        engine.cut().unwrap();
        refused
    }
}

#[test]
fn an_older_version_never_shows_through_a_damaged_one() {
    let store = store();
    assert_eq!(store.judge(&store.disk.crash(Survival::All, 1), "sound").iter().filter(|refused| **refused).count(), 0);
    let seed = u64::from(std::process::id());
    eprintln!("seed {seed}");
    let mut rng = SimRng::new(seed);
    let mut by_segment: BTreeMap<usize, u64> = BTreeMap::new();
    for (at, info) in store.segments.iter().enumerate() {
        let mut offset = info.offset;
        while offset < info.offset + info.bytes {
            let disk = store.disk.crash(Survival::All, 1);
            disk.flip_bit(&info.file, offset, (rng.below(8)) as u8).unwrap();
            let refused = store.judge(&disk, &format!("seed {seed}, byte {offset} of {}", info.file));
            *by_segment.entry(at).or_default() += refused.iter().filter(|refused| **refused).count() as u64;
            offset += 1 + rng.below(15);
        }
    }
    // Each segment was missed by somebody, also those that a newer one overlaps.
    assert!(by_segment.len() == 4 && by_segment.values().all(|refused| *refused > 50), "{by_segment:?}");
}

/// A file that is gone, cut short or another one: whoever may need it is refused, whatever the columns and the series;
/// who asks for times that the manifest says are not in it is answered.
#[test]
fn a_file_that_is_not_there_taints_its_times() {
    let store = store();
    for (at, info) in store.segments.iter().enumerate() {
        let other = &store.segments[(at + 1) % store.segments.len()].file;
        let half = info.offset + info.bytes / 2;
        type Damage<'a> = (&'a str, Box<dyn Fn(&SimDisk) + 'a>);
        let damages: Vec<Damage<'_>> = vec![
            ("lost", Box::new(|disk| disk.delete_file(&info.file).unwrap())),
            ("cut short", Box::new(|disk| disk.cut_file(&info.file, half).unwrap())),
            ("another's copy", Box::new(|disk| disk.copy_file(other, &info.file).unwrap())),
        ];
        for (what, damage) in damages {
            let disk = store.disk.crash(Survival::All, 1);
            damage(&disk);
            let refused = store.judge(&disk, &format!("{} is {what}", info.file));
            for (question, refused) in questions().iter().zip(refused) {
                let meets = info.times.0 < question.times.1 && question.times.0 <= info.times.1;
                assert_eq!(refused, meets, "{} is {what}: {question:?}", info.file);
            }
        }
    }
}

/// The page of one column of the newest segment: who reads that column there is refused; who reads another one, other
/// times, or other series of other pages is answered.
#[test]
fn a_sector_that_is_lost_is_told_whoever_reads_it() {
    let store = store();
    let mut partly = 0;
    for info in &store.segments {
        for offset in (info.offset..info.offset + info.bytes).step_by(512) {
            let disk = store.disk.crash(Survival::All, 1);
            disk.spoil_sector(&info.file, offset).unwrap();
            let refused = store.judge(&disk, &format!("sector at {offset} of {}", info.file));
            partly += usize::from(refused.iter().any(|refused| *refused) && refused.iter().any(|refused| !refused));
        }
    }
    assert!(partly > 3, "{partly}");
}

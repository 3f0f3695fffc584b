//! What a snapshot sees behind deletes is what a list of rows says, in whatever order snapshots ask.

use proptest::prelude::*;

use super::super::{Chunk, MemSet, Merges, OfCut, OfScan, Seen, living};
use super::*;
use crate::batch::{SeriesDefinitions, TableRows};
use crate::catalog::default_widths;
use crate::error::Error;
use crate::generation::Generation;
use crate::memory::{Accountant, MemoryShares, MemoryUse};
use crate::schema::{DatabaseId, Table, TableId, TableMode};
use crate::series;
use crate::tombstone::{Comparison, Delete, Erase, JUDGED, KeyList, Literal, Predicate, ValueSet};
use crate::values::{FieldColumn, Values};

const TABLE: TableId = TableId(1);
const HOST: ColumnId = ColumnId(16);
const LOAD: ColumnId = ColumnId(17);
const HOSTS: u32 = 8;

/// Series, time, value.
type Row = (u32, i64, Option<i64>);

fn table() -> Table {
    Table {
        id: TABLE,
        database: DatabaseId(0),
        name: "cpu".to_owned(),
        mode: TableMode::Append,
        columns: Vec::new(),
        hidden: Vec::new(),
        widths: default_widths(),
        floor: i64::MIN,
    }
}

fn key(host: u32) -> Vec<u8> {
    let mut key = Vec::new();
    series::encode_key([(HOST, format!("h{host}").as_bytes())], &mut key);
    key
}

fn empty(memory: &Arc<Accountant>, hosts: u32) -> MemSet {
    let set = MemSet::new(Arc::new(Generation::new(1)), memory);
    let mut definitions = SeriesDefinitions::new(TABLE);
    (0..hosts).for_each(|host| definitions.push(host, &key(host)));
    let fingerprint = |key: &[u8]| series::fingerprint(7, TABLE, key);
    set.generation.table(TABLE).define(&definitions, fingerprint).unwrap();
    set
}

fn append(set: &MemSet, sequence: u64, rows: &[Row]) {
    let present: Vec<u32> = (0..rows.len() as u32).filter(|row| rows[*row as usize].2.is_some()).collect();
    let values = Values::I64(rows.iter().filter_map(|row| row.2).collect());
    let sparse = (present.len() < rows.len()).then_some(present);
    let field = FieldColumn { column: LOAD, rows: sparse, values };
    let rows = TableRows {
        table: TABLE,
        series: rows.iter().map(|row| row.0).collect(),
        times: rows.iter().map(|row| row.1).collect(),
        fields: if field.values.is_empty() { Vec::new() } else { vec![field] },
    };
    let mut merges = Merges::default();
    set.append(sequence, &table(), rows, &mut merges);
    merges.finish();
}

/// What a delete names.
#[derive(Clone, Debug)]
enum Named {
    Host(u32),
    /// All but one, which are several.
    Others(u32),
    Before(i64),
    HostFrom(u32, i64),
    Above(i64),
    HostsAbove(Vec<u32>, i64),
    Keys(Vec<(u32, i64)>),
}

impl Named {
    fn takes(&self, (host, time, load): Row) -> bool {
        match self {
            Self::Host(named) => host == *named,
            Self::Others(named) => host != *named,
            Self::Before(end) => time < *end,
            Self::HostFrom(named, from) => host == *named && *from <= time,
            Self::Above(most) => load.is_some_and(|load| *most < load),
            Self::HostsAbove(named, most) => named.contains(&host) && load.is_some_and(|load| *most < load),
            Self::Keys(named) => named.contains(&(host, time)),
        }
    }

    fn erase(&self) -> Erase {
        let compare = |column, op, value| Predicate::Compare { column, op, value };
        let text = |host: &u32| Literal::String(format!("h{host}"));
        let above = |most: &i64| compare(LOAD, Comparison::Greater, Literal::I64(*most));
        Erase::Where(match self {
            Self::Host(named) => compare(HOST, Comparison::Equal, text(named)),
            Self::Others(named) => compare(HOST, Comparison::NotEqual, text(named)),
            Self::Before(end) => compare(ColumnId::TIME, Comparison::Less, Literal::I64(*end)),
            Self::HostFrom(named, from) => Predicate::All(vec![
                compare(HOST, Comparison::Equal, text(named)),
                compare(ColumnId::TIME, Comparison::GreaterOrEqual, Literal::I64(*from)),
            ]),
            Self::Above(most) => above(most),
            Self::HostsAbove(named, most) => {
                let values = ValueSet::new(named.iter().map(text).collect());
                Predicate::All(vec![Predicate::In { column: HOST, values }, above(most)])
            }
            Self::Keys(named) => {
                let mut keys = KeyList::default();
                named.iter().for_each(|(host, time)| keys.push(&key(*host), *time).unwrap());
                return Erase::Keys(keys.finish());
            }
        })
    }

    fn tombstone(&self, sequence: u64, memory: &Arc<Accountant>) -> Arc<Tombstone> {
        let (erase, statement) = (Arc::new(self.erase()), String::new());
        let tags = match self {
            Self::Before(_) | Self::Above(_) | Self::Keys(_) => Vec::new(),
            _ => vec![HOST],
        };
        Arc::new(Tombstone::new(sequence, Delete { table: TABLE, at_ns: 0, erase, tags, statement }, memory))
    }
}

/// The facts of a table so far.
struct Facts {
    set: MemSet,
    memory: Arc<Accountant>,
    rows: Vec<(u64, Row)>,
    deletes: Vec<(u64, Named)>,
    tombstones: Vec<Arc<Tombstone>>,
}

impl Facts {
    fn new(memory: Arc<Accountant>) -> Self {
        Self::of(memory, HOSTS)
    }

    fn of(memory: Arc<Accountant>, hosts: u32) -> Self {
        let (rows, deletes, tombstones) = (Vec::new(), Vec::new(), Vec::new());
        Self { set: empty(&memory, hosts), memory, rows, deletes, tombstones }
    }

    fn delete(&mut self, sequence: u64, named: Named) {
        self.tombstones.push(named.tombstone(sequence, &self.memory));
        self.deletes.push((sequence, named));
    }

    fn append(&mut self, sequence: u64, rows: &[Row]) {
        append(&self.set, sequence, rows);
        self.rows.extend(rows.iter().map(|row| (sequence, *row)));
    }

    fn seen<A: Asker>(&self, sequence: u64, asker: &A) -> Result<Vec<Seen>, A::Refusal> {
        let Some(memtable) = self.set.table(TABLE) else { return Ok(Vec::new()) };
        let Some(partition) = memtable.partition(0) else { return Ok(Vec::new()) };
        let upto = self.tombstones.partition_point(|tombstone| tombstone.sequence <= sequence);
        living(partition.visible(sequence), &memtable.series, &self.tombstones[..upto], asker)
    }

    /// By the list.
    fn want(&self, sequence: u64) -> Vec<Row> {
        let is_gone = |came: u64, row: Row| {
            self.deletes.iter().any(|(at, named)| came < *at && *at <= sequence && named.takes(row))
        };
        let seen = self.rows.iter().filter(|(came, row)| *came <= sequence && !is_gone(*came, *row));
        seen.map(|(_, row)| *row).collect()
    }
}

fn rows_of(seen: &[Seen]) -> Vec<Row> {
    let mut rows = Vec::new();
    for seen in seen {
        let chunk = &seen.chunk;
        let field = chunk.fields.iter().find(|field| field.column == LOAD);
        let load = |row: u32| match field.map(|field| (&field.values, field.position(row))) {
            Some((Values::I64(values), Some(at))) => Some(values[at]),
            _ => None,
        };
        let living: Vec<u32> = (0..chunk.times.len() as u32).filter(|row| seen.has(*row)).collect();
        assert_eq!(living.len() as u32, seen.rows(), "they are counted as they are");
        let of_row = |row: &u32| (chunk.series[*row as usize], chunk.times[*row as usize], load(*row));
        rows.extend(living.iter().map(of_row));
        for host in 0..HOSTS {
            let whole = seen.run(host).is_some_and(|(_, _, whole)| whole);
            let all = seen.run(host).is_some_and(|(_, rows, _)| rows.iter().all(|row| seen.has(*row)));
            assert!(!whole || all, "a run that is whole has all its rows");
        }
    }
    rows
}

#[derive(Clone, Debug)]
enum Step {
    Rows(Vec<Row>),
    Delete(Named),
    /// A snapshot of so many 16ths of what is there.
    Look(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let row = || (0..HOSTS, 0..40_i64, prop::option::weighted(0.7, 0..100_i64));
    let named = prop_oneof![
        (0..HOSTS).prop_map(Named::Host),
        (0..HOSTS).prop_map(Named::Others),
        (0..12_i64).prop_map(Named::Before),
        (0..HOSTS, 0..40_i64).prop_map(|(host, from)| Named::HostFrom(host, from)),
        (60..100_i64).prop_map(Named::Above),
        (prop::collection::vec(0..HOSTS, 1..4), 0..100_i64).prop_map(|(hosts, most)| Named::HostsAbove(hosts, most)),
        prop::collection::vec((0..HOSTS, 0..40_i64), 1..6).prop_map(Named::Keys),
    ];
    prop_oneof![
        5 => prop::collection::vec(row(), 1..12).prop_map(Step::Rows),
        2 => named.prop_map(Step::Delete),
        3 => (0..=16_u64).prop_map(Step::Look),
    ]
}

proptest! {
    #[test]
    fn each_snapshot_sees_what_deletes_up_to_it_left(steps in prop::collection::vec(step(), 1..60)) {
        let mut facts = Facts::new(Accountant::unlimited());
        let (mut sequence, mut held) = (0, Vec::new());
        for step in steps {
            match step {
                Step::Rows(rows) => {
                    sequence += 1;
                    facts.append(sequence, &rows);
                }
                Step::Delete(named) => {
                    sequence += 1;
                    facts.delete(sequence, named);
                }
                Step::Look(part) => {
                    let at = sequence * part / 16;
                    let seen = facts.seen(at, &OfScan).unwrap();
                    prop_assert_eq!(rows_of(&seen), facts.want(at), "at {}", at);
                    held.push((seen, facts.want(at)));
                }
            }
        }
        for at in (0..=sequence).rev() {
            let Ok(seen) = facts.seen(at, &OfCut);
            prop_assert_eq!(rows_of(&seen), facts.want(at), "at {}, when all is there", at);
        }
        for (seen, want) in &held {
            prop_assert_eq!(&rows_of(seen), want, "who holds it goes on seeing it");
        }
        drop((held, facts.tombstones));
        let memory = facts.memory;
        drop(facts.set);
        prop_assert_eq!(memory.total(), 0);
    }
}

/// 60,000 rows in one chunk, and a delete of one of them.
fn one_of_many(memory: &Arc<Accountant>) -> Facts {
    let mut facts = Facts::new(Arc::clone(memory));
    let rows: Vec<Row> = (0..60_000).map(|row| (row as u32 % HOSTS, row, Some(row))).collect();
    facts.append(1, &rows);
    facts.delete(2, Named::Keys(vec![(3, 11)]));
    facts
}

#[test]
fn readers_share_what_is_known_and_nobody_copies_rows() {
    let memory = Accountant::unlimited();
    let facts = one_of_many(&memory);
    let chunk = |seen: &[Seen]| Arc::clone(&seen[0].chunk);
    let before = facts.seen(1, &OfScan).unwrap();
    assert_eq!((before[0].rows(), memory.used(MemoryUse::Scans)), (60_000, 0), "nobody has to know yet");
    let first = facts.seen(2, &OfScan).unwrap();
    let held = memory.used(MemoryUse::Scans);
    assert_eq!((first[0].rows(), first[0].has(11)), (59_999, false));
    assert!(Arc::ptr_eq(&chunk(&before), &chunk(&first)), "the rows stay where they are");
    assert!(held < 60_000 / 8 + 1000, "{held} bytes");
    let readers: Vec<Vec<Seen>> = (0..10).map(|_| facts.seen(2, &OfScan).unwrap()).collect();
    assert_eq!(memory.used(MemoryUse::Scans), held);
    let same = |seen: &Vec<Seen>| Arc::ptr_eq(seen[0].gone.as_ref().unwrap(), first[0].gone.as_ref().unwrap());
    assert!(readers.iter().all(same));
}

#[test]
fn who_finds_no_room_is_refused_but_for_cuts() {
    let memory = Accountant::new(MemoryShares { limit_bytes: 16_000, bodies_bytes: 0, statements_bytes: 0 });
    let facts = one_of_many(&memory);
    let refused = facts.seen(2, &OfScan).unwrap_err();
    assert!(matches!(refused, Error::TooLarge { what: "list of deleted rows of a scan", .. }), "{refused:?}");
    assert_eq!(memory.used(MemoryUse::Scans), 0, "what it was refused it does not hold");
    let Ok(cut) = facts.seen(2, &OfCut);
    assert_eq!(cut[0].rows(), 59_999);
    // By now it is known.
    assert_eq!(facts.seen(2, &OfScan).unwrap()[0].rows(), 59_999);
}

/// Chunks of which all is gone are left out.
#[test]
fn a_chunk_without_a_row_is_not_there() {
    let mut facts = Facts::new(Accountant::unlimited());
    facts.append(1, &[(0, 5, Some(1)), (1, 6, None)]);
    facts.delete(2, Named::Before(7));
    facts.append(3, &[(0, 5, Some(2))]);
    let count = |sequence| facts.seen(sequence, &OfScan).unwrap().len();
    assert_eq!((count(1), count(2), count(3)), (1, 0, 1));
    let chunks: Vec<Arc<Chunk>> = facts.seen(3, &OfScan).unwrap().into_iter().map(|seen| seen.chunk).collect();
    assert_eq!(chunks[0].times, [5]);
}

/// However many chunks there are, and whoever reads them.
#[test]
fn a_delete_of_many_series_judges_each_once() {
    const SERIES: u32 = 20_000;
    let mut facts = Facts::of(Accountant::unlimited(), SERIES);
    let rows = |count: u32| (0..count).map(|row| (row, 5, Some(i64::from(row)))).collect::<Vec<Row>>();
    facts.append(1, &rows(SERIES));
    facts.append(2, &rows(1000));
    facts.delete(3, Named::HostsAbove((0..SERIES).step_by(4).collect(), 11));
    facts.append(4, &rows(50));
    facts.delete(5, Named::Others(8));
    let before = JUDGED.get();
    let seen = facts.seen(5, &OfScan).unwrap();
    assert_eq!(rows_of(&seen), facts.want(5));
    assert_eq!(rows_of(&seen), [(8, 5, Some(8)); 3]);
    let chunks = facts.seen(4, &OfScan).unwrap();
    assert_eq!((chunks.len(), rows_of(&chunks)), (3, facts.want(4)));
    assert_eq!(JUDGED.get() - before, 2 * SERIES as usize);
}

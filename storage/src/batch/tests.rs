//! The payload of the log: pinned, read back as it was written, and garbage in its place.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::catalog::{Database, default_widths};
use crate::schema::{Column, ColumnKind, DatabaseId, TableMode};
use crate::values::Strings;

fn encoded(batch: &Batch) -> Vec<u8> {
    batch.encode(&mut EncodeScratch::default())
}

fn defined(table: u32, keys: impl IntoIterator<Item = (u32, Vec<u8>)>) -> SeriesDefinitions {
    let mut definitions = SeriesDefinitions::new(TableId(table));
    keys.into_iter().for_each(|(ordinal, key)| definitions.push(ordinal, &key));
    definitions
}

/// What the first body into a fresh store becomes: a database, a table, its columns, two series, three rows.
fn sample() -> Batch {
    let column = |id, name: &str, kind| Fact::Column {
        table: TableId(3),
        column: Column { id: ColumnId(id), name: name.to_owned(), kind },
    };
    let mut host_a = Vec::new();
    crate::series::encode_key([(ColumnId(16), b"a".as_slice())], &mut host_a);
    Batch {
        generation: 0x0000_0002_0000_0001,
        facts: vec![
            Fact::Database(Database { id: DatabaseId(0), name: "main".to_owned() }),
            Fact::Table {
                id: TableId(3),
                database: DatabaseId(0),
                name: "cpu".to_owned(),
                mode: TableMode::Upsert,
                widths: default_widths(),
            },
            column(16, "host", ColumnKind::Tag),
            column(17, "load", ColumnKind::Field(FieldType::F64)),
        ],
        series: vec![defined(3, [(0, host_a), (1, Vec::new())])],
        tables: vec![TableRows {
            table: TableId(3),
            series: vec![0, 1, 0],
            times: vec![1_000, 2_000, 3_000],
            fields: vec![
                FieldColumn { column: ColumnId(17), rows: None, values: Values::F64(vec![0.5, 1.0, -2.25]) },
                FieldColumn { column: ColumnId(18), rows: Some(vec![1]), values: Values::Bool(vec![true]) },
            ],
        }],
        delete: None,
    }
}

#[test]
fn a_delete_is_alone_in_a_batch_of_its_kind() {
    let erase = crate::tombstone::Erase::Where(crate::tombstone::Predicate::Constant(Some(true)));
    let delete = Delete {
        table: TableId(3),
        at_ns: 9,
        erase: std::sync::Arc::new(erase),
        tags: Vec::new(),
        statement: "all".to_owned(),
    };
    let delete = Box::new(delete);
    let encoded = |batch: &Batch| batch.encode(&mut EncodeScratch::default());
    let alone = Batch { tables: Vec::new(), series: Vec::new(), delete: Some(delete.clone()), ..sample() };
    assert_eq!(Batch::read(BatchKind::Delete, &encoded(&alone)), Ok(alone.clone()));
    let refused = |kind, batch: &Batch| Batch::read(kind, &encoded(batch)).unwrap_err();
    assert!(refused(BatchKind::Rows, &alone).contains("another kind"));
    assert!(refused(BatchKind::Delete, &sample()).contains("no delete"));
    assert!(refused(BatchKind::Delete, &Batch { delete: Some(delete), ..sample() }).contains("holds rows"));
    let mut twice = encoded(&alone);
    let section = encoded(&Batch { generation: 0, facts: Vec::new(), ..alone });
    twice.extend_from_slice(&section[8..]);
    assert!(Batch::read(BatchKind::Delete, &twice).unwrap_err().contains("two deletes"));
}

/// Format 1 is on users' disks. If this fails, add a format; leave these bytes alone.
#[test]
fn format_1_bytes_are_pinned() {
    let mut want = vec![1, 0, 0, 0, 2, 0, 0, 0]; // generation
    let mut facts = Vec::new();
    for fact in sample().facts {
        fact.encode(&mut facts);
    }
    want.extend_from_slice(&[1, 102, 0, 0, 0]); // facts, whose bytes `catalog` pins
    want.extend_from_slice(&facts);
    want.extend_from_slice(&[
        2, 26, 0, 0, 0, // series
        3, 0, 0, 0, // table
        2, 0, 0, 0, // count
        2, 0, 2, 0, 2, // ordinals 0, 1: VARINT, 2 bytes
        2, 0, 2, 14, 13, // lengths 7, 0
        0,  // not compressed
        0xff, 0xff, 0xff, 0xef, b'a', 0, 0, // !16, "a", end
    ]);
    want.extend_from_slice(&[
        3, 57, 0, 0, 0, // rows
        3, 0, 0, 0, // table
        3, 0, 0, 0, // count
        2, 0, 3, 0, 2, 1, // ordinals 0, 1, 0
        2, 0, 6, 0xd0, 0x0f, 0xd0, 0x0f, 0xd0, 0x0f, // times 1000, 2000, 3000
        2, 0, 0, 0, // fields
        17, 0, 0, 0, 3, 0, // column, f64, dense
        20, 2, 4, 100, 100, 0x89, 0x05, // 50, 100, -225 hundredths: DECIMAL_VARINT, 4 bytes
        18, 0, 0, 0, 4, 1, // column, bool, sparse
        1, 0, 0, 0, 2, 0, 1, 2, // one row, number 1
        50, 2, 0, // BITMAP, all true
    ]);
    assert_eq!(encoded(&sample()), want);
    assert_eq!(Batch::decode(&want), Ok(sample()));
}

/// What is reserved has no meaning yet, and is refused rather than skipped.
#[test]
fn unknown_sections_and_forms_are_refused() {
    let generation = 7_u64.to_le_bytes();
    assert_eq!(Batch::decode(&generation).unwrap(), Batch { generation: 7, ..Batch::default() });
    assert!(Batch::decode(&generation[..7]).is_err());
    for kind in (0..=u8::MAX).filter(|kind| !(1..=3).contains(kind)) {
        assert!(Batch::decode(&[&generation[..], &[kind, 0, 0, 0, 0]].concat()).is_err(), "section {kind}");
    }
    for kind in [BatchKind::Delete, BatchKind::Floor, BatchKind::Carry, BatchKind::Barrier] {
        assert!(Batch::read(kind, &encoded(&sample())).is_err(), "{kind:?} has no layout yet");
    }
    assert_eq!(Batch::read(BatchKind::Catalog, &encoded(&sample())), Ok(sample()));
    let series = |form: u8, ordinals: &[u32]| {
        let mut body = vec![3, 0, 0, 0];
        body.extend_from_slice(&(ordinals.len() as u32).to_le_bytes());
        codec::encode_u32s(ordinals, &mut EncodeScratch::default(), &mut body);
        codec::encode_u32s(&vec![0; ordinals.len()], &mut EncodeScratch::default(), &mut body);
        body.push(form);
        SeriesDefinitions::decode(&body)
    };
    assert!(series(0, &[0, 5]).is_ok());
    assert!(series(2, &[0, 5]).is_err(), "an unknown form");
    assert!(series(0, &[5, 5]).is_err(), "an ordinal twice");
    assert!(series(0, &[5, 0]).is_err(), "ordinals out of order");
    assert!(series(0, &[ORDINALS_MAX - 1]).is_ok());
    assert!(series(0, &[ORDINALS_MAX]).is_err(), "an ordinal that would need gigabytes");
}

/// A length is only a claim until the bytes behind it are there.
#[test]
fn claimed_counts_are_bounded() {
    let check = |body: &[u8]| assert!(TableRows::decode(body).is_err() && SeriesDefinitions::decode(body).is_err());
    check(&[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    check(&[0, 0, 0, 0, 0, 0, 0x40, 0]); // as many as are allowed, and no byte of them
    // A frame that claims more than a section may hold.
    let mut body = vec![3, 0, 0, 0, 0, 0, 0, 0, 1];
    body.extend_from_slice(&((SERIES_BYTES_MAX + 1) as u32).to_le_bytes());
    assert!(SeriesDefinitions::decode(&body).is_err());
}

#[test]
fn long_keys_are_compressed_and_come_back() {
    let key = |at: u32| format!("host=server-{at:08}").into_bytes();
    let keys = (0..1000_u32).map(|at| (at * 2, key(at)));
    let raw: usize = keys.clone().map(|(_, key)| key.len()).sum();
    let batch = Batch { series: vec![defined(1, keys)], ..Batch::default() };
    let bytes = encoded(&batch);
    assert!(bytes.len() * 2 < raw, "{} bytes for {raw}", bytes.len());
    assert_eq!(Batch::decode(&bytes).unwrap(), batch);
}

#[test]
fn picked_rows_keep_their_values() {
    let rows = sample().tables.remove(0);
    let picked = rows.pick(&[1, 2]);
    assert_eq!(picked.series, [1, 0]);
    assert_eq!(picked.times, [2_000, 3_000]);
    assert_eq!(picked.fields[0].values, Values::F64(vec![1.0, -2.25]));
    assert_eq!(picked.fields[1].rows, Some(vec![0]));
    // Present in each row that is left: dense again. In none: no column.
    assert_eq!(rows.pick(&[1]).fields[1].rows, None);
    assert_eq!(rows.pick(&[0, 2]).fields.len(), 1);
    assert_eq!(rows.pick(&[]).fields.len(), 0);
}

#[test]
fn every_cut_and_changed_bit_is_an_error_or_a_batch() {
    let bytes = encoded(&sample());
    for length in 0..bytes.len() {
        let _ = Batch::decode(&bytes[..length]);
    }
    assert!(Batch::decode(&bytes[..bytes.len() - 1]).is_err());
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            let _ = Batch::decode(&changed);
        }
    }
}

fn values(kind: FieldType, count: usize) -> BoxedStrategy<Values> {
    match kind {
        FieldType::I64 => vec(any::<i64>(), count).prop_map(Values::I64).boxed(),
        FieldType::U64 => vec(any::<u64>(), count).prop_map(Values::U64).boxed(),
        FieldType::F64 => {
            vec(proptest::num::f64::NORMAL | proptest::num::f64::ZERO, count).prop_map(Values::F64).boxed()
        }
        FieldType::Bool => vec(any::<bool>(), count).prop_map(Values::Bool).boxed(),
        FieldType::String => vec(".{0,12}", count)
            .prop_map(|texts| {
                let mut strings = Strings::default();
                texts.iter().for_each(|text| strings.push(text));
                Values::String(strings)
            })
            .boxed(),
    }
}

fn field(rows: usize) -> impl Strategy<Value = FieldColumn<ColumnId>> {
    let kinds = [FieldType::I64, FieldType::U64, FieldType::F64, FieldType::Bool, FieldType::String];
    (16..40_u32, proptest::sample::select(kinds.to_vec()), proptest::option::of(vec(any::<bool>(), rows)))
        .prop_flat_map(move |(column, kind, present)| {
            let list: Option<Vec<u32>> =
                present.map(|present| (0..rows as u32).filter(|row| present[*row as usize]).collect());
            let count = list.as_ref().map_or(rows, Vec::len);
            values(kind, count).prop_map(move |values| FieldColumn {
                column: ColumnId(column),
                rows: list.clone(),
                values,
            })
        })
}

fn table_rows() -> impl Strategy<Value = TableRows> {
    // Past 256 values columns take another form.
    (prop_oneof![0..20_usize, 250..260_usize], 0..100_u32).prop_flat_map(|(rows, table)| {
        (vec(0..1000_u32, rows), vec(any::<i64>(), rows), vec(field(rows), 0..4))
            .prop_map(move |(series, times, fields)| TableRows { table: TableId(table), series, times, fields })
    })
}

fn definitions() -> impl Strategy<Value = SeriesDefinitions> {
    (any::<u32>(), proptest::collection::btree_map(0..ORDINALS_MAX, vec(any::<u8>(), 0..60), 0..20))
        .prop_map(|(table, keys)| defined(table, keys))
}

fn batches() -> impl Strategy<Value = Batch> {
    let facts = proptest::sample::subsequence(sample().facts, 0..=4);
    (any::<u64>(), facts, vec(definitions(), 0..3), vec(table_rows(), 0..3))
        .prop_map(|(generation, facts, series, tables)| Batch { generation, facts, series, tables, delete: None })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn decode_undoes_encode(batch in batches()) {
        prop_assert_eq!(Batch::decode(&encoded(&batch)), Ok(batch));
    }

    #[test]
    fn garbage_is_refused_or_read_but_never_panics(
        batch in batches(),
        changes in vec((any::<proptest::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<proptest::sample::Index>(),
    ) {
        let mut bytes = encoded(&batch);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = Batch::decode(&bytes);
        bytes.truncate(cut.index(bytes.len()));
        let _ = Batch::decode(&bytes);
    }

    #[test]
    fn any_bytes_are_refused_or_read(bytes in vec(any::<u8>(), 0..200)) {
        let _ = Batch::decode(&bytes);
    }
}

//! A catalog is the fold of its facts, and its bytes are pinned.

use super::*;
use crate::schema::FieldType;
use crate::token::{Digest, Grant, Rights, Verifier};

fn sample() -> Vec<Fact> {
    vec![
        Fact::Database(Database { id: DatabaseId(0), name: "main".to_owned() }),
        Fact::Table {
            id: TableId(3),
            database: DatabaseId(0),
            name: "cpu".to_owned(),
            mode: TableMode::Upsert,
            widths: default_widths(),
        },
        Fact::Column {
            table: TableId(3),
            column: Column { id: ColumnId(16), name: "host".to_owned(), kind: ColumnKind::Tag },
        },
        Fact::Column {
            table: TableId(3),
            column: Column { id: ColumnId(17), name: "load".to_owned(), kind: ColumnKind::Field(FieldType::F64) },
        },
    ]
}

fn fold(facts: &[Fact]) -> Catalog {
    let mut catalog = Catalog::default();
    for fact in facts {
        catalog.apply(fact).unwrap();
    }
    catalog
}

#[test]
fn a_catalog_is_the_fold_of_its_own_facts() {
    let catalog = fold(&sample());
    assert_eq!(Catalog::decode(&catalog.encode()).unwrap(), catalog);
    assert_eq!(fold(&[sample(), sample()].concat()), catalog); // definitions may repeat
    let table = catalog.table(DatabaseId(0), "cpu").unwrap();
    assert_eq!(table.columns.len(), 3);
    assert_eq!(table.column("load").unwrap().id, ColumnId(17));
}

#[test]
fn ids_are_never_given_twice() {
    let mut catalog = fold(&sample());
    catalog.apply(&Fact::DropTable(TableId(3))).unwrap();
    assert!(catalog.table(DatabaseId(0), "cpu").is_none());
    let again = Catalog::decode(&catalog.encode()).unwrap();
    assert_eq!(again.next_table(), TableId(4));
    catalog.apply(&Fact::DropDatabase(DatabaseId(0))).unwrap();
    assert_eq!(Catalog::decode(&catalog.encode()).unwrap().next_database(), DatabaseId(1));
}

#[test]
fn facts_that_contradict_are_refused() {
    let mut catalog = fold(&sample());
    let other = Fact::Column {
        table: TableId(3),
        column: Column { id: ColumnId(17), name: "load".to_owned(), kind: ColumnKind::Field(FieldType::I64) },
    };
    assert!(catalog.apply(&other).is_err());
    let other = Fact::Database(Database { id: DatabaseId(7), name: "main".to_owned() });
    assert!(catalog.apply(&other).is_err());
    let renamed = |id, name: &str| Fact::ColumnRenamed { table: TABLE, column: ColumnId(id), name: name.to_owned() };
    assert!(catalog.apply(&renamed(16, "load")).is_err(), "the name of another column");
    assert!(catalog.apply(&renamed(21, "new")).is_err(), "a column that is not there");
    assert!(catalog.apply(&Fact::ColumnWidened { table: TABLE, column: ColumnId(16) }).is_err(), "a tag");
    assert!(catalog.apply(&Fact::ColumnHidden { table: TABLE, column: ColumnId(21) }).is_err());
    assert!(catalog.apply(&Fact::ColumnHidden { table: TableId(9), column: ColumnId(16) }).is_err());
}

const TABLE: TableId = TableId(3);

/// The sample after each kind of change: `host` hidden and given anew, `load` renamed, a counter widened.
fn altered() -> Vec<Fact> {
    let column = |id, name: &str, kind| {
        let column = Column { id: ColumnId(id), name: name.to_owned(), kind };
        Fact::Column { table: TABLE, column }
    };
    let renamed = |id, name: &str| Fact::ColumnRenamed { table: TABLE, column: ColumnId(id), name: name.to_owned() };
    let hidden = |id| Fact::ColumnHidden { table: TABLE, column: ColumnId(id) };
    let width = |from, width| Fact::WidthChanged { table: TABLE, width: PartitionWidth { from, width } };
    let mut facts = sample();
    facts.extend([
        column(18, "count", ColumnKind::Field(FieldType::I64)),
        hidden(16),
        column(19, "host", ColumnKind::Tag),
        renamed(17, "height"),
        Fact::ColumnWidened { table: TABLE, column: ColumnId(18) },
        hidden(19),
        column(20, "host", ColumnKind::Field(FieldType::Bool)),
        width(DAY_NS * 7, DAY_NS * 7),
        width(DAY_NS * 14, DAY_NS),
    ]);
    facts
}

#[test]
fn a_catalog_keeps_what_was_changed() {
    let catalog = fold(&altered());
    assert_eq!(Catalog::decode(&catalog.encode()).unwrap(), catalog);
    assert_eq!(fold(&[altered(), catalog.facts()].concat()), catalog, "definitions may repeat");
    let table = catalog.table_by_id(TABLE).unwrap();
    let names: Vec<_> = table.columns.iter().map(|column| (column.id.0, column.name.as_str())).collect();
    assert_eq!(names, [(0, "time"), (17, "height"), (18, "count"), (20, "host")]);
    assert_eq!(table.hidden.iter().map(|column| column.id.0).collect::<Vec<_>>(), [16, 19], "in the order they went");
    assert_eq!(table.column("count").unwrap().kind, ColumnKind::Field(FieldType::F64));
    assert_eq!(table.next_column(), ColumnId(21));
    let (week, day) = (DAY_NS * 7, DAY_NS);
    let widths: Vec<_> = table.widths.iter().map(|width| (width.from, width.width)).collect();
    assert_eq!(widths, [(i64::MIN, day), (week, week), (day * 14, day)]);
    let mut hidden_last = catalog.clone();
    hidden_last.apply(&Fact::ColumnHidden { table: TABLE, column: ColumnId(20) }).unwrap();
    let again = Catalog::decode(&hidden_last.encode()).unwrap();
    assert_eq!(again.table_by_id(TABLE).unwrap().next_column(), ColumnId(21), "a hidden id stays used");
}

#[test]
fn a_width_that_no_row_has_used_gives_way() {
    let mut catalog = fold(&altered());
    let mut set = |from: i64, width: i64| {
        catalog.apply(&Fact::WidthChanged { table: TABLE, width: PartitionWidth { from, width } }).unwrap();
        catalog.table_by_id(TABLE).unwrap().widths.iter().map(|width| width.from).collect::<Vec<_>>()
    };
    assert_eq!(set(DAY_NS * 14, DAY_NS * 7), [i64::MIN, DAY_NS * 7], "as it is already from there on");
    assert_eq!(set(DAY_NS * 8, DAY_NS * 2), [i64::MIN, DAY_NS * 7, DAY_NS * 8]);
}

#[test]
fn partitions_end_where_the_next_one_starts() {
    let catalog = fold(&altered());
    let table = catalog.table_by_id(TABLE).unwrap();
    let first = table.partition_end(i64::MIN);
    assert_eq!((table.partition_of(first - 1), table.partition_of(first)), (i64::MIN, first));
    for time in [-1, 0, 1, DAY_NS - 1, DAY_NS, DAY_NS * 3, DAY_NS * 7, DAY_NS * 13, DAY_NS * 14, DAY_NS * 30 + 5] {
        let start = table.partition_of(time);
        let end = table.partition_end(start);
        assert!((start..end).contains(&time), "{time} in {start}..{end}");
        assert_eq!((table.partition_of(end - 1), table.partition_of(end)), (start, end), "around {time}");
    }
}

fn token(id: u32, name: &str) -> Fact {
    let token = Token {
        id: TokenId(id),
        name: name.to_owned(),
        digest: Digest([1; 32]),
        verifier: Verifier { salt: [2; 16], iterations: 0x1000, stored_key: [3; 32], server_key: [4; 32] },
        grants: vec![
            Grant { database: None, rights: Rights::READ },
            Grant { database: Some("db".to_owned()), rights: Rights::WRITE | Rights::ADMIN },
        ],
        created_ns: 0x05,
        expires_ns: (id == 8).then_some(0x06),
    };
    Fact::Token(Arc::new(token))
}

#[test]
fn a_catalog_keeps_its_tokens_and_their_ids() {
    let mut catalog = fold(&[sample(), vec![token(7, "a"), token(8, "b")]].concat());
    assert_eq!(Catalog::decode(&catalog.encode()).unwrap(), catalog);
    assert_eq!(fold(&[catalog.facts(), catalog.facts()].concat()), catalog, "definitions may repeat");
    assert!(catalog.apply(&token(7, "other")).is_err(), "one id, two tokens");
    catalog.apply(&Fact::TokenRevoked(TokenId(8))).unwrap();
    let again = Catalog::decode(&catalog.encode()).unwrap();
    assert_eq!(again.tokens().map(|token| token.id.0).collect::<Vec<_>>(), [7]);
    assert_eq!(again.next_token(), TokenId(9));
    let shown = format!("{:?}", again.token(TokenId(7)).unwrap());
    assert!(!shown.contains("[1, 1") && !shown.contains("[3, 3") && !shown.contains("[4, 4"), "{shown}");
}

/// As below: these kinds came with 0.2.0 too. A store that never had a token has none of them.
#[test]
fn bytes_of_tokens_are_pinned() {
    let mut out = Vec::new();
    token(8, "me").encode(&mut out);
    Fact::TokenRevoked(TokenId(8)).encode(&mut out);
    Fact::NextToken(9).encode(&mut out);
    let mut want = vec![11, 156, 0, 0, 0, 8, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0];
    want.extend_from_slice(&[2, 0, 0, 0, b'm', b'e']);
    want.extend_from_slice(&[1; 32]);
    want.extend_from_slice(&[0, 16, 0, 0]);
    want.extend_from_slice(&[2; 16]);
    want.extend_from_slice(&[3; 32]);
    want.extend_from_slice(&[4; 32]);
    want.extend_from_slice(&[2, 0, 0, 0, 1, 0, 10, 1, 2, 0, 0, 0, b'd', b'b']);
    want.extend_from_slice(&[12, 4, 0, 0, 0, 8, 0, 0, 0, 13, 4, 0, 0, 0, 9, 0, 0, 0]);
    assert_eq!(out, want);
    let mut out = Vec::new();
    token(7, "x").encode(&mut out);
    assert_eq!(out[17..25], i64::MAX.to_le_bytes(), "no end");
    assert!(fold(&sample()).facts().iter().all(|fact| !matches!(fact, Fact::NextToken(_))));
}

fn view(id: u32, name: &str, sql: &str) -> Fact {
    let columns = vec![("a".to_owned(), "int8".to_owned())];
    let view = View { id: TableId(id), database: DatabaseId(0), name: name.to_owned(), sql: sql.to_owned(), columns };
    Fact::View(Arc::new(view))
}

#[test]
fn a_view_is_replaced_renamed_and_dropped_by_its_id() {
    let mut catalog = fold(&[sample(), vec![view(4, "v", "SELECT 1"), view(5, "w", "SELECT 2")]].concat());
    assert_eq!(Catalog::decode(&catalog.encode()).unwrap(), catalog);
    assert_eq!(fold(&[catalog.facts(), catalog.facts()].concat()), catalog, "definitions may repeat");
    assert_eq!(catalog.tables(DatabaseId(0)).count(), 1);
    let names = |catalog: &Catalog| -> Vec<(String, String)> {
        catalog.views(DatabaseId(0)).map(|view| (view.name.clone(), view.sql.clone())).collect()
    };
    let of = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(name, sql)| ((*name).to_owned(), (*sql).to_owned())).collect()
    };
    assert_eq!(names(&catalog), of(&[("v", "SELECT 1"), ("w", "SELECT 2")]));
    catalog.apply(&view(4, "x", "SELECT 3")).unwrap();
    assert_eq!(names(&catalog), of(&[("w", "SELECT 2"), ("x", "SELECT 3")]));
    let before = catalog.clone();
    for (taken, why) in [("cpu", "a table"), ("w", "a view")] {
        assert!(catalog.apply(&view(4, taken, "SELECT 4")).is_err(), "{why}");
    }
    assert!(catalog.apply(&view(3, "y", "SELECT 4")).is_err(), "the id of a table");
    let table = |name: &str| Fact::Table {
        id: TableId(9),
        database: DatabaseId(0),
        name: name.to_owned(),
        mode: TableMode::Upsert,
        widths: default_widths(),
    };
    assert!(catalog.apply(&table("x")).is_err(), "the name of a view");
    assert_eq!((names(&catalog), catalog.view(DatabaseId(0), "x")), (names(&before), before.view(DatabaseId(0), "x")));
    catalog.apply(&Fact::ViewDropped(TableId(4))).unwrap();
    assert_eq!(names(&catalog), of(&[("w", "SELECT 2")]));
    let again = Catalog::decode(&catalog.encode()).unwrap();
    assert_eq!(again.next_table(), catalog.next_table(), "ids are not given again");
    catalog.apply(&Fact::DropDatabase(DatabaseId(0))).unwrap();
    assert_eq!(catalog.all_views().count(), 0);
}

#[test]
fn any_cut_or_changed_byte_is_an_error_or_a_catalog() {
    let facts =
        [altered(), vec![view(4, "v", "SELECT 1"), Fact::ViewDropped(TableId(5)), token(1, "a"), token(2, "b")]]
            .concat();
    let mut bytes = fold(&facts).encode();
    facts.iter().for_each(|fact| fact.encode(&mut bytes));
    for length in 0..bytes.len() {
        let _ = Catalog::decode(&bytes[..length]);
    }
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            let _ = Catalog::decode(&changed);
        }
    }
    assert!(Catalog::decode(&bytes[..bytes.len() - 1]).is_err());
}

/// Format 1 is on users' disks. If this fails, add a format; leave these bytes alone.
#[test]
fn format_1_bytes_are_pinned() {
    let mut out = Vec::new();
    for fact in sample() {
        fact.encode(&mut out);
    }
    let mut want = vec![1, 12, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0];
    want.extend_from_slice(b"main");
    want.extend_from_slice(&[3, 36, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0]);
    want.extend_from_slice(b"cpu");
    want.extend_from_slice(&[1, 0, 0, 0]);
    want.extend_from_slice(&i64::MIN.to_le_bytes());
    want.extend_from_slice(&86_400_000_000_000_i64.to_le_bytes());
    want.extend_from_slice(&[4, 17, 0, 0, 0, 3, 0, 0, 0, 16, 0, 0, 0, 6, 4, 0, 0, 0]);
    want.extend_from_slice(b"host");
    want.extend_from_slice(&[4, 17, 0, 0, 0, 3, 0, 0, 0, 17, 0, 0, 0, 3, 4, 0, 0, 0]);
    want.extend_from_slice(b"load");
    assert_eq!(out, want);
}

/// As above: these kinds came with 0.2.0.
#[test]
fn bytes_of_changes_are_pinned() {
    let mut out = Vec::new();
    Fact::ColumnRenamed { table: TABLE, column: ColumnId(17), name: "up".to_owned() }.encode(&mut out);
    Fact::ColumnHidden { table: TABLE, column: ColumnId(16) }.encode(&mut out);
    Fact::ColumnWidened { table: TABLE, column: ColumnId(18) }.encode(&mut out);
    let width = PartitionWidth { from: 0x0608, width: 0x0304 };
    Fact::WidthChanged { table: TABLE, width }.encode(&mut out);
    let mut want = vec![7, 14, 0, 0, 0, 3, 0, 0, 0, 17, 0, 0, 0, 2, 0, 0, 0, b'u', b'p'];
    want.extend_from_slice(&[8, 8, 0, 0, 0, 3, 0, 0, 0, 16, 0, 0, 0]);
    want.extend_from_slice(&[9, 9, 0, 0, 0, 3, 0, 0, 0, 18, 0, 0, 0, 3]);
    want.extend_from_slice(&[10, 20, 0, 0, 0, 3, 0, 0, 0, 8, 6, 0, 0, 0, 0, 0, 0, 4, 3, 0, 0, 0, 0, 0, 0]);
    assert_eq!(out, want);
}

/// As above.
#[test]
fn bytes_of_views_are_pinned() {
    let mut out = Vec::new();
    view(4, "v", "TABLE t").encode(&mut out);
    Fact::ViewDropped(TableId(4)).encode(&mut out);
    let mut want = vec![14, 41, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, b'v', 7, 0, 0, 0];
    want.extend_from_slice(b"TABLE t");
    want.extend_from_slice(&[1, 0, 0, 0, 1, 0, 0, 0, b'a', 4, 0, 0, 0, b'i', b'n', b't', b'8']);
    want.extend_from_slice(&[15, 4, 0, 0, 0, 4, 0, 0, 0]);
    assert_eq!(out, want);
}

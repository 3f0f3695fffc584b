//! Names to ids: what is made, what is refused, what a batch must carry.

mod refused;

use super::*;
use crate::draft::DraftSeries;
use crate::schema::{ColumnId, FieldType, NAME_BYTES_MAX};
use crate::series;
use crate::time::TIME_MAX;
use crate::values::{FieldColumn, Values};

fn registry(limits: SchemaLimits) -> (Registry, Arc<Generation>) {
    let generation = Arc::new(Generation::new(1));
    (Registry::new(7, limits, Arc::default(), Arc::clone(&generation)), generation)
}

/// A row per entry of `rows`: (value of the tag `host`, time), all with `load` = 1.
fn draft(table: &str, rows: &[(&str, i64)]) -> Draft {
    let mut series = DraftSeries::default();
    for (host, _) in rows {
        series.push_tag(0, host.as_bytes());
        series.finish();
    }
    let values = Values::F64(vec![1.0; rows.len()]);
    Draft {
        tables: vec![DraftTable {
            name: table.to_owned(),
            mode: TableMode::Upsert,
            tags: vec!["host".to_owned()],
            series,
            row_series: (0..rows.len() as u32).collect(),
            times: rows.iter().map(|row| row.1).collect(),
            fields: vec![FieldColumn { column: "load".to_owned(), rows: None, values }],
        }],
        position: None,
    }
}

fn with_field(mut draft: Draft, name: &str, kind: FieldType) -> Draft {
    let mut values = Values::new(kind);
    values.push_filler(draft.tables[0].times.len());
    draft.tables[0].fields = vec![FieldColumn { column: name.to_owned(), rows: None, values }];
    draft
}

/// As if the log had it: its series stay.
fn kept(resolved: Result<Resolved>) -> Result<Resolved> {
    resolved.map(|mut resolved| {
        std::mem::forget(resolved.staged.take());
        std::mem::take(&mut resolved.names).keep();
        resolved
    })
}

/// Facts and series that the batch of a draft carries.
fn carried(registry: &Registry, draft: &Draft) -> (usize, usize) {
    let Resolved { batch, .. } = kept(registry.resolve("main", draft, true)).unwrap();
    (batch.facts.len(), batch.series.iter().map(|series| series.len()).sum())
}

/// What the applier does to a generation.
fn make_durable(generation: &Generation, batch: &Batch) {
    for definitions in &batch.series {
        let fingerprint = |key: &[u8]| series::fingerprint(7, definitions.table, key);
        generation.table(definitions.table).define(definitions, fingerprint).unwrap();
    }
    for fact in &batch.facts {
        if let Fact::Column { table, column } = fact {
            generation.table(*table).columns_durable.fetch_max(column.id.0, Ordering::AcqRel);
        }
    }
}

#[test]
fn definitions_are_carried_until_they_are_durable() {
    let (registry, generation) = registry(SchemaLimits::default());
    let first = kept(registry.resolve("main", &draft("cpu", &[("a", 1), ("b", 1)]), true)).unwrap();
    // Database, table, tag, field; two series.
    assert_eq!((first.batch.facts.len(), first.batch.series[0].len(), first.rows), (4, 2, 2));
    assert_eq!(carried(&registry, &draft("cpu", &[("a", 2)])), (4, 1), "nothing of it is durable yet");
    make_durable(&generation, &first.batch);
    assert_eq!(carried(&registry, &draft("cpu", &[("a", 2)])), (0, 0));
    assert_eq!(carried(&registry, &with_field(draft("cpu", &[("c", 2)]), "idle", FieldType::I64)), (1, 1));
    // A cut: the next generation starts without anything.
    registry.start_generation(Arc::new(Generation::new(2)));
    let again = kept(registry.resolve("main", &draft("cpu", &[("b", 3)]), true)).unwrap().batch;
    assert_eq!((again.generation, again.facts.len(), again.series[0].len()), (2, 5, 1));
    assert_eq!(again.tables[0].series, [0], "ordinals are given anew");
}

#[test]
fn sets_of_equal_tags_are_one_series() {
    let (registry, _) = registry(SchemaLimits::default());
    let batch = kept(registry.resolve("main", &draft("cpu", &[("a", 1), ("a", 2), ("", 3)]), true)).unwrap().batch;
    assert_eq!(batch.tables[0].series, [0, 0, 1]);
    assert_eq!(batch.series[0].len(), 2);
    assert_eq!(batch.series[0].iter().nth(1), Some((1, &b""[..])), "an empty tag is an absent one");
}

#[test]
fn a_name_keeps_its_type() {
    let (registry, _) = registry(SchemaLimits::default());
    kept(registry.resolve("main", &draft("cpu", &[("a", 1)]), true)).unwrap();
    let check = |field: &str, kind, sent: &str, stored: &str| match kept(registry.resolve(
        "main",
        &with_field(draft("cpu", &[("a", 1)]), field, kind),
        true,
    )) {
        Err(Error::TypeConflict { sent: s, stored: t, .. }) => assert_eq!((s, t), (sent, stored)),
        other => panic!("{other:?}"),
    };
    check("load", FieldType::Bool, "boolean", "float");
    check("host", FieldType::String, "string", "tag");
    check("time", FieldType::I64, "integer", "time");
    // The same name in another table is another column.
    assert!(
        kept(registry.resolve("main", &with_field(draft("mem", &[("a", 1)]), "load", FieldType::I64), true)).is_ok()
    );
}

#[test]
fn integers_for_a_column_of_doubles_become_doubles_if_they_are_some() {
    let (registry, _) = registry(SchemaLimits::default());
    kept(registry.resolve("main", &draft("cpu", &[("a", 1)]), true)).unwrap();
    let send = |values: Values| {
        let mut draft = draft("cpu", &[("a", 1)]);
        draft.tables[0].fields[0].values = values;
        kept(registry.resolve("main", &draft, true))
    };
    let stored = |values: Values| send(values).unwrap().batch.tables[0].fields[0].values.clone();
    assert_eq!(stored(Values::I64(vec![-7])), Values::F64(vec![-7.0]));
    assert_eq!(stored(Values::U64(vec![1 << 63])), Values::F64(vec![2_f64.powi(63)]));
    for (values, sent) in [(Values::I64(vec![i64::MAX]), "integer"), (Values::U64(vec![(1 << 53) + 1]), "unsigned")] {
        match send(values) {
            Err(Error::TypeConflict { sent: found, stored: "float", .. }) => assert_eq!(found, sent),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_a_name_meant_before_a_change_is_resolved_again() {
    let (registry, _) = registry(SchemaLimits::default());
    let before = kept(registry.resolve("main", &draft("cpu", &[("a", 1)]), true)).unwrap();
    let renamed = registry.rename_column("main", "cpu", "load", "load_1m").unwrap();
    assert!(before.drops < renamed.drops);
    // Its definition as it was, and then the change: an earlier definition may not be durable yet.
    assert!(matches!(renamed.batch.facts.last(), Some(Fact::ColumnRenamed { column: ColumnId(17), .. })));
    assert_eq!(renamed.batch.facts.len(), before.batch.facts.len() + 1);
    let after = kept(registry.resolve("main", &draft("cpu", &[("a", 1)]), true)).unwrap().batch;
    assert_eq!(after.tables[0].fields[0].column, ColumnId(18), "the old name is free");
    registry.hide_column("main", "cpu", "host").unwrap();
    let after = kept(registry.resolve("main", &draft("cpu", &[("a", 1)]), true)).unwrap();
    assert_eq!(after.drops, renamed.drops + 1);
    let mut key = Vec::new();
    series::encode_key([(ColumnId(19), b"a".as_slice())], &mut key);
    assert_eq!(
        after.batch.series[0].iter().collect::<Vec<_>>(),
        [(1, key.as_slice())],
        "another series than that of the hidden tag"
    );
    let defined = kept(registry.add_column("main", "cpu", ("host", ColumnKind::Tag), true)).unwrap();
    let again = registry.again(&defined.batch.facts).unwrap();
    assert_eq!(again.batch, defined.batch, "the same, as long as nothing has changed");
}

#[test]
fn changes_that_cannot_be_are_refused_by_name() {
    let (registry, _) = registry(SchemaLimits::default());
    kept(registry.resolve("main", &draft("cpu", &[("a", 1)]), true)).unwrap();
    #[track_caller]
    fn check(want: &str, result: Result<Resolved>) {
        let reason = result.unwrap_err().to_string();
        assert!(reason.contains(want), "{reason}");
    }
    let tag = ("host", ColumnKind::Tag);
    check("column already exists: \"host\"", kept(registry.add_column("main", "cpu", tag, false)));
    check("column already exists: \"host\"", registry.rename_column("main", "cpu", "load", "host"));
    check("column not found: \"idle\"", registry.rename_column("main", "cpu", "idle", "x"));
    check("column not found: \"idle\"", registry.hide_column("main", "cpu", "idle"));
    check("called time", registry.hide_column("main", "cpu", "time"));
    check("it is empty", registry.rename_column("main", "cpu", "load", ""));
    check("type tag", registry.widen_column("main", "cpu", "host", |_, _| Ok(())));
    check("table not found: \"mem\"", registry.hide_column("main", "mem", "load"));
    check("between a minute", registry.set_width("main", "cpu", 1, |_| None));
    check("so late", registry.set_width("main", "cpu", DAY_NS, |_| Some(TIME_MAX)));
    for n in 1..64 {
        registry.set_width("main", "cpu", (1 + n % 2) * DAY_NS, |_| Some(n * 10 * DAY_NS)).unwrap();
    }
    check("had 64 widths", registry.set_width("main", "cpu", 7 * DAY_NS, |_| Some(700 * DAY_NS)));
}

#[test]
fn limits_are_named_when_they_are_reached() {
    #[track_caller]
    fn check(what: &str, result: Result<Resolved>) {
        match result {
            Err(Error::Limit { what: found, .. }) => assert_eq!(found, what),
            other => panic!("{what}: {other:?}"),
        }
    }
    let limits = SchemaLimits {
        columns_max: 3,
        tables_max: 2,
        table_series_max: 3,
        series_max: 3,
        batch_partitions_max: 2,
        ..SchemaLimits::default()
    };
    let (registry, _) = registry(limits);
    let write = |draft: &Draft| kept(registry.resolve("main", draft, true));
    write(&draft("cpu", &[("a", 0), ("b", DAY_NS)])).unwrap();
    check("partition", write(&draft("cpu", &[("a", 0), ("a", DAY_NS), ("a", 2 * DAY_NS)])));
    check("series", write(&draft("cpu", &[("c", 0), ("d", 0)])));
    write(&draft("cpu", &[("c", 0)])).unwrap();
    // host, load and one more.
    write(&with_field(draft("cpu", &[("a", 1)]), "f4", FieldType::Bool)).unwrap();
    check("column", write(&with_field(draft("cpu", &[("a", 1)]), "f5", FieldType::Bool)));
    // The store has seen as many series as it may since the last cut, until there is one. Those that it knows are taken.
    check("series of the store", write(&draft("mem", &[("", 1)])));
    write(&draft("cpu", &[("c", 1)])).unwrap();
    registry.start_generation(Arc::new(Generation::new(2)));
    write(&draft("mem", &[("", 1)])).unwrap();
    check("table", write(&draft("net", &[("a", 1)])));
}

#[test]
fn a_draft_that_does_not_fit_itself_is_refused() {
    let (registry, _) = registry(SchemaLimits::default());
    #[track_caller]
    fn check(registry: &Registry, why: &str, change: impl FnOnce(&mut DraftTable)) {
        let mut bad = draft("cpu", &[("a", 1), ("b", 2)]);
        change(&mut bad.tables[0]);
        let result = kept(registry.resolve("main", &bad, true));
        assert!(matches!(result, Err(Error::Invalid { .. })), "{why}: {result:?}");
    }
    check(&registry, "fewer rows than series", |table| table.row_series.truncate(1));
    check(&registry, "a series that is not there", |table| table.row_series[1] = 9);
    check(&registry, "a time out of range", |table| table.times[0] = i64::MAX);
    check(&registry, "a time out of range", |table| table.times[0] = i64::MIN);
    check(&registry, "fewer values than rows", |table| table.fields[0].values = Values::F64(vec![1.0]));
    check(&registry, "rows out of order", |table| table.fields[0].rows = Some(vec![1, 0]));
    check(&registry, "a row twice", |table| table.fields[0].rows = Some(vec![1, 1]));
    check(&registry, "a row that is not there", |table| table.fields[0].rows = Some(vec![0, 2]));
    check(&registry, "no number", |table| table.fields[0].values = Values::F64(vec![1.0, f64::NAN]));
    check(&registry, "no finite number", |table| table.fields[0].values = Values::F64(vec![f64::INFINITY, 1.0]));
    let strings = |bytes: usize| {
        let mut strings = Strings::default();
        ["a", &"b".repeat(bytes)].into_iter().for_each(|value| strings.push(value));
        FieldColumn { column: "text".to_owned(), rows: None, values: Values::String(strings) }
    };
    check(&registry, "a string that no decoder takes", |table| table.fields[0] = strings(STRING_BYTES_MAX + 1));
    let mut longest = draft("cpu", &[("a", 1), ("b", 2)]);
    longest.tables[0].fields[0] = strings(STRING_BYTES_MAX);
    kept(registry.resolve("main", &longest, true)).unwrap();
    check(&registry, "a table without a name", |table| table.name.clear());
    check(&registry, "a name that is too long", |table| table.name = "x".repeat(NAME_BYTES_MAX + 1));
    let mut twice = draft("cpu", &[]);
    let table = &mut twice.tables[0];
    table.series.push_tag(0, b"a");
    table.series.push_tag(0, b"b");
    table.series.finish();
    (table.row_series, table.times) = (vec![0], vec![1]);
    table.fields[0].values = Values::F64(vec![1.0]);
    assert!(matches!(kept(registry.resolve("main", &twice, true)), Err(Error::Invalid { .. })));
}

#[test]
fn a_database_is_made_only_where_that_is_asked_for() {
    let (registry, _) = registry(SchemaLimits::default());
    let unknown = kept(registry.resolve("other", &draft("cpu", &[("a", 1)]), false));
    assert!(matches!(unknown, Err(Error::NotFound { what: "database", .. })));
    let nothing = kept(registry.resolve("other", &Draft::default(), true)).unwrap();
    assert!(nothing.batch.facts.is_empty());
    assert!(registry.catalog().database("other").is_none(), "nothing to store makes nothing");
    kept(registry.resolve("other", &draft("cpu", &[("a", 1)]), true)).unwrap();
    assert!(registry.catalog().database("other").is_some());
}

#[test]
fn ids_are_not_given_again_after_a_drop() {
    let (registry, _) = registry(SchemaLimits::default());
    let before = kept(registry.resolve("main", &draft("cpu", &[("a", 1)]), true)).unwrap();
    let dropped = registry.drop_table("main", "cpu").unwrap();
    assert!(dropped.drops > before.drops, "a batch from before can be told");
    let after = kept(registry.resolve("main", &draft("cpu", &[("a", 1)]), true)).unwrap();
    assert_ne!(before.batch.tables[0].table, after.batch.tables[0].table);
    assert!(matches!(registry.drop_table("main", "gone"), Err(Error::NotFound { what: "table", .. })));
    registry.drop_database("main").unwrap();
    assert!(matches!(registry.drop_database("main"), Err(Error::NotFound { what: "database", .. })));
    assert!(registry.catalog().all_tables().next().is_none());
}

#[test]
fn declared_tables_are_checked() {
    let (registry, _) = registry(SchemaLimits::default());
    kept(registry.create_database("main", false)).unwrap();
    let spec = |columns: &[(&str, ColumnKind)], width| TableSpec {
        name: "gauge".to_owned(),
        mode: TableMode::Append,
        columns: columns.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect(),
        partition_width_ns: width,
    };
    let level = ("level", ColumnKind::Field(FieldType::F64));
    let refused = |spec: &TableSpec| {
        assert!(matches!(kept(registry.create_table("main", spec, false)), Err(Error::Invalid { .. })), "{spec:?}");
    };
    refused(&spec(&[level, level], None));
    refused(&spec(&[("time", ColumnKind::Tag)], None));
    refused(&spec(&[("at", ColumnKind::Time)], None));
    refused(&spec(&[("", ColumnKind::Tag)], None));
    refused(&spec(&[level], Some(1)));
    refused(&spec(&[level], Some(4_000 * DAY_NS)));
    let made = kept(registry.create_table("main", &spec(&[level], Some(60_000_000_000)), false)).unwrap();
    assert_eq!(made.batch.facts.len(), 3, "database, table, column");
    let again = spec(&[level], None);
    assert!(matches!(kept(registry.create_table("main", &again, false)), Err(Error::AlreadyExists { .. })));
    let known = kept(registry.create_table("main", &again, true)).unwrap();
    assert_eq!(known.batch.facts, made.batch.facts, "it may not be durable yet, so it is defined again");
    assert!(matches!(kept(registry.create_database("main", false)), Err(Error::AlreadyExists { .. })));
    assert!(kept(registry.create_database("main", true)).is_ok());
    assert!(matches!(kept(registry.create_table("gone", &again, true)), Err(Error::NotFound { .. })));
}

/// A body may define more than one section takes: all are in its batch, and what is written is read again.
#[test]
fn definitions_of_many_bytes_are_several_sections() {
    let key = vec![b'k'; 1 << 20];
    let keys = vec![key.as_slice(); 300];
    let sections = definitions(TableId(1), &keys, &found_of(300), SERIES_BYTES_MAX);
    let counts: Vec<usize> = sections.iter().map(SeriesDefinitions::len).collect();
    assert_eq!(counts, [256, 44]);
    let batch = Batch { series: sections, ..Batch::default() };
    let encoded = batch.encode(&mut crate::codec::EncodeScratch::default());
    assert!(Batch::decode(&encoded).unwrap() == batch);
    // A key that is longer than a section may be is alone in one.
    let counts = |bytes_max| definitions(TableId(1), &keys[..3], &found_of(3), bytes_max).len();
    assert_eq!((counts(1), counts(2 << 20), counts(3 << 20)), (3, 2, 1));
}

fn found_of(count: u32) -> Ordinals {
    Ordinals { ordinals: (0..count).collect(), undefined: (0..count).collect() }
}

//! What a refused batch named is taken back, and nothing that another one needs.

use std::collections::BTreeSet;

use super::*;

/// Databases, tables, and columns by table.
fn names(catalog: &Catalog) -> BTreeSet<String> {
    let databases = catalog.databases().map(|database| database.name.clone());
    let tables = catalog.all_tables().flat_map(|table| {
        let column = |column: &Column| format!("{:?}.{}.{}", table.database, table.name, column.name);
        table.columns.iter().map(column).collect::<Vec<_>>()
    });
    databases.chain(tables).collect()
}

#[test]
fn what_is_refused_while_it_is_resolved_names_nothing() {
    let (registry, _) = registry(SchemaLimits { columns_max: 4, table_series_max: 3, ..SchemaLimits::default() });
    kept(registry.resolve("main", &draft("cpu", &[("a", 1)]), true)).unwrap();
    let before = names(&registry.catalog());
    #[track_caller]
    fn check(registry: &Registry, before: &BTreeSet<String>, refused: Result<Resolved>) {
        assert!(refused.is_err());
        assert_eq!(names(&registry.catalog()), *before);
    }
    // A table, a column and a database of their own come before what is refused.
    let conflict = with_field(draft("cpu", &[("a", 1)]), "load", FieldType::Bool);
    let mut two = draft("mem", &[("a", 1)]);
    two.tables.extend(conflict.tables);
    check(&registry, &before, registry.resolve("main", &two, true));
    let mut broken = with_field(draft("cpu", &[("a", 1)]), "idle", FieldType::I64);
    broken.tables[0].row_series = vec![7];
    check(&registry, &before, registry.resolve("main", &broken, true));
    broken.tables[0].name = "mem".to_owned();
    check(&registry, &before, registry.resolve("other", &broken, true));
    let many = draft("mem", &[("a", 1), ("b", 1), ("c", 1), ("d", 1)]);
    check(&registry, &before, registry.resolve("other", &many, true));
    let columns = ["a", "b", "c", "d"].map(|name| (name.to_owned(), ColumnKind::Tag)).to_vec();
    let columns = [columns, vec![("x".repeat(NAME_BYTES_MAX + 1), ColumnKind::Tag)]].concat();
    let spec = TableSpec { name: "gauge".to_owned(), mode: TableMode::Append, columns, partition_width_ns: None };
    check(&registry, &before, registry.create_table("main", &spec, false));
}

#[test]
fn a_name_stays_as_long_as_a_batch_may_define_it() {
    let (registry, _) = registry(SchemaLimits::default());
    let has = |registry: &Registry, name: &str| names(&registry.catalog()).iter().any(|known| known.contains(name));
    let resolve = |name: &str| registry.resolve("main", &draft(name, &[("a", 1)]), true).unwrap();
    let (first, second) = (resolve("cpu"), resolve("cpu"));
    assert_eq!(second.batch.facts, first.batch.facts, "each defines what is not durable");
    drop(first);
    assert!(has(&registry, "cpu") && has(&registry, "main"));
    drop(second);
    assert!(names(&registry.catalog()).is_empty(), "nobody defines them any more");
    // The log has it: who is refused later takes nothing back.
    let (first, second) = (resolve("cpu"), resolve("cpu"));
    kept(Ok(first)).unwrap();
    let column = registry.add_column("main", "cpu", ("idle", ColumnKind::Field(FieldType::I64)), false).unwrap();
    assert!(has(&registry, "cpu.idle"));
    drop((second, column));
    assert!(has(&registry, "cpu.load") && !has(&registry, "cpu.idle"));
    // A delete, `IF NOT EXISTS`, and what is tried again define the whole table, too.
    let made = registry.create_database("other", false).unwrap();
    let again = registry.create_database("other", true).unwrap();
    let bounced = registry.again(&again.batch.facts).unwrap();
    drop((made, again));
    assert!(has(&registry, "other"));
    drop(bounced);
    assert!(!has(&registry, "other"));
    let table = resolve("mem");
    let erase = Erase::Where(crate::tombstone::Predicate::Constant(Some(true)));
    let delete = registry.delete(table.batch.tables[0].table, &std::sync::Arc::new(erase), 1, "all").unwrap();
    drop(table);
    assert!(has(&registry, "mem"));
    drop(delete);
    assert!(!has(&registry, "mem"));
}

/// `ALTER` forgets what nothing logged, and the ids are given again.
#[test]
fn a_claim_on_what_was_forgotten_is_none_on_what_has_its_id() {
    let (registry, _) = registry(SchemaLimits::default());
    let before = registry.resolve("main", &draft("cpu", &[("a", 1)]), true).unwrap();
    {
        let _closed = registry.close_gate();
        registry.forget_unlogged(Arc::default());
    }
    let after = registry.resolve("main", &draft("mem", &[("a", 1)]), true).unwrap();
    assert_eq!(before.batch.tables[0].table, after.batch.tables[0].table);
    drop(before);
    assert!(names(&registry.catalog()).iter().any(|name| name.contains("mem.load")));
    kept(Ok(after)).unwrap();
    assert!(names(&registry.catalog()).iter().any(|name| name.contains("mem.load")));
}

/// Producers that name the same new things; a log that refuses half of what comes and applies the rest in its order.
#[test]
fn producers_that_are_refused_disturb_nobody() {
    const PRODUCERS: u64 = 4;
    let (registry, generation) = registry(SchemaLimits::default());
    let (applied, logged) = (Mutex::new(Catalog::default()), std::sync::atomic::AtomicU64::new(0));
    let produce = &|mut state: u64| {
        let mut below = |end: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % end
        };
        for _ in 0..3_000 {
            let table = format!("table_{}", below(40));
            let field = format!("field_{}", below(60));
            let sent = with_field(draft(&table, &[("a", 1)]), &field, FieldType::I64);
            let database = format!("database_{}", below(3));
            let resolved = registry.resolve(&database, &sent, true).unwrap();
            if below(8) == 0 {
                std::thread::yield_now();
            }
            if below(2) == 0 {
                continue; // refused
            }
            {
                let mut applied = lock(&applied);
                for fact in &resolved.batch.facts {
                    applied.apply(fact).unwrap();
                }
                let rows = &resolved.batch.tables[0];
                let known = applied.table_by_id(rows.table).expect("a batch defines its table");
                assert_eq!(known.name, table);
                let column = known.column_by_id(rows.fields[0].column).expect("a batch defines its columns");
                assert_eq!(column.name, field);
                make_durable(&generation, &resolved.batch);
            }
            kept(Ok(resolved)).unwrap();
            logged.fetch_add(1, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| (0..PRODUCERS).for_each(|producer| drop(scope.spawn(move || produce(producer)))));
    assert!(logged.into_inner() > 1_000 * PRODUCERS);
    let applied = applied.into_inner().unwrap();
    assert_eq!(names(&registry.catalog()), names(&applied), "what is named is what was logged");
    assert!(applied.all_tables().count() == 120 && names(&applied).len() > 3_000);
}

//! What statements become, and what is refused.

use std::collections::HashMap;

use marigram_storage::schema::{ColumnKind, FieldType, TableMode};

use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

use super::*;

fn read(sql: &str) -> Result<Statement, QueryError> {
    parse(sql, &Parameters(&HashMap::new()))
}

#[track_caller]
fn refused(sql: &str, sqlstate: &str, says: &str) {
    let error = read(sql).expect_err(sql);
    assert_eq!(error.sqlstate, sqlstate, "{sql}: {error}");
    assert!(error.message.contains(says), "{sql}: {error}");
}

#[test]
fn databases_are_created_in_the_texts_that_agents_send() {
    #[track_caller]
    fn check(sql: &str, name: &str, if_not_exists: bool) {
        assert_eq!(read(sql), Ok(Statement::CreateDatabase { name: name.to_owned(), if_not_exists }), "{sql}");
    }
    check("CREATE DATABASE telegraf", "telegraf", false);
    check("create database Telegraf;", "telegraf", false);
    check("CREATE DATABASE \"Telegraf\"", "Telegraf", false);
    check("CREATE DATABASE IF NOT EXISTS x ; ;", "x", true);
    check("CREATE DATABASE benchmark WITH REPLICATION 1", "benchmark", false);
    check("CREATE DATABASE x WITH DURATION INF REPLICATION 1 SHARD DURATION 1d NAME \"autogen\"", "x", false);
    check("CREATE DATABASE x WITH (retention = 'forever')", "x", false);
    refused("CREATE DATABASE x WITH (retention = '400 days')", "0A000", "retention");
    refused("CREATE DATABASE x WITH DURATION 30d", "0A000", "retention");
    refused("CREATE DATABASE x WITH (colour = 'red')", "22023", "colour");
    refused("CREATE DATABASE a.b", "42601", "dot");
}

#[test]
fn a_request_is_one_statement() {
    refused("", "42601", "empty");
    refused(" ; -- nothing", "42601", "empty");
    refused("SELECT 1; SELECT 2", "42601", "one statement");
    refused("SELECT 1 garbage more", "42601", "syntax error");
    refused("SELEC 1", "42601", "syntax error");
    refused("SELECT 'open", "42601", "syntax error");
    assert!(read("SELECT 1;;").is_ok());
}

#[test]
fn a_table_is_changed_by_one_change_a_statement() {
    #[track_caller]
    fn check(sql: &str, if_exists: bool, change: Change) {
        let Ok(Statement::AlterTable(alter)) = read(sql) else { panic!("{sql}: {:?}", read(sql)) };
        assert_eq!((alter.name.table.as_str(), alter.if_exists, alter.change), ("gauge", if_exists, change), "{sql}");
    }
    let column = || "c".to_owned();
    let add = |kind, if_not_exists| Change::Add { column: column(), kind, if_not_exists };
    check("ALTER TABLE gauge ADD COLUMN c DOUBLE PRECISION", false, add(ColumnKind::Field(FieldType::F64), false));
    check("alter table Gauge add C bigint null;", false, add(ColumnKind::Field(FieldType::I64), false));
    check("ALTER TABLE gauge ADD COLUMN IF NOT EXISTS c VARCHAR PRIMARY KEY", false, add(ColumnKind::Tag, true));
    check(
        "ALTER TABLE IF EXISTS public.gauge DROP COLUMN c",
        true,
        Change::Drop { column: column(), if_exists: false },
    );
    check(
        "ALTER TABLE ONLY gauge DROP IF EXISTS c RESTRICT",
        false,
        Change::Drop { column: column(), if_exists: true },
    );
    let rename = |to: &str| Change::Rename { column: column(), to: to.to_owned() };
    check("ALTER TABLE gauge RENAME COLUMN c TO d", false, rename("d"));
    check("ALTER TABLE gauge RENAME c TO \"D d\"", false, rename("D d"));
    let retype = |kind| Change::Retype { column: column(), kind };
    check("ALTER TABLE gauge ALTER COLUMN c TYPE DOUBLE PRECISION", false, retype(FieldType::F64));
    check("ALTER TABLE gauge ALTER c SET DATA TYPE REAL", false, retype(FieldType::F64));
    check("ALTER TABLE gauge SET (partition_width = '7 days')", false, Change::Width(7 * 86_400_000_000_000));
    refused("ALTER TABLE gauge ADD COLUMN c TIMESTAMP", "0A000", "type TIMESTAMP");
    refused("ALTER TABLE gauge ADD COLUMN c BIGINT NOT NULL", "0A000", "NOT NULL");
    refused("ALTER TABLE gauge ADD COLUMN c BIGINT DEFAULT 1", "0A000", "DEFAULT");
    refused("ALTER TABLE gauge ADD COLUMN c BIGINT PRIMARY KEY", "42P16", "VARCHAR");
    refused("ALTER TABLE gauge ADD COLUMN time BIGINT", "42P16", "time");
    refused("ALTER TABLE gauge RENAME COLUMN c TO time", "42P16", "time");
    refused("ALTER TABLE gauge DROP COLUMN c CASCADE", "0A000", "CASCADE");
    refused("ALTER TABLE gauge DROP COLUMN c, DROP COLUMN d", "0A000", "several");
    refused("ALTER TABLE gauge RENAME TO other", "0A000", "RENAME TO");
    refused("ALTER TABLE gauge ALTER COLUMN c SET NOT NULL", "0A000", "ALTER COLUMN");
    refused("ALTER TABLE gauge ALTER COLUMN c TYPE REAL USING c + 1", "0A000", "USING");
    refused("ALTER TABLE gauge SET (partition_width = 'wide')", "22023", "hours or days");
    refused("ALTER TABLE gauge SET (partition_width = '1 day', mode = 'append')", "0A000", "several");
    refused("ALTER TABLE gauge SET (mode = 'append')", "0A000", "mode");
    refused("ALTER TABLE gauge OWNER TO me", "0A000", "ALTER TABLE");
    refused("ALTER TABLE gauge", "0A000", "ALTER TABLE");
}

#[test]
fn a_table_has_tags_where_its_key_says_so() {
    let sql = "CREATE TABLE gauge (station VARCHAR, Kind TEXT, time TIMESTAMP NOT NULL, level DOUBLE PRECISION, \
               quality BIGINT, n BIGINT UNSIGNED, ok BOOLEAN, \"Note\" VARCHAR, PRIMARY KEY (station, kind, time)) \
               WITH (mode = 'upsert', partition_width = '6 hours')";
    let Ok(Statement::CreateTable(table)) = read(sql) else { panic!("{:?}", read(sql)) };
    let columns: Vec<_> = table.columns.iter().map(|(name, kind)| (name.as_str(), *kind)).collect();
    assert_eq!(
        columns,
        [
            ("station", ColumnKind::Tag),
            ("kind", ColumnKind::Tag),
            ("time", ColumnKind::Time),
            ("level", ColumnKind::Field(FieldType::F64)),
            ("quality", ColumnKind::Field(FieldType::I64)),
            ("n", ColumnKind::Field(FieldType::U64)),
            ("ok", ColumnKind::Field(FieldType::Bool)),
            ("Note", ColumnKind::Field(FieldType::String)),
        ]
    );
    assert_eq!((table.mode, table.partition_width_ns), (TableMode::Upsert, Some(6 * 3_600_000_000_000)));
}

#[test]
fn a_table_without_a_key_appends() {
    let Ok(Statement::CreateTable(table)) = read("CREATE TABLE IF NOT EXISTS db.public.e (time TIMESTAMPTZ, v REAL)")
    else {
        panic!()
    };
    assert_eq!((table.mode, table.if_not_exists), (TableMode::Append, true));
    assert_eq!(table.name.database.as_deref(), Some("db"));
    let Ok(Statement::CreateTable(table)) =
        read("CREATE TABLE e (host TEXT, time TIMESTAMP, v REAL, PRIMARY KEY (host, time)) WITH (mode = append)")
    else {
        panic!()
    };
    assert_eq!(table.mode, TableMode::Append);
}

#[test]
fn tables_that_cannot_be_kept_are_refused_by_name() {
    refused("CREATE TABLE t (time TIMESTAMP, v REAL) WITH (mode = 'upsert')", "42P16", "PRIMARY KEY");
    refused("CREATE TABLE t (v REAL)", "42P16", "time");
    refused("CREATE TABLE t (time TIMESTAMP)", "42P16", "outside");
    refused("CREATE TABLE t (time BIGINT, v REAL)", "42P16", "timestamp");
    refused("CREATE TABLE t (time TIMESTAMP, at TIMESTAMP)", "42P16", "\"at\"");
    refused("CREATE TABLE t (time TIMESTAMP, v REAL, v REAL)", "42701", "twice");
    refused("CREATE TABLE t (time TIMESTAMP, n BIGINT, v REAL, PRIMARY KEY (n, time))", "42P16", "VARCHAR");
    refused("CREATE TABLE t (time TIMESTAMP, h TEXT, v REAL, PRIMARY KEY (h))", "42P16", "time");
    refused("CREATE TABLE t (time TIMESTAMP, \"H\" TEXT, v REAL, PRIMARY KEY (h, time))", "42703", "\"H\"");
    refused("CREATE TABLE t (time TIMESTAMP, v UUID)", "0A000", "UUID");
    refused("CREATE TABLE t (time TIMESTAMP, v REAL DEFAULT 1)", "0A000", "DEFAULT");
    refused("CREATE TABLE t (time TIMESTAMP, v REAL NOT NULL)", "0A000", "NOT NULL");
    refused("CREATE TABLE t (time TIMESTAMP, v REAL) WITH (mode = 'x')", "22023", "'x'");
    refused("CREATE TABLE t (time TIMESTAMP, v REAL) WITH (partition_width = '1 minute')", "22023", "1 minute");
    refused("CREATE TABLE t (time TIMESTAMP, v REAL) WITH (fillfactor = 70)", "22023", "fillfactor");
    refused("CREATE TABLE t AS SELECT 1", "0A000", "AS");
}

#[test]
fn optimize_names_a_table_and_may_be_final() {
    let table = |database: Option<&str>| TableName {
        database: database.map(str::to_owned),
        schema: database.map(|_| "public".to_owned()),
        table: "t".to_owned(),
    };
    assert_eq!(read("OPTIMIZE TABLE t"), Ok(Statement::Optimize { name: table(None), is_final: false }));
    assert_eq!(
        read("optimize table db.public.T final;"),
        Ok(Statement::Optimize { name: table(Some("db")), is_final: true })
    );
    refused("OPTIMIZE TABLE", "42601", "");
    refused("OPTIMIZE TABLE t DEDUPLICATE", "42601", "end of the statement");
    refused("EXPLAIN OPTIMIZE TABLE t", "42601", "");
}

#[test]
fn calls_name_what_they_stop() {
    assert_eq!(read("CALL cancel(7)"), Ok(Statement::Cancel(Cancel::Statement(7))));
    assert_eq!(read("call CANCEL_TASK ( 18 );"), Ok(Statement::Cancel(Cancel::Task(18))));
    assert!(read("CALL cancel(7)").unwrap().writes());
    refused("CALL restore(7)", "42883", "\"restore\"");
    for sql in
        ["CALL cancel", "CALL cancel()", "CALL cancel(-1)", "CALL cancel('1')", "CALL cancel(1, 2)", "CALL a.cancel(1)"]
    {
        refused(sql, "42601", "");
    }
    assert_eq!(["CALL cancel(1)", " call\ncancel(1)", "CALLER", "SELECT 1"].map(is_call), [true, true, false, false]);
    assert!(!is_call(&format!("CALL cancel(1{})", " ".repeat(300))));
}

#[test]
fn a_look_at_one_table_of_the_system_is_known() {
    let looks = |sql: &str| may_watch(sql) && read(sql).unwrap().watches();
    for sql in [
        "SELECT * FROM system.queries",
        "select query_id from System.\"queries\" q where state = 'running' and sql like '%x%' order by 1 limit 3",
        "SELECT sum(bytes) FROM system.memory",
    ] {
        assert!(looks(sql), "{sql}");
    }
    for sql in [
        "SELECT 1",
        "SELECT * FROM gauge",
        "SELECT 'system.' FROM gauge",
        "SELECT * FROM \"System\".queries",
        "SELECT * FROM system",
        "SELECT * FROM x.system.queries",
        "SELECT * FROM system.queries, gauge",
        "SELECT * FROM system.queries q JOIN gauge g ON q.rows = g.n",
        "SELECT * FROM system.queries UNION ALL SELECT * FROM system.queries",
        "WITH g AS (SELECT * FROM gauge) SELECT * FROM system.queries",
        "SELECT * FROM (SELECT * FROM system.queries) q",
        "SELECT * FROM system.queries WHERE query_id IN (SELECT n FROM gauge)",
        "SELECT (SELECT count(*) FROM generate_series(1, 1000000000)) FROM system.queries",
        "EXPLAIN SELECT * FROM system.queries",
        "INSERT INTO gauge SELECT * FROM system.queries",
    ] {
        assert!(!looks(sql), "{sql}");
    }
    assert!(!may_watch(&format!("SELECT * FROM system.queries{}", " ".repeat(5000))));
}

#[test]
fn parts_that_nothing_plans_are_refused() {
    refused("SELECT * FROM t TABLESAMPLE SYSTEM (10)", "0A000", "TABLESAMPLE");
    refused("SELECT * FROM t FOR UPDATE", "0A000", "FOR UPDATE");
    refused("SELECT * INTO u FROM t", "0A000", "INTO");
    refused("WITH x AS (DELETE FROM t) SELECT 1", "0A000", "changes data");
    refused("SELECT * FROM (SELECT * FROM t TABLESAMPLE SYSTEM (10)) AS x", "0A000", "TABLESAMPLE");
    refused("DELETE FROM t USING u WHERE true", "0A000", "DELETE of several tables");
    refused("DELETE FROM t, u", "0A000", "DELETE from anything but one table");
    refused("DELETE FROM t WHERE true RETURNING a", "0A000", "RETURNING");
    refused("DELETE FROM t WHERE true LIMIT 1", "0A000", "LIMIT");
    refused("UPDATE t SET a = 1", "0A000", "UPDATE");
    refused("TRUNCATE t", "0A000", "TRUNCATE");
    refused("INSERT INTO t (a) VALUES (1) ON CONFLICT DO NOTHING", "0A000", "ON CONFLICT");
    refused("INSERT INTO t (a) VALUES (1) RETURNING a", "0A000", "RETURNING");
    refused("DROP TABLE a, b", "0A000", "several");
    refused("EXPLAIN DROP TABLE a", "0A000", "EXPLAIN");
}

#[test]
fn long_chains_are_refused_before_they_are_trees() {
    let long = format!("SELECT * FROM t WHERE {}", vec!["a = 1"; 100_000].join(" OR "));
    refused(&long, "54001", "operators");
    let list = |count: usize| format!("SELECT 1 WHERE 1 IN ({}1)", "1, ".repeat(count));
    assert!(read(&list(60_000)).is_ok());
    refused(&list(70_000), "54000", "more than 131072 words and signs");
    refused(&"(".repeat((1 << 20) + 1), "54000", "words and signs");
    assert!(read(&format!("SELECT '{}'", "word ".repeat(200_000))).is_ok(), "a string is one of them");
    assert!(read(&format!("SELECT '{}'", "ä".repeat(1 << 21))).is_ok());
    let unions = vec!["SELECT 1"; 10_000].join(" UNION ALL ");
    refused(&unions, "54001", "set operations");
    refused(&format!("SELECT {}1{}", "(".repeat(10_000), ")".repeat(10_000)), "54001", "nested");
    let rows = format!("INSERT INTO t (a) VALUES {}", vec!["(-1)"; 20_000].join(", "));
    assert!(matches!(read(&rows), Ok(Statement::Insert(_))));
    let list = format!("SELECT * FROM t WHERE a IN ({})", vec!["-1"; 20_000].join(", "));
    assert!(matches!(read(&list), Ok(Statement::Query(_))));
}

#[test]
fn parameters_become_literals() {
    let values = HashMap::from([
        ("1".to_owned(), ScalarParam::I64(i64::MIN)),
        ("host".to_owned(), ScalarParam::String("it's".to_owned())),
        ("x".to_owned(), ScalarParam::F64(4.0)),
    ]);
    let statement = parse("SELECT $1, $host, $x LIMIT $1", &Parameters(&values));
    let Ok(Statement::Query(query)) = statement else { panic!("{statement:?}") };
    assert_eq!(query.to_string(), "SELECT -9223372036854775808, 'it''s', 4.0 LIMIT -9223372036854775808");
    refused("SELECT $2", "42P02", "$2");
}

#[test]
fn explain_takes_both_spellings() {
    for sql in ["EXPLAIN ANALYZE SELECT 1", "EXPLAIN (ANALYZE) SELECT 1", "EXPLAIN (ANALYZE true, COSTS off) SELECT 1"]
    {
        let Ok(Statement::Query(query)) = read(sql) else { panic!("{sql}: {:?}", read(sql)) };
        assert!(matches!(*query, ast::Statement::Explain { analyze: true, .. }), "{sql}");
    }
}

#[test]
fn shows_and_describes_are_ours() {
    assert_eq!(read("show databases"), Ok(Statement::ShowDatabases));
    assert_eq!(read("SHOW TABLES LIKE 'c%'"), Ok(Statement::ShowTables { like: Some("c%".to_owned()) }));
    assert_eq!(read("SHOW marigram.snapshot"), Ok(Statement::ShowVariable("marigram snapshot".to_owned())));
    let cpu = TableName { database: None, schema: Some("public".to_owned()), table: "Cpu".to_owned() };
    for sql in ["DESCRIBE public.\"Cpu\"", "DESC public.\"Cpu\"", "SHOW COLUMNS FROM public.\"Cpu\""] {
        assert_eq!(read(sql), Ok(Statement::Describe(cpu.clone())), "{sql}");
    }
    assert_eq!(
        read("SET TIME ZONE 'UTC'"),
        Ok(Statement::Set { name: "timezone".to_owned(), value: Some("UTC".to_owned()), local: false })
    );
}

#[test]
fn and_binds_less_than_is_distinct_from() {
    #[track_caller]
    fn same(sql: &str, parenthesized: &str) {
        let Ok(Statement::Query(query)) = read(sql) else { panic!("{sql}: {:?}", read(sql)) };
        let wanted = Parser::parse_sql(&PostgreSqlDialect {}, parenthesized).expect(parenthesized);
        assert_eq!(query.to_string(), wanted.first().map(ToString::to_string).unwrap_or_default(), "{sql}");
    }
    same("SELECT * FROM t WHERE a IS DISTINCT FROM b AND c", "SELECT * FROM t WHERE (a IS DISTINCT FROM b) AND c");
    same("SELECT NOT a.x IS NOT DISTINCT FROM b + 1 OR c", "SELECT NOT (a.x IS NOT DISTINCT FROM b + 1) OR c");
    same(
        "SELECT a IS DISTINCT FROM CASE WHEN x AND y THEN 1 END AND c IS DISTINCT FROM d OR e, f",
        "SELECT (a IS DISTINCT FROM CASE WHEN x AND y THEN 1 END) AND (c IS DISTINCT FROM d) OR e, f",
    );
    same(
        "SELECT 1 FROM t JOIN u ON f(a, b) + 1 IS DISTINCT FROM b[1] AND c",
        "SELECT 1 FROM t JOIN u ON (f(a, b) + 1 IS DISTINCT FROM b[1]) AND c",
    );
    same("SELECT p AND q = 'x' IS DISTINCT FROM b OR c", "SELECT p AND (q = 'x' IS DISTINCT FROM b) OR c");
    same(
        "SELECT p AND a BETWEEN 1 AND 2 IS DISTINCT FROM b OR c",
        "SELECT p AND (a BETWEEN 1 AND 2 IS DISTINCT FROM b) OR c",
    );
    same("SELECT a IS DISTINCT FROM b BETWEEN 1 AND 2 AND c", "SELECT (a IS DISTINCT FROM b BETWEEN 1 AND 2) AND c");
    same("SELECT f(a IS DISTINCT FROM b AND c)", "SELECT f((a IS DISTINCT FROM b) AND c)");
    same(
        "SELECT CASE WHEN a AND b THEN 1 END IS DISTINCT FROM d AND e",
        "SELECT (CASE WHEN a AND b THEN 1 END IS DISTINCT FROM d) AND e",
    );
    same("SELECT (a IS DISTINCT FROM b) AND c", "SELECT (a IS DISTINCT FROM b) AND c");
    same("SELECT DISTINCT a FROM b WHERE c AND d", "SELECT DISTINCT a FROM b WHERE c AND d");
    same("SELECT a IS DISTINCT FROM b x FROM t WHERE c AND d", "SELECT a IS DISTINCT FROM b x FROM t WHERE c AND d");
}

#[test]
fn a_time_that_is_inserted_is_read_alike_as_a_parameter() {
    let text = "2016-01-03 12:26:46.646325 +0000";
    let written = read(&format!("INSERT INTO t (time, v) VALUES ('{text}', 1)")).unwrap();
    let params = HashMap::from([("1".to_owned(), ScalarParam::String(text.to_owned()))]);
    assert_eq!(parse("INSERT INTO t (time, v) VALUES ($1, 1)", &Parameters(&params)), Ok(written));
}

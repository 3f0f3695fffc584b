//! Views over each wire: made, read, listed, and in the way of nobody who writes.

use super::flight::Client as Flight;
use super::support::Running;
use crate::pg::client::Client as Postgres;

#[test]
fn a_view_is_read_over_every_wire_and_after_a_restart() {
    let server = Running::start(&[]);
    assert_eq!(server.post("/write?db=main", &[], "cpu,host=a load=1.5 1\ncpu,host=b load=2.5 2").status, 204);
    let create = "CREATE VIEW busy AS SELECT host, load AS \"much\" FROM cpu WHERE load > 2";
    assert_eq!(server.rows("main", create), "[]");
    assert_eq!(server.rows("main", "SELECT * FROM busy"), r#"[{"host":"b","much":2.5}]"#);
    let by_get = server.get("/api/v3/query_sql?q=DROP+VIEW+busy");
    assert_eq!((by_get.status, by_get.header("Allow")), (405, "POST"));
    let mut client = Postgres::connect(server.pg);
    assert_eq!(client.rows("SELECT * FROM busy"), ["b|2.5"]);
    assert_eq!(client.done("CREATE OR REPLACE VIEW busy AS SELECT host FROM cpu"), ["CREATE VIEW"]);
    assert_eq!(client.done("ALTER VIEW busy RENAME TO hosts"), ["ALTER VIEW"]);
    assert_eq!(client.ask("CREATE VIEW v AS SELECT nothing FROM cpu").sqlstate(), "42703");
    client.done("BEGIN READ ONLY");
    assert_eq!(client.ask("DROP VIEW hosts").sqlstate(), "25006");
    client.done("ROLLBACK");
    let mut flight = Flight::new(&server, "main");
    assert_eq!(flight.query("TABLE hosts").unwrap()[0].num_rows(), 2);

    // A line for a view is no row of anything.
    let refused = server.post("/write?db=main", &[], "hosts,host=c load=3 3");
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert!(refused.text().contains("is a view"), "{}", refused.text());

    let server = Running::start_in(server.stop(), &[]);
    assert_eq!(server.rows("main", "SELECT count(*) AS n FROM hosts"), r#"[{"n":2}]"#);
    assert_eq!(server.rows("main", "DROP VIEW hosts"), "[]");
    let gone = server.post("/api/v3/query_sql", &[("content-type", "text/plain")], "SELECT * FROM hosts");
    assert_eq!((gone.status, gone.json()["code"].as_str()), (400, Some("42P01")));
}

/// What psql asks for `\d v`, in essence.
#[test]
fn psql_finds_a_view_and_its_columns() {
    let server = Running::start(&[]);
    let mut client = Postgres::connect(server.pg);
    client.done("CREATE TABLE t (host VARCHAR, time TIMESTAMP, v BIGINT, PRIMARY KEY (host, time))");
    client.done(
        "CREATE VIEW w AS SELECT host, sum(v) AS total, max(time) AS last, array_agg(v) AS all FROM t GROUP BY host",
    );
    let found = client.rows(
        "SELECT c.oid, n.nspname, c.relname FROM pg_catalog.pg_class c \
         LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relname OPERATOR(pg_catalog.~) '^(w)$' COLLATE pg_catalog.default \
         AND pg_catalog.pg_table_is_visible(c.oid) ORDER BY 2, 3",
    );
    let [row] = found.as_slice() else { panic!("{found:?}") };
    let oid = row.split('|').next().unwrap();
    let columns = client.rows(&format!(
        "SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod) FROM pg_catalog.pg_attribute a \
         WHERE a.attrelid = '{oid}' AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"
    ));
    assert_eq!(columns, ["host|text", "total|bigint", "last|timestamp with time zone", "all|bigint[]"]);
    let definition = client.rows(&format!("SELECT pg_catalog.pg_get_viewdef('{oid}'::pg_catalog.oid, true)"));
    assert_eq!(definition.len(), 1);
    assert!(definition[0].starts_with("SELECT host, sum(v)"), "{definition:?}");
}

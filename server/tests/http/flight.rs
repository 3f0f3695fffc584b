//! Flight SQL and InfluxDB 3's ticket, by a real client.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, TimestampNanosecondType};
use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{
    CommandGetCrossReference, CommandGetDbSchemas, CommandGetPrimaryKeys, CommandGetTables, CommandGetXdbcTypeInfo,
    SqlInfo,
};
use arrow_flight::{CancelFlightInfoRequest, FlightClient, FlightInfo, Ticket};
use arrow_schema::{DataType, Schema, TimeUnit};
use futures::{StreamExt, TryStreamExt};
use tonic::Code;
use tonic::transport::Channel;

use super::support::Running;

/// A client with a runtime of its own.
pub struct Client {
    pub runtime: tokio::runtime::Runtime,
    pub sql: FlightSqlServiceClient<Channel>,
}

/// What a call failed with.
#[derive(Debug)]
pub struct Failure {
    pub code: Code,
    pub message: String,
    pub sqlstate: Option<String>,
}

impl Client {
    pub fn new(server: &Running, database: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let address = server.base.clone();
        let channel = runtime.block_on(async { Channel::from_shared(address).unwrap().connect().await.unwrap() });
        let mut sql = FlightSqlServiceClient::new(channel);
        sql.set_header("database", database);
        Self { runtime, sql }
    }

    pub fn info(&mut self, sql: &str) -> Result<FlightInfo, Failure> {
        self.runtime.block_on(self.sql.execute(sql.to_owned(), None)).map_err(failure)
    }

    /// The rows of what an answer describes. Their schema is what was said before.
    #[track_caller]
    pub fn fetch(&mut self, info: FlightInfo) -> Result<Vec<RecordBatch>, Failure> {
        let described = (!info.schema.is_empty()).then(|| info.clone().try_decode_schema().unwrap());
        let [endpoint] = info.endpoint.as_slice() else { panic!("{} endpoints", info.endpoint.len()) };
        let ticket = endpoint.ticket.clone().unwrap();
        let batches = self.runtime.block_on(async {
            let stream = self.sql.do_get(ticket).await.map_err(failure)?;
            stream.try_collect::<Vec<_>>().await.map_err(of_stream)
        })?;
        for batch in &batches {
            assert_eq!(Some(batch.schema_ref().as_ref()), described.as_ref().or(Some(batch.schema_ref().as_ref())));
        }
        Ok(batches)
    }

    #[track_caller]
    pub fn query(&mut self, sql: &str) -> Result<Vec<RecordBatch>, Failure> {
        let info = self.info(sql)?;
        self.fetch(info)
    }

    /// The rows of InfluxDB 3's ticket.
    pub fn ticket(&mut self, ticket: &str) -> Result<Vec<RecordBatch>, Failure> {
        let ticket = Ticket { ticket: ticket.to_owned().into() };
        self.runtime.block_on(async {
            let stream = self.sql.do_get(ticket).await.map_err(failure)?;
            stream.try_collect::<Vec<_>>().await.map_err(of_stream)
        })
    }

    /// The token that stands beside the rows of InfluxDB 3's ticket.
    pub fn told(&mut self, ticket: &str) -> String {
        let ticket = Ticket { ticket: ticket.to_owned().into() };
        let stream = self.runtime.block_on(self.sql.do_get(ticket)).map_err(failure).unwrap();
        stream.headers().get("x-marigram-snapshot").unwrap().to_str().unwrap().to_owned()
    }

    pub fn update(&mut self, sql: &str) -> Result<i64, Failure> {
        self.runtime.block_on(self.sql.execute_update(sql.to_owned(), None)).map_err(of_stream)
    }
}

fn of_status(status: &tonic::Status) -> Failure {
    let sqlstate = status.metadata().get("sqlstate").map(|value| value.to_str().unwrap().to_owned());
    Failure { code: status.code(), message: status.message().to_owned(), sqlstate }
}

pub fn failure(error: arrow_flight::error::FlightError) -> Failure {
    of_stream(error)
}

pub fn of_stream(error: arrow_flight::error::FlightError) -> Failure {
    match error {
        arrow_flight::error::FlightError::Tonic(status) => of_status(&status),
        other => panic!("no status: {other:?}"),
    }
}

fn with_rows() -> Running {
    let server = Running::start(&[]);
    let body = "cpu,host=a load=1.5,up=true,n=3i 1700000000\ncpu,host=b load=2.5,note=\"x,y\" 1700000001\n";
    assert_eq!(server.post("/write?db=x&precision=s", &[], body).status, 204);
    server
}

fn texts(batch: &RecordBatch, column: usize) -> Vec<String> {
    batch.column(column).as_string::<i32>().iter().map(|text| text.unwrap_or("NULL").to_owned()).collect()
}

/// One column of all batches.
fn column(batches: &[RecordBatch], column: usize) -> Vec<String> {
    batches.iter().flat_map(|batch| texts(batch, column)).collect()
}

#[test]
fn rows_come_by_either_kind_of_ticket() {
    let server = with_rows();
    let mut client = Client::new(&server, "x");
    let sql = "SELECT time, host, load, up, note, n FROM cpu ORDER BY host";
    let rows = client.query(sql).unwrap();
    assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 2);
    let types: Vec<_> = rows[0].schema().fields().iter().map(|field| field.data_type().clone()).collect();
    let text = DataType::Utf8;
    let time = DataType::Timestamp(TimeUnit::Nanosecond, None);
    assert_eq!(types, [time, text.clone(), DataType::Float64, DataType::Boolean, text, DataType::Int64]);
    assert_eq!(texts(&rows[0], 1), ["a", "b"]);
    assert_eq!(texts(&rows[0], 4), ["NULL", "x,y"]);
    assert_eq!(rows[0].column(2).as_primitive::<Float64Type>().values(), &[1.5, 2.5]);
    let times = rows[0].column(0).as_primitive::<TimestampNanosecondType>();
    assert_eq!(times.values(), &[1_700_000_000_000_000_000, 1_700_000_001_000_000_000]);

    let mut other = Client::new(&server, "");
    let ticket = |query: &str, kind: &str| {
        serde_json::json!({"database": "x", "sql_query": query, "query_type": kind}).to_string()
    };
    assert_eq!(other.ticket(&ticket(sql, "sql")).unwrap(), rows);
    let with_values = r#"{"database":"x","sql_query":"SELECT host FROM cpu WHERE host = $h","params":{"h":"b"}}"#;
    assert_eq!(column(&other.ticket(with_values).unwrap(), 0), ["b"]);
    let all = other.ticket(&ticket("SELECT * FROM \"cpu\"", "influxql")).unwrap();
    let names: Vec<_> = all[0].schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["iox::measurement", "time", "host", "load", "n", "note", "up"]);
    assert_eq!((texts(&all[0], 0), texts(&all[0], 2)), (vec!["cpu".into(); 2], vec!["a".into(), "b".into()]));
    let none = other.ticket(&ticket("SELECT * FROM nowhere", "influxql")).unwrap();
    assert_eq!(none.iter().map(RecordBatch::num_rows).sum::<usize>(), 0);
    for name in ["iox-namespace-name", "bucket"] {
        let mut named = Client::new(&server, "");
        named.sql.set_header(name, "x");
        assert_eq!(column(&named.query("SELECT host FROM cpu ORDER BY host").unwrap(), 0), ["a", "b"], "{name}");
    }
}

#[test]
fn what_stores_or_defines_says_how_much() {
    let server = with_rows();
    let mut client = Client::new(&server, "x");
    let table = "CREATE TABLE t (host VARCHAR, time TIMESTAMP NOT NULL, v BIGINT, PRIMARY KEY (host, time))";
    assert_eq!(client.update(table).unwrap(), 0);
    let insert =
        "INSERT INTO t (host, time, v) VALUES ('a', '2026-11-22T10:00:00Z', 1), ('b', '2026-11-22T10:00:00Z', 2)";
    assert_eq!(client.update(insert).unwrap(), 2);
    // Who fetches instead is told the same.
    let rows = client.query("INSERT INTO t (host, time, v) VALUES ('c', '2026-11-22T10:00:00Z', 3)").unwrap();
    assert_eq!(rows[0].column(0).as_primitive::<arrow_array::types::UInt64Type>().value(0), 1);
    assert_eq!(client.query("CREATE TABLE u (time TIMESTAMP NOT NULL, v BIGINT)").unwrap(), []);
    assert_eq!(client.update("SELECT 1").unwrap_err().code, Code::InvalidArgument);
    assert_eq!(server.rows("x", "SELECT sum(v) AS v FROM t"), r#"[{"v":6}]"#);
}

#[test]
fn prepared_statements_take_values_and_nothing_is_kept_for_them() {
    let server = with_rows();
    let Client { runtime, sql: mut client } = Client::new(&server, "x");
    let mut prepared =
        runtime.block_on(client.prepare("SELECT host, load + $2 AS l FROM cpu WHERE host = $1".into(), None));
    let prepared = prepared.as_mut().unwrap();
    let kinds = |schema: &Schema| schema.fields().iter().map(|field| field.data_type().clone()).collect::<Vec<_>>();
    assert_eq!(kinds(prepared.parameter_schema().unwrap()), [DataType::Utf8, DataType::Float64]);
    assert_eq!(kinds(prepared.dataset_schema().unwrap()), [DataType::Utf8, DataType::Float64]);
    let values = |host: &str, more: f64| {
        let host: ArrayRef = Arc::new(StringArray::from(vec![host]));
        let more: ArrayRef = Arc::new(Float64Array::from(vec![more]));
        RecordBatch::try_from_iter([("1", host), ("2", more)]).unwrap()
    };
    let mut again = prepared.clone();
    for (statement, host, more, want) in [(&mut *prepared, "a", 1.0, 2.5), (&mut again, "b", 2.0, 4.5)] {
        statement.set_parameters(values(host, more)).unwrap();
        let info = runtime.block_on(statement.execute()).unwrap();
        let mut fetching = Client { runtime: tokio::runtime::Runtime::new().unwrap(), sql: client.clone() };
        let rows = fetching.fetch(info).unwrap();
        assert_eq!(column(&rows, 0), [host]);
        assert_eq!(rows[0].column(1).as_primitive::<Float64Type>().values(), &[want]);
    }
    let unbound = runtime.block_on(async {
        let mut bare = client.prepare("SELECT host FROM cpu WHERE host = $1".into(), None).await.unwrap();
        let info = bare.execute().await.unwrap();
        client.do_get(info.endpoint[0].ticket.clone().unwrap()).await.map(|_| ()).unwrap_err()
    });
    assert_eq!(failure(unbound).sqlstate.as_deref(), Some("42P02"));
    for sql in ["SELECT host FROM cpu WHERE host = $1", "SELECT $1, $2, $3", "DELETE FROM cpu WHERE host = $1"] {
        let failed = runtime.block_on(async {
            let mut prepared = client.prepare(sql.into(), None).await.unwrap();
            prepared.set_parameters(values("a", 1.0)).unwrap();
            match sql.starts_with("SELECT") {
                true => prepared.execute().await.map(|_| ()).unwrap_err(),
                false => prepared.execute_update().await.map(|_| ()).unwrap_err(),
            }
        });
        assert_eq!(of_stream(failed).sqlstate.as_deref(), Some("08P01"), "{sql}");
    }
}

#[test]
fn values_of_every_kind_are_stored_as_they_were_bound() {
    let server = with_rows();
    let Client { runtime, sql: mut client } = Client::new(&server, "x");
    let create = "CREATE TABLE v (host VARCHAR, time TIMESTAMP NOT NULL, n BIGINT, f DOUBLE PRECISION, PRIMARY KEY (host, time))";
    runtime.block_on(client.execute_update(create.into(), None)).unwrap();
    let columns: [(&str, ArrayRef); 4] = [
        ("1", Arc::new(StringArray::from(vec!["a", "b", "c"]))),
        ("2", Arc::new(TimestampMicrosecondArray::from(vec![1_000_001, 2, 3]).with_timezone("UTC"))),
        ("3", Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(7)]))),
        ("4", Arc::new(Float64Array::from(vec![0.1, -0.0, 1e300]))),
    ];
    let rows = RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap();
    let stored = runtime.block_on(async {
        let insert = "INSERT INTO v (host, time, n, f) VALUES ($1, $2, $3, $4)";
        let mut prepared = client.prepare(insert.into(), None).await.unwrap();
        assert_eq!(prepared.dataset_schema().unwrap().fields().len(), 0);
        prepared.set_parameters(rows).unwrap();
        let stored = prepared.execute_update().await.unwrap();
        prepared.close().await.unwrap();
        stored
    });
    assert_eq!(stored, 3);
    assert_eq!(
        server.rows("x", "SELECT host, time, n, f FROM v ORDER BY host"),
        r#"[{"host":"a","time":"1970-01-01T00:00:01.000001","n":-9223372036854775808,"f":0.1},{"host":"b","time":"1970-01-01T00:00:00.000002","f":-0.0},{"host":"c","time":"1970-01-01T00:00:00.000003","n":7,"f":1.0e300}]"#
    );
}

#[test]
fn what_there_is_is_listed() {
    let server = with_rows();
    let mut client = Client::new(&server, "x");
    client
        .update("CREATE TABLE t (b VARCHAR, a VARCHAR, time TIMESTAMP NOT NULL, v BIGINT, PRIMARY KEY (b, a, time))")
        .unwrap();
    let get = |client: &mut Client, info: FlightInfo| client.fetch(info).unwrap();
    let info = client.runtime.block_on(client.sql.get_catalogs()).unwrap();
    assert_eq!(column(&get(&mut client, info), 0), ["_internal", "main", "x"]);
    let asked = CommandGetDbSchemas { catalog: Some("x".into()), db_schema_filter_pattern: Some("p%".into()) };
    let info = client.runtime.block_on(client.sql.get_db_schemas(asked)).unwrap();
    assert_eq!(column(&get(&mut client, info), 1), ["public"]);
    let asked = CommandGetTables {
        catalog: Some("x".into()),
        db_schema_filter_pattern: None,
        table_name_filter_pattern: None,
        table_types: vec!["TABLE".into()],
        include_schema: true,
    };
    let info = client.runtime.block_on(client.sql.get_tables(asked)).unwrap();
    let tables = get(&mut client, info);
    assert_eq!((column(&tables, 2), column(&tables, 3)), (vec!["cpu".into(), "t".into()], vec!["TABLE".into(); 2]));
    let schema = tables[0].column(4).as_binary::<i32>().value(1);
    let schema = arrow_ipc::convert::try_schema_from_ipc_buffer(schema).unwrap();
    let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names, ["time", "b", "a", "v"]);
    let key = |table: &str| CommandGetPrimaryKeys { catalog: None, db_schema: None, table: table.into() };
    let info = client.runtime.block_on(client.sql.get_primary_keys(key("t"))).unwrap();
    let keys = get(&mut client, info);
    assert_eq!(
        (column(&keys, 0), column(&keys, 3)),
        (vec!["x".into(); 3], ["b", "a", "time"].map(String::from).into())
    );
    let info = client.runtime.block_on(client.sql.get_primary_keys(key("nowhere"))).unwrap();
    assert_eq!(column(&get(&mut client, info), 3), [""; 0]);
    let info = client.runtime.block_on(client.sql.get_table_types()).unwrap();
    assert_eq!(column(&get(&mut client, info), 0), ["TABLE", "VIEW"]);
    let info = client.runtime.block_on(client.sql.get_sql_info(vec![SqlInfo::FlightSqlServerName])).unwrap();
    assert_eq!(get(&mut client, info)[0].num_rows(), 1);
    let info =
        client.runtime.block_on(client.sql.get_xdbc_type_info(CommandGetXdbcTypeInfo { data_type: None })).unwrap();
    assert_eq!(get(&mut client, info)[0].num_rows(), 5);
    let info = client.runtime.block_on(client.sql.get_cross_reference(CommandGetCrossReference::default())).unwrap();
    assert_eq!(get(&mut client, info).iter().map(RecordBatch::num_rows).sum::<usize>(), 0);
}

#[test]
fn a_handshake_ends_in_a_bearer_token_and_schemas_are_told_alone() {
    let server = with_rows();
    let Client { runtime, sql: mut client } = Client::new(&server, "x");
    runtime.block_on(client.handshake("user", "secret")).unwrap();
    assert!(client.token().is_some());
    let mut plain = FlightClient::new_from_inner(client.into_inner());
    plain.add_header("database", "x").unwrap();
    runtime.block_on(async {
        use prost::Message;
        let command =
            arrow_flight::sql::CommandStatementQuery { query: "SELECT 1 AS one".into(), transaction_id: None };
        let command = arrow_flight::sql::ProstMessageExt::as_any(&command).encode_to_vec();
        let descriptor = arrow_flight::FlightDescriptor::new_cmd(command);
        let schema = plain.get_schema(descriptor.clone()).await.unwrap();
        assert_eq!(schema.field(0).name(), "one");
        let polled = plain.poll_flight_info(descriptor).await.unwrap();
        assert_eq!(polled.info.unwrap().endpoint.len(), 1);
        assert_eq!(plain.list_flights("").await.unwrap().count().await, 0);
        let actions: Vec<_> = plain.list_actions().await.unwrap().try_collect().await.unwrap();
        assert!(actions.iter().any(|action| action.r#type == "CancelFlightInfo"));
    });
}

const ENDLESS: &str = "SELECT count(*) FROM generate_series(1, 1000000000000) AS a(i)";

#[test]
fn who_has_the_ticket_stops_what_runs_for_it() {
    let server = with_rows();
    let mut client = Client::new(&server, "x");
    for sql in [ENDLESS, "SELECT i, repeat('x', 1000) FROM generate_series(1, 1000000000) AS s(i)"] {
        let info = client.info(sql).unwrap();
        let ticket = info.endpoint[0].ticket.clone().unwrap();
        let mut fetching = client.sql.clone();
        let fetched = client.runtime.spawn(async move {
            let stream = fetching.do_get(ticket).await.map_err(failure)?;
            stream.try_for_each(|_| async { Ok(()) }).await.map_err(of_stream)
        });
        let cancel = || {
            let request = CancelFlightInfoRequest { info: Some(info.clone()) };
            let mut plain = FlightClient::new_from_inner(client.sql.clone().into_inner());
            client.runtime.block_on(plain.cancel_flight_info(request))
        };
        // Nothing may run yet.
        let mut status = cancel();
        while status.is_err() {
            std::thread::sleep(std::time::Duration::from_millis(10));
            status = cancel();
        }
        assert_eq!(status.unwrap().status(), arrow_flight::CancelStatus::Cancelled);
        let ended = client.runtime.block_on(fetched).unwrap().unwrap_err();
        assert_eq!((ended.code, ended.sqlstate.as_deref()), (Code::Cancelled, Some("57014")));
        assert!(of_stream(cancel().unwrap_err()).message.contains("nothing runs"));
    }
    wait_until_idle(&server);
}

#[test]
fn a_client_that_goes_stops_its_statement() {
    let server = with_rows();
    let mut client = Client::new(&server, "x");
    let info = client.info("SELECT i, repeat('x', 1000) FROM generate_series(1, 1000000000) AS s(i)").unwrap();
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    client.runtime.block_on(async {
        let mut stream = client.sql.do_get(ticket).await.unwrap();
        assert!(stream.next().await.unwrap().is_ok());
    });
    let ended = wait_until_idle(&server);
    let rows: u64 = ended["rows"].as_u64().unwrap();
    assert_eq!(ended["state"], "canceled");
    assert!(0 < rows && rows < 1_000_000, "{ended}");
}

/// Waits until nothing runs, and returns what `system.queries` says of the last long statement.
fn wait_until_idle(server: &Running) -> serde_json::Value {
    let sql = "SELECT state, rows FROM system.queries WHERE sql LIKE '%generate_series%' AND sql NOT LIKE '%system.queries%' ORDER BY query_id DESC LIMIT 1";
    for _ in 0..500 {
        let shown: serde_json::Value = serde_json::from_str(&server.rows("x", sql)).unwrap();
        if shown[0]["state"] != "running" && server.get("/metrics").text().contains("marigram_queries_in_flight 0\n") {
            return shown[0].clone();
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("something runs on: {}", server.get("/metrics").text());
}

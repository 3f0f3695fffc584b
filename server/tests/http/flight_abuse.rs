//! Calls of Flight that fail: each alone, with a status that says why, on a connection that goes on.

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use std::io::Write;
use std::net::TcpStream;

use arrow_flight::sql::{
    ActionCreatePreparedStatementResult, Any, CommandPreparedStatementQuery, ProstMessageExt, TicketStatementQuery,
};
use arrow_flight::{Action, FlightData, FlightDescriptor, Ticket};
use futures::{StreamExt, TryStreamExt};
use prost::Message;
use tonic::Code;

use super::flight::{Client, failure, of_stream};
use super::support::Running;

fn server() -> Running {
    let server = Running::start(&[("write.body_bytes_max", "1 MiB")]);
    assert_eq!(server.post("/write?db=x", &[], "cpu,host=a load=1.5 1").status, 204);
    server
}

#[track_caller]
fn still_serves(client: &mut Client) {
    assert_eq!(client.query("SELECT 1").unwrap()[0].num_rows(), 1);
}

#[test]
fn failures_have_their_code_and_their_state() {
    let server = server();
    let mut client = Client::new(&server, "x");
    for (sql, code, state) in [
        ("SELEC 1", Code::InvalidArgument, "42601"),
        ("SELECT nothing FROM cpu", Code::InvalidArgument, "42703"),
        ("SELECT * FROM nothing", Code::InvalidArgument, "42P01"),
        ("SELECT 1; SELECT 2", Code::InvalidArgument, "42601"),
        ("BEGIN", Code::Unimplemented, "0A000"),
        ("SELECT 9223372036854775807 + load::bigint FROM cpu", Code::InvalidArgument, "22003"),
    ] {
        let failed = client.query(sql).unwrap_err();
        assert_eq!((failed.code, failed.sqlstate.as_deref()), (code, Some(state)), "{sql}: {}", failed.message);
        assert!(failed.message.ends_with(&format!(" (SQLSTATE {state})")), "{}", failed.message);
        still_serves(&mut client);
    }
    assert_eq!(client.query("").unwrap_err().code, Code::InvalidArgument);
    assert_eq!(client.update("DELETE FROM nothing").unwrap_err().sqlstate.as_deref(), Some("42P01"));
    let long = client.query(&format!("SELECT {}", "x".repeat(100_000))).unwrap_err();
    assert!(long.message.len() < 4096, "{}", long.message.len());
    let mut nowhere = Client::new(&server, "nowhere");
    for failed in [nowhere.query("SELECT 1").unwrap_err(), nowhere.ticket(r#"{"sql_query":"SELECT 1"}"#).unwrap_err()] {
        assert_eq!((failed.code, failed.sqlstate.as_deref()), (Code::NotFound, Some("3D000")));
    }
}

#[test]
fn what_is_no_ticket_no_command_and_no_action_is_refused() {
    let server = server();
    let mut client = Client::new(&server, "x");
    let unknown_handle = TicketStatementQuery { statement_handle: "{\"sql\":\"SELECT 1\"}".into() };
    let unknown_handle = unknown_handle.as_any().encode_to_vec();
    let elsewhere = Any { type_url: "type.googleapis.com/nobody.Knows".into(), value: "x".into() }.encode_to_vec();
    for ticket in [b"".to_vec(), b"\xff\xff\xff".to_vec(), b"{".to_vec(), b"{}".to_vec(), unknown_handle, elsewhere] {
        let ticket = Ticket { ticket: ticket.into() };
        let shown = format!("{ticket:?}");
        let failed = client.runtime.block_on(client.sql.do_get(ticket)).map(|_| ()).map_err(failure).unwrap_err();
        assert!(matches!(failed.code, Code::InvalidArgument | Code::Unimplemented), "{shown}: {failed:?}");
        still_serves(&mut client);
    }
    for (kind, body, code) in [
        ("NoSuchAction", b"".to_vec(), Code::Unimplemented),
        ("CreatePreparedStatement", b"\xff\xff".to_vec(), Code::InvalidArgument),
        ("CancelFlightInfo", b"\xff\xff".to_vec(), Code::InvalidArgument),
        ("CancelFlightInfo", b"".to_vec(), Code::NotFound),
        ("ClosePreparedStatement", b"".to_vec(), Code::InvalidArgument),
    ] {
        let action = Action { r#type: kind.into(), body: body.into() };
        let call = client.sql.inner_mut().do_action(action);
        assert_eq!(client.runtime.block_on(call).map(|_| ()).unwrap_err().code(), code, "{kind}");
    }
    let begun = client.runtime.block_on(client.sql.begin_transaction()).unwrap_err();
    assert_eq!(failure(begun).code, Code::Unimplemented);
    let within = client.runtime.block_on(client.sql.execute("SELECT 1".into(), Some("t".into()))).unwrap_err();
    assert_eq!(failure(within).code, Code::InvalidArgument);
    let put = client.sql.inner_mut().do_put(futures::stream::iter([FlightData::default()]));
    assert!(client.runtime.block_on(put).map(|_| ()).is_err());
    still_serves(&mut client);
}

#[test]
fn a_message_that_is_too_long_fails_its_call_only() {
    let server = server();
    let mut client = Client::new(&server, "x");
    let failed = client.query(&format!("SELECT '{}'", "x".repeat(1_200_000))).unwrap_err();
    assert_eq!(failed.code, Code::OutOfRange, "{}", failed.message);
    assert!(failed.message.contains("1048576 bytes"), "{}", failed.message);
    still_serves(&mut client);
    // One that only says it is long.
    let path = "/arrow.flight.protocol.FlightService/DoGet";
    let answer = server.post(path, &[("content-type", "application/grpc"), ("te", "trailers")], b"\0\xff\xff\xff\xff");
    assert_eq!(answer.status, 200);
    let unknown =
        server.post("/arrow.flight.protocol.FlightService/Nothing", &[("content-type", "application/grpc")], b"");
    assert_eq!(unknown.header("grpc-status"), "12");
    still_serves(&mut client);
}

/// The messages of a client that binds a row.
fn binding(client: &mut Client, sql: &str) -> Vec<FlightData> {
    let request = arrow_flight::sql::ActionCreatePreparedStatementRequest { query: sql.into(), transaction_id: None };
    let action = Action { r#type: "CreatePreparedStatement".into(), body: request.as_any().encode_to_vec().into() };
    let mut call = tonic::Request::new(action);
    call.metadata_mut().insert("database", "x".parse().unwrap());
    let made = client.runtime.block_on(async {
        let mut results = client.sql.inner_mut().do_action(call).await.unwrap().into_inner();
        results.message().await.unwrap().unwrap()
    });
    let made: ActionCreatePreparedStatementResult = Any::decode(made.body).unwrap().unpack().unwrap().unwrap();
    let command = CommandPreparedStatementQuery { prepared_statement_handle: made.prepared_statement_handle };
    let values: [(&str, ArrayRef); 2] = [
        ("1", std::sync::Arc::new(StringArray::from(vec!["a"]))),
        ("2", std::sync::Arc::new(Int64Array::from(vec![5]))),
    ];
    let batch = RecordBatch::try_from_iter(values).unwrap();
    let messages = arrow_flight::encode::FlightDataEncoderBuilder::new()
        .with_flight_descriptor(Some(FlightDescriptor::new_cmd(command.as_any().encode_to_vec())))
        .build(futures::stream::iter([Ok(batch)]));
    client.runtime.block_on(messages.try_collect()).unwrap()
}

#[test]
fn lies_about_lengths_fail_their_call_only() {
    let server = server();
    let mut client = Client::new(&server, "x");
    let good = binding(&mut client, "SELECT $1 AS a, $2 + 1 AS b");
    let put = |client: &mut Client, messages: Vec<FlightData>| {
        client.runtime.block_on(async {
            let answer = client.sql.inner_mut().do_put(futures::stream::iter(messages)).await;
            match answer {
                Ok(answer) => answer.into_inner().next().await.unwrap().map(|_| ()),
                Err(status) => Err(status),
            }
        })
    };
    put(&mut client, good.clone()).unwrap();
    let mut refused = 0;
    for message in 0..good.len() {
        for at in 0..good[message].data_header.len() {
            let mut bad = good.clone();
            let mut header = bad[message].data_header.to_vec();
            header[at] ^= 0x40;
            bad[message].data_header = header.into();
            if let Err(status) = put(&mut client, bad) {
                refused += 1;
                assert_eq!(status.code(), Code::InvalidArgument, "{message} {at}: {status:?}");
            }
        }
    }
    assert!(20 < refused, "{refused}");
    still_serves(&mut client);
    assert_eq!(
        of_stream(client.runtime.block_on(client.sql.execute_update("SELECT 1".into(), None)).unwrap_err()).code,
        Code::InvalidArgument
    );
}

#[test]
fn a_long_message_waits_for_room_as_the_body_of_a_write_does() {
    let server = Running::start(&[
        ("write.body_bytes_max", "1 MiB"),
        ("write.inflight_bytes_max", "1 MiB"),
        ("write.wait_max", "100 ms"),
    ]);
    let mut client = Client::new(&server, "main");
    let long = format!("SELECT '{}'", "x".repeat(200 << 10));
    assert_eq!(client.query(&long).unwrap()[0].num_rows(), 1);
    // A write that says it is long and goes no further holds all the room there is.
    let mut stalled = TcpStream::connect(server.base.trim_start_matches("http://")).unwrap();
    stalled.write_all(b"POST /write?db=x HTTP/1.1\r\nHost: x\r\nContent-Length: 1048576\r\n\r\nm v=").unwrap();
    let full = (0..100).find_map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        client.query(&long).err()
    });
    let full = full.expect("there was room all the time");
    assert_eq!(
        (full.code, full.message.as_str()),
        (Code::Unavailable, "the server is busy with other writes, try again")
    );
    still_serves(&mut client);
}

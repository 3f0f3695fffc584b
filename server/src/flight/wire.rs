//! The calls as gRPC has them: Flight SQL's, and before them InfluxDB 3's ticket, which is JSON and no protobuf.

use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::Any;
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, PollInfo,
    SchemaResult, Ticket,
};
use bytes::Bytes;
use futures::StreamExt;
use marigram_query::ScalarParam;
use prost::Message;
use serde_json::Value;
use tonic::{Request, Response, Status, Streaming};

use super::service::CANCEL_FLIGHT_INFO;
use super::{Caller, Rows, Service};
use crate::http::statement_params;
use crate::influxql::select::Select;

/// What `do_action` does.
const ACTIONS: [(&str, &str); 4] = [
    ("CreatePreparedStatement", "Prepares a statement, and says what its values and its rows are."),
    ("ClosePreparedStatement", "Closes a prepared statement."),
    ("CancelQuery", "Stops the statement of a FlightInfo."),
    (CANCEL_FLIGHT_INFO, "Stops the statement of a FlightInfo."),
];

/// What the listener calls.
pub(super) struct Wire(pub(super) Service);

/// InfluxDB 3's ticket.
#[derive(Debug)]
struct JsonTicket {
    database: Option<String>,
    query: String,
    is_influxql: bool,
    params: Option<String>,
}

impl JsonTicket {
    /// `None`: it is one of Flight SQL's.
    fn parse(ticket: &[u8]) -> Option<Result<Self, Status>> {
        (ticket.first() == Some(&b'{')).then(|| Self::of_json(ticket))
    }

    fn of_json(ticket: &[u8]) -> Result<Self, Status> {
        let parsed: Value = serde_json::from_slice(ticket)
            .map_err(|error| Status::invalid_argument(format!("the ticket is not JSON: {error}")))?;
        let text = |names: &[&str]| names.iter().find_map(|name| parsed.get(*name)?.as_str()).map(str::to_owned);
        let is_influxql = match text(&["query_type"]).map(|kind| kind.to_ascii_lowercase()).as_deref() {
            None | Some("sql") => false,
            Some("influxql") => true,
            Some(kind) => {
                return Err(Status::unimplemented(format!("query_type {kind:?} is neither \"sql\" nor \"influxql\"")));
            }
        };
        let params = parsed.get("params").filter(|params| !params.is_null()).map(Value::to_string);
        let query = text(&["sql_query", "query"]);
        let query = query.ok_or_else(|| Status::invalid_argument("the ticket has no \"sql_query\""))?;
        Ok(Self { database: text(&["database", "namespace_name", "bucket"]), query, is_influxql, params })
    }
}

impl Service {
    async fn answer(&self, ticket: JsonTicket, mut caller: Caller) -> Result<Response<Rows>, Status> {
        if let Some(database) = ticket.database.filter(|name| !name.is_empty()) {
            caller.database = database;
        }
        let mut statement = match ticket.is_influxql {
            true => caller.statement(&self.of_influxql(&ticket.query, &caller).await?),
            false => caller.statement(&ticket.query),
        };
        statement.params =
            statement_params(ticket.params.as_deref()).map_err(|refusal| Status::invalid_argument(refusal.message))?;
        self.rows(statement, self.under_way.enter(0)).await
    }

    /// InfluxQL as SQL.
    async fn of_influxql(&self, text: &str, caller: &Caller) -> Result<String, Status> {
        let select = Select::parse(text).map_err(|error| Status::invalid_argument(error.0))?;
        let sql =
            "SELECT column_name FROM information_schema.columns WHERE table_schema = 'public' AND table_name = $1";
        let mut columns = caller.statement(sql);
        columns.params = [("1".to_owned(), ScalarParam::String(select.measurement.clone()))].into();
        let known: Vec<String> = self.texts(columns).await?.into_iter().flatten().collect();
        if known.is_empty() {
            // InfluxDB knows no error of a measurement that is not there.
            return Ok("SELECT '' AS \"iox::measurement\", CAST(NULL AS TIMESTAMP) AS \"time\" LIMIT 0".to_owned());
        }
        Ok(select.sql(&known))
    }
}

/// Says what is wrong where the words of the decoder do not.
fn check_command(what: &str, bytes: &Bytes) -> Result<(), Status> {
    let command = Any::decode(bytes.as_ref()).ok().filter(|command| !command.type_url.is_empty());
    match command {
        Some(_) => Ok(()),
        None => Err(Status::invalid_argument(format!("the {what} is neither a command of Flight SQL nor JSON"))),
    }
}

#[tonic::async_trait]
impl FlightService for Wire {
    type HandshakeStream = <Service as FlightService>::HandshakeStream;
    type ListFlightsStream = <Service as FlightService>::ListFlightsStream;
    type DoGetStream = <Service as FlightService>::DoGetStream;
    type DoPutStream = <Service as FlightService>::DoPutStream;
    type DoActionStream = <Service as FlightService>::DoActionStream;
    type ListActionsStream = <Service as FlightService>::ListActionsStream;
    type DoExchangeStream = <Service as FlightService>::DoExchangeStream;

    async fn handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        self.0.handshake(request).await
    }

    async fn list_flights(&self, request: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        let _ = request; // nothing is kept for who did not ask for it
        Ok(Response::new(futures::stream::empty().boxed()))
    }

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        check_command("descriptor", &request.get_ref().cmd)?;
        self.0.get_flight_info(request).await
    }

    async fn poll_flight_info(&self, request: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        // What is described can be fetched: there is nothing to wait for.
        let info = self.get_flight_info(request).await?.into_inner();
        Ok(Response::new(PollInfo::new().with_info(info)))
    }

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        let info = self.get_flight_info(request).await?.into_inner();
        Ok(Response::new(SchemaResult { schema: info.schema }))
    }

    async fn do_get(&self, request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        let Some(ticket) = JsonTicket::parse(&request.get_ref().ticket) else {
            check_command("ticket", &request.get_ref().ticket)?;
            return self.0.do_get(request).await;
        };
        let caller = Caller::of(&request)?;
        self.0.answer(ticket?, caller).await
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        self.0.do_put(request).await
    }

    async fn do_action(&self, request: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        self.0.do_action(request).await
    }

    async fn list_actions(&self, request: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        let _ = request; // everybody may know
        let action = |(kind, description): (&str, &str)| ActionType {
            r#type: kind.to_owned(),
            description: description.to_owned(),
        };
        Ok(Response::new(futures::stream::iter(ACTIONS.map(action).map(Ok)).boxed()))
    }

    async fn do_exchange(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        self.0.do_exchange(request).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_of_influxdb_are_json() {
        let parse = |text: &str| JsonTicket::parse(text.as_bytes());
        let ticket = parse(r#"{"database":"d","sql_query":"SELECT 1","query_type":"sql","params":{"a":1}}"#);
        let ticket = ticket.expect("a ticket").expect("JSON");
        assert_eq!((ticket.database.as_deref(), ticket.query.as_str()), (Some("d"), "SELECT 1"));
        assert_eq!((ticket.params.as_deref(), ticket.is_influxql), (Some(r#"{"a":1}"#), false));
        let ticket = parse(r#"{"sql_query":"SHOW x","query_type":"InfluxQL"}"#).expect("a ticket").expect("JSON");
        assert!(ticket.is_influxql);
        assert!(parse("\n\u{1}type.googleapis.com/").is_none());
        for (text, code) in [
            (r#"{"sql_query":"#, tonic::Code::InvalidArgument),
            (r#"{"database":"d"}"#, tonic::Code::InvalidArgument),
            (r#"{"sql_query":"up","query_type":"promql"}"#, tonic::Code::Unimplemented),
        ] {
            let refused = parse(text).expect("a ticket").expect_err(text);
            assert_eq!(refused.code(), code, "{text}");
        }
    }
}

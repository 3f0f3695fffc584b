//! Flight SQL's commands.

use std::pin::Pin;

use arrow_array::RecordBatch;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::server::{FlightSqlService, PeekableFlightDataStream};
use arrow_flight::sql::{
    ActionBeginTransactionRequest, ActionBeginTransactionResult, ActionCancelQueryRequest, ActionCancelQueryResult,
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult,
    Any, Command, CommandGetCatalogs, CommandGetCrossReference, CommandGetDbSchemas, CommandGetExportedKeys,
    CommandGetImportedKeys, CommandGetPrimaryKeys, CommandGetSqlInfo, CommandGetTableTypes, CommandGetTables,
    CommandGetXdbcTypeInfo, CommandPreparedStatementQuery, CommandPreparedStatementUpdate, CommandStatementQuery,
    CommandStatementUpdate, DoPutPreparedStatementResult, ProstMessageExt, SqlInfo, TicketStatementQuery,
};
use arrow_flight::{
    Action, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightDescriptor, FlightEndpoint,
    FlightInfo, HandshakeRequest, HandshakeResponse, IpcMessage, SchemaAsIpc, Ticket,
};
use arrow_ipc::writer::IpcWriteOptions;
use arrow_schema::Schema;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use marigram_query::{Description, Prepared, QueryError, QueryErrorKind, Request as Statement};
use marigram_storage::clock::Clock;
use prost::Message;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status, Streaming};

use super::catalog::{foreign_key_schema, primary_key_schema};
use super::handle::Handle;
use super::values::{Bound, carried, received, to_carry};
use super::{Caller, Rows, Service, columns, internal, one, status, ticket};

type Handshakes = Pin<Box<dyn Stream<Item = Result<HandshakeResponse, Status>> + Send>>;

/// What stops the statement of a `FlightInfo`.
pub(super) const CANCEL_FLIGHT_INFO: &str = "CancelFlightInfo";

#[tonic::async_trait]
impl FlightSqlService for Service {
    type FlightService = Self;

    /// Credentials come with every call; who shakes hands first is told what to send then: the token, in whatever form it
    /// was sent.
    async fn do_handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Handshakes>, Status> {
        Caller::of(&request)?;
        let secret =
            crate::auth::text_of(&request.metadata().clone().into_headers()).unwrap_or_else(|| "none".to_owned());
        let bearer = MetadataValue::try_from(format!("Bearer {secret}")).map_err(internal)?;
        let answer = HandshakeResponse { protocol_version: 0, payload: Bytes::new() };
        let mut response: Response<Handshakes> = Response::new(futures::stream::iter([Ok(answer)]).boxed());
        response.metadata_mut().insert("authorization", bearer);
        Ok(response)
    }

    async fn get_flight_info_statement(
        &self,
        query: CommandStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        outside_transactions(query.transaction_id.as_ref())?;
        let caller = Caller::of(&request)?;
        let described = self.described(&caller, &query.query, &Bound::default()).await?;
        let handle = Handle::new(&caller.database, &query.query);
        self.ticket_of(described, handle, request.into_inner())
    }

    async fn do_get_statement(
        &self,
        statement: TicketStatementQuery,
        request: Request<Ticket>,
    ) -> Result<Response<Rows>, Status> {
        self.rows_of(&statement.statement_handle, &Caller::of(&request)?).await
    }

    async fn do_put_statement_update(
        &self,
        update: CommandStatementUpdate,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        outside_transactions(update.transaction_id.as_ref())?;
        let caller = Caller::of(&request)?;
        self.update(caller.statement(&update.query)).await
    }

    async fn do_action_create_prepared_statement(
        &self,
        query: ActionCreatePreparedStatementRequest,
        request: Request<Action>,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        outside_transactions(query.transaction_id.as_ref())?;
        let caller = Caller::of(&request)?;
        let described = self.described(&caller, &query.query, &Bound::default()).await?;
        let parameters = described
            .parameters
            .iter()
            .enumerate()
            .map(|(at, data_type)| arrow_schema::Field::new(format!("${}", at + 1), data_type.clone(), true));
        let parameters = Schema::new(parameters.collect::<Vec<_>>());
        let rows = described.schema.map_or(Schema::empty(), |schema| Schema::clone(&columns::plain(&schema)));
        Ok(ActionCreatePreparedStatementResult {
            prepared_statement_handle: Handle::new(&caller.database, &query.query).bytes(),
            dataset_schema: message(&rows)?,
            parameter_schema: message(&columns::plain(&parameters))?,
        })
    }

    /// Nothing is kept that could be closed.
    async fn do_action_close_prepared_statement(
        &self,
        query: ActionClosePreparedStatementRequest,
        _: Request<Action>,
    ) -> Result<(), Status> {
        Handle::read(&query.prepared_statement_handle).map(|_| ())
    }

    async fn do_put_prepared_statement_query(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<DoPutPreparedStatementResult, Status> {
        let mut handle = Handle::read(&query.prepared_statement_handle)?;
        handle.values = to_carry(request.into_inner()).await?;
        Ok(DoPutPreparedStatementResult { prepared_statement_handle: Some(handle.bytes()) })
    }

    async fn do_put_prepared_statement_update(
        &self,
        query: CommandPreparedStatementUpdate,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        let handle = Handle::read(&query.prepared_statement_handle)?;
        let caller = Caller::of(&request)?.about(&handle.database);
        // Who binds while it executes sends the values here; who bound before has them in the handle.
        let before = futures::stream::iter(carried(&handle.values)?).map(Ok);
        let mut batches = received(request.into_inner()).chain(before);
        let mut count = None;
        while let Some(batch) = batches.next().await {
            let batch = batch?;
            for row in 0..batch.num_rows() {
                let values = Bound::row(&batch, row)?;
                if count.is_none() {
                    check_count(&handle.sql, &values)?;
                }
                let one = self.update(bound(&caller, &handle, values)).await?;
                let all = count.unwrap_or_default();
                count = Some(if one < 0 || all < 0 { -1 } else { one.saturating_add(all) });
            }
        }
        match count {
            Some(count) => Ok(count),
            None => self.update(bound(&caller, &handle, Bound::default())).await,
        }
    }

    async fn get_flight_info_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let handle = Handle::read(&query.prepared_statement_handle)?;
        let caller = Caller::of(&request)?.about(&handle.database);
        let described = self.described(&caller, &handle.sql, &Bound::of_handle(&handle.values)?).await?;
        self.ticket_of(described, handle, request.into_inner())
    }

    async fn do_get_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<Ticket>,
    ) -> Result<Response<Rows>, Status> {
        self.rows_of(&query.prepared_statement_handle, &Caller::of(&request)?).await
    }

    async fn do_action_begin_transaction(
        &self,
        _: ActionBeginTransactionRequest,
        _: Request<Action>,
    ) -> Result<ActionBeginTransactionResult, Status> {
        Err(Status::unimplemented("there are no transactions over Flight: each statement takes effect at once"))
    }

    async fn do_action_cancel_query(
        &self,
        query: ActionCancelQueryRequest,
        _: Request<Action>,
    ) -> Result<ActionCancelQueryResult, Status> {
        let info = FlightInfo::decode(query.info).map_err(|error| Status::invalid_argument(error.to_string()))?;
        self.cancel(&info)?;
        // Both enumerations have the same numbers.
        Ok(ActionCancelQueryResult { result: CancelStatus::Cancelled.into() })
    }

    async fn do_action_fallback(
        &self,
        request: Request<Action>,
    ) -> Result<Response<<Self as FlightService>::DoActionStream>, Status> {
        let action = request.into_inner();
        if action.r#type != CANCEL_FLIGHT_INFO {
            return Err(Status::unimplemented(format!("there is no action {:?}", action.r#type)));
        }
        let asked = CancelFlightInfoRequest::decode(action.body);
        let asked = asked.map_err(|error| Status::invalid_argument(error.to_string()))?;
        self.cancel(&asked.info.unwrap_or_default())?;
        let result = CancelFlightInfoResult { status: CancelStatus::Cancelled.into() };
        let result = arrow_flight::Result { body: result.encode_to_vec().into() };
        Ok(Response::new(futures::stream::iter([Ok(result)]).boxed()))
    }

    async fn get_flight_info_catalogs(
        &self,
        query: CommandGetCatalogs,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        info(Some(&query.into_builder().schema()), &query, request.into_inner())
    }

    async fn do_get_catalogs(
        &self,
        query: CommandGetCatalogs,
        request: Request<Ticket>,
    ) -> Result<Response<Rows>, Status> {
        self.catalogs(query, &Caller::of(&request)?).await.map(Response::new)
    }

    async fn get_flight_info_schemas(
        &self,
        query: CommandGetDbSchemas,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let schema = query.clone().into_builder().schema();
        info(Some(&schema), &query, request.into_inner())
    }

    async fn do_get_schemas(
        &self,
        query: CommandGetDbSchemas,
        request: Request<Ticket>,
    ) -> Result<Response<Rows>, Status> {
        self.schemas(query, &Caller::of(&request)?).await.map(Response::new)
    }

    async fn get_flight_info_tables(
        &self,
        query: CommandGetTables,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let schema = query.clone().into_builder().schema();
        info(Some(&schema), &query, request.into_inner())
    }

    async fn do_get_tables(&self, query: CommandGetTables, request: Request<Ticket>) -> Result<Response<Rows>, Status> {
        self.tables(query, &Caller::of(&request)?).await.map(Response::new)
    }

    async fn get_flight_info_table_types(
        &self,
        query: CommandGetTableTypes,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        info(Some(&query.into_builder().schema()), &query, request.into_inner())
    }

    async fn do_get_table_types(
        &self,
        query: CommandGetTableTypes,
        _: Request<Ticket>,
    ) -> Result<Response<Rows>, Status> {
        self.table_types(query).map(Response::new)
    }

    async fn get_flight_info_sql_info(
        &self,
        query: CommandGetSqlInfo,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let schema = super::info::sql_info()?.schema();
        info(Some(&schema), &query, request.into_inner())
    }

    async fn do_get_sql_info(&self, query: CommandGetSqlInfo, _: Request<Ticket>) -> Result<Response<Rows>, Status> {
        let batch = query.into_builder(super::info::sql_info()?).build().map_err(internal)?;
        Ok(Response::new(one(batch)))
    }

    async fn get_flight_info_xdbc_type_info(
        &self,
        query: CommandGetXdbcTypeInfo,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let schema = super::info::types()?.schema();
        info(Some(&schema), &query, request.into_inner())
    }

    async fn do_get_xdbc_type_info(
        &self,
        query: CommandGetXdbcTypeInfo,
        _: Request<Ticket>,
    ) -> Result<Response<Rows>, Status> {
        let batch = query.into_builder(super::info::types()?).build().map_err(internal)?;
        Ok(Response::new(one(batch)))
    }

    async fn get_flight_info_primary_keys(
        &self,
        query: CommandGetPrimaryKeys,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        info(Some(&primary_key_schema()), &query, request.into_inner())
    }

    async fn do_get_primary_keys(
        &self,
        query: CommandGetPrimaryKeys,
        request: Request<Ticket>,
    ) -> Result<Response<Rows>, Status> {
        self.primary_keys(query, &Caller::of(&request)?).await.map(Response::new)
    }

    async fn get_flight_info_exported_keys(
        &self,
        query: CommandGetExportedKeys,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        info(Some(&foreign_key_schema()), &query, request.into_inner())
    }

    async fn do_get_exported_keys(
        &self,
        _: CommandGetExportedKeys,
        _: Request<Ticket>,
    ) -> Result<Response<Rows>, Status> {
        Ok(Response::new(one(RecordBatch::new_empty(foreign_key_schema()))))
    }

    async fn get_flight_info_imported_keys(
        &self,
        query: CommandGetImportedKeys,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        info(Some(&foreign_key_schema()), &query, request.into_inner())
    }

    async fn do_get_imported_keys(
        &self,
        _: CommandGetImportedKeys,
        _: Request<Ticket>,
    ) -> Result<Response<Rows>, Status> {
        Ok(Response::new(one(RecordBatch::new_empty(foreign_key_schema()))))
    }

    async fn get_flight_info_cross_reference(
        &self,
        query: CommandGetCrossReference,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        info(Some(&foreign_key_schema()), &query, request.into_inner())
    }

    async fn do_get_cross_reference(
        &self,
        _: CommandGetCrossReference,
        _: Request<Ticket>,
    ) -> Result<Response<Rows>, Status> {
        Ok(Response::new(one(RecordBatch::new_empty(foreign_key_schema()))))
    }

    /// What this server is, is fixed.
    async fn register_sql_info(&self, _: i32, _: &SqlInfo) {}
}

impl Service {
    /// What is known about a statement before it runs.
    async fn described(&self, caller: &Caller, sql: &str, bound: &Bound) -> Result<Description, Status> {
        check_count(sql, bound)?;
        let prepared = Prepared::read(sql, bound.types.clone(), Vec::new()).map_err(status)?;
        if prepared.is_empty() {
            return Err(Status::invalid_argument("there is no statement in the text (SQLSTATE 42601)"));
        }
        let mut connection = self.shared.query.connect(&caller.database, caller.principal.clone()).map_err(status)?;
        if let Some(token) = &caller.snapshot {
            connection.read_at(token).map_err(status)?;
        }
        connection.describe(&prepared).await.map_err(status)
    }

    /// The one place where the rows of a statement are fetched: here, by a ticket that has a number.
    fn ticket_of(
        &self,
        described: Description,
        mut handle: Handle,
        descriptor: FlightDescriptor,
    ) -> Result<Response<FlightInfo>, Status> {
        handle.number = self.shared.clock.random_u64() | 1;
        let command = TicketStatementQuery { statement_handle: handle.bytes() };
        info(described.schema.map(|schema| columns::plain(&schema)).as_deref(), &command, descriptor)
    }

    async fn rows_of(&self, handle: &Bytes, caller: &Caller) -> Result<Response<Rows>, Status> {
        let handle = Handle::read(handle)?;
        let statement = bound(&caller.about(&handle.database), &handle, Bound::of_handle(&handle.values)?);
        let watched = self.under_way.enter(handle.number);
        self.rows(statement, watched).await
    }

    /// Stops what runs for a ticket.
    fn cancel(&self, info: &FlightInfo) -> Result<(), Status> {
        let tickets = info.endpoint.iter().filter_map(|endpoint| endpoint.ticket.as_ref());
        let mut any = false;
        for ticket in tickets {
            let unknown = || Status::invalid_argument("the ticket is none of this server's");
            let command = Any::decode(ticket.ticket.as_ref()).map_err(|_| unknown())?;
            let Ok(Command::TicketStatementQuery(query)) = Command::try_from(command) else {
                return Err(unknown());
            };
            let handle = Handle::read(&query.statement_handle)?;
            any |= handle.number != 0 && self.under_way.cancel(handle.number, &self.shared.query);
        }
        if any { Ok(()) } else { Err(Status::not_found("nothing runs for this ticket")) }
    }
}

/// A statement with its values.
fn bound(caller: &Caller, handle: &Handle, values: Bound) -> Statement {
    let mut statement = caller.statement(&handle.sql);
    statement.params = values.numbered();
    statement
}

/// Whether a statement takes as many values as were bound, if any were.
fn check_count(sql: &str, bound: &Bound) -> Result<(), Status> {
    if bound.types.is_empty() {
        return Ok(());
    }
    let wanted = Prepared::read(sql, Vec::new(), Vec::new()).map_err(status)?.parameter_count();
    if wanted == bound.types.len() {
        return Ok(());
    }
    let message = format!("the statement wants {wanted} parameters, there are {}", bound.types.len());
    Err(status(QueryError { sqlstate: "08P01", ..QueryError::new(QueryErrorKind::Syntax, message) }))
}

fn outside_transactions(transaction: Option<&Bytes>) -> Result<(), Status> {
    match transaction.filter(|id| !id.is_empty()) {
        Some(_) => Err(Status::invalid_argument("there is no such transaction: Flight has none here")),
        None => Ok(()),
    }
}

/// The one endpoint of a command, which is its own ticket.
fn info(
    schema: Option<&Schema>,
    command: &impl ProstMessageExt,
    descriptor: FlightDescriptor,
) -> Result<Response<FlightInfo>, Status> {
    let ticket = ticket(command.as_any().encode_to_vec());
    let info = FlightInfo::new()
        .with_endpoint(FlightEndpoint::new().with_ticket(ticket))
        .with_descriptor(descriptor)
        .with_total_records(-1)
        .with_total_bytes(-1);
    let info = match schema {
        Some(schema) => info.try_with_schema(schema).map_err(internal)?,
        None => info,
    };
    Ok(Response::new(info))
}

/// A schema as Flight SQL carries it.
fn message(schema: &Schema) -> Result<Bytes, Status> {
    let options = IpcWriteOptions::default();
    let IpcMessage(bytes) = SchemaAsIpc::new(schema, &options).try_into().map_err(internal)?;
    Ok(bytes)
}

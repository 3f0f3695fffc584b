//! The extended protocol: statements that are read once, filled with values and executed, so many rows at a time.
//!
//! A portal whose rows are described begins to run, for only then are its columns known for sure; so each statement is
//! planned once. It stays open between two `Execute`s, and holds what a running statement holds.

use std::sync::Arc;

use marigram_query::{
    ARRAY_ELEMENTS_MAX, Answer, Prepared, QueryError, QueryErrorKind, RowsTag, ScalarParam, too_many_elements,
};

use super::Cancel;
use super::client::{Client, Failure, guarded, read};
use super::encode::Encoder;
use super::frame::{Bind, Frontend, Target};
use super::parameter;
use super::rows::{Rows, Sent};
use super::types::Kind;
use super::wire::Wire;

/// Portals of one connection.
const PORTALS_MAX: usize = 1000;

/// A statement with its values.
pub(super) struct Portal {
    prepared: Arc<Prepared>,
    params: Vec<ScalarParam>,
    /// Of the values, until it begins.
    bytes: usize,
    formats: Vec<i16>,
    state: State,
}

/// How far a portal is.
enum State {
    New,
    Open(Box<Rows>),
    /// A copy begins with `Execute`.
    Copy(Box<Answer>),
    /// What is said when it is asked for more.
    Done(String),
}

fn protocol(message: impl Into<String>) -> QueryError {
    let mut error = QueryError::new(QueryErrorKind::Invalid, message);
    error.sqlstate = "08P01";
    error
}

fn unknown_portal(name: &str) -> QueryError {
    let mut error = QueryError::new(QueryErrorKind::Invalid, format!("portal {name:?} does not exist"));
    error.sqlstate = "34000";
    error
}

impl Client {
    /// One message of the extended protocol.
    pub(super) async fn extended(
        &mut self,
        wire: &mut Wire,
        cancel: &mut Cancel,
        frame: Frontend,
    ) -> Result<(), Failure> {
        match frame {
            Frontend::Parse { name, sql, types } => {
                self.parse(&name, &sql, types)?;
                wire.out.empty(b'1');
                Ok(())
            }
            Frontend::Bind(bind) => self.bind(wire, cancel, bind).await,
            Frontend::Describe { kind: Target::Statement, name } => self.describe_statement(wire, cancel, &name).await,
            Frontend::Describe { kind: Target::Portal, name } => self.describe_portal(wire, cancel, &name).await,
            Frontend::Execute { portal, rows_max } => self.execute(wire, cancel, &portal, rows_max).await,
            Frontend::Close { kind, name } => {
                match kind {
                    Target::Statement => self.session.remove_prepared(&name),
                    Target::Portal => _ = self.portals.remove(&name),
                }
                wire.out.empty(b'3');
                Ok(())
            }
            _ => Err(protocol("a message out of place").into()),
        }
    }

    fn parse(&mut self, name: &str, sql: &str, types: Vec<u32>) -> Result<(), QueryError> {
        let known = types.iter().map(|oid| Kind::from_oid(*oid).map(Kind::data_type)).collect();
        let prepared = read(sql, |sql| Prepared::read(sql, known, types));
        // The place of an error counts in the text.
        self.failed_sql = if prepared.is_err() { sql.to_owned() } else { String::new() };
        self.session.insert_prepared(name, prepared?)
    }

    async fn bind(&mut self, wire: &mut Wire, cancel: &mut Cancel, bind: Bind) -> Result<(), Failure> {
        let prepared = self.session.prepared(&bind.statement)?;
        let count = prepared.parameter_count();
        if bind.values.len() != count {
            let message = format!(
                "bind message supplies {} parameters, but prepared statement {:?} requires {count}",
                bind.values.len(),
                bind.statement
            );
            return Err(protocol(message).into());
        }
        if !matches!(bind.formats.len(), 0 | 1) && bind.formats.len() != count {
            return Err(protocol("there are as many formats as parameters, or one, or none").into());
        }
        if !bind.portal.is_empty() && self.portals.contains_key(&bind.portal) {
            let mut error = protocol(format!("portal {:?} already exists", bind.portal));
            error.sqlstate = "42P03";
            return Err(error.into());
        }
        if PORTALS_MAX <= self.portals.len() {
            let message = format!("a connection has at most {PORTALS_MAX} portals");
            return Err(QueryError::new(QueryErrorKind::Limit, message).into());
        }
        let declared = |at: usize| Kind::from_oid(prepared.type_number(at));
        let is_binary = |at: usize| match bind.formats.as_slice() {
            [one] => *one == 1,
            each => each.get(at) == Some(&1),
        };
        // Bytes of a type that nobody named mean nothing: the planner says what it is.
        let is_open = |at: usize| declared(at).is_none() && is_binary(at);
        if prepared.description().is_none() && (0..count).any(is_open) {
            guarded(wire, cancel, self.session.describe(&prepared)).await?;
        }
        let described = prepared.description();
        let bytes = bind.values.iter().flatten().map(|value| value.len()).sum();
        self.check_waiting(&bind.portal, bytes)?;
        let (mut params, mut elements) = (Vec::with_capacity(count), 0);
        for (at, value) in bind.values.into_iter().enumerate() {
            let planned = described.and_then(|known| known.parameters.get(at)).map(Kind::of);
            let kind = declared(at).or(planned);
            let param = parameter::decode(at + 1, kind, is_binary(at), value)?;
            elements += parameter::elements_of(&param);
            if ARRAY_ELEMENTS_MAX < elements {
                return Err(too_many_elements().into());
            }
            params.push(param);
        }
        let (prepared, formats) = (Arc::clone(&prepared), bind.results);
        let portal = Portal { prepared, params, bytes, formats, state: State::New };
        self.portals.insert(bind.portal, portal);
        wire.out.empty(b'2');
        Ok(())
    }

    /// Whether another portal with so many bytes of values may wait: all together may have what one message has.
    fn check_waiting(&self, name: &str, bytes: usize) -> Result<(), QueryError> {
        let others = self.portals.iter().filter(|(other, _)| *other != name).map(|(_, portal)| portal.bytes);
        let bytes_max = self.shared.config.connection.pg_message_bytes_max;
        if bytes_max < others.sum::<usize>().saturating_add(bytes) as u64 {
            let message = format!(
                "the values of portals that wait have more than connection.pg_message_bytes_max, {bytes_max} bytes"
            );
            return Err(QueryError::new(QueryErrorKind::Limit, message));
        }
        Ok(())
    }

    async fn describe_statement(&mut self, wire: &mut Wire, cancel: &mut Cancel, name: &str) -> Result<(), Failure> {
        let prepared = self.session.prepared(name)?;
        let description = guarded(wire, cancel, self.session.describe(&prepared)).await?;
        let oid = |(at, planned)| match prepared.type_number(at) {
            0 | 705 => Kind::of(planned).oid(),
            said => said,
        };
        let oids: Vec<u32> = description.parameters.iter().enumerate().map(oid).collect();
        wire.out.parameters(&oids);
        match &description.schema {
            Some(schema) => wire.out.columns(Encoder::new(schema, &[]).map_err(protocol)?.columns()),
            None => wire.out.empty(b'n'),
        }
        Ok(())
    }

    async fn describe_portal(&mut self, wire: &mut Wire, cancel: &mut Cancel, name: &str) -> Result<(), Failure> {
        let Some(portal) = self.portals.get(name) else {
            // A cursor of `DECLARE` is one too.
            let schema = self.session.cursor_schema(name).map_err(|_| unknown_portal(name))?;
            wire.out.columns(Encoder::new(&schema, &[]).map_err(protocol)?.columns());
            return Ok(());
        };
        if portal.prepared.is_query() {
            self.begin(wire, cancel, name).await?;
            if let Some(Portal { state: State::Open(rows), .. }) = self.portals.get(name) {
                wire.out.columns(rows.columns());
                return Ok(());
            }
        } else {
            let (prepared, formats) = (Arc::clone(&portal.prepared), portal.formats.clone());
            let description = guarded(wire, cancel, self.session.describe(&prepared)).await?;
            if let Some(schema) = &description.schema {
                wire.out.columns(Encoder::new(schema, &formats).map_err(protocol)?.columns());
                return Ok(());
            }
        }
        wire.out.empty(b'n');
        Ok(())
    }

    /// Starts a portal that is new.
    async fn begin(&mut self, wire: &mut Wire, cancel: &mut Cancel, name: &str) -> Result<(), Failure> {
        let portal = self.portals.get_mut(name).ok_or_else(|| unknown_portal(name))?;
        if !matches!(portal.state, State::New) {
            return Ok(());
        }
        self.shared.metrics.pg_statements.add(1);
        let prepared = Arc::clone(&portal.prepared);
        let params = std::mem::take(&mut portal.params);
        portal.bytes = 0;
        // What fails is not tried a second time.
        portal.state = State::Done(String::new());
        let answer = guarded(wire, cancel, self.session.execute(&prepared, &params)).await;
        self.report(wire);
        self.notices(wire);
        let answer = answer?;
        // It may have closed all portals.
        let Some(portal) = self.portals.get_mut(name) else {
            return Ok(());
        };
        portal.state = match answer {
            Answer::Empty => State::Done(String::new()),
            Answer::Done { tag } => State::Done(tag),
            copy @ (Answer::CopyOut { .. } | Answer::CopyIn { .. }) => State::Copy(Box::new(copy)),
            Answer::Rows { schema, stream, tag } => {
                let described = prepared.description().and_then(|known| known.schema.clone());
                let shown = described.unwrap_or(schema);
                State::Open(Box::new(Rows::new(shown, stream, tag, &portal.formats)?))
            }
        };
        Ok(())
    }

    async fn execute(
        &mut self,
        wire: &mut Wire,
        cancel: &mut Cancel,
        name: &str,
        rows_max: u32,
    ) -> Result<(), Failure> {
        self.begin(wire, cancel, name).await?;
        let portal = self.portals.get_mut(name).ok_or_else(|| unknown_portal(name))?;
        if matches!(portal.state, State::Copy(_)) {
            let state = std::mem::replace(&mut portal.state, State::Done("COPY 0".to_owned()));
            let tag = match state {
                State::Copy(copy) => self.copy(wire, cancel, *copy).await?,
                _ => String::new(),
            };
            wire.out.complete(&tag);
            return Ok(());
        }
        let rows_max = if rows_max == 0 { u64::MAX } else { u64::from(rows_max) };
        match &mut portal.state {
            State::Open(rows) => match rows.send(wire, cancel, rows_max, &self.shared).await? {
                Sent::Some => wire.out.empty(b's'),
                Sent::All(tag) => {
                    portal.state = State::Done(RowsTag::Counted("SELECT").text(0));
                    wire.out.complete(&tag);
                }
            },
            State::Done(_) if portal.prepared.is_empty() => wire.out.empty(b'I'),
            State::Done(tag) => wire.out.complete(tag),
            State::New | State::Copy(_) => return Err(protocol("a portal has not begun").into()),
        }
        Ok(())
    }
}

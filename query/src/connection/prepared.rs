//! A statement that was read and waits for its values, and what is known about it before it has them.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use arrow_schema::{DataType, SchemaRef};
use futures::FutureExt;
use futures::future::BoxFuture;
use sqlparser::ast;

use super::{Connection, cursor, numbered};
use crate::error::{QueryError, QueryErrorKind};
use crate::request::ScalarParam;
use crate::show;
use crate::statement::{self, Command, Literals, Piece, Statement, parameters};

/// A statement that was read.
#[derive(Debug)]
pub struct Prepared {
    pub(super) text: String,
    /// `None`: the text was empty.
    pub(super) statement: Option<Statement>,
    /// Values that it wants.
    count: usize,
    /// What the client says the values are.
    declared: Vec<Option<DataType>>,
    /// How the client names those types.
    type_numbers: Vec<u32>,
    /// The same of `PREPARE`.
    casts: Vec<ast::DataType>,
    description: OnceLock<Description>,
    /// It wants no values and was completed when it was read; or could not be, which it says when it is used.
    completed: Option<Result<(), QueryError>>,
}

/// What is known about a statement before it runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    /// The types of its values, in order.
    pub parameters: Vec<DataType>,
    /// The columns of its rows, if it shows any.
    pub schema: Option<SchemaRef>,
}

/// Statements that a connection keeps.
const KEPT_MAX: usize = 10_000;
/// Of their texts; what is read of one takes many times as much.
const KEPT_BYTES_MAX: usize = 4 << 20;

/// The statements of a connection by their names. That without a name is not counted: the next one takes its place.
#[derive(Default)]
pub(super) struct Kept {
    statements: HashMap<String, Arc<Prepared>>,
    /// Of the texts of those with a name.
    bytes: usize,
}

impl Kept {
    pub(super) fn insert(&mut self, name: &str, prepared: Prepared) -> Result<(), QueryError> {
        if !name.is_empty() {
            if self.statements.contains_key(name) {
                let message = format!("prepared statement {name:?} already exists");
                return Err(QueryError::new(QueryErrorKind::AlreadyExists, message).with_state("42P05"));
            }
            let bytes = self.bytes + name.len() + prepared.text.len();
            if KEPT_MAX <= self.statements.len() || KEPT_BYTES_MAX < bytes {
                let message = format!(
                    "a connection keeps at most {KEPT_MAX} prepared statements, of {KEPT_BYTES_MAX} bytes of text"
                );
                return Err(QueryError::new(QueryErrorKind::Limit, message));
            }
            self.bytes = bytes;
        }
        self.statements.insert(name.to_owned(), Arc::new(prepared));
        Ok(())
    }

    pub(super) fn get(&self, name: &str) -> Result<Arc<Prepared>, QueryError> {
        self.statements.get(name).cloned().ok_or_else(|| unknown(name))
    }

    pub(super) fn remove(&mut self, name: &str) {
        if let Some(gone) = self.statements.remove(name)
            && !name.is_empty()
        {
            self.bytes -= name.len() + gone.text.len();
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// There is no such statement.
fn unknown(name: &str) -> QueryError {
    let message = format!("prepared statement {name:?} does not exist");
    QueryError::new(QueryErrorKind::Invalid, message).with_state("26000")
}

impl Prepared {
    fn new(text: &str, statement: Option<Statement>, declared: Vec<Option<DataType>>) -> Result<Self, QueryError> {
        let mut statement = statement;
        let query = statement.as_mut().and_then(Statement::query_mut);
        let count = query.map_or(Ok(0), |query| parameters::count(query))?;
        Ok(Self {
            text: text.to_owned(),
            statement,
            count: count.max(declared.len()),
            declared,
            type_numbers: Vec::new(),
            casts: Vec::new(),
            description: OnceLock::new(),
            completed: None,
        })
    }

    fn of(piece: Piece<'_>) -> Result<Self, QueryError> {
        let Piece { text, statement } = piece;
        Self::new(text, Some(statement), Vec::new()).map(Self::completed_early)
    }

    /// What wants no values is completed once. A command completes what is in it by itself.
    fn completed_early(mut self) -> Self {
        if let Some(statement @ (Statement::Query(_) | Statement::Insert(_) | Statement::Delete(_))) =
            &mut self.statement
            && self.count == 0
        {
            self.completed = Some(statement.complete(&Literals::new()));
        }
        self
    }

    /// All statements of a text.
    pub fn read_all(sql: &str) -> Result<Vec<Self>, QueryError> {
        statement::read(sql)?.into_iter().map(Self::of).collect()
    }

    /// The one statement of a text, or none, with the types that are known of its values, and how the client names them.
    pub fn read(sql: &str, declared: Vec<Option<DataType>>, type_numbers: Vec<u32>) -> Result<Self, QueryError> {
        let mut pieces = statement::read(sql)?;
        let piece = pieces.pop();
        if !pieces.is_empty() {
            return Err(QueryError::syntax("cannot insert multiple commands into a prepared statement"));
        }
        let (text, statement) = piece.map_or(("", None), |piece| (piece.text, Some(piece.statement)));
        Ok(Self { type_numbers, ..Self::new(text, statement, declared)?.completed_early() })
    }

    /// Of `PREPARE`.
    pub(super) fn of_sql(text: &str, statement: Statement, casts: Vec<ast::DataType>) -> Result<Self, QueryError> {
        let mut prepared = Self::new(text, Some(statement), Vec::new())?;
        prepared.count = prepared.count.max(casts.len());
        prepared.casts = casts;
        Ok(prepared.completed_early())
    }

    /// Whether there is a statement at all.
    pub fn is_empty(&self) -> bool {
        self.statement.is_none()
    }

    /// How the client names the type of a value; 0: not at all.
    pub fn type_number(&self, at: usize) -> u32 {
        self.type_numbers.get(at).copied().unwrap_or_default()
    }

    /// How many values it wants.
    pub fn parameter_count(&self) -> usize {
        self.count
    }

    /// What was found out about it.
    pub fn description(&self) -> Option<&Description> {
        self.description.get()
    }

    /// Whether it shows rows, so that it may begin before it is asked for them.
    pub fn is_query(&self) -> bool {
        matches!(
            self.statement,
            Some(
                Statement::Query(_)
                    | Statement::Describe(_)
                    | Statement::ShowDatabases
                    | Statement::ShowTables { .. }
                    | Statement::ShowSchemas
                    | Statement::ShowVariable(_)
            )
        )
    }

    /// What is executed with such values.
    pub(super) fn completed(&self, literals: &Literals) -> Result<Statement, QueryError> {
        let statement = self.statement.clone().ok_or_else(|| QueryError::syntax("the statement is empty"))?;
        match &self.completed {
            Some(done) => done.clone().map(|()| statement),
            None => statement.completed(literals),
        }
    }

    pub(super) fn literals(&self, params: &[ScalarParam]) -> Result<Literals, QueryError> {
        self.check_count(params.len())?;
        numbered(params)
    }

    /// The same of `EXECUTE`.
    pub(super) fn literals_of(&self, values: &[ast::Expr]) -> Result<Literals, QueryError> {
        self.check_count(values.len())?;
        let literal = |(at, value): (usize, &ast::Expr)| {
            parameters::check_constant(value)?;
            let value = match self.casts.get(at) {
                Some(data_type) => parameters::cast(value.clone(), data_type.clone()),
                None => value.clone(),
            };
            Ok(((at + 1).to_string(), value))
        };
        values.iter().enumerate().map(literal).collect()
    }

    fn check_count(&self, values: usize) -> Result<(), QueryError> {
        if values == self.count {
            return Ok(());
        }
        let message = format!("the statement wants {} parameters, there are {values}", self.count);
        Err(QueryError::syntax(message).with_state("08P01"))
    }
}

impl Connection {
    /// Finds out what is known about a statement before it runs.
    pub fn describe<'a>(&'a mut self, prepared: &'a Prepared) -> BoxFuture<'a, Result<Description, QueryError>> {
        async move {
            if let Some(known) = prepared.description.get() {
                return Ok(known.clone());
            }
            let result = self.try_describe(prepared).await;
            match &result {
                // What a name means may change with each use.
                Ok(_) if matches!(prepared.statement, Some(Statement::Command(_))) => {}
                Ok(description) => _ = prepared.description.set(description.clone()),
                Err(_) => self.fail(),
            }
            result
        }
        .boxed()
    }

    async fn try_describe(&mut self, prepared: &Prepared) -> Result<Description, QueryError> {
        let nothing = Description { parameters: Vec::new(), schema: None };
        let Some(statement) = &prepared.statement else {
            return Ok(nothing);
        };
        self.check_block(statement)?;
        match statement {
            Statement::Command(Command::Fetch { name, is_move: false, .. }) => {
                Ok(Description { schema: Some(self.cursor_schema(name)?), ..nothing })
            }
            Statement::Command(Command::Execute { name, .. }) => {
                let inner: Arc<Prepared> = self.prepared(name)?;
                let schema = Box::pin(self.try_describe(&inner)).await?.schema;
                Ok(Description { schema, ..nothing })
            }
            Statement::Command(Command::Declare { query, .. }) => {
                let query = Statement::Query(Arc::clone(query));
                let query = if prepared.count == 0 { query.completed(&Literals::new())? } else { query };
                let of_query = self.plan(query, prepared).await?;
                Ok(Description { schema: None, ..of_query })
            }
            Statement::ShowVariable(name) if name != show::SNAPSHOT => {
                Ok(Description { schema: Some(show::setting(&self.settings.lock(), name)?.schema()), ..nothing })
            }
            Statement::Query(_) if prepared.count == 0 => {
                self.plan(prepared.completed(&Literals::new())?, prepared).await
            }
            Statement::Query(_) | Statement::Insert(_) | Statement::Delete(_) => {
                self.plan(statement.clone(), prepared).await
            }
            Statement::Describe(_)
            | Statement::ShowDatabases
            | Statement::ShowTables { .. }
            | Statement::ShowSchemas
            | Statement::ShowVariable(_) => {
                match self.run(prepared.completed(&Literals::new())?, &prepared.text).await? {
                    super::Answer::Rows { schema, .. } => Ok(Description { schema: Some(schema), ..nothing }),
                    _ => Ok(nothing),
                }
            }
            _ => Ok(nothing),
        }
    }

    async fn plan(&mut self, statement: Statement, prepared: &Prepared) -> Result<Description, QueryError> {
        let mut types = prepared.declared.clone();
        types.resize(prepared.count, None);
        let (request, ahead) = self.request(statement, &prepared.text);
        self.engine.describe(request, ahead, types).await
    }

    /// The columns of an open cursor.
    pub fn cursor_schema(&self, name: &str) -> Result<SchemaRef, QueryError> {
        self.cursors.get(name).map(cursor::Cursor::schema).ok_or_else(|| cursor::unknown(name))
    }
}

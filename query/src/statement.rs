//! Statements: trees that DataFusion plans, or ones of ours.
//!
//! DataFusion sees queries, `EXPLAIN` and the sources of `INSERT`; everything else is parsed with sqlparser's parser as a
//! library ([`read`](mod@read)) and executed by `definition`, `insert`, `show` and connections. Trees are passed on, never
//! printed and parsed again. Unquoted names fold to lower case ([`fold`]).

mod alter_table;
pub(crate) mod any;
mod asof;
pub(crate) mod command;
mod create_database;
mod create_table;
mod distinct;
mod explain;
mod guard;
mod instant;
mod interval;
pub(crate) mod like;
pub(crate) mod parameters;
mod postgres;
mod read;
mod refuse;
mod rewrite;
mod table;
mod translate;
pub(crate) mod view;

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow_array::RecordBatch;
use sqlparser::ast;
use sqlparser::ast::{Expr, Ident, ObjectName, Visit, Visitor};

use crate::context::schemas;
use crate::error::QueryError;
use crate::files::CopyFile;

pub(crate) use alter_table::{AlterTable, Change};
pub use any::{ARRAY_ELEMENTS_MAX, array_elements, too_many_elements};
pub(crate) use command::Command;
pub use command::CopyFormat;
pub(crate) use create_table::CreateTable;
pub use parameters::ScalarParam;
pub(crate) use parameters::{Literals, Parameters};
pub(crate) use read::{Piece, parse, read};
pub(crate) use view::CreateView;

/// A longer text waits for its turn, whatever it is.
const CALL_BYTES_MAX: usize = 256;
/// Longer texts wait for their turn before they are parsed.
const WATCH_BYTES_MAX: usize = 4096;

/// One statement.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Statement {
    /// `SELECT`, `VALUES`, `WITH`, or `EXPLAIN` of one.
    Query(Arc<ast::Statement>),
    /// `INSERT INTO`.
    Insert(Insert),
    /// `DELETE FROM`.
    Delete(Delete),
    CreateDatabase {
        name: String,
        if_not_exists: bool,
    },
    DropDatabase {
        name: String,
        if_exists: bool,
    },
    CreateTable(CreateTable),
    AlterTable(AlterTable),
    DropTable {
        name: TableName,
        if_exists: bool,
    },
    CreateView(CreateView),
    /// `ALTER VIEW v RENAME TO w`.
    RenameView {
        name: TableName,
        if_exists: bool,
        to: String,
    },
    DropView {
        name: TableName,
        if_exists: bool,
    },
    /// `OPTIMIZE TABLE t [FINAL]`.
    Optimize {
        name: TableName,
        is_final: bool,
    },
    /// `CALL cancel(id)`, `CALL cancel_task(id)`.
    Cancel(Cancel),
    /// `DESCRIBE t`, `SHOW COLUMNS FROM t`.
    Describe(TableName),
    ShowDatabases,
    ShowTables {
        like: Option<String>,
    },
    ShowSchemas,
    /// `SHOW name`; words stand apart by one space, dots too.
    ShowVariable(String),
    /// `SET name = value`, as text; without a value: `DEFAULT`.
    Set {
        name: String,
        value: Option<String>,
        local: bool,
    },
    /// About the connection that sends it.
    Command(Command),
    /// `COPY … TO 'file'`.
    CopyTo(CopyTo),
    /// `COPY table FROM 'file'`.
    CopyFrom(CopyFrom),
    /// Rows that a copy brought. No text means it.
    Load(Load),
}

/// Rows for a file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CopyTo {
    pub(crate) query: Arc<ast::Statement>,
    pub(crate) file: CopyFile,
}

/// A file for a table.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CopyFrom {
    pub(crate) table: TableName,
    /// Empty: what the file has.
    pub(crate) columns: Vec<String>,
    pub(crate) file: CopyFile,
}

/// Rows for a table.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Load {
    pub(crate) table: TableName,
    /// Empty: the declared order.
    pub(crate) columns: Vec<String>,
    pub(crate) batch: RecordBatch,
}

/// What is to be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cancel {
    /// By the id that `system.queries` shows.
    Statement(u64),
    /// By that of `system.tasks`.
    Task(u64),
}

/// `INSERT INTO table (columns) source`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Insert {
    pub(crate) table: TableName,
    /// Empty: the declared order.
    pub(crate) columns: Vec<String>,
    pub(crate) source: Arc<ast::Statement>,
}

/// `DELETE FROM table WHERE condition`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Delete {
    pub(crate) table: TableName,
    /// The query that would show its rows.
    pub(crate) source: Arc<ast::Statement>,
    /// As it was written.
    pub(crate) text: String,
}

/// A table's name with what stood before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableName {
    pub(crate) database: Option<String>,
    pub(crate) schema: Option<String>,
    pub(crate) table: String,
}

impl Statement {
    /// The query in it that may have placeholders.
    pub(crate) fn query_mut(&mut self) -> Option<&mut ast::Statement> {
        match self {
            Self::Query(query)
            | Self::Insert(Insert { source: query, .. })
            | Self::Delete(Delete { source: query, .. })
            | Self::CopyTo(CopyTo { query, .. })
            | Self::Command(
                Command::Declare { query, .. }
                | Command::Copy(command::Copy { source: command::Source::Query(query), .. }),
            ) => Some(Arc::make_mut(query)),
            _ => None,
        }
    }

    /// Puts the parameters in their places and makes of the query what can be planned.
    pub(crate) fn complete(&mut self, literals: &Literals) -> Result<(), QueryError> {
        let Some(query) = self.query_mut() else {
            return Ok(());
        };
        parameters::fill(query, literals)?;
        refuse::check(query)?;
        rewrite::rewrite(query)?;
        postgres::rewrite(query);
        if let Self::Insert(insert) = self {
            rewrite::read_inserted(&insert.columns, Arc::make_mut(&mut insert.source));
        }
        Ok(())
    }

    /// The same of one that others hold, too.
    pub(crate) fn completed(mut self, literals: &Literals) -> Result<Self, QueryError> {
        self.complete(literals)?;
        Ok(self)
    }

    /// How PostgreSQL names what was done, behind which may stand a number.
    pub(crate) fn tag(&self) -> &'static str {
        match self {
            Self::Query(query) if matches!(**query, ast::Statement::Explain { .. }) => "EXPLAIN",
            Self::Query(_) => "SELECT",
            Self::Insert(_) => "INSERT 0",
            Self::Delete(_) => "DELETE",
            Self::CreateDatabase { .. } => "CREATE DATABASE",
            Self::DropDatabase { .. } => "DROP DATABASE",
            Self::CreateTable(_) => "CREATE TABLE",
            Self::AlterTable(_) => "ALTER TABLE",
            Self::DropTable { .. } => "DROP TABLE",
            Self::CreateView(_) => "CREATE VIEW",
            Self::RenameView { .. } => "ALTER VIEW",
            Self::DropView { .. } => "DROP VIEW",
            Self::Optimize { .. } => "OPTIMIZE TABLE",
            Self::Cancel(_) => "CALL",
            Self::Describe(_)
            | Self::ShowDatabases
            | Self::ShowTables { .. }
            | Self::ShowSchemas
            | Self::ShowVariable(_) => "SHOW",
            Self::Set { .. } => "SET",
            Self::Command(command) => command.tag(),
            Self::CopyTo(_) | Self::CopyFrom(_) | Self::Load(_) => "COPY",
        }
    }

    /// Whether a reading method must not carry it: it changes what is stored, or files.
    pub(crate) fn needs_post(&self) -> bool {
        self.writes() || matches!(self, Self::CopyTo(_))
    }

    /// Whether it changes what is stored.
    pub(crate) fn writes(&self) -> bool {
        matches!(
            self,
            Self::Insert(_)
                | Self::Delete(_)
                | Self::CreateDatabase { .. }
                | Self::DropDatabase { .. }
                | Self::CreateTable(_)
                | Self::AlterTable(_)
                | Self::DropTable { .. }
                | Self::CreateView(_)
                | Self::RenameView { .. }
                | Self::DropView { .. }
                | Self::Optimize { .. }
                | Self::Cancel(_)
                | Self::CopyFrom(_)
                | Self::Load(_)
                | Self::Command(Command::Copy(command::Copy { is_in: true, .. }))
        )
    }
}

/// A name as its table knows it: unquoted ones fold to lower case.
pub(crate) fn fold(ident: Ident) -> String {
    if ident.quote_style.is_some() { ident.value } else { ident.value.to_ascii_lowercase() }
}

/// The same of a name that stays where it is.
pub(crate) fn fold_ref(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_ascii_lowercase() }
}

/// Whether a text is a call, which does not wait behind statements that it may be there to stop. Such a text is short.
pub(crate) fn is_call(sql: &str) -> bool {
    let word = sql.split_whitespace().next().unwrap_or_default();
    sql.len() <= CALL_BYTES_MAX && word.eq_ignore_ascii_case("call")
}

/// Whether a text may be of a statement that only looks at a table of `system`: see [`Statement::watches`].
pub(crate) fn may_watch(sql: &str) -> bool {
    let system = schemas::SYSTEM.as_bytes();
    sql.len() <= WATCH_BYTES_MAX && sql.as_bytes().windows(system.len()).any(|name| name.eq_ignore_ascii_case(system))
}

impl Statement {
    /// Whether it reads one table of `system` and nothing else: who looks for a statement to stop does not wait behind it.
    pub(crate) fn watches(&self) -> bool {
        let Self::Query(statement) = self else { return false };
        let ast::Statement::Query(query) = statement.as_ref() else { return false };
        let (None, ast::SetExpr::Select(select)) = (&query.with, query.body.as_ref()) else { return false };
        let [from] = select.from.as_slice() else { return false };
        let ast::TableFactor::Table { name, args: None, .. } = &from.relation else { return false };
        let parts: Vec<_> = name.0.iter().filter_map(|part| part.as_ident()).map(fold_ref).collect();
        from.joins.is_empty()
            && matches!(parts.as_slice(), [schema, _] if schema == schemas::SYSTEM)
            && statement.visit(&mut OneQuery(0)).is_continue()
    }
}

/// Breaks off at the second query of a statement, which is within the first.
struct OneQuery(usize);

impl Visitor for OneQuery {
    type Break = ();

    fn pre_visit_query(&mut self, _: &ast::Query) -> ControlFlow<()> {
        self.0 += 1;
        if self.0 > 1 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// `key = value` of a `WITH (…)`, the value as it was written, without quotes.
fn option_pair(option: ast::SqlOption) -> Result<(String, String), QueryError> {
    match option {
        ast::SqlOption::KeyValue { key, value } => {
            let text = match &value {
                Expr::Value(value) => match &value.value {
                    ast::Value::SingleQuotedString(text) => text.clone(),
                    other => other.to_string(),
                },
                Expr::Identifier(ident) => ident.value.clone(),
                other => {
                    return Err(QueryError::syntax(format!("option {key} needs a plain value, not {other}")));
                }
            };
            Ok((fold(key), text))
        }
        other => Err(QueryError::syntax(format!("syntax error: expected an option name = value, found {other}"))),
    }
}

/// A name without anything before it.
fn single(name: ObjectName) -> Result<String, QueryError> {
    let mut parts = parts(name)?;
    match (parts.pop(), parts.is_empty()) {
        (Some(name), true) => Ok(name),
        _ => Err(QueryError::syntax("a plain name is needed here, without a dot")),
    }
}

/// `[database.][schema.]table`.
pub(crate) fn table_name_of(name: ObjectName) -> Result<TableName, QueryError> {
    let mut parts = parts(name)?;
    let table = parts.pop().unwrap_or_default();
    let schema = parts.pop();
    let database = parts.pop();
    if table.is_empty() || !parts.is_empty() {
        return Err(QueryError::syntax("a table is named [database.][schema.]table"));
    }
    Ok(TableName { database, schema, table })
}

fn parts(name: ObjectName) -> Result<Vec<String>, QueryError> {
    name.0
        .into_iter()
        .map(|part| match part {
            ast::ObjectNamePart::Identifier(ident) => Ok(fold(ident)),
            other @ ast::ObjectNamePart::Function(_) => Err(QueryError::syntax(format!("{other} is not a name"))),
        })
        .collect()
}

#[cfg(test)]
mod tests;

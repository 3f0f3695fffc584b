//! DataFusion's errors in our words.
//!
//! Where DataFusion has a type for an error, the type decides; where it has only text, [`PLAN_TEXTS`] and
//! [`EXECUTION_TEXTS`] name the phrases that are known. Tests in `tests/sql.rs` provoke each of them, so a new DataFusion
//! that words one differently is noticed.

use std::io;

use datafusion::arrow::error::ArrowError;
use datafusion::common::{DataFusionError, SchemaError};
use datafusion::sql::sqlparser::parser::ParserError;

use super::{QueryError, QueryErrorKind as Kind};

/// Phrases of planning errors, and what they mean. The first that occurs wins.
const PLAN_TEXTS: &[(&str, Kind)] = &[
    ("failed to resolve catalog", Kind::UnknownDatabase),
    ("failed to resolve schema", Kind::UnknownTable),
    ("table function '", Kind::UnknownFunction),
    ("Table function '", Kind::UnknownFunction),
    ("table '", Kind::UnknownTable),
    ("Invalid function '", Kind::UnknownFunction),
    ("No function matches", Kind::Type),
    ("coerce", Kind::Type),
    ("coercion", Kind::Type),
    ("Cannot infer common", Kind::Type),
    ("Cannot cast", Kind::Type),
    ("Unsupported CAST", Kind::Type),
    ("type mismatch", Kind::Type),
    ("must be of type", Kind::Type),
    ("must be boolean", Kind::Type),
    ("non-boolean", Kind::Type),
    ("not supported", Kind::Unsupported),
];

/// Phrases of errors while a plan runs.
const EXECUTION_TEXTS: &[(&str, Kind)] = &[
    ("ivide by zero", Kind::DivisionByZero),
    ("ivision by zero", Kind::DivisionByZero),
    ("overflow", Kind::Overflow),
    ("out of range", Kind::Overflow),
    ("too large", Kind::Overflow),
    ("Resources exhausted", Kind::Memory),
];

/// How an error begins when the files that are spilled would exceed their bound.
const SPILL_FULL: &str = "The used disk space during the spilling process has exceeded";

/// What the caller is told.
fn translate(error: DataFusionError) -> QueryError {
    match error {
        DataFusionError::SQL(error, _) => parser(&error),
        DataFusionError::SchemaError(error, _) => schema(&error),
        DataFusionError::ArrowError(error, _) => arrow(*error),
        DataFusionError::Plan(message) => plan(&message),
        DataFusionError::NotImplemented(message) => QueryError::new(Kind::Unsupported, first_line(&message)),
        DataFusionError::Configuration(message) => QueryError::new(Kind::Invalid, first_line(&message)),
        DataFusionError::Execution(message) => execution(&message),
        DataFusionError::ResourcesExhausted(message) => QueryError::new(
            Kind::Memory,
            format!("the statement needs more memory than query.memory_bytes_max leaves it: {}", first_line(&message)),
        ),
        DataFusionError::External(error) => external(error),
        DataFusionError::Context(_, error) | DataFusionError::Diagnostic(_, error) => translate(*error),
        DataFusionError::Collection(errors) => {
            errors.into_iter().next().map_or_else(|| QueryError::internal("an empty collection of errors"), translate)
        }
        DataFusionError::Shared(error) => shared(&error),
        DataFusionError::IoError(error) => spill(&error),
        other => QueryError::internal(first_line(&other.to_string())),
    }
}

/// A parser's complaint.
fn parser(error: &ParserError) -> QueryError {
    match error {
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => {
            QueryError::syntax(format!("syntax error: {message}"))
        }
        ParserError::RecursionLimitExceeded => {
            QueryError::new(Kind::Limit, "the statement is nested too deeply").with_state("54001")
        }
    }
}

impl From<ParserError> for QueryError {
    fn from(error: ParserError) -> Self {
        parser(&error)
    }
}

impl From<DataFusionError> for QueryError {
    fn from(error: DataFusionError) -> Self {
        translate(error)
    }
}

impl From<QueryError> for DataFusionError {
    fn from(error: QueryError) -> Self {
        Self::External(Box::new(error))
    }
}

fn schema(error: &SchemaError) -> QueryError {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let table = field.relation.as_ref().map(|relation| relation.table());
            QueryError::unknown_column(&field.name, table, valid_fields.iter().map(|known| known.name.as_str()))
        }
        SchemaError::AmbiguousReference { field } => {
            QueryError::new(Kind::UnknownColumn, format!("column {:?} is ambiguous", field.name)).with_state("42702")
        }
        SchemaError::DuplicateQualifiedField { name, .. } | SchemaError::DuplicateUnqualifiedField { name } => {
            QueryError::new(Kind::Syntax, format!("column name {name:?} occurs twice; give one an alias"))
                .with_state("42701")
        }
    }
}

fn plan(message: &str) -> QueryError {
    let kind = PLAN_TEXTS.iter().find(|(text, _)| message.contains(text)).map_or(Kind::Syntax, |(_, kind)| *kind);
    if message.contains("No value found for placeholder") || message.contains("Placeholder") {
        return QueryError::new(Kind::Syntax, first_line(message)).with_state("42P02");
    }
    // DataFusion names tables with the database and the schema before them: say what was asked for.
    if kind == Kind::UnknownTable
        && let Some(name) = quoted(message).and_then(|name| name.rsplit('.').next())
    {
        return QueryError::unknown_table(name);
    }
    if kind == Kind::UnknownDatabase {
        let name = message.rsplit(": ").next().unwrap_or_default();
        return QueryError::unknown_database(first_line(name).as_str());
    }
    QueryError::new(kind, first_line(message))
}

fn execution(message: &str) -> QueryError {
    if message.contains("negative count not allowed") {
        return QueryError::new(Kind::Invalid, "negative substring length not allowed").with_state("22011");
    }
    let known = EXECUTION_TEXTS.iter().find(|(text, _)| message.contains(text));
    QueryError::new(known.map_or(Kind::Invalid, |(_, kind)| *kind), first_line(message))
}

fn arrow(error: ArrowError) -> QueryError {
    let message = first_line(&error.to_string());
    match error {
        ArrowError::DivideByZero => QueryError::new(Kind::DivisionByZero, "division by zero"),
        ArrowError::ArithmeticOverflow(_) => QueryError::new(Kind::Overflow, message),
        ArrowError::CastError(text) if text.contains("overflow") || text.contains("out of range") => {
            QueryError::new(Kind::Overflow, message)
        }
        // A number that another number type does not hold; `Can't cast value 300 to type Int8`.
        ArrowError::CastError(text) if text.starts_with("Can't cast value") => QueryError::new(Kind::Overflow, message),
        ArrowError::CastError(text) => {
            let of_time = text.ends_with("to value of Date32 type");
            QueryError::new(Kind::Invalid, message).with_state(if of_time { "22007" } else { "22P02" })
        }
        ArrowError::ParseError(_) => QueryError::new(Kind::Invalid, message).with_state("22007"),
        ArrowError::ComputeError(text) => execution(&text),
        ArrowError::InvalidArgumentError(_) => QueryError::new(Kind::Invalid, message),
        ArrowError::NotYetImplemented(_) => QueryError::new(Kind::Unsupported, message),
        ArrowError::MemoryError(_) | ArrowError::OffsetOverflowError(_) => QueryError::new(Kind::Memory, message),
        ArrowError::ExternalError(error) => external(error),
        ArrowError::IoError(_, error) => spill(&error),
        _ => QueryError::internal(message),
    }
}

fn external(error: Box<dyn std::error::Error + Send + Sync>) -> QueryError {
    let error = match error.downcast::<QueryError>() {
        Ok(error) => return *error,
        Err(error) => error,
    };
    let error = match error.downcast::<marigram_storage::Error>() {
        Ok(error) => return (*error).into(),
        Err(error) => error,
    };
    match error.downcast::<DataFusionError>() {
        Ok(error) => translate(*error),
        Err(error) => QueryError::internal(first_line(&error.to_string())),
    }
}

/// Only what is spilled is read and written by DataFusion itself; its own bound is known by its text.
fn spill(error: &io::Error) -> QueryError {
    let message = first_line(&error.to_string());
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(at) = source {
        if at.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::StorageFull) {
            return QueryError::new(Kind::DiskFull, format!("cannot spill: {message}"));
        }
        source = at.source();
    }
    if message.contains(SPILL_FULL) {
        let message = "the statement needs more room than query.spill_bytes_max leaves it for what it spills";
        return QueryError::new(Kind::Memory, message);
    }
    QueryError::internal(format!("cannot spill: {message}")).with_state("58030")
}

/// An error that several partitions share cannot be taken apart: look for ours below it, else go by its text.
fn shared(error: &DataFusionError) -> QueryError {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(at) = source {
        if let Some(ours) = at.downcast_ref::<QueryError>() {
            return ours.clone();
        }
        source = at.source();
    }
    match error.find_root() {
        DataFusionError::ResourcesExhausted(message) => translate(DataFusionError::ResourcesExhausted(message.clone())),
        DataFusionError::Plan(message) => plan(message),
        DataFusionError::IoError(error) => spill(error),
        DataFusionError::ArrowError(error, _) => match &**error {
            ArrowError::DivideByZero => arrow(ArrowError::DivideByZero),
            ArrowError::IoError(_, error) => spill(error),
            other => execution(&other.to_string()),
        },
        DataFusionError::External(_) => QueryError::internal(first_line(&error.to_string())),
        other => execution(&other.strip_backtrace()),
    }
}

/// Messages may carry candidate lists and backtraces behind the first line.
fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().trim().to_owned()
}

/// What stands between the first pair of single quotes.
fn quoted(message: &str) -> Option<&str> {
    let start = message.find('\'')? + 1;
    let rest = message.get(start..)?;
    rest.get(..rest.find('\'')?)
}

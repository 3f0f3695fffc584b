//! Line protocol: a request body to a draft of rows, and a reason for each line that is not in it.
//!
//! One pass over the body, without copying names or tags that were seen before. What makes it fast is prediction: a line
//! usually names the series that followed the previous one last time, and its fields in the order of the line before. Both
//! are checked by comparing bytes, so a wrong guess costs time, never truth.
//!
//! Always true:
//! - A line is stored whole or refused whole. A refused line leaves nothing behind: no value, no series, no column, no type.
//! - Within a body the first accepted line decides what a new column is; what the catalog knows comes first.
//! - A newline ends a line unless it is inside a quoted string. An open quote runs to the end of the body.
//! - No input panics; memory is bounded by the body and the limits in [`ParseOptions`].
//!
//! What is accepted follows InfluxDB's documentation of v1, v2 and v3; where its implementations differ from it or from
//! each other, `tests/protocol/line_protocol_differences.md` says what we do and why.
//!
//! Where to look: structure of a line `parse`, names and strings `escape`, values `number`, times `precision`, columns and
//! undo `draft`.

mod draft;
mod error;
mod escape;
mod fields;
mod newcomers;
mod number;
mod parse;
mod precision;
mod series;
#[cfg(test)]
mod tests;

use marigram_storage::draft::Draft;
use marigram_storage::schema::{ColumnKind, TableMode};

pub use error::{BodyError, LineError, Refusal};
pub use newcomers::Newcomers;
pub use precision::Precision;

/// How a body is read, and how much of it is too much.
#[derive(Clone, Debug)]
pub struct ParseOptions {
    /// What the numbers in timestamps count.
    pub precision: Precision,
    /// The time of lines that bring none: ns since the epoch, the server's clock. Not cut to the precision.
    pub now_ns: i64,
    /// The latest time that a line may bring, ns since the epoch. One without a time has `now_ns`, whatever this says.
    pub time_max_ns: i64,
    /// The mode of tables that do not exist yet.
    pub mode: TableMode,
    /// The longest line, without its end.
    pub line_bytes_max: usize,
    /// Tags and fields in one line.
    pub line_columns_max: usize,
    /// Different tags and fields of one table in one body.
    pub table_columns_max: usize,
    /// Different tables in one body.
    pub tables_max: usize,
    /// Different tags and fields of all tables in one body.
    pub body_columns_max: usize,
    /// How many refused lines are described; the others are only counted.
    pub errors_max: usize,
    /// How much of a refused line is repeated, in bytes.
    pub error_line_bytes_max: usize,
}

impl Default for ParseOptions {
    fn default() -> Self {
        Self {
            precision: Precision::Nanosecond,
            now_ns: 0,
            time_max_ns: i64::MAX,
            mode: TableMode::Upsert,
            line_bytes_max: 1 << 20,
            line_columns_max: 1024,
            table_columns_max: 4096,
            tables_max: 10_000,
            body_columns_max: 1 << 17,
            errors_max: 100,
            error_line_bytes_max: 1024,
        }
    }
}

/// What the catalog knows about the columns of the database that is written to.
pub trait Schema {
    /// The kind of a column; `None` if the table or the column does not exist yet. Asked when a body names a column for the
    /// first time.
    fn column(&self, table: &str, column: &str) -> Option<ColumnKind>;

    /// How many columns the table has and may have. Asked when a body names a column that does not exist.
    fn columns(&self, _table: &str) -> ColumnLimit {
        ColumnLimit { known: 0, dropped: 0, max: usize::MAX }
    }

    /// How many tables there are and may be; `None` if the table exists. Asked when a body names a table for the first time.
    fn new_table(&self, _table: &str) -> Option<TableLimit> {
        None
    }

    /// Series that are new while there is no room for all of them. Asked when a body names a series for the first time.
    fn newcomers(&self) -> Option<&Newcomers> {
        None
    }
}

/// Tags and fields of a table in the catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColumnLimit {
    /// How many there are, dropped ones too.
    pub known: usize,
    /// How many of them are dropped.
    pub dropped: usize,
    /// How many there may be.
    pub max: usize,
}

/// Tables of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableLimit {
    /// How many there are.
    pub known: usize,
    /// How many there may be.
    pub max: usize,
}

/// The schema of an empty database.
#[derive(Clone, Copy, Debug, Default)]
pub struct EmptySchema;

impl Schema for EmptySchema {
    fn column(&self, _table: &str, _column: &str) -> Option<ColumnKind> {
        None
    }
}

/// What came out of a body.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parsed {
    /// The rows of the accepted lines, one each, in their order.
    pub draft: Draft,
    /// How many rows the draft has.
    pub rows: u64,
    /// How many lines were refused.
    pub lines_refused: u64,
    /// How many of these for a time after [`ParseOptions::time_max_ns`].
    pub lines_future: u64,
    /// The first [`ParseOptions::errors_max`] of them, in their order.
    pub errors: Vec<LineError>,
}

/// A parser that keeps its working memory for the next body.
#[derive(Debug, Default)]
pub struct Parser {
    memory: parse::Memory,
}

impl Parser {
    /// Reads one body. Nothing of an earlier body influences the result.
    pub fn parse(&mut self, body: &[u8], options: &ParseOptions, schema: &dyn Schema) -> Result<Parsed, BodyError> {
        if u32::try_from(body.len()).is_err() {
            return Err(BodyError::TooLarge { bytes: body.len() as u64 });
        }
        match std::str::from_utf8(body) {
            Ok(text) => Ok(parse::body(&mut self.memory, text, options, schema)),
            Err(error) => Err(BodyError::NotUtf8 { offset: error.valid_up_to() as u64 }),
        }
    }
}

/// Reads one body with a parser of its own.
pub fn parse(body: &[u8], options: &ParseOptions, schema: &dyn Schema) -> Result<Parsed, BodyError> {
    Parser::default().parse(body, options, schema)
}

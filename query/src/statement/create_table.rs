//! `CREATE TABLE`: the grammar is ours, because a clause that sqlparser reads and we ignore would be a broken promise.
//!
//! ```sql
//! CREATE TABLE [IF NOT EXISTS] t (name type [NOT NULL] [PRIMARY KEY], …, [PRIMARY KEY (tag, …, time)])
//!     [WITH (mode = 'upsert' | 'append', partition_width = '1 day')]
//! ```
//! Key columns but time are tags. Without a key the table is `append` and has no tags.

use marigram_storage::schema::{ColumnKind, DAY_NS, FieldType, TableMode};
use sqlparser::ast::DataType;
use sqlparser::keywords::Keyword;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::{TableName, fold, option_pair, table_name_of};
use crate::error::{QueryError, QueryErrorKind};

/// The time column has this name in every table.
pub(crate) const TIME: &str = "time";

/// A table to be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CreateTable {
    pub(crate) name: TableName,
    pub(crate) if_not_exists: bool,
    pub(crate) mode: TableMode,
    /// Declared order; `time` is among them.
    pub(crate) columns: Vec<(String, ColumnKind)>,
    /// ns; `None`: the store's default.
    pub(crate) partition_width_ns: Option<i64>,
}

/// What a declared type is before the key says which columns are tags.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Declared {
    Time,
    Field(FieldType),
}

/// Everything behind `CREATE TABLE`.
pub(super) fn parse(parser: &mut Parser<'_>) -> Result<CreateTable, QueryError> {
    let if_not_exists = parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
    let name = table_name_of(parser.parse_object_name(false)?)?;
    if parser.peek_keyword(Keyword::AS) {
        return Err(QueryError::unsupported("CREATE TABLE … AS"));
    }
    parser.expect_token(&Token::LParen)?;
    let mut declared: Vec<(String, Declared)> = Vec::new();
    let mut key: Option<Vec<String>> = None;
    loop {
        if parser.parse_keywords(&[Keyword::PRIMARY, Keyword::KEY]) {
            parser.expect_token(&Token::LParen)?;
            let names = parser.parse_comma_separated(Parser::parse_identifier)?;
            parser.expect_token(&Token::RParen)?;
            set_key(&mut key, names.into_iter().map(fold).collect())?;
        } else {
            column(parser, &mut declared, &mut key)?;
        }
        if !parser.consume_token(&Token::Comma) {
            break;
        }
    }
    parser.expect_token(&Token::RParen)?;
    let (mode, partition_width_ns) = options(parser)?;
    let columns = kinds(declared, key.as_deref())?;
    let mode = match (mode, key.is_some()) {
        (Some(TableMode::Upsert), false) => {
            return Err(
                QueryError::syntax("mode 'upsert' needs a PRIMARY KEY of VARCHAR columns and time").with_state("42P16")
            );
        }
        (Some(mode), _) => mode,
        (None, true) => TableMode::Upsert,
        (None, false) => TableMode::Append,
    };
    Ok(CreateTable { name, if_not_exists, mode, columns, partition_width_ns })
}

fn set_key(key: &mut Option<Vec<String>>, names: Vec<String>) -> Result<(), QueryError> {
    match key.replace(names) {
        None => Ok(()),
        Some(_) => Err(QueryError::syntax("PRIMARY KEY occurs twice").with_state("42P16")),
    }
}

fn column(
    parser: &mut Parser<'_>,
    declared: &mut Vec<(String, Declared)>,
    key: &mut Option<Vec<String>>,
) -> Result<(), QueryError> {
    let name = fold(parser.parse_identifier()?);
    let data_type = parser.parse_data_type()?;
    let kind = declared_type(&data_type)
        .ok_or_else(|| QueryError::unsupported(format!("type {data_type} of column {name:?}")))?;
    loop {
        if parser.parse_keywords(&[Keyword::NOT, Keyword::NULL]) {
            if kind != Declared::Time {
                return Err(QueryError::unsupported(format!("NOT NULL on column {name:?}; only time is never absent")));
            }
        } else if parser.parse_keywords(&[Keyword::PRIMARY, Keyword::KEY]) {
            set_key(key, vec![name.clone()])?;
        } else if !parser.parse_keyword(Keyword::NULL) {
            break;
        }
    }
    let next = parser.peek_token();
    if !matches!(next.token, Token::Comma | Token::RParen) {
        return Err(QueryError::unsupported(format!("{next} behind column {name:?}")));
    }
    if declared.iter().any(|(other, _)| *other == name) {
        return Err(QueryError::syntax(format!("column {name:?} is declared twice")).with_state("42701"));
    }
    if (name == TIME) != (kind == Declared::Time) {
        return Err(QueryError::syntax(format!(
            "column {name:?} of type {data_type}: exactly the column \"time\" is a timestamp"
        ))
        .with_state("42P16"));
    }
    declared.push((name, kind));
    Ok(())
}

pub(super) fn declared_type(data_type: &DataType) -> Option<Declared> {
    Some(Declared::Field(match data_type {
        DataType::Varchar(None) | DataType::CharacterVarying(None) | DataType::Text | DataType::String(None) => {
            FieldType::String
        }
        DataType::BigInt(_) | DataType::Integer(_) | DataType::Int(_) | DataType::SmallInt(_) | DataType::Int8(_) => {
            FieldType::I64
        }
        DataType::Int2(_) | DataType::Int4(_) => FieldType::I64,
        DataType::BigIntUnsigned(_) => FieldType::U64,
        DataType::DoublePrecision | DataType::Double(_) | DataType::Real | DataType::Float8 => FieldType::F64,
        DataType::Boolean | DataType::Bool => FieldType::Bool,
        DataType::Timestamp(..) => return Some(Declared::Time),
        _ => return None,
    }))
}

fn options(parser: &mut Parser<'_>) -> Result<(Option<TableMode>, Option<i64>), QueryError> {
    let (mut mode, mut width) = (None, None);
    if !parser.parse_keyword(Keyword::WITH) {
        return Ok((mode, width));
    }
    parser.expect_token(&Token::LParen)?;
    let options = parser.parse_comma_separated(Parser::parse_sql_option)?;
    parser.expect_token(&Token::RParen)?;
    let invalid = |message: String| QueryError::new(QueryErrorKind::Invalid, message);
    for option in options {
        let (key, value) = option_pair(option)?;
        let twice = match key.as_str() {
            "mode" => mode
                .replace(match value.to_lowercase().as_str() {
                    "upsert" => TableMode::Upsert,
                    "append" => TableMode::Append,
                    other => return Err(invalid(format!("mode is 'upsert' or 'append', not '{other}'"))),
                })
                .is_some(),
            "partition_width" => width.replace(width_of(&value)?).is_some(),
            other => {
                return Err(invalid(format!("unknown table option {other:?}; there are mode and partition_width")));
            }
        };
        if twice {
            return Err(QueryError::syntax(format!("option {key} occurs twice")));
        }
    }
    Ok((mode, width))
}

/// A width in ns, or an error that says what one is.
pub(super) fn width_of(text: &str) -> Result<i64, QueryError> {
    width_ns(text).ok_or_else(|| {
        let message = format!("partition_width is a whole number of hours or days such as '1 day', not '{text}'");
        QueryError::new(QueryErrorKind::Invalid, message)
    })
}

/// `'1 day'`, `'6 hours'`, `'1d'`, `'2 weeks'`: from one hour to 366 days.
fn width_ns(text: &str) -> Option<i64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit_ns = match unit.trim().to_lowercase().as_str() {
        "h" | "hour" | "hours" => DAY_NS / 24,
        "d" | "day" | "days" => DAY_NS,
        "w" | "week" | "weeks" => 7 * DAY_NS,
        _ => return None,
    };
    let width = number.parse::<i64>().ok()?.checked_mul(unit_ns)?;
    (DAY_NS / 24..=366 * DAY_NS).contains(&width).then_some(width)
}

/// The key turns its columns into tags.
fn kinds(declared: Vec<(String, Declared)>, key: Option<&[String]>) -> Result<Vec<(String, ColumnKind)>, QueryError> {
    let bad = |message: String| QueryError::syntax(message).with_state("42P16");
    if !declared.iter().any(|(name, _)| name == TIME) {
        return Err(bad("a table needs a column time TIMESTAMP NOT NULL".to_owned()));
    }
    if let Some(key) = key {
        for (index, name) in key.iter().enumerate() {
            if !declared.iter().any(|(other, _)| other == name) {
                let known = declared.iter().map(|(known, _)| known.as_str());
                return Err(QueryError::unknown_column(name, None, known));
            }
            if key.iter().take(index).any(|other| other == name) {
                return Err(bad(format!("column {name:?} is twice in the PRIMARY KEY")).with_state("42701"));
            }
        }
        if !key.iter().any(|name| name == TIME) {
            return Err(bad("time belongs into the PRIMARY KEY".to_owned()));
        }
    }
    let mut columns = Vec::with_capacity(declared.len());
    for (name, kind) in declared {
        let in_key = key.is_some_and(|key| key.contains(&name));
        let kind = match kind {
            Declared::Time => ColumnKind::Time,
            Declared::Field(FieldType::String) if in_key => ColumnKind::Tag,
            Declared::Field(_) if in_key => {
                return Err(bad(format!("column {name:?} is in the PRIMARY KEY and is not a VARCHAR")));
            }
            Declared::Field(kind) => ColumnKind::Field(kind),
        };
        columns.push((name, kind));
    }
    if !columns.iter().any(|(_, kind)| matches!(kind, ColumnKind::Field(_))) {
        return Err(bad("a table needs at least one column outside the PRIMARY KEY".to_owned()));
    }
    Ok(columns)
}

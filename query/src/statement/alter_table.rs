//! `ALTER TABLE`: one change a statement, and the grammar is ours, as that of `CREATE TABLE` is.
//!
//! ```sql
//! ALTER TABLE [IF EXISTS] t ADD [COLUMN] [IF NOT EXISTS] c type [PRIMARY KEY]   -- with a key a tag, else a field
//!                         | DROP [COLUMN] [IF EXISTS] c
//!                         | RENAME [COLUMN] a TO b
//!                         | ALTER [COLUMN] c [SET DATA] TYPE type
//!                         | SET (partition_width = '7 days')
//! ```

use marigram_storage::schema::{ColumnKind, FieldType};
use sqlparser::keywords::Keyword;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::create_table::{Declared, TIME, declared_type, width_of};
use super::{TableName, fold, option_pair, table_name_of};
use crate::error::{QueryError, QueryErrorKind};

/// A change of a table.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AlterTable {
    pub(crate) name: TableName,
    pub(crate) if_exists: bool,
    pub(crate) change: Change,
}

/// What is changed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Change {
    Add {
        column: String,
        kind: ColumnKind,
        if_not_exists: bool,
    },
    Drop {
        column: String,
        if_exists: bool,
    },
    Rename {
        column: String,
        to: String,
    },
    Retype {
        column: String,
        kind: FieldType,
    },
    /// ns.
    Width(i64),
}

/// Everything behind `ALTER TABLE`.
pub(super) fn parse(parser: &mut Parser<'_>) -> Result<AlterTable, QueryError> {
    let if_exists = parser.parse_keywords(&[Keyword::IF, Keyword::EXISTS]);
    skip(parser, Keyword::ONLY);
    let name = table_name_of(parser.parse_object_name(false)?)?;
    let change = change(parser)?;
    if parser.peek_token_ref().token == Token::Comma {
        return Err(QueryError::unsupported("ALTER TABLE with several changes; one a statement"));
    }
    Ok(AlterTable { name, if_exists, change })
}

fn change(parser: &mut Parser<'_>) -> Result<Change, QueryError> {
    if parser.parse_keyword(Keyword::ADD) {
        return add(parser);
    }
    if parser.parse_keyword(Keyword::DROP) {
        skip(parser, Keyword::COLUMN);
        let if_exists = parser.parse_keywords(&[Keyword::IF, Keyword::EXISTS]);
        let column = user_column(parser)?;
        if parser.parse_keyword(Keyword::CASCADE) {
            return Err(QueryError::unsupported("DROP COLUMN … CASCADE"));
        }
        skip(parser, Keyword::RESTRICT);
        return Ok(Change::Drop { column, if_exists });
    }
    if parser.parse_keyword(Keyword::RENAME) {
        if parser.parse_keyword(Keyword::TO) {
            return Err(QueryError::unsupported(
                "ALTER TABLE … RENAME TO; writers of the old name would make it again",
            ));
        }
        skip(parser, Keyword::COLUMN);
        let column = user_column(parser)?;
        parser.expect_keyword(Keyword::TO)?;
        return Ok(Change::Rename { column, to: user_column(parser)? });
    }
    if parser.parse_keyword(Keyword::ALTER) {
        skip(parser, Keyword::COLUMN);
        let column = user_column(parser)?;
        if !parser.parse_keywords(&[Keyword::SET, Keyword::DATA, Keyword::TYPE]) && !parser.parse_keyword(Keyword::TYPE)
        {
            return Err(QueryError::unsupported(format!("ALTER COLUMN … {}", parser.peek_token_ref())));
        }
        let data_type = parser.parse_data_type()?;
        if parser.peek_keyword(Keyword::USING) {
            return Err(QueryError::unsupported("ALTER COLUMN … TYPE … USING"));
        }
        return match declared_type(&data_type) {
            Some(Declared::Field(kind)) => Ok(Change::Retype { column, kind }),
            _ => Err(QueryError::unsupported(format!("type {data_type} of column {column:?}"))),
        };
    }
    if parser.parse_keyword(Keyword::SET) {
        return set(parser);
    }
    Err(QueryError::unsupported(format!("ALTER TABLE … {}", parser.peek_token_ref())))
}

fn add(parser: &mut Parser<'_>) -> Result<Change, QueryError> {
    skip(parser, Keyword::COLUMN);
    let if_not_exists = parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
    let column = user_column(parser)?;
    let data_type = parser.parse_data_type()?;
    let Some(Declared::Field(kind)) = declared_type(&data_type) else {
        return Err(QueryError::unsupported(format!("type {data_type} of column {column:?}")));
    };
    if parser.parse_keywords(&[Keyword::NOT, Keyword::NULL]) {
        return Err(QueryError::unsupported(format!("NOT NULL on column {column:?}; only time is never absent")));
    }
    skip(parser, Keyword::NULL);
    let is_tag = parser.parse_keywords(&[Keyword::PRIMARY, Keyword::KEY]);
    match parser.peek_token().token {
        Token::EOF | Token::SemiColon | Token::Comma => {}
        other => return Err(QueryError::unsupported(format!("{other} behind column {column:?}"))),
    }
    let kind = match (is_tag, kind) {
        (false, kind) => ColumnKind::Field(kind),
        (true, FieldType::String) => ColumnKind::Tag,
        (true, _) => {
            let message = format!("key column {column:?} is of type {data_type}: key columns are VARCHAR");
            return Err(QueryError::syntax(message).with_state("42P16"));
        }
    };
    Ok(Change::Add { column, kind, if_not_exists })
}

fn set(parser: &mut Parser<'_>) -> Result<Change, QueryError> {
    parser.expect_token(&Token::LParen)?;
    let options = parser.parse_comma_separated(Parser::parse_sql_option)?;
    parser.expect_token(&Token::RParen)?;
    let mut options = options.into_iter();
    let (Some(option), None) = (options.next(), options.next()) else {
        return Err(QueryError::unsupported("ALTER TABLE … SET of several options; one a statement"));
    };
    let (key, value) = option_pair(option)?;
    match key.as_str() {
        "partition_width" => Ok(Change::Width(width_of(&value)?)),
        "mode" => Err(QueryError::unsupported("another mode of a table")),
        other => Err(QueryError::new(
            QueryErrorKind::Invalid,
            format!("unknown table option {other:?}; what can be set is partition_width"),
        )),
    }
}

/// A word that says nothing.
fn skip(parser: &mut Parser<'_>, word: Keyword) {
    let _was_there = parser.parse_keyword(word);
}

/// The name of a tag or field.
fn user_column(parser: &mut Parser<'_>) -> Result<String, QueryError> {
    let name = fold(parser.parse_identifier()?);
    if name == TIME {
        let message = "the column \"time\" of a table stays as it is, and there is one";
        return Err(QueryError::syntax(message).with_state("42P16"));
    }
    Ok(name)
}

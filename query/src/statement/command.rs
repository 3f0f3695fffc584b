//! Statements about the connection that sends them: transactions, settings, prepared statements, cursors, `COPY`.
//!
//! sqlparser's trees of these differ from what PostgreSQL reads, so they are read here, word by word.

mod copy;

use std::sync::Arc;

use sqlparser::ast;
use sqlparser::ast::Expr;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::read::one;
use super::{Statement, fold};
use crate::error::{QueryError, QueryErrorKind};

pub use copy::CopyFormat;
pub(crate) use copy::{Copy, Source, whole_table};

/// One of them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Command {
    Begin(Modes),
    /// `SET TRANSACTION`; `session`: of all that follow.
    SetTransaction {
        modes: Modes,
        session: bool,
    },
    /// `SET TRANSACTION SNAPSHOT`, with its token.
    SetSnapshot(String),
    Commit,
    Rollback,
    Savepoint(String),
    Release(String),
    RollbackTo(String),
    /// `None`: all.
    Reset(Option<String>),
    Prepare {
        name: String,
        types: Vec<ast::DataType>,
        statement: Box<Statement>,
    },
    Execute {
        name: String,
        values: Vec<Expr>,
    },
    /// `None`: all.
    Deallocate(Option<String>),
    Discard,
    /// Nobody listens to anything, so nothing is to be done.
    Unlisten,
    Declare {
        name: String,
        hold: bool,
        query: Arc<ast::Statement>,
    },
    Fetch {
        name: String,
        /// `None`: all that are left.
        count: Option<u64>,
        is_move: bool,
    },
    /// `None`: all.
    Close(Option<String>),
    Copy(Copy),
}

/// What a transaction is to be; absent: as the settings say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Modes {
    pub(crate) read_only: Option<bool>,
    pub(crate) isolation: Option<Isolation>,
}

/// As PostgreSQL names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Isolation {
    ReadUncommitted,
    ReadCommitted,
    RepeatableRead,
    Serializable,
}

impl Isolation {
    const ALL: [Self; 4] = [Self::ReadUncommitted, Self::ReadCommitted, Self::RepeatableRead, Self::Serializable];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ReadUncommitted => "read uncommitted",
            Self::ReadCommitted => "read committed",
            Self::RepeatableRead => "repeatable read",
            Self::Serializable => "serializable",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.name().eq_ignore_ascii_case(name))
    }

    /// Whether all statements of a transaction read one snapshot.
    pub(crate) fn is_pinned(self) -> bool {
        matches!(self, Self::RepeatableRead | Self::Serializable)
    }
}

impl Command {
    /// As PostgreSQL says that it is done.
    pub(crate) fn tag(&self) -> &'static str {
        match self {
            Self::Begin(_) => "BEGIN",
            Self::SetTransaction { .. } | Self::SetSnapshot(_) => "SET",
            Self::Commit => "COMMIT",
            Self::Rollback | Self::RollbackTo(_) => "ROLLBACK",
            Self::Savepoint(_) => "SAVEPOINT",
            Self::Release(_) => "RELEASE",
            Self::Reset(_) => "RESET",
            Self::Prepare { .. } => "PREPARE",
            Self::Execute { .. } => "EXECUTE",
            Self::Deallocate(None) => "DEALLOCATE ALL",
            Self::Deallocate(Some(_)) => "DEALLOCATE",
            Self::Discard => "DISCARD ALL",
            Self::Unlisten => "UNLISTEN",
            Self::Declare { .. } => "DECLARE CURSOR",
            Self::Fetch { is_move: false, .. } => "FETCH",
            Self::Fetch { is_move: true, .. } => "MOVE",
            Self::Close(None) => "CLOSE CURSOR ALL",
            Self::Close(Some(_)) => "CLOSE CURSOR",
            Self::Copy(_) => "COPY",
        }
    }
}

/// A statement of this kind, if the next word begins one.
pub(super) fn parse(parser: &mut Parser<'_>) -> Result<Option<Statement>, QueryError> {
    let command = match next_word(parser).as_str() {
        "begin" | "start" => begin(parser)?,
        "commit" | "end" => {
            parser.next_token();
            end(parser)?;
            Command::Commit
        }
        "rollback" | "abort" => rollback(parser)?,
        "savepoint" => {
            parser.next_token();
            Command::Savepoint(name(parser)?)
        }
        "release" => {
            parser.next_token();
            take(parser, &["savepoint"]);
            Command::Release(name(parser)?)
        }
        "set" => return set(parser).map(Some),
        "reset" => {
            parser.next_token();
            reset(parser)?
        }
        "prepare" => prepare(parser)?,
        "execute" => execute(parser)?,
        "deallocate" => {
            parser.next_token();
            take(parser, &["prepare"]);
            Command::Deallocate(name_or_all(parser)?)
        }
        "discard" => discard(parser)?,
        "unlisten" => {
            parser.next_token();
            if !parser.consume_token(&Token::Mul) {
                name(parser)?;
            }
            Command::Unlisten
        }
        "declare" => declare(parser)?,
        "fetch" | "move" => fetch(parser)?,
        "close" => {
            parser.next_token();
            Command::Close(name_or_all(parser)?)
        }
        "copy" => {
            parser.next_token();
            return copy::parse(parser).map(Some);
        }
        _ => return Ok(None),
    };
    Ok(Some(Statement::Command(command)))
}

/// The next word in lower case, or nothing.
fn next_word(parser: &Parser<'_>) -> String {
    word_of(&parser.peek_token_ref().token).unwrap_or_default()
}

fn word_of(token: &Token) -> Option<String> {
    match token {
        Token::Word(word) if word.quote_style.is_none() => Some(word.value.to_ascii_lowercase()),
        _ => None,
    }
}

/// Takes words if all of them come next.
pub(super) fn take(parser: &mut Parser<'_>, words: &[&str]) -> bool {
    let come = words
        .iter()
        .enumerate()
        .all(|(at, word)| word_of(&parser.peek_nth_token_ref(at).token).is_some_and(|next| next == *word));
    if come {
        words.iter().for_each(|_| drop(parser.next_token()));
    }
    come
}

pub(super) fn expect(parser: &mut Parser<'_>, words: &[&str]) -> Result<(), QueryError> {
    if take(parser, words) {
        return Ok(());
    }
    let wanted = words.join(" ").to_uppercase();
    Err(QueryError::syntax(format!("syntax error: expected {wanted}, found {}", parser.peek_token_ref())))
}

pub(super) fn name(parser: &mut Parser<'_>) -> Result<String, QueryError> {
    Ok(fold(parser.parse_identifier()?))
}

fn name_or_all(parser: &mut Parser<'_>) -> Result<Option<String>, QueryError> {
    if take(parser, &["all"]) { Ok(None) } else { name(parser).map(Some) }
}

fn begin(parser: &mut Parser<'_>) -> Result<Command, QueryError> {
    if take(parser, &["start"]) {
        expect(parser, &["transaction"])?;
    } else {
        expect(parser, &["begin"])?;
        let _ = take(parser, &["work"]) || take(parser, &["transaction"]);
    }
    Ok(Command::Begin(modes(parser)?))
}

fn modes(parser: &mut Parser<'_>) -> Result<Modes, QueryError> {
    let mut modes = Modes::default();
    loop {
        if take(parser, &["isolation", "level"]) {
            let level = Isolation::ALL.into_iter().find(|level| {
                let words: Vec<_> = level.name().split(' ').collect();
                take(parser, &words)
            });
            let found = || QueryError::syntax(format!("syntax error: no isolation level: {}", parser.peek_token_ref()));
            modes.isolation = Some(level.ok_or_else(found)?);
        } else if take(parser, &["read", "only"]) {
            modes.read_only = Some(true);
        } else if take(parser, &["read", "write"]) {
            modes.read_only = Some(false);
        } else if !(take(parser, &["deferrable"]) || take(parser, &["not", "deferrable"])) {
            return Ok(modes);
        }
        let _ = parser.consume_token(&Token::Comma);
    }
}

/// `[WORK | TRANSACTION] [AND NO CHAIN]`.
fn end(parser: &mut Parser<'_>) -> Result<(), QueryError> {
    let _ = take(parser, &["work"]) || take(parser, &["transaction"]);
    if take(parser, &["and", "chain"]) {
        return Err(QueryError::unsupported("AND CHAIN"));
    }
    take(parser, &["and", "no", "chain"]);
    Ok(())
}

fn rollback(parser: &mut Parser<'_>) -> Result<Command, QueryError> {
    parser.next_token();
    let _ = take(parser, &["work"]) || take(parser, &["transaction"]);
    if take(parser, &["to"]) {
        take(parser, &["savepoint"]);
        return Ok(Command::RollbackTo(name(parser)?));
    }
    end(parser)?;
    Ok(Command::Rollback)
}

fn set(parser: &mut Parser<'_>) -> Result<Statement, QueryError> {
    parser.next_token();
    if take(parser, &["session", "characteristics", "as", "transaction"]) {
        let modes = modes(parser)?;
        return Ok(Statement::Command(Command::SetTransaction { modes, session: true }));
    }
    if take(parser, &["transaction"]) {
        if next_word(parser) == "snapshot" {
            parser.next_token();
            let found = parser.next_token();
            let Token::SingleQuotedString(token) = found.token else {
                return Err(QueryError::syntax(format!("a snapshot token in quotes is expected, found {found}")));
            };
            return Ok(Statement::Command(Command::SetSnapshot(token)));
        }
        let modes = modes(parser)?;
        return Ok(Statement::Command(Command::SetTransaction { modes, session: false }));
    }
    let local = take(parser, &["local"]);
    take(parser, &["session"]);
    let setting = |name: &str, value| Ok(Statement::Set { name: name.to_owned(), value, local });
    if take(parser, &["time", "zone"]) {
        let value = if take(parser, &["local"]) { None } else { value(parser)? };
        return setting("timezone", value);
    }
    if take(parser, &["names"]) {
        return setting("client_encoding", value(parser)?);
    }
    if take(parser, &["authorization"]) {
        return setting("session_authorization", value(parser)?);
    }
    if take(parser, &["role"]) {
        return setting("role", value(parser)?);
    }
    let name = dotted(parser)?;
    if !take(parser, &["to"]) {
        parser.expect_token(&Token::Eq)?;
    }
    setting(&name, value(parser)?)
}

fn dotted(parser: &mut Parser<'_>) -> Result<String, QueryError> {
    let mut parts = vec![name(parser)?];
    while parser.consume_token(&Token::Period) {
        parts.push(name(parser)?);
    }
    Ok(parts.join(".").to_lowercase())
}

/// One value or several, as text; `None`: `DEFAULT`.
fn value(parser: &mut Parser<'_>) -> Result<Option<String>, QueryError> {
    if take(parser, &["default"]) {
        return Ok(None);
    }
    let mut values = Vec::new();
    loop {
        let minus = parser.consume_token(&Token::Minus);
        let found = parser.next_token();
        values.push(match found.token {
            Token::SingleQuotedString(text) if !minus => text,
            Token::EscapedStringLiteral(text) if !minus => text,
            Token::Word(word) if !minus => word.value,
            Token::Number(number, _) if minus => format!("-{number}"),
            Token::Number(number, _) => number,
            other => return Err(QueryError::syntax(format!("syntax error: expected a value, found {other}"))),
        });
        if !parser.consume_token(&Token::Comma) {
            return Ok(Some(values.join(", ")));
        }
    }
}

fn reset(parser: &mut Parser<'_>) -> Result<Command, QueryError> {
    Ok(Command::Reset(if take(parser, &["all"]) {
        None
    } else if take(parser, &["time", "zone"]) {
        Some("timezone".to_owned())
    } else if take(parser, &["session", "authorization"]) {
        Some("session_authorization".to_owned())
    } else {
        Some(dotted(parser)?)
    }))
}

fn prepare(parser: &mut Parser<'_>) -> Result<Command, QueryError> {
    parser.next_token();
    let name = name(parser)?;
    let mut types = Vec::new();
    if parser.consume_token(&Token::LParen) {
        types = parser.parse_comma_separated(Parser::parse_data_type)?;
        parser.expect_token(&Token::RParen)?;
    }
    expect(parser, &["as"])?;
    let statement = one(parser)?;
    if matches!(statement, Statement::Command(_) | Statement::CopyTo(_) | Statement::CopyFrom(_)) {
        return Err(QueryError::syntax("syntax error: PREPARE takes a query, INSERT or DELETE"));
    }
    Ok(Command::Prepare { name, types, statement: Box::new(statement) })
}

fn execute(parser: &mut Parser<'_>) -> Result<Command, QueryError> {
    parser.next_token();
    let name = name(parser)?;
    let mut values = Vec::new();
    if parser.consume_token(&Token::LParen) && !parser.consume_token(&Token::RParen) {
        values = parser.parse_comma_separated(Parser::parse_expr)?;
        parser.expect_token(&Token::RParen)?;
    }
    Ok(Command::Execute { name, values })
}

fn discard(parser: &mut Parser<'_>) -> Result<Command, QueryError> {
    parser.next_token();
    expect(parser, &["all"])?;
    Ok(Command::Discard)
}

fn declare(parser: &mut Parser<'_>) -> Result<Command, QueryError> {
    parser.next_token();
    let name = name(parser)?;
    loop {
        if take(parser, &["binary"]) {
            return Err(QueryError::unsupported("a BINARY cursor"));
        }
        if take(parser, &["scroll"]) {
            return Err(QueryError::unsupported("a SCROLL cursor: rows are not kept,"));
        }
        let known = take(parser, &["insensitive"]) || take(parser, &["asensitive"]) || take(parser, &["no", "scroll"]);
        if !known {
            break;
        }
    }
    expect(parser, &["cursor"])?;
    let hold = take(parser, &["with", "hold"]);
    if !hold {
        take(parser, &["without", "hold"]);
    }
    expect(parser, &["for"])?;
    match one(parser)? {
        Statement::Query(query) => Ok(Command::Declare { name, hold, query }),
        _ => Err(QueryError::syntax("syntax error: a cursor is declared for a query")),
    }
}

fn fetch(parser: &mut Parser<'_>) -> Result<Command, QueryError> {
    let is_move = take(parser, &["move"]);
    if !is_move {
        expect(parser, &["fetch"])?;
    }
    for direction in ["prior", "first", "last", "absolute", "relative", "backward"] {
        if next_word(parser) == direction {
            let message = "a cursor goes forward only: rows are not kept";
            return Err(QueryError::new(QueryErrorKind::Unsupported, message).with_state("55000"));
        }
    }
    let forward = take(parser, &["forward"]);
    let count = if take(parser, &["all"]) {
        None
    } else if matches!(parser.peek_token_ref().token, Token::Number(..)) {
        Some(parser.parse_literal_uint()?)
    } else {
        if !forward {
            take(parser, &["next"]);
        }
        Some(1)
    };
    let _ = take(parser, &["from"]) || take(parser, &["in"]);
    Ok(Command::Fetch { name: name(parser)?, count, is_move })
}

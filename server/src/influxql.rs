//! InfluxQL statements as text: those that make and list databases, and those that delete.
//!
//! Telegraf, micrometer and the client libraries send `CREATE DATABASE` at start, with or without quotes, `IF NOT EXISTS`,
//! and a `WITH` clause that names a retention policy. The rest of the language is not read yet: a statement that is not
//! known is an error that names it, and nothing of its text is executed.
//! The answers are in `http/influxql.rs`. Flight alone reads a little of `SELECT` ([`select`]).

pub(crate) mod condition;
mod pattern;
pub(crate) mod select;
pub(crate) mod sql;
mod token;

pub(crate) use condition::Condition;
pub(crate) use pattern::Pattern;
use token::{Token, Tokens};

/// A statement that is known.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Statement {
    /// `CREATE DATABASE name [WITH …]`: no error if it exists, as in InfluxDB.
    CreateDatabase(String),
    /// `DROP DATABASE name`: no error if it does not exist, as in InfluxDB.
    DropDatabase(String),
    ShowDatabases,
    /// `SHOW RETENTION POLICIES [ON name]`; without a name those of the request's database.
    ShowRetentionPolicies(Option<String>),
    /// `SHOW MEASUREMENTS [ON name]`.
    ShowMeasurements(Option<String>),
    /// `DELETE`, `DROP SERIES`.
    Delete(Deleted),
    /// `DROP MEASUREMENT name`.
    DropMeasurement(String),
}

impl Statement {
    /// Whether what is stored is less for it.
    pub(crate) fn takes_away(&self) -> bool {
        matches!(self, Self::DropDatabase(_) | Self::DropMeasurement(_) | Self::Delete(_))
    }
}

/// The measurements of a name, or of all names that match.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Source {
    Name(String),
    Matches(Pattern),
}

/// `[FROM a, /b/] [WHERE condition]`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Deleted {
    /// Empty: all of the database.
    pub(crate) tables: Vec<Source>,
    /// `None`: every point.
    pub(crate) condition: Option<Condition>,
}

/// The predicate of `POST /api/v2/delete`: `_measurement="m" AND tag="v"`; an empty one names every point.
pub(crate) fn parse_predicate(text: &str) -> Result<Deleted, ParseError> {
    let mut tokens = Tokens::new(text);
    if tokens.at_end()? {
        return Ok(Deleted { tables: Vec::new(), condition: None });
    }
    let condition = Condition::parse(&mut tokens, 0)?;
    if !tokens.at_end()? {
        return Err(ParseError(format!("error parsing predicate: found {}, expected AND", tokens.next_text()?)));
    }
    let parts = match condition {
        Condition::All(parts) => parts,
        Condition::Any(_) => {
            return Err(ParseError("the logical operator OR is not supported for delete predicate".to_owned()));
        }
        one => vec![one],
    };
    let mut deleted = Deleted { tables: Vec::new(), condition: None };
    let mut others = Vec::new();
    for part in parts {
        match part {
            Condition::Tag { name, equal: true, value } if name == "_measurement" => {
                deleted.tables.push(Source::Name(value));
            }
            Condition::Tag { equal: true, .. } => others.push(part),
            _ => return Err(ParseError("a delete predicate compares tags with = and joins with AND only".to_owned())),
        }
    }
    if deleted.tables.len() > 1 {
        return Err(ParseError("_measurement is named twice".to_owned()));
    }
    deleted.condition = (!others.is_empty()).then_some(Condition::All(others));
    Ok(deleted)
}

/// Why a text is no statement that is known; InfluxDB's words where it has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ParseError(pub(crate) String);

/// The statements of a text, separated by semicolons. A text without any is an error, like InfluxDB's.
pub(crate) fn parse(text: &str, now_ns: i64) -> Result<Vec<Statement>, ParseError> {
    let mut tokens = Tokens::new(text);
    let mut statements = Vec::new();
    loop {
        while tokens.take_symbol(';')? {}
        if tokens.at_end()? {
            break;
        }
        statements.push(statement(&mut tokens, now_ns)?);
        if !tokens.at_end()? && !tokens.take_symbol(';')? {
            let found = tokens.next_text()?;
            return Err(ParseError(format!("error parsing query: found {found}, expected ; or the end")));
        }
    }
    if statements.is_empty() {
        return Err(ParseError("missing required parameter \"q\"".to_owned()));
    }
    Ok(statements)
}

fn statement(tokens: &mut Tokens<'_>, now_ns: i64) -> Result<Statement, ParseError> {
    let start = tokens.clone();
    if tokens.take_words(&["CREATE", "DATABASE"])? {
        tokens.take_words(&["IF", "NOT", "EXISTS"])?;
        let name = name(tokens)?;
        if tokens.take_words(&["WITH"])? {
            retention_clause(tokens)?;
        }
        return Ok(Statement::CreateDatabase(name));
    }
    if tokens.take_words(&["DROP", "DATABASE"])? {
        tokens.take_words(&["IF", "EXISTS"])?;
        return Ok(Statement::DropDatabase(name(tokens)?));
    }
    if tokens.take_words(&["DROP", "MEASUREMENT"])? {
        return Ok(Statement::DropMeasurement(name(tokens)?));
    }
    if tokens.take_words(&["DELETE"])? {
        return deleted(tokens, now_ns).map(Statement::Delete);
    }
    if tokens.take_words(&["DROP", "SERIES"])? {
        let deleted = deleted(tokens, now_ns)?;
        if deleted.condition.as_ref().is_some_and(names_time) {
            return Err(ParseError("DROP SERIES doesn't support time in WHERE clause".to_owned()));
        }
        return Ok(Statement::Delete(deleted));
    }
    if tokens.take_words(&["SHOW", "DATABASES"])? {
        return Ok(Statement::ShowDatabases);
    }
    if tokens.take_words(&["SHOW", "RETENTION", "POLICIES"])? {
        return Ok(Statement::ShowRetentionPolicies(on_clause(tokens)?));
    }
    if tokens.take_words(&["SHOW", "MEASUREMENTS"])? {
        return Ok(Statement::ShowMeasurements(on_clause(tokens)?));
    }
    let mut words = start;
    let first = words.next_text()?.to_ascii_uppercase();
    let known = ["CREATE", "DROP", "SHOW", "ALTER", "SELECT", "DELETE", "GRANT", "REVOKE", "SET", "KILL", "EXPLAIN"];
    if known.contains(&first.as_str()) {
        let second = if words.at_end()? { String::new() } else { format!(" {}", words.next_text()?) };
        let second = if first == "SELECT" { String::new() } else { second.to_ascii_uppercase() };
        return Err(ParseError(format!(
            "{first}{second} is not supported in InfluxQL yet, use SQL at /api/v3/query_sql"
        )));
    }
    Err(ParseError(format!("error parsing query: found {first}, expected SELECT, SHOW, CREATE, DROP")))
}

fn deleted(tokens: &mut Tokens<'_>, now_ns: i64) -> Result<Deleted, ParseError> {
    let mut tables = Vec::new();
    if tokens.take_words(&["FROM"])? {
        tables.push(source(tokens)?);
        while tokens.take_symbol(',')? {
            tables.push(source(tokens)?);
        }
    }
    let has_condition = tokens.take_words(&["WHERE"])?;
    let condition = if has_condition { Some(Condition::parse(tokens, now_ns)?) } else { None };
    if tables.is_empty() && condition.is_none() {
        let found = if tokens.at_end()? { "EOF".to_owned() } else { tokens.next_text()? };
        return Err(ParseError(format!("error parsing query: found {found}, expected FROM, WHERE")));
    }
    Ok(Deleted { tables, condition })
}

fn source(tokens: &mut Tokens<'_>) -> Result<Source, ParseError> {
    match tokens.take_pattern()? {
        Some(pattern) => Ok(Source::Matches(pattern)),
        None => name(tokens).map(Source::Name),
    }
}

fn names_time(condition: &Condition) -> bool {
    match condition {
        Condition::Time(..) => true,
        Condition::Tag { .. } | Condition::Matches { .. } => false,
        Condition::All(parts) | Condition::Any(parts) => parts.iter().any(names_time),
    }
}

/// `[DURATION d] [REPLICATION n] [SHARD DURATION d] [FUTURE LIMIT d] [PAST LIMIT d] [NAME n]`, in any order. Read and
/// checked, and without effect so far: one policy that keeps everything is what a database has.
fn retention_clause(tokens: &mut Tokens<'_>) -> Result<(), ParseError> {
    let mut any = false;
    loop {
        if tokens.take_words(&["DURATION"])?
            || tokens.take_words(&["SHARD", "DURATION"])?
            || tokens.take_words(&["FUTURE", "LIMIT"])?
            || tokens.take_words(&["PAST", "LIMIT"])?
        {
            let text = tokens.next_text()?;
            if !is_duration(&text) {
                return Err(ParseError(format!("error parsing query: found {text}, expected duration")));
            }
        } else if tokens.take_words(&["REPLICATION"])? {
            let text = tokens.next_text()?;
            if !text.parse::<u32>().is_ok_and(|copies| 0 < copies) {
                return Err(ParseError(format!("error parsing query: found {text}, expected a positive number")));
            }
        } else if tokens.take_words(&["NAME"])? {
            name(tokens)?;
        } else {
            break;
        }
        any = true;
    }
    if any {
        return Ok(());
    }
    let found = if tokens.at_end()? { "EOF".to_owned() } else { tokens.next_text()? };
    Err(ParseError(format!("error parsing query: found {found}, expected DURATION, NAME, REPLICATION, SHARD")))
}

fn on_clause(tokens: &mut Tokens<'_>) -> Result<Option<String>, ParseError> {
    if tokens.take_words(&["ON"])? { name(tokens).map(Some) } else { Ok(None) }
}

fn name(tokens: &mut Tokens<'_>) -> Result<String, ParseError> {
    match tokens.next()? {
        Some(Token::Quoted(name)) if !name.is_empty() => Ok(name),
        Some(Token::Word(word)) if !word.starts_with(|c: char| c.is_ascii_digit()) => Ok(word.to_owned()),
        // InfluxDB wants double quotes; agents have sent single ones.
        Some(Token::Text(name)) if !name.is_empty() => Ok(name),
        Some(other) => Err(ParseError(format!("error parsing query: found {}, expected identifier", other.text()))),
        None => Err(ParseError("error parsing query: found EOF, expected identifier".to_owned())),
    }
}

/// `INF`, `30d`, `1h30m`, `0s`.
fn is_duration(text: &str) -> bool {
    if text.eq_ignore_ascii_case("INF") {
        return true;
    }
    let mut rest = text;
    while !rest.is_empty() {
        let after = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        let unit =
            ["ns", "ms", "us", "u", "µs", "µ", "s", "m", "h", "d", "w"].into_iter().find_map(|u| after.strip_prefix(u));
        match unit {
            Some(next) if after.len() < rest.len() => rest = next,
            _ => return false,
        }
    }
    !text.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Result<Statement, ParseError> {
        let mut statements = parse(text, 0)?;
        assert_eq!(statements.len(), 1, "{text}");
        Ok(statements.remove(0))
    }

    #[test]
    fn create_database_is_read_in_every_spelling_agents_use() {
        for text in [
            "CREATE DATABASE \"telegraf\"",
            "CREATE DATABASE telegraf",
            "create database telegraf;",
            "  CREATE\tDATABASE IF NOT EXISTS \"telegraf\" ; ",
            "CREATE DATABASE \"telegraf\" WITH DURATION 30d REPLICATION 1 SHARD DURATION 1h NAME \"liquid\"",
            "CREATE DATABASE telegraf WITH NAME myrp",
            "CREATE DATABASE telegraf WITH DURATION INF REPLICATION 1",
            "CREATE DATABASE telegraf WITH REPLICATION 2 DURATION 1h30m SHARD DURATION 2w NAME 'x'",
            "CREATE DATABASE 'telegraf'",
            "-- made by hand\nCREATE /* here */ DATABASE telegraf",
        ] {
            assert_eq!(one(text), Ok(Statement::CreateDatabase("telegraf".to_owned())), "{text}");
        }
        assert_eq!(one(r#"CREATE DATABASE "a \"b\" ; c""#), Ok(Statement::CreateDatabase("a \"b\" ; c".to_owned())));
        assert_eq!(one("CREATE DATABASE my_db.x"), Ok(Statement::CreateDatabase("my_db.x".to_owned())));
    }

    #[test]
    fn several_statements_are_read_and_one_that_is_unknown_refuses_all() {
        let statements = parse("CREATE DATABASE a; SHOW DATABASES;;DROP DATABASE \"b\"", 0).unwrap();
        assert_eq!(statements.len(), 3);
        assert_eq!(statements[0], Statement::CreateDatabase("a".to_owned()));
        assert_eq!(statements[2], Statement::DropDatabase("b".to_owned()));
        assert!(parse("CREATE DATABASE a; nonsense here", 0).unwrap_err().0.contains("found NONSENSE"));
    }

    #[test]
    fn show_statements_take_a_database() {
        assert_eq!(one("show retention policies"), Ok(Statement::ShowRetentionPolicies(None)));
        assert_eq!(one("SHOW RETENTION POLICIES ON \"x\""), Ok(Statement::ShowRetentionPolicies(Some("x".to_owned()))));
        assert_eq!(one("SHOW MEASUREMENTS ON x"), Ok(Statement::ShowMeasurements(Some("x".to_owned()))));
    }

    #[test]
    fn what_is_not_known_is_named() {
        for (text, want) in [
            ("CREATE DATABASE", "found EOF, expected identifier"),
            ("CREATE DATABASE 1x", "found 1x, expected identifier"),
            ("CREATE DATABASE a WITH", "found EOF, expected DURATION"),
            ("CREATE DATABASE a WITH DURATION soon", "found soon, expected duration"),
            ("CREATE DATABASE a WITH REPLICATION 0", "found 0, expected a positive number"),
            ("CREATE DATABASE a b", "found b, expected ;"),
            ("SELECT * FROM cpu", "SELECT is not supported"),
            ("SHOW TAG KEYS", "SHOW TAG is not supported"),
            ("ALTER RETENTION POLICY x", "ALTER RETENTION is not supported"),
            ("DROP", "DROP is not supported"),
        ] {
            let error = one(text).unwrap_err();
            assert!(error.0.contains(want), "{text}: {}", error.0);
        }
        assert!(parse(" ; ", 0).is_err());
        assert!(parse("CREATE DATABASE \"open", 0).unwrap_err().0.contains("quote"));
    }
}

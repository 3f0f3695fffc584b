//! The one kind of `SELECT` that is read so far: columns of one measurement as they are.
//!
//! `SELECT * | column, … FROM measurement [ORDER BY time [ASC|DESC]] [LIMIT n] [OFFSET n]`. InfluxDB 3's clients send it by
//! Flight. What else InfluxQL can say is refused by name: nothing of a text is overlooked.

use super::token::{Token, Tokens};
use super::{ParseError, name};

/// A statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Select {
    /// Empty: all.
    pub(crate) columns: Vec<String>,
    pub(crate) measurement: String,
    newest_first: bool,
    limit: Option<u64>,
    offset: Option<u64>,
}

impl Select {
    /// Reads a text of one statement.
    pub(crate) fn parse(text: &str) -> Result<Self, ParseError> {
        let mut tokens = Tokens::new(text);
        if !tokens.take_words(&["SELECT"])? {
            return Err(unsupported(&tokens.next_text()?));
        }
        let mut columns = Vec::new();
        if !tokens.take_symbol('*')? {
            columns.push(name(&mut tokens)?);
            while tokens.take_symbol(',')? {
                columns.push(name(&mut tokens)?);
            }
        }
        if !tokens.take_words(&["FROM"])? {
            return Err(unsupported(&tokens.next_text()?));
        }
        let measurement = name(&mut tokens)?;
        let mut select = Self { columns, measurement, newest_first: false, limit: None, offset: None };
        if tokens.take_words(&["ORDER", "BY", "time"])? {
            select.newest_first = tokens.take_words(&["DESC"])?;
            if !select.newest_first {
                tokens.take_words(&["ASC"])?;
            }
        }
        if tokens.take_words(&["LIMIT"])? {
            select.limit = Some(number(&mut tokens)?);
        }
        if tokens.take_words(&["OFFSET"])? {
            select.offset = Some(number(&mut tokens)?);
        }
        tokens.take_symbol(';')?;
        if tokens.at_end()? { Ok(select) } else { Err(unsupported(&tokens.next_text()?)) }
    }

    /// The same in SQL, of a table with these columns: the measurement's name, the time, then what was asked for, all of it
    /// in the order of the alphabet, as InfluxDB 3 answers.
    pub(crate) fn sql(&self, known: &[String]) -> String {
        let mut columns = self.columns.clone();
        if columns.is_empty() {
            columns.extend_from_slice(known);
            columns.sort();
        }
        columns.retain(|column| column != "time");
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        let mut sql = format!("SELECT '{}' AS \"iox::measurement\", \"time\"", self.measurement.replace('\'', "''"));
        for column in &columns {
            match known.contains(column) {
                true => sql.extend([", ", &quoted(column)]),
                // What no point has is NULL, as in InfluxDB.
                false => sql.extend([", CAST(NULL AS VARCHAR) AS ", &quoted(column)]),
            }
        }
        sql.extend([" FROM ", &quoted(&self.measurement), " ORDER BY \"time\""]);
        sql.push_str(if self.newest_first { " DESC" } else { "" });
        for (word, count) in [("LIMIT", self.limit), ("OFFSET", self.offset)] {
            sql.extend(count.map(|count| format!(" {word} {count}")));
        }
        sql
    }
}

fn number(tokens: &mut Tokens<'_>) -> Result<u64, ParseError> {
    match tokens.next()? {
        Some(Token::Word(word)) => word.parse().map_err(|_| unsupported(word)),
        _ => Err(unsupported("a limit that is no number")),
    }
}

fn unsupported(found: &str) -> ParseError {
    ParseError(format!(
        "InfluxQL is read as far as SELECT columns FROM measurement ORDER BY time LIMIT n OFFSET n, found {found}: use SQL"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_as_they_are_become_sql() {
        let known: Vec<String> = ["time", "host", "f", "A"].map(str::to_owned).into();
        #[track_caller]
        fn check(known: &[String], text: &str, want: &str) {
            let sql = Select::parse(text).map(|select| select.sql(known));
            assert_eq!(sql.as_deref(), Ok(want), "{text}");
        }
        check(
            &known,
            "SELECT * FROM \"m\"",
            r#"SELECT 'm' AS "iox::measurement", "time", "A", "f", "host" FROM "m" ORDER BY "time""#,
        );
        check(
            &known,
            "select f, time, \"no\\\"pe\" from \"it's\" order by time desc limit 2 offset 1;",
            r#"SELECT 'it''s' AS "iox::measurement", "time", "f", CAST(NULL AS VARCHAR) AS "no""pe" FROM "it's" ORDER BY "time" DESC LIMIT 2 OFFSET 1"#,
        );
    }

    #[test]
    fn what_else_there_is_is_refused_by_name() {
        for text in [
            "SELECT mean(f) FROM m",
            "SELECT f FROM m WHERE f > 1",
            "SELECT f FROM m GROUP BY host",
            "SELECT f FROM a, b",
            "SELECT f FROM m LIMIT x",
            "SELECT f AS g FROM m",
            "SELECT * FROM m; DROP MEASUREMENT m",
            "SHOW MEASUREMENTS",
            "",
        ] {
            let error = Select::parse(text).unwrap_err();
            assert!(error.0.contains("InfluxQL") || error.0.contains("expected"), "{text}: {}", error.0);
        }
    }
}

//! The prompt: history, statements over several lines until their semicolon, and commands that start with a backslash.

use std::borrow::Cow;
use std::path::PathBuf;

use reedline::{
    FileBackedHistory, Prompt, PromptEditMode, PromptHistorySearch, Reedline, Signal, ValidationResult, Validator,
};

use super::split::is_complete;
use super::{Session, statements};
use crate::cli::{CliError, CliResult, complain, note};

const HISTORY_LINES_MAX: usize = 10_000;
const HELP: &str = r"\dt             tables
\d TABLE        columns of a table
\l              databases
\c DATABASE     use another database
\timing         show how long statements take, or stop showing it
\q              leave
Statements end with a semicolon. Ctrl-C drops what is typed, Ctrl-D leaves.";

pub(super) fn run(session: &mut Session) -> CliResult {
    let mut editor = Reedline::create().with_validator(Box::new(UntilSemicolon));
    if let Some(path) = history_path()
        && let Ok(history) = FileBackedHistory::with_file(HISTORY_LINES_MAX, path)
    {
        editor = editor.with_history(Box::new(history));
    }
    note(format_args!("marigram {}, \\? for help", env!("CARGO_PKG_VERSION")));
    loop {
        match editor.read_line(&DatabasePrompt(session.db.clone())).map_err(CliError::failed)? {
            Signal::Success(text) => match entered(session, &text) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => complain(&error),
            },
            Signal::CtrlD => return Ok(()),
            _ => {}
        }
    }
}

/// Does what was entered; `true` ends the session.
fn entered(session: &mut Session, text: &str) -> CliResult<bool> {
    let Some(command) = text.trim().strip_prefix('\\') else {
        for statement in statements(text) {
            session.execute(statement)?;
        }
        return Ok(false);
    };
    let (name, argument) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
    let argument = argument.trim().trim_end_matches(';');
    match (name.trim_end_matches(';'), argument) {
        ("q", _) => return Ok(true),
        ("?" | "h", _) => note(HELP),
        ("dt" | "d", "") => session.execute("SHOW TABLES")?,
        ("d" | "dt", table) => session.execute(&columns_of(table))?,
        ("l", _) => session.execute("SHOW DATABASES")?,
        ("c", database) if !database.is_empty() => session.db = database.trim_matches('"').to_owned(),
        ("timing", _) => {
            session.timing = !session.timing;
            note(format_args!("timing is {}", if session.timing { "on" } else { "off" }));
        }
        _ => return Err(CliError::usage(format_args!("unknown command \\{command}")).hint("\\? lists the commands")),
    }
    Ok(false)
}

/// A name without quotes folds to lower case, as in SQL.
fn columns_of(table: &str) -> String {
    let name = match table.strip_prefix('"').and_then(|inner| inner.strip_suffix('"')) {
        Some(inner) => inner.replace("\"\"", "\""),
        None => table.to_lowercase(),
    };
    let name = name.replace('\'', "''");
    format!(
        "SELECT column_name, data_type, is_nullable FROM information_schema.columns \
         WHERE table_name = '{name}' AND table_schema = 'public' ORDER BY ordinal_position"
    )
}

fn history_path() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let state = state.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/state")))?;
    Some(state.join("marigram").join("history"))
}

struct UntilSemicolon;

impl Validator for UntilSemicolon {
    fn validate(&self, text: &str) -> ValidationResult {
        let trimmed = text.trim();
        if trimmed.is_empty() || trimmed.starts_with('\\') || is_complete(text) {
            ValidationResult::Complete
        } else {
            ValidationResult::Incomplete
        }
    }
}

struct DatabasePrompt(String);

impl Prompt for DatabasePrompt {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.0)
    }

    fn render_prompt_right(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn render_prompt_indicator(&self, _: PromptEditMode) -> Cow<'_, str> {
        Cow::Borrowed("> ")
    }

    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        Cow::Borrowed("... ")
    }

    fn render_prompt_history_search_indicator(&self, search: PromptHistorySearch) -> Cow<'_, str> {
        Cow::Owned(format!("(search {:?}) ", search.term))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backslash_commands_need_no_semicolon_and_statements_do() {
        let complete = |text: &str| matches!(UntilSemicolon.validate(text), ValidationResult::Complete);
        assert!(complete("\\dt") && complete("") && complete("SELECT 1;"));
        assert!(!complete("SELECT 1"));
    }

    #[test]
    fn a_table_is_named_as_in_sql() {
        assert!(columns_of("CPU").contains("table_name = 'cpu'"));
        assert!(columns_of("\"C'PU\"").contains("table_name = 'C''PU'"));
    }
}

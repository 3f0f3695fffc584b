//! What a write with refused lines is answered: the words that agents match on.

use axum::http::StatusCode;
use marigram_ingest::line_protocol::{Parsed, Refusal as LineRefusal};

use crate::status::{Refusal, RefusedLine};

/// The refusal of a body of which lines were refused; `stored` says whether the others were stored.
pub(super) fn refusal(parsed: &Parsed, stored: bool) -> Refusal {
    let count = parsed.lines_refused;
    let conflict = parsed.errors.first().is_some_and(|first| first.refusal == LineRefusal::Conflict);
    let limits_only = parsed.errors.iter().all(|error| error.refusal == LineRefusal::Limit);
    let first = parsed.errors.first().map(ToString::to_string).unwrap_or_default();
    // InfluxDB 1 says `partial write` for every type conflict, and else only if something was stored.
    let message = if stored || conflict {
        format!("partial write: {first} dropped={count}")
    } else if count > 1 {
        format!("{first} (and {} more lines)", count - 1)
    } else {
        first
    };
    let message = if stored || parsed.rows == 0 { message } else { format!("{message}; no line was stored") };
    let status = if limits_only { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::BAD_REQUEST };
    let mut refusal = Refusal::new(status, message);
    refusal.lines = parsed
        .errors
        .iter()
        .map(|error| RefusedLine {
            original_line: error.original.clone(),
            line_number: u64::from(error.line),
            error_message: error.reason.clone(),
        })
        .collect();
    refusal
}

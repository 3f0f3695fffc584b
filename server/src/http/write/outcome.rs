//! What a write with refused lines is answered: the words that agents match on.

use axum::http::StatusCode;
use marigram_ingest::line_protocol::Refusal as LineRefusal;
use marigram_ingest::pipeline::RefusedLines;

use crate::status::{Refusal, RefusedLine};

/// The refusal of a body of which lines were refused.
pub(super) fn refusal(refused: RefusedLines) -> Refusal {
    let RefusedLines { count, errors, good, good_stored } = refused;
    let conflict = errors.first().is_some_and(|first| first.refusal == LineRefusal::Conflict);
    let limits_only = errors.iter().all(|error| error.refusal == LineRefusal::Limit);
    let first = errors.first().map(ToString::to_string).unwrap_or_default();
    // InfluxDB 1 says `partial write` for every type conflict, and else only if something was stored.
    let message = if (good_stored && 0 < good) || conflict {
        format!("partial write: {first} dropped={count}")
    } else if count > 1 {
        format!("{first} (and {} more lines)", count - 1)
    } else {
        first
    };
    let message = if good_stored || good == 0 { message } else { format!("{message}; no line was stored") };
    let status = if limits_only { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::BAD_REQUEST };
    let mut refusal = Refusal::new(status, message);
    refusal.lines = errors
        .into_iter()
        .map(|error| RefusedLine {
            original_line: error.original,
            line_number: u64::from(error.line),
            error_message: error.reason,
        })
        .collect();
    refusal
}

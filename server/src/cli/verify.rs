//! `marigram verify`: reads every byte of a stopped server's data, checks every checksum and rule, names what is damaged.

use std::path::PathBuf;

use clap::Args;
use marigram_storage::Problem;

use super::inspect::open_world;
use super::{CliError, CliResult, say};
use crate::format_time;

#[derive(Args, Debug)]
pub(crate) struct VerifyArgs {
    /// The data directory.
    path: PathBuf,
}

pub(super) fn run(args: &VerifyArgs) -> CliResult {
    let world = open_world(&args.path)?;
    // What a running server has not synced yet would look like damage.
    let _lock = world.disk.lock().map_err(|error| {
        let path = args.path.display();
        match error.kind() {
            std::io::ErrorKind::WouldBlock => {
                CliError::failed(format_args!("{path} is in use by another process")).hint("stop the server first")
            }
            _ => CliError::failed(format_args!("cannot lock {path}: {error}")),
        }
    })?;
    let found = marigram_storage::verify(&world)?;
    say(format_args!(
        "data: {} files, {} segments, {} rows, {} bytes",
        found.files, found.segments, found.segment_rows, found.segment_bytes
    ))?;
    say(format_args!(
        "log: {} batches, {} bytes, and a torn end of {} bytes that nobody was promised",
        found.wal_batches, found.wal_bytes, found.wal_torn_bytes
    ))?;
    for problem in &found.problems {
        say(format_args!("damaged: {}", sentence(problem)))?;
    }
    if found.problems.is_empty() {
        return say("ok: every byte was read and every checksum matches");
    }
    Err(CliError::failed(format_args!("{} damages in {}", found.problems.len(), args.path.display())))
}

fn sentence(problem: &Problem) -> String {
    let table = problem.table.as_deref().map(|table| format!(", table {table}")).unwrap_or_default();
    let times = problem.times.map(|(first, last)| format!(", {} to {}", format_time(first), format_time(last)));
    format!("{}{table}{}: {}", problem.path.display(), times.unwrap_or_default(), problem.reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damage_names_file_table_and_range() {
        let mut problem = Problem {
            path: "data/1".into(),
            table: Some("x.cpu".to_owned()),
            times: Some((0, 0)),
            reason: "bad".to_owned(),
        };
        let epoch = "1970-01-01T00:00:00.000000000Z";
        assert_eq!(sentence(&problem), format!("data/1, table x.cpu, {epoch} to {epoch}: bad"));
        (problem.table, problem.times) = (None, None);
        assert_eq!(sentence(&problem), "data/1: bad");
    }
}

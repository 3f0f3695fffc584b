//! `marigram verify` and `marigram repair`: what is damaged in a stopped server's data, and giving it up.
//!
//! Both read every byte, under the lock of the directory: what a running server has not synced yet would look like damage.

use std::path::{Path, PathBuf};

use clap::Args;
use marigram_storage::disk::DiskLock;
use marigram_storage::{Options, Problem, Repaired, Verified, World};

use super::inspect::{Report, open_world};
use super::{CliError, CliResult, say, told};
use crate::format_time;

#[derive(Args, Debug)]
pub(crate) struct VerifyArgs {
    /// The data directory.
    path: PathBuf,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct RepairArgs {
    /// The data directory.
    path: PathBuf,
    /// Say what would be given up, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &VerifyArgs) -> CliResult {
    let read = locked(&args.path).and_then(|(world, _lock)| Ok(marigram_storage::verify(&world)?));
    let found = told(args.json, read)?;
    if args.json {
        verified_report(&found).print(true)?;
    } else {
        say(format_args!(
            "data: {} files, {} segments, {} rows, {} bytes",
            found.files, found.segments, found.segment_rows, found.segment_bytes
        ))?;
        say(format_args!(
            "log: {} batches, {} bytes, and a torn end of {} bytes that nobody was promised",
            found.wal_batches, found.wal_bytes, found.wal_torn_bytes
        ))?;
        for problem in &found.problems {
            say(format_args!("{}: {}", what_is_damaged(problem), sentence(problem)))?;
        }
    }
    if found.problems.is_empty() {
        return if args.json { Ok(()) } else { say("ok: every byte was read and every checksum matches") };
    }
    let error = CliError::failed(format_args!("{} damages in {}", found.problems.len(), args.path.display()));
    if found.problems.iter().all(|problem| problem.rows_readable) {
        return Err(error.hint("nothing is lost: the server writes these segments anew, or `OPTIMIZE TABLE … FINAL`"));
    }
    Err(error.hint("`marigram repair --dry-run` says what would be lost if it were given up"))
}

pub(super) fn repair(args: &RepairArgs) -> CliResult {
    let repair = |(world, _lock): (World, Box<dyn DiskLock>)| {
        Ok(marigram_storage::repair(&world, &Options::default(), args.dry_run)?)
    };
    let repaired = told(args.json, locked(&args.path).and_then(repair))?;
    if args.json {
        return repaired_report(&repaired, args.dry_run).print(true);
    }
    if repaired.is_sound() {
        return say("ok: nothing is damaged, nothing was changed");
    }
    for problem in repaired.kept() {
        say(format_args!("kept, {}: {}", what_is_damaged(problem), sentence(problem)))?;
    }
    if repaired.is_lossless() {
        return say("nothing was changed: the server writes anew what is kept");
    }
    let (lost, moved) = if args.dry_run { ("would be lost", "would be moved") } else { ("lost", "moved") };
    for segment in &repaired.segments {
        let (first, last) = (format_time(segment.times.0), format_time(segment.times.1));
        say(format_args!(
            "{lost}: table {}, {first} to {last}, {} rows, sequences {} to {}: {}",
            segment.table, segment.rows, segment.sequences.0, segment.sequences.1, segment.reason
        ))?;
    }
    if let Some(log) = &repaired.log {
        say(format_args!("{lost}: everything from sequence {} on: {}", log.first_sequence, log.reason))?;
    }
    for (from, to) in &repaired.moved {
        say(format_args!("{moved}: {} to {}", from.display(), to.display()))?;
    }
    if !repaired.segments.is_empty() {
        say("where a lost row had replaced an older one, the older one shows again")?;
    }
    if args.dry_run { say("nothing was changed") } else { say("repaired: the server can be started") }
}

fn locked(path: &Path) -> CliResult<(World, Box<dyn DiskLock>)> {
    let world = open_world(path)?;
    let lock = world.disk.lock().map_err(|error| {
        let path = path.display();
        match error.kind() {
            std::io::ErrorKind::WouldBlock => {
                CliError::failed(format_args!("{path} is in use by another process")).hint("stop the server first")
            }
            _ => CliError::failed(format_args!("cannot lock {path}: {error}")),
        }
    })?;
    Ok((world, lock))
}

fn verified_report(found: &Verified) -> Report {
    let mut report = Report::default();
    report.fact("sound", found.problems.is_empty());
    report.fact("files", found.files);
    report.fact("segments", found.segments);
    report.fact("segment_rows", found.segment_rows);
    report.fact("segment_bytes", found.segment_bytes);
    report.fact("unnamed_files", found.unnamed_files);
    report.fact("wal_batches", found.wal_batches);
    report.fact("wal_bytes", found.wal_bytes);
    report.fact("wal_torn_bytes", found.wal_torn_bytes);
    report.columns(&["file", "table", "first_time", "last_time", "rows_readable", "reason"]);
    for problem in &found.problems {
        let time = |at: Option<i64>| at.map(format_time);
        report.row([
            problem.path.display().to_string().into(),
            problem.table.clone().into(),
            time(problem.times.map(|times| times.0)).into(),
            time(problem.times.map(|times| times.1)).into(),
            problem.rows_readable.into(),
            problem.reason.clone().into(),
        ]);
    }
    report
}

fn repaired_report(repaired: &Repaired, dry_run: bool) -> Report {
    let mut report = Report::default();
    report.fact("sound", repaired.is_sound());
    report.fact("dry_run", dry_run);
    report.fact("lost_from_sequence", repaired.log.as_ref().map(|log| log.first_sequence));
    report.fact("log_reason", repaired.log.as_ref().map(|log| log.reason.clone()));
    let moved = repaired.moved.iter().map(|(from, to)| [from.display().to_string(), to.display().to_string()].to_vec());
    report.fact("moved", moved.collect::<Vec<_>>());
    let kept = repaired.kept().map(|problem| {
        [problem.table.clone().unwrap_or_default(), problem.path.display().to_string(), problem.reason.clone()].to_vec()
    });
    report.fact("kept", kept.collect::<Vec<_>>());
    report.columns(&["table", "file", "rows", "first_time", "last_time", "first_sequence", "last_sequence", "reason"]);
    for segment in &repaired.segments {
        report.row([
            segment.table.clone().into(),
            segment.path.display().to_string().into(),
            segment.rows.into(),
            format_time(segment.times.0).into(),
            format_time(segment.times.1).into(),
            segment.sequences.0.into(),
            segment.sequences.1.into(),
            segment.reason.clone().into(),
        ]);
    }
    report
}

fn what_is_damaged(problem: &Problem) -> &'static str {
    match problem.rows_readable {
        true => "only postings or padding are damaged, every row can be read",
        false => "damaged",
    }
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
            rows_readable: false,
        };
        let epoch = "1970-01-01T00:00:00.000000000Z";
        assert_eq!(sentence(&problem), format!("data/1, table x.cpu, {epoch} to {epoch}: bad"));
        (problem.table, problem.times) = (None, None);
        assert_eq!(sentence(&problem), "data/1: bad");
    }

    /// The members are promises: `MANUAL.md` names them.
    #[test]
    fn the_json_has_the_members_that_the_manual_names() {
        let bad = |path: &str, table: Option<&str>| Problem {
            path: path.into(),
            table: table.map(str::to_owned),
            times: None,
            reason: "bad".to_owned(),
            rows_readable: table.is_some(),
        };
        let mut found = Verified::default();
        found.files = 2;
        found.problems = vec![bad("wal/1", None), bad("data/1", Some("cpu"))];
        assert_eq!(
            verified_report(&found).to_json().to_string(),
            concat!(
                r#"{"entries":[{"file":"wal/1","first_time":null,"last_time":null,"reason":"bad","rows_readable":false,"#,
                r#""table":null},{"file":"data/1","first_time":null,"last_time":null,"reason":"bad","#,
                r#""rows_readable":true,"table":"cpu"}],"#,
                r#""files":2,"segment_bytes":0,"segment_rows":0,"segments":0,"sound":false,"unnamed_files":0,"#,
                r#""wal_batches":0,"wal_bytes":0,"wal_torn_bytes":0}"#
            )
        );
        let repaired = Repaired { verified: found, moved: vec![("a".into(), "b".into())], ..Repaired::default() };
        assert_eq!(
            repaired_report(&repaired, true).to_json().to_string(),
            concat!(
                r#"{"dry_run":true,"entries":[],"kept":[["cpu","data/1","bad"]],"log_reason":null,"lost_from_sequence":null,"#,
                r#""moved":[["a","b"]],"sound":false}"#
            )
        );
    }
}

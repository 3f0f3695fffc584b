//! Where crashes fell. Compactions say it by their task, everything else by the last calls to the disk.

use std::collections::BTreeMap;

use marigram_storage::disk::sim::{Call, Op, SimDisk};
use marigram_storage::{Engine, Reason, TaskState};

use super::Doing;

/// Where a crash fell, and how often.
pub(super) type Places = BTreeMap<String, u64>;

/// Every place that a campaign must hit.
pub(super) const ALL: [&str; 42] = [
    "open",
    "open: directories and first checkpoint",
    "open: checkpoint",
    "open: cut",
    "open: edit",
    "open: new log",
    "open: trash",
    "write: group",
    "slot: made",
    "slot: change",
    "slot: ring wrap",
    "drop: group",
    "delete: group",
    "alter: group",
    "cut: data file",
    "cut: edit",
    "cut: named in the log",
    "optimize: data file",
    "optimize: edit",
    "merge: data file",
    "merge: edit",
    "deletes: data file",
    "deletes: edit",
    "mend: data file",
    "mend: edit",
    "erasure: data file",
    "erasure: edit",
    "leftovers: data file",
    "leftovers: edit",
    "overlays: data file",
    "overlays: edit",
    "recompress: data file",
    "recompress: edit",
    "given up",
    "erasing: log",
    "erasing: end",
    "scrub",
    "trash",
    "trash: swept",
    "close",
    "end: kill",
    "end: power cut",
];

/// How a life ended.
pub(super) struct Death {
    doing: Doing,
    /// Calls to the disk before what it was doing.
    before: u64,
    /// The compaction that it fell into.
    task: Option<Reason>,
    /// One was given up in the same call of the engine.
    gave_up: bool,
}

impl Death {
    pub(super) fn in_open() -> Self {
        Self { doing: Doing::Open, before: 0, task: None, gave_up: false }
    }

    pub(super) fn of(engine: &Engine, doing: Doing, before: u64) -> Self {
        let tasks = engine.tasks();
        // Others are tried behind it, on a disk that is dead by then.
        let fell = tasks.iter().rev().find(|task| matches!(task.state, TaskState::Running | TaskState::Failed));
        let gave_up = tasks.iter().any(|task| task.state == TaskState::Cancelled);
        Self { doing, before, task: fell.map(|task| task.reason), gave_up }
    }

    /// Counts the places that it fell into.
    pub(super) fn note(&self, places: &mut Places, disk: &SimDisk) {
        let log = disk.log();
        let Some(last) = log.last() else { return };
        let mut hit = |place: &str| *places.entry(place.to_owned()).or_default() += 1;
        let act: Vec<&Call> = log.iter().filter(|call| call.number > self.before).collect();
        if matches!(self.doing, Doing::Open) {
            hit("open");
            in_open(last).into_iter().for_each(hit);
            return;
        }
        match self.doing {
            Doing::Close => hit("close"),
            Doing::Scrub if last.op == Op::Read => hit("scrub"),
            Doing::Cancel if self.gave_up => hit("given up"),
            _ => {}
        }
        if let Some(reason) = self.task {
            match part(&last.path) {
                "data" => hit(&format!("{}: data file", reason.name())),
                "manifest" => hit(&format!("{}: edit", reason.name())),
                _ => {}
            }
        } else {
            self.elsewhere(last, &act, &log).into_iter().for_each(hit);
        }
    }

    /// In no compaction.
    fn elsewhere(&self, last: &Call, act: &[&Call], log: &[Call]) -> Option<&'static str> {
        let has_file = act.iter().any(|call| call.op == Op::Create && part(&call.path) == "data");
        match (part(&last.path), last.op) {
            ("trash", Op::Rename) => Some("trash"),
            ("trash", Op::Remove) => Some("trash: swept"),
            ("wal", Op::Create) => Some("slot: made"),
            ("wal", Op::Write | Op::Sync) if fills(act).is_some_and(|at| at + 2 >= act.len()) => Some("erasing: log"),
            ("wal", Op::Write | Op::Sync) => Some(self.in_log(last, has_file, log)),
            ("data", _) if has_file => Some("cut: data file"),
            ("manifest", _) => match fills(act) {
                // A cut in between would make a file.
                Some(at) if !act[at..].iter().any(|call| call.op == Op::Create && part(&call.path) == "data") => {
                    Some("erasing: end")
                }
                _ => has_file.then_some("cut: edit"),
            },
            _ => None,
        }
    }

    fn in_log(&self, last: &Call, has_file: bool, log: &[Call]) -> &'static str {
        let is_head =
            |call: &&Call| call.op == Op::Write && call.path == last.path && call.offset == 0 && call.bytes == 512;
        let in_head = log.iter().rev().find(|call| call.op == Op::Write).is_some_and(|call| call.offset == 0);
        match self.doing {
            _ if in_head && log.iter().filter(is_head).count() > 1 => "slot: ring wrap",
            _ if in_head => "slot: change",
            _ if has_file => "cut: named in the log",
            Doing::Drop => "drop: group",
            Doing::Delete => "delete: group",
            Doing::Alter => "alter: group",
            _ => "write: group",
        }
    }
}

fn in_open(last: &Call) -> Option<&'static str> {
    match (part(&last.path), last.op) {
        ("wal", Op::Create | Op::Write | Op::Sync | Op::CreateDir) => Some("open: new log"),
        ("wal", _) => None,
        (_, Op::CreateDir) => Some("open: directories and first checkpoint"),
        (_, Op::Rename) => Some("open: trash"),
        ("data", _) => Some("open: cut"),
        ("manifest", Op::Link) if last.path.starts_with("manifest/edit") => Some("open: edit"),
        ("manifest", _) => Some("open: checkpoint"),
        _ => None,
    }
}

/// The last call that filled a free slot with zeros: it was opened for that, and is written behind its head.
fn fills(act: &[&Call]) -> Option<usize> {
    let is_fill = |pair: &[&Call]| {
        let [open, write] = pair else { return false };
        open.op == Op::Open && write.op == Op::Write && write.offset == 512 && open.path == write.path
    };
    act.windows(2).rposition(is_fill).map(|at| at + 1)
}

/// The first directory of a path.
fn part(path: &str) -> &str {
    path.split('/').next().unwrap_or_default()
}

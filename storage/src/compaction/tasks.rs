//! What is being compacted and what was, for those who watch.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use super::control::Control;
use super::{Plan, Reason};
use crate::error::{Error, Result};
use crate::schema::TableId;
use crate::sync::lock;

/// So many that have ended are remembered.
const RECENT_MAX: usize = 100;

/// Where a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskState {
    /// At work.
    Running,
    /// What it wrote is live.
    Done,
    /// It was given up.
    Cancelled,
    /// It failed; what it read is live as before.
    Failed,
    /// It found no room in memory; what it read is live as before.
    Refused,
}

impl TaskState {
    /// One word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
            Self::Refused => "refused",
        }
    }
}

/// One compaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskInfo {
    /// Counts from 1 since the open.
    pub id: u64,
    /// Why.
    pub reason: Reason,
    /// Which (table, start of a partition); each becomes one segment.
    pub partitions: Vec<(TableId, i64)>,
    /// How many segments it reads.
    pub segments: u64,
    /// Rows written so far.
    pub rows: u64,
    /// Rows of what it reads; those of one key may become one.
    pub rows_total: u64,
    /// Bytes of pages read so far.
    pub bytes: u64,
    /// Bytes of what it reads, directories included.
    pub bytes_total: u64,
    /// By the wall clock, ns since 1970.
    pub started_ns: i64,
    /// The same; `None` while it runs.
    pub ended_ns: Option<i64>,
    /// Where it is.
    pub state: TaskState,
    /// Why it failed.
    pub error: Option<String>,
}

#[derive(Debug, Default)]
pub(crate) struct Tasks {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: u64,
    running: Vec<(TaskInfo, Arc<Control>)>,
    ended: VecDeque<TaskInfo>,
}

impl Tasks {
    pub(crate) fn begin(&self, plan: &Plan, control: &Arc<Control>, now_ns: i64) {
        let mut state = lock(&self.state);
        state.last += 1;
        let task = TaskInfo {
            id: state.last,
            reason: plan.reason,
            partitions: plan.parts.iter().map(|part| (part.table, part.partition_start)).collect(),
            segments: plan.inputs().count() as u64,
            rows: 0,
            rows_total: plan.rows(),
            bytes: 0,
            bytes_total: plan.bytes(),
            started_ns: now_ns,
            ended_ns: None,
            state: TaskState::Running,
            error: None,
        };
        state.running.push((task, Arc::clone(control)));
    }

    /// `note` goes behind what the error says.
    pub(crate) fn end(&self, control: &Arc<Control>, result: Result<(), &Error>, note: &str, now_ns: i64) {
        let mut state = lock(&self.state);
        let Some(at) = state.running.iter().position(|(_, own)| Arc::ptr_eq(own, control)) else { return };
        let (task, control) = state.running.remove(at);
        let mut task = progress(task, &control);
        task.ended_ns = Some(now_ns);
        task.state = match result {
            Ok(()) => TaskState::Done,
            Err(Error::Cancelled) => TaskState::Cancelled,
            Err(Error::TooLarge { .. }) => TaskState::Refused,
            Err(_) => TaskState::Failed,
        };
        task.error = result.err().map(|error| format!("{error}{note}"));
        if state.ended.len() == RECENT_MAX {
            state.ended.pop_front();
        }
        state.ended.push_back(task);
    }

    /// Those that run, then those that ended last; the newest first.
    pub(crate) fn list(&self) -> Vec<TaskInfo> {
        let state = lock(&self.state);
        let running = state.running.iter().rev().map(|(task, control)| progress(task.clone(), control));
        running.chain(state.ended.iter().rev().cloned()).collect()
    }

    pub(crate) fn running(&self) -> u64 {
        lock(&self.state).running.len() as u64
    }

    /// Gives up those that run and are meant. Returns how many.
    pub(crate) fn cancel(&self, is_meant: impl Fn(&TaskInfo) -> bool) -> usize {
        let state = lock(&self.state);
        let meant = state.running.iter().filter(|(task, _)| is_meant(task));
        meant.map(|(_, control)| control.cancel()).count()
    }

    /// Gives up those that run and have a table that is gone.
    pub(crate) fn cancel_dropped(&self, is_gone: impl Fn(TableId) -> bool) {
        for (task, control) in &lock(&self.state).running {
            let mut gone = task.partitions.iter().map(|(table, _)| *table).filter(|table| is_gone(*table)).peekable();
            if gone.peek().is_some() {
                control.cancel_for(gone);
            }
        }
    }
}

fn progress(task: TaskInfo, control: &Control) -> TaskInfo {
    TaskInfo { rows: control.rows(), bytes: control.bytes(), ..task }
}

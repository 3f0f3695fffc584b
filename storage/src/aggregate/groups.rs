//! Exact sums of many groups at once, for rows that arrive in any order.
//!
//! A group collects single rows in two integer lanes, all groups under one plan, and moves them into its exact sum
//! when they are full. A row that the plan does not cut goes into the exact sum directly. Runs of rows of one
//! group, which is what sorted data is, go through the row kernel.
//! None of this shows in the sums: see [`ExactSum`].

use super::ExactSum;
use super::lanes::{self, Plan};
use super::runs::run_length;

/// From here on a run of rows is worth a pass of the kernel.
const RUN_ROWS_MIN: usize = 12;

/// The exact sums of groups 0, 1, 2 ...
#[derive(Clone, Debug, Default)]
pub struct GroupSums {
    groups: Vec<Group>,
    /// How the lanes of all groups are cut; rows in lanes are under this plan.
    plan: Option<Plan>,
    /// What fitted the last run.
    run_plan: Option<Plan>,
    wide_bytes: usize,
}

#[derive(Clone, Debug, Default)]
struct Group {
    sum: ExactSum,
    lanes: [u64; 2],
    rows: u32,
}

impl GroupSums {
    /// No groups.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes room for groups below `count`; never removes one.
    pub fn grow(&mut self, count: usize) {
        if self.groups.len() < count {
            self.groups.resize_with(count, Group::default);
        }
    }

    /// How many groups there are.
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// No groups.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Adds `values[i]` to group `groups[i]`, which must exist.
    pub fn add(&mut self, groups: &[usize], values: &[f64]) {
        assert_eq!(groups.len(), values.len());
        if self.plan.is_none() {
            self.plan = Plan::roomy(lanes::top_bits(values));
        }
        let mut missed = 0;
        let mut from = 0;
        while let Some(group) = groups.get(from) {
            // One look at the far end rules out most of what is no run.
            let run = match groups.get(from + RUN_ROWS_MIN) {
                Some(far) if far == group => run_length(&groups[from..], |other| other == group),
                _ => 1,
            };
            if RUN_ROWS_MIN < run {
                self.add_run(*group, &values[from..from + run]);
                from += run;
            } else {
                missed += usize::from(!self.add_row(*group, values[from]));
                from += 1;
            }
        }
        // A new plan costs a pass over the groups: only if this one fails, and not for every few rows.
        if values.len() < 4 * missed && self.groups.len() <= 4 * values.len() {
            self.settle(self.groups.len());
            self.plan = Plan::roomy(lanes::top_bits(values));
        }
    }

    /// Adds a sum to a group, which must exist.
    pub fn merge(&mut self, group: usize, sum: &ExactSum) {
        let target = &mut self.groups[group].sum;
        let before = target.heap_bytes();
        target.merge(sum);
        self.wide_bytes += target.heap_bytes() - before;
    }

    /// Removes the first `count` groups and hands out their sums; the others move down.
    pub fn take(&mut self, count: usize) -> Vec<ExactSum> {
        let count = count.min(self.groups.len());
        self.settle(count);
        let rest = self.groups.split_off(count);
        let taken = std::mem::replace(&mut self.groups, rest);
        let sums: Vec<_> = taken.into_iter().map(|group| group.sum).collect();
        self.wide_bytes -= sums.iter().map(ExactSum::heap_bytes).sum::<usize>();
        sums
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.groups.capacity() * size_of::<Group>() + self.wide_bytes
    }

    #[cfg(test)]
    pub(super) fn wide_bytes(&self) -> usize {
        self.wide_bytes
    }

    fn add_run(&mut self, group: usize, values: &[f64]) {
        let sum = &mut self.groups[group].sum;
        let before = sum.heap_bytes();
        for block in values.chunks(lanes::ROWS_MAX) {
            sum.add_block(block, &mut self.run_plan);
        }
        self.wide_bytes += sum.heap_bytes() - before;
    }

    /// False if the plan does not cut the value; it is added all the same.
    #[inline]
    fn add_row(&mut self, index: usize, x: f64) -> bool {
        let group = &mut self.groups[index];
        if let Some(plan) = &self.plan
            && let Some([high, low]) = plan.cut(x)
        {
            group.lanes[0] = group.lanes[0].wrapping_add(high);
            group.lanes[1] = group.lanes[1].wrapping_add(low);
            group.rows += 1;
            group.sum.note(x);
            if group.rows == lanes::ROWS_MAX as u32 {
                self.wide_bytes += group.settle(plan);
            }
            return true;
        }
        let before = group.sum.heap_bytes();
        group.sum.add(x);
        self.wide_bytes += group.sum.heap_bytes() - before;
        false
    }

    fn settle(&mut self, count: usize) {
        if let Some(plan) = &self.plan {
            self.wide_bytes += self.groups.iter_mut().take(count).map(|group| group.settle(plan)).sum::<usize>();
        }
    }
}

impl Group {
    /// Empties the lanes into the sum. How many bytes that took on the heap.
    fn settle(&mut self, plan: &Plan) -> usize {
        let before = self.sum.heap_bytes();
        self.sum.add_part(plan.part(self.lanes));
        self.lanes = [0; 2];
        self.rows = 0;
        self.sum.heap_bytes() - before
    }
}

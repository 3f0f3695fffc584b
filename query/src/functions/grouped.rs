//! Accumulators of functions that keep a state of their own for each group: of all rows, which are one group, and of groups.
//!
//! A function says how a row enters a state, what bytes a state is between two phases of a plan, and what comes of states in
//! the end. Rows of which a value is null are left out here.

use std::fmt::Debug;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, LargeBinaryBuilder};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::function::StateFieldsArgs;
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};

use super::argument;
use super::totals::chosen_rows;

/// A call of a function, with what is constant of it.
pub(super) trait Function: Clone + Debug + Send + Sync + 'static {
    type State: Debug + Default + Send + Sync + 'static;
    /// The columns of a batch, ready to be read row by row.
    type Rows;
    /// How many arguments, from the first, are columns; the others are constants.
    const COLUMNS: usize;

    fn rows(&self, columns: &[ArrayRef]) -> Result<Self::Rows>;
    fn add(&self, state: &mut Self::State, rows: &Self::Rows, row: usize) -> Result<()>;
    fn merge(&self, state: &mut Self::State, bytes: &[u8]) -> Result<()>;
    /// Appends nothing for a state without rows.
    fn serialize(&self, state: &Self::State, out: &mut Vec<u8>);
    fn heap_bytes(state: &Self::State) -> usize;
    /// An answer for each state. The states go on being added to where a window grows.
    fn finish(&self, states: &mut [Self::State]) -> Result<ArrayRef>;
}

/// The field of a state between two phases.
pub(super) fn state_fields(args: &StateFieldsArgs) -> Vec<FieldRef> {
    vec![Arc::new(Field::new(format_state_name(args.name, "state"), DataType::LargeBinary, true))]
}

/// The states of groups.
#[derive(Debug)]
pub(super) struct Grouped<F: Function> {
    function: F,
    states: Vec<F::State>,
    heap_bytes: usize,
}

impl<F: Function> Grouped<F> {
    pub(super) fn new(function: F) -> Self {
        Self { function, states: Vec::new(), heap_bytes: 0 }
    }

    fn grow(&mut self, count: usize) {
        if self.states.len() < count {
            self.states.resize_with(count, F::State::default);
        }
    }

    /// Changes the state of a group and keeps count of what it holds.
    fn change(&mut self, group: usize, change: impl FnOnce(&F, &mut F::State) -> Result<()>) -> Result<()> {
        let state = &mut self.states[group];
        let before = F::heap_bytes(state);
        change(&self.function, state)?;
        self.heap_bytes += F::heap_bytes(state);
        self.heap_bytes -= before;
        Ok(())
    }

    fn add(
        &mut self,
        columns: &[ArrayRef],
        filter: Option<&BooleanArray>,
        group_of: impl Fn(usize) -> usize,
    ) -> Result<()> {
        let rows = self.function.rows(columns)?;
        let mut add = |row: usize| self.change(group_of(row), |function, state| function.add(state, &rows, row));
        match complete::<F>(columns, filter)? {
            None => (0..argument(columns, 0)?.len()).try_for_each(add),
            Some(chosen) => chosen.set_indices().try_for_each(&mut add),
        }
    }

    fn merge(&mut self, states: &[ArrayRef], group_of: impl Fn(usize) -> usize) -> Result<()> {
        let states = argument(states, 0)?.as_binary::<i64>();
        for (row, bytes) in states.iter().enumerate() {
            if let Some(bytes) = bytes {
                self.change(group_of(row), |function, state| function.merge(state, bytes))?;
            }
        }
        Ok(())
    }

    fn take(&mut self, emit_to: EmitTo) -> Vec<F::State> {
        let taken = match emit_to {
            EmitTo::All => std::mem::take(&mut self.states),
            EmitTo::First(count) => {
                let rest = self.states.split_off(count.min(self.states.len()));
                std::mem::replace(&mut self.states, rest)
            }
        };
        self.heap_bytes -= taken.iter().map(F::heap_bytes).sum::<usize>();
        taken
    }

    /// The states as bytes, each given free once it is written.
    fn written(&self, states: Vec<F::State>) -> ArrayRef {
        let mut builder = LargeBinaryBuilder::with_capacity(states.len(), 0);
        let mut bytes = Vec::new();
        for state in states {
            bytes.clear();
            self.function.serialize(&state, &mut bytes);
            builder.append_option((!bytes.is_empty()).then_some(&bytes));
        }
        Arc::new(builder.finish())
    }

    fn bytes(&self) -> usize {
        size_of_val(self) + self.states.capacity() * size_of::<F::State>() + self.heap_bytes
    }
}

/// The rows in which no column is null and that the filter lets pass; `None` if all count.
fn complete<F: Function>(columns: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Option<BooleanBuffer>> {
    let mut chosen = chosen_rows(argument(columns, 0)?, filter);
    for column in columns.get(1..F::COLUMNS).unwrap_or_default() {
        chosen = match (chosen, chosen_rows(column, None)) {
            (Some(a), Some(b)) => Some(&a & &b),
            (a, b) => a.or(b),
        };
    }
    Ok(chosen)
}

impl<F: Function> Accumulator for Grouped<F> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.grow(1);
        self.add(values, None, |_| 0)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.grow(1);
        let answer = self.function.finish(&mut self.states)?;
        self.heap_bytes = self.states.iter().map(F::heap_bytes).sum();
        ScalarValue::try_from_array(&answer, 0)
    }

    fn size(&self) -> usize {
        self.bytes()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.grow(1);
        let states = self.take(EmitTo::All);
        Ok(vec![ScalarValue::try_from_array(&self.written(states), 0)?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.grow(1);
        self.merge(states, |_| 0)
    }
}

impl<F: Function> GroupsAccumulator for Grouped<F> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.grow(total_num_groups);
        self.add(values, opt_filter, |row| group_indices[row])
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let mut states = self.take(emit_to);
        self.function.finish(&mut states)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let states = self.take(emit_to);
        Ok(vec![self.written(states)])
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.grow(total_num_groups);
        self.merge(values, |row| group_indices[row])
    }

    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let mut each = Self::new(self.function.clone());
        let count = argument(values, 0)?.len();
        each.grow(count);
        each.add(values, opt_filter, |row| row)?;
        Ok(vec![self.written(each.states)])
    }

    fn size(&self) -> usize {
        self.bytes()
    }
}

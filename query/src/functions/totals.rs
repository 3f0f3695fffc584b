//! Accumulators of sums and averages, over the exact totals of `storage`.
//!
//! Both functions keep the same state, a total and a count of values, and differ in how they finish. Between
//! phases a state is the total's canonical bytes (null if there is no value) and the count.

use std::fmt::Debug;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryBuilder, BooleanArray, PrimitiveArray, UInt64Array,
};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Int64Type, UInt64Type};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::function::StateFieldsArgs;
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};
use marigram_storage::aggregate::{ExactSum, GroupSums, IntSum, IntegerOutOfRange, each_run};

use super::{argument, broken_state, overflow};

/// What a function makes of total and count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Finish {
    Sum,
    Mean,
}

/// An exact total of values of one type.
pub(super) trait Total: Clone + Debug + Default + Send + Sync + 'static {
    type Arrow: ArrowPrimitiveType;
    type Groups: GroupTotals<One = Self>;
    /// Whether values may be removed again without a trace.
    const REMOVES: bool;

    fn add(&mut self, values: &PrimitiveArray<Self::Arrow>);
    fn remove(&mut self, values: &PrimitiveArray<Self::Arrow>);
    fn merge(&mut self, other: &Self);
    fn serialize(&self, out: &mut Vec<u8>);
    fn deserialize(bytes: &[u8]) -> Result<Self>;
    fn sum(&self) -> Result<Native<Self>>;
    fn mean(&self, count: u64) -> f64;
    fn heap_bytes(&self) -> usize;
    /// A value as an integer: equal integers for equal values.
    fn key(value: Native<Self>) -> u64;
    fn value(key: u64) -> Native<Self>;
}

pub(super) type Native<T> = <<T as Total>::Arrow as ArrowPrimitiveType>::Native;

/// Totals of groups 0, 1, 2 ...
pub(super) trait GroupTotals: Default + Send + 'static {
    type One: Total;
    fn grow(&mut self, count: usize);
    fn add(&mut self, groups: &[usize], values: &[Native<Self::One>]);
    fn merge(&mut self, group: usize, total: &Self::One);
    fn take(&mut self, count: usize) -> Vec<Self::One>;
    fn heap_bytes(&self) -> usize;
}

impl Total for ExactSum {
    type Arrow = Float64Type;
    type Groups = GroupSums;
    const REMOVES: bool = false;

    fn add(&mut self, values: &PrimitiveArray<Float64Type>) {
        match values.nulls().filter(|nulls| 0 < nulls.null_count()) {
            None => self.add_slice(values.values()),
            Some(nulls) => {
                let words: Vec<u64> = nulls.inner().bit_chunks().iter_padded().collect();
                self.add_masked(values.values(), &words);
            }
        }
    }
    fn remove(&mut self, values: &PrimitiveArray<Float64Type>) {
        // A removed NaN leaves a trace: `sliding` counts them.
        values.iter().flatten().for_each(|x| ExactSum::add(self, -x));
    }
    fn merge(&mut self, other: &Self) {
        ExactSum::merge(self, other);
    }
    fn serialize(&self, out: &mut Vec<u8>) {
        ExactSum::serialize(self, out);
    }
    fn deserialize(bytes: &[u8]) -> Result<Self> {
        ExactSum::deserialize(bytes).map_err(broken_state)
    }
    fn sum(&self) -> Result<f64> {
        Ok(self.value())
    }
    fn mean(&self, count: u64) -> f64 {
        ExactSum::mean(self, count)
    }
    fn heap_bytes(&self) -> usize {
        ExactSum::heap_bytes(self)
    }
    fn key(value: f64) -> u64 {
        value.to_bits()
    }
    fn value(key: u64) -> f64 {
        f64::from_bits(key)
    }
}

impl GroupTotals for GroupSums {
    type One = ExactSum;
    fn grow(&mut self, count: usize) {
        GroupSums::grow(self, count);
    }
    fn add(&mut self, groups: &[usize], values: &[f64]) {
        GroupSums::add(self, groups, values);
    }
    fn merge(&mut self, group: usize, total: &ExactSum) {
        GroupSums::merge(self, group, total);
    }
    fn take(&mut self, count: usize) -> Vec<ExactSum> {
        GroupSums::take(self, count)
    }
    fn heap_bytes(&self) -> usize {
        GroupSums::heap_bytes(self)
    }
}

/// A total of signed integers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Signed(IntSum);

/// A total of unsigned integers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Unsigned(IntSum);

macro_rules! integer_total {
    ($name:ident, $arrow:ty, $add_all:ident, $result:ident) => {
        impl Total for $name {
            type Arrow = $arrow;
            type Groups = Totals<Self>;
            const REMOVES: bool = true;

            fn add(&mut self, values: &PrimitiveArray<$arrow>) {
                if values.null_count() == 0 {
                    self.0.$add_all(values.values());
                } else {
                    values.iter().flatten().for_each(|x| self.0.add(x));
                }
            }
            fn remove(&mut self, values: &PrimitiveArray<$arrow>) {
                values.iter().flatten().for_each(|x| self.0.add(-i128::from(x)));
            }
            fn merge(&mut self, other: &Self) {
                self.0.merge(&other.0);
            }
            fn serialize(&self, out: &mut Vec<u8>) {
                self.0.serialize(out);
            }
            fn deserialize(bytes: &[u8]) -> Result<Self> {
                IntSum::deserialize(bytes).map(Self).map_err(broken_state)
            }
            fn sum(&self) -> Result<Native<Self>> {
                self.0.$result().map_err(|error: IntegerOutOfRange| overflow(error.to_string()))
            }
            fn mean(&self, count: u64) -> f64 {
                self.0.mean(count)
            }
            fn heap_bytes(&self) -> usize {
                0
            }
            fn key(value: Native<Self>) -> u64 {
                value as u64
            }
            fn value(key: u64) -> Native<Self> {
                key as Native<Self>
            }
        }

        impl GroupTotals for Totals<$name> {
            type One = $name;
            fn grow(&mut self, count: usize) {
                if self.0.len() < count {
                    self.0.resize(count, $name::default());
                }
            }
            fn add(&mut self, groups: &[usize], values: &[Native<$name>]) {
                for (group, value) in groups.iter().zip(values) {
                    self.0[*group].0.add(*value);
                }
            }
            fn merge(&mut self, group: usize, total: &$name) {
                self.0[group].merge(total);
            }
            fn take(&mut self, count: usize) -> Vec<$name> {
                let rest = self.0.split_off(count.min(self.0.len()));
                std::mem::replace(&mut self.0, rest)
            }
            fn heap_bytes(&self) -> usize {
                self.0.capacity() * size_of::<$name>()
            }
        }
    };
}

integer_total!(Signed, Int64Type, add_i64s, to_i64);
integer_total!(Unsigned, UInt64Type, add_u64s, to_u64);

/// Totals that need nothing but themselves.
#[derive(Debug, Default)]
pub(super) struct Totals<T>(Vec<T>);

/// The fields of a state between two phases.
pub(super) fn state_fields(args: &StateFieldsArgs) -> Vec<FieldRef> {
    vec![
        Arc::new(Field::new(format_state_name(args.name, "total"), DataType::Binary, true)),
        Arc::new(Field::new(format_state_name(args.name, "count"), DataType::UInt64, false)),
    ]
}

/// What a total and a count are as a scalar; null if there is no value.
pub(super) fn finished<T: Total>(total: &T, count: u64, finish: Finish) -> Result<ScalarValue> {
    let some = 0 < count;
    match finish {
        Finish::Sum => ScalarValue::new_primitive::<T::Arrow>(
            some.then(|| total.sum()).transpose()?,
            &<T::Arrow as ArrowPrimitiveType>::DATA_TYPE,
        ),
        Finish::Mean => Ok(ScalarValue::Float64(some.then(|| total.mean(count)))),
    }
}

/// A sum or an average of all rows.
#[derive(Debug)]
pub(super) struct TotalAccumulator<T> {
    total: T,
    count: u64,
    finish: Finish,
}

impl<T: Total> TotalAccumulator<T> {
    pub(super) fn new(finish: Finish) -> Self {
        Self { total: T::default(), count: 0, finish }
    }
}

fn present(array: &dyn Array) -> u64 {
    (array.len() - array.null_count()) as u64
}

impl<T: Total> Accumulator for TotalAccumulator<T> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let array = argument(values, 0)?.as_primitive::<T::Arrow>();
        self.count += present(array);
        self.total.add(array);
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        finished(&self.total, self.count, self.finish)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.total.heap_bytes()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let mut bytes = Vec::new();
        self.total.serialize(&mut bytes);
        let total = (0 < self.count).then_some(bytes);
        Ok(vec![ScalarValue::Binary(total), ScalarValue::UInt64(Some(self.count))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for bytes in argument(states, 0)?.as_binary::<i32>().iter().flatten() {
            self.total.merge(&T::deserialize(bytes)?);
        }
        self.count += argument(states, 1)?.as_primitive::<UInt64Type>().iter().flatten().sum::<u64>();
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let array = argument(values, 0)?.as_primitive::<T::Arrow>();
        self.count -= present(array);
        self.total.remove(array);
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        T::REMOVES
    }
}

/// Sums or averages of groups.
pub(super) struct TotalGroups<G> {
    totals: G,
    counts: Vec<u64>,
    finish: Finish,
}

impl<G: GroupTotals> TotalGroups<G> {
    pub(super) fn new(finish: Finish) -> Self {
        Self { totals: G::default(), counts: Vec::new(), finish }
    }

    fn grow(&mut self, count: usize) {
        self.totals.grow(count);
        if self.counts.len() < count {
            self.counts.resize(count, 0);
        }
    }

    fn add(&mut self, groups: &[usize], values: &[Native<G::One>]) {
        self.totals.add(groups, values);
        each_run(groups, |group, rows| self.counts[group] += rows.len() as u64);
    }

    fn take(&mut self, emit_to: EmitTo) -> (Vec<G::One>, Vec<u64>) {
        let counts = emit_to.take_needed(&mut self.counts);
        (self.totals.take(counts.len()), counts)
    }
}

impl<G: GroupTotals> GroupsAccumulator for TotalGroups<G> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        let array = argument(values, 0)?.as_primitive::<<G::One as Total>::Arrow>();
        self.grow(total_num_groups);
        match chosen_rows(array, opt_filter) {
            None => self.add(group_indices, array.values()),
            Some(rows) => {
                let groups: Vec<usize> = rows.set_indices().map(|row| group_indices[row]).collect();
                let values: Vec<_> = rows.set_indices().map(|row| array.values()[row]).collect();
                self.add(&groups, &values);
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let finish = self.finish;
        let (totals, counts) = self.take(emit_to);
        let rows = totals.iter().zip(counts);
        Ok(match finish {
            Finish::Sum => {
                let sums = rows.map(|(total, count)| (0 < count).then(|| total.sum()).transpose());
                Arc::new(sums.collect::<Result<PrimitiveArray<<G::One as Total>::Arrow>>>()?)
            }
            Finish::Mean => {
                let means = rows.map(|(total, count)| (0 < count).then(|| total.mean(count)));
                Arc::new(means.collect::<PrimitiveArray<Float64Type>>())
            }
        })
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let (totals, counts) = self.take(emit_to);
        Ok(state_arrays(totals.iter().zip(counts)))
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        let totals = argument(values, 0)?.as_binary::<i32>();
        let counts = argument(values, 1)?.as_primitive::<UInt64Type>();
        self.grow(total_num_groups);
        for ((bytes, count), group) in totals.iter().zip(counts).zip(group_indices) {
            if let Some(bytes) = bytes {
                self.totals.merge(*group, &G::One::deserialize(bytes)?);
                self.counts[*group] += count.unwrap_or(0);
            }
        }
        Ok(())
    }

    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let array = argument(values, 0)?.as_primitive::<<G::One as Total>::Arrow>();
        let rows = chosen_rows(array, opt_filter);
        let states = (0..array.len()).map(|row| {
            let mut total = G::One::default();
            let chosen = rows.as_ref().is_none_or(|rows| rows.value(row));
            if chosen {
                total.add(&array.slice(row, 1));
            }
            (total, u64::from(chosen))
        });
        let states: Vec<_> = states.collect();
        Ok(state_arrays(states.iter().map(|(total, count)| (total, *count))))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.totals.heap_bytes() + self.counts.capacity() * size_of::<u64>()
    }
}

fn state_arrays<'a, T: Total>(states: impl ExactSizeIterator<Item = (&'a T, u64)>) -> Vec<ArrayRef> {
    let mut totals = BinaryBuilder::with_capacity(states.len(), states.len() * 12);
    let mut counts = Vec::with_capacity(states.len());
    let mut bytes = Vec::new();
    for (total, count) in states {
        bytes.clear();
        total.serialize(&mut bytes);
        totals.append_option((0 < count).then_some(&bytes));
        counts.push(count);
    }
    vec![Arc::new(totals.finish()), Arc::new(UInt64Array::from(counts))]
}

/// The rows that are neither null nor filtered out; `None` if all count.
pub(super) fn chosen_rows(array: &dyn Array, filter: Option<&BooleanArray>) -> Option<BooleanBuffer> {
    let present = array.nulls().filter(|nulls| 0 < nulls.null_count()).map(|nulls| nulls.inner().clone());
    let passed = filter.map(|filter| match filter.nulls() {
        None => filter.values().clone(),
        Some(nulls) => filter.values() & nulls.inner(),
    });
    match (present, passed) {
        (Some(present), Some(passed)) => Some(&present & &passed),
        (present, passed) => present.or(passed),
    }
}

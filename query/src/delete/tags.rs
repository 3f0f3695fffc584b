//! Values of tags, as a condition: what a part of a condition comes to that only looks at tags.

use std::collections::BTreeSet;

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch, StringViewArray};
use marigram_storage::schema::ColumnId;
use marigram_storage::tombstone::{Comparison, Literal, PREDICATE_BYTES_MAX, Predicate, ValueSet};

use crate::error::QueryError;

/// So many combinations of several tags become a condition. One tag may have as many values as a condition holds.
const COMBINATIONS_MAX: usize = 4096;
/// So many values of a tag are compared one by one, before a condition says on which side of one the others are.
const LEAF_VALUES: usize = 4;
/// What a value takes in a condition beside its text, at least.
const VALUE_BYTES: usize = 5;

/// Combinations of values of some tags; what is absent is `None`.
pub(crate) struct TagList {
    tags: Vec<ColumnId>,
    combinations: BTreeSet<Vec<Option<String>>>,
    bytes: usize,
}

impl TagList {
    pub(crate) fn new(tags: &[ColumnId]) -> Self {
        Self { tags: tags.to_vec(), combinations: BTreeSet::new(), bytes: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.combinations.is_empty()
    }

    /// Adds the rows of a batch of [`super::select_tags`]; `false`: they are too many for a condition.
    pub(crate) fn push(&mut self, batch: &RecordBatch) -> Result<bool, QueryError> {
        let arrays = batch.columns().iter().map(|array| array.as_string_view_opt());
        let arrays: Option<Vec<&StringViewArray>> = arrays.collect();
        let arrays = arrays.filter(|arrays| arrays.len() == self.tags.len());
        let arrays = arrays.ok_or_else(|| QueryError::internal("the tags of a delete have other columns"))?;
        for row in 0..batch.num_rows() {
            let value = |values: &&StringViewArray| (!values.is_null(row)).then(|| values.value(row).to_owned());
            let values: Vec<Option<String>> = arrays.iter().map(value).collect();
            self.bytes += values.iter().map(|value| VALUE_BYTES + value.as_ref().map_or(0, String::len)).sum::<usize>();
            self.combinations.insert(values);
            let is_many = 1 < self.tags.len() && COMBINATIONS_MAX < self.combinations.len();
            if is_many || PREDICATE_BYTES_MAX < self.bytes {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The condition that a row has one of these combinations.
    pub(crate) fn finish(self) -> Predicate {
        let is_all = || Predicate::Constant(Some(true));
        let combinations: Vec<Vec<Option<String>>> = self.combinations.into_iter().collect();
        any_of(&self.tags, combinations.iter().map(|values| (values.as_slice(), is_all())).collect())
    }
}

/// Combinations in order, each once, as many values in each as there are tags, and what holds for the rows that have it.
/// A series is compared with few of them.
pub(super) fn any_of(tags: &[ColumnId], combinations: Vec<(&[Option<String>], Predicate)>) -> Predicate {
    let Some((tag, others)) = tags.split_first() else {
        return one_of(combinations.into_iter().map(|(_, rest)| rest).collect());
    };
    let (mut any, mut whole, mut by_value) = (Vec::new(), Vec::new(), Vec::new());
    let mut combinations = combinations.into_iter().peekable();
    while let Some((values, rest)) = combinations.next() {
        let Some((value, of_others)) = values.split_first() else { continue };
        let mut group = vec![(of_others, rest)];
        while let Some((values, rest)) = combinations.next_if(|(next, _)| next.first() == Some(value)) {
            group.push((values.get(1..).unwrap_or_default(), rest));
        }
        match (value, any_of(others, group)) {
            (Some(value), Predicate::Constant(Some(true))) => whole.push(Literal::String(value.clone())),
            (Some(value), rest) => by_value.push((value.as_str(), rest)),
            (None, rest) => any.push(Predicate::All(vec![Predicate::IsAbsent(*tag), rest])),
        }
    }
    if !whole.is_empty() {
        any.push(Predicate::In { column: *tag, values: ValueSet::new(whole) });
    }
    if !by_value.is_empty() {
        any.push(by_halves(*tag, by_value));
    }
    one_of(any)
}

/// Any of these, without a level for only one.
fn one_of(mut any: Vec<Predicate>) -> Predicate {
    match any.pop() {
        Some(one) if any.is_empty() => one,
        Some(one) => {
            any.push(one);
            Predicate::Any(any)
        }
        None => Predicate::Constant(Some(false)),
    }
}

/// Any of these, which are in order: a tree, so that a series is compared with few of them.
fn by_halves(tag: ColumnId, mut values: Vec<(&str, Predicate)>) -> Predicate {
    let compare = |op, value: &str| Predicate::Compare { column: tag, op, value: Literal::String(value.to_owned()) };
    if values.len() <= LEAF_VALUES {
        let is = |(value, rest): (&str, Predicate)| Predicate::All(vec![compare(Comparison::Equal, value), rest]);
        return one_of(values.into_iter().map(is).collect());
    }
    let right = values.split_off(values.len() / 2);
    let cut = right.first().map_or("", |(value, _)| *value);
    let below = Predicate::All(vec![compare(Comparison::Less, cut), by_halves(tag, values)]);
    let above = Predicate::All(vec![compare(Comparison::GreaterOrEqual, cut), by_halves(tag, right)]);
    Predicate::Any(vec![below, above])
}

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
        let combinations: Vec<Vec<Option<String>>> = self.combinations.into_iter().collect();
        let combinations: Vec<&[Option<String>]> = combinations.iter().map(Vec::as_slice).collect();
        any_of(&self.tags, &combinations)
    }
}

/// Combinations in order, as many values in each as there are tags.
fn any_of(tags: &[ColumnId], combinations: &[&[Option<String>]]) -> Predicate {
    let Some((tag, others)) = tags.split_first() else {
        return Predicate::Constant(Some(!combinations.is_empty()));
    };
    let first = |combination: &&[Option<String>]| combination.first().cloned().flatten();
    if others.is_empty() {
        let values = combinations.iter().filter_map(first).map(Literal::String).collect();
        let found = Predicate::In { column: *tag, values: ValueSet::new(values) };
        let has_absent = combinations.iter().any(|combination| first(combination).is_none());
        return if has_absent { Predicate::Any(vec![Predicate::IsAbsent(*tag), found]) } else { found };
    }
    let mut any = Vec::new();
    let mut by_value: Vec<(String, Predicate)> = Vec::new();
    for group in combinations.chunk_by(|one, other| one.first() == other.first()) {
        let rest: Vec<&[Option<String>]> = group.iter().filter_map(|values| values.get(1..)).collect();
        let rest = any_of(others, &rest);
        match group.first().and_then(first) {
            Some(value) => by_value.push((value, rest)),
            None => any.push(Predicate::All(vec![Predicate::IsAbsent(*tag), rest])),
        }
    }
    any.push(by_halves(*tag, by_value));
    Predicate::Any(any)
}

/// Any of these, which are in order: a tree, so that a series is compared with few of them.
fn by_halves(tag: ColumnId, mut values: Vec<(String, Predicate)>) -> Predicate {
    let compare = |op, value: &str| Predicate::Compare { column: tag, op, value: Literal::String(value.to_owned()) };
    if values.len() <= LEAF_VALUES {
        let is = |(value, rest): (String, Predicate)| Predicate::All(vec![compare(Comparison::Equal, &value), rest]);
        return Predicate::Any(values.into_iter().map(is).collect());
    }
    let right = values.split_off(values.len() / 2);
    let cut = right.first().map(|(value, _)| value.clone()).unwrap_or_default();
    let below = Predicate::All(vec![compare(Comparison::Less, &cut), by_halves(tag, values)]);
    let above = Predicate::All(vec![compare(Comparison::GreaterOrEqual, &cut), by_halves(tag, right)]);
    Predicate::Any(vec![below, above])
}

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

    /// The condition that a row has one of these combinations; `None`: it is too large.
    pub(crate) fn finish(self) -> Option<Predicate> {
        let is_all = || Predicate::Constant(Some(true));
        let combinations: Vec<Vec<Option<String>>> = self.combinations.into_iter().collect();
        let combinations = combinations.iter().map(|values| (values.as_slice(), is_all())).collect();
        any_of(&self.tags, combinations, &mut Budget::default())
    }
}

/// What a condition that is being made may still take once it is encoded, bytes.
pub(super) struct Budget(usize);

impl Default for Budget {
    fn default() -> Self {
        Self(PREDICATE_BYTES_MAX)
    }
}

impl Budget {
    /// `None`: it is used up.
    pub(super) fn take(&mut self, bytes: usize) -> Option<()> {
        self.0 = self.0.checked_sub(bytes)?;
        Some(())
    }
}

/// What the head of [`Predicate::All`] and [`Predicate::Any`] takes.
const LIST_BYTES: usize = 5;

/// Combinations in order, each once, as many values in each as there are tags, and what holds for the rows that have it.
/// A series is compared with few of them. What holds for rows was taken from the budget, all else is; `None`: there is too
/// little.
pub(super) fn any_of(
    tags: &[ColumnId],
    combinations: Vec<(&[Option<String>], Predicate)>,
    budget: &mut Budget,
) -> Option<Predicate> {
    let Some((tag, others)) = tags.split_first() else {
        return one_of(combinations.into_iter().map(|(_, rest)| rest).collect(), budget);
    };
    let (mut any, mut whole, mut by_value) = (Vec::new(), Vec::new(), Vec::new());
    let mut combinations = combinations.into_iter().peekable();
    while let Some((values, rest)) = combinations.next() {
        let Some((value, of_others)) = values.split_first() else { continue };
        let mut group = vec![(of_others, rest)];
        while let Some((values, rest)) = combinations.next_if(|(next, _)| next.first() == Some(value)) {
            group.push((values.get(1..).unwrap_or_default(), rest));
        }
        match (value, any_of(others, group, budget)?) {
            (Some(value), Predicate::Constant(Some(true))) => {
                let value = Literal::String(value.clone());
                budget.take(value.encoded_bytes())?;
                whole.push(value);
            }
            (Some(value), rest) => by_value.push((value.as_str(), rest)),
            (None, rest) => any.push(all(vec![Predicate::IsAbsent(*tag)], rest, budget)?),
        }
    }
    if !whole.is_empty() {
        // Its values were taken one by one.
        budget.take(Predicate::In { column: *tag, values: ValueSet::new(Vec::new()) }.encoded_bytes())?;
        any.push(Predicate::In { column: *tag, values: ValueSet::new(whole) });
    }
    if !by_value.is_empty() {
        any.push(by_halves(*tag, by_value, budget)?);
    }
    one_of(any, budget)
}

/// New conditions and one that was taken from the budget.
fn all(mut new: Vec<Predicate>, known: Predicate, budget: &mut Budget) -> Option<Predicate> {
    budget.take(LIST_BYTES + new.iter().map(Predicate::encoded_bytes).sum::<usize>())?;
    new.push(known);
    Some(Predicate::All(new))
}

/// Any of these, which were taken from the budget, without a level for only one.
fn one_of(mut any: Vec<Predicate>, budget: &mut Budget) -> Option<Predicate> {
    Some(match any.pop() {
        Some(one) if any.is_empty() => one,
        Some(one) => {
            budget.take(LIST_BYTES)?;
            any.push(one);
            Predicate::Any(any)
        }
        None => Predicate::Constant(Some(false)),
    })
}

/// Any of these, which are in order: a tree, so that a series is compared with few of them.
fn by_halves(tag: ColumnId, mut values: Vec<(&str, Predicate)>, budget: &mut Budget) -> Option<Predicate> {
    let compare = |op, value: &str| Predicate::Compare { column: tag, op, value: Literal::String(value.to_owned()) };
    if values.len() <= LEAF_VALUES {
        let mut any = Vec::with_capacity(values.len());
        for (value, rest) in values {
            any.push(all(vec![compare(Comparison::Equal, value)], rest, budget)?);
        }
        return one_of(any, budget);
    }
    let right = values.split_off(values.len() / 2);
    let cut = right.first().map_or("", |(value, _)| *value);
    let (below, above) = (compare(Comparison::Less, cut), compare(Comparison::GreaterOrEqual, cut));
    let left = by_halves(tag, values, budget)?;
    let below = all(vec![below], left, budget)?;
    let right = by_halves(tag, right, budget)?;
    one_of(vec![below, all(vec![above], right, budget)?], budget)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAGS: [ColumnId; 2] = [ColumnId(16), ColumnId(17)];

    /// What was taken is what the condition takes once it is encoded: for lists, trees, absent values and groups.
    #[test]
    fn a_condition_is_bounded_while_it_is_made() {
        #[track_caller]
        fn check(combinations: &[Vec<Option<String>>], rest: &Predicate, bytes_max: usize) -> Option<Predicate> {
            let mut budget = Budget(bytes_max);
            // The constant that stands for every row is not in the condition, but where nothing else is.
            let is_all = *rest == Predicate::Constant(Some(true));
            budget.take(if is_all { 0 } else { combinations.len() * rest.encoded_bytes() })?;
            let pairs = combinations.iter().map(|values| (values.as_slice(), rest.clone())).collect();
            let made = any_of(&TAGS, pairs, &mut budget)?;
            let constants =
                if is_all { 2 * combinations.iter().filter(|values| values[1].is_none()).count() } else { 0 };
            assert_eq!(bytes_max - budget.0 + constants, made.encoded_bytes(), "{made:?}");
            Some(made)
        }
        let text = |value: usize| Some(format!("value-{value}"));
        let mut combinations: Vec<Vec<Option<String>>> =
            (0..300).map(|at| vec![if at < 5 { None } else { text(at % 40) }, text(at)]).collect();
        combinations.push(vec![text(7), None]);
        combinations.sort();
        let judged = Predicate::Compare { column: ColumnId(18), op: Comparison::Less, value: Literal::I64(1) };
        for rest in [Predicate::Constant(Some(true)), judged] {
            let whole = check(&combinations, &rest, PREDICATE_BYTES_MAX).unwrap().encoded_bytes();
            assert!(check(&combinations, &rest, whole).is_some());
            assert_eq!(check(&combinations, &rest, whole - 3), None, "one of {whole} bytes");
        }
    }
}

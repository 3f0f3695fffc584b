//! Sets of instants, as ranges that neither overlap nor touch.

use std::sync::Arc;

/// Any set of `i64` ns. A clone shares the ranges: a condition that names many times is asked for every series.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Instants {
    /// First and last of each range, ascending, with a gap in between.
    ranges: Arc<[(i64, i64)]>,
}

impl Instants {
    pub(crate) fn none() -> Self {
        Self::default()
    }

    pub(crate) fn all() -> Self {
        Self { ranges: Arc::new([(i64::MIN, i64::MAX)]) }
    }

    /// `first` and all after it.
    pub(crate) fn from(first: i64) -> Self {
        Self { ranges: Arc::new([(first, i64::MAX)]) }
    }

    /// Ranges in any order; a reversed one is empty.
    pub(crate) fn of(ranges: impl IntoIterator<Item = (i64, i64)>) -> Self {
        let mut sorted: Vec<(i64, i64)> = ranges.into_iter().filter(|(first, last)| first <= last).collect();
        sorted.sort_unstable();
        let mut ranges: Vec<(i64, i64)> = Vec::with_capacity(sorted.len());
        for (first, last) in sorted {
            match ranges.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = (*end).max(last),
                _ => ranges.push((first, last)),
            }
        }
        Self { ranges: ranges.into() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    fn is_all(&self) -> bool {
        *self.ranges == [(i64::MIN, i64::MAX)]
    }

    pub(crate) fn ranges(&self) -> &[(i64, i64)] {
        &self.ranges
    }

    /// The first and the last instant.
    pub(crate) fn bounds(&self) -> Option<(i64, i64)> {
        Some((self.ranges.first()?.0, self.ranges.last()?.1))
    }

    pub(crate) fn contains(&self, at: i64) -> bool {
        let before = self.ranges.partition_point(|(first, _)| *first <= at);
        before.checked_sub(1).and_then(|index| self.ranges.get(index)).is_some_and(|(_, last)| at <= *last)
    }

    /// Whether any instant of `first..=last` is in it.
    pub(crate) fn meets(&self, first: i64, last: i64) -> bool {
        let at = self.ranges.partition_point(|(_, end)| *end < first);
        self.ranges.get(at).is_some_and(|(start, _)| *start <= last)
    }

    /// Whether every instant of `first..=last` is in it.
    pub(crate) fn covers(&self, first: i64, last: i64) -> bool {
        let at = self.ranges.partition_point(|(_, end)| *end < first);
        self.ranges.get(at).is_some_and(|(start, end)| *start <= first && last <= *end)
    }

    pub(crate) fn opposite(&self) -> Self {
        let mut ranges = Vec::with_capacity(self.ranges.len() + 1);
        let mut from = Some(i64::MIN);
        for (first, last) in self.ranges.iter() {
            if let (Some(from), Some(before)) = (from, first.checked_sub(1))
                && from <= before
            {
                ranges.push((from, before));
            }
            from = last.checked_add(1);
        }
        ranges.extend(from.map(|from| (from, i64::MAX)));
        Self { ranges: ranges.into() }
    }

    pub(crate) fn either(&self, other: &Self) -> Self {
        match (self, other) {
            (none, some) | (some, none) if none.is_empty() => some.clone(),
            (all, _) | (_, all) if all.is_all() => all.clone(),
            _ => Self::of(self.ranges.iter().chain(other.ranges.iter()).copied()),
        }
    }

    pub(crate) fn both(&self, other: &Self) -> Self {
        match (self, other) {
            (none, _) | (_, none) if none.is_empty() => return Self::none(),
            (all, some) | (some, all) if all.is_all() => return some.clone(),
            _ => {}
        }
        self.opposite().either(&other.opposite()).opposite()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const SMALL: std::ops::RangeInclusive<i64> = -10..=10;

    fn set(instants: &Instants) -> BTreeSet<i64> {
        SMALL.filter(|at| instants.contains(*at)).collect()
    }

    fn instants() -> impl Strategy<Value = Instants> {
        let end = || prop_oneof![SMALL, Just(i64::MIN), Just(i64::MAX)];
        proptest::collection::vec((end(), end()), 0..5).prop_map(Instants::of)
    }

    proptest! {
        #[test]
        fn they_are_sets(a in instants(), b in instants(), first in SMALL, length in 0..5_i64) {
            let (small_a, small_b) = (set(&a), set(&b));
            prop_assert_eq!(set(&a.either(&b)), small_a.union(&small_b).copied().collect::<BTreeSet<_>>());
            prop_assert_eq!(set(&a.both(&b)), small_a.intersection(&small_b).copied().collect::<BTreeSet<_>>());
            prop_assert_eq!(set(&a.opposite()), SMALL.filter(|at| !small_a.contains(at)).collect::<BTreeSet<_>>());
            prop_assert_eq!(&a.opposite().opposite(), &a);
            prop_assert!(a.ranges.windows(2).all(|pair| pair[0].1.checked_add(1).is_some_and(|next| next < pair[1].0)));
            let last = (first + length).min(*SMALL.end());
            prop_assert_eq!(a.meets(first, last), (first..=last).any(|at| a.contains(at)));
            prop_assert_eq!(a.covers(first, last), (first..=last).all(|at| a.contains(at)));
            prop_assert_eq!(a.bounds().is_none(), a.is_empty());
        }
    }
}

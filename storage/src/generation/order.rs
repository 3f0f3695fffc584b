//! The keys of a table, sorted: the order of segments and scans.

use std::cmp::Ordering;
use std::sync::OnceLock;

use super::keys::Keys;

/// So many bytes behind what all keys of a group begin with decide nearly every comparison.
const HEAD_BYTES: usize = 7;
/// So often a group is sorted by heads. Each time its keys are walked from the start, which for keys of many tags that differ in a
/// late one would take longer than comparing them.
const HEADS_MAX: u32 = 8;

/// The series that a table had at some moment, by key. Holds no lock: keys that are there do not move.
#[derive(Debug, Default)]
pub(crate) struct KeyOrder {
    /// How many ordinals existed when this was made.
    pub(crate) ordinals: usize,
    /// Ordinals, ascending by key.
    pub(crate) sorted: Vec<u32>,
    keys: Keys,
    ranks: OnceLock<Vec<u32>>,
}

impl KeyOrder {
    /// The key of an ordinal, made in `scratch`, which holds it and bytes of no meaning; `None` if it had none then.
    pub(crate) fn key<'a>(&self, ordinal: u32, scratch: &'a mut Vec<u8>) -> Option<&'a [u8]> {
        self.keys.get(ordinal, scratch)
    }

    /// The place of each ordinal in the order, `u32::MAX` where it had no key then. Found once, for all partitions of a cut.
    pub(crate) fn ranks(&self) -> &[u32] {
        self.ranks.get_or_init(|| {
            let mut ranks = vec![u32::MAX; self.ordinals];
            for (rank, ordinal) in self.sorted.iter().enumerate() {
                if let Some(slot) = ranks.get_mut(*ordinal as usize) {
                    *slot = rank as u32;
                }
            }
            ranks
        })
    }

    /// The order of `keys`: that of an earlier one, and `new` ordinals behind those that it knew.
    pub(super) fn extended(&self, keys: Keys, new: Vec<u32>) -> Self {
        let new = sort(&keys, new);
        let mut sorted = Vec::with_capacity(self.sorted.len() + new.len());
        let (mut old, mut scratch) = (self.sorted.as_slice(), Vec::new());
        for ordinal in new {
            if old.is_empty() {
                sorted.push(ordinal);
                continue;
            }
            let key = keys.get(ordinal, &mut scratch).unwrap_or_default();
            let before = gallop(old, |other| keys.compare(other, key) == Ordering::Less);
            let (smaller, rest) = old.split_at(before);
            sorted.extend_from_slice(smaller);
            sorted.push(ordinal);
            old = rest;
        }
        sorted.extend_from_slice(old);
        Self { ordinals: keys.len(), sorted, keys, ranks: OnceLock::new() }
    }

    /// What it occupies beside the keys that the table has, too.
    pub(super) fn bytes(&self) -> usize {
        self.sorted.capacity() * size_of::<u32>() + self.keys.list_bytes()
    }
}

/// How many at the front are smaller: cheap if few are.
fn gallop(ordinals: &[u32], is_smaller: impl Fn(u32) -> bool) -> usize {
    let mut step = 1;
    while ordinals.get(step - 1).is_some_and(|ordinal| is_smaller(*ordinal)) {
        step *= 2;
    }
    let from = step / 2;
    let near = ordinals.get(from..ordinals.len().min(step)).unwrap_or_default();
    from + near.partition_point(|ordinal| is_smaller(*ordinal))
}

/// Ascending by key. Heads are compared as numbers; those that have the same are sorted again by what follows.
fn sort(keys: &Keys, mut ordinals: Vec<u32>) -> Vec<u32> {
    let mut heads: Vec<(u64, u32)> = ordinals.iter().map(|ordinal| (0, *ordinal)).collect();
    // (from, to, bytes that all of these begin with, how often they were sorted).
    let (mut groups, mut first_key) = (vec![(0, heads.len(), 0, 0)], Vec::new());
    while let Some((start, end, known, sorted)) = groups.pop() {
        let Some(group) = heads.get_mut(start..end) else { continue };
        if sorted == HEADS_MAX {
            group.sort_by(|(_, ordinal), (_, other)| keys.compare_two(*ordinal, *other));
            continue;
        }
        let from = known + shared(keys, group, known, &mut first_key);
        for (head, ordinal) in group.iter_mut() {
            *head = read_head(keys, *ordinal, from);
        }
        // Stable, so that what has the same head is read again in the order in which it lies.
        group.sort_by_key(|(head, _)| *head);
        let mut at = start;
        for same in group.chunk_by(|(head, _), (other, _)| head == other) {
            if let [(head, _), _, ..] = same
                && HEAD_BYTES < *head as usize & 0xff
            {
                groups.push((at, at + same.len(), from + HEAD_BYTES, sorted + 1));
            }
            at += same.len();
        }
    }
    ordinals.clear();
    ordinals.extend(heads.into_iter().map(|(_, ordinal)| ordinal));
    ordinals
}

/// Bytes that all keys of a group have in common behind the first `known`.
fn shared(keys: &Keys, group: &[(u64, u32)], known: usize, scratch: &mut Vec<u8>) -> usize {
    let Some(((_, first), others)) = group.split_first() else { return 0 };
    let first = keys.get(*first, scratch).and_then(|key| key.get(known..)).unwrap_or_default();
    others.iter().fold(first.len(), |shared, (_, other)| {
        if shared == 0 { 0 } else { keys.common(*other, known, first.get(..shared).unwrap_or_default()) }
    })
}

/// The bytes of a key from `from` on, filled up with zeros, and how many they are, one more if not all are in it: as a number
/// it compares as the keys do.
fn read_head(keys: &Keys, ordinal: u32, from: usize) -> u64 {
    let mut head = [0; HEAD_BYTES + 1];
    let (bytes, count) = head.split_at_mut(HEAD_BYTES);
    let found = keys.read(ordinal, from, bytes);
    count.fill(found as u8);
    u64::from_be_bytes(head)
}

#[cfg(test)]
mod tests {
    use super::super::dictionary::Dictionary;
    use super::*;
    use crate::schema::ColumnId;
    use crate::series::encode_key;

    #[test]
    fn orders_grow_as_if_they_were_sorted_at_once() {
        let (mut keys, mut dictionary, mut model) = (Keys::default(), Dictionary::default(), Vec::new());
        let (mut order, mut state) = (KeyOrder::default(), 1_u64);
        let mut below = |end: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % end
        };
        for round in 0..60 {
            let known = keys.len() as u32;
            for _ in 0..below([1, 3, 200][round % 3]) {
                // Equal heads, zeros at the end, keys that are the beginning of others.
                let length = below(14) as usize;
                let mut key: Vec<u8> = (0..length).map(|_| [0, 0, 1, 255][below(4) as usize]).collect();
                key.extend_from_slice(&(keys.len() as u32).to_be_bytes());
                key.splice(0..0, *b"host_").for_each(drop);
                let key = (below(20) != 0).then_some(key);
                let fingerprint = u128::from(below(u64::MAX)) << 64 | u128::from(below(u64::MAX));
                assert!(keys.push(key.as_deref().map(|key| (key, fingerprint)), &mut dictionary));
                model.push(key);
            }
            let new: Vec<u32> = (known..keys.len() as u32).filter(|ordinal| keys.has(*ordinal)).collect();
            order = order.extended(keys.clone(), new);
            let mut want: Vec<u32> = (0..keys.len() as u32).filter(|ordinal| keys.has(*ordinal)).collect();
            want.sort_by_key(|ordinal| &model[*ordinal as usize]);
            assert_eq!((order.ordinals, &order.sorted), (keys.len(), &want), "round {round}");
        }
        assert!(order.sorted.len() > 1_000);
    }

    #[test]
    fn keys_that_differ_in_a_late_tag_are_sorted_as_others() {
        let (mut keys, mut dictionary, mut model) = (Keys::default(), Dictionary::default(), Vec::new());
        // The first 1 to 60 tags are those of others. Some keys end there, the others have one that differs and end, or go on alike.
        for number in (0..240_u32).map(|number| number * 7 % 240) {
            let (shared, kind) = (1 + number / 4, number % 4);
            let mut tags: Vec<(ColumnId, Vec<u8>)> =
                (0..shared).map(|tag| (ColumnId(16 + tag), format!("a value of tag {tag}").into_bytes())).collect();
            if kind > 0 {
                tags.push((ColumnId(16 + shared), vec![kind as u8; kind as usize]));
            }
            if kind > 1 {
                tags.extend((shared + 1..70).map(|tag| (ColumnId(16 + tag), b"the same for all".to_vec())));
            }
            let mut key = Vec::new();
            encode_key(tags.iter().map(|(column, value)| (*column, value.as_slice())), &mut key);
            assert!(keys.push(Some((&key, u128::from(number) << 64 | u128::from(number))), &mut dictionary));
            model.push(key);
        }
        let order = KeyOrder::default().extended(keys.clone(), (0..keys.len() as u32).collect());
        let mut want: Vec<u32> = (0..keys.len() as u32).collect();
        want.sort_by_key(|ordinal| &model[*ordinal as usize]);
        assert_eq!(order.sorted, want);
        for (left, right) in want.iter().zip(want.iter().skip(1)) {
            assert_eq!(keys.compare_two(*left, *right), Ordering::Less);
            assert_eq!(keys.compare_two(*right, *left), Ordering::Greater);
            assert_eq!(keys.compare_two(*left, *left), Ordering::Equal);
        }
    }

    #[test]
    fn galloping_finds_what_a_search_finds() {
        let ordinals: Vec<u32> = (0..100).collect();
        for len in [0, 1, 2, 3, 7, 100] {
            for end in 0..=len {
                let found = gallop(&ordinals[..len], |ordinal| (ordinal as usize) < end);
                assert_eq!(found, end, "of {len}");
            }
        }
    }
}

//! The keys of a table, sorted: the order of segments and scans.

use super::keys::Keys;

/// So many bytes behind what all new keys begin with decide nearly every comparison.
const HEAD_BYTES: usize = 8;

/// The series that a table had at some moment, by key. Holds no lock: keys that are there do not move.
#[derive(Debug, Default)]
pub(crate) struct KeyOrder {
    /// How many ordinals existed when this was made.
    pub(crate) ordinals: usize,
    /// Ordinals, ascending by key.
    pub(crate) sorted: Vec<u32>,
    keys: Keys,
}

impl KeyOrder {
    /// The key of an ordinal, made in `scratch`, which holds it and bytes of no meaning; `None` if it had none then.
    pub(crate) fn key<'a>(&self, ordinal: u32, scratch: &'a mut Vec<u8>) -> Option<&'a [u8]> {
        scratch.clear();
        scratch.extend_from_slice(self.keys.get(ordinal)?);
        Some(scratch)
    }

    /// The order of `keys`: that of an earlier one, and `new` ordinals behind those that it knew.
    pub(super) fn extended(&self, keys: Keys, new: Vec<u32>) -> Self {
        let new = sort(&keys, new);
        let mut sorted = Vec::with_capacity(self.sorted.len() + new.len());
        let mut old = self.sorted.as_slice();
        for ordinal in new {
            let key = keys.get(ordinal);
            let before = gallop(old, |other| keys.get(other) < key);
            let (smaller, rest) = old.split_at(before);
            sorted.extend_from_slice(smaller);
            sorted.push(ordinal);
            old = rest;
        }
        sorted.extend_from_slice(old);
        Self { ordinals: keys.len(), sorted, keys }
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

fn sort(keys: &Keys, ordinals: Vec<u32>) -> Vec<u32> {
    let key = |ordinal: u32| keys.get(ordinal).unwrap_or_default();
    let mut rest = ordinals.iter().map(|ordinal| key(*ordinal));
    let first = rest.next().unwrap_or_default();
    let shared = rest.fold(first.len(), |shared, key| {
        let pairs = first.iter().zip(key).take(shared);
        pairs.take_while(|(first, byte)| first == byte).count()
    });
    let head = |ordinal: u32| {
        let rest = key(ordinal).get(shared..).unwrap_or_default();
        let mut head = [0; HEAD_BYTES];
        head.iter_mut().zip(rest).for_each(|(slot, byte)| *slot = *byte);
        u64::from_be_bytes(head)
    };
    let mut heads: Vec<(u64, u32)> = ordinals.into_iter().map(|ordinal| (head(ordinal), ordinal)).collect();
    heads.sort_unstable_by(|(head, ordinal), (other_head, other)| {
        head.cmp(other_head).then_with(|| key(*ordinal).cmp(key(*other)))
    });
    heads.into_iter().map(|(_, ordinal)| ordinal).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_grow_as_if_they_were_sorted_at_once() {
        let (mut keys, mut order, mut state) = (Keys::default(), KeyOrder::default(), 1_u64);
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
                assert!(keys.push(if below(20) == 0 { None } else { Some(&key) }));
            }
            let new: Vec<u32> = (known..keys.len() as u32).filter(|ordinal| keys.has(*ordinal)).collect();
            order = order.extended(keys.clone(), new);
            let mut want: Vec<u32> = (0..keys.len() as u32).filter(|ordinal| keys.has(*ordinal)).collect();
            want.sort_by_key(|ordinal| keys.get(*ordinal).map(<[u8]>::to_vec));
            assert_eq!((order.ordinals, &order.sorted), (keys.len(), &want), "round {round}");
        }
        assert!(order.sorted.len() > 1_000);
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

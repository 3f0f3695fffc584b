//! A table of series against ordered maps, over batches that are kept, logged or refused, with hashes that collide.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use super::*;
use crate::schema::ColumnId;
use crate::series::encode_key;

const TABLE_SERIES_MAX: usize = 60;

/// What becomes of a batch.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Open,
    Logged,
    Refused,
}

/// Keys that share many tags, few, or none; some hold zeros, some are empty, few are long.
fn key() -> impl Strategy<Value = Vec<u8>> {
    let value = prop_oneof![
        8 => "[ab]{0,2}",
        2 => "[\u{0}\u{1}a]{1,4}",
        2 => "[a-z]{8}",
        1 => (0..3_usize).prop_map(|more| "x".repeat(65_534 + more)),
    ];
    let tags = prop::collection::btree_map(16..22_u32, value, 0..4);
    tags.prop_map(|tags| {
        let mut key = Vec::new();
        encode_key(tags.iter().map(|(column, value)| (ColumnId(*column), value.as_bytes())), &mut key);
        key
    })
}

fn batches() -> impl Strategy<Value = Vec<(Vec<Vec<u8>>, Fate, bool)>> {
    let fate = prop_oneof![Just(Fate::Open), Just(Fate::Logged), Just(Fate::Refused)];
    prop::collection::vec((prop::collection::vec(key(), 0..12), fate, any::<bool>()), 1..24)
}

/// All of a table share a hash in its index, or a few of them, or hardly any.
fn fingerprint_of(key: &[u8], hashes: u64) -> u128 {
    u128::from(xxh3_64(key)) << 64 | u128::from(xxh3_64(key) % hashes)
}

#[derive(Default)]
struct Model {
    live: BTreeMap<Vec<u8>, u32>,
    claims: BTreeMap<Vec<u8>, usize>,
    durable: BTreeSet<Vec<u8>>,
}

impl Model {
    fn refuse(&mut self, keys: &[Vec<u8>]) {
        for key in keys {
            // Who was claimed before it was durable is not counted any more.
            if let Some(count) = self.claims.get_mut(key) {
                *count -= 1;
                if *count == 0 {
                    self.claims.remove(key);
                    self.live.remove(key);
                }
            }
        }
    }

    /// What a batch must get, if it is taken: ordinals, where known, and what it must define.
    fn take(&mut self, keys: &[Vec<u8>], given: &[u32]) -> std::result::Result<Vec<u32>, TestCaseError> {
        let mut undefined = Vec::new();
        for (at, (key, ordinal)) in keys.iter().zip(given).enumerate() {
            let known = self.live.entry(key.clone()).or_insert(*ordinal);
            prop_assert_eq!(*known, *ordinal, "one key, one ordinal");
            let users = self.live.values().filter(|used| *used == ordinal).count();
            prop_assert_eq!(users, 1, "one ordinal, one key");
            if !self.durable.contains(key) {
                undefined.push(at as u32);
                *self.claims.entry(key.clone()).or_default() += 1;
            }
        }
        Ok(undefined)
    }
}

fn check(generation: &Generation, model: &Model, with_order: bool) -> std::result::Result<(), TestCaseError> {
    prop_assert_eq!(generation.series_count(), model.live.len() as u64);
    if with_order {
        let order = generation.table(TABLE).key_order();
        let key = |ordinal| order.key(ordinal, &mut Vec::new()).map(<[u8]>::to_vec);
        let found = order.sorted.iter().map(|ordinal| (key(*ordinal).unwrap_or_default(), *ordinal));
        let want: Vec<(Vec<u8>, u32)> = model.live.iter().map(|(key, ordinal)| (key.clone(), *ordinal)).collect();
        // An order keeps the places of series that left after it was made; no row is theirs.
        let found: Vec<(Vec<u8>, u32)> = found.filter(|(key, ordinal)| model.live.get(key) == Some(ordinal)).collect();
        prop_assert!(order.sorted.is_sorted_by_key(|ordinal| key(*ordinal)));
        prop_assert_eq!(found, want);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_table_of_series_is_as_a_map(batches in batches(), hashes in prop_oneof![Just(1_u64), Just(3), Just(u64::MAX)]) {
        let generation = Arc::new(Generation::new(1));
        let table = generation.table(TABLE);
        let limits = SchemaLimits { table_series_max: TABLE_SERIES_MAX, ..SchemaLimits::default() };
        let (mut model, mut open) = (Model::default(), Vec::new());
        for (keys, fate, with_order) in batches {
            let slices: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
            let fingerprints: Vec<u128> = keys.iter().map(|key| fingerprint_of(key, hashes)).collect();
            let series = NewSeries { series: &table, name: "cpu", keys: &slices, fingerprints: &fingerprints, stored: &[] };
            let new: BTreeSet<&Vec<u8>> = keys.iter().filter(|key| !model.live.contains_key(*key)).collect();
            let is_full = !new.is_empty() && TABLE_SERIES_MAX < model.live.len() + new.len();
            let staged = generation.stage((DatabaseId(1), "main"), &[series], &limits);
            prop_assert_eq!(staged.is_err(), is_full);
            if let Ok((staged, ordinals)) = staged {
                let undefined = model.take(&keys, &ordinals[0].ordinals)?;
                prop_assert_eq!(&ordinals[0].undefined, &undefined);
                match fate {
                    Fate::Open => open.push((staged, keys)),
                    Fate::Refused => {
                        drop(staged);
                        model.refuse(&keys);
                    }
                    Fate::Logged => {
                        let named: BTreeMap<u32, &Vec<u8>> = ordinals[0].ordinals.iter().copied().zip(&keys).collect();
                        let mut definitions = SeriesDefinitions::new(TABLE);
                        named.iter().for_each(|(ordinal, key)| definitions.push(*ordinal, key));
                        table.define(&definitions, |key| fingerprint_of(key, hashes)).unwrap();
                        model.claims.retain(|key, _| !keys.contains(key));
                        model.durable.extend(keys);
                        drop(staged);
                    }
                }
            }
            check(&generation, &model, with_order)?;
        }
        for (staged, keys) in open {
            drop(staged);
            model.refuse(&keys);
            check(&generation, &model, false)?;
        }
        prop_assert_eq!(model.live.keys().cloned().collect::<BTreeSet<_>>(), model.durable.clone());
        check(&generation, &model, true)?;
    }
}

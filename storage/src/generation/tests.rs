//! Ordinals: given once, carried until durable, bounded.

use super::*;
use crate::series::fingerprint;

const TABLE: TableId = TableId(1);

fn resolve(generation: &Generation, keys: &[&[u8]], series_max: usize) -> Result<(Vec<u32>, Vec<u32>)> {
    let fingerprints: Vec<u128> = keys.iter().map(|key| fingerprint(7, TABLE, key)).collect();
    let mut undefined = Vec::new();
    let table = generation.table(TABLE);
    let ordinals = table.resolve(keys, &fingerprints, series_max, generation, &mut undefined)?;
    Ok((ordinals, undefined))
}

fn define(generation: &Generation, ordinal: u32, key: &[u8]) -> Result<(), String> {
    generation.table(TABLE).define(ordinal, fingerprint(7, TABLE, key), key)
}

#[test]
fn a_definition_is_carried_until_it_is_durable() {
    let generation = Generation::new(1);
    assert_eq!(resolve(&generation, &[b"a", b"b"], 9).unwrap(), (vec![0, 1], vec![0, 1]));
    // Resolved again before the first batch was applied: the second one must explain itself too.
    assert_eq!(resolve(&generation, &[b"b", b"c"], 9).unwrap(), (vec![1, 2], vec![0, 1]));
    define(&generation, 1, b"b").unwrap();
    assert_eq!(resolve(&generation, &[b"a", b"b", b"c"], 9).unwrap(), (vec![0, 1, 2], vec![0, 2]));
    assert_eq!(generation.series_count(), 3);
    // Another generation knows none of it.
    assert_eq!(resolve(&Generation::new(2), &[b"b"], 9).unwrap(), (vec![0], vec![0]));
}

#[test]
fn a_key_that_occurs_twice_gets_one_ordinal() {
    let generation = Generation::new(1);
    let (ordinals, _) = resolve(&generation, &[b"a", b"a", b""], 9).unwrap();
    assert_eq!(ordinals, [0, 0, 1]);
    assert_eq!(generation.series_count(), 2);
}

#[test]
fn a_table_that_is_full_takes_known_series_only() {
    let generation = Generation::new(1);
    resolve(&generation, &[b"a", b"b"], 2).unwrap();
    assert!(matches!(resolve(&generation, &[b"a", b"c"], 2), Err(Error::Limit { what: "series", .. })));
    assert_eq!(generation.series_count(), 2, "a refused batch leaves nothing behind");
    assert_eq!(resolve(&generation, &[b"b"], 2).unwrap().0, [1]);
}

#[test]
fn an_ordinal_stands_for_one_key() {
    let generation = Generation::new(1);
    // Replay: later ordinals may come first, and some never come.
    define(&generation, 5, b"f").unwrap();
    define(&generation, 2, b"c").unwrap();
    define(&generation, 2, b"c").unwrap();
    assert!(define(&generation, 2, b"other").is_err());
    let table = generation.table(TABLE);
    let defined: Vec<u32> = (0..8).filter(|ordinal| table.find_undefined(&[*ordinal]).is_none()).collect();
    assert_eq!(defined, [2, 5]);
    assert_eq!(table.find_undefined(&[2, 5, 2]), None);
    assert_eq!(table.find_undefined(&[2, 4, 5]), Some(4));
    for ordinal in [0, 1, 3, 4] {
        define(&generation, ordinal, &[ordinal as u8]).unwrap();
    }
    assert_eq!(table.find_undefined(&[0, 1, 2, 3, 4, 5]), None);
    assert_eq!(table.find_undefined(&[0, 6]), Some(6));
}

#[test]
fn keys_are_in_order_whenever_they_came() {
    let generation = Generation::new(1);
    let order = || {
        let order = generation.table(TABLE).key_order();
        order.sorted.iter().map(|(key, ordinal)| (key.to_vec(), *ordinal)).collect::<Vec<_>>()
    };
    assert!(order().is_empty());
    resolve(&generation, &[b"m", b"z", b""], 99).unwrap();
    assert_eq!(order(), [(b"".to_vec(), 2), (b"m".to_vec(), 0), (b"z".to_vec(), 1)]);
    resolve(&generation, &[b"a", b"n"], 99).unwrap();
    let keys: Vec<Vec<u8>> = order().into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, [&b""[..], b"a", b"m", b"n", b"z"]);
    // A hole that replay fills later is not forgotten.
    define(&generation, 9, b"q").unwrap();
    assert_eq!(order().len(), 6);
    define(&generation, 7, b"c").unwrap();
    assert_eq!(order().len(), 7);
    assert!(order().is_sorted());
}

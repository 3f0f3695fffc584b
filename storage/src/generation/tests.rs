//! Ordinals: given once, carried until durable, bounded.

mod memory;
mod model;
mod replayed;

use super::*;
use crate::batch::SeriesDefinitions;
use crate::series::fingerprint;

const TABLE: TableId = TableId(1);

/// Ordinals and undefined positions of a batch whose fate stays open.
fn resolve(generation: &Arc<Generation>, keys: &[&[u8]], series_max: usize) -> Result<(Vec<u32>, Vec<u32>)> {
    let (staged, ordinals, undefined) = stage(generation, keys, series_max)?;
    std::mem::forget(staged);
    Ok((ordinals, undefined))
}

fn stage(generation: &Arc<Generation>, keys: &[&[u8]], series_max: usize) -> Result<(Staged, Vec<u32>, Vec<u32>)> {
    stage_within(generation, keys, series_max, u64::MAX)
}

fn stage_within(
    generation: &Arc<Generation>,
    keys: &[&[u8]],
    table_series_max: usize,
    database_series_max: u64,
) -> Result<(Staged, Vec<u32>, Vec<u32>)> {
    let fingerprints: Vec<u128> = keys.iter().map(|key| fingerprint(7, TABLE, key)).collect();
    let table = generation.table(TABLE);
    let limits = SchemaLimits { table_series_max, database_series_max, ..SchemaLimits::default() };
    let series = new_series(&table, keys, &fingerprints);
    let (staged, mut found) = generation.stage((DatabaseId(1), "main"), &[series], &limits)?;
    let found = found.remove(0);
    Ok((staged, found.ordinals, found.undefined))
}

fn new_series<'a>(table: &'a Arc<SeriesTable>, keys: &'a [&'a [u8]], fingerprints: &'a [u128]) -> NewSeries<'a> {
    NewSeries { series: table, name: "cpu", keys, fingerprints, stored: &[] }
}

fn define(generation: &Generation, ordinal: u32, key: &[u8]) -> Result<(), String> {
    let mut definition = SeriesDefinitions::new(TABLE);
    definition.push(ordinal, key);
    generation.table(TABLE).define(&definition, |key| fingerprint(7, TABLE, key))
}

#[test]
fn a_definition_is_carried_until_it_is_durable() {
    let generation = Arc::new(Generation::new(1));
    assert_eq!(resolve(&generation, &[b"a", b"b"], 9).unwrap(), (vec![0, 1], vec![0, 1]));
    // Resolved again before the first batch was applied: the second one must explain itself too.
    assert_eq!(resolve(&generation, &[b"b", b"c"], 9).unwrap(), (vec![1, 2], vec![0, 1]));
    define(&generation, 1, b"b").unwrap();
    assert_eq!(resolve(&generation, &[b"a", b"b", b"c"], 9).unwrap(), (vec![0, 1, 2], vec![0, 2]));
    assert_eq!(generation.series_count(), 3);
    // Another generation knows none of it.
    assert_eq!(resolve(&Arc::new(Generation::new(2)), &[b"b"], 9).unwrap(), (vec![0], vec![0]));
}

#[test]
fn a_key_that_occurs_twice_gets_one_ordinal() {
    let generation = Arc::new(Generation::new(1));
    let (ordinals, _) = resolve(&generation, &[b"a", b"a", b""], 9).unwrap();
    assert_eq!(ordinals, [0, 0, 1]);
    assert_eq!(generation.series_count(), 2);
}

#[test]
fn a_table_that_is_full_takes_known_series_only() {
    let generation = Arc::new(Generation::new(1));
    resolve(&generation, &[b"a", b"b"], 2).unwrap();
    assert!(matches!(resolve(&generation, &[b"a", b"c"], 2), Err(Error::Limit { what: "series", .. })));
    assert_eq!(generation.series_count(), 2, "a refused batch leaves nothing behind");
    assert_eq!(resolve(&generation, &[b"b"], 2).unwrap().0, [1]);
}

#[test]
fn series_that_only_refused_batches_named_leave() {
    let generation = Arc::new(Generation::new(1));
    let order = || generation.table(TABLE).key_order().sorted.clone();
    let (first, ordinals, _) = stage(&generation, &[b"a", b"b", b"b"], 3).unwrap();
    assert_eq!(ordinals, [0, 1, 1]);
    // Another batch names one of them before the fate of the first is known.
    let (second, ordinals, undefined) = stage(&generation, &[b"c", b"b"], 3).unwrap();
    assert_eq!((ordinals, undefined), (vec![2, 1], vec![0, 1]));
    assert!(stage(&generation, &[b"d"], 3).is_err());
    drop(first);
    assert_eq!(generation.series_count(), 2, "`a` left, `b` is claimed by the second");
    let (third, ordinals, _) = stage(&generation, &[b"d"], 3).unwrap();
    assert_eq!(ordinals, [3], "an ordinal in the middle is not given again");
    assert!(generation.table(TABLE).find_undefined(&[0]).is_some());
    // What the log has stays, whatever becomes of others that named it.
    define(&generation, 1, b"b").unwrap();
    define(&generation, 2, b"c").unwrap();
    drop(second);
    drop(third);
    assert_eq!(generation.series_count(), 2);
    assert_eq!(
        resolve(&generation, &[b"b", b"c", b"e"], 3).unwrap(),
        (vec![1, 2, 3], vec![2]),
        "the last is given again"
    );
    assert_eq!(order(), [1, 2, 3]);
    // Behind an order of keys that knows it an ordinal is not given again, and the order is kept whole.
    let (fourth, ordinals, _) = stage(&generation, &[b"f"], 9).unwrap();
    assert_eq!((ordinals, order()), (vec![4], vec![1, 2, 3, 4]));
    drop(fourth);
    assert_eq!(resolve(&generation, &[b"0"], 9).unwrap().0, [5]);
    assert_eq!(order().first(), Some(&5));
}

#[test]
fn a_limit_names_who_is_full_and_by_how_much() {
    #[track_caller]
    fn check(result: Result<(Staged, Vec<u32>, Vec<u32>)>, want: &str) {
        let error = result.map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    }
    let generation = Arc::new(Generation::new(1));
    let _known = stage(&generation, &[b"a", b"b"], 3).unwrap();
    check(
        stage(&generation, &[b"c", b"d", b"a"], 3),
        "table \"cpu\" has 2 series since the last cut, 2 more are new, 3 are",
    );
    check(
        stage_within(&generation, &[b"c", b"d", b"e"], 9, 4),
        "database \"main\" has 2 series since the last cut, 3 more are new, 4",
    );
    assert_eq!(generation.series_count(), 2, "a refused batch leaves nothing behind");
}

/// Or the log would have a batch that nobody reads.
#[test]
fn no_ordinal_is_given_that_a_batch_cannot_have() {
    let generation = Arc::new(Generation::new(1));
    let table = generation.table(TABLE);
    let (series, limits) = (new_series(&table, &[], &[]), SchemaLimits::default());
    let check = |new: usize| {
        let missing = Missing { known: 1, ordinals: ORDINALS_MAX as usize - 1, new, stored: 1 - new, key_bytes: 9 };
        generation.check_limits(("main", 1), std::slice::from_ref(&series), &[missing], &limits)
    };
    assert!(check(1).is_ok() && check(0).is_ok());
    define(&generation, 0, b"a").unwrap();
    let (staged, _, _) = stage(&generation, &[b"b"], 9).unwrap();
    let missing =
        table.count_missing(&new_series(&table, &[b"c"], &[7]), &Found { missing: vec![0], ..Found::default() });
    assert_eq!((missing.known, missing.ordinals, missing.new), (2, 2, 1));
    drop(staged);
    let one_more = Missing { ordinals: ORDINALS_MAX as usize, ..missing };
    let full = generation.check_limits(("main", 1), &[series], &[one_more], &limits).unwrap_err();
    assert!(full.error.to_string().contains("67108865"), "{}", full.error);
}

#[test]
fn an_ordinal_stands_for_one_key() {
    let generation = Arc::new(Generation::new(1));
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
    let generation = Arc::new(Generation::new(1));
    let order = || {
        let order = generation.table(TABLE).key_order();
        let key = |ordinal| order.key(ordinal, &mut Vec::new()).unwrap().to_vec();
        order.sorted.iter().map(|ordinal| (key(*ordinal), *ordinal)).collect::<Vec<_>>()
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

//! What replay holds of series: about what was held of them while they came, whatever refused batches had named before.

use super::*;
use crate::schema::ColumnId;
use crate::series::encode_key;

/// Live series, and what a log has of them.
struct Store {
    live: Arc<Generation>,
    logged: Generation,
}

impl Store {
    fn new() -> Self {
        Self { live: Arc::new(Generation::new(1)), logged: Generation::new(1) }
    }

    fn refuse(&self, keys: &[Vec<u8>]) {
        let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        drop(stage(&self.live, &keys, usize::MAX).unwrap());
    }

    fn accept(&self, keys: &[Vec<u8>]) {
        let slices: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        let (staged, ordinals, _) = stage(&self.live, &slices, usize::MAX).unwrap();
        let mut definitions = SeriesDefinitions::new(TABLE);
        ordinals.iter().zip(keys).for_each(|(ordinal, key)| definitions.push(*ordinal, key));
        for generation in [&*self.live, &self.logged] {
            generation.table(TABLE).define(&definitions, |key| fingerprint(7, TABLE, key)).unwrap();
        }
        drop(staged);
    }

    #[track_caller]
    fn check(&self, percent_max: u64) {
        let (live, replayed) = (self.live.bytes(), self.logged.bytes());
        assert!(replayed * 100 <= live * percent_max, "{replayed} bytes after a replay, {live} before");
        let (mut of_live, mut of_log) = (Vec::new(), Vec::new());
        let (live, replayed) = (self.live.table(TABLE).key_order(), self.logged.table(TABLE).key_order());
        assert_eq!(live.sorted.len(), replayed.sorted.len());
        for (live_ordinal, ordinal) in live.sorted.iter().zip(&replayed.sorted).step_by(7) {
            assert_eq!(live.key(*live_ordinal, &mut of_live), replayed.key(*ordinal, &mut of_log));
        }
    }
}

fn key(tags: impl IntoIterator<Item = (u32, String)>) -> Vec<u8> {
    let mut key = Vec::new();
    let tags: Vec<(u32, String)> = tags.into_iter().collect();
    encode_key(tags.iter().map(|(column, value)| (ColumnId(*column), value.as_bytes())), &mut key);
    key
}

fn long(what: &str) -> String {
    format!("{what} {}", "x".repeat(4_000))
}

/// Series that share one long tag.
fn series_of(shared: &str, numbers: std::ops::Range<u32>) -> Vec<Vec<u8>> {
    numbers.map(|number| key([(16, shared.to_owned()), (17, format!("{number}"))])).collect()
}

#[test]
fn a_tag_that_a_refused_batch_brought_is_packed_in_replay_too() {
    let (store, shared) = (Store::new(), long("shared"));
    store.refuse(&series_of(&shared, 0..2));
    // Long tags that two series have fill the dictionary.
    for number in 0..2_200 {
        store.accept(&series_of(&long(&format!("{number}")), 0..2));
    }
    store.accept(&series_of(&shared, 0..5_000));
    store.check(110);
}

#[test]
fn short_tags_of_the_log_that_fill_the_dictionary_keep_no_other_out() {
    const COLUMNS: u32 = 30;
    let (store, shared) = (Store::new(), long("shared"));
    store.refuse(&series_of(&shared, 0..2));
    let short = |number: u32| {
        let tags = (0..COLUMNS).map(|column| (18 + column, format!("{:06}", number / 2 * COLUMNS + column)));
        key(tags.chain([(99, format!("{}", number % 2))]))
    };
    // More than have a number of three bytes.
    for start in (0..75_000).step_by(5_000) {
        store.accept(&(start..start + 5_000).map(short).collect::<Vec<_>>());
    }
    store.accept(&series_of(&shared, 0..20_000));
    // Tags that only two series have take less in their keys.
    store.check(200);
}

#[test]
fn columns_of_the_log_that_fill_the_list_keep_no_tag_out() {
    let (store, shared) = (Store::new(), long("shared"));
    let of_one = |number: u32| key([(20, format!("own {number}")), (21, shared.clone())]);
    store.refuse(&(0..2).map(of_one).collect::<Vec<_>>());
    store.accept(&[key((100..200).map(|column| (column, format!("of column {column}"))))]);
    store.accept(&(0..5_000).map(of_one).collect::<Vec<_>>());
    store.check(150);
}

/// Otherwise the log would have them, and a replay no place.
#[test]
fn keys_are_refused_that_replay_may_have_no_place_for() {
    let store = Store::new();
    let table = store.live.table(TABLE);
    let bytes_max = || table.count_missing(&new_series(&table, &[], &[]), &Found::default()).key_bytes;
    let keys = series_of("short", 0..3);
    store.accept(&keys);
    // The shared tag as it is, then by a number of four bytes; the own ones of a column that is not in a list.
    let own = 2 + (4 + 1 + 2);
    let first = (2 + (4 + 5 + 2) + own).min(1 + keys[0].len()) + 1;
    assert_eq!(bytes_max(), first as u64 + 2 * (4 + own + 1) as u64);
    store.refuse(&series_of("short", 3..900));
    assert_eq!(bytes_max(), first as u64 + 2 * (4 + own + 1) as u64, "what left has no part");
}

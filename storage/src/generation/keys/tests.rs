//! Packed keys against the keys themselves.

use proptest::prelude::*;

use super::*;
use crate::schema::ColumnId;
use crate::series::encode_key;

/// Tags that many keys have, tags of one key, empty ones, escapes, lengths around those that are written differently.
fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => prop::sample::select(vec!["eu-central-1", "x64", "a", "the value of a tag that is longer than others"])
            .prop_map(|value| value.as_bytes().to_vec()),
        4 => "[a-z]{1,12}".prop_map(String::into_bytes),
        2 => prop::collection::vec(0..3_u8, 0..6),
        1 => (250..260_usize).prop_map(|length| vec![b'y'; length]),
        1 => (65_530..65_540_usize).prop_map(|length| vec![b'z'; length]),
    ]
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    let tags = prop::collection::btree_map(prop_oneof![9 => 16..22_u32, 1 => 16..80_u32], value(), 0..6);
    let well_formed = tags.prop_map(|tags| {
        let mut key = Vec::new();
        encode_key(tags.iter().map(|(column, value)| (ColumnId(*column), value.as_slice())), &mut key);
        key
    });
    let well_formed = well_formed.boxed();
    let any = prop::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(255), any::<u8>()], 0..40);
    // A key, cut or with something behind it.
    let torn = (well_formed.clone(), any.clone(), 0..40_usize).prop_map(|(mut key, behind, cut)| {
        key.truncate(key.len() - cut.min(key.len()));
        key.extend(behind);
        key
    });
    prop_oneof![6 => well_formed, 1 => any, 1 => torn]
}

#[derive(Clone, Debug)]
enum Step {
    Push(Option<Vec<u8>>),
    Set(prop::sample::Index, Vec<u8>),
    Pop,
    Snapshot,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        16 => prop::option::weighted(0.9, key()).prop_map(Step::Push),
        1 => (any::<prop::sample::Index>(), key()).prop_map(|(at, key)| Step::Set(at, key)),
        2 => Just(Step::Pop),
        1 => Just(Step::Snapshot),
    ];
    prop::collection::vec(step, 1..120)
}

fn check(keys: &Keys, model: &[Option<Vec<u8>>]) -> std::result::Result<(), TestCaseError> {
    prop_assert_eq!(keys.len(), model.len());
    let mut scratch = Vec::new();
    for (ordinal, key) in (0..).zip(model) {
        prop_assert_eq!(keys.get(ordinal, &mut scratch), key.as_deref(), "ordinal {}", ordinal);
        prop_assert_eq!(keys.has(ordinal), key.is_some());
        let own = key.as_deref().unwrap_or_default();
        for other in model.iter().rev().take(5).flatten() {
            prop_assert_eq!(keys.compare(ordinal, other), own.cmp(other));
            let same = own.iter().zip(other).take_while(|(byte, other)| byte == other).count();
            for from in [0, same / 2, same] {
                prop_assert_eq!(keys.common(ordinal, from, &other[from..]), same - from);
                let mut head = [0; 7];
                let count = keys.read(ordinal, from, &mut head);
                let mut want = own[from..].to_vec();
                prop_assert_eq!(count, want.len().min(8));
                want.resize(7, 0);
                prop_assert_eq!(&head[..], &want[..7]);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn keys_come_back_byte_for_byte_and_snapshots_stay(steps in steps()) {
        let (mut keys, mut dictionary, mut model) = (Keys::default(), Dictionary::default(), Vec::new());
        let mut snapshots = Vec::new();
        for (step, fingerprint) in steps.into_iter().zip(1_u128..) {
            match step {
                Step::Push(key) => {
                    let bound = keys.replayed_with(1, key.as_deref().map_or(0, <[u8]>::len));
                    prop_assert!(keys.push(key.as_deref().map(|key| (key, fingerprint)), &mut dictionary));
                    prop_assert!(keys.replayed_with(0, 0) <= bound);
                    model.push(key);
                }
                Step::Set(at, key) if !model.is_empty() => {
                    let at = at.index(model.len());
                    prop_assert!(keys.set(at as u32, (&key, fingerprint), &mut dictionary));
                    model[at] = Some(key);
                }
                Step::Set(..) => {}
                Step::Pop => {
                    keys.pop();
                    model.pop();
                }
                Step::Snapshot => snapshots.push((keys.clone(), model.clone())),
            }
        }
        check(&keys, &model)?;
        for (keys, model) in &snapshots {
            check(keys, model)?;
        }
    }
}

#[test]
fn tags_that_keys_share_take_a_byte_or_two() {
    let (mut keys, mut dictionary, mut scratch) = (Keys::default(), Dictionary::default(), Vec::new());
    let make = |host: u32| {
        let values = [format!("host_{host:06}"), format!("eu-central-1{}", host % 3), format!("rack {}", host % 300)];
        let mut key = Vec::new();
        encode_key((16..).map(ColumnId).zip(values.iter().map(String::as_bytes)), &mut key);
        key
    };
    for host in 0..20_000_u32 {
        let fingerprint = u128::from(host.wrapping_mul(0x9e37_79b9) >> 9);
        assert!(keys.push(Some((&make(host), fingerprint)), &mut dictionary));
    }
    // 13 for the host, 1 and 2 for the others, 1 for the length.
    let each = (keys.packed.used_with(0, 0) as f64) / 20_000.0;
    assert!((17.0..18.5).contains(&each), "{each} bytes a key");
    assert!((0..20_000).all(|host| keys.get(host, &mut scratch) == Some(&make(host))));
}

#[test]
fn a_table_of_many_columns_keeps_its_keys() {
    let (mut keys, mut dictionary, mut scratch) = (Keys::default(), Dictionary::default(), Vec::new());
    let make = |number: u32| {
        let values: Vec<String> = (0..100).map(|column| format!("{column} of {}", number / 2)).collect();
        let mut key = Vec::new();
        encode_key((16..).map(ColumnId).zip(values.iter().map(String::as_bytes)), &mut key);
        key
    };
    for number in 0..50 {
        assert!(keys.push(Some((&make(number), u128::from(number) + 1)), &mut dictionary));
    }
    assert_eq!(keys.columns.len(), COLUMNS_MAX);
    assert!((0..50).all(|number| keys.get(number, &mut scratch) == Some(&make(number))));
}

#[test]
fn a_full_dictionary_leaves_tags_in_their_keys() {
    let (mut keys, mut dictionary, mut scratch) = (Keys::default(), Dictionary::default(), Vec::new());
    let make = |number: u32| {
        let mut key = Vec::new();
        let host = format!("host {:09}", number / 2);
        encode_key([(ColumnId(16), host.as_bytes()), (ColumnId(17), [b'a' + (number % 2) as u8].as_slice())], &mut key);
        key
    };
    const KEYS: u32 = 2_000_000;
    for number in 0..KEYS {
        assert!(keys.push(Some((&make(number), u128::from(number) + 1)), &mut dictionary));
    }
    let (tags, all) = (keys.tags.bytes() + dictionary.bytes(), keys.bytes() + dictionary.bytes());
    assert!((12 << 20..16 << 20).contains(&tags), "{tags} bytes of tags");
    // As it is a key has 27 bytes, and five for its place and length.
    assert!(all < (KEYS as usize) * 28, "{} bytes a key", all as f64 / f64::from(KEYS));
    assert!((0..KEYS).rev().step_by(97).all(|number| keys.get(number, &mut scratch) == Some(&make(number))));
}

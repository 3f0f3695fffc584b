//! Deletes as bytes, and what they leave of a series.

mod room;
mod touched;

use proptest::prelude::*;

use super::*;
use crate::series;

const TAG: ColumnId = ColumnId(16);
const FIELD: ColumnId = ColumnId(17);

fn key(host: &str) -> Vec<u8> {
    let mut key = Vec::new();
    series::encode_key([(TAG, host.as_bytes())], &mut key);
    key
}

fn memory() -> Arc<Accountant> {
    Accountant::unlimited()
}

fn delete(erase: Erase) -> Delete {
    Delete {
        table: TableId(3),
        at_ns: 5,
        erase: Arc::new(erase),
        tags: vec![TAG],
        statement: "DELETE FROM t".to_owned(),
    }
}

fn compare(column: ColumnId, op: Comparison, value: Literal) -> Predicate {
    Predicate::Compare { column, op, value }
}

fn host_before(host: &str, before: i64) -> Predicate {
    Predicate::All(vec![
        compare(TAG, Comparison::Equal, Literal::String(host.to_owned())),
        compare(ColumnId::TIME, Comparison::Less, Literal::I64(before)),
    ])
}

#[test]
fn deletes_of_several_kinds_add_up() {
    let mut keys = KeyList::default();
    for at in [70, 60, 70] {
        keys.push(&key("a"), at).unwrap();
    }
    let keys = keys.finish();
    assert_eq!(keys.len(), 2, "a key counts once");
    let judged = compare(FIELD, Comparison::Greater, Literal::I64(9));
    let tombstones: Vec<_> = [Erase::Where(host_before("a", 10)), Erase::Keys(keys), Erase::Where(judged.clone())]
        .into_iter()
        .zip(1..)
        .map(|(erase, sequence)| Arc::new(Tombstone::new(sequence, delete(erase), &memory())))
        .collect();
    let of_a = fate(&tombstones, &key("a"));
    assert_eq!(of_a.gone, Instants::of([(i64::MIN, 9), (60, 60), (70, 70)]));
    assert_eq!(of_a.judges, std::slice::from_ref(&judged));
    let of_b = fate(&tombstones, &key("b"));
    assert_eq!((of_b.gone.is_empty(), of_b.judges), (true, vec![judged]));
    assert!(fate(&tombstones[..2], &key("b")).is_spared());
    assert!(tombstones[0].meets(9, 20) && !tombstones[0].meets(10, 20), "it reaches as far as its times do");
    assert!(tombstones[1].meets(0, 60) && !tombstones[1].meets(71, 80));
}

#[test]
fn a_segment_needs_what_is_newer_and_meets_it() {
    let mut tombstones = Tombstones::default();
    for (sequence, before) in [(5, 10), (9, 100)] {
        tombstones.push(Tombstone::new(sequence, delete(Erase::Where(host_before("a", before))), &memory()));
    }
    let pending = tombstones.of(TableId(3));
    let needs = |erased_through, first, last| -> Vec<u64> {
        let needed = Tombstones::for_segment(&pending, erased_through, first, last);
        needed.iter().map(|tombstone| tombstone.sequence).collect()
    };
    assert_eq!(needs(4, 0, 50), [5, 9]);
    assert_eq!(needs(5, 0, 50), [9]);
    assert_eq!(needs(4, 10, 50), [9]);
    assert_eq!(needs(9, 0, 50), [0; 0]);
    assert_eq!(needs(0, 100, 200), [0; 0]);
}

/// In WAL batches and manifests on users' disks. If this fails, add a form; leave these bytes alone.
#[test]
fn format_1_bytes_are_pinned() {
    let mut bytes = Vec::new();
    delete(Erase::Where(host_before("a", 258))).encode(&mut bytes);
    let head =
        [&[3, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 16, 0, 0, 0, 13, 0, 0, 0][..], b"DELETE FROM t"].concat();
    let mut want = [&head[..], &[1, 6, 2, 0, 0, 0]].concat();
    want.extend_from_slice(&[2, 16, 0, 0, 0, 1, 5, 1, 0, 0, 0, b'a']);
    want.extend_from_slice(&[2, 0, 0, 0, 0, 3, 1, 2, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes, want);
    let mut keys = KeyList::default();
    keys.push(b"k", 7).unwrap();
    bytes.clear();
    delete(Erase::Keys(keys.finish())).encode(&mut bytes);
    let mut want = [&head[..], &[2, 1, 0, 0, 0, 1, 0, 0, 0, 9, 0, 0, 0, 0, 9, 0, 0, 0]].concat();
    want.extend_from_slice(&[1, 0, 0, 0, b'k', 1, 0, 0, 0]);
    let rest = bytes.split_off(want.len());
    assert_eq!(bytes, want);
    let column = crate::codec::decode_column(&mut rest.as_slice(), crate::schema::FieldType::I64, 1).unwrap();
    assert_eq!(column, crate::values::Values::I64(vec![7]), "the times, as a column");
}

/// What a list takes its decoder takes, up to the last byte, in the log and in a manifest.
#[test]
fn as_many_bytes_of_keys_as_a_decoder_takes() {
    let mut list = KeyList::default();
    let long = |at: u32| [&at.to_be_bytes()[..], &vec![b'k'; (1 << 20) - 12]].concat();
    for at in 0..256 {
        list.push(&long(at), 7).unwrap();
    }
    let refused = list.push(b"", 7).unwrap_err();
    assert!(matches!(refused, crate::error::Error::Limit { what: "delete", .. }), "{refused:?}");
    assert!(refused.to_string().contains(&KEYS_BYTES_MAX.to_string()), "{refused}");
    list.push(&long(3), 8).unwrap();
    let delete = delete(Erase::Keys(list.finish()));
    let mut bytes = Vec::new();
    delete.encode(&mut bytes);
    assert!(bytes.len() < 1 << 20, "{} bytes", bytes.len());
    assert_eq!(Delete::decode(&bytes).map(|again| again.erase.memory_bytes()), Ok(delete.erase.memory_bytes()));
}

/// Longer lists are packed piece by piece, shorter ones at once; what they mean is the same.
#[test]
fn lists_of_any_length_are_read_again() {
    for series in [10, 20_000, 60_000] {
        let mut list = KeyList::default();
        for at in 0..series {
            list.push(&key(&format!("host-{at}-{}", at * 7919 % 65_537)), i64::from(at) * 3).unwrap();
            list.push(&key(&format!("host-{at}-{}", at * 7919 % 65_537)), 1).unwrap();
        }
        let delete = delete(Erase::Keys(list.finish()));
        let mut bytes = Vec::new();
        delete.encode(&mut bytes);
        assert_eq!(Delete::decode(&bytes), Ok(delete), "{series} series in {} bytes", bytes.len());
    }
}

proptest! {
    #[test]
    fn decode_undoes_encode(keys in proptest::collection::vec(("[a-c]{1,3}", -9_i64..9), 0..40), at_ns: i64, text in ".{0,40}") {
        let mut list = KeyList::default();
        for (host, time) in &keys {
            list.push(&key(host), *time).unwrap();
        }
        let mut of_keys = delete(Erase::Keys(list.finish()));
        (of_keys.at_ns, of_keys.statement) = (at_ns, text);
        let mut tombstones = Tombstones::default();
        tombstones.push(Tombstone::new(1, of_keys.clone(), &memory()));
        tombstones.push(Tombstone::new(4, delete(Erase::Where(host_before("x", at_ns))), &memory()));
        let bytes = tombstones.encode();
        let again = Tombstones::decode(&bytes, &memory()).unwrap();
        prop_assert_eq!(again.all().next().map(|found| found.delete.clone()), Some(of_keys));
        prop_assert_eq!(again.encode(), bytes.clone());
        prop_assert_eq!(again.bytes(), tombstones.bytes());
        for length in 0..bytes.len() {
            drop(Tombstones::decode(&bytes[..length], &memory()));
        }
    }

    #[test]
    fn decoders_of_garbage_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
        drop(Delete::decode(&bytes));
        drop(Tombstones::decode(&bytes, &memory()));
        drop(KeyList::decode(&mut Reader::new(&bytes)));
    }
}

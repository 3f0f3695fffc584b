//! The bytes of the manifest: pinned, and decoded to what was encoded.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::tests::{cut, segment};
use super::*;
use crate::schema::TableId;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Format 1 is on users' disks. If this fails, add a format; leave these bytes alone.
#[test]
fn format_1_bytes_are_pinned() {
    let mut added = segment(FileId { epoch: 1, counter: 2 }, 3, 4, (5, 6));
    added.sidecars.push(Sidecar { aggregate: 9, file: added.file, offset: 1, bytes: 2, hash: 3 });
    let (removed, cut_7) = (vec![(added.file, 8)], Some(cut(7)));
    let change = Change { added: vec![added.clone()], removed, cut: cut_7, ..Change::default() };
    let edit = Edit { number: 1, id: 0x0102, previous: 0, epoch: 1, change };
    assert_eq!(hex(&edit.encode(0xdb)), EDIT_1);
    let mut state = State::new(0xdb, 0x5eed);
    (state.epoch, state.last_edit, state.last_edit_id, state.cut) = (1, 1, 0x0102, Arc::new(cut(7)));
    state.fill(vec![added]).unwrap();
    assert_eq!(hex(&checkpoint::encode(&state)), CHECKPOINT_1);
}

const EDIT_1: &str = concat!(
    "4d47524d45444954010000000000000000000000000000000000000000000000db000000000000000000000000000000",
    "01000000000000000100000000000000000000000000000023010000000000002e6404a9010001002000000000000000",
    "020100000000000000000000000000000000000000000000000000000000000002000100980000000000000001000000",
    "04000000000000000000000001000000020000002c010000000000006400000000000000070000000000000003000000",
    "000000000a0000000000000005000000000000000600000000000000fbffffffffffffff050000000000000000000000",
    "000000000100000009000000010000000200000001000000000000000200000000000000030000000000000000000000",
    "000000000300010014000000000000000100000001000000020000000800000000000000040001002700000000000000",
    "07000000000000000c000000636174616c6f672061742037010000000100000000020000000203d814510f377ad6f1c4",
    "1ba99e512179e5",
);
const CHECKPOINT_1: &str = concat!(
    "4d47524d434b5054010000000000000000000000000000000000000000000000db000000000000000000000000000000",
    "010000000000000001000000000000000000000000000000fb00000000000000f6045d41010001001800000000000000",
    "02010000000000000000000000000000ed5e000000000000020001009800000000000000010000000400000000000000",
    "0000000001000000020000002c010000000000006400000000000000070000000000000003000000000000000a000000",
    "0000000005000000000000000600000000000000fbffffffffffffff0500000000000000000000000000000001000000",
    "090000000100000002000000010000000000000002000000000000000300000000000000000000000000000004000100",
    "270000000000000007000000000000000c000000636174616c6f67206174203701000000010000000002000000020393",
    "4d8c0d814b690b0f7fea67db8fb919",
);

/// The section that says that a log was begun. As above.
#[test]
fn format_1_bytes_of_a_begun_log_are_pinned() {
    let change = Change { log_begun: true, ..Change::default() };
    let edit = Edit { number: 2, id: 3, previous: 0x0102, epoch: 4, change };
    let body = hex(&edit.encode(0xdb)[84..]);
    assert!(body.contains("080001000000000000000000"), "section 8, required, empty: {body}");
    let mut state = State::new(0xdb, 0x5eed);
    (state.epoch, state.log_epoch) = (4, 4);
    let body = hex(&checkpoint::encode(&state)[84..]);
    assert!(body.contains("08000100040000000000000004000000"), "section 8, required, four bytes: {body}");
}

/// The section of marks. As above.
#[test]
fn format_1_bytes_of_marks_are_pinned() {
    let file = FileId { epoch: 1, counter: 2 };
    let marks = Marks { erased_through: 9, suspects: None, encoding: Encoding::Cold };
    let change = Change { marked: vec![((file, 8), marks)], ..Change::default() };
    let edit = Edit { number: 2, id: 3, previous: 0x0102, epoch: 4, change };
    let body = hex(&edit.encode(0xdb)[84..]);
    let want = concat!(
        "090001002500000000000000",
        "01000000",
        "01000000020000000800000000000000",
        "0900000000000000",
        "ffffffffffffffff",
        "01"
    );
    assert!(body.contains(want), "section 9, required: {body}");
}

/// The section of erasures. As above.
#[test]
fn format_1_bytes_of_erasures_are_pinned() {
    let ended = Erasure { sequence: 5, table: TableId(7), at_ns: -2, erased_ns: Some(258) };
    let erasures = vec![ended, Erasure { table: TableId(8), erased_ns: None, ..ended }];
    let want = concat!(
        "0a0001003c00000000000000",
        "02000000",
        "050000000000000007000000feffffffffffffff0201000000000000",
        "050000000000000008000000feffffffffffffff0000000000000000",
    );
    let change = Change { erasures: erasures.clone(), ..Change::default() };
    let edit = Edit { number: 2, id: 3, previous: 0x0102, epoch: 4, change };
    let body = hex(&edit.encode(0xdb)[84..]);
    assert!(body.contains(want), "section 10, required: {body}");
    let mut state = State::new(0xdb, 0x5eed);
    state.erasures =
        Arc::new(erasures.into_iter().map(|erasure| ((erasure.sequence, erasure.table), erasure)).collect());
    let body = hex(&checkpoint::encode(&state)[84..]);
    assert!(body.contains(want), "the same in a checkpoint: {body}");
}

fn any_erasures() -> impl Strategy<Value = Vec<Erasure>> {
    let erasure = (any::<i64>(), any::<i64>());
    proptest::collection::btree_map(any::<(u64, u32)>(), erasure, 0..4).prop_map(|found| {
        let erasure = |((sequence, table), (at_ns, erased)): ((u64, u32), (i64, i64))| {
            let erased_ns = Some(erased).filter(|at| *at % 3 != 0);
            Erasure { sequence, table: TableId(table), at_ns, erased_ns }
        };
        found.into_iter().map(erasure).collect()
    })
}

fn any_marks() -> impl Strategy<Value = Marks> {
    let encoding = prop_oneof![Just(Encoding::Hot), Just(Encoding::Cold)];
    (any::<u64>(), proptest::option::of(0..u64::MAX), encoding).prop_map(|(erased_through, suspects, encoding)| Marks {
        erased_through,
        suspects,
        encoding,
    })
}

fn any_segment() -> impl Strategy<Value = SegmentEntry> {
    let numbers = (any::<u32>(), any::<i64>(), any::<u32>(), any::<u32>(), 0..1_u64 << 62, 1..1_u64 << 62);
    let more = (any::<u128>(), 1..u64::MAX, any::<(u64, u64)>(), any::<(i64, i64)>(), any::<u16>(), any::<u32>());
    let sidecar = (any::<u32>(), any::<u32>(), any::<(u64, u64)>(), any::<u128>());
    (numbers, more, proptest::collection::vec(sidecar, 0..3), any_marks()).prop_map(|(a, b, sidecars, marks)| {
        let file = FileId { epoch: a.2, counter: a.3 };
        let sidecar = |(aggregate, counter, (offset, bytes), hash)| {
            let file = FileId { epoch: 0, counter };
            Sidecar { aggregate, file, offset, bytes, hash }
        };
        SegmentEntry {
            table: TableId(a.0),
            partition_start: a.1,
            file,
            offset: a.4,
            bytes: a.5,
            hash: b.0,
            rows: b.1,
            sequence_min: b.2.0.min(b.2.1),
            sequence_max: b.2.0.max(b.2.1),
            time_min: b.3.0.min(b.3.1),
            time_max: b.3.0.max(b.3.1),
            shard: b.4,
            key: b.5,
            sidecars: sidecars.into_iter().map(sidecar).collect(),
            marks,
        }
    })
}

fn any_cut() -> impl Strategy<Value = Cut> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..20);
    (any::<u64>(), bytes(), bytes(), bytes(), bytes()).prop_map(|(sequence, catalog, positions, tombstones, floors)| {
        Cut { sequence, catalog, positions, tombstones, floors }
    })
}

proptest! {
    #[test]
    fn decode_undoes_encode_for_edits(
        ids in any::<(u128, u128, u128, u32)>(),
        number in 1..u64::MAX / 2,
        added in proptest::collection::vec(any_segment(), 0..4),
        removed in proptest::collection::vec(any::<(u32, u32, u64)>(), 0..4),
        cut in proptest::option::of(any_cut()),
        log_begun: bool,
        marked in proptest::collection::vec((any::<u32>(), any::<u64>(), any_marks()), 0..4),
        erasures in any_erasures(),
    ) {
        let removed = removed.into_iter().map(|(epoch, counter, offset)| (FileId { epoch, counter }, offset)).collect();
        let (id, previous, database_id, epoch) = ids;
        let added = Vec::from_iter(
            added.into_iter().map(|segment: SegmentEntry| (segment.id(), segment)).collect::<BTreeMap<_, _>>().into_values(),
        );
        let marked: BTreeMap<SegmentId, Marks> =
            marked.into_iter().map(|(epoch, offset, marks)| ((FileId { epoch, counter: 1 }, offset), marks)).collect();
        let marked = marked.into_iter().filter(|(id, _)| added.iter().all(|segment| segment.id() != *id)).collect();
        let edit = Edit { number, id, previous, epoch, change: Change { added, removed, cut, log_begun, marked, erasures } };
        let bytes = edit.encode(database_id);
        prop_assert_eq!(Edit::decode("e".as_ref(), database_id, number, &bytes).unwrap(), edit);
    }

    #[test]
    fn decode_undoes_encode_for_checkpoints(
        segments in proptest::collection::vec(any_segment(), 0..6),
        last_edit in 0..u64::MAX / 2,
        cut in any_cut(),
        log_epoch: u32,
        erasures in any_erasures(),
    ) {
        let mut state = State::new(5, 6);
        let cut = Cut { sequence: u64::MAX, ..cut };
        (state.epoch, state.last_edit, state.last_edit_id, state.cut) = (u32::MAX, last_edit, 7, Arc::new(cut));
        state.log_epoch = log_epoch;
        let keyed = erasures.into_iter().map(|erasure| ((erasure.sequence, erasure.table), erasure));
        state.erasures = Arc::new(keyed.collect());
        prop_assume!(state.fill(segments).is_ok());
        let name = CheckpointName { last_edit, epoch: u32::MAX };
        let bytes = checkpoint::encode(&state);
        prop_assert_eq!(&checkpoint::decode("c".as_ref(), name, &bytes).unwrap(), &state);
        prop_assert_eq!(state.check(), Ok(()));
    }

    /// Bytes that got past every checksum still never panic.
    #[test]
    fn decoders_of_garbage_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut reader = crate::bytes::Reader::new(&bytes);
        drop(edit::decode_segments(&mut reader));
        drop(edit::decode_cut(&mut crate::bytes::Reader::new(&bytes)));
        drop(Edit::decode("e".as_ref(), 0, 0, &bytes));
    }
}

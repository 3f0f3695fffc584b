//! The bytes of the format: pinned, read back, and garbage in their place.

use proptest::prelude::*;

use super::super::batch::{BatchFrame, DecodedBatch};
use super::super::group::{self, GroupBody, GroupHead, GroupPlace};
use super::super::slot::{SlotHead, slot_path};
use super::*;

const HEAD: SlotHead = SlotHead {
    identity: WalIdentity { database_id: 0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100, epoch: 0x0302_0100, shard: 0x0100 },
    slot: 5,
    log_id: 0x1716_1514_1312_1110,
    previous_log_id: 0x2726_2524_2322_2120,
    first_sequence: 0x3736_3534_3332_3130,
    first_group: 0x4746_4544_4342_4140,
    manifest_edit: 0x5756_5554_5352_5150,
};
const PLACE: GroupPlace = GroupPlace { log_id: 0x1716_1514_1312_1110, group: 3, first_sequence: 9, manifest_edit: 2 };

fn encoded(place: GroupPlace, body: GroupBody<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    group::encode(place, body, &mut out);
    out
}

/// The bytes, zeros at the end left out.
fn hex(bytes: &[u8]) -> String {
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes[..end].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Format 1 is on users' disks. If this fails, add a format; leave these bytes alone.
#[test]
fn format_1_bytes_are_pinned() {
    let head = HEAD.encode();
    assert_eq!(
        hex(&head[..96]),
        "4d4752414d57414c0100000100000000000000000000000000000000000000000001020304050607\
         08090a0b0c0d0e0f000102030500000010111213141516172021222324252627303132333435363740414243444546475051525354555657"
    );
    assert!(head[96..508].iter().all(|byte| *byte == 0));
    assert_eq!(hex(&head[508..]), "c16328de");

    let positions = vec![SourcePosition { source: 0x0a, from: 0x0b, to: 0x0c }];
    let rows = EncodedBatch::new(BatchKind::Rows, positions, b"abc".to_vec()).unwrap();
    let barrier = EncodedBatch::new(BatchKind::Barrier, Vec::new(), Vec::new()).unwrap();
    let facts = encoded(PLACE, GroupBody::Facts(&[rows, barrier]));
    assert_eq!(facts.len(), 512);
    assert_eq!(
        hex(&facts),
        "4d4752507b000000101112131415161703000000000000000900000000000000080000000000000002000000000000000200\
         0000010000000000000086ebc6a02f000000010101001cdabd8b0a0000000000000000000000000000000b00000000000000\
         0c000000000000006162630c00000006010000cdff2416"
    );
    assert_eq!(
        hex(&encoded(PLACE, GroupBody::Witness)),
        "4d47525040000000101112131415161703000000000000000900000000000000080000000000000002000000000000000000\
         000002000000000000000dcec674"
    );
    assert_eq!(
        hex(&encoded(PLACE, GroupBody::Continues(0x0d))),
        "4d47525048000000101112131415161703000000000000000900000000000000080000000000000002000000000000000000\
         00000300000000000000a668043e0d"
    );
}

/// Changes a slot head and makes its checksum good again.
fn changed(offset: usize, value: u8) -> Vec<u8> {
    let mut head = HEAD.encode().to_vec();
    head[offset] = value;
    let crc32 = crc32fast::hash(&head[..508]);
    head[508..].copy_from_slice(&crc32.to_le_bytes());
    head
}

#[test]
fn what_a_later_version_wrote_is_refused_by_name() {
    #[track_caller]
    fn check(head: &[u8], want: &str) {
        assert_eq!(SlotHead::decode(head), Err(want.to_string()));
    }
    check(&changed(8, 2), "log format 2 is not known");
    check(&changed(17, 1), "required feature bits 0x100 are not known");
    check(&changed(12, 1), "it is encrypted with key 1");
    assert_eq!(SlotHead::decode(&changed(24, 1)), Ok(Some(HEAD)), "optional features are ignored");

    let mut bytes = Vec::new();
    batch(b"x").encode(&mut bytes);
    bytes[4] = 7;
    assert_eq!(DecodedBatch::decode(&bytes), Err("batch kind 7 is not known".into()));
    bytes[5] = 2;
    assert_eq!(DecodedBatch::decode(&bytes), Err("batch format 2 is not known".into()));
}

#[test]
fn a_slot_of_a_later_version_stops_replay_and_start() {
    let (disk, world) = sim();
    drop(WalWriter::start(&world, IDENTITY, OPTIONS, 1, EDIT).unwrap());
    let mut slot = disk.file_bytes("wal/00000001").unwrap();
    slot[..512].copy_from_slice(&changed(17, 1));
    disk.put_file("wal/00000001", &slot).unwrap();
    assert!(matches!(read(&world), Err(Error::Unsupported { .. })));
    let next = WalIdentity { epoch: 8, ..IDENTITY };
    assert!(matches!(WalWriter::start(&world, next, OPTIONS, 1, EDIT), Err(Error::Unsupported { .. })));
    assert_eq!(disk.file_bytes("wal/00000001").unwrap(), slot, "and it is left alone");
}

/// One sector of a batch kind that a later version may know, checksums good.
#[test]
fn a_batch_of_a_later_version_stops_replay() {
    let (disk, world) = sim();
    let mut writer = WalWriter::start(&world, IDENTITY, OPTIONS, 1, EDIT).unwrap();
    writer.append(&[batch(b"x")], EDIT).unwrap();
    let mut slot = disk.file_bytes("wal/00000001").unwrap();
    slot[512 + 64 + 4] = 9;
    let (head, body) = slot[512..1024].split_at_mut(64);
    let mut crc32 = crc32fast::Hasher::new();
    crc32.update(&body[..8]);
    crc32.update(&body[12..13]);
    body[8..12].copy_from_slice(&crc32.finalize().to_le_bytes());
    let mut crc32 = crc32fast::Hasher::new();
    crc32.update(&head[..60]);
    crc32.update(&body[8..12]);
    head[60..].copy_from_slice(&crc32.finalize().to_le_bytes());
    disk.put_file("wal/00000001", &slot).unwrap();
    assert!(matches!(read(&world), Err(Error::Unsupported { .. })));
}

#[test]
fn a_batch_above_the_limits_is_refused_before_it_exists() {
    let kind = BatchKind::Rows;
    assert!(EncodedBatch::new(kind, Vec::new(), vec![0; BATCH_PAYLOAD_BYTES_MAX]).is_ok());
    let large = EncodedBatch::new(kind, Vec::new(), vec![0; BATCH_PAYLOAD_BYTES_MAX + 1]);
    assert!(matches!(large, Err(Error::Invalid { .. })));
    let position = SourcePosition { source: 1, from: 2, to: 3 };
    assert!(EncodedBatch::new(kind, vec![position; POSITIONS_MAX], Vec::new()).is_ok());
    let many = EncodedBatch::new(kind, vec![position; POSITIONS_MAX + 1], Vec::new());
    assert!(matches!(many, Err(Error::Invalid { .. })));
}

fn any_batch() -> impl Strategy<Value = EncodedBatch> {
    let position = any::<(u128, u64, u64)>().prop_map(|(source, from, to)| SourcePosition { source, from, to });
    let positions = prop::collection::vec(position, 0..3);
    let payload = prop::collection::vec(any::<u8>(), 0..700);
    (1u8..=6, positions, payload).prop_map(|(code, positions, payload)| {
        EncodedBatch::new(BatchKind::from_code(code).unwrap(), positions, payload).unwrap()
    })
}

proptest! {
    #[test]
    fn decode_undoes_encode_of_a_slot_head(
        database_id: u128, epoch: u32, shard: u16, slot: u32, ids: (u64, u64), firsts: (u64, u64), manifest_edit: u64,
    ) {
        let head = SlotHead {
            identity: WalIdentity { database_id, epoch, shard },
            slot,
            log_id: ids.0,
            previous_log_id: ids.1,
            first_sequence: firsts.0,
            first_group: firsts.1,
            manifest_edit,
        };
        prop_assert_eq!(SlotHead::decode(&head.encode()), Ok(Some(head)));
    }

    #[test]
    fn a_slot_head_with_a_flipped_bit_is_none(at in 0usize..512, bit in 0u8..8) {
        let mut head = HEAD.encode();
        head[at] ^= 1 << bit;
        prop_assert_eq!(SlotHead::decode(&head), Ok(None));
    }

    #[test]
    fn decode_undoes_encode_of_a_batch(batch in any_batch()) {
        let mut bytes = Vec::new();
        batch.encode(&mut bytes);
        let frame = BatchFrame::decode(&bytes).unwrap();
        prop_assert_eq!(frame.bytes as u64, batch.encoded_bytes());
        prop_assert!(frame.holds(&bytes));
        let decoded = DecodedBatch::decode(&bytes).unwrap();
        prop_assert_eq!(decoded.kind, batch.kind());
        prop_assert_eq!(&decoded.positions, batch.positions());
        prop_assert_eq!(decoded.payload, batch.payload());
    }

    #[test]
    fn what_is_appended_is_replayed(groups in prop::collection::vec(prop::collection::vec(any_batch(), 1..4), 1..6)) {
        let (_, world) = sim();
        let options = WalOptions { slot_bytes: 8 * 1024, slots_max: 8 };
        let mut writer = WalWriter::start(&world, IDENTITY, options, 1, EDIT).unwrap();
        for group in &groups {
            if !writer.has_room(5000) {
                writer.grow().unwrap();
            }
            writer.append(group, EDIT).unwrap();
        }
        let mut found = Vec::new();
        let replayed = replay(&world, IDENTITY, from(1), &mut |sequence, kind, positions, payload| {
            found.push((sequence, EncodedBatch::new(kind, positions.to_vec(), payload.to_vec())?));
            Ok(())
        });
        let want: Vec<_> = (1..).zip(groups.into_iter().flatten()).collect();
        prop_assert_eq!(replayed.unwrap().next_sequence, want.len() as u64 + 1);
        prop_assert_eq!(found, want);
    }

    /// Garbage of any shape in a slot gives an error or an end, never a panic, and never a batch.
    #[test]
    fn garbage_never_panics(
        sectors in prop::collection::vec((1usize..16, prop::collection::vec(any::<u8>(), 64)), 0..8),
        magic in any::<bool>(),
        fields: [u32; 4],
    ) {
        let (disk, world) = sim();
        drop(WalWriter::start(&world, IDENTITY, OPTIONS, 1, EDIT).unwrap());
        let path = slot_path(1).to_str().unwrap().to_string();
        let mut slot = disk.file_bytes(&path).unwrap();
        let log_id = slot[56..64].to_vec();
        for (at, bytes) in &sectors {
            let sector = &mut slot[at * 512..][..64];
            sector.copy_from_slice(bytes);
            if magic {
                // Up to the checksum it looks like a group of this log, with lengths large and small.
                sector[..4].copy_from_slice(b"MGRP");
                sector[4..8].copy_from_slice(&(fields[0] >> (fields[1] % 32)).to_le_bytes());
                sector[8..16].copy_from_slice(&log_id);
                sector[48..52].copy_from_slice(&(fields[2] >> (fields[3] % 32)).to_le_bytes());
                sector[52] = (fields[3] % 4) as u8;
                sector[53..60].fill(0);
            }
        }
        disk.put_file(&path, &slot).unwrap();
        let facts = read(&world);
        prop_assert!(facts.as_ref().is_ok_and(Vec::is_empty), "{facts:?}");
    }

    /// A good checksum over fields that no writer writes: an error, never a panic, never a loop.
    #[test]
    fn garbage_behind_a_good_checksum_is_an_error(
        group: u64, first_sequence: u64, durable_through: u64, manifest_edit: u64, kind: u8,
    ) {
        let (disk, world) = sim();
        drop(WalWriter::start(&world, IDENTITY, OPTIONS, 1, EDIT).unwrap());
        let mut slot = disk.file_bytes("wal/00000001").unwrap();
        let log_id = u64_at(&slot, 56).unwrap();
        let head = GroupHead {
            bytes: 64, log_id, group, first_sequence, durable_through, manifest_edit, batch_count: 0, kind, crc32: 0,
        };
        let place = GroupPlace { log_id, group, first_sequence: first_sequence.max(1), manifest_edit };
        let mut sector = encoded(place, GroupBody::Witness);
        sector[24..32].copy_from_slice(&head.first_sequence.to_le_bytes());
        sector[32..40].copy_from_slice(&head.durable_through.to_le_bytes());
        sector[52] = kind;
        sector[60..64].copy_from_slice(&head.hasher().finalize().to_le_bytes());
        slot[512..1024].copy_from_slice(&sector);
        disk.put_file("wal/00000001", &slot).unwrap();
        let ours = (group, first_sequence, durable_through) == (2, 1, 0) && manifest_edit <= EDIT && kind == 2;
        // A "continues" without a body is not a valid group, so it is taken for torn.
        prop_assert_eq!(read(&world).is_ok(), ours || kind == 3);
    }
}

//! What the one order refuses before it gives a number.

use std::sync::mpsc::{Receiver, sync_channel};

use super::*;
use crate::codec::EncodeScratch;
use crate::wal::{BatchKind, WalIdentity, WalOptions};

fn committer(disk_reserve_bytes: u64) -> Committer {
    let world = World::sim(3);
    let identity = WalIdentity { database_id: 1, epoch: 1, shard: 0 };
    let options = WalOptions { slot_bytes: 64 << 10, slots_max: 2 };
    let wal = WalWriter::start(&world, identity, options, 1, 0).unwrap();
    Committer::new(world, wal, disk_reserve_bytes, Arc::new(Generation::new(5)), 0, BTreeMap::new())
}

fn submission(generation: u64, drops: u64, position: Option<SourcePosition>) -> (Submission, Receiver<Reply>) {
    let batch = Batch { generation, ..Batch::default() };
    let payload = batch.encode(&mut EncodeScratch::default());
    let encoded = EncodedBatch::new(BatchKind::Rows, position.into_iter().collect(), payload).unwrap();
    let (reply, fate) = sync_channel(1);
    (Submission { batch, encoded, drops, is_drop: false, position, needs_space: true, memory: None, reply }, fate)
}

/// The sequence it got, or else what it was told.
fn commit(committer: &mut Committer, submission: (Submission, Receiver<Reply>)) -> Result<u64, Reply> {
    let logged = committer.commit(vec![submission.0]).unwrap();
    match logged.first() {
        Some(logged) => Ok(logged.sequence),
        None => Err(submission.1.try_recv().unwrap()),
    }
}

#[test]
fn a_batch_of_another_generation_is_resolved_again() {
    let mut committer = committer(0);
    assert_eq!(commit(&mut committer, submission(5, 0, None)).unwrap(), 1);
    assert!(matches!(commit(&mut committer, submission(4, 0, None)), Err(Reply::Bounced)));
    let (generation, _) = committer.seal();
    assert_eq!(generation.number, 6);
    assert!(matches!(commit(&mut committer, submission(5, 0, None)), Err(Reply::Bounced)));
    assert_eq!(commit(&mut committer, submission(6, 0, None)).unwrap(), 2, "what bounced took no number");
}

#[test]
fn a_batch_from_before_a_drop_is_resolved_again() {
    let mut committer = committer(0);
    let (mut drop, fate) = submission(5, 1, None);
    drop.is_drop = true;
    commit(&mut committer, (drop, fate)).unwrap();
    assert!(matches!(commit(&mut committer, submission(5, 0, None)), Err(Reply::Bounced)));
    assert_eq!(commit(&mut committer, submission(5, 1, None)).unwrap(), 2);
}

#[test]
fn a_source_is_stored_once_and_without_gaps() {
    let mut committer = committer(0);
    let at = |from, to| submission(5, 0, Some(SourcePosition { source: 9, from, to }));
    assert_eq!(commit(&mut committer, at(40, 50)).unwrap(), 1, "a new source may begin anywhere");
    assert!(matches!(commit(&mut committer, at(40, 50)), Err(Reply::Duplicate)));
    assert!(matches!(commit(&mut committer, at(45, 49)), Err(Reply::Duplicate)));
    let gap = commit(&mut committer, at(51, 52));
    assert!(matches!(gap, Err(Reply::Failed(Error::PositionGap { expected: 50, sent: 51 }))), "{gap:?}");
    assert_eq!(commit(&mut committer, at(50, 51)).unwrap(), 2);
    // Two of one source in one group: the second is held against the first.
    let (first, _first_fate) = at(51, 52);
    let (second, second_fate) = at(51, 52);
    assert_eq!(committer.commit(vec![first, second]).unwrap().len(), 1);
    assert!(matches!(second_fate.try_recv(), Ok(Reply::Duplicate)));
    let (_, positions) = committer.seal();
    assert_eq!(positions, BTreeMap::from([(9, 52)]));
}

#[test]
fn a_full_disk_refuses_rows_but_not_drops() {
    let mut committer = committer(u64::MAX);
    let refused = commit(&mut committer, submission(5, 0, None));
    assert!(matches!(refused, Err(Reply::Failed(Error::DiskFull { .. }))), "{refused:?}");
    let (mut drop, fate) = submission(5, 1, None);
    (drop.is_drop, drop.needs_space) = (true, false);
    assert_eq!(commit(&mut committer, (drop, fate)).unwrap(), 1);
}

#[test]
fn positions_of_a_cut_come_back() {
    let positions = BTreeMap::from([(1_u128, 2_u64), (u128::MAX, u64::MAX)]);
    let bytes = encode_positions(&positions);
    assert_eq!(decode_positions(&bytes).unwrap(), positions);
    assert!(decode_positions(&bytes[1..]).is_err());
    assert!(decode_positions(&[]).unwrap().is_empty());
}

/// Format 1 is on users' disks. If this fails, add a format; leave these bytes alone.
#[test]
fn position_bytes_are_pinned() {
    let bytes = encode_positions(&BTreeMap::from([(0x0102_u128, 0x0304_u64)]));
    assert_eq!(bytes, [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 3, 0, 0, 0, 0, 0, 0]);
}

//! What deletes that wait hold in memory, and that it is bounded.

use super::*;
use crate::error::Error;
use crate::memory::MemoryShares;

const MIB: u64 = 1 << 20;
const SHARES: MemoryShares = MemoryShares { limit_bytes: 1 << 30, bodies_bytes: 0, statements_bytes: 0 };

fn hosts(count: usize) -> Erase {
    let values = (0..count).map(|at| Literal::String(format!("{at}"))).collect();
    Erase::Where(Predicate::In { column: TAG, values: ValueSet::new(values) })
}

fn times(count: i64) -> Erase {
    let values = (0..count).map(|at| Literal::I64(at * 2)).collect();
    Erase::Where(Predicate::In { column: ColumnId::TIME, values: ValueSet::new(values) })
}

fn keys(count: i64) -> Erase {
    let mut keys = KeyList::default();
    (0..count).for_each(|at| keys.push(&key(&at.to_string()), at).unwrap());
    Erase::Keys(keys.finish())
}

#[test]
fn as_many_as_may_wait_of_a_table() {
    let mut tombstones = Tombstones::default();
    let check =
        |tombstones: &Tombstones, table| tombstones.check_room(TableId(table), &format!("t{table}"), 100, &SHARES);
    for sequence in 1..=TABLE_TOMBSTONES_MAX as u64 {
        check(&tombstones, 3).unwrap();
        tombstones.push(Tombstone::new(sequence, delete(Erase::Where(Predicate::Constant(Some(true)))), &memory()));
    }
    let refused = check(&tombstones, 3).unwrap_err();
    assert!(matches!(refused, Error::DeletesWaiting { .. }), "{refused:?}");
    assert_eq!(
        refused.to_string(),
        "too many deletes wait for segments to be written again: 256 of table \"t3\", 256 may"
    );
    check(&tombstones, 4).unwrap();
    tombstones.retain(|tombstone| tombstone.sequence > 1);
    check(&tombstones, 3).unwrap();
}

/// What it says is what is there: the values, their text, the times as ranges, both ways round.
#[test]
fn memory_is_several_times_what_the_log_holds() {
    #[track_caller]
    fn check(erase: &Erase, of_one: std::ops::RangeInclusive<u64>) {
        let memory = Accountant::new(SHARES);
        let tombstone = Tombstone::new(1, delete(erase.clone()), &memory);
        let (bytes, count) = (tombstone.charge.bytes(), 100_000);
        assert!(of_one.contains(&(bytes / count)), "{bytes} bytes");
        assert_eq!(memory.used(MemoryUse::Deletes), bytes);
        let mut encoded = Vec::new();
        tombstone.delete.encode(&mut encoded);
        let decoded = Tombstone::new(1, Delete::decode(&encoded).unwrap(), &memory);
        assert_eq!(decoded.charge.bytes(), bytes, "it holds as much after a restart");
        drop((tombstone, decoded));
        assert_eq!(memory.total(), 0);
    }
    let literal = size_of::<Literal>() as u64;
    check(&hosts(100_000), literal + 16..=literal + 32);
    // 16 for each range that it names, 16 for each in between.
    check(&times(100_000), literal + 32..=literal + 33);
    check(&keys(100_000), 120..=200);
}

/// The times are ranges once they were asked for, which a tombstone's reach does.
#[test]
fn times_take_no_more_than_what_is_counted() {
    let Erase::Where(Predicate::In { values, .. }) = times(1000) else { unreachable!() };
    let (named, others) = values.instants();
    let ranges = size_of_val(named.ranges()) + size_of_val(others.ranges());
    let more = values.held_bytes(true) - values.held_bytes(false);
    assert!((ranges..=ranges + 64).contains(&more), "{more} for {ranges}");
}

#[test]
fn what_all_hold_is_bounded_by_the_memory_there_is() {
    #[track_caller]
    fn check(limit_bytes: u64, waiting_max: u64) {
        let shares = MemoryShares { limit_bytes, ..SHARES };
        let one_max = shares.admitted_bytes() / 4;
        let (mut tombstones, memory) = (Tombstones::default(), Accountant::new(shares));
        let bytes = Tombstone::new(1, delete(hosts(10_000)), &memory).charge.bytes();
        let mut sequence = 0;
        let refused = loop {
            match tombstones.check_room(TableId(sequence), "t", bytes, &shares) {
                Err(refused) => break refused,
                Ok(()) => assert!(tombstones.bytes() < waiting_max),
            }
            assert_eq!(tombstones.are_much(&shares, |_| false), waiting_max / 2 <= tombstones.bytes());
            assert!(!tombstones.are_much(&shares, |_| true), "all of them are stuck");
            sequence += 1;
            let next = Delete { table: TableId(sequence), ..delete(hosts(10_000)) };
            tombstones.push(Tombstone::new(u64::from(sequence), next, &memory));
        };
        assert!(matches!(refused, Error::DeletesWaiting { .. }), "{refused:?}");
        assert!((waiting_max..waiting_max + bytes).contains(&tombstones.bytes()), "{}", tombstones.bytes());
        assert_eq!(memory.used(MemoryUse::Deletes), tombstones.bytes());
        assert_eq!(memory.rows_used(), tombstones.bytes(), "rows are let in for less");
        let large = Tombstones::default().check_room(TableId(1), "t", one_max + 1, &shares).unwrap_err();
        assert!(matches!(large, Error::TooLarge { what: "delete", .. }), "{large:?}");
        Tombstones::default().check_room(TableId(1), "t", one_max, &shares).unwrap();
    }
    check(1 << 30, 64 * MIB);
    check(64 * MIB, MemoryShares { limit_bytes: 64 * MIB, ..SHARES }.admitted_bytes() / 4);
}

/// What is stuck is no reason by itself, and leaves the others half of the rest, but not so little that each is one.
#[test]
fn what_is_stuck_is_no_reason_to_write_again() {
    let of_one = Tombstone::new(1, delete(hosts(1)), &memory()).charge.bytes();
    // The share of deletes is as much as so many hold.
    let (places, admitted) = (640, |limit_bytes| MemoryShares { limit_bytes, ..SHARES }.admitted_bytes());
    let limits = (1..).map(|units| units * 16);
    let limit_bytes = limits.take_while(|limit| admitted(*limit) <= places * of_one * 4).last().unwrap();
    let shares = MemoryShares { limit_bytes, ..SHARES };
    #[track_caller]
    fn check(shares: &MemoryShares, stuck: u64, least: u64) {
        let memory = memory();
        let mut tombstones = Tombstones::default();
        let mut push = |sequence: u64| {
            let table = TableId(sequence as u32);
            tombstones.push(Tombstone::new(sequence, Delete { table, ..delete(hosts(1)) }, &memory));
            tombstones.are_much(shares, |tombstone| tombstone.sequence <= stuck)
        };
        (1..=stuck).for_each(|sequence| assert!(!push(sequence)));
        let needed = (1..=1000).find(|more| push(stuck + more)).unwrap();
        assert_eq!(needed, least, "{stuck} are stuck");
    }
    check(&shares, 0, 320);
    check(&shares, 320, 160);
    check(&shares, 480, 80);
    check(&shares, 600, 20);
    check(&shares, 640, 20);
    check(&shares, 900, 20);
    let pending: Vec<_> = (1..=200).map(|at| Arc::new(Tombstone::new(at, delete(hosts(1)), &memory()))).collect();
    let crowded = |count: usize, stuck: u64| is_crowded(&pending[..count], |tombstone| tombstone.sequence <= stuck);
    assert_eq!([63, 64].map(|count| crowded(count, 0)), [false, true]);
    assert_eq!([145, 146].map(|count| crowded(count, 110)), [false, true]);
    assert!(!crowded(200, 200));
}

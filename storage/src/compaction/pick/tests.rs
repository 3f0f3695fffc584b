//! One line per question of policy.

use super::*;
use crate::compaction::refused::Refusals;
use crate::manifest::Marks;

const LIMITS: Limits = Limits { segments_min: 4, segments_max: 8, bytes_max: 1000 };

fn file(counter: u32) -> FileId {
    FileId { epoch: 1, counter }
}

/// Bytes and encoding of segments by sequence; each lies in a file of its own.
fn entries(sizes: &[i64]) -> Vec<SegmentEntry> {
    let entry = |(at, size): (usize, &i64)| SegmentEntry {
        table: TableId(1),
        partition_start: 0,
        file: file(at as u32),
        offset: 64,
        bytes: size.unsigned_abs(),
        hash: 0,
        rows: size.unsigned_abs(),
        sequence_min: at as u64 * 10,
        sequence_max: at as u64 * 10 + 9,
        time_min: 0,
        time_max: 1,
        shard: 0,
        key: 0,
        sidecars: Vec::new(),
        marks: Marks { encoding: if *size < 0 { Encoding::Cold } else { Encoding::Hot }, ..Marks::default() },
    };
    sizes.iter().enumerate().map(entry).collect()
}

fn partition(entries: &[SegmentEntry], is_at_rest: bool) -> Partition<'_> {
    Partition {
        table: TableId(1),
        start: 0,
        segments: entries.iter().collect(),
        is_at_rest,
        is_held: false,
        refused: Vec::new(),
        is_delete_due: false,
        unseen: BTreeMap::new(),
        flawed: BTreeSet::new(),
    }
}

/// Which segments become one, and how; cold ones are given as negative sizes.
fn picked(sizes: &[i64], is_at_rest: bool, orders: &[Order]) -> Option<(Reason, Vec<u32>, Encoding)> {
    let entries = entries(sizes);
    let view = View {
        partitions: vec![partition(&entries, is_at_rest)],
        file_bytes: &BTreeMap::new(),
        to_empty: &BTreeSet::new(),
        orders,
        erasing_first: false,
    };
    let plan = pick(&view, &LIMITS)?;
    let [part] = plan.parts.as_slice() else { panic!("one partition makes one part: {plan:?}") };
    Some((plan.reason, part.inputs.iter().map(|(file, _)| file.counter).collect(), part.encoding))
}

#[test]
fn segments_of_about_one_size_merge_small_ones_first() {
    #[track_caller]
    fn check(sizes: &[i64], want: Option<&[u32]>) {
        let want = want.map(|inputs| (Reason::Merge, inputs.to_vec(), Encoding::Hot));
        assert_eq!(picked(sizes, false, &[]), want, "{sizes:?}");
    }
    check(&[], None);
    check(&[10, 10, 10], None); // too few
    check(&[10, 10, 10, 10], Some(&[0, 1, 2, 3]));
    check(&[10, 10, 10, 10, 10], Some(&[0, 1, 2, 3, 4])); // as many as there are
    check(&[1; 9], Some(&[1, 2, 3, 4, 5, 6, 7, 8])); // as many as are read at once, the newest
    check(&[80, 10, 10, 10], None); // would grow by less than the largest is worth
    check(&[80, 10, 10, 10, 10], Some(&[1, 2, 3, 4]));
    check(&[80, 80, 80, 80, 10, 10, 10, 10], Some(&[4, 5, 6, 7])); // small ones first
    check(&[80, 80, 80, 80, 10, 10, 10], Some(&[0, 1, 2, 3, 4, 5, 6])); // and as many as may
    check(&[10, 80, 10, 80, 10, 80, 10, 80], Some(&[0, 1, 2, 3, 4, 5, 6, 7])); // twice as many may be uneven
    check(&[100, 1, 1, 1, 100, 1, 1, 1], Some(&[0, 1, 2, 3, 4, 5, 6, 7]));
    check(&[300, 300, 300, 300], None); // more than a merge may write
    check(&[10, 10, 10, 10, 900], Some(&[0, 1, 2, 3])); // not the newest: still neighbours
}

#[test]
fn a_partition_at_rest_is_encoded_small_once_and_a_trickle_of_late_rows_lets_it_be() {
    #[track_caller]
    fn check(sizes: &[i64], want: Option<(Reason, &[u32], Encoding)>) {
        let want = want.map(|(reason, inputs, encoding)| (reason, inputs.to_vec(), encoding));
        assert_eq!(picked(sizes, true, &[]), want, "{sizes:?}");
    }
    use Encoding::{Cold, Hot};
    use Reason::{Merge, Overlays, Recompress};
    check(&[500], Some((Recompress, &[0], Cold)));
    check(&[500, 80, 10], Some((Recompress, &[0, 1, 2], Cold))); // whatever is left of merges becomes one on the way
    check(&[600, 600], Some((Recompress, &[0], Cold))); // as much as a compaction may write
    check(&[-600, 600], Some((Recompress, &[1], Cold)));
    check(&[2000], Some((Recompress, &[0], Cold))); // one alone always may
    check(&[-500], None);
    check(&[-500, 1], None); // a late row
    check(&[-500, 1, 1, 1], None);
    check(&[-500, 1, 1, 1, 1], Some((Merge, &[1, 2, 3, 4], Hot))); // late rows among themselves
    check(&[-500, 55], None); // less than a tenth
    check(&[-500, 56], Some((Overlays, &[0, 1], Cold)));
    check(&[-500, 30, 26], Some((Overlays, &[0, 1, 2], Cold)));
    check(&[-950, 106], Some((Recompress, &[1], Cold))); // together they are too large
    check(&[-100, -100, -100, -100], Some((Merge, &[0, 1, 2, 3], Cold))); // what was small stays so
}

#[test]
fn a_partition_that_is_not_at_rest_is_not_recompressed() {
    assert_eq!(picked(&[500], false, &[]), None);
    assert_eq!(picked(&[-500, 100], false, &[]), None);
}

#[test]
fn an_order_makes_one_segment_of_what_was_written_before_it() {
    #[track_caller]
    fn check(sizes: &[i64], through: u64, is_final: bool, want: Option<(&[u32], Encoding)>) {
        let order = Order { table: TableId(1), through, is_final };
        let want = want.map(|(inputs, encoding)| (Reason::Optimize, inputs.to_vec(), encoding));
        assert_eq!(picked(sizes, false, &[order]), want, "{sizes:?} through {through}");
    }
    use Encoding::{Cold, Hot};
    check(&[10], 100, false, None);
    check(&[900, 800], 100, false, Some((&[0, 1], Hot))); // whatever their size
    check(&[900, 800, 10], 19, false, Some((&[0, 1], Hot))); // what came later is not meant
    check(&[900, 800], 100, true, Some((&[0, 1], Cold)));
    check(&[900], 100, true, Some((&[0], Cold)));
    check(&[-900], 100, true, None);
    check(&[-900, 1], 100, true, Some((&[0, 1], Cold)));
    check(&[90, 9, 9, 9, 9, 9, 9, 9, 9], 100, true, Some((&[1, 2, 3, 4, 5, 6, 7, 8], Hot))); // in steps, the cheap one first
    let other = Order { table: TableId(2), through: 100, is_final: true };
    assert_eq!(picked(&[10, 10], false, &[other]), None);
}

#[test]
fn a_file_less_than_a_quarter_live_is_emptied() {
    #[track_caller]
    fn check(bytes: i64, file_bytes: u64, want: bool) {
        let entries = entries(&[bytes]);
        let lengths = BTreeMap::from([(file(0), file_bytes)]);
        let view = View {
            partitions: vec![partition(&entries, false)],
            file_bytes: &lengths,
            to_empty: &BTreeSet::new(),
            orders: &[],
            erasing_first: false,
        };
        let plan = pick(&view, &LIMITS);
        assert_eq!(plan.map(|plan| plan.reason), want.then_some(Reason::Leftovers), "{bytes} of {file_bytes}");
    }
    check(100, 164, false);
    check(100, 400, false);
    check(100, 401, true);
}

#[test]
fn what_is_held_stays_and_small_parts_share_a_file() {
    let (small, large) = (entries(&[1; 4]), entries(&[40 << 20; 4]));
    let part =
        |entries: &'static [SegmentEntry], start, is_held| Partition { start, is_held, ..partition(entries, false) };
    let (small, large): (&'static [_], &'static [_]) = (small.leak(), large.leak());
    let limits = Limits { bytes_max: 1 << 30, ..LIMITS };
    let starts = |partitions: Vec<Partition<'static>>| -> Vec<i64> {
        let view = View {
            partitions,
            file_bytes: &BTreeMap::new(),
            to_empty: &BTreeSet::new(),
            orders: &[],
            erasing_first: false,
        };
        let plan = pick(&view, &limits);
        plan.map_or(Vec::new(), |plan| plan.parts.iter().map(|part| part.partition_start).collect())
    };
    assert_eq!(starts(vec![part(small, 0, false), part(small, 1, false)]), [0, 1]);
    assert_eq!(starts(vec![part(small, 0, true), part(small, 1, false)]), [1]);
    assert_eq!(starts(vec![part(large, 0, false), part(small, 1, false)]), [1]);
    assert_eq!(starts(vec![part(large, 0, false), part(large, 1, false)]), [0]); // large ones alone
}

#[test]
fn late_rows_are_waited_for_as_long_as_a_partition_is_wide() {
    let table = Table {
        id: TableId(1),
        database: crate::schema::DatabaseId(0),
        name: "cpu".to_owned(),
        mode: crate::schema::TableMode::Upsert,
        columns: Vec::new(),
        widths: crate::catalog::default_widths(),
        floor: i64::MIN,
        hidden: Default::default(),
    };
    assert!(!is_past(&table, 0, None, 2 * DAY_NS - 1));
    assert!(is_past(&table, 0, None, 2 * DAY_NS));
    assert!(is_past(&table, 0, Some(1), DAY_NS + 1));
    assert!(is_past(&table, i64::MIN, None, 0));
    assert!(!is_past(&table, i64::MAX - 1, None, i64::MAX - 1));
}

/// Sustained ingest: cuts of any size arrive for ever, each merge is run at once.
#[test]
fn a_row_is_rewritten_about_once_per_factor_and_segments_stay_few() {
    for seed in 0..20 {
        let mut rng = crate::clock::sim::SimRng::new(seed);
        let limits = Limits { segments_min: 8, segments_max: 16, bytes_max: 1 << 30 };
        let (mut live, mut written, mut rewritten, mut most) = (Vec::<SegmentEntry>::new(), 0, 0, 0);
        for number in 0..3000_u32 {
            // Around 8 MiB; sometimes a cut that somebody asked for.
            let bytes = if rng.below(10) == 0 { 1 + rng.below(100_000) } else { (4 << 20) + rng.below(8 << 20) };
            let mut entry = entries(&[bytes as i64]).remove(0);
            (entry.file, entry.sequence_min, entry.sequence_max) = (file(number), number.into(), number.into());
            live.push(entry);
            written += bytes;
            loop {
                let view = View {
                    partitions: vec![partition(&live, false)],
                    file_bytes: &BTreeMap::new(),
                    to_empty: &BTreeSet::new(),
                    orders: &[],
                    erasing_first: false,
                };
                let Some(plan) = pick(&view, &limits) else { break };
                let inputs: Vec<_> = plan.inputs().collect();
                let from = live.iter().position(|entry| entry.id() == inputs[0]).unwrap();
                let merged: Vec<SegmentEntry> = live.drain(from..from + inputs.len()).collect();
                assert_eq!(merged.iter().map(SegmentEntry::id).collect::<Vec<_>>(), inputs, "neighbours");
                let mut entry = merged[0].clone();
                entry.bytes = plan.bytes();
                entry.sequence_max = merged.last().unwrap().sequence_max;
                rewritten += entry.bytes;
                live.insert(from, entry);
            }
            most = most.max(live.iter().filter(|entry| entry.bytes < 256 << 20).count());
        }
        let rewrites = rewritten as f64 / written as f64;
        assert!(rewrites < 2.5, "seed {seed}: a row is rewritten {rewrites} times");
        assert!(most <= 32, "seed {seed}: {most} small segments");
    }
}

/// A lone segment, cold or not, is written again for a delete that is due, and for an order whenever one waits.
#[test]
fn a_segment_that_has_not_seen_a_delete_is_written_again() {
    let entries = entries(&[-100]);
    let order = [Order { table: TableId(1), through: u64::MAX, is_final: false }];
    let picked = |is_delete_due, is_unseen: bool, orders: &[Order]| {
        let unseen = entries.iter().filter(|_| is_unseen).map(|entry| (entry.id(), 7)).collect();
        let partition = Partition { is_delete_due, unseen, ..partition(&entries, true) };
        let view = View {
            partitions: vec![partition],
            file_bytes: &BTreeMap::new(),
            to_empty: &BTreeSet::new(),
            orders,
            erasing_first: false,
        };
        pick(&view, &LIMITS).map(|plan| (plan.reason, plan.parts.len(), plan.parts[0].encoding))
    };
    assert_eq!(picked(true, true, &[]), Some((Reason::Deletes, 1, Encoding::Cold)));
    assert_eq!(picked(false, true, &[]), None, "it may wait");
    assert_eq!(picked(true, false, &[]), None, "it has seen all");
    assert_eq!(picked(false, true, &order), Some((Reason::Optimize, 1, Encoding::Cold)));
    assert_eq!(picked(false, false, &order), None);
    let before = [Order { through: 6, ..order[0] }];
    assert_eq!(picked(false, true, &before), None, "deletes that keep coming hold no order open");
}

/// A lone segment that is as small as it gets is written again where it is damaged and nobody needs that, also by an order.
#[test]
fn a_flawed_segment_is_written_again_as_it_is() {
    let entries = entries(&[-100, 900]);
    let picked = |flawed: &[usize], is_held, live: &[SegmentEntry], orders: &[Order]| {
        let flawed = flawed.iter().map(|at| entries[*at].id()).collect();
        let partition = Partition { flawed, is_held, ..partition(live, false) };
        let view = View {
            partitions: vec![partition],
            file_bytes: &BTreeMap::new(),
            to_empty: &BTreeSet::new(),
            orders,
            erasing_first: false,
        };
        pick(&view, &LIMITS).map(|plan| (plan.reason, plan.inputs().collect::<Vec<_>>(), plan.parts[0].encoding))
    };
    let (cold, hot) = (vec![entries[0].id()], vec![entries[1].id()]);
    assert_eq!(picked(&[], false, &entries, &[]), None);
    assert_eq!(picked(&[0], false, &entries, &[]), Some((Reason::Mend, cold.clone(), Encoding::Cold)));
    assert_eq!(picked(&[1], false, &entries, &[]), Some((Reason::Mend, hot, Encoding::Hot)));
    assert_eq!(picked(&[0], true, &entries, &[]), None, "it failed a moment ago");
    for is_final in [false, true] {
        let order = Order { table: TableId(1), through: u64::MAX, is_final };
        assert_eq!(picked(&[], false, &entries[..1], &[order]), None);
        let want = Some((Reason::Optimize, cold.clone(), Encoding::Cold));
        assert_eq!(picked(&[0], false, &entries[..1], &[order]), want);
    }
}

#[test]
fn a_file_that_has_to_go_is_emptied_segment_by_segment() {
    let mut live = entries(&[-300, 500]);
    live[1].partition_start = 1;
    let (first, second) = live.split_at(1);
    let files = BTreeSet::from([file(0), file(7)]);
    let partitions = vec![partition(first, true), Partition { start: 1, ..partition(second, true) }];
    let view = View { partitions, file_bytes: &BTreeMap::new(), to_empty: &files, orders: &[], erasing_first: false };
    let plan = pick(&view, &LIMITS).unwrap();
    let inputs: Vec<SegmentId> = plan.inputs().collect();
    assert_eq!((plan.reason, inputs), (Reason::Erasure, vec![(file(0), 64)]));
    assert!(plan.reason.is_copy(), "it is cold, and stays as it is");
}

/// Somebody writes so much that there is always something to merge: a delete that is due gets every other turn.
#[test]
fn merges_do_not_hold_up_what_is_to_be_erased() {
    let many = entries(&[100, 100, 100, 100]);
    let entries = entries(&[-5000]);
    let unseen = BTreeMap::from([(entries[0].id(), 7)]);
    let due = Partition { start: 1, is_delete_due: true, unseen, ..partition(&entries, true) };
    let merging = partition(&many, false);
    let picked = |partitions: Vec<Partition<'_>>, to_empty: &BTreeSet<FileId>, erasing_first| {
        let view = View { partitions, file_bytes: &BTreeMap::new(), to_empty, orders: &[], erasing_first };
        pick(&view, &LIMITS).map(|plan| plan.reason)
    };
    let (none, files) = (BTreeSet::new(), BTreeSet::from([entries[0].file]));
    let both = || vec![merging.clone(), due.clone()];
    assert_eq!(picked(both(), &none, false), Some(Reason::Merge));
    assert_eq!(picked(both(), &none, true), Some(Reason::Deletes));
    assert_eq!(picked(vec![merging.clone()], &none, true), Some(Reason::Merge), "nothing is due");
    let seen = Partition { unseen: BTreeMap::new(), start: 1, ..partition(&entries, true) };
    assert_eq!(picked(vec![merging.clone(), seen.clone()], &files, true), Some(Reason::Erasure));
    assert_eq!(picked(vec![merging.clone(), seen], &files, false), Some(Reason::Merge));
}

/// Refusals hold for a minute, then for two, and so on.
#[test]
fn what_found_no_room_is_done_in_smaller_steps_or_not_for_a_while() {
    const MINUTE: u64 = 60 * 1_000_000_000;
    let part = |entries: &[SegmentEntry], inputs: std::ops::Range<usize>| {
        let segments: Vec<&SegmentEntry> = entries.iter().collect();
        part(&partition(entries, false), &segments[inputs], Encoding::Hot)
    };
    let picked = |refused: &Refusals, entries: &[SegmentEntry], is_at_rest: bool, is_due: bool, now_ns: u64| {
        let unseen = entries.iter().map(|entry| (entry.id(), 5)).filter(|_| is_due).collect();
        let refused = refused.of(TableId(1), 0, now_ns);
        let partition = Partition { refused, unseen, is_delete_due: is_due, ..partition(entries, is_at_rest) };
        let (file_bytes, to_empty) = (BTreeMap::new(), BTreeSet::new());
        let (file_bytes, to_empty) = (&file_bytes, &to_empty);
        let view = View { partitions: vec![partition], file_bytes, to_empty, orders: &[], erasing_first: false };
        let inputs = |part: &Part| part.inputs.iter().map(|(file, _)| file.counter).collect::<Vec<u32>>();
        pick(&view, &LIMITS).map(|plan| (plan.reason, inputs(&plan.parts[0])))
    };
    let mut refused = Refusals::default();
    let entries = entries(&[10; 9]);
    let all = |count: u32| Some((Reason::Merge, (count - 8..count).collect::<Vec<u32>>()));
    assert_eq!(picked(&refused, &entries, false, false, 0), all(9));
    assert_eq!(refused.note(&part(&entries, 1..9), 0), MINUTE);
    // Half as many are enough for a merge; the newest of those that cost the same.
    assert_eq!(picked(&refused, &entries, false, false, 1), Some((Reason::Merge, vec![5, 6, 7, 8])));
    assert_eq!(refused.note(&part(&entries, 5..9), 1), MINUTE);
    assert_eq!(picked(&refused, &entries, false, false, 2), Some((Reason::Merge, vec![1, 2, 3, 4])));
    refused.note(&part(&entries, 1..5), 2);
    assert_eq!(picked(&refused, &entries, false, false, 3), None);
    // Another partition, what an order says, and segments that are not of it are as before.
    assert!(refused.of(TableId(1), 1, 3).is_empty() && refused.of(TableId(2), 0, 3).is_empty());
    let fresh = super::tests::entries(&[10; 13]);
    assert_eq!(picked(&refused, &fresh, false, false, 3), Some((Reason::Merge, vec![9, 10, 11, 12])));
    // After a while all is tried again, and what is refused again is left alone for longer.
    assert_eq!(picked(&refused, &entries, false, false, 2 + MINUTE), all(9));
    assert_eq!(refused.note(&part(&entries, 1..9), 2 + MINUTE), 2 * MINUTE);
    assert!(picked(&refused, &entries, false, false, 2 * MINUTE).is_some_and(|(_, inputs)| inputs.len() == 4));
    for _ in 0..20 {
        refused.note(&part(&entries, 1..9), 0);
    }
    assert_eq!(refused.note(&part(&entries, 1..9), 0), 60 * MINUTE);
    // One input that goes is another merge.
    refused.forget(|_, _, input| input != entries[8].id());
    assert_eq!(picked(&refused, &entries, false, false, 1), all(9));
    // What reads one segment is left alone, and others are not.
    refused.note(&part(&entries, 0..1), 0);
    assert_eq!(picked(&refused, &entries[..2], false, true, 1), Some((Reason::Deletes, vec![1])));
    assert_eq!(picked(&refused, &entries[..2], true, false, 1), None, "recompressed as one");
    refused.note(&part(&entries, 0..3), MINUTE);
    assert_eq!(picked(&refused, &entries[..3], true, false, MINUTE + 1), Some((Reason::Recompress, vec![0])));
}

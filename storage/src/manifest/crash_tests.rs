//! Every call of a scripted life of a manifest is where the power fails once, and where the call fails once.

use super::tests::{cut, segment};
use super::*;
use crate::clock::sim::SimClock;
use crate::disk::sim::{Fault, SimDisk, Survival};

const EDITS: u64 = 6;

/// The change that makes edit `number`: cuts, and then a merge of the first two segments.
fn change(number: u64) -> Change {
    let file = |number: u64| FileId { epoch: 0, counter: number as u32 };
    match number {
        4 => Change {
            added: vec![segment(file(4), 0, 1, (1, 20))],
            removed: vec![(file(1), 0), (file(2), 0)],
            ..Change::default()
        },
        _ => Change {
            added: vec![
                segment(file(number), 0, 1, (number * 10 - 9, number * 10)),
                segment(file(number), 1, 2, (number * 10, number * 10)),
            ],
            cut: Some(cut(number * 10)),
            ..Change::default()
        },
    }
}

/// What a reader can tell apart.
fn view(state: &State) -> (u64, Cut, Vec<SegmentEntry>) {
    (state.last_edit, Cut::clone(&state.cut), state.segments().cloned().collect())
}

/// The view after each edit, from a model that knows nothing of files.
fn views() -> Vec<(u64, Cut, Vec<SegmentEntry>)> {
    let mut state = State::new(0, 0);
    let mut views = vec![view(&state)];
    for number in 1..=EDITS {
        let edit = Edit { number, id: 0, previous: 0, epoch: 0, change: change(number) };
        state = state.apply(&edit).unwrap();
        views.push(view(&state));
    }
    views
}

/// What was promised so far.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    database_id: Option<u128>,
    acknowledged: u64,
    begun: u64,
}

/// Opens and commits what is missing; ends at the end of the script, or at the first error after `tries` tries.
fn drive(world: &World, mut known: Known, tries: usize) -> (Known, Result<()>) {
    let result =
        (0..tries).map(|_| life(world, &mut known)).find(|result| !matches!(result, Err(error) if may_retry(error)));
    (known, result.unwrap_or(Err(Error::Poisoned)))
}

/// `Poisoned` ends a process; other errors leave it running.
fn may_retry(error: &Error) -> bool {
    !matches!(error, Error::Poisoned)
}

fn life(world: &World, known: &mut Known) -> Result<()> {
    let (mut manifest, state) = Manifest::open(world)?;
    check(&state, known);
    manifest.set_aside_unnamed()?;
    known.database_id = Some(state.database_id);
    known.acknowledged = state.last_edit;
    for number in state.last_edit + 1..=EDITS {
        known.begun = number;
        let state = match manifest.commit(change(number)) {
            Err(error) if may_retry(&error) => manifest.commit(change(number))?,
            other => other?,
        };
        assert_eq!(state.last_edit, number);
        known.acknowledged = number;
        if number == 3 || number == 5 {
            manifest.checkpoint()?;
        }
    }
    drop(manifest);
    let (mut manifest, state) = Manifest::open(world)?;
    check(&state, known);
    manifest.checkpoint()
}

/// Nothing acknowledged is lost, nothing that was not begun is there, and all of it is one of the model's states.
fn check(state: &State, known: &Known) {
    assert!(
        (known.acknowledged..=known.begun.max(known.acknowledged)).contains(&state.last_edit),
        "{known:?} {state:?}"
    );
    assert_eq!(Some(&view(state)), views().get(state.last_edit as usize), "{known:?}");
    assert!(known.database_id.is_none_or(|id| id == state.database_id), "{known:?}");
    state.check().unwrap();
}

/// The state after a power cut is right, and the script goes on from there.
fn check_power_cut(disk: &SimDisk, clock: &SimClock, known: Known, draws: u64) {
    for survival in Survival::ALL {
        for seed in 0..draws {
            let after = disk.crash(survival, seed);
            let world = World::of(&after, clock);
            match Manifest::read(&world) {
                Ok((state, findings)) => {
                    check(&state, &known);
                    assert!(findings.damaged_checkpoints.is_empty(), "{survival:?} {seed} {findings:?}");
                }
                Err(Error::NotFound { .. }) if known.database_id.is_none() => {}
                Err(error) => panic!("{survival:?} {seed} {known:?}: {error:?}"),
            }
            if seed == 0 {
                let (known, result) = drive(&world, known, 1);
                result.unwrap();
                assert_eq!(known.acknowledged, EDITS);
            }
        }
    }
}

fn calls_of_the_script() -> u64 {
    let disk = SimDisk::new(1);
    drive(&World::of(&disk, &SimClock::new(1)), Known::default(), 1).1.unwrap();
    disk.calls()
}

#[test]
fn a_power_cut_at_any_call_leaves_the_state_before_or_after_the_edit() {
    for at in 1..=calls_of_the_script() {
        let (disk, clock) = (SimDisk::new(at), SimClock::new(at));
        disk.crash_at(at);
        let (known, result) = drive(&World::of(&disk, &clock), Known::default(), 1);
        // The last call may be one whose failure is ignored.
        assert!(result.is_err() || disk.is_dead(), "{at}");
        check_power_cut(&disk, &clock, known, 20);
    }
}

#[test]
fn a_power_cut_during_the_recovery_of_another_one_loses_nothing() {
    for at in (1..=calls_of_the_script()).step_by(3) {
        for again in (1..60).step_by(2) {
            let (disk, clock) = (SimDisk::new(at * 100 + again), SimClock::new(at));
            disk.crash_at(at);
            let (known, _) = drive(&World::of(&disk, &clock), Known::default(), 1);
            let disk = disk.reboot();
            disk.crash_at(again);
            let (known, _) = drive(&World::of(&disk, &clock), known, 1);
            check_power_cut(&disk, &clock, known, 1);
        }
    }
}

#[test]
fn any_call_may_fail_once_and_nothing_acknowledged_is_lost() {
    for fault in Fault::ALL {
        for at in 1..=calls_of_the_script() {
            let (disk, clock) = (SimDisk::new(at), SimClock::new(at));
            disk.fail_at(at, fault);
            let (known, _) = drive(&World::of(&disk, &clock), Known::default(), 3);
            // The process ends, the machine runs on: the page cache shows what the disk may have lost.
            let disk = disk.restart();
            let stop = disk.restart();
            stop.crash_at(1 + (at * 7) % 50);
            let (after_stop, _) = drive(&World::of(&stop, &clock), known, 1);
            check_power_cut(&stop, &clock, after_stop, 2);
            let disk = SimDisk::clone(&disk);
            check_power_cut(&disk, &clock, known, 2);
        }
    }
}

#[test]
fn every_call_may_fail_from_some_point_on() {
    for fault in [Fault::Eio, Fault::Enospc, Fault::EioDone] {
        for at in 1..=calls_of_the_script() {
            let (disk, clock) = (SimDisk::new(at), SimClock::new(at));
            disk.fail_from(at, fault);
            let (known, _) = drive(&World::of(&disk, &clock), Known::default(), 3);
            disk.heal();
            let (known, result) = drive(&World::of(&disk, &clock), known, 1);
            result.unwrap();
            assert_eq!(known.acknowledged, EDITS);
            check_power_cut(&disk, &clock, known, 1);
        }
    }
}

/// A process is killed while it makes a store, at any call; the next one finds what it left, and writes a data file. Then
/// the power fails, and all goes that was not synced.
#[test]
fn what_a_killed_process_left_is_durable_before_anything_is_built_on_it() {
    let calls = {
        let (disk, clock) = (SimDisk::new(1), SimClock::new(1));
        Manifest::open(&World::of(&disk, &clock)).unwrap();
        disk.calls()
    };
    for at in 1..=calls {
        let (disk, clock) = (SimDisk::new(at), SimClock::new(at));
        disk.crash_at(at);
        drop(Manifest::open(&World::of(&disk, &clock)));
        let disk = disk.restart();
        let (_, state) = Manifest::open(&World::of(&disk, &clock)).unwrap();
        disk.put_file("data/00000001-00000001", b"x").unwrap();
        let disk = disk.crash(Survival::None, at);
        let (_, found) = Manifest::open(&World::of(&disk, &clock)).unwrap();
        assert_eq!(found.database_id, state.database_id, "killed at call {at}");
    }
}

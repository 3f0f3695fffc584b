//! What was acknowledged is there after every failure: each call to the disk is the last one before a power cut once, and
//! fails once in each way, in each scenario. After it the log opens, holds all that was acknowledged and at most the
//! group in flight, and takes more.

use super::plant::Plant;
use super::trial::{Step, Trial, fresh_disk};
use super::*;
use crate::clock::sim::SimRng;
use crate::disk::sim::{Fault, Survival};

fn append(sizes: &[usize]) -> Step {
    Step::Append(sizes.to_vec())
}

fn scenarios() -> Vec<(&'static str, Vec<Step>)> {
    let small = || append(&[30, 500]);
    let large = || append(&[2000, 2500]);
    vec![
        ("fresh start", vec![small(), Step::Witness, append(&[0]), append(&[600, 1, 900]), Step::Witness]),
        ("slot change and growth", vec![large(), small(), large(), Step::Grow, large(), Step::Grow, large(), small()]),
        (
            "ring wrap",
            [large(), small(), Step::CutAndWitness]
                .into_iter()
                .cycle()
                .take(18)
                .chain([small(), Step::Witness])
                .collect(),
        ),
        (
            "reopen",
            vec![small(), large(), Step::Reopen, large(), Step::Grow, large(), Step::Reopen, Step::Reopen, small()],
        ),
        (
            "full ring",
            vec![
                large(),
                append(&[6900]),
                append(&[100]),
                append(&[200]),
                Step::CutAndWitness,
                large(),
                Step::Cut,
                large(),
            ],
        ),
        (
            "new size of slots",
            vec![
                large(),
                small(),
                Step::Resize(16 * 1024),
                large(),
                large(),
                Step::Grow,
                Step::Resize(8 * 1024),
                small(),
            ],
        ),
        (
            "zeros",
            vec![
                large(),
                small(),
                Step::CutAndWitness,
                large(),
                Step::Zero,
                small(),
                Step::Zero,
                Step::Grow,
                large(),
                large(),
                Step::Zero,
                Step::Reopen,
                small(),
                Step::Zero,
                large(),
            ],
        ),
        ("any order", any_steps(7, 40)),
    ]
}

fn any_steps(seed: u64, count: usize) -> Vec<Step> {
    let mut rng = SimRng::new(seed);
    let mut step = || match rng.below(14) {
        0 => Step::Witness,
        1 => Step::Cut,
        2 | 3 => Step::CutAndWitness,
        4 => Step::Grow,
        5 => Step::Reopen,
        13 => Step::Zero,
        6 => Step::Resize([8, 12, 16][rng.below(3) as usize] * 1024),
        _ => Step::Append((0..=rng.below(3)).map(|_| rng.below(1800) as usize).collect()),
    };
    (0..count).map(|_| step()).collect()
}

/// How many calls the scenario makes when nothing fails.
fn calls(steps: &[Step], plant: Plant) -> Result<u64, String> {
    let disk = fresh_disk(1);
    Trial::new(plant).run(&disk, steps)?;
    Ok(disk.calls())
}

/// The power goes at each call; each survival is drawn.
fn crash_everywhere(name: &str, steps: &[Step], plant: Plant) -> Result<(), String> {
    for number in 3..=calls(steps, plant)? + 1 {
        let disk = fresh_disk(1);
        disk.crash_at(number);
        let mut trial = Trial::new(plant);
        let check = |broken: String| format!("{name}, power cut at call {number}: {broken}");
        trial.run(&disk, steps).map_err(check)?;
        for survival in Survival::ALL {
            for seed in 0..3 {
                let check =
                    |broken: String| format!("{name}, power cut at call {number}, {survival:?} {seed}: {broken}");
                trial.check_after(&disk.crash(survival, seed)).map_err(check)?;
            }
        }
    }
    Ok(())
}

/// The power goes at each call of the open that follows a power cut.
fn crash_while_opening(name: &str, steps: &[Step], plant: Plant) -> Result<(), String> {
    for number in 3..=calls(steps, plant)? + 1 {
        let disk = fresh_disk(1);
        disk.crash_at(number);
        let mut trial = Trial::new(plant);
        trial.run(&disk, steps)?;
        for second in 1.. {
            let disk = disk.crash(Survival::Random, second);
            disk.crash_at(second);
            let mut trial = trial.clone();
            let check = |broken: String| format!("{name}, power cuts at calls {number} and {second}: {broken}");
            let is_open = trial.open(&disk).map_err(check)?.is_ok();
            trial.check_after(&disk.crash(Survival::Random, second)).map_err(check)?;
            if is_open {
                break;
            }
        }
    }
    Ok(())
}

/// Each call fails in each way; then the process starts again while the machine runs on, and later the power goes.
fn fail_everywhere(name: &str, steps: &[Step], plant: Plant) -> Result<(), String> {
    for number in 3..=calls(steps, plant)? {
        for fault in Fault::ALL {
            let disk = fresh_disk(1);
            disk.fail_at(number, fault);
            let mut trial = Trial::new(plant);
            let check = |broken: String| format!("{name}, {fault:?} at call {number}: {broken}");
            trial.run(&disk, steps).map_err(check)?;
            disk.heal();
            trial.check_after(&disk.restart()).map_err(check)?;
            for survival in [Survival::None, Survival::Random] {
                trial.check_after(&disk.crash(survival, number)).map_err(check)?;
                trial.check_after(&disk.restart().crash(survival, number)).map_err(check)?;
            }
        }
    }
    Ok(())
}

#[test]
fn acknowledged_batches_survive_a_power_cut_at_any_call() {
    for (name, steps) in scenarios() {
        assert_eq!(crash_everywhere(name, &steps, Plant::None), Ok(()));
    }
}

#[test]
fn acknowledged_batches_survive_a_power_cut_while_opening_after_one() {
    for (name, steps) in scenarios() {
        assert_eq!(crash_while_opening(name, &steps, Plant::None), Ok(()));
    }
}

#[test]
fn acknowledged_batches_survive_a_failure_of_any_call() {
    for (name, steps) in scenarios() {
        assert_eq!(fail_everywhere(name, &steps, Plant::None), Ok(()));
    }
}

/// MARIGRAM_SEEDS=2000 runs more of them.
#[test]
fn acknowledged_batches_survive_random_histories() {
    let seeds = std::env::var("MARIGRAM_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(300);
    for seed in 0..seeds {
        let steps = any_steps(seed, 60);
        let mut rng = SimRng::new(!seed);
        let count = calls(&steps, Plant::None).unwrap();
        let mut trial = Trial::new(Plant::None);
        let mut disk = fresh_disk(seed);
        // Several lives of one store, each ended by a power cut or a failed call and a restart.
        for _ in 0..4 {
            let number = disk.calls() + 1 + rng.below(count);
            let is_cut = rng.chance(5);
            if is_cut {
                disk.crash_at(number);
            } else {
                disk.fail_at(number, Fault::ALL[rng.below(Fault::ALL.len() as u64) as usize]);
            }
            trial.run(&disk, &steps).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
            disk = if is_cut { disk.reboot() } else { disk.restart() };
        }
        trial.check_after(&disk.reboot()).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
    }
}

#[test]
fn planted_bugs_are_found() {
    let found_by = |search: fn(&str, &[Step], Plant) -> Result<(), String>, plant| {
        scenarios().into_iter().find_map(|(name, steps)| search(name, &steps, plant).err())
    };
    for plant in [Plant::NoSync, Plant::NoSyncDir, Plant::NoSyncOfHeads, Plant::NoSyncOfLinks, Plant::ReleaseBeforeCut]
    {
        let found = found_by(crash_everywhere, plant);
        assert!(found.is_some(), "{plant:?}");
        println!("{plant:?}: {}", found.unwrap_or_default());
    }
    let found = found_by(fail_everywhere, Plant::SyncAgain);
    assert!(found.is_some());
    println!("SyncAgain: {}", found.unwrap_or_default());
}

/// After a failed sync the page cache shows what the disk lost. The restart must not build on it.
#[test]
fn what_only_the_page_cache_holds_is_written_again_before_it_counts() {
    let disk = fresh_disk(1);
    let mut trial = Trial::new(Plant::None);
    let mut writer = trial.open(&disk).unwrap().unwrap();
    let identity = WalIdentity { database_id: 9, epoch: 1, shard: 0 };
    writer.append(&[batch(b"safe")], 2).unwrap();
    disk.fail_next(crate::disk::sim::Op::Sync, "wal", Fault::Eio);
    assert!(writer.append(&[batch(b"lost")], 2).is_err());
    let restarted = disk.restart();
    let world = World::of(&restarted, &SimClock::new(5));
    let from = ReplayFrom { sequence: 1, manifest_edit: 2, log_epoch: identity.epoch };
    let count = |world: &World, identity, from| {
        let mut count = 0;
        replay(world, identity, from, &mut |_, _, _, _| {
            count += 1;
            Ok(())
        })
        .map(|_| count)
    };
    assert_eq!(count(&world, identity, from).unwrap(), 2, "it is readable");
    // The engine cuts at 2: both are in a segment. The next epoch begins at 3 and stands alone.
    let identity = WalIdentity { epoch: 2, ..identity };
    let mut writer = WalWriter::start(&world, identity, OPTIONS, 3, 3).unwrap();
    assert_eq!(writer.append(&[batch(b"new")], 3).unwrap(), 3..4);
    let cut = restarted.crash(Survival::None, 1);
    let from = ReplayFrom { sequence: 3, manifest_edit: 3, log_epoch: identity.epoch };
    assert_eq!(count(&World::of(&cut, &SimClock::new(6)), identity, from).unwrap(), 1);
}

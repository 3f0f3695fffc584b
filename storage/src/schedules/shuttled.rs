//! Eight producers, two readers and the applier, in random schedules.

#![allow(dead_code, unreachable_pub, reason = "the model needs a part of it")]

#[path = "../applier.rs"]
#[allow(clippy::duplicate_mod, reason = "with the pointer of the checker")]
mod applier;
#[path = "../memtable/set.rs"]
#[allow(clippy::duplicate_mod, reason = "with the pointer of the checker")]
mod memtable;
#[path = "pipeline.rs"]
#[allow(clippy::duplicate_mod, reason = "once for each checker")]
mod pipeline;
#[path = "../wal/queue.rs"]
#[allow(clippy::duplicate_mod, reason = "with the locks of the checker")]
mod queue;

use std::sync::Arc;

use crate::memtable::chunk;
use crate::sync::shuttled as sync;
use pipeline::Pipeline;
use sync::thread;

#[test]
fn eight_producers_and_two_readers_across_generations() {
    const BODIES: u64 = 3;
    shuttle::check_random(
        || {
            let (pipeline, applier) = Pipeline::new(300);
            let mut others: Vec<_> = (0..8)
                .map(|producer| {
                    let pipeline = Arc::clone(&pipeline);
                    thread::spawn(move || pipeline.produce(producer, BODIES))
                })
                .collect();
            for _ in 0..2 {
                let pipeline = Arc::clone(&pipeline);
                others.push(thread::spawn(move || {
                    let mut before = Vec::new();
                    for _ in 0..4 {
                        before = pipeline.look(&before);
                    }
                }));
            }
            pipeline.run(applier, 8 * BODIES, 5);
            others.into_iter().for_each(|other| other.join().unwrap());
            pipeline.check_replay();
        },
        500,
    );
}

//! Two producers, a reader and the applier, in every schedule.

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

use crate::batch::Batch;
use crate::memtable::chunk;
use crate::sync::loomed as sync;
use pipeline::Pipeline;
use sync::thread;

/// Two bodies, as two producers resolved them before either was stored: both carry all definitions.
fn two_bodies() -> [(Batch, Vec<u8>); 2] {
    let (pipeline, _) = Pipeline::new(1);
    [pipeline.resolve(0), pipeline.resolve(101)]
}

/// Queue and publish: whoever is told that a body is stored sees it, and all of it.
#[test]
fn two_producers_see_what_they_were_told() {
    let bodies = std::sync::OnceLock::new();
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(move || {
        let (pipeline, applier) = Pipeline::new(1);
        let bodies: &[(Batch, Vec<u8>); 2] = bodies.get_or_init(two_bodies);
        let producers = bodies.clone().map(|body| {
            let pipeline = Arc::clone(&pipeline);
            thread::spawn(move || {
                assert!(pipeline.write(body));
                assert!(!pipeline.look(&[]).is_empty(), "what was acknowledged is not shown");
            })
        });
        pipeline.run(applier, 2, 0);
        producers.into_iter().for_each(|producer| producer.join().unwrap());
        pipeline.check_replay();
    });
}

/// Publish: a reader that looks while bodies are applied sees them whole or not at all, and never less than before.
#[test]
fn a_reader_sees_whole_bodies() {
    let bodies = std::sync::OnceLock::new();
    loom::model(move || {
        let (pipeline, mut applier) = Pipeline::new(1);
        let bodies: &[(Batch, Vec<u8>); 2] = bodies.get_or_init(two_bodies);
        let reader = {
            let pipeline = Arc::clone(&pipeline);
            thread::spawn(move || {
                let before = pipeline.look(&[]);
                pipeline.look(&before);
            })
        };
        let [first, second] = bodies.clone();
        pipeline.take(&mut applier, 1, first);
        pipeline.take(&mut applier, 2, second);
        reader.join().unwrap();
        pipeline.check_replay();
    });
}

//! The queue under random schedules: eight producers, one consumer, a close in the middle.
//! The file of the queue is compiled a second time here, with the locks of the model checker.

#[path = "../queue.rs"]
#[allow(dead_code, unreachable_pub, clippy::duplicate_mod, reason = "the model needs a part of it")]
mod queue;

use queue::{Drained, Queue, Refused};
use shuttle::sync::Arc;
use shuttle::thread;

/// What `queue.rs` finds as `super::sync`.
use crate::sync::shuttled as sync;

#[test]
fn eight_producers_keep_their_order_and_the_bound() {
    shuttle::check_random(
        || {
            let queue = Arc::new(Queue::new(3));
            let producers: Vec<_> = (0..8)
                .map(|producer| {
                    let queue = Arc::clone(&queue);
                    thread::spawn(move || (0..3).for_each(|step| queue.push((producer, step), 1, None).unwrap()))
                })
                .collect();
            let mut next = [0; 8];
            let mut count = 0;
            while count < 24 {
                let Drained::Entries(entries) = queue.drain(2, None) else { panic!("nothing came") };
                assert!(entries.len() <= 2);
                assert!(queue.used_bytes() <= 3);
                for (producer, step) in entries {
                    assert_eq!(step, next[producer]);
                    next[producer] += 1;
                    count += 1;
                }
            }
            producers.into_iter().for_each(|producer| producer.join().unwrap());
        },
        2000,
    );
}

#[test]
fn a_close_loses_nothing_that_was_taken() {
    shuttle::check_random(
        || {
            let queue = Arc::new(Queue::new(2));
            let producers: Vec<_> = (0..8u64)
                .map(|producer| {
                    let queue = Arc::clone(&queue);
                    thread::spawn(move || match queue.push(producer, 1, None) {
                        Ok(()) => 1,
                        Err(Refused::Closed { entry }) => {
                            assert_eq!(entry, producer);
                            0
                        }
                        Err(Refused::Full { .. }) => panic!("it waits for ever"),
                    })
                })
                .collect();
            let closer = {
                let queue = Arc::clone(&queue);
                thread::spawn(move || queue.close())
            };
            let mut drained = 0;
            while let Drained::Entries(entries) = queue.drain(u64::MAX, None) {
                drained += entries.len();
            }
            closer.join().unwrap();
            let taken: usize = producers.into_iter().map(|producer| producer.join().unwrap()).sum();
            assert_eq!(drained, taken);
        },
        2000,
    );
}

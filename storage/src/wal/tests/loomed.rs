//! The queue under all schedules: two producers, one consumer.
//! The file of the queue is compiled a second time here, with the locks of the model checker.

#[path = "../queue.rs"]
#[allow(dead_code, unreachable_pub, clippy::duplicate_mod, reason = "the model needs a part of it")]
mod queue;

use loom::sync::Arc;
use loom::thread;
use queue::{Drained, Queue, Refused};

/// What `queue.rs` finds as `super::sync`.
use crate::sync::loomed as sync;

#[test]
fn two_producers_and_a_queue_for_one_entry() {
    loom::model(|| {
        let queue = Arc::new(Queue::new(1));
        let producers = [1, 2].map(|producer| {
            let queue = Arc::clone(&queue);
            thread::spawn(move || queue.push(producer, 1, None).unwrap())
        });
        let mut sum = 0;
        for _ in 0..2 {
            let Drained::Entries(entries) = queue.drain(1, None) else { panic!("nothing came") };
            assert_eq!(entries.len(), 1);
            sum += entries[0];
        }
        producers.into_iter().for_each(|producer| producer.join().unwrap());
        assert_eq!(sum, 3);
    });
}

#[test]
fn two_producers_meet_a_close() {
    loom::model(|| {
        let queue = Arc::new(Queue::new(1));
        let producers = [1, 2].map(|producer| {
            let queue = Arc::clone(&queue);
            thread::spawn(move || match queue.push(producer, 1, None) {
                Ok(()) => producer,
                Err(Refused::Closed { .. }) => 0,
                Err(Refused::Full { .. }) => panic!("it waits for ever"),
            })
        });
        let mut sum = 0;
        if let Drained::Entries(entries) = queue.drain(1, None) {
            sum += entries.iter().sum::<i32>();
        }
        queue.close();
        while let Drained::Entries(entries) = queue.drain(1, None) {
            sum += entries.iter().sum::<i32>();
        }
        assert_eq!(queue.drain(1, None), Drained::Closed);
        let taken: i32 = producers.into_iter().map(|producer| producer.join().unwrap()).sum();
        assert_eq!(sum, taken);
    });
}

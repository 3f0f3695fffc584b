//! The queue between producers and the WAL thread, with real threads. All its schedules: `loomed.rs`, `shuttled.rs`.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::super::queue::{Drained, Queue, Refused};

const NO_WAIT: Option<Duration> = Some(Duration::ZERO);

#[test]
fn entries_are_drained_in_order_up_to_the_bytes_given() {
    let queue = Queue::new(100);
    for entry in 1..=4 {
        queue.push(entry, 10, NO_WAIT).unwrap();
    }
    assert_eq!(queue.used_bytes(), 40);
    assert_eq!(queue.drain(25, NO_WAIT), Drained::Entries(vec![1, 2]));
    assert_eq!(queue.drain(5, NO_WAIT), Drained::Entries(vec![3]), "at least one");
    assert_eq!(queue.drain(10, NO_WAIT), Drained::Entries(vec![4]));
    assert_eq!(queue.drain(10, NO_WAIT), Drained::Idle);
    assert_eq!(queue.used_bytes(), 0);
}

#[test]
fn a_full_queue_refuses_after_the_wait_and_gives_the_entry_back() {
    let queue = Queue::new(100);
    queue.push("a", 60, NO_WAIT).unwrap();
    queue.push("b", 40, NO_WAIT).unwrap();
    assert_eq!(queue.push("c", 1, NO_WAIT), Err(Refused::Full { entry: "c", used_bytes: 100 }));
    let waited = queue.push("c", 1, Some(Duration::from_millis(2)));
    assert_eq!(waited, Err(Refused::Full { entry: "c", used_bytes: 100 }));
    assert_eq!(queue.drain(60, NO_WAIT), Drained::Entries(vec!["a"]));
    queue.push("c", 60, NO_WAIT).unwrap();
}

#[test]
fn an_entry_above_the_bound_is_taken_by_an_empty_queue_only() {
    let queue = Queue::new(10);
    queue.push(1, 50, NO_WAIT).unwrap();
    assert!(matches!(queue.push(2, 50, NO_WAIT), Err(Refused::Full { entry: 2, .. })));
    assert_eq!(queue.drain(10, NO_WAIT), Drained::Entries(vec![1]));
    queue.push(2, 50, NO_WAIT).unwrap();
}

#[test]
fn a_closed_queue_takes_nothing_and_gives_all_it_has() {
    let queue = Queue::new(10);
    queue.push(1, 1, NO_WAIT).unwrap();
    queue.close();
    assert_eq!(queue.push(2, 1, None), Err(Refused::Closed { entry: 2 }));
    assert_eq!(queue.drain(10, None), Drained::Entries(vec![1]));
    assert_eq!(queue.drain(10, None), Drained::Closed);
}

#[test]
fn producers_wait_for_room_and_the_consumer_for_entries() {
    let queue = Arc::new(Queue::new(3));
    let producers: Vec<_> = (0..4u64)
        .map(|producer| {
            let queue = Arc::clone(&queue);
            thread::spawn(move || (0..200).for_each(|step| queue.push((producer, step), 1, None).unwrap()))
        })
        .collect();
    let mut next = [0; 4];
    let mut count = 0;
    while count < 800 {
        let Drained::Entries(entries) = queue.drain(u64::MAX, None) else { panic!("nothing came") };
        assert!(entries.len() <= 3);
        for (producer, step) in entries {
            assert_eq!(step, next[producer as usize]);
            next[producer as usize] += 1;
            count += 1;
        }
    }
    producers.into_iter().for_each(|producer| producer.join().unwrap());
}

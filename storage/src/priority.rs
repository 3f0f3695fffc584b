//! Which threads the system prefers: those that acknowledge, over those that may wait.

use std::cell::Cell;
use std::time::{Duration, Instant};

use rustix::process::{getpriority_process, setpriority_process};

use crate::error::{Error, Result};

/// How long a thread of low priority computes before it asks whether another one waits. The system alone would look at its next
/// tick, up to 4 ms later: what was woken meanwhile does not always take the processor from who has not had its turn. Shorter
/// turns would cost the thread its share, because who yields gives the rest of a turn away.
const TURN: Duration = Duration::from_millis(2);

thread_local! {
    /// When the turn of a thread of low priority began.
    static TURN_BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Makes the calling thread yield to the others of the process: `steps` more of niceness, up to the system's 19.
/// Threads that it starts inherit it, and without a privilege nothing takes it back.
pub fn lower_priority(steps: u8) -> Result<()> {
    // On Linux niceness belongs to a thread, and nobody means the caller.
    let failed = |error: rustix::io::Errno| Error::io("lower the priority of", "a thread", error.into());
    let nice = getpriority_process(None).map_err(failed)?;
    setpriority_process(None, (nice + i32::from(steps)).min(19)).map_err(failed)?;
    TURN_BEGAN.set(Some(now()));
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "turns of a real processor, which change no result")]
fn now() -> Instant {
    Instant::now()
}

/// Lets others run, if the calling thread is of low priority and its turn is over. To be called about every 0.1 ms of work.
pub(crate) fn give_way() {
    let Some(began) = TURN_BEGAN.get() else { return };
    if began.elapsed() < TURN {
        return;
    }
    std::thread::yield_now();
    TURN_BEGAN.set(Some(now()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_threads_of_low_priority_have_turns() {
        std::thread::spawn(|| {
            give_way();
            assert_eq!(TURN_BEGAN.get(), None);
            lower_priority(1).unwrap();
            let began = TURN_BEGAN.get().unwrap();
            give_way();
            std::thread::sleep(TURN);
            give_way();
            assert!(TURN_BEGAN.get().unwrap() >= began + TURN, "the next turn began");
        })
        .join()
        .unwrap();
    }

    #[test]
    fn only_the_calling_thread_and_its_children_yield() {
        let before = getpriority_process(None).unwrap();
        let seen = std::thread::spawn(|| {
            lower_priority(2).unwrap();
            let child = std::thread::spawn(|| getpriority_process(None).unwrap());
            (getpriority_process(None).unwrap(), child.join().unwrap())
        });
        let wanted = (before + 2).min(19);
        assert_eq!(seen.join().unwrap(), (wanted, wanted));
        assert_eq!(getpriority_process(None).unwrap(), before);
    }
}

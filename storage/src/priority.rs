//! Which threads the system prefers: those that acknowledge, over those that may wait.

use std::cell::Cell;
use std::time::{Duration, Instant};

use rustix::process::{getpid, getpriority_process, setpriority_process};

use crate::error::{Error, Result};

/// How long a thread of low priority computes before it lets go of the processor. The system alone would look at its next tick,
/// up to 4 ms later, whether what was woken meanwhile should run.
const TURN: Duration = Duration::from_millis(2);
/// And for how long: as short as a sleep gets, about 0.05 ms. To yield is not enough. Linux picks among the threads of our own
/// group then, while those that wait may be in another one: threads of the kernel that flush the disk for a write, say.
const NAP: Duration = Duration::from_nanos(1);
/// What Linux takes for a thread's slice, in ns: the least that it allows. Since 6.12 a slice belongs to the thread. Until it is
/// over nobody who wakes up takes the processor away, and of those that wait the one with the shortest goes first. Older systems
/// have one slice for all, of about 3 ms, and ignore it.
const SLICE_NS: u64 = 100_000;

thread_local! {
    /// When the turn of a thread of low priority began.
    static TURN_BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Makes the calling thread yield to the others of the process: `steps` more of niceness than the first thread of the process
/// has, up to the system's 19; never less than it has already. Threads that it starts inherit it, which is why the first one is
/// asked, and without a privilege nothing takes it back.
pub fn lower_priority(steps: u8) -> Result<()> {
    // On Linux niceness belongs to a thread, and nobody means the caller.
    let failed = |error: rustix::io::Errno| Error::io("lower the priority of", "a thread", error.into());
    let first = getpriority_process(Some(getpid())).map_err(failed)?;
    let nice = getpriority_process(None).map_err(failed)?;
    setpriority_process(None, (first + i32::from(steps)).min(19).max(nice)).map_err(failed)?;
    shorten_slice();
    TURN_BEGAN.set(Some(now()));
    Ok(())
}

/// Asks the system to let the calling thread run soon after it wakes up, and others soon after that. For threads that work a
/// little and wait, while somebody waits for them; it changes nobody's share. Where the system refuses, or whoever started the
/// process chose another policy than the usual one, nothing changes.
pub fn shorten_slice() {
    // SAFETY: the call asks for a number of the calling thread (0).
    if unsafe { libc::sched_getscheduler(0) } != libc::SCHED_OTHER {
        return;
    }
    let set = |nice| {
        let attributes = libc::sched_attr {
            size: size_of::<libc::sched_attr>() as u32,
            sched_policy: libc::SCHED_OTHER as u32,
            sched_flags: 0,
            sched_nice: nice,
            sched_priority: 0,
            sched_runtime: SLICE_NS,
            sched_deadline: 0,
            sched_period: 0,
        };
        // SAFETY: the call reads `size` bytes of a value that outlives it, and changes the calling thread (0) alone.
        let failed = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) } != 0;
        if failed { Err(std::io::Error::last_os_error()) } else { Ok(()) }
    };
    if let Err(error) = getpriority_process(None).map_err(std::io::Error::from).and_then(set) {
        tracing::debug!(%error, "a thread keeps the slice that the system gives to all");
    }
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
    std::thread::sleep(NAP);
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
    fn a_short_slice_keeps_the_priority() {
        let nice = std::thread::spawn(|| {
            let before = getpriority_process(None).unwrap();
            let policy = unsafe { libc::sched_getscheduler(0) };
            lower_priority(3).unwrap();
            shorten_slice();
            let mut attributes: libc::sched_attr = unsafe { std::mem::zeroed() };
            let size = size_of::<libc::sched_attr>() as u32;
            let got = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) };
            assert_eq!(got, 0, "{}", std::io::Error::last_os_error());
            // An older system does not keep it.
            assert!([0, SLICE_NS].contains(&attributes.sched_runtime), "{}", attributes.sched_runtime);
            assert_eq!(attributes.sched_policy, policy as u32);
            (before, attributes.sched_nice)
        });
        let (before, after) = nice.join().unwrap();
        assert_eq!(after, (before + 3).min(19));
    }

    #[test]
    fn a_policy_that_somebody_chose_stays() {
        std::thread::spawn(|| {
            let parameters = libc::sched_param { sched_priority: 0 };
            assert_eq!(unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters) }, 0);
            shorten_slice();
            assert_eq!(unsafe { libc::sched_getscheduler(0) }, libc::SCHED_BATCH);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn only_the_calling_thread_and_its_children_yield() {
        let before = getpriority_process(None).unwrap();
        let seen = std::thread::spawn(|| {
            lower_priority(2).unwrap();
            // Who asks again has it already.
            let again = || lower_priority(2).map(|()| getpriority_process(None).unwrap()).unwrap();
            let child = std::thread::spawn(again);
            (getpriority_process(None).unwrap(), child.join().unwrap())
        });
        let wanted = (before + 2).min(19);
        assert_eq!(seen.join().unwrap(), (wanted, wanted));
        assert_eq!(getpriority_process(None).unwrap(), before);
    }
}

//! Which threads the system prefers: those that acknowledge, over those that may wait.

use rustix::process::{getpriority_process, setpriority_process};

use crate::error::{Error, Result};

/// Makes the calling thread yield to the others of the process: `steps` more of niceness, up to the system's 19.
/// Threads that it starts inherit it, and without a privilege nothing takes it back.
pub fn lower_priority(steps: u8) -> Result<()> {
    // On Linux niceness belongs to a thread, and nobody means the caller.
    let failed = |error: rustix::io::Errno| Error::io("lower the priority of", "a thread", error.into());
    let nice = getpriority_process(None).map_err(failed)?;
    setpriority_process(None, (nice + i32::from(steps)).min(19)).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

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

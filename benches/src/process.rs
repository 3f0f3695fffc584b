//! What a process costs: CPU seconds, anonymous memory, and what a directory lies on.
//!
//! Reads `/proc`, so it works on Linux only. A figure about durability counts only on a real file system: [`DataDir`]
//! refuses `tmpfs` and `overlay`, where a sync costs nothing or means something else.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// CPU seconds of the calling thread.
pub fn thread_cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// CPU seconds of this process.
pub fn process_cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Seconds of a clock that only grows.
pub fn wall_seconds() -> f64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// User and system CPU seconds of a process, with all threads it had. Counts in steps of 10 ms.
pub fn cpu_seconds(pid: u32) -> io::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name is in brackets and may hold spaces; utime and stime are fields 14 and 15.
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    let ticks: u64 = after.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(ticks as f64 / 100.0)
}

/// CPU seconds of each living thread of a process, by name; threads of one name together.
pub fn threads_cpu_seconds(pid: u32) -> io::Result<Vec<(String, f64)>> {
    let mut threads: Vec<(String, f64)> = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let path = task?.path();
        // A thread may end between the two calls.
        let Ok(name) = fs::read_to_string(path.join("comm")) else { continue };
        let Ok(schedule) = fs::read_to_string(path.join("schedstat")) else { continue };
        let ns: u64 = schedule.split_whitespace().next().and_then(|ns| ns.parse().ok()).unwrap_or(0);
        let (name, seconds) = (name.trim().to_owned(), ns as f64 / 1e9);
        match threads.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum += seconds,
            None => threads.push((name, seconds)),
        }
    }
    Ok(threads)
}

/// Anonymous memory of a process: what it allocated and touched, without the page cache.
pub fn anonymous_bytes(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or("0");
    Ok(line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024)
}

/// Looks at a process every 10 ms until it is dropped, and keeps the most memory it saw.
#[derive(Debug)]
pub struct MemoryWatch {
    peak: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl MemoryWatch {
    /// Begins to look.
    pub fn start(pid: u32) -> Self {
        let (peak, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (most, ended) = (Arc::clone(&peak), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                most.fetch_max(anonymous_bytes(pid).unwrap_or(0), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        Self { peak, stop, thread: Some(thread) }
    }

    /// The most anonymous memory so far.
    pub fn peak_bytes(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }
}

impl Drop for MemoryWatch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

/// The name of the file system of a path, as far as this table knows it.
pub fn file_system(path: &Path) -> io::Result<String> {
    let kind = rustix::fs::statfs(path)?.f_type as u64;
    Ok(match kind {
        0xef53 => "ext4".to_owned(),
        0x5846_5342 => "xfs".to_owned(),
        0x9123_683e => "btrfs".to_owned(),
        0x2fc1_2fc1 => "zfs".to_owned(),
        0x0102_1994 => "tmpfs".to_owned(),
        0x794c_7630 => "overlay".to_owned(),
        other => format!("{other:#x}"),
    })
}

/// A fresh directory on a real file system; gone when dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    file_system: String,
}

impl DataDir {
    /// Under `MARIGRAM_BENCH_DIR`, or under `target/bench` of the working directory.
    pub fn fresh(name: &str) -> io::Result<Self> {
        let base = std::env::var_os("MARIGRAM_BENCH_DIR").map_or_else(|| PathBuf::from("target/bench"), PathBuf::from);
        let path = base.join(format!("{name}-{}", std::process::id()));
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir_all(&path)?;
        let file_system = file_system(&path)?;
        if file_system == "tmpfs" || file_system == "overlay" {
            fs::remove_dir_all(&path)?;
            return Err(io::Error::other(format!(
                "{} is on {file_system}, where figures do not count: set MARIGRAM_BENCH_DIR",
                path.display()
            )));
        }
        Ok(Self { path, file_system })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it lies on.
    pub fn file_system(&self) -> &str {
        &self.file_system
    }

    /// Bytes of all files under a directory in it.
    pub fn bytes_of(&self, folder: &str) -> io::Result<u64> {
        fn walk(path: &Path) -> io::Result<u64> {
            let mut bytes = 0;
            for entry in fs::read_dir(path)? {
                let entry = entry?;
                bytes += if entry.file_type()?.is_dir() { walk(&entry.path())? } else { entry.metadata()?.len() };
            }
            Ok(bytes)
        }
        walk(&self.path.join(folder))
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.path);
    }
}

/// The value at a quantile from 0 to 1; 0 of nothing.
pub fn quantile(values: &mut [f64], at: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let index = (values.len().saturating_sub(1)) as f64 * at;
    values.get(index.round() as usize).copied().unwrap_or(0.0)
}

/// The middle value.
pub fn median(mut values: Vec<f64>) -> f64 {
    quantile(&mut values, 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_and_memory_of_this_process_are_seen() {
        let pid = std::process::id();
        let before = thread_cpu_seconds();
        let block: Vec<u64> = (0..4_000_000).map(std::hint::black_box).collect();
        assert!(thread_cpu_seconds() > before);
        assert!(anonymous_bytes(pid).unwrap() > block.len() as u64 * 8);
        assert!(!threads_cpu_seconds(pid).unwrap().is_empty());
        cpu_seconds(pid).unwrap();
    }

    #[test]
    fn the_median_is_the_middle_value() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(Vec::new()), 0.0);
    }
}

//! Bodies of line protocol for the tour: the history that it makes up, and how they are sent.

use std::fmt::Write as _;
use std::path::Path;
use std::thread;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::machine::{Machine, escaped};
use crate::cli::client::Client;
use crate::cli::{CliError, CliResult};

const SECOND_NS: i64 = 1_000_000_000;
const STEP_NS: i64 = 10 * SECOND_NS;
const HISTORY_NS: i64 = 3 * 86_400 * SECOND_NS;
/// Lines of a body.
const BODY_LINES: usize = 10_000;
/// More cores say nothing new.
const CORES_MAX: usize = 8;

/// What was sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fed {
    pub(super) rows: u64,
    pub(super) bytes: u64,
}

/// Three days up to `now`, ns since the epoch, one row every ten seconds for each core and for memory.
pub(super) fn history(client: &Client, database: &str, machine: &Machine, now: i64) -> CliResult<Fed> {
    let mut fed = Fed::default();
    let mut body = String::new();
    let mut lines = 0;
    let start = (now - HISTORY_NS).div_euclid(STEP_NS) * STEP_NS;
    let steps = u64::try_from((now - start) / STEP_NS).unwrap_or(0);
    // indicatif draws on terminals only.
    let style =
        ProgressStyle::with_template("{bar:40} {percent}% {eta}").unwrap_or_else(|_| ProgressStyle::default_bar());
    let progress = ProgressBar::new(steps).with_style(style);
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let host = escaped(&machine.host);
    let cores = machine.cores().min(CORES_MAX);
    let memory = machine.memory_bytes() as f64;
    let mut used = 0.4;
    for at in (start..now).step_by(STEP_NS.unsigned_abs() as usize) {
        let day = at.rem_euclid(86_400 * SECOND_NS) as f64 / (86_400.0 * SECOND_NS as f64);
        // Low at night, high in the afternoon.
        let load = 35.0 - 25.0 * (std::f64::consts::TAU * (day - 0.1)).cos();
        for core in 0..cores {
            let usage = (load + 12.0 * noise.next() + 3.0 * core as f64).clamp(0.0, 100.0);
            let _ = writeln!(body, "cpu,host={host},origin=history,core={core} usage_percent={usage:.2} {at}");
        }
        used = (used + 0.002 * noise.next()).clamp(0.1, 0.9);
        let bytes = ((memory * used) as u64).next_multiple_of(4096);
        let free = (memory as u64).saturating_sub(bytes);
        let _ = writeln!(body, "memory,host={host},origin=history used_bytes={bytes}i,available_bytes={free}i {at}");
        lines += cores + 1;
        progress.inc(1);
        if BODY_LINES <= lines || at + STEP_NS >= now {
            send(client, database, body.as_bytes())?;
            fed.rows += lines as u64;
            fed.bytes += body.len() as u64;
            body.clear();
            lines = 0;
        }
    }
    progress.finish_and_clear();
    Ok(fed)
}

/// Sends one body; waits where the server is full.
pub(super) fn send(client: &Client, database: &str, body: &[u8]) -> CliResult {
    for _ in 0..20 {
        let reply = client.write(database, "ns", body)?;
        match reply.status {
            204 => return Ok(()),
            503 => thread::sleep(Duration::from_millis(250)),
            status => return Err(CliError::failed(format_args!("the server answered {status}: {}", reply.message))),
        }
    }
    Err(CliError::failed("the server stays full"))
}

/// All bytes of the files below a directory.
pub(super) fn bytes_below(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

/// Numbers between -1 and 1 that look like chance and are the same each time.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_stays_between_its_bounds_and_repeats() {
        let values = |seed| {
            let mut noise = Noise(seed);
            (0..1000).map(|_| noise.next()).collect::<Vec<_>>()
        };
        assert!(values(7).iter().all(|value| (-1.0..=1.0).contains(value)));
        assert!(values(7).iter().any(|value| *value < -0.5) && values(7).iter().any(|value| *value > 0.5));
        assert_eq!(values(7), values(7));
    }
}

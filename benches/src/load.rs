//! Load that goes on: bodies that are sent again with later times, and how long each took to be acknowledged.

use std::sync::Mutex;
use std::time::Duration;

use crate::process::{quantile, wall_seconds};
use crate::report::Result;
use crate::server::ServerProcess;
use crate::tsbs::CpuOnly;

/// Digits of a time in ns, from 2001 to 2286.
const TIME_DIGITS: usize = 19;

/// TSBS bodies, prepared once. Body `n` differs from body `n - len` in its times alone, so no time of a series comes twice.
#[derive(Debug)]
pub struct Bodies {
    bodies: Vec<Body>,
    rows: usize,
    /// How much later each round is.
    round_ns: i64,
}

#[derive(Debug)]
struct Body {
    text: Vec<u8>,
    /// Where times begin, and what they are in the first round.
    times: Vec<(u32, i64)>,
    /// Of the first field.
    sum: i64,
}

impl Bodies {
    /// Bodies of `rows` rows for all of `hosts` at `steps` times, `step_s` seconds apart. `hosts * steps` is a multiple of `rows`.
    pub fn new(hosts: usize, steps: usize, step_s: i64, start_ns: i64, rows: usize) -> Self {
        assert!((hosts * steps).is_multiple_of(rows));
        let mut workload = CpuOnly::new(hosts, step_s, start_ns, 1);
        let bodies = (0..hosts * steps / rows).map(|_| Body::new(workload.lines(rows))).collect();
        Self { bodies, rows, round_ns: steps as i64 * step_s * 1_000_000_000 }
    }

    /// Rows of each body.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Puts body `number` into `out`; the sum of its first field.
    pub fn fill(&self, number: usize, out: &mut Vec<u8>) -> i64 {
        out.clear();
        let Some(body) = self.bodies.get(number % self.bodies.len().max(1)) else { return 0 };
        out.extend_from_slice(&body.text);
        let shift = (number / self.bodies.len()) as i64 * self.round_ns;
        let mut known = (i64::MIN, [0; TIME_DIGITS]);
        for (at, time) in &body.times {
            if known.0 != *time {
                known = (*time, digits(time + shift));
            }
            if let Some(target) = out.get_mut(*at as usize..*at as usize + TIME_DIGITS) {
                target.copy_from_slice(&known.1);
            }
        }
        body.sum
    }
}

impl Body {
    fn new(text: Vec<u8>) -> Self {
        let (mut times, mut sum, mut at) = (Vec::new(), 0, 0);
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            at += line.len();
            let line = std::str::from_utf8(line).unwrap_or_default().trim_end();
            let time = line.rsplit(' ').next().and_then(|time| time.parse().ok()).unwrap_or_default();
            times.push(((at - 1 - TIME_DIGITS) as u32, time));
            let first = line.split("usage_user=").nth(1).and_then(|rest| rest.split('i').next());
            sum += first.and_then(|value| value.parse::<i64>().ok()).unwrap_or_default();
        }
        Self { text, times, sum }
    }
}

fn digits(time: i64) -> [u8; TIME_DIGITS] {
    let mut out = [b'0'; TIME_DIGITS];
    let mut rest = time;
    for digit in out.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    out
}

/// What came of a load.
#[derive(Debug, Default)]
pub struct Acks {
    /// When each reply came, and how many ms after its body was due.
    pub acks: Vec<(f64, f64)>,
    /// How often the server was full, and the body was sent again a moment later.
    pub full: u64,
}

impl Acks {
    /// The ms at a quantile of those whose replies came within a span.
    pub fn quantile_within(&self, from: f64, to: f64, at: f64) -> f64 {
        let within = self.acks.iter().filter(|(when, _)| (from..to).contains(when));
        quantile(&mut within.map(|(_, ms)| *ms).collect::<Vec<_>>(), at)
    }
}

/// Sends over `connections` what `next` puts into the buffer until it returns `None`; it returns when the body was due.
pub fn send_timed(
    server: &ServerProcess,
    connections: usize,
    next: &(dyn Fn(&mut Vec<u8>) -> Option<f64> + Sync),
) -> Result<Acks> {
    let all = Mutex::new(Acks::default());
    let client = || -> Result<()> {
        let (mut connection, mut body, mut own) = (server.connect()?, Vec::new(), Acks::default());
        while let Some(due) = next(&mut body) {
            while connection.write(&body)? == 503 {
                own.full += 1;
                std::thread::sleep(Duration::from_millis(20));
            }
            let now = wall_seconds();
            own.acks.push((now, (now - due) * 1e3));
        }
        let mut all = all.lock().map_err(|_| "poisoned")?;
        all.acks.extend(own.acks);
        all.full += own.full;
        Ok(())
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..connections).map(|_| scope.spawn(client)).collect();
        clients.into_iter().try_for_each(|client| client.join().unwrap_or_else(|_| Err("a client died".into())))
    })?;
    Ok(all.into_inner().map_err(|_| "poisoned")?)
}

/// Waits until nothing is compacted any more, three looks a second apart, or for `seconds_max`. Whether it ended.
pub fn until_compacted(server: &ServerProcess, seconds_max: u64) -> Result<bool> {
    let mut quiet = 0;
    for _ in 0..seconds_max {
        let busy = server.metric("marigram_compactions_running")? + server.metric("marigram_memtables_sealed")?;
        quiet = if busy == 0.0 { quiet + 1 } else { 0 };
        if quiet == 3 {
            return Ok(true);
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::START_NS;

    #[test]
    fn a_later_round_has_later_times_and_nothing_else() {
        let bodies = Bodies::new(4, 2, 10, START_NS, 4);
        let (mut first, mut other) = (Vec::new(), Vec::new());
        let sum = bodies.fill(1, &mut first);
        assert_eq!(first, CpuOnly::new(4, 10, START_NS, 1).lines(8)[first_half(&bodies)..]);
        assert_eq!(bodies.fill(5, &mut other), sum);
        let later = String::from_utf8(first).unwrap().replace("1451606410000000000", "1451606450000000000");
        assert_eq!(String::from_utf8(other).unwrap(), later);
        let values = later.lines().map(|line| {
            let rest = line.split_once("usage_user=").unwrap().1;
            rest.split_once('i').unwrap().0.parse::<i64>().unwrap()
        });
        assert_eq!(sum, values.sum::<i64>());
    }

    fn first_half(bodies: &Bodies) -> usize {
        bodies.bodies[0].text.len()
    }
}

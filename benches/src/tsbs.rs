//! TSBS's `cpu-only` workload: 10 tags and 10 integer fields a row, about 347 bytes of line protocol.
//!
//! The same seed gives the same bytes. Hosts take turns, as in TSBS: all of them at one time, then all at the next.

use std::io::Write;

/// The tags, in the order of TSBS.
pub const TAGS: [&str; 10] = [
    "hostname",
    "region",
    "datacenter",
    "rack",
    "os",
    "arch",
    "team",
    "service",
    "service_version",
    "service_environment",
];

/// The fields, in the order of TSBS.
pub const FIELDS: [&str; 10] = [
    "usage_user",
    "usage_system",
    "usage_idle",
    "usage_nice",
    "usage_iowait",
    "usage_irq",
    "usage_softirq",
    "usage_steal",
    "usage_guest",
    "usage_guest_nice",
];

const REGIONS: [(&str, u64); 9] = [
    ("us-east-1", 5),
    ("us-west-1", 2),
    ("us-west-2", 3),
    ("eu-west-1", 3),
    ("eu-central-1", 2),
    ("ap-southeast-1", 2),
    ("ap-southeast-2", 2),
    ("ap-northeast-1", 2),
    ("sa-east-1", 3),
];
const OSES: [&str; 3] = ["Ubuntu16.10", "Ubuntu16.04LTS", "Ubuntu15.10"];
const ARCHES: [&str; 2] = ["x64", "x86"];
const TEAMS: [&str; 4] = ["SF", "NYC", "LON", "CHI"];
const ENVIRONMENTS: [&str; 3] = ["production", "staging", "test"];

/// The workload. Every value walks between 0 and 100 in steps of standard deviation 1 and is sent as a whole number, as in
/// TSBS: what a step costs when it is stored depends on it.
#[derive(Clone, Debug)]
pub struct CpuOnly {
    hosts: Vec<Host>,
    step_ns: i64,
    time: i64,
    next_host: usize,
    random: Random,
}

#[derive(Clone, Debug)]
struct Host {
    /// `cpu,hostname=…` with all tags.
    key: String,
    values: [f64; FIELDS.len()],
}

impl CpuOnly {
    /// `hosts` series with a row each `step_s` seconds from `start_ns` on.
    pub fn new(hosts: usize, step_s: i64, start_ns: i64, seed: u64) -> Self {
        let mut random = Random(seed);
        let hosts = (0..hosts).map(|number| Host::new(number, &mut random)).collect();
        Self { hosts, step_ns: step_s * 1_000_000_000, time: start_ns, next_host: 0, random }
    }

    /// Appends the next `rows` lines.
    pub fn write_lines(&mut self, rows: usize, out: &mut Vec<u8>) {
        for _ in 0..rows {
            self.write_line(out);
        }
    }

    /// The next `rows` lines.
    pub fn lines(&mut self, rows: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(rows * 360);
        self.write_lines(rows, &mut out);
        out
    }

    fn write_line(&mut self, out: &mut Vec<u8>) {
        self.write_line_at(self.next_host, self.time, out);
        self.next_host += 1;
        if self.next_host == self.hosts.len() {
            self.next_host = 0;
            self.time += self.step_ns;
        }
    }

    /// Appends a line of one host with a time out of turn.
    pub fn write_line_at(&mut self, host: usize, time_ns: i64, out: &mut Vec<u8>) {
        let Some(host) = self.hosts.get_mut(host) else { return };
        out.extend_from_slice(host.key.as_bytes());
        for (index, (name, value)) in FIELDS.iter().zip(&mut host.values).enumerate() {
            *value = (*value + self.random.step()).clamp(0.0, 100.0);
            out.push(if index == 0 { b' ' } else { b',' });
            // Writing to a vector cannot fail.
            let _ = write!(out, "{name}={}i", *value as i64);
        }
        let _ = writeln!(out, " {time_ns}");
    }
}

impl Host {
    fn new(number: usize, random: &mut Random) -> Self {
        let (region, zones) = random.pick(&REGIONS);
        let zone = b"abcde"[random.below(*zones) as usize] as char;
        let (rack, service, version) = (random.below(100), random.below(20), random.below(2));
        let (os, arch, team) = (random.pick(&OSES), random.pick(&ARCHES), random.pick(&TEAMS));
        let environment = random.pick(&ENVIRONMENTS);
        let datacenter = format!("{region}{zone}");
        let values = [
            format!("host_{number}"),
            (*region).to_owned(),
            datacenter,
            rack.to_string(),
            (*os).to_owned(),
            (*arch).to_owned(),
            (*team).to_owned(),
            service.to_string(),
            version.to_string(),
            (*environment).to_owned(),
        ];
        let tags: Vec<String> = TAGS.iter().zip(values).map(|(name, value)| format!("{name}={value}")).collect();
        Self { key: format!("cpu,{}", tags.join(",")), values: std::array::from_fn(|_| random.below(101) as f64) }
    }
}

/// SplitMix64.
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// About normal, with deviation 1: four uniform numbers.
    fn step(&mut self) -> f64 {
        let bits = self.next();
        let sum: u64 = (0..4).map(|part| bits >> (part * 16) & 0xffff).sum();
        (sum as f64 / 65_536.0 - 2.0) * 3f64.sqrt()
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_lines() {
        let mut workload = CpuOnly::new(2, 10, 1_451_606_400_000_000_000, 1);
        let lines = String::from_utf8(workload.lines(3)).unwrap();
        assert_eq!(lines.as_bytes(), CpuOnly::new(2, 10, 1_451_606_400_000_000_000, 1).lines(3));
        let times: Vec<_> = lines.lines().filter_map(|line| line.rsplit(' ').next()).collect();
        assert_eq!(times, ["1451606400000000000", "1451606400000000000", "1451606410000000000"]);
        let hosts: Vec<_> = lines.lines().filter_map(|line| line.get(..19)).collect();
        assert_eq!(hosts, ["cpu,hostname=host_0", "cpu,hostname=host_1", "cpu,hostname=host_0"]);
    }

    #[test]
    fn lines_have_the_length_of_tsbs() {
        let bytes = CpuOnly::new(4000, 10, 1_451_606_400_000_000_000, 1).lines(8000).len() / 8000;
        assert!((335..360).contains(&bytes), "{bytes} bytes a line");
    }
}

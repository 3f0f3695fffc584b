//! This machine's numbers as line protocol.

use std::fmt::Write as _;

use sysinfo::{Networks, System};

use crate::cli::{CliError, CliResult};

/// What is looked at, and what it is called.
pub(super) struct Machine {
    system: System,
    networks: Networks,
    pub(super) host: String,
}

impl Machine {
    pub(super) fn new() -> CliResult<Self> {
        let error =
            |error: sysinfo::Error| CliError::failed(format_args!("cannot read this machine's numbers: {error}"));
        let mut system = System::new().map_err(error)?;
        system.refresh_cpu_usage();
        system.refresh_memory();
        let networks = Networks::new_with_refreshed_list().map_err(error)?;
        let host = System::host_name().unwrap_or_default();
        let host = if host.is_empty() { "this-machine".to_owned() } else { host };
        Ok(Self { system, networks, host })
    }

    pub(super) fn cores(&self) -> usize {
        self.system.cpus().len().max(1)
    }

    /// Bytes of memory, at least one.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.system.total_memory().max(1)
    }

    /// One line per core, one of memory, one per network interface. `at` is ns since the epoch.
    pub(super) fn sample(&mut self, at: i64) -> String {
        self.system.refresh_cpu_usage();
        self.system.refresh_memory();
        self.networks.refresh(true);
        let host = escaped(&self.host);
        let mut lines = String::new();
        for (index, cpu) in self.system.cpus().iter().enumerate() {
            let usage = cpu.usage();
            // Before two readings there is no usage.
            if usage.is_finite() {
                let _ = writeln!(lines, "cpu,host={host},origin=live,core={index} usage_percent={usage:.2} {at}");
            }
        }
        let (used, free) = (self.system.used_memory(), self.system.available_memory());
        let _ = writeln!(lines, "memory,host={host},origin=live used_bytes={used}i,available_bytes={free}i {at}");
        let mut names: Vec<_> = self.networks.iter().collect();
        names.sort_by_key(|(name, _)| *name);
        for (name, data) in names {
            let (received, sent) = (data.total_received(), data.total_transmitted());
            let name = escaped(&name.to_string_lossy());
            let fields = format!("received_bytes={received}i,sent_bytes={sent}i");
            let _ = writeln!(lines, "network,host={host},origin=live,interface={name} {fields} {at}");
        }
        lines
    }
}

/// A tag value.
pub(super) fn escaped(text: &str) -> String {
    let mut value = String::with_capacity(text.len());
    for c in text.chars().filter(|c| !c.is_control()) {
        if matches!(c, ' ' | ',' | '=' | '\\') {
            value.push('\\');
        }
        value.push(c);
    }
    if value.is_empty() { "unknown".to_owned() } else { value }
}

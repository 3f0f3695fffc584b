//! Settings that follow the machine, and those that follow `memory_limit`.

/// Half of what the machine or its control group has, at least 128 MiB; 1 GiB where the system does not tell.
pub(super) fn default_memory_limit() -> u64 {
    let Ok(mut system) = sysinfo::System::new() else {
        return 1 << 30;
    };
    system.refresh_memory();
    let machine = system.total_memory();
    let limit = system.cgroup_limits().map_or(machine, |limits| limits.total_memory.min(machine));
    (limit / 2).max(128 << 20)
}

pub(super) fn default_memtable(memory_limit: u64) -> u64 {
    (memory_limit / 8).clamp(16 << 20, 1 << 30)
}

pub(super) fn default_inflight(memory_limit: u64) -> u64 {
    (memory_limit / 8).clamp(32 << 20, 256 << 20)
}

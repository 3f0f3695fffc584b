//! Settings that follow the machine, and those that follow `memory_limit`.

/// With less, bodies and statements leave no room for rows.
pub(super) const MEMORY_LIMIT_MIN: u64 = 128 << 20;

/// Half of what the machine or its control group has, at least [`MEMORY_LIMIT_MIN`]; 1 GiB where the system does not tell.
pub(super) fn default_memory_limit() -> u64 {
    half_of_memory().map_or(1 << 30, |half| half.max(MEMORY_LIMIT_MIN))
}

/// Of the machine's or its control group's; `None` where the system does not tell.
pub(crate) fn half_of_memory() -> Option<u64> {
    let mut system = sysinfo::System::new().ok()?;
    system.refresh_memory();
    let machine = system.total_memory();
    let limit = system.cgroup_limits().map_or(machine, |limits| limits.total_memory.min(machine));
    Some(limit / 2)
}

/// An eighth; of little memory a tenth, because bodies and statements leave less for rows.
pub(super) fn default_memtable(memory_limit: u64) -> u64 {
    let part = if memory_limit < 256 << 20 { 10 } else { 8 };
    (memory_limit / part).clamp(12 << 20, 1 << 30)
}

pub(super) fn default_inflight(memory_limit: u64) -> u64 {
    (memory_limit / 8).clamp(32 << 20, 256 << 20)
}

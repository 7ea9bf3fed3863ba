//! `Startup…=`: what is written into a container's cgroup when the machine has started, and when it begins to go down.

use super::{Facts, linux};
use crate::unit::{CpuWeight, Resources, Startup, Unit};

/// The kernel's files that a unit's `Startup…=` are about, with what holds in the phase that `facts` tells; in the order in which the
/// kernel takes them.
pub fn phase(unit: &Unit, facts: &Facts) -> Vec<(&'static str, String)> {
    let Startup {
        memory_low,
        memory_high,
        memory_max,
        memory_swap_max,
        memory_zswap_max,
        cpu_weight,
        allowed_cpus,
        allowed_memory_nodes,
        io_weight,
    } = &unit.container.resources.startup;
    let limits = linux::limits(&unit.container, facts);
    let mut now = linux::unified(&Resources { io_limits: Vec::new(), ..limits.clone() }, facts);
    let memory = linux::memory_max(&unit.container, &limits, facts);
    now.extend(memory.map(|bytes| ("memory.max".to_owned(), bytes.to_string())));
    // An idle group has no weight: the kernel refuses to set one.
    let weight = cpu_weight.is_some() && limits.cpu_weight != Some(CpuWeight::Idle);
    // And what the kernel itself begins with.
    [
        ("memory.low", "0", memory_low.is_some()),
        ("memory.high", "max", memory_high.is_some()),
        ("memory.max", "max", memory_max.is_some()),
        ("memory.swap.max", "max", memory_swap_max.is_some()),
        ("memory.zswap.max", "max", memory_zswap_max.is_some()),
        ("cpu.idle", "0", cpu_weight.is_some()),
        ("cpu.weight", "100", weight),
        // Nothing: all that the cgroup above has.
        ("cpuset.cpus", "", allowed_cpus.is_some()),
        ("cpuset.mems", "", allowed_memory_nodes.is_some()),
        ("io.weight", "default 100", io_weight.is_some()),
    ]
    .into_iter()
    .filter(|(.., asked)| *asked)
    .map(|(file, begin, _)| (file, now.remove(file).unwrap_or_else(|| begin.to_owned())))
    .collect()
}

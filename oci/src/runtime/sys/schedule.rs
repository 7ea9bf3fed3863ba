//! When and where a process runs: scheduler, I/O priority, CPUs, memory.

use super::{Result, check_long};

/// A bit for each CPU or NUMA node.
pub(crate) type NumberSet = [u64; 16];

/// `struct sched_attr`, with the clamps that the spec has no words for.
#[repr(C)]
#[derive(Debug, Default, Clone)]
pub(crate) struct SchedulerAttributes {
    pub(crate) size: u32,
    pub(crate) policy: u32,
    pub(crate) flags: u64,
    pub(crate) nice: i32,
    pub(crate) priority: u32,
    pub(crate) runtime: u64,
    pub(crate) deadline: u64,
    pub(crate) period: u64,
    pub(crate) clamp_min: u32,
    pub(crate) clamp_max: u32,
}

/// Of a process; 0 is this one.
pub(crate) fn set_scheduler(pid: i32, attributes: &SchedulerAttributes) -> Result<()> {
    // The kernel refuses a structure whose size does not fit what it says of itself.
    let size = u32::try_from(size_of::<SchedulerAttributes>()).unwrap_or_default();
    let attributes = SchedulerAttributes { size, ..*attributes };
    // SAFETY: the structure is the kernel's and its size is in it.
    check_long(unsafe { libc::syscall(libc::SYS_sched_setattr, pid, &raw const attributes, 0) }).map(drop)
}

pub(crate) fn set_io_priority(priority: u32) -> Result<()> {
    const IOPRIO_WHO_PROCESS: i32 = 1;
    // SAFETY: plain numbers go in; 0 is this process.
    check_long(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, priority) }).map(drop)
}

/// The kernel leaves out what the cgroup does not allow, and refuses a set of which nothing is left.
pub(crate) fn set_affinity(cpus: &NumberSet) -> Result<()> {
    let size = size_of::<NumberSet>();
    // SAFETY: the set is as large as its size says; 0 is this process.
    check_long(unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size, cpus.as_ptr()) }).map(drop)
}

pub(crate) fn set_memory_policy(mode: i32, nodes: &NumberSet) -> Result<()> {
    // No node at all is said by a null pointer. The kernel counts one bit less than it is told.
    let empty = nodes.iter().all(|word| *word == 0);
    let (pointer, bits) = if empty { (std::ptr::null(), 0) } else { (nodes.as_ptr(), size_of::<NumberSet>() * 8 + 1) };
    // SAFETY: the set has as many bits as are given, less the one the kernel takes off; or null and none.
    check_long(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, pointer, bits) }).map(drop)
}

//! Limits of `[Service]`: of the container's cgroup (systemd.resource-control(5)) and of its processes (systemd.exec(5)).

use std::{path::PathBuf, time::Duration};

use super::Ulimit;

/// Of memory in bytes, of tasks in their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    Infinity,
    Is(u64),
    /// A share of what the machine has, in hundredths of a percent.
    Share(u32),
}

impl Amount {
    /// `None` is infinity.
    pub fn of(self, machine: u64) -> Option<u64> {
        match self {
            Self::Infinity => None,
            Self::Is(amount) => Some(amount),
            Self::Share(share) => u64::try_from(u128::from(machine) * u128::from(share) / 10_000).ok(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CpuWeight {
    Idle,
    Weight(u32),
}

/// `CPUQuota=` in hundredths of a percent of one CPU, and `CPUQuotaPeriodSec=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuQuota {
    pub share: u32,
    pub period: Duration,
}

/// When the kernel's OOM killer has taken a process of the unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OomPolicy {
    /// The others live on.
    Continue,
    Stop,
    /// The kernel takes all of them.
    Kill,
}

/// `Nice=`, `CPUScheduling…=`, `IOScheduling…=`: when a process gets a CPU and the disk. On a Podman host they are inherited from podman.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scheduling {
    pub nice: Option<i32>,
    pub cpu: CpuPolicy,
    pub io: Option<IoPriority>,
    /// `CPUSchedulingResetOnFork=`: children begin with the usual policy.
    pub reset_on_fork: bool,
    /// `CPUAffinity=`, in the kernel's form. Other than `AllowedCPUs=` a process can change it.
    pub affinity: Option<String>,
}

/// sched(7); real time has a priority from 1 to 99.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CpuPolicy {
    #[default]
    Other,
    Batch,
    Idle,
    Fifo(u8),
    RoundRobin(u8),
}

/// ioprio_set(2); from 0, the highest, to 7.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IoPriority {
    RealTime(u8),
    BestEffort(u8),
    Idle,
}

/// Of the disk that this path is, or lies on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IoLimit {
    pub path: PathBuf,
    pub kind: IoLimitKind,
    /// Bytes or operations a second, the weight, or microseconds.
    pub value: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IoLimitKind {
    Weight,
    ReadBandwidth,
    WriteBandwidth,
    ReadOperations,
    WriteOperations,
    /// `IODeviceLatencyTargetSec=`: others are held back for as long as this unit waits longer than that.
    Latency,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resources {
    pub memory_min: Option<Amount>,
    pub memory_low: Option<Amount>,
    pub memory_high: Option<Amount>,
    pub memory_max: Option<Amount>,
    pub memory_swap_max: Option<Amount>,
    pub memory_zswap_max: Option<Amount>,
    pub memory_zswap_writeback: Option<bool>,
    pub tasks_max: Option<Amount>,
    pub cpu_weight: Option<CpuWeight>,
    pub cpu_quota: Option<CpuQuota>,
    /// In the kernel's form: `0-3,5`.
    pub allowed_cpus: Option<String>,
    pub allowed_memory_nodes: Option<String>,
    pub io_weight: Option<u32>,
    /// No two of one kind and path.
    pub io_limits: Vec<IoLimit>,
    pub oom_policy: Option<OomPolicy>,
    pub scheduling: Scheduling,
    /// `Limit…=`; `Ulimit=` of the same kind goes before.
    pub limits: Vec<Ulimit>,
    pub startup: Startup,
}

/// `Startup…=`: instead of those without the word while the machine starts and while it goes down.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Startup {
    pub memory_low: Option<Amount>,
    pub memory_high: Option<Amount>,
    pub memory_max: Option<Amount>,
    pub memory_swap_max: Option<Amount>,
    pub memory_zswap_max: Option<Amount>,
    pub cpu_weight: Option<CpuWeight>,
    pub allowed_cpus: Option<String>,
    pub allowed_memory_nodes: Option<String>,
    pub io_weight: Option<u32>,
}

impl Resources {
    /// With those of `Startup…=` in their places.
    pub fn at_startup(&self) -> Self {
        let startup = self.startup.clone();
        Self {
            memory_low: startup.memory_low.or(self.memory_low),
            memory_high: startup.memory_high.or(self.memory_high),
            memory_max: startup.memory_max.or(self.memory_max),
            memory_swap_max: startup.memory_swap_max.or(self.memory_swap_max),
            memory_zswap_max: startup.memory_zswap_max.or(self.memory_zswap_max),
            cpu_weight: startup.cpu_weight.or(self.cpu_weight),
            allowed_cpus: startup.allowed_cpus.or_else(|| self.allowed_cpus.clone()),
            allowed_memory_nodes: startup.allowed_memory_nodes.or_else(|| self.allowed_memory_nodes.clone()),
            io_weight: startup.io_weight.or(self.io_weight),
            ..self.clone()
        }
    }
}

//! What the machine needs before the supervisor runs.

/// Mounts, cgroups, sysctl, machine-id, random seed, hostname, watchdog; what fails is said and left out.
pub(crate) fn run() {}

//! Namespaces, limits, and what of /proc and /sys is hidden or sealed.

use std::{collections::HashMap, path::PathBuf};

use oci_spec::runtime::{
    Linux, LinuxDeviceCgroup, LinuxMemory, LinuxNamespace, LinuxNamespaceType, LinuxPids, LinuxResources,
};

use crate::unit::{ContainerSpec, Network, Unit, Unmask, glob};

/// Podman's list (podman-systemd.unit(5), `Unmask=`), and two places it added since for what they tell of the host
/// (CVE-2020-8694; counts of interrupts betray keystrokes).
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
];

const READ_ONLY: [&str; 6] = ["/proc/asound", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

pub(super) fn linux(unit: &Unit) -> Linux {
    let container = &unit.container;
    let kept = |path: &&str| !unmasked(&container.unmask, path);
    let masked = MASKED.iter().copied().filter(kept).map(str::to_owned).chain(container.mask.iter().cloned());
    let mut linux = Linux::default();
    linux.set_net_devices(None);
    linux.set_uid_mappings(None);
    linux.set_gid_mappings(None);
    linux.set_sysctl(Some(sysctls(container)));
    linux.set_resources(Some(resources(container)));
    linux.set_cgroups_path(Some(PathBuf::from(format!("/containers/{}", unit.name))));
    linux.set_namespaces(Some(namespaces(container)));
    linux.set_devices(None);
    linux.set_seccomp(None);
    linux.set_rootfs_propagation(None);
    linux.set_masked_paths(Some(masked.collect()));
    linux.set_readonly_paths(Some(READ_ONLY.iter().copied().filter(kept).map(str::to_owned).collect()));
    linux.set_mount_label(None);
    linux.set_intel_rdt(None);
    linux.set_memory_policy(None);
    linux.set_personality(None);
    linux.set_time_offsets(None);
    linux
}

fn namespaces(container: &ContainerSpec) -> Vec<LinuxNamespace> {
    use LinuxNamespaceType as Type;
    let mut kinds = vec![Type::Pid, Type::Mount, Type::Ipc, Type::Uts, Type::Cgroup];
    if container.network != Network::Host {
        kinds.push(Type::Network);
    }
    let namespace = |kind| {
        let mut namespace = LinuxNamespace::default();
        namespace.set_typ(kind);
        namespace.set_path(None);
        namespace
    };
    kinds.into_iter().map(namespace).collect()
}

fn sysctls(container: &ContainerSpec) -> HashMap<String, String> {
    let mut all = HashMap::new();
    if container.network != Network::Host {
        // In a network of its own a container's every user may listen on port 80; on the machine's that stays with root.
        all.insert("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned());
    }
    all.extend(container.sysctls.clone());
    all
}

fn resources(container: &ContainerSpec) -> LinuxResources {
    // Podman's rule; the runtime lets the standard devices through in any case.
    let mut deny = LinuxDeviceCgroup::default();
    deny.set_allow(false);
    deny.set_typ(None);
    deny.set_major(None);
    deny.set_minor(None);
    deny.set_access(Some("rwm".to_owned()));
    let mut pids = LinuxPids::default();
    pids.set_limit(container.pids_max.map_or(-1, |n| i64::try_from(n).unwrap_or(i64::MAX)));
    let memory = container.memory_max_bytes.map(|bytes| {
        let mut memory = LinuxMemory::default();
        memory.set_limit(Some(i64::try_from(bytes).unwrap_or(i64::MAX)));
        memory
    });
    let mut resources = LinuxResources::default();
    resources.set_devices(Some(vec![deny]));
    resources.set_memory(memory);
    resources.set_cpu(None);
    resources.set_pids(Some(pids));
    resources.set_block_io(None);
    resources.set_hugepage_limits(None);
    resources.set_network(None);
    resources.set_rdma(None);
    // A container that lost one process to the OOM killer is not left half alive.
    resources.set_unified(Some(HashMap::from([("memory.oom.group".to_owned(), "1".to_owned())])));
    resources
}

fn unmasked(unmask: &Unmask, path: &str) -> bool {
    match unmask {
        Unmask::All => true,
        Unmask::Paths(patterns) => patterns.iter().any(|pattern| glob::matches(pattern, path)),
    }
}

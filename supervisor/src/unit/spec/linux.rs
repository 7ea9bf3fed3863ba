//! Namespaces, limits, and what of /proc and /sys is hidden or sealed.

use std::{collections::HashMap, path::PathBuf};

use oci_spec::runtime::{
    Linux, LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType, LinuxIdMapping, LinuxIdMappingBuilder, LinuxMemory,
    LinuxNamespace, LinuxNamespaceType, LinuxPids, LinuxResources,
};

use super::{DeviceNode, Facts};
use crate::unit::{
    Amount, ContainerSpec, CpuWeight, IdMap, IoLimit, IoLimitKind, Network, OomPolicy, Resources, Unit, Unmask, glob,
};

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

pub(super) fn linux(unit: &Unit, facts: &Facts) -> Linux {
    let container = &unit.container;
    let kept = |path: &&str| !unmasked(&container.unmask, path);
    let masked = MASKED.iter().copied().filter(kept).map(str::to_owned).chain(container.mask.iter().cloned());
    let mut linux = Linux::default();
    linux.set_net_devices(None);
    let (uids, gids) = facts.ids.as_ref().map(|ids| (mappings(&ids.uids), mappings(&ids.gids))).unzip();
    linux.set_uid_mappings(uids);
    linux.set_gid_mappings(gids);
    linux.set_sysctl(Some(sysctls(container)));
    linux.set_resources(Some(resources(container, facts)));
    linux.set_cgroups_path(Some(PathBuf::from(format!("/containers/{}", unit.name))));
    linux.set_namespaces(Some(namespaces(container, facts)));
    linux.set_devices((!facts.devices.is_empty()).then(|| facts.devices.iter().map(device).collect()));
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

fn namespaces(container: &ContainerSpec, facts: &Facts) -> Vec<LinuxNamespace> {
    use LinuxNamespaceType as Type;
    let mut kinds = vec![Type::Pid, Type::Mount, Type::Ipc, Type::Uts, Type::Cgroup];
    if container.network != Network::Host {
        kinds.push(Type::Network);
    }
    if facts.ids.is_some() {
        kinds.push(Type::User);
    }
    let namespace = |kind| {
        let mut namespace = LinuxNamespace::default();
        namespace.set_typ(kind);
        namespace.set_path(match kind {
            Type::Network => facts.joins.net.clone(),
            Type::Ipc => facts.joins.ipc.clone(),
            Type::Uts => facts.joins.uts.clone(),
            Type::User => facts.joins.user.as_ref().map(|(path, _)| path.clone()),
            _ => None,
        });
        namespace
    };
    kinds.into_iter().map(namespace).collect()
}

fn sysctls(container: &ContainerSpec) -> HashMap<String, String> {
    let mut all = HashMap::new();
    if !matches!(container.network, Network::Host | Network::Container(_)) {
        // In a network of its own a container's every user may listen on port 80; on the machine's that stays with root, and
        // in another's with what that one says.
        all.insert("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned());
    }
    if matches!(container.network, Network::Bridge(_)) {
        // `default_sysctls` of containers.conf(5).
        all.insert("net.ipv4.ping_group_range".to_owned(), "0 0".to_owned());
    }
    all.extend(container.sysctls.clone());
    all
}

pub(super) fn mappings(maps: &[IdMap]) -> Vec<LinuxIdMapping> {
    let mapping = |map: &IdMap| {
        let whole =
            LinuxIdMappingBuilder::default().container_id(map.container).host_id(map.host).size(map.count).build();
        // It fails for a missing field only.
        whole.ok()
    };
    maps.iter().filter_map(mapping).collect()
}

fn device(node: &DeviceNode) -> LinuxDevice {
    let mut device = LinuxDevice::default();
    device.set_path(node.path.clone());
    device.set_typ(device_type(node));
    device.set_major(node.major);
    device.set_minor(node.minor);
    device.set_file_mode(Some(node.mode));
    device.set_uid(Some(node.uid));
    device.set_gid(Some(node.gid));
    device
}

fn device_type(node: &DeviceNode) -> LinuxDeviceType {
    if node.block { LinuxDeviceType::B } else { LinuxDeviceType::C }
}

fn device_rule(node: Option<&DeviceNode>) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(node.is_some());
    rule.set_typ(node.map(device_type));
    rule.set_major(node.map(|node| node.major));
    rule.set_minor(node.map(|node| node.minor));
    rule.set_access(Some(node.map_or("rwm", |node| &node.access).to_owned()));
    rule
}

/// The tighter of two limits; nothing is none.
fn tighter(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    [one, other].into_iter().flatten().min()
}

/// Those that hold at this time of the machine's life.
pub(super) fn limits(container: &ContainerSpec, facts: &Facts) -> Resources {
    if facts.startup { container.resources.at_startup() } else { container.resources.clone() }
}

/// `MemoryMax=` and `Memory=`: the service's cgroup holds the container's, the tighter of both counts.
pub(super) fn memory_max(container: &ContainerSpec, limits: &Resources, facts: &Facts) -> Option<u64> {
    tighter(container.memory_max_bytes, limits.memory_max.and_then(|amount| amount.of(facts.memory_bytes)))
}

fn resources(container: &ContainerSpec, facts: &Facts) -> LinuxResources {
    let limits = &limits(container, facts);
    let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    // Podman's rule; the runtime lets the standard devices through in any case.
    let mut rules = vec![device_rule(None)];
    rules.extend(facts.devices.iter().map(|node| device_rule(Some(node))));
    let tasks = tighter(container.pids_max, limits.tasks_max.and_then(|amount| amount.of(facts.tasks)));
    let mut pids = LinuxPids::default();
    pids.set_limit(tasks.map_or(-1, signed));
    let memory = memory_max(container, limits, facts).map(|bytes| {
        let mut memory = LinuxMemory::default();
        memory.set_limit(Some(signed(bytes)));
        memory
    });
    let mut resources = LinuxResources::default();
    resources.set_devices(Some(rules));
    resources.set_memory(memory);
    resources.set_cpu(None);
    resources.set_pids(Some(pids));
    resources.set_block_io(None);
    resources.set_hugepage_limits(None);
    resources.set_network(None);
    resources.set_rdma(None);
    resources.set_unified(Some(unified(limits, facts)));
    resources
}

/// The kernel's own files, cgroup-v2.rst, where runtime-spec's fields are those of version 1.
pub(super) fn unified(limits: &Resources, facts: &Facts) -> HashMap<String, String> {
    // A container that lost one process to the OOM killer is not left half alive, unless it asks for that.
    let group = if limits.oom_policy == Some(OomPolicy::Continue) { "0" } else { "1" };
    let mut all = HashMap::from([("memory.oom.group".to_owned(), group.to_owned())]);
    let mut set = |file: &str, value: Option<String>| {
        if let Some(value) = value {
            all.insert(file.to_owned(), value);
        }
    };
    let amount = |amount: Option<Amount>| {
        amount.map(|amount| amount.of(facts.memory_bytes).map_or("max".to_owned(), |bytes| bytes.to_string()))
    };
    set("memory.min", amount(limits.memory_min));
    set("memory.low", amount(limits.memory_low));
    set("memory.high", amount(limits.memory_high));
    set("memory.swap.max", amount(limits.memory_swap_max));
    set("memory.zswap.max", amount(limits.memory_zswap_max));
    set("memory.zswap.writeback", limits.memory_zswap_writeback.map(|on| u8::from(on).to_string()));
    match limits.cpu_weight {
        Some(CpuWeight::Idle) => set("cpu.idle", Some("1".to_owned())),
        Some(CpuWeight::Weight(weight)) => set("cpu.weight", Some(weight.to_string())),
        None => {}
    }
    set(
        "cpu.max",
        limits.cpu_quota.map(|quota| {
            // The kernel takes no quota below a millisecond: "the period is adjusted up so that the quota interval is also at
            // least 1ms", systemd.resource-control(5).
            let share = u128::from(quota.share);
            let period = quota.period.as_micros().max(1000 * 10_000_u128.div_ceil(share.max(1))).min(1_000_000);
            format!("{} {period}", (period * share / 10_000).max(1000))
        }),
    );
    set("cpuset.cpus", limits.allowed_cpus.clone());
    set("cpuset.mems", limits.allowed_memory_nodes.clone());
    for (file, lines) in io(limits, facts) {
        set(file, (!lines.is_empty()).then(|| lines.join("\n")));
    }
    all
}

/// A line for each disk, and one write for each line.
fn io(limits: &Resources, facts: &Facts) -> [(&'static str, Vec<String>); 3] {
    let mut weights: Vec<String> = limits.io_weight.iter().map(|weight| format!("default {weight}")).collect();
    let (mut most, mut latency) = (Vec::new(), Vec::new());
    for (IoLimit { kind, value, .. }, (major, minor)) in limits.io_limits.iter().zip(&facts.disks) {
        let name = match kind {
            IoLimitKind::Weight => {
                weights.push(format!("{major}:{minor} {value}"));
                continue;
            }
            IoLimitKind::Latency => {
                latency.extend(facts.io_latency.then(|| format!("{major}:{minor} target={value}")));
                continue;
            }
            IoLimitKind::ReadBandwidth => "rbps",
            IoLimitKind::WriteBandwidth => "wbps",
            IoLimitKind::ReadOperations => "riops",
            IoLimitKind::WriteOperations => "wiops",
        };
        most.push(format!("{major}:{minor} {name}={value}"));
    }
    [("io.weight", weights), ("io.max", most), ("io.latency", latency)]
}

fn unmasked(unmask: &Unmask, path: &str) -> bool {
    match unmask {
        Unmask::All => true,
        Unmask::Paths(patterns) => patterns.iter().any(|pattern| glob::matches(pattern, path)),
    }
}

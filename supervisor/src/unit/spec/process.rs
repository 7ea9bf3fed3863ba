//! The container's first process: what runs, as whom, with which environment and privileges.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    path::PathBuf,
};

use oci_spec::{
    image::Config,
    runtime::{
        Capability, ExecCPUAffinity, IOPriorityClass, LinuxCapabilities, LinuxIOPriority, LinuxIOPriorityBuilder,
        LinuxSchedulerFlag, LinuxSchedulerPolicy, PosixRlimit, PosixRlimitBuilder, PosixRlimitType, Process, Scheduler,
    },
};

use super::{Facts, SpecError, identity};
use crate::unit::{
    Capabilities, ContainerSpec, CpuPolicy, IoPriority, Notify, Scheduling, SecretTarget, Unit, build::CAPABILITIES,
};

/// containers.conf(5) `default_capabilities` of Podman 5.
const DEFAULT_CAPABILITIES: [&str; 11] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Podman's for containers of root, up to which the kernel lets NOFILE be set without a sysctl.
const DEFAULT_LIMIT: u64 = 1_048_576;

pub(super) fn process(
    unit: &Unit,
    image: Option<&Config>,
    facts: &Facts,
    hostname: &str,
) -> Result<Process, SpecError> {
    let container = &unit.container;
    let of_image = image.and_then(|c| c.user().as_deref()).unwrap_or("");
    let identity = identity::identity(container, of_image, facts)?;
    let mut environment = environment(container, image, facts, hostname, &identity.home)?;
    // systemd.exec(5): that there is a store, and how much it takes.
    if unit.service.fd_store_max > 0 {
        environment.insert("FDSTORE".to_owned(), unit.service.fd_store_max.to_string());
    }
    if let (Notify::Container, Some(every)) = (container.notify, unit.service.watchdog) {
        environment.insert("WATCHDOG_USEC".to_owned(), every.as_micros().to_string());
    }
    let variables = container.secrets.iter().filter_map(|secret| match &secret.target {
        SecretTarget::Environment(name) => Some(name.clone()),
        SecretTarget::File { .. } => None,
    });
    environment.extend(variables.zip(facts.secret_values.iter().cloned()));
    let capabilities = capabilities(&container.capabilities, identity.user.uid() == 0);
    let mut process = Process::default();
    process.set_terminal(Some(false));
    process.set_console_size(None);
    process.set_user(identity.user);
    process.set_args(Some(arguments(container, image)?));
    process.set_command_line(None);
    process.set_env(Some(environment.into_iter().map(|(name, value)| format!("{name}={value}")).collect()));
    process.set_cwd(working_dir(container, image)?);
    process.set_capabilities(Some(capabilities));
    process.set_rlimits(Some(limits(container)));
    process.set_no_new_privileges(Some(container.no_new_privileges));
    process.set_apparmor_profile(None);
    // Always: the supervisor's own protection is inherited otherwise.
    process.set_oom_score_adj(Some(container.oom_score_adj));
    process.set_selinux_label(None);
    process.set_io_priority(io_priority(&container.resources.scheduling));
    process.set_scheduler(scheduler(&container.resources.scheduling));
    process.set_exec_cpu_affinity(affinity(&container.resources.scheduling));
    Ok(process)
}

/// podman-run(1): `--entrypoint` takes the image's Cmd away with its Entrypoint; arguments replace the Cmd.
fn arguments(container: &ContainerSpec, image: Option<&Config>) -> Result<Vec<String>, SpecError> {
    let of_image = |words: Option<&Vec<String>>| words.cloned().unwrap_or_default();
    let mut arguments = match &container.entrypoint {
        // `[""]` is how Docker and Podman write that there is none.
        Some(words) if words.len() == 1 && words[0].is_empty() => Vec::new(),
        Some(words) => words.clone(),
        None => of_image(image.and_then(|c| c.entrypoint().as_ref())),
    };
    if !container.exec.is_empty() {
        arguments.extend(container.exec.iter().cloned());
    } else if container.entrypoint.as_ref().is_none_or(Vec::is_empty) {
        arguments.extend(of_image(image.and_then(|c| c.cmd().as_ref())));
    }
    if arguments.is_empty() { Err(SpecError::NoCommand) } else { Ok(arguments) }
}

fn working_dir(container: &ContainerSpec, image: Option<&Config>) -> Result<PathBuf, SpecError> {
    let of_image = || image.and_then(|c| c.working_dir().clone()).filter(|dir| !dir.is_empty());
    let dir = container.working_dir.clone().or_else(of_image).unwrap_or_else(|| "/".to_owned());
    if dir.starts_with('/') { Ok(PathBuf::from(dir)) } else { Err(SpecError::WorkingDir(dir)) }
}

/// The weakest first: what every container has, the image's, the files', the unit's own.
fn environment(
    container: &ContainerSpec,
    image: Option<&Config>,
    facts: &Facts,
    hostname: &str,
    home: &str,
) -> Result<BTreeMap<String, String>, SpecError> {
    let mut all = BTreeMap::new();
    let mut set = |name: &str, value: &str| all.insert(name.to_owned(), value.to_owned());
    set("PATH", DEFAULT_PATH);
    // The word that systemd and its kin know for a container whose manager has no name of its own with them. Podman says `podman`;
    // a program that asks for that looks for Podman's own files next, which are not here.
    set("container", "oci");
    set("HOSTNAME", hostname);
    set("HOME", home);
    for entry in image.and_then(|c| c.env().as_ref()).into_iter().flatten() {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        if !name.is_empty() {
            set(name, value);
        }
    }
    // What programs with time zone data of their own go by.
    if let Some(zone) = &container.timezone {
        set("TZ", zone);
    }
    for ((path, _), text) in container.environment_files.iter().zip(&facts.environment_files) {
        for (index, line) in text.lines().enumerate() {
            let line = line.trim_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong =
                |text: &str| SpecError::EnvironmentFile { file: path.clone(), line: index + 1, text: text.to_owned() };
            // Docker's format, which Podman reads: no quotes, no escapes, the value is all that follows the =. A name alone would be
            // taken from podman's own environment, and is left out where that has no such name.
            let Some((name, value)) = line.split_once('=') else { continue };
            if name.is_empty() || line.contains('\0') {
                return Err(wrong("expected NAME=value"));
            }
            set(name, value);
        }
    }
    for (name, value) in &container.environment {
        set(name, value);
    }
    if !facts.listen_names.is_empty() {
        // sd_listen_fds_with_names(3); the runtime adds LISTEN_FDS and LISTEN_PID.
        all.insert("LISTEN_FDNAMES".to_owned(), facts.listen_names.join(":"));
    }
    if container.notify == Notify::Container {
        // Podman's place for it.
        all.insert("NOTIFY_SOCKET".to_owned(), "/run/notify/notify.sock".to_owned());
    }
    Ok(all)
}

fn capabilities(asked: &Capabilities, root: bool) -> LinuxCapabilities {
    // Another user than root has only what was added for it, and keeps it over execve.
    let (bounding, own) = match asked {
        Capabilities::Usual { add, drop } => {
            let usual = DEFAULT_CAPABILITIES.into_iter().filter(|name| !drop.contains(*name));
            (usual.chain(add.iter().map(String::as_str)).collect(), names(add))
        }
        Capabilities::AllBut(drop) => {
            let all: BTreeSet<&str> = CAPABILITIES.into_iter().filter(|name| !drop.contains(*name)).collect();
            (all.clone(), all)
        }
        Capabilities::Only(add) => (names(add), names(add)),
    };
    let (held, kept) = if root { (bounding.clone(), BTreeSet::new()) } else { (own.clone(), own) };
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(Some(typed(&bounding)));
    sets.set_effective(Some(typed(&held)));
    sets.set_permitted(Some(typed(&held)));
    // CVE-2022-27650: not more than the ambient set needs.
    sets.set_inheritable(Some(typed(&kept)));
    sets.set_ambient(Some(typed(&kept)));
    sets
}

fn names(all: &BTreeSet<String>) -> BTreeSet<&str> {
    all.iter().map(String::as_str).collect()
}

fn typed(names: &BTreeSet<&str>) -> HashSet<Capability> {
    // A name oci-spec does not know cannot get here: the unit's were checked against the same list, and a test goes through it.
    names.iter().filter_map(|name| serde_json::from_value(serde_json::Value::from(*name)).ok()).collect()
}

fn scheduler(asked: &Scheduling) -> Option<Scheduler> {
    use LinuxSchedulerPolicy as Policy;
    if (asked.nice, asked.cpu, asked.reset_on_fork) == (None, CpuPolicy::Other, false) {
        return None;
    }
    let (policy, priority) = match asked.cpu {
        CpuPolicy::Other => (Policy::SchedOther, None),
        CpuPolicy::Batch => (Policy::SchedBatch, None),
        CpuPolicy::Idle => (Policy::SchedIdle, None),
        CpuPolicy::Fifo(priority) => (Policy::SchedFifo, Some(priority.into())),
        CpuPolicy::RoundRobin(priority) => (Policy::SchedRr, Some(priority.into())),
    };
    let mut scheduler = Scheduler::default();
    scheduler.set_policy(policy);
    scheduler.set_nice(asked.nice);
    scheduler.set_priority(priority);
    // oci-spec (0.10) writes SCHED_RESET_ON_FORK, where the runtime-spec has SCHED_FLAG_RESET_ON_FORK; the runtime takes both.
    scheduler.set_flags(asked.reset_on_fork.then(|| vec![LinuxSchedulerFlag::SchedResetOnFork]));
    Some(scheduler)
}

/// Of what is executed in the container: the first process is bound by the supervisor, config.json has no word for that.
fn affinity(asked: &Scheduling) -> Option<ExecCPUAffinity> {
    let mut affinity = ExecCPUAffinity::default();
    affinity.set_cpu_affinity_final(Some(asked.affinity.clone()?));
    Some(affinity)
}

fn io_priority(asked: &Scheduling) -> Option<LinuxIOPriority> {
    let (class, level) = match asked.io? {
        IoPriority::RealTime(level) => (IOPriorityClass::IoprioClassRt, level),
        IoPriority::BestEffort(level) => (IOPriorityClass::IoprioClassBe, level),
        IoPriority::Idle => (IOPriorityClass::IoprioClassIdle, 0),
    };
    LinuxIOPriorityBuilder::default().class(class).priority(level).build().ok()
}

fn limits(container: &ContainerSpec) -> Vec<PosixRlimit> {
    let both = (DEFAULT_LIMIT, DEFAULT_LIMIT);
    let mut limits: BTreeMap<&str, (u64, u64)> = BTreeMap::from([("RLIMIT_NOFILE", both), ("RLIMIT_NPROC", both)]);
    // Ulimit= is the container's own word and goes before the service's Limit…=.
    let all = container.resources.limits.iter().chain(&container.ulimits);
    limits.extend(all.map(|limit| (limit.kind.as_str(), (limit.soft, limit.hard))));
    let typed = |(name, (soft, hard)): (&str, (u64, u64))| {
        let kind: PosixRlimitType = serde_json::from_value(serde_json::Value::from(name)).ok()?;
        PosixRlimitBuilder::default().typ(kind).soft(soft).hard(hard).build().ok()
    };
    limits.into_iter().filter_map(typed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oci_spec_knows_every_capability() {
        assert_eq!(typed(&CAPABILITIES.into_iter().collect()).len(), CAPABILITIES.len());
    }
}

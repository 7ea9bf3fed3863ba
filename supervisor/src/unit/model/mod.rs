//! What a unit means, after parsing: every name resolved, every value in its own type. Nothing here was not said by a unit file
//! or by the manuals' defaults.

mod container;
mod kinds;
mod life;
mod limits;
mod network;

pub use container::{
    Capabilities, ContainerSpec, Device, Glob, IdmapMount, ImageMount, ImageName, LogLimits, LogSpec, Overlay,
    Propagation, Pull, Root, Seccomp, Tmpfs, TmpfsKind, Ulimit, Unmask, User, Volume, VolumeSource,
};
pub use kinds::{
    Backing, Declared, ImageSpec, IpRange, Ipam, Listen, ListenAddress, ListenKind, NetworkDriver, NetworkSpec,
    PodSpec, SocketSpec, Starts, Subnet, TimerSpec, Trigger, VolumeSpec,
};
pub use life::{
    Condition, ExitStatuses, Health, HealthAction, MachineAction, MachineActions, MachineEnd, Notify, Origin, Reload,
    Requests,
};
pub use limits::{
    Amount, CpuPolicy, CpuQuota, CpuWeight, IoLimit, IoLimitKind, IoPriority, OomPolicy, Resources, Scheduling, Startup,
};
pub use network::{
    Attachment, DEFAULT_NETWORK, Dns, FIRST_GIVEN_ID, IdMap, Network, Port, Protocol, Secret, SecretTarget,
    UserNamespace,
};

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use super::{Options, Place, Problem, UnitName};

/// All units of a machine, and all that is wrong with the files. A unit with a mistake is not in `units`.
#[derive(Debug, Default)]
pub struct UnitSet {
    pub units: BTreeMap<UnitName, Unit>,
    /// By the names of their services: `data-volume` for `data.volume`.
    pub volumes: BTreeMap<UnitName, Declared<VolumeSpec>>,
    pub networks: BTreeMap<UnitName, Declared<NetworkSpec>>,
    pub images: BTreeMap<UnitName, Declared<ImageSpec>>,
    pub pods: BTreeMap<UnitName, Declared<PodSpec>>,
    /// By their whole names: `job.timer`, `web.socket`.
    pub timers: BTreeMap<UnitName, Declared<TimerSpec>>,
    pub sockets: BTreeMap<UnitName, Declared<SocketSpec>>,
    /// `web@.container`: named by nobody, so nothing is made of it.
    pub templates: BTreeSet<String>,
    /// Units of all kinds that are not here because their files have errors.
    pub broken: BTreeSet<UnitName>,
    /// Those of them that wait for each other in a circle, with the one mistake that is theirs together.
    pub circles: Vec<(BTreeSet<UnitName>, Problem)>,
    /// Units hidden by a link to /dev/null (or by an empty file, as systemd has it).
    pub masked: BTreeSet<UnitName>,
    /// Of the machine as a whole.
    pub options: Options,
    /// In the order of files and lines.
    pub problems: Vec<Problem>,
}

#[cfg(any(test, fuzzing))]
impl UnitSet {
    /// Of all units of all kinds that have no mistakes.
    pub(crate) fn names(&self) -> impl Iterator<Item = &UnitName> {
        let declared =
            self.volumes.keys().chain(self.networks.keys()).chain(self.images.keys()).chain(self.pods.keys());
        self.units.keys().chain(declared).chain(self.timers.keys()).chain(self.sockets.keys())
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Unit {
    pub name: UnitName,
    /// `Description=`, or the name.
    pub description: String,
    pub documentation: Vec<String>,
    pub links: Links,
    /// `Condition…=` and `Assert…=`, in their order.
    pub conditions: Vec<Condition>,
    /// `Alias=`: other names of the unit, without suffix.
    pub aliases: BTreeSet<UnitName>,
    /// Where each key was set, for messages about a value that only the running side can judge.
    pub origins: Vec<Origin>,
    /// Ordered after network-online.target: by its own words, or because Quadlet orders every unit so by default.
    pub after_network_online: bool,
    pub start_limit_burst: u32,
    /// Zero: no limit on starts.
    pub start_limit_interval: Duration,
    pub actions: MachineActions,
    pub requests: Requests,
    pub service: ServiceSpec,
    /// `WantedBy=` (or `RequiredBy=`) default.target or multi-user.target: started at boot.
    pub enabled: bool,
    /// Of the unit file itself, not of its drop-ins.
    pub path: PathBuf,
    pub container: ContainerSpec,
}

/// What a unit says of others, in `[Unit]` and in their `[Install]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Links {
    /// Started after these, stopped before them, if both are to be started at all.
    pub after: BTreeSet<UnitName>,
    pub before: BTreeSet<UnitName>,
    /// Started with this unit; it does not start if one that it is also `after` fails to. One that is not in the set has errors
    /// itself (or is masked): then this unit cannot start, but nothing else is held up.
    pub requires: BTreeSet<UnitName>,
    /// Started with this unit, whatever becomes of them. As with `after` and `before`, those that do not exist were left out.
    pub wants: BTreeSet<UnitName>,
    /// `BindsTo=`: as `requires`, and stopped whenever one of them is not active any more.
    pub binds_to: BTreeSet<UnitName>,
    /// `Requisite=`: fails to start if one of them is not active already.
    pub requisite: BTreeSet<UnitName>,
    /// `PartOf=`: stopped and restarted with these.
    pub part_of: BTreeSet<UnitName>,
    /// Started again whenever one of these is found inactive while this unit is active.
    pub upholds: BTreeSet<UnitName>,
    pub conflicts: BTreeSet<UnitName>,
    pub on_failure: BTreeSet<UnitName>,
    pub on_success: BTreeSet<UnitName>,
    pub propagates_stop_to: BTreeSet<UnitName>,
    pub propagates_reload_to: BTreeSet<UnitName>,
}

impl Links {
    /// Everybody it names.
    pub fn names(&self) -> impl Iterator<Item = &UnitName> {
        let Self { after, before, requires, wants, binds_to, requisite, part_of, .. } = self;
        let Self { upholds, conflicts, on_failure, on_success, propagates_stop_to, propagates_reload_to, .. } = self;
        let first = [after, before, requires, wants, binds_to, requisite, part_of];
        let second = [upholds, conflicts, on_failure, on_success, propagates_stop_to, propagates_reload_to];
        first.into_iter().chain(second).flatten()
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct ServiceSpec {
    pub kind: ServiceType,
    /// Active after its process ended well.
    pub remain_after_exit: bool,
    pub restart: Restart,
    pub restart_delay: Duration,
    /// `RestartMode=direct`: who depends on it does not see that it was away.
    pub restart_direct: bool,
    /// `RestartSteps=` and `RestartMaxDelaySec=`: in so many steps the delay grows to this one.
    pub restart_growth: Option<(u32, Duration)>,
    /// `RestartRandomizedDelaySec=`: up to so much is added to each.
    pub restart_spread: Duration,
    /// Beside 0, SIGHUP, SIGINT, SIGTERM and SIGPIPE.
    pub success: ExitStatuses,
    pub restart_prevent: ExitStatuses,
    pub restart_force: ExitStatuses,
    /// `RuntimeMaxSec=`, and by how much at most it is put off at random.
    pub runtime_max: Option<Duration>,
    pub runtime_extra: Duration,
    /// `WatchdogSec=`: the container has to say so with sd_notify.
    pub watchdog: Option<Duration>,
    /// So many descriptors are kept for its next container.
    pub fd_store_max: u32,
    pub fd_store_preserve: Preserve,
    /// Asks the container to end where it has no `StopSignal=` of its own.
    pub kill_signal: Option<i32>,
    /// `TimeoutAbortSec=`; `None`: as `stop_timeout`.
    pub abort_timeout: Option<Option<Duration>>,
    /// `None`: no limit. Covers what precedes the start, the image's preparation included.
    pub start_timeout: Option<Duration>,
    /// From the stop signal to the kill. `None`: no limit. The smaller of `StopTimeout=` and `TimeoutStopSec=`.
    pub stop_timeout: Option<Duration>,
}

/// `FileDescriptorStorePreserve=`: how long they are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preserve {
    /// No longer than the container that gave them away.
    No,
    /// As long as the unit is there at all.
    Yes,
    /// Until it is at rest and not about to start.
    Restart,
}

/// `Type=`; `simple`, `exec` and `notify` (which Quadlet writes for every container) are one here: active when the program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceType {
    Exec,
    /// Active, or finished, only when its process ended well.
    Oneshot,
}

/// `Restart=`, with systemd.service(5)'s meanings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    No,
    OnSuccess,
    OnFailure,
    /// By a signal that is not a clean end, or a timeout.
    OnAbnormal,
    /// By the watchdog of `WatchdogSec=` alone.
    OnWatchdog,
    /// By a signal that is not a clean end.
    OnAbort,
    Always,
}

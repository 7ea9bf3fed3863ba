//! The unit language: Podman Quadlet's files with systemd's `[Unit]`, `[Service]` and `[Install]`, and systemd's timers and
//! sockets, read to the letter.
//!
//! `load` reads folders into typed units and a list of problems; `runtime_spec` makes of one unit and its image's configuration the
//! OCI config.json. Neither knows anything of running: no clock, no network, no daemon; the same code answers `orlop lint` on a
//! laptop. One broken unit never hides another, and nothing a file says is ignored in silence.
//!
//! The way of a file: `source` finds it and its drop-ins, `syntax` makes assignments of it, `sheet` checks them against the table of
//! `keys`, `build` reads the values into a unit, `set` links the units: `judge` refuses names of nobody, `suits` what named files do not have, `claims` names and ports of two,
//! `cycle` circles, `connect` writes what is left into the units.

mod asked;
mod build;
mod calendar;
mod claims;
pub(crate) mod compare;
mod connect;
pub(crate) mod cpus;
mod cycle;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub(crate) mod glob;
mod judge;
mod keys;
mod kind;
pub mod lint;
mod lists;
mod machine;
mod model;
mod name;
mod nearest;
mod options;
mod podman_args;
mod problem;
mod reference;
mod set;
mod sheet;
mod source;
pub mod spec;
mod specifier;
mod suits;
mod syntax;
#[cfg(test)]
mod tests;
mod text;
mod values;
mod words;

pub use calendar::Calendar;
#[cfg(test)]
pub(crate) use keys::condition_checks;
use kind::Kind;
pub use model::FIRST_GIVEN_ID;
pub use model::{
    Amount, Attachment, Backing, Capabilities, Condition, ContainerSpec, CpuPolicy, CpuQuota, CpuWeight,
    DEFAULT_NETWORK, Declared, Device, Dns, ExitStatuses, Glob, Health, HealthAction, IdMap, IdmapMount, ImageMount,
    ImageName, ImageSpec, IoLimit, IoLimitKind, IoPriority, IpRange, Ipam, Links, Listen, ListenAddress, ListenKind,
    LogLimits, LogSpec, MachineAction, MachineActions, MachineEnd, Network, NetworkDriver, NetworkSpec, Notify,
    OomPolicy, Origin, Overlay, PodSpec, Port, Preserve, Propagation, Protocol, Pull, Reload, Requests, Resources,
    Restart, Root, Scheduling, Seccomp, Secret, SecretTarget, ServiceSpec, ServiceType, SocketSpec, Starts, Startup,
    Subnet, TimerSpec, Tmpfs, TmpfsKind, Trigger, Ulimit, Unit, UnitSet, Unmask, User, UserNamespace, Volume,
    VolumeSource, VolumeSpec,
};
pub use name::{NameError, UnitName};
pub use options::{Endpoint, Options};
use problem::Said;
pub use problem::{Place, Problem, Severity};
pub use reference::reference;
pub use set::load;
pub(crate) use source::tree;
pub use spec::{DeviceNode, Facts, IdMaps, Joins, SpecError, runtime_spec};
pub(crate) use values::{is_fd_name, signal, span};

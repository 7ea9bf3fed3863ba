//! The unit language: Podman Quadlet's `.container` files with systemd's `[Unit]`, `[Service]` and `[Install]`, read to the letter.
//!
//! `load` reads folders into typed units and a list of problems; `runtime_spec` makes of one unit and its image's configuration the
//! OCI config.json. Neither knows anything of running: no clock, no network, no daemon; the same code answers `orlop lint` on a
//! laptop. One broken unit never hides another, and nothing a file says is ignored in silence.

mod model;
mod name;
mod problem;
pub mod spec;

use std::path::Path;

pub use model::{
    Capabilities, ContainerSpec, Network, Propagation, Restart, ServiceSpec, ServiceType, Tmpfs, Ulimit, Unit, UnitSet,
    Unmask, User, Volume, VolumeSource,
};
pub use name::{NameError, UnitName};
pub use problem::{Place, Problem, Severity};
pub use spec::{Facts, SpecError, runtime_spec};

/// Reads every unit file of the folders. A file in a later folder replaces those of the same name; a link to /dev/null masks
/// them; drop-ins of all folders apply. A folder that does not exist is empty.
pub fn load(dirs: &[&Path]) -> UnitSet {
    let _ = dirs;
    UnitSet::default()
}

//! The unit language: Podman Quadlet's `.container` files with systemd's `[Unit]`, `[Service]` and `[Install]`, read to the letter.
//!
//! `load` reads folders into typed units and a list of problems; `runtime_spec` makes of one unit and its image's configuration the
//! OCI config.json. Neither knows anything of running: no clock, no network, no daemon; the same code answers `orlop lint` on a
//! laptop. One broken unit never hides another, and nothing a file says is ignored in silence.
//!
//! The way of a file: `source` finds it and its drop-ins, `syntax` makes assignments of it, `sheet` checks them against the table of
//! `keys`, `build` reads the values into a unit, `set` links the units and refuses circles.

mod build;
mod cycle;
pub(crate) mod glob;
mod keys;
pub mod lint;
mod model;
mod name;
mod nearest;
mod problem;
mod set;
mod sheet;
mod source;
pub mod spec;
mod specifier;
mod syntax;
#[cfg(test)]
mod tests;
mod text;
mod values;
mod words;

pub use model::{
    Capabilities, ContainerSpec, Network, Propagation, Restart, ServiceSpec, ServiceType, Tmpfs, Ulimit, Unit, UnitSet,
    Unmask, User, Volume, VolumeSource,
};
pub use name::{NameError, UnitName};
pub use problem::{Place, Problem, Severity};
pub use set::load;
pub use spec::{Facts, SpecError, runtime_spec};
pub(crate) use values::{signal, span};

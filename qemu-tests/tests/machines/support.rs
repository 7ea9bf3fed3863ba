//! The probe's image, and units that run it.

use qemu_tests::{Artefacts, Builder, Machine, MachineError};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// A machine with the probe's image, to be given units.
pub(crate) fn machine(name: &str) -> Builder<'static> {
    Machine::builder(Artefacts::shared(), name).image(probe_image())
}

/// A container unit that runs the probe on the host's network; `more` are further lines of `[Container]`.
pub(crate) fn probe_unit(command: &str, more: &str) -> String {
    format!("[Container]\nImage=localhost/probe:latest\nExec={command}\nNetwork=host\n{more}\n")
}

/// The same, started at boot.
pub(crate) fn enabled(unit: &str) -> String {
    format!("{unit}\n[Install]\nWantedBy=multi-user.target\n")
}

/// An OCI layout of the probe, packed once.
pub(crate) fn probe_image() -> &'static Path {
    static IMAGE: OnceLock<PathBuf> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let artefacts = Artefacts::shared();
        let layout = artefacts.out.join(format!("probe-image.{}", std::process::id()));
        artefacts.pack_probe(&[], &layout).unwrap();
        // The final name appears complete or not at all, whoever else packs the same.
        let image = artefacts.out.join("probe-image");
        let _ = fs::remove_dir_all(&image);
        fs::rename(&layout, &image).unwrap();
        image
    })
}

pub(crate) fn state(unit: &Value) -> &str {
    unit["state"].as_str().unwrap_or("absent")
}

/// The unit of this name in a list.
pub(crate) fn named<'a>(units: &'a [Value], name: &str) -> &'a Value {
    units.iter().find(|unit| unit["name"] == name).unwrap_or_else(|| panic!("no unit {name} in {units:#?}"))
}

/// Starts a unit that does one thing and ends, and gives what it printed, as soon as it has said `last`.
pub(crate) fn run_probe(machine: &Machine, unit: &str, last: &str) -> Result<Vec<String>, MachineError> {
    machine.post(&format!("/v1/units/{unit}/start?no_block=true"))?;
    machine.wait_for_log(unit, last)?;
    machine.log(unit)
}

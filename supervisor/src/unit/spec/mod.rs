//! From a unit, its image's configuration and facts of the machine to the OCI config.json. Pure.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use oci_spec::{image::ImageConfiguration, runtime::Spec};

use super::{Unit, Volume};

/// What neither the unit nor the image's configuration says.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The container's mounted root, absolute.
    pub rootfs: PathBuf,
    /// The machine's; a container on the host's network shares it.
    pub hostname: String,
    /// Contents of /etc/passwd and /etc/group in the image; empty where it has none.
    pub passwd: String,
    pub group: String,
    /// For each volume of `volumes()` that is not a host path: destination in the container → folder on the host.
    pub volume_dirs: BTreeMap<String, PathBuf>,
    /// Folder that holds the generated `hosts`, `hostname` and `resolv.conf`.
    pub etc: PathBuf,
    /// Contents of the unit's `environment_files`, in their order.
    pub environment_files: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpecError {
    /// Neither unit nor image say what to run.
    NoCommand,
    /// A fact about this volume's destination is missing.
    NoVolumeDir(String),
}

impl std::error::Error for SpecError {}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCommand => write!(f, "the image has neither Entrypoint nor Cmd: write Exec= or Entrypoint="),
            Self::NoVolumeDir(to) => write!(f, "no folder was prepared for the volume at {to}"),
        }
    }
}

/// All volumes of the container: the unit's own, then those the image declares and the unit does not cover. The daemon prepares
/// a folder for each that is not a host path and names it in `Facts::volume_dirs`.
pub fn volumes(unit: &Unit, image: &ImageConfiguration) -> Vec<Volume> {
    let _ = image;
    unit.container.volumes.clone()
}

/// Makes the OCI config.json of a unit's container.
pub fn runtime_spec(unit: &Unit, image: &ImageConfiguration, facts: &Facts) -> Result<Spec, SpecError> {
    let _ = (unit, image, facts);
    Err(SpecError::NoCommand)
}

//! One entry of `mounts`.

use super::Result;
use super::linux::{IdMapping, id_mappings};
use crate::runtime::json::{Reader, Taken};

#[derive(Debug, Default, Clone)]
pub(crate) struct Mount {
    pub(crate) destination: String,
    pub(crate) source: Option<String>,
    pub(crate) kind: Option<String>,
    pub(crate) options: Vec<String>,
    pub(crate) uid_mappings: Vec<IdMapping>,
    pub(crate) gid_mappings: Vec<IdMapping>,
}

impl Mount {
    pub(super) fn read(r: &mut Reader<'_>) -> Result<Mount> {
        let mut mount = Mount::default();
        r.object(&mut |r, name| {
            match name {
                "destination" => mount.destination = r.text()?,
                "source" => mount.source = Some(r.text()?),
                "type" => mount.kind = Some(r.text()?).filter(|k| !k.is_empty()),
                "options" => mount.options = r.strings()?,
                "uidMappings" => mount.uid_mappings = id_mappings(r)?,
                "gidMappings" => mount.gid_mappings = id_mappings(r)?,
                _ => return Ok(Taken::No),
            }
            Ok(Taken::Yes)
        })?;
        if mount.destination.is_empty() {
            return Err(r.missing("destination"));
        }
        Ok(mount)
    }
}

//! `Startup…=`: limits that hold until all that is enabled has started or failed, and again while the machine goes down
//! (systemd.resource-control(5)). They are written into the cgroups of what runs then, and once more before each start: a container
//! may have been made in one phase and start in the next.

use std::fs;

use super::{bundle, cgroup, core::Daemon};
use crate::unit::{Facts, UnitName, spec};

impl Daemon {
    pub(crate) fn is_startup(&self) -> bool {
        !self.started || self.shutdown.is_some()
    }

    /// Once in a boot, whoever its supervisor is.
    pub(crate) fn has_started(&mut self) {
        if !self.started {
            self.started = true;
            if let Err(error) = fs::write(self.paths.settled(), "") {
                log::error!("{}: {error}", self.paths.settled().display());
            }
            self.limit_all();
        }
    }

    pub(crate) fn limit_all(&self) {
        let live = self.engine.units().filter(|(_, entry)| !entry.record.state.at_rest());
        live.for_each(|(unit, _)| self.limit(unit));
    }

    /// Where there is no cgroup yet, config.json has what holds.
    pub(crate) fn limit(&self, unit: &UnitName) {
        let cgroup = self.paths.cgroup(unit);
        let Some(file) = self.files.get(unit).filter(|file| file.container.resources.startup != <_>::default()) else {
            return;
        };
        if !cgroup.exists() {
            return;
        }
        let facts = Facts { memory_bytes: bundle::memory_bytes(), startup: self.is_startup(), ..Facts::default() };
        for (file, mut value) in spec::phase(file, &facts) {
            // The kernel takes no empty set for a cgroup with processes (cpuset.c, validate_change).
            if let (true, Some(above)) = (value.is_empty(), cgroup.parent()) {
                value = fs::read_to_string(above.join(format!("{file}.effective"))).unwrap_or_default();
            }
            if let Err(error) = cgroup::set(&cgroup, file, &value) {
                log::warn!("{unit}: write {value:?} into {file} of its cgroup: {error}");
            }
        }
    }
}

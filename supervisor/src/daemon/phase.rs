//! `Startup…=`: limits that hold until all that is enabled has started or failed, and again while the machine goes down
//! (systemd.resource-control(5)). They are written into the cgroups of what runs then, and once more before each start: a container
//! may have been made in one phase and start in the next.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{bundle, cgroup, core::Daemon, mailbox};
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
        let limits = live.filter_map(|(unit, _)| self.limits(unit)).collect();
        write_aside(limits);
    }

    /// Of one that is to start: there is no memory yet that the kernel would have to take back.
    pub(crate) fn limit(&self, unit: &UnitName) {
        if let Some(limits) = self.limits(unit) {
            limits.write(|| true);
        }
    }

    /// Where there is no cgroup yet, config.json has what holds.
    fn limits(&self, unit: &UnitName) -> Option<Limits> {
        let file = self.files.get(unit).filter(|file| file.container.resources.startup != <_>::default())?;
        let cgroup = Some(self.paths.cgroup(unit)).filter(|cgroup| cgroup.exists())?;
        let facts = Facts { memory_bytes: bundle::memory_bytes(), startup: self.is_startup(), ..Facts::default() };
        Some(Limits { unit: unit.clone(), cgroup, values: spec::phase(file, &facts) })
    }
}

/// What is to be in the files of a cgroup.
struct Limits {
    unit: UnitName,
    cgroup: PathBuf,
    values: Vec<(&'static str, String)>,
}

impl Limits {
    fn write(&self, wanted: impl Fn() -> bool) {
        let Self { unit, cgroup, values } = self;
        for (file, value) in values {
            if !wanted() {
                return;
            }
            // The kernel takes no empty set for a cgroup with processes (cpuset.c, validate_change).
            let all = |above: &Path| fs::read_to_string(above.join(format!("{file}.effective"))).unwrap_or_default();
            let whole = cgroup.parent().filter(|_| value.is_empty()).map(all);
            let value = whole.as_ref().unwrap_or(value);
            if let Err(error) = cgroup::set(cgroup, file, value) {
                log::warn!("{unit}: write {value:?} into {file} of its cgroup: {error}");
            }
        }
    }
}

/// A write to memory.high or memory.max returns when the kernel has taken back what is above it, to a slow disk in minutes: not in the
/// loop. Of two phases the later one holds, so what is left of an earlier one is not written any more.
fn write_aside(limits: Vec<Limits>) {
    static LATEST: AtomicU64 = AtomicU64::new(0);
    static ONE_BY_ONE: Mutex<()> = Mutex::new(());
    let own = LATEST.fetch_add(1, Ordering::SeqCst) + 1;
    if limits.is_empty() {
        return;
    }
    mailbox::spawn("limits of a phase", move || {
        let _turn = ONE_BY_ONE.lock();
        limits.iter().for_each(|limits| limits.write(|| LATEST.load(Ordering::SeqCst) == own));
    });
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use nix::{sys::stat::Mode, unistd::mkfifo};

    use super::*;

    #[test]
    fn a_write_that_takes_its_time_holds_nobody_up_and_an_old_one_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let slow = folder.path().join("memory.high");
        mkfifo(&slow, Mode::S_IRWXU).unwrap();
        let limits = |values: &[(&'static str, &str)]| {
            let values = values.iter().map(|(file, value)| (*file, (*value).to_owned())).collect();
            vec![Limits { unit: UnitName::parse("web").unwrap(), cgroup: folder.path().to_owned(), values }]
        };
        write_aside(limits(&[("memory.high", "1"), ("memory.max", "old")]));
        // What there is, is looked at before the write, which waits for a reader.
        drop(fs::OpenOptions::new().write(true).open(&slow).unwrap());
        write_aside(limits(&[("memory.low", "new")]));
        let mut written = String::new();
        while written.is_empty() {
            fs::File::open(&slow).unwrap().read_to_string(&mut written).unwrap();
        }
        let latest = folder.path().join("memory.low");
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while fs::read_to_string(&latest).is_ok_and(|text| text != "new") || !latest.exists() {
            assert!(std::time::Instant::now() < deadline, "the later limits are not written");
            std::thread::yield_now();
        }
        assert!(!folder.path().join("memory.max").exists(), "written though it holds no more");
    }
}

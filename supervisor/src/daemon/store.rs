//! What must survive the supervisor: one `state.json` per unit below /run, written whole or not at all. Below /run nothing
//! outlives the boot, so a rename is enough: no power cut is to be feared, only our own death.

use std::{fs, io, path::Path};

use serde::{Deserialize, Serialize};

use super::{
    engine::JobKind,
    machine::{Policy, Record},
    paths::Paths,
};
use crate::unit::UnitName;

/// Counts up when an older supervisor could not read what a newer one writes.
const VERSION: u32 = 1;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stored {
    version: u32,
    pub(crate) policy: Policy,
    pub(crate) record: Record,
    pub(crate) job: Option<JobKind>,
}

impl Stored {
    pub(crate) fn new(policy: Policy, record: Record, job: Option<JobKind>) -> Self {
        Self { version: VERSION, policy, record, job }
    }
}

pub(crate) fn save(paths: &Paths, unit: &UnitName, stored: &Stored) -> io::Result<()> {
    let path = paths.state(unit);
    let text = serde_json::to_vec(stored)?;
    match replace(&path, &text) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(paths.unit(unit))?;
            replace(&path, &text)
        }
        result => result,
    }
}

fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let unfinished = path.with_extension("new");
    fs::write(&unfinished, text)?;
    fs::rename(&unfinished, path)
}

/// The same for what must outlive a power cut.
pub(crate) fn replace_durably(path: &Path, text: &[u8]) -> io::Result<()> {
    let unfinished = path.with_extension("new");
    fs::write(&unfinished, text)?;
    fs::File::open(&unfinished)?.sync_all()?;
    fs::rename(&unfinished, path)?;
    path.parent().map_or(Ok(()), |folder| fs::File::open(folder)?.sync_all())
}

/// All units an earlier supervisor of this boot knew. What cannot be read is reported and left out; recovery then takes the
/// unit's cgroup for a leftover.
pub(crate) fn load(paths: &Paths) -> Vec<(UnitName, Stored)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(paths.units()).into_iter().flatten().flatten() {
        let Some(name) = entry.file_name().to_str().and_then(|name| UnitName::parse(name).ok()) else { continue };
        let path = paths.state(&name);
        match fs::read(&path).map(|text| serde_json::from_slice::<Stored>(&text)) {
            Ok(Ok(stored)) if stored.version <= VERSION => found.push((name, stored)),
            Ok(Ok(stored)) => log::error!("{name}: its state has version {}, not read", stored.version),
            Ok(Err(error)) => log::error!("{}: {error}", path.display()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => log::error!("{}: {error}", path.display()),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::machine::{Now, State};

    #[test]
    fn what_is_saved_is_loaded_and_a_broken_file_hides_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::new(folder.path());
        let now = Now { mono: std::time::Duration::from_secs(5), wall_us: 7 };
        let mut record = Record::new(now);
        record.state = State::AutoRestart { at: now.mono };
        let stored = Stored::new(Policy::plain(), record, Some(JobKind::Restart));
        let (web, bad) = (UnitName::parse("web").unwrap(), UnitName::parse("bad").unwrap());
        save(&paths, &web, &stored).unwrap();
        save(&paths, &bad, &stored).unwrap();
        fs::write(paths.state(&bad), "{").unwrap();
        assert_eq!(load(&paths), [(web, stored)]);
    }
}

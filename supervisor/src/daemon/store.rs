//! What must survive the supervisor: one `state.json` per unit below /run, written whole or not at all. Below /run nothing
//! outlives the boot, so a rename is enough: no power cut is to be feared, only our own death.

use std::{fs, io, path::Path};

use serde::{Deserialize, Serialize};

use super::{
    engine::{Job, JobKind},
    logs::Remarks,
    machine::{Policy, Record},
    paths::Paths,
};
use crate::unit::UnitName;

/// Of what this supervisor writes. A field that is added needs no new one: it has a default for those who do not find it, and is
/// passed over by those who do not know it.
const VERSION: u32 = 1;
/// The oldest supervisor that understands what this one writes. Counts up when a meaning changes.
const READABLE_FROM: u32 = 1;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stored {
    version: u32,
    #[serde(default)]
    readable_from: u32,
    pub(crate) policy: Policy,
    pub(crate) record: Record,
    job: Option<JobKind>,
    /// The unit was told of the job: what it does since is its answer. Earlier versions did not write it.
    #[serde(default)]
    underway: bool,
    /// Lines for its log that tell of what led here.
    #[serde(default)]
    pub(crate) remarks: Remarks,
}

/// What an earlier supervisor of this boot kept of a unit.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    Whole(Box<Stored>),
    /// Written by a newer supervisor in a way that this one cannot read, or broken: only the number of its last container, if even that.
    Attempt(Option<u64>),
}

impl Stored {
    pub(crate) fn new(policy: Policy, record: Record, job: Option<&Job>, remarks: Remarks) -> Self {
        let underway = job.is_some_and(|job| job.underway);
        let job = job.map(|job| job.kind);
        Self { version: VERSION, readable_from: READABLE_FROM, policy, record, job, underway, remarks }
    }

    /// Its kind, and whether it is under way.
    pub(crate) fn job(&self) -> Option<(JobKind, bool)> {
        self.job.map(|kind| (kind, self.underway))
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

pub(crate) fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
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

/// All units an earlier supervisor of this boot knew. What cannot be read is tried again and then told from what is not there: the
/// container of a unit that nobody knows is taken for left over.
pub(crate) fn load(paths: &Paths) -> Vec<(UnitName, Kept)> {
    let mut found = Vec::new();
    let list = || fs::read_dir(paths.units())?.collect::<io::Result<Vec<_>>>();
    for entry in list().or_else(|_| list()).unwrap_or_default() {
        let Some(name) = entry.file_name().to_str().and_then(|name| UnitName::parse(name).ok()) else { continue };
        let path = paths.state(&name);
        match fs::read(&path).or_else(|_| fs::read(&path)) {
            Ok(text) => found.push((name, read(&path, &text))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                log::error!("{}: {error}", path.display());
                found.push((name, Kept::Attempt(None)));
            }
        }
    }
    found
}

fn read(path: &Path, text: &[u8]) -> Kept {
    let value: serde_json::Value = serde_json::from_slice(text).unwrap_or_default();
    let attempt = value.pointer("/record/attempt").and_then(serde_json::Value::as_u64);
    if value.get("readable_from").and_then(serde_json::Value::as_u64).is_some_and(|from| from > VERSION.into()) {
        log::error!("{}: written by a newer supervisor, version {} cannot read it", path.display(), VERSION);
        return Kept::Attempt(attempt);
    }
    match serde_json::from_value(value) {
        Ok(stored) => Kept::Whole(Box::new(stored)),
        Err(error) => {
            log::error!("{}: {error}", path.display());
            Kept::Attempt(attempt)
        }
    }
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
        let job = Job { id: 7, kind: JobKind::Restart, underway: true };
        let stored = Stored::new(Policy::plain(), record, Some(&job), Remarks::default());
        assert_eq!(stored.job(), Some((JobKind::Restart, true)));
        let (web, bad) = (UnitName::parse("web").unwrap(), UnitName::parse("bad").unwrap());
        save(&paths, &web, &stored).unwrap();
        save(&paths, &bad, &stored).unwrap();
        fs::write(paths.state(&bad), "{").unwrap();
        let unreadable = UnitName::parse("unreadable").unwrap();
        fs::create_dir_all(paths.state(&unreadable)).unwrap();
        let mut loaded = load(&paths);
        loaded.sort_by_key(|(name, _)| name.clone());
        assert_eq!(
            loaded,
            [(bad, Kept::Attempt(None)), (unreadable, Kept::Attempt(None)), (web, Kept::Whole(Box::new(stored)))]
        );
    }
    /// Byte for byte what a supervisor of version 1 wrote, before some of today's fields were there.
    const OLD: &str = include_str!("store_version_1.json");

    #[test]
    fn what_an_older_supervisor_wrote_is_read_and_a_newer_one_says_whether_it_can_be() {
        let path = Path::new("state.json");
        let Kept::Whole(old) = read(path, OLD.as_bytes()) else { panic!("version 1 is not readable any more") };
        assert_eq!(old.record.attempt, 7);
        assert!(matches!(old.record.state, State::Running { .. }));
        // A newer one that only added something.
        let mut newer: serde_json::Value = serde_json::from_str(OLD).unwrap();
        newer["version"] = 9.into();
        newer["readable_from"] = VERSION.into();
        newer["record"]["of_the_future"] = 1.into();
        assert!(matches!(read(path, newer.to_string().as_bytes()), Kept::Whole(_)));
        // A newer one that means something else: its container is found another way, under its number.
        newer["readable_from"] = 9.into();
        newer["record"]["state"] = "dreaming".into();
        assert_eq!(read(path, newer.to_string().as_bytes()), Kept::Attempt(Some(7)));
    }
}

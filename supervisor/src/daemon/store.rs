//! What must survive the supervisor: one `state.json` per unit below /run, written whole or not at all. Below /run nothing
//! outlives the boot, so a rename is enough: no power cut is to be feared, only our own death.
//!
//! What changes in one turn of the loop belongs together, as the job of a unit and the jobs of those it requires. So all of it is
//! there, or nothing:
//! ```text
//! gather  turn.new ──rename──▶ turn     killed before: nothing has happened; after: the next supervisor writes all of it
//! write   each unit's state.json        killed: the next one writes them again
//! done    turn is removed
//! ```

use std::{
    fs,
    io::{self, BufWriter, Write},
    path::Path,
};

use serde::{Deserialize, Serialize};

use super::{
    engine::{Job, JobKind},
    logs::Remarks,
    machine::{Policy, Record},
    paths::Paths,
};
use crate::unit::UnitName;

/// The version of what this supervisor writes, and of the oldest one that understands it. A field that is added needs no new one: it
/// has a default for those who do not find it, and is passed over by those who do not know it. The second counts up when a meaning
/// changes. As text, so that a test can make another version of the program of this one.
static FORMAT: [u8; 34] = *b"orlop state 0001, readable by 0001";

/// Both numbers; they are those of all that is kept below /run.
pub(crate) fn versions() -> (u32, u32) {
    // Read where it lies, and not when this is compiled.
    let format = std::hint::black_box(&FORMAT);
    let number = |at: usize| format[at..at + 4].iter().fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    (number(12), number(30))
}

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
        let (version, readable_from) = versions();
        Self { version, readable_from, policy, record, job, underway, remarks }
    }

    /// Its kind, and whether it is under way.
    pub(crate) fn job(&self) -> Option<(JobKind, bool)> {
        self.job.map(|kind| (kind, self.underway))
    }
}

/// Writes the records of these units, as those of one turn. Returns those that could not be written.
pub(crate) fn save(
    paths: &Paths,
    units: &[UnitName],
    stored: impl Fn(&UnitName) -> Option<Stored>,
) -> Vec<(UnitName, io::Error)> {
    let together = units.len() > 1;
    if together && let Err(error) = gather(paths, units, &stored) {
        log::error!("{}: {error}; a death in this instant would leave half of a change", paths.turn().display());
    }
    let write = |unit: &UnitName| {
        let written = serde_json::to_vec(&stored(unit)?).map_err(Into::into);
        let error = written.and_then(|text| replace_state(paths, unit, &text)).err()?;
        Some((unit.clone(), error))
    };
    let failed = units.iter().filter_map(write).collect();
    if together {
        end_turn(paths);
    }
    failed
}

/// A line for each: the unit's name, and what its file is to hold.
fn gather(paths: &Paths, units: &[UnitName], stored: impl Fn(&UnitName) -> Option<Stored>) -> io::Result<()> {
    let unfinished = paths.turn().with_extension("new");
    let mut out = BufWriter::new(fs::File::create(&unfinished)?);
    for unit in units {
        let Some(stored) = stored(unit) else { continue };
        write!(out, "{unit} ")?;
        serde_json::to_writer(&mut out, &stored)?;
        out.write_all(b"\n")?;
    }
    out.flush()?;
    fs::rename(&unfinished, paths.turn())
}

/// What an earlier supervisor had begun to write when it died.
fn finish_turn(paths: &Paths) {
    let path = paths.turn();
    let text = match fs::read(&path).or_else(|_| fs::read(&path)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => return log::error!("{}: {error}", path.display()),
        Ok(text) => text,
    };
    for line in text.split(|byte| *byte == b'\n') {
        let Some(at) = line.iter().position(|byte| *byte == b' ') else { continue };
        let Some(unit) = std::str::from_utf8(&line[..at]).ok().and_then(|name| UnitName::parse(name).ok()) else {
            continue;
        };
        if let Err(error) = replace_state(paths, &unit, &line[at + 1..]) {
            log::error!("{unit}: write its state: {error}");
        }
    }
    end_turn(paths);
}

/// One that stayed would overwrite what comes later.
fn end_turn(paths: &Paths) {
    let path = paths.turn();
    match fs::remove_file(&path).or_else(|_| fs::remove_file(&path)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => log::error!("{}: {error}", path.display()),
        _ => {}
    }
}

fn replace_state(paths: &Paths, unit: &UnitName, text: &[u8]) -> io::Result<()> {
    let path = paths.state(unit);
    match replace(&path, text) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(paths.unit(unit))?;
            replace(&path, text)
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
    rename_durably(&unfinished, path)
}

pub(crate) fn rename_durably(unfinished: &Path, path: &Path) -> io::Result<()> {
    fs::File::open(unfinished)?.sync_all()?;
    fs::rename(unfinished, path)?;
    path.parent().map_or(Ok(()), |folder| fs::File::open(folder)?.sync_all())
}

/// All units an earlier supervisor of this boot knew. What cannot be read is tried again and then told from what is not there: the
/// container of a unit that nobody knows is taken for left over.
pub(crate) fn load(paths: &Paths) -> Vec<(UnitName, Kept)> {
    finish_turn(paths);
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

/// A unit that is not known any more. What is mounted there yet, or not empty, stays: a root may be.
pub(crate) fn forget(paths: &Paths, unit: &UnitName) {
    let folder = paths.unit(unit);
    let remove = || {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            match entry.file_name().to_str() {
                Some("notify" | "secrets") => fs::remove_dir_all(entry.path())?,
                _ if entry.file_type()?.is_dir() => fs::remove_dir(entry.path())?,
                _ => fs::remove_file(entry.path())?,
            }
        }
        fs::remove_dir(&folder)
    };
    match remove() {
        Err(error) if error.kind() != io::ErrorKind::NotFound => log::warn!("{}: {error}", folder.display()),
        _ => {}
    }
}

fn read(path: &Path, text: &[u8]) -> Kept {
    let (own, _) = versions();
    let value: serde_json::Value = serde_json::from_slice(text).unwrap_or_default();
    let attempt = value.pointer("/record/attempt").and_then(serde_json::Value::as_u64);
    if value.get("readable_from").and_then(serde_json::Value::as_u64).is_some_and(|from| from > own.into()) {
        log::error!("{}: written by a newer supervisor, version {own} cannot read it", path.display());
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
        let job = Job { id: 7, kind: JobKind::Restart, underway: true, until: None };
        let stored = Stored::new(Policy::plain(), record, Some(&job), Remarks::default());
        assert_eq!(stored.job(), Some((JobKind::Restart, true)));
        let (web, bad) = (UnitName::parse("web").unwrap(), UnitName::parse("bad").unwrap());
        assert!(save(&paths, &[web.clone(), bad.clone()], |_| Some(stored.clone())).is_empty());
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

    #[test]
    fn what_changes_together_is_there_as_a_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::new(folder.path());
        let units = ["app", "db"].map(|name| UnitName::parse(name).unwrap());
        let at = |attempt| {
            let mut record = Record::new(Now { mono: std::time::Duration::ZERO, wall_us: 0 });
            record.attempt = attempt;
            Some(Stored::new(Policy::plain(), record, None, Remarks::default()))
        };
        let attempts = || {
            let attempt = |(_, kept)| if let Kept::Whole(stored) = kept { stored.record.attempt } else { 0 };
            load(&paths).into_iter().map(attempt).collect::<Vec<_>>()
        };
        fs::create_dir_all(paths.run()).unwrap();
        assert!(save(&paths, &units, |_| at(1)).is_empty());
        assert!(attempts() == [1, 1] && !paths.turn().exists());
        // Killed before the whole of it was gathered, before any file was written, and after the first.
        fs::write(paths.turn().with_extension("new"), "app {").unwrap();
        assert_eq!(attempts(), [1, 1]);
        gather(&paths, &units, |_| at(2)).unwrap();
        assert!(attempts() == [2, 2] && !paths.turn().exists());
        gather(&paths, &units, |_| at(3)).unwrap();
        assert!(save(&paths, &units[..1], |_| at(3)).is_empty());
        assert_eq!(attempts(), [3, 3]);
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
        newer["readable_from"] = versions().0.into();
        newer["record"]["of_the_future"] = 1.into();
        assert!(matches!(read(path, newer.to_string().as_bytes()), Kept::Whole(_)));
        // A newer one that means something else: its container is found another way, under its number.
        newer["readable_from"] = 9.into();
        newer["record"]["state"] = "dreaming".into();
        assert_eq!(read(path, newer.to_string().as_bytes()), Kept::Attempt(Some(7)));
    }
}

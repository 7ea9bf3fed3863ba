//! Which ids of the machine are whose: a range for every unit with `UserNS=auto` and for every name of `SubUIDMap=`, given once and
//! kept over starts, deaths and reboots. They never overlap, and `UIDMap=` cannot reach them (`FIRST_GIVEN_ID`).
//!
//! All of it is one small file, replaced as a whole. What lies on disk has the containers' own ids, so a lost record costs nothing but
//! the ids of what containers made in folders of the host.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

use super::{paths::Paths, store};
use crate::unit::{FIRST_GIVEN_ID, IdMap, IdMaps, UnitName, UserNamespace};

const VERSION: u32 = 1;
/// As many as programs and images count on: 65534 is nobody. All ranges begin at a multiple of it.
const USUAL: u32 = 1 << 16;

/// Bundles are made in threads, one a unit.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    version: u32,
    /// The oldest version that understands it, as in store.rs: the disk is that of both systems of a machine.
    #[serde(default = "readable_from")]
    readable_from: u32,
    units: BTreeMap<String, Range>,
    names: BTreeMap<String, Range>,
    /// Of units that have moved: their files in folders of the host still have these ids.
    #[serde(default)]
    retired: Vec<Range>,
    /// A newer system's, kept for it.
    #[serde(flatten)]
    rest: serde_json::Map<String, serde_json::Value>,
}

fn readable_from() -> u32 {
    VERSION
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Range {
    first: u32,
    count: u32,
}

#[derive(Debug)]
pub(crate) enum RangeError {
    File { action: &'static str, path: PathBuf, source: io::Error },
    Broken { path: PathBuf, why: String },
    Full,
}

impl std::error::Error for RangeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File { source, .. } => Some(source),
            Self::Broken { .. } | Self::Full => None,
        }
    }
}

impl fmt::Display for RangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { action, path, source } => write!(f, "{action} {}: {source}", path.display()),
            Self::Broken { path, why } => write!(
                f,
                "{}: {why}; put back what it was, or remove it from a container with Volume=/var/lib/orlop:/orlop: then every \
                 container gets ids anew",
                path.display()
            ),
            Self::Full => write!(f, "the machine has no ids left for another user namespace of this size"),
        }
    }
}

/// The ids of a container or a pod; `None`: the machine's own user namespace.
pub(crate) fn of(paths: &Paths, unit: &UnitName, namespace: &UserNamespace) -> Result<Option<IdMaps>, RangeError> {
    let whole = |range: Range| vec![IdMap { container: 0, host: range.first, count: range.count }];
    Ok(match namespace {
        UserNamespace::Host => None,
        UserNamespace::Mapped { uids, gids } => Some(IdMaps { uids: uids.clone(), gids: gids.clone() }),
        UserNamespace::Auto { size, uids, gids } => {
            let count = size.unwrap_or(USUAL);
            let range = given(paths, |record| &mut record.units, unit.as_str(), count)?;
            let range = Range { count, ..range };
            Some(IdMaps { uids: beside(uids, range), gids: beside(gids, range) })
        }
        UserNamespace::Named { uids, gids } => {
            let range = |name| given(paths, |record| &mut record.names, name, USUAL);
            Some(IdMaps { uids: whole(range(uids)?), gids: whole(range(gids)?) })
        }
    })
}

/// The range, but for those ids of the container that are mapped already.
fn beside(maps: &[IdMap], range: Range) -> Vec<IdMap> {
    let mut all = maps.to_vec();
    all.sort_unstable_by_key(|map| map.container);
    let mut next = 0;
    let mut rest = Vec::new();
    for (from, to) in
        all.iter().map(|map| (map.container, map.container + map.count)).chain([(range.count, range.count)])
    {
        let end = from.min(range.count);
        if next < end {
            rest.push(IdMap { container: next, host: range.first + next, count: end - next });
        }
        next = next.max(to);
    }
    all.extend(rest);
    all
}

/// The range that is kept under this key, or a new one.
fn given(
    paths: &Paths,
    of: impl Fn(&mut Record) -> &mut BTreeMap<String, Range>,
    key: &str,
    count: u32,
) -> Result<Range, RangeError> {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut record = read(paths)?;
    let before = of(&mut record).remove(key);
    if let Some(range) = before.filter(|range| range.count >= count) {
        return Ok(range);
    }
    let whole = count.checked_next_multiple_of(USUAL).ok_or(RangeError::Full)?;
    // Its unit says now that it needs more: where it is, if the next ids are nobody's.
    let first = match before.map(|range| range.first).filter(|first| is_free(&record, *first, whole)) {
        Some(first) => first,
        None => {
            record.retired.extend(before);
            gap(&record, whole).or_else(|| {
                // Units come and go, instances above all: whose container was not made since the machine came up gives its ids back.
                record.units.retain(|unit, _| paths.units().join(unit).exists());
                record.retired.clear();
                gap(&record, whole)
            })
        }
        .ok_or(RangeError::Full)?,
    };
    let range = Range { first, count: whole };
    if let Some(before) = before.filter(|before| before.first != first) {
        log::warn!(
            "{key}: its ids have moved from {} to {first}: what it made in folders of the host is not its own any more",
            before.first
        );
    }
    of(&mut record).insert(key.to_owned(), range);
    write(paths, &record)?;
    Ok(range)
}

fn taken(record: &Record) -> impl Iterator<Item = Range> {
    record.units.values().chain(record.names.values()).chain(&record.retired).copied()
}

fn is_free(record: &Record, first: u32, count: u32) -> bool {
    let apart = |range: Range, end| end <= range.first || range.first.saturating_add(range.count) <= first;
    first.checked_add(count).is_some_and(|end| taken(record).all(|range| apart(range, end)))
}

/// Where so many ids in a row are nobody's.
fn gap(record: &Record, count: u32) -> Option<u32> {
    let mut taken: Vec<Range> = taken(record).collect();
    taken.sort_unstable_by_key(|range| range.first);
    let mut next = FIRST_GIVEN_ID;
    for range in taken {
        if range.first.saturating_sub(next) >= count {
            break;
        }
        next = next.max(range.first.checked_add(range.count)?);
    }
    // 4294967295 is nobody's, and no range ends behind it.
    next.checked_add(count).map(|_| next)
}

fn read(paths: &Paths) -> Result<Record, RangeError> {
    let path = paths.id_ranges();
    let text = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let (units, names, retired, rest) = <_>::default();
            return Ok(Record { version: VERSION, readable_from: VERSION, units, names, retired, rest });
        }
        read => read.map_err(|source| RangeError::File { action: "read", path: path.clone(), source })?,
    };
    let broken = |why| RangeError::Broken { path: path.clone(), why };
    let value: serde_json::Value = serde_json::from_slice(&text).map_err(|error| broken(error.to_string()))?;
    let number = |name| value.get(name).and_then(serde_json::Value::as_u64);
    // Without the second number it is the first one's, or an early system's.
    match number("readable_from").or_else(|| number("version")) {
        Some(from) if from > u64::from(VERSION) => {
            Err(broken(format!("is for systems from version {from} on, and this one knows version {VERSION}")))
        }
        _ => serde_json::from_value(value).map_err(|error| broken(error.to_string())),
    }
}

fn write(paths: &Paths, record: &Record) -> Result<(), RangeError> {
    let path = paths.id_ranges();
    let text = serde_json::to_vec(record).map_err(io::Error::from);
    let written = text.and_then(|text| store::replace_durably(&path, &text));
    written.map_err(|source| RangeError::File { action: "write", path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, Paths) {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::new(folder.path());
        fs::create_dir_all(folder.path().join("var/lib/orlop")).unwrap();
        (folder, paths)
    }

    fn for_unit(paths: &Paths, name: &str, count: u32) -> Result<Range, RangeError> {
        given(paths, |record| &mut record.units, name, count)
    }

    #[test]
    fn a_range_is_given_once_and_overlaps_no_other() {
        let (_folder, paths) = place();
        let web = for_unit(&paths, "web", USUAL).unwrap();
        assert_eq!(web, Range { first: FIRST_GIVEN_ID, count: USUAL });
        let name = given(&paths, |record| &mut record.names, "web", USUAL).unwrap();
        let large = for_unit(&paths, "large", USUAL + 1).unwrap();
        assert_eq!((name.first, large.first), (web.first + USUAL, web.first + 2 * USUAL));
        assert_eq!((for_unit(&paths, "web", 7).unwrap(), for_unit(&paths, "large", USUAL).unwrap()), (web, large));
        // One that grows stays if it can, and else moves: nobody gets the ids its files have.
        let larger = for_unit(&paths, "large", 4 * USUAL).unwrap();
        assert_eq!(larger, Range { first: large.first, count: 4 * USUAL });
        let moved = for_unit(&paths, "web", 3 * USUAL).unwrap();
        assert_eq!(moved.first, large.first + 4 * USUAL);
        assert_eq!(for_unit(&paths, "new", 1).unwrap().first, moved.first + 3 * USUAL);
    }

    #[test]
    fn what_no_longer_runs_makes_room_and_only_then() {
        let (_folder, paths) = place();
        let half = (u32::MAX - FIRST_GIVEN_ID) / USUAL / 2 * USUAL;
        let old = for_unit(&paths, "old", half).unwrap();
        fs::create_dir_all(paths.units().join("runs")).unwrap();
        let runs = for_unit(&paths, "runs", half).unwrap();
        assert_eq!(for_unit(&paths, "new", half).unwrap(), old);
        assert!(matches!(for_unit(&paths, "other", 2 * half), Err(RangeError::Full)));
        assert_eq!(for_unit(&paths, "runs", half).unwrap(), runs);
    }

    #[test]
    fn what_a_newer_system_only_added_to_is_read_and_kept() {
        let (_folder, paths) = place();
        let own = format!(r#"{{"first":{FIRST_GIVEN_ID},"count":{USUAL}}}"#);
        let text = format!(r#"{{"version":2,"readable_from":1,"units":{{"web":{own}}},"names":{{}},"x":1}}"#);
        fs::write(paths.id_ranges(), text).unwrap();
        assert_eq!(for_unit(&paths, "web", 1).unwrap(), Range { first: FIRST_GIVEN_ID, count: USUAL });
        for_unit(&paths, "new", 1).unwrap();
        let kept: serde_json::Value = serde_json::from_slice(&fs::read(paths.id_ranges()).unwrap()).unwrap();
        assert_eq!((&kept["version"], &kept["x"]), (&2.into(), &1.into()));
        assert_eq!(kept["units"].as_object().unwrap().len(), 2);
    }

    #[test]
    fn a_record_that_cannot_be_read_is_said_and_kept() {
        let (_folder, paths) = place();
        let newer = r#"{"version":9,"readable_from":3}"#;
        for (text, word) in [("{", "remove it"), (r#"{"version":9}"#, "version 9"), (newer, "version 3")] {
            fs::write(paths.id_ranges(), text).unwrap();
            assert!(for_unit(&paths, "web", 1).unwrap_err().to_string().contains(word));
            assert_eq!(fs::read_to_string(paths.id_ranges()).unwrap(), text);
        }
    }

    #[test]
    fn maps_of_ones_own_go_before_the_range() {
        let map = |container, host, count| IdMap { container, host, count };
        let range = Range { first: 1000, count: 10 };
        assert_eq!(beside(&[], range), [map(0, 1000, 10)]);
        assert_eq!(beside(&[map(8, 9, 5), map(0, 5, 1)], range), [map(0, 5, 1), map(8, 9, 5), map(1, 1001, 7)]);
        assert_eq!(beside(&[map(0, 5, 10)], range), [map(0, 5, 10)]);
    }
}

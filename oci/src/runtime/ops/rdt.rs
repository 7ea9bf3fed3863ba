//! `linux.intelRdt`: shares of caches and memory bandwidth, by the groups of a mounted resctrl (Documentation/filesystems/resctrl.rst).

use std::path::{Path, PathBuf};

use crate::runtime::config::{ConfigError, IntelRdt};
use crate::runtime::error::{Error, Result, Step};
use crate::runtime::procfs::Procfs;
use crate::runtime::state::State;

/// Puts a container's process into its group, and notes the groups, and what of them was made for it, the outer one first.
pub(super) fn apply(rdt: &IntelRdt, state: &mut State, proc: &Procfs) -> Result<()> {
    let text = proc.read(&format!("{}/mountinfo", std::process::id())).step("read", "/proc/self/mountinfo")?;
    match mounted(&text) {
        Some(root) => {
            let names = |all: &[PathBuf]| all.iter().map(|folder| folder.display().to_string()).collect();
            let mut made = Vec::new();
            let groups = join(Path::new(root), rdt, &state.id, state.pid, &mut made);
            // Also where it fails half-way: a processor has a handful of them.
            state.resctrl_made = names(&made);
            state.resctrl = names(&groups?);
            Ok(())
        }
        None => Err(refused(ConfigError::unsupported("linux.intelRdt", "no resctrl is mounted on this machine"))),
    }
}

/// What `change` has done.
pub(super) enum Changed {
    Nothing,
    /// The `schemata` of a group, as it was.
    Group(PathBuf, String),
    /// Groups that were made.
    Made(Vec<String>),
}

/// Other shares for a container that exists, all or none. One without a group gets one: what `exec` starts finds it in the state.
pub(super) fn change(rdt: &IntelRdt, state: &mut State, proc: &Procfs) -> Result<Changed> {
    let lines = rdt.lines();
    if lines.is_empty() {
        return Ok(Changed::Nothing);
    }
    let Some(group) = state.resctrl.first().map(PathBuf::from) else {
        let applied = apply(rdt, state, proc);
        let made = Changed::Made(state.resctrl_made.clone());
        return applied.map(|()| made).inspect_err(|_| drop(leave(&state.resctrl_made)));
    };
    let file = group.join("schemata");
    let before = Changed::Group(group.clone(), std::fs::read_to_string(&file).step("read", file.display())?);
    match set(&group, &lines) {
        Ok(()) => Ok(before),
        Err(error) => {
            let _ = before.undo();
            Err(error)
        }
    }
}

impl Changed {
    pub(super) fn undo(&self) -> Result<()> {
        match self {
            Changed::Nothing => Ok(()),
            Changed::Group(group, text) => set(group, &text.lines().map(str::trim).collect::<Vec<_>>()),
            Changed::Made(made) => leave(made),
        }
    }
}

fn refused(error: ConfigError) -> Error {
    Error::Config { file: "config.json".to_owned(), error }
}

/// Where resctrl is mounted: the fifth field of a line of mountinfo; the kind stands behind the dash.
fn mounted(mountinfo: &str) -> Option<&str> {
    mountinfo.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        after.starts_with("resctrl ").then(|| before.split(' ').nth(4)).flatten()
    })
}

/// The groups it is in then; `made` says which of them are new, whatever comes of the rest.
fn join(root: &Path, rdt: &IntelRdt, id: &str, pid: i32, made: &mut Vec<PathBuf>) -> Result<Vec<PathBuf>> {
    let wrong = |field: &str, why: &str| Err(refused(ConfigError::invalid(format!("linux.intelRdt.{field}"), why)));
    let name = rdt.class.as_deref().unwrap_or(id);
    // Spec, section "IntelRdt": `/` is the class there always is.
    let group = if name == "/" {
        root.to_owned()
    } else if name.contains('/') || matches!(name, "." | ".." | "info" | "mon_groups" | "mon_data") {
        return wrong("closID", "is not the name of a group");
    } else {
        root.join(name)
    };
    let exists = group.is_dir();
    let named = rdt.class.is_some();
    let lines = rdt.lines();
    if !exists && rdt.class.is_some() && lines.is_empty() {
        return wrong("closID", "names a group that does not exist, and nothing to make it of");
    } else if exists && rdt.class.is_some() {
        let file = group.join("schemata");
        let have = if lines.is_empty() {
            String::new()
        } else {
            std::fs::read_to_string(&file).step("read", file.display())?
        };
        let step = std::fs::read_to_string(root.join("info/MB/bandwidth_gran"));
        let step = step.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1);
        if let Some(line) = lines.iter().find(|line| !has(&have, line, step)) {
            return wrong("closID", &format!("names a group that exists and has not {line:?}"));
        }
    } else {
        if !exists {
            std::fs::create_dir(&group).step("create", group.display())?;
            // Spec, section "IntelRdt": only a container's own is removed. One with a name is for others, too.
            if !named {
                made.push(group.clone());
            }
        }
        set(&group, &lines).inspect_err(|_| unmake(&group, named && !exists))?;
    }
    enter(&group, pid).inspect_err(|_| unmake(&group, named && !exists))?;
    let mut groups = vec![group];
    if let (true, [group]) = (rdt.monitoring, groups.as_slice()) {
        let folder = group.join("mon_groups").join(id);
        std::fs::create_dir_all(&folder).step("create", folder.display())?;
        made.push(folder.clone());
        enter(&folder, pid)?;
        groups.push(folder);
    }
    Ok(groups)
}

/// A group with a name that came to nothing, and that the next one of that name would find without its shares.
fn unmake(group: &Path, is_ours: bool) {
    if is_ours {
        let _ = std::fs::remove_dir(group);
    }
}

/// Whether a group's `schemata` gives what a line asks for. The kernel pads its numbers, tells all domains whatever was written, and
/// rounds a bandwidth up to a multiple of `step`.
fn has(schemata: &str, line: &str, step: u64) -> bool {
    let parts = |line: &str| {
        let (name, domains) = line.split_once(':')?;
        let name = name.trim().to_owned();
        let radix = if name.ends_with("MB") || name == "SMBA" { 10 } else { 16 };
        let domain = |one: &str| {
            let (number, value) = one.split_once('=')?;
            Some((number.trim().parse::<u32>().ok()?, u64::from_str_radix(value.trim(), radix).ok()?))
        };
        let domains: Option<Vec<_>> = domains.trim().split(';').map(domain).collect();
        Some((name, radix == 10, domains?))
    };
    let Some((name, rounded, wanted)) = parts(line) else {
        return schemata.lines().any(|one| one.trim() == line.trim());
    };
    let given = schemata.lines().filter_map(parts).find(|(one, ..)| *one == name);
    let fits = |wanted: u64, given: u64| given == wanted || (rounded && given == wanted.next_multiple_of(step.max(1)));
    given.is_some_and(|(_, _, given)| {
        wanted.iter().all(|(domain, wanted)| given.iter().any(|(one, given)| one == domain && fits(*wanted, *given)))
    })
}

/// One write a line, as the kernel takes them.
pub(super) fn set(group: &Path, lines: &[&str]) -> Result<()> {
    let file = group.join("schemata");
    lines.iter().try_for_each(|line| std::fs::write(&file, format!("{line}\n")).step("write", file.display()))
}

/// Also for `exec`, whose process is no child of the container's.
pub(super) fn enter(group: &Path, pid: i32) -> Result<()> {
    let file = group.join("tasks");
    std::fs::write(&file, format!("{pid}\n")).step("write", file.display())
}

/// Removes what was made for a container.
pub(super) fn leave(made: &[String]) -> Result<()> {
    for folder in made.iter().rev() {
        match std::fs::remove_dir(folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            other => other.step("remove", folder)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_is_found() {
        let line = "30 23 0:26 / /sys/fs/resctrl rw,relatime shared:9 - resctrl resctrl rw\n";
        assert_eq!(mounted(&format!("1 2 0:3 / / rw - ext4 /dev/a rw\n{line}")), Some("/sys/fs/resctrl"));
        assert_eq!(mounted("1 2 0:3 / /resctrl rw - ext4 resctrl rw\n"), None);
    }

    #[test]
    fn groups_are_made_joined_or_refused() {
        let root = tempfile::tempdir().unwrap();
        let rdt = |class: Option<&str>, l3: Option<&str>| IntelRdt {
            class: class.map(str::to_owned),
            l3: l3.map(str::to_owned),
            ..IntelRdt::default()
        };
        let join = |rdt: &IntelRdt, id: &str, pid: i32| {
            let mut made = Vec::new();
            (join(root.path(), rdt, id, pid, &mut made), made)
        };
        let read = |path: &str| std::fs::read_to_string(root.path().join(path)).unwrap();
        let (groups, made) = join(&rdt(None, Some("L3:0=f")), "web", 7);
        let groups = groups.unwrap();
        assert_eq!((read("web/schemata").as_str(), read("web/tasks").as_str()), ("L3:0=f\n", "7\n"));
        assert_eq!(made, groups);
        set(&groups[0], &["L3:0=7"]).unwrap();
        assert_eq!(read("web/schemata"), "L3:0=7\n");
        set(&groups[0], &["L3:0=f"]).unwrap();
        assert!(join(&rdt(Some("absent"), None), "b", 7).0.is_err());
        assert!(join(&rdt(Some("web"), Some("L3:0=1")), "b", 8).0.is_err());
        let (joined, made) = join(&rdt(Some("web"), Some("L3:0=f")), "b", 8);
        assert!(joined.is_ok() && made.is_empty() && read("web/tasks") == "8\n");
        let monitored = IntelRdt { monitoring: true, ..rdt(Some("web"), None) };
        let (groups, made) = join(&monitored, "c", 9);
        let groups = groups.unwrap();
        // What `exec` starts enters both: the class first, as only its tasks can be monitored in it.
        assert_eq!(groups, [root.path().join("web"), root.path().join("web/mon_groups/c")]);
        assert_eq!(made, groups[1..]);
        assert!(join(&rdt(Some("../x"), None), "b", 7).0.is_err());
        // A class that has a name stays for the next one of it, whose words the kernel has written in its own way.
        let (groups, made) = join(&rdt(Some("gold"), Some("L3:0=f\nMB:0=45")), "f", 12);
        assert!(made.is_empty() && groups.unwrap() == [root.path().join("gold")]);
        std::fs::create_dir_all(root.path().join("info/MB")).unwrap();
        std::fs::write(root.path().join("info/MB/bandwidth_gran"), "10\n").unwrap();
        std::fs::write(root.path().join("gold/schemata"), "    MB:0= 50;1=100\n    L3:0=00f;1=fff\n").unwrap();
        join(&rdt(Some("gold"), Some("L3:0=f\nMB:0=45")), "g", 13).0.unwrap();
        for other in ["L3:0=e", "L3:2=f", "MB:0=40", "L2:0=f", "L3"] {
            assert!(join(&rdt(Some("gold"), Some(other)), "g", 13).0.is_err(), "{other}");
        }
        let (groups, made) = join(&rdt(Some("/"), None), "d", 10);
        assert!(made.is_empty() && groups.unwrap() == [root.path()] && read("tasks") == "10\n");
        // What fails behind the making of a group is told with what was made.
        std::fs::create_dir_all(root.path().join("web/mon_groups/e/tasks")).unwrap();
        let (groups, made) = join(&monitored, "e", 11);
        assert!(groups.is_err() && made == [root.path().join("web/mon_groups/e")]);
    }
}

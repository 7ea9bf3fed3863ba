//! Reads a folder of unit files. Their content is the supervisor's matter (`orlop lint`); here only what would be lost
//! or could not be read is refused.

use crate::digest;
use crate::error::{Result, at, input};
use std::fs;
use std::path::Path;

/// A unit file, or a drop-in below its folder.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unit {
    /// Relative, `/`-separated.
    pub(super) name: String,
    /// Nothing for a link to /dev/null, which masks a shipped unit.
    pub(super) text: Option<String>,
}

/// Quadlet's kinds of files, and systemd's that go with them.
const KINDS: [&str; 9] = ["container", "volume", "network", "image", "pod", "build", "kube", "timer", "socket"];
/// The machine's own settings, at the top.
const MACHINE: &str = "orlop.conf";

/// A unit file is some kilobytes; a folder named by mistake holds other things.
const LIMIT_BYTES: u64 = 1 << 20;

pub(super) fn read(given: &Path, progress: &mut dyn FnMut(&str)) -> Result<Vec<Unit>> {
    if !given.exists() {
        return Err(input(given, "there is no such folder of unit files"));
    }
    if given.is_file() {
        let name = given.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !is_unit(&name) {
            return Err(input(given, format!("not a unit file; their names end in .{}", KINDS.join(", ."))));
        }
        return Ok(vec![unit(given, name)?]);
    }
    let mut units = Vec::new();
    for path in digest::walk(given)? {
        let name = path.strip_prefix(given).unwrap_or(&path).to_string_lossy().into_owned();
        if path.is_dir() {
            continue;
        }
        if is_unit(&name) || is_drop_in(&name) {
            units.push(unit(&path, name)?);
        } else {
            progress(&format!("skip {}: not a unit file or drop-in", path.display()));
        }
    }
    Ok(units)
}

fn unit(path: &Path, name: String) -> Result<Unit> {
    if fs::read_link(path).is_ok_and(|target| target == Path::new("/dev/null")) {
        return Ok(Unit { name, text: None });
    }
    // A link to another file is that file: the machine does not have what it points to.
    let data = fs::metadata(path).map_err(at("look at", path))?;
    if !data.is_file() {
        return Err(input(path, "a unit is a file, or a link to one or to /dev/null"));
    }
    if data.len() > LIMIT_BYTES {
        return Err(input(path, format!("{} bytes are too many for a unit file", data.len())));
    }
    let text = String::from_utf8(fs::read(path).map_err(at("read", path))?)
        .map_err(|error| input(path, format!("not UTF-8 at byte {}", error.utf8_error().valid_up_to())))?;
    Ok(Unit { name, text: Some(text) })
}

/// `web.container`, also below a folder, as Quadlet searches them.
fn is_unit(name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or(name);
    name == MACHINE || file.rsplit_once('.').is_some_and(|(stem, kind)| !stem.is_empty() && KINDS.contains(&kind))
}

/// `web.container.d/limits.conf`.
fn is_drop_in(name: &str) -> bool {
    let Some((folder, file)) = name.rsplit_once('/') else { return false };
    file.ends_with(".conf") && folder.ends_with(".d")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn units_drop_ins_and_masks_are_read_and_the_rest_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("web.container.d")).unwrap();
        fs::write(path("web.container"), "[Container]\n").unwrap();
        fs::write(path("web.container.d/limits.conf"), "[Container]\nMemory=1G\n").unwrap();
        fs::write(path("orlop.conf"), "[Logs]\n").unwrap();
        fs::write(path("web.socket"), "[Socket]\n").unwrap();
        fs::write(path("web.timer"), "[Timer]\n").unwrap();
        fs::write(path("README.md"), "hello").unwrap();
        symlink("/dev/null", path("demo.container")).unwrap();
        symlink("web.container", path("alias.container")).unwrap();
        let mut said = Vec::new();
        let units = read(folder.path(), &mut |line| said.push(line.to_owned())).unwrap();
        let found: Vec<(&str, Option<&str>)> = units.iter().map(|unit| (&*unit.name, unit.text.as_deref())).collect();
        assert_eq!(
            found,
            [
                ("alias.container", Some("[Container]\n")),
                ("demo.container", None),
                ("orlop.conf", Some("[Logs]\n")),
                ("web.container", Some("[Container]\n")),
                ("web.container.d/limits.conf", Some("[Container]\nMemory=1G\n")),
                ("web.socket", Some("[Socket]\n")),
                ("web.timer", Some("[Timer]\n")),
            ]
        );
        assert_eq!(said.len(), 1);
        assert!(said[0].contains("README.md"));
    }

    #[test]
    fn what_cannot_be_a_unit_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("web.container");
        fs::write(&file, b"[Container]\n\xff").unwrap();
        let error = read(folder.path(), &mut |_| {}).unwrap_err().to_string();
        assert_eq!(error, format!("{}: not UTF-8 at byte 12", file.display()));
        fs::remove_file(&file).unwrap();
        symlink("nowhere", &file).unwrap();
        assert!(read(folder.path(), &mut |_| {}).is_err());
        assert!(read(&folder.path().join("missing"), &mut |_| {}).is_err());
    }
}

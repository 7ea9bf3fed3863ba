//! Kernel modules: the list the image builder closed over its dependencies (`modules.orlop`), depmod's
//! `modules.alias`, and the loading.
//!
//! A signed module costs some 17 ms of signature check under emulation, and more the larger it is. Those that every boot loads
//! lie beside it as `.bare`, without their signature and what only tracing and unwinding read; the original is taken where the
//! kernel refuses that one, as it does with Secure Boot. Nothing is loaded that no device and no caller asks for. Failure of one
//! module is never fatal here: the caller says it and goes on.

pub(crate) mod alias;

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;

use nix::errno::Errno;

use self::alias::Aliases;
use crate::cmdline::{Cmdline, same_name};
use crate::story;
use crate::sys::module::insert;

#[derive(Debug)]
pub(crate) enum ModuleError {
    Release(Errno),
    Read { path: String, source: io::Error },
    Unknown { name: String, folder: String },
    Insert { name: String, source: Errno },
}

impl fmt::Display for ModuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Release(source) => write!(f, "ask for the kernel's release: {}", source.desc()),
            Self::Read { path, source } => write!(f, "read {path}: {source}"),
            Self::Unknown { name, folder } => write!(f, "module {name} not found in directory {folder}"),
            Self::Insert { name, source } => write!(f, "insert module {name}: {}", source.desc()),
        }
    }
}

/// One line of `modules.orlop`.
struct Entry<'a> {
    path: &'a str,
    /// All of them, in the order to load.
    dependencies: &'a str,
}

/// The modules of one folder, and which of them this process has loaded.
pub(crate) struct Modules {
    folder: String,
    list: String,
    aliases: Aliases,
    cmdline: Cmdline,
    loaded: BTreeSet<String>,
    asked: BTreeSet<String>,
    /// The kernel refused a bare module and took its original.
    wants_originals: bool,
}

impl Modules {
    /// The running kernel's modules below `root` ("" or "/sysroot").
    pub(crate) fn open(root: &str, cmdline: &Cmdline) -> Result<Self, ModuleError> {
        let uname = nix::sys::utsname::uname().map_err(ModuleError::Release)?;
        let folder = format!("{root}/usr/lib/modules/{}", uname.release().to_string_lossy());
        let read = |name: &str| {
            let path = format!("{folder}/{name}");
            fs::read_to_string(&path).map_err(|source| ModuleError::Read { path, source })
        };
        let (list, aliases) = (read("modules.orlop")?, Aliases::parse(read("modules.alias")?));
        let (loaded, asked, cmdline) = (BTreeSet::new(), BTreeSet::new(), cmdline.clone());
        Ok(Self { folder, list, aliases, cmdline, loaded, asked, wants_originals: false })
    }

    /// Loads a module by its name, dependencies first. True when it was not there before.
    pub(crate) fn load(&mut self, name: &str) -> Result<bool, ModuleError> {
        let Some(entry) = find(&self.list, name) else {
            return Err(ModuleError::Unknown { name: name.to_owned(), folder: self.folder.clone() });
        };
        let mut todo: Vec<(String, String)> = Vec::new();
        for dependency in entry.dependencies.split(',').filter(|d| !d.is_empty()) {
            // The list is closed by the image builder; a gap in it shows as the kernel's own "unknown symbol".
            if let Some(found) = find(&self.list, dependency) {
                todo.push((dependency.to_owned(), found.path.to_owned()));
            }
        }
        todo.push((name.to_owned(), entry.path.to_owned()));
        let mut new = false;
        for (name, path) in todo {
            new = self.insert_once(&name, &path)?;
        }
        Ok(new)
    }

    /// Loads what an alias (a device's modalias, `fs-overlay`) asks for: each module whose pattern matches.
    /// Returns how many matched. An alias is looked up once.
    pub(crate) fn load_alias(&mut self, wanted: &str, failed: impl FnMut(ModuleError)) -> usize {
        if !self.asked.insert(wanted.to_owned()) {
            return 0;
        }
        let names: BTreeSet<String> = self.aliases.matching(wanted).map(str::to_owned).collect();
        self.load_all(&names, failed);
        names.len()
    }

    fn load_all(&mut self, names: &BTreeSet<String>, mut failed: impl FnMut(ModuleError)) {
        for name in names {
            if let Err(error) = self.load(name) {
                failed(error);
            }
        }
    }

    /// The modules an alias asks for whose file lies below `part` of the kernel's tree, such as `/watchdog/`.
    pub(crate) fn names_for(&self, wanted: &str, part: &str) -> Vec<String> {
        let lies_there = |name: &&str| find(&self.list, name).is_some_and(|entry| entry.path.contains(part));
        self.aliases.matching(wanted).filter(lies_there).map(str::to_owned).collect()
    }

    /// Loads what the devices of the machine ask for and was not asked before; true when something was loaded, so
    /// that more devices may have come. What wants a module whose path `is_left` is left for another call.
    pub(crate) fn coldplug(&mut self, is_left: impl Fn(&str) -> bool, mut failed: impl FnMut(ModuleError)) -> bool {
        let before = self.loaded.len();
        for modalias in device_aliases() {
            if self.asked.contains(&modalias) {
                continue;
            }
            let names: BTreeSet<String> = self.aliases.matching(&modalias).map(str::to_owned).collect();
            if !names.iter().any(|name| find(&self.list, name).is_some_and(|entry| is_left(entry.path))) {
                self.load_all(&names, &mut failed);
                self.asked.insert(modalias);
            }
        }
        self.loaded.len() > before
    }

    /// What this process loaded, for the story.
    pub(crate) fn loaded(&self) -> impl Iterator<Item = &str> {
        self.loaded.iter().map(String::as_str)
    }

    fn insert_once(&mut self, name: &str, path: &str) -> Result<bool, ModuleError> {
        if self.loaded.contains(name) {
            return Ok(false);
        }
        // Said by the kernel only after it has checked the signature, and a process does not know what another one loaded.
        if fs::read(format!("/sys/module/{}/initstate", name.replace('-', "_"))).is_ok_and(|state| state == b"live\n") {
            return Ok(false);
        }
        let path = format!("{}/{path}", self.folder);
        let bare = if self.wants_originals { None } else { File::open(format!("{path}.bare")).ok() };
        // A command line with a NUL in it does not exist.
        let parameters = CString::new(self.cmdline.module_parameters(name)).unwrap_or_default();
        let done = match bare.map(|file| insert(file.as_fd(), &parameters, false)) {
            Some(done @ (Ok(()) | Err(Errno::EEXIST))) => done,
            refused => {
                let file = File::open(&path).map_err(|source| ModuleError::Read { path: path.clone(), source })?;
                let done = insert(file.as_fd(), &parameters, !path.ends_with(".ko"));
                if let (Some(Err(errno)), Ok(())) = (refused, done) {
                    self.wants_originals = true;
                    let why = errno.desc();
                    story::warn("modules", format_args!("{name} unsigned: {why}; the distribution's own are loaded"));
                }
                done
            }
        };
        match done {
            Ok(()) => {
                self.loaded.insert(name.to_owned());
                Ok(true)
            }
            // Already there: loaded before us, built in, or a second request for it.
            Err(Errno::EEXIST) => Ok(false),
            Err(source) => Err(ModuleError::Insert { name: name.to_owned(), source }),
        }
    }
}

fn find<'a>(list: &'a str, name: &str) -> Option<Entry<'a>> {
    list.lines().find_map(|line| {
        let mut fields = line.split('\t');
        let found = fields.next().is_some_and(|own| same_name(own, name));
        let path = fields.next()?;
        found.then(|| Entry { path, dependencies: fields.next().unwrap_or_default() })
    })
}

/// What the devices of the machine are, as their buses say it, each once.
pub(crate) fn device_aliases() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for bus in entries("/sys/bus") {
        let devices = format!("/sys/bus/{bus}/devices");
        for device in entries(&devices) {
            if let Ok(text) = fs::read_to_string(format!("{devices}/{device}/modalias")) {
                found.insert(text.trim_end().to_owned());
            }
        }
    }
    found.remove("");
    found
}

/// The names in a folder; a folder that is not there has none.
fn entries(path: &str) -> Vec<String> {
    let Ok(folder) = fs::read_dir(path) else { return Vec::new() };
    folder.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_found_by_name() {
        let list = "libcrc32c\tkernel/lib/libcrc32c.ko.xz\t\nnvme_core\tkernel/n/nvme-core.ko.xz\ta,b\nbroken\n";
        let entry = find(list, "nvme-core").unwrap();
        assert_eq!((entry.path, entry.dependencies), ("kernel/n/nvme-core.ko.xz", "a,b"));
        assert_eq!(find(list, "libcrc32c").unwrap().dependencies, "");
        assert!(find(list, "broken").is_none() && find(list, "nvme").is_none());
    }
}

//! A container's cgroup (v2): made, limited, frozen, killed and removed through one descriptor of its folder.
//!
//! Why not cgroups-rs: it drops the errors of enabling controllers, waits for nothing on delete, and gives no descriptor for
//! clone3's CLONE_INTO_CGROUP, which is what spares the 0.3 to 6 ms of a write to cgroup.procs.

mod devices;
mod limits;
mod program;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

pub(crate) use limits::Setting;
use limits::{as_it_was, in_turn, settings};
pub(crate) use program::FILE as LAST_PROGRAM;

use super::config::{DeviceRule, Resources};
use super::error::{Error, Result, Step, c_string};
use super::procfs::{Procfs, read_all, write_setting};
use super::sys::fs::Walk;
use super::sys::{self, Errno, bpf, fs, process};

const ROOT: &str = "/sys/fs/cgroup";
/// For what the kernel does by itself, and is seldom slow at.
const PATIENCE: Duration = Duration::from_secs(10);
/// Controllers that systemd's `Delegate=` does not hand on either.
const SELDOM: [&str; 3] = ["hugetlb", "rdma", "misc"];

pub(crate) struct Cgroup {
    root: OwnedFd,
    dir: OwnedFd,
    /// Below the root, without the leading `/`.
    path: String,
}

/// Where a container's cgroup lies, as `linux.cgroupsPath` says: absolute below the root of the hierarchy; relative ones, and
/// the id if there is none, beside the caller's own cgroup (a cgroup with processes in it cannot have limited children).
pub(crate) fn path_for(wanted: Option<&str>, id: &str, proc: &Procfs) -> Result<String> {
    let wanted = wanted.unwrap_or(id);
    let refuse = |why: &str| Err(Error::Cgroup { path: wanted.chars().take(200).collect(), why: why.to_owned() });
    if wanted.contains(':') && !wanted.contains('/') {
        return refuse(
            "linux.cgroupsPath is of systemd's form slice:prefix:name, which needs --systemd-cgroup; else give a path \
                       (Podman: --cgroup-manager=cgroupfs)",
        );
    }
    if wanted.len() > 2000 || wanted.chars().any(char::is_control) {
        return refuse("linux.cgroupsPath is too long or holds control characters");
    }
    let names: Vec<&str> = wanted.split('/').filter(|name| !name.is_empty() && *name != ".").collect();
    if names.contains(&"..") {
        return refuse("linux.cgroupsPath holds `..`");
    }
    if names.is_empty() {
        return refuse("linux.cgroupsPath is the root of the hierarchy");
    }
    let mut path = String::new();
    if !wanted.starts_with('/') {
        let own = path_of(std::process::id(), proc)?;
        path.push_str(own.rsplit_once('/').map_or("", |(parent, _)| parent));
    }
    for name in names {
        path.push('/');
        path.push_str(name);
    }
    Ok(path)
}

/// The cgroup that a process is in.
pub(crate) fn path_of(pid: u32, proc: &Procfs) -> Result<String> {
    let text = proc.read(&format!("{pid}/cgroup")).step("read the cgroup of process", pid)?;
    Ok(text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/").to_owned())
}

/// Whether a cgroup is another one or lies below it.
pub(crate) fn is_within(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Moves a process, which no limit on the number of processes forbids.
pub(crate) fn put(path: &str, pid: u32) -> Result<()> {
    let file = c_string(format!("{}/cgroup.procs", path.trim_end_matches('/')).trim_start_matches('/'));
    write_setting(open_root()?.as_fd(), &file, pid.to_string().as_bytes()).step("move a process to cgroup", path)
}

/// All that is asked for and takes a cgroup.
pub(crate) fn limits(resources: &Resources) -> Result<Vec<Setting>> {
    let wrong = |error| Error::Config { file: "config.json".to_owned(), error };
    settings(resources).map_err(wrong)
}

fn open_root() -> Result<OwnedFd> {
    let root = fs::open_host(&c_string(ROOT), libc::O_RDONLY | libc::O_DIRECTORY, 0).step("open", ROOT)?;
    if fs::file_system(root.as_fd()).step("check", ROOT)? == fs::CGROUP2_MAGIC {
        return Ok(root);
    }
    let why = "is not the root of a cgroup v2 hierarchy, which this runtime needs (mount cgroup2 there)".to_owned();
    Err(Error::Cgroup { path: ROOT.to_owned(), why })
}

fn open_folder(at: BorrowedFd<'_>, path: &str) -> sys::Result<OwnedFd> {
    fs::open(at, &c_string(path), libc::O_RDONLY | libc::O_DIRECTORY, 0, Walk::OneMount)
}

/// Makes every cgroup of a path that is missing; says whether the last one is new. What cannot be opened is not left behind.
fn make_path(root: BorrowedFd<'_>, relative: &str) -> sys::Result<(bool, OwnedFd)> {
    let fresh = make_folders(root, relative)?;
    let opened = open_folder(root, relative);
    if fresh && opened.is_err() {
        let _ = fs::unlink(root, &c_string(relative), libc::AT_REMOVEDIR);
    }
    Ok((fresh, opened?))
}

fn make_folders(root: BorrowedFd<'_>, relative: &str) -> sys::Result<bool> {
    // Mostly only the last one is missing.
    if fs::mkdir(root, &c_string(relative), 0o755).is_ok() {
        return Ok(true);
    }
    let ends = relative.match_indices('/').map(|(at, _)| at).chain([relative.len()]);
    let mut fresh = true;
    for part in ends.filter_map(|end| relative.get(..end)) {
        fresh = match fs::mkdir(root, &c_string(part), 0o755) {
            Err(Errno(libc::EEXIST)) => false,
            other => other.map(|()| true)?,
        };
    }
    Ok(fresh)
}

impl Cgroup {
    /// Makes the cgroup and what is missing above it. One that exists and has processes belongs to somebody else.
    pub(crate) fn create(path: &str) -> Result<Cgroup> {
        let root = open_root()?;
        let relative = path.trim_start_matches('/');
        let mut tries = 0;
        let (fresh, dir) = loop {
            match make_path(root.as_fd(), relative) {
                // Somebody removes empty cgroups above ours while we make it: again from the top.
                Err(Errno(libc::ENOENT)) if tries < 16 => tries += 1,
                other => break other.step("create cgroup", path)?,
            }
        };
        let cgroup = Cgroup { root, dir, path: relative.to_owned() };
        if !fresh && cgroup.populated() {
            // In runc's words, up to the colon.
            let why = "container's cgroup is not empty: it exists and processes run in it".to_owned();
            return Err(Error::Cgroup { path: path.to_owned(), why });
        }
        if !fresh && cgroup.read("cgroup.freeze").is_ok_and(|text| text.trim() == "1") {
            // The container's process would not run a single instruction, and we would wait for it.
            let why = "container's cgroup unexpectedly frozen: thaw it first (cgroup.freeze)".to_owned();
            return Err(Error::Cgroup { path: path.to_owned(), why });
        }
        Ok(cgroup)
    }

    /// The cgroup if it exists.
    pub(crate) fn open(path: &str) -> Result<Option<Cgroup>> {
        let relative = path.trim_start_matches('/');
        if relative.is_empty() {
            return Ok(None);
        }
        let root = open_root()?;
        match open_folder(root.as_fd(), relative) {
            Err(Errno(libc::ENOENT)) => Ok(None),
            other => Ok(Some(Cgroup { dir: other.step("open cgroup", path)?, root, path: relative.to_owned() })),
        }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Moves a process into it.
    pub(crate) fn take(&self, pid: i32) -> Result<()> {
        let done = write_setting(self.fd(), c"cgroup.procs", pid.to_string().as_bytes());
        done.step("move a process to cgroup", &self.path)
    }

    /// Another cgroup below this one.
    pub(crate) fn child(&self, path: &str) -> Result<Option<Cgroup>> {
        Cgroup::open(&format!("{}/{path}", self.path))
    }

    pub(crate) fn open_file(&self, file: &str) -> sys::Result<OwnedFd> {
        fs::open(self.fd(), &c_string(file), libc::O_RDONLY, 0, Walk::OneMount)
    }

    pub(crate) fn read(&self, file: &str) -> sys::Result<String> {
        read_all(self.open_file(file)?.as_fd())
    }

    /// A number in a file, or behind a key in a file of lines; inside it is none for `max`, outside where there is no such file.
    pub(crate) fn value(&self, file: &str, key: &str) -> Option<Option<i64>> {
        let text = self.read(file).ok()?;
        let value = match key {
            "" => Some(text.trim()),
            _ => text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')),
        };
        value.map(|value| value.parse().ok())
    }

    /// Sets the limits; controllers that are missing are enabled on the way down to this cgroup.
    pub(crate) fn apply(&self, resources: &Resources) -> Result<()> {
        let settings = limits(resources)?;
        self.enable_all();
        in_turn(&settings, |setting| self.set(setting))
    }

    /// The same, all of them or none: when one is refused, the others are put back. Gives what puts all of them back.
    pub(crate) fn change(&self, resources: &Resources, tell: &dyn Fn(&Error)) -> Result<Vec<Setting>> {
        let settings = limits(resources)?;
        self.enable_all();
        let mut before: Vec<Setting> = Vec::new();
        for setting in &settings {
            let look = || as_it_was(setting, |file| self.read(file).ok());
            let was = look().or_else(|| self.enable(setting.controller()).ok().and_then(|()| look()));
            // A file may be written more than once (both throttles of a disk are one line).
            before.extend(was.filter(|was| !before.contains(was)));
        }
        match in_turn(&settings, |setting| self.set(setting)) {
            Ok(()) => Ok(before),
            Err(error) => {
                self.put_back(&before, tell);
                Err(error)
            }
        }
    }

    pub(crate) fn put_back(&self, before: &[Setting], tell: &dyn Fn(&Error)) {
        let set = |was: &Setting| match self.set(was) {
            // To be tried again behind the others.
            Err(error) if was.file.starts_with("cpu.max") => Err(error),
            // An idle cgroup has none.
            Err(_) if was.file == "cpu.weight" => Ok(()),
            other => {
                other.unwrap_or_else(|error| tell(&error));
                Ok(())
            }
        };
        in_turn(before, set).unwrap_or_else(|error| tell(&error));
    }

    fn set(&self, setting: &Setting) -> Result<()> {
        let mut result = self.write(setting);
        if result == Err(Errno(libc::ENOENT)) {
            self.enable(setting.controller())?;
            result = self.write(setting);
        }
        match result {
            Err(Errno(libc::ENOENT)) if setting.optional => Ok(()),
            other => other.step("set", format!("{} of cgroup /{} to {:?}", setting.file, self.path, setting.value)),
        }
    }

    fn write(&self, setting: &Setting) -> sys::Result<()> {
        if let Some((file, value)) = &setting.instead {
            match write_setting(self.fd(), &c_string(*file), value.as_bytes()) {
                Err(Errno(libc::ENOENT)) => {}
                other => return other,
            }
        }
        write_setting(self.fd(), &c_string(setting.file.as_str()), setting.value.as_bytes())
    }

    /// Enables a controller in every cgroup above this one.
    fn enable(&self, controller: &str) -> Result<()> {
        if self.controllers().split_ascii_whitespace().any(|one| one == controller) {
            return Ok(());
        }
        self.enable_path(controller).map_err(|(above, errno)| {
            let why = match errno {
                Errno(libc::ENOENT | libc::EINVAL) => "this machine's hierarchy does not have it".to_owned(),
                Errno(libc::EBUSY) => format!("/{above} has processes of its own"),
                other => other.to_string(),
            };
            let why = format!("cannot enable the controller {controller}: {why}");
            Error::Cgroup { path: format!("/{}", self.path), why }
        })
    }

    fn controllers(&self) -> String {
        self.read("cgroup.controllers").unwrap_or_default()
    }

    fn enable_path(&self, controller: &str) -> std::result::Result<(), (String, Errno)> {
        let word = format!("+{controller}");
        let ends = self.path.match_indices('/').map(|(at, _)| at);
        for above in std::iter::once("").chain(ends.filter_map(|end| self.path.get(..end))) {
            let file = if above.is_empty() { String::new() } else { format!("{above}/") } + "cgroup.subtree_control";
            write_setting(self.root.as_fd(), &c_string(file), word.as_bytes()).map_err(|e| (above.to_owned(), e))?;
        }
        Ok(())
    }

    /// Every controller the machine has, as with runc and crun: engines read statistics from them, and one inside the container has
    /// to have something to give on. Where one cannot be had, a limit that needs it will say so; without a limit nothing is lost.
    /// The seldom ones cost each cgroup memory that nobody uses: where somebody has chosen what is handed on here, they come with the
    /// first limit that needs them.
    fn enable_all(&self) {
        let here = self.controllers();
        let file = fs::open(self.root.as_fd(), c"cgroup.controllers", libc::O_RDONLY, 0, Walk::OneMount);
        let all = file.and_then(|file| read_all(file.as_fd())).unwrap_or_default();
        let chosen = !here.trim().is_empty();
        for controller in all.split_ascii_whitespace().filter(|one| !(chosen && SELDOM.contains(one))) {
            if !here.split_ascii_whitespace().any(|have| have == controller) {
                let _ = self.enable_path(controller);
            }
        }
    }

    /// Lets only the devices through that the rules allow (on top of the default ones); `again` in the place of earlier rules.
    /// `last`: the file that remembers the last program.
    pub(crate) fn guard_devices(&self, rules: &[DeviceRule], again: bool, last: &Path) -> Result<()> {
        let rules = devices::program(rules);
        let load = |program: sys::Result<OwnedFd>| program.step("load device rules of cgroup", &self.path);
        let program = load(program::get(&rules, last))?;
        let before = if again { bpf::device_program_of(self.fd()) } else { Ok(None) };
        let before = before.step("look for device rules of cgroup", &self.path)?;
        let attach = |program: &OwnedFd| {
            bpf::attach_device_program(self.fd(), program.as_fd(), before.as_ref().map(AsFd::as_fd))
        };
        let attached = match attach(&program) {
            // No program is attached twice: a container that has ended had this cgroup, with the same rules.
            Err(Errno(libc::EINVAL)) => attach(&load(bpf::load_device_program(&rules))?),
            other => other,
        };
        attached.step("attach device rules to cgroup", &self.path)
    }

    /// Gives the cgroup to a user, as far as the kernel says that it may be delegated (spec, section "Cgroup ownership").
    pub(crate) fn give_to(&self, uid: u32) -> Result<()> {
        let delegated = std::fs::read_to_string("/sys/kernel/cgroup/delegate");
        let delegated = delegated.as_deref().unwrap_or("cgroup.procs\ncgroup.subtree_control\ncgroup.threads");
        fs::chown_fd(self.fd(), uid, u32::MAX).step("set the owner of cgroup", &self.path)?;
        for file in delegated.lines() {
            match fs::chown_at(self.fd(), &c_string(file), uid, u32::MAX) {
                // Not every cgroup has every file.
                Err(Errno(libc::ENOENT)) => {}
                other => other.step("set the owner of", format!("{file} of cgroup {}", self.path))?,
            }
        }
        Ok(())
    }

    pub(crate) fn populated(&self) -> bool {
        self.read("cgroup.events").is_ok_and(|text| text.lines().any(|line| line == "populated 1"))
    }

    /// The processes here and in cgroups below.
    pub(crate) fn pids(&self) -> Result<Vec<i32>> {
        let mut all = Vec::new();
        for path in self.tree() {
            // A cgroup that is gone by now has no processes.
            let Ok(folder) = open_folder(self.root.as_fd(), &path) else { continue };
            let file = fs::open(folder.as_fd(), c"cgroup.procs", libc::O_RDONLY, 0, Walk::OneMount);
            let text = match file.and_then(|file| read_all(file.as_fd())) {
                // A threaded one: its threads' processes stand in the one above that is not.
                Err(Errno(libc::EOPNOTSUPP)) => continue,
                other => other.step("read the processes of cgroup", &path)?,
            };
            all.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
        }
        all.sort_unstable();
        Ok(all)
    }

    pub(crate) fn freeze(&self, frozen: bool) -> Result<()> {
        let (value, wanted) = if frozen { ("1", "frozen 1") } else { ("0", "frozen 0") };
        write_setting(self.fd(), c"cgroup.freeze", value.as_bytes()).step("freeze cgroup", &self.path)?;
        self.wait_for(wanted, PATIENCE).step("wait for the freezer of cgroup", &self.path)
    }

    /// SIGKILL to every process here and below, in one step of the kernel.
    pub(crate) fn kill(&self) -> Result<()> {
        write_setting(self.fd(), c"cgroup.kill", b"1").step("kill cgroup", &self.path)
    }

    /// Removes what a `create` that was killed has left. Its process ends by itself, since nobody answers it any more; whoever else is
    /// in there is not of this container, which never came to be.
    pub(crate) fn remove_unused(self) -> Result<()> {
        match self.wait_for("populated 0", Duration::from_secs(2)) {
            Ok(()) => self.remove(),
            Err(Errno(libc::ETIMEDOUT)) => {
                let why = "processes run in it that are not the container's; it is left as it is".to_owned();
                Err(Error::Cgroup { path: format!("/{}", self.path), why })
            }
            other => other.step("wait for the end of the processes of cgroup", &self.path),
        }
    }

    /// Ends the processes that are left, and removes the cgroup with those the container made below it.
    pub(crate) fn remove(self) -> Result<()> {
        // Mostly it is empty already, and the kernel knows best.
        if fs::unlink(self.root.as_fd(), &c_string(self.path.as_str()), libc::AT_REMOVEDIR).is_ok() {
            return Ok(());
        }
        let killed = if self.populated() { write_setting(self.fd(), c"cgroup.kill", b"1") } else { Ok(()) };
        match killed.and_then(|()| self.wait_for("populated 0", PATIENCE)) {
            // systemd removes the cgroup of a scope as soon as it sees that it is empty.
            Err(Errno(libc::ENOENT | libc::ENODEV)) => return Ok(()),
            other => other.step("end the processes of cgroup", &self.path)?,
        }
        for path in self.tree().iter().rev() {
            match fs::unlink(self.root.as_fd(), &c_string(path.as_str()), libc::AT_REMOVEDIR) {
                Err(Errno(libc::ENOENT)) => {}
                other => other.step("remove cgroup", format!("/{path}"))?,
            }
        }
        Ok(())
    }

    /// Ends the processes that are left but those of some cgroups, here or below, which stay with what is above them.
    pub(crate) fn end_around(&self, kept: &[&str], proc: &Procfs) -> Result<()> {
        let kept: Vec<&str> = kept.iter().map(|path| path.trim_start_matches('/')).collect();
        let is_kept = |path: &str| kept.iter().any(|kept| is_within(path, kept));
        let is_above = |path: &str| kept.iter().any(|kept| is_within(kept, path));
        for path in self.tree().iter().filter(|path| !is_kept(path)) {
            let Some(cgroup) = Cgroup::open(&format!("/{path}"))? else { continue };
            if is_above(path) { cgroup.end_own(proc)? } else { cgroup.remove()? }
        }
        Ok(())
    }

    /// Ends who is in this very cgroup: one after the other, as those below it are others'.
    fn end_own(&self, proc: &Procfs) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = self.read("cgroup.procs").step("read the processes of cgroup", &self.path)?;
            let Some(pid) = text.lines().find_map(|line| line.parse::<i32>().ok()) else { return Ok(()) };
            if Instant::now() > deadline {
                return Err(Errno(libc::ETIMEDOUT)).step("end the processes of cgroup", &self.path);
            }
            let Ok(pidfd) = process::pidfd_open(pid) else { continue };
            // From here on the number is nobody else's.
            if path_of(pid.unsigned_abs(), proc).is_ok_and(|path| path.trim_start_matches('/') == self.path) {
                let _ = process::send_signal(pidfd.as_fd(), libc::SIGKILL);
                process::wait_readable(pidfd.as_fd(), 1000).step("wait for the end of", format!("process {pid}"))?;
            }
        }
    }

    /// Waits for a line in cgroup.events: the kernel reports each change of that file as POLLPRI.
    fn wait_for(&self, line: &str, patience: Duration) -> sys::Result<()> {
        let deadline = Instant::now() + patience;
        let file = fs::open(self.fd(), c"cgroup.events", libc::O_RDONLY, 0, Walk::OneMount)?;
        loop {
            fs::rewind(file.as_fd())?;
            if read_all(file.as_fd())?.lines().any(|have| have == line) {
                return Ok(());
            }
            let left = i32::try_from(deadline.saturating_duration_since(Instant::now()).as_millis()).unwrap_or(0);
            if left == 0 || !process::wait_changed(file.as_fd(), left)? {
                return Err(Errno(libc::ETIMEDOUT));
            }
        }
    }

    /// This cgroup and all below it, each behind the one above it.
    fn tree(&self) -> Vec<String> {
        let mut all = vec![self.path.clone()];
        let mut at = 0;
        while let Some(path) = all.get(at).cloned() {
            let below = open_folder(self.root.as_fd(), &path).and_then(fs::folders_in).unwrap_or_default();
            all.extend(below.into_iter().map(|name| format!("{path}/{name}")));
            at += 1;
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(wanted: Option<&str>) -> Result<String> {
        path_for(wanted, "web", &Procfs::open().unwrap())
    }

    #[test]
    fn one_lies_below_another_by_whole_names() {
        assert!(is_within("/a", "/a") && is_within("/a/b", "/a"));
        assert!(!is_within("/aé", "/a") && !is_within("/ab", "/a") && !is_within("/", "/a"));
    }

    #[test]
    fn paths_stay_below_the_root() {
        assert_eq!(path(Some("/containers//web/")).unwrap(), "/containers/web");
        assert_eq!(path(Some("/a/./b")).unwrap(), "/a/b");
        assert!(path(Some("a/b")).unwrap().ends_with("/a/b"));
        assert!(path(None).unwrap().ends_with("/web"));
        for bad in ["..", "/..", "/a/../../b", "/", "//", "a\nb", "system.slice:orlop:web", &"/x".repeat(5000)] {
            assert!(path(Some(bad)).is_err(), "{bad}");
        }
    }
}

//! `mounts`, the root file system, masks and read-only paths: what the child will attach, with everything that can be
//! prepared outside the container already prepared (clones of host paths are made and given their attributes here, so the
//! child never looks at a path of the host).

use std::cell::RefCell;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use super::idmap::Idmaps;
use super::options::{Bind, Options, propagation};
use crate::runtime::config::{Config, ConfigError, Mount};
use crate::runtime::error::{Error, Result, Step, c_string};
use crate::runtime::procfs::Procfs;
use crate::runtime::sys::mount::Attributes;
use crate::runtime::sys::{Errno, fs, mount};

pub(crate) enum Source {
    /// A detached clone, ready to attach.
    Tree(OwnedFd),
    /// What an earlier mount of the container has put there, by its path below the root: only the child sees it.
    Inside { path: CString, recursive: bool, steps: Vec<(Attributes, bool)>, idmap: Option<Idmap> },
    /// What is mounted there already gets other attributes: its own, and those of everything below.
    Remount(Attributes),
    /// A file system to create in the container's namespaces, with its parameters.
    FileSystem { kind: CString, parameters: Vec<(CString, Option<CString>)>, attributes: u64 },
}

/// The mapping a mount is to have, whether all below it is to have it too, and the namespace it is taken from.
pub(crate) struct Idmap {
    attributes: Attributes,
    recursive: bool,
    _namespace: Rc<OwnedFd>,
}

impl Idmap {
    /// Of a mount that is not attached yet. Who does this has to administer what the mount's file system belongs to.
    pub(crate) fn set(&self, tree: BorrowedFd<'_>) -> std::result::Result<(), Errno> {
        mount::set_attributes(tree, self.recursive, &self.attributes)
    }
}

pub(crate) struct MountStep {
    /// `proc on /proc`: what errors name.
    pub(crate) label: CString,
    pub(crate) source: Source,
    pub(crate) target: CString,
    pub(crate) target_is_folder: bool,
    /// procfs and sysfs: the image must not lead them elsewhere by a link.
    pub(crate) no_links: bool,
    /// May lie inside the container's /proc (files such as /proc/uptime, as lxcfs does).
    pub(crate) inside_proc: bool,
    /// A new tmpfs: filled with what the image has there, or at least of its mode.
    pub(crate) copy_up: bool,
    pub(crate) keep_mode: bool,
    /// Sealed when all is mounted: other targets may have to be made inside it first.
    pub(crate) seal: bool,
    pub(crate) recursive: Attributes,
    /// The SELinux context of the new file system's root, where it is no parameter.
    pub(crate) context: Option<CString>,
    /// What else to set on the new mount once it is there.
    pub(crate) propagation: Option<(u64, bool)>,
}

pub(crate) struct Root {
    pub(crate) path: CString,
    pub(crate) tree: OwnedFd,
    pub(crate) readonly: bool,
    pub(crate) propagation: Option<(u64, bool)>,
    /// Else it is moved over the old root, which stays below it (for a machine whose root is an initramfs).
    pub(crate) pivot: bool,
    /// The mount namespace is the host's: what is mounted is seen there, and this process alone changes its root.
    pub(crate) shared: bool,
    /// Without a pivot: where the host's procfs and sysfs are mounted, the innermost first.
    pub(crate) bare: Vec<CString>,
}

/// What the rest of the config means for a mount.
pub(super) struct Surroundings<'a> {
    pub(super) bundle: &'a Path,
    pub(super) rootfs: &'a Path,
    pub(super) mounts: &'a [Mount],
    pub(super) warn: RefCell<&'a mut dyn FnMut(String)>,
    pub(super) cgroup: &'a str,
    pub(super) own_cgroup_namespace: bool,
    pub(super) user_namespace: bool,
    /// The SELinux context of file systems that are made.
    pub(super) label: Option<&'a str>,
    pub(super) idmaps: Idmaps<'a>,
}

impl Surroundings<'_> {
    /// Where the container sees it. runc takes what begins with the path of the rootfs as meant below it, and there are those who
    /// write it so; it takes masked and read-only paths as they stand.
    pub(super) fn destination(&self, given: &Mount) -> PathBuf {
        let path = normal(&given.destination);
        let below = path.strip_prefix(normal(&self.rootfs.to_string_lossy())).map(|rest| Path::new("/").join(rest));
        below.unwrap_or(path)
    }

    /// Masked and read-only paths as the child resolves them.
    pub(super) fn paths(&self, all: &[String], field: &str) -> Result<Vec<CString>> {
        let plain = |(index, path): (usize, &String)| {
            if path.starts_with('/') {
                return Ok(c_string(normal(path).as_os_str().as_encoded_bytes()));
            }
            Err(invalid(format!("linux.{field}[{index}]"), format!("{path:?} is not an absolute path")))
        };
        all.iter().enumerate().map(plain).collect()
    }

    /// The path below the root of a bind mount's source that an earlier mount of the container covers, or has something in.
    fn mounted_before(&self, index: usize, source: &Path, options: &Options) -> Option<CString> {
        let plain = |path: &Path| normal(&path.to_string_lossy());
        let inside = Path::new("/").join(plain(source).strip_prefix(plain(self.rootfs)).ok()?);
        let earlier = self.mounts.iter().take(index).map(|one| self.destination(one));
        let deep = options.bind == Some(Bind::Recursive);
        let mut covers = earlier.map(|other| inside.starts_with(&other) || (deep && other.starts_with(&inside)));
        covers.any(|one| one).then(|| c_string(inside.as_os_str().as_encoded_bytes()))
    }
}

pub(super) fn root(config: &Config, rootfs: &Path) -> Result<Root> {
    let propagation = match config.linux.rootfs_propagation.as_deref() {
        None => None,
        Some(word) => Some(propagation(word).ok_or_else(|| {
            invalid("linux.rootfsPropagation", format!("{word:?} is not shared, slave, private or unbindable"))
        })?),
    };
    let path = c_string(rootfs.as_os_str().as_encoded_bytes());
    let tree = mount::clone_path(&path, true).step("open rootfs", rootfs.display())?;
    let kind = fs::stat(tree.as_fd()).step("open rootfs", rootfs.display())?.st_mode & libc::S_IFMT;
    if kind != libc::S_IFDIR {
        return Err(invalid("root.path", format!("{} is not a folder", rootfs.display())));
    }
    // What the container mounts below its root must not show up on the host; what `rootfsPropagation` says is set at the end.
    let slave = Attributes { propagation: libc::MS_SLAVE, ..Attributes::default() };
    mount::set_attributes(tree.as_fd(), true, &slave).step("set propagation of rootfs", rootfs.display())?;
    Ok(Root { path, tree, readonly: config.root.readonly, propagation, pivot: true, shared: false, bare: Vec::new() })
}

/// As long as the namespace has one of these without masks, a user namespace in the container could mount another one.
pub(super) fn bare_views(proc: &Procfs, rootfs: &Path) -> Result<Vec<CString>> {
    let text = proc.read(&format!("{}/mountinfo", std::process::id())).step("read", "/proc/self/mountinfo")?;
    Ok(bare_views_in(&text, rootfs))
}

fn bare_views_in(mountinfo: &str, rootfs: &Path) -> Vec<CString> {
    let mut all = Vec::new();
    for line in mountinfo.lines().rev() {
        let Some((mount, kind)) = line.split_once(" - ") else { continue };
        let Some(path) = mount.split(' ').nth(4) else { continue };
        if !kind.starts_with("proc ") && !kind.starts_with("sysfs ") {
            continue;
        }
        // A blank in a path is written so that it does not end the field.
        let blanks = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\043", "#"), ("\\134", "\\")];
        let path = blanks.iter().fold(path.to_owned(), |path, (written, meant)| path.replace(written, meant));
        if !Path::new(&path).starts_with(rootfs) {
            all.push(c_string(path));
        }
    }
    all
}

fn invalid(path: impl Into<String>, why: impl Into<String>) -> Error {
    Error::Config { file: "config.json".to_owned(), error: ConfigError::invalid(path, why) }
}

/// A destination without `.` and `..`, as the container will see it.
pub(super) fn normal(path: &str) -> PathBuf {
    let mut out = PathBuf::from("/");
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => drop(out.pop()),
            _ => {}
        }
    }
    out
}

const ONLY_PROCFS: &str = "only a procfs may be mounted on /proc";

pub(super) fn step(index: usize, given: &Mount, around: &Surroundings<'_>) -> Result<MountStep> {
    let at = |field: &str| format!("mounts[{index}].{field}");
    let options = Options::parse(&given.options);
    let destination = around.destination(given);
    let binds = options.bind.is_some() || given.kind.as_deref() == Some("bind");
    let kind = given.kind.as_deref().unwrap_or("none");
    let source = given.source.as_deref().unwrap_or(kind);
    let label = c_string(format!("{} on {}", if binds { source } else { kind }, given.destination));
    if destination == Path::new("/") {
        return Err(invalid(at("destination"), "is the root itself"));
    }
    let inside_proc = check_proc(&destination, binds || kind != "proc", &at("destination"))?;
    let mut step = MountStep {
        label,
        source: Source::FileSystem { kind: c_string(kind), parameters: Vec::new(), attributes: 0 },
        target: c_string(destination.as_os_str().as_encoded_bytes()),
        target_is_folder: true,
        no_links: !binds && matches!(kind, "proc" | "sysfs"),
        inside_proc,
        copy_up: options.copy_up,
        keep_mode: kind == "tmpfs" && !options.data.iter().any(|(name, _)| name == "mode"),
        seal: false,
        recursive: Attributes { set: options.recursive.set, clear: options.recursive.clear, ..Attributes::default() },
        context: None,
        propagation: options.propagation,
    };
    let idmap = around.idmaps.wanted(given, &options).map_err(|why| invalid(at("uidMappings"), why))?;
    if options.copy_up && (binds || kind != "tmpfs") {
        return Err(invalid(at("options"), "tmpcopyup is for a tmpfs"));
    }
    if idmap.is_some() && !binds {
        return Err(invalid(at("uidMappings"), "only bind mounts can be idmapped"));
    }
    if (binds || options.remount)
        && let Some(name) = options.not_for_bind()
    {
        // The kernel ignores it, and so do other runtimes; who means one file system may write down what is for another.
        (around.warn.borrow_mut())(format!("{}: a bind mount has no option {name:?}, ignored", at("options")));
    }
    if options.remount {
        let own = Attributes { set: options.own.set, clear: options.own.clear, ..Attributes::default() };
        step.source = Source::Remount(own);
    } else if binds {
        let source = given.source.as_deref().ok_or_else(|| invalid(at("source"), "a bind mount needs a source"))?;
        let path = around.bundle.join(source);
        let idmap = idmap.map(|(recursive, namespace)| {
            let userns_fd = u64::from(namespace.as_raw_fd().unsigned_abs());
            let attributes = Attributes { set: mount::IDMAP, userns_fd, ..Attributes::default() };
            Idmap { attributes, recursive, _namespace: namespace }
        });
        if let Some(inside) = around.mounted_before(index, &path, &options) {
            if destination == Path::new("/proc") {
                return Err(invalid(at("destination"), ONLY_PROCFS));
            }
            let steps = attributes_of_bind(&mut step, &options, false);
            let recursive = options.bind == Some(Bind::Recursive);
            step.source = Source::Inside { path: inside, recursive, steps, idmap };
            return Ok(step);
        }
        let tree = bind(&mut step, &path, &options, false, around)?;
        if destination == Path::new("/proc") {
            if fs::file_system(tree.as_fd()).step("check", path.display())? != fs::PROC_MAGIC {
                return Err(invalid(at("destination"), ONLY_PROCFS));
            }
            step.inside_proc = true;
        }
        if let Some(idmap) = idmap {
            idmap.set(tree.as_fd()).step("map the ids of", step.label.to_string_lossy())?;
        }
        step.source = Source::Tree(tree);
    } else if destination == Path::new("/proc") && !matches!(kind, "proc" | "none") {
        return Err(invalid(at("destination"), ONLY_PROCFS));
    } else if matches!(kind, "cgroup" | "cgroup2") {
        cgroup(&mut step, options, around)?;
    } else if kind == "none" {
        return Err(invalid(at("type"), "is missing, and the options do not say bind"));
    } else {
        file_system(&mut step, kind, source, &options);
        match (kind, around.label.map(c_string), &mut step.source) {
            // The kernel's own views of itself have labels of their own.
            ("proc" | "sysfs", ..) => {}
            // It is there since its namespace is; what is made in it takes after the root.
            ("mqueue", context, _) => step.context = context,
            (_, Some(context), Source::FileSystem { parameters, .. }) => {
                parameters.push((c"context".to_owned(), Some(context)));
            }
            _ => {}
        }
    }
    Ok(step)
}

/// Over /proc or below it only a procfs or a few files may be mounted: anything else could take the runtime's or the
/// application's writes to /proc astray (CVE-2019-19921, CVE-2023-27561). Says whether the target is one of those files.
fn check_proc(destination: &Path, foreign: bool, field: &str) -> Result<bool> {
    const FILES: [&str; 11] = [
        "cpuinfo",
        "diskstats",
        "meminfo",
        "stat",
        "swaps",
        "uptime",
        "loadavg",
        "slabinfo",
        "net/dev",
        "sys/kernel/ns_last_pid",
        "sys/crypto/fips_enabled",
    ];
    let Ok(rest) = destination.strip_prefix("/proc") else { return Ok(false) };
    if rest.as_os_str().is_empty() || !foreign {
        return Ok(false);
    }
    if FILES.iter().any(|file| rest == Path::new(file)) {
        return Ok(true);
    }
    Err(invalid(field, format!("{} lies inside /proc", destination.display())))
}

/// Clones a path of the host and gives the clone its attributes.
fn bind(
    step: &mut MountStep,
    path: &Path,
    options: &Options,
    force_readonly: bool,
    around: &Surroundings<'_>,
) -> Result<OwnedFd> {
    let recursive = options.bind == Some(Bind::Recursive);
    let label = step.label.to_string_lossy().into_owned();
    let tree = mount::clone_path(&c_string(path.as_os_str().as_encoded_bytes()), recursive).step("mount", &label)?;
    let kind = fs::stat(tree.as_fd()).step("mount", &label)?.st_mode & libc::S_IFMT;
    step.target_is_folder = kind == libc::S_IFDIR;
    for (mut attributes, recursive) in attributes_of_bind(step, options, force_readonly) {
        let mut done = mount::set_attributes(tree.as_fd(), recursive, &attributes);
        if done == Err(Errno(libc::EPERM)) && !recursive {
            // In a user namespace what was read-only before stays so (mount_namespaces(7)); rootless Podman says `rw` of every volume.
            let locked = fs::mount_flags(tree.as_fd()).step("check", &label)? & attributes.clear;
            if locked & mount::RDONLY != 0 {
                (around.warn.borrow_mut())(format!("mount {label}: it stays read-only, as it is on the host"));
            }
            attributes.clear &= !locked;
            done = mount::set_attributes(tree.as_fd(), recursive, &attributes);
        }
        done.step("mount", &label)?;
    }
    Ok(tree)
}

/// What a bind mount gets, in this order, and whether all below it gets it too.
fn attributes_of_bind(step: &mut MountStep, options: &Options, force_readonly: bool) -> Vec<(Attributes, bool)> {
    // Without a word on propagation: what the host mounts there later is seen, and nothing goes back.
    let (propagation, all) = options.propagation.unwrap_or((libc::MS_SLAVE, true));
    let mut own = Attributes { set: options.own.set, clear: options.own.clear, ..Attributes::default() };
    if force_readonly {
        own.set |= mount::RDONLY;
    }
    let mut deep = std::mem::take(&mut step.recursive);
    step.propagation = None;
    if all && options.bind == Some(Bind::Recursive) {
        deep.propagation = propagation;
    } else {
        own.propagation = propagation;
    }
    [(own, false), (deep, true)].into_iter().filter(|(attributes, _)| !attributes.is_empty()).collect()
}

/// In a cgroup namespace of its own the container sees a cgroup2 of its own; without one, its part of the host's hierarchy,
/// read-only if it is not trusted with the host's root (CVE-2023-25809).
fn cgroup(step: &mut MountStep, mut options: Options, around: &Surroundings<'_>) -> Result<()> {
    // What v1 wanted to know ("which hierarchy") means nothing here.
    options.data.clear();
    if around.own_cgroup_namespace {
        file_system(step, "cgroup2", "cgroup", &options);
        return Ok(());
    }
    // The cgroup is there already: `create` makes it before the mounts.
    let path = PathBuf::from(format!("/sys/fs/cgroup{}", around.cgroup));
    step.source = Source::Tree(bind(step, &path, &options, around.user_namespace, around)?);
    Ok(())
}

fn file_system(step: &mut MountStep, kind: &str, source: &str, options: &Options) {
    let mut parameters = vec![(c"source".to_owned(), Some(c_string(source)))];
    let own = |name: &str, value: &Option<String>| (c_string(name), value.as_deref().map(c_string));
    parameters.extend(options.data.iter().map(|(name, value)| own(name, value)));
    let mut attributes = options.own.set;
    // /dev and its like have to be filled first.
    step.seal = kind == "tmpfs" && attributes & mount::RDONLY != 0;
    if step.seal {
        attributes &= !mount::RDONLY;
    }
    step.source = Source::FileSystem { kind: c_string(kind), parameters, attributes };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_made_plain() {
        for (given, plain) in [("/a/../../b/./c", "/b/c"), ("proc", "/proc"), ("//dev//pts/", "/dev/pts"), ("/..", "/")]
        {
            assert_eq!(normal(given), Path::new(plain));
        }
    }

    #[test]
    fn views_of_the_kernel_are_found_outside_the_rootfs() {
        let text = "22 1 0:5 / /proc rw - proc proc rw\n23 1 0:6 / /sys rw shared:7 - sysfs sysfs rw\n\
            24 1 8:1 / / rw - ext4 proc rw\n25 1 0:5 / /a\\040b rw - proc proc rw\n26 1 0:5 / /b/root/proc rw - proc p rw\n";
        let found = bare_views_in(text, Path::new("/b/root"));
        assert_eq!(found, [c"/a b", c"/sys", c"/proc"].map(ToOwned::to_owned));
    }

    #[test]
    fn nothing_is_mounted_inside_proc() {
        let check = |path: &str, foreign| check_proc(&normal(path), foreign, "d");
        assert!(!check("/proc", true).unwrap());
        assert!(check("/proc/uptime", true).unwrap());
        assert!(check("/proc/../proc/self/attr", true).is_err());
        assert!(check("/proc/sys", true).is_err());
        assert!(!check("/process", true).unwrap());
    }

    #[test]
    fn what_is_made_has_the_containers_label_and_lies_below_its_root() {
        let proc = Procfs::open().unwrap();
        let linux = crate::runtime::config::Linux::default();
        let idmaps = Idmaps { proc: &proc, linux: &linux, joined: None, last: RefCell::new(None) };
        let mut ignore = |_| {};
        let around = Surroundings {
            bundle: Path::new("/"),
            rootfs: Path::new("/r"),
            mounts: &[],
            warn: RefCell::new(&mut ignore),
            cgroup: "",
            own_cgroup_namespace: true,
            user_namespace: false,
            label: Some("a:b:c:s0:c1,c2"),
            idmaps,
        };
        let context = |kind: &str| {
            let given = Mount { destination: "/x".to_owned(), kind: Some(kind.to_owned()), ..Mount::default() };
            let step = step(0, &given, &around).unwrap();
            match step.source {
                _ if step.context.is_some() => step.context,
                Source::FileSystem { parameters, .. } => {
                    parameters.into_iter().find(|(name, _)| **name == *c"context").and_then(|(_, label)| label)
                }
                _ => None,
            }
        };
        assert_eq!(context("tmpfs"), Some(c"a:b:c:s0:c1,c2".to_owned()));
        assert_eq!(context("mqueue"), context("tmpfs"));
        assert_eq!(context("sysfs"), None);
        let below =
            |destination: &str| around.destination(&Mount { destination: destination.to_owned(), ..Mount::default() });
        assert_eq!([below("/r/x/../y"), below("/rx"), below("y")], ["/y", "/rx", "/y"].map(PathBuf::from));
        let paths = around.paths(&["/r/proc/x".to_owned(), "/sys/y".to_owned()], "maskedPaths").unwrap();
        assert_eq!(paths, [c"/r/proc/x", c"/sys/y"].map(ToOwned::to_owned));
        assert!(around.paths(&["x".to_owned()], "maskedPaths").is_err());
    }
}

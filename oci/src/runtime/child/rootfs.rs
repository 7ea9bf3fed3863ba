//! The container's file system: attach, fill, seal, enter.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::copy;
use super::target::{Kind, find, find_or_make};
use super::{Doing, Done, Errno, Failed, IDMAP, Named as _, fs, mount, socket, tty, wait_go};
use crate::runtime::plan::{Bound, MountStep, Node, Plan, ProcessPlan, Source};
use mount::Attributes;

/// Of what covers a masked folder.
const SEALED: u64 = mount::RDONLY | mount::NOSUID | mount::NODEV | mount::NOEXEC;

/// Everything that makes the root what the config says, up to the point where hooks may look at it.
/// Gives what may cover masked folders, where there is such a thing.
pub(super) fn build<'a>(plan: &'a Plan, channel: BorrowedFd<'_>) -> Done<'a, Option<OwnedFd>> {
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    let old = fs::open_host(c"/", flags, 0).doing("open", c"/")?;
    // Nothing that is mounted or taken away from now on may reach the host.
    let private = Attributes { propagation: libc::MS_PRIVATE, ..Attributes::default() };
    if !plan.root.shared {
        mount::set_attributes(old.as_fd(), true, &private).doing("make private", c"the mount namespace")?;
    }
    let root = plan.root.tree.as_fd();
    // Where the rootfs lies, so that hooks find it there. In a user namespace that may be out of reach, in a mount namespace that was
    // joined it may be none: then over the old root, where hooks see the container's instead.
    let place = match fs::open_host(&plan.root.path, flags, 0) {
        Err(Errno(libc::EACCES | libc::ENOENT | libc::ENOTDIR)) if !plan.root.shared => old,
        other => other.doing("open rootfs", &plan.root.path)?,
    };
    if let Some(made) = &plan.devices.made {
        // Only what is attached can be cloned; the rootfs covers it.
        mount::attach(made.as_fd(), place.as_fd()).doing("mount", c"the devices")?;
    }
    mount::attach(root, place.as_fd()).doing("mount rootfs", &plan.root.path)?;
    if plan.root.shared {
        mount::set_attributes(root, true, &private).doing("make private rootfs", &plan.root.path)?;
    }
    let pid = plan.namespaces.pid.as_ref().filter(|_| plan.process.made_outside);
    let mut work = Work { root, pid, channel, masks: !plan.masked.is_empty(), empty: None, own_dev: false };
    for (index, step) in (0_u32..).zip(&plan.mounts) {
        attach(&mut work, step, index)?;
    }
    let mut folder = None;
    for node in &plan.devices.nodes {
        device(root, node, plan.devices.made.as_ref(), &mut folder).doing("create device", &node.path)?;
    }
    links(root, plan)?;
    if let Some(console) = &plan.console {
        terminal(root, &plan.process, console.as_fd(), true)?;
    }
    // As engines expect: a working directory that the image lacks is made, not an error. Where that cannot be, entering it will say so.
    match find_or_make(root, &plan.process.cwd, Kind::Folder) {
        Ok(_) | Err(Errno(libc::EROFS | libc::ENOTDIR | libc::EACCES)) => Ok(work.empty),
        Err(errno) => Err(errno).doing("create working directory", &plan.process.cwd),
    }
}

/// While mounts are attached.
struct Work<'a> {
    root: BorrowedFd<'a>,
    /// Whose procfs it is to be, where that is not the one this process is in.
    pid: Option<&'a OwnedFd>,
    channel: BorrowedFd<'a>,
    /// Something will be masked.
    masks: bool,
    /// An empty folder nobody else comes to: that of /dev which the container's devpts covers, as a mount that is not attached.
    empty: Option<OwnedFd>,
    /// /dev is a file system made for this container.
    own_dev: bool,
}

fn attach<'a>(work: &mut Work<'_>, step: &'a MountStep, index: u32) -> Done<'a> {
    let (root, channel) = (work.root, work.channel);
    let label = &step.label;
    if let Source::Remount(own) = &step.source {
        let target = find(root, &step.target, 0).doing("remount", label)?;
        for (attributes, deep) in [(own, false), (&step.recursive, true)] {
            if !attributes.is_empty() {
                mount::set_attributes(target.as_fd(), deep, attributes).doing("remount", label)?;
            }
        }
        return Ok(());
    }
    // Resolved in the root like any target, so that a link in the image leads nowhere else.
    let inside = match &step.source {
        Source::Inside { path, recursive, .. } => {
            let source = find(root, path, 0).doing("find the source of", label)?;
            Some(mount::clone_fd(source.as_fd(), *recursive).doing("mount", label)?)
        }
        _ => None,
    };
    let folder = match &inside {
        Some(tree) => fs::stat(tree.as_fd()).doing("mount", label)?.st_mode & libc::S_IFMT == libc::S_IFDIR,
        None => step.target_is_folder,
    };
    // A tmpfs takes over the mode of the folder it covers.
    let covered = if step.keep_mode { find(root, &step.target, libc::O_DIRECTORY).ok() } else { None };
    let mode = covered.map(|folder| fs::stat(folder.as_fd())).transpose().doing("mount", label)?;
    let mode = mode.map(|stat| stat.st_mode & 0o7777);
    let kind = if folder { Kind::Folder } else { Kind::File };
    let target =
        if step.no_links { no_link_target(root, &step.target, kind) } else { find_or_make(root, &step.target, kind) };
    let target = match target {
        Err(Errno(libc::ELOOP)) if step.no_links => {
            return Err(Errno(libc::ELOOP)).doing("must be mounted on ordinary directory, not on a link:", label);
        }
        other => other.doing("mount", label)?,
    };
    // A link may have led into the container's /proc after all.
    if !step.inside_proc && !step.no_links {
        let magic = fs::file_system(target.as_fd()).doing("mount", label)?;
        if magic == fs::PROC_MAGIC {
            return Err(Errno(libc::EPERM)).doing("mount", label);
        }
    }
    match &step.source {
        Source::Remount(_) => Ok(()),
        Source::Inside { steps, idmap, .. } => {
            let Some(tree) = &inside else { return Ok(()) };
            for (attributes, recursive) in steps {
                mount::set_attributes(tree.as_fd(), *recursive, attributes).doing("mount", label)?;
            }
            if idmap.is_some() {
                // The file system may belong to the host, over which this process has no rights in a user namespace.
                let [a, b, c, d] = index.to_le_bytes();
                let message = [IDMAP[0], a, b, c, d];
                socket::send_fd(channel, &message, tree.as_fd()).doing("hand to the runtime", label)?;
                wait_go(channel)?;
            }
            mount::attach(tree.as_fd(), target.as_fd()).doing("mount", label)
        }
        Source::Tree(tree) => mount::attach(tree.as_fd(), target.as_fd()).doing("mount", label),
        Source::FileSystem { kind, parameters, attributes } => {
            work.own_dev |= *kind == *c"tmpfs" && *step.target == *c"/dev";
            if work.masks && work.own_dev && *step.target == *c"/dev/pts" {
                work.empty = covered_folder(target.as_fd());
            }
            let context = match work.pid.filter(|_| **kind == *c"proc") {
                Some(pid) => mount::open_procfs_of(pid.as_fd()),
                None => mount::fs_open(kind),
            };
            let context = context.doing("mount", label)?;
            let new = match create(context.as_fd(), parameters, mode, *attributes) {
                Err(errno) => {
                    return Err(Failed { verb: "mount", object: label.words(), errno, context: Some(context) });
                }
                Ok(new) => new,
            };
            if let Some(context) = &step.context {
                let root = fs::open_at(new.as_fd(), c".", libc::O_DIRECTORY, 0).doing("label", label)?;
                fs::set_context(root.as_fd(), context).doing("set linux.mountLabel of", label)?;
            }
            if step.copy_up {
                copy::folder(target.as_fd(), new.as_fd(), 0).doing("copy what lies under", label)?;
            }
            if !step.recursive.is_empty() {
                mount::set_attributes(new.as_fd(), true, &step.recursive).doing("mount", label)?;
            }
            mount::attach(new.as_fd(), target.as_fd()).doing("mount", label)?;
            let Some((propagation, recursive)) = step.propagation else { return Ok(()) };
            let attributes = Attributes { propagation, ..Attributes::default() };
            mount::set_attributes(new.as_fd(), recursive, &attributes).doing("set propagation of", label)
        }
    }
}

/// procfs and sysfs are mounted where their path says, through no link (CVE-2019-19921).
fn no_link_target(root: BorrowedFd<'_>, path: &CStr, kind: Kind) -> Result<OwnedFd, Errno> {
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    match fs::open(root, path, flags, 0, fs::Walk::InRootNoLinks) {
        Err(Errno(libc::ENOENT)) => {
            find_or_make(root, path, kind)?;
            fs::open(root, path, flags, 0, fs::Walk::InRootNoLinks)
        }
        other => other,
    }
}

fn create(
    context: BorrowedFd<'_>,
    parameters: &[(CString, Option<CString>)],
    mode: Option<u32>,
    attributes: u64,
) -> Result<OwnedFd, Errno> {
    if let Some(mode) = mode {
        let digit = |place: u32| b'0' + (mode >> (3 * place) & 7) as u8;
        let text = [digit(3), digit(2), digit(1), digit(0), 0];
        let text = CStr::from_bytes_until_nul(&text).map_err(|_| Errno(libc::EINVAL))?;
        mount::fs_string(context, c"mode", text)?;
    }
    for (key, value) in parameters {
        match value {
            Some(value) => mount::fs_string(context, key, value)?,
            None => mount::fs_flag(context, key)?,
        }
    }
    mount::fs_create(context, attributes)
}

/// `last` is the folder of the one before: mostly it is the same.
fn device<'a>(
    root: BorrowedFd<'_>,
    node: &'a Node,
    made: Option<&OwnedFd>,
    last: &mut Option<(&'a CStr, OwnedFd)>,
) -> Result<(), Errno> {
    let folder = match last.take_if(|(path, _)| *path == &*node.folder) {
        Some((_, folder)) => folder,
        None => find_or_make(root, &node.folder, Kind::Folder)?,
    };
    let folder = last.insert((&node.folder, folder)).1.as_fd();
    if let Some(bound) = &node.bound {
        // Over an empty file.
        match fs::mknod(folder, &node.name, libc::S_IFREG | 0o644, 0) {
            Err(Errno(libc::EEXIST)) => {}
            other => other?,
        }
        let flags = libc::O_PATH | libc::O_NOFOLLOW;
        let file = fs::open(folder, &node.name, flags, 0, fs::Walk::InRootNoLinks)?;
        return match (bound, made) {
            (Bound::Host(host), _) => mount::attach(host.as_fd(), file.as_fd()),
            (Bound::Made(name), Some(made)) => {
                let node = fs::open(made.as_fd(), name, flags, 0, fs::Walk::InRootNoLinks)?;
                mount::attach(mount::clone_fd(node.as_fd(), false)?.as_fd(), file.as_fd())
            }
            (Bound::Made(_), None) => Err(Errno(libc::ENXIO)),
        };
    }
    match fs::mknod(folder, &node.name, node.mode, node.rdev) {
        Err(Errno(libc::EEXIST)) => {
            // The image's own is fine if it is the device it claims to be, and no link.
            let have = fs::stat_at(folder, &node.name)?;
            let same = have.st_mode & libc::S_IFMT == node.mode & libc::S_IFMT && have.st_rdev == node.rdev;
            return if same { Ok(()) } else { Err(Errno(libc::EEXIST)) };
        }
        other => other?,
    }
    if node.uid == 0 && node.gid == 0 {
        return Ok(());
    }
    fs::chown_at(folder, &node.name, node.uid, node.gid)
}

fn links<'a>(root: BorrowedFd<'_>, plan: &'a Plan) -> Done<'a> {
    if plan.devices.links.is_empty() {
        return Ok(());
    }
    let dev = find_or_make(root, c"/dev", Kind::Folder).doing("open", c"/dev")?;
    for (text, name) in plan.devices.links {
        match fs::symlink(text, dev.as_fd(), name) {
            // Whatever the image has there is the image's business.
            Err(Errno(libc::EEXIST)) => {}
            other => other.doing("create link in /dev:", *name)?,
        }
    }
    if plan.devices.shm {
        // shm_open(3) wants a folder for everybody; a file system of its own is not asked for.
        let what = c"/dev/shm";
        match fs::mkdir(dev.as_fd(), c"shm", 0o1777) {
            Err(Errno(libc::EEXIST)) => {}
            other => {
                other.doing("create", what)?;
                fs::chmod_at(dev.as_fd(), c"shm", 0o1777).doing("set the mode of", what)?;
            }
        }
    }
    Ok(())
}

/// A terminal out of the container's own devpts: its master goes to the engine, the other side becomes stdio and, for the
/// first process, /dev/console. A name is used once, to open ptmx, and what it led to is checked; the rest is by descriptor
/// (CVE-2025-52565).
pub(super) fn terminal<'a>(
    root: BorrowedFd<'_>,
    plan: &'a ProcessPlan,
    engine: BorrowedFd<'_>,
    console: bool,
) -> Done<'a> {
    let what = c"terminal";
    let flags = libc::O_RDWR | libc::O_NOCTTY;
    let master = fs::open(root, c"/dev/pts/ptmx", flags, 0, fs::Walk::InRoot).doing("open", c"/dev/pts/ptmx")?;
    let magic = fs::file_system(master.as_fd()).doing("check", c"/dev/pts/ptmx")?;
    let stat = fs::stat(master.as_fd()).doing("check", c"/dev/pts/ptmx")?;
    if magic != fs::DEVPTS_MAGIC || stat.st_rdev != libc::makedev(5, 2) {
        return Err(Errno(libc::ENXIO)).doing("check", c"/dev/pts/ptmx");
    }
    let slave = tty::open_peer(master.as_fd()).doing("open", what)?;
    if let Some((rows, columns)) = plan.console_size {
        tty::set_size(slave.as_fd(), rows, columns).doing("set size of", what)?;
    }
    fs::chown_fd(slave.as_fd(), plan.uid, u32::MAX).doing("set owner of", what)?;
    if console {
        let clone = mount::clone_fd(slave.as_fd(), false).doing("mount", c"/dev/console")?;
        let place = find_or_make(root, c"/dev/console", Kind::File).doing("create", c"/dev/console")?;
        mount::attach(clone.as_fd(), place.as_fd()).doing("mount", c"/dev/console")?;
    }
    socket::send_fd(engine, b"/dev/ptmx", master.as_fd()).doing("send terminal to", c"the console socket")?;
    for stream in 0..3 {
        fs::replace_stdio(slave.as_fd(), stream).doing("set up stdio on", what)?;
    }
    // It is the session of the program's that has it.
    if plan.made_outside { Ok(()) } else { tty::set_controlling(slave.as_fd()).doing("take control of", what) }
}

/// Read-only and masked paths, sealed mounts, and last the root itself.
pub(super) fn seal(plan: &Plan, empty: Option<OwnedFd>) -> Done<'_> {
    let root = plan.root.tree.as_fd();
    let readonly = Attributes { set: mount::RDONLY, ..Attributes::default() };
    for path in &plan.readonly {
        let Some(place) = existing(root, path, "make read-only")? else { continue };
        let clone = mount::clone_fd(place.as_fd(), true).doing("make read-only", path)?;
        mount::set_attributes(clone.as_fd(), true, &readonly).doing("make read-only", path)?;
        mount::attach(clone.as_fd(), place.as_fd()).doing("make read-only", path)?;
    }
    mask(plan, root, empty)?;
    for step in plan.mounts.iter().filter(|step| step.seal) {
        let place = find(root, &step.target, 0).doing("make read-only", &step.target)?;
        mount::set_attributes(place.as_fd(), false, &readonly).doing("make read-only", &step.target)?;
    }
    if plan.root.readonly {
        mount::set_attributes(root, false, &readonly).doing("make read-only", c"/")?;
    }
    Ok(())
}

/// One empty folder for all folders, one /dev/null for all files. The null device is the host's, checked before the
/// container existed: nobody in it could swap it (CVE-2025-31133). Before Linux 6.15 only what is attached can be cloned:
/// so the first use attaches the mount itself, and the others are clones of it.
fn mask<'a>(plan: &'a Plan, root: BorrowedFd<'_>, mut empty: Option<OwnedFd>) -> Done<'a> {
    let (mut empty_attached, mut null_attached) = (false, false);
    for path in &plan.masked {
        let Some(place) = existing(root, path, "mask")? else { continue };
        let kind = fs::stat(place.as_fd()).doing("mask", path)?.st_mode & libc::S_IFMT;
        if kind == libc::S_IFDIR {
            let folder = match empty.take() {
                Some(folder) => folder,
                None => empty_folder().doing("mask", path)?,
            };
            cover(empty.insert(folder).as_fd(), place.as_fd(), empty_attached).doing("mask", path)?;
            empty_attached = true;
        } else if let Some(null) = &plan.null {
            cover(null.as_fd(), place.as_fd(), null_attached).doing("mask", path)?;
            null_attached = true;
        }
    }
    Ok(())
}

/// A folder that is about to be covered for as long as the container lives. A file system for the masks alone costs every container
/// 6 KiB of the kernel's memory, and its time to make and to end.
fn covered_folder(folder: BorrowedFd<'_>) -> Option<OwnedFd> {
    /// Records of `.` and `..` (getdents64(2)).
    const NOBODY: usize = 2 * 24;
    let list = fs::open_at(folder, c".", libc::O_RDONLY | libc::O_DIRECTORY, 0).ok()?;
    if fs::file_system(list.as_fd()) != Ok(fs::TMPFS_MAGIC) || fs::entries(list.as_fd(), &mut [0; 128]) != Ok(NOBODY) {
        return None;
    }
    let clone = mount::clone_fd(list.as_fd(), false).ok()?;
    // Whatever peers the mount has: nothing that comes to be mounted at that place must come up over the masks.
    let attributes = Attributes { set: SEALED, propagation: libc::MS_PRIVATE, ..Attributes::default() };
    mount::set_attributes(clone.as_fd(), false, &attributes).ok().map(|()| clone)
}

fn cover(with: BorrowedFd<'_>, place: BorrowedFd<'_>, clone: bool) -> Result<(), Errno> {
    if clone {
        return mount::attach(mount::clone_fd(with, false)?.as_fd(), place);
    }
    mount::attach(with, place)
}

/// A path that may be missing: then there is nothing to protect.
fn existing<'a>(root: BorrowedFd<'_>, path: &'a CStr, verb: &'static str) -> Done<'a, Option<OwnedFd>> {
    match find(root, path, 0) {
        Err(Errno(libc::ENOENT | libc::ENOTDIR)) => Ok(None),
        other => other.map(Some).doing(verb, path),
    }
}

fn empty_folder() -> Result<OwnedFd, Errno> {
    let context = mount::fs_open(c"tmpfs")?;
    for (key, value) in [(c"nr_blocks", c"1"), (c"nr_inodes", c"1"), (c"mode", c"0555")] {
        mount::fs_string(context.as_fd(), key, value)?;
    }
    mount::fs_create(context.as_fd(), SEALED)
}

/// Makes the container's root the only one there is.
pub(super) fn enter(plan: &Plan) -> Done<'_> {
    let root = plan.root.tree.as_fd();
    fs::chdir_fd(root).doing("enter rootfs", &plan.root.path)?;
    if plan.root.shared {
        fs::chroot_to_cwd().doing("change root to", &plan.root.path)?;
        return settle(plan, root);
    }
    if !plan.root.pivot {
        plan.root.bare.iter().try_for_each(|path| take_away(path).doing("take out of the namespace", path))?;
        let old = fs::open_host(c"/", libc::O_PATH | libc::O_DIRECTORY, 0).doing("open", c"/")?;
        mount::attach(root, old.as_fd()).doing("move over / the rootfs", &plan.root.path)?;
        fs::chroot_to_cwd().doing("change root to", &plan.root.path)?;
        return settle(plan, root);
    }
    // Both in one folder: the old root is stacked on the new one, and taken away there; no put_old folder is needed.
    mount::pivot_to_cwd().doing("pivot root to", &plan.root.path)?;
    mount::detach_cwd().doing("detach", c"the old root")?;
    settle(plan, root)
}

/// A mount of the host: where it is not ours to take, something empty is put over it.
fn take_away(path: &CStr) -> Result<(), Errno> {
    match mount::detach(path) {
        Err(Errno(libc::EINVAL | libc::EPERM)) => {
            let place = fs::open_host(path, libc::O_PATH | libc::O_NOFOLLOW, 0)?;
            mount::attach(empty_folder()?.as_fd(), place.as_fd())
        }
        // Gone with the one it was in.
        Err(Errno(libc::ENOENT)) => Ok(()),
        other => other,
    }
}

fn settle<'a>(plan: &'a Plan, root: BorrowedFd<'_>) -> Done<'a> {
    fs::chdir_fd(root).doing("enter rootfs", &plan.root.path)?;
    let Some((propagation, recursive)) = plan.root.propagation else { return Ok(()) };
    let attributes = Attributes { propagation, ..Attributes::default() };
    mount::set_attributes(root, recursive, &attributes).doing("set propagation of", c"/")
}

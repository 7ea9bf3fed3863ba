//! Making entries in a layer's folder.
//!
//! The folder lies in a staging folder of mode 0700, so nobody but the archive itself can play tricks while it grows.
//! An entry's parent is always opened by openat2(2) with RESOLVE_IN_ROOT: links the archive made before are followed as
//! Docker and umoci follow them, but the kernel takes the layer's folder for `/`, so they lead nowhere else. The last
//! component is never followed: every operation on it is an *at call with a single name.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, SFlag, fchmodat, fstat, fstatat, mkdirat, mknodat};
use nix::unistd::{Gid, Uid, fchownat, linkat, symlinkat};

use super::super::error::{LayerError, at};
use super::attributes::{self, OPAQUE};
use super::content::Content;
use super::entry::{Entry, Kind, Time};
use super::remove::remove_all;
use super::sys;
use super::times::Times;

/// What a folder gets that the archive puts something into without ever naming it.
const IMPLIED_MODE: Mode = Mode::from_bits_truncate(0o755);

pub(super) struct Tree<'a> {
    root: BorrowedFd<'a>,
    staging: BorrowedFd<'a>,
    /// The folder the last entry went to: archives list a folder's entries one after the other.
    last_parent: Option<(Vec<u8>, Rc<OwnedFd>)>,
    times: Times,
    content: Content,
}

/// An entry's name, cut in two; the root of the tree has no file name.
struct Place<'n> {
    parent: Vec<u8>,
    file: Option<&'n [u8]>,
}

impl<'a> Tree<'a> {
    pub(super) fn new(root: BorrowedFd<'a>, staging: BorrowedFd<'a>) -> Result<Self, LayerError> {
        let times = Times::new(staging).map_err(LayerError::Stream)?;
        Ok(Self { root, staging, last_parent: None, times, content: Content::new() })
    }

    /// Makes one entry; `data` yields its stored bytes.
    pub(super) fn apply(&mut self, entry: &Entry, data: &mut dyn Read) -> Result<(), LayerError> {
        let name = entry.name.as_slice();
        let place = place(name)?;
        attributes::check(entry)?;
        let Some(file) = place.file else {
            if entry.kind != Kind::Directory {
                return Err(LayerError::refused(name, "the root of a layer is a folder"));
            }
            let root = self.root;
            attributes::set(root, entry)?;
            return self.remember(b".", root, entry);
        };
        if entry.kind == Kind::Device {
            return skip_device(entry, &place);
        }
        let parent = self.folder(&place.parent, entry)?;
        let parent = parent.as_fd();
        if let Some(hidden) = file.strip_prefix(b".wh.") {
            return self.whiteout(parent, file, hidden, name);
        }
        match entry.kind {
            Kind::File => {
                let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                let make = || openat(parent, file, flags, Mode::S_IRUSR | Mode::S_IWUSR);
                let fd = self.replacing(parent, file, make).map_err(at("create", name))?;
                let out = fd.into();
                self.content.write(&out, entry, data).map_err(at("write", name))?;
                attributes::set(out.as_fd(), entry)
            }
            Kind::Directory => self.directory(parent, file, &place.parent, entry),
            Kind::Symlink => {
                if entry.target.is_empty() {
                    return Err(LayerError::refused(name, "a symbolic link to nothing"));
                }
                let make = || symlinkat(entry.target.as_slice(), parent, file);
                self.replacing(parent, file, make).map_err(at("link", name))?;
                attributes::set_at(parent, file, entry)
            }
            Kind::Fifo => {
                let make = || mknodat(parent, file, SFlag::S_IFIFO, Mode::S_IRUSR, 0);
                self.replacing(parent, file, make).map_err(at("make fifo", name))?;
                attributes::set_at(parent, file, entry)
            }
            Kind::HardLink => self.hard_link(parent, file, entry),
            Kind::Device => Ok(()),
        }
    }

    /// Sets the folders' times, which the entries made in them have changed.
    pub(super) fn finish(self) -> Result<(), LayerError> {
        let root = self.root;
        let open = |path: &[u8]| resolve(root, path, OFlag::O_RDONLY);
        self.times.apply(open).map_err(LayerError::Stream)
    }

    /// Opens a folder of the tree by its path, making what the archive never named.
    fn folder(&mut self, path: &[u8], entry: &Entry) -> Result<Rc<OwnedFd>, LayerError> {
        if let Some((last, fd)) = &self.last_parent
            && last == path
        {
            return Ok(Rc::clone(fd));
        }
        let fd = Rc::new(self.open_or_make(path, entry)?);
        self.last_parent = Some((path.to_vec(), Rc::clone(&fd)));
        Ok(fd)
    }

    fn open_or_make(&mut self, path: &[u8], entry: &Entry) -> Result<OwnedFd, LayerError> {
        let name = entry.name.as_slice();
        let error = match resolve(self.root, path, OFlag::O_PATH) {
            Ok(fd) => return Ok(fd),
            Err(error @ (Errno::ENOENT | Errno::ENOTDIR)) if path != b"." => error,
            Err(error) => return Err(at("open the folder of", name)(error)),
        };
        let (above, file) = match path.iter().rposition(|b| *b == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&b"."[..], path),
        };
        let above = self.open_or_make(above, entry)?;
        let mut over_whiteout = false;
        if let Some(found) = stat(above.as_fd(), file).map_err(at("look at the folder of", name))? {
            if !is_whiteout(&found) {
                let what = if error == Errno::ENOENT { "a link that leads nowhere" } else { "no folder" };
                return Err(LayerError::refused(name, format!("what should hold it is {what}")));
            }
            self.clear(above.as_fd(), file).map_err(at("replace the folder of", name))?;
            over_whiteout = true;
        }
        // Without this a layer below would give its owner and mode to nobody; root's own is what every other tool uses,
        // too.
        let fd = make_folder(&above, file).map_err(at("make the folder of", name))?;
        if over_whiteout {
            sys::fsetxattr(fd.as_fd(), OPAQUE, b"y").map_err(at("make opaque the folder of", name))?;
        }
        self.push_time(path, fd.as_fd(), entry.mtime).map_err(at("note the time of the folder of", name))?;
        Ok(fd)
    }

    fn directory(
        &mut self,
        parent: BorrowedFd<'_>,
        file: &[u8],
        above: &[u8],
        entry: &Entry,
    ) -> Result<(), LayerError> {
        let name = entry.name.as_slice();
        let mut over_whiteout = false;
        match mkdirat(parent, file, Mode::S_IRWXU) {
            Ok(()) => {}
            Err(Errno::EEXIST) => {
                let found = stat(parent, file).map_err(at("look at", name))?;
                if !found.as_ref().is_some_and(is_folder) {
                    over_whiteout = found.as_ref().is_some_and(is_whiteout);
                    self.clear(parent, file).map_err(at("replace", name))?;
                    mkdirat(parent, file, Mode::S_IRWXU).map_err(at("make folder", name))?;
                }
            }
            Err(error) => return Err(at("make folder", name)(error)),
        }
        let fd = open_folder(parent, file).map_err(at("open folder", name))?;
        if over_whiteout {
            // The whiteout hid what is below; the folder that takes its place has to do so, too.
            sys::fsetxattr(fd.as_fd(), OPAQUE, b"y").map_err(at("make opaque", name))?;
        }
        attributes::set(fd.as_fd(), entry)?;
        let path = [above, b"/", file].concat();
        self.remember(&path, fd.as_fd(), entry)
    }

    fn hard_link(&mut self, parent: BorrowedFd<'_>, file: &[u8], entry: &Entry) -> Result<(), LayerError> {
        let name = entry.name.as_slice();
        let target = place(&entry.target)?;
        let Some(target_file) = target.file else {
            return Err(LayerError::refused(name, "a hard link to the root of the layer"));
        };
        let missing = || LayerError::refused(name, "a hard link to what this layer does not hold");
        let folder = match resolve(self.root, &target.parent, OFlag::O_PATH) {
            Ok(folder) => folder,
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Err(missing()),
            Err(error) => return Err(at("open the target of", name)(error)),
        };
        let found =
            stat(folder.as_fd(), target_file).map_err(at("look at the target of", name))?.ok_or_else(missing)?;
        if !matches!(kind_of(&found), SFlag::S_IFREG | SFlag::S_IFLNK | SFlag::S_IFIFO) {
            return Err(LayerError::refused(name, "a hard link to a folder or a removed file"));
        }
        let old = stat(parent, file).map_err(at("look at", name))?;
        if old.is_some_and(|old| old.st_ino == found.st_ino) {
            return Ok(());
        }
        let link = || linkat(&folder, target_file, parent, file, AtFlags::empty());
        self.replacing(parent, file, link).map_err(at("link", name))
    }

    /// `.wh..wh..opq` hides a folder's lower content, `.wh.<name>` one name in it (image spec, "Whiteouts"). Both are
    /// only about layers below, so what this layer itself holds under the name stays.
    fn whiteout(&mut self, parent: BorrowedFd<'_>, file: &[u8], hidden: &[u8], name: &[u8]) -> Result<(), LayerError> {
        if file == b".wh..wh..opq" {
            let folder = open_folder(parent, b".").map_err(at("open the folder of", name))?;
            return sys::fsetxattr(folder.as_fd(), OPAQUE, b"y").map_err(at("make opaque the folder of", name));
        }
        if hidden.starts_with(b".wh.") {
            // AUFS's own bookkeeping (.wh..wh.plnk, .wh..wh.aufs), in layers of old Docker versions: no file of the
            // image.
            return Ok(());
        }
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(LayerError::refused(name, "a whiteout of no name"));
        }
        match mknodat(parent, hidden, SFlag::S_IFCHR, Mode::empty(), 0) {
            Err(Errno::EEXIST) => {
                let found = stat(parent, hidden).map_err(at("look at", name))?;
                if found.as_ref().is_some_and(is_folder) {
                    let folder = open_folder(parent, hidden).map_err(at("open", name))?;
                    sys::fsetxattr(folder.as_fd(), OPAQUE, b"y").map_err(at("make opaque", name))?;
                }
                Ok(())
            }
            result => result.map_err(at("make whiteout", name)),
        }
    }

    /// Makes a name; when it exists, what is there goes first: the last entry of a name counts.
    fn replacing<T>(
        &mut self,
        parent: BorrowedFd<'_>,
        file: &[u8],
        make: impl Fn() -> nix::Result<T>,
    ) -> nix::Result<T> {
        match make() {
            Err(Errno::EEXIST) => {
                self.clear(parent, file)?;
                make()
            }
            result => result,
        }
    }

    fn clear(&mut self, parent: BorrowedFd<'_>, file: &[u8]) -> nix::Result<()> {
        // It may be the remembered folder, or a link or folder on the way to it.
        self.last_parent = None;
        remove_all(parent, file, self.staging)
    }

    fn remember(&mut self, path: &[u8], folder: BorrowedFd<'_>, entry: &Entry) -> Result<(), LayerError> {
        self.push_time(path, folder, entry.mtime).map_err(at("note the time of", &entry.name))
    }

    fn push_time(&mut self, path: &[u8], folder: BorrowedFd<'_>, time: Time) -> io::Result<()> {
        self.times.push(path, fstat(folder)?.st_ino, time)
    }
}

/// Opens a folder below the root, which is `/` to every link on the way.
fn resolve(root: BorrowedFd<'_>, path: &[u8], access: OFlag) -> nix::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(access | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS | ResolveFlag::RESOLVE_NO_XDEV);
    // EAGAIN: something was renamed or mounted somewhere on the machine while a `..` in a link was walked.
    const TRIES: usize = 1000;
    for _ in 1..TRIES {
        match openat2(root, path, how) {
            Err(Errno::EAGAIN) => {}
            result => return result,
        }
    }
    openat2(root, path, how)
}

/// Splits a name. Builders write `./` before names and some a slash, both mean the root of the tree; none writes `..`.
fn place(name: &[u8]) -> Result<Place<'_>, LayerError> {
    let mut components: Vec<&[u8]> = name.split(|b| *b == b'/').filter(|c| !matches!(*c, b"" | b".")).collect();
    if components.contains(&&b".."[..]) {
        return Err(LayerError::refused(name, "a name that leads upward"));
    }
    if name.is_empty() {
        return Err(LayerError::refused(name, "an empty name"));
    }
    let file = components.pop();
    let parent = if components.is_empty() { b".".to_vec() } else { components.join(&b'/') };
    Ok(Place { parent, file })
}

/// Each container has a /dev of its own over the image's (architecture, "Mounts"), so device nodes there are left out:
/// most images made from a distribution's tree have a few. Anywhere else they would do something, and a container has
/// only the devices its unit names.
fn skip_device(entry: &Entry, place: &Place<'_>) -> Result<(), LayerError> {
    if place.parent == b"dev" || place.parent.starts_with(b"dev/") {
        log::debug!("image entry={} device node left out", entry.name.escape_ascii());
        return Ok(());
    }
    Err(LayerError::refused(&entry.name, "a device node outside /dev; a container's devices are named by its unit"))
}

fn stat(parent: BorrowedFd<'_>, file: &[u8]) -> nix::Result<Option<FileStat>> {
    match fstatat(parent, file, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

fn kind_of(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

fn is_folder(stat: &FileStat) -> bool {
    kind_of(stat) == SFlag::S_IFDIR
}

fn is_whiteout(stat: &FileStat) -> bool {
    kind_of(stat) == SFlag::S_IFCHR && stat.st_rdev == 0
}

fn open_folder(parent: BorrowedFd<'_>, file: &[u8]) -> nix::Result<OwnedFd> {
    openat(parent, file, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
}

fn make_folder(parent: &OwnedFd, file: &[u8]) -> nix::Result<OwnedFd> {
    mkdirat(parent, file, IMPLIED_MODE)?;
    // A setgid folder would hand down its group and the bit; a umask would take bits away.
    fchownat(parent, file, Some(Uid::from_raw(0)), Some(Gid::from_raw(0)), AtFlags::AT_SYMLINK_NOFOLLOW)?;
    fchmodat(parent, file, IMPLIED_MODE, FchmodatFlags::FollowSymlink)?;
    open_folder(parent.as_fd(), file)
}

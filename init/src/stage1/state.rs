//! The state: what `/var` is.
//!
//! ```text
//!   no device ────────────────────────────────► tmpfs, volatile
//!   device: blank, or marked unfinished ──────► new xfs from the largest seed that fits ─┐
//!   device: xfs ──────────────────────────────► mount ── ok ──► grow ──► persistent ◄────┘
//!                                                  └─ fails ──► (a key pressed: rescue screen) ──► tmpfs, degraded
//!   device: anything else ──────────────────────────────────────┘        device untouched
//! ```
//! Only a device whose first and last MiB are all zero is blank: partition tables, LUKS, RAID and every file system
//! in use leave something there. What is not blank is written only after a person said so: the word on the rescue
//! screen (which sets the mark), or `orlop.state=reset`, which acts only where the state cannot be mounted, so
//! that the word left on a command line does not cost a healthy state.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount, umount};

use super::devices::{self, BlockDevice};
use super::seed::{self, HEADER_BYTES, Seed};
use super::superblock::{MIN_SECTOR_BYTES, is_xfs};
use crate::cmdline::Cmdline;
use crate::modules::{ModuleError, Modules};
use crate::rescue::{self, Choice};
use crate::story;
use crate::sys::blockdev::{XfsGeometry, xfs_geometry, xfs_grow};
use crate::sys::random;

pub(super) const LABEL: &str = "orlop-state";
const SEEDS: &str = "/sysroot/usr/lib/orlop/seeds";
const MOUNT_POINT: &str = "/sysroot/var";
/// How long a degraded boot waits for somebody who wants to decide.
const ASK: Duration = Duration::from_secs(5);
const FLAGS: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV);
/// The ends of a device that must be zero before it counts as blank.
const PROBE_BYTES: u64 = 1 << 20;

/// What `/var` became; the text of `ORLOP_STATE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Persistent,
    /// A tmpfs: the machine has no state device.
    Volatile,
    /// A tmpfs although there is a device, and why.
    Degraded(String),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Persistent => f.write_str("persistent"),
            Self::Volatile => f.write_str("volatile"),
            Self::Degraded(reason) => write!(f, "degraded:{reason}"),
        }
    }
}

#[derive(Debug)]
pub(crate) enum StateError {
    Device { node: String, source: io::Error },
    ReadOnly { node: String },
    Foreign { node: String },
    NoSeed { size_bytes: u64 },
    Seed { path: String, source: io::Error },
    BadSeed { path: String },
    Random(Errno),
    Create { node: String, source: io::Error },
    Module(ModuleError),
    Mount { node: String, source: Errno },
    None,
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device { node, source } => write!(f, "open {node}: {source}"),
            Self::ReadOnly { node } => write!(f, "{node} is read-only"),
            Self::Foreign { node } => write!(f, "{node} is not blank and holds no state"),
            Self::NoSeed { size_bytes } => {
                write!(f, "a state of {} MiB is too small: no seed fits", size_bytes >> 20)
            }
            Self::Seed { path, source } => write!(f, "read {path}: {source}"),
            Self::BadSeed { path } => write!(f, "{path} is not a whole seed"),
            Self::Random(source) => write!(f, "draw a UUID: {}", source.desc()),
            Self::Create { node, source } => write!(f, "make a file system on {node}: {source}"),
            Self::Module(source) => source.fmt(f),
            Self::Mount { node, source } => write!(f, "mount xfs of {node} on /var: {}", reason(*source)),
            Self::None => f.write_str("there is no state device"),
        }
    }
}

/// xfs answers with errnos whose usual words mislead.
fn reason(errno: Errno) -> &'static str {
    match errno {
        Errno::EUCLEAN | Errno::EBADMSG | Errno::EINVAL => "the file system is damaged",
        other => other.desc(),
    }
}

impl StateError {
    /// True where making a new file system is the way back. A missing module, a device in use or a lack of memory
    /// is not the file system's fault.
    fn is_cured_by_reset(&self) -> bool {
        match self {
            Self::Foreign { .. } => true,
            Self::Mount { source, .. } => {
                !matches!(source, Errno::ENODEV | Errno::ENOMEM | Errno::EBUSY | Errno::EROFS | Errno::EACCES)
            }
            _ => false,
        }
    }
}

/// What the ends of a device say about it.
#[derive(Debug, PartialEq, Eq)]
enum Content {
    Blank,
    Unfinished,
    Xfs,
    Foreign,
}

/// `head` and `tail` are the first and the last bytes of the device.
fn content(head: &[u8], tail: &[u8]) -> Content {
    if seed::is_unfinished(head) {
        Content::Unfinished
    } else if is_xfs(head) {
        Content::Xfs
    } else if is_zero(head) && is_zero(tail) {
        Content::Blank
    } else {
        Content::Foreign
    }
}

/// Sixteen bytes at a time: two MiB of single ones cost ten million instructions of each boot.
fn is_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<16>();
    words.iter().all(|word| u128::from_ne_bytes(*word) == 0) && rest.iter().all(|&byte| byte == 0)
}

/// Mounts `/sysroot/var`. Never fails: what cannot be mounted becomes a tmpfs and a verdict.
pub(super) fn set_up(device: Option<&BlockDevice>, modules: &mut Modules, cmdline: &Cmdline) -> Verdict {
    let verdict = match device {
        None => Verdict::Volatile,
        Some(device) => match open_or_ask(device, modules, cmdline) {
            Ok(()) => return Verdict::Persistent,
            Err(error) => Verdict::Degraded(error.to_string()),
        },
    };
    // Everything stored on it is lost at the end of the boot; it may not take the machine's memory with it.
    let options = "mode=0755,size=40%,nr_inodes=200k";
    match mount(Some("state"), MOUNT_POINT, Some("tmpfs"), FLAGS, Some(options)) {
        Ok(()) => story::say("state", "tmpfs, lost at power off"),
        Err(errno) => story::warn("state", format_args!("mount tmpfs on /var: {}", errno.desc())),
    }
    verdict
}

/// What cannot be opened is said, and whoever is at a console can decide about it; an unattended machine goes on without.
fn open_or_ask(device: &BlockDevice, modules: &mut Modules, cmdline: &Cmdline) -> Result<(), StateError> {
    let mut result = open_or_reset(device, modules, cmdline);
    loop {
        let error = match result {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        story::warn("state", format_args!("{error}; nothing was overwritten"));
        let wait = ASK.as_secs();
        story::say("state", format_args!("press a key within {wait} s for the rescue screen"));
        if !rescue::is_wanted(ASK) {
            return Err(error);
        }
        let all = [Choice::Retry, Choice::Reboot, Choice::PowerOff, Choice::StateReset];
        let choices = if error.is_cured_by_reset() { &all[..] } else { &all[..3] };
        result = match rescue::run(&error.to_string(), choices) {
            Choice::StateReset => open(device, true),
            Choice::Retry => open(device, false),
            choice @ (Choice::Reboot | Choice::PowerOff) => {
                super::end(choice);
                Err(error)
            }
        };
    }
}

fn open_or_reset(device: &BlockDevice, modules: &mut Modules, cmdline: &Cmdline) -> Result<(), StateError> {
    modules.load("xfs").map_err(StateError::Module)?;
    let error = match open(device, false) {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    if cmdline.value("orlop.state") == Some("reset") && error.is_cured_by_reset() {
        story::warn("state", format_args!("{error}; orlop.state=reset: made anew, what it held is gone"));
        return open(device, true);
    }
    Err(error)
}

/// Makes the file system where there is none (or `reset` was asked for), mounts it, grows it to its device.
fn open(device: &BlockDevice, reset: bool) -> Result<(), StateError> {
    let node = device.node();
    if device.read_only {
        return Err(StateError::ReadOnly { node });
    }
    let failed = |source| StateError::Device { node: device.node(), source };
    // O_EXCL: not while anything else has it mounted or assembled. Closed before the mount.
    let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_EXCL).open(&node).map_err(failed)?;
    let new = match probe(&file, device.size_bytes).map_err(failed)? {
        _ if reset => true,
        Content::Blank | Content::Unfinished => true,
        Content::Xfs => false,
        Content::Foreign => return Err(StateError::Foreign { node }),
    };
    if new {
        create(&file, device)?;
    }
    drop(file);
    mount_xfs(&node)?;
    if grow(device, new) {
        // Kernels before 6.13 (and their stable series) cannot replay a log that grows the file system: a power cut now
        // would cost the state. An unmount writes the new size and leaves an empty log.
        umount(MOUNT_POINT).map_err(|source| StateError::Mount { node: node.clone(), source })?;
        mount_xfs(&node)?;
    }
    Ok(())
}

fn mount_xfs(node: &str) -> Result<(), StateError> {
    mount(Some(node), MOUNT_POINT, Some("xfs"), FLAGS, None::<&str>)
        .map_err(|source| StateError::Mount { node: node.to_owned(), source })
}

fn probe(device: &File, size_bytes: u64) -> io::Result<Content> {
    // Every boot but the first knows enough after this.
    let mut sector = [0; MIN_SECTOR_BYTES];
    device.read_exact_at(&mut sector, 0)?;
    let known = content(&sector, &[]);
    if known != Content::Blank {
        return Ok(known);
    }
    let len = PROBE_BYTES.min(size_bytes);
    let mut ends = vec![0; usize::try_from(2 * len).unwrap_or(0)];
    let (head, tail) = ends.split_at_mut(usize::try_from(len).unwrap_or(0));
    device.read_exact_at(head, 0)?;
    device.read_exact_at(tail, size_bytes - len)?;
    Ok(content(head, tail))
}

fn create(file: &File, device: &BlockDevice) -> Result<(), StateError> {
    let path = largest_seed(device.size_bytes)?;
    let bytes = fs::read(&path).map_err(|source| StateError::Seed { path: path.clone(), source })?;
    let Some(seed) = Seed::parse(&bytes).filter(|seed| seed.size_bytes <= device.size_bytes) else {
        return Err(StateError::BadSeed { path });
    };
    let uuid = random::uuid().map_err(StateError::Random)?;
    seed.write(file, uuid).map_err(|source| StateError::Create { node: device.node(), source })
}

fn largest_seed(size_bytes: u64) -> Result<String, StateError> {
    let failed = |source| StateError::Seed { path: SEEDS.to_owned(), source };
    let mut best: Option<(u64, String)> = None;
    for entry in fs::read_dir(SEEDS).map_err(failed)?.flatten() {
        let path = format!("{SEEDS}/{}", entry.file_name().to_string_lossy());
        let mut header = [0; HEADER_BYTES];
        let read = File::open(&path).and_then(|file| file.read_exact_at(&mut header, 0));
        let Some(size) = read.ok().and_then(|()| seed::size_of(&header)) else { continue };
        if size <= size_bytes && best.as_ref().is_none_or(|(largest, _)| size > *largest) {
            best = Some((size, path));
        }
    }
    best.map(|(_, path)| path).ok_or(StateError::NoSeed { size_bytes })
}

/// Grows the mounted file system to its device: after its creation, and whenever the device grew. A failure costs
/// only the space. True when it grew.
fn grow(device: &BlockDevice, new: bool) -> bool {
    let made = if new { "xfs, new" } else { "xfs" };
    let name = &device.name;
    let grown =
        File::open(MOUNT_POINT).map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(0))).and_then(|folder| {
            let geometry = xfs_geometry(folder.as_fd())?;
            let had_bytes = geometry.blocks * u64::from(geometry.block_bytes);
            let wanted = device.size_bytes / u64::from(geometry.block_bytes.max(1));
            if wanted > geometry.blocks || !copies_agree(&device.node(), &geometry) {
                xfs_grow(folder.as_fd(), wanted.max(geometry.blocks), geometry.max_inode_percent)?;
            }
            let now = xfs_geometry(folder.as_fd())?;
            Ok((had_bytes, now.blocks * u64::from(now.block_bytes)))
        });
    let larger = matches!(grown, Ok((had, has)) if has > had);
    match grown {
        Ok((had, has)) if larger => {
            story::say("state", format_args!("{made}, {name}, grown from {} to {} MiB", had >> 20, has >> 20));
        }
        Ok((_, has)) => story::say("state", format_args!("{made}, {name}, {} MiB", has >> 20)),
        Err(errno) => {
            story::say("state", format_args!("{made}, {name}"));
            story::warn("state", format_args!("grow it to its device: {}", errno.desc()));
        }
    }
    larger
}

/// The copies of the superblock, one at the head of each allocation group, are written behind the growth and in no log: a power
/// cut in between leaves old ones, which only `xfs_repair` would ever miss. Growing to the size it has writes them.
///
/// The kernel writes them in order, sixteen at a time (`xfs_update_secondary_sbs`): the last so many tell of all.
fn copies_agree(node: &str, geometry: &XfsGeometry) -> bool {
    let Ok(device) = File::open(node) else { return true };
    let groups = u64::from(geometry.groups);
    (groups.saturating_sub(16).max(1)..groups).all(|group| {
        // sb_magicnum, sb_blocksize, sb_dblocks (fs/xfs/libxfs/xfs_format.h).
        let mut head = [0; 16];
        let at = group * u64::from(geometry.group_blocks) * u64::from(geometry.block_bytes);
        device.read_exact_at(&mut head, at).is_err()
            || (head.starts_with(b"XFSB") && head[8..] == geometry.blocks.to_be_bytes())
    })
}

/// The rescue screen's "state reset", after the word was typed: the next boot makes a new state. Refused while the
/// device is in use.
pub(crate) fn reset() -> Result<String, StateError> {
    let devices = devices::scan();
    let device = devices::find(&devices, LABEL, LABEL).ok_or(StateError::None)?;
    let node = device.node();
    let open = OpenOptions::new().read(true).write(true).custom_flags(libc::O_EXCL).open(&node);
    let file = open.map_err(|source| StateError::Device { node: node.clone(), source })?;
    seed::mark_unfinished(&file).map_err(|source| StateError::Create { node: node.clone(), source })?;
    Ok(node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_zeroes_are_blank() {
        let zeroes = vec![0; 1 << 20];
        assert_eq!(content(&zeroes, &zeroes), Content::Blank);
        for at in [0, 511, 512, 1024, 4086, 65600, (1 << 20) - 1] {
            let mut ends = zeroes.clone();
            ends[at] = 1;
            assert_eq!(content(&ends, &zeroes), Content::Foreign, "{at}");
            assert_eq!(content(&zeroes, &ends), Content::Foreign, "tail {at}");
        }
        assert_eq!(content(b"XFSB\0", &zeroes), Content::Xfs);
        assert_eq!(content(b"orlop: unfinished state\n\0", b"rest of the old"), Content::Unfinished);
    }

    #[test]
    fn a_reset_cures_damage_and_nothing_else() {
        let mount = |source| StateError::Mount { node: "/dev/vdb".into(), source };
        assert!(mount(Errno::EUCLEAN).is_cured_by_reset());
        assert!(mount(Errno::EBADMSG).is_cured_by_reset());
        assert!(StateError::Foreign { node: String::new() }.is_cured_by_reset());
        assert!(!mount(Errno::ENODEV).is_cured_by_reset());
        assert!(!StateError::NoSeed { size_bytes: 5 }.is_cured_by_reset());
    }

    #[test]
    fn verdicts_as_stage_two_reads_them() {
        assert_eq!(Verdict::Persistent.to_string(), "persistent");
        assert_eq!(Verdict::Degraded("mount xfs".into()).to_string(), "degraded:mount xfs");
    }
}

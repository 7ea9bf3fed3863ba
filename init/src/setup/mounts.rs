//! The file systems of the kernel's interfaces, and the ones that live in memory.

use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::stat::Mode;

use crate::story;

struct ApiMount {
    kind: &'static str,
    on: &'static str,
    flags: MsFlags,
    /// Tried in turn while the kernel does not know one of the words.
    options: &'static [&'static str],
    /// A kernel or a machine without it is no defect.
    optional: bool,
}

const NOSUID: MsFlags = MsFlags::MS_NOSUID;
const NODEV: MsFlags = NOSUID.union(MsFlags::MS_NODEV);
const HARD: MsFlags = NODEV.union(MsFlags::MS_NOEXEC);

/// In this order: a later one lies on an earlier one.
const MOUNTS: [ApiMount; 14] = [
    must("proc", "/proc", HARD, &[""]),
    must("sysfs", "/sys", HARD, &[""]),
    must("devtmpfs", "/dev", NOSUID.union(MsFlags::MS_NOEXEC), &["mode=0755"]),
    // gid 5 is tty everywhere; ptmxmode, because the kernel's default of 000 makes the instance useless.
    must("devpts", "/dev/pts", NOSUID.union(MsFlags::MS_NOEXEC), &["gid=5,mode=0620,ptmxmode=0666"]),
    must("tmpfs", "/dev/shm", HARD, &["mode=1777,size=10%,nr_inodes=100k"]),
    may("mqueue", "/dev/mqueue", HARD, &[""]),
    // In-memory file systems are bounded: together they may not take what the machine needs.
    must("tmpfs", "/run", NODEV, &["mode=0755,size=20%,nr_inodes=200k"]),
    must("tmpfs", "/tmp", NODEV, &["mode=1777,size=20%,nr_inodes=200k"]),
    // nsdelegate: a container with a cgroup namespace cannot change its own limits. memory_recursiveprot:
    // memory.min of /orlop protects what is below it. favordynmods: joining a fresh cgroup takes 0.3 ms, not 6.
    must(
        "cgroup2",
        "/sys/fs/cgroup",
        HARD,
        &["nsdelegate,memory_recursiveprot,favordynmods", "nsdelegate,memory_recursiveprot", "nsdelegate"],
    ),
    may("bpf", "/sys/fs/bpf", HARD, &["mode=0700"]),
    may("securityfs", "/sys/kernel/security", HARD, &[""]),
    may("pstore", "/sys/fs/pstore", HARD, &[""]),
    may("efivarfs", "/sys/firmware/efi/efivars", HARD, &[""]),
    may("fusectl", "/sys/fs/fuse/connections", HARD, &[""]),
];

const fn must(kind: &'static str, on: &'static str, flags: MsFlags, options: &'static [&'static str]) -> ApiMount {
    ApiMount { kind, on, flags, options, optional: false }
}

const fn may(kind: &'static str, on: &'static str, flags: MsFlags, options: &'static [&'static str]) -> ApiMount {
    ApiMount { kind, on, flags, options, optional: true }
}

/// Mounts what is not mounted yet (stage 1 brings proc, sys and dev).
pub(super) fn set_up() {
    for api in &MOUNTS {
        if let Err(errno) = api.mount()
            && !(api.optional && matches!(errno, Errno::ENODEV | Errno::ENOENT))
        {
            story::warn("mounts", format_args!("mount {} on {}: {}", api.kind, api.on, errno.desc()));
        }
    }
    // What udev would make; programs expect them.
    for (name, target) in [("fd", "fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")] {
        let _ = symlink(format!("/proc/self/{target}"), format!("/dev/{name}"));
    }
    // Shared, as under systemd: an unmount on the host reaches the containers' copies of the mount, and an engine that
    // runs as a unit can hand mounts on. Each container's runtime makes its own side a slave.
    let all = MsFlags::MS_REC | MsFlags::MS_SHARED;
    if let Err(errno) = mount(None::<&str>, "/", None::<&str>, all, None::<&str>) {
        story::warn("mounts", format_args!("share the mounts below /: {}", errno.desc()));
    }
}

impl ApiMount {
    fn mount(&self) -> Result<(), Errno> {
        if is_mount_point(self.on) {
            return Ok(());
        }
        if self.on.starts_with("/dev/") {
            // On a fresh devtmpfs there is no folder yet; a real failure shows at the mount.
            let _ = nix::unistd::mkdir(self.on, Mode::from_bits_truncate(0o755));
        }
        // Before the mount asks for a module: without EFI, efivarfs would be loaded for nothing.
        if !Path::new(self.on).exists() {
            return Err(Errno::ENOENT);
        }
        let mut result = Err(Errno::EINVAL);
        for options in self.options {
            result = mount(Some(self.kind), self.on, Some(self.kind), self.flags, Some(*options));
            if result != Err(Errno::EINVAL) {
                break;
            }
        }
        result
    }
}

/// True when something is mounted there: another device than that of the folder above.
pub(super) fn is_mount_point(path: &str) -> bool {
    let device = |path: &Path| path.symlink_metadata().map(|meta| meta.dev()).ok();
    let path = Path::new(path);
    matches!((device(path), device(&path.join(".."))), (Some(own), Some(above)) if own != above)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_mount_lies_on_an_earlier_one() {
        for (at, api) in MOUNTS.iter().enumerate() {
            assert!(!MOUNTS[..at].iter().any(|before| before.on.starts_with(&format!("{}/", api.on))), "{}", api.on);
        }
    }

    #[test]
    fn mount_points_are_told_from_folders() {
        assert!(is_mount_point("/proc"));
        assert!(!is_mount_point("/proc/sys/kernel"));
        assert!(!is_mount_point("/nowhere"));
    }
}

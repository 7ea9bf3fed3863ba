//! Unmounting everything that stores something, children before parents.

use std::sync::atomic::{AtomicU64, Ordering};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::story;

/// The kernel's own interfaces: they hold nothing, and the shutdown needs some of them to the end.
const API: [&str; 14] = [
    "proc",
    "sysfs",
    "devtmpfs",
    "devpts",
    "cgroup2",
    "bpf",
    "securityfs",
    "efivarfs",
    "debugfs",
    "tracefs",
    "mqueue",
    "pstore",
    "configfs",
    "rootfs",
];
/// Mount points that go down with the machine.
const KEPT: [&str; 3] = ["/", "/dev/shm", "/run"];

/// One line of `/proc/self/mountinfo`, as far as unmounting needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) id: u64,
    parent: u64,
    pub(crate) target: String,
    kind: String,
    writable: bool,
}

/// What one round reached, as the exit status of its child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) progress: bool,
    pub(crate) left: bool,
}

impl Outcome {
    pub(crate) fn to_status(self) -> u8 {
        u8::from(self.progress) | u8::from(self.left) << 1
    }

    /// From a wait status; a child that crashed got somewhere or not, nobody knows: no progress, something left.
    pub(crate) fn from_wait(wait_status: i32) -> Self {
        match (wait_status & 0x7f, wait_status >> 8 & 0xff) {
            (0, code @ 0..=3) => Self { progress: code & 1 != 0, left: code & 2 != 0 },
            _ => Self { progress: false, left: true },
        }
    }
}

/// One round: every mount once. `current` names the mount being worked on, for the case that it hangs; those in
/// `stuck` did.
pub(crate) fn unmount_round(stuck: &[u64], current: Option<&AtomicU64>) -> Outcome {
    let mut outcome = Outcome { progress: false, left: false };
    for mount in in_order(&read()) {
        if stuck.contains(&mount.id) {
            outcome.left = true;
            continue;
        }
        if let Some(current) = current {
            current.store(mount.id, Ordering::Relaxed);
        }
        match umount2(mount.target.as_str(), MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => outcome.progress = true,
            // It went with another one, or is covered and was the other one.
            Err(nix::Error::EINVAL | nix::Error::ENOENT) => {}
            Err(errno) => {
                outcome.left = true;
                story::debug("shutdown", format_args!("unmount {}: {}", mount.target, errno.desc()));
            }
        }
    }
    outcome
}

/// The last resort for what stayed: nothing more can be written to it.
pub(crate) fn read_only_round() -> Outcome {
    let mut outcome = Outcome { progress: false, left: false };
    for left in in_order(&read()).into_iter().filter(|mount| mount.writable && mount.kind != "tmpfs") {
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        match mount::<str, str, str, str>(None, left.target.as_str(), None, flags, None) {
            Ok(()) => story::warn("shutdown", format_args!("{} could not be unmounted, now read-only", left.target)),
            Err(errno) => {
                outcome.left = true;
                story::warn("shutdown", format_args!("remount {} read-only: {}", left.target, errno.desc()));
            }
        }
    }
    outcome
}

fn read() -> Vec<Mount> {
    match std::fs::read_to_string("/proc/self/mountinfo") {
        Ok(text) => text.lines().filter_map(parse).collect(),
        Err(error) => {
            story::warn("shutdown", format_args!("read /proc/self/mountinfo: {error}"));
            Vec::new()
        }
    }
}

/// proc_pid_mountinfo(5): `36 35 98:0 /root /target rw,noatime master:1 - ext3 /dev/root rw,errors=continue`.
fn parse(line: &str) -> Option<Mount> {
    let (head, tail) = line.split_once(" - ")?;
    let mut head = head.split(' ');
    let id = head.next()?.parse().ok()?;
    let parent = head.next()?.parse().ok()?;
    let target = unescape(head.nth(2)?);
    let mut tail = tail.split(' ');
    let kind = tail.next()?.to_owned();
    let writable = tail.nth(1)?.split(',').any(|option| option == "rw");
    Some(Mount { id, parent, target, kind, writable })
}

/// Space, tab, newline and backslash are written as three octal digits.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 4).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) if code.is_ascii() => {
                out.push(char::from(code));
                rest = &rest[at + 4..];
            }
            _ => {
                out.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    out + rest
}

/// What is to be unmounted, each behind everything mounted on it.
fn in_order(mounts: &[Mount]) -> Vec<Mount> {
    let mut left: Vec<&Mount> = mounts.iter().collect();
    let mut order = Vec::new();
    while !left.is_empty() {
        let is_leaf = |mount: &Mount| !left.iter().any(|other| other.parent == mount.id && other.id != mount.id);
        let (leaves, rest): (Vec<_>, Vec<_>) = left.iter().rev().partition(|mount| is_leaf(mount));
        if leaves.is_empty() {
            // A cycle cannot be; were there one, any order is as good.
            order.extend(rest);
            break;
        }
        order.extend(leaves);
        left = rest.into_iter().rev().collect();
    }
    let stores = |mount: &&Mount| !API.contains(&mount.kind.as_str()) && !KEPT.contains(&mount.target.as_str());
    order.into_iter().filter(stores).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: &str = "\
1 1 0:2 / / rw - rootfs rootfs rw
21 1 0:20 / /proc rw,nosuid - proc proc rw
22 1 0:21 / /sys rw - sysfs sysfs rw
23 22 0:22 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw
24 1 254:16 / /var rw,noatime - xfs /dev/vdb rw,attr2
25 1 254:16 /lib/orlop/containers.d /etc/containers.d rw - xfs /dev/vdb rw
26 1 0:24 / /run rw - tmpfs tmpfs rw
40 26 0:40 / /run/orlop/units/web/rootfs rw - overlay overlay rw,lowerdir=/a
41 40 254:16 /lib/orlop/volumes/my\\040data /run/orlop/units/web/rootfs/data rw - xfs /dev/vdb rw
42 26 254:32 / /run/orlop/seed ro - erofs /dev/vdc ro
43 1 0:50 / /tmp rw - tmpfs tmpfs rw";

    fn targets(text: &str) -> Vec<String> {
        let mounts: Vec<_> = text.lines().filter_map(parse).collect();
        in_order(&mounts).into_iter().map(|mount| mount.target).collect()
    }

    #[test]
    fn children_go_before_their_parents_and_the_kernels_own_stay() {
        let order = targets(MACHINE);
        let place = |target: &str| order.iter().position(|t| t == target).unwrap();
        assert!(
            place("/run/orlop/units/web/rootfs/my data".replace("my ", "").as_str())
                < place("/run/orlop/units/web/rootfs")
        );
        assert_eq!(order.len(), 6, "{order:?}");
        assert!(!order.iter().any(|t| ["/", "/proc", "/sys", "/sys/fs/cgroup", "/run"].contains(&t.as_str())));
    }

    #[test]
    fn a_mount_moved_below_a_younger_one_still_goes_first() {
        let order =
            targets("5 9 0:1 / /new/old rw - ext4 a rw\n9 1 0:2 / /new rw - ext4 b rw\n1 1 0:2 / / rw - erofs c ro");
        assert_eq!(order, ["/new/old", "/new"]);
    }

    #[test]
    fn a_line_is_read_with_its_escapes_and_optional_fields() {
        let mount =
            parse("36 35 98:0 /r /mnt/a\\040b\\134c rw master:1 shared:2 - ext3 /dev/root ro,errors=x").unwrap();
        assert_eq!((mount.target.as_str(), mount.kind.as_str(), mount.writable), ("/mnt/a b\\c", "ext3", false));
        assert!(parse("").is_none() && parse("36 35 98:0 / - x").is_none());
    }

    #[test]
    fn an_outcome_is_an_exit_status() {
        for (progress, left) in [(false, false), (true, false), (false, true), (true, true)] {
            let outcome = Outcome { progress, left };
            assert_eq!(Outcome::from_wait(i32::from(outcome.to_status()) << 8), outcome);
        }
        assert_eq!(Outcome::from_wait(9), Outcome { progress: false, left: true });
        assert_eq!(Outcome::from_wait(101 << 8), Outcome { progress: false, left: true });
    }
}

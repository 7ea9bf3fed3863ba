//! Detaching what lies between file systems and disks: loop devices and device mapper.

use std::fs;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use super::mounts::Outcome;
use crate::story;
use crate::sys::block;

/// Every device mapper device, every loop device with a file behind it. The one that carries the root is busy and
/// stays; it is read-only.
pub(crate) fn detach() -> Outcome {
    let mut outcome = Outcome { progress: false, left: false };
    for device in names("dm-") {
        let name = fs::read_to_string(format!("/sys/block/{device}/dm/name")).unwrap_or_default();
        note(&mut outcome, &device, control().and_then(|control| block::remove_mapped(&control, name.trim())));
    }
    for device in names("loop").filter(|name| has_file(name)) {
        let cleared = node(&device).and_then(|node| block::clear_loop(&node));
        // One that is in use says yes too, and keeps its file until it is used no more.
        note(&mut outcome, &device, cleared.and(if has_file(&device) { Err(Errno::EBUSY) } else { Ok(()) }));
    }
    outcome
}

fn has_file(device: &str) -> bool {
    fs::exists(format!("/sys/block/{device}/loop")).unwrap_or(false)
}

fn note(outcome: &mut Outcome, device: &str, result: Result<(), Errno>) {
    match result {
        Ok(()) => {
            outcome.progress = true;
            story::debug("shutdown", format_args!("detached {device}"));
        }
        Err(errno) => {
            outcome.left = true;
            story::debug("shutdown", format_args!("detach {device}: {}", errno.desc()));
        }
    }
}

fn names(prefix: &'static str) -> impl Iterator<Item = String> {
    let entries = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(move |name| name.starts_with(prefix))
}

fn node(device: &str) -> Result<OwnedFd, Errno> {
    open(format!("/dev/{device}").as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK, Mode::empty())
}

fn control() -> Result<OwnedFd, Errno> {
    open("/dev/mapper/control", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())
}

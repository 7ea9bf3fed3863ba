//! Detaching what lies between file systems and disks: loop devices and device mapper.

use std::fs;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use super::mounts::Outcome;
use crate::story;
use crate::sys::block;

/// Every loop device with a file behind it, every device mapper device. The one that carries the root is busy and
/// stays; it is read-only.
pub(crate) fn detach() -> Outcome {
    let mut outcome = Outcome { progress: false, left: false };
    for device in names("loop").filter(|name| fs::exists(format!("/sys/block/{name}/loop")).unwrap_or(false)) {
        note(&mut outcome, &device, node(&device).and_then(|node| block::clear_loop(&node)));
    }
    for device in names("dm-") {
        let name = fs::read_to_string(format!("/sys/block/{device}/dm/name")).unwrap_or_default();
        note(&mut outcome, &device, control().and_then(|control| block::remove_mapped(&control, name.trim())));
    }
    outcome
}

fn note(outcome: &mut Outcome, device: &str, result: Result<(), Errno>) {
    match result {
        Ok(()) => outcome.progress = true,
        Err(errno) => {
            outcome.left = true;
            story::debug("shutdown", &format!("detach {device}: {}", errno.desc()));
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

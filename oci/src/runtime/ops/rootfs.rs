//! The root of a container without a mount namespace of its own: what the runtime mounted on the host it takes away again.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};

use super::Machine;
use crate::runtime::error::{Result, Step, c_string};
use crate::runtime::state::State;
use crate::runtime::sys::{Errno, fs, mount};

/// The kernel's number of the mount an open file lies in.
pub(super) fn mount_of(machine: &Machine, file: BorrowedFd<'_>) -> Result<u64> {
    let path = format!("{}/fdinfo/{}", std::process::id(), file.as_raw_fd());
    let text = machine.proc.read(&path).step("read", format!("/proc/{path}"))?;
    let number = text.lines().find_map(|line| line.strip_prefix("mnt_id:")).and_then(|id| id.trim().parse().ok());
    number.ok_or(Errno(libc::ENODATA)).step("find the mount of", "rootfs")
}

/// With all that is mounted below. Nothing where somebody else has done so, whatever is there now.
pub(super) fn take_away(machine: &Machine, state: &State) -> Result<()> {
    if state.root_mount == 0 {
        return Ok(());
    }
    let place = match fs::open_host(&c_string(state.rootfs.as_str()), libc::O_PATH | libc::O_DIRECTORY, 0) {
        Err(Errno(libc::ENOENT | libc::ENOTDIR)) => return Ok(()),
        other => other.step("open rootfs", &state.rootfs)?,
    };
    if mount_of(machine, place.as_fd())? != state.root_mount {
        return Ok(());
    }
    let back = fs::open_host(c".", libc::O_PATH | libc::O_DIRECTORY, 0).step("open", "the working directory")?;
    fs::chdir_fd(place.as_fd()).step("enter", &state.rootfs)?;
    let done = mount::detach_cwd().step("unmount rootfs", &state.rootfs);
    fs::chdir_fd(back.as_fd()).step("return to", "the working directory").and(done)
}

//! The root of a container without a mount namespace of its own: what the runtime mounted on the host it takes away again.

use std::os::fd::AsFd;

use crate::runtime::error::{Result, Step, c_string};
use crate::runtime::state::State;
use crate::runtime::sys::{Errno, fs, mount};

/// With all that is mounted below. Nothing where somebody else has done so, whatever is there now.
pub(super) fn take_away(state: &State) -> Result<()> {
    if state.root_mount == 0 {
        return Ok(());
    }
    let place = match fs::open_host(&c_string(state.rootfs.as_str()), libc::O_PATH | libc::O_DIRECTORY, 0) {
        Err(Errno(libc::ENOENT | libc::ENOTDIR)) => return Ok(()),
        other => other.step("open rootfs", &state.rootfs)?,
    };
    if fs::mount_of(place.as_fd()).step("find the mount of", "rootfs")? != state.root_mount {
        return Ok(());
    }
    let back = fs::open_host(c".", libc::O_PATH | libc::O_DIRECTORY, 0).step("open", "the working directory")?;
    fs::chdir_fd(place.as_fd()).step("enter", &state.rootfs)?;
    let done = mount::detach_cwd().step("unmount rootfs", &state.rootfs);
    fs::chdir_fd(back.as_fd()).step("return to", "the working directory").and(done)
}

//! The runtime protects itself from the containers it starts.
//!
//! A container's root can reach the runtime's file through /proc/<pid>/exe while it enters the container, or by making it the
//! interpreter of a script (`#!/proc/self/exe`), and overwrite it once it no longer runs (CVE-2019-5736). So: not dumpable, which
//! hides /proc/<pid>/exe; and the file is only ever executed from a read-only mount. Where it does not lie on one, the program
//! executes itself again from a detached read-only clone of its mount (a tenth of the cost of a sealed copy in memory).

use std::ffi::{CString, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt as _;

use crate::runtime::error::{Error, Result, Step, c_string};
use crate::runtime::sys::mount::{self, Attributes};
use crate::runtime::sys::process::{self, StringList};
use crate::runtime::sys::{Errno, fs};

pub(crate) fn protect() -> Result<()> {
    process::control(libc::PR_SET_DUMPABLE, 0, 0).step("make", "this process not dumpable")?;
    let itself = c"/proc/self/exe";
    let file = fs::open_host(itself, libc::O_PATH, 0).step("open", "/proc/self/exe")?;
    if fs::on_readonly_mount(file.as_fd()).step("check", "/proc/self/exe")? {
        return Ok(());
    }
    let clone = match mount::clone_path(itself, false) {
        // Without the right to mount there is no container whose root could be more than this user.
        Err(Errno(libc::EPERM)) => return Ok(()),
        other => other.step("clone the mount of", "/proc/self/exe")?,
    };
    let attributes = Attributes { set: mount::RDONLY, ..Attributes::default() };
    mount::set_attributes(clone.as_fd(), false, &attributes).step("make read-only", "the clone of /proc/self/exe")?;
    let args: Vec<CString> = std::env::args_os().map(|one| c_string(one.into_vec())).collect();
    let pair = |(mut name, value): (OsString, OsString)| {
        name.push("=");
        name.push(value);
        c_string(name.into_vec())
    };
    let env: Vec<CString> = std::env::vars_os().map(pair).collect();
    let errno = process::exec_fd(clone.as_fd(), &StringList::new(args), &StringList::new(env));
    Err(Error::System { step: "execute", object: "the read-only clone of /proc/self/exe".to_owned(), errno })
}

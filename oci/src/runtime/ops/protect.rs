//! The runtime protects itself from the containers it starts.
//!
//! A container's root can reach the runtime's file through /proc/<pid>/exe while it enters the container, or by making it the
//! interpreter of a script (`#!/proc/self/exe`), and overwrite it once it no longer runs (CVE-2019-5736). So: not dumpable, which
//! hides /proc/<pid>/exe; and the file is only ever executed from a read-only mount. Where it does not lie on one, the program
//! executes itself again from a detached read-only clone of its mount (a tenth of the cost of a sealed copy in memory).

use std::convert::Infallible;
use std::ffi::{CStr, CString, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;

use crate::runtime::error::{Error, Result, Step, c_string};
use crate::runtime::sys::mount::{self, Attributes};
use crate::runtime::sys::process::{self, StringList};
use crate::runtime::sys::{Errno, entry, fs};

pub(crate) fn protect() -> Result<()> {
    process::control(libc::PR_SET_DUMPABLE, 0, 0).step("make", "this process not dumpable")?;
    let file = fs::open_host(ITSELF, libc::O_PATH, 0).step("open", "/proc/self/exe")?;
    if fs::on_readonly_mount(file.as_fd()).step("check", "/proc/self/exe")? { Ok(()) } else { Err(again(&[])) }
}

const ITSELF: &CStr = c"/proc/self/exe";

/// Executes this program anew, read-only, with a few variables more; comes back only with what went wrong.
pub(super) fn again(more: &[(&str, &str)]) -> Error {
    execute(more).err().unwrap_or_else(|| Error::ChildGone("this program did not run again".to_owned()))
}

fn own_mount() -> std::result::Result<OwnedFd, Errno> {
    match mount::clone_path(ITSELF, false) {
        // The mount belongs to the namespace this program came from: it is found by its name in the one it is in now.
        Err(Errno(libc::EINVAL)) => {}
        other => return other,
    }
    let path = std::fs::read_link("/proc/self/exe")?;
    let clone = mount::clone_path(&c_string(path.into_os_string().into_vec()), false)?;
    let (found, own) = (fs::stat(clone.as_fd())?, fs::stat_host(ITSELF)?);
    if (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino) { Ok(clone) } else { Err(Errno(libc::ESTALE)) }
}

fn execute(more: &[(&str, &str)]) -> Result<Infallible> {
    let clone = own_mount().step("clone the mount of", "/proc/self/exe")?;
    let attributes = Attributes { set: mount::RDONLY, ..Attributes::default() };
    mount::set_attributes(clone.as_fd(), false, &attributes).step("make read-only", "the clone of /proc/self/exe")?;
    let args: Vec<CString> = entry::words().iter().map(|word| CString::from(*word)).collect();
    let pair = |(mut name, value): (OsString, OsString)| {
        name.push("=");
        name.push(value);
        c_string(name.into_vec())
    };
    let more = more.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    let env: Vec<CString> = std::env::vars_os().chain(more).map(pair).collect();
    let errno = process::exec_fd(clone.as_fd(), &StringList::new(args), &StringList::new(env));
    Err(Error::System { step: "execute", object: "the read-only clone of /proc/self/exe".to_owned(), errno })
}

//! The one descriptor of /proc through which everything of procfs is read and written.
//!
//! It is checked to be the root of a procfs, and every walk from it refuses links and other mounts (CVE-2025-52881 and its
//! ancestors: a container must never be able to put its own file where the runtime means procfs).

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::error::{Error, Result, Step, c_string};
use super::sys::{self, Errno, fs};

/// The inode of a procfs root (PROC_ROOT_INO).
const ROOT_INODE: u64 = 1;

pub(crate) struct Procfs {
    root: OwnedFd,
}

pub(crate) struct Stat {
    pub(crate) state: char,
    /// It has begun to end: nobody comes into its pid namespace any more.
    pub(crate) exiting: bool,
    pub(crate) start_ticks: u64,
}

impl Procfs {
    pub(crate) fn open() -> Result<Procfs> {
        let root =
            fs::open_host(c"/proc", libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW, 0).step("open", "/proc")?;
        let magic = fs::file_system(root.as_fd()).step("check", "/proc")?;
        let inode = fs::stat(root.as_fd()).step("check", "/proc")?.st_ino;
        if magic != fs::PROC_MAGIC || inode != ROOT_INODE {
            let errno = Errno(libc::EXDEV);
            return Err(Error::System { step: "check /proc is a whole procfs", object: String::new(), errno });
        }
        Ok(Procfs { root })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    pub(crate) fn read(&self, path: &str) -> sys::Result<String> {
        let file = fs::open(self.fd(), &c_string(path), libc::O_RDONLY, 0, fs::Walk::OneMount)?;
        read_all(file.as_fd())
    }

    /// One write(2), as the kernel wants its settings.
    pub(crate) fn write(&self, path: &str, content: &[u8]) -> sys::Result<()> {
        write_setting(self.fd(), &c_string(path), content)
    }

    /// State and start time of a process; none when there is none.
    pub(crate) fn stat(&self, pid: i32) -> sys::Result<Option<Stat>> {
        match self.read(&format!("{pid}/stat")) {
            // It may end while we look.
            Err(Errno(libc::ENOENT | libc::ESRCH)) => Ok(None),
            other => other.map(|text| parse_stat(&text)),
        }
    }
}

/// The rest of an open file.
pub(crate) fn read_all(file: BorrowedFd<'_>) -> sys::Result<String> {
    fs::read_all(file).map(text)
}

/// What is not UTF-8 is shown as such. Mostly there is nothing of it, and looking is cheaper than the standard library's way.
pub(crate) fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// Writes one file below a procfs or cgroup descriptor in a single write. Allocates nothing: the child uses it too.
pub(crate) fn write_setting(at: BorrowedFd<'_>, path: &CStr, content: &[u8]) -> sys::Result<()> {
    let file = fs::open(at, path, libc::O_WRONLY, 0, fs::Walk::OneMount)?;
    fs::write(file.as_fd(), content).map(drop)
}

/// The fields behind the name in parentheses, which may itself hold parentheses and spaces.
fn parse_stat(text: &str) -> Option<Stat> {
    let mut fields = text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let flags: u32 = fields.nth(5)?.parse().ok()?;
    let start_ticks = fields.nth(12)?.parse().ok()?;
    const PF_EXITING: u32 = 4;
    Some(Stat { state, exiting: flags & PF_EXITING != 0, start_ticks })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_of_a_hostile_name() {
        let line = "12 (a) R 1 (x)) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20";
        let stat = parse_stat(line).unwrap();
        assert_eq!((stat.state, stat.exiting, stat.start_ticks), ('S', true, 4242));
        assert!(parse_stat("12 (a").is_none());
    }

    #[test]
    fn links_and_magic_links_are_not_followed() {
        let proc = Procfs::open().unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(proc.stat(own).unwrap().unwrap().start_ticks > 0);
        assert!(proc.read("self/stat").is_err());
        assert!(proc.read(&format!("{own}/root/etc/passwd")).is_err());
        assert!(proc.read("../etc/passwd").is_err());
    }
}

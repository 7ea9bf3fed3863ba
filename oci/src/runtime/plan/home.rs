//! `HOME`, for programs whose environment lacks it: engines leave it to the runtime.

use std::os::fd::{AsFd, BorrowedFd};

use crate::runtime::procfs::read_all;
use crate::runtime::sys::fs::{self, Walk};

/// A passwd file that is larger is not read: it belongs to the image, and the image may be hostile.
const LIMIT_BYTES: i64 = 1 << 20;

/// `HOME=…` out of the container's own passwd file; `/` when it does not say. Nothing to add when there is one already.
pub(crate) fn missing_home(env: &[String], root: BorrowedFd<'_>, uid: u32) -> Option<String> {
    // The last one counts, and an empty one says nothing.
    if env.iter().rev().find_map(|one| one.strip_prefix("HOME=")).is_some_and(|home| !home.is_empty()) {
        return None;
    }
    let passwd = read(root).unwrap_or_default();
    Some(format!("HOME={}", find(&passwd, uid).unwrap_or("/")))
}

fn read(root: BorrowedFd<'_>) -> Option<String> {
    // Not blocking: the image may have put a fifo there.
    let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = fs::open(root, c"etc/passwd", flags, 0, Walk::InRoot).ok()?;
    let stat = fs::stat(file.as_fd()).ok()?;
    let plain = stat.st_mode & libc::S_IFMT == libc::S_IFREG && stat.st_size <= LIMIT_BYTES;
    if plain { read_all(file.as_fd()).ok() } else { None }
}

fn find(passwd: &str, uid: u32) -> Option<&str> {
    let wanted = uid.to_string();
    let mut homes = passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        (fields.nth(2)? == wanted).then(|| fields.nth(2)).flatten()
    });
    homes.next().filter(|home| home.starts_with('/') && !home.contains('\0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_home_of_a_user() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\n\nbroken:x\nweb:x:33:33::/var/www:\nodd:x:7:7::relative:\n";
        assert_eq!(find(passwd, 0), Some("/root"));
        assert_eq!(find(passwd, 33), Some("/var/www"));
        assert_eq!(find(passwd, 7), None);
        assert_eq!(find(passwd, 1), None);
    }
}

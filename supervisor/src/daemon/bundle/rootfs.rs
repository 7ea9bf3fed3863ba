//! Paths inside a container's root, resolved by the kernel as the container would see them: a link in an image cannot lead out.

use std::{
    io::{self, Read},
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2},
};

/// Longest /etc/passwd or /etc/group, in bytes.
const MAX_BYTES: u64 = 4 << 20;

/// Who renames without end keeps nobody from giving up.
const MAX_TRIES: u32 = 128;

pub(super) fn open(root: impl AsFd, path: &str, flags: OFlag) -> nix::Result<OwnedFd> {
    let relative = path.trim_start_matches('/');
    let relative = if relative.is_empty() { Path::new(".") } else { Path::new(relative) };
    let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let mut tries = 0;
    loop {
        match openat2(&root, relative, OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve)) {
            // openat2(2): something was renamed or mounted somewhere on the machine meanwhile; "the caller should retry".
            Err(Errno::EAGAIN) if tries < MAX_TRIES => tries += 1,
            result => return result,
        }
    }
}

/// A text file of the image; empty where there is none. A pipe or a device in its place is refused, not waited for.
pub(super) fn read(root: impl AsFd, path: &str) -> io::Result<String> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = match open(root, path, flags) {
        Ok(fd) => std::fs::File::from(fd),
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ENXIO) => return Ok(String::new()),
        Err(errno) => return Err(errno.into()),
    };
    let meta = file.metadata()?;
    if !meta.is_file() || meta.len() > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a file of reasonable size"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use nix::{sys::stat::Mode, unistd::mkfifo};

    use super::*;

    #[test]
    fn links_stay_inside_and_strange_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let outside = folder.path().join("secret");
        fs::write(&outside, "secret").unwrap();
        let root = folder.path().join("root");
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::write(root.join("etc/real"), "root:x:0:0").unwrap();
        symlink("/etc/real", root.join("etc/passwd")).unwrap();
        symlink("../../../../../../../secret", root.join("etc/group")).unwrap();
        symlink(&outside, root.join("etc/absolute")).unwrap();
        mkfifo(&root.join("etc/fifo"), Mode::S_IRUSR).unwrap();
        let root = fs::File::open(&root).unwrap();
        assert_eq!(read(&root, "etc/passwd").unwrap(), "root:x:0:0");
        assert_eq!(read(&root, "etc/group").unwrap(), "");
        assert_eq!(read(&root, "etc/absolute").unwrap(), "");
        assert_eq!(read(&root, "etc/missing").unwrap(), "");
        assert!(read(&root, "etc/fifo").is_err());
        assert!(read(&root, "etc").is_err());
    }
}

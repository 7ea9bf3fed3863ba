//! Folders' times, set last: every entry made in a folder changes them.
//!
//! They wait in a file beside the tree, so that a layer of half a million folders costs no memory.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd};

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fstat, futimens};
use nix::sys::time::TimeSpec;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::entry::Time;

const NAME: &str = "times";

pub(super) struct Times {
    spool: BufWriter<File>,
}

impl Times {
    pub(super) fn new(staging: BorrowedFd<'_>) -> io::Result<Self> {
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let file = openat(staging, NAME, flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
        unlinkat(staging, NAME, UnlinkatFlags::NoRemoveDir)?;
        Ok(Self { spool: BufWriter::new(file.into()) })
    }

    /// Remembers the time of a folder, by its path in the tree and its inode.
    pub(super) fn push(&mut self, path: &[u8], inode: u64, time: Time) -> io::Result<()> {
        let length = u32::try_from(path.len()).map_err(io::Error::other)?;
        self.spool.write_all(&inode.to_ne_bytes())?;
        self.spool.write_all(&time.seconds.to_ne_bytes())?;
        self.spool.write_all(&time.nanoseconds.to_ne_bytes())?;
        self.spool.write_all(&length.to_ne_bytes())?;
        self.spool.write_all(path)
    }

    /// Sets them all. `open` opens a path in the tree; one that is gone or is another folder by now is passed over.
    pub(super) fn apply<'a, F: AsFd>(self, open: impl Fn(&[u8]) -> nix::Result<F> + 'a) -> io::Result<()> {
        let mut file = self.spool.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        let mut spool = BufReader::new(file);
        loop {
            let mut inode = [0; 8];
            match spool.read_exact(&mut inode) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error),
            }
            let (mut seconds, mut nanoseconds, mut length) = ([0; 8], [0; 4], [0; 4]);
            spool.read_exact(&mut seconds)?;
            spool.read_exact(&mut nanoseconds)?;
            spool.read_exact(&mut length)?;
            let mut path = Vec::new();
            (&mut spool).take(u32::from_ne_bytes(length).into()).read_to_end(&mut path)?;
            let Ok(folder) = open(&path) else { continue };
            if fstat(&folder)?.st_ino != u64::from_ne_bytes(inode) {
                continue;
            }
            let time = Time { seconds: i64::from_ne_bytes(seconds), nanoseconds: u32::from_ne_bytes(nanoseconds) };
            futimens(&folder, &spec(time), &spec(time))?;
        }
    }
}

pub(super) fn spec(time: Time) -> TimeSpec {
    TimeSpec::new(time.seconds, time.nanoseconds.into())
}

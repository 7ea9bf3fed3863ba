//! What was taken out of a container's pipe and is not in its log yet: a file below /run, that is in memory, so that the death of
//! the supervisor at any instant loses no byte and writes none twice. Also the place where the unended part of a line waits.
//!
//! ```text
//! take    pipe ──splice──▶ spool       killed: the bytes are in the pipe or here
//! intend  head = the log's inode and length
//!         records ──append──▶ log      killed: the next supervisor cuts the log back to that length and appends the records again
//! commit  spool = the unended rest     one rename, or one truncation
//! ```
//! splice(2) looks at SIGKILL between the pieces it moves, never within one (`generic_perform_write` in the kernel's mm/filemap.c),
//! and a write of a few bytes is one such piece: neither is ever half done.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::{fd::AsFd, unix::fs::FileExt},
    path::{Path, PathBuf},
};

use nix::fcntl::{SpliceFFlags, splice};

const HEAD_BYTES: u64 = 16;

/// A log file as it was before records were appended.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) inode: u64,
    pub(super) length: u64,
}

#[derive(Debug)]
pub(super) struct Spool {
    path: PathBuf,
    file: File,
    end: u64,
}

impl Spool {
    /// Goes on with what an earlier supervisor left under this path.
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
        let end = file.metadata()?.len().max(HEAD_BYTES);
        Ok(Self { path, file, end })
    }

    /// Moves bytes out of the pipe: how many; 0 at its end.
    pub(super) fn take(&mut self, pipe: impl AsFd, max: usize) -> nix::Result<usize> {
        let mut at = self.end.cast_signed();
        let n = splice(pipe, None, &self.file, Some(&mut at), max, SpliceFFlags::SPLICE_F_NONBLOCK)?;
        self.end += n as u64;
        Ok(n)
    }

    /// Everything that is in no log yet.
    pub(super) fn read(&mut self, into: &mut Vec<u8>) -> io::Result<()> {
        into.clear();
        self.file.seek(SeekFrom::Start(HEAD_BYTES))?;
        self.file.read_to_end(into)?;
        Ok(())
    }

    /// From here to the commit, the log is as it was at the mark, or longer. The empty mark takes the word back.
    pub(super) fn intend(&self, mark: Mark) -> io::Result<()> {
        let head = [mark.inode, mark.length].map(u64::to_ne_bytes);
        self.file.write_all_at(head.as_flattened(), 0)
    }

    /// What an earlier supervisor was about to append when it died, if it was.
    pub(super) fn intended(&self) -> Option<Mark> {
        let mut head = [[0; 8]; 2];
        self.file.read_exact_at(head.as_flattened_mut(), 0).ok()?;
        let [inode, length] = head.map(u64::from_ne_bytes);
        (inode != 0).then_some(Mark { inode, length })
    }

    /// All is in the log but this.
    pub(super) fn commit(&mut self, rest: &[u8]) -> io::Result<()> {
        if rest.is_empty() {
            self.file.set_len(0)?;
            self.end = HEAD_BYTES;
            return Ok(());
        }
        // A name that no pipe has.
        let unfinished = self.path.with_extension("new");
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&unfinished)?;
        file.seek(SeekFrom::Start(HEAD_BYTES))?;
        file.write_all(rest)?;
        fs::rename(&unfinished, &self.path)?;
        self.file = file;
        self.end = HEAD_BYTES + rest.len() as u64;
        Ok(())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn remove(&self) {
        if let Err(error) = fs::remove_file(&self.path) {
            log::warn!("{}: {error}", self.path.display());
        }
    }
}

/// The spools an earlier supervisor left.
pub(super) fn left(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension != "new")).collect()
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;

    fn bytes(spool: &mut Spool) -> Vec<u8> {
        let mut all = Vec::new();
        spool.read(&mut all).unwrap();
        all
    }

    #[test]
    fn bytes_move_once_and_the_rest_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web:out.1");
        let (pipe, mut writer) = io::pipe().unwrap();
        let pipe: OwnedFd = pipe.into();
        let mut spool = Spool::open(path.clone()).unwrap();
        assert_eq!(spool.take(&pipe, 100), Err(nix::errno::Errno::EAGAIN));
        writer.write_all(b"one\nhal").unwrap();
        assert_eq!(spool.take(&pipe, 100), Ok(7));
        assert_eq!((bytes(&mut spool), spool.intended()), (b"one\nhal".to_vec(), None));
        let mark = Mark { inode: 7, length: 100 };
        spool.intend(mark).unwrap();
        // Killed here.
        let mut spool = Spool::open(path.clone()).unwrap();
        assert_eq!((bytes(&mut spool), spool.intended()), (b"one\nhal".to_vec(), Some(mark)));
        spool.commit(b"hal").unwrap();
        assert_eq!(spool.intended(), None);
        writer.write_all(b"f\n").unwrap();
        drop(writer);
        assert_eq!((spool.take(&pipe, 100), spool.take(&pipe, 100)), (Ok(2), Ok(0)));
        let mut spool = Spool::open(path.clone()).unwrap();
        assert_eq!(bytes(&mut spool), b"half\n");
        spool.commit(b"").unwrap();
        assert_eq!(bytes(&mut Spool::open(path).unwrap()), b"");
        assert_eq!(left(folder.path()).len(), 1);
        spool.remove();
        assert!(left(folder.path()).is_empty());
    }
}

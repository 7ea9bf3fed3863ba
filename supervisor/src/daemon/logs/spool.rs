//! What was taken out of a container's pipe and is not in its log yet: a file below /run, that is in memory, so that the death of
//! the supervisor at any instant loses no byte and writes none twice. Also the place where the unended part of a line waits, and
//! all there is room for while the disk stands still.
//!
//! ```text
//! take    pipe ──splice──▶ spool       killed: the bytes are in the pipe or here
//! intend  head = the log's inode and length
//!         records ──append──▶ log      killed: the next supervisor cuts the log back to that length and appends the records again
//! commit  head = where the rest begins one write, or one truncation
//! lose    head = how many lines found no room, until a commit says that the log tells of them
//! rest    the number, where lines have some, beside the file; then it is truncated: an empty spool takes no page of /run
//! ```
//! splice(2) and write(2) look at SIGKILL between the pages they move, never within one (`generic_perform_write` in the kernel's
//! mm/filemap.c): a head is never half written, a line may be, see `open_lines`.
//!
//! One thread appends at the end while another reads from the start: they share no more than where the end is.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io,
    os::{fd::AsFd, unix::fs::FileExt},
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use nix::{
    fcntl::{FallocateFlags, SpliceFFlags, fallocate, splice},
    sys::{
        memfd::{MFdFlags, memfd_create},
        statfs::{TMPFS_MAGIC, fstatfs},
    },
};

use crate::daemon::{clock, sys};

const HEAD_BYTES: u64 = 32;
const PAGE_BYTES: u64 = 4096;
/// What one spool holds at most, in bytes.
pub(super) const MAX_BYTES: u64 = 256 << 10;
/// What each one may hold when all together, and what else lies in that memory, fill half of it: the units' records need the rest.
const SURE_BYTES: u64 = 16 << 10;
/// Of the last word of the head; the others are how many lines are lost.
const NUMBER_BITS: u32 = 36;
/// Times of arrival that are told apart while the disk stands still.
const MAX_ARRIVALS: usize = 64;

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
    max_bytes: u64,
    /// Its lines have numbers, which only rise.
    numbered: bool,
    /// Moved by the reading thread alone.
    start: AtomicU64,
    tail: Mutex<Tail>,
}

#[derive(Debug)]
struct Tail {
    end: u64,
    /// Up to where it had come when, in µs since 1970.
    arrivals: VecDeque<(u64, i64)>,
    number: u64,
    /// Lines that are in no log, of which none tells yet; they came behind this place.
    lost: u64,
    lost_at: u64,
}

impl Spool {
    /// Goes on with what an earlier supervisor left under this path. Where /run takes no file it lies in memory alone.
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        Self::with_room(path, MAX_BYTES)
    }

    pub(super) fn with_room(path: PathBuf, max_bytes: u64) -> io::Result<Self> {
        Self::with(path, max_bytes, false)
    }

    fn with(path: PathBuf, max_bytes: u64, numbered: bool) -> io::Result<Self> {
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = opened.or_else(|error| {
            log::error!("{}: {error}", path.display());
            memfd_create(c"spool", MFdFlags::MFD_CLOEXEC).map(File::from)
        })?;
        Self::of(path, file, max_bytes, numbered)
    }

    /// What an earlier supervisor left, or nothing.
    pub(super) fn left_at(path: PathBuf) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        Self::of(path, file, MAX_BYTES, false)
    }

    fn of(path: PathBuf, file: File, max_bytes: u64, numbered: bool) -> io::Result<Self> {
        let [.., start, word] = head(&file);
        let start = start.max(HEAD_BYTES);
        let end = file.metadata()?.len().max(start);
        let (mut number, lost) = (word & !(u64::MAX << NUMBER_BITS), word >> NUMBER_BITS);
        if numbered {
            number = number.max(sys::number(file.as_fd()).unwrap_or(0));
        }
        let tail = Tail { end, arrivals: VecDeque::new(), number, lost, lost_at: end };
        Ok(Self { path, file, max_bytes, numbered, start: AtomicU64::new(start), tail: Mutex::new(tail) })
    }

    /// For lines that are written by us, one in one go. Half a line is one that the writer's death cut, of which nobody knows that it
    /// was told.
    pub(super) fn open_lines(path: PathBuf) -> io::Result<Self> {
        let spool = Self::with(path, MAX_BYTES, true)?;
        let mut bytes = Vec::new();
        spool.read(&mut bytes)?;
        let half = bytes.iter().rev().take_while(|byte| **byte != b'\n').count();
        if half > 0 {
            spool.cut(spool.end() - half as u64)?;
        }
        Ok(spool)
    }

    fn tail(&self) -> MutexGuard<'_, Tail> {
        // All fields are right at any moment, whoever panicked.
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self) -> u64 {
        self.start.load(Ordering::Relaxed)
    }

    fn room(&self, tail: &Tail) -> u64 {
        let length = tail.end - self.start();
        let room = self.max_bytes.saturating_sub(length);
        match fstatfs(&self.file) {
            // Without a size it has no bound either.
            Ok(memory) if memory.filesystem_type() == TMPFS_MAGIC && memory.blocks() > 0 => {
                let (free, all) = (memory.blocks_free(), memory.blocks());
                let sure = if free < all / 2 { SURE_BYTES.saturating_sub(length) } else { u64::MAX };
                room.min(sure).min(free.saturating_mul(u64::try_from(memory.block_size()).unwrap_or(0)))
            }
            _ => room,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.length() == 0
    }

    pub(super) fn end(&self) -> u64 {
        self.tail().end
    }

    /// Takes back what was appended after this end.
    pub(super) fn cut(&self, end: u64) -> io::Result<()> {
        let mut tail = self.tail();
        tail.end = tail.end.min(end.max(self.start()));
        self.file.set_len(tail.end)
    }

    pub(super) fn has_room(&self) -> bool {
        self.has_room_for(1)
    }

    pub(super) fn has_room_for(&self, bytes: usize) -> bool {
        self.room(&self.tail()) >= bytes as u64
    }

    /// Moves bytes out of the pipe: how many; 0 at its end, ENOSPC without room.
    pub(super) fn take(&self, pipe: impl AsFd, max: usize) -> nix::Result<usize> {
        let mut tail = self.tail();
        let room = usize::try_from(self.room(&tail)).unwrap_or(0);
        if room == 0 {
            return Err(nix::errno::Errno::ENOSPC);
        }
        let mut at = tail.end.cast_signed();
        let n = splice(pipe, None, &self.file, Some(&mut at), max.min(room), SpliceFFlags::SPLICE_F_NONBLOCK)?;
        tail.grow(n);
        Ok(n)
    }

    /// Appends all of it, or nothing: false.
    pub(super) fn append(&self, bytes: &[u8]) -> bool {
        let mut tail = self.tail();
        let fits = self.room(&tail) >= bytes.len() as u64 && self.file.write_all_at(bytes, tail.end).is_ok();
        if fits {
            tail.grow(bytes.len());
        }
        fits
    }

    /// Ends a line that will not go on, in whatever room there is. Whether there was one.
    pub(super) fn end_line(&self) -> bool {
        let mut tail = self.tail();
        let mut last = *b"\n";
        if tail.end > self.start() && self.file.read_exact_at(&mut last, tail.end - 1).is_ok() && last != *b"\n" {
            let end = tail.end;
            if self.file.write_all_at(b"\n", end).is_ok() {
                tail.grow(1);
            }
            return true;
        }
        false
    }

    /// Everything that is in no log yet.
    pub(super) fn read(&self, into: &mut Vec<u8>) -> io::Result<()> {
        self.read_some(into, u64::MAX).map(drop)
    }

    /// The first so many bytes of it. Whether that is all.
    pub(super) fn read_some(&self, into: &mut Vec<u8>, most: u64) -> io::Result<bool> {
        let length = self.length();
        into.resize(usize::try_from(length.min(most)).unwrap_or(0), 0);
        self.file.read_exact_at(into, self.start())?;
        Ok(length <= most)
    }

    /// Of what is in no log yet, in bytes.
    pub(super) fn length(&self) -> u64 {
        self.tail().end - self.start()
    }

    /// When the byte so far behind the start came, in µs since 1970.
    pub(super) fn arrived(&self, offset: usize) -> i64 {
        let at = self.start() + offset as u64;
        let found = self.tail().arrivals.iter().find(|(end, _)| *end > at).map(|(_, time)| *time);
        found.unwrap_or_else(clock::wall_us)
    }

    /// From here to the commit, the log is as it was at the mark, or longer. The empty mark takes the word back.
    pub(super) fn intend(&self, mark: Mark) -> io::Result<()> {
        let head = [mark.inode, mark.length].map(u64::to_ne_bytes);
        self.file.write_all_at(head.as_flattened(), 0)
    }

    /// What an earlier supervisor was about to append when it died, if it was.
    pub(super) fn intended(&self) -> Option<Mark> {
        let [inode, length, ..] = head(&self.file);
        (inode != 0).then_some(Mark { inode, length })
    }

    /// The number that the last commit left here; 0 without one.
    pub(super) fn number(&self) -> u64 {
        self.tail().number
    }

    /// So many lines more found no room.
    pub(super) fn lose(&self, lines: u64) {
        if lines == 0 {
            return;
        }
        let mut tail = self.tail();
        let lost = tail.lost + lines;
        self.set_lost(&mut tail, lost);
    }

    /// No more than so many are lost: others will be counted again.
    pub(super) fn find(&self, lost: u64) {
        self.set_lost(&mut self.tail(), lost);
    }

    fn set_lost(&self, tail: &mut Tail, lost: u64) {
        tail.lost = lost;
        tail.lost_at = tail.end;
        if let Err(error) = self.file.write_all_at(&tail.word().to_ne_bytes(), HEAD_BYTES - 8) {
            log::error!("{}: {error}", self.path.display());
        }
    }

    /// Lines of which the log does not tell yet.
    pub(super) fn lost(&self) -> u64 {
        self.tail().lost
    }

    /// Those that came before all that is here.
    pub(super) fn lost_here(&self) -> u64 {
        let tail = self.tail();
        if self.start() >= tail.lost_at { tail.lost } else { 0 }
    }

    /// So many bytes more are in the log, and all before this number; so many lines more are lost, or told of.
    pub(super) fn commit(&self, length: usize, number: u64, lost: i64) -> io::Result<()> {
        let mut tail = self.tail();
        let start = self.start() + length as u64;
        if tail.lost == 0 {
            tail.lost_at = start;
        }
        (tail.number, tail.lost) = (number, tail.lost.saturating_add_signed(lost));
        // Where the number cannot be kept so it stays in the head.
        let is_kept = || number == 0 || self.numbered && sys::set_number(self.file.as_fd(), number).is_ok();
        if start == tail.end && tail.lost == 0 && is_kept() {
            self.file.set_len(0)?;
            *tail = Tail { end: HEAD_BYTES, arrivals: VecDeque::new(), number, lost: 0, lost_at: HEAD_BYTES };
            self.start.store(HEAD_BYTES, Ordering::Relaxed);
            return Ok(());
        }
        let head = [0, 0, start, tail.word()].map(u64::to_ne_bytes);
        self.file.write_all_at(head.as_flattened(), 0)?;
        let before = self.start.swap(start, Ordering::Relaxed);
        tail.arrivals.retain(|(end, _)| *end > start);
        // Whole pages behind us are memory that nobody needs.
        let (from, to) = (before.max(PAGE_BYTES) / PAGE_BYTES * PAGE_BYTES, start / PAGE_BYTES * PAGE_BYTES);
        if to > from {
            let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
            fallocate(&self.file, flags, from.cast_signed(), (to - from).cast_signed())?;
        }
        Ok(())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn remove(&self) {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                log::warn!("{}: {error}", self.path.display());
            }
            _ => {}
        }
    }
}

impl Tail {
    fn word(&self) -> u64 {
        self.number.min(!(u64::MAX << NUMBER_BITS)) | self.lost.min(u64::MAX >> NUMBER_BITS) << NUMBER_BITS
    }

    fn grow(&mut self, length: usize) {
        self.end += length as u64;
        if length == 0 {
            return;
        }
        if self.arrivals.len() < MAX_ARRIVALS {
            self.arrivals.push_back((self.end, clock::wall_us()));
        } else if let Some((end, _)) = self.arrivals.back_mut() {
            *end = self.end;
        }
    }
}

/// Inode and length of the mark, start, number and lost lines.
fn head(file: &File) -> [u64; 4] {
    let mut head = [[0; 8]; 4];
    // A file that is shorter has none yet.
    let _ = file.read_at(head.as_flattened_mut(), 0);
    head.map(u64::from_ne_bytes)
}

/// The spools an earlier supervisor left.
pub(super) fn left(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use std::{io::Write, os::fd::OwnedFd};

    use nix::errno::Errno;

    use super::*;

    fn bytes(spool: &Spool) -> Vec<u8> {
        let mut all = Vec::new();
        spool.read(&mut all).unwrap();
        all
    }

    #[test]
    fn bytes_move_once_and_the_rest_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web:stdout.1");
        let (pipe, mut writer) = io::pipe().unwrap();
        let pipe: OwnedFd = pipe.into();
        let spool = Spool::open(path.clone()).unwrap();
        assert_eq!(spool.take(&pipe, 100), Err(Errno::EAGAIN));
        writer.write_all(b"one\nhal").unwrap();
        assert_eq!(spool.take(&pipe, 100), Ok(7));
        assert_eq!((bytes(&spool), spool.intended()), (b"one\nhal".to_vec(), None));
        let mark = Mark { inode: 7, length: 100 };
        spool.intend(mark).unwrap();
        // Killed here.
        let spool = Spool::open(path.clone()).unwrap();
        assert_eq!((bytes(&spool), spool.intended()), (b"one\nhal".to_vec(), Some(mark)));
        spool.commit(4, 0, 0).unwrap();
        assert_eq!(spool.intended(), None);
        writer.write_all(b"f\n").unwrap();
        drop(writer);
        assert_eq!((spool.take(&pipe, 100), spool.take(&pipe, 100)), (Ok(2), Ok(0)));
        let spool = Spool::open(path.clone()).unwrap();
        assert_eq!(bytes(&spool), b"half\n");
        spool.commit(5, 0, 0).unwrap();
        assert_eq!(bytes(&Spool::open(path).unwrap()), b"");
        assert_eq!(left(folder.path()).len(), 1);
        spool.remove();
        assert!(left(folder.path()).is_empty());
    }

    #[test]
    fn a_spool_is_bounded_and_gives_back_what_is_logged() {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let path = folder.path().join("web:stdout.1");
        let spool = Spool::open(path.clone()).unwrap();
        let line = [b'x'; 1000];
        for round in 0..3000 {
            assert!(spool.append(&line));
            // Something is always left, and the number is kept with it.
            spool.commit(if round == 0 { 999 } else { 1000 }, round + 1, 0).unwrap();
        }
        assert_eq!((bytes(&spool), spool.number()), (b"x".to_vec(), 3000));
        use std::os::unix::fs::MetadataExt;
        assert!(fs::metadata(&path).unwrap().blocks() * 512 <= 4 * PAGE_BYTES);
        while spool.append(&line) {}
        assert!(bytes(&spool).len() as u64 > MAX_BYTES - 1000 && !spool.append(&line));
        spool.end_line();
        let spool = Spool::open(path).unwrap();
        assert!(bytes(&spool).ends_with(b"x\n") && spool.number() == 3000);
        // What is lost is behind what is here, and not forgotten.
        spool.lose(7);
        assert_eq!((spool.lost(), spool.lost_here()), (7, 0));
        let spool = Spool::open(spool.path().into()).unwrap();
        assert_eq!((spool.lost(), spool.lost_here(), spool.number()), (7, 0, 3000));
        spool.commit(bytes(&spool).len(), 3000, 2).unwrap();
        assert_eq!((spool.lost(), spool.lost_here(), spool.number()), (9, 9, 3000));
        spool.commit(0, 0, -9).unwrap();
        assert_eq!(spool.file.metadata().unwrap().len(), 0);
    }

    #[test]
    fn half_a_line_is_told_again_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web:orlop.0");
        let spool = Spool::open_lines(path.clone()).unwrap();
        assert!(spool.append(b"8 1 1 one\n8 1 2 two\n"));
        spool.commit(10, 1, 0).unwrap();
        // Killed within the next line.
        assert!(spool.append(b"8 1 3 thr"));
        let spool = Spool::open_lines(path.clone()).unwrap();
        assert!(spool.append(b"8 1 3 three\n"));
        assert_eq!(bytes(&spool), b"8 1 2 two\n8 1 3 three\n");
        spool.commit(22, 3, 0).unwrap();
        assert!(spool.append(b"8 1"));
        let spool = Spool::open_lines(path).unwrap();
        assert_eq!((bytes(&spool), spool.number()), (Vec::new(), 3));
    }

    #[test]
    fn a_number_is_kept_without_a_page() {
        use std::os::unix::fs::MetadataExt;
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let path = folder.path().join("web:orlop.0");
        let pages = || fs::metadata(&path).unwrap().blocks();
        let spool = Spool::open_lines(path.clone()).unwrap();
        for number in 1..4 {
            assert!(spool.append(b"8 1 1 one\n") && pages() > 0);
            spool.intend(Mark { inode: 7, length: 100 }).unwrap();
            spool.commit(10, number, 0).unwrap();
            let again = Spool::open_lines(path.clone()).unwrap();
            assert_eq!((pages(), again.number(), again.intended(), bytes(&again)), (0, number, None, Vec::new()));
        }
        // A pipe's number is of lines that are to be told of, and goes back.
        let spool = Spool::open(folder.path().join("web:stdout.1")).unwrap();
        for number in [5, 0] {
            spool.commit(0, number, 0).unwrap();
            assert_eq!(Spool::open(spool.path().into()).unwrap().number(), number);
        }
    }

    #[test]
    fn every_byte_has_the_time_of_its_arrival() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(folder.path().join("web:stdout.1")).unwrap();
        let before = clock::wall_us();
        for _ in 0..2 * MAX_ARRIVALS {
            assert!(spool.append(b"x\n"));
        }
        let times: Vec<i64> = (0..4 * MAX_ARRIVALS).map(|offset| spool.arrived(offset)).collect();
        assert!(times.is_sorted() && times[0] >= before && *times.last().unwrap() <= clock::wall_us());
        spool.commit(2, 0, 0).unwrap();
        assert_eq!(spool.arrived(0), times[2]);
    }
}

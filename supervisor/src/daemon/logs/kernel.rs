//! The kernel's messages and, among them, PID 1's: /dev/kmsg (Documentation/ABI/testing/dev-kmsg in the kernel), read on from where
//! an earlier supervisor stopped.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    os::{fd::AsFd, fd::BorrowedFd, unix::fs::OpenOptionsExt},
    path::Path,
    sync::Arc,
};

use super::{
    caps::Caps,
    source::{INIT, KERNEL, Owner, Queue, Source, Work, seen, spool_path, tagged},
    spool::Spool,
};
use crate::daemon::clock;

/// PID 1 begins its lines so.
const INIT_TAG: &str = "orlop: ";
/// The kernel's own bound for one record (PRINTK_MESSAGE_MAX) is 2 KiB.
const MAX_RECORD_BYTES: usize = 8 << 10;
/// For its tag, and for the word about those that were overwritten before it.
const EXTRA_BYTES: usize = 256;

pub(super) struct Kernel {
    device: File,
    kernel: Arc<Source>,
    init: Arc<Source>,
    /// The number of the next record that is not kept yet.
    next: u64,
}

/// What reading came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// No more for now.
    Nothing,
    /// A spool is full.
    Full,
    /// There is nothing to be had from this device.
    Broken,
}

impl Kernel {
    pub(super) fn open(device: &Path, spools: &Path) -> io::Result<Self> {
        let device = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(device)?;
        let source = |name: &'static str| {
            let owner = Owner::pseudo(name);
            let spool = Spool::open_lines(spool_path(spools, &owner, "log", 0))?;
            io::Result::Ok(Arc::new(Source::new(owner, None, Caps::of_the_machine(), spool, None)))
        };
        let (kernel, init) = (source(KERNEL)?, source(INIT)?);
        let next = seen(&kernel.spool).max(seen(&init.spool));
        Ok(Self { device, kernel, init, next })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }

    pub(super) fn sources(&self) -> [&Arc<Source>; 2] {
        [&self.kernel, &self.init]
    }

    pub(super) fn has_room(&self) -> bool {
        self.sources().iter().all(|source| source.spool.has_room_for(MAX_RECORD_BYTES + EXTRA_BYTES))
    }

    /// Moves what there is into the spools. What finds no room is read again later, as long as the kernel keeps it.
    pub(super) fn read(&mut self, queue: &Queue) -> Taken {
        let mut buffer = [0; MAX_RECORD_BYTES];
        loop {
            if !self.has_room() {
                return Taken::Full;
            }
            match self.device.read(&mut buffer) {
                Ok(0) => return Taken::Broken,
                Ok(n) => self.keep(&buffer[..n], queue),
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => return Taken::Nothing,
                    // Records were overwritten before they were read; the next one's number tells how many. Or one was too long.
                    Some(libc::EPIPE | libc::EINTR | libc::EINVAL) => {}
                    _ => {
                        log::error!("/dev/kmsg: {error}");
                        return Taken::Broken;
                    }
                },
            }
        }
    }

    fn keep(&mut self, record: &[u8], queue: &Queue) {
        let Some(Record { level, number, since_boot_us, text }) = parse(record) else { return };
        if number < self.next {
            return;
        }
        // The kernel counts from its start, people do not.
        let up = i64::try_from(clock::monotonic().as_micros()).unwrap_or(0);
        let time = clock::wall_us().saturating_sub(up).saturating_add(since_boot_us).max(0);
        if number > self.next && self.next > 0 {
            let lost = format!("{} messages of the kernel were overwritten before they were kept", number - self.next);
            append(&self.kernel, &tagged(4, time, number, &lost));
        }
        self.next = number + 1;
        let (source, text) = match text.strip_prefix(INIT_TAG) {
            Some(text) => (&self.init, text),
            None => (&self.kernel, text),
        };
        append(source, &tagged(level, time, self.next, text));
        queue.push(Work::Some(Arc::clone(source)));
    }
}

/// There was room before it was read, but it is not ours alone.
fn append(source: &Source, line: &str) {
    if !source.spool.append(line.as_bytes()) {
        source.spool.lose(1);
    }
}

struct Record<'a> {
    level: u8,
    number: u64,
    since_boot_us: i64,
    text: &'a str,
}

/// `priority,sequence,microseconds,flags;text` and, on lines of their own, properties that only programs want.
fn parse(record: &[u8]) -> Option<Record<'_>> {
    let (head, text) = std::str::from_utf8(record).ok()?.split_once(';')?;
    let mut fields = head.split(',');
    // Facility and level.
    let level = u8::try_from(fields.next()?.parse::<u32>().ok()? & 7).ok()?;
    let (number, since_boot_us) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(Record { level, number, since_boot_us, text: text.lines().next()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(source: &Source) -> String {
        let mut bytes = Vec::new();
        source.spool.read(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn the_kernel_and_pid_1_are_told_apart_and_nothing_is_kept_twice() {
        let folder = tempfile::tempdir().unwrap();
        let queue = Queue::default();
        let feed = |kernel: &mut Kernel, records: &[&str]| {
            for record in records {
                kernel.keep(record.as_bytes(), &queue);
            }
        };
        let open = || Kernel::open(Path::new("/dev/null"), folder.path()).unwrap();
        let first = ["6,0,5,-;Linux version 6.12", "30,1,90,-;orlop: root: erofs\n SUBSYSTEM=x", "nonsense"];
        let mut kernel = open();
        feed(&mut kernel, &first);
        // The supervisor dies; the device begins again with its oldest record.
        let mut kernel = open();
        feed(&mut kernel, &first);
        feed(&mut kernel, &["3,2,100,-;XFS (vda): bad \\x1b magic", "6,7,200,-;later"]);
        let messages = |source: &Source| {
            let text = text(source);
            let messages: Vec<String> = text
                .lines()
                .map(|line| {
                    let (level, _, _, text) = super::super::source::untag(line.as_bytes()).unwrap();
                    format!("{} {}", level.word(), String::from_utf8_lossy(text))
                })
                .collect();
            messages
        };
        let lost = "warning 4 messages of the kernel were overwritten before they were kept";
        let expected = ["info Linux version 6.12", "err XFS (vda): bad \\x1b magic", lost, "info later"];
        assert_eq!(messages(&kernel.kernel), expected);
        assert_eq!(messages(&kernel.init), ["info root: erofs"]);
        // All of it goes into the log, and the number stays.
        let length = text(&kernel.kernel).len();
        kernel.kernel.spool.commit(length, 8, 0).unwrap();
        assert_eq!(open().next, 8);
    }

    #[test]
    fn what_may_find_too_little_room_is_not_read_and_what_does_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let mut kernel = Kernel::open(Path::new("/dev/null"), folder.path()).unwrap();
        while kernel.has_room() {
            assert!(kernel.kernel.spool.append(&[b'x'; 1000]));
        }
        while kernel.kernel.spool.append(&[b'x'; 1000]) {}
        let record = format!("3,0,5,-;{}", "y".repeat(1500));
        kernel.keep(record.as_bytes(), &Queue::default());
        assert_eq!((kernel.next, kernel.kernel.spool.lost()), (1, 1));
    }
}

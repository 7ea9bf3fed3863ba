//! What both threads of the logs share: the sources of records, and the work that one hands to the other.

use std::{
    collections::VecDeque,
    fmt, mem,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

use super::{Stream, caps::Caps, spool::Spool};
use crate::{
    daemon::clock,
    unit::{Options, UnitName},
};

/// Whose log it is: a unit's, or one of those that the machine itself has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Owner(Arc<str>);

pub(crate) const KERNEL: &str = "@kernel";
pub(crate) const INIT: &str = "@init";
pub(crate) const SUPERVISOR: &str = "@supervisor";
pub(crate) const PSEUDO: [&str; 3] = [KERNEL, INIT, SUPERVISOR];

impl Owner {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if PSEUDO.contains(&text) {
            return Ok(Self(text.into()));
        }
        if text.starts_with('@') {
            return Err(format!("{text}: there is no such log; the machine's own are {}", PSEUDO.join(", ")));
        }
        UnitName::parse(text).map(|unit| Self::from(&unit)).map_err(|error| format!("{text}: {error}"))
    }

    pub(super) fn pseudo(name: &'static str) -> Self {
        Self(name.into())
    }

    /// The kernel's, PID 1's or the supervisor's: no unit can be called so.
    pub(crate) fn is_pseudo(&self) -> bool {
        self.0.starts_with('@')
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&UnitName> for Owner {
    fn from(unit: &UnitName) -> Self {
        Self(unit.as_str().into())
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

pub(super) type Done = Box<dyn FnOnce() + Send>;

/// One stream of bytes on its way to a log.
pub(super) struct Source {
    pub(super) owner: Owner,
    /// `None`: every line says itself, see `tagged`.
    pub(super) stream: Option<Stream>,
    pub(super) caps: Caps,
    pub(super) spool: Spool,
    /// Lies in the queue.
    queued: AtomicBool,
    /// Its last work does, or did.
    last: AtomicBool,
    /// Whoever fills it waits for room.
    pub(super) waits: AtomicBool,
    done: Mutex<Option<Done>>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("owner", &self.owner).field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl Source {
    pub(super) fn new(owner: Owner, stream: Option<Stream>, caps: Caps, spool: Spool, done: Option<Done>) -> Self {
        let no = || AtomicBool::new(false);
        Self { owner, stream, caps, spool, queued: no(), last: no(), waits: no(), done: Mutex::new(done) }
    }

    pub(super) fn is_last(&self) -> bool {
        self.last.load(Ordering::Acquire)
    }

    /// Remarks about a unit: what bounds its log is told by its pipes.
    pub(super) fn is_remarks(&self) -> bool {
        self.stream.is_none() && !self.owner.is_pseudo()
    }

    /// All of it is in the log.
    pub(super) fn end(&self) {
        self.spool.remove();
        self.finish();
    }

    /// Nothing of it will be in the log that is not there yet, but for how much that was.
    pub(super) fn finish(&self) {
        if let Some(done) = self.done.lock().unwrap_or_else(PoisonError::into_inner).take() {
            done();
        }
    }
}

/// `web:stdout.3`: an own name for every pipe, from which its unit can be read.
pub(super) fn spool_path(folder: &Path, owner: &Owner, word: &str, attempt: u64) -> PathBuf {
    folder.join(format!("{owner}:{word}.{attempt}"))
}

pub(super) fn owner_and_stream(path: &Path) -> Option<(Owner, Option<Stream>)> {
    let (owner, rest) = path.file_name()?.to_str()?.rsplit_once(':')?;
    let word = rest.split_once('.')?.0;
    let stream = [Stream::Out, Stream::Err].into_iter().find(|stream| stream.word() == word);
    Some((Owner::parse(owner).ok()?, stream))
}

/// In the place of a level: a remark about a unit.
pub(super) const REMARK: u8 = 8;

/// A line that says of itself what it is: `6 1700000000000000 339 text`, level, time, number.
pub(super) fn tagged(level: u8, time_us: i64, number: u64, text: &str) -> String {
    format!("{level} {time_us} {number} {text}\n")
}

pub(super) fn untag(line: &[u8]) -> Option<(Stream, i64, u64, &[u8])> {
    let mut words = line.splitn(4, |byte| *byte == b' ');
    let mut number = || std::str::from_utf8(words.next()?).ok()?.parse::<u64>().ok();
    let (level, time, count) = (number()?, number()?, number()?);
    let level = u8::try_from(level).ok()?;
    let stream = if level == REMARK { Stream::Orlop } else { Stream::Level(level & 7) };
    Some((stream, i64::try_from(time).ok()?, count, words.next()?))
}

/// The number behind the last tagged line that is in the log or in the spool.
pub(super) fn seen(spool: &Spool) -> u64 {
    let mut bytes = Vec::new();
    let _ = spool.read(&mut bytes);
    let numbers = bytes.split(|byte| *byte == b'\n').filter_map(untag).map(|(_, _, number, _)| number);
    numbers.chain([spool.number()]).max().unwrap_or(0)
}

pub(super) enum Work {
    /// Something lies in its spool.
    Some(Arc<Source>),
    /// The last of it does.
    Last(Arc<Source>),
    /// Nothing more comes for this log, for now.
    Gone(Owner),
    /// Answer when all before this is done.
    Flush(mpsc::Sender<()>),
    /// What the machine is told of all logs.
    Options(Options),
}

impl Work {
    fn popped(&self) {
        if let Self::Some(source) = self {
            source.queued.store(false, Ordering::Release);
        }
    }
}

/// Work for the thread that writes. A source lies here once at most.
#[derive(Default)]
pub(super) struct Queue {
    work: Mutex<VecDeque<Work>>,
    bell: Condvar,
    /// Since when the thread that writes is at its present work, on the monotonic clock; 0 when it waits for some.
    busy_since_ms: AtomicU64,
}

impl Queue {
    fn work(&self) -> MutexGuard<'_, VecDeque<Work>> {
        // A queue is whole at any moment, whoever panicked.
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, work: Work) {
        match &work {
            Work::Some(source) if source.queued.swap(true, Ordering::AcqRel) => return,
            Work::Last(source) => source.last.store(true, Ordering::Release),
            _ => {}
        }
        self.work().push_back(work);
        self.bell.notify_one();
    }

    /// `None`: there was none for so long.
    pub(super) fn pop(&self, patience: Duration) -> Option<Work> {
        self.busy_since_ms.store(0, Ordering::Relaxed);
        let wait = self.bell.wait_timeout_while(self.work(), patience, |queue| queue.is_empty());
        let work = wait.unwrap_or_else(PoisonError::into_inner).0.pop_front().inspect(Work::popped);
        let now_ms = u64::try_from(clock::monotonic().as_millis()).unwrap_or(u64::MAX);
        self.busy_since_ms.store(now_ms.max(1), Ordering::Relaxed);
        work
    }

    /// The machine's options, before all other work. `None`: there were none for so long.
    pub(super) fn pop_options(&self, patience: Duration) -> Option<Work> {
        let is_it = |work: &Work| matches!(work, Work::Options(_));
        let none = |queue: &mut VecDeque<Work>| !queue.iter().any(is_it);
        let mut work =
            self.bell.wait_timeout_while(self.work(), patience, none).unwrap_or_else(PoisonError::into_inner).0;
        let at = work.iter().position(is_it)?;
        work.remove(at)
    }

    /// Since when, at least, something waits for the thread that writes.
    pub(super) fn waits_since(&self) -> Option<Duration> {
        match self.busy_since_ms.load(Ordering::Relaxed) {
            0 => (!self.work().is_empty()).then(clock::monotonic),
            ms => Some(Duration::from_millis(ms)),
        }
    }

    /// All there is now.
    pub(super) fn pop_all(&self) -> VecDeque<Work> {
        let all = mem::take(&mut *self.work());
        all.iter().for_each(Work::popped);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_spools_and_tags_read_back() {
        let web = Owner::parse("web@blue").unwrap();
        let path = spool_path(Path::new("/run"), &web, Stream::Err.word(), 7);
        assert_eq!(owner_and_stream(&path), Some((web, Some(Stream::Err))));
        let kernel = Owner::parse(KERNEL).unwrap();
        assert_eq!(owner_and_stream(&spool_path(Path::new("/"), &kernel, "log", 0)), Some((kernel, None)));
        assert!(Owner::parse("@nobody").unwrap_err().contains("@kernel, @init, @supervisor"));
        let line = tagged(4, 17, 3, "two words");
        assert_eq!(untag(line.trim_end().as_bytes()), Some((Stream::Level(4), 17, 3, &b"two words"[..])));
        assert_eq!(untag(b"4 x"), None);
    }
}

//! The thread that writes: what lies in spools becomes records, and records go to the disk. It alone waits for the disk.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, ErrorKind},
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    thread,
    time::Duration,
};

use nix::sys::eventfd::EventFd;

use super::{
    News, Stream, boots,
    caps::{Caps, Limiter},
    disk::Disk,
    file::LogFile,
    forward::{self, Forward},
    record::{self, cut},
    source::{Owner, Queue, Source, Work, owner_and_stream, untag},
    spool::{self, Mark, Spool},
};
use crate::{daemon::clock, unit::Endpoint};

/// Between two words on the console about a disk that takes no logs.
pub(super) const COMPLAIN_EVERY: Duration = Duration::from_secs(600);
/// Of records that are appended in one go.
const MAX_BATCH_BYTES: u64 = 64 << 10;
/// A log's file holds so many batches at least: it is never larger than it may be, and the next one takes little of its room.
const BATCHES_IN_A_FILE: u64 = 4;
/// What a record has besides its text.
const RECORD_BYTES: usize = 40;
/// How often a disk that took no records is asked whether it takes the word about them.
const RETRY: Duration = if cfg!(test) { Duration::from_millis(10) } else { Duration::from_secs(10) };
/// How often what was interrupted is tried to be taken back once more.
const TRIES: u32 = 5;
/// A file that nothing was appended to for so long is closed, and opened for the next record: open it costs the kernel its inode.
const AT_REST: Duration = if cfg!(test) { Duration::from_millis(10) } else { Duration::from_secs(20) };
/// How long another machine may take for what is forwarded to it, when ours ends.
const DRAIN: Duration = Duration::from_secs(2);
/// What is there at the boot waits so long for the machine's options; less than a container waits for room.
const OPTIONS_PATIENCE: Duration = Duration::from_secs(4);
/// Records of one log that come so much out of order get the time of the one before.
const STREAMS_APART_US: i64 = 10_000_000;

pub(super) struct Writer {
    pub(super) folder: PathBuf,
    pub(super) spools: PathBuf,
    pub(super) queue: Arc<Queue>,
    /// Wakes the thread that takes, when there is room again.
    pub(super) bell: Arc<EventFd>,
    pub(super) news: Arc<News>,
    pub(super) complain: Complain,
    /// The machine's options will come.
    pub(super) has_options: bool,
}

/// Has a word about the disk said.
pub(super) type Complain = Arc<dyn Fn(ErrorKind, String) + Send + Sync>;

struct Desk {
    writer: Writer,
    boot: Arc<str>,
    /// Where this boot's own logs are.
    boot_folder: PathBuf,
    disk: Disk,
    files: BTreeMap<Owner, LogFile>,
    limiters: BTreeMap<Owner, Limiter>,
    /// Of whose loss no log tells yet; and whether nothing more comes of it.
    owing: Vec<(Arc<Source>, bool)>,
    retry_at: Duration,
    forward: Vec<Forward>,
    buffer: Vec<u8>,
    silent_until: Option<Duration>,
    /// When files at rest are looked for.
    rest_at: Duration,
}

impl Writer {
    pub(super) fn run(self) {
        let id = boots::present_id();
        let boot_folder = boots::enter(&self.folder, &id).unwrap_or_else(|error| {
            log::error!("{}: {error}", self.folder.display());
            self.folder.join("@boots").join(format!("0-{id}"))
        });
        let disk = Disk::new(self.folder.clone());
        let mut desk = Desk {
            boot: id.into(),
            boot_folder,
            disk,
            files: BTreeMap::new(),
            limiters: BTreeMap::new(),
            owing: Vec::new(),
            retry_at: Duration::ZERO,
            forward: Vec::new(),
            buffer: Vec::new(),
            silent_until: None,
            rest_at: Duration::ZERO,
            writer: self,
        };
        let interrupted = desk.take_back();
        desk.forward_to(Forward::left(&desk.writer.spools), interrupted);
        // The first words of a boot are to be sent away, too, and the options say where.
        if desk.writer.has_options
            && let Some(options) = desk.writer.queue.pop_options(OPTIONS_PATIENCE)
        {
            desk.turn(options, false);
        }
        loop {
            let patience = match desk.owing.is_empty() {
                false => RETRY.min(AT_REST),
                true if desk.files.values().any(LogFile::is_open) => AT_REST,
                true => Duration::MAX,
            };
            let work = desk.writer.queue.pop(patience);
            desk.close_unused();
            if !desk.owing.is_empty() && desk.retry_at <= clock::monotonic() {
                desk.try_again();
            }
            if let Some(work) = work {
                desk.turn(work, false);
            }
        }
    }
}

/// What comes of bytes: records for the log and for whom they are forwarded to, how many, and the number of the last.
struct Batch<'a> {
    owner: &'a Owner,
    /// As they are forwarded, if they are.
    messages: Option<Vec<Vec<u8>>>,
    bytes: Vec<u8>,
    records: u64,
    number: u64,
    last_us: i64,
}

impl<'a> Batch<'a> {
    fn new(owner: &'a Owner, is_forwarded: bool, last_us: i64) -> Self {
        let messages = is_forwarded.then(Vec::new);
        Self { owner, messages, bytes: Vec::new(), records: 0, number: 0, last_us }
    }

    /// Room for one more. The first always has some.
    fn has_room(&self, text: &[u8], caps: Caps) -> bool {
        let most = MAX_BATCH_BYTES.min(caps.max_bytes / BATCHES_IN_A_FILE);
        self.records == 0 || (self.bytes.len() + text.len() + RECORD_BYTES) as u64 <= most
    }

    fn push(&mut self, time_us: i64, stream: Stream, partial: bool, text: &[u8]) {
        // Two streams of one log are read one after the other; a clock that is set back is not made up for.
        let time_us = if (0..STREAMS_APART_US).contains(&(self.last_us - time_us)) { self.last_us } else { time_us };
        self.last_us = time_us;
        record::write(&mut self.bytes, &clock::rfc3339(time_us), stream, partial, text);
        self.records += 1;
        if let Some(messages) = &mut self.messages {
            messages.push(forward::message(time_us, self.owner, stream, text));
        }
    }

    fn tell_suppressed(&mut self, time_us: i64) {
        let lines = std::mem::take(&mut self.number);
        if lines > 0 {
            self.push(time_us, Stream::Orlop, false, suppressed(lines).as_bytes());
        }
    }
}

/// A moment without descriptors or memory must not have records appended a second time.
fn persistently<T>(mut work: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut result = work();
    for _ in 0..TRIES {
        if result.is_ok() {
            break;
        }
        thread::sleep(RETRY / 100);
        result = work();
    }
    result
}

impl Desk {
    /// What an earlier supervisor was appending when it died is taken out of the log: the spool has it still. Whether there was any.
    fn take_back(&mut self) -> bool {
        let mut interrupted = false;
        for path in spool::left(&self.writer.spools) {
            let Some((owner, _)) = owner_and_stream(&path) else { continue };
            // Where the other thread is at work already it appends; what is asked and answered here lies in the head.
            let result = persistently(|| {
                let spool = Spool::left_at(path.clone())?;
                let Some(mark) = spool.intended() else { return Ok(()) };
                interrupted = true;
                self.file(&owner).rewind(mark)?;
                spool.intend(Mark::default())
            });
            if let Err(error) = result {
                log::error!("{owner}: its log after the supervisor's death: {error}");
            }
        }
        interrupted
    }

    /// Who is told already goes on, with what waits for him.
    fn forward_to(&mut self, endpoints: Vec<Endpoint>, interrupted: bool) {
        let (stay, go) = std::mem::take(&mut self.forward)
            .into_iter()
            .partition::<Vec<_>, _>(|forward| endpoints.contains(&forward.endpoint));
        go.iter().for_each(Forward::forget);
        self.forward = stay;
        for endpoint in endpoints {
            if self.forward.iter().any(|forward| forward.endpoint == endpoint) {
                continue;
            }
            match Forward::start(endpoint.clone(), &self.writer.spools, interrupted) {
                Ok(forward) => self.forward.push(forward),
                Err(error) => log::error!("logs are not forwarded to {endpoint}: {error}"),
            }
        }
    }

    /// `whole`: all that lies in its spool now, not the first of it.
    fn turn(&mut self, work: Work, whole: bool) {
        match work {
            // Its last turn is for all of it.
            Work::Some(source) if source.is_last() => {}
            Work::Some(source) => {
                if self.write(&source, false, whole) && source.is_remarks() {
                    self.close(&source.owner);
                }
            }
            Work::Last(source) => {
                if self.write(&source, true, whole) {
                    self.close(&source.owner);
                }
            }
            Work::Gone(owner) => {
                self.files.remove(&owner);
                self.limiters.remove(&owner);
                self.writer.news.forget(&owner);
            }
            Work::Flush(done) => {
                self.try_again();
                // What came before has had its turn, but not always its end.
                self.writer.queue.pop_all().into_iter().for_each(|work| self.turn(work, true));
                self.forward.iter().for_each(|forward| forward.drain(DRAIN));
                let _ = done.send(());
            }
            Work::Options(options) => {
                self.disk.set_cap(options.max_log_bytes);
                self.forward_to(options.forward, false);
            }
        }
    }

    /// Appends what makes records, one batch of it: who writes without pause comes behind the others with the next, and keeps nobody
    /// out of his log. Whether that was all; what makes no record yet stays in the spool.
    fn write(&mut self, source: &Arc<Source>, last: bool, whole: bool) -> bool {
        // With what is to be said of lost lines behind it.
        let mut due = if whole { source.spool.length() + 1 } else { 0 };
        while let Some(length) = self.write_batch(source, last) {
            due = due.saturating_sub(length as u64);
            if due == 0 {
                let source = Arc::clone(source);
                self.writer.queue.push(if last { Work::Last(source) } else { Work::Some(source) });
                return false;
            }
        }
        self.owing.retain(|(owing, _)| !Arc::ptr_eq(owing, source));
        let lost = source.spool.lost();
        if lost > 0 && !last {
            self.owing.push((Arc::clone(source), last));
        } else if lost > 0 {
            source.finish();
            // However often a unit starts while the disk is full, one place says what that cost.
            match self.owing.iter().find(|(owing, last)| *last && owing.owner == source.owner) {
                Some((owing, _)) => {
                    owing.spool.lose(lost);
                    source.end();
                }
                None => self.owing.push((Arc::clone(source), last)),
            }
        } else if last {
            source.end();
        }
        true
    }

    /// What could not be told of lost lines.
    fn try_again(&mut self) {
        self.retry_at = clock::monotonic() + RETRY;
        for (source, last) in std::mem::take(&mut self.owing) {
            self.write(&source, last, true);
            self.close(&source.owner);
        }
    }

    /// How much of the spool that was, where there is more. `None`: it was all of it, or all that can be done now.
    fn write_batch(&mut self, source: &Source, last: bool) -> Option<usize> {
        let mut bytes = std::mem::take(&mut self.buffer);
        // No record is as long as this: there is always one in it.
        let read = source.spool.read_some(&mut bytes, MAX_BATCH_BYTES);
        let whole = read.unwrap_or_else(|error| {
            bytes.clear();
            log::error!("{}: {error}", source.spool.path().display());
            true
        });
        let (caps, error) = (self.caps(source), self.file(&source.owner).error.clone());
        let mut batch = Batch::new(&source.owner, !self.forward.is_empty(), self.last_us(&source.owner));
        let lost = source.spool.lost_here();
        if lost > 0 {
            batch.push(clock::wall_us(), Stream::Orlop, false, not_taken(source, lost, error.as_deref()).as_bytes());
        }
        // Of a pipe's spool it is how many lines were too many; of another the number behind the last line.
        batch.number = source.spool.number();
        let mut limiter = self.limiters.remove(&source.owner).unwrap_or_default();
        let (mut at, mut fits) = (0, true);
        let rest = cut(&bytes, last && whole, |text, partial| {
            fits = batch.has_room(text, caps);
            if !fits {
                return false;
            }
            let Some(stream) = source.stream else {
                if let Some((stream, time_us, number, text)) = untag(text) {
                    batch.push(time_us, stream, false, text);
                    batch.number = batch.number.max(number);
                }
                return true;
            };
            let time_us = source.spool.arrived(at);
            at += text.len() + usize::from(!partial);
            if source.caps.rate.is_none_or(|rate| limiter.admit(rate, time_us)) {
                batch.tell_suppressed(time_us);
                batch.push(time_us, stream, partial, text);
            } else {
                batch.number += 1;
            }
            true
        });
        let all = fits && whole;
        if last && all && source.stream.is_some() {
            batch.tell_suppressed(clock::wall_us());
        } else if source.caps.rate.is_some() || source.is_remarks() {
            self.limiters.insert(source.owner.clone(), limiter);
        }
        let length = bytes.len() - rest;
        let Batch { bytes: records, messages, records: count, number, last_us, .. } = batch;
        self.buffer = bytes;
        self.file(&source.owner).last_us = last_us;
        let taken =
            (length > 0 || count > 0) && self.append(source, (&records, messages), (count, number, lost), length);
        if source.waits.swap(false, Ordering::SeqCst) {
            let _ = self.writer.bell.write(1);
        }
        // What is lost and came behind the last of these is told now.
        let done = !taken || all && (source.spool.lost_here() == 0 || self.file(&source.owner).error.is_some());
        (!done).then_some(length)
    }

    /// Whether the spool knows it.
    fn append(
        &mut self,
        source: &Source,
        (records, messages): (&[u8], Option<Vec<Vec<u8>>>),
        (count, number, told): (u64, u64, u64),
        length: usize,
    ) -> bool {
        let owner = &source.owner;
        let caps = self.caps(source);
        let file = self.file(owner);
        if !source.is_remarks() {
            file.set_caps(caps);
        }
        let report = |error| log::error!("{owner}: keep what is not in its log yet: {error}");
        let prepared = file.prepare(records.len());
        // Of no file, where nothing is appended: what is forwarded is taken back, too.
        let mark = *prepared.as_ref().unwrap_or(&Mark { inode: u64::MAX, length: 0 });
        source.spool.intend(mark).unwrap_or_else(report);
        let result = match prepared {
            Ok(_) => file.append(records),
            Err(error) => Err(file.refused(error)),
        };
        // The word about lost ones is none of them.
        let lost = if result.is_ok() { -told.cast_signed() } else { (count - u64::from(told > 0)).cast_signed() };
        let messages = messages.unwrap_or_default();
        self.forward.iter().for_each(|forward| forward.hold(&messages));
        let committed = source.spool.commit(length, number, lost).map_err(report).is_ok();
        self.forward.iter().for_each(Forward::release);
        self.appended(owner, result);
        committed
    }

    fn appended(&mut self, owner: &Owner, result: Result<u64, Option<io::Error>>) {
        match result {
            Err(Some(error)) => {
                log::error!("{owner}: log: {error}");
                // A full disk is everybody's, and small records may still find room: one word about it is enough.
                let now = clock::monotonic();
                if self.silent_until.is_none_or(|until| until <= now) {
                    self.silent_until = Some(now + COMPLAIN_EVERY);
                    let text = "logs are dropped and counted until the disk takes them again";
                    (self.writer.complain)(error.kind(), format!("{:<9} {owner}: {error}; {text}", "logs"));
                }
            }
            Err(None) => {}
            Ok(bytes) => {
                let Some(file) = self.files.get(owner) else { return };
                let gone: BTreeSet<PathBuf> = self.disk.wrote(bytes, &file.path()).into_iter().collect();
                for file in self.files.values_mut().filter(|file| gone.contains(&file.path())) {
                    file.close();
                }
                self.writer.news.tell(owner);
            }
        }
    }

    /// A file nobody writes to is not kept open; one that is written again is opened again.
    fn close(&mut self, owner: &Owner) {
        if let Some(file) = self.files.get_mut(owner) {
            file.close();
        }
    }

    fn close_unused(&mut self) {
        let now = clock::monotonic();
        if self.rest_at <= now {
            self.rest_at = now + AT_REST;
            self.files.values_mut().for_each(LogFile::close_unused);
        }
    }

    fn caps(&self, source: &Source) -> Caps {
        Caps { max_bytes: source.caps.max_bytes.min(self.disk.most_bytes()), ..source.caps }
    }

    fn last_us(&self, owner: &Owner) -> i64 {
        self.files.get(owner).map_or(0, |file| file.last_us)
    }

    fn file(&mut self, owner: &Owner) -> &mut LogFile {
        let above = if owner.is_pseudo() { &self.boot_folder } else { &self.writer.folder };
        let folder = above.join(owner.as_str());
        let new = || LogFile::new(folder, Caps::default(), Arc::clone(&self.boot));
        self.files.entry(owner.clone()).or_insert_with(new)
    }
}

fn not_taken(source: &Source, lost: u64, error: Option<&str>) -> String {
    let what = if source.is_remarks() { "remarks" } else { "lines" };
    match error {
        Some(error) => format!("{lost} records lost: {error}"),
        None => format!("{lost} {what} lost: the disk did not take them in time"),
    }
}

fn suppressed(records: u64) -> String {
    format!("{records} lines suppressed: more than LogRateLimitBurst= within LogRateLimitIntervalSec=")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_for_a_moment_is_tried_again_and_not_for_ever() {
        let mut failures = TRIES;
        let mut work = || match failures {
            0 => Ok(()),
            _ => {
                failures -= 1;
                Err(io::Error::from_raw_os_error(libc::EMFILE))
            }
        };
        persistently(&mut work).unwrap();
        failures = u32::MAX;
        let mut work = || {
            failures -= 1;
            Err::<(), _>(io::Error::from_raw_os_error(libc::EMFILE))
        };
        assert_eq!(persistently(&mut work).unwrap_err().raw_os_error(), Some(libc::EMFILE));
        assert_eq!(failures, u32::MAX - TRIES - 1);
    }
}

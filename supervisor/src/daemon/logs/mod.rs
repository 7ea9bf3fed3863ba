//! Logs: one thread takes what comes, from every container's pipes and from the kernel, into memory that outlives the supervisor
//! (`intake`, `spool`): its death costs no byte and doubles none. Another makes records of it and writes every log's files
//! (`writer`): a slow disk slows containers, one that stands still costs them lines, which are counted, and neither ever holds up
//! the loop. Readers have a thread each, see `reader`.

mod boots;
mod caps;
mod cursor;
mod disk;
mod file;
mod forward;
mod intake;
mod kernel;
mod reader;
mod record;
mod remarks;
mod source;
mod spool;
mod writer;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::ErrorKind,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        mpsc::{self, Sender},
    },
    time::Duration,
};

use nix::sys::eventfd::{EfdFlags, EventFd};

pub(crate) use caps::Caps;
pub(crate) use reader::{Reading, read};
pub(crate) use record::Stream;
pub(crate) use remarks::{Remark, Remarks};
pub(crate) use source::{Owner, PSEUDO};

use intake::Command;
use source::{Queue, SUPERVISOR, Source, Work, spool_path, tagged};

use super::{clock, mailbox};
use crate::unit::{Options, UnitName};

/// Of one message of the supervisor, in bytes.
const MAX_MESSAGE_BYTES: usize = 8 << 10;

/// Whether no boot was before this one; `None`: no logs of boots are kept.
pub(crate) fn is_first_boot(logs: &Path) -> Option<bool> {
    boots::is_first(logs, &boots::present_id())
}

/// The loop's handle.
pub(crate) struct Logs {
    folder: PathBuf,
    /// Without a bound: who takes them waits for no disk, and there are no more than pipes, and remarks that found room in a spool.
    commands: Sender<Command>,
    bell: Arc<EventFd>,
    news: Arc<News>,
    told: remarks::Told,
}

/// Tells readers that follow logs when there is more of them.
#[derive(Debug, Default)]
pub(crate) struct News {
    counts: Mutex<BTreeMap<Owner, u64>>,
    changed: Condvar,
}

impl News {
    fn counts(&self) -> MutexGuard<'_, BTreeMap<Owner, u64>> {
        // A counter is right at any moment, whoever panicked.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of these logs together; of all without any.
    fn count(&self, owners: &[Owner]) -> u64 {
        count(&self.counts(), owners)
    }

    fn tell(&self, owner: &Owner) {
        *self.counts().entry(owner.clone()).or_default() += 1;
        self.changed.notify_all();
    }

    /// Who follows it looks once more.
    fn forget(&self, owner: &Owner) {
        self.counts().remove(owner);
        self.changed.notify_all();
    }

    /// Lets everyone look whether they are still wanted.
    fn wake(&self) {
        self.changed.notify_all();
    }

    /// Until there is more, or somebody is no longer wanted.
    fn wait(&self, owners: &[Owner], seen: u64, wanted: impl Fn() -> bool, timeout: Duration) {
        let same = |counts: &mut BTreeMap<Owner, u64>| wanted() && count(counts, owners) == seen;
        drop(self.changed.wait_timeout_while(self.counts(), timeout, same));
    }
}

fn count(counts: &BTreeMap<Owner, u64>, owners: &[Owner]) -> u64 {
    if owners.is_empty() { counts.values().sum() } else { owners.iter().filter_map(|owner| counts.get(owner)).sum() }
}

/// What the supervisor itself says: into a spool at once, whoever says it, and from there into its log.
pub(crate) struct Own {
    source: Arc<Source>,
    queue: Arc<Queue>,
}

impl Own {
    /// Before there are logs, so that it holds the first words too.
    pub(crate) fn open(spools: &Path) -> std::io::Result<Self> {
        fs::create_dir_all(spools)?;
        let owner = Owner::pseudo(SUPERVISOR);
        let spool = spool::Spool::open_lines(spool_path(spools, &owner, "log", 0))?;
        let source = Arc::new(Source::new(owner, None, Caps::of_the_machine(), spool, None));
        Ok(Self { source, queue: Arc::default() })
    }

    /// Never waits: what finds no room, because the disk stands still, is counted.
    pub(crate) fn say(&self, level: u8, text: &str) {
        let time = clock::wall_us();
        let mut lines = String::new();
        for line in text.lines() {
            lines.push_str(&tagged(level, time, 0, &line[..line.floor_char_boundary(MAX_MESSAGE_BYTES)]));
        }
        if !self.source.spool.append(lines.as_bytes()) {
            self.source.spool.lose(text.lines().count() as u64);
        }
        self.queue.push(Work::Some(Arc::clone(&self.source)));
    }
}

impl Logs {
    /// Starts both threads. `complain` is called when a disk begins to cost records, or stands still. `kernel` is the device of the kernel's messages,
    /// where they are to be kept; a machine that has one has options.
    pub(crate) fn start(
        folder: PathBuf,
        spools: PathBuf,
        own: Option<&Own>,
        kernel: Option<PathBuf>,
        complain: impl Fn(ErrorKind, String) + Send + Sync + 'static,
    ) -> nix::Result<Self> {
        if let Err(error) = fs::create_dir_all(&spools) {
            log::error!("{}: {error}", spools.display());
        }
        let bell = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
        let (commands, received) = mpsc::channel();
        let news = Arc::new(News::default());
        let told = remarks::Told::new(spools.clone());
        let queue = own.map(|own| Arc::clone(&own.queue)).unwrap_or_default();
        let (complain, to, work): (writer::Complain, _, _) =
            (Arc::new(complain), Arc::clone(&bell), Arc::clone(&queue));
        let mut intake = intake::Intake::new(spools.clone(), received, to, work, Arc::clone(&complain))?;
        let writer = writer::Writer {
            folder: folder.clone(),
            spools,
            queue,
            bell: Arc::clone(&bell),
            news: Arc::clone(&news),
            complain,
            has_options: kernel.is_some(),
        };
        mailbox::spawn("logs", move || {
            if let Some(device) = kernel {
                intake.open_kernel(&device);
            }
            intake.run();
        });
        mailbox::spawn("log writer", move || writer.run());
        Ok(Self { folder, commands, bell, news, told })
    }

    fn command(&self, command: Command) -> bool {
        let sent = self.commands.send(command).is_ok();
        let _ = self.bell.write(1);
        sent
    }

    pub(crate) fn follow(
        &self,
        unit: &UnitName,
        (stream, attempt): (Stream, u64),
        caps: Caps,
        pipe: OwnedFd,
        done: impl FnOnce() + Send + 'static,
    ) {
        let owner = Owner::from(unit);
        if !self.command(Command::Follow { owner, stream, attempt, caps, pipe, done: Box::new(done) }) {
            log::error!("{unit}: the thread of the logs does not answer, {} is not logged", stream.word());
        }
    }

    pub(crate) fn all_followed(&mut self) {
        for source in self.told.left() {
            self.command(Command::Remark(source));
        }
        self.command(Command::AllFollowed);
    }

    /// The number of the last remark about a unit.
    pub(crate) fn last_remark(&mut self, unit: &UnitName) -> u64 {
        self.told.last(&Owner::from(unit))
    }

    /// Never waits.
    pub(crate) fn remark(&mut self, unit: &UnitName, remark: &Remark) {
        match self.told.tell(&Owner::from(unit), remark) {
            Ok(None) => {}
            Ok(Some(source)) => {
                self.command(Command::Remark(source));
            }
            Err(error) => log::error!("{unit}: a remark is lost: {error}"),
        }
    }

    /// What the machine is told of all logs.
    pub(crate) fn set_options(&self, options: &Options) {
        self.command(Command::Options(options.clone()));
    }

    /// Units of which something is not in their logs yet.
    pub(crate) fn unwritten(&self) -> BTreeSet<String> {
        let left = spool::left(self.told.spools()).into_iter();
        let of_pipes = left.filter_map(|path| source::owner_and_stream(&path)).filter(|(_, stream)| stream.is_some());
        of_pipes.map(|(owner, _)| owner.as_str().to_owned()).collect()
    }

    /// A unit that is not known any more: its log stays.
    pub(crate) fn forget(&mut self, unit: &UnitName) {
        let owner = Owner::from(unit);
        if self.told.forget(&owner) {
            self.command(Command::Gone(owner));
        }
    }

    /// Before the machine ends: gives the writer this long to write what is there. Whether it did.
    pub(crate) fn flush(&self, patience: Duration) -> bool {
        let (done, answer) = mpsc::channel();
        self.command(Command::Flush(done)) && answer.recv_timeout(patience).is_ok()
    }

    /// Somebody wrote here once.
    pub(crate) fn exists(&self, owner: &Owner) -> bool {
        owner.is_pseudo() || self.folder.join(owner.as_str()).exists()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Write},
        thread,
        time::Instant,
    };

    use super::*;

    #[test]
    fn a_log_at_rest_is_not_kept_open_and_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let current = folder.path().join("web/current");
        let logs = Logs::start(folder.path().into(), folder.path().join("spools"), None, None, |_, _| ()).unwrap();
        let (pipe, mut writer) = io::pipe().unwrap();
        let pipe: OwnedFd = pipe.into();
        nix::fcntl::fcntl(&pipe, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).unwrap();
        logs.follow(&UnitName::parse("web").unwrap(), (Stream::Out, 1), Caps::default(), pipe, || ());
        let fds = || fs::read_dir("/proc/self/fd").unwrap().flatten();
        let is_open = || fds().any(|fd| fs::read_link(fd.path()).is_ok_and(|path| path == current));
        let lines = || fs::read_to_string(&current).map_or(0, |text| text.matches(" hello").count());
        let deadline = Instant::now() + Duration::from_secs(30);
        for count in 1..=2 {
            writer.write_all(b"hello\n").unwrap();
            while lines() < count || is_open() {
                assert!(Instant::now() < deadline, "{} lines, open: {}", lines(), is_open());
                thread::yield_now();
            }
        }
    }
}

//! Logs: one thread reads every container's pipes and writes every unit's files, so that a slow disk slows the writers (their
//! pipes fill) and never the loop. What is read and not written yet lies in memory that outlives the supervisor, see `spool`: its
//! death costs no byte and doubles none. A disk that takes nothing costs records, which are counted. Readers have a thread each,
//! see `reader`.

mod file;
mod reader;
mod record;
mod spool;
mod writer;

use std::{
    collections::BTreeMap,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        mpsc::{self, SyncSender},
    },
    time::Duration,
};

use nix::sys::eventfd::{EfdFlags, EventFd};

pub(crate) use reader::{Reading, read};
pub(crate) use record::Stream;

use super::mailbox;
use crate::unit::UnitName;

/// Remarks wait in a queue of this length when the disk is slow; then they are dropped.
const MAX_COMMANDS: usize = 1024;

enum Command {
    /// The read end of a container's pipe. `done` is called once it is at its end and all of it is written.
    Follow {
        unit: UnitName,
        stream: Stream,
        attempt: u64,
        pipe: OwnedFd,
        done: Box<dyn FnOnce() + Send>,
    },
    Remark {
        unit: UnitName,
        text: String,
    },
    /// All pipes there are were sent: what an earlier supervisor left of others is written.
    AllFollowed,
    /// Everything that is in the pipes now is written before the answer.
    Flush(mpsc::Sender<()>),
}

/// The loop's handle.
#[derive(Clone)]
pub(crate) struct Logs {
    folder: PathBuf,
    commands: SyncSender<Command>,
    bell: Arc<EventFd>,
    news: Arc<News>,
}

/// Tells readers that follow a log when there is more of it.
#[derive(Debug, Default)]
pub(crate) struct News {
    counts: Mutex<BTreeMap<UnitName, u64>>,
    changed: Condvar,
}

impl News {
    fn counts(&self) -> MutexGuard<'_, BTreeMap<UnitName, u64>> {
        // A counter is right at any moment, whoever panicked.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, unit: &UnitName) -> u64 {
        self.counts().get(unit).copied().unwrap_or(0)
    }

    fn tell(&self, unit: &UnitName) {
        *self.counts().entry(unit.clone()).or_default() += 1;
        self.changed.notify_all();
    }

    fn wait(&self, unit: &UnitName, seen: u64, timeout: Duration) {
        let counts = self.counts();
        let same = |counts: &mut BTreeMap<UnitName, u64>| counts.get(unit).copied().unwrap_or(0) == seen;
        drop(self.changed.wait_timeout_while(counts, timeout, same));
    }
}

impl Logs {
    /// Starts the writer. `complain` is called from its thread when a disk begins to cost records.
    pub(crate) fn start(
        folder: PathBuf,
        spools: PathBuf,
        complain: impl Fn(String) + Send + 'static,
    ) -> nix::Result<Self> {
        let bell = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
        let (commands, queue) = mpsc::sync_channel(MAX_COMMANDS);
        let news = Arc::new(News::default());
        let mut writer = writer::Writer::new(folder.clone(), spools, queue, Arc::clone(&bell), Arc::clone(&news))?;
        writer.complain = Box::new(complain);
        mailbox::spawn("logs", move || writer.run());
        Ok(Self { folder, commands, bell, news })
    }

    fn command(&self, command: Command) -> bool {
        // Full: the disk stands still. A remark is not worth waiting for, and whoever sends a pipe takes a refusal.
        let sent = self.commands.try_send(command).is_ok();
        let _ = self.bell.write(1);
        sent
    }

    pub(crate) fn follow(
        &self,
        unit: &UnitName,
        stream: Stream,
        attempt: u64,
        pipe: OwnedFd,
        done: impl FnOnce() + Send + 'static,
    ) {
        let unit = unit.clone();
        if !self.command(Command::Follow { unit: unit.clone(), stream, attempt, pipe, done: Box::new(done) }) {
            log::error!("{unit}: the log writer does not answer, {} is not logged", stream.word());
        }
    }

    pub(crate) fn all_followed(&self) {
        self.command(Command::AllFollowed);
    }

    pub(crate) fn remark(&self, unit: &UnitName, text: &str) {
        self.command(Command::Remark { unit: unit.clone(), text: text.to_owned() });
    }

    /// Before the machine ends: gives the writer this long to write what is there.
    pub(crate) fn flush(&self, patience: Duration) {
        let (done, answer) = mpsc::channel();
        if self.command(Command::Flush(done)) {
            let _ = answer.recv_timeout(patience);
        }
    }

    pub(crate) fn folder(&self, unit: &UnitName) -> PathBuf {
        self.folder.join(unit.as_str())
    }

    fn news(&self) -> &Arc<News> {
        &self.news
    }
}

//! The thread that reads pipes and writes files.

use std::{
    collections::BTreeMap,
    fs,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{Arc, mpsc::Receiver},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
        eventfd::EventFd,
    },
};

use super::{
    Command, News, Stream,
    file::{LogFile, MAX_FILE_BYTES},
    record::{self, cut},
    spool::{self, Mark, Spool},
};
use crate::{daemon::clock, unit::UnitName};

const BELL: u64 = 0;
/// Read from one pipe before the others get their turn.
const TURN_BYTES: usize = 64 << 10;
/// Between two words on the console about a disk that takes no logs.
const COMPLAIN_EVERY: Duration = Duration::from_secs(600);

struct Pipe {
    unit: UnitName,
    stream: Stream,
    fd: OwnedFd,
    /// `None`: it could not be made, /run is full. Then what comes is logged straight away.
    spool: Option<Spool>,
    done: Box<dyn FnOnce() + Send>,
}

pub(super) struct Writer {
    folder: PathBuf,
    spools: PathBuf,
    commands: Receiver<Command>,
    bell: Arc<EventFd>,
    news: Arc<News>,
    epoll: Epoll,
    pipes: BTreeMap<u64, Pipe>,
    next: u64,
    files: BTreeMap<UnitName, LogFile>,
    buffer: Vec<u8>,
    pub(super) complain: Box<dyn Fn(String) + Send>,
    silent_until: Option<Duration>,
}

/// `web:out.3`: an own name for every pipe, from which its unit can be read.
fn spool_name(unit: &UnitName, stream: Stream, attempt: u64) -> String {
    format!("{unit}:{}.{attempt}", stream.word())
}

fn unit_and_stream(path: &Path) -> Option<(UnitName, Stream)> {
    let (unit, rest) = path.file_name()?.to_str()?.rsplit_once(':')?;
    let word = rest.split_once('.')?.0;
    let stream = [Stream::Out, Stream::Err].into_iter().find(|stream| stream.word() == word)?;
    Some((UnitName::parse(unit).ok()?, stream))
}

impl Pipe {
    /// All that is in no log yet, with more from the pipe. Whether the pipe is at its end, and whether the spool holds the bytes.
    fn fill(&mut self, bytes: &mut Vec<u8>) -> (bool, bool) {
        bytes.clear();
        if let Some(spool) = &mut self.spool {
            let taken = spool.take(&self.fd, TURN_BYTES);
            if let Err(error) = spool.read(bytes) {
                log::error!("{}: {}: {error}", self.unit, self.stream.word());
            }
            match taken {
                Ok(n) => return (n == 0, true),
                Err(Errno::EAGAIN | Errno::EINTR) => return (false, true),
                Err(_) => {}
            }
        }
        // Memory is short: straight from the pipe, so that at least the container goes on.
        let start = bytes.len();
        bytes.resize(start + TURN_BYTES, 0);
        let read = nix::unistd::read(&self.fd, &mut bytes[start..]);
        bytes.truncate(start + read.unwrap_or(0));
        match read {
            Ok(n) => (n == 0, false),
            Err(Errno::EAGAIN | Errno::EINTR) => (false, false),
            Err(errno) => {
                log::error!("{}: {}: {errno}", self.unit, self.stream.word());
                (true, false)
            }
        }
    }
}

impl Writer {
    pub(super) fn new(
        folder: PathBuf,
        spools: PathBuf,
        commands: Receiver<Command>,
        bell: Arc<EventFd>,
        news: Arc<News>,
    ) -> nix::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(bell.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, BELL))?;
        let (pipes, files, complain) = (BTreeMap::new(), BTreeMap::new(), Box::new(|_| {}));
        let (next, buffer) = (BELL + 1, Vec::new());
        Ok(Self {
            folder,
            spools,
            commands,
            bell,
            news,
            epoll,
            pipes,
            next,
            files,
            buffer,
            complain,
            silent_until: None,
        })
    }

    pub(super) fn run(mut self) {
        if let Err(error) = fs::create_dir_all(&self.spools) {
            log::error!("{}: {error}", self.spools.display());
        }
        self.take_back();
        let mut events = [EpollEvent::empty(); 32];
        loop {
            let ready = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Ok(ready) => ready,
                Err(Errno::EINTR) => continue,
                Err(errno) => return log::error!("logs: epoll: {errno}"),
            };
            for event in &events[..ready] {
                match event.data() {
                    BELL => {
                        let _ = self.bell.read();
                    }
                    id => self.read(id),
                }
            }
            // Every time, not only for the bell: it is rung before or after the command lies there.
            while let Ok(command) = self.commands.try_recv() {
                self.obey(command);
            }
        }
    }

    /// What an earlier supervisor was appending when it died is taken out of the log: the spool has it still.
    fn take_back(&mut self) {
        for path in spool::left(&self.spools) {
            let Some((unit, _)) = unit_and_stream(&path) else { continue };
            let result = Spool::open(path).and_then(|spool| {
                let Some(mark) = spool.intended() else { return Ok(()) };
                self.file(&unit).rewind(mark)?;
                spool.intend(Mark::default())
            });
            if let Err(error) = result {
                log::error!("{unit}: its log after the supervisor's death: {error}");
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Follow { unit, stream, attempt, pipe, done } => {
                let id = self.next;
                self.next += 1;
                if let Err(errno) = self.epoll.add(&pipe, EpollEvent::new(EpollFlags::EPOLLIN, id)) {
                    log::error!("{unit}: {} is not logged: epoll: {errno}", stream.word());
                    return done();
                }
                let spool = Spool::open(self.spools.join(spool_name(&unit, stream, attempt)));
                let spool = spool.inspect_err(|error| log::error!("{}: {error}", self.spools.display())).ok();
                self.pipes.insert(id, Pipe { unit, stream, fd: pipe, spool, done });
                // What is in the spool waits for no event.
                self.read(id);
            }
            Command::AllFollowed => {
                for path in spool::left(&self.spools) {
                    let is_its = |pipe: &Pipe| pipe.spool.as_ref().is_some_and(|spool| spool.path() == path);
                    if !self.pipes.values().any(is_its)
                        && let Some((unit, stream)) = unit_and_stream(&path)
                        && let Ok(mut spool) = Spool::open(path)
                    {
                        let mut bytes = Vec::new();
                        let _ = spool.read(&mut bytes);
                        self.record(&unit, stream, &bytes, true, Some(&mut spool));
                        spool.remove();
                    }
                }
            }
            Command::Remark { unit, text } => {
                let text = text.replace('\n', " ") + "\n";
                self.record(&unit, Stream::Orlop, text.as_bytes(), true, None);
                self.close_file(&unit);
            }
            Command::Flush(done) => {
                for id in self.pipes.keys().copied().collect::<Vec<_>>() {
                    self.read(id);
                }
                let _ = done.send(());
            }
        }
    }

    fn read(&mut self, id: u64) {
        let Some(mut pipe) = self.pipes.remove(&id) else { return };
        let mut bytes = std::mem::take(&mut self.buffer);
        let (ended, kept) = pipe.fill(&mut bytes);
        let unit = pipe.unit.clone();
        self.record(&unit, pipe.stream, &bytes, ended || !kept, pipe.spool.as_mut());
        self.buffer = bytes;
        if ended {
            let _ = self.epoll.delete(&pipe.fd);
            self.close_file(&unit);
            if let Some(spool) = &pipe.spool {
                spool.remove();
            }
            (pipe.done)();
        } else {
            self.pipes.insert(id, pipe);
        }
    }

    /// Appends what makes records; the rest stays in the spool.
    fn record(&mut self, unit: &UnitName, stream: Stream, bytes: &[u8], all: bool, spool: Option<&mut Spool>) {
        let time = clock::rfc3339(clock::wall_us());
        let (mut batch, mut records) = (Vec::new(), 0);
        let rest = cut(bytes, all, |text, partial| {
            record::write(&mut batch, &time, stream, partial, text);
            records += 1;
        });
        if records == 0 {
            return;
        }
        let file = self.file(unit);
        let report = |error| log::error!("{unit}: keep what is not in its log yet: {error}");
        if let Some(spool) = &spool
            && let Some(mark) = file.prepare(batch.len())
        {
            spool.intend(mark).unwrap_or_else(report);
        }
        let result = file.append(&batch, records);
        if let Some(spool) = spool {
            // Where there is no room for the rest of a line, it is the rest that is lost, and nothing is there twice.
            let rest = spool.commit(&bytes[bytes.len() - rest..]).or_else(|error| spool.commit(b"").and(Err(error)));
            rest.unwrap_or_else(report);
        }
        match result {
            Err(Some(error)) => {
                log::error!("{unit}: log: {error}");
                // A full disk is everybody's, and small records may still find room: one word about it is enough.
                let now = clock::monotonic();
                if self.silent_until.is_none_or(|until| until <= now) {
                    self.silent_until = Some(now + COMPLAIN_EVERY);
                    let text = "logs are dropped and counted until the disk takes them again";
                    (self.complain)(format!("{:<9} {unit}: {error}; {text}", "logs"));
                }
            }
            Err(None) => {}
            Ok(()) => self.news.tell(unit),
        }
    }

    /// A file nobody writes to is not kept open; but one that has lost records remembers how many.
    fn close_file(&mut self, unit: &UnitName) {
        let written = self.pipes.values().any(|other| other.unit == *unit);
        if !written && self.files.get(unit).is_some_and(|file| !file.owes_an_explanation()) {
            self.files.remove(unit);
        }
    }

    fn file(&mut self, unit: &UnitName) -> &mut LogFile {
        let folder = self.folder.join(unit.as_str());
        self.files.entry(unit.clone()).or_insert_with(|| LogFile::new(folder, MAX_FILE_BYTES))
    }
}

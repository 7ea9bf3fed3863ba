//! The thread that reads pipes and writes files.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    sync::{Arc, mpsc::Receiver},
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
    record::{self, Lines},
};
use crate::{daemon::clock, unit::UnitName};

const BELL: u64 = 0;
/// Read from one pipe before the others get their turn.
const TURN_BYTES: usize = 64 << 10;

struct Pipe {
    unit: UnitName,
    stream: Stream,
    fd: OwnedFd,
    lines: Lines,
    done: Option<Box<dyn FnOnce() + Send>>,
}

pub(super) struct Writer {
    folder: PathBuf,
    commands: Receiver<Command>,
    bell: Arc<EventFd>,
    news: Arc<News>,
    epoll: Epoll,
    pipes: BTreeMap<u64, Pipe>,
    next: u64,
    files: BTreeMap<UnitName, LogFile>,
    buffer: Vec<u8>,
}

impl Writer {
    pub(super) fn new(
        folder: PathBuf,
        commands: Receiver<Command>,
        bell: Arc<EventFd>,
        news: Arc<News>,
    ) -> nix::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(bell.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, BELL))?;
        let (pipes, files) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { folder, commands, bell, news, epoll, pipes, next: BELL + 1, files, buffer: vec![0; 16 << 10] })
    }

    pub(super) fn run(mut self) {
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

    fn obey(&mut self, command: Command) {
        match command {
            Command::Follow { unit, stream, pipe, done } => {
                let id = self.next;
                self.next += 1;
                if let Err(errno) = self.epoll.add(&pipe, EpollEvent::new(EpollFlags::EPOLLIN, id)) {
                    log::error!("{unit}: {} is not logged: epoll: {errno}", stream.word());
                    return done();
                }
                self.pipes.insert(id, Pipe { unit, stream, fd: pipe, lines: Lines::default(), done: Some(done) });
            }
            Command::Remark { unit, text } => {
                let mut batch = Vec::new();
                let text = text.replace('\n', " ");
                record::write(&mut batch, &clock::rfc3339(clock::wall_us()), Stream::Orlop, false, text.as_bytes());
                self.append(&unit, &batch, 1);
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
        let Some(pipe) = self.pipes.get_mut(&id) else { return };
        let time = clock::rfc3339(clock::wall_us());
        let stream = pipe.stream;
        let (mut batch, mut records, mut taken, mut ended) = (Vec::new(), 0, 0, false);
        while taken < TURN_BYTES {
            match nix::unistd::read(&pipe.fd, &mut self.buffer) {
                Ok(0) => ended = true,
                Ok(n) => {
                    taken += n;
                    pipe.lines.push(&self.buffer[..n], |text, partial| {
                        record::write(&mut batch, &time, stream, partial, text);
                        records += 1;
                    });
                    continue;
                }
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => {}
                Err(errno) => {
                    log::error!("{}: {}: {errno}", pipe.unit, stream.word());
                    ended = true;
                }
            }
            break;
        }
        if ended {
            pipe.lines.end(|text, partial| {
                record::write(&mut batch, &time, stream, partial, text);
                records += 1;
            });
        }
        let unit = pipe.unit.clone();
        if !batch.is_empty() {
            self.append(&unit, &batch, records);
        }
        if ended && let Some(pipe) = self.pipes.remove(&id) {
            let _ = self.epoll.delete(&pipe.fd);
            self.close_file(&unit);
            if let Some(done) = pipe.done {
                done();
            }
        }
    }

    /// A file nobody writes to is not kept open; but one that has lost records remembers how many.
    fn close_file(&mut self, unit: &UnitName) {
        let written = self.pipes.values().any(|other| other.unit == *unit);
        if !written && self.files.get(unit).is_some_and(|file| !file.owes_an_explanation()) {
            self.files.remove(unit);
        }
    }

    fn append(&mut self, unit: &UnitName, batch: &[u8], records: u64) {
        let folder = self.folder.join(unit.as_str());
        let file = self.files.entry(unit.clone()).or_insert_with(|| LogFile::new(folder, MAX_FILE_BYTES));
        file.append(batch, records);
        self.news.tell(unit);
    }
}

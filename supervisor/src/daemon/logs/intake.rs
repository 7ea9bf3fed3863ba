//! The thread that takes: containers' pipes and the kernel's messages, into spools. It never touches a disk, so that no disk makes a
//! container wait for ever: one that stands still fills the spools, then the pipes, and after some patience what comes is dropped
//! and counted.
//!
//! ```text
//!               spool full              no room for PATIENCE
//!   Flowing ────────────────► Waiting ────────────────────► Dropping
//!      ▲         room            │             room               │
//!      └─────────────────────────┴───────────────────────────────┘
//! ```

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    mem,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, Sender},
    },
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
    Stream,
    caps::Caps,
    kernel::{Kernel, Taken},
    source::{Done, Owner, Queue, Source, Work, owner_and_stream, spool_path},
    spool::{self, Spool},
    writer::{COMPLAIN_EVERY, Complain},
};
use crate::{daemon::clock, unit::Options};

const BELL: u64 = 0;
const KERNEL: u64 = 1;
/// Read from one pipe before the others get their turn.
const TURN_BYTES: usize = 64 << 10;
/// How long a container waits for a disk that takes nothing.
const PATIENCE: Duration = if cfg!(test) { Duration::from_millis(50) } else { Duration::from_secs(5) };

pub(super) enum Command {
    /// The read end of a container's pipe. `done` is called once it is at its end and all of it is written.
    Follow {
        owner: Owner,
        stream: Stream,
        attempt: u64,
        caps: Caps,
        pipe: OwnedFd,
        done: Done,
    },
    /// Lies in its spool already; here only to come behind what its container wrote before.
    Remark(Arc<Source>),
    /// Nothing more comes of it.
    Gone(Owner),
    Options(Options),
    /// All pipes there are were sent: what an earlier supervisor left of others is written.
    AllFollowed,
    /// Everything that is in the pipes now is written before the answer.
    Flush(Sender<()>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Flowing,
    Waiting {
        until: Duration,
    },
    /// Whether the last byte was within a line.
    Dropping {
        within: bool,
    },
}

struct Pipe {
    fd: OwnedFd,
    source: Arc<Source>,
    flow: Flow,
}

pub(super) struct Intake {
    spools: PathBuf,
    /// Of an earlier supervisor, until their pipes come.
    left: Vec<PathBuf>,
    commands: Receiver<Command>,
    bell: Arc<EventFd>,
    queue: Arc<Queue>,
    epoll: Epoll,
    pipes: BTreeMap<u64, Pipe>,
    next: u64,
    kernel: Option<Kernel>,
    scratch: Vec<u8>,
    disk: Look,
    complain: Complain,
}

/// At the thread that writes.
#[derive(Default)]
struct Look {
    /// Again, then.
    at: Option<Duration>,
    stands_still: bool,
    silent_until: Duration,
}

impl Intake {
    pub(super) fn new(
        spools: PathBuf,
        commands: Receiver<Command>,
        bell: Arc<EventFd>,
        queue: Arc<Queue>,
        complain: Complain,
    ) -> nix::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(bell.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, BELL))?;
        let (pipes, next) = (BTreeMap::new(), KERNEL + 1);
        let left = spool::left(&spools);
        let (kernel, scratch, disk) = (None, Vec::new(), Look::default());
        Ok(Self { spools, left, commands, bell, queue, epoll, pipes, next, kernel, scratch, disk, complain })
    }

    /// Keeps the kernel's messages too.
    pub(super) fn open_kernel(&mut self, device: &Path) {
        match Kernel::open(device, &self.spools) {
            Ok(kernel) => {
                if let Err(errno) = self.epoll.add(kernel.fd(), EpollEvent::new(EpollFlags::EPOLLIN, KERNEL)) {
                    return log::error!("{}: epoll: {errno}", device.display());
                }
                for source in kernel.sources() {
                    self.queue.push(Work::Some(Arc::clone(source)));
                }
                self.kernel = Some(kernel);
            }
            Err(error) => log::error!("{}: {error}", device.display()),
        }
    }

    pub(super) fn run(mut self) {
        let mut events = [EpollEvent::empty(); 32];
        loop {
            let ready = match self.epoll.wait(&mut events, self.timeout()) {
                Ok(ready) => ready,
                Err(Errno::EINTR) => continue,
                Err(errno) => return log::error!("logs: epoll: {errno}"),
            };
            for event in &events[..ready] {
                match event.data() {
                    BELL => {
                        let _ = self.bell.read();
                        self.wake_those_who_wait();
                    }
                    KERNEL => self.read_kernel(),
                    id => self.read(id),
                }
            }
            // Every time, not only for the bell: it is rung before or after the command lies there.
            while let Ok(command) = self.commands.try_recv() {
                self.obey(command);
            }
            self.lose_patience();
            self.look_at_the_disk();
        }
    }

    /// A disk that stands still gives no error, and who waits for it cannot say so.
    fn look_at_the_disk(&mut self) {
        let (now, Look { at, stands_still, silent_until }) = (clock::monotonic(), &mut self.disk);
        *at = None;
        match self.queue.waits_since() {
            None => *stands_still = false,
            Some(since) if now.saturating_sub(since) < PATIENCE => *at = Some(since + PATIENCE),
            Some(_) if !mem::replace(stands_still, true) && *silent_until <= now => {
                *silent_until = now + COMPLAIN_EVERY;
                let text = "the disk stands still: what is logged waits for it, and is dropped and counted in the end";
                (self.complain)(ErrorKind::TimedOut, format!("{:<9} {text}", "logs"));
            }
            Some(_) => {}
        }
    }

    fn timeout(&self) -> EpollTimeout {
        let until = self.pipes.values().filter_map(|pipe| match pipe.flow {
            Flow::Waiting { until } => Some(until),
            _ => None,
        });
        let Some(until) = until.chain(self.disk.at).min() else { return EpollTimeout::NONE };
        let ms = until.saturating_sub(clock::monotonic()).as_millis() + 1;
        EpollTimeout::try_from(u32::try_from(ms).unwrap_or(0)).unwrap_or(EpollTimeout::ZERO)
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Follow { owner, stream, attempt, caps, pipe, done } => {
                let id = self.next;
                self.next += 1;
                let path = spool_path(&self.spools, &owner, stream.word(), attempt);
                self.left.retain(|left| *left != path);
                let spool = Spool::open(path);
                let added = self.epoll.add(&pipe, EpollEvent::new(EpollFlags::EPOLLIN, id));
                match spool.and_then(|spool| Ok(added.map(|()| spool)?)) {
                    Ok(spool) => {
                        let source = Source::new(owner, Some(stream), caps, spool, Some(done));
                        let pipe = Pipe { fd: pipe, source: Arc::new(source), flow: Flow::Flowing };
                        // What is in the spool waits for no event.
                        self.queue.push(Work::Some(Arc::clone(&pipe.source)));
                        self.pipes.insert(id, pipe);
                        self.read(id);
                    }
                    Err(error) => {
                        log::error!("{owner}: {} is not logged: {error}", stream.word());
                        done();
                    }
                }
            }
            Command::AllFollowed => {
                for path in mem::take(&mut self.left) {
                    if let Some((owner, stream @ Some(_))) = owner_and_stream(&path)
                        && let Ok(spool) = Spool::open(path)
                    {
                        let source = Source::new(owner, stream, Caps::default(), spool, None);
                        self.queue.push(Work::Last(Arc::new(source)));
                    }
                }
            }
            Command::Options(options) => self.queue.push(Work::Options(options)),
            Command::Remark(source) => self.queue.push(Work::Some(source)),
            Command::Gone(owner) => self.queue.push(Work::Gone(owner)),
            Command::Flush(done) => {
                for id in self.pipes.keys().copied().collect::<Vec<_>>() {
                    self.read(id);
                }
                self.queue.push(Work::Flush(done));
            }
        }
    }

    fn read_kernel(&mut self) {
        let Some(kernel) = &mut self.kernel else { return };
        match kernel.read(&self.queue) {
            Taken::Nothing => {}
            // The kernel keeps what is not read, as much as it has room for.
            Taken::Full => {
                let _ = self.epoll.delete(kernel.fd());
                kernel.sources().iter().for_each(|source| source.waits.store(true, Ordering::SeqCst));
                if kernel.has_room() {
                    self.wake_those_who_wait();
                }
            }
            Taken::Broken => {
                let _ = self.epoll.delete(kernel.fd());
                self.kernel = None;
            }
        }
    }

    /// A spool has room again.
    fn wake_those_who_wait(&mut self) {
        if let Some(kernel) = &self.kernel
            && kernel.has_room()
        {
            // Already there, as a rule.
            let _ = self.epoll.add(kernel.fd(), EpollEvent::new(EpollFlags::EPOLLIN, KERNEL));
        }
        let waiting = |(id, pipe): (&u64, &Pipe)| (pipe.flow != Flow::Flowing).then_some(*id);
        for id in self.pipes.iter().filter_map(waiting).collect::<Vec<_>>() {
            self.read(id);
        }
    }

    fn lose_patience(&mut self) {
        let now = clock::monotonic();
        let late = |(id, pipe): (&u64, &Pipe)| match pipe.flow {
            Flow::Waiting { until } if until <= now => Some(*id),
            _ => None,
        };
        for id in self.pipes.iter().filter_map(late).collect::<Vec<_>>() {
            if let Some(pipe) = self.pipes.get_mut(&id) {
                log::warn!("{}: the disk takes no logs, what it writes is dropped and counted", pipe.source.owner);
                pipe.flow = Flow::Dropping { within: pipe.source.spool.end_line() };
                let _ = self.epoll.add(&pipe.fd, EpollEvent::new(EpollFlags::EPOLLIN, id));
            }
        }
    }

    fn read(&mut self, id: u64) {
        let Some(pipe) = self.pipes.get_mut(&id) else { return };
        let taken = match pipe.flow {
            Flow::Dropping { within } => pipe.drop_some(within, &mut self.scratch),
            _ => pipe.source.spool.take(&pipe.fd, TURN_BYTES),
        };
        let waited = matches!(pipe.flow, Flow::Waiting { .. });
        match taken {
            Ok(0) => {
                let _ = self.epoll.delete(&pipe.fd);
                if let Some(pipe) = self.pipes.remove(&id) {
                    if pipe.flow == (Flow::Dropping { within: true }) {
                        pipe.source.spool.lose(1);
                    }
                    self.queue.push(Work::Last(pipe.source));
                }
                return;
            }
            Ok(_) => self.queue.push(Work::Some(Arc::clone(&pipe.source))),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(Errno::ENOSPC) => {
                if !waited {
                    pipe.flow = Flow::Waiting { until: clock::monotonic() + PATIENCE };
                    // An end of the other side would be told without pause, whatever one asks for.
                    let _ = self.epoll.delete(&pipe.fd);
                }
                // Said before it is looked at once more: whoever makes room now sees it.
                pipe.source.waits.store(true, Ordering::SeqCst);
                if pipe.source.spool.has_room() {
                    let _ = self.bell.write(1);
                }
                return;
            }
            Err(errno) => {
                log::error!("{}: {errno}", pipe.source.spool.path().display());
                pipe.flow = Flow::Dropping { within: pipe.source.spool.end_line() };
            }
        }
        if waited {
            pipe.flow = Flow::Flowing;
            let _ = self.epoll.add(&pipe.fd, EpollEvent::new(EpollFlags::EPOLLIN, id));
        }
    }
}

impl Pipe {
    /// Takes from the pipe what nobody can keep. With room again, what follows the next end of a line is kept.
    fn drop_some(&mut self, within: bool, scratch: &mut Vec<u8>) -> nix::Result<usize> {
        scratch.resize(TURN_BYTES, 0);
        let n = nix::unistd::read(&self.fd, scratch)?;
        let bytes = &scratch[..n];
        let lines = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
        let end = if within { bytes.iter().position(|byte| *byte == b'\n').map(|at| at + 1) } else { Some(0) };
        // Room for all that was read, or none of it is kept: half of a line is no line.
        let kept = end.map(|end| &bytes[end..]).filter(|kept| self.source.spool.has_room_for(kept.len()));
        if let Some(kept) = kept
            && self.source.spool.is_empty()
        {
            self.source.spool.lose(u64::from(within));
            self.flow = Flow::Flowing;
            if self.source.spool.append(kept) {
                return Ok(n);
            }
            self.source.spool.lose(lines(kept));
        } else {
            // At once, and not at the end of it: the next supervisor knows nothing else of them.
            self.source.spool.lose(lines(bytes));
        }
        self.flow = Flow::Dropping { within: bytes.last().map_or(within, |last| *last != b'\n') };
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::{self, Write},
        sync::mpsc::channel,
    };

    use nix::{
        mount::{MsFlags, mount},
        sched::{CloneFlags, unshare},
    };

    use super::*;
    use crate::{daemon::logs::Logs, unit::UnitName};

    #[test]
    fn spools_leave_half_of_the_memory_and_what_finds_none_is_counted() {
        assert!(nix::unistd::geteuid().is_root(), "this test mounts a file system: run it as root");
        let test = || {
            let folder = tempfile::tempdir().unwrap();
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            let alone = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(None::<&str>, "/", None::<&str>, alone, None::<&str>).unwrap();
            mount(Some("run"), folder.path(), Some("tmpfs"), MsFlags::empty(), Some("size=512k")).unwrap();
            let spool = |name: &str| Spool::open(folder.path().join(name)).unwrap();
            let spools = [spool("a:stdout.1"), spool("b:stdout.1"), spool("c:stdout.1")];
            for spool in &spools {
                while spool.append(&[b'x'; 1000]) {}
                assert!(!spool.has_room_for(1000) && spool.length() > 15_000, "each has some");
            }
            let used: u64 = spools.iter().map(Spool::length).sum();
            assert!(used < 300_000, "{used}");
            // Something else takes the rest.
            let mut filler = fs::File::create(folder.path().join("filler")).unwrap();
            while filler.write_all(&[1; 4096]).is_ok() {}
            let (fd, mut writer) = io::pipe().unwrap();
            writer.write_all(b"one\ntwo\n").unwrap();
            let source = Source::new(
                Owner::parse("web").unwrap(),
                Some(Stream::Out),
                Caps::default(),
                spool("web:stdout.1"),
                None,
            );
            let mut pipe = Pipe { fd: fd.into(), source: Arc::new(source), flow: Flow::Flowing };
            assert_eq!(pipe.source.spool.take(&pipe.fd, TURN_BYTES), Err(Errno::ENOSPC));
            assert!(!pipe.source.spool.has_room(), "or it would be asked again and again");
            assert_eq!((pipe.drop_some(false, &mut Vec::new()), pipe.source.spool.lost()), (Ok(8), 2));
            assert_eq!(pipe.flow, Flow::Dropping { within: false });
            fs::remove_file(folder.path().join("filler")).unwrap();
            drop(filler);
            writer.write_all(b"three\n").unwrap();
            assert_eq!(pipe.drop_some(false, &mut Vec::new()), Ok(6));
            assert_eq!((pipe.flow, pipe.source.spool.length()), (Flow::Flowing, 6));
        };
        // The namespace is this thread's alone.
        std::thread::spawn(test).join().unwrap();
    }

    #[test]
    fn a_disk_that_stands_still_is_said_once_by_whoever_waits_for_it() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("web")).unwrap();
        let current = folder.path().join("web/current");
        nix::unistd::mkfifo(&current, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let (complain, complaints) = channel();
        let complain = move |kind, text| complain.send((kind, text)).unwrap();
        let logs = Logs::start(folder.path().into(), folder.path().join("spools"), None, None, complain).unwrap();
        let (pipe, mut writer) = io::pipe().unwrap();
        let unit = UnitName::parse("web").unwrap();
        logs.follow(&unit, (Stream::Out, 1), Caps::default(), pipe.into(), || {});
        writeln!(writer, "one line, and nothing is full").unwrap();
        let (kind, text) = complaints.recv_timeout(Duration::from_secs(60)).unwrap();
        assert_eq!(kind, ErrorKind::TimedOut);
        assert!(text.contains("stands still"), "{text}");
        writeln!(writer, "another").unwrap();
        fs::File::open(&current).unwrap();
        assert!(complaints.try_recv().is_err(), "said once");
    }
}

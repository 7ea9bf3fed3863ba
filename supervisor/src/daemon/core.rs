//! The loop and what it owns. One thread, one epoll; an error in a turn is logged and the next turn comes.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io::ErrorKind,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use ::handoff::{LastEnd, StateStore, ToInit};
use nix::{
    errno::Errno,
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
        inotify::{InitFlags, Inotify},
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
};
use oci::image::PreparedImage;

use super::{
    bundle::Folders,
    clock,
    conditions::Unmet,
    engine::{Engine, JobId},
    exec::Sessions,
    fd_store::FdStore,
    handoff::Handoff,
    health::Checkers,
    images::{Images, Prepared},
    logs::{Logs, Own, Reading, Remarks},
    machine::{Event, Process},
    mailbox::Mailbox,
    network::Network,
    networks::{Connection, Wiring},
    notify::{Gone, Notify},
    paths::Paths,
    pods::Pods,
    runtime::Runtime,
    shutdown::Shutdown,
    sockets::Sockets,
    timers::Timers,
    unit_files::UnitFiles,
    watchers::Watchers,
};
use crate::{
    api::{
        http::Answer,
        server::{ConnectionId, Server},
        types::BootStage,
    },
    net::{NetEvent, dns::Keep},
    unit::{ImageName, UnitName},
};

/// High halves of epoll tokens: whose event it is.
pub(crate) mod class {
    pub(super) const SIGNALS: u32 = 1;
    pub(super) const MAIL: u32 = 2;
    pub(super) const HANDOFF: u32 = 3;
    pub(super) const CGROUPS: u32 = 4;
    pub(super) const UNIT_FILES: u32 = 5;
    pub(super) const API: u32 = 6;
    pub(crate) const NOTIFY: u32 = 8;
    pub(crate) const SOCKETS: u32 = 10;
    pub(crate) const CHECKS: u32 = 9;
    pub(crate) const CLOCK: u32 = 11;
    pub(crate) const FDS: u32 = 12;
}

/// Exits of processes nobody knows (yet): a container may end before the runtime has told its pid.
const MAX_UNCLAIMED: usize = 256;
/// What could not be done and has no deadline of its own is tried again so often.
const LOOK_AROUND: Duration = Duration::from_secs(60);

/// What worker threads report.
#[derive(Debug)]
pub(crate) enum Mail {
    Image {
        image: ImageName,
        prepared: Prepared,
    },
    /// What of a unit's conditions does not hold.
    Judged {
        unit: UnitName,
        attempt: u64,
        unmet: Option<Unmet>,
    },
    Bundle {
        unit: UnitName,
        attempt: u64,
        /// The machine's ids of the container's root.
        result: Result<Option<(u32, u32)>, String>,
    },
    /// Its namespaces are made; or gone, as far as that can be done.
    PodMade {
        unit: UnitName,
        attempt: u64,
        result: Result<Option<Connection>, String>,
    },
    PodGone {
        unit: UnitName,
        attempt: u64,
    },
    /// A log pipe is at its end and written; PID 1 keeps it under this name.
    LogEnded {
        stored: String,
    },
    /// A log reader has something, or has ended.
    LogChunk,
    /// Of a request that took its time.
    Answer {
        connection: ConnectionId,
        answer: Answer,
    },
    /// A line for the console. `full`: there is no room for them.
    DiskTakesNoLogs {
        full: bool,
        text: String,
    },
    /// A container has its cards, or not.
    Connected {
        unit: UnitName,
        attempt: u64,
        result: Result<Connection, String>,
    },
    /// Its cards are gone.
    Disconnected {
        unit: UnitName,
        attempt: u64,
    },
    /// What PID 1 is to keep for the networks.
    Keep(Keep),
    Network(NetEvent),
}

/// A client that waits for the end of a job.
#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) connection: ConnectionId,
    pub(crate) job: JobId,
    pub(crate) unit: UnitName,
    /// What PID 1 keeps its connection as.
    pub(crate) stored: Option<String>,
}

pub(crate) struct Daemon {
    pub(crate) paths: Paths,
    pub(crate) epoll: Epoll,
    pub(crate) signals: SignalFd,
    pub(crate) mail: Mailbox<Mail>,
    pub(crate) handoff: Handoff,
    pub(crate) generation: u32,
    /// Who ended the supervisor before this one.
    pub(crate) predecessor: LastEnd,
    pub(crate) state_store: StateStore,
    pub(crate) engine: Engine,
    pub(crate) files: UnitFiles,
    pub(crate) images: Images,
    /// Between Prepare and Create.
    pub(crate) prepared: BTreeMap<UnitName, Arc<PreparedImage>>,
    /// Whose bundle a thread is making, wanted or not: nobody else works at its files until it says that it has ended.
    pub(crate) building: BTreeSet<UnitName>,
    pub(crate) folders: Folders,
    pub(crate) runtime: Runtime,
    pub(crate) cgroup_watch: Inotify,
    pub(crate) logs: Logs,
    /// Of units, on their way into their logs.
    pub(crate) remarks: BTreeMap<UnitName, Remarks>,
    /// A unit has come to rest since it was looked whether some can be let go of.
    pub(crate) some_rest: bool,
    pub(crate) server: Server,
    pub(crate) waiters: Vec<Waiter>,
    /// Connections of new waiters, for PID 1, as soon as their jobs are written.
    pub(crate) clients: Vec<(String, OwnedFd)>,
    pub(crate) settled_waiters: Vec<ConnectionId>,
    pub(crate) readings: Vec<(ConnectionId, Reading)>,
    pub(crate) timing: Vec<BootStage>,
    /// When each unit's present start began, for the line on the console.
    pub(crate) start_began: BTreeMap<UnitName, Duration>,
    pub(crate) unclaimed: VecDeque<(Process, i32)>,
    /// The last exit that PID 1 told us, and the last that we acknowledged.
    pub(crate) exit_seq: u64,
    pub(crate) acknowledged: u64,
    /// What PID 1 kept, until units are known.
    pub(crate) stored: BTreeMap<String, OwnedFd>,
    /// Events that came of performing an action.
    pub(crate) follow_ups: VecDeque<(UnitName, Event)>,
    pub(crate) network: Network,
    pub(crate) wiring: Wiring,
    pub(crate) notify: Notify,
    pub(crate) sockets: Sockets,
    pub(crate) fd_store: FdStore,
    pub(crate) checkers: Checkers,
    pub(crate) sessions: Sessions,
    pub(crate) watchers: Watchers,
    pub(crate) pods: Pods,
    pub(crate) timers: Timers,
    pub(crate) shutdown: Option<Shutdown>,
    pub(crate) ports: BTreeSet<PathBuf>,
    pub(crate) look_for_ports: Option<Duration>,
    /// The state of some unit could not be written.
    pub(crate) unwritten: bool,
    /// Every enabled unit was asked for.
    pub(crate) booted: bool,
    /// And all of them were active, finished or failed once.
    pub(crate) started: bool,
    pub(crate) ended: bool,
}

impl Daemon {
    pub(crate) fn new(paths: Paths, handoff: Handoff, own: Option<&Own>) -> nix::Result<Self> {
        let mut mask = SigSet::empty();
        for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGHUP] {
            mask.add(signal);
        }
        // Threads started from here on inherit the mask; children get an empty one from std.
        mask.thread_block()?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let mail = Mailbox::new()?;
        let cgroup_watch = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let files = UnitFiles::new()?;
        let readable = |fd: BorrowedFd<'_>, class: u32| {
            epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, u64::from(class) << 32))
        };
        readable(signals.as_fd(), class::SIGNALS)?;
        readable(mail.bell(), class::MAIL)?;
        readable(cgroup_watch.as_fd(), class::CGROUPS)?;
        readable(files.watch(), class::UNIT_FILES)?;
        readable(handoff.fd(), class::HANDOFF)?;
        let folders = Folders::new(paths.containers());
        let sender = mail.sender();
        let complain = move |error, text| {
            let full = matches!(error, ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
            sender.send(Mail::DiskTakesNoLogs { full, text });
        };
        Ok(Self {
            // Only on a machine of ours: in development the kernel is somebody else's.
            logs: Logs::start(paths.logs(), paths.spools(), own, Some(paths.kmsg()), complain)?,
            runtime: Runtime::new(paths.clone()),
            wiring: Wiring::new(&paths, mail.sender()),
            server: Server::new(class::API, nix::unistd::geteuid().as_raw()),
            started: paths.settled().exists(),
            paths,
            epoll,
            signals,
            mail,
            handoff,
            generation: 1,
            predecessor: LastEnd::ByItself,
            state_store: StateStore::Persistent,
            engine: Engine::default(),
            files,
            images: Images::default(),
            prepared: BTreeMap::new(),
            building: BTreeSet::new(),
            folders,
            cgroup_watch,
            remarks: BTreeMap::new(),
            some_rest: true,
            waiters: Vec::new(),
            clients: Vec::new(),
            settled_waiters: Vec::new(),
            readings: Vec::new(),
            timing: Vec::new(),
            start_began: BTreeMap::new(),
            unclaimed: VecDeque::new(),
            exit_seq: 0,
            acknowledged: 0,
            stored: BTreeMap::new(),
            follow_ups: VecDeque::new(),
            network: Network::default(),
            notify: Notify::default(),
            sockets: Sockets::default(),
            fd_store: FdStore::default(),
            checkers: Checkers::default(),
            sessions: Sessions::default(),
            watchers: Watchers::default(),
            pods: Pods::default(),
            timers: Timers::default(),
            shutdown: None,
            ports: BTreeSet::new(),
            look_for_ports: None,
            unwritten: false,
            booted: false,
            ended: false,
        })
    }

    /// Until the daemon is told to end.
    pub(crate) fn run(&mut self) {
        let mut events = [EpollEvent::empty(); 64];
        self.settle();
        while !self.ended {
            let deadline = self.next_deadline();
            // PID 1 asks every few seconds: no reason to look at every unit, but for those whose state could not be written.
            while !self.wait(&mut events, deadline) && !self.unwritten {}
            self.tick();
            self.settle();
        }
        self.hand_over();
    }

    /// Takes what comes in. False: nothing follows from it.
    fn wait(&mut self, events: &mut [EpollEvent], deadline: Duration) -> bool {
        match self.epoll.wait(events, timeout(deadline)) {
            Ok(0) | Err(Errno::EINTR) => true,
            Ok(ready) => {
                let matters = events[..ready].iter().fold(false, |matters, event| self.dispatch(*event) | matters);
                matters || deadline <= clock::monotonic()
            }
            Err(errno) => {
                log::error!("epoll: {errno}");
                true
            }
        }
    }

    fn next_deadline(&self) -> Duration {
        let shutdown = self.shutdown.as_ref().map(Shutdown::next_deadline);
        let deadlines = [
            self.engine.next_deadline(),
            // In a shutdown they start nothing any more.
            self.shutdown.is_none().then(|| self.timers.next_deadline(clock::now())).flatten(),
            self.server.next_deadline(),
            shutdown,
            self.look_for_ports,
            self.network.patience,
            self.checkers.next_deadline(),
            self.notify.next_deadline(),
            self.watchers.next_deadline(),
        ];
        let at_last = clock::monotonic() + LOOK_AROUND;
        deadlines.into_iter().flatten().fold(at_last, Duration::min)
    }

    /// False: nothing follows from it.
    fn dispatch(&mut self, event: EpollEvent) -> bool {
        let low = u32::try_from(event.data() & u64::from(u32::MAX)).unwrap_or(0);
        match u32::try_from(event.data() >> 32).unwrap_or(0) {
            class::SIGNALS => self.on_signals(),
            class::MAIL => self.mail.drain().into_iter().for_each(|mail| self.on_mail(mail)),
            class::HANDOFF => return self.on_handoff(),
            class::CGROUPS => self.on_cgroup_events(),
            class::UNIT_FILES => self.files.changed(),
            class::API => self.server.ready(&self.epoll, low, event.events(), clock::monotonic()),
            class::CLOCK => self.on_clock_set(),
            class::CHECKS => self.on_check_output(low),
            class::NOTIFY => self.on_notify(low, Gone::Ignored),
            class::SOCKETS => self.on_socket(low),
            class::FDS => self.on_fd_ended(low),
            other => log::error!("an event of class {other}"),
        }
        true
    }

    fn tick(&mut self) {
        let now = clock::now();
        self.engine.tick(now);
        self.tick_timers(now);
        self.server.tick(&self.epoll, now.mono);
        self.tick_shutdown(now);
        self.kill_late_reloads(now.mono);
        self.tick_notify(now.mono);
        self.tick_watchers(now.mono);
        if self.network.patience.is_some_and(|at| at <= now.mono) {
            if self.engine.waits_for_network() {
                let text = "no address within 30 s, what waits for one starts without";
                self.say(format!("{:<9} {text}", "network"));
            }
            self.network_is_online();
        }
        if self.look_for_ports.is_some_and(|at| at <= now.mono) {
            self.find_ports(now.mono);
        }
    }

    /// Everything that follows from what just happened, in the order that a death in between can bear: the record is written
    /// before the deed, and PID 1 forgets an exit only when what came of it is written.
    pub(crate) fn settle(&mut self) {
        loop {
            let asked = self.server.take_requests().into_iter();
            let answers: Vec<_> =
                asked.filter_map(|(client, head)| Some((client, self.on_request(client, &head)?))).collect();
            while let Some((unit, event)) = self.follow_ups.pop_front() {
                self.engine.event(&unit, event, clock::now());
            }
            let effects = self.engine.take_effects();
            self.note_remarks(&effects);
            self.save();
            // What a client is told is written: it holds under the next supervisor, too.
            self.keep_clients();
            let answered = !answers.is_empty();
            for (client, answer) in answers {
                self.server.answer(&self.epoll, client, &answer, clock::monotonic());
            }
            if !answered && effects.is_empty() && self.follow_ups.is_empty() && !self.runtime_failures() {
                break;
            }
            for effect in effects {
                self.perform(effect);
            }
        }
        self.let_go();
        // The end of the last unit is no reason to wake up once more.
        if self.engine.quiet() {
            self.tick_shutdown(clock::now());
        }
        self.acknowledge();
        self.forget_gone_clients();
        self.arm_sockets();
        self.answer_settled();
        self.pump_logs();
        self.want_handoff_writable();
    }

    fn acknowledge(&mut self) {
        // Where a record could not be written the next supervisor is to be told of the exit, too.
        if self.exit_seq > self.acknowledged && self.save() {
            self.acknowledged = self.exit_seq;
            self.tell(&ToInit::ExitsHandled { seq: self.exit_seq });
        }
    }

    /// To PID 1.
    pub(crate) fn tell(&mut self, message: &ToInit) {
        self.handoff.send(message, None);
    }

    pub(crate) fn store_fd(&mut self, name: String, fd: BorrowedFd<'_>) {
        match fd.try_clone_to_owned() {
            Ok(fd) => self.handoff.send(&ToInit::PutFd { name }, Some(fd)),
            Err(error) => log::error!("store the descriptor {name}: {error}"),
        }
    }

    /// A line for the console and the supervisor's log.
    pub(crate) fn say(&mut self, text: String) {
        log::info!("{text}");
        self.tell(&ToInit::Say { text });
    }

    /// A mistake in a unit file. PID 1 takes a line's first word for who speaks and cuts it short: not the file's name.
    pub(crate) fn say_problem(&mut self, problem: &str) {
        log::warn!("{problem}");
        self.tell(&ToInit::Say { text: format!("{:<9} {problem}", "units") });
    }

    fn want_handoff_writable(&mut self) {
        let token = u64::from(class::HANDOFF) << 32;
        if self.handoff.is_closed() {
            // Without it no exit and no shutdown would ever be told: whoever PID 1 starts next does better.
            log::error!("PID 1 closed the handoff socket: ends");
            self.ended = true;
            return;
        }
        let flags =
            if self.handoff.is_full() { EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT } else { EpollFlags::EPOLLIN };
        let _ = self.epoll.modify(self.handoff.fd(), &mut EpollEvent::new(flags, token));
    }

    pub(crate) fn stage(&mut self, name: String) {
        if !self.timing.iter().any(|stage| stage.name == name) {
            let at_ns = u64::try_from(clock::monotonic().as_nanos()).unwrap_or(u64::MAX);
            self.timing.push(BootStage { name, at_ns, idle_ns: handoff::idle_ns() });
        }
    }

    pub(crate) fn keep_unclaimed(&mut self, process: Process, wait_status: i32) {
        if self.unclaimed.len() >= MAX_UNCLAIMED {
            self.unclaimed.pop_front();
        }
        self.unclaimed.push_back((process, wait_status));
    }
}

fn timeout(deadline: Duration) -> EpollTimeout {
    // One more: a deadline is never met a fraction too early.
    let ms = deadline.saturating_sub(clock::monotonic()).as_millis() + 1;
    EpollTimeout::try_from(u32::try_from(ms).unwrap_or(0)).unwrap_or(EpollTimeout::ZERO)
}

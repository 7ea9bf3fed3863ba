//! Everything PID 1 knows, and the handlers' share of each turn.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use handoff::{LastEnd, ShutdownKind, StateStore};
use nix::sys::signalfd::SignalFd;

use crate::contain::{self, Handler, Panicked};
use crate::exits::ExitQueue;
use crate::fdstore::FdStore;
use crate::rescue::{Choice, Rescue};
use crate::settings::Settings;
use crate::shutdown::plan::{self, Plan};
use crate::supervise::child::{Child, Command};
use crate::supervise::link::{Blocked, Link, Sent};
use crate::supervise::policy::{self, Policy};
use crate::sys::crash::Former;
use crate::text::Text;
use crate::{story, sys};

use super::requests::SayLimit;

const CLOCK_REST: Duration = Duration::from_secs(1);
/// Spare descriptors, given up for a moment when there are no others.
const SPARE_FDS: usize = 8;

pub(crate) struct Machine {
    pub(super) signals: SignalFd,
    pub(super) settings: Settings,
    pub(super) state: StateStore,
    pub(super) exits: ExitQueue,
    pub(super) store: FdStore,
    pub(super) policy: Policy,
    pub(super) command: Command,
    pub(super) child: Option<Child>,
    pub(super) link: Option<Link>,
    pub(super) generation: u32,
    /// Starts tried, failed ones included.
    pub(super) spawns: u32,
    /// How often the next start waited for what was killed with the last one.
    pub(super) dying_waits: u8,
    /// Why the supervisor ended or could not be started, the last time.
    pub(super) last_death: Text<120>,
    /// Who ended it.
    pub(super) last_end: Option<LastEnd>,
    pub(super) plan: Plan,
    /// The child that does a step of the shutdown.
    pub(super) helper: Option<u32>,
    pub(super) current_mount: Option<&'static AtomicU64>,
    pub(super) stuck_mounts: [u64; 16],
    pub(super) stuck_count: usize,
    pub(super) rescue: Option<Rescue>,
    pub(super) spare: [Option<OwnedFd>; SPARE_FDS],
    /// A clock handler that panicked is left alone until then: its deadline is still there and would make PID 1 spin.
    clock_rests_until: Duration,
    /// A turn ended before the work did.
    pub(super) more_children: bool,
    pub(super) more_to_send: bool,
    pub(super) garbage: u64,
    refused_told: u64,
    pub(super) say_limit: SayLimit,
}

impl Machine {
    pub(crate) fn new(signals: SignalFd, settings: Settings, state: StateStore, former: Option<Former>) -> Self {
        let mut machine = Self {
            signals,
            settings,
            state,
            exits: former.map_or_else(ExitQueue::new, |former| ExitQueue::adopt(former.exits)),
            store: former.map_or_else(FdStore::new, |former| FdStore::adopt(former.table)),
            policy: Policy::new(),
            command: Command::new(),
            child: None,
            link: None,
            generation: 0,
            spawns: 0,
            dying_waits: 0,
            last_death: Text::new(),
            last_end: None,
            plan: Plan::new(),
            helper: None,
            current_mount: None,
            stuck_mounts: [0; 16],
            stuck_count: 0,
            rescue: None,
            spare: [const { None }; SPARE_FDS],
            clock_rests_until: Duration::ZERO,
            more_children: false,
            more_to_send: false,
            garbage: 0,
            refused_told: 0,
            say_limit: SayLimit::new(),
        };
        machine.keep_spare_fds();
        sys::crash::remember_exits(machine.exits.file());
        if let Some(former) = former {
            machine.take_over(former);
        }
        machine
    }

    /// After PID 1 executed itself anew: the old supervisor cannot hear us any more; a shutdown goes on.
    fn take_over(&mut self, former: Former) {
        let (fds, exits) = (self.store.len(), self.exits.len());
        story::warn(
            "init",
            format_args!("PID 1 started over times={} kept fds={fds} kept exits={exits}", former.lives),
        );
        self.generation = u32::from(former.lives);
        self.last_end = Some(LastEnd::FromOutside);
        if let Ok(pid @ 2..) = i32::try_from(former.supervisor) {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
        // What it said last is done: descriptors to keep, a shutdown.
        if let Ok(socket) = sys::fds::adopt(former.socket) {
            self.link = Some(Link::new(socket, self.hello(), None));
            for _ in 0..16 {
                self.hear(story::now());
            }
            self.link = None;
        }
        if let Ok(ending @ 1..) = i32::try_from(former.ending) {
            self.on_signal(sys::signals::rt_min() + ending, 1, story::now());
        }
    }

    pub(super) fn keep_spare_fds(&mut self) {
        for place in &mut self.spare {
            if place.is_none() {
                *place = self.signals.as_fd().try_clone_to_owned().ok();
            }
        }
    }

    /// Runs `work`, and runs it again with the spare descriptors given up if it failed for want of one.
    pub(super) fn with_spare<T>(&mut self, mut work: impl FnMut(&mut Self) -> nix::Result<T>) -> nix::Result<T> {
        match work(self) {
            Err(nix::Error::EMFILE | nix::Error::ENFILE) => {
                self.spare = [const { None }; SPARE_FDS];
                let result = work(self);
                self.keep_spare_fds();
                result
            }
            result => result,
        }
    }

    /// Something is left to do that no fd will report.
    pub(crate) fn has_more(&self) -> bool {
        self.more_children || self.more_to_send
    }

    /// The next time at which the clock changes something.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        let rescue = self.rescue.as_ref().and_then(Rescue::deadline);
        let clock = [self.policy.deadline(), self.plan.deadline()].into_iter().flatten().min();
        let clock = clock.map(|until| until.max(self.clock_rests_until));
        [clock, rescue, crate::watchdog::fed_until()].into_iter().flatten().min()
    }

    pub(crate) fn on_signals(&mut self, now: Duration) {
        // Bounded: a flood of signals coalesces, but real-time ones queue.
        for _ in 0..64 {
            let Some((signal, sender)) = sys::signals::next(&self.signals) else { return };
            contain::fault_point(Handler::Signals);
            self.on_signal(signal, sender, now);
        }
    }

    /// As systemd(1) documents them for PID 1, where they make sense here.
    fn on_signal(&mut self, signal: i32, sender: u32, now: Duration) {
        use ShutdownKind::{Halt, Kexec, PowerOff, Reboot};
        use plan::Event::{Forced, Requested};
        if signal == libc::SIGCHLD {
            return;
        }
        let event = match signal - sys::signals::rt_min() {
            3 => Requested(Halt),
            4 => Requested(PowerOff),
            5 => Requested(Reboot),
            6 => Requested(Kexec),
            13 => Forced(Halt),
            14 => Forced(PowerOff),
            15 => Forced(Reboot),
            16 => Forced(Kexec),
            _ => match signal {
                // The kernel sends it for Ctrl-Alt-Del once CAD is off.
                libc::SIGINT => Requested(Reboot),
                libc::SIGPWR => Requested(PowerOff),
                libc::SIGUSR2 => {
                    fault_injection();
                    return;
                }
                libc::SIGTERM => {
                    story::say("init", format_args!("SIGTERM from pid={sender}: a new supervisor"));
                    self.supervise(policy::Event::Renew, now);
                    return;
                }
                _ => {
                    story::debug("init", format_args!("signal={signal} from pid={sender} ignored"));
                    return;
                }
            },
        };
        story::say("shutdown", format_args!("asked for by signal={signal} from pid={sender}"));
        self.shut_down(event, now);
    }

    /// Talks to the supervisor: first what it says, then what it is to hear.
    pub(crate) fn on_link(&mut self, readable: bool, now: Duration) {
        if readable {
            self.hear(now);
        }
        let Some(link) = &mut self.link else { return };
        self.more_to_send = false;
        match link.pump(&mut self.exits, &self.store) {
            Sent::All => {}
            Sent::Some => self.more_to_send = link.blocked() == Blocked::No,
            Sent::Gone => self.supervisor_hung_up(now),
        }
    }

    pub(super) fn supervisor_hung_up(&mut self, now: Duration) {
        self.link = None;
        self.more_to_send = false;
        self.supervise(policy::Event::SocketClosed, now);
    }

    pub(crate) fn on_rescue(&mut self, now: Duration) {
        let Some(rescue) = &mut self.rescue else { return };
        contain::fault_point(Handler::Rescue);
        let Some(choice) = rescue.step(now) else { return };
        // A key press would have moved the deadline.
        if choice != Choice::Retry && rescue.deadline().is_some_and(|until| now >= until) {
            crate::watchdog::feed_until(now + self.settings.timing.unattended);
        }
        self.rescue = None;
        match choice {
            Choice::Retry => self.supervise(policy::Event::Retry, now),
            Choice::PowerOff => self.shut_down(plan::Event::Requested(ShutdownKind::PowerOff), now),
            Choice::Reboot | Choice::StateReset => {
                if choice == Choice::StateReset {
                    self.reset_state();
                }
                self.shut_down(plan::Event::Requested(ShutdownKind::Reboot), now);
            }
        }
    }

    /// Marks the state device, so that the next boot makes a new file system on it; in a copy, because a disk can hang.
    fn reset_state(&mut self) {
        let mark = || match crate::stage1::state::reset() {
            Ok(node) => {
                story::warn("rescue", format_args!("{node} is marked: the next boot makes a new state on it"));
                0
            }
            Err(error) => {
                story::warn("rescue", format_args!("state reset: {error}"));
                1
            }
        };
        if let Err(errno) = sys::fork::run(mark) {
            story::warn("rescue", format_args!("state reset: fork: {}", errno.desc()));
        }
    }

    pub(crate) fn on_clock(&mut self, now: Duration) {
        if now < self.clock_rests_until {
            return;
        }
        contain::fault_point(Handler::Clock);
        self.supervise(policy::Event::Tick, now);
        self.shut_down(plan::Event::Tick, now);
        self.keep_spare_fds();
    }

    /// A machine without memory is worth a line, and not one for each allocation.
    pub(crate) fn tell_of_want(&mut self) {
        let refused = sys::alloc::refused();
        if refused >= self.refused_told.saturating_mul(2).max(1) {
            self.refused_told = refused;
            story::warn("init", format_args!("no memory, living on the reserve: refusals={refused}"));
        }
    }

    /// What remains to be done when a handler panicked. Once may be bad luck; again within a minute it is broken,
    /// and what it served is given up in an orderly way.
    pub(crate) fn after_panic(&mut self, handler: Handler, result: Result<(), Panicked>, now: Duration) {
        let Err(Panicked(times)) = result else { return };
        if handler == Handler::Link {
            self.more_to_send = self.link.is_some();
        }
        if times < 2 {
            return;
        }
        if handler == Handler::Clock {
            self.clock_rests_until = now + CLOCK_REST;
        }
        match handler {
            // The next supervisor gets a new socket, without what was in this one.
            Handler::Link if self.link.is_some() => {
                let _ = contain::run(Handler::Setup, || self.supervisor_hung_up(now));
            }
            Handler::Rescue => {
                self.rescue = None;
                let _ = contain::run(Handler::Setup, || {
                    self.shut_down(plan::Event::Requested(ShutdownKind::Reboot), now);
                });
            }
            Handler::Clock if self.plan.is_up() && self.rescue.is_none() => {
                let _ = contain::run(Handler::Setup, || {
                    self.open_rescue("PID 1's clock handler is broken", Choice::Reboot, now);
                });
            }
            // Broken during a shutdown, or after a person chose "retry": another life of PID 1 may fare better.
            Handler::Clock if times > 10 && self.rescue.is_none() => {
                sys::crash::start_over("the clock handler panics again and again")
            }
            _ => {}
        }
    }
}

/// `ORLOP_FAULT_CRASH=abort|segv|stack`: SIGUSR2 breaks PID 1 itself. Nothing in a release build.
fn fault_injection() {
    #[cfg(debug_assertions)]
    if let Some(how) = std::env::var_os("ORLOP_FAULT_CRASH") {
        sys::crash::break_down(&how);
    }
}

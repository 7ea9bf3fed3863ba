//! Doing what the supervisor's policy and the shutdown's plan decide.

use std::sync::atomic::Ordering;
use std::time::Duration;

use handoff::{Hello, LastEnd, StateStore};
use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::machine::Machine;
use crate::rescue::{Choice, Reason, Rescue};
use crate::shutdown::mounts::{self, Outcome};
use crate::shutdown::plan::{self, Step};
use crate::shutdown::{devices, processes};
use crate::supervise::child;
use crate::supervise::link::Link;
use crate::supervise::policy;
use crate::sys::shared;
use crate::{story, sys};

/// Seconds in which what was killed with a supervisor may end before the next one starts all the same: a process that hangs in
/// the kernel (a dead disk) may never end, and a supervisor whose new containers are killed at birth is better than none.
const MAX_DYING_WAITS: u8 = 10;

/// What the rescue screen says beside the reason.
const CONTAINERS_RUN_ON: &str = "Containers that run keep running; nothing restarts them until the supervisor is back.";

impl Machine {
    pub(super) fn supervise(&mut self, event: policy::Event, now: Duration) {
        let Some(action) = self.policy.step(event, now, &self.settings.timing) else { return };
        match action {
            policy::Action::Spawn => self.spawn(now),
            policy::Action::Ping { nonce } => {
                if let Some(link) = &mut self.link {
                    link.ping(nonce);
                    self.more_to_send = true;
                }
                // Comes once: a supervisor, whichever, has had the machine for itself for a while.
                if nonce == 1 {
                    crate::setup::load_the_rest();
                }
            }
            policy::Action::Terminate => self.signal_supervisor(Signal::SIGTERM),
            policy::Action::Kill(why) => {
                story::warn("init", format_args!("killing the supervisor: {why}"));
                self.signal_supervisor(Signal::SIGKILL);
            }
            policy::Action::GiveUp(why) => {
                let reason = Reason::of(format_args!("{why}; the last time: {}", self.last_death));
                // It did not fail: a reboot would end the containers and change nothing.
                let killed = event == policy::Event::Died && self.last_end == Some(LastEnd::FromOutside);
                self.open_rescue(reason.as_str(), if killed { Choice::Retry } else { Choice::Reboot }, now);
                self.shut_down(plan::Event::SupervisorGone, now);
            }
        }
    }

    fn signal_supervisor(&self, signal: Signal) {
        if let Some(child) = &self.child {
            child.signal(signal);
        }
    }

    fn spawn(&mut self, now: Duration) {
        if self.generation > 0 && !crate::setup::renew_supervisors_cgroup() {
            if self.dying_waits < MAX_DYING_WAITS {
                // What it would start from there may be killed at birth.
                self.dying_waits += 1;
                story::warn("init", "what was killed with the supervisor has not ended yet");
                return self.supervise(policy::Event::NoRoom, now);
            }
            story::warn("init", "what was killed with the supervisor does not end: going on beside it");
        }
        self.dying_waits = 0;
        let started = match fault_spawn(self.spawns) {
            Some(errno) => Err(errno),
            None => self.with_spare(|machine| machine.command.start()),
        };
        self.spawns = self.spawns.saturating_add(1);
        match started {
            Ok((child, socket)) => {
                self.generation += 1;
                if self.generation == 1 {
                    story::stage("supervisor-exec");
                    story::say("supervise", "started");
                }
                story::debug("init", format_args!("supervisor pid={} generation={}", child.pid, self.generation));
                if let (Some(errno), 1) = (child.misplaced, self.generation) {
                    let cgroup = child::CGROUP;
                    story::warn("init", format_args!("start the supervisor in {cgroup}: {}", errno.desc()));
                }
                self.exits.rewind();
                let mut link = Link::new(socket, self.hello(), self.last_end);
                if let Some(kind) = self.plan.asks() {
                    link.request_shutdown(kind);
                }
                self.link = Some(link);
                self.more_to_send = true;
                self.child = Some(child);
                self.supervise(policy::Event::Spawned, now);
            }
            Err(errno) => {
                let program = self.command.program();
                self.last_death = crate::text::Text::of(format_args!("start {program}: {}", errno.desc()));
                story::warn("init", format_args!("{}", self.last_death));
                let is_want = matches!(errno, Errno::EAGAIN | Errno::ENOMEM | Errno::EMFILE | Errno::ENFILE);
                let event = if is_want { policy::Event::NoRoom } else { policy::Event::SpawnFailed };
                self.supervise(event, now);
            }
        }
    }

    pub(super) fn hello(&self) -> Hello {
        Hello {
            generation: self.generation,
            queued_exits: u32::try_from(self.exits.len()).unwrap_or(u32::MAX),
            dropped_exits: self.exits.dropped(),
            state: self.state,
        }
    }

    /// `unattended`: what follows when nobody answers.
    pub(super) fn open_rescue(&mut self, reason: &str, unattended: Choice, now: Duration) {
        if self.rescue.is_some() || !self.plan.is_up() {
            return;
        }
        let all = [Choice::Retry, Choice::Reboot, Choice::PowerOff, Choice::StateReset];
        // A state in use is not offered: what is mounted may not be overwritten.
        let choices = if self.state == StateStore::Degraded { &all[..] } else { &all[..3] };
        let timeout = self.settings.rescue_timeout;
        self.rescue = Some(Rescue::open(reason, CONTAINERS_RUN_ON, choices, unattended, timeout, now));
    }

    pub(super) fn shut_down(&mut self, event: plan::Event, now: Duration) {
        let was_up = self.plan.is_up();
        let actions = self.plan.step(event, now, &self.settings.timing);
        if !self.plan.is_up() {
            sys::crash::remember_ending(processes::signal(self.plan.kind()));
        }
        if was_up && !self.plan.is_up() {
            // Each step has its deadline; this one is for the case that nothing looks at them any more.
            crate::watchdog::feed_until(now + plan::longest(&self.settings.timing));
            self.rescue = None;
            story::say("shutdown", processes::word(self.plan.kind()));
        }
        for action in actions.into_iter().flatten() {
            self.shutdown_action(action, now);
        }
    }

    fn shutdown_action(&mut self, action: plan::Action, now: Duration) {
        match action {
            plan::Action::Ask(kind) => match &mut self.link {
                Some(link) => {
                    link.request_shutdown(kind);
                    self.more_to_send = true;
                }
                None if self.policy.is_given_up() => self.shut_down(plan::Event::SupervisorGone, now),
                // The next one is asked as soon as it is there.
                None => {}
            },
            plan::Action::Terminate => {
                self.supervise(policy::Event::Retire, now);
                story::say("shutdown", "every process is asked to end");
                processes::terminate_all();
                self.more_children = true;
            }
            plan::Action::Kill => {
                self.supervise(policy::Event::Retire, now);
                story::say("shutdown", format_args!("what is left is killed{}", processes::left()));
                processes::kill_all();
                self.more_children = true;
            }
            plan::Action::Start(step) => self.start_step(step, now),
            plan::Action::Abandon(step) => self.abandon_step(step),
            plan::Action::Reboot(kind) => self.end(kind),
        }
    }

    fn start_step(&mut self, step: Step, now: Duration) {
        if self.current_mount.is_none() {
            self.current_mount = shared::with_children(1).ok().map(|numbers| &numbers[0]);
        }
        if step == (Step::Unmount { round: 1 }) {
            story::say("shutdown", "unmounting");
            // A stored file, or the name space of a process that is gone, would hold its file system.
            self.store.clear();
        }
        let stuck = &self.stuck_mounts[..self.stuck_count];
        let current = self.current_mount;
        let work = || match step {
            Step::Unmount { round } => {
                if round == 1 {
                    crate::setup::random::save();
                }
                mounts::unmount_round(stuck, current)
            }
            Step::Detach { .. } => devices::detach(),
            Step::ReadOnly => mounts::read_only_round(),
            Step::Sync => {
                nix::unistd::sync();
                story::drain();
                Outcome { progress: false, left: false }
            }
        };
        let work = || {
            fault_hang();
            work().to_status()
        };
        match sys::fork::run(work) {
            Ok(pid) => self.helper = Some(pid),
            Err(errno) => {
                // Everything else is dead, so this is a kernel without memory: the step is left out.
                story::warn("shutdown", format_args!("{step:?} is left out: fork: {}", errno.desc()));
                self.shut_down(plan::Event::StepDone { progress: false, left: true }, now);
            }
        }
    }

    fn abandon_step(&mut self, step: Step) {
        story::warn("shutdown", format_args!("{step:?} hangs, going on without it"));
        if let Some(Ok(pid)) = self.helper.take().map(i32::try_from) {
            // It dies when the kernel lets it; its end is then an exit like any other.
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
        }
        if let (Step::Unmount { .. }, Some(current)) = (step, self.current_mount)
            && self.stuck_count < self.stuck_mounts.len()
        {
            self.stuck_mounts[self.stuck_count] = current.load(Ordering::Relaxed);
            self.stuck_count += 1;
        }
    }

    /// The watchdog stays armed: if the kernel hangs on its way out, it ends the machine, unless its driver stops it in reboot(2).
    /// A halted machine is left alone.
    fn end(&mut self, kind: handoff::ShutdownKind) {
        story::say("shutdown", format_args!("done: {}", processes::word(kind)));
        story::flush();
        if kind == handoff::ShutdownKind::Halt {
            crate::watchdog::disarm();
        }
        let errno = processes::end_machine(kind);
        story::warn("shutdown", format_args!("{}: {}; reboot instead", processes::word(kind), why(kind, errno)));
        let errno = processes::end_machine(handoff::ShutdownKind::Reboot);
        story::warn("shutdown", format_args!("reboot: {}; not feeding the watchdog any more", errno.desc()));
        crate::watchdog::stop_feeding();
    }
}

/// The kernel's words for a kexec without a kernel to execute are about arguments.
fn why(kind: handoff::ShutdownKind, errno: Errno) -> &'static str {
    match (kind, errno) {
        (handoff::ShutdownKind::Kexec, Errno::EINVAL) => "no kernel is loaded to execute",
        _ => errno.desc(),
    }
}

/// Fault injection: `ORLOP_FAULT_SPAWN=3` makes the first three starts fail for want of a process.
fn fault_spawn(spawns: u32) -> Option<Errno> {
    if !cfg!(debug_assertions) {
        return None;
    }
    let failing: u32 = std::env::var("ORLOP_FAULT_SPAWN").ok()?.parse().ok()?;
    (spawns < failing).then_some(Errno::EAGAIN)
}

/// Fault injection: with `ORLOP_FAULT_HANG` set the child of a step never ends by itself.
fn fault_hang() {
    while cfg!(debug_assertions) && std::env::var_os("ORLOP_FAULT_HANG").is_some() {
        nix::unistd::pause();
    }
}

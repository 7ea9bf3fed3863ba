//! Stage 2: PID 1 of the running machine. Sets it up, then loops for ever.
//!
//! ```text
//!   poll ──► signals ──► reap ──► link ──► rescue ──► clock ──► (again)
//! ```
//! One thread, a handful of fds, so poll(2) and no registration that could go stale. Every handler is contained
//! ([`crate::contain`]), bounded in what it does before the next one's turn, and never waits.

mod act;
mod machine;
mod reaping;
mod requests;

use std::os::fd::AsFd as _;
use std::time::Duration;

use handoff::StateStore;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use self::machine::Machine;
use crate::contain::{self, Handler};
use crate::settings::Settings;
use crate::supervise::link::Blocked;
use crate::sys::crash::Former;
use crate::{setup, story, sys};

/// For what no fd reports: a console that takes more, a kernel that has memory again.
const RETRY: Duration = Duration::from_millis(50);

/// Runs the machine; `former` is what an earlier self of this boot left. Never returns.
pub(crate) fn run(former: Option<Former>) -> ! {
    let signals = loop {
        match sys::signals::take_all() {
            Ok(fd) => break fd,
            // Only want of memory or of fds: both may pass, and nothing runs yet that would need us meanwhile.
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    };
    sys::fds::allow_many();
    story::attach();
    match std::env::var("ORLOP_BOOT") {
        Ok(stages) => story::adopt_stages(&stages),
        Err(_) => story::stage("init"),
    }
    let settings = Settings::load();
    story::set_debug(settings.debug);
    let state = state_store(&std::env::var("ORLOP_STATE").unwrap_or_default());
    if former.is_none() {
        let _ = contain::run(Handler::Setup, || {
            contain::fault_point(Handler::Setup);
            if wants_setup() {
                setup::run();
            }
        });
    } else if wants_setup() {
        let _ = contain::run(Handler::Setup, setup::resume);
    }
    story::attach();
    let mut machine = Machine::new(signals, settings, state, former);
    #[cfg(debug_assertions)]
    sys::alloc::fail(std::env::var_os("ORLOP_FAULT_ALLOC").is_some());
    loop {
        turn(&mut machine);
    }
}

fn wants_setup() -> bool {
    !(cfg!(debug_assertions) && std::env::var_os("ORLOP_TEST_NO_SETUP").is_some())
}

/// `persistent`, `volatile`, `degraded` or `degraded:<reason>`; without the variable nobody prepared a state store.
fn state_store(env: &str) -> StateStore {
    match env.split(':').next() {
        Some("persistent") => StateStore::Persistent,
        Some("degraded") => StateStore::Degraded,
        _ => StateStore::Volatile,
    }
}

/// What poll(2) reported, apart from the borrows it needed.
#[derive(Default)]
struct Ready {
    signals: bool,
    link: bool,
}

fn turn(machine: &mut Machine) {
    crate::watchdog::feed();
    let ready = wait(machine);
    let now = story::now();
    if ready.signals {
        let result = contain::run(Handler::Signals, || machine.on_signals(now));
        machine.after_panic(Handler::Signals, result, now);
    }
    // Not only on SIGCHLD: what a turn left over, or a panic, is taken up again in the next one.
    let result = contain::run(Handler::Reap, || machine.on_children(now));
    if result.is_err() {
        machine.reap_plainly(now);
    }
    let result = contain::run(Handler::Link, || machine.on_link(ready.link, now));
    machine.after_panic(Handler::Link, result, now);
    let result = contain::run(Handler::Rescue, || machine.on_rescue(now));
    machine.after_panic(Handler::Rescue, result, now);
    let result = contain::run(Handler::Clock, || machine.on_clock(now));
    machine.after_panic(Handler::Clock, result, now);
    story::flush();
    machine.tell_of_want();
}

fn wait(machine: &Machine) -> Ready {
    let timeout = sleep_time(machine, story::now());
    // A place without an fd of its own asks nothing of the signals' fd, which is always there.
    let nothing = (machine.signals.as_fd(), PollFlags::empty());
    let mut wanted = [nothing; 8];
    wanted[0] = (machine.signals.as_fd(), PollFlags::POLLIN);
    if let Some(link) = &machine.link {
        let mut interest = PollFlags::empty();
        interest.set(PollFlags::POLLIN, link.wants_to_read());
        interest.set(PollFlags::POLLOUT, link.blocked() == Blocked::Full);
        wanted[1] = (link.fd(), interest);
    }
    if let Some(rescue) = &machine.rescue {
        for (place, fd) in wanted[2..].iter_mut().zip(rescue.inputs()) {
            *place = (fd, PollFlags::POLLIN);
        }
    }
    let mut list = wanted.map(|(fd, interest)| PollFd::new(fd, interest));
    match poll(&mut list, timeout) {
        Ok(_) => {
            let any = |fd: &PollFd<'_>| fd.any().unwrap_or(true);
            Ready { signals: any(&list[0]), link: any(&list[1]) && machine.link.is_some() }
        }
        // EINTR, ENOMEM: look at everything; all of it is non-blocking.
        Err(_) => Ready { signals: true, link: true },
    }
}

fn sleep_time(machine: &Machine, now: Duration) -> PollTimeout {
    let mut sleep = crate::watchdog::interval();
    if machine.has_more() {
        sleep = Duration::ZERO;
    }
    let is_starved = machine.link.as_ref().is_some_and(|link| link.blocked() == Blocked::Starved);
    if is_starved || story::console_is_behind() {
        sleep = sleep.min(RETRY);
    }
    if let Some(until) = machine.deadline() {
        // One millisecond more: poll(2) counts whole ones, and waking early would spin.
        sleep = sleep.min(until.saturating_sub(now) + Duration::from_millis(u64::from(until > now)));
    }
    PollTimeout::try_from(sleep).unwrap_or(PollTimeout::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_store_is_what_stage_1_said() {
        assert_eq!(state_store("persistent"), StateStore::Persistent);
        assert_eq!(state_store("degraded:xfs: bad superblock"), StateStore::Degraded);
        assert_eq!(state_store(""), StateStore::Volatile);
    }
}

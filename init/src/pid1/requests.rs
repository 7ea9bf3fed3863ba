//! What the supervisor asks PID 1 to do.

use std::os::fd::OwnedFd;
use std::time::Duration;

use handoff::ToInit;
use nix::errno::Errno;

use super::machine::Machine;
use crate::contain::{self, Handler};
use crate::fdstore::Name;
use crate::shutdown::plan;
use crate::story;
use crate::supervise::link::{Heard, Reply, TURN};
use crate::supervise::policy;

impl Machine {
    /// Takes what is in the socket, a turn's worth.
    pub(super) fn hear(&mut self, now: Duration) {
        for _ in 0..TURN {
            let Some(link) = &mut self.link else { return };
            if !link.wants_to_read() {
                return;
            }
            match link.hear() {
                Heard::Message { message, fd, lost_fd } => {
                    contain::fault_point(Handler::Link);
                    self.on_message(message, fd, lost_fd, now);
                }
                Heard::Garbage(error) => {
                    self.garbage += 1;
                    // The first, then ever more rarely: a flood of it must not fill the log.
                    if self.garbage.is_power_of_two() {
                        story::warn("init", format_args!("the supervisor sent: {error} (total={})", self.garbage));
                    }
                }
                Heard::Nothing => return,
                Heard::Gone => {
                    // While it is being reaped there is nobody to kill any more.
                    match self.child {
                        Some(_) => self.supervisor_hung_up(now),
                        None => self.link = None,
                    }
                    return;
                }
            }
        }
    }

    fn on_message(&mut self, message: ToInit, fd: Option<OwnedFd>, lost_fd: bool, now: Duration) {
        let request = message.kind();
        match message {
            ToInit::Pong { nonce } => self.supervise(policy::Event::Pong { nonce }, now),
            ToInit::ExitsHandled { seq } => self.exits.handled(seq),
            ToInit::PutFd { name } => {
                let result = match fd {
                    Some(fd) => self.store.put(&name, fd),
                    None if lost_fd => Err(Errno::EMFILE),
                    None => Err(Errno::EBADF),
                };
                self.answer(request, &name, result.err());
            }
            ToInit::TakeFd { name } => match self.store.get(&name) {
                Some(_) => self.reply(Reply::Fd { request, name: Name::of(&name) }),
                None => self.answer(request, &name, Some(Errno::ENOENT)),
            },
            ToInit::DropFd { name } => {
                let result = self.store.remove(&name);
                self.answer(request, &name, result.err());
            }
            ToInit::ListFds => self.reply(Reply::Names { slot: 0, after: self.exits.newest() }),
            ToInit::Shutdown { kind } => self.shut_down(plan::Event::Shutdown(kind), now),
            ToInit::Stopping { within_ms } => {
                self.shut_down(plan::Event::Stopping { within: Duration::from_millis(within_ms) }, now);
            }
            ToInit::Say { text } => self.say(&text, now),
        }
    }

    fn answer(&mut self, request: u8, name: &str, failed: Option<Errno>) {
        if let Some(errno) = failed {
            self.reply(Reply::Failed { request, errno, name: Name::of(name) });
        }
    }

    fn reply(&mut self, reply: Reply) {
        if let Some(link) = &mut self.link {
            link.reply(reply);
        }
    }

    /// `web up, port 80` becomes a line of the story about `web`.
    fn say(&mut self, text: &str, now: Duration) {
        if !self.say_limit.allows(now) {
            return;
        }
        let (name, rest) = text.split_once(char::is_whitespace).unwrap_or(("", text));
        story::say(name, format_args!("{}", rest.trim_start()));
    }
}

/// The console is slow and the ring is short: a supervisor may say 100 lines at once and then 20 a second.
pub(crate) struct SayLimit {
    credit_ms: u64,
    last: Duration,
    dropped: u64,
}

impl SayLimit {
    const LINE_MS: u64 = 50;
    const BURST: u64 = 100;

    pub(super) fn new() -> Self {
        Self { credit_ms: Self::BURST * Self::LINE_MS, last: Duration::ZERO, dropped: 0 }
    }

    fn allows(&mut self, now: Duration) -> bool {
        let passed = u64::try_from(now.saturating_sub(self.last).as_millis()).unwrap_or(u64::MAX);
        self.last = now;
        self.credit_ms = self.credit_ms.saturating_add(passed).min(Self::BURST * Self::LINE_MS);
        if self.credit_ms < Self::LINE_MS {
            self.dropped += 1;
            return false;
        }
        self.credit_ms -= Self::LINE_MS;
        if self.dropped > 0 {
            story::warn("init", format_args!("the supervisor said too much: dropped lines={}", self.dropped));
            self.dropped = 0;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_lines_is_cut_to_a_burst_and_a_rate() {
        let mut limit = SayLimit::new();
        let said = (0..10_000).filter(|_| limit.allows(Duration::from_secs(1))).count();
        assert_eq!(said, 100);
        let said = (0..10_000).filter(|_| limit.allows(Duration::from_secs(2))).count();
        assert_eq!(said, 20);
    }
}

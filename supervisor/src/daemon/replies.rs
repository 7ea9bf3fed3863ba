//! Clients that wait for a job outlive the supervisor they asked: PID 1 keeps their connections, and the next supervisor answers
//! them. So a replacement on purpose (`orlop system reexec`) is the same to them as the death of a supervisor: nothing at all.

use std::{
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use ::handoff::{MAX_NAME_BYTES, ToInit};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    clock,
    core::{Daemon, Waiter},
    engine::Entry,
    machine::State,
};
use crate::{
    api::{http::Answer, route::Verb, server::ConnectionId, types::ActiveState},
    unit::UnitName,
};

pub(crate) const PREFIX: &str = "reply:";
/// For PID 1 to take the last messages.
const PATIENCE: Duration = Duration::from_secs(1);

fn stored_name(verb: Verb, connection: ConnectionId, generation: u32, unit: &UnitName) -> Option<String> {
    let name = format!("{PREFIX}{}:{generation}.{connection}:{unit}", verb.word());
    (name.len() <= MAX_NAME_BYTES).then_some(name)
}

fn parse(name: &str) -> Option<(Verb, UnitName)> {
    let mut words = name.strip_prefix(PREFIX)?.splitn(3, ':');
    let verb = words.next()?;
    let verb = [Verb::Start, Verb::Stop, Verb::Restart].into_iter().find(|known| known.word() == verb)?;
    Some((verb, UnitName::parse(words.nth(1)?).ok()?))
}

/// A job ends with its first attempt, whatever `Restart=` does about that.
fn has_failed(entry: &Entry) -> bool {
    let state = &entry.record.state;
    state.active(&entry.plan.policy) == ActiveState::Failed || matches!(state, State::AutoRestart { .. })
}

impl Daemon {
    /// Has the client kept until the job is done; one whose name PID 1 has no room for is not kept.
    pub(crate) fn keep_client(&mut self, verb: Verb, connection: ConnectionId, unit: &UnitName) -> Option<String> {
        let name = stored_name(verb, connection, self.generation, unit)?;
        let client = self.server.client(connection)?.try_clone_to_owned().ok()?;
        self.clients.push((name.clone(), client));
        Some(name)
    }

    /// Their jobs are written. Before that, the next supervisor would find a client, nothing to do, and call it done.
    pub(crate) fn keep_clients(&mut self) {
        for (name, client) in std::mem::take(&mut self.clients) {
            self.store_fd(name, client.as_fd());
        }
    }

    /// Clients that went away wait for nothing: neither we nor PID 1 keep a place for them.
    pub(crate) fn forget_gone_clients(&mut self) {
        let gone: Vec<Waiter> =
            self.waiters.extract_if(.., |waiter| !self.server.is_connected(waiter.connection)).collect();
        for name in gone.into_iter().filter_map(|waiter| waiter.stored) {
            self.tell(&ToInit::DropFd { name });
        }
    }

    /// A client of an earlier supervisor: it waits on for the job, or is told what came of it.
    pub(crate) fn adopt_client(&mut self, name: &str, fd: OwnedFd) {
        let stored = Some(name.to_owned());
        let adopted = self.server.adopt(&self.epoll, fd, clock::monotonic());
        let (Some((verb, unit)), Ok(connection)) = (parse(name), adopted) else {
            return self.tell(&ToInit::DropFd { name: name.to_owned() });
        };
        let answer = match self.engine.get(&unit) {
            Some(entry) => match &entry.job {
                Some(job) => {
                    let job = job.id;
                    return self.waiters.push(Waiter { connection, job, unit, stored });
                }
                None if verb != Verb::Stop && has_failed(entry) => {
                    let reason = entry.record.last.as_ref().map(ToString::to_string).unwrap_or_default();
                    Answer::problem(409, format!("{unit}: {reason}"))
                }
                None => self.answer_unit(200, &unit),
            },
            None => self.no_such_unit(&unit),
        };
        self.reply(connection, &answer, stored);
    }

    /// Answers, and lets PID 1 forget the client.
    pub(crate) fn reply(&mut self, connection: ConnectionId, answer: &Answer, stored: Option<String>) {
        self.server.answer(&self.epoll, connection, answer, clock::monotonic());
        if let Some(name) = stored {
            self.tell(&ToInit::DropFd { name });
        }
    }

    /// Asks PID 1 for another supervisor in place of this one: SIGTERM is its word for that, and it counts no failure.
    pub(crate) fn reexec() -> Answer {
        match kill(Pid::from_raw(1), Signal::SIGTERM) {
            Ok(()) => Answer::json(202, &serde_json::json!({ "accepted": true })),
            Err(errno) => Answer::problem(500, format!("ask PID 1 for another supervisor: {errno}")),
        }
    }

    /// The last words before the end of this process: what waits for PID 1 reaches it.
    pub(crate) fn hand_over(&mut self) {
        let deadline = clock::monotonic() + PATIENCE;
        while self.handoff.is_full() {
            let left = deadline.saturating_sub(clock::monotonic());
            if left.is_zero() {
                return;
            }
            let mut fds = [PollFd::new(self.handoff.fd(), PollFlags::POLLOUT)];
            let _ = poll(&mut fds, PollTimeout::from(u16::try_from(left.as_millis()).unwrap_or(u16::MAX)));
            self.handoff.flush();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_clients_read_back() {
        let unit = UnitName::parse("web@blue:1").unwrap();
        assert_eq!(parse("reply:restart:2.17:web@blue:1"), Some((Verb::Restart, unit)));
        for wrong in ["reply:", "reply:kill:1.1:web", "reply:start:1.1", "listen:control"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}

//! `orlop reload`: what `ExecReload=` is in the services that Quadlet makes of `ReloadSignal=` and `ReloadCmd=`. The unit stays as it is.

use std::{collections::BTreeSet, time::Duration};

use super::{clock, core::Daemon, health::Purpose, machine::Outcome, process};
use crate::{
    api::{http::Answer, server::ConnectionId},
    unit::{Reload, UnitName},
};

/// Of what the command has written, for who asked.
const KEPT_BYTES: usize = 4096;

/// How far it has come.
enum Reloading {
    Done,
    /// The command is at work.
    Begun,
}

impl Daemon {
    /// `None`: the answer comes when the command has ended.
    pub(crate) fn on_reload(&mut self, connection: ConnectionId, unit: &UnitName) -> Option<Answer> {
        if self.engine.get(unit).is_none() {
            return Some(self.no_such_unit(unit));
        }
        match self.reload(Some(connection), unit) {
            Err(text) => Some(Answer::problem(409, format!("{unit}: {text}"))),
            Ok(Reloading::Done) => {
                self.propagate_reload(unit);
                Some(self.answer_unit(200, unit))
            }
            Ok(Reloading::Begun) => {
                self.propagate_reload(unit);
                None
            }
        }
    }

    /// Those that the unit names, and theirs, as far as they run. What becomes of them is in the log.
    fn propagate_reload(&mut self, unit: &UnitName) {
        let mut seen = BTreeSet::from([unit.clone()]);
        let mut queue = vec![unit.clone()];
        while let Some(next) = queue.pop() {
            let others = self.files.get(&next).map(|file| file.links.propagates_reload_to.clone()).unwrap_or_default();
            for other in others.into_iter().filter(|other| seen.insert(other.clone())) {
                let runs = self.engine.get(&other).is_some_and(|entry| entry.record.main_process().is_some());
                if runs && let Err(text) = self.reload(None, &other) {
                    log::warn!("{other}: {text}");
                }
                queue.push(other);
            }
        }
    }

    fn reload(&mut self, connection: Option<ConnectionId>, unit: &UnitName) -> Result<Reloading, String> {
        let process = self.engine.get(unit).and_then(|entry| entry.record.main_process()).ok_or("not running")?;
        let file = self.files.get(unit);
        let timeout = file.and_then(|file| file.service.start_timeout);
        match file.and_then(|file| file.container.reload.clone()) {
            None => Err("its file does not say how it is reloaded; write ReloadSignal= or ReloadCmd=".to_owned()),
            Some(Reload::Signal(signal)) => match process::signal(process, signal) {
                Ok(()) => Ok(Reloading::Done),
                Err(error) => Err(format!("signal {signal}: {error}")),
            },
            Some(Reload::Command(_)) if self.checkers.reloads(unit) => Err("is being reloaded already".to_owned()),
            Some(Reload::Command(command)) => {
                let deadline = timeout.map(|timeout| clock::monotonic().saturating_add(timeout));
                match self.run_inside(unit, &command, KEPT_BYTES, Purpose::Reload { connection, deadline }) {
                    Ok(()) => Ok(Reloading::Begun),
                    Err(error) => Err(format!("run the command that reloads it: {error}")),
                }
            }
        }
    }

    pub(crate) fn on_reloaded(
        &mut self,
        unit: &UnitName,
        connection: Option<ConnectionId>,
        deadline: Option<Duration>,
        outcome: &Outcome,
        output: &str,
    ) {
        let now = clock::monotonic();
        let answer = if outcome.exit_code() == Some(0) {
            self.answer_unit(200, unit)
        } else {
            let late = deadline.is_some_and(|deadline| deadline <= now);
            let said = if output.is_empty() { String::new() } else { format!(": {output}") };
            let why = if late { "took longer than TimeoutStartSec=".to_owned() } else { outcome.to_string() };
            log::warn!("{unit}: the command that reloads it {why}{said}");
            Answer::problem(409, format!("{unit}: the command that reloads it {why}{said}"))
        };
        if let Some(connection) = connection {
            self.server.answer(&self.epoll, connection, &answer, now);
        }
    }
}

//! `orlop reload`: what `ExecReload=` is in the services that Quadlet makes of `ReloadSignal=` and `ReloadCmd=`. The unit stays as it is.

use std::time::Duration;

use super::{clock, core::Daemon, health::Purpose, machine::Outcome, process};
use crate::{
    api::{http::Answer, server::ConnectionId},
    unit::{Reload, UnitName},
};

/// Of what the command has written, for who asked.
const KEPT_BYTES: usize = 4096;

impl Daemon {
    /// `None`: the answer comes when the command has ended.
    pub(crate) fn on_reload(&mut self, connection: ConnectionId, unit: &UnitName) -> Option<Answer> {
        let Some(entry) = self.engine.get(unit) else { return Some(self.no_such_unit(unit)) };
        let Some(process) = entry.record.main_process() else {
            return Some(Answer::problem(409, format!("{unit}: not running")));
        };
        let file = self.files.get(unit);
        let timeout = file.and_then(|file| file.service.start_timeout);
        let failed = |text: String| Some(Answer::problem(409, format!("{unit}: {text}")));
        match file.and_then(|file| file.container.reload.clone()) {
            None => failed("its file does not say how it is reloaded; write ReloadSignal= or ReloadCmd=".to_owned()),
            Some(Reload::Signal(signal)) => match process::signal(process, signal) {
                Ok(()) => Some(self.answer_unit(200, unit)),
                Err(error) => failed(format!("signal {signal}: {error}")),
            },
            Some(Reload::Command(_)) if self.checkers.reloads(unit) => failed("is being reloaded already".to_owned()),
            Some(Reload::Command(command)) => {
                let deadline = timeout.map(|timeout| clock::monotonic().saturating_add(timeout));
                match self.run_inside(unit, &command, KEPT_BYTES, Purpose::Reload { connection, deadline }) {
                    Ok(()) => None,
                    Err(error) => failed(format!("run the command that reloads it: {error}")),
                }
            }
        }
    }

    pub(crate) fn on_reloaded(
        &mut self,
        unit: &UnitName,
        connection: ConnectionId,
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
        self.server.answer(&self.epoll, connection, &answer, now);
    }
}

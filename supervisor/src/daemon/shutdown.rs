//! The end of the machine, as far as it is ours: units stopped in the reverse of their order, within their timeouts and one of
//! all together, while the console says for whom it waits. The rest is PID 1's.

use std::{fs, time::Duration};

use ::handoff::{ShutdownKind, ToInit};

use super::{
    clock,
    core::Daemon,
    machine::{Now, State},
    paths::Paths,
    store,
};
use crate::unit::{MachineAction, MachineEnd, UnitName};

/// For all units together, unless the file of one gives it more.
const PATIENCE: Duration = Duration::from_secs(90);
/// With the rest below less than the ten minutes that PID 1 waits.
const MAX_PATIENCE: Duration = Duration::from_secs(580);
/// After the stop timeout of a unit, for its end to be seen.
const MARGIN: Duration = Duration::from_secs(10);
/// After that everything is killed, and this is how long the kernel may take.
const AFTER_KILL: Duration = Duration::from_secs(10);
/// Between two lines about those who are not down yet.
const SAY_EVERY: Duration = Duration::from_secs(5);
/// For the last log lines to reach the disk.
const FLUSH: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(crate) struct Shutdown {
    kind: ShutdownKind,
    kill_at: Duration,
    killed: bool,
    say_at: Duration,
    told: bool,
}

impl Shutdown {
    pub(crate) fn next_deadline(&self) -> Duration {
        if self.told { Duration::MAX } else { self.kill_at.min(self.say_at) }
    }
}

/// With the stop timeouts of what runs; `None`: for ever.
fn patience(timeouts: impl Iterator<Item = Option<Duration>>) -> Duration {
    let longest = timeouts.map(|timeout| timeout.map_or(MAX_PATIENCE, |timeout| timeout.saturating_add(MARGIN))).max();
    longest.unwrap_or_default().clamp(PATIENCE, MAX_PATIENCE)
}

fn word(kind: ShutdownKind) -> &'static str {
    match kind {
        ShutdownKind::PowerOff => "poweroff",
        ShutdownKind::Reboot => "reboot",
        ShutdownKind::Halt => "halt",
        ShutdownKind::Kexec => "kexec",
    }
}

/// The shutdown an earlier supervisor had begun.
pub(crate) fn interrupted(paths: &Paths) -> Option<ShutdownKind> {
    let text = fs::read_to_string(paths.shutdown()).ok()?;
    let kinds = [ShutdownKind::PowerOff, ShutdownKind::Reboot, ShutdownKind::Halt, ShutdownKind::Kexec];
    kinds.into_iter().find(|kind| word(*kind) == text.trim())
}

/// Documentation/ABI/testing/sysfs-kernel-kexec-kdump.
pub(crate) fn is_kernel_loaded() -> bool {
    fs::read_to_string("/sys/kernel/kexec_loaded").is_ok_and(|loaded| loaded.trim() == "1")
}

impl Daemon {
    pub(crate) fn begin_shutdown(&mut self, kind: ShutdownKind) {
        if let Some(shutdown) = &mut self.shutdown {
            // The last word counts, as long as nothing was said to PID 1.
            shutdown.kind = kind;
            return self.keep_shutdown(kind);
        }
        let now = clock::now();
        let running = self.engine.units().filter(|(_, entry)| !entry.record.state.at_rest());
        let patience = patience(running.map(|(_, entry)| entry.plan.policy.stop_timeout));
        let (kill_at, say_at) = (now.mono + patience, now.mono + SAY_EVERY);
        let shutdown = Shutdown { kind, kill_at, killed: false, say_at, told: false };
        self.shutdown = Some(shutdown);
        self.keep_shutdown(kind);
        let within = patience + AFTER_KILL + FLUSH;
        self.tell(&ToInit::Stopping { within_ms: u64::try_from(within.as_millis()).unwrap_or(u64::MAX) });
        self.say(format!("{:<9} stopping all units", word(kind)));
        self.limit_all();
        self.engine.shut_down(now);
    }

    /// Before anybody is told that it is accepted.
    pub(crate) fn keep_shutdown(&self, kind: ShutdownKind) {
        if let Err(error) = store::replace(&self.paths.shutdown(), word(kind).as_bytes()) {
            log::warn!("{}: {error}", self.paths.shutdown().display());
        }
    }

    /// `StartLimitAction=` and its like.
    pub(crate) fn end_by(&mut self, unit: &UnitName, MachineAction { end, force }: MachineAction) {
        let kind = match end {
            MachineEnd::Reboot => ShutdownKind::Reboot,
            MachineEnd::PowerOff => ShutdownKind::PowerOff,
            MachineEnd::Halt => ShutdownKind::Halt,
        };
        // Not over a shutdown that somebody asked for.
        if self.shutdown.is_none() {
            self.say(format!("{unit:<9} its unit file asks for {} now", word(kind)));
            self.begin_shutdown(kind);
        }
        if let Some(shutdown) = self.shutdown.as_mut().filter(|_| force) {
            shutdown.kill_at = clock::monotonic();
        }
    }

    pub(crate) fn tick_shutdown(&mut self, now: Now) {
        let Some(mut shutdown) = self.shutdown.take() else { return };
        if !shutdown.told {
            if now.mono >= shutdown.kill_at && !shutdown.killed {
                shutdown.killed = true;
                shutdown.kill_at = now.mono + AFTER_KILL;
                self.say(format!("{:<9} out of patience, killing what is left", word(shutdown.kind)));
                self.engine.kill_all(now);
            } else if self.engine.quiet() || now.mono >= shutdown.kill_at {
                shutdown.told = true;
                self.end_machine(shutdown.kind);
            } else if now.mono >= shutdown.say_at {
                shutdown.say_at = now.mono + SAY_EVERY;
                self.say_who_is_left(now);
            }
        }
        self.shutdown = Some(shutdown);
    }

    fn end_machine(&mut self, kind: ShutdownKind) {
        let left: Vec<&str> =
            self.engine.units().filter(|(_, e)| !e.record.state.at_rest()).map(|(name, _)| name.as_str()).collect();
        if !left.is_empty() {
            let left = left.join(", ");
            log::error!("goes down with {left} not stopped");
        }
        log::info!("units are stopped: {}", word(kind));
        self.logs.flush(FLUSH);
        self.tell(&ToInit::Shutdown { kind });
    }

    fn say_who_is_left(&mut self, now: Now) {
        let waiting: Vec<String> = self
            .engine
            .units()
            .filter(|(_, entry)| !entry.record.state.at_rest())
            .map(|(name, entry)| match entry.record.state {
                State::Stopping { kill_at: Some(at), .. } => {
                    format!("{name} (killed in {} s)", at.saturating_sub(now.mono).as_secs() + 1)
                }
                _ => format!("{name} ({})", entry.record.state.sub_state()),
            })
            .collect();
        if !waiting.is_empty() {
            self.say(format!("{:<9} waiting for {}", "stop", waiting.join(", ")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_that_may_take_long_to_stop_has_its_time() {
        let of = |seconds: &[u64]| patience(seconds.iter().map(|seconds| Some(Duration::from_secs(*seconds))));
        assert_eq!((of(&[]), of(&[10, 80])), (PATIENCE, PATIENCE));
        assert_eq!(of(&[10, 300]), Duration::from_secs(310));
        assert_eq!((of(&[3600]), patience([None].into_iter())), (MAX_PATIENCE, MAX_PATIENCE));
    }
}

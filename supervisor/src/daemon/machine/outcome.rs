//! How a container ended, or why none came to be: kept in the unit's record, shown by `status`, decides about the restart.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// Why a unit is no longer running.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    Exit {
        code: i32,
    },
    Signal {
        number: i32,
        core: bool,
    },
    /// The kernel killed it for its memory limit: told apart from a signal by memory.events.
    OutOfMemory,
    /// The image could not be prepared.
    Image {
        text: String,
    },
    /// The runtime could not create or start the container.
    Runtime {
        text: String,
    },
    StartTimeout {
        after: Duration,
    },
    /// Was active for as long as `RuntimeMaxSec=` allows.
    RuntimeLimit {
        after: Duration,
    },
    /// Ended well before it said that it is ready.
    NotReady,
    /// Gave no sign of life for so long, or said that it hangs.
    Watchdog {
        after: Duration,
    },
    /// So many health checks in a row failed. `restart`: `HealthOnFailure=restart`, whatever `Restart=` says.
    Unhealthy {
        failures: u32,
        exit_code: i32,
        output: String,
        restart: bool,
    },
    /// Did not end within its stop timeout and was killed.
    StopTimeout {
        after: Duration,
        signal: i32,
    },
    /// It never started: a unit it requires failed, or a rule of the machine forbids it.
    Refused {
        text: String,
    },
    /// It was not started, because its `Condition…=` say so: nothing that anybody has to repair.
    Skipped {
        text: String,
    },
    /// The same of its `Assert…=`, and that is a failure.
    Asserted {
        text: String,
    },
    /// Started too often. `last`: how it ended the last time.
    StartLimit {
        burst: u32,
        interval: Duration,
        last: Option<String>,
    },
    /// Its process is gone, but nobody could say how it ended.
    Lost,
    /// Processes are left that even SIGKILL does not end (waiting for a device, as a rule).
    Unkillable,
    /// Killed before it ran, because it was asked to stop.
    Cancelled,
    /// A pod that was asked to.
    TakenDown,
    /// The supervisor died while the container was made: it is made once more.
    Interrupted,
}

/// Classes of systemd.service(5)'s table of `Restart=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    Clean,
    UncleanCode,
    UncleanSignal,
    Timeout,
    Watchdog,
    /// No restart can help.
    Final,
}

impl Outcome {
    /// From a wait status as `wait(2)` encodes it, real-time signals included.
    pub(crate) fn from_wait_status(status: i32, out_of_memory: bool) -> Self {
        let signal = status & 0x7f;
        match signal {
            0 => Self::Exit { code: (status >> 8) & 0xff },
            libc::SIGKILL if out_of_memory => Self::OutOfMemory,
            number => Self::Signal { number, core: status & 0x80 != 0 },
        }
    }

    pub(crate) fn class(&self) -> Class {
        match self {
            Self::Exit { code: 0 } | Self::Cancelled | Self::TakenDown | Self::Interrupted | Self::Skipped { .. } => {
                Class::Clean
            }
            Self::Signal { number: libc::SIGHUP | libc::SIGINT | libc::SIGTERM | libc::SIGPIPE, core: false } => {
                Class::Clean
            }
            // However the container then ends: systemd sees podman's status of it.
            Self::Unhealthy { .. } => Class::UncleanCode,
            Self::Exit { .. } | Self::Image { .. } | Self::Runtime { .. } | Self::Lost => Class::UncleanCode,
            Self::Signal { .. } => Class::UncleanSignal,
            // The manual's table has no row for "oom-kill" and "protocol"; service_shall_restart() treats them as "timeout".
            Self::StartTimeout { .. }
            | Self::StopTimeout { .. }
            | Self::RuntimeLimit { .. }
            | Self::OutOfMemory
            | Self::NotReady => Class::Timeout,
            Self::Watchdog { .. } => Class::Watchdog,
            Self::Refused { .. } | Self::Asserted { .. } | Self::StartLimit { .. } | Self::Unkillable => Class::Final,
        }
    }

    /// After a stop that was asked for, the stop signal's own traces are a clean end as well: a program that catches
    /// SIGTERM and ends with 143, or one that does not catch it.
    pub(crate) fn clean_after_stop(&self, stop_signal: i32) -> bool {
        match self {
            Self::Exit { code } => *code == 0 || *code == 128 + stop_signal,
            Self::Signal { number, core } => !core && (*number == stop_signal || self.class() == Class::Clean),
            other => other.class() == Class::Clean,
        }
    }

    /// systemd's words for the result of a service (systemd.exec(5), `$SERVICE_RESULT`), and some for what it does not have.
    pub(crate) fn result(&self) -> &'static str {
        match self {
            Self::Exit { code: 0 } | Self::Cancelled | Self::TakenDown | Self::Interrupted => "success",
            Self::Exit { .. } => "exit-code",
            Self::Signal { core: false, .. } | Self::Unkillable | Self::Lost => "signal",
            Self::Signal { core: true, .. } => "core-dump",
            Self::OutOfMemory => "oom-kill",
            Self::NotReady => "protocol",
            Self::StartTimeout { .. } | Self::StopTimeout { .. } | Self::RuntimeLimit { .. } => "timeout",
            Self::Watchdog { .. } => "watchdog",
            Self::Unhealthy { .. } => "unhealthy",
            Self::StartLimit { .. } => "start-limit-hit",
            Self::Image { .. } => "image",
            Self::Runtime { .. } => "runtime",
            Self::Refused { .. } => "dependency",
            Self::Skipped { .. } => "condition",
            Self::Asserted { .. } => "assert",
        }
    }

    pub(crate) fn exit_code(&self) -> Option<i32> {
        match self {
            Self::Exit { code } => Some(*code),
            Self::NotReady => Some(0),
            _ => None,
        }
    }

    pub(crate) fn signal(&self) -> Option<i32> {
        match self {
            Self::Signal { number, .. } => Some(*number),
            Self::OutOfMemory | Self::StopTimeout { .. } => Some(libc::SIGKILL),
            _ => None,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit { code } => write!(f, "exited with status {code}"),
            Self::Signal { number, core: false } => write!(f, "killed by {}", signal_name(*number)),
            Self::Signal { number, core: true } => write!(f, "killed by {}, core dumped", signal_name(*number)),
            Self::OutOfMemory => f.write_str("killed for using more memory than its limit"),
            Self::Image { text } | Self::Runtime { text } | Self::Refused { text } => f.write_str(text),
            Self::Skipped { text } => write!(f, "was not started: {text} does not hold"),
            Self::Asserted { text } => write!(f, "cannot start: {text} does not hold"),
            Self::StartTimeout { after } => write!(f, "did not start within {}", Seconds(*after)),
            Self::RuntimeLimit { after } => {
                write!(f, "was active for {}, as long as RuntimeMaxSec= allows", Seconds(*after))
            }
            Self::NotReady => f.write_str("exited with status 0 before it was ready"),
            Self::Watchdog { after } => write!(f, "gave no sign of life for {}, killed", Seconds(*after)),
            Self::Unhealthy { failures, exit_code, output, .. } => {
                let checks = if *failures == 1 { "a check" } else { "checks in a row" };
                let count = if *failures == 1 { String::new() } else { format!("{failures} ") };
                write!(f, "unhealthy: {count}{checks} failed, the last with status {exit_code}")?;
                if output.is_empty() { Ok(()) } else { write!(f, ": {output}") }
            }
            Self::StopTimeout { after, signal } => {
                write!(f, "did not end within {} of {}, killed", Seconds(*after), signal_name(*signal))
            }
            Self::StartLimit { burst, interval, last } => {
                if let Some(last) = last {
                    write!(f, "{last}; ")?;
                }
                write!(f, "started {burst} times")?;
                if *interval != Duration::MAX {
                    write!(f, " within {}", Seconds(*interval))?;
                }
                f.write_str(", not started again")
            }
            Self::Lost => f.write_str("ended while its exit status could not be kept"),
            Self::Unkillable => f.write_str("has processes that do not end even by SIGKILL"),
            Self::Cancelled => f.write_str("stopped before it ran"),
            Self::TakenDown => f.write_str("taken down"),
            Self::Interrupted => f.write_str("interrupted while it was made, is made once more"),
        }
    }
}

/// A duration for people: `10 s`, `0.25 s`.
pub(crate) struct Seconds(pub(crate) Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.subsec_millis() == 0 {
            write!(f, "{} s", self.0.as_secs())
        } else {
            write!(f, "{:.2} s", self.0.as_secs_f64())
        }
    }
}

/// `SIGTERM`, `SIGRTMIN+3`, or the number's own word.
pub(crate) fn signal_name(number: i32) -> String {
    if let Ok(signal) = nix::sys::signal::Signal::try_from(number) {
        return signal.as_str().to_owned();
    }
    // The kernel's numbers (34 is what programs see as SIGRTMIN after their libc took two).
    match number {
        34 => "SIGRTMIN".to_owned(),
        35..=64 => format!("SIGRTMIN+{}", number - 34),
        other => format!("signal {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_statuses_of_every_kind_are_told_apart() {
        assert_eq!(Outcome::from_wait_status(3 << 8, false), Outcome::Exit { code: 3 });
        assert_eq!(Outcome::from_wait_status(9, false), Outcome::Signal { number: 9, core: false });
        assert_eq!(Outcome::from_wait_status(9, true), Outcome::OutOfMemory);
        assert_eq!(Outcome::from_wait_status(11 | 0x80, true), Outcome::Signal { number: 11, core: true });
        // nix reports EINVAL for this one.
        let real_time = Outcome::from_wait_status(37, false);
        assert_eq!(real_time.to_string(), "killed by SIGRTMIN+3");
        assert_eq!(real_time.class(), Class::UncleanSignal);
        // An exit status is an exit status, whatever the counters say.
        assert_eq!(Outcome::from_wait_status(0, true), Outcome::Exit { code: 0 });
    }

    #[test]
    fn the_traces_of_the_stop_signal_are_a_clean_end_after_a_stop_only() {
        let caught = Outcome::Exit { code: 143 };
        assert!(caught.clean_after_stop(libc::SIGTERM));
        assert!(!caught.clean_after_stop(libc::SIGQUIT));
        assert_eq!(caught.class(), Class::UncleanCode);
        assert!(Outcome::Signal { number: libc::SIGQUIT, core: false }.clean_after_stop(libc::SIGQUIT));
        assert!(!Outcome::Exit { code: 1 }.clean_after_stop(libc::SIGTERM));
    }
}

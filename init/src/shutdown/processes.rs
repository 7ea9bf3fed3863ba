//! Ending every process but PID 1, and the machine.

use std::path::Path;

use handoff::ShutdownKind;
use nix::errno::Errno;
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::story;
use crate::text::Text;

const CONTAINERS: &str = "/sys/fs/cgroup/containers";
const SUPERVISOR: &str = "/sys/fs/cgroup/orlop";

/// TERM, and CONT so that stopped ones can act on it.
pub(crate) fn terminate_all() {
    everyone(Signal::SIGTERM);
    everyone(Signal::SIGCONT);
}

/// Who is left, by cgroup: `: web, db, orlop`, for the console.
pub(crate) fn left() -> Text<200> {
    let mut names = Text::new();
    let containers = std::fs::read_dir(CONTAINERS).into_iter().flatten().flatten().map(|entry| entry.path());
    for cgroup in containers.chain([SUPERVISOR.into()]).filter(|cgroup| is_populated(cgroup)) {
        let mark = if names.as_bytes().is_empty() { ": " } else { ", " };
        names.push_fmt(format_args!("{mark}{}", cgroup.file_name().unwrap_or_default().display()));
    }
    names
}

/// Documentation/admin-guide/cgroup-v2.rst, cgroup.events: whether there is a process in it or below it.
fn is_populated(cgroup: &Path) -> bool {
    let events = std::fs::read_to_string(cgroup.join("cgroup.events"));
    events.is_ok_and(|events| events.lines().any(|line| line == "populated 1"))
}

/// First by cgroup.kill (kernel 5.14), which ends a whole tree at once, forks included; then whoever is elsewhere.
pub(crate) fn kill_all() {
    for tree in [CONTAINERS, SUPERVISOR] {
        if let Err(error) = std::fs::write(format!("{tree}/cgroup.kill"), "1")
            && error.kind() != std::io::ErrorKind::NotFound
        {
            story::warn("shutdown", format_args!("write 1 to {tree}/cgroup.kill: {error}"));
        }
    }
    everyone(Signal::SIGKILL);
}

/// kill(-1) means all but oneself, which only PID 1 may say.
fn everyone(signal: Signal) {
    if std::process::id() == 1 {
        // ESRCH: nobody is left.
        let _ = kill(Pid::from_raw(-1), signal);
    }
}

/// Ends the machine. Returns only when the kernel refuses, with its reason.
pub(crate) fn end_machine(kind: ShutdownKind) -> Errno {
    let mode = match kind {
        ShutdownKind::PowerOff => RebootMode::RB_POWER_OFF,
        ShutdownKind::Reboot => RebootMode::RB_AUTOBOOT,
        ShutdownKind::Halt => RebootMode::RB_HALT_SYSTEM,
        ShutdownKind::Kexec => RebootMode::RB_KEXEC,
    };
    let Err(errno) = reboot(mode);
    errno
}

/// The signal that asks PID 1 for it, counted from SIGRTMIN, as systemd(1) documents them.
pub(crate) fn signal(kind: ShutdownKind) -> u32 {
    match kind {
        ShutdownKind::Halt => 3,
        ShutdownKind::PowerOff => 4,
        ShutdownKind::Reboot => 5,
        ShutdownKind::Kexec => 6,
    }
}

/// The word for the story and the log.
pub(crate) fn word(kind: ShutdownKind) -> &'static str {
    match kind {
        ShutdownKind::PowerOff => "power off",
        ShutdownKind::Reboot => "reboot",
        ShutdownKind::Halt => "halt",
        ShutdownKind::Kexec => "kexec",
    }
}

//! `[Service]`, and the start limit of `[Unit]`.

use std::time::Duration;

use super::health::number;
use crate::unit::{
    ExitStatuses, MachineAction, MachineActions, MachineEnd, Preserve, Requests, Restart, Said, ServiceSpec,
    ServiceType, kind::Kind, sheet::Sheet, values,
};

pub(super) struct StartLimit {
    pub(super) burst: u32,
    pub(super) interval: Duration,
    pub(super) actions: MachineActions,
    pub(super) requests: Requests,
}

/// DefaultTimeoutStartSec=, DefaultTimeoutStopSec= of systemd-system.conf(5).
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(90);

pub(super) fn service(sheet: &mut Sheet<'_>) -> ServiceSpec {
    let kind = kind(sheet);
    let restart = sheet.read("Service", "Restart", restart).unwrap_or(Restart::No);
    if kind == ServiceType::Oneshot && matches!(restart, Restart::Always | Restart::OnSuccess) {
        for value in sheet.all("Service", "Restart").iter().rev().take(1) {
            // systemd.service(5): it would never be anything but restarting.
            let text = format!(
                "Restart={} is not possible with Type=oneshot; write on-failure, or leave Type= out",
                value.text
            );
            sheet.error(value, Said::from(text).offering("on-failure"));
        }
    }
    let (start, stop) = timeouts(sheet);
    let start_default = if kind == ServiceType::Oneshot { None } else { Some(DEFAULT_TIMEOUT) };
    let steps = sheet.read("Service", "RestartSteps", number).filter(|steps| *steps > 0);
    let longest = sheet.read("Service", "RestartMaxDelaySec", values::span).flatten();
    let mut delay = sheet.read("Service", "RestartSec", values::finite).unwrap_or(Duration::from_millis(100));
    // What systemd says "Ignoring" of (`service_verify`).
    match (steps, longest) {
        (Some(_), None) => sheet.useless(("Service", "RestartSteps"), "RestartMaxDelaySec="),
        (None, Some(_)) => sheet.useless(("Service", "RestartMaxDelaySec"), "RestartSteps="),
        _ => {}
    }
    if let Some(longest) = longest.filter(|longest| *longest < delay) {
        delay = longest;
        if let Some(value) = sheet.last("Service", "RestartMaxDelaySec") {
            sheet.warning(&value, "it is shorter than RestartSec=, and counts in its place");
        }
    }
    let runtime_max = sheet.read("Service", "RuntimeMaxSec", values::span).flatten();
    let runtime_extra = sheet.read("Service", "RuntimeRandomizedExtraSec", values::finite).unwrap_or_default();
    if runtime_max.is_none() && !runtime_extra.is_zero() {
        sheet.useless(("Service", "RuntimeRandomizedExtraSec"), "RuntimeMaxSec=");
    }
    if kind == ServiceType::Oneshot
        && runtime_max.is_some()
        && let Some(value) = sheet.last("Service", "RuntimeMaxSec")
    {
        sheet.warning(&value, "RuntimeMaxSec= has no effect with Type=oneshot; write TimeoutStartSec=");
    }
    ServiceSpec {
        kind,
        remain_after_exit: sheet.read("Service", "RemainAfterExit", values::boolean).unwrap_or(false),
        restart,
        restart_delay: delay,
        restart_direct: sheet.text("Service", "RestartMode").as_deref() == Some("direct"),
        restart_growth: steps.zip(longest),
        restart_spread: sheet.read("Service", "RestartRandomizedDelaySec", values::finite).unwrap_or_default(),
        success: statuses(sheet, "SuccessExitStatus"),
        restart_prevent: statuses(sheet, "RestartPreventExitStatus"),
        restart_force: statuses(sheet, "RestartForceExitStatus"),
        runtime_max,
        runtime_extra,
        watchdog: watchdog(sheet),
        fd_store_max: fd_store_max(sheet),
        fd_store_preserve: match sheet.text("Service", "FileDescriptorStorePreserve").as_deref() {
            Some("no") => Preserve::No,
            Some("yes") => Preserve::Yes,
            _ => Preserve::Restart,
        },
        kill_signal: sheet.read("Service", "KillSignal", values::capital_signal),
        abort_timeout: timeout(sheet, "TimeoutAbortSec"),
        start_timeout: start.unwrap_or(start_default),
        stop_timeout: stop.unwrap_or(Some(DEFAULT_TIMEOUT)),
    }
}

/// PID 1 has some two thousand places for all units, and for what the supervisor needs itself.
const MOST_STORED_FDS: u32 = 256;

fn fd_store_max(sheet: &mut Sheet<'_>) -> u32 {
    let mut most = sheet.read("Service", "FileDescriptorStoreMax", number).unwrap_or(0);
    let notifies = sheet.last("Container", "Notify").is_some_and(|value| values::boolean(&value.text) == Ok(true));
    if most > 0
        && !notifies
        && let Some(value) = sheet.last("Service", "FileDescriptorStoreMax")
    {
        sheet.warning(&value, "without Notify=true in [Container] no descriptor can come");
    }
    if most > MOST_STORED_FDS
        && let Some(value) = sheet.last("Service", "FileDescriptorStoreMax")
    {
        sheet.warning(&value, format!("at most {MOST_STORED_FDS} descriptors of a unit are kept"));
        most = MOST_STORED_FDS;
    }
    most
}

fn watchdog(sheet: &mut Sheet<'_>) -> Option<Duration> {
    // To systemd both zero and infinity mean that there is none.
    let every = sheet.read("Service", "WatchdogSec", values::span).flatten().filter(|span| !span.is_zero())?;
    let notifies = sheet.last("Container", "Notify").is_some_and(|value| values::boolean(&value.text) == Ok(true));
    if !notifies && let Some(value) = sheet.last("Service", "WatchdogSec") {
        sheet.error(&value, "without Notify=true in [Container] no sign of life can come");
    }
    Some(every)
}

pub(super) fn start_limit(sheet: &mut Sheet<'_>) -> StartLimit {
    StartLimit {
        actions: MachineActions {
            start_limit: sheet.read("Unit", "StartLimitAction", action).flatten(),
            failure: sheet.read("Unit", "FailureAction", action).flatten(),
            success: sheet.read("Unit", "SuccessAction", action).flatten(),
        },
        requests: Requests {
            refuse_start: flag(sheet, "RefuseManualStart"),
            refuse_stop: flag(sheet, "RefuseManualStop"),
            stop_when_unneeded: flag(sheet, "StopWhenUnneeded"),
            job_timeout: sheet.read("Unit", "JobTimeoutSec", values::span).flatten().filter(|span| !span.is_zero()),
        },
        burst: sheet.read("Unit", "StartLimitBurst", number).unwrap_or(5),
        // "infinity" bounds all starts there ever are (systemd.unit(5)).
        interval: sheet
            .read("Unit", "StartLimitIntervalSec", values::span)
            .map_or(Duration::from_secs(10), |span| span.unwrap_or(Duration::MAX)),
    }
}

fn flag(sheet: &mut Sheet<'_>, key: &'static str) -> bool {
    sheet.read("Unit", key, values::boolean).unwrap_or(false)
}

/// What is right and not built is the table's business.
fn action(text: &str) -> Result<Option<MachineAction>, &'static str> {
    const FORM: &str = "expected none, reboot, reboot-force, reboot-immediate, poweroff, poweroff-force, \
                        poweroff-immediate, exit, exit-force, soft-reboot, kexec or halt";
    let word = text.strip_suffix("-force").or_else(|| text.strip_suffix("-immediate")).unwrap_or(text);
    let force = word != text;
    let end = match word {
        "none" if force => return Err(FORM),
        "reboot" => MachineEnd::Reboot,
        "poweroff" => MachineEnd::PowerOff,
        "halt" => MachineEnd::Halt,
        "none" | "exit" | "soft-reboot" | "kexec" => return Ok(None),
        _ => return Err(FORM),
    };
    Ok(Some(MachineAction { end, force }))
}

/// Exit codes by number or name, signals by name; several on a line, several lines.
fn statuses(sheet: &mut Sheet<'_>, key: &'static str) -> ExitStatuses {
    let mut all = ExitStatuses::default();
    for (value, word) in sheet.all_words("Service", key) {
        let text = word.text.as_str();
        let named = EXIT_CODES.iter().find(|(name, _)| *name == text).map(|(_, code)| *code);
        match (text.parse::<u8>().ok().or(named), values::capital_signal(text)) {
            _ if values::octal(text).is_some() => sheet.error_at(&value, &word, values::two_numbers(key, text)),
            (Some(code), _) => {
                all.codes.insert(code);
            }
            (None, Ok(signal)) if !text.starts_with(|c: char| c.is_ascii_digit()) => {
                all.signals.insert(signal);
            }
            _ => {
                let text =
                    format!("{key}={text}: expected an exit code from 0 to 255 or a signal, such as 75 or SIGKILL");
                sheet.error_at(&value, &word, text);
            }
        }
    }
    all
}

/// "Process Exit Codes" of systemd.exec(5): the C library's, LSB's, sysexits(3)'s and systemd's own.
const EXIT_CODES: [(&str, u8); 67] = [
    ("SUCCESS", 0),
    ("FAILURE", 1),
    ("INVALIDARGUMENT", 2),
    ("NOTIMPLEMENTED", 3),
    ("NOPERMISSION", 4),
    ("NOTINSTALLED", 5),
    ("NOTCONFIGURED", 6),
    ("NOTRUNNING", 7),
    ("USAGE", 64),
    ("DATAERR", 65),
    ("NOINPUT", 66),
    ("NOUSER", 67),
    ("NOHOST", 68),
    ("UNAVAILABLE", 69),
    ("SOFTWARE", 70),
    ("OSERR", 71),
    ("OSFILE", 72),
    ("CANTCREAT", 73),
    ("IOERR", 74),
    ("TEMPFAIL", 75),
    ("PROTOCOL", 76),
    ("NOPERM", 77),
    ("CONFIG", 78),
    ("CHDIR", 200),
    ("NICE", 201),
    ("FDS", 202),
    ("EXEC", 203),
    ("MEMORY", 204),
    ("LIMITS", 205),
    ("OOM_ADJUST", 206),
    ("SIGNAL_MASK", 207),
    ("STDIN", 208),
    ("STDOUT", 209),
    ("CHROOT", 210),
    ("IOPRIO", 211),
    ("TIMERSLACK", 212),
    ("SECUREBITS", 213),
    ("SETSCHEDULER", 214),
    ("CPUAFFINITY", 215),
    ("GROUP", 216),
    ("USER", 217),
    ("CAPABILITIES", 218),
    ("CGROUP", 219),
    ("SETSID", 220),
    ("CONFIRM", 221),
    ("STDERR", 222),
    ("PAM", 224),
    ("NETWORK", 225),
    ("NAMESPACE", 226),
    ("NO_NEW_PRIVILEGES", 227),
    ("SECCOMP", 228),
    ("SELINUX_CONTEXT", 229),
    ("PERSONALITY", 230),
    ("APPARMOR", 231),
    ("ADDRESS_FAMILIES", 232),
    ("RUNTIME_DIRECTORY", 233),
    ("CHOWN", 235),
    ("SMACK_PROCESS_LABEL", 236),
    ("KEYRING", 237),
    ("STATE_DIRECTORY", 238),
    ("CACHE_DIRECTORY", 239),
    ("LOGS_DIRECTORY", 240),
    ("CONFIGURATION_DIRECTORY", 241),
    ("NUMA_POLICY", 242),
    ("CREDENTIALS", 243),
    ("BPF", 245),
    ("EXCEPTION", 255),
];

fn kind(sheet: &mut Sheet<'_>) -> ServiceType {
    if sheet.scope.kind != Kind::Container {
        return other_kind(sheet);
    }
    let kind = sheet.read("Service", "Type", |text| match text {
        "oneshot" => Ok((ServiceType::Oneshot, true)),
        "notify" => Ok((ServiceType::Exec, true)),
        "simple" | "exec" => Ok((ServiceType::Exec, false)),
        _ => Err("a container can be of type notify (the default) or oneshot"),
    });
    if let Some((_, false)) = kind
        && let Some(value) = sheet.last("Service", "Type")
    {
        let text =
            format!("Podman refuses Type={} in a .container file; leave it out, it means the same here", value.text);
        sheet.warning(&value, text);
    }
    kind.map_or(ServiceType::Exec, |(kind, _)| kind)
}

fn restart(text: &str) -> Result<Restart, &'static str> {
    Ok(match text {
        "no" => Restart::No,
        "on-success" => Restart::OnSuccess,
        "on-failure" => Restart::OnFailure,
        "on-abnormal" => Restart::OnAbnormal,
        "on-abort" => Restart::OnAbort,
        "always" => Restart::Always,
        "on-watchdog" => Restart::OnWatchdog,
        "unless-stopped" => return Err("that is Docker's word; write always, a stop by request is not restarted"),
        _ => return Err("expected no, on-success, on-failure, on-abnormal, on-watchdog, on-abort or always"),
    })
}

/// Zero is infinity here, as systemd has it for its older users.
fn timeout(sheet: &mut Sheet<'_>, key: &'static str) -> Option<Option<Duration>> {
    sheet.read("Service", key, values::span).map(|span| span.filter(|s| !s.is_zero()))
}

/// To the start and to the stop. `TimeoutSec=` is "a shorthand for configuring both", systemd.service(5): the later line counts.
fn timeouts(sheet: &mut Sheet<'_>) -> (Option<Option<Duration>>, Option<Option<Duration>>) {
    let (mut start, mut stop) = (None, None);
    let mut seen: Vec<&str> = Vec::new();
    for (key, value) in
        sheet.in_order("Service", &["TimeoutSec", "TimeoutStartSec", "TimeoutStopSec"]).into_iter().rev()
    {
        let span = match values::span(&value.text) {
            Ok(span) => span.filter(|span| !span.is_zero()),
            Err(text) => {
                sheet.error(&value, format!("{key}={}: {text}", value.text));
                None
            }
        };
        // Of those that a later line replaces only the mistakes count.
        if seen.contains(&key) {
            continue;
        }
        seen.push(key);
        if key != "TimeoutStopSec" {
            start.get_or_insert(span);
        }
        if key != "TimeoutStartSec" {
            stop.get_or_insert(span);
        }
    }
    (start, stop)
}

/// Quadlet's own services for the other kinds are of one type each.
fn other_kind(sheet: &mut Sheet<'_>) -> ServiceType {
    let is_pod = sheet.scope.kind == Kind::Pod;
    let own = if is_pod { "forking" } else { "oneshot" };
    sheet.read("Service", "Type", |text| {
        if text == own { Ok(()) } else { Err(format!("the service of such a file is of type {own}; leave it out")) }
    });
    if is_pod { ServiceType::Exec } else { ServiceType::Oneshot }
}

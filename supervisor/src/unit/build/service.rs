//! `[Service]`, and the start limit of `[Unit]`.

use std::time::Duration;

use crate::unit::{ContainerSpec, Restart, ServiceSpec, ServiceType, sheet::Sheet, values};

pub(super) struct StartLimit {
    pub(super) burst: u32,
    pub(super) interval: Duration,
}

/// DefaultTimeoutStartSec=, DefaultTimeoutStopSec= of systemd-system.conf(5).
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(90);

pub(super) fn service(sheet: &mut Sheet) -> (ServiceSpec, StartLimit) {
    let kind = kind(sheet);
    let restart = sheet.read("Service", "Restart", restart).unwrap_or(Restart::No);
    if kind == ServiceType::Oneshot && matches!(restart, Restart::Always | Restart::OnSuccess) {
        for value in sheet.all("Service", "Restart").iter().rev().take(1) {
            // systemd.service(5): it would never be anything but restarting.
            let text = format!(
                "Restart={} is not possible with Type=oneshot; write on-failure, or leave Type= out",
                value.text
            );
            sheet.error(value, text);
        }
    }
    let both = timeout(sheet, "TimeoutSec");
    let start = timeout(sheet, "TimeoutStartSec").or(both);
    let stop = timeout(sheet, "TimeoutStopSec").or(both);
    let start_default = if kind == ServiceType::Oneshot { None } else { Some(DEFAULT_TIMEOUT) };
    let service = ServiceSpec {
        kind,
        remain_after_exit: sheet.read("Service", "RemainAfterExit", values::boolean).unwrap_or(false),
        restart,
        restart_delay: sheet.read("Service", "RestartSec", finite_span).unwrap_or(Duration::from_millis(100)),
        start_timeout: start.unwrap_or(start_default),
        stop_timeout: stop.unwrap_or(Some(DEFAULT_TIMEOUT)),
    };
    let limit = StartLimit {
        burst: sheet.read("Unit", "StartLimitBurst", count).unwrap_or(5),
        interval: sheet.read("Unit", "StartLimitIntervalSec", finite_span).unwrap_or(Duration::from_secs(10)),
    };
    (service, limit)
}

fn kind(sheet: &mut Sheet) -> ServiceType {
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
        "on-watchdog" => return Err("there is no watchdog for units in this version; write on-abnormal"),
        "unless-stopped" => return Err("that is Docker's word; write always, a stop by request is not restarted"),
        _ => return Err("expected no, on-success, on-failure, on-abnormal, on-abort or always"),
    })
}

/// Zero is infinity here, as systemd has it for its older users.
fn timeout(sheet: &mut Sheet, key: &'static str) -> Option<Option<Duration>> {
    sheet.read("Service", key, values::span).map(|span| span.filter(|s| !s.is_zero()))
}

fn finite_span(text: &str) -> Result<Duration, &'static str> {
    values::span(text)?.ok_or("expected a time span that ends, such as 5s or 1min")
}

fn count(text: &str) -> Result<u32, &'static str> {
    text.parse().map_err(|_| "expected a number")
}

/// `MemoryMax=` and `TasksMax=` bound the service's cgroup, which holds the container's: the tighter of both limits counts.
pub(super) fn limits(sheet: &mut Sheet, container: &mut ContainerSpec) {
    let memory = sheet.read("Service", "MemoryMax", |text| bound(text, values::size));
    if let Some(Some(bytes)) = memory {
        container.memory_max_bytes = Some(container.memory_max_bytes.map_or(bytes, |other| other.min(bytes)));
    }
    let tasks = sheet
        .read("Service", "TasksMax", |text| bound(text, |t| t.parse().map_err(|_| "expected a number or infinity")));
    if let Some(Some(tasks)) = tasks {
        container.pids_max = Some(container.pids_max.map_or(tasks, |other| other.min(tasks)));
    }
    container.oom_score_adj = sheet.read("Service", "OOMScoreAdjust", oom_score).unwrap_or(0);
}

fn bound(text: &str, read: impl Fn(&str) -> Result<u64, &'static str>) -> Result<Option<u64>, &'static str> {
    if text.ends_with('%') {
        return Err("shares of the machine are known, not available in this version; write an amount");
    }
    match read(text) {
        _ if text == "infinity" => Ok(None),
        Ok(0) => Err("nothing runs within a limit of 0"),
        Ok(amount) => Ok(Some(amount)),
        Err(text) => Err(text),
    }
}

fn oom_score(text: &str) -> Result<i32, &'static str> {
    text.parse().ok().filter(|n| (-1000..=1000).contains(n)).ok_or("expected a number from -1000 to 1000")
}

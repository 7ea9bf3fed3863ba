//! `Health…=`, `Notify=`, `ReloadCmd=`, `ReloadSignal=`.

use std::time::Duration;

use super::command;
use crate::unit::{Health, HealthAction, Notify, Reload, sheet::Sheet, text::Text, values};

/// podman-run(1): every 30 s, 30 s long, three times.
const USUAL: Duration = Duration::from_secs(30);

/// The check, and the one that runs before it until it has succeeded.
pub(super) fn health(sheet: &mut Sheet<'_>) -> (Option<Health>, Option<Health>) {
    let usual = Health {
        command: Vec::new(),
        interval: interval(sheet, "HealthInterval"),
        timeout: sheet.read("Container", "HealthTimeout", go_duration).unwrap_or(USUAL),
        retries: sheet.read("Container", "HealthRetries", positive).unwrap_or(3),
        start_period: sheet.read("Container", "HealthStartPeriod", go_duration).unwrap_or_default(),
        successes: 1,
        on_failure: sheet.read("Container", "HealthOnFailure", action).unwrap_or_default(),
        // podman-run(1). There 0 keeps everything; here the results lie in memory and are written with every change.
        max_log_count: sheet.read("Container", "HealthMaxLogCount", |text| bounded(text, 100)).unwrap_or(5),
        max_log_bytes: sheet.read("Container", "HealthMaxLogSize", |text| bounded(text, 4096)).unwrap_or(500),
        log_events: sheet.last("Container", "HealthLogDestination").is_some_and(|value| value.text == "events_logger"),
    };
    let startup = Health {
        command: Vec::new(),
        interval: interval(sheet, "HealthStartupInterval"),
        timeout: sheet.read("Container", "HealthStartupTimeout", go_duration).unwrap_or(USUAL),
        // Zero: it may fail for as long as it likes.
        retries: sheet.read("Container", "HealthStartupRetries", number).unwrap_or(0),
        start_period: Duration::ZERO,
        successes: sheet.read("Container", "HealthStartupSuccess", number).unwrap_or(0).max(1),
        ..usual
    };
    let (command, first) = (test(sheet, "HealthCmd"), test(sheet, "HealthStartupCmd"));
    if first.is_some()
        && command.is_none()
        && let Some(value) = sheet.last("Container", "HealthStartupCmd")
    {
        sheet.error(&value, "HealthStartupCmd= needs HealthCmd= beside it, which follows it");
    }
    let usual = match command {
        Some(command) => Some(Health { command, ..usual }),
        None => sheet.last("Container", "HealthCmd").is_none().then_some(usual),
    };
    (usual, first.map(|command| Health { command, ..startup }))
}

/// A JSON list, `CMD …`, `CMD-SHELL …`, `none`, or what a shell is to run.
fn test(sheet: &mut Sheet<'_>, key: &'static str) -> Option<Vec<String>> {
    // Not `every`: the quotes around a command belong to its shell.
    let all = sheet.all("Container", key);
    let mut last = None;
    for value in &all {
        last = one_test(sheet, key, value);
    }
    last
}

fn one_test(sheet: &mut Sheet<'_>, key: &str, value: &Text) -> Option<Vec<String>> {
    let shell = |text: &str| Some(vec!["/bin/sh".to_owned(), "-c".to_owned(), text.to_owned()]);
    // It stands in Quadlet's ExecStart=, whose dollars are systemd's.
    let text = match command::inner_dollars(&value.text) {
        Ok(text) => text,
        Err(text) => {
            sheet.error(value, text.behind(format_args!("{key}={}", value.text)));
            return None;
        }
    };
    let text = text.as_str();
    // What is no such list is for the shell, `[ -e /run/ok ]` as well; and a list of one is a line for it too (podman's
    // MakeHealthCheckFromCli).
    if let Ok(list) = serde_json::from_str::<Vec<String>>(text) {
        let (first, rest) = list.split_first().unzip();
        return match (first.map(String::as_str), rest.unwrap_or_default()) {
            (Some("CMD"), rest) if !rest.is_empty() => Some(rest.to_vec()),
            // Podman joins them.
            (Some("CMD-SHELL"), words) if !words.is_empty() => shell(&words.join(" ")),
            (Some("NONE"), []) => None,
            (None | Some("CMD" | "CMD-SHELL" | "NONE"), _) => {
                sheet.error(value, format!(r#"not a list of words to run; write {key}=["/bin/check", "argument"]"#));
                None
            }
            (Some(command), []) => shell(command),
            _ => Some(list),
        };
    }
    if text.starts_with("[\"") {
        sheet.warning(
            value,
            format!(r#"this is no JSON list of words, so a shell runs it; write {key}=["/bin/check", "argument"]"#),
        );
    }
    match text.split_once(char::is_whitespace) {
        None if text.eq_ignore_ascii_case("none") => None,
        Some(("CMD-SHELL", command)) => shell(command),
        Some(("CMD", command)) => Some(command.split_whitespace().map(str::to_owned).collect()),
        _ => shell(text),
    }
}

fn interval(sheet: &mut Sheet<'_>, key: &'static str) -> Option<Duration> {
    // Zero says the same to podman.
    let read = sheet.read("Container", key, |text| match text {
        "disable" => Ok(None),
        _ => go_duration(text).map(|every| Some(every).filter(|every| !every.is_zero())),
    });
    read.unwrap_or(Some(USUAL))
}

/// Go's durations, as podman takes them: never without a unit, and none longer than an hour.
pub(super) fn go_duration(text: &str) -> Result<Duration, &'static str> {
    const FORM: &str = "expected a time span with a unit, such as 30s, 1m30s or 500ms";
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let spaced = text.contains(char::is_whitespace) || !text.ends_with(|c: char| c.is_ascii_alphabetic());
    let units = text.split(|c: char| c.is_ascii_digit() || c == '.').filter(|unit| !unit.is_empty());
    if spaced || !units.into_iter().all(|unit| matches!(unit, "h" | "m" | "s" | "ms" | "us" | "µs")) {
        return Err(FORM);
    }
    values::span(text).ok().flatten().ok_or(FORM)
}

fn positive(text: &str) -> Result<u32, &'static str> {
    text.parse().ok().filter(|n| *n > 0).ok_or("expected a number above 0")
}

fn bounded(text: &str, most: usize) -> Result<usize, &'static str> {
    const FORM: &str = "expected a number above 0; of results at most 100 are kept, of each at most 4096 bytes";
    text.parse().ok().filter(|n| (1..=most).contains(n)).ok_or(FORM)
}

pub(super) fn number(text: &str) -> Result<u32, &'static str> {
    text.parse().map_err(|_| "expected a number")
}

fn action(text: &str) -> Result<HealthAction, &'static str> {
    Ok(match text {
        "none" => HealthAction::None,
        "kill" => HealthAction::Kill,
        "restart" => HealthAction::Restart,
        "stop" => HealthAction::Stop,
        _ => return Err("expected none, kill, restart or stop"),
    })
}

pub(super) fn notify(sheet: &mut Sheet<'_>) -> Notify {
    let read = sheet.read("Container", "Notify", |text| {
        if text.eq_ignore_ascii_case("healthy") {
            return Ok(Notify::Healthy);
        }
        let said = values::boolean(text).map_err(|_| "expected yes, no or healthy")?;
        Ok::<_, &str>(if said { Notify::Container } else { Notify::Runtime })
    });
    read.unwrap_or_default()
}

pub(super) fn reload(sheet: &mut Sheet<'_>) -> Option<Reload> {
    let signal = sheet.read("Container", "ReloadSignal", values::signal);
    let command = command::words(sheet, "ReloadCmd");
    if signal.is_some()
        && !command.is_empty()
        && let Some(value) = sheet.last("Container", "ReloadSignal")
    {
        sheet.error(&value, "ReloadCmd= and ReloadSignal= exclude each other");
    }
    signal.map(Reload::Signal).or((!command.is_empty()).then_some(Reload::Command(command)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        assert_eq!(
            [go_duration("1m33s"), go_duration("500ms")],
            [Ok(Duration::from_secs(93)), Ok(Duration::from_millis(500))]
        );
        assert!(["", "30", "1 s", "1d", "5min", "s", "1.5"].iter().all(|t| go_duration(t).is_err()));
    }
}

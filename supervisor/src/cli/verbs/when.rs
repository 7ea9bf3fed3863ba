//! Times as people write them: the forms of journalctl and of podman, all in UTC, which is the machine's own.

use jiff::{SignedDuration, Timestamp, civil::DateTime, tz::TimeZone};

use crate::unit;

/// `2026-01-31T12:00:00Z`, `2026-01-31 12:00`, `2026-01-31`, `12:00`, `now`, `today`, `yesterday`, `tomorrow`, `10min` and `-10min` and
/// `10min ago` (before now), `+10min`, `@1700000000` and `1700000000` (since 1970).
pub(super) fn time(text: &str, now: Timestamp) -> Option<Timestamp> {
    let text = text.trim();
    let today = now.to_zoned(TimeZone::UTC).date();
    let midnight = |days: i64| {
        let day = today.checked_add(SignedDuration::from_hours(24 * days)).ok()?;
        Some(day.to_zoned(TimeZone::UTC).ok()?.timestamp())
    };
    match text {
        "now" => return Some(now),
        "today" => return midnight(0),
        "yesterday" => return midnight(-1),
        "tomorrow" => return midnight(1),
        _ => {}
    }
    let seconds = text.strip_prefix('@').unwrap_or(text);
    if !seconds.is_empty() && seconds.bytes().all(|byte| byte.is_ascii_digit()) {
        return Timestamp::from_second(seconds.parse().ok()?).ok();
    }
    let span = |text: &str| SignedDuration::try_from(unit::span(text).ok()??).ok();
    if let Some(ahead) = text.strip_prefix('+') {
        return now.checked_add(span(ahead)?).ok();
    }
    let before = text.strip_prefix('-').or_else(|| text.strip_suffix(" ago")).unwrap_or(text);
    if let Some(span) = span(before) {
        return now.checked_sub(span).ok();
    }
    if let Ok(time) = text.parse() {
        return Some(time);
    }
    let civil = text.strip_suffix(" UTC").unwrap_or(text);
    let civil = civil.parse::<DateTime>().or_else(|_| format!("{today}T{civil}").parse::<DateTime>()).ok()?;
    Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_journalctl_and_podman() {
        let now = "2026-01-31T12:00:00Z".parse().unwrap();
        let at = |text: &str| time(text, now).map(|time| time.to_string()).unwrap_or_default();
        for (text, expected) in [
            ("10min", "2026-01-31T11:50:00Z"),
            ("1h30m", "2026-01-31T10:30:00Z"),
            ("-1d", "2026-01-30T12:00:00Z"),
            ("2h ago", "2026-01-31T10:00:00Z"),
            ("+5s", "2026-01-31T12:00:05Z"),
            ("now", "2026-01-31T12:00:00Z"),
            ("today", "2026-01-31T00:00:00Z"),
            ("yesterday", "2026-01-30T00:00:00Z"),
            ("tomorrow", "2026-02-01T00:00:00Z"),
            ("2026-01-30T00:00:00+01:00", "2026-01-29T23:00:00Z"),
            ("2026-01-30", "2026-01-30T00:00:00Z"),
            ("2026-01-30 10:20", "2026-01-30T10:20:00Z"),
            ("2026-01-30 10:20:30 UTC", "2026-01-30T10:20:30Z"),
            ("09:15", "2026-01-31T09:15:00Z"),
            ("@1700000000", "2023-11-14T22:13:20Z"),
            ("1700000000", "2023-11-14T22:13:20Z"),
        ] {
            assert_eq!(at(text), expected, "{text}");
        }
        for wrong in ["", "soon", "infinity", "6000000d", "2026-13-01", "25:00", "@", "ago"] {
            assert_eq!(at(wrong), "", "{wrong}");
        }
    }
}

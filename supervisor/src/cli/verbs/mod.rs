//! One file a verb, or a family of them.

pub(super) mod events;
pub(super) mod exec;
pub(super) mod jobs;
pub(super) mod lint;
pub(super) mod logs;
pub(super) mod ps;
pub(super) mod secret;
pub(super) mod stats;
pub(super) mod status;
pub(super) mod system;
mod when;

use crate::{
    api::types::{ActiveState, Health, UnitStatus},
    cli::screen::Color,
};

/// systemd's word.
fn state_word(state: ActiveState) -> &'static str {
    match state {
        ActiveState::Inactive => "inactive",
        ActiveState::Activating => "activating",
        ActiveState::Active => "active",
        ActiveState::Deactivating => "deactivating",
        ActiveState::Failed => "failed",
    }
}

fn state_color(state: ActiveState) -> Color {
    match state {
        ActiveState::Active => Color::Green,
        ActiveState::Failed => Color::Red,
        ActiveState::Activating | ActiveState::Deactivating => Color::Yellow,
        ActiveState::Inactive => Color::Plain,
    }
}

/// `None` without a check.
fn health_word(health: Health) -> Option<&'static str> {
    match health {
        Health::None => None,
        Health::Starting => Some("starting"),
        Health::Healthy => Some("healthy"),
        Health::Unhealthy => Some("unhealthy"),
    }
}

/// The same where the second word says more than the first: eighty columns are few.
fn short_state(unit: &UnitStatus) -> String {
    match (unit.state, unit.sub_state.as_str()) {
        (ActiveState::Active, "running") | (ActiveState::Inactive, "dead") | (ActiveState::Failed, "failed") => {
            state_word(unit.state).to_owned()
        }
        _ => state_text(unit),
    }
}

/// `active (running)`
fn state_text(unit: &UnitStatus) -> String {
    format!("{} ({})", state_word(unit.state), unit.sub_state)
}

/// `2026-01-31 12:00:00 UTC`, or the text itself where it is no time.
fn date(text: &str) -> String {
    match text.parse::<jiff::Timestamp>() {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        Err(_) => text.to_owned(),
    }
}

/// `2min ago`, as long as the two clocks agree that it lies behind.
fn ago(text: &str, now: jiff::Timestamp) -> Option<String> {
    let since = text.parse::<jiff::Timestamp>().ok()?;
    let seconds = u64::try_from(now.as_second() - since.as_second()).ok()?;
    Some(format!("{} ago", span(seconds)))
}

/// The two largest units of a span, as systemctl shows them.
fn span(seconds: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)];
    let mut rest = seconds;
    let mut parts = Vec::new();
    for (name, length) in UNITS {
        let count = rest / length;
        rest %= length;
        if count > 0 || (name == "s" && parts.is_empty()) {
            parts.push(format!("{count}{name}"));
        } else if !parts.is_empty() {
            break;
        }
    }
    parts.truncate(2);
    parts.join(" ")
}

/// `17.3M`
fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("T", 1 << 40), ("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)];
    for (name, unit) in UNITS {
        if bytes >= unit {
            let tenths = u128::from(bytes) * 10 / u128::from(unit);
            return format!("{}.{}{name}", tenths / 10, tenths % 10);
        }
    }
    format!("{bytes}B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_sizes_are_short() {
        assert_eq!([span(0), span(59), span(61), span(3600), span(90_061)], ["0s", "59s", "1min 1s", "1h", "1d 1h"]);
        assert_eq!([size(0), size(1023), size(1536), size(20 << 20)], ["0B", "1023B", "1.5K", "20.0M"]);
    }

    #[test]
    fn a_time_ahead_of_this_clock_has_no_distance() {
        let now = "2026-01-31T12:00:00Z".parse().unwrap();
        assert_eq!(ago("2026-01-31T11:58:00.5Z", now).as_deref(), Some("2min ago"));
        assert_eq!(ago("2026-01-31T12:00:05Z", now), None);
        assert_eq!(ago("soon", now), None);
        assert_eq!(date("2026-01-31T11:58:00.5Z"), "2026-01-31 11:58:00 UTC");
    }
}

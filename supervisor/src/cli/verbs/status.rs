//! `status` and `is-active`.

use super::{ago, date, health_word, size, state_color, state_text, state_word, system};
use crate::{
    api::types::{ActiveState, LogLine, MemoryEvents, NetworkStatus, Pressure, Tasks, UnitStatus},
    cli::{
        args::{IsActiveArgs, StatusArgs},
        client::Client,
        error::CliError,
        names,
        screen::Screen,
        verbs::logs,
    },
};

/// LSB's and systemctl's: the program is not running.
const NOT_ACTIVE: u8 = 3;
const NO_SUCH_UNIT: u8 = 4;
/// Earlier ends of a unit, in its text.
const SHOWN_PAST: usize = 3;

pub(in crate::cli) fn status(
    client: &Client,
    args: &StatusArgs,
    json: bool,
    screen: &mut Screen,
) -> Result<u8, CliError> {
    if args.units.is_empty() {
        return system::status(client, json, screen);
    }
    let mut shown = Vec::new();
    let mut code = 0;
    for name in names::expand(client, &args.units)? {
        let unit: UnitStatus = match client.get(&format!("/v1/units/{}", names::encode(&name))) {
            Ok(unit) => unit,
            Err(error) if error.exit_code() == NO_SUCH_UNIT => {
                screen.complain(&error.to_string());
                code = NO_SUCH_UNIT;
                continue;
            }
            Err(error) => return Err(error),
        };
        if unit.state != ActiveState::Active && code == 0 {
            code = NOT_ACTIVE;
        }
        if !json {
            if !shown.is_empty() {
                screen.print("\n")?;
            }
            text(&unit, screen)?;
            let target = format!("/v1/units/{}/logs?tail={}", names::encode(&unit.name), args.lines);
            let lines: Vec<LogLine> = if args.lines > 0 { logs::read(client, &target)? } else { Vec::new() };
            if !lines.is_empty() {
                screen.print("\n")?;
            }
            for line in lines {
                let message = if line.stream == "orlop" { format!("-- {} --", line.message) } else { line.message };
                screen.print_foreign(&format!("{} {message}\n", date(&line.time)))?;
            }
        }
        shown.push(unit);
    }
    if json {
        screen.print_json(&shown)?;
    }
    Ok(code)
}

fn text(unit: &UnitStatus, screen: &mut Screen) -> Result<(), CliError> {
    let color = state_color(unit.state);
    let dot = match unit.state {
        ActiveState::Active => "●",
        ActiveState::Failed => "×",
        ActiveState::Activating | ActiveState::Deactivating => "↻",
        ActiveState::Inactive => "○",
    };
    let since = match ago(&unit.since, jiff::Timestamp::now()) {
        Some(ago) => format!("{}; {ago}", date(&unit.since)),
        None => date(&unit.since),
    };
    let enabled = if unit.enabled { "enabled" } else { "disabled" };
    let title = format!("{} - {}", unit.name, unit.description);
    let mut text = format!("{} {}\n", screen.paint(dot, color), screen.foreign(&title));
    let mut field = |name: &str, value: &str| text.push_str(&format!("{name:>11}: {value}\n"));
    field("Loaded", &screen.foreign(&format!("{}; {enabled}", unit.path)));
    field("Active", &format!("{} since {since}", screen.paint(&screen.foreign(&state_text(unit)), color)));
    if let Some(reason) = &unit.reason {
        field("Reason", &screen.foreign(reason));
    }
    if let Some(status) = &unit.status_text {
        field("Status", &screen.foreign(status));
    }
    if let Some(health) = health_word(unit.health) {
        let last = unit.health_log.first().and_then(|check| check.output.lines().next()).unwrap_or_default();
        let last = if last.is_empty() { String::new() } else { format!(": {last}") };
        field("Health", &screen.foreign(&format!("{health}{last}")));
    }
    if let Some(triggers) = &unit.triggers {
        field("Triggers", &screen.foreign(triggers));
    }
    if unit.name.ends_with(".timer") {
        field("Next", &unit.next_elapse.as_deref().map_or_else(|| "never".to_owned(), date));
        field("Last", &unit.last_trigger.as_deref().map_or_else(|| "never".to_owned(), date));
    } else if unit.triggers.is_none() {
        field("Image", &screen.foreign(&unit.image));
    }
    for network in &unit.networks {
        let NetworkStatus { name, interface, addresses, .. } = network;
        field("Network", &format!("{} on {name} as {interface}", addresses.join(", ")));
    }
    if !unit.ports.is_empty() {
        field("Ports", &super::ps::ports(unit));
    }
    if let Some(pid) = unit.pid {
        field("Main PID", &pid.to_string());
    }
    if let Some(bytes) = unit.memory_bytes {
        field("Memory", &memory(bytes, unit.memory_events));
    }
    if let Some(of) = unit.tasks {
        field("Tasks", &tasks(of));
    }
    if let Some(of) = unit.pressure {
        field("Pressure", &pressure(of));
    }
    if unit.restarts > 0 {
        field("Restarts", &unit.restarts.to_string());
    }
    // The last one's end is the reason above.
    for past in unit.past.iter().skip(1).take(SHOWN_PAST) {
        field("Before", &screen.foreign(&format!("{}, {}", date(&past.ended), past.reason)));
    }
    screen.print(&text)
}

/// With what the kernel counted at its limits, and without when it is nothing.
pub(super) fn memory(bytes: u64, events: Option<MemoryEvents>) -> String {
    let counts = events.map(|MemoryEvents { high, max, oom_kill, .. }| {
        [(high, "times above memory.high"), (max, "times at memory.max"), (oom_kill, "killed for it")]
    });
    let said = counts.into_iter().flatten().filter(|(count, _)| *count > 0);
    size(bytes) + &said.map(|(count, what)| format!(", {count} {what}")).collect::<String>()
}

fn tasks(Tasks { current, max, refused }: Tasks) -> String {
    let limit = max.map_or_else(String::new, |max| format!(" of {max}"));
    let refused = if refused > 0 { format!(", {refused} times one more was refused") } else { String::new() };
    format!("{current}{limit}{refused}")
}

pub(super) fn pressure(Pressure { cpu, memory, io }: Pressure) -> String {
    format!("cpu {cpu:.2} %, memory {memory:.2} %, io {io:.2} % of the last 10 s")
}

pub(in crate::cli) fn is_active(
    client: &Client,
    args: &IsActiveArgs,
    json: bool,
    screen: &mut Screen,
) -> Result<u8, CliError> {
    let mut states = Vec::new();
    let mut missing = false;
    for name in names::expand(client, &args.units)? {
        match client.get::<UnitStatus>(&format!("/v1/units/{}", names::encode(&name))) {
            Ok(unit) => states.push((name, unit.state)),
            // systemctl's word for what it does not know.
            Err(error) if error.exit_code() == NO_SUCH_UNIT => {
                missing = true;
                states.push((name, ActiveState::Inactive));
            }
            Err(error) => return Err(error),
        }
    }
    if json && !args.quiet {
        let all: std::collections::BTreeMap<&str, &str> =
            states.iter().map(|(name, state)| (name.as_str(), state_word(*state))).collect();
        screen.print_json(&all)?;
    } else if !args.quiet {
        for (_, state) in &states {
            let word = screen.paint(state_word(*state), state_color(*state));
            screen.print(&format!("{word}\n"))?;
        }
    }
    if states.iter().any(|(_, state)| *state == ActiveState::Active) {
        return Ok(0);
    }
    Ok(if missing { NO_SUCH_UNIT } else { NOT_ACTIVE })
}

//! `ps`: the units in a table.

use super::{ago, date, health_word, short_state, state_color};
use crate::{
    api::types::{ActiveState, Health, PortStatus, UnitStatus},
    cli::{
        args::PsArgs,
        client::Client,
        error::CliError,
        names,
        screen::{Color, Screen},
    },
};

pub(in crate::cli) fn ps(client: &Client, args: &PsArgs, json: bool, screen: &mut Screen) -> Result<u8, CliError> {
    let mut units = names::select(client.get("/v1/units")?, &args.units)?;
    units.retain(|unit| !args.failed || unit.state == ActiveState::Failed);
    if json {
        screen.print_json(&units)?;
    } else if args.quiet {
        for unit in &units {
            screen.print(&format!("{}\n", unit.name))?;
        }
    } else {
        let now = jiff::Timestamp::now();
        let mut rows: Vec<_> = units.iter().map(|unit| row(unit, now)).collect();
        let mut head = vec!["NAME", "STATE", "PID", "RESTARTS", "SINCE", "PORTS", "IMAGE"];
        // Where nothing is published there is no column of nothing.
        if units.iter().all(|unit| unit.ports.is_empty()) {
            head.remove(5);
            rows.iter_mut().for_each(|row| drop(row.remove(5)));
        }
        screen.table(&head, &rows)?;
    }
    Ok(0)
}

/// The image, or what a timer does next.
fn what(unit: &UnitStatus) -> String {
    match (&unit.triggers, &unit.next_elapse) {
        (Some(triggers), Some(next)) => format!("starts {triggers} {}", date(next)),
        (Some(triggers), None) => format!("starts {triggers}"),
        _ => unit.image.clone(),
    }
}

/// As `podman ps` shows them: `0.0.0.0:8080->80/tcp`.
pub(super) fn ports(unit: &UnitStatus) -> String {
    let shown = |port: &PortStatus| {
        let PortStatus { host_ip, host_port, container_port, range, protocol } = port;
        let host_ip = if host_ip.contains(':') { format!("[{host_ip}]") } else { host_ip.clone() };
        let last = |first: &u16| {
            if *range > 1 { format!("-{}", u32::from(*first) + u32::from(range - 1)) } else { String::new() }
        };
        format!("{host_ip}:{host_port}{}->{container_port}{}/{protocol}", last(host_port), last(container_port))
    };
    unit.ports.iter().map(shown).collect::<Vec<_>>().join(", ")
}

fn row(unit: &UnitStatus, now: jiff::Timestamp) -> Vec<(String, Color)> {
    let mut state = short_state(unit);
    if let Some(health) = health_word(unit.health) {
        let what = if unit.health == Health::Starting { "health: " } else { "" };
        state.push_str(&format!(", {what}{health}"));
    }
    vec![
        (unit.name.clone(), Color::Plain),
        (state, state_color(unit.state)),
        (unit.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()), Color::Plain),
        (unit.restarts.to_string(), if unit.restarts > 0 { Color::Yellow } else { Color::Plain }),
        (ago(&unit.since, now).unwrap_or_else(|| date(&unit.since)), Color::Plain),
        (ports(unit), Color::Plain),
        (what(unit), Color::Plain),
    ]
}

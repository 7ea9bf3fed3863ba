//! `ps`: the units in a table.

use super::{ago, date, health_word, short_state, state_color};
use crate::{
    api::types::{ActiveState, Health, UnitStatus},
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
        let rows: Vec<_> = units.iter().map(|unit| row(unit, now)).collect();
        screen.table(&["NAME", "STATE", "PID", "RESTARTS", "SINCE", "IMAGE"], &rows)?;
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
        (what(unit), Color::Plain),
    ]
}

//! `events` and `wait`: what becomes of units, as it happens.

use std::{collections::BTreeMap, thread, time::Duration};

use super::{health_word, logs::lines, state_color, state_word};
use crate::{
    api::types::{ActiveState, Health, UnitEvent, UnitStatus},
    cli::{
        args::{Condition, EventsArgs, WaitArgs},
        client::Client,
        error::CliError,
        names,
        screen::{Color, Screen},
    },
};

/// How often and how long one looks for a supervisor that is being replaced.
const RETRY: Duration = Duration::from_millis(100);
const RETRIES: usize = 300;

/// A stream of them; the first line, `None`, says that from here on none is missed.
fn stream(
    client: &Client,
    units: &[String],
) -> Result<impl Iterator<Item = Result<Option<UnitEvent>, CliError>>, CliError> {
    let query: Vec<String> = units.iter().map(|unit| format!("unit={}", names::encode(unit))).collect();
    let target = if query.is_empty() { "/v1/events".to_owned() } else { format!("/v1/events?{}", query.join("&")) };
    let response = client.call("GET", &target)?;
    Ok(lines(response.body).map(move |line| {
        let line = line.map_err(|source| CliError::Exchange { what: "read events", source })?;
        if line.trim_ascii().is_empty() {
            return Ok(None);
        }
        serde_json::from_slice(&line).map(Some).map_err(|source| CliError::Answer { target: target.clone(), source })
    }))
}

/// As long as `tell` wants more; over the replacement of a supervisor.
fn follow(
    client: &Client,
    units: &[String],
    mut tell: impl FnMut(Option<UnitEvent>) -> Result<bool, CliError>,
) -> Result<(), CliError> {
    let mut tries = 0;
    loop {
        match stream(client, units) {
            Ok(events) => {
                for event in events {
                    match event {
                        Ok(event) => {
                            tries = 0;
                            if !tell(event)? {
                                return Ok(());
                            }
                        }
                        Err(CliError::Exchange { .. }) => break,
                        Err(error) => return Err(error),
                    }
                }
            }
            // Not at the first time: nobody may be there at all.
            Err(CliError::Connect { .. } | CliError::Exchange { .. }) if (1..RETRIES).contains(&tries) => {}
            Err(error) => return Err(error),
        }
        tries += 1;
        thread::sleep(RETRY);
    }
}

pub(in crate::cli) fn events(
    client: &Client,
    args: &EventsArgs,
    json: bool,
    screen: &mut Screen,
) -> Result<u8, CliError> {
    let units = names::expand(client, &args.units)?;
    let mut known: Option<BTreeMap<String, ActiveState>> = None;
    follow(client, &units, |event| {
        let told = match event {
            // It was seen already.
            Some(event)
                if event.from != event.state
                    && known.as_ref().is_some_and(|known| known.get(&event.unit).copied() == event.state) =>
            {
                Vec::new()
            }
            Some(event) => vec![event],
            // The first word of a connection, or a heartbeat: what happened while there was no supervisor was told nobody.
            None => {
                let all: Vec<UnitStatus> = client.get("/v1/units")?;
                let before = known.replace(all.iter().map(|unit| (unit.name.clone(), unit.state)).collect());
                all.into_iter().filter_map(|unit| missed(&units, before.as_ref()?, unit)).collect()
            }
        };
        for event in told {
            if let (Some(known), Some(state)) = (&mut known, event.state) {
                known.insert(event.unit.clone(), state);
            }
            if json {
                screen.print(&format!("{}\n", serde_json::to_string(&event).unwrap_or_default()))?;
            } else {
                let text = said(&event, screen);
                screen.print(&text)?;
            }
        }
        screen.flush()?;
        Ok(true)
    })?;
    Ok(0)
}

fn missed(wanted: &[String], before: &BTreeMap<String, ActiveState>, unit: UnitStatus) -> Option<UnitEvent> {
    let from = before.get(&unit.name).copied();
    let is_news = from != Some(unit.state) && (wanted.is_empty() || wanted.contains(&unit.name));
    let UnitStatus { name, state, since, reason, .. } = unit;
    is_news.then_some(UnitEvent { time: since, unit: name, state: Some(state), from, reason, health: None })
}

fn said(event: &UnitEvent, screen: &Screen) -> String {
    let what = match (event.state, event.health) {
        (Some(state), _) => screen.paint(state_word(state), state_color(state)),
        (None, Some(health)) => {
            let color = if health == Health::Healthy { Color::Green } else { Color::Red };
            screen.paint(health_word(health).unwrap_or_default(), color)
        }
        (None, None) => String::new(),
    };
    let reason = event.reason.as_ref().map(|reason| format!(", {}", screen.foreign(reason))).unwrap_or_default();
    format!("{} {} {what}{reason}\n", event.time, screen.foreign(&event.unit))
}

/// What its program ended with, as a shell tells it; 0 of what has not run.
fn exit_code(unit: &UnitStatus) -> i32 {
    unit.exit_code.or(unit.signal.map(|signal| 128 + signal)).unwrap_or(0)
}

impl Condition {
    fn holds(self, unit: &UnitStatus) -> bool {
        match self {
            Self::Stopped => matches!(unit.state, ActiveState::Inactive | ActiveState::Failed),
            Self::Running => unit.state == ActiveState::Active,
            Self::Healthy => unit.health == Health::Healthy,
            Self::Unhealthy => unit.health == Health::Unhealthy,
        }
    }
}

pub(in crate::cli) fn wait(client: &Client, args: &WaitArgs, json: bool, screen: &mut Screen) -> Result<u8, CliError> {
    let units = names::expand(client, &args.units)?;
    let mut done: BTreeMap<String, UnitStatus> = BTreeMap::new();
    // How they are when it begins; and what comes after that is told.
    follow(client, &units, |_| {
        for name in units.iter().filter(|name| !done.contains_key(*name)).collect::<Vec<_>>() {
            let unit: UnitStatus = client.get(&format!("/v1/units/{}", names::encode(name)))?;
            if args.condition.holds(&unit) {
                done.insert(name.clone(), unit);
            }
        }
        Ok(done.len() < units.len())
    })?;
    let ended: Vec<&UnitStatus> = units.iter().filter_map(|name| done.get(name)).collect();
    if json {
        screen.print_json(&ended)?;
    } else if args.condition == Condition::Stopped {
        ended.iter().try_for_each(|unit| screen.print(&format!("{}\n", exit_code(unit))))?;
    }
    Ok(0)
}

//! `stats` and `top`: what containers use, as a table that goes on.

use std::{collections::BTreeMap, thread, time::Duration};

use serde::Serialize;

use super::size;
use crate::{
    api::types::{Stats, UnitStats},
    cli::{
        args::StatsArgs,
        client::Client,
        error::CliError,
        names,
        screen::{Color, Screen},
    },
    unit::glob,
};

/// Between the two looks of which one table is made.
const LOOK: Duration = Duration::from_millis(500);
/// From the top left corner on, and nothing of the table before.
const AGAIN: &str = "\x1b[H\x1b[J";

#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    stats: UnitStats,
    /// Of one CPU.
    cpu_percent: Option<f64>,
}

/// `by_use`: who uses the CPUs most comes first.
pub(in crate::cli) fn stats(
    client: &Client,
    args: &StatsArgs,
    by_use: bool,
    json: bool,
    screen: &mut Screen,
) -> Result<u8, CliError> {
    let interval = Duration::try_from_secs_f64(args.interval).unwrap_or(LOOK).max(LOOK);
    let mut before: Stats = client.get("/v1/stats")?;
    for word in &args.units {
        if !before.units.iter().any(|unit| glob::matches(names::stem(word), &unit.name)) {
            // It is there and does not run, or it is not there.
            names::select(client.get("/v1/units")?, std::slice::from_ref(word))?;
        }
    }
    let mut wait = LOOK;
    loop {
        thread::sleep(wait);
        let now: Stats = client.get("/v1/stats")?;
        let mut rows = rows(&before, &now, &args.units);
        if by_use {
            rows.sort_by(|a, b| b.cpu_percent.unwrap_or(0.0).total_cmp(&a.cpu_percent.unwrap_or(0.0)));
        }
        if json {
            screen.print_json(&rows)?;
        } else {
            let live = screen.terminal && !args.no_stream;
            if live {
                screen.print(AGAIN)?;
                let room = terminal_size::terminal_size().map_or(usize::MAX, |(_, height)| usize::from(height.0));
                rows.truncate(room.saturating_sub(2));
            }
            table(&rows, screen)?;
        }
        if args.no_stream {
            return Ok(0);
        }
        screen.flush()?;
        (before, wait) = (now, interval);
    }
}

fn rows(before: &Stats, now: &Stats, words: &[String]) -> Vec<Row> {
    let earlier: BTreeMap<&str, Option<u64>> =
        before.units.iter().map(|unit| (unit.name.as_str(), unit.cpu_us)).collect();
    let span = now.at_us.saturating_sub(before.at_us);
    let is_meant =
        |unit: &&UnitStats| words.is_empty() || words.iter().any(|word| glob::matches(names::stem(word), &unit.name));
    let row = |stats: &UnitStats| {
        let used = stats.cpu_us.zip(earlier.get(stats.name.as_str()).copied().flatten());
        // One that was started anew meanwhile begins with nothing.
        let used = used.map(|(now, before)| if now < before { now } else { now - before });
        let cpu_percent = used.filter(|_| span > 0).map(|used| {
            // Hundredths of a percent are exact in a double.
            let hundredths = u32::try_from(u128::from(used) * 10_000 / u128::from(span)).unwrap_or(u32::MAX);
            f64::from(hundredths) / 100.0
        });
        Row { stats: stats.clone(), cpu_percent }
    };
    now.units.iter().filter(is_meant).map(row).collect()
}

fn table(rows: &[Row], screen: &mut Screen) -> Result<(), CliError> {
    let head = ["NAME", "CPU %", "MEM", "LIMIT", "NET IN", "NET OUT", "READ", "WRITTEN", "PIDS", "WAITS CPU/MEM/IO"];
    let bytes = |count: Option<u64>| count.map_or_else(|| "-".to_owned(), size);
    let cells = |row: &Row| {
        let stats = &row.stats;
        let waits = stats.pressure.map(|waits| format!("{:.0}/{:.0}/{:.0} %", waits.cpu, waits.memory, waits.io));
        let texts = [
            stats.name.clone(),
            row.cpu_percent.map_or_else(|| "-".to_owned(), |percent| format!("{percent:.2}")),
            bytes(stats.memory_bytes),
            bytes(stats.memory_limit_bytes),
            bytes(stats.received_bytes),
            bytes(stats.sent_bytes),
            bytes(stats.read_bytes),
            bytes(stats.written_bytes),
            stats.tasks.map_or_else(|| "-".to_owned(), |tasks| tasks.current.to_string()),
            waits.unwrap_or_else(|| "-".to_owned()),
        ];
        texts.map(|text| (text, Color::Plain)).to_vec()
    };
    screen.table(&head, &rows.iter().map(cells).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(at_us: u64, units: &[(&str, Option<u64>)]) -> Stats {
        let unit = |(name, cpu_us): &(&str, Option<u64>)| UnitStats {
            name: (*name).to_owned(),
            cpu_us: *cpu_us,
            memory_bytes: None,
            memory_limit_bytes: None,
            tasks: None,
            read_bytes: None,
            written_bytes: None,
            received_bytes: None,
            sent_bytes: None,
            pressure: None,
        };
        Stats { at_us, units: units.iter().map(unit).collect() }
    }

    #[test]
    fn shares_are_counted_from_two_looks() {
        let before = stats(1_000_000, &[("a", Some(500)), ("b", Some(9_000_000)), ("c", None)]);
        let now = stats(3_000_000, &[("a", Some(500_500)), ("b", Some(200_000)), ("c", Some(1)), ("new", Some(7))]);
        let shares = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            let rows = rows(&before, &now, &words);
            rows.into_iter().map(|row| (row.stats.name, row.cpu_percent)).collect::<Vec<_>>()
        };
        let name = str::to_owned;
        assert_eq!(
            shares(&[]),
            [(name("a"), Some(25.0)), (name("b"), Some(10.0)), (name("c"), None), (name("new"), None)]
        );
        assert_eq!(shares(&["a.container", "n*"]), [(name("a"), Some(25.0)), (name("new"), None)]);
        assert_eq!(rows(&now, &now, &[])[0].cpu_percent, None);
    }
}

//! `supervise.*`: what it costs to start, restart, stop, log, idle and keep containers, in Orlop and in Debian's systemd with
//! Podman's Quadlet, each in a machine of one CPU that counts instructions, with the same unit files and the same program.
//!
//! What is measured is measured by the program `probe measure` in the machine: all that any process and the kernel's threads did
//! from before a command until three quiet seconds after its end. The command is the client a person would call.

mod orlop;
mod peer;

use qemu_tests::Artefacts;

use super::{Result, Row};

pub(super) const NAMES: [&str; 14] = [
    "supervise.boot",
    "supervise.start_ready",
    "supervise.restart",
    "supervise.stop",
    "supervise.log_throughput",
    "supervise.idle_hour",
    "supervise.memory.10",
    "supervise.memory.30",
    "supervise.memory.100",
    "supervise.memory.500",
    "supervise.memory_each.10",
    "supervise.memory_each.30",
    "supervise.memory_each.100",
    "supervise.memory_each.500",
];

const IMAGE: &str = "localhost/probe:latest";
/// Lines of a hundred bytes.
const LINES: u32 = 20_000;

pub(super) fn measure(artefacts: &Artefacts) -> Result<Vec<Row>> {
    let mut rows = orlop::measure(artefacts)?;
    match peer::measure(artefacts) {
        Ok(theirs) => rows.extend(theirs),
        Err(error) => eprintln!("systemd and Podman are left out: {error}"),
    }
    // Beside each other what is to be compared.
    rows.sort_by_key(|row| NAMES.iter().position(|name| *name == row.name));
    Ok(rows)
}

/// A unit of both systems; `more` are further lines of `[Container]`, `sections` what follows.
fn unit(exec: &str, more: &str, sections: &str) -> String {
    format!(
        "[Container]\nImage={IMAGE}\nExec={exec}\nNetwork=host\n{more}\n{sections}\n[Quadlet]\nDefaultDependencies=false\n"
    )
}

/// What every machine has: the units that are measured.
fn subjects(further: u32) -> Vec<(String, String)> {
    const ONCE: &str = "[Service]\nType=oneshot\nTimeoutStartSec=3600";
    let first = format!("{ONCE}\nRemainAfterExit=yes\n[Install]\nWantedBy=multi-user.target");
    let mut units = vec![
        ("first.container".to_owned(), unit("now", "", &first)),
        ("one.container".to_owned(), unit("sleep", "", "")),
        ("mute.container".to_owned(), unit("lines 0", "", ONCE)),
        ("talker.container".to_owned(), unit(&format!("lines {LINES}"), "", ONCE)),
    ];
    let nothing = unit("wait", "Entrypoint=/nothing", "");
    units.extend((0..further).map(|number| (format!("m{number}.container"), nothing.clone())));
    units
}

/// What is measured with this client, and how much memory with so many containers at last.
fn script(client: &str, counts: &[u32]) -> Vec<String> {
    let mut lines = vec![
        "5 nothing".to_owned(),
        format!("5 start {client} start one ; stop {client} stop one"),
        format!("1 again {client} start one"),
        format!("5 restart {client} restart one"),
        format!("3 mute {client} start mute ; talk {client} start talker"),
        "1 idle sleep 3600".to_owned(),
        "1 memory.0 memory".to_owned(),
    ];
    let mut from = 0;
    for count in counts {
        lines.push(format!("1 up.{count} each {from} {} {client} start ; memory.{count} memory", count - 1));
        from = *count;
    }
    lines
}

/// The rows of one system.
fn rows(meter: &Meter, counts: &[u32], of: &str) -> Result<Vec<Row>> {
    let row = |name: &str, value: f64, unit: &'static str, range: Option<(f64, f64)>| Row {
        name: format!("supervise.{name}"),
        value,
        unit,
        of: of.to_owned(),
        range,
    };
    let nothing = meter.median("nothing")?.0;
    let mut rows = Vec::new();
    for (name, label) in [("start_ready", "start"), ("restart", "restart"), ("stop", "stop")] {
        let (median, (min, max)) = meter.median(label)?;
        let range = Some((min - nothing, max - nothing));
        rows.push(row(name, median - nothing, "million instructions", range));
    }
    let megabytes = f64::from(LINES) * 100.0 / 1e6;
    let talk = (meter.median("talk")?.0 - meter.median("mute")?.0) / megabytes;
    rows.push(row("log_throughput", talk, "million instructions per MB", None));
    rows.push(row("idle_hour", meter.median("idle")?.0, "million instructions", None));
    let none = meter.median("memory.0")?.0;
    for count in counts {
        let used = meter.median(&format!("memory.{count}"))?.0;
        rows.push(row(&format!("memory.{count}"), used, "KiB of the machine's", None));
        let each = (used - none) / f64::from(*count);
        rows.push(row(&format!("memory_each.{count}"), each, "KiB a container", None));
    }
    Ok(rows)
}

/// The medians of `METER label value…`.
struct Meter(Vec<(String, Vec<f64>)>);

impl Meter {
    fn read(text: &str) -> Self {
        let lines = text.lines().filter_map(|line| line.trim().strip_prefix("METER "));
        let read = |line: &str| {
            let mut words = line.split(' ');
            let label = words.next().unwrap_or_default().to_owned();
            let mut values: Vec<f64> = words.filter_map(|word| word.parse().ok()).collect();
            values.sort_by(f64::total_cmp);
            (label, values)
        };
        Self(lines.map(read).collect())
    }

    /// The middle one, the least and the most.
    fn median(&self, label: &str) -> Result<(f64, (f64, f64))> {
        let found = self.0.iter().find(|(name, _)| name == label).map_or(&[][..], |(_, values)| values);
        match (found.first(), found.get(found.len() / 2), found.last()) {
            (Some(min), Some(median), Some(max)) => Ok((*median, (*min, *max))),
            _ => Err(format!("`{label}` was not measured: {:?}", self.0).into()),
        }
    }
}

/// `NOW clock_ns idle_ns`, as `probe now` prints it.
fn now(text: &str) -> Result<(f64, f64)> {
    let line =
        text.lines().find_map(|line| line.trim().strip_prefix("NOW ")).ok_or_else(|| format!("no NOW in {text}"))?;
    let both = line.split_once(' ').and_then(|(clock, idle)| Some((clock.parse().ok()?, idle.parse().ok()?)));
    both.ok_or_else(|| format!("`{line}`").into())
}

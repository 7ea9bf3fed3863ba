//! `logs`: what containers wrote, theirs on standard output and error as they wrote it, and what the machine itself said.

use std::{
    io::{BufRead, BufReader, Read},
    thread,
    time::Duration,
};

use super::when;
use crate::{
    api::types::LogLine,
    cli::{
        args::LogsArgs,
        client::Client,
        error::CliError,
        names,
        screen::{Color, Screen},
    },
};

/// How often and how long a follower looks for a supervisor that is being replaced.
const RETRY: Duration = Duration::from_millis(100);
const RETRIES: usize = 300;

pub(in crate::cli) fn logs(client: &Client, args: &LogsArgs, json: bool, screen: &mut Screen) -> Result<u8, CliError> {
    let mut units = names::expand(client, &args.units)?;
    let mut boot = args.boot.clone();
    if args.dmesg {
        units.push("@kernel".to_owned());
        // journalctl's -k means this boot too.
        boot.get_or_insert_with(|| "0".to_owned());
    }
    let mut query: Vec<String> = units.iter().map(|unit| format!("unit={}", names::encode(unit))).collect();
    let now = jiff::Timestamp::now();
    let time = |option, text: &Option<String>| {
        let time = text
            .as_ref()
            .map(|text| when::time(text, now).ok_or_else(|| CliError::Time { option, text: text.clone() }));
        time.transpose()
    };
    let (since, until) = (time("since", &args.since)?, time("until", &args.until)?);
    query.extend(until.map(|time| format!("until={}", names::encode(&time.to_string()))));
    for (key, value) in [("boot", &boot), ("grep", &args.grep)] {
        query.extend(value.as_ref().map(|value| format!("{key}={}", names::encode(value))));
    }
    if args.follow {
        query.push("follow=true".to_owned());
    }
    let mut printer = Printer {
        json,
        timestamps: args.timestamps,
        raw: args.raw,
        width: units.iter().map(|name| name.chars().count()).max().unwrap_or(0),
        prefixed: units.len() != 1,
        open: None,
        last: (String::new(), 0),
    };
    let target = |since: Option<String>, tail: Option<usize>| {
        let since = since.map(|time| format!("since={}", names::encode(&time)));
        let query: Vec<String> =
            query.iter().cloned().chain(since).chain(tail.map(|count| format!("tail={count}"))).collect();
        if query.is_empty() { "/v1/logs".to_owned() } else { format!("/v1/logs?{}", query.join("&")) }
    };
    let first = target(since.map(|time| time.to_string()), args.lines);
    let mut result = printer.show_all(client, &first, 0, args.follow, screen);
    // The supervisor was replaced: the logs went on, and so does whoever follows them, behind the last line that was shown. Where
    // there was none yet, and not everything was asked for, with what came since.
    let since = if args.lines.is_some() { Some(since.map_or(now, |since| since.max(now))) } else { since };
    while let Err(CliError::Exchange { .. }) = result
        && args.follow
    {
        let (time, shown) = printer.last.clone();
        let since = if time.is_empty() { since.map(|time| time.to_string()) } else { Some(time) };
        let mut tries = 0..RETRIES;
        result = loop {
            match printer.show_all(client, &target(since.clone(), None), shown, true, screen) {
                Err(CliError::Connect { .. }) if tries.next().is_some() => thread::sleep(RETRY),
                result => break result,
            }
        };
    }
    result?;
    printer.end(screen)?;
    Ok(0)
}

pub(super) fn read(client: &Client, target: &str) -> Result<Vec<LogLine>, CliError> {
    stream(client, target)?.collect()
}

fn stream(client: &Client, target: &str) -> Result<impl Iterator<Item = Result<LogLine, CliError>>, CliError> {
    let response = client.call("GET", target)?;
    let target = target.to_owned();
    Ok(lines(response.body).filter(|line| !matches!(line, Ok(text) if text.trim_ascii().is_empty())).map(move |line| {
        let line = line.map_err(|source| CliError::Exchange { what: "read the log", source })?;
        serde_json::from_slice(&line).map_err(|source| CliError::Answer { target: target.clone(), source })
    }))
}

/// A record is bounded by the machine; a line beyond any of them means that something else answers.
const MAX_LINE_BYTES: u64 = 4 << 20;

pub(super) fn lines(mut body: BufReader<impl Read>) -> impl Iterator<Item = std::io::Result<Vec<u8>>> {
    std::iter::from_fn(move || {
        let mut line = Vec::new();
        match (&mut body).take(MAX_LINE_BYTES).read_until(b'\n', &mut line) {
            Ok(0) => None,
            Ok(_) => Some(Ok(line)),
            Err(error) => Some(Err(error)),
        }
    })
}

struct Printer {
    json: bool,
    timestamps: bool,
    raw: bool,
    width: usize,
    prefixed: bool,
    /// The unit and stream whose last record had no end yet.
    open: Option<(String, String)>,
    /// The time of the last line, and how many of that time were shown.
    last: (String, usize),
}

impl Printer {
    /// As it comes: nothing is held back, and nothing of a long log is held in memory. Passes over the first lines of `last`'s time.
    fn show_all(
        &mut self,
        client: &Client,
        target: &str,
        shown: usize,
        follow: bool,
        screen: &mut Screen,
    ) -> Result<(), CliError> {
        let mut before = (self.last.0.clone(), shown);
        for line in stream(client, target)? {
            let line = line?;
            if before.1 > 0 && line.time == before.0 {
                before.1 -= 1;
                continue;
            }
            if line.time == self.last.0 {
                self.last.1 += 1;
            } else {
                self.last = (line.time.clone(), 1);
            }
            self.show(line, screen)?;
            if follow {
                screen.flush()?;
            }
        }
        Ok(())
    }

    fn show(&mut self, line: LogLine, screen: &mut Screen) -> Result<(), CliError> {
        if self.json {
            let text = serde_json::to_string(&line).map_err(|error| CliError::Output(error.into()))?;
            return screen.print(&format!("{text}\n"));
        }
        let error = line.stream == "stderr";
        let color = match line.stream.as_str() {
            "orlop" => Color::Dim,
            "emerg" | "alert" | "crit" | "err" => Color::Red,
            "warning" => Color::Yellow,
            _ => Color::Plain,
        };
        let whose = (line.unit, line.stream);
        if self.open.as_ref() != Some(&whose) {
            self.end(screen)?;
            let mut head = String::new();
            if self.timestamps {
                head.push_str(&format!("{} ", line.time));
            }
            if self.prefixed {
                head.push_str(&format!("{:width$} | ", whose.0, width = self.width));
            }
            screen.print_log(head.as_bytes(), error, self.raw)?;
        }
        let mut text = line.raw.unwrap_or_else(|| line.message.into_bytes());
        if whose.1 == "orlop" {
            text = [b"-- ", text.as_slice(), b" --"].concat();
        }
        if !line.partial {
            text.push(b'\n');
        }
        self.open = line.partial.then_some(whose);
        if screen.color && color != Color::Plain && !self.raw {
            let text = String::from_utf8_lossy(&text);
            let painted = screen.paint(&screen.foreign(text.trim_end_matches('\n')), color);
            return screen.print(&format!("{painted}{}", if line.partial { "" } else { "\n" }));
        }
        screen.print_log(&text, error, self.raw)
    }

    /// Ends a line that was left open.
    fn end(&mut self, screen: &mut Screen) -> Result<(), CliError> {
        match self.open.take() {
            Some((_, stream)) => screen.print_log(b"\n", stream == "stderr", self.raw),
            None => Ok(()),
        }
    }
}

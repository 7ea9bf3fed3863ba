//! `logs`: what containers wrote, theirs on standard output and error as they wrote it.

use std::{
    io::{BufRead, BufReader, Read},
    sync::mpsc,
    thread,
};

use crate::{
    api::types::LogLine,
    cli::{
        args::LogsArgs,
        client::Client,
        error::CliError,
        names,
        screen::{Color, Screen},
    },
    unit,
};

pub(in crate::cli) fn logs(client: &Client, args: &LogsArgs, json: bool, screen: &mut Screen) -> Result<u8, CliError> {
    let names = names::expand(client, &args.units)?;
    let mut query: Vec<String> = Vec::new();
    query.extend(args.lines.map(|count| format!("tail={count}")));
    if let Some(text) = &args.since {
        let time = since(text, jiff::Timestamp::now()).ok_or_else(|| CliError::Since(text.clone()))?;
        query.push(format!("since={}", names::encode(&time.to_string())));
    }
    if args.follow {
        query.push("follow=true".to_owned());
    }
    let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
    let targets: Vec<String> =
        names.iter().map(|name| format!("/v1/units/{}/logs{query}", names::encode(name))).collect();
    let mut printer = Printer {
        json,
        timestamps: args.timestamps,
        width: names.iter().map(|name| name.chars().count()).max().unwrap_or(0),
        prefixed: names.len() > 1,
        open: None,
    };
    if let [target] = targets.as_slice() {
        // As it comes: nothing is held back, and nothing of a long log is held in memory.
        for line in stream(client, target)? {
            printer.show(&line?, screen)?;
            if args.follow {
                screen.flush()?;
            }
        }
    } else if args.follow {
        follow(client, &targets, &mut printer, screen)?;
    } else {
        let mut all = Vec::new();
        for target in &targets {
            all.extend(read(client, target)?);
        }
        all.sort_by(|a, b| a.time.cmp(&b.time));
        for line in &all {
            printer.show(line, screen)?;
        }
    }
    printer.end(screen)?;
    Ok(0)
}

/// Several units at once: one connection and one thread each, the lines in the order in which they come.
fn follow(client: &Client, targets: &[String], printer: &mut Printer, screen: &mut Screen) -> Result<(), CliError> {
    let (sender, lines) = mpsc::sync_channel(1024);
    for target in targets {
        let stream = stream(client, target)?;
        let sender = sender.clone();
        thread::spawn(move || {
            for line in stream {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
    }
    drop(sender);
    while let Ok(line) = lines.recv() {
        printer.show(&line?, screen)?;
        screen.flush()?;
    }
    Ok(())
}

pub(super) fn read(client: &Client, target: &str) -> Result<Vec<LogLine>, CliError> {
    stream(client, target)?.collect()
}

fn stream(
    client: &Client,
    target: &str,
) -> Result<impl Iterator<Item = Result<LogLine, CliError>> + Send + 'static, CliError> {
    let response = client.call("GET", target)?;
    let target = target.to_owned();
    Ok(lines(response.body).filter(|line| !matches!(line, Ok(text) if text.trim_ascii().is_empty())).map(move |line| {
        let line = line.map_err(|source| CliError::Exchange { what: "read the log", source })?;
        serde_json::from_slice(&line).map_err(|source| CliError::Answer { target: target.clone(), source })
    }))
}

/// A record is bounded by the machine; a line beyond any of them means that something else answers.
const MAX_LINE_BYTES: u64 = 4 << 20;

fn lines(mut body: BufReader<impl Read>) -> impl Iterator<Item = std::io::Result<Vec<u8>>> {
    std::iter::from_fn(move || {
        let mut line = Vec::new();
        match (&mut body).take(MAX_LINE_BYTES).read_until(b'\n', &mut line) {
            Ok(0) => None,
            Ok(_) => Some(Ok(line)),
            Err(error) => Some(Err(error)),
        }
    })
}

/// A time, or a span that ends now.
fn since(text: &str, now: jiff::Timestamp) -> Option<jiff::Timestamp> {
    if let Ok(time) = text.parse() {
        return Some(time);
    }
    let span = unit::span(text).ok()??;
    now.checked_sub(jiff::SignedDuration::try_from(span).ok()?).ok()
}

struct Printer {
    json: bool,
    timestamps: bool,
    width: usize,
    prefixed: bool,
    /// The unit and stream whose last record had no end yet.
    open: Option<(String, String)>,
}

impl Printer {
    fn show(&mut self, line: &LogLine, screen: &mut Screen) -> Result<(), CliError> {
        if self.json {
            let text = serde_json::to_string(line).map_err(|error| CliError::Output(error.into()))?;
            return screen.print(&format!("{text}\n"));
        }
        let whose = (line.unit.clone(), line.stream.clone());
        let mut text = String::new();
        if self.open.as_ref() != Some(&whose) {
            self.end(screen)?;
            if self.timestamps {
                text.push_str(&format!("{} ", line.time));
            }
            if self.prefixed {
                text.push_str(&format!("{:width$} | ", line.unit, width = self.width));
            }
        }
        let remark = line.stream == "orlop";
        text.push_str(&if remark { format!("-- {} --", line.message) } else { line.message.clone() });
        if line.partial {
            self.open = Some(whose);
        } else {
            text.push('\n');
            self.open = None;
        }
        match line.stream.as_str() {
            "stderr" => screen.print_foreign_error(&text),
            _ if remark && screen.color => {
                let safe = crate::cli::screen::harmless(text.trim_end()).into_owned();
                let painted = screen.paint(&safe, Color::Dim);
                screen.print(&format!("{painted}\n"))
            }
            _ => screen.print_foreign(&text),
        }
    }

    /// Ends a line that was left open.
    fn end(&mut self, screen: &mut Screen) -> Result<(), CliError> {
        match self.open.take() {
            Some((_, stream)) if stream == "stderr" => screen.print_foreign_error("\n"),
            Some(_) => screen.print("\n"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_takes_times_and_spans() {
        let now = "2026-01-31T12:00:00Z".parse().unwrap();
        let at = |text: &str| since(text, now).map(|time| time.to_string());
        assert_eq!(at("10min").as_deref(), Some("2026-01-31T11:50:00Z"));
        assert_eq!(at("2026-01-30T00:00:00+01:00").as_deref(), Some("2026-01-29T23:00:00Z"));
        assert_eq!([at("yesterday"), at("infinity"), at("6000000d")], [None, None, None]);
    }
}

//! Standard output and error: colours only on a terminal that wants them, tables, and nothing that could drive the terminal.

use std::{
    borrow::Cow,
    fmt::Write as _,
    io::{self, BufWriter, IsTerminal, Write},
};

use super::error::CliError;
use crate::unit::lint::drives;

pub(super) struct Screen {
    out: Box<dyn Write>,
    err: Box<dyn Write>,
    pub(super) terminal: bool,
    err_terminal: bool,
    pub(super) color: bool,
    err_color: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Color {
    Plain,
    Bold,
    Dim,
    Green,
    Yellow,
    Red,
}

impl Color {
    fn code(self) -> Option<&'static str> {
        Some(match self {
            Self::Plain => return None,
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Green => "32",
            Self::Yellow => "33",
            Self::Red => "1;31",
        })
    }
}

impl Screen {
    pub(super) fn of_process() -> Self {
        // no-color.org: set and not empty.
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
            && std::env::var_os("TERM").is_none_or(|v| v != "dumb");
        let (terminal, err_terminal) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        Self {
            out: Box::new(BufWriter::new(io::stdout())),
            err: Box::new(io::stderr()),
            terminal,
            err_terminal,
            color: terminal && wanted,
            err_color: err_terminal && wanted,
        }
    }

    #[cfg(test)]
    pub(super) fn new(out: Box<dyn Write>, err: Box<dyn Write>, terminal: bool) -> Self {
        Self { out, err, terminal, err_terminal: terminal, color: terminal, err_color: terminal }
    }

    pub(super) fn print(&mut self, text: &str) -> Result<(), CliError> {
        self.out.write_all(text.as_bytes()).map_err(CliError::Output)
    }

    /// A line whose text is not ours: escape sequences are shown, not obeyed, where a terminal would obey them.
    pub(super) fn print_foreign(&mut self, text: &str) -> Result<(), CliError> {
        let shown = self.foreign(text);
        self.out.write_all(shown.as_bytes()).map_err(CliError::Output)
    }

    /// The same, to be painted or put beside text of ours.
    pub(super) fn foreign<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.terminal { harmless(text) } else { Cow::Borrowed(text) }
    }

    /// Bytes of a log, on standard error or output: harmless on a terminal unless asked for raw, as they are elsewhere.
    pub(super) fn print_log(&mut self, bytes: &[u8], error: bool, raw: bool) -> Result<(), CliError> {
        if error {
            // Lines of both streams come in their order where both are one terminal.
            self.flush()?;
        }
        let (to, terminal) = if error { (&mut self.err, self.err_terminal) } else { (&mut self.out, self.terminal) };
        let result = if terminal && !raw {
            to.write_all(harmless(&String::from_utf8_lossy(bytes)).as_bytes())
        } else {
            to.write_all(bytes)
        };
        result.map_err(CliError::Output)
    }

    pub(super) fn print_json<T: serde::Serialize>(&mut self, value: &T) -> Result<(), CliError> {
        serde_json::to_writer_pretty(&mut self.out, value).map_err(|error| CliError::Output(error.into()))?;
        self.print("\n")
    }

    pub(super) fn flush(&mut self) -> Result<(), CliError> {
        self.out.flush().map_err(CliError::Output)
    }

    /// One sentence on standard error. That it cannot be written is nothing one could still say.
    pub(super) fn complain(&mut self, text: &str) {
        let _ = self.out.flush();
        let name = paint("orlop:", Color::Red, self.err_color);
        let text = if self.err_terminal { harmless(text) } else { Cow::Borrowed(text) };
        let _ = writeln!(self.err, "{name} {text}");
    }

    pub(super) fn paint(&self, text: &str, color: Color) -> String {
        paint(text, color, self.color)
    }

    /// Columns as wide as their widest cell; the last one is not padded.
    pub(super) fn table(&mut self, head: &[&str], rows: &[Vec<(String, Color)>]) -> Result<(), CliError> {
        let safe = |(cell, color): &(String, Color)| (self.foreign(cell).replace('\n', " "), *color);
        let rows: Vec<Vec<(String, Color)>> = rows.iter().map(|row| row.iter().map(safe).collect()).collect();
        let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
        for row in &rows {
            for (width, (cell, _)) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let last = widths.len().saturating_sub(1);
        let mut text = String::new();
        let head = head.iter().map(|cell| ((*cell).to_owned(), Color::Bold)).collect();
        for row in std::iter::once(&head).chain(&rows) {
            for (index, (cell, color)) in row.iter().enumerate() {
                let _ = write!(text, "{}", self.paint(cell, *color));
                if index < last {
                    let pad = widths[index].saturating_sub(cell.chars().count()) + 2;
                    let _ = write!(text, "{:pad$}", "");
                }
            }
            text.truncate(text.trim_end_matches(' ').len());
            text.push('\n');
        }
        self.print(&text)
    }
}

fn paint(text: &str, color: Color, on: bool) -> String {
    match color.code() {
        Some(code) if on && !text.is_empty() => format!("\x1b[{code}m{text}\x1b[0m"),
        _ => text.to_owned(),
    }
}

/// Control characters as `\x1b`, and what would turn the reading direction as `\u{202e}`; tabs and newlines stay.
pub(super) fn harmless(text: &str) -> Cow<'_, str> {
    without(text, |c| drives(c) && c != '\t' && c != '\n')
}

/// The same for what is one line, whoever reads it: a file's name may have an end of line, which would look like another finding.
pub(super) fn one_line(text: &str) -> Cow<'_, str> {
    without(text, |c| drives(c) && c != '\t')
}

fn without(text: &str, harmful: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&harmful) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if !harmful(c) {
            shown.push(c);
        } else if (c as u32) < 0x100 {
            let _ = write!(shown, "\\x{:02x}", c as u32);
        } else {
            let _ = write!(shown, "\\u{{{:x}}}", c as u32);
        }
    }
    Cow::Owned(shown)
}

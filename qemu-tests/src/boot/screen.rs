//! What the person sees: steps of the build, the machine's console, what to do next.
//!
//! All of it goes to stderr, so that `--run` leaves stdout to the command that was asked for.

use std::io::{self, IsTerminal, Write};
use std::time::Instant;

/// Says the steps before the machine runs.
pub(crate) struct Screen {
    started: Instant,
    terminal: bool,
    /// A line that the next one replaces is on the screen.
    passing: bool,
}

impl Screen {
    pub(crate) fn new() -> Self {
        Self { started: Instant::now(), terminal: io::stderr().is_terminal(), passing: false }
    }

    /// One step. On a terminal, cargo's lines pass by in one place, as there are hundreds of them.
    pub(crate) fn step(&mut self, line: &str) {
        let passing = self.terminal && line.starts_with("Compiling ");
        let erase = if self.passing { "\r\x1b[2K" } else { "" };
        let end = if passing { "" } else { "\n" };
        self.passing = passing;
        let seconds = self.started.elapsed().as_secs_f32();
        say(&format!("{erase}{seconds:7.1} s  {line}{end}"));
    }
}

/// Prints text that is complete as it is.
pub(crate) fn say(text: &str) {
    // Nobody watches any more: the machine's life does not depend on it.
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// What an untrusted console may do to the terminal: text and line ends, no escape sequences.
pub(crate) fn harmless(bytes: &[u8]) -> String {
    let shown = |c: &char| *c == '\n' || *c == '\t' || !c.is_control();
    String::from_utf8_lossy(bytes).chars().filter(shown).collect()
}

/// Lines up a table: every column as wide as its widest cell, the last one ragged.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("  {}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_cannot_control_the_terminal() {
        assert_eq!(harmless(b"a\x1b[2Jb\r\nc\x07"), "a[2Jb\nc");
    }

    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".to_owned(), "1".to_owned()], vec!["long".to_owned(), "2".to_owned()]];
        assert_eq!(table(&rows), "  a     1\n  long  2\n");
    }
}

//! `lint`: what is wrong with unit files, each with its line and a marker under the place.

use std::fs;

use crate::{
    cli::{
        args::LintArgs,
        error::CliError,
        screen::{Color, Screen, one_line},
    },
    unit::{
        Problem, Severity,
        lint::{self, Report},
    },
};

/// The published shape of one mistake. `line` 0 means the file as a whole; columns and widths count characters.
#[derive(serde::Serialize)]
struct Finding<'a> {
    file: String,
    line: u32,
    column: u32,
    width: u32,
    severity: &'a str,
    message: &'a str,
    /// The nearest word or the right form.
    suggestion: Option<&'a str>,
}

pub(in crate::cli) fn lint(args: &LintArgs, json: bool, screen: &mut Screen) -> Result<u8, CliError> {
    let report = lint::check(&args.paths);
    // As grep, diff and shellcheck tell them apart: 1 is a finding, 2 that not all of it could be looked at.
    let code = match (report.is_partial(), report.errors() > 0 || report.broken > 0) {
        (true, _) => 2,
        (false, wrong) => u8::from(wrong),
    };
    match print(&report, json, screen) {
        // Who has seen enough is told all the same whether something was wrong.
        Err(error) if error.is_a_reader_who_left() => Ok(code),
        printed => printed.map(|()| code),
    }
}

fn print(report: &Report, json: bool, screen: &mut Screen) -> Result<(), CliError> {
    let errors = report.errors();
    if json {
        let findings: Vec<Finding<'_>> = report.problems.iter().map(finding).collect();
        screen.print_json(&findings)?;
    } else {
        for of_file in report.problems.chunk_by(|a, b| a.path == b.path) {
            // The same bytes that were read, unless somebody writes at this very moment: then the marker is off, nothing more.
            let path = &of_file[0].path;
            let regular = fs::metadata(path).is_ok_and(|meta| meta.is_file());
            let bytes = if regular { fs::read(path).unwrap_or_default() } else { Vec::new() };
            let text = String::from_utf8_lossy(&bytes);
            let lines: Vec<&str> = text.lines().collect();
            for problem in of_file {
                show(problem, &lines, screen)?;
            }
        }
        let warnings = report.problems.len() - errors;
        let units = report.good + report.broken;
        let plural = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
        screen.print(&format!(
            "{}: {}, {}\n",
            plural(units, "unit"),
            plural(errors, "error"),
            plural(warnings, "warning")
        ))?;
    }
    Ok(())
}

fn finding(problem: &Problem) -> Finding<'_> {
    Finding {
        file: problem.path.display().to_string(),
        line: problem.place.line,
        column: problem.place.column,
        width: problem.place.width,
        severity: severity(problem),
        message: &problem.text,
        suggestion: problem.suggestion.as_deref(),
    }
}

fn severity(problem: &Problem) -> &'static str {
    match problem.severity {
        Severity::Error | Severity::Unread => "error",
        Severity::Warning => "warning",
    }
}

fn show(problem: &Problem, lines: &[&str], screen: &mut Screen) -> Result<(), CliError> {
    let color = if problem.is_error() { Color::Red } else { Color::Yellow };
    screen.print(&format!("{}\n", one_line(&problem.to_string())))?;
    if let Some((line, marker)) = lint::excerpt(problem.place, lines) {
        let marker = screen.paint(&marker, color);
        screen.print(&format!("    {line}\n    {marker}\n"))?;
    }
    Ok(())
}

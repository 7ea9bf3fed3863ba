//! `cargo engines`: every case of every engine, in two guests of Debian, and a table of what held.

use clap::Parser;
use qemu_tests::Artefacts;
use qemu_tests::engines::{Case, Guest, Security, has_cases, run_cases};
use std::io::Write as _;
use std::process::ExitCode;

/// Runs Debian's Podman, containerd and Docker with orlop-oci below them in a QEMU guest, and says what holds.
#[derive(Parser)]
#[command(name = "cargo engines")]
struct Options {
    /// Only cases whose engine and name contain one of these
    words: Vec<String>,
    /// Only the cases that are part of `cargo test`
    #[arg(long)]
    short: bool,
    /// CPUs of the guest
    #[arg(long, default_value_t = 2)]
    cpus: u32,
    /// Leave each guest running afterwards, until Enter is pressed, and say where its shells are
    #[arg(long)]
    keep: bool,
}

impl Options {
    fn wants(&self, case: &Case) -> bool {
        let title = format!("{} {}", case.engine, case.name);
        (self.words.is_empty() || self.words.iter().any(|word| title.contains(word))) && (case.short || !self.short)
    }
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(code) => code,
        Err(error) => {
            say(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let mut progress = |line: &str| say(line);
    let artefacts = Artefacts::build(None, &mut progress)?;
    let mut verdicts = Vec::new();
    for security in [Security::AppArmor, Security::Selinux] {
        if !has_cases(security, |case| options.wants(case))? {
            continue;
        }
        let guest = Guest::boot(&artefacts, security, options.cpus, &mut progress)?;
        let result = run_cases(&guest, |case| options.wants(case), |verdict| say(&verdict.to_string()));
        if options.keep {
            say(&format!("shells: {}", guest.machine().control_socket().display()));
            std::io::stdin().read_line(&mut String::new())?;
        }
        verdicts.extend(result?);
    }
    let failed = verdicts.iter().filter(|verdict| !verdict.holds()).count();
    say(&format!("{} of {} cases hold", verdicts.len() - failed, verdicts.len()));
    Ok(if failed == 0 && !verdicts.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn say(line: &str) {
    // Whoever closed standard output does not want to read it.
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

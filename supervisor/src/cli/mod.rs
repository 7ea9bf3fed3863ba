//! The command line: a client of the control interface and of nothing else, but for `lint`, which needs no machine.
//!
//! What a verb shows goes to standard output and is also there as `--json`; what went wrong goes to standard error as one sentence.
//! Exit statuses are systemctl's: 0, 3 for a unit that is not active, 4 for one that is not there, 1 for everything else; and 2 for
//! a wrong command line and, of `lint`, for what cannot be read, so that neither is a finding.

mod args;
mod client;
mod error;
mod names;
mod screen;
mod verbs;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, SystemVerb, Topic, Verb};
use client::Client;
use error::CliError;
use screen::Screen;

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no mistakes; a reader who has left is none either.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    ExitCode::from(execute(&cli, &mut Screen::of_process()))
}

/// The exit status; whatever went wrong has been said.
fn execute(cli: &Cli, screen: &mut Screen) -> u8 {
    let done = dispatch(cli, screen);
    let code = *done.as_ref().unwrap_or(&0);
    match done.and_then(|code| screen.flush().map(|()| code)) {
        Ok(code) => code,
        // Whoever read the output has seen enough.
        Err(error) if error.is_a_reader_who_left() => code,
        Err(error) => {
            screen.complain(&error.to_string());
            error.exit_code()
        }
    }
}

fn dispatch(cli: &Cli, screen: &mut Screen) -> Result<u8, CliError> {
    let client = Client::new(&cli.host)?;
    let json = cli.json;
    match &cli.verb {
        Verb::Ps(args) => verbs::ps::ps(&client, args, json, screen),
        Verb::Status(args) => verbs::status::status(&client, args, json, screen),
        Verb::IsActive(args) => verbs::status::is_active(&client, args, json, screen),
        Verb::Logs(args) => verbs::logs::logs(&client, args, json, screen),
        Verb::Start(args) => verbs::jobs::job(&client, "start", args, json, screen),
        Verb::Stop(args) => verbs::jobs::job(&client, "stop", args, json, screen),
        Verb::Restart(args) => verbs::jobs::job(&client, "restart", args, json, screen),
        Verb::Reload(args) => verbs::jobs::reload(&client, args, json, screen),
        Verb::Kill(args) => verbs::jobs::kill(&client, args, json, screen),
        Verb::Events(args) => verbs::events::events(&client, args, json, screen),
        Verb::Wait(args) => verbs::events::wait(&client, args, json, screen),
        Verb::Stats(args) => verbs::stats::stats(&client, args, false, json, screen),
        Verb::Top(args) => verbs::stats::stats(&client, args, true, json, screen),
        Verb::Exec(args) => verbs::exec::exec(&client, args, screen),
        Verb::Secret(args) => verbs::secret::secret(&client, &args.verb, json, screen),
        Verb::Lint(args) => verbs::lint::lint(args, json, screen),
        Verb::Help(args) => match args.topic {
            Topic::Units => screen.print(&crate::unit::reference()).map(|()| 0),
        },
        Verb::Info => verbs::system::info(&client, json, screen),
        Verb::System(args) => match args.verb {
            SystemVerb::Reexec => verbs::system::reexec(&client, json, screen),
        },
        Verb::Poweroff => verbs::system::shutdown(&client, "poweroff", json, screen),
        Verb::Reboot => verbs::system::shutdown(&client, "reboot", json, screen),
        Verb::Halt => verbs::system::shutdown(&client, "halt", json, screen),
        Verb::Kexec => verbs::system::shutdown(&client, "kexec", json, screen),
    }
}

#[cfg(test)]
mod tests;

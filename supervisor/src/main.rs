//! `orlop`: the supervisor (`orlop supervise`, started by PID 1) and the command line, one program.

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args_os().nth(1) {
        Some(verb) if verb == "supervise" => supervisor::daemon::run(),
        Some(verb) if verb == "relay" => supervisor::daemon::exec::relay::run(),
        _ => supervisor::cli::run(),
    }
}

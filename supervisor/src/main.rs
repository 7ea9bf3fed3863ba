//! `orlop`: the supervisor (`orlop supervise`) and the command line, one program.

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|word| word == "supervise") {
        return supervisor::daemon::run();
    }
    eprintln!("orlop: the command line is not available in this build");
    ExitCode::FAILURE
}

//! `orlop`: the supervisor (`orlop supervise`, started by PID 1) and the command line, one program.

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|verb| verb == "supervise") {
        return supervisor::daemon::run();
    }
    supervisor::cli::run()
}

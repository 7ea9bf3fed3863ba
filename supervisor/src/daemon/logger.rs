//! The supervisor's own log: the lines of `orlop logs @supervisor`. Warnings go to the console through PID 1 where they concern a
//! person; that is said where it happens.

use std::{io, path::Path, sync::OnceLock};

use log::{Level, LevelFilter, Log, Metadata, Record};
use simplelog::{ConfigBuilder, WriteLogger};

use super::logs::Own;

static OWN: OnceLock<Own> = OnceLock::new();

struct ToLogs;

impl Log for ToLogs {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        let level = match record.level() {
            Level::Error => 3,
            Level::Warn => 4,
            Level::Info => 6,
            Level::Debug | Level::Trace => 7,
        };
        if let Some(own) = OWN.get()
            && self.enabled(record.metadata())
        {
            own.say(level, &record.args().to_string());
        }
    }

    fn flush(&self) {}
}

/// A panic ends the whole supervisor, as the machine's build has it anyway, wherever it happens: the next one begins anew what a
/// thread has not reported, and holds back the unit at whose start it dies again and again (`machine::step`). The last words lie in
/// a spool that outlives it.
pub(crate) fn end_with_every_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        log::error!("panic in the thread {}: {panic}", thread.name().unwrap_or("without a name"));
        std::process::abort();
    }));
}

/// `debug` as the kernel's command line has it. Without a place for spools (development) lines go to stderr. What is returned has to
/// be given to the logs, which write it.
pub(crate) fn start(spools: &Path, debug: bool) -> Option<&'static Own> {
    let level = if debug { LevelFilter::Debug } else { LevelFilter::Info };
    match Own::open(spools) {
        Ok(own) => {
            let _ = OWN.set(own);
            log::set_max_level(level);
            let _ = log::set_logger(&ToLogs);
            OWN.get()
        }
        Err(_) => {
            let config = ConfigBuilder::new().set_time_format_rfc3339().build();
            let _ = WriteLogger::init(level, config, io::stderr());
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::mailbox;

    const INSIDE: &str = "ORLOP_TEST_PANIC";

    /// Runs itself once more, in a process that may die.
    #[test]
    fn a_worker_that_panics_ends_the_supervisor_and_is_named_in_its_log() {
        if let Some(folder) = std::env::var_os(INSIDE) {
            end_with_every_panic();
            start(Path::new(&folder), false).unwrap();
            assert!(mailbox::spawn("bundle of web", || panic!("what a day")));
            loop {
                std::thread::park();
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let name = "daemon::logger::tests::a_worker_that_panics_ends_the_supervisor_and_is_named_in_its_log";
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        let end = command.args(["--exact", name]).env(INSIDE, folder.path()).output().unwrap().status;
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&end), Some(libc::SIGABRT), "{end}");
        let spools =
            std::fs::read_dir(folder.path()).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
        let said = String::from_utf8_lossy(&spools.flatten().collect::<Vec<u8>>()).into_owned();
        assert!(said.contains("panic in the thread bundle of web") && said.contains("what a day"), "{said}");
    }
}

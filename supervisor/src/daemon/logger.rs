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

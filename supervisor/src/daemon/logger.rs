//! The supervisor's own log: /var/log/orlop/supervisor.log, bounded by starting a new file when it is large, the last one kept
//! beside it. Warnings go to the console through PID 1 where they concern a person; that is said where it happens.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use simplelog::{ConfigBuilder, LevelFilter, WriteLogger};

const MAX_BYTES: u64 = 4 << 20;

/// A file that never grows over its bound. What the disk does not take is lost: there is nobody to complain to.
struct Bounded {
    path: PathBuf,
    file: Option<File>,
    size: u64,
}

impl Bounded {
    fn open(&mut self) -> io::Result<&mut File> {
        if self.file.is_some() && self.size >= MAX_BYTES {
            self.file = None;
            fs::rename(&self.path, self.path.with_extension("log.1"))?;
        }
        if self.file.is_none() {
            let file = OpenOptions::new().append(true).create(true).open(&self.path)?;
            self.size = file.metadata()?.len();
            self.file = Some(file);
        }
        self.file.as_mut().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = self.open().and_then(|file| file.write(bytes));
        match result {
            Ok(n) => {
                self.size += n as u64;
                Ok(n)
            }
            Err(_) => {
                self.file = None;
                Ok(bytes.len())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `debug` as the kernel's command line has it. Without the folder (development) lines go to stderr.
pub(crate) fn start(folder: &Path, debug: bool) {
    let level = if debug { LevelFilter::Debug } else { LevelFilter::Info };
    let mut config = ConfigBuilder::new();
    config.set_time_format_rfc3339().set_thread_level(LevelFilter::Off).set_target_level(LevelFilter::Off);
    let config = config.build();
    let _ = fs::create_dir_all(folder);
    let mut file = Bounded { path: folder.join("supervisor.log"), file: None, size: 0 };
    // A second logger is a test's: it keeps the first.
    let _ = match file.open() {
        Ok(_) => WriteLogger::init(level, config, file),
        Err(_) => WriteLogger::init(level, config, io::stderr()),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("supervisor.log");
        let mut log = Bounded { path: path.clone(), file: None, size: 0 };
        let line = [b'x'; 64 << 10];
        for _ in 0..200 {
            log.write_all(&line).unwrap();
        }
        assert!(fs::metadata(&path).unwrap().len() <= MAX_BYTES + line.len() as u64);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}

//! When the timers with `Persistent=` ran last, on the disk: one thread writes, as long as there is something to write, and of each
//! file the newest. A disk that stands still costs one thread, and nothing older ever replaces what is newer.

use std::{
    collections::BTreeMap,
    fs, mem,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::daemon::{mailbox, store};

#[derive(Clone)]
pub(super) struct Stamps {
    shared: Arc<Mutex<Waiting>>,
    write: fn(&Path, i64),
}

#[derive(Default)]
struct Waiting {
    files: BTreeMap<PathBuf, i64>,
    /// Somebody writes.
    written: bool,
}

impl Default for Stamps {
    fn default() -> Self {
        Self { shared: Arc::default(), write }
    }
}

impl Stamps {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Whole at any moment, whoever panicked.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Not at once: a slow disk is no reason to stand still.
    pub(super) fn write(&self, path: PathBuf, wall_us: i64) {
        let mut waiting = self.waiting();
        waiting.files.insert(path, wall_us);
        if !mem::replace(&mut waiting.written, true) {
            let own = self.clone();
            // Without a thread it waits for the next stamp.
            waiting.written = mailbox::spawn("stamps", move || own.run());
        }
    }

    fn run(&self) {
        loop {
            let mut waiting = self.waiting();
            let Some((path, wall_us)) = waiting.files.pop_first() else {
                waiting.written = false;
                return;
            };
            drop(waiting);
            (self.write)(&path, wall_us);
        }
    }
}

fn write(path: &Path, wall_us: i64) {
    let folder = path.parent().map_or(Ok(()), fs::create_dir_all);
    let written = folder.and_then(|()| store::replace_durably(path, wall_us.to_string().as_bytes()));
    if let Err(error) = written {
        log::error!("{}: {error}", path.display());
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, time::Instant};

    use super::*;

    /// A disk that stands still until somebody reads the FIFO beside the file.
    fn slow(path: &Path, wall_us: i64) {
        writeln!(fs::File::create(path).unwrap(), "{wall_us}").unwrap();
    }

    #[test]
    fn while_the_disk_stands_still_only_the_newest_waits() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stamp");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let stamps = Stamps { write: slow, ..Stamps::default() };
        stamps.write(path.clone(), 1);
        let deadline = Instant::now() + std::time::Duration::from_secs(60);
        while !stamps.waiting().files.is_empty() {
            assert!(Instant::now() < deadline, "the first is not being written");
            std::thread::yield_now();
        }
        (2..100).for_each(|stamp| stamps.write(path.clone(), stamp));
        assert_eq!(stamps.waiting().files.values().collect::<Vec<_>>(), [&99]);
        // One reader all the time: who opens it while another closes it would write for nobody.
        let (mut reader, mut written) = (fs::File::open(&path).unwrap(), String::new());
        while !written.ends_with("99\n") {
            std::io::Read::read_to_string(&mut reader, &mut written).unwrap();
        }
        assert_eq!(written, "1\n99\n");
    }
}

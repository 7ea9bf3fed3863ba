//! One log's files: `current`, then `.1`, `.2`, … the older the higher; bounded in size and number. Each begins with the boot that
//! its records are of, and says so again where another one begins. A disk that takes nothing costs records.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    caps::Caps,
    record::{self, Stream},
    spool::Mark,
};
use crate::daemon::clock;

/// Room for the boot's mark.
const EXTRA_BYTES: usize = 160;

#[derive(Debug)]
pub(crate) struct LogFile {
    folder: PathBuf,
    caps: Caps,
    boot: Arc<str>,
    file: Option<File>,
    size: u64,
    /// Something was appended since somebody asked.
    used: bool,
    /// The newest file says that its last records are of this boot.
    marked: bool,
    /// The disk's word, until it takes records again.
    pub(crate) error: Option<String>,
    /// The time of the last record.
    pub(crate) last_us: i64,
}

/// The n-th file of a folder, 0 being the newest.
pub(crate) fn path(folder: &Path, index: u32) -> PathBuf {
    if index == 0 { folder.join("current") } else { folder.join(format!("current.{index}")) }
}

/// The files there are, the oldest first.
pub(crate) fn indices(folder: &Path) -> Vec<u32> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<u32> = entries
        .filter_map(|entry| match entry.file_name().to_str()? {
            "current" => Some(0),
            name => name.strip_prefix("current.")?.parse().ok(),
        })
        .collect();
    found.sort_unstable_by(|a, b| b.cmp(a));
    found
}

impl LogFile {
    pub(crate) fn new(folder: PathBuf, caps: Caps, boot: Arc<str>) -> Self {
        Self { folder, caps, boot, file: None, size: 0, used: false, marked: false, error: None, last_us: 0 }
    }

    pub(crate) fn set_caps(&mut self, caps: Caps) {
        self.caps = caps;
    }

    /// The one that is written.
    pub(crate) fn path(&self) -> PathBuf {
        path(&self.folder, 0)
    }

    /// What the newest file is before so many bytes are appended to it. Where the disk does not let us nothing may be appended.
    pub(crate) fn prepare(&mut self, length: usize) -> io::Result<Mark> {
        self.open()?;
        if self.size > 0 && self.size + (length + EXTRA_BYTES) as u64 > self.caps.max_bytes {
            self.rotate()?;
        }
        let inode = self.open()?.metadata()?.ino();
        if !self.marked {
            let mut mark = Vec::new();
            let (time, boot) = (clock::rfc3339(clock::wall_us()), Arc::clone(&self.boot));
            record::write(&mut mark, &time, Stream::Boot, false, boot.as_bytes());
            self.try_append(&mark)?;
            self.marked = true;
        }
        Ok(Mark { inode, length: self.size })
    }

    /// Takes back what was appended after the mark.
    pub(crate) fn rewind(&mut self, mark: Mark) -> io::Result<()> {
        let meta = self.open()?.metadata()?;
        if meta.ino() == mark.inode && meta.len() > mark.length {
            self.open()?.set_len(mark.length)?;
            self.size = mark.length;
        }
        Ok(())
    }

    /// Appends a batch of whole records that it was prepared for: the bytes written. An error is returned once, for the first of
    /// those that are lost.
    pub(crate) fn append(&mut self, batch: &[u8]) -> Result<u64, Option<io::Error>> {
        match self.try_append(batch) {
            Ok(()) => {
                self.error = None;
                Ok(batch.len() as u64)
            }
            Err(error) => Err(self.refused(error)),
        }
    }

    /// The error, if it is the first.
    pub(crate) fn refused(&mut self, error: io::Error) -> Option<io::Error> {
        let first = self.error.replace(error.to_string()).is_none();
        first.then_some(error)
    }

    /// Nobody writes to it for now.
    pub(crate) fn close(&mut self) {
        self.file = None;
    }

    pub(crate) fn is_open(&self) -> bool {
        self.file.is_some()
    }

    /// Nobody has, since this was asked last.
    pub(crate) fn close_unused(&mut self) {
        if !std::mem::take(&mut self.used) {
            self.close();
        }
    }

    fn try_append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let result = self.open()?.write_all(bytes);
        if result.is_err() {
            // Half a record would garble the next one: cut it off.
            let size = self.size;
            let _ = self.open()?.set_len(size);
            self.file = None;
        } else {
            self.size += bytes.len() as u64;
            self.used = true;
        }
        result
    }

    fn open(&mut self) -> io::Result<&mut File> {
        match &mut self.file {
            Some(file) => Ok(file),
            none => {
                fs::create_dir_all(&self.folder)?;
                let file = OpenOptions::new().append(true).create(true).open(path(&self.folder, 0))?;
                self.size = file.metadata()?.len();
                self.marked &= self.size > 0;
                Ok(none.insert(file))
            }
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        (self.file, self.size, self.marked) = (None, 0, false);
        let all = indices(&self.folder);
        // Where a supervisor was killed between two of these there is room for the one before.
        let hole = (0..).find(|index| !all.contains(index)).unwrap_or(u32::MAX);
        // From the oldest: what is beyond the number goes, everything else becomes one older.
        for index in all {
            if index > hole && index < self.caps.max_files {
                continue;
            }
            let result = if index.saturating_add(1) >= self.caps.max_files {
                fs::remove_file(path(&self.folder, index))
            } else {
                fs::rename(path(&self.folder, index), path(&self.folder, index + 1))
            };
            match result {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Caps = Caps { max_bytes: 1000, max_files: 3, rate: None };

    fn put(log: &mut LogFile, text: &str) -> Result<u64, Option<io::Error>> {
        let batch = batch(text);
        log.prepare(batch.len()).unwrap();
        log.append(&batch)
    }

    fn batch(text: &str) -> Vec<u8> {
        let mut batch = Vec::new();
        record::write(&mut batch, "2026-01-31T12:00:00.000000Z", Stream::Out, false, text.as_bytes());
        batch
    }

    #[test]
    fn files_are_rotated_by_size_and_bounded_in_number() {
        let folder = tempfile::tempdir().unwrap();
        let web = folder.path().join("web");
        let mut log = LogFile::new(web.clone(), SMALL, "b1".into());
        for i in 0..200 {
            put(&mut log, &format!("line {i}")).unwrap();
        }
        assert_eq!(indices(&web), [2, 1, 0]);
        let mut all = String::new();
        for index in indices(&web) {
            let text = fs::read_to_string(path(&web, index)).unwrap();
            assert!(text.len() <= 1000 && text.ends_with('\n'));
            let (mark, text) = text.split_once('\n').unwrap();
            assert!(mark.ends_with(" boot F b1"), "{mark}");
            all.push_str(text);
        }
        assert!(all.ends_with("line 199\n"));
        let first: usize = all.split("line ").nth(1).unwrap().lines().next().unwrap().parse().unwrap();
        assert_eq!(all.lines().count(), 200 - first, "what is kept has no gap");
        // Fewer from now on.
        log.set_caps(Caps { max_files: 1, ..SMALL });
        for i in 0..200 {
            put(&mut log, &format!("line {i}")).unwrap();
        }
        assert_eq!(indices(&web), [0]);
    }

    #[test]
    fn a_rotation_goes_on_where_a_killed_one_stood() {
        let folder = tempfile::tempdir().unwrap();
        for (index, text) in [(0, "newest"), (2, "older"), (3, "oldest"), (5, "beyond")] {
            fs::write(path(folder.path(), index), text).unwrap();
        }
        LogFile::new(folder.path().into(), Caps { max_files: 4, ..SMALL }, "b1".into()).rotate().unwrap();
        assert_eq!(indices(folder.path()), [3, 2, 1]);
        let texts = [1, 2, 3].map(|index| fs::read_to_string(path(folder.path(), index)).unwrap());
        assert_eq!(texts, ["newest", "older", "oldest"]);
    }

    #[test]
    fn a_log_goes_on_where_an_earlier_supervisor_left_it() {
        let folder = tempfile::tempdir().unwrap();
        put(&mut LogFile::new(folder.path().into(), SMALL, "b1".into()), "one").unwrap();
        let mut log = LogFile::new(folder.path().into(), SMALL, "b2".into());
        put(&mut log, "two").unwrap();
        log.close();
        put(&mut log, "three").unwrap();
        let text = fs::read_to_string(log.path()).unwrap();
        let words: Vec<&str> = text.lines().filter_map(|line| line.rsplit(' ').next()).collect();
        assert_eq!(words, ["b1", "one", "b2", "two", "three"]);
    }
}

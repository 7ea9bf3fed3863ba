//! A unit's log files: `current`, then `.1`, `.2`, … the older the higher; bounded in size and number. A disk that takes
//! nothing costs records, which are counted and told once it takes some again; memory never grows.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::{
    record::{self, Stream},
    spool::Mark,
};
use crate::daemon::clock;

pub(crate) const MAX_FILE_BYTES: u64 = 10 << 20;
/// `current` included.
pub(crate) const MAX_FILES: u32 = 3;
/// Room for the record that says what was lost.
const EXPLANATION_BYTES: usize = 256;

#[derive(Debug)]
pub(crate) struct LogFile {
    folder: PathBuf,
    max_bytes: u64,
    file: Option<File>,
    size: u64,
    lost_records: u64,
    /// The disk's last word.
    error: String,
}

/// The n-th file of a folder, 0 being the newest.
pub(crate) fn path(folder: &Path, index: u32) -> PathBuf {
    if index == 0 { folder.join("current") } else { folder.join(format!("current.{index}")) }
}

impl LogFile {
    pub(crate) fn new(folder: PathBuf, max_bytes: u64) -> Self {
        Self { folder, max_bytes, file: None, size: 0, lost_records: 0, error: String::new() }
    }

    /// What the newest file is before so many bytes are appended to it. `None`: the disk does not let us.
    pub(crate) fn prepare(&mut self, length: usize) -> Option<Mark> {
        if self.file.is_some() && self.size > 0 && self.size + (length + EXPLANATION_BYTES) as u64 > self.max_bytes {
            self.rotate().ok()?;
        }
        let inode = self.open().and_then(|file| file.metadata()).ok()?.ino();
        Some(Mark { inode, length: self.size })
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

    /// Appends a batch of whole records. An error is returned once, for the first of those that are lost.
    pub(crate) fn append(&mut self, batch: &[u8], records: u64) -> Result<(), Option<io::Error>> {
        self.prepare(batch.len());
        let mut told = Vec::new();
        if self.lost_records > 0 {
            let text = format!("{} records lost: {}", self.lost_records, self.error);
            record::write(&mut told, &clock::rfc3339(clock::wall_us()), Stream::Orlop, false, text.as_bytes());
            told.extend_from_slice(batch);
        }
        match self.try_append(if told.is_empty() { batch } else { &told }) {
            Ok(()) => {
                self.lost_records = 0;
                Ok(())
            }
            Err(error) => {
                let first = self.lost_records == 0;
                self.error = error.to_string();
                self.lost_records += records;
                Err(first.then_some(error))
            }
        }
    }

    /// Records are lost and nobody was told yet.
    pub(crate) fn owes_an_explanation(&self) -> bool {
        self.lost_records > 0
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
                Ok(none.insert(file))
            }
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.file = None;
        self.size = 0;
        for index in (0..MAX_FILES - 1).rev() {
            match fs::rename(path(&self.folder, index), path(&self.folder, index + 1)) {
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

    fn batch(text: &str) -> Vec<u8> {
        let mut batch = Vec::new();
        record::write(&mut batch, "2026-01-31T12:00:00.000000Z", Stream::Out, false, text.as_bytes());
        batch
    }

    #[test]
    fn files_are_rotated_by_size_and_bounded_in_number() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = LogFile::new(folder.path().join("web"), 1000);
        for i in 0..200 {
            log.append(&batch(&format!("line {i}")), 1).unwrap();
        }
        let files: Vec<PathBuf> = (0..MAX_FILES).map(|index| path(&folder.path().join("web"), index)).collect();
        assert_eq!(fs::read_dir(folder.path().join("web")).unwrap().count(), files.len());
        let mut all = String::new();
        for file in files.iter().rev() {
            let text = fs::read_to_string(file).unwrap();
            assert!(text.len() <= 1000 && text.ends_with('\n'));
            all.push_str(&text);
        }
        assert!(all.ends_with("line 199\n"));
        let first: usize = all.split("line ").nth(1).unwrap().lines().next().unwrap().parse().unwrap();
        assert_eq!(all.lines().count(), 200 - first, "what is kept has no gap");
    }

    #[test]
    fn a_log_goes_on_where_an_earlier_supervisor_left_it() {
        let folder = tempfile::tempdir().unwrap();
        LogFile::new(folder.path().into(), 1000).append(&batch("one"), 1).unwrap();
        LogFile::new(folder.path().into(), 1000).append(&batch("two"), 1).unwrap();
        assert_eq!(fs::read_to_string(path(folder.path(), 0)).unwrap().lines().count(), 2);
    }

    #[test]
    fn what_a_full_disk_cost_is_told_when_it_takes_records_again() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("web");
        // Something in the way stands for a disk that takes nothing.
        fs::write(&place, "").unwrap();
        let mut log = LogFile::new(place.clone(), 1000);
        for round in 0..7 {
            let error = log.append(&batch("lost"), 1).unwrap_err();
            assert_eq!(error.is_some(), round == 0, "said once");
        }
        fs::remove_file(&place).unwrap();
        log.append(&batch("kept"), 1).unwrap();
        let text = fs::read_to_string(path(&place, 0)).unwrap();
        assert!(text.contains(" orlop F 7 records lost: ") && text.ends_with(" stdout F kept\n"), "{text}");
    }
}

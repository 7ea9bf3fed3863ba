//! A unit's log files: `current`, then `.1`, `.2`, … the older the higher; bounded in size and number. A disk that takes
//! nothing costs records, which are counted and told once it takes some again; memory never grows.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::record::{self, Stream};
use crate::daemon::clock;

pub(crate) const MAX_FILE_BYTES: u64 = 10 << 20;
/// `current` included.
pub(crate) const MAX_FILES: u32 = 3;

#[derive(Debug)]
pub(crate) struct LogFile {
    folder: PathBuf,
    max_bytes: u64,
    file: Option<File>,
    size: u64,
    lost_records: u64,
    /// The disk's last word, told once.
    error: Option<String>,
}

/// The n-th file of a folder, 0 being the newest.
pub(crate) fn path(folder: &Path, index: u32) -> PathBuf {
    if index == 0 { folder.join("current") } else { folder.join(format!("current.{index}")) }
}

impl LogFile {
    pub(crate) fn new(folder: PathBuf, max_bytes: u64) -> Self {
        Self { folder, max_bytes, file: None, size: 0, lost_records: 0, error: None }
    }

    /// Appends a batch of whole records.
    pub(crate) fn append(&mut self, batch: &[u8], records: u64) {
        let mut told = Vec::new();
        if self.lost_records > 0 {
            let text = format!("{} records lost: {}", self.lost_records, self.error.as_deref().unwrap_or("no space"));
            record::write(&mut told, &clock::rfc3339(clock::wall_us()), Stream::Orlop, false, text.as_bytes());
        }
        match self.try_append(&told, batch) {
            Ok(()) => {
                self.lost_records = 0;
                self.error = None;
            }
            Err(error) => {
                if self.error.is_none() {
                    log::error!("{}: {error}", self.folder.display());
                }
                self.error = Some(error.to_string());
                self.lost_records += records;
            }
        }
    }

    /// Records are lost and nobody was told yet.
    pub(crate) fn owes_an_explanation(&self) -> bool {
        self.lost_records > 0
    }

    fn try_append(&mut self, told: &[u8], batch: &[u8]) -> io::Result<()> {
        let length = told.len() + batch.len();
        if self.file.is_some() && self.size > 0 && self.size + length as u64 > self.max_bytes {
            self.rotate()?;
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                fs::create_dir_all(&self.folder)?;
                let file = OpenOptions::new().append(true).create(true).open(path(&self.folder, 0))?;
                self.size = file.metadata()?.len();
                none.insert(file)
            }
        };
        for part in [told, batch] {
            if let Err(error) = file.write_all(part) {
                // Half a record would garble the next one: cut it off.
                let _ = file.set_len(self.size);
                self.file = None;
                return Err(error);
            }
            self.size += part.len() as u64;
        }
        Ok(())
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
            log.append(&batch(&format!("line {i}")), 1);
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
        LogFile::new(folder.path().into(), 1000).append(&batch("one"), 1);
        LogFile::new(folder.path().into(), 1000).append(&batch("two"), 1);
        assert_eq!(fs::read_to_string(path(folder.path(), 0)).unwrap().lines().count(), 2);
    }

    #[test]
    fn what_a_full_disk_cost_is_told_when_it_takes_records_again() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("web");
        // Something in the way stands for a disk that takes nothing.
        fs::write(&place, "").unwrap();
        let mut log = LogFile::new(place.clone(), 1000);
        for _ in 0..7 {
            log.append(&batch("lost"), 1);
        }
        fs::remove_file(&place).unwrap();
        log.append(&batch("kept"), 1);
        let text = fs::read_to_string(path(&place, 0)).unwrap();
        assert!(text.contains(" orlop F 7 records lost: ") && text.ends_with(" stdout F kept\n"), "{text}");
    }
}

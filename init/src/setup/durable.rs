//! Files that must survive a power cut: the old one or the new one, never half of one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Writes a file as a whole: a temporary one, fsync, rename, fsync of the folder.
pub(super) fn write(path: &str, bytes: &[u8], mode: u32) -> io::Result<()> {
    let temporary = format!("{path}.new");
    // What an interrupted write left; the mode is given at creation only.
    let _ = fs::remove_file(&temporary);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    sync_folder_of(path)
}

/// Deletes a file for good: after this no power cut brings it back.
pub(super) fn remove(path: &str) -> io::Result<()> {
    fs::remove_file(path)?;
    sync_folder_of(path)
}

fn sync_folder_of(path: &str) -> io::Result<()> {
    File::open(Path::new(path).parent().unwrap_or(Path::new("/")))?.sync_all()
}

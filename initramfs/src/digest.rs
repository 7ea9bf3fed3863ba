//! Names results by what went into them.

use crate::error::{Result, at};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Changes when this crate's sources do, so that results of an older builder are never taken for ours (build.rs).
const BUILDER: &str = env!("INITRAMFS_BUILDER");

/// Collects inputs; fields are framed by their length, so no two lists of inputs read the same.
pub(crate) struct Key(Sha256);

impl Key {
    pub(crate) fn new(kind: &str) -> Self {
        let mut key = Self(Sha256::new());
        key.text(kind);
        key.text(BUILDER);
        key
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.0.update((text.len() as u64).to_le_bytes());
        self.0.update(text.as_bytes());
    }

    /// A file by its content.
    pub(crate) fn content(&mut self, path: &Path) -> Result<()> {
        let (digest, bytes) = file(path)?;
        self.text(&format!("{digest} {bytes}"));
        Ok(())
    }

    /// A file, or a tree, by names, sizes and times: for what is too large to read at every run.
    pub(crate) fn tree(&mut self, folder: &Path) -> Result<()> {
        let paths = if folder.is_dir() { walk(folder)? } else { vec![folder.to_path_buf()] };
        for path in paths {
            let data = fs::symlink_metadata(&path).map_err(at("look at", &path))?;
            let name = path.strip_prefix(folder).unwrap_or(&path);
            self.text(&format!(
                "{} {:o} {} {}.{}",
                name.display(),
                data.mode(),
                data.len(),
                data.mtime(),
                data.mtime_nsec()
            ));
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> String {
        short(&hex(&self.0.finalize())).to_owned()
    }
}

/// SHA-256 in hexadecimal and the length of a file.
pub(crate) fn file(path: &Path) -> Result<(String, u64)> {
    let mut file = File::open(path).map_err(at("open", path))?;
    let mut writer = Counter { sha: Sha256::new(), bytes: 0 };
    io::copy(&mut file, &mut writer).map_err(at("read", path))?;
    Ok((hex(&writer.sha.finalize()), writer.bytes))
}

/// SHA-256 over the contents of files, in their order.
pub(crate) fn files(paths: &[PathBuf]) -> Result<String> {
    let mut key = Key(Sha256::new());
    for path in paths {
        key.content(path)?;
    }
    Ok(hex(&key.0.finalize()))
}

pub(crate) fn bytes(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Enough of a digest to tell results apart in a folder name.
pub(crate) fn short(digest: &str) -> &str {
    digest.get(..16).unwrap_or(digest)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

struct Counter {
    sha: Sha256,
    bytes: u64,
}

impl io::Write for Counter {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.sha.update(data);
        self.bytes += data.len() as u64;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// All paths below a folder (a link is a path, not followed), sorted; the folder itself is not among them.
pub(crate) fn walk(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).map_err(at("read", &folder))? {
            let entry = entry.map_err(at("read", &folder))?;
            if entry.file_type().map_err(at("look at", entry.path()))?.is_dir() {
                open.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

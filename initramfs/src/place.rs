//! Puts results into place: complete or not at all, and by one process at a time.

use crate::error::{Result, at};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Held while a process works in a folder of the out tree; the kernel lets go of it when the process ends.
pub(crate) fn lock(folder: &Path) -> Result<File> {
    let path = folder.join(".lock");
    let file = File::create(&path).map_err(at("create", &path))?;
    file.lock().map_err(at("lock", &path))?;
    // What an interrupted build was working on.
    for prefix in [".new-", ".tree-", ".seed-", ".apt-", ".part-"] {
        keep_newest(folder, prefix, 0)?;
    }
    Ok(file)
}

/// A file to fill beside its place.
pub(crate) fn part(folder: &Path) -> Result<tempfile::NamedTempFile> {
    tempfile::Builder::new().prefix(".part-").tempfile_in(folder).map_err(at("create a file in", folder))
}

/// Writes a file beside its place and renames it. No fsync: the out tree can be built again, and a build host that
/// loses power checks nothing but presence for files whose content was written before the rename (ext4, xfs, btrfs).
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = part(folder)?;
    file.write_all(bytes).map_err(at("write", path))?;
    publish(file, path)
}

/// Renames a finished temporary file to its place, readable for all as other build results are.
pub(crate) fn publish(file: tempfile::NamedTempFile, path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o644)).map_err(at("set the mode of", path))?;
    file.persist(path).map_err(|error| at("rename into place", path)(error.error))?;
    Ok(())
}

/// Fills a folder beside its place and renames it; a failed or interrupted filling leaves nothing at the place.
pub(crate) fn folder(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let parent = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(at("create", parent))?;
    let work = tempfile::Builder::new().prefix(".new-").tempdir_in(parent).map_err(at("create a folder in", parent))?;
    fill(work.path())?;
    if path.exists() {
        fs::remove_dir_all(path).map_err(at("replace", path))?;
    }
    let done: PathBuf = work.keep();
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(&done, fs::Permissions::from_mode(0o755)).map_err(at("set the mode of", &done))?;
    }
    fs::rename(&done, path).map_err(at("rename into place", path))
}

/// Removes what nobody has used for an hour, beyond the newest `count`, of a folder's entries whose names start with
/// `prefix`. Each build with changed inputs leaves one; the hour is for those who hold a path and have not opened it.
pub(crate) fn keep_newest(folder: &Path, prefix: &str, count: usize) -> Result<()> {
    const IN_USE: Duration = Duration::from_secs(3600);
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(at("read", folder))?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            let changed = entry.metadata().and_then(|data| data.modified()).map_err(at("look at", entry.path()))?;
            found.push((changed, entry.path()));
        }
    }
    found.sort();
    let surplus = found.len().saturating_sub(count);
    let unused = |changed: &SystemTime| changed.elapsed().is_ok_and(|age| age > IN_USE);
    for (_, path) in found.drain(..surplus).filter(|(changed, _)| unused(changed)) {
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(at("remove", &path))?;
    }
    Ok(())
}

/// Marks a cached result as used now, for [`keep_newest`].
pub(crate) fn touch(path: &Path) -> Result<()> {
    File::open(path).and_then(|file| file.set_modified(SystemTime::now())).map_err(at("touch", path))
}

//! Makes erofs images with mkfs.erofs: from a folder, as any user, the same bytes every time.

use crate::command::{self, tool};
use crate::error::{Result, at};
use crate::place;
use crate::requirements::{self, MKFS_EROFS};
use crate::tree::Tree;
use std::path::Path;

/// Fixed, for the same bytes every time; nothing finds a file system of ours by its identifier.
const UUID: &str = "6f726c6f-7000-4000-8000-000000000001";

/// How hard to compress.
#[derive(Clone, Copy)]
pub(crate) enum Compression {
    /// Read at every boot, made seldom.
    Best,
    /// Mostly compressed already, made often.
    Fast,
}

/// Writes `tree` as an image at `path`.
pub(crate) fn write(tree: &Tree, compression: Compression, path: &Path, progress: &mut dyn FnMut(&str)) -> Result<()> {
    requirements::ensure(&[MKFS_EROFS], progress)?;
    let parent = path.parent().unwrap_or(Path::new("."));
    let work =
        tempfile::Builder::new().prefix(".tree-").tempdir_in(parent).map_err(at("create a folder in", parent))?;
    tree.write_folder(work.path())?;
    let image = place::part(parent)?;
    let mut mkfs = tool("mkfs.erofs");
    mkfs.args(["--quiet", "-T0", "--all-root", "-x-1", &format!("-U{UUID}")]);
    mkfs.arg(match compression {
        Compression::Best => "-zlz4hc",
        Compression::Fast => "-zlz4",
    });
    // -x-1: no extended attributes, or the host's security labels would travel along.
    command::output(mkfs.arg(image.path()).arg(work.path()))?;
    place::publish(image, path)
}

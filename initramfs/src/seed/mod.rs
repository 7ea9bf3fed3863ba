//! The provisioning disk `orlop-seed`: unit files and images that a machine finds at its boot. An erofs with
//! `containers.d/` and `images/`, one OCI layout of all images given.
//!
//! Everything is checked here, where somebody reads the message: digests, sizes, architecture, names that clash.

mod docker;
mod images;
mod source;
mod units;

use crate::digest::Key;
use crate::erofs::{self, Compression};
use crate::error::{Result, at};
use crate::place;
use crate::tree::Tree;
use std::fs;
use std::path::{Path, PathBuf};

/// Builds the disk from a folder of unit files (or one file) and images: layout folders, oci-archives and
/// docker-archives, compressed or not. With the same inputs, finds the one built before.
pub fn seed_disk(
    out: &Path,
    units: Option<&Path>,
    images: &[PathBuf],
    progress: &mut dyn FnMut(&str),
) -> Result<PathBuf> {
    fs::create_dir_all(out).map_err(at("create", out))?;
    let _lock = place::lock(out)?;
    let mut tree = Tree::default();
    tree.folder("containers.d", 0o755);
    let mut key = Key::new("seed");
    if let Some(units) = units {
        for unit in units::read(units, progress)? {
            key.text(&unit.name);
            key.text(unit.text.as_deref().unwrap_or("masked"));
            let path = format!("containers.d/{}", unit.name);
            match &unit.text {
                Some(text) => tree.text(&path, text),
                None => tree.link(&path, "/dev/null"),
            }
        }
    }
    for image in images {
        source::check(image)?;
        key.text(&image.to_string_lossy());
        key.tree(image)?;
    }
    let path = out.join(format!("seed-{}.erofs", key.finish()));
    if path.exists() {
        place::touch(&path)?;
        return Ok(path);
    }
    let work = tempfile::Builder::new().prefix(".seed-").tempdir_in(out).map_err(at("create a folder in", out))?;
    let mut collected = images::Images::default();
    for (number, image) in images.iter().enumerate() {
        progress(&format!("read the image {}", image.display()));
        let folder = source::open(image, &work.path().join(number.to_string()))?;
        if docker::is_archive(&folder) {
            docker::collect(image, &folder, &mut collected)?;
        } else {
            collected.layout(image, &folder)?;
        }
    }
    collected.write(&mut tree)?;
    progress("build the seed disk (mkfs.erofs)");
    erofs::write(&tree, Compression::Fast, &path, progress)?;
    // Every set of inputs has its own; test runs use many.
    place::keep_newest(out, "seed-", 16)?;
    Ok(path)
}

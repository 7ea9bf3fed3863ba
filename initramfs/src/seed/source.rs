//! Opens what a user gives as an image: a folder as it is, an archive unpacked into a folder of ours.

use crate::error::{Result, at, input};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufReader, Read, Seek as _};
use std::path::{Component, Path, PathBuf};

pub(super) fn check(given: &Path) -> Result<()> {
    if given.exists() {
        return Ok(());
    }
    Err(input(given, "there is no such image (an OCI layout folder, an oci-archive or a docker-archive)"))
}

/// The folder with the image's files.
pub(super) fn open(given: &Path, work: &Path) -> Result<PathBuf> {
    if given.is_dir() {
        return Ok(given.to_path_buf());
    }
    fs::create_dir_all(work).map_err(at("create", work))?;
    unpack(given, work)?;
    Ok(work.to_path_buf())
}

/// Archives are often piped through a compressor.
fn decompressed(given: &Path) -> Result<Box<dyn Read>> {
    let mut file = File::open(given).map_err(at("open", given))?;
    let mut magic = Vec::new();
    (&mut file).take(6).read_to_end(&mut magic).map_err(at("read", given))?;
    file.rewind().map_err(at("read", given))?;
    let file = BufReader::new(file);
    Ok(match &magic[..] {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::Decoder::with_buffer(file).map_err(at("read", given))?),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Box::new(liblzma::bufread::XzDecoder::new(file)),
        _ => Box::new(file),
    })
}

/// Unpacks regular files only; links inside (docker save makes some) become what they point to.
fn unpack(given: &Path, work: &Path) -> Result<()> {
    let mut archive = tar::Archive::new(decompressed(given)?);
    let mut links = BTreeMap::new();
    // The reader's own words would quote what the file holds.
    let broken = |error: std::io::Error| {
        let text = error.to_string();
        let words: String =
            text.split(|letter: char| letter.is_control()).next().unwrap_or_default().chars().take(60).collect();
        input(given, format!("not an image archive, or a damaged one ({words})"))
    };
    let mut files = 0;
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let name = entry.path().map_err(broken)?.into_owned();
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            continue;
        }
        let Some(path) = inside(Path::new(""), &name) else {
            return Err(input(given, format!("the archive names a path outside itself: {}", name.display())));
        };
        if kind.is_symlink() || kind.is_hard_link() {
            let target = entry.link_name().map_err(broken)?.unwrap_or_default().into_owned();
            let from = if kind.is_symlink() { path.parent().unwrap_or(Path::new("")) } else { Path::new("") };
            let Some(target) = inside(from, &target) else {
                return Err(input(given, format!("{} links outside the archive", name.display())));
            };
            links.insert(path, target);
        } else if kind.is_file() {
            let target = work.join(&path);
            let folder = target.parent().unwrap_or(work);
            fs::create_dir_all(folder).map_err(at("create", folder))?;
            let mut file = File::create(&target).map_err(at("create", &target))?;
            std::io::copy(&mut entry, &mut file).map_err(at("unpack", given))?;
            files += 1;
        }
    }
    if files == 0 {
        return Err(input(given, "there are no files in this archive"));
    }
    for (path, target) in links {
        let (path, target) = (work.join(path), work.join(target));
        if target.is_file() && !path.exists() {
            let folder = path.parent().unwrap_or(work);
            fs::create_dir_all(folder).map_err(at("create", folder))?;
            fs::hard_link(&target, &path).map_err(at("link", &path))?;
        }
    }
    Ok(())
}

/// The path `name` means, seen from the folder `from`, if it stays inside; by words alone, nothing is followed.
fn inside(from: &Path, name: &Path) -> Option<PathBuf> {
    let mut path = from.to_path_buf();
    for part in name.components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            Component::ParentDir => {
                if !path.pop() {
                    return None;
                }
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    (!path.as_os_str().is_empty()).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside() {
        let inside = |from: &str, name: &str| inside(Path::new(from), Path::new(name));
        assert_eq!(inside("", "./blobs/sha256/aa"), Some(PathBuf::from("blobs/sha256/aa")));
        assert_eq!(inside("1234", "../abcd/layer.tar"), Some(PathBuf::from("abcd/layer.tar")));
        for outside in ["../x", "/etc/passwd", "a/../../x", ".", ""] {
            assert_eq!(inside("", outside), None, "{outside}");
        }
    }
}

//! Finds a kernel image and its modules in a folder.

use crate::error::{Result, at, input};
use std::fs;
use std::path::{Path, PathBuf};

/// Image and module folder of an unpacked kernel package (or several unpacked into one folder).
pub(super) fn find(folder: &Path) -> Result<(PathBuf, PathBuf)> {
    let mut images = Vec::new();
    for place in [folder.join("boot"), folder.to_path_buf()].iter().filter(|place| place.is_dir()) {
        for entry in fs::read_dir(place).map_err(at("read", place))? {
            let path = entry.map_err(at("read", place))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_file() && ["vmlinuz", "bzImage", "Image"].iter().any(|start| name.starts_with(start)) {
                images.push(path);
            }
        }
    }
    images.sort();
    match &images[..] {
        [] => Err(input(folder, "there is no kernel here (boot/vmlinuz-…, vmlinuz or bzImage), nor a .deb package")),
        [image] => Ok((image.clone(), modules_beside(image)?)),
        [first, second, ..] => Err(input(
            folder,
            format!("there are several kernels here ({}, {} …): name one of them", first.display(), second.display()),
        )),
    }
}

/// The module folder that belongs to a kernel image.
pub(super) fn modules_beside(image: &Path) -> Result<PathBuf> {
    let beside = image.parent().unwrap_or(Path::new("."));
    let above = beside.parent().unwrap_or(beside);
    let places = [
        beside.join("lib/modules"),
        beside.join("usr/lib/modules"),
        beside.join("modules"),
        above.join("lib/modules"),
        above.join("usr/lib/modules"),
    ];
    let release = release(image);
    let mut releases = Vec::new();
    for place in places {
        let Ok(entries) = fs::read_dir(&place) else { continue };
        let found = entries.flatten().map(|entry| entry.path()).filter(|path| path.join("kernel").is_dir());
        match &release {
            Some(release) => {
                releases.extend(found.filter(|path| path.file_name().is_some_and(|name| name == &**release)));
            }
            None => releases.extend(found),
        }
        if !releases.is_empty() {
            break;
        }
    }
    match &releases[..] {
        [modules] => Ok(modules.clone()),
        [] if release.is_none() => {
            Err(input(image, "neither a kernel image that says its release, nor a .deb package"))
        }
        [] => Err(input(
            image,
            format!(
                "its modules are not beside it: expected lib/modules/{0} or modules/{0} in {1}",
                release.as_deref().unwrap_or_default(),
                beside.display()
            ),
        )),
        _ => Err(input(image, "several module folders lie beside it, and the image does not say its release")),
    }
}

/// The release an x86 image carries in its header (Documentation/arch/x86/boot.rst, kernel_version), or that its
/// name does.
fn release(image: &Path) -> Option<String> {
    let head = fs::File::open(image).ok().and_then(|file| {
        use std::io::Read as _;
        let mut head = Vec::new();
        file.take(64 * 1024).read_to_end(&mut head).ok().map(|_| head)
    })?;
    let text = super::payload::is_bzimage(&head).then(|| {
        let offset = usize::from(u16::from_le_bytes([head[0x20e], head[0x20f]])) + 0x200;
        head.get(offset..)?.split(|byte| byte.is_ascii_whitespace() || *byte == 0).next().map(<[u8]>::to_vec)
    });
    if let Some(Some(text)) = text {
        return String::from_utf8(text).ok().filter(|text| !text.is_empty());
    }
    image.file_name()?.to_str()?.split_once('-').map(|(_, release)| release.to_owned())
}

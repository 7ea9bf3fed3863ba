//! The kernel: the distribution's own package, or what the user gives. Nothing is installed; the package is unpacked
//! into the out folder, once, and found there again without asking apt or the network.

pub(crate) mod apt;
mod payload;
mod tree;

use payload::payload;

use crate::command::{self, tool};
use crate::digest;
use crate::error::{Result, at, input};
use crate::place;
use std::fs;
use std::path::{Path, PathBuf};

/// A kernel ready to boot, with its modules.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// `uname -r` of it.
    pub release: String,
    pub image: PathBuf,
    /// The bzImage's uncompressed payload when it can be booted directly (it carries a PVH note).
    pub vmlinux: Option<PathBuf>,
    /// `…/lib/modules/<release>`.
    pub modules: PathBuf,
}

/// Says which package folder was fetched last; its presence spares apt and the network.
const FETCHED: &str = "fetched";

/// Fetches the distribution's cloud kernel below `out`, or takes `given`:
/// - a kernel package (`.deb`),
/// - a folder of such packages (Ubuntu splits image and modules), or an unpacked one (`boot/`, `lib/modules/`),
/// - a kernel image with its modules beside it: `lib/modules/<release>` or `modules/<release>` next to it, or
///   `../lib/modules/<release>` as for `/boot/vmlinuz-…`.
pub fn kernel(out: &Path, given: Option<&Path>, progress: &mut dyn FnMut(&str)) -> Result<Kernel> {
    let cache = out.join("kernel");
    fs::create_dir_all(&cache).map_err(at("create", &cache))?;
    let _lock = place::lock(&cache)?;
    match given {
        Some(given) => take(&cache, given, progress),
        None => match fetched(&cache) {
            Some(kernel) => Ok(kernel),
            None => fetch(&cache, progress),
        },
    }
}

/// Asks the distribution again, even when a kernel was fetched before.
pub fn update_kernel(out: &Path, progress: &mut dyn FnMut(&str)) -> Result<Kernel> {
    let cache = out.join("kernel");
    fs::create_dir_all(&cache).map_err(at("create", &cache))?;
    let _lock = place::lock(&cache)?;
    fetch(&cache, progress)
}

fn fetched(cache: &Path) -> Option<Kernel> {
    let name = fs::read_to_string(cache.join(FETCHED)).ok()?;
    open_unpacked(&cache.join(name.trim())).ok()
}

fn fetch(cache: &Path, progress: &mut dyn FnMut(&str)) -> Result<Kernel> {
    let work = tempfile::Builder::new().prefix(".apt-").tempdir_in(cache).map_err(at("create a folder in", cache))?;
    let found = apt::newest(work.path(), progress)?;
    let folder = cache.join(found.id());
    if !folder.exists() {
        let packages = found.download(work.path(), progress)?;
        unpack(&packages, &folder, progress)?;
    }
    let kernel = open_unpacked(&folder)?;
    place::write(&cache.join(FETCHED), found.id().as_bytes())?;
    progress(&format!("kernel {} is ready", kernel.release));
    Ok(kernel)
}

fn take(cache: &Path, given: &Path, progress: &mut dyn FnMut(&str)) -> Result<Kernel> {
    let packages = packages_in(given)?;
    if !packages.is_empty() {
        let folder = cache.join(format!("given-{}", digest::short(&digest::files(&packages)?)));
        if !folder.exists() {
            unpack(&packages, &folder, progress)?;
        }
        return open_unpacked(&folder);
    }
    let (image, modules) =
        if given.is_dir() { tree::find(given)? } else { (given.to_path_buf(), tree::modules_beside(given)?) };
    // The user's folder is used where it is; only what we derive from it goes into ours.
    let derived = cache.join(format!("given-{}", digest::short(&digest::files(std::slice::from_ref(&image))?)));
    if !derived.exists() {
        place::folder(&derived, |folder| extract_vmlinux(&image, &folder.join("vmlinux")))?;
    }
    open(image, &derived, modules)
}

/// The packages a user means: one file or all of a folder.
fn packages_in(given: &Path) -> Result<Vec<PathBuf>> {
    let is_package = |path: &Path| path.extension().is_some_and(|found| found == "deb");
    if !given.is_dir() {
        if !given.exists() {
            return Err(input(given, "there is no such kernel file or folder"));
        }
        return Ok(if is_package(given) { vec![given.to_path_buf()] } else { Vec::new() });
    }
    let mut packages = Vec::new();
    for entry in fs::read_dir(given).map_err(at("read", given))? {
        let path = entry.map_err(at("read", given))?.path();
        if is_package(&path) {
            packages.push(path);
        }
    }
    packages.sort();
    Ok(packages)
}

/// Unpacks kernel packages into `folder`, keeping the kernel and its modules only, and adds the payload.
fn unpack(packages: &[PathBuf], folder: &Path, progress: &mut dyn FnMut(&str)) -> Result<()> {
    place::folder(folder, |folder| {
        for package in packages {
            let name = package.file_name().unwrap_or_default().to_string_lossy();
            progress(&format!("unpack {name}"));
            command::output(tool("dpkg-deb").arg("-x").arg(package).arg(folder))?;
        }
        let rubbish = ["usr/share", "etc"].map(|name| folder.join(name));
        for path in rubbish.iter().filter(|path| path.exists()) {
            fs::remove_dir_all(path).map_err(at("remove", path))?;
        }
        let (image, _) = tree::find(folder)?;
        extract_vmlinux(&image, &folder.join("vmlinux"))
    })
}

/// Writes the payload when a machine monitor can start it directly: some seconds less of decompression in the guest.
fn extract_vmlinux(image: &Path, target: &Path) -> Result<()> {
    let bytes = fs::read(image).map_err(at("read", image))?;
    match payload(&bytes) {
        Some(vmlinux) => fs::write(target, vmlinux).map_err(at("write", target)),
        None => Ok(()),
    }
}

fn open_unpacked(folder: &Path) -> Result<Kernel> {
    let (image, modules) = tree::find(folder)?;
    open(image, folder, modules)
}

fn open(image: PathBuf, derived: &Path, modules: PathBuf) -> Result<Kernel> {
    let release = modules.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let vmlinux = Some(derived.join("vmlinux")).filter(|path| path.exists());
    Ok(Kernel { release, image, vmlinux, modules })
}

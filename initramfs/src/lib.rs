//! Builds what an Orlop machine boots from, on the host: kernel, initramfs, root image, seeds, disks, OCI images.
//!
//! Invariants: no root, no loop devices, no mounts. Two builds of the same inputs give the same bytes (fixed times,
//! owners, identifiers and order). Everything is written beside its final name and renamed, so an interrupted build
//! leaves no half file behind, and a build with nothing changed does nothing. On failure: an error that says what was
//! done to which file and why it did not work.

mod command;
mod error;
mod programs;

pub use error::{Error, Result};
pub use programs::{Programs, out, programs, triple, workspace};

use std::path::{Path, PathBuf};

/// Receives one line per step, for the screen.
pub type Progress<'a> = &'a mut dyn FnMut(&str);

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

/// Bytes of each part, for `cargo bench` and the budgets.
#[derive(Debug, Clone, Default)]
pub struct Sizes {
    pub init: u64,
    pub orlop: u64,
    pub orlop_oci: u64,
    pub kernel: u64,
    pub initramfs: u64,
    pub root: u64,
    /// The root image built without the kernel's modules.
    pub root_without_modules: u64,
}

/// What a machine boots.
#[derive(Debug, Clone)]
pub struct Image {
    pub initramfs: PathBuf,
    /// The root file system: erofs.
    pub root: PathBuf,
    pub sizes: Sizes,
}

/// Fetches the distribution's cloud kernel below `out`, or takes `given`: a kernel package (.deb), a bzImage with a
/// `modules` folder beside it, or a folder that holds either.
pub fn kernel(_out: &Path, given: Option<&Path>, _progress: Progress<'_>) -> Result<Kernel> {
    Err(error::input(given.unwrap_or(Path::new("kernel")), "this version cannot fetch a kernel"))
}

/// Builds initramfs and root image below `out`.
pub fn image(out: &Path, _kernel: &Kernel, _programs: &Programs, _progress: Progress<'_>) -> Result<Image> {
    Err(error::input(out, "this version cannot build an image"))
}

/// Builds the `orlop-seed` disk: unit files and OCI images (layout folders, oci-archives, docker-archives).
pub fn seed_disk(out: &Path, _units: Option<&Path>, _images: &[PathBuf], _progress: Progress<'_>) -> Result<PathBuf> {
    Err(error::input(out, "this version cannot build a seed disk"))
}

/// Builds a raw GPT disk: both root slots (B is empty) and a blank state partition of `state_bytes`.
pub fn raw_disk(out: &Path, _image: &Image, _state_bytes: u64, _progress: Progress<'_>) -> Result<PathBuf> {
    Err(error::input(out, "this version cannot build a disk"))
}

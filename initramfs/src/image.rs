//! Initramfs and root image, cached by the content of what goes in.

use crate::Programs;
use crate::digest::Key;
use crate::erofs::{self, Compression};
use crate::error::{Result, at, input};
use crate::kernel::Kernel;
use crate::{modules, place, root, seeds};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

/// Measured under emulation, with modules unpacked inside: 1.05 MB instead of 5.04, for 76 million instructions of
/// decompression; modules left as xz cost 154 million and 1.44 MB. Levels above 19 gain nothing.
const COMPRESSION_LEVEL: i32 = 19;

/// What a machine boots, besides its kernel.
#[derive(Debug, Clone)]
pub struct Image {
    pub initramfs: PathBuf,
    /// The root file system: erofs.
    pub root: PathBuf,
    pub sizes: Sizes,
}

/// Bytes of each part, for `cargo bench` and the budgets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
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

impl Sizes {
    /// What a unified kernel image will weigh at least: its parts (the stub adds some 100 KiB).
    pub fn uki(&self) -> u64 {
        self.kernel + self.initramfs
    }

    /// Names and bytes, as `cargo bench` reports them below `size.`.
    pub fn list(&self) -> [(&'static str, u64); 8] {
        [
            ("init", self.init),
            ("orlop", self.orlop),
            ("orlop-oci", self.orlop_oci),
            ("kernel", self.kernel),
            ("initramfs", self.initramfs),
            ("root", self.root),
            ("root_without_modules", self.root_without_modules),
            ("uki", self.uki()),
        ]
    }
}

/// Builds initramfs and root image below `out`; with nothing changed, finds them.
pub fn image(out: &Path, kernel: &Kernel, programs: &Programs, progress: &mut dyn FnMut(&str)) -> Result<Image> {
    fs::create_dir_all(out).map_err(at("create", out))?;
    let _lock = place::lock(out)?;
    let mut key = Key::new("image");
    for program in [&programs.init, &programs.orlop, &programs.orlop_oci, &programs.demo] {
        key.content(program)?;
    }
    key.text(&kernel.release);
    key.tree(&kernel.modules)?;
    key.tree(&kernel.image)?;
    let folder = out.join(format!("image-{}", key.finish()));
    if folder.exists() {
        place::touch(&folder)?;
        return open(&folder);
    }
    let seeds = seeds::seeds(out, progress)?;
    place::folder(&folder, |folder| build(folder, kernel, programs, &seeds, progress))?;
    // A test run and a running machine may hold others; a developer's next edit makes one more.
    place::keep_newest(out, "image-", 8)?;
    open(&folder)
}

fn build(
    folder: &Path,
    kernel: &Kernel,
    programs: &Programs,
    seeds: &Path,
    progress: &mut dyn FnMut(&str),
) -> Result<()> {
    progress(&format!("choose the modules of kernel {}", kernel.release));
    let modules = modules::select(kernel)?;

    progress("build the initramfs");
    let initramfs = folder.join("initramfs.img");
    write_initramfs(&root::initramfs(programs, kernel, &modules.initramfs)?, &initramfs, COMPRESSION_LEVEL)?;

    progress("pack the demo's image");
    let mut tree = root::root(programs, seeds)?;
    let work =
        tempfile::Builder::new().prefix(".demo-").tempdir_in(folder).map_err(at("create a folder in", folder))?;
    root::add_demo(&mut tree, programs, work.path())?;

    progress("build the root image (mkfs.erofs)");
    let without_modules = folder.join("without-modules.erofs");
    erofs::write(&tree, Compression::Best, &without_modules, progress)?;
    root::add_modules(&mut tree, kernel, &modules.root)?;
    let root = folder.join("root.erofs");
    erofs::write(&tree, Compression::Best, &root, progress)?;

    let bytes = |path: &Path| fs::metadata(path).map(|data| data.len()).map_err(at("look at", path));
    let sizes = Sizes {
        init: bytes(&programs.init)?,
        orlop: bytes(&programs.orlop)?,
        orlop_oci: bytes(&programs.orlop_oci)?,
        kernel: bytes(&kernel.image)?,
        initramfs: bytes(&initramfs)?,
        root: bytes(&root)?,
        root_without_modules: bytes(&without_modules)?,
    };
    fs::remove_file(&without_modules).map_err(at("remove", &without_modules))?;
    let text = serde_json::to_vec_pretty(&sizes).map_err(|error| input(folder, error.to_string()))?;
    place::write(&folder.join("sizes.json"), &text)
}

/// What stands at a path of an [`archive`].
pub enum Entry {
    Text(String),
    Folder,
    /// A file of the host, executable for all.
    Program(PathBuf),
    Link(String),
}

/// An initramfs of the caller's own, for a machine that is not Orlop: paths are relative.
pub fn archive(path: &Path, entries: &[(String, Entry)]) -> Result<()> {
    let mut tree = crate::tree::Tree::default();
    tree.folder("dev", 0o755);
    // The kernel opens it for the first program.
    tree.character("dev/console", 0o600, 5, 1);
    for (name, entry) in entries {
        match entry {
            Entry::Text(text) => tree.text(name, text),
            Entry::Folder => tree.folder(name, 0o755),
            Entry::Program(from) => tree.program(name, from),
            Entry::Link(target) => tree.link(name, target),
        }
    }
    // Used once, on the machine that made it.
    write_initramfs(&tree, path, 1)
}

fn write_initramfs(tree: &crate::tree::Tree, path: &Path, level: i32) -> Result<()> {
    let mut archive = Vec::new();
    tree.write_cpio(&mut archive, path)?;
    let packed = zstd::encode_all(&archive[..], level).map_err(at("compress", path))?;
    place::write(path, &packed)
}

fn open(folder: &Path) -> Result<Image> {
    let sizes = folder.join("sizes.json");
    let text = fs::read(&sizes).map_err(at("read", &sizes))?;
    Ok(Image {
        initramfs: folder.join("initramfs.img"),
        root: folder.join("root.erofs"),
        sizes: serde_json::from_slice(&text).map_err(|error| input(&sizes, error.to_string()))?,
    })
}

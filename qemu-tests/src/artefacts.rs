//! Everything a machine boots from, built or found up to date.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use initramfs::requirements::{self, DPKG, MKFS_EROFS, MKFS_XFS, QEMU};
use initramfs::{Image, Kernel, Programs};

use crate::accel::{Accel, UnknownAccel};

/// What all machines of this process share.
#[derive(Debug, Clone)]
pub struct Artefacts {
    pub programs: Programs,
    pub kernel: Kernel,
    pub image: Image,
    pub accel: Accel,
    /// Where all of it lies: `target/orlop`.
    pub out: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("create {}: {source}", path.display())]
    Folder { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Image(#[from] initramfs::Error),
    #[error(transparent)]
    Accel(#[from] UnknownAccel),
}

impl Artefacts {
    /// Builds what is missing or outdated. `progress` gets one line per step.
    pub fn build(kernel: Option<&Path>, progress: &mut dyn FnMut(&str)) -> Result<Self, BuildError> {
        let out = initramfs::out();
        // All that will be missing later, named or installed before anything takes time.
        requirements::ensure(&[MKFS_EROFS, MKFS_XFS, DPKG, QEMU], progress)?;
        let programs = initramfs::programs(progress)?;
        let kernel = initramfs::kernel(&out, kernel, progress)?;
        let image = initramfs::image(&out, &kernel, &programs, progress)?;
        let accel = Accel::choose(&out, &kernel.image, progress)?;
        Ok(Self { programs, kernel, image, accel, out })
    }

    /// Packs the probe, with further files beside it in its root, as `localhost/probe:latest` into a layout folder.
    pub fn pack_probe(&self, files: &[&Path], layout: &Path) -> Result<(), BuildError> {
        let folder = |source| BuildError::Folder { path: layout.to_owned(), source };
        let rootfs = tempfile::tempdir_in(&self.out).map_err(folder)?;
        for file in files.iter().copied().chain([self.programs.probe.as_path()]) {
            fs::copy(file, rootfs.path().join(file.file_name().unwrap_or_default())).map_err(folder)?;
        }
        let config = initramfs::PackConfig { entrypoint: vec!["/probe".into()], ..Default::default() };
        initramfs::pack(rootfs.path(), "localhost/probe:latest", &config, layout)?;
        Ok(())
    }

    /// A program that only waits, if it has an argument: what a container of it costs is the system's.
    #[must_use]
    pub fn nothing(&self) -> PathBuf {
        self.programs.probe.with_file_name("nothing")
    }

    /// Built once for all tests of a process, from the distribution's kernel or the one `ORLOP_KERNEL` names.
    ///
    /// # Panics
    /// When it cannot be built: no test of a machine can say anything then.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Artefacts> = OnceLock::new();
        SHARED.get_or_init(|| {
            let kernel = std::env::var_os("ORLOP_KERNEL").map(PathBuf::from);
            let built = Self::build(kernel.as_deref(), &mut |line| eprintln!("{line}"));
            built.unwrap_or_else(|error| panic!("{error}"))
        })
    }
}

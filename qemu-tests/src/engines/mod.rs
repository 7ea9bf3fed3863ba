//! Podman, containerd and Docker of Debian with `orlop-oci` below them: a guest of Debian's packages (its PID 1 is a script), and
//! the cases, which are shell scripts in `qemu-tests/engines/cases`.
//!
//! Invariants: the guest reaches no network but QEMU's own; its images are made here; nothing of it needs root on the
//! host. What a case printed is shown when it fails, and one that hangs is ended by its deadline.

mod cases;
mod guest;
mod lanes;
mod media;
mod root;

pub use cases::{Case, Cases, CasesError};
pub use guest::{Guest, Outcome, Security, Shell};
pub use lanes::{RunError, Verdict, has_cases, run as run_cases};

/// Why there is no guest.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    #[error(transparent)]
    Image(#[from] initramfs::Error),
    #[error(transparent)]
    Build(#[from] crate::BuildError),
    #[error(transparent)]
    Machine(#[from] crate::MachineError),
    #[error("{step} {}: {source}", path.display())]
    File { step: &'static str, path: std::path::PathBuf, source: std::io::Error },
    #[error("{command} ended with {status}: {said}")]
    Command { command: String, status: std::process::ExitStatus, said: String },
    #[error("{what}: {source}; the console ends:\n{tail}")]
    Talk { what: &'static str, source: std::io::Error, tail: String },
}

/// Puts what was done to which path in front of an I/O error.
fn at(step: &'static str, path: impl AsRef<std::path::Path>) -> impl FnOnce(std::io::Error) -> GuestError {
    move |source| GuestError::File { step, path: path.as_ref().to_path_buf(), source }
}

/// Runs a program of the host to its end.
fn run(command: &mut std::process::Command) -> Result<(), GuestError> {
    let line = format!("{command:?}");
    let output = command.output().map_err(at("start", command.get_program()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(GuestError::Command { command: line, status: output.status, said })
}

/// The folder with the guest's files and the cases.
fn sources() -> std::path::PathBuf {
    initramfs::workspace().join("qemu-tests/engines")
}

/// An erofs of a folder, uncompressed: an emulated guest decompresses slower than the host reads.
fn erofs(folder: &std::path::Path, file: &std::path::Path) -> Result<(), GuestError> {
    use std::process::Command;
    run(Command::new("mkfs.erofs").args(["--quiet", "-T0", "--all-root", "-x-1"]).arg(file).arg(folder))
}

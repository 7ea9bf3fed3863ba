//! The programs of the host that building and booting needs, and how a machine without them gets them: as root they
//! are installed, with their names on the screen; otherwise the one command to paste is the error's text.

use crate::command::{self, tool};
use crate::error::{Error, Result};
use std::path::Path;

/// One program, or a file by its whole path, and the package that has it, in Debian and Ubuntu.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tool {
    pub program: &'static str,
    pub package: &'static str,
}

/// Makes root images.
pub const MKFS_EROFS: Tool = Tool { program: "mkfs.erofs", package: "erofs-utils" };
/// Makes the seeds of the state file system.
pub const MKFS_XFS: Tool = Tool { program: "mkfs.xfs", package: "xfsprogs" };
/// Unpacks kernel packages.
pub const DPKG: Tool = Tool { program: "dpkg-deb", package: "dpkg" };
/// Writes the lists of a module folder that Debian's own modprobe reads.
pub const DEPMOD: Tool = Tool { program: "depmod", package: "kmod" };
/// Runs machines.
pub const QEMU: Tool = Tool { program: "qemu-system-x86_64", package: "qemu-system-x86" };
/// The firmware of a machine with UEFI.
pub const OVMF: Tool = Tool { program: "/usr/share/OVMF/OVMF_CODE_4M.fd", package: "ovmf" };

/// Installs what is missing, or says how.
pub fn ensure(tools: &[Tool], progress: &mut dyn FnMut(&str)) -> Result<()> {
    let missing: Vec<Tool> = tools.iter().copied().filter(|tool| command::find(tool.program).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if command::find("apt-get").is_none() || !is_root() {
        return Err(how_to_install(&missing));
    }
    let packages: Vec<&str> = missing.iter().map(|tool| tool.package).collect();
    let has_lists = has_lists(Path::new("/var/lib/apt/lists"));
    if !has_lists {
        update(progress)?;
    }
    progress(&format!("install {} (apt-get install)", packages.join(", ")));
    let said = match install(&packages) {
        // Old lists name packages the archive has replaced since.
        Err(_) if has_lists => update(progress).and_then(|()| install(&packages)),
        result => result,
    }?;
    progress(&format!("installed {}", set_up(&String::from_utf8_lossy(&said)).join(", ")));
    match missing.iter().find(|tool| command::find(tool.program).is_none()) {
        None => Ok(()),
        Some(tool) => Err(Error::NotBuilt { program: "apt-get install", wanted: format!("program {}", tool.program) }),
    }
}

fn update(progress: &mut dyn FnMut(&str)) -> Result<()> {
    progress("refresh the package lists (apt-get update)");
    command::output(tool("apt-get").args(["-q", "update"])).map(drop)
}

fn install(packages: &[&str]) -> Result<Vec<u8>> {
    let mut apt = tool("apt-get");
    apt.args(["-q", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=120", "install"])
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive");
    command::output(&mut apt)
}

/// All that came, with what the asked-for packages depend on: dpkg's `Setting up NAME (VERSION) ...`.
fn set_up(said: &str) -> Vec<&str> {
    let lines = said.lines().filter_map(|line| line.trim().strip_prefix("Setting up "));
    lines.filter_map(|line| line.split(' ').next()).collect()
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

fn has_lists(folder: &Path) -> bool {
    std::fs::read_dir(folder)
        .is_ok_and(|entries| entries.flatten().any(|entry| entry.file_name().to_string_lossy().contains("_Packages")))
}

fn how_to_install(missing: &[Tool]) -> Error {
    let programs: Vec<&str> = missing.iter().map(|tool| tool.program).collect();
    let packages: Vec<&str> = missing.iter().map(|tool| tool.package).collect();
    let are = if programs.len() == 1 { "is" } else { "are" };
    Error::Requirements {
        what: format!("{} {are}", programs.join(", ")),
        command: format!("apt-get update && apt-get install -y --no-install-recommends {}", packages.join(" ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_needs_nothing() {
        for program in ["sh", "/bin/sh"] {
            ensure(&[Tool { program, package: "dash" }], &mut |line| panic!("{line}")).unwrap();
        }
    }

    #[test]
    fn the_message_is_one_command_to_paste() {
        let text = how_to_install(&[MKFS_EROFS, MKFS_XFS]).to_string();
        assert_eq!(
            text,
            "mkfs.erofs, mkfs.xfs are missing on this machine; as root, run:\n  \
             apt-get update && apt-get install -y --no-install-recommends erofs-utils xfsprogs"
        );
    }

    #[test]
    fn every_package_that_came_is_named() {
        let said =
            "Reading package lists...\nUnpacking b (1) ...\nSetting up b:amd64 (1) ...\nSetting up a (2:1-3) ...\n";
        assert_eq!(set_up(said), ["b:amd64", "a"]);
    }

    #[test]
    fn lists_count_only_when_they_list_packages() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("lock"), "").unwrap();
        assert!(!has_lists(folder.path()));
        std::fs::write(folder.path().join("archive_main_binary-amd64_Packages.lz4"), "").unwrap();
        assert!(has_lists(folder.path()));
    }
}

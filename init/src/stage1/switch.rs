//! Leaving the initramfs: the new root becomes `/`, the old one's files are deleted so that its memory is free,
//! and stage 2 is executed.

use std::ffi::CString;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, SFlag, fstat, fstatat};
use nix::sys::statfs::fstatfs;
use nix::unistd::{AccessFlags, UnlinkatFlags, access, chdir, chroot, execve, unlinkat};

use crate::story;

const INIT: &str = "/sbin/init";
/// Mounted by stage 1 and taken along.
const KEPT: [&str; 3] = ["/dev", "/proc", "/sys"];
/// The initramfs is ours and shallow; this bounds the recursion against anything else.
const MAX_DEPTH: usize = 32;

#[derive(Debug)]
pub(crate) struct SwitchError {
    step: &'static str,
    object: &'static str,
    source: Errno,
}

impl fmt::Display for SwitchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.step, self.object, self.source.desc())
    }
}

fn at(step: &'static str, object: &'static str) -> impl FnOnce(Errno) -> SwitchError {
    move |source| SwitchError { step, object, source }
}

/// Makes `/sysroot` the root. Nothing is deleted before the new root is in place.
pub(super) fn switch_root() -> Result<(), SwitchError> {
    access("/sysroot/sbin/init", AccessFlags::X_OK).map_err(at("execute (in the new root)", INIT))?;
    let old =
        open("/", OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).map_err(at("open", "/"))?;
    let none = None::<&str>;
    for point in KEPT {
        let target = format!("/sysroot{point}");
        mount(Some(point), target.as_str(), none, MsFlags::MS_MOVE, none)
            .map_err(at("move to the new root:", point))?;
    }
    chdir("/sysroot").map_err(at("change to", "/sysroot"))?;
    mount(Some("."), "/", none, MsFlags::MS_MOVE, none).map_err(at("move to /:", "/sysroot"))?;
    chroot(".").map_err(at("change root to", "/sysroot"))?;
    chdir("/").map_err(at("change to", "/"))?;
    free(old);
    Ok(())
}

/// Deletes the initramfs behind the open fd; what cannot be deleted only costs its memory.
fn free(old: OwnedFd) {
    // Only ever a file system in memory: a root on a disk would be somebody's data.
    let in_memory = fstatfs(&old).is_ok_and(|fs| crate::is_initramfs(fs.filesystem_type()));
    let Ok(device) = fstat(&old).map(|stat| stat.st_dev) else { return };
    if !in_memory {
        story::warn("root", "the old root is no initramfs: its files are left alone");
        return;
    }
    delete_below(old, device, 0);
}

fn delete_below(folder: OwnedFd, device: libc::dev_t, depth: usize) {
    let Ok(mut folder) = Dir::from_fd(folder) else { return };
    let mut names: Vec<CString> = Vec::new();
    for entry in folder.iter().flatten() {
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    let Ok(fd) = folder.as_fd().try_clone_to_owned() else { return };
    for name in &names {
        delete(fd.as_fd(), name, device, depth);
    }
}

fn delete(folder: BorrowedFd<'_>, name: &CString, device: libc::dev_t, depth: usize) {
    let name = name.as_c_str();
    // Never across a mount, never through a link.
    let Ok(stat) = fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW) else { return };
    if stat.st_dev != device {
        return;
    }
    let is_folder = stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits();
    if is_folder && depth < MAX_DEPTH {
        let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        if let Ok(inner) = openat(folder, name, flags, Mode::empty()) {
            // What is mounted on the name shows up here and not in fstatat's answer alone.
            if fstat(&inner).is_ok_and(|inner| inner.st_dev == device) {
                delete_below(inner, device, depth + 1);
            }
        }
    }
    let flag = if is_folder { UnlinkatFlags::RemoveDir } else { UnlinkatFlags::NoRemoveDir };
    let _ = unlinkat(folder, name, flag);
}

/// Executes stage 2 with the stages so far and the state's verdict; returns only with the reason why not.
pub(super) fn execute(state: &str) -> SwitchError {
    story::stage("switch-root");
    // A NUL cannot come into these; if it did, stage 2 goes without the variable.
    let env: Vec<CString> = [
        format!("ORLOP_BOOT={}", story::stages_for_env()),
        format!("ORLOP_STATE={state}"),
        "PATH=/usr/bin:/sbin".to_owned(),
    ]
    .into_iter()
    .chain(crate::watchdog::keep_over_exec().map(|fd| format!("ORLOP_WATCHDOG={fd}")))
    .filter_map(|variable| CString::new(variable).ok())
    .collect();
    let Err(source) = execve(c"/sbin/init", &[c"/sbin/init"], &env);
    at("execute", INIT)(source)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn the_old_root_is_emptied_and_what_its_links_name_stays() {
        let home = std::env::temp_dir().join(format!("orlop-switch-{}", std::process::id()));
        let (old, kept) = (home.join("old"), home.join("kept"));
        fs::create_dir_all(old.join("usr/lib/modules/6")).unwrap();
        fs::create_dir_all(&kept).unwrap();
        fs::write(kept.join("file"), "stays").unwrap();
        for file in ["init", "usr/lib/modules/6/a.ko", ".hidden"] {
            fs::write(old.join(file), "goes").unwrap();
        }
        std::os::unix::fs::symlink(&kept, old.join("usr/link")).unwrap();
        let folder = open(&old, OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
        let device = fs::metadata(&old).unwrap().dev();
        delete_below(folder, device, 0);
        assert_eq!(fs::read_dir(&old).unwrap().count(), 0);
        assert_eq!(fs::read_to_string(kept.join("file")).unwrap(), "stays");

        // A file system on another device is not touched.
        fs::write(old.join("file"), "stays").unwrap();
        let folder = open(&old, OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
        delete_below(folder, device + 1, 0);
        assert!(old.join("file").exists());
        fs::remove_dir_all(&home).unwrap();
    }
}

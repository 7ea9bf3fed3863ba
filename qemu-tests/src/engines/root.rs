//! The guest's root: Debian's packages, the harness's kernel's modules, and the few files maintainer scripts would make.

use super::{GuestError, at, erofs, run, sources};
use crate::artefacts::Artefacts;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The newest stable Debian: Podman 5.4, containerd 1.7, Docker 26.
const SUITE: &str = "trixie";

const PACKAGES: [&str; 29] = [
    "aardvark-dns",
    "apparmor",
    "base-passwd",
    "bsdutils",
    "busybox-static",
    "catatonit",
    "checkpolicy",
    "conmon",
    "containerd",
    "coreutils",
    "crun",
    "dbus-daemon",
    "dbus-system-bus-common",
    "docker-cli",
    "docker-compose",
    "docker.io",
    "iproute2",
    "iptables",
    "kmod",
    "mount",
    "netavark",
    "nftables",
    "passt",
    "podman",
    "procps",
    "runc",
    "systemd",
    "uidmap",
    "util-linux",
];

/// Mount points, and what Debian's base-files would have made.
const FOLDERS: [&str; 12] =
    ["dev", "proc", "sys", "run", "var", "tmp", "root", "home", "mnt", "etc/containers", "etc/docker", "usr/local/bin"];

/// The unpacked packages, fetched once.
pub(super) fn packages(artefacts: &Artefacts, progress: &mut dyn FnMut(&str)) -> Result<PathBuf, GuestError> {
    Ok(initramfs::tree_of_packages(&artefacts.out, SUITE, &PACKAGES, progress)?)
}

/// Made once for each kernel and set of packages.
pub(super) fn build(artefacts: &Artefacts, progress: &mut dyn FnMut(&str)) -> Result<PathBuf, GuestError> {
    let folder = artefacts.out.join("engines");
    fs::create_dir_all(&folder).map_err(at("create", &folder))?;
    let packages = packages(artefacts, progress)?;
    let init = sources().join("init");
    let mut key = DefaultHasher::new();
    packages.hash(&mut key);
    artefacts.kernel.release.hash(&mut key);
    fs::read(&init).map_err(at("read", &init))?.hash(&mut key);
    include_str!("root.rs").hash(&mut key);
    let image = folder.join(format!("root-{:016x}.erofs", key.finish()));
    if image.exists() {
        return Ok(image);
    }

    progress("make the root of the engines' guest");
    for old in fs::read_dir(&folder).map_err(at("read", &folder))?.flatten() {
        if old.file_name().to_string_lossy().starts_with("root-") {
            let _ = fs::remove_file(old.path());
        }
    }
    let work = tempfile::Builder::new().prefix(".root-").tempdir_in(&folder).map_err(at("create", &folder))?;
    let tree = work.path().join("tree");
    // Hard links: nothing that comes from a package is written below.
    run(Command::new("cp").arg("-al").arg(&packages).arg(&tree))?;
    initramfs::depmod(&tree, &artefacts.kernel, progress)?;
    complete(&tree, &init)?;
    let unfinished = work.path().join("root.erofs");
    erofs(&tree, &unfinished)?;
    fs::rename(&unfinished, &image).map_err(at("rename into place", &image))?;
    Ok(image)
}

fn complete(tree: &Path, init: &Path) -> Result<(), GuestError> {
    for name in FOLDERS {
        fs::create_dir_all(tree.join(name)).map_err(at("create", tree.join(name)))?;
    }
    let place = tree.join("usr/sbin/init");
    fs::copy(init, &place).map_err(at("copy to", &place))?;
    run(Command::new("chmod").arg("755").arg(&place))?;
    // The alternatives system's links.
    for name in ["iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore"] {
        link("xtables-nft-multi", &tree.join("usr/sbin").join(name))?;
    }
    link("/proc/self/mounts", &tree.join("etc/mtab"))?;
    // util-linux's own wants PAM's settings; busybox has one that does not.
    let su = tree.join("usr/bin/su");
    fs::remove_file(&su).map_err(at("remove", &su))?;
    // busybox for all that no package brought.
    let busybox = tree.join("usr/bin/busybox");
    let names = Command::new(&busybox).arg("--list").output().map_err(at("start", &busybox))?.stdout;
    for name in String::from_utf8_lossy(&names).lines() {
        if !["usr/bin", "usr/sbin"].iter().any(|folder| tree.join(folder).join(name).exists()) {
            link("busybox", &tree.join("usr/bin").join(name))?;
        }
    }
    Ok(())
}

/// Nothing where something is already.
fn link(target: &str, place: &Path) -> Result<(), GuestError> {
    if place.symlink_metadata().is_ok() {
        return Ok(());
    }
    symlink(target, place).map_err(at("link", place))
}

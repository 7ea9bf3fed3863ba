//! A tree of Debian's packages as an unpacked folder, for guests that run other people's programs. Maintainer scripts do
//! not run: who uses the tree adds what they would have written.

use crate::command::{self, tool};
use crate::digest;
use crate::error::{Error, Result, at};
use crate::kernel::{Kernel, apt};
use crate::place;
use crate::requirements::{self, DEPMOD};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// What no program reads in a guest.
const LEFT_OUT: [&str; 5] = ["doc", "man", "info", "locale", "lintian"];

/// Packages of a suite, and all they depend on, unpacked into one folder below `out`; found there again without apt
/// or the network.
pub fn tree_of_packages(out: &Path, suite: &str, packages: &[&str], progress: &mut dyn FnMut(&str)) -> Result<PathBuf> {
    let cache = out.join("debian");
    fs::create_dir_all(&cache).map_err(at("create", &cache))?;
    let _lock = place::lock(&cache)?;
    let wanted = format!("{suite} {}", packages.join(" "));
    let folder = cache.join(format!("{suite}-{}", digest::short(&digest::bytes(wanted.as_bytes()))));
    if folder.exists() {
        place::touch(&folder)?;
        return Ok(folder);
    }
    let work = tempfile::Builder::new().prefix(".apt-").tempdir_in(&cache).map_err(at("create a folder in", &cache))?;
    let apt = apt::debian_suite(work.path(), suite, progress)?;
    progress(&format!("download {} and what they need", packages.join(", ")));
    let files = apt.download_with_dependencies(packages)?;
    progress(&format!("unpack {} packages", files.len()));
    place::folder(&folder, |folder| {
        // A Debian of today has links at the top, and packages may still carry the old folders: dpkg unpacks through them.
        for name in ["bin", "lib", "lib64", "sbin"] {
            let own = folder.join("usr").join(name);
            fs::create_dir_all(&own).map_err(at("create", &own))?;
            symlink(Path::new("usr").join(name), folder.join(name)).map_err(at("link", folder.join(name)))?;
        }
        files.iter().try_for_each(|file| unpack(file, folder))
    })?;
    // The archives have set its time to theirs.
    place::touch(&folder)?;
    place::keep_newest(&cache, suite, 1)?;
    Ok(folder)
}

fn unpack(package: &Path, folder: &Path) -> Result<()> {
    let start = |program: &str| {
        let program = program.to_owned();
        move |source| Error::Start { program, source }
    };
    let mut dpkg = tool("dpkg-deb");
    let mut dpkg = dpkg.arg("--fsys-tarfile").arg(package).stdout(Stdio::piped()).spawn().map_err(start("dpkg-deb"))?;
    let mut tar = tool("tar");
    tar.args(["-xp", "--no-same-owner", "--keep-directory-symlink", "-C"]).arg(folder);
    tar.args(LEFT_OUT.map(|name| format!("--exclude=./usr/share/{name}")));
    let unpacked = command::output(tar.stdin(dpkg.stdout.take().map_or_else(Stdio::null, Stdio::from)));
    let status = dpkg.wait().map_err(at("wait for dpkg-deb to unpack", package))?;
    unpacked?;
    if !status.success() {
        let command = format!("dpkg-deb --fsys-tarfile {}", package.display());
        return Err(Error::Failed { command, status, output: String::new() });
    }
    Ok(())
}

/// Adds the kernel's modules to a tree, with the lists Debian's modprobe reads.
pub fn depmod(tree: &Path, kernel: &Kernel, progress: &mut dyn FnMut(&str)) -> Result<()> {
    requirements::ensure(&[DEPMOD], progress)?;
    let folder = tree.join("usr/lib/modules");
    fs::create_dir_all(&folder).map_err(at("create", &folder))?;
    let mut copy = tool("cp");
    command::output(copy.args(["-r", "--no-target-directory"]).arg(&kernel.modules).arg(folder.join(&kernel.release)))?;
    command::output(tool("depmod").arg("-b").arg(tree).arg(&kernel.release)).map(drop)
}

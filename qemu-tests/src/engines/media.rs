//! The guest's second disk: what changes with every build of ours. The runtime, the cases' image, scripts and settings.

use super::{GuestError, at, erofs, run, sources};
use crate::artefacts::Artefacts;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The image every case runs: busybox, from the guest's own packages.
const IMAGE: &str = "localhost/busybox:latest";

/// Made anew for each guest, which takes a moment: nothing has to be found out of date.
pub(super) fn build(artefacts: &Artefacts, packages: &Path, folder: &Path) -> Result<PathBuf, GuestError> {
    let tree = tree(folder)?;
    let runtime = tree.join("orlop-oci");
    fs::copy(&artefacts.programs.orlop_oci, &runtime).map_err(at("copy to", &runtime))?;
    image(packages, folder, &tree.join("image.tar"))?;
    let disk = folder.join("media.erofs");
    erofs(&tree, &disk)?;
    Ok(disk)
}

/// The same for a guest that systemd runs: Quadlet units and the probe they run instead of cases.
pub(super) fn of_systemd(
    artefacts: &Artefacts,
    units: &[(String, String)],
    folder: &Path,
) -> Result<PathBuf, GuestError> {
    let tree = tree(folder)?;
    artefacts.pack_probe(&[&artefacts.nothing()], &tree.join("layout"))?;
    let probe = tree.join("probe");
    fs::copy(&artefacts.programs.probe, &probe).map_err(at("copy to", &probe))?;
    let place = tree.join("units");
    fs::create_dir(&place).map_err(at("create", &place))?;
    for (name, text) in units {
        fs::write(place.join(name), text).map_err(at("write", place.join(name)))?;
    }
    let disk = folder.join("media.erofs");
    erofs(&tree, &disk)?;
    Ok(disk)
}

fn tree(folder: &Path) -> Result<PathBuf, GuestError> {
    let tree = folder.join("media");
    run(Command::new("cp").arg("-r").arg(sources()).arg(&tree))?;
    Ok(tree)
}

/// An archive that `podman load`, `ctr images import` and `docker load` all read: an OCI layout with the file
/// `manifest.json` of Docker's own form beside its index, as `docker save` writes it.
fn image(packages: &Path, folder: &Path, archive: &Path) -> Result<(), GuestError> {
    let rootfs = folder.join("busybox");
    let bin = rootfs.join("bin");
    for name in ["bin", "etc", "tmp", "root", "var"] {
        fs::create_dir_all(rootfs.join(name)).map_err(at("create", rootfs.join(name)))?;
    }
    let busybox = bin.join("busybox");
    fs::copy(packages.join("usr/bin/busybox"), &busybox).map_err(at("copy to", &busybox))?;
    let names = Command::new(&busybox).arg("--list").output().map_err(at("start", &busybox))?.stdout;
    for name in String::from_utf8_lossy(&names).lines().filter(|name| *name != "busybox") {
        symlink("busybox", bin.join(name)).map_err(at("link", bin.join(name)))?;
    }
    for (name, text) in [
        ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nguest:x:1000:1000:guest:/:/bin/sh\n"),
        ("etc/group", "root:x:0:\nguest:x:1000:\n"),
    ] {
        fs::write(rootfs.join(name), text).map_err(at("write", rootfs.join(name)))?;
    }
    let layout = folder.join("layout");
    let config = initramfs::PackConfig {
        cmd: vec!["sh".into()],
        env: vec!["PATH=/bin".into()],
        ..initramfs::PackConfig::default()
    };
    initramfs::pack(&rootfs, IMAGE, &config, &layout)?;
    docker_manifest(&layout)?;
    run(Command::new("tar").arg("-cf").arg(archive).arg("-C").arg(&layout).arg("."))
}

fn docker_manifest(layout: &Path) -> Result<(), GuestError> {
    let read = |path: PathBuf| -> Result<serde_json::Value, GuestError> {
        let text = fs::read(&path).map_err(at("read", &path))?;
        serde_json::from_slice(&text).map_err(|error| at("read", &path)(error.into()))
    };
    let blob = |descriptor: &serde_json::Value| {
        format!("blobs/{}", descriptor["digest"].as_str().unwrap_or_default().replace(':', "/"))
    };
    let index = read(layout.join("index.json"))?;
    let manifest = read(layout.join(blob(&index["manifests"][0])))?;
    let layers: Vec<String> = manifest["layers"].as_array().into_iter().flatten().map(blob).collect();
    let docker = serde_json::json!([{ "Config": blob(&manifest["config"]), "RepoTags": [IMAGE], "Layers": layers }]);
    let path = layout.join("manifest.json");
    fs::write(&path, docker.to_string()).map_err(at("write", &path))
}

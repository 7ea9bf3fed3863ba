//! What the machine's root and its initramfs hold.

use crate::Programs;
use crate::error::{Result, at};
use crate::kernel::Kernel;
use crate::modules::{self, Module};
use crate::pack::{PackConfig, pack};
use crate::tree::Tree;
use std::fs;
use std::path::Path;

const SYSCTL: &str = include_str!("../data/sysctl.conf");
const DEMO_UNIT: &str = include_str!("../data/demo.container");

/// The name the demo's unit asks for.
pub(crate) const DEMO_IMAGE: &str = "localhost/demo:latest";

/// Stage 1: PID 1, the modules a boot needs, and the two device nodes without which a static program with closed
/// standard descriptors may end before its first line.
pub(crate) fn initramfs(programs: &Programs, kernel: &Kernel, modules: &[Module]) -> Result<Tree> {
    let mut tree = Tree::default();
    tree.program("init", &programs.init);
    tree.character("dev/console", 0o600, 5, 1);
    tree.character("dev/null", 0o666, 1, 3);
    for mount_point in ["proc", "sys", "run", "sysroot"] {
        tree.folder(mount_point, 0o755);
    }
    // Algorithms are asked for by name (request_module) in stage 1 too.
    tree.link("sbin/modprobe", "../init");
    add_modules(&mut tree, kernel, modules)?;
    Ok(tree)
}

/// The sealed root.
pub(crate) fn root(programs: &Programs, seeds: &Path) -> Result<Tree> {
    let mut tree = Tree::default();
    tree.program("sbin/init", &programs.init);
    tree.link("sbin/modprobe", "init");
    tree.program("usr/bin/orlop", &programs.orlop);
    tree.program("usr/bin/orlop-oci", &programs.orlop_oci);
    for mount_point in ["dev", "proc", "sys", "run", "var", "mnt", "etc/containers.d"] {
        tree.folder(mount_point, 0o755);
    }
    tree.folder("tmp", 0o1777);

    tree.text("usr/lib/os-release", &os_release());
    tree.link("etc/os-release", "../usr/lib/os-release");
    tree.link("etc/machine-id", "/var/lib/orlop/machine-id");
    tree.link("etc/resolv.conf", "/run/orlop/resolv.conf");
    tree.text("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n");
    tree.text("etc/passwd", "root:x:0:0:root:/:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n");
    tree.text("etc/group", "root:x:0:\nnogroup:x:65534:\n");

    tree.text("usr/lib/orlop/sysctl.conf", SYSCTL);
    tree.text("usr/lib/containers.d/demo.container", DEMO_UNIT);
    tree.copy_folder("usr/lib/orlop/seeds", seeds)?;
    Ok(tree)
}

/// Modules with the two lists that stand in for depmod's.
pub(crate) fn add_modules(tree: &mut Tree, kernel: &Kernel, modules: &[Module]) -> Result<()> {
    let folder = format!("usr/lib/modules/{}", kernel.release);
    tree.link("lib", "usr/lib");
    tree.text(&format!("{folder}/modules.orlop"), &modules::orlop_text(modules));
    tree.text(&format!("{folder}/modules.alias"), &modules::alias_text(modules));
    for module in modules {
        for (name, bytes) in module.files(kernel)? {
            tree.bytes(&format!("{folder}/{name}"), bytes);
        }
    }
    Ok(())
}

/// Packs the demo as the OCI layout that the root ships, so that the first boot needs no network, and adds its layer unpacked: what
/// the sealed root holds needs no digest, and no boot has to unpack it (110 million instructions of the first one).
pub(crate) fn add_demo(root: &mut Tree, programs: &Programs, work: &Path) -> Result<()> {
    let (rootfs, layout) = (work.join("demo"), work.join("images"));
    let mut tree = Tree::default();
    fill_demo(&mut tree, "", programs);
    fs::create_dir_all(&rootfs).map_err(at("create", &rootfs))?;
    tree.write_folder(&rootfs)?;
    let config = PackConfig {
        entrypoint: vec!["/demo".to_owned()],
        user: Some("1000:1000".to_owned()),
        exposed_ports: vec!["8080/tcp".to_owned()],
        ..PackConfig::default()
    };
    let diff_id = pack(&rootfs, DEMO_IMAGE, &config, &layout)?;
    let layer = diff_id.trim_start_matches("sha256:");
    // Images may hold setuid programs: only root reaches them outside of a container (CVE-2021-41103).
    root.folder("usr/lib/orlop/layers", 0o700);
    fill_demo(root, &format!("usr/lib/orlop/layers/{layer}/"), programs);
    root.copy_folder("usr/lib/orlop/images", &layout)
}

fn fill_demo(tree: &mut Tree, below: &str, programs: &Programs) {
    tree.program(&format!("{below}demo"), &programs.demo);
    tree.text(&format!("{below}etc/passwd"), "root:x:0:0:root:/:/sbin/nologin\nweb:x:1000:1000:web:/:/sbin/nologin\n");
    tree.text(&format!("{below}etc/group"), "root:x:0:\nweb:x:1000:\n");
}

fn os_release() -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!("NAME=Orlop\nID=orlop\nPRETTY_NAME=\"Orlop {version}\"\nVERSION_ID={version}\nVERSION=\"{version}\"\n")
}

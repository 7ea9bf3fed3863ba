//! Real input: Debian's nginx, its image made by umoci, its unit written for Podman Quadlet. Nothing here is ours but the
//! machine.

use crate::support::{named, state};
use initramfs::requirements::{DPKG, Tool, ensure};
use qemu_tests::{Artefacts, Machine};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

const UMOCI: Tool = Tool { program: "umoci", package: "umoci" };

/// As Podman's manual has it (podman-systemd.unit(5)), for a container on the host's network.
const UNIT: &str = "\
[Unit]
Description=A web server
After=network-online.target

[Container]
Image=docker.io/library/nginx:latest
Exec=nginx -g 'daemon off;'
Network=host
Volume=web-logs:/var/log/nginx

[Service]
Restart=always
TimeoutStartSec=900

[Install]
WantedBy=multi-user.target default.target
";

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What the mirror has, whatever is installed here: an installed version may be one that the mirror no longer gives out.
fn apt(program: &str) -> Command {
    let mut apt = Command::new(program);
    apt.env("LC_ALL", "C").args(["-q", "-o", "Dir::State::status=/dev/null"]);
    apt
}

/// nginx, its libraries, and what has the users of a Debian system.
fn packages() -> BTreeSet<String> {
    let mut wanted: Vec<String> = ["nginx", "nginx-common", "base-passwd"].map(String::from).to_vec();
    let mut found = BTreeSet::new();
    while let Some(package) = wanted.pop() {
        if found.insert(package.clone()) {
            let depends = run(apt("apt-cache").args(["depends", "--important", &package]));
            let names = depends.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
            // Programs that only an installation needs stay out: this is an image, not a system.
            wanted.extend(names.filter(|name| name.starts_with("lib") || *name == "zlib1g").map(String::from));
        }
    }
    found
}

/// The folder of the downloaded packages, filled once: later runs need no network.
fn downloaded(out: &Path) -> PathBuf {
    let folder = out.join("nginx-packages");
    if !folder.exists() {
        let unfinished = tempfile::tempdir_in(out).unwrap();
        run(apt("apt-get").arg("download").args(packages()).current_dir(unfinished.path()));
        fs::rename(unfinished.keep(), &folder).unwrap();
    }
    folder
}

/// What unpacking and the packages' maintainer scripts would leave.
fn install(packages: &Path, rootfs: &Path) {
    // A Debian of today has links at the top, and packages may still carry the old folders: dpkg unpacks through them.
    for folder in ["bin", "lib", "lib64", "sbin"] {
        fs::create_dir_all(rootfs.join("usr").join(folder)).unwrap();
        symlink(Path::new("usr").join(folder), rootfs.join(folder)).unwrap();
    }
    for package in fs::read_dir(packages).unwrap().flatten() {
        let files = rootfs.join("..").join("files.tar");
        let tar = Command::new("dpkg-deb").arg("--fsys-tarfile").arg(package.path()).output().unwrap();
        assert!(tar.status.success(), "{package:?}: {}", String::from_utf8_lossy(&tar.stderr));
        fs::write(&files, tar.stdout).unwrap();
        run(Command::new("tar").args(["-x", "--keep-directory-symlink", "-f"]).arg(&files).arg("-C").arg(rootfs));
    }
    for (master, file) in [("passwd.master", "passwd"), ("group.master", "group")] {
        fs::copy(rootfs.join("usr/share/base-passwd").join(master), rootfs.join("etc").join(file)).unwrap();
    }
    let enabled = rootfs.join("etc/nginx/sites-enabled/default");
    if !enabled.exists() {
        symlink("../sites-available/default", enabled).unwrap();
    }
    for folder in ["var/www/html", "run", "tmp"] {
        fs::create_dir_all(rootfs.join(folder)).unwrap();
    }
    let page = rootfs.join("usr/share/nginx/html/index.html");
    fs::copy(page, rootfs.join("var/www/html/index.nginx-debian.html")).unwrap();
}

fn umoci_image(rootfs: &Path, layout: &Path) {
    let umoci = || Command::new("umoci");
    let image = format!("{}:latest", layout.display());
    run(umoci().arg("init").arg("--layout").arg(layout));
    run(umoci().args(["new", "--image", &image]));
    run(umoci().args(["insert", "--rootless", "--image", &image]).arg(rootfs).arg("/"));
    let environment = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
    run(umoci().args(["config", "--image", &image, "--config.cmd", "nginx"]).args([
        "--config.env",
        environment,
        "--config.stopsignal",
        "SIGQUIT",
    ]));
}

#[test]
fn nginx_from_debian_answers() {
    let artefacts = Artefacts::shared();
    ensure(&[UMOCI, DPKG], &mut |line| eprintln!("{line}")).unwrap();
    let folder = tempfile::tempdir_in(&artefacts.out).unwrap();
    let (tree, layout) = (folder.path().join("rootfs"), folder.path().join("layout"));
    fs::create_dir(&tree).unwrap();
    install(&downloaded(&artefacts.out), &tree);
    umoci_image(&tree, &layout);

    let machine =
        Machine::builder(artefacts, "nginx").image(&layout).unit("nginx.container", UNIT).forward(80).start().unwrap();
    let units = machine.settled().unwrap();
    let nginx = named(&units, "nginx");
    assert_eq!(state(nginx), "active", "{nginx:#}\n{:#?}", machine.log("nginx"));
    let page = machine.http(80, "/").unwrap();
    assert!(page.text().contains("Welcome to nginx!"), "{}", page.text());
    assert!(page.header("Server").unwrap_or_default().starts_with("nginx/"), "{:?}", page.headers);
    // It ends as its image asks to be ended, well before anything is killed.
    let stopped = machine.post("/v1/units/nginx/stop").unwrap();
    assert_eq!((state(&stopped), stopped["exit_code"].as_i64()), ("inactive", Some(0)), "{stopped:#}");
}

//! The images: Debian's packages, put together by buildah as a person would without a Dockerfile. One base, three applications on it.

use crate::{Result, run, said};
use initramfs::requirements::{Tool, ensure};
use qemu_tests::Artefacts;
use std::ffi::OsStr;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::{chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

const BUILDAH: Tool = Tool { program: "buildah", package: "buildah" };
const SUITE: &str = "bookworm";
const PACKAGES: [&str; 9] = [
    "base-passwd",
    "busybox-static",
    "coreutils",
    "dash",
    "grep",
    "nginx",
    "postgresql-15",
    "redis-server",
    "redis-tools",
];
/// Three quarters of the bytes, and nothing here runs them.
const LEFT_OUT: [&str; 7] = [
    "usr/lib/x86_64-linux-gnu/libLLVM-14.so.1",
    "usr/lib/llvm-14",
    "usr/lib/postgresql/15/lib/bitcode",
    "usr/lib/postgresql/15/lib/llvmjit.so",
    "usr/lib/x86_64-linux-gnu/perl",
    "usr/share/perl",
    "usr/share/icu",
];
/// What maintainer scripts would have made, with its owner.
const POSTGRES: u32 = 101;
const REDIS: u32 = 102;
const FOLDERS: [(&str, u32); 12] = [
    ("dev", 0),
    ("proc", 0),
    ("sys", 0),
    ("run", 0),
    ("tmp", 0),
    ("dumps", 0),
    ("srv/dumps", 0),
    ("data", REDIS),
    ("var/lib/postgresql/data", POSTGRES),
    ("var/lib/nginx", 0),
    ("var/log/nginx", 0),
    ("var/tmp", 0),
];
/// What each application adds to the base, as `buildah config` has it.
const APPLICATIONS: [(&str, &[&str]); 3] = [
    (
        "postgres",
        &[
            "--user=postgres",
            "--env=PGDATA=/var/lib/postgresql/data/15",
            "--entrypoint=[\"/usr/local/bin/start-postgres\"]",
            "--stop-signal=SIGINT",
        ],
    ),
    (
        "redis",
        &["--user=redis", "--cmd=redis-server --dir /data --appendonly yes --appendfsync always --protected-mode no"],
    ),
    ("nginx", &["--cmd=nginx -g 'daemon off; error_log /dev/stderr;'", "--stop-signal=SIGQUIT"]),
];

struct Buildah {
    work: PathBuf,
}

impl Buildah {
    fn call(&self, words: &[&OsStr]) -> Result<String> {
        let mut command = Command::new("buildah");
        // A store of its own, which needs nothing of the kernel.
        command.arg("--root").arg(self.work.join("root")).arg("--runroot").arg(self.work.join("run"));
        command.args(["--storage-driver", "vfs"]).args(words);
        said(&mut command)
    }

    fn words(&self, words: &[&str]) -> Result<String> {
        self.call(&words.iter().map(OsStr::new).collect::<Vec<_>>())
    }

    fn trusting(&self, verb: &str, words: &[&str]) -> Result<String> {
        let policy = self.work.join("policy.json");
        let mut all = vec![OsStr::new(verb), OsStr::new("--signature-policy"), policy.as_os_str()];
        all.extend(words.iter().map(OsStr::new));
        self.call(&all)
    }
}

/// The folder of the shop's sources.
pub(crate) fn sources() -> PathBuf {
    initramfs::workspace().join("qemu-tests/shop")
}

/// An OCI layout of all three, made once.
pub(crate) fn build(artefacts: &Artefacts, progress: &mut dyn FnMut(&str)) -> Result<PathBuf> {
    ensure(&[BUILDAH], progress)?;
    let packages = initramfs::tree_of_packages(&artefacts.out, SUITE, &PACKAGES, progress)?;
    let mut key = DefaultHasher::new();
    (&packages, include_str!("images.rs")).hash(&mut key);
    for file in ["start-postgres", "dump", "nginx.conf"] {
        fs::read(sources().join("files").join(file))?.hash(&mut key);
    }
    let layout = artefacts.out.join(format!("shop-{:016x}", key.finish()));
    if layout.exists() {
        return Ok(layout);
    }
    progress("pack postgres, redis and nginx (buildah)");
    let work = tempfile::tempdir_in(&artefacts.out)?;
    let buildah = Buildah { work: work.path().to_owned() };
    fs::write(work.path().join("policy.json"), r#"{"default":[{"type":"insecureAcceptAnything"}]}"#)?;
    let tree = work.path().join("tree");
    run(Command::new("cp").arg("-al").arg(&packages).arg(&tree))?;
    for name in LEFT_OUT {
        run(Command::new("rm").arg("-rf").arg(tree.join(name)))?;
    }
    let base = buildah.words(&["from", "scratch"])?;
    let root = PathBuf::from(buildah.words(&["mount", &base])?);
    run(Command::new("cp").arg("-a").arg(tree.join(".")).arg(&root))?;
    complete(&root)?;
    buildah.words(&["umount", &base])?;
    let path = "--env=PATH=/usr/local/bin:/usr/lib/postgresql/15/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    buildah.words(&["config", path, &base])?;
    buildah.trusting("commit", &["--quiet", "--rm", &base, "base"])?;
    let unfinished = work.path().join("layout");
    for (name, settings) in APPLICATIONS {
        let container = buildah.trusting("from", &["localhost/base"])?;
        let mut words = vec!["config"];
        words.extend(settings);
        words.push(&container);
        buildah.words(&words)?;
        buildah.trusting("commit", &["--quiet", "--rm", &container, name])?;
        let place = format!("oci:{}:localhost/{name}:latest", unfinished.display());
        buildah.trusting("push", &["--quiet", &format!("localhost/{name}"), &place])?;
    }
    fs::rename(unfinished, &layout)?;
    Ok(layout)
}

fn complete(root: &Path) -> Result<()> {
    for (name, owner) in FOLDERS {
        let folder = root.join(name);
        fs::create_dir_all(&folder)?;
        chown(&folder, Some(owner), Some(owner))?;
    }
    run(Command::new("chmod").arg("1777").arg(root.join("tmp")).arg(root.join("var/tmp")))?;
    run(Command::new("chmod").arg("700").arg(root.join("var/lib/postgresql/data")))?;
    for file in ["passwd", "group"] {
        let master = root.join("usr/share/base-passwd").join(format!("{file}.master"));
        let mut text = fs::read_to_string(master)?;
        for (name, id) in [("postgres", POSTGRES), ("redis", REDIS)] {
            text += &match file {
                "passwd" => format!("{name}:x:{id}:{id}::/:/bin/sh\n"),
                _ => format!("{name}:x:{id}:\n"),
            };
        }
        fs::write(root.join("etc").join(file), text)?;
    }
    if !root.join("usr/bin/sh").exists() {
        symlink("dash", root.join("usr/bin/sh"))?;
    }
    let files = sources().join("files");
    fs::create_dir_all(root.join("usr/local/bin"))?;
    for name in ["start-postgres", "dump"] {
        fs::copy(files.join(name), root.join("usr/local/bin").join(name))?;
    }
    fs::create_dir_all(root.join("etc/nginx/sites-enabled"))?;
    fs::copy(files.join("nginx.conf"), root.join("etc/nginx/sites-enabled/default"))?;
    Ok(())
}

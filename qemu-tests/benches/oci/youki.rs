//! youki, built once from what is published for cargo, against Debian's libseccomp of the same packages as its peers. Without
//! device rules, which would build a C library of their own: it has a little less to do than the others.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::super::Result;

const VERSION: &str = "0.7.0";

pub(super) fn build(out: &Path, packages: &Path) -> Result<PathBuf> {
    let folder = out.join(format!("youki-{VERSION}"));
    let program = folder.join("bin/youki");
    if program.exists() {
        return Ok(program);
    }
    eprintln!("build youki {VERSION} (once; some minutes)");
    // A name the linker looks for; the package of that name holds headers and is not needed.
    let libraries = folder.join("link");
    std::fs::create_dir_all(&libraries)?;
    let link = libraries.join("libseccomp.so");
    let _ = std::fs::remove_file(&link);
    let library = packages.join(format!("usr/lib/{}-linux-gnu/libseccomp.so.2", std::env::consts::ARCH));
    std::os::unix::fs::symlink(library.canonicalize()?, link)?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["install", "youki", "--locked", "--version", VERSION, "--no-default-features"]);
    cargo.args(["--features", "v2,seccomp", "--root"]).arg(&folder);
    cargo.env("CARGO_TARGET_DIR", folder.join("target")).env("LIBSECCOMP_LIB_PATH", &libraries);
    // The library may want a newer C library than this machine's; in the measuring machine it has it.
    cargo.env("RUSTFLAGS", "-Clink-arg=-Wl,--allow-shlib-undefined");
    let built = cargo.output()?;
    if !built.status.success() {
        let said = String::from_utf8_lossy(&built.stderr);
        let tail: Vec<&str> = said.lines().rev().take(10).collect();
        return Err(format!("cargo install youki: {}", tail.into_iter().rev().collect::<Vec<_>>().join("\n")).into());
    }
    std::fs::remove_dir_all(folder.join("target"))?;
    Ok(program)
}

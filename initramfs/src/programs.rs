//! Builds the static programs of the machine by calling cargo, for whoever runs an image: `cargo boot`, the tests.
//!
//! Cargo decides what is up to date; with nothing changed both calls take some 0.1 s each. The nested cargo must not
//! see what an outer `cargo run` or `cargo test` exports about *its* package, or it would rebuild and answer wrongly.

use crate::command::{self, tool};
use crate::error::{Error, Result, at};
use serde::Deserialize;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where the static programs lie after a build.
#[derive(Debug, Clone)]
pub struct Programs {
    pub init: PathBuf,
    pub orlop: PathBuf,
    pub orlop_oci: PathBuf,
    /// The web page of the demo container.
    pub demo: PathBuf,
    /// What tests run inside containers; never part of a shipped image.
    pub probe: PathBuf,
}

/// The workspace this library was built from.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/")).to_path_buf()
}

/// Where `cargo boot` and the tests keep kernel, images and caches.
pub fn out() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(target) => workspace().join(target).join("orlop"),
        None => workspace().join("target/orlop"),
    }
}

/// The target triple of everything that runs in the machine: this host's architecture, linked statically.
pub fn triple() -> String {
    format!("{}-unknown-linux-musl", std::env::consts::ARCH)
}

/// The runtime lives for milliseconds, a few times for each container, and reads nothing from a network: it is spared being moved to
/// a random address, which is a twentieth of a short command. And what it is measured against is, too.
const FIXED: [&str; 2] = [
    "rustc -p oci --bin orlop-oci -- -C relocation-model=static",
    "rustc -p probe --bin floor -- -C relocation-model=static",
];

/// Builds all programs of the machine in their release profiles.
pub fn programs(progress: &mut dyn FnMut(&str)) -> Result<Programs> {
    ensure_target(progress)?;
    let init = build("init", "build -p init --bins", progress)?;
    let mut guest = build("guest", "build -p supervisor -p demo -p probe --bins", progress)?;
    for program in FIXED {
        guest.extend(build("guest", program, progress)?);
    }
    let find = |built: &[PathBuf], name: &str| {
        built
            .iter()
            .find(|file| file.file_name().is_some_and(|found| found == name))
            .cloned()
            .ok_or_else(|| Error::NotBuilt { program: "cargo build", wanted: format!("program named {name}") })
    };
    Ok(Programs {
        init: find(&init, "init")?,
        orlop: find(&guest, "orlop")?,
        orlop_oci: find(&guest, "orlop-oci")?,
        demo: find(&guest, "demo")?,
        probe: find(&guest, "probe")?,
    })
}

/// Has rustup fetch the musl target when it is missing. `rust-toolchain.toml` names it, but with
/// RUSTUP_AUTO_INSTALL=0 rustup leaves that to us.
fn ensure_target(progress: &mut dyn FnMut(&str)) -> Result<()> {
    let triple = triple();
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut query = Command::new(rustc);
    query.args(["--print", "target-libdir", "--target", &triple]).current_dir(workspace());
    let folder = String::from_utf8_lossy(&command::output(&mut query)?).trim().to_owned();
    let has_std = std::fs::read_dir(&folder).is_ok_and(|mut entries| {
        entries.any(|entry| entry.is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("libstd-")))
    });
    if has_std {
        return Ok(());
    }
    if command::find("rustup").is_none() {
        return Err(Error::Requirements {
            what: format!("Rust's standard library for {triple} is"),
            command: format!("rustup target add {triple}   (or your distribution's package of it)"),
        });
    }
    progress(&format!("fetch Rust's standard library for {triple} (rustup target add)"));
    command::output(tool("rustup").args(["target", "add", &triple]).current_dir(workspace())).map(drop)
}

/// What we read of cargo's JSON messages (cargo's reference, "JSON messages").
#[derive(Deserialize)]
struct Message {
    reason: String,
    executable: Option<PathBuf>,
}

/// One cargo call, its subcommand first; returns the executables it made or found up to date.
fn build(profile: &str, words: &str, progress: &mut dyn FnMut(&str)) -> Result<Vec<PathBuf>> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(words.split(' ').take(1))
        .args(["--message-format=json-render-diagnostics", "--profile", profile])
        .args(["--target", &triple(), "--config", &without_our_paths()])
        .args(words.split(' ').skip(1))
        .current_dir(workspace());
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(set_by_cargo) {
            cargo.env_remove(name);
        }
    }
    let program = "cargo".to_owned();
    let mut child = cargo
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| Error::Start { program, source })?;

    // Both pipes are drained at once, or cargo would wait for a reader.
    let stdout = child.stdout.take();
    let messages = std::thread::spawn(move || {
        let mut text = Vec::new();
        stdout.map_or(Ok(0), |mut pipe| pipe.read_to_end(&mut text)).map(|_| text)
    });
    let mut said = String::new();
    for line in child.stderr.take().map(BufReader::new).into_iter().flat_map(BufReader::split_lines) {
        // "Finished" comes at every call and tells nothing.
        if ["Compiling ", "Downloading ", "Downloaded ", "Blocking "].iter().any(|word| line.trim().starts_with(word)) {
            progress(line.trim());
        }
        said.push_str(&line);
        said.push('\n');
    }
    let status = child.wait().map_err(at("wait for", "cargo"))?;
    if !status.success() {
        return Err(Error::Failed { command: command::line(&cargo), status, output: said });
    }
    let messages = messages.join().unwrap_or_else(|_| Ok(Vec::new())).map_err(at("read the messages of", "cargo"))?;
    Ok(executables(&messages))
}

/// Two people's builds of the same sources are the same bytes, and no folder of theirs is shipped in a panic's place.
fn without_our_paths() -> String {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(std::env::home_dir()?.join(".cargo")));
    let flag = |path: PathBuf, name: &str| format!("{:?}", format!("--remap-path-prefix={}={name}", path.display()));
    let flags: Vec<String> =
        home.map(|home| flag(home, "/cargo")).into_iter().chain([flag(workspace(), "/orlop")]).collect();
    format!("target.{}.rustflags=[{}]", triple(), flags.join(","))
}

fn executables(messages: &[u8]) -> Vec<PathBuf> {
    messages
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Message>(line).ok())
        .filter(|message| message.reason == "compiler-artifact")
        .filter_map(|message| message.executable)
        .collect()
}

/// Lines of a pipe, whatever their encoding.
trait SplitLines {
    fn split_lines(self) -> impl Iterator<Item = String>;
}

impl<R: std::io::Read> SplitLines for BufReader<R> {
    fn split_lines(self) -> impl Iterator<Item = String> {
        self.split(b'\n').map_while(std::io::Result::ok).map(|line| String::from_utf8_lossy(&line).into_owned())
    }
}

/// Whether cargo set this variable for the package it runs ("Environment variables cargo sets for crates"), in
/// contrast to the user's configuration (CARGO_HOME, CARGO_TARGET_DIR, CARGO_NET_OFFLINE, CARGO_BUILD_JOBS …).
fn set_by_cargo(name: &str) -> bool {
    const NAMES: [&str; 8] = [
        "CARGO",
        "CARGO_MANIFEST_DIR",
        "CARGO_MANIFEST_PATH",
        "CARGO_MANIFEST_LINKS",
        "CARGO_CRATE_NAME",
        "CARGO_BIN_NAME",
        "CARGO_PRIMARY_PACKAGE",
        "CARGO_TARGET_TMPDIR",
    ];
    const PREFIXES: [&str; 4] = ["CARGO_PKG_", "CARGO_BIN_EXE_", "CARGO_CFG_", "CARGO_FEATURE_"];
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix)) || name == "CARGO_MAKEFLAGS"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_cargo_configuration_stays_and_the_outer_packages_goes() {
        for gone in ["CARGO", "CARGO_PKG_NAME", "CARGO_MANIFEST_DIR", "CARGO_BIN_EXE_orlop-image"] {
            assert!(set_by_cargo(gone), "{gone}");
        }
        for kept in ["CARGO_HOME", "CARGO_TARGET_DIR", "CARGO_NET_OFFLINE", "RUSTFLAGS", "CARGO_BUILD_JOBS"] {
            assert!(!set_by_cargo(kept), "{kept}");
        }
    }

    #[test]
    fn executables_are_read_from_cargos_messages() {
        let messages = b"{\"reason\":\"compiler-artifact\",\"executable\":\"/t/init\"}\n\
            {\"reason\":\"compiler-artifact\",\"executable\":null}\n\
            not json\n{\"reason\":\"build-finished\",\"success\":true}\n";
        assert_eq!(executables(messages), [PathBuf::from("/t/init")]);
    }
}

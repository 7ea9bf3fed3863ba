//! A host that keeps its controllers in the hierarchies of version 1, as some still do, cannot limit memory or processes of our
//! containers, and the runtime rightly refuses. There this stands in front of the runtime and takes the limits out of the bundle.

use std::{
    env, fs,
    os::{
        fd::{FromRawFd, OwnedFd},
        unix::{fs::PermissionsExt, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::Command,
};

const ARGUMENTS: &str = "ORLOP_TEST_SHIM_ARGUMENTS";
const RUNTIME: &str = "ORLOP_TEST_SHIM_RUNTIME";
/// The container's stdout, while the test program says its own things on ours.
const STDOUT: i32 = 9;

/// Writes the program that stands in front: a script that executes this test program for `shim::shim` alone.
pub(crate) fn install(folder: &Path, runtime: &Path) -> PathBuf {
    let path = folder.join("runtime");
    let script = format!(
        "#!/bin/sh\nfor a in \"$@\"; do all=\"$all$a\n\"; done\n\
         {ARGUMENTS}=\"$all\" {RUNTIME}={} exec {} --exact shim::shim --nocapture {STDOUT}>&1 >/dev/null\n",
        runtime.display(),
        env::current_exe().unwrap().display(),
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Not a test of anything: what the script executes. Passes at once in every other life.
#[test]
fn shim() {
    let Ok(arguments) = env::var(ARGUMENTS) else { return };
    let arguments: Vec<&str> = arguments.lines().collect();
    if let Some(at) = arguments.iter().position(|argument| *argument == "--bundle") {
        let path = Path::new(arguments[at + 1]).join("config.json");
        let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        config["linux"].as_object_mut().unwrap().remove("resources");
        fs::write(&path, config.to_string()).unwrap();
    }
    nix::unistd::dup2_stdout(adopt(STDOUT)).unwrap();
    let error =
        Command::new(env::var_os(RUNTIME).unwrap()).args(arguments).env_remove(ARGUMENTS).env_remove(RUNTIME).exec();
    panic!("execute the runtime: {error}");
}

#[allow(unsafe_code)]
fn adopt(number: i32) -> OwnedFd {
    // SAFETY: the script opened this number for us, and nobody else in this process knows it.
    unsafe { OwnedFd::from_raw_fd(number) }
}

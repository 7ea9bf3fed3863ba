//! What must be true of the repository and of what it ships, machine or not.
#![allow(clippy::unwrap_used, reason = "a test ends with the sentence of the error and its place")]

use goblin::elf::Elf;
use qemu_tests::Artefacts;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

// 128 KiB above the first plan. Of init's 470 KiB of code 178 are std's backtrace symboliser (gimli, addr2line, miniz_oxide,
// rustc_demangle): the panic path of the precompiled std reaches it whatever hook is set, and only a std of one's own
// building, which a stable compiler does not make, leaves it out. 48 are the unwinder, which containing a panic needs, with
// 70 KiB of tables. What could be turned without that is too little: no inlining at all saves 24 KiB, fixed addresses 1.
const INIT_BYTES: u64 = 640 * KIB;
const PROGRAMS_BYTES: u64 = 8 * MIB;
const ROOT_WITHOUT_MODULES_BYTES: u64 = 6 * MIB;
const SOURCE_LINES: usize = 500;

fn cargo(args: &[&str]) {
    let mut command = Command::new(env!("CARGO"));
    // An outer cargo's variables about this package would make the inner one build everything anew.
    let outer = |name: &std::ffi::OsString| name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| outer(name)) {
        command.env_remove(name);
    }
    let output = command.args(args).current_dir(initramfs::workspace()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {}:\n{said}", args.join(" "));
}

/// Files under version control, or all of them in an exported tree.
fn files() -> Vec<PathBuf> {
    let root = initramfs::workspace();
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(&root).output();
    match listed {
        Ok(output) if output.status.success() => output
            .stdout
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty())
            .map(|name| root.join(String::from_utf8_lossy(name).as_ref()))
            .filter(|file| file.is_file())
            .collect(),
        _ => walk(&root, &|path| path != root.join("target")),
    }
}

fn walk(folder: &Path, wanted: &dyn Fn(&Path) -> bool) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten().filter(|entry| wanted(&entry.path())) {
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => files.extend(walk(&entry.path(), wanted)),
            kind if kind.is_file() => files.push(entry.path()),
            _ => {}
        }
    }
    files
}

#[test]
fn sources_are_formatted() {
    cargo(&["fmt", "--all", "--check"]);
}

#[test]
fn sources_have_no_warning() {
    cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]);
}

#[test]
fn no_source_file_is_too_long() {
    let long: Vec<String> = files()
        .into_iter()
        .filter(|file| file.extension().is_some_and(|extension| extension == "rs"))
        .map(|file| (fs::read_to_string(&file).unwrap().lines().count(), file))
        .filter(|(lines, _)| *lines > SOURCE_LINES)
        .map(|(lines, file)| format!("{} has {lines} lines", file.display()))
        .collect();
    assert!(long.is_empty(), "over {SOURCE_LINES}: {long:#?}");
}

#[test]
fn the_supervisor_reaches_containers_by_the_runtime_alone() {
    let runtime = initramfs::workspace().join("supervisor/src/daemon/runtime.rs");
    let own = ["setns", "unshare(", "CLONE_NEW", "clone3", "pivot_root", "cgroup.freeze", "/orlop-oci\""];
    // Where nothing of a container runs: mounts are put together aside, a pod's namespaces hold no process, a card is
    // set up from within its namespace, a test fills a file system of its own.
    let places = [
        "daemon/bundle/apart.rs",
        "daemon/sys/idmap.rs",
        "daemon/pods.rs",
        "net/bridge/namespace.rs",
        "daemon/logs/intake.rs",
    ];
    let second: Vec<String> = files()
        .into_iter()
        .filter(|file| file.starts_with(initramfs::workspace().join("supervisor/src")) && *file != runtime)
        .filter(|file| !file.components().any(|part| part.as_os_str() == "tests"))
        .filter(|file| !places.iter().any(|place| file.ends_with(place)))
        .filter_map(|file| {
            let text = fs::read_to_string(&file).ok()?;
            own.iter().find(|word| text.contains(**word)).map(|word| format!("{}: {word}", file.display()))
        })
        .collect();
    assert!(second.is_empty(), "another way to a container than {}: {second:#?}", runtime.display());
}

#[test]
fn the_readme_names_both_commands() {
    let readme = fs::read_to_string(initramfs::workspace().join("README.md")).unwrap();
    for command in ["cargo boot", "cargo test"] {
        assert!(readme.contains(command), "README.md does not name `{command}`");
    }
}

#[test]
fn sizes_are_within_their_budgets() {
    let artefacts = Artefacts::shared();
    let bytes = |path: &Path| fs::metadata(path).unwrap().len();
    let programs = &artefacts.programs;
    let init = bytes(&programs.init);
    assert!(init <= INIT_BYTES, "init: {init} bytes");
    let all = init + bytes(&programs.orlop) + bytes(&programs.orlop_oci);
    assert!(all <= PROGRAMS_BYTES, "init, orlop and orlop-oci: {all} bytes");
    let root = artefacts.image.sizes.root_without_modules;
    assert!((1..=ROOT_WITHOUT_MODULES_BYTES).contains(&root), "the root without modules: {root} bytes");
}

/// Neither an interpreter nor a library to load at run time.
fn assert_static(file: &Path) {
    let bytes = fs::read(file).unwrap();
    let elf = Elf::parse(&bytes).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    assert!(elf.interpreter.is_none(), "{} wants {:?}", file.display(), elf.interpreter);
    assert!(elf.libraries.is_empty(), "{} needs {:?}", file.display(), elf.libraries);
}

#[test]
fn nothing_shipped_is_linked_dynamically() {
    let artefacts = Artefacts::shared();
    let programs = &artefacts.programs;
    for program in [&programs.init, &programs.orlop, &programs.orlop_oci, &programs.demo, &programs.probe] {
        assert_static(program);
    }
    let folder = tempfile::tempdir_in(&artefacts.out).unwrap();
    let tree = folder.path().join("root");
    let mut extract = std::ffi::OsString::from("--extract=");
    extract.push(&tree);
    let output = Command::new("fsck.erofs").arg(extract).arg(&artefacts.image.root).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let is_program = |file: &PathBuf| {
        let is_elf = fs::read(file).is_ok_and(|bytes| bytes.starts_with(b"\x7fELF"));
        // A module is an object file for the kernel's own linker.
        is_elf && file.extension().is_none_or(|extension| extension != "ko")
    };
    let shipped: Vec<PathBuf> = walk(&tree, &|_| true).into_iter().filter(is_program).collect();
    assert!(shipped.len() >= 3, "the root holds only {shipped:?}");
    shipped.iter().for_each(|file| assert_static(file));
}

//! A machine in which container runtimes are measured, all with the same bundles: it counts instructions, its initramfs holds `stand`
//! as PID 1 (see qemu-tests/probe), the programs and the bundles, and nothing of Orlop's system.

mod profile;

use std::io;
use std::path::Path;
use std::time::Duration;

use initramfs::Entry;
use serde_json::{Value, json};

use crate::artefacts::Artefacts;
use crate::machine::{Machine, MachineError};

/// The machine's content, and who is measured in it.
pub struct Stand {
    entries: Vec<(String, Entry)>,
    subjects: String,
}

impl Stand {
    pub fn new(artefacts: &Artefacts) -> Stand {
        let guest = |name: &str| Entry::Program(artefacts.programs.probe.with_file_name(name));
        let mut entries = vec![
            ("init".to_owned(), guest("stand")),
            ("bundle/rootfs/bin/true".to_owned(), guest("nothing")),
            ("lib".to_owned(), Entry::Link("usr/lib".to_owned())),
            ("lib64".to_owned(), Entry::Link(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH))),
        ];
        for folder in ["proc", "dev", "sys"] {
            entries.push((format!("bundle/rootfs/{folder}"), Entry::Folder));
        }
        for case in ["run", "run_seccomp", "cycle", "cycle_seccomp"] {
            entries.push((format!("bundle/{case}/config.json"), Entry::Text(bundle(case).to_string())));
        }
        Stand { entries, subjects: String::new() }
    }

    /// One to be measured.
    pub fn program(&mut self, name: &str, file: &Path, rounds: u32) {
        self.entries.push((format!("usr/bin/{name}"), Entry::Program(file.to_owned())));
        self.subjects += &format!("{name} /usr/bin/{name} {rounds}\n");
    }

    /// The shared libraries of unpacked packages, without what only locales need.
    pub fn libraries(&mut self, packages: &Path) -> io::Result<()> {
        let below = format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH);
        for entry in std::fs::read_dir(packages.join(&below))?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            // Links are followed: each name is a file of its own.
            if name.contains(".so") && entry.path().is_file() {
                self.entries.push((format!("{below}/{name}"), Entry::Program(entry.path())));
            }
        }
        Ok(())
    }

    /// Boots it, and gives what it printed: `VERSION name words…`, `RESULT name case unit value…`, `FAILED name: why`.
    pub fn run(mut self, artefacts: &Artefacts, name: &str, limit: Duration) -> Result<String, MachineError> {
        self.entries.push(("subjects".to_owned(), Entry::Text(self.subjects.clone())));
        let initramfs = artefacts.out.join(format!("{name}.img"));
        initramfs::archive(&initramfs, &self.entries)?;
        let machine = Machine::builder(artefacts, name).counting_instructions().memory_mib(768);
        let machine = machine.initramfs(&initramfs).start()?;
        machine.console().wait("STAND END", limit)?;
        Ok(machine.console().text())
    }
}

/// The bundle of a case: what `orlop-oci spec` writes, with the benchmark's program and cgroup, without a terminal and device rules.
fn bundle(case: &str) -> Value {
    let mut config: Value =
        serde_json::from_str(include_str!("../../../oci/src/runtime/ops/spec.json")).unwrap_or_default();
    config["process"]["terminal"] = false.into();
    config["linux"]["resources"] = Value::Null;
    config["root"]["path"] = "/bundle/rootfs".into();
    config["linux"]["cgroupsPath"] = "/bench/x".into();
    config["process"]["args"] = match case {
        "cycle" | "cycle_seccomp" => json!(["/bin/true", "wait"]),
        _ => json!(["/bin/true"]),
    };
    if case.ends_with("_seccomp") {
        config["linux"]["seccomp"] = profile::default();
    }
    config
}

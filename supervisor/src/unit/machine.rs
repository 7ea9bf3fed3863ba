//! What the specifiers of a machine stand for. The daemon asks the machine; a laptop's `orlop lint` asks nobody.

use std::{collections::BTreeMap, fs};

#[derive(Debug, Clone)]
pub(super) struct Machine {
    /// `%m`, `%b`: 32 hexadecimal digits.
    machine_id: String,
    boot_id: String,
    hostname: String,
    /// `uname -r`
    kernel: String,
    /// Of os-release(5).
    os: BTreeMap<String, String>,
}

impl Machine {
    /// Some machine, so that places and forms can be checked where the unit will not run.
    pub(super) fn any() -> Self {
        let id = "0".repeat(32);
        let os =
            [("ID", "orlop"), ("VERSION_ID", "0"), ("IMAGE_ID", "orlop"), ("IMAGE_VERSION", "0"), ("BUILD_ID", "0")];
        let os = os.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        Self { machine_id: id.clone(), boot_id: id, hostname: "machine".into(), kernel: "6.12".into(), os }
    }

    pub(super) fn here() -> Self {
        let read = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
        let mut os = BTreeMap::new();
        for line in read("/etc/os-release").lines() {
            if let Some((key, value)) = line.split_once('=') {
                os.insert(key.to_owned(), value.trim_matches(['"', '\'']).to_owned());
            }
        }
        Self {
            machine_id: read("/etc/machine-id"),
            boot_id: read("/proc/sys/kernel/random/boot_id").replace('-', ""),
            hostname: read("/proc/sys/kernel/hostname"),
            kernel: read("/proc/sys/kernel/osrelease"),
            os,
        }
    }

    /// The machine's specifiers of systemd.unit(5).
    pub(super) fn specifier(&self, letter: char) -> Option<String> {
        let os = |key: &str| self.os.get(key).cloned().unwrap_or_default();
        Some(match letter {
            'm' => self.machine_id.clone(),
            'b' => self.boot_id.clone(),
            'H' | 'q' => self.hostname.clone(),
            'l' => self.hostname.split('.').next().unwrap_or_default().to_owned(),
            'v' => self.kernel.clone(),
            // systemd's word for it.
            'a' => std::env::consts::ARCH.replace("x86_64", "x86-64").replace("aarch64", "arm64"),
            'A' => os("IMAGE_VERSION"),
            'B' => os("BUILD_ID"),
            'M' => os("IMAGE_ID"),
            'o' => os("ID"),
            'w' => os("VERSION_ID"),
            'W' => os("VARIANT_ID"),
            _ => return None,
        })
    }
}

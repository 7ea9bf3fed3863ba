//! Which accelerator runs guests on this host.
//!
//! `/dev/kvm` can exist, open and even create a VM, and the guest still hangs. So the answer comes from running a
//! guest: the very kernel that is to be booted, without anything else, has to get as far as missing its root file
//! system, which takes a working KVM less than a second. Remembered below `target/orlop` for this boot of the host.

use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use crate::process;

/// How long the probing guest may take to its panic.
const PROBE_LIMIT: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accel {
    Kvm,
    Tcg,
}

#[derive(Debug, thiserror::Error)]
#[error("ORLOP_ACCEL={0}: write kvm or tcg")]
pub struct UnknownAccel(String);

impl Accel {
    /// QEMU's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        [Self::Kvm, Self::Tcg].into_iter().find(|accel| accel.name() == word)
    }

    /// What `ORLOP_ACCEL` says, or else what was found out earlier, or else what running a guest shows.
    pub fn choose(out: &Path, kernel: &Path, progress: &mut dyn FnMut(&str)) -> Result<Self, UnknownAccel> {
        if let Ok(word) = std::env::var("ORLOP_ACCEL") {
            return Self::parse(&word).ok_or(UnknownAccel(word));
        }
        if !Path::new("/dev/kvm").exists() {
            return Ok(Self::Tcg);
        }
        // The host's boot is part of the answer: a folder may move to another host, and a host to another kernel.
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let memory = out.join("accel");
        let remembered = fs::read_to_string(&memory).unwrap_or_default();
        if let Some(accel) = remembered.strip_prefix(boot.trim()).and_then(|word| Self::parse(word.trim())) {
            return Ok(accel);
        }
        progress("probe KVM by running a guest");
        let accel = if kvm_runs(kernel) { Self::Kvm } else { Self::Tcg };
        // Not remembered is only asked again.
        let _ = fs::write(memory, format!("{} {}\n", boot.trim(), accel.name()));
        Ok(accel)
    }
}

fn kvm_runs(kernel: &Path) -> bool {
    let mut command = Command::new("qemu-system-x86_64");
    command
        .args(["-nodefaults", "-no-user-config", "-machine", "pc", "-accel", "kvm", "-cpu", "host", "-m", "128"])
        .args(["-display", "none", "-no-reboot", "-serial", "stdio", "-append", "console=ttyS0 panic=-1", "-kernel"])
        .arg(kernel)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let Ok(mut child) = process::spawn(command) else { return false };
    let Some(stdout) = child.stdout.take() else { return false };
    let (found, answer) = channel();
    thread::spawn(move || found.send(reaches_its_panic(stdout)));
    let runs = matches!(answer.recv_timeout(PROBE_LIMIT), Ok(Ok(true)));
    let _ = child.kill();
    let _ = child.wait();
    runs
}

fn reaches_its_panic(mut console: impl Read) -> io::Result<bool> {
    let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let count = console.read(&mut buffer)?;
        text.extend_from_slice(&buffer[..count]);
        if count == 0 || text.windows(12).any(|window| window == b"Kernel panic") {
            return Ok(count > 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_guest_that_ran_counts() {
        assert!(reaches_its_panic(&b"Linux\n[ 0.5] Kernel panic - not syncing: VFS"[..]).unwrap());
        assert!(!reaches_its_panic(&b"Linux version 6"[..]).unwrap());
    }
}

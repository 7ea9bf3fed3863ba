//! The running guest, and shells in it.

use super::{GuestError, at, media, root, run};
use crate::artefacts::Artefacts;
use crate::machine::Machine;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

/// dockerd, containerd and a container or two at a time; /var lies in memory, too.
const MEMORY_MIB: u32 = 1024;
const SYSTEMD_MEMORY_MIB: u32 = 2048;
/// What the guest adds to a script's own time: to be read, ended and answered.
const GRACE: Duration = Duration::from_secs(60);

/// The kernel has one of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    AppArmor,
    Selinux,
}

/// A Debian that runs scripts.
pub struct Guest {
    machine: Machine,
    security: Security,
}

/// One of the guest's four shells; each runs one script at a time.
pub struct Shell<'a> {
    guest: &'a Guest,
    stream: BufReader<UnixStream>,
}

/// What a script came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// 124: it took too long.
    pub status: u8,
    pub output: String,
}

impl Guest {
    /// Builds what is missing and boots it.
    pub fn boot(
        artefacts: &Artefacts,
        security: Security,
        cpus: u32,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Self, GuestError> {
        let root = root::build(artefacts, progress)?;
        let folder = tempfile::tempdir_in(&artefacts.out).map_err(at("create a folder in", &artefacts.out))?;
        let media = media::build(artefacts, &root::packages(artefacts, progress)?, folder.path())?;
        progress(&format!("boot the engines' guest with {security:?}"));
        let builder = Machine::builder(artefacts, "engines").foreign_root(&root, "orlop-engines", &media);
        // Nobody feeds in the guest the watchdog that stage 1 starts.
        let builder = builder.append("orlop.watchdog=off").append(match security {
            Security::AppArmor => "security=apparmor",
            Security::Selinux => "security=selinux",
        });
        // QEMU has opened its disks when this returns, and the folder may go.
        let machine = builder.memory_mib(MEMORY_MIB).cpus(cpus).start()?;
        machine.wait_for_console("engines: ready")?;
        Ok(Self { machine, security })
    }

    /// The same Debian with systemd as PID 1, which starts these Quadlet units; counts instructions and has one shell.
    pub fn boot_systemd(
        artefacts: &Artefacts,
        units: &[(String, String)],
        progress: &mut dyn FnMut(&str),
    ) -> Result<Self, GuestError> {
        let root = root::build(artefacts, progress)?;
        let folder = tempfile::tempdir_in(&artefacts.out).map_err(at("create a folder in", &artefacts.out))?;
        let media = media::of_systemd(artefacts, units, folder.path())?;
        let var = folder.path().join("var.ext4");
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&var).arg("4G"))?;
        progress("boot Debian with systemd and Podman");
        let builder = Machine::builder(artefacts, "systemd").foreign_root(&root, "orlop-engines", &media);
        let builder = builder.scratch_disk("orlop-var", &var).append("orlop.watchdog=off").no_network();
        let machine = builder.memory_mib(SYSTEMD_MEMORY_MIB).counting_instructions().start()?;
        machine.wait_for_console("engines: systemd")?;
        Ok(Self { machine, security: Security::AppArmor })
    }

    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    pub(super) fn security(&self) -> Security {
        self.security
    }

    /// A shell of its own, kept until dropped.
    pub fn shell(&self) -> Result<Shell<'_>, GuestError> {
        let stream = UnixStream::connect(self.machine.control_socket()).map_err(self.talk("connect to the guest"))?;
        Ok(Shell { guest: self, stream: BufReader::new(stream) })
    }

    fn talk(&self, what: &'static str) -> impl FnOnce(io::Error) -> GuestError {
        let tail = self.machine.console().tail();
        move |source| GuestError::Talk { what, source, tail }
    }
}

impl Shell<'_> {
    /// Runs a script of sh; its standard output and error together, the last 30 kB of them.
    pub fn run(&mut self, script: &str, limit: Duration) -> Result<Outcome, GuestError> {
        self.exchange(script, limit).map_err(self.guest.talk("run a script in the guest"))
    }

    fn exchange(&mut self, script: &str, limit: Duration) -> io::Result<Outcome> {
        let stream = self.stream.get_mut();
        stream.set_read_timeout(Some(limit + GRACE))?;
        stream.write_all(format!("{} {}\n{script}", script.len(), limit.as_secs()).as_bytes())?;
        let mut head = String::new();
        self.stream.read_line(&mut head)?;
        let wrong = || io::Error::new(io::ErrorKind::InvalidData, format!("the guest answered {head:?}"));
        let (status, bytes) = head.trim().split_once(' ').ok_or_else(wrong)?;
        let status = status.parse().map_err(|_| wrong())?;
        let mut output = vec![0; bytes.parse().map_err(|_| wrong())?];
        self.stream.read_exact(&mut output)?;
        Ok(Outcome { status, output: String::from_utf8_lossy(&output).into_owned() })
    }
}

//! What the machine needs before the supervisor runs.
//!
//! Every step stands alone: what fails is said and left out, and the machine goes on with less. Nothing here waits
//! for anything but the disk `/var` lies on; drivers of devices that nobody needs yet are loaded by a child.

mod cgroups;
mod durable;
mod identity;
mod mounts;
pub(crate) mod random;
mod sysctl;
mod watchdog;

pub(crate) use watchdog::arm_for_boot as arm_watchdog_for_boot;

pub(crate) use cgroups::renew_supervisors as renew_supervisors_cgroup;

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::OnceLock;

use nix::mount::{MsFlags, mount};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::cmdline::Cmdline;
use crate::modules::Modules;
use crate::{story, sys};

/// Only Orlop's root image has it. On any other root (a test in namespaces, someone's container) the files and
/// settings found there are not ours to change.
const OUR_ROOT: &str = "/usr/lib/orlop";

/// Drivers of the old controllers that every emulated PC has, mostly without a disk. They take more than the network card's
/// and the first container together.
const SELDOM_USED: [&str; 3] = ["/ata/ata_piix", "/ata/ata_generic", "/ata/pata_"];

/// What the state holds, whatever it is stored on. 0711: a container's user may reach what it was given, not list.
const STATE_FOLDERS: [(&str, u32); 9] = [
    ("/var/log/orlop", 0o700),
    ("/var/tmp", 0o1777),
    ("/var/lib", 0o755),
    ("/var/lib/orlop", 0o711),
    ("/var/lib/orlop/images", 0o711),
    ("/var/lib/orlop/layers", 0o711),
    ("/var/lib/orlop/volumes", 0o711),
    ("/var/lib/orlop/containers", 0o711),
    ("/var/lib/orlop/containers.d", 0o755),
];

/// Mounts, cgroups, sysctl, machine-id, random seed, hostname, watchdog; what fails is said and left out.
pub(crate) fn run() {
    if !is_our_root() {
        story::debug("setup", "not Orlop's root: its files and settings are left alone");
        return;
    }
    mounts::set_up();
    story::attach();
    story::stage("mounts");

    let cmdline = Cmdline::read();
    for mistake in crate::settings::mistakes(&cmdline) {
        story::warn("init", mistake);
    }
    cgroups::set_up();
    loopback();
    sysctl::set_up();
    state_folders();
    random::set_up();
    identity::set_up(&cmdline);
    ctrl_alt_del();
    match Modules::open("", &cmdline) {
        Ok(mut modules) => {
            watchdog::load_driver(&mut modules);
            in_a_child(|| coldplug(modules, |path| is_seldom_used(path) && is_emulated()));
        }
        Err(error) => story::warn("modules", error),
    }
    watchdog::arm(&cmdline, watchdog::from_stage_1());
    story::stage("setup");
}

/// After PID 1 executed itself again everything is set up, but the watchdog's fd is closed and the device still armed.
pub(crate) fn resume() {
    if is_our_root() {
        watchdog::arm(&Cmdline::read(), None);
    }
}

/// Looked at once, when the machine is set up: later a disk that hangs would hold PID 1.
fn is_our_root() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| Path::new(OUR_ROOT).is_dir())
}

fn loopback() {
    let done = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        .and_then(|socket| sys::loopback::up(socket.as_fd()));
    if let Err(errno) = done {
        story::warn("network", format_args!("set lo up: {}", errno.desc()));
    }
}

/// The folders of the state, and the one writable place below `/etc`.
fn state_folders() {
    for (path, mode) in STATE_FOLDERS {
        if let Err(error) = make_folder(path, mode) {
            story::warn("state", format_args!("make {path}: {error}"));
        }
    }
    let (from, on) = ("/var/lib/orlop/containers.d", "/etc/containers.d");
    let none = None::<&str>;
    let hard = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let bound = mount(Some(from), on, none, MsFlags::MS_BIND, none)
        .and_then(|()| mount(none, on, none, MsFlags::MS_BIND | MsFlags::MS_REMOUNT | hard, none));
    if let Err(errno) = bound {
        story::warn("state", format_args!("bind {from} on {on}: {}", errno.desc()));
    }
}

/// Makes a folder, and gives it its mode whatever the umask is; one that is there stays as it is.
fn make_folder(path: &str, mode: u32) -> io::Result<()> {
    if Path::new(path).is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).create(path)?;
    fs::set_permissions(path, Permissions::from_mode(mode))
}

/// From now on Ctrl-Alt-Del is a SIGINT for PID 1 and no reset.
fn ctrl_alt_del() {
    if let Err(errno) = nix::sys::reboot::set_cad_enabled(false) {
        story::warn("setup", format_args!("make Ctrl-Alt-Del a signal: {}", errno.desc()));
    }
}

/// Loads the drivers that the machine's first units did not wait for. PID 1 itself reads no disk for that.
pub(crate) fn load_the_rest() {
    if is_our_root() {
        in_a_child(|| match Modules::open("", &Cmdline::read()) {
            Ok(modules) if is_emulated() => coldplug(modules, |_| false),
            Ok(_) => {}
            Err(error) => story::warn("modules", error),
        });
    }
}

fn is_seldom_used(path: &str) -> bool {
    SELDOM_USED.iter().any(|part| path.contains(part))
}

/// On real hardware the old controllers have disks, which units may ask for.
fn is_emulated() -> bool {
    fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| has_hypervisor(&text))
}

/// CPUID's bit that only a hypervisor sets, as the kernel lists it.
fn has_hypervisor(cpuinfo: &str) -> bool {
    let mut flags = cpuinfo.lines().filter(|line| line.starts_with("flags"));
    flags.next().is_some_and(|line| line.split_ascii_whitespace().any(|flag| flag == "hypervisor"))
}

/// Each module costs up to 20 ms, and a controller without a disk seconds.
fn in_a_child(load: impl FnOnce()) {
    let work = || {
        load();
        0
    };
    if let Err(errno) = sys::fork::run(work) {
        story::warn("modules", format_args!("start the loading of drivers: {}", errno.desc()));
    }
}

/// Loads the drivers of the remaining devices.
fn coldplug(mut modules: Modules, is_left: impl Fn(&str) -> bool) {
    while modules.coldplug(&is_left, |error| story::warn("modules", error)) {}
    for name in modules.loaded() {
        story::debug("modules", name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_hypervisor_makes_a_pc_an_emulated_one() {
        let emulated = "processor\t: 0\nflags\t\t: fpu vme hypervisor lahf_lm\nbugs\t\t: spectre_v1\n";
        assert!(has_hypervisor(emulated) && !has_hypervisor(&emulated.replace("hypervisor ", "")));
        assert!(!has_hypervisor("model name\t: a hypervisor \nFeatures\t: fp asimd\n"));
    }

    #[test]
    fn what_a_real_machine_has_its_disks_on_is_not_postponed() {
        assert!(
            ["ata_piix", "ata_generic", "pata_acpi"].iter().all(|name| is_seldom_used(&format!("x/ata/{name}.ko")))
        );
        assert!(["ahci", "libata", "sata_nv"].iter().all(|name| !is_seldom_used(&format!("x/ata/{name}.ko"))));
    }
}

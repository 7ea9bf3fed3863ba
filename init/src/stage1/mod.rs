//! Stage 1: from the initramfs to the root.
//!
//! ```text
//!   proc, sys, dev ─► modules for the devices there are ─► root found ─► mounted ─► state ─► switch root ─► stage 2
//!        └──────────────────────────── any failure ──► rescue screen ──► again, reboot, power off
//! ```
//! Invariants: nothing is waited for without a deadline; nothing that somebody stored is written over (see
//! [`state`]); every step can be taken again, so that "retry" is the same code as the first try. Stage 1 has no
//! other process to care for, so it may block on disks.

mod devices;
mod root;
mod seed;
pub(crate) mod state;
mod superblock;
mod switch;
mod uevents;

use std::convert::Infallible;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::reboot::{RebootMode, reboot};

use self::devices::BlockDevice;
use self::root::{RootSource, Slot};
use self::switch::SwitchError;
use self::uevents::Uevents;
use crate::cmdline::Cmdline;
use crate::modules::{ModuleError, Modules};
use crate::rescue::{self, Choice};
use crate::story;

/// How long a root may take to appear: disks behind slow controllers need some seconds, emulated ones too.
const ROOT_DEADLINE: Duration = Duration::from_secs(30);
/// How long the state may appear after the root. Partitions of one disk come together, and so do virtio disks; only
/// buses that probe on their own (nvme, USB) bring a second disk later.
const STATE_GRACE: Duration = Duration::from_secs(2);

#[derive(Debug)]
enum Failure {
    Mount {
        kind: &'static str,
        on: &'static str,
        source: Errno,
    },
    Modules(ModuleError),
    Uevents(Errno),
    BadSlot(String),
    NoRoot {
        slot: Slot,
        seen: String,
    },
    Root {
        node: String,
        source: Errno,
    },
    Switch(SwitchError),
    /// A defect of ours: a panic, contained.
    Panic,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mount { kind, on, source } => write!(f, "mount {kind} on {on}: {}", source.desc()),
            Self::Modules(source) => source.fmt(f),
            Self::Uevents(source) => write!(f, "listen for devices: {}", source.desc()),
            Self::BadSlot(word) => write!(f, "orlop.root={word} on the kernel command line is neither a nor b"),
            Self::NoRoot { slot, seen } => write!(
                f,
                "no root found within {} s: neither a partition labelled {} nor a disk with the serial {}; block \
                 devices: {seen}",
                ROOT_DEADLINE.as_secs(),
                slot.label(),
                root::SERIAL
            ),
            Self::Root { node, source: Errno::EINVAL } => write!(f, "{node} holds no erofs, or a damaged one"),
            Self::Root { node, source } => write!(f, "mount erofs of {node} on the root: {}", source.desc()),
            Self::Switch(source) => write!(f, "switch root: {source}"),
            Self::Panic => f.write_str("a defect in stage 1 (a panic; the lines above name the place)"),
        }
    }
}

/// Ends by executing stage 2, or by what a person chooses on the rescue screen.
pub(crate) fn run() -> ! {
    story::stage("init");
    loop {
        let failure = match catch_unwind(AssertUnwindSafe(attempt)) {
            Ok(Err(failure)) => failure,
            Err(_) => Failure::Panic,
        };
        // Once the initramfs is gone there is nothing to try again with.
        let choices: &[Choice] = match failure {
            Failure::Switch(_) => &[Choice::Reboot, Choice::PowerOff],
            _ => &[Choice::Retry, Choice::Reboot, Choice::PowerOff],
        };
        match rescue::run(&failure.to_string(), choices) {
            Choice::Retry | Choice::StateReset => {}
            choice => end(choice),
        }
    }
}

/// Powers off or reboots. Only a machine that cannot comes back from it: then the screen is shown again.
fn end(choice: Choice) {
    nix::unistd::sync();
    let _ = reboot(if choice == Choice::PowerOff { RebootMode::RB_POWER_OFF } else { RebootMode::RB_AUTOBOOT });
}

fn attempt() -> Result<Infallible, Failure> {
    // What an earlier attempt left.
    for point in ["/sysroot/var", "/sysroot"] {
        let _ = umount2(point, MntFlags::MNT_DETACH);
    }
    api_mounts()?;
    // From here on idle time is told.
    story::stage("proc");
    story::attach();
    let cmdline = Cmdline::read();
    story::set_debug(cmdline.has("orlop.debug"));
    if let Ok(kernel) = nix::sys::utsname::uname() {
        let release = kernel.release().to_string_lossy();
        story::say("init", format_args!("Orlop {}, Linux {release}", env!("CARGO_PKG_VERSION")));
    }
    let slot = Slot::from(&cmdline).map_err(Failure::BadSlot)?;

    let uevents = Uevents::open().map_err(Failure::Uevents)?;
    let mut modules = Modules::open("", &cmdline).map_err(Failure::Modules)?;
    let failed = |error: ModuleError| story::warn("modules", error);
    // A kernel with erofs built in needs no module for it.
    if let Err(error) = modules.load("erofs") {
        story::debug("modules", error);
    }
    // Every emulated PC has an ATA controller, whose drivers cost a third of a second and which is seldom used: only
    // when what the other buses bring is not all there is to find.
    while modules.coldplug(|path| path.contains("/ata/"), failed) {}
    if !is_complete(&devices::scan(), slot) {
        while modules.coldplug(|_| false, failed) {}
    }
    say_loaded(&modules);
    // From here on only disks are waited for, some of them without a deadline of the kernel's.
    crate::setup::arm_watchdog_for_boot(&cmdline);

    let (source, devices) = wait_for_root(&mut modules, &uevents, slot)?;
    mount_root(&source)?;
    story::say("root", source);
    story::stage("root");

    let state = wait_for_state(&uevents, devices);
    match Modules::open("/sysroot", &cmdline) {
        Ok(of_root) => modules = of_root,
        Err(error) => story::warn("modules", error),
    }
    let verdict = state::set_up(state.as_ref(), &mut modules, &cmdline);
    story::stage("state");
    switch::switch_root().map_err(Failure::Switch)?;
    Err(Failure::Switch(switch::execute(&verdict.to_string())))
}

/// What stage 1 itself needs; stage 2 finds them mounted and adds the rest.
fn api_mounts() -> Result<(), Failure> {
    let hard = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    for (kind, on, flags, options) in [
        ("proc", "/proc", hard | MsFlags::MS_NODEV, None),
        ("sysfs", "/sys", hard | MsFlags::MS_NODEV, None),
        ("devtmpfs", "/dev", hard, Some("mode=0755")),
    ] {
        // The initramfs has the folders; after "retry" the mounts are there already.
        let _ = nix::unistd::mkdir(on, nix::sys::stat::Mode::from_bits_truncate(0o755));
        match mount(Some(kind), on, Some(kind), flags, options) {
            Ok(()) | Err(Errno::EBUSY) => {}
            Err(source) => return Err(Failure::Mount { kind, on, source }),
        }
    }
    Ok(())
}

/// True when root and state are both there.
fn is_complete(devices: &[BlockDevice], slot: Slot) -> bool {
    RootSource::choose(devices, slot).is_some() && devices::find(devices, state::LABEL, state::LABEL).is_some()
}

fn say_loaded(modules: &Modules) {
    let mut names = String::new();
    for name in modules.loaded() {
        if !names.is_empty() {
            names.push(' ');
        }
        names.push_str(name);
    }
    story::say("modules", if names.is_empty() { "none needed" } else { &names });
    story::stage("modules");
}

/// Looks, and looks again whenever the kernel says that a device came: more devices may want more modules.
fn wait_for_root(
    modules: &mut Modules,
    uevents: &Uevents,
    slot: Slot,
) -> Result<(RootSource, Vec<BlockDevice>), Failure> {
    let deadline = Instant::now() + ROOT_DEADLINE;
    loop {
        let devices = devices::scan();
        if let Some(source) = RootSource::choose(&devices, slot) {
            return Ok((source, devices));
        }
        if !uevents.wait(deadline) {
            return Err(Failure::NoRoot { slot, seen: summary(&devices) });
        }
        while modules.coldplug(|_| false, |error| story::warn("modules", error)) {}
    }
}

fn summary(devices: &[BlockDevice]) -> String {
    if devices.is_empty() {
        return "none".to_owned();
    }
    let mut text = String::new();
    for device in devices {
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(&device.name);
        if let Some(name) = device.label.as_ref().or(device.serial.as_ref()) {
            text.push_str(" (");
            text.push_str(name);
            text.push(')');
        }
    }
    text
}

fn mount_root(source: &RootSource) -> Result<(), Failure> {
    let _ = nix::unistd::mkdir("/sysroot", nix::sys::stat::Mode::from_bits_truncate(0o755));
    source.mount("/sysroot").map_err(|errno| Failure::Root { node: source.node().to_owned(), source: errno })
}

fn wait_for_state(uevents: &Uevents, mut devices: Vec<BlockDevice>) -> Option<BlockDevice> {
    let deadline = Instant::now() + STATE_GRACE;
    loop {
        if let Some(found) = devices::find(&devices, state::LABEL, state::LABEL) {
            return Some(found.clone());
        }
        let all_virtio = devices.iter().all(|device| device.name.starts_with("vd"));
        if all_virtio || !uevents.wait(deadline) {
            return None;
        }
        devices = devices::scan();
    }
}

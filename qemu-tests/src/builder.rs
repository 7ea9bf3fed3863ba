//! What a machine is made of, and its start.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use initramfs::requirements;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::artefacts::Artefacts;
use crate::command::{Access, CONTROL_PORTS, Drive, Forward, Hardware};
use crate::console::{Console, Echo};
use crate::folder::Folder;
use crate::machine::{Machine, MachineError};
use crate::qmp::Qmp;
use crate::slot::Slot;
use crate::{process, proxy};

/// QEMU makes its connections before it starts the guest.
const START_LIMIT: Duration = Duration::from_secs(60);
/// As large as the second seed but one: enough for tests, and nothing on the host until written.
const BLANK_STATE_BYTES: u64 = 2 << 30;

/// Where the machine keeps its state.
#[derive(Debug, Clone)]
enum State {
    Blank(u64),
    /// A file of the caller: several machines can use it one after the other.
    File(PathBuf, Access),
    /// No state disk at all.
    None,
}

/// What the machine boots from besides kernel and initramfs.
#[derive(Debug, Clone)]
enum Root {
    /// One disk per file system, found by serial.
    Direct,
    /// A whole disk with partitions, found by label; what is written to it is dropped.
    Disk(PathBuf),
    /// A system that is not ours, started by our stage 1.
    Foreign(PathBuf),
}

/// A machine to be started. Cheap to clone: the same machine again.
#[derive(Clone)]
pub struct Builder<'a> {
    artefacts: &'a Artefacts,
    name: String,
    units: Vec<(String, String)>,
    unit_folder: Option<PathBuf>,
    images: Vec<PathBuf>,
    append: Vec<String>,
    memory_mib: u32,
    cpus: u32,
    icount: bool,
    once: bool,
    network: Option<Vec<Forward>>,
    alone: bool,
    state: State,
    /// Of the state's drive.
    throttling: String,
    root: Root,
    more: Vec<(&'static str, PathBuf, Access)>,
    /// Instead of Orlop's.
    initramfs: Option<PathBuf>,
    uefi: bool,
}

impl<'a> Builder<'a> {
    /// `name` names its folder below `target/orlop/machines`.
    pub fn new(artefacts: &'a Artefacts, name: &str) -> Self {
        Self {
            artefacts,
            name: name.to_owned(),
            units: Vec::new(),
            unit_folder: None,
            images: Vec::new(),
            append: Vec::new(),
            memory_mib: 256,
            cpus: 2,
            icount: false,
            once: true,
            network: Some(Vec::new()),
            alone: false,
            state: State::Blank(BLANK_STATE_BYTES),
            throttling: String::new(),
            root: Root::Direct,
            more: Vec::new(),
            initramfs: None,
            uefi: false,
        }
    }

    /// A unit file for `/etc/containers.d`, in addition to the shipped ones.
    pub fn unit(mut self, file_name: &str, text: &str) -> Self {
        self.units.push((file_name.to_owned(), text.to_owned()));
        self
    }

    /// A folder of unit files for `/etc/containers.d`.
    pub fn unit_folder(mut self, folder: &Path) -> Self {
        self.unit_folder = Some(folder.to_owned());
        self
    }

    /// An OCI layout folder or archive whose images the machine finds locally.
    pub fn image(mut self, path: &Path) -> Self {
        self.images.push(path.to_owned());
        self
    }

    /// Words for the kernel's command line.
    pub fn append(mut self, words: &str) -> Self {
        self.append.push(words.to_owned());
        self
    }

    pub fn memory_mib(mut self, mib: u32) -> Self {
        self.memory_mib = mib;
        self
    }

    pub fn cpus(mut self, count: u32) -> Self {
        self.cpus = count;
        self
    }

    /// The guest's clock counts instructions, one a nanosecond: repeatable measurements on one emulated CPU.
    pub fn counting_instructions(mut self) -> Self {
        self.icount = true;
        self.cpus = 1;
        self
    }

    /// A reboot starts the guest again; without this, the first reset (a panic, too) ends QEMU.
    pub fn may_reboot(mut self) -> Self {
        self.once = false;
        self
    }

    pub fn no_network(mut self) -> Self {
        self.network = None;
        self
    }

    /// A card with its cable plugged in, and nobody at the other end: no DHCP server, no router.
    pub fn alone_on_its_network(mut self) -> Self {
        self.alone = true;
        self
    }

    /// Reaches a guest port from the host: [`Machine::forwarded`] says where.
    pub fn forward(mut self, guest: u16) -> Self {
        self.network.get_or_insert_default().push(Forward { host: 0, guest });
        self
    }

    pub fn forward_from(mut self, host: u16, guest: u16) -> Self {
        self.network.get_or_insert_default().push(Forward { host, guest });
        self
    }

    pub fn blank_state(mut self, bytes: u64) -> Self {
        self.state = State::Blank(bytes);
        self
    }

    pub fn no_state(mut self) -> Self {
        self.state = State::None;
        self
    }

    /// State on a file of a test, never synced to the host's disk.
    pub fn state_file(mut self, file: &Path) -> Self {
        self.state = State::File(file.to_owned(), Access::Scratch);
        self
    }

    /// How fast the state's disk is, in QEMU's words for a drive: `throttling.iops-total=20`.
    pub fn state_throttling(mut self, words: &str) -> Self {
        self.throttling = words.to_owned();
        self
    }

    /// State on a file of the user, as durable as the host's disk.
    pub fn kept_state_file(mut self, file: &Path) -> Self {
        self.state = State::File(file.to_owned(), Access::Kept);
        self
    }

    /// Root and state are partitions of this disk; the file stays as it is.
    pub fn raw_disk(mut self, file: &Path) -> Self {
        self.root = Root::Disk(file.to_owned());
        self.state = State::None;
        self
    }

    /// The file system of another system as the root, and a second read-only disk for it, found by its serial.
    pub(crate) fn foreign_root(mut self, root: &Path, serial: &'static str, disk: &Path) -> Self {
        self.root = Root::Foreign(root.to_owned());
        self.more.push((serial, disk.to_owned(), Access::ReadOnly));
        self.no_state()
    }

    /// A disk that the guest writes to, found by its serial; never synced.
    pub(crate) fn scratch_disk(mut self, serial: &'static str, file: &Path) -> Self {
        self.more.push((serial, file.to_owned(), Access::Scratch));
        self
    }

    /// Boots another system than Orlop, which lies in this initramfs whole; nothing answers on the control ports then.
    pub fn initramfs(mut self, file: &Path) -> Self {
        self.initramfs = Some(file.to_owned());
        self.no_state().no_network()
    }

    /// The kernel is started by UEFI firmware.
    pub fn uefi(mut self) -> Self {
        self.uefi = true;
        self
    }

    /// Starts QEMU; gives the machine before the guest has run far.
    pub fn start(self) -> Result<Machine, MachineError> {
        self.start_with(None, &mut |_| {})
    }

    /// Starts QEMU; `echo` gets the console's output as it comes.
    pub fn start_with(self, echo: Option<Echo>, progress: &mut dyn FnMut(&str)) -> Result<Machine, MachineError> {
        let slot = Slot::take();
        let setup = |what: &'static str| move |source: io::Error| MachineError::Setup { what, source };
        let folder = Folder::create(&self.artefacts.out, &self.name).map_err(setup("create the machine's folder"))?;
        let drives = self.drives(&folder, progress)?;
        let (release, accel) = (&self.artefacts.kernel.release, self.artefacts.accel.name());
        let cpus = if self.cpus == 1 { "1 CPU".to_owned() } else { format!("{} CPUs", self.cpus) };
        progress(&format!("boot Linux {release} in QEMU ({accel}, {} MiB, {cpus})", self.memory_mib));
        let listen = |name: &str| UnixListener::bind(folder.sockets().join(name)).map_err(setup("listen for QEMU"));
        let (console, qmp) = (listen("console")?, listen("qmp")?);

        let mut hardware = self.hardware(drives, folder.sockets());
        if self.uefi {
            requirements::ensure(&[requirements::OVMF], progress)?;
            let code = Path::new(requirements::OVMF.program);
            // Its variables are the machine's own.
            let variables = folder.path().join("variables.fd");
            fs::copy(code.with_file_name("OVMF_VARS_4M.fd"), &variables).map_err(setup("copy UEFI's variables"))?;
            hardware.firmware = Some((code.to_owned(), variables));
            // What firmware starts is the image with its EFI stub.
            hardware.kernel = self.artefacts.kernel.image.clone();
        }
        let log = File::create(folder.path().join("qemu.log")).map_err(setup("create QEMU's log"))?;
        let mut command = Command::new("qemu-system-x86_64");
        command.args(hardware.arguments()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let started = Instant::now();
        let mut child = process::spawn(command).map_err(setup("start qemu-system-x86_64"))?;

        let connect = || -> Result<(Console, Qmp), MachineError> {
            let stream = accept(&console, &mut child, &folder)?;
            let log = File::create(folder.path().join("console.log")).map_err(setup("create the console's log"))?;
            let console = Console::start(stream, log, echo).map_err(setup("read the console"))?;
            let qmp = Qmp::start(accept(&qmp, &mut child, &folder)?)?;
            let socket = folder.sockets().join("control.sock");
            proxy::start(&socket, folder.sockets(), CONTROL_PORTS, qmp.events())
                .map_err(setup("serve control.sock"))?;
            Ok((console, qmp))
        };
        let (console, qmp) = match connect() {
            Ok(both) => both,
            Err(error) => {
                // QEMU connects before it looks at the rest, a port that is taken for example, and then ends by itself.
                let refused = matches!(error, MachineError::Qmp(_)).then(|| refusal(&mut child, &folder)).flatten();
                let _ = child.kill();
                let _ = child.wait();
                return Err(refused.unwrap_or(error));
            }
        };
        let mut machine = Machine::new(child, console, qmp, folder, slot, self.artefacts.programs.orlop.clone());
        machine.find_forwards(self.network.as_deref().unwrap_or_default())?;
        machine.started = started;
        Ok(machine)
    }

    fn hardware(&self, drives: Vec<Drive>, sockets: &Path) -> Hardware {
        let kernel = &self.artefacts.kernel;
        Hardware {
            // Instructions can only be counted by the emulator.
            accel: if self.icount { crate::accel::Accel::Tcg } else { self.artefacts.accel },
            icount: self.icount,
            memory_mib: self.memory_mib,
            cpus: self.cpus,
            firmware: None,
            kernel: kernel.vmlinux.as_ref().unwrap_or(&kernel.image).clone(),
            initramfs: self.initramfs.as_ref().unwrap_or(&self.artefacts.image.initramfs).clone(),
            append: self.append.clone(),
            drives,
            network: self.network.clone(),
            alone: self.alone,
            once: self.once,
            sockets: sockets.to_owned(),
        }
    }

    fn drives(&self, folder: &Folder, progress: &mut dyn FnMut(&str)) -> Result<Vec<Drive>, MachineError> {
        let setup = |what: &'static str| move |source: io::Error| MachineError::Setup { what, source };
        let drive = |serial: &str, file: PathBuf, access| {
            let throttling = if serial == "orlop-state" { self.throttling.clone() } else { String::new() };
            Drive { serial: serial.to_owned(), file, access, throttling }
        };
        let mut drives = vec![match &self.root {
            Root::Direct => drive("orlop-root", self.artefacts.image.root.clone(), Access::ReadOnly),
            Root::Disk(file) => drive("disk", file.clone(), Access::Snapshot),
            Root::Foreign(file) => drive("orlop-root", file.clone(), Access::ReadOnly),
        }];
        drives.extend(self.more.iter().map(|(serial, file, access)| drive(serial, file.clone(), *access)));
        match &self.state {
            State::Blank(bytes) => {
                let file = folder.blank_disk("state.raw", *bytes).map_err(setup("create a blank state disk"))?;
                drives.push(drive("orlop-state", file, Access::Scratch));
            }
            State::File(file, access) => drives.push(drive("orlop-state", file.clone(), *access)),
            State::None => {}
        }
        let units = self.collect_units(folder.path()).map_err(setup("collect the unit files"))?;
        if units.is_some() || !self.images.is_empty() {
            let seed = initramfs::seed_disk(&self.artefacts.out, units.as_deref(), &self.images, progress)?;
            drives.push(drive("orlop-seed", seed, Access::ReadOnly));
        }
        Ok(drives)
    }

    /// One folder of all unit files, as the seed disk wants it.
    fn collect_units(&self, folder: &Path) -> io::Result<Option<PathBuf>> {
        if self.units.is_empty() {
            return Ok(self.unit_folder.clone());
        }
        let units = folder.join("units");
        fs::create_dir_all(&units)?;
        for entry in self.unit_folder.iter().map(fs::read_dir).collect::<io::Result<Vec<_>>>()?.into_iter().flatten() {
            let entry = entry?;
            fs::copy(entry.path(), units.join(entry.file_name()))?;
        }
        for (name, text) in &self.units {
            fs::write(units.join(name), text)?;
        }
        Ok(Some(units))
    }
}

/// QEMU's connection, or what QEMU said when it ended instead.
fn accept(listener: &UnixListener, child: &mut Child, folder: &Folder) -> Result<UnixStream, MachineError> {
    const STEP_MS: u8 = 50;
    let setup = |source: io::Error| MachineError::Setup { what: "wait for QEMU's connection", source };
    let started = Instant::now();
    loop {
        let mut waiting = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        let ready = poll(&mut waiting, PollTimeout::from(STEP_MS)).map_err(|errno| setup(errno.into()))?;
        if ready > 0 {
            return listener.accept().map(|(stream, _)| stream).map_err(setup);
        }
        if let Some(status) = child.try_wait().map_err(setup)? {
            return Err(refused(status, folder));
        }
        if started.elapsed() > START_LIMIT {
            return Err(setup(io::ErrorKind::TimedOut.into()));
        }
    }
}

/// A QEMU that has closed its connection is about to end.
fn refusal(child: &mut Child, folder: &Folder) -> Option<MachineError> {
    child.wait().ok().filter(|status| !status.success()).map(|status| refused(status, folder))
}

fn refused(status: ExitStatus, folder: &Folder) -> MachineError {
    let said = fs::read_to_string(folder.path().join("qemu.log")).unwrap_or_default();
    MachineError::Refused { status, said: said.trim().to_owned() }
}

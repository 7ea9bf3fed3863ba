//! The QEMU command line of a machine. Pure: what is wanted in, the arguments out.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::accel::Accel;
use crate::proxy::port_id;

/// Control ports of a machine; as many clients are served at the same time.
pub(crate) const CONTROL_PORTS: usize = 4;

/// On every kernel command line: the console is the serial port and belongs to the story, a panic reboots, and the
/// crypto self tests (half a second under emulation) are left out. So is the test of the timer's interrupt: where QEMU gets no
/// processor for those 40 ms, the kernel panics with "IO-APIC + timer doesn't work!".
const KERNEL_WORDS: &str = "console=ttyS0 quiet loglevel=3 panic=-1 cryptomgr.notests=1 no_timer_check";

/// A disk as the guest sees it.
#[derive(Debug, Clone)]
pub(crate) struct Drive {
    pub(crate) serial: String,
    pub(crate) file: PathBuf,
    pub(crate) access: Access,
    /// What QEMU lets through, in its words for a drive: `throttling.bps-total=1`.
    pub(crate) throttling: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    ReadOnly,
    /// Writes are dropped at the end: several machines can use one file.
    Snapshot,
    /// For a file that ends with its machine: QEMU never syncs it, as host fsync makes outliers of many seconds.
    Scratch,
    /// For a file the user keeps: a flush of the guest reaches the host's disk.
    Kept,
}

/// A guest port reached through the host's loopback; host port 0 has QEMU take a free one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    pub host: u16,
    pub guest: u16,
}

#[derive(Debug, Clone)]
pub(crate) struct Hardware {
    pub(crate) accel: Accel,
    /// Count instructions instead of time (`-icount`): one CPU, no real clock.
    pub(crate) icount: bool,
    pub(crate) memory_mib: u32,
    pub(crate) cpus: u32,
    /// UEFI's code and variables; with `None` the kernel is started without it.
    pub(crate) firmware: Option<(PathBuf, PathBuf)>,
    pub(crate) kernel: PathBuf,
    pub(crate) initramfs: PathBuf,
    pub(crate) append: Vec<String>,
    pub(crate) drives: Vec<Drive>,
    /// `None`: no network card.
    pub(crate) network: Option<Vec<Forward>>,
    /// The card's cable leads to nobody.
    pub(crate) alone: bool,
    /// A reset ends QEMU instead of starting the guest again.
    pub(crate) once: bool,
    /// Holds the sockets `console` and `qmp` (we listen) and one per control port (QEMU listens).
    pub(crate) sockets: PathBuf,
}

impl Hardware {
    /// Emulated CPUs take turns in one thread: with a thread each, QEMU before 8.1 now and then keeps a translation of code
    /// that another CPU was just writing ("accel/tcg: Always lock pages before translation" mended it), and the kernel, which patches
    /// itself at boot, ends in `Oops: int3` (two boots of some thousand).
    fn accelerator(&self) -> &'static str {
        if self.accel == Accel::Tcg && self.cpus > 1 { "tcg,thread=single" } else { self.accel.name() }
    }

    pub(crate) fn arguments(&self) -> Vec<OsString> {
        let mut args = Arguments::default();
        args.word("-nodefaults").word("-no-user-config");
        // `pc`: the smallest machine whose firmware boots a PVH kernel directly and that a guest can switch off.
        args.pair("-machine", "pc").pair("-accel", self.accelerator());
        // QEMU 7.2's emulated cmpxchg16b sometimes leaves garbage in the flags, and the kernel dies early in boot in the
        // middle of an allocation (5 of 8 boots on a loaded host, none of 8 with the instruction hidden).
        args.pair("-cpu", if self.accel == Accel::Kvm { "host" } else { "max,-cx16" });
        args.pair("-m", self.memory_mib.to_string()).pair("-smp", self.cpus.to_string());
        args.pair("-display", "none").pair("-vga", "none");
        if self.icount {
            args.pair("-icount", "shift=0,sleep=off");
        }
        if self.once {
            args.word("-no-reboot");
        }
        if let Some((code, variables)) = &self.firmware {
            args.file("-drive", "if=pflash,unit=0,format=raw,readonly=on,file=", code);
            args.file("-drive", "if=pflash,unit=1,format=raw,file=", variables);
        }
        args.file("-kernel", "", &self.kernel).file("-initrd", "", &self.initramfs);
        args.pair("-append", self.kernel_words());
        args.file("-chardev", "socket,id=console,path=", &self.sockets.join("console"))
            .pair("-serial", "chardev:console");
        args.file("-chardev", "socket,id=qmp,path=", &self.sockets.join("qmp"))
            .pair("-mon", "chardev=qmp,mode=control");
        args.pair("-device", "i6300esb").pair("-action", "watchdog=reset");
        args.pair("-device", "virtio-rng-pci");
        self.control_ports(&mut args);
        for (number, drive) in self.drives.iter().enumerate() {
            let how = match drive.access {
                Access::ReadOnly => "readonly=on",
                Access::Snapshot => "snapshot=on",
                Access::Scratch => "cache=unsafe,discard=unmap",
                Access::Kept => "cache=writeback,discard=unmap",
            };
            let comma = if drive.throttling.is_empty() { "" } else { "," };
            let how = format!("{how}{comma}{}", drive.throttling);
            args.file("-drive", &format!("if=none,id=disk{number},format=raw,{how},file="), &drive.file);
            args.pair("-device", format!("virtio-blk-pci,drive=disk{number},serial={}", drive.serial));
        }
        if self.alone {
            args.pair("-netdev", "hubport,id=net,hubid=0");
            args.pair("-device", "virtio-net-pci,netdev=net,romfile=");
        } else if let Some(forwards) = &self.network {
            let forwards: String = forwards
                .iter()
                .map(|Forward { host, guest }| format!(",hostfwd=tcp:127.0.0.1:{host}-:{guest}"))
                .collect();
            args.pair("-netdev", format!("user,id=net{forwards}"));
            args.pair("-device", "virtio-net-pci,netdev=net,romfile=");
        }
        args.0
    }

    fn kernel_words(&self) -> String {
        let mut words = KERNEL_WORDS.to_owned();
        for word in &self.append {
            words.push(' ');
            words.push_str(word);
        }
        words
    }

    fn control_ports(&self, args: &mut Arguments) {
        args.pair("-device", "virtio-serial-pci,max_ports=8");
        for number in 0..CONTROL_PORTS {
            let id = port_id(number);
            let name = if number == 0 { "orlop.control".to_owned() } else { format!("orlop.control.{number}") };
            let socket = self.sockets.join(&id);
            args.file("-chardev", &format!("socket,id=char-{id},server=on,wait=off,path="), &socket);
            args.pair("-device", format!("virtserialport,chardev=char-{id},id={id},name={name}"));
        }
    }
}

#[derive(Default)]
struct Arguments(Vec<OsString>);

impl Arguments {
    fn word(&mut self, word: &str) -> &mut Self {
        self.0.push(word.into());
        self
    }

    fn pair(&mut self, option: &str, value: impl Into<OsString>) -> &mut Self {
        self.0.push(option.into());
        self.0.push(value.into());
        self
    }

    /// A path after a prefix of QEMU options, in which a comma is written twice.
    fn file(&mut self, option: &str, prefix: &str, path: &Path) -> &mut Self {
        let mut value = OsString::from(prefix);
        if prefix.is_empty() {
            value.push(path);
        } else {
            value.push(path.to_string_lossy().replace(',', ",,"));
        }
        self.pair(option, value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hardware() -> Hardware {
        Hardware {
            accel: Accel::Tcg,
            icount: false,
            memory_mib: 256,
            cpus: 1,
            firmware: None,
            kernel: "/k".into(),
            initramfs: "/i".into(),
            append: vec!["ip=off".into()],
            drives: Vec::new(),
            network: None,
            alone: false,
            once: false,
            sockets: "/s".into(),
        }
    }

    fn line(hardware: &Hardware) -> String {
        hardware.arguments().iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn words_are_appended_and_there_is_no_card_unless_asked() {
        let line = line(&hardware());
        assert!(line.contains("panic=-1 cryptomgr.notests=1 no_timer_check ip=off -chardev"), "{line}");
        assert!(!line.contains("virtio-net"), "{line}");
        assert!(!line.contains("-no-reboot"), "{line}");
    }

    #[test]
    fn emulated_cpus_share_a_thread() {
        assert!(line(&hardware()).contains("-accel tcg -cpu"));
        assert!(line(&Hardware { cpus: 2, ..hardware() }).contains("-accel tcg,thread=single -cpu"));
        assert!(line(&Hardware { cpus: 2, accel: Accel::Kvm, ..hardware() }).contains("-accel kvm -cpu"));
    }

    #[test]
    fn all_control_ports_have_their_names() {
        let line = line(&hardware());
        assert!(line.contains("id=control0,name=orlop.control -chardev"), "{line}");
        assert!(line.contains("id=control3,name=orlop.control.3"), "{line}");
    }

    #[test]
    fn a_comma_in_a_path_does_not_end_it() {
        let drive = Drive {
            serial: "orlop-state".into(),
            file: "/a,b".into(),
            access: Access::Scratch,
            throttling: String::new(),
        };
        let forward = vec![Forward { host: 0, guest: 80 }];
        let line = line(&Hardware { drives: vec![drive], network: Some(forward), ..hardware() });
        assert!(line.contains("file=/a,,b -device virtio-blk-pci,drive=disk0,serial=orlop-state"), "{line}");
        assert!(line.contains("hostfwd=tcp:127.0.0.1:0-:80"), "{line}");
    }
}

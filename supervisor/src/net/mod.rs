//! The host's interface: one worker thread that finds the machine's card, keeps it configured, and tells what happens.
//!
//! The first Ethernet card (or the one `ip=` names) is brought up as soon as the kernel has it, which may be late:
//! drivers load in the background. IPv4 comes from a DHCP server, or from `ip=`; IPv6 from router advertisements, by
//! the kernel. Nothing here ends the machine's boot or the supervisor: a card that is missing, a server that is silent
//! or a file that cannot be written is an event, and the thread goes on. When the supervisor dies, the card stays as it
//! is; its successor asks the server for the same address again.

pub(crate) mod bridge;
mod card;
mod cmdline;
mod dhcp;
pub(crate) mod dns;
mod event;
mod lease;
mod netlink;
mod resolv;
mod socket;
#[allow(unsafe_code)]
mod sys;
mod worker;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::eventfd::{EfdFlags, EventFd};

pub use cmdline::{IpError, Mode, Parameter, Static};
pub use event::{NetEvent, Origin};
pub use lease::{Lease, Route};

/// What the thread works on.
#[derive(Debug, Clone)]
pub struct Config {
    pub mode: Mode,
    /// Told to the DHCP server, which may enter it into its name service.
    pub hostname: Option<String>,
    /// Where leases outlive a boot.
    pub lease_dir: PathBuf,
    pub resolv_conf: PathBuf,
    /// How long a card may take to appear before [`NetEvent::NoCard`] says that there is none yet.
    pub card_wait: Duration,
}

impl Config {
    /// The machine's own paths.
    pub fn new(parameter: Parameter) -> Self {
        Self {
            mode: parameter.mode,
            hostname: own_name(),
            lease_dir: "/var/lib/orlop/net".into(),
            resolv_conf: "/run/orlop/resolv.conf".into(),
            card_wait: Duration::from_secs(10),
        }
    }

    /// Reads `ip=` from the kernel's command line. When it cannot be understood, the error is to be shown and DHCP is
    /// tried: a machine that can be reached can be mended.
    pub fn from_cmdline(cmdline: &str) -> (Self, Option<IpError>) {
        match Parameter::from_cmdline(cmdline) {
            Ok(parameter) => (Self::new(parameter), None),
            Err(error) => (Self::new(Parameter::default()), Some(error)),
        }
    }
}

/// In the network namespace of the calling thread, where nobody has made another interface yet.
pub(crate) fn loopback_up() -> io::Result<()> {
    /// Of every network namespace the first (`loopback_net_init` in the kernel's drivers/net/loopback.c wants it so).
    const LOOPBACK: u32 = 1;
    card::Control::new()?.up(LOOPBACK)
}

/// What the machine is called already, if that says anything.
fn own_name() -> Option<String> {
    let name = nix::unistd::gethostname().ok()?.into_string().ok()?;
    Some(name).filter(|name| cmdline::is_hostname(name) && name != "localhost")
}

/// The running thread. Dropping it ends the thread and leaves the card as it is.
#[derive(Debug)]
pub struct Handle {
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

/// Starts the thread. `report` is called on it, once for each event, and must not block for long.
pub fn spawn(config: Config, report: Box<dyn Fn(NetEvent) + Send>) -> io::Result<Handle> {
    // /etc/resolv.conf is a link to it, and containers get a copy: it is there from the first moment, and stays over a
    // restart.
    if !config.resolv_conf.exists()
        && let Err(error) = resolv::write(&config.resolv_conf, &[], &[])
    {
        report(NetEvent::Problem { device: None, text: format!("write resolv.conf: {error}") });
    }
    let stop = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
    if config.mode == Mode::Off {
        return Ok(Handle { stop, thread: None });
    }
    let worker = worker::Worker::new(config, report, Arc::clone(&stop))?;
    let thread = std::thread::Builder::new().name("net".into()).stack_size(256 << 10).spawn(move || worker.run())?;
    Ok(Handle { stop, thread: Some(thread) })
}

impl Drop for Handle {
    fn drop(&mut self) {
        // An eventfd's counter takes it; should it not, the thread ends with the process.
        if self.stop.write(1).is_ok()
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

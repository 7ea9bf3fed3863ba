//! The host's interface is `net`'s business, in a thread; this is how the loop hears of it.

use std::time::Duration;

use crate::net::{Config, Handle, Mode, NetEvent, spawn};

/// Units that are ordered after network-online.target wait at most so long for an address. systemd-networkd-wait-online(8) gives up
/// after two minutes, and then they start all the same; a machine whose cable is out should not take that long.
const PATIENCE: Duration = Duration::from_secs(30);

/// Keeps the thread.
#[derive(Debug, Default)]
pub(crate) struct Network {
    handle: Option<Handle>,
    /// When network-online.target counts as reached without an address, if it is not reached yet.
    pub(crate) patience: Option<Duration>,
}

/// Whether network-online.target is reached by this: an address, or nothing that could get one.
pub(crate) fn is_online(event: &NetEvent) -> bool {
    matches!(event, NetEvent::Address { .. } | NetEvent::NoCard)
}

/// How much a person at the console wants to know of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weight {
    Detail,
    News,
    Problem,
}

pub(crate) fn weight(event: &NetEvent) -> Weight {
    match event {
        NetEvent::Up { .. } | NetEvent::Lease { .. } => Weight::Detail,
        NetEvent::Address { .. } | NetEvent::AddressLost { .. } | NetEvent::Down { .. } => Weight::News,
        NetEvent::NoCard | NetEvent::Problem { .. } => Weight::Problem,
    }
}

impl Network {
    /// `report` is called from the thread. The sentence of an error is for the console; the network is tried all the same, where
    /// that is possible.
    pub(crate) fn start(
        &mut self,
        cmdline: &str,
        now: Duration,
        report: impl Fn(NetEvent) + Send + 'static,
    ) -> Result<(), String> {
        let (config, mistake) = Config::from_cmdline(cmdline);
        self.patience = (!matches!(config.mode, Mode::Off)).then_some(now + PATIENCE);
        self.handle = Some(spawn(config, Box::new(report)).map_err(|error| error.to_string())?);
        mistake.map_or(Ok(()), |error| Err(error.to_string()))
    }
}

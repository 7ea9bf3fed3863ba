//! The host's interface is `net`'s business, in a thread; this is how the loop hears of it.

use crate::net::{Config, Handle, NetEvent, spawn};

/// Keeps the thread.
#[derive(Debug, Default)]
pub(crate) struct Network {
    handle: Option<Handle>,
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
    pub(crate) fn start(&mut self, cmdline: &str, report: impl Fn(NetEvent) + Send + 'static) -> Result<(), String> {
        let (config, mistake) = Config::from_cmdline(cmdline);
        self.handle = Some(spawn(config, Box::new(report)).map_err(|error| error.to_string())?);
        mistake.map_or(Ok(()), |error| Err(error.to_string()))
    }
}

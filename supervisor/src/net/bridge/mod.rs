//! Networks of containers: bridges of this host, the cards that join a network namespace to them, and the rules of the firewall
//! between them and the world.
//!
//! Nothing here remembers anything: what is asked for is made, what is there already is taken as it is, and every link of ours says
//! so in its alias, so that whoever comes after a crash knows it again. All calls wait for the kernel, which may have to load
//! modules first: they are for worker threads.

mod attach;
mod firewall;
mod link;
mod namespace;
mod nft;
mod subnet;

#[cfg(test)]
mod tests;

pub(crate) use attach::{Attachment, attach, detach, ensure, host_routes, leftovers, remove};
pub(crate) use firewall::{Firewall, Published, Zone};
pub(crate) use link::HostRoute;
pub(crate) use subnet::Subnet;

use std::{fmt, io, net::IpAddr};

use serde::{Deserialize, Serialize};

/// A network as it is on this host while somebody is on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Network {
    pub(crate) name: String,
    /// The bridge's, at most 15 bytes.
    pub(crate) interface: String,
    /// Each with the host's own address in it.
    pub(crate) subnets: Vec<(Subnet, IpAddr)>,
    pub(crate) mtu: Option<u32>,
    /// Without a way out.
    pub(crate) internal: bool,
    pub(crate) isolation: Isolation,
}

impl Network {
    pub(crate) fn gateway(&self, ipv4: bool) -> Option<IpAddr> {
        self.subnets.iter().map(|(_, gateway)| *gateway).find(|gateway| gateway.is_ipv4() == ipv4)
    }
}

/// `isolate` of podman-network-create(1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) enum Isolation {
    /// Other networks may be reached that do not forbid it.
    #[default]
    Open,
    /// Not from, nor to, others that are isolated.
    Isolated,
    /// Not from, nor to, any other.
    Strict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mac(pub(crate) [u8; 6]);

impl Mac {
    /// One of a name's own, from the range for those that nobody assigned; the same each time.
    pub(crate) fn of(name: &str) -> Self {
        let [a, b, c, d, e, ..] = fnv(name).to_be_bytes();
        Self([0x02, a, b, c, d, e])
    }

    /// Six bytes with colons.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let bytes: Vec<u8> = text.split(':').map_while(|byte| u8::from_str_radix(byte, 16).ok()).collect();
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.map(|byte| format!("{byte:02x}")).join(":"))
    }
}

/// The bridge's interface where nobody says how it is called.
pub(crate) fn interface_of(network: &str) -> String {
    format!("orlop-{:08x}", fnv(network) >> 32)
}

/// A subnet of IPv6 that is as good as a network's own (RFC 4193); another one with each try.
pub(crate) fn ula_of(network: &str, attempt: u64) -> Subnet {
    let [a, b, c, d, e, ..] = fnv(network).wrapping_add(attempt << 24).to_be_bytes();
    Subnet::around([0xfd, a, b, c, d, e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0].into(), 64)
}

/// FNV-1a, well mixed: names that differ in their last letter differ everywhere.
fn fnv(name: &str) -> u64 {
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    (hash ^ (hash >> 29)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// What could not be done to what.
#[derive(Debug)]
pub(crate) struct Error {
    action: String,
    source: io::Error,
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.action, self.source)
    }
}

fn failed(action: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    let action = action.into();
    |source| Error { action, source }
}

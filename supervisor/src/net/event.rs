//! What the supervisor is told.

use std::fmt;
use std::net::IpAddr;

use super::lease::Lease;

/// Where an address comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Dhcp,
    /// `ip=` on the kernel's command line.
    Static,
    /// A router's advertisement, by the kernel.
    Slaac,
}

/// News of the host's interface. `Display` is one line for the console and the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetEvent {
    /// No card has appeared yet. It is still waited for.
    NoCard,
    /// There is a card, and its cable is plugged in.
    Up {
        device: String,
        mac: String,
    },
    /// The cable is out, or the card is gone. Addresses stay until their time is over.
    Down {
        device: String,
    },
    Address {
        device: String,
        address: IpAddr,
        prefix: u8,
        origin: Origin,
    },
    AddressLost {
        device: String,
        address: IpAddr,
    },
    /// A lease was given, or extended.
    Lease {
        device: String,
        lease: Lease,
    },
    /// Something does not work as it should; it is tried on.
    Problem {
        device: Option<String>,
        text: String,
    },
}

impl fmt::Display for NetEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCard => f.write_str("no network card yet"),
            Self::Up { device, mac } => write!(f, "{device} up, {mac}"),
            Self::Down { device } => write!(f, "{device} down"),
            Self::Address { device, address, prefix, origin } => write!(f, "{device} {address}/{prefix} ({origin})"),
            Self::AddressLost { device, address } => write!(f, "{device} lost {address}"),
            Self::Lease { device, lease } => {
                write!(f, "{device} {}/{} from {}", lease.address, lease.prefix, lease.server)?;
                match lease.gateway() {
                    Some(gateway) => write!(f, ", gateway {gateway}"),
                    None => f.write_str(", no gateway"),
                }
            }
            Self::Problem { device: Some(device), text } => write!(f, "{device}: {text}"),
            Self::Problem { device: None, text } => f.write_str(text),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dhcp => "DHCP",
            Self::Static => "ip=",
            Self::Slaac => "SLAAC",
        })
    }
}

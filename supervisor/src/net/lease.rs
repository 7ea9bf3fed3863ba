//! What a DHCP server gave, and the file that keeps it over a reboot.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// Lease time of RFC 2131 that means "for ever".
pub(super) const FOREVER: u32 = u32::MAX;
/// No lease file of ours is longer.
const FILE_MAX_BYTES: u64 = 64 << 10;

/// A route a server named. Without a gateway, the destination is on the wire itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    pub destination: Ipv4Addr,
    pub prefix: u8,
    pub gateway: Option<Ipv4Addr>,
}

impl Route {
    pub(super) fn default_by(gateway: Ipv4Addr) -> Self {
        Self { destination: Ipv4Addr::UNSPECIFIED, prefix: 0, gateway: Some(gateway) }
    }
}

/// A lease, checked: the address is one a card can have, and the times are in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub address: Ipv4Addr,
    pub prefix: u8,
    pub server: Ipv4Addr,
    /// T1, T2 and the end, counted from the request. `u32::MAX` means never.
    pub renew_seconds: u32,
    pub rebind_seconds: u32,
    pub lease_seconds: u32,
    pub routes: Vec<Route>,
    pub dns: Vec<Ipv4Addr>,
    pub search: Vec<String>,
    pub mtu: Option<u16>,
    pub hostname: Option<String>,
}

impl Lease {
    /// The gateway of the default route.
    pub fn gateway(&self) -> Option<Ipv4Addr> {
        self.routes.iter().find(|route| route.prefix == 0)?.gateway
    }
}

/// The file's content. The wall clock is the only one that goes on over a reboot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stored {
    mac: String,
    acquired_unix: u64,
    lease: Lease,
}

/// A lease of an earlier boot, or of the supervisor that ran before this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Remembered {
    pub(super) lease: Lease,
    /// What is left of it; none when the clock cannot tell.
    pub(super) remaining: Option<Duration>,
}

/// `<folder>/<device>.lease`.
pub(super) struct LeaseFile {
    path: PathBuf,
    mac: String,
}

impl LeaseFile {
    pub(super) fn new(folder: &Path, device: &str, mac: [u8; 6]) -> Self {
        Self { path: folder.join(format!("{device}.lease")), mac: show_mac(mac) }
    }

    /// None if there is no file, or it is another card's. One that cannot be read is an error, and no reason not to go
    /// on.
    pub(super) fn load(&self, now: SystemTime) -> io::Result<Option<Remembered>> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut text = Vec::new();
        file.take(FILE_MAX_BYTES).read_to_end(&mut text)?;
        let stored: Stored = serde_json::from_slice(&text)?;
        if stored.mac != self.mac {
            return Ok(None);
        }
        let lease = stored.lease;
        let remaining = if lease.lease_seconds == FOREVER {
            Some(Duration::MAX)
        } else {
            // A clock that stands before the lease was given has not been set yet.
            let end = stored.acquired_unix.saturating_add(lease.lease_seconds.into());
            unix(now).filter(|now| *now >= stored.acquired_unix).map(|now| Duration::from_secs(end.saturating_sub(now)))
        };
        Ok(Some(Remembered { lease, remaining }))
    }

    pub(super) fn store(&self, lease: &Lease, now: SystemTime) -> io::Result<()> {
        let stored = Stored { mac: self.mac.clone(), acquired_unix: unix(now).unwrap_or(0), lease: lease.clone() };
        write_durably(&self.path, &serde_json::to_vec_pretty(&stored)?)
    }

    pub(super) fn forget(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

pub(super) fn show_mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

fn unix(time: SystemTime) -> Option<u64> {
    time.duration_since(SystemTime::UNIX_EPOCH).ok().map(|duration| duration.as_secs())
}

/// The old content or the new one, whenever the power goes.
fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)?;
    let new = path.with_extension("lease.new");
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::super::testing::lease;
    use super::*;

    #[test]
    fn a_lease_comes_back_with_what_is_left_of_it() {
        let home = tempfile::tempdir().unwrap();
        let file = LeaseFile::new(&home.path().join("net"), "eth0", [2, 0, 0, 0, 0, 1]);
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(file.load(at(0)).unwrap(), None);

        let lease = lease(3600);
        file.store(&lease, at(1_000_000)).unwrap();
        let left = |now| file.load(at(now)).unwrap().unwrap().remaining;
        assert_eq!(left(1_000_600), Some(Duration::from_secs(3000)));
        assert_eq!(left(2_000_000), Some(Duration::ZERO));
        assert_eq!(left(1000), None, "the clock is not set");
        assert_eq!(file.load(at(1_000_000)).unwrap().unwrap().lease, lease);
        assert_eq!(fs::read_dir(home.path().join("net")).unwrap().count(), 1);

        let other = LeaseFile::new(&home.path().join("net"), "eth0", [2, 0, 0, 0, 0, 2]);
        assert_eq!(other.load(at(1_000_000)).unwrap(), None, "another card");
        fs::write(home.path().join("net/eth0.lease"), "{ cut").unwrap();
        file.load(at(0)).unwrap_err();
        file.forget().unwrap();
        file.forget().unwrap();
        assert_eq!(file.load(at(0)).unwrap(), None);
    }
}

//! The root: where it comes from and how it is mounted.

use std::fmt;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

use super::devices::{self, BlockDevice};
use crate::cmdline::Cmdline;

/// One of the two places a system lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slot {
    A,
    B,
}

impl Slot {
    /// `orlop.root=a|b`; slot A when it is not given. A word that is neither is the error.
    pub(super) fn from(cmdline: &Cmdline) -> Result<Self, String> {
        match cmdline.value("orlop.root") {
            None | Some("a") => Ok(Self::A),
            Some("b") => Ok(Self::B),
            Some(other) => Err(other.to_owned()),
        }
    }

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::A => "orlop-root-a",
            Self::B => "orlop-root-b",
        }
    }
}

/// Serial of the disk that is the root as a whole (direct boot).
pub(super) const SERIAL: &str = "orlop-root";

/// What the root is mounted from. A root sealed by dm-verity is one more variant: the data device with its hash
/// device and root hash, opened before the mount.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RootSource {
    /// The file system as it lies on the device.
    Plain { node: String, slot: Option<Slot> },
}

impl RootSource {
    /// The slot's partition, else the disk with the serial.
    pub(super) fn choose(devices: &[BlockDevice], slot: Slot) -> Option<Self> {
        let device = devices::find(devices, slot.label(), SERIAL)?;
        Some(Self::Plain { node: device.node(), slot: device.label.is_some().then_some(slot) })
    }

    /// Mounts it read-only.
    pub(super) fn mount(&self, on: &str) -> Result<(), Errno> {
        match self {
            Self::Plain { node, .. } => {
                mount(Some(node.as_str()), on, Some("erofs"), MsFlags::MS_RDONLY | MsFlags::MS_NODEV, None::<&str>)
            }
        }
    }

    pub(super) fn node(&self) -> &str {
        let Self::Plain { node, .. } = self;
        node
    }
}

impl fmt::Display for RootSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Plain { node, slot } = self;
        f.write_str(match slot {
            Some(Slot::A) => "erofs, slot A, read-only, ",
            Some(Slot::B) => "erofs, slot B, read-only, ",
            None => "erofs, read-only, ",
        })?;
        f.write_str(node.trim_start_matches("/dev/"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slot_is_a_unless_told() {
        assert_eq!(Slot::from(&Cmdline::parse("quiet")), Ok(Slot::A));
        assert_eq!(Slot::from(&Cmdline::parse("orlop.root=b")), Ok(Slot::B));
        assert_eq!(Slot::from(&Cmdline::parse("orlop.root=c")), Err("c".to_owned()));
    }

    #[test]
    fn a_disk_has_no_slot() {
        let disk = BlockDevice { name: "vda".into(), serial: Some(SERIAL.into()), ..Default::default() };
        let part = BlockDevice { name: "vdb2".into(), label: Some("orlop-root-b".into()), ..Default::default() };
        let devices = [disk, part];
        let found = RootSource::choose(&devices, Slot::B).unwrap();
        assert_eq!(found.to_string(), "erofs, slot B, read-only, vdb2");
        let found = RootSource::choose(&devices, Slot::A).unwrap();
        assert_eq!(found, RootSource::Plain { node: "/dev/vda".into(), slot: None });
        assert_eq!(RootSource::choose(&[], Slot::A), None);
    }
}

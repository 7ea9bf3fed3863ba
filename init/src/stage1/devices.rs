//! The block devices of the machine, as sysfs shows them.

use std::fs;

/// A disk or a partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct BlockDevice {
    /// The kernel's name, also the node's below `/dev`: `vda`, `nvme0n1p2`.
    pub(crate) name: String,
    /// GPT partition label; disks have none.
    pub(crate) label: Option<String>,
    /// Serial number the hypervisor or the vendor gave to a disk; partitions have none.
    pub(crate) serial: Option<String>,
    pub(crate) size_bytes: u64,
    pub(crate) read_only: bool,
}

impl BlockDevice {
    pub(crate) fn node(&self) -> String {
        // sysfs writes a `/` in a device's name as `!`.
        format!("/dev/{}", self.name.replace('!', "/"))
    }
}

/// All of them, sorted by name so that the same machine always gives the same answer.
pub(crate) fn scan() -> Vec<BlockDevice> {
    let Ok(folder) = fs::read_dir("/sys/class/block") else { return Vec::new() };
    let mut names: Vec<String> = folder.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names.into_iter().filter_map(read).collect()
}

fn read(name: String) -> Option<BlockDevice> {
    let folder = format!("/sys/class/block/{name}");
    let attribute = |file: &str| fs::read(format!("{folder}/{file}")).ok();
    let text = |file: &str| attribute(file).map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
    let uevent = text("uevent")?;
    let is_partition = uevent_value(&uevent, "DEVTYPE") == Some("partition");
    // virtio-blk, then nvme, then what speaks SCSI (its page begins with a header of four bytes).
    let serial = || {
        let number = text("serial").or_else(|| text("device/serial"));
        number.or_else(|| attribute("device/vpd_pg80").as_deref().and_then(scsi_serial)).filter(|s| !s.is_empty())
    };
    Some(BlockDevice {
        label: uevent_value(&uevent, "PARTNAME").map(str::to_owned),
        serial: if is_partition { None } else { serial() },
        size_bytes: text("size")?.parse::<u64>().ok()?.checked_mul(512)?,
        read_only: text("ro").is_some_and(|ro| ro != "0"),
        name,
    })
}

/// A key of a `uevent` file: `KEY=value` lines.
fn uevent_value<'a>(uevent: &'a str, key: &str) -> Option<&'a str> {
    uevent.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
}

/// Unit serial number page of SPC-4, 7.8.17.
fn scsi_serial(page: &[u8]) -> Option<String> {
    let len = usize::from(u16::from_be_bytes([*page.get(2)?, *page.get(3)?]));
    let text = page.get(4..)?.get(..len)?;
    Some(String::from_utf8_lossy(text).trim_matches(|c: char| c.is_whitespace() || c == '\0').to_owned())
}

/// The device with the partition label, else the whole disk with the serial.
pub(crate) fn find<'a>(devices: &'a [BlockDevice], label: &str, serial: &str) -> Option<&'a BlockDevice> {
    let by_label = devices.iter().find(|device| device.label.as_deref() == Some(label));
    by_label.or_else(|| devices.iter().find(|device| device.serial.as_deref() == Some(serial)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: &str, label: Option<&str>, serial: Option<&str>) -> BlockDevice {
        BlockDevice {
            name: name.into(),
            label: label.map(Into::into),
            serial: serial.map(Into::into),
            ..Default::default()
        }
    }

    #[test]
    fn a_label_wins_over_a_serial() {
        let disks = [
            device("vda", None, Some("orlop-root")),
            device("vdb", None, None),
            device("vdb1", Some("orlop-root-a"), None),
            device("vdb2", Some("orlop-root-b"), None),
        ];
        assert_eq!(find(&disks, "orlop-root-b", "orlop-root").unwrap().name, "vdb2");
        assert_eq!(find(&disks[..2], "orlop-root-b", "orlop-root").unwrap().name, "vda");
        assert_eq!(find(&disks[1..2], "orlop-root-b", "orlop-root"), None);
    }

    #[test]
    fn uevents_and_serials() {
        let text = "MAJOR=254\nMINOR=2\nDEVNAME=vda2\nDEVTYPE=partition\nPARTN=2\nPARTNAME=orlop root=b\n";
        assert_eq!(uevent_value(text, "PARTNAME"), Some("orlop root=b"));
        assert_eq!(uevent_value(text, "PARTN"), Some("2"));
        assert_eq!(uevent_value(text, "DEV"), None);
        assert_eq!(scsi_serial(b"\0\x80\0\x0b orlop-root").as_deref(), Some("orlop-root"));
        assert_eq!(scsi_serial(b"\0\x80\0\x30short"), None);
    }

    #[test]
    fn names_with_a_slash() {
        assert_eq!(device("cciss!c0d0", None, None).node(), "/dev/cciss/c0d0");
    }
}

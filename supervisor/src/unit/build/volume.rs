//! `[Volume]`: podman-volume-create(1) in Quadlet's words.

use std::rc::Rc;

use super::{
    Claim, Link, claimed,
    container::{Bare, assignments, image_name},
};
use crate::unit::{Backing, VolumeSpec, sheet::Sheet, text::Text, values};

/// Options that every mount has, whatever is mounted.
const OF_ANY_MOUNT: [&str; 18] = [
    "defaults",
    "rw",
    "ro",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "exec",
    "noexec",
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
    "async",
];
/// mount(8) reads them itself, and there is none here.
const OF_THE_COMMAND: [&str; 10] =
    ["auto", "noauto", "user", "nouser", "users", "owner", "group", "nofail", "_netdev", "loop"];
/// Each file in them has its own owner, so `uid=` says nothing to them.
const WITH_OWNERS: [&str; 9] = ["btrfs", "erofs", "ext2", "ext3", "ext4", "f2fs", "squashfs", "virtiofs", "xfs"];
const WITHOUT_OWNERS: [&str; 7] = ["exfat", "iso9660", "msdos", "ntfs3", "tmpfs", "udf", "vfat"];
/// Known, and they need more than the kernel, or take care of their memory.
const OTHERS: [&str; 14] = [
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "glusterfs",
    "ceph",
    "cephfs",
    "fuse",
    "sshfs",
    "overlay",
    "9p",
    "ramfs",
    "none",
    "auto",
];

pub(super) fn volume(stem: &str, sheet: &mut Sheet<'_>, links: &mut Vec<Link>, claims: &mut Vec<Claim>) -> VolumeSpec {
    let driver = sheet.read("Volume", "Driver", |text| match text {
        "local" | "image" => Ok(text.to_owned()),
        _ => Err("expected local or image; there are no volume plugins here"),
    });
    let by_image = driver.as_deref() == Some("image");
    let image = image_name("Volume", sheet, links);
    match (&image, by_image) {
        (None, true) => {
            if let Some(value) = sheet.last("Volume", "Driver") {
                sheet.error(&value, "Driver=image needs Image= beside it");
            }
        }
        (Some((value, _)), false) => sheet.error(value, "Image= is for volumes with Driver=image"),
        _ => {}
    }
    let device = sheet.last("Volume", "Device").filter(|value| !value.text.is_empty());
    if by_image {
        for key in ["Device", "Type", "Options"] {
            if let Some(value) = sheet.last("Volume", key).filter(|value| !value.text.is_empty()) {
                sheet.error(&value, format!("{key}= is for volumes of a folder, this one is an image"));
            }
        }
        // Quadlet does not pass them on for such a volume.
        for key in ["User", "UID", "Group", "GID"] {
            if let Some(value) = sheet.last("Volume", key) {
                sheet.warning(&value, format!("{key}= has no effect on an image: its files have owners of their own"));
            }
        }
    }
    let copy = sheet.read("Volume", "Copy", values::boolean);
    let mut owner = (id(sheet, "User", "UID"), id(sheet, "Group", "GID"));
    let backing = match (image.filter(|_| by_image), device) {
        (Some((_, image)), _) => {
            owner = (None, None);
            Backing::Image(image.into())
        }
        (None, Some(device)) => mounted(sheet, &device, &mut owner, copy),
        (None, None) => {
            for key in ["Type", "Options"] {
                if let Some(value) = sheet.last("Volume", key) {
                    sheet.error(&value, format!("{key}= needs Device= beside it"));
                }
            }
            Backing::Folder
        }
    };
    VolumeSpec {
        name: claimed(sheet, ("Volume", "VolumeName"), stem, "volume", claims),
        labels: assignments(sheet, ("Volume", "Label"), Bare::Empty),
        copy: copy.unwrap_or(true),
        owner,
        backing,
    }
}

/// A number: this machine has no users with names. Podman 6 has a second word for the same.
fn id(sheet: &mut Sheet<'_>, name: &'static str, number: &'static str) -> Option<u32> {
    let named = sheet.read("Volume", name, |text| match text {
        "root" => Ok(0),
        _ => parse(text).ok_or("the machine has no names of users but root; write the number"),
    });
    let by_number = sheet.read("Volume", number, |text| parse(text).ok_or("expected a number"));
    if let (Some(_), Some(_), Some(value)) = (named, by_number, sheet.last("Volume", number)) {
        sheet.error(&value, format!("{name}= says the same; write one of them"));
    }
    named.or(by_number)
}

/// chown(2) takes the highest for nobody.
fn parse(id: &str) -> Option<u32> {
    id.parse().ok().filter(|id| *id != u32::MAX)
}

/// What mount(8) would be told: device, type, and options.
fn mounted(
    sheet: &mut Sheet<'_>,
    device: &Rc<Text>,
    owner: &mut (Option<u32>, Option<u32>),
    copy: Option<bool>,
) -> Backing {
    let kind = sheet.last("Volume", "Type").filter(|value| !value.text.is_empty());
    let written = sheet.last("Volume", "Options").filter(|value| !value.text.is_empty());
    let mut options: Vec<String> = Vec::new();
    let mut bind = kind.as_ref().is_some_and(|kind| kind.text == "bind").then_some(false);
    if let Some(value) = &written {
        for word in value.text.split(',').map(str::trim) {
            match word {
                "" => sheet.error(value, "expected mount options with commas between them"),
                "bind" | "rbind" => bind = Some(bind.unwrap_or(false) | (word == "rbind")),
                _ if OF_THE_COMMAND.contains(&word) || word.starts_with("x-") || word.starts_with("X-") => {
                    sheet.unavailable(value, format!("Options={word}: known, not available in this version"));
                }
                _ => options.push(word.to_owned()),
            }
        }
    }
    if let Some(value) = &written {
        for (word, id) in [("uid=", &mut owner.0), ("gid=", &mut owner.1)] {
            options.retain(|option| {
                let Some(number) = option.strip_prefix(word) else { return true };
                match parse(number) {
                    Some(number) => *id = Some(number),
                    None => sheet.error(value, format!("expected a number after {word}")),
                }
                false
            });
        }
    }
    if bind.is_some() || kind.as_ref().is_none_or(|kind| kind.text != "tmpfs") {
        // It may hold what somebody stored, half a copy of an image's files among it.
        if copy == Some(true)
            && let Some(value) = sheet.last("Volume", "Copy")
        {
            let text = "Copy=yes: known, not available in this version beside Device= but for a tmpfs; write no";
            sheet.unavailable(&value, text);
        } else if copy.is_none() {
            sheet.warning(device, "nothing is copied from the image to what Device= names; Copy=no says so");
        }
    }
    if let Some(recursive) = bind {
        let other = ["", "bind", "none"];
        if let Some(kind) = kind.as_ref().filter(|kind| !other.contains(&kind.text.as_str())) {
            sheet.error(kind, "bind mounts a folder of the machine, which has no type; leave Type= out");
        }
        if !device.text.starts_with('/') {
            sheet.error(device, "expected the absolute path of a folder of the machine");
        }
        if let (Some(value), Some(strange)) =
            (&written, options.iter().find(|option| !OF_ANY_MOUNT.contains(&option.as_str())))
        {
            sheet.error(value, format!("{strange} is no option of a bind mount"));
        }
        if std::mem::take(owner) != (None, None) {
            sheet.warning(device, "an owner has no effect on what is bound: the folder keeps its own");
        }
        return Backing::Bind { path: device.text.clone().into(), recursive, options };
    }
    let Some(kind) = kind else {
        let text = "a Device= without Type= is known, not available in this version; write its file system in Type=";
        sheet.unavailable(device, text);
        return Backing::Folder;
    };
    let kind_name = kind.text.as_str();
    let (with, without) = (WITH_OWNERS.contains(&kind_name), WITHOUT_OWNERS.contains(&kind_name));
    if OTHERS.contains(&kind_name) || kind_name.starts_with("fuse.") {
        sheet.unavailable(&kind, format!("Type={kind_name}: known, not available in this version"));
    } else if !with && !without {
        sheet.error(&kind, "expected bind, tmpfs, virtiofs, or the file system of a disk, such as ext4, xfs, vfat");
    } else if !matches!(kind_name, "tmpfs" | "virtiofs") && !device.text.starts_with("/dev/") {
        let known = device.text.contains('=') || device.text.starts_with('/');
        if known {
            let text = "names of file systems and files as disks are known, not available in this version; \
                        write the block device's path";
            sheet.unavailable(device, text);
        } else {
            sheet.error(device, "expected the path of a block device, such as /dev/vdb1");
        }
    }
    for (word, id) in [("uid", &mut owner.0), ("gid", &mut owner.1)] {
        let Some(id) = (kind_name != "tmpfs").then(|| id.take()).flatten() else { continue };
        if with {
            sheet.error(
                device,
                format!("{kind_name} has an owner for each of its files; leave {word} of the volume out"),
            );
        }
        options.push(format!("{word}={id}"));
    }
    Backing::FileSystem { kind: kind_name.to_owned(), device: device.text.clone(), options }
}

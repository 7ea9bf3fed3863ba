//! A raw disk: GPT with both root slots and a blank state partition, which the machine formats at its first boot.
//! Sparse; identifiers are fixed, for the same bytes every time (the state file system gets its own on the machine).

use crate::digest::Key;
use crate::error::{Error, Result, at};
use crate::image::Image;
use crate::place;
use gpt::partition_types::{OperatingSystem, Type};
use gpt::{GptConfig, mbr::ProtectiveMBR};
use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use uuid::{Uuid, uuid};

const SECTOR_BYTES: u64 = 512;
/// Partitions start at multiples of 1 MiB, as every tool does: no medium has larger blocks.
const ALIGN_BYTES: u64 = 1 << 20;
/// The second table at the end, and the first with its padding.
const TABLE_BYTES: u64 = ALIGN_BYTES;

/// A slot holds an image that has grown to twice today's size: updates are written into it for years.
const SLOT_GROWTH: u64 = 2;
const SLOT_LEAST_BYTES: u64 = 32 << 20;

const DISK: Uuid = uuid!("6f726c6f-7000-4000-8000-000000000010");

/// Types of the Discoverable Partitions Specification.
const ROOT: Uuid = uuid!("4f68bce3-e8cd-4db1-96e7-fbcaf984b709");
const VAR: Uuid = uuid!("4d21b016-b534-45c2-a9fb-5c16e091fd2d");

struct Slot {
    label: &'static str,
    kind: Uuid,
    guid: Uuid,
    bytes: u64,
}

/// Builds the disk: `orlop-root-a` with the root image, `orlop-root-b` of the same size and empty, `orlop-state` with
/// `state_bytes`. The file is a pristine copy: a machine that writes works on an overlay or a copy of it.
pub fn raw_disk(out: &Path, image: &Image, state_bytes: u64, progress: &mut dyn FnMut(&str)) -> Result<PathBuf> {
    fs::create_dir_all(out).map_err(at("create", out))?;
    let _lock = place::lock(out)?;
    let mut key = Key::new("disk");
    key.content(&image.root)?;
    key.text(&state_bytes.to_string());
    let path = out.join(format!("disk-{}.raw", key.finish()));
    if path.exists() {
        place::touch(&path)?;
        return Ok(path);
    }
    progress("build the disk");
    let root_bytes = (image.sizes.root * SLOT_GROWTH).max(SLOT_LEAST_BYTES).next_multiple_of(ALIGN_BYTES);
    let state_bytes = state_bytes.max(ALIGN_BYTES).next_multiple_of(ALIGN_BYTES);
    let slots = [
        Slot {
            label: "orlop-root-a",
            kind: ROOT,
            guid: uuid!("6f726c6f-7000-4000-8000-000000000011"),
            bytes: root_bytes,
        },
        Slot {
            label: "orlop-root-b",
            kind: ROOT,
            guid: uuid!("6f726c6f-7000-4000-8000-000000000012"),
            bytes: root_bytes,
        },
        Slot {
            label: "orlop-state",
            kind: VAR,
            guid: uuid!("6f726c6f-7000-4000-8000-000000000013"),
            bytes: state_bytes,
        },
    ];
    let disk = place::part(out)?;
    let bytes = ALIGN_BYTES + slots.iter().map(|slot| slot.bytes).sum::<u64>() + TABLE_BYTES;
    disk.as_file().set_len(bytes).map_err(at("grow", disk.path()))?;
    partition(disk.as_file(), bytes, &slots)
        .map_err(|source| Error::Partition { path: disk.path().to_path_buf(), source })?;
    let mut target = disk.as_file();
    target.seek(SeekFrom::Start(ALIGN_BYTES)).map_err(at("seek in", disk.path()))?;
    let mut root = File::open(&image.root).map_err(at("open", &image.root))?;
    std::io::copy(&mut root, &mut target).map_err(at("copy", &image.root))?;
    place::publish(disk, &path)?;
    place::keep_newest(out, "disk-", 4)?;
    Ok(path)
}

type TableError = Box<dyn std::error::Error + Send + Sync>;

fn partition(mut disk: &File, bytes: u64, slots: &[Slot]) -> std::result::Result<(), TableError> {
    let sectors = u32::try_from(bytes / SECTOR_BYTES - 1).unwrap_or(u32::MAX);
    ProtectiveMBR::with_lb_size(sectors).overwrite_lba0(&mut disk)?;
    let mut table = GptConfig::new().writable(true).create_from_device(disk, Some(DISK))?;
    let mut first = ALIGN_BYTES / SECTOR_BYTES;
    for (number, slot) in (1..).zip(slots) {
        let length = slot.bytes / SECTOR_BYTES;
        let kind = Type { guid: slot.kind, os: OperatingSystem::Linux };
        table.add_partition_at(slot.label, number, first, length, kind, 0)?;
        first += length;
    }
    // The crate gives partitions random identifiers.
    let mut partitions = table.take_partitions();
    for (partition, slot) in partitions.values_mut().zip(slots) {
        partition.part_guid = slot.guid;
    }
    table.update_partitions(partitions)?;
    table.write()?;
    Ok(())
}

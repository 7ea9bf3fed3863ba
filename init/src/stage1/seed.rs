//! A fresh xfs out of a seed, for a blank device.
//!
//! The seed (made when the image is built) holds the non-zero blocks of a new file system without its log. They are
//! written so that the power may go at any moment: first a mark in sector 0 that says "unfinished", then everything
//! but sector 0, and the primary superblock as the last write. A device with the mark is simply begun again.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use super::superblock::{Geometry, MIN_SECTOR_BYTES, set_uuid};
use crate::sys::blockdev::zero_out;

const MAGIC: &[u8; 8] = b"ORLOPXFS";
/// magic, size of the file system, count of extents
pub(crate) const HEADER_BYTES: usize = 20;

/// What sector 0 says while a file system is being made, and after a reset was asked for.
const UNFINISHED: &[u8; 24] = b"orlop: unfinished state\n";

/// One run of bytes and where it belongs.
#[derive(Debug, PartialEq, Eq)]
struct Extent<'a> {
    offset: u64,
    bytes: &'a [u8],
}

/// A seed file, taken apart and found consistent.
#[derive(Debug)]
pub(crate) struct Seed<'a> {
    pub(crate) size_bytes: u64,
    extents: Vec<Extent<'a>>,
    geometry: Geometry,
}

/// The size of the file system a seed makes, from the head of its file.
pub(crate) fn size_of(header: &[u8]) -> Option<u64> {
    header.strip_prefix(MAGIC)?.first_chunk().map(|size| u64::from_le_bytes(*size))
}

/// True when the first sector carries the mark.
pub(crate) fn is_unfinished(sector: &[u8]) -> bool {
    sector.starts_with(UNFINISHED)
}

/// Marks the device: whatever it held is given up, and the next boot makes a new file system on it.
pub(crate) fn mark_unfinished(device: &File) -> io::Result<()> {
    let mut sector = [0; MIN_SECTOR_BYTES];
    sector[..UNFINISHED.len()].copy_from_slice(UNFINISHED);
    device.write_all_at(&sector, 0)?;
    device.sync_all()
}

impl<'a> Seed<'a> {
    /// `None` when the file is not a whole seed of a V5 xfs.
    pub(crate) fn parse(file: &'a [u8]) -> Option<Self> {
        let size_bytes = size_of(file)?;
        let (count, mut rest) = file.get(16..)?.split_first_chunk()?;
        let mut extents: Vec<Extent<'a>> = Vec::new();
        let mut end = 0;
        for _ in 0..u32::from_le_bytes(*count) {
            let (offset, after) = rest.split_first_chunk()?;
            let (len, after) = after.split_first_chunk()?;
            let offset = u64::from_le_bytes(*offset);
            let (bytes, after) = after.split_at_checked(usize::try_from(u32::from_le_bytes(*len)).ok()?)?;
            // In order and within the file system, so that no extent hides another.
            if offset < end {
                return None;
            }
            end = offset.checked_add(u64::try_from(bytes.len()).ok()?)?;
            extents.push(Extent { offset, bytes });
            rest = after;
        }
        let geometry = Geometry::read(extents.first().filter(|first| first.offset == 0)?.bytes)?;
        let whole = end <= size_bytes && geometry.size_bytes == size_bytes && geometry.log.end <= size_bytes;
        (whole && rest.is_empty()).then_some(Self { size_bytes, extents, geometry })
    }

    /// Makes the file system with the given UUID. The device is `size_bytes` long or longer.
    pub(crate) fn write(&self, device: &File, uuid: [u8; 16]) -> io::Result<()> {
        mark_unfinished(device)?;
        // The kernel takes a log that begins with zeroes for an empty one, but what an earlier file system left
        // further behind would be replayed after the first power cut.
        zero(device, self.geometry.log.start, self.geometry.log.end)?;
        let mut primary = Vec::new();
        for extent in &self.extents {
            let bytes = self.with_uuid(extent, uuid);
            if extent.offset == 0 {
                device.write_all_at(&bytes[MIN_SECTOR_BYTES..], MIN_SECTOR_BYTES as u64)?;
                primary.extend_from_slice(&bytes[..MIN_SECTOR_BYTES]);
            } else {
                device.write_all_at(&bytes, extent.offset)?;
            }
        }
        device.sync_all()?;
        device.write_all_at(&primary, 0)?;
        device.sync_all()
    }

    /// The extent's bytes, with every superblock in them patched.
    fn with_uuid(&self, extent: &Extent<'_>, uuid: [u8; 16]) -> Vec<u8> {
        let mut bytes = extent.bytes.to_vec();
        for &at in &self.geometry.superblocks {
            let inside = at.checked_sub(extent.offset).and_then(|within| usize::try_from(within).ok());
            let sector = inside.and_then(|from| bytes.get_mut(from..from + self.geometry.sector_bytes));
            if let Some(sector) = sector {
                set_uuid(sector, uuid);
            }
        }
        bytes
    }
}

/// Zeroes a range of the device; by hand where the kernel's call does not serve (a plain file in a test).
fn zero(device: &File, from: u64, to: u64) -> io::Result<()> {
    if zero_out(device.as_fd(), from, to - from).is_ok() {
        return Ok(());
    }
    let zeroes = vec![0; 1 << 18];
    let mut at = from;
    while at < to {
        let len = usize::try_from(to - at).map_or(zeroes.len(), |left| left.min(zeroes.len()));
        device.write_all_at(&zeroes[..len], at)?;
        at += len as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests;

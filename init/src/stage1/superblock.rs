//! The xfs superblock: what of it the state's creation reads and writes (fs/xfs/libxfs/xfs_format.h, `struct
//! xfs_dsb`, big endian but for its checksum).

use std::ops::Range;

const MAGIC: &[u8; 4] = b"XFSB";
const CRC_AT: usize = 224;
const UUID_AT: usize = 32;
const META_UUID_AT: usize = 248;
const INCOMPAT_AT: usize = 216;
const INCOMPAT_META_UUID: u32 = 1 << 2;
/// Bytes a superblock's sector has at least.
pub(crate) const MIN_SECTOR_BYTES: usize = 512;

/// Where things are in a file system; all byte offsets from the device's start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) sector_bytes: usize,
    /// One superblock at the start of each allocation group; the first is the primary one.
    pub(crate) superblocks: Vec<u64>,
    pub(crate) log: Range<u64>,
    pub(crate) size_bytes: u64,
}

/// True when the device's first sector is one of an xfs.
pub(crate) fn is_xfs(sector: &[u8]) -> bool {
    sector.starts_with(MAGIC)
}

impl Geometry {
    /// Reads a V5 superblock; `None` when it is none or makes no sense.
    pub(crate) fn read(sector: &[u8]) -> Option<Self> {
        if !is_xfs(sector) || be16(sector, 100)? & 0xf != 5 {
            return None;
        }
        let block_bytes = u64::from(be32(sector, 4)?);
        let sector_bytes = usize::from(be16(sector, 102)?);
        let group_blocks = u64::from(be32(sector, 84)?);
        let groups = u64::from(be32(sector, 88)?);
        let group_bits = u32::from(*sector.get(124)?);
        let sane = block_bytes.is_power_of_two()
            && (512..=65536).contains(&block_bytes)
            && sector_bytes.is_power_of_two()
            && (MIN_SECTOR_BYTES..=32768).contains(&sector_bytes)
            && (1..=65536).contains(&groups)
            && group_bits < 32;
        if !sane {
            return None;
        }
        // A block number of xfs is (group << bits) | block in the group.
        let log_start = be64(sector, 48)?;
        let (group, block) = (log_start >> group_bits, log_start & ((1 << group_bits) - 1));
        let at = group.checked_mul(group_blocks)?.checked_add(block)?.checked_mul(block_bytes)?;
        let len = u64::from(be32(sector, 96)?).checked_mul(block_bytes)?;
        Some(Self {
            sector_bytes,
            superblocks: (0..groups).map(|group| group * group_blocks * block_bytes).collect(),
            log: at..at.checked_add(len)?,
            size_bytes: be64(sector, 8)?.checked_mul(block_bytes)?,
        })
    }
}

/// Gives a superblock a new user-visible UUID, as `xfs_admin -U` does: the metadata keeps the one it was made with,
/// which moves to `sb_meta_uuid`. `sector` is the whole sector, whose checksum is written anew.
pub(crate) fn set_uuid(sector: &mut [u8], uuid: [u8; 16]) {
    let incompat = be32(sector, INCOMPAT_AT).unwrap_or(0);
    if incompat & INCOMPAT_META_UUID == 0 {
        sector.copy_within(UUID_AT..UUID_AT + 16, META_UUID_AT);
        sector[INCOMPAT_AT..INCOMPAT_AT + 4].copy_from_slice(&(incompat | INCOMPAT_META_UUID).to_be_bytes());
    }
    sector[UUID_AT..UUID_AT + 16].copy_from_slice(&uuid);
    sector[CRC_AT..CRC_AT + 4].fill(0);
    let crc = crc32c(sector);
    sector[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
}

/// Castagnoli's CRC, bit by bit: a few sectors once in a machine's life need no table.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    })
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn be64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_castagnolis() {
        // RFC 3720, B.4
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    }

    #[test]
    fn nonsense_is_no_superblock() {
        assert_eq!(Geometry::read(b""), None);
        assert_eq!(Geometry::read(b"XFSB"), None);
        let mut sector = [0; 512];
        sector[..4].copy_from_slice(MAGIC);
        sector[101] = 5;
        assert_eq!(Geometry::read(&sector), None);
    }
}

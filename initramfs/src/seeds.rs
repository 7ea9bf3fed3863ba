//! Seeds of the state file system: what `mkfs.xfs` writes, made at build time, because mkfs is no program for a
//! machine of 96 MiB and without it there is nothing to keep up to date there.
//!
//! A fresh xfs of any size has a few dozen blocks that are not zero; those are the seed. Its log is left out: a log of
//! zeros is a clean one. Seed file: `ORLOPXFS`, the size (u64), a count (u32), then as many times an offset (u64), a
//! length (u32) and bytes; all little-endian, offsets ascending, the first one 0.

use crate::command::{self, tool};
use crate::digest::Key;
use crate::error::{Result, at, input};
use crate::place;
use crate::requirements::{self, MKFS_XFS};
use nix::unistd::{Whence, lseek};
use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"ORLOPXFS";
const BLOCK_BYTES: usize = 4096;

/// The seed's own identifier; every machine gives its file system a fresh one.
const UUID: &str = "6f726c6f-7000-4000-8000-000000000002";

/// Sizes in GiB and of their logs in MiB. A machine takes the largest that fits its disk and grows it; the log does not
/// grow, so a larger seed has a larger one (64 MiB is the least that mkfs makes for disks of these sizes).
const SIZES: [(u64, u64); 3] = [(1, 64), (16, 64), (256, 128)];

/// The folder with `1.xfsseed`, `16.xfsseed` and `256.xfsseed`.
pub(crate) fn seeds(out: &Path, progress: &mut dyn FnMut(&str)) -> Result<PathBuf> {
    requirements::ensure(&[MKFS_XFS], progress)?;
    let mut key = Key::new("seeds");
    key.text(&version()?);
    let folder = out.join(format!("seeds-{}", key.finish()));
    if folder.exists() {
        place::touch(&folder)?;
        return Ok(folder);
    }
    progress("make the seeds of the state file system (mkfs.xfs)");
    place::folder(&folder, |folder| {
        for (gib, log_mib) in SIZES {
            let image = folder.join("image");
            make(&image, gib << 30, log_mib)?;
            let seed = folder.join(format!("{gib}.xfsseed"));
            fs::write(&seed, extract(&image)?).map_err(at("write", &seed))?;
            fs::remove_file(&image).map_err(at("remove", &image))?;
        }
        Ok(())
    })?;
    place::keep_newest(out, "seeds-", 3)?;
    Ok(folder)
}

fn version() -> Result<String> {
    let text = command::output(tool("mkfs.xfs").arg("-V"))?;
    Ok(String::from_utf8_lossy(&text).trim().to_owned())
}

/// Major and minor of `mkfs.xfs version 6.1.0`.
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split_whitespace().last()?.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Every feature is spelled out: defaults change between versions of mkfs, and the oldest kernel we run on is 6.1.
fn make(image: &Path, bytes: u64, log_mib: u64) -> Result<()> {
    let version = parse_version(&version()?).unwrap_or((6, 1));
    let file = File::create(image).map_err(at("create", image))?;
    file.set_len(bytes).map_err(at("grow", image))?;
    // A sector of 4096 bytes works on disks with smaller ones; the reverse does not.
    let (mut inode, mut naming) = (String::from("size=512,sparse=1"), String::from("version=2,ftype=1"));
    if version >= (5, 19) {
        inode.push_str(",nrext64=0");
    }
    if version >= (6, 10) {
        inode.push_str(",exchange=0");
        naming.push_str(",parent=0");
    }
    let mut mkfs = tool("mkfs.xfs");
    mkfs.args(["-q", "-K", "-f", "-b", "size=4096", "-s", "size=4096", "-d", "agcount=4"])
        .args(["-m", &format!("uuid={UUID},crc=1,finobt=1,rmapbt=0,reflink=1,bigtime=1,inobtcount=1")])
        .args(["-i", &inode, "-n", &naming, "-l", &format!("size={log_mib}m,version=2")])
        .arg(image);
    command::output(&mut mkfs).map(drop)
}

/// The blocks of a fresh file system that are not zero, without its log, with fixed times.
fn extract(image: &Path) -> Result<Vec<u8>> {
    let file = File::open(image).map_err(at("open", image))?;
    let bytes = file.metadata().map_err(at("look at", image))?.len();
    let mut head = [0; 512];
    file.read_exact_at(&mut head, 0).map_err(at("read", image))?;
    let layout = Layout::of(&head).ok_or_else(|| input(image, "mkfs.xfs made no file system of the expected kind"))?;
    let mut blocks = Vec::new();
    let mut block = [0; BLOCK_BYTES];
    let mut offset = 0;
    while let Some(data) = next_data(&file, offset).map_err(at("search", image))? {
        offset = data.start / BLOCK_BYTES as u64 * BLOCK_BYTES as u64;
        while offset < data.end {
            if layout.log.contains(&offset) {
                offset = layout.log.end;
                continue;
            }
            file.read_exact_at(&mut block, offset).map_err(at("read", image))?;
            if block.iter().any(|byte| *byte != 0) {
                settle_inodes(&mut block, layout.inode_bytes);
                blocks.push((offset, block));
            }
            offset += BLOCK_BYTES as u64;
        }
    }
    let count =
        u32::try_from(blocks.len()).map_err(|_| input(image, "a fresh file system cannot have that many blocks"))?;
    let mut seed = MAGIC.to_vec();
    seed.extend(bytes.to_le_bytes());
    seed.extend(count.to_le_bytes());
    for (offset, block) in blocks {
        seed.extend(offset.to_le_bytes());
        seed.extend(4096u32.to_le_bytes());
        seed.extend(block);
    }
    Ok(seed)
}

/// The next range of a sparse file that is not a hole.
fn next_data(file: &File, from: u64) -> std::io::Result<Option<Range<u64>>> {
    let seek = |from: u64, whence| match lseek(file, i64::try_from(from).unwrap_or(i64::MAX), whence) {
        Ok(found) => Ok(Some(u64::try_from(found).unwrap_or_default())),
        Err(nix::Error::ENXIO) => Ok(None), // behind the last data
        Err(error) => Err(std::io::Error::from(error)),
    };
    let Some(start) = seek(from, Whence::SeekData)? else { return Ok(None) };
    let end = seek(start, Whence::SeekHole)?.unwrap_or(start);
    Ok(Some(start..end))
}

/// What the primary superblock says (struct xfs_dsb in the kernel's fs/xfs/libxfs/xfs_format.h; big-endian).
struct Layout {
    inode_bytes: usize,
    log: Range<u64>,
}

impl Layout {
    fn of(superblock: &[u8; 512]) -> Option<Self> {
        let number = |at: usize, bytes: usize| {
            superblock[at..at + bytes].iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte))
        };
        if &superblock[..4] != b"XFSB" || number(4, 4) != BLOCK_BYTES as u64 {
            return None;
        }
        // Block numbers carry the allocation group above agblklog bits.
        let (log, group_blocks, log_blocks, bits) = (number(48, 8), number(84, 4), number(96, 4), number(124, 1));
        let start = ((log >> bits) * group_blocks + (log & ((1 << bits) - 1))) * BLOCK_BYTES as u64;
        let end = start + log_blocks * BLOCK_BYTES as u64;
        Some(Self { inode_bytes: usize::try_from(number(104, 2)).ok()?, log: start..end })
    }
}

/// Sets the times of inodes in a block to 1970 and their generation to one value, and renews their checksums: all
/// else that mkfs writes is the same every time (struct xfs_dinode).
fn settle_inodes(block: &mut [u8], inode_bytes: usize) {
    const BIGTIME: u64 = 1 << 3;
    /// Big times count nanoseconds from 1901, the reach of a 32-bit clock before 1970.
    const EPOCH: u64 = (1 << 31) * 1_000_000_000;
    const TIMES: [usize; 4] = [32, 40, 48, 144]; // access, change of data, of the inode, creation
    const GENERATION: Range<usize> = 92..96;
    const CHECKSUM: Range<usize> = 100..104;
    const FLAGS2: Range<usize> = 120..128;
    for inode in block.chunks_exact_mut(inode_bytes.max(256)) {
        if inode[..2] != *b"IN" || inode[4] != 3 {
            continue;
        }
        let flags = inode[FLAGS2].iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
        let epoch = if flags & BIGTIME == 0 { 0 } else { EPOCH };
        for time in TIMES {
            // A free inode has none.
            if inode[time..time + 8] != [0; 8] {
                inode[time..time + 8].copy_from_slice(&epoch.to_be_bytes());
            }
        }
        inode[GENERATION].copy_from_slice(&1u32.to_be_bytes());
        inode[CHECKSUM].fill(0);
        let checksum = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI).checksum(inode);
        inode[CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_mkfs() {
        assert_eq!(parse_version("mkfs.xfs version 6.1.0"), Some((6, 1)));
        assert_eq!(parse_version("mkfs.xfs version 5.13.0"), Some((5, 13)));
        assert_eq!(parse_version(""), None);
    }

    #[test]
    fn the_log_is_found_behind_its_group_number() {
        let mut superblock = [0; 512];
        superblock[..4].copy_from_slice(b"XFSB");
        superblock[4..8].copy_from_slice(&4096u32.to_be_bytes());
        superblock[48..56].copy_from_slice(&(2u64 << 16 | 5).to_be_bytes());
        superblock[84..88].copy_from_slice(&65_000u32.to_be_bytes());
        superblock[96..100].copy_from_slice(&16u32.to_be_bytes());
        superblock[104..106].copy_from_slice(&512u16.to_be_bytes());
        superblock[124] = 16;
        let layout = Layout::of(&superblock).unwrap();
        assert_eq!(layout.log, (130_005 * 4096)..(130_021 * 4096));
        assert_eq!(layout.inode_bytes, 512);
        superblock[0] = 0;
        assert!(Layout::of(&superblock).is_none());
    }
}

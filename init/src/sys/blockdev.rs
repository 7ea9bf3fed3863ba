//! ioctls of block devices and of xfs.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

/// `_IO(0x12, 127)`, include/uapi/linux/fs.h
const BLKZEROOUT: u32 = 0x127f;
/// `_IOR('X', 126, struct xfs_fsop_geom)`, fs/xfs/libxfs/xfs_fs.h; the struct has 256 bytes.
const XFS_IOC_FSGEOMETRY: u32 = 0x8100_587e;
/// `_IOW('X', 110, struct xfs_growfs_data)`: u64 new size in blocks, u32 imaxpct, 4 bytes of padding.
const XFS_IOC_FSGROWFSDATA: u32 = 0x4010_586e;

/// What the growing needs of `struct xfs_fsop_geom`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct XfsGeometry {
    pub(crate) block_bytes: u32,
    pub(crate) max_inode_percent: u32,
    pub(crate) blocks: u64,
    pub(crate) groups: u32,
    pub(crate) group_blocks: u32,
}

/// Makes a range of the device read as zeroes, by the fastest means the device has.
pub(crate) fn zero_out(device: BorrowedFd<'_>, offset: u64, len: u64) -> Result<(), Errno> {
    let range = [offset, len];
    // SAFETY: BLKZEROOUT reads two u64 from the pointer, which is what `range` holds.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), BLKZEROOUT as libc::Ioctl, range.as_ptr()) };
    Errno::result(result).map(drop)
}

/// The size of the mounted xfs that `folder` is in.
pub(crate) fn xfs_geometry(folder: BorrowedFd<'_>) -> Result<XfsGeometry, Errno> {
    let mut geometry = [0_u32; 64];
    // SAFETY: the kernel writes sizeof(struct xfs_fsop_geom) = 256 bytes, the size of `geometry`.
    let result = unsafe { libc::ioctl(folder.as_raw_fd(), XFS_IOC_FSGEOMETRY as libc::Ioctl, geometry.as_mut_ptr()) };
    Errno::result(result)?;
    // blocksize, rtextsize, agblocks, agcount, logblocks, sectsize, inodesize, imaxpct, then u64 datablocks.
    let [low, high] = [geometry[8], geometry[9]].map(|word| word.to_ne_bytes());
    let blocks = u64::from_ne_bytes([low[0], low[1], low[2], low[3], high[0], high[1], high[2], high[3]]);
    Ok(XfsGeometry {
        block_bytes: geometry[0],
        max_inode_percent: geometry[7],
        blocks,
        groups: geometry[3],
        group_blocks: geometry[2],
    })
}

/// Grows the data part of the mounted xfs that `folder` is in.
pub(crate) fn xfs_grow(folder: BorrowedFd<'_>, blocks: u64, max_inode_percent: u32) -> Result<(), Errno> {
    let request = [blocks, u64::from(max_inode_percent)];
    // SAFETY: the kernel reads 16 bytes, the size of `request`: u64, u32 and its padding (both targets are little
    // endian, so the u32 lies first in the second u64).
    let result = unsafe { libc::ioctl(folder.as_raw_fd(), XFS_IOC_FSGROWFSDATA as libc::Ioctl, request.as_ptr()) };
    Errno::result(result).map(drop)
}

//! ioctls of loop devices and of device mapper, as far as a shutdown needs them.

use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::errno::Errno;

/// linux/loop.h
const LOOP_CLR_FD: u32 = 0x4c01;
/// linux/dm-ioctl.h: _IOWR(0xfd, 4, struct dm_ioctl), the struct 312 bytes.
const DM_DEV_REMOVE: u32 = 0xc138_fd04;
const DM_IOCTL_BYTES: usize = 312;
const DM_NAME_OFFSET: usize = 48;
const DM_NAME_BYTES: usize = 128;

/// Takes the file from a loop device; an open one lets go at its last close.
pub(crate) fn clear_loop(device: &OwnedFd) -> Result<(), Errno> {
    // SAFETY: the request takes no argument.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CLR_FD as _) };
    Errno::result(result).map(drop)
}

/// Removes a device mapper device by name; EBUSY while it is in use.
pub(crate) fn remove_mapped(control: &OwnedFd, name: &str) -> Result<(), Errno> {
    if name.is_empty() || name.len() >= DM_NAME_BYTES {
        return Err(Errno::ENXIO);
    }
    let mut request = [0u32; DM_IOCTL_BYTES / 4];
    let size = u32::try_from(DM_IOCTL_BYTES).unwrap_or(0);
    // version 4.0.0, data_size, data_start
    (request[0], request[3], request[4]) = (4, size, size);
    for (at, byte) in name.bytes().enumerate() {
        let place = DM_NAME_OFFSET + at;
        request[place / 4] |= u32::from(byte) << (place % 4 * 8);
    }
    // SAFETY: the request points to a struct dm_ioctl of the size it states, writable for the answer.
    let result = unsafe { libc::ioctl(control.as_raw_fd(), DM_DEV_REMOVE as _, request.as_mut_ptr()) };
    Errno::result(result).map(drop)
}

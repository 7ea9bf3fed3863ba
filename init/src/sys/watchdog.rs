//! ioctls of a watchdog device (Documentation/watchdog/watchdog-api.rst).

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

/// `_IOR('W', 0, struct watchdog_info)`: u32 options, u32 firmware version, 32 bytes of identity.
const WDIOC_GETSUPPORT: u32 = 0x8028_5700;
/// `_IOWR('W', 6, int)`
const WDIOC_SETTIMEOUT: u32 = 0xc004_5706;

/// Sets the timeout and returns what the device made of it, in seconds.
pub(crate) fn set_timeout(device: BorrowedFd<'_>, seconds: u16) -> Result<u32, Errno> {
    let mut value = libc::c_int::from(seconds);
    // SAFETY: the ioctl reads and writes one int, which is what the pointer is to.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), WDIOC_SETTIMEOUT as libc::Ioctl, &raw mut value) };
    Errno::result(result)?;
    Ok(u32::try_from(value).unwrap_or(0))
}

/// The driver's name for the device.
pub(crate) fn identity(device: BorrowedFd<'_>) -> Result<[u8; 32], Errno> {
    let mut info = [0_u8; 40];
    // SAFETY: the kernel writes sizeof(struct watchdog_info) = 40 bytes, the size of `info`.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), WDIOC_GETSUPPORT as libc::Ioctl, info.as_mut_ptr()) };
    Errno::result(result)?;
    let mut identity = [0; 32];
    identity.copy_from_slice(&info[8..]);
    Ok(identity)
}

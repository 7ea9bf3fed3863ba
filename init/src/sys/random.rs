//! The kernel's random number generator: drawing from it and crediting it.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

/// `_IOW('R', 0x03, int[2])`, include/uapi/linux/random.h
const RNDADDENTROPY: u32 = 0x4008_5203;
/// `_IO('R', 0x07)`
const RNDRESEEDCRNG: u32 = 0x5207;

/// Bytes of a saved seed.
pub(crate) const SEED_BYTES: usize = 512;

/// `struct rand_pool_info` with its flexible array as long as a seed.
#[repr(C)]
struct PoolInfo {
    entropy_count: libc::c_int,
    buf_size: libc::c_int,
    buf: [u8; SEED_BYTES],
}

/// A new UUID, version 4 (RFC 9562, 5.4). Waits until the generator is initialised: a second at most, as the kernel makes
/// jitter entropy for who waits.
pub(crate) fn uuid() -> Result<[u8; 16], Errno> {
    let mut uuid = [0; 16];
    draw(&mut uuid, 0)?;
    uuid[6] = uuid[6] & 0x0f | 0x40;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    Ok(uuid)
}

/// Fills `out`; EAGAIN instead of waiting. By 256 bytes: up to there a call is never cut short.
pub(crate) fn try_fill(out: &mut [u8]) -> Result<(), Errno> {
    for part in out.chunks_mut(256) {
        draw(part, libc::GRND_NONBLOCK)?;
    }
    Ok(())
}

fn draw(part: &mut [u8], flags: libc::c_uint) -> Result<(), Errno> {
    loop {
        // SAFETY: the kernel writes at most part.len() bytes to the pointer.
        let result = unsafe { libc::getrandom(part.as_mut_ptr().cast(), part.len(), flags) };
        match Errno::result(result) {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Mixes a seed into the pool and counts it as `bits` of entropy.
pub(crate) fn credit(random: BorrowedFd<'_>, seed: &[u8; SEED_BYTES], bits: u16) -> Result<(), Errno> {
    let info = PoolInfo { entropy_count: bits.into(), buf_size: 512, buf: *seed };
    // SAFETY: the kernel reads the two ints and buf_size bytes behind them, which is what PoolInfo holds.
    let result = unsafe { libc::ioctl(random.as_raw_fd(), RNDADDENTROPY as libc::Ioctl, &raw const info) };
    Errno::result(result).map(drop)
}

/// What is drawn from now on depends on all that was mixed in before.
pub(crate) fn reseed(random: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: RNDRESEEDCRNG takes no argument.
    let result = unsafe { libc::ioctl(random.as_raw_fd(), RNDRESEEDCRNG as libc::Ioctl) };
    Errno::result(result).map(drop)
}

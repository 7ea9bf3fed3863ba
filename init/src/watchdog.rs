//! The hardware watchdog's open device: fed by the event loop, by nothing else, and never for ever.
//!
//! Feeding says that PID 1 works, not that the machine does. A supervisor that is stopped for good leads to the rescue
//! screen, where a person may still decide; as long as one may, the machine is fed. When nobody does, or when the end
//! of the machine was asked for, it has a bounded time left: it ends in order, or the hardware ends it.

use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

/// How long PID 1 sleeps at most, with or without a device: the pings to the supervisor come as often.
const LONGEST_INTERVAL_MS: u64 = 10_000;
/// How often the device is fed.
static INTERVAL_MS: AtomicU64 = AtomicU64::new(LONGEST_INTERVAL_MS);
static DEVICE: Mutex<Option<OwnedFd>> = Mutex::new(None);
/// CLOCK_MONOTONIC, ns.
static UNTIL_NS: AtomicU64 = AtomicU64::new(u64::MAX);

/// Keeps the opened and armed `/dev/watchdog`, which waits so many seconds; from now on it is fed three times in them.
pub(crate) fn adopt(device: OwnedFd, timeout: u32) {
    INTERVAL_MS.store((u64::from(timeout) * 1000 / 3).clamp(200, LONGEST_INTERVAL_MS), Ordering::Relaxed);
    *DEVICE.lock().unwrap_or_else(PoisonError::into_inner) = Some(device);
}

/// The open device outlives the exec of stage 2 under this number. Closed and opened again it would stay armed as well, but
/// the kernel complains of that on the console.
pub(crate) fn keep_over_exec() -> Option<RawFd> {
    let device = DEVICE.lock().unwrap_or_else(PoisonError::into_inner);
    let device = device.as_ref()?;
    fcntl(device, FcntlArg::F_SETFD(FdFlag::empty())).ok()?;
    Some(device.as_raw_fd())
}

/// The event loop turns at least this often.
pub(crate) fn interval() -> Duration {
    Duration::from_millis(INTERVAL_MS.load(Ordering::Relaxed))
}

/// The device is left alone for so long after it was fed.
fn pause() -> Duration {
    (interval() / 2).min(Duration::from_secs(1))
}

pub(crate) fn is_adopted() -> bool {
    DEVICE.lock().unwrap_or_else(PoisonError::into_inner).is_some()
}

/// Resets its countdown (any write does; `V` alone would disarm it at close), at most twice in an interval and once a second: a
/// write is an access to the device, and the event loop may turn thousands of times in a second.
pub(crate) fn feed() {
    static LAST_NS: AtomicU64 = AtomicU64::new(0);
    let now = crate::story::now_ns();
    if now >= UNTIL_NS.load(Ordering::Relaxed) {
        UNTIL_NS.store(u64::MAX, Ordering::Relaxed);
        crate::story::warn("watchdog", "the end of the machine takes too long: not fed any more");
        stop_feeding();
    }
    if Duration::from_nanos(now.saturating_sub(LAST_NS.load(Ordering::Relaxed))) < pause() {
        return;
    }
    LAST_NS.store(now, Ordering::Relaxed);
    if let Some(device) = &*DEVICE.lock().unwrap_or_else(PoisonError::into_inner) {
        let _ = nix::unistd::write(device, b"1");
    }
}

/// The machine is about to end: it is fed at most until then, and a later call can only shorten that.
pub(crate) fn feed_until(until: Duration) {
    UNTIL_NS.fetch_min(u64::try_from(until.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
}

/// When feeding ends, if it is to end.
pub(crate) fn fed_until() -> Option<Duration> {
    let until = UNTIL_NS.load(Ordering::Relaxed);
    (until != u64::MAX).then_some(Duration::from_nanos(until))
}

/// For a machine that is to stand still: the magic `V` before the close disarms it, where the hardware allows that.
pub(crate) fn disarm() {
    if let Some(device) = DEVICE.lock().unwrap_or_else(PoisonError::into_inner).take() {
        let _ = nix::unistd::write(&device, b"V");
    }
}

/// The machine could not be ended in an orderly way: let the hardware do it.
pub(crate) fn stop_feeding() {
    if let Some(device) = DEVICE.lock().unwrap_or_else(PoisonError::into_inner).take() {
        // Closing without the magic `V` leaves it armed; keeping it open does so even without that rule.
        std::mem::forget(device);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_time_a_device_grants_it_is_fed_well_within_it() {
        for timeout in [1, 2, 3, 30, 600] {
            adopt(std::fs::File::open("/dev/null").unwrap().into(), timeout);
            let longest_gap = interval() + pause();
            assert!(longest_gap <= Duration::from_secs(timeout.into()) / 2, "{timeout} s: {longest_gap:?}");
        }
    }
}

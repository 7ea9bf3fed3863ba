//! The hardware watchdog's open device: fed by the event loop, by nothing else.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

static DEVICE: Mutex<Option<OwnedFd>> = Mutex::new(None);

/// Keeps the opened and armed `/dev/watchdog`; from now on it is fed.
pub(crate) fn adopt(device: OwnedFd) {
    *DEVICE.lock().unwrap_or_else(PoisonError::into_inner) = Some(device);
}

/// Resets its countdown (any write does; `V` alone would disarm it at close), at most once a second: a write is an
/// access to the device, and the event loop may turn thousands of times in a second.
pub(crate) fn feed() {
    static LAST_NS: AtomicU64 = AtomicU64::new(0);
    let now = crate::story::now_ns();
    if now.saturating_sub(LAST_NS.load(Ordering::Relaxed)) < 1_000_000_000 {
        return;
    }
    LAST_NS.store(now, Ordering::Relaxed);
    if let Some(device) = &*DEVICE.lock().unwrap_or_else(PoisonError::into_inner) {
        let _ = nix::unistd::write(device, b"1");
    }
}

/// The machine could not be ended in an orderly way: let the hardware do it.
pub(crate) fn stop_feeding() {
    if let Some(device) = DEVICE.lock().unwrap_or_else(PoisonError::into_inner).take() {
        // Closing without the magic `V` leaves it armed; keeping it open does so even without that rule.
        std::mem::forget(device);
    }
}

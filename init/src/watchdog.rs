//! The hardware watchdog's open device: fed by the event loop, by nothing else.

use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

static DEVICE: Mutex<Option<OwnedFd>> = Mutex::new(None);

/// Keeps the opened and armed `/dev/watchdog`; from now on it is fed.
pub(crate) fn adopt(device: OwnedFd) {
    *DEVICE.lock().unwrap_or_else(PoisonError::into_inner) = Some(device);
}

/// Resets its countdown (any write does; `V` alone would disarm it at close).
pub(crate) fn feed() {
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

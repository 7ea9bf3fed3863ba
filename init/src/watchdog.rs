//! The hardware watchdog's open device: fed by the event loop, by nothing else.

use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

static DEVICE: Mutex<Option<OwnedFd>> = Mutex::new(None);

/// Keeps the opened and armed `/dev/watchdog`; from now on it is fed.
pub(crate) fn adopt(device: OwnedFd) {
    *DEVICE.lock().unwrap_or_else(PoisonError::into_inner) = Some(device);
}

/// True when the machine has one.
pub(crate) fn is_armed() -> bool {
    DEVICE.lock().unwrap_or_else(PoisonError::into_inner).is_some()
}

/// Resets its countdown (any write does; `V` alone would disarm it at close).
pub(crate) fn feed() {
    if let Some(device) = &*DEVICE.lock().unwrap_or_else(PoisonError::into_inner) {
        let _ = nix::unistd::write(device, b"1");
    }
}

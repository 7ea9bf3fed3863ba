//! How many machines run at once: one per core, as an emulated guest keeps one busy while it boots.

use std::sync::{Condvar, Mutex, PoisonError};

static TAKEN: Mutex<usize> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

/// The right to run one machine, until dropped.
pub(crate) struct Slot(());

impl Slot {
    /// Waits for its turn. Two at least: a test may need a pair.
    pub(crate) fn take() -> Self {
        let limit = std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2));
        let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = FREED.wait_while(taken, |taken| *taken >= limit).unwrap_or_else(PoisonError::into_inner);
        *taken += 1;
        Self(())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        FREED.notify_one();
    }
}

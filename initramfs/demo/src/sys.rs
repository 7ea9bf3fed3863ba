//! The one call into libc: std has no signal handlers, and this program has no dependencies.

use std::ffi::c_int;

const SIGINT: c_int = 2;
const SIGTERM: c_int = 15;

unsafe extern "C" {
    fn signal(number: c_int, handler: extern "C" fn(c_int)) -> usize;
    fn _exit(status: c_int) -> !;
}

extern "C" fn terminate(_: c_int) {
    // SAFETY: _exit(2) is async-signal-safe; nothing here has to be written or released before.
    unsafe { _exit(0) }
}

/// Ends the program with success on SIGTERM and SIGINT.
pub(crate) fn exit_on_terminate() {
    for number in [SIGTERM, SIGINT] {
        // SAFETY: the handler is a function that lives as long as the program and calls only async-signal-safe ones.
        unsafe { signal(number, terminate) };
    }
}

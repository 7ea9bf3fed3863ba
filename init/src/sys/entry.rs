//! `main` as the C runtime calls it. std's own entry opens `/dev/null` for missing fds 0–2 and aborts when it is
//! not there, ignores SIGPIPE for every child, and allocates: none of that may happen in PID 1.

use std::ffi::CStr;

/// Longest argument list looked at; PID 1 gets the kernel's unused command line words here, modprobe a few.
const MAX_ARGS: usize = 32;

#[cfg(not(test))]
#[unsafe(no_mangle)]
extern "C" fn main(argc: libc::c_int, argv: *const *const libc::c_char) -> libc::c_int {
    let mut args: [&'static CStr; MAX_ARGS] = [c""; MAX_ARGS];
    let count = collect(argc, argv, &mut args);
    crate::start(&args[..count])
}

#[cfg_attr(test, allow(dead_code))]
fn collect(argc: libc::c_int, argv: *const *const libc::c_char, args: &mut [&'static CStr]) -> usize {
    let given = usize::try_from(argc).unwrap_or(0).min(args.len());
    for (i, slot) in args.iter_mut().enumerate().take(given) {
        // SAFETY: i < argc, and argv has argc entries (C11 5.1.2.2.1).
        let place = unsafe { argv.add(i) };
        // SAFETY: `place` points into argv, see above.
        let text = unsafe { *place };
        if text.is_null() {
            return i;
        }
        // SAFETY: entries before argc are NUL-terminated strings that live as long as the process.
        *slot = unsafe { CStr::from_ptr(text) };
    }
    given
}

//! The program in the bundle of the benchmark: it ends at once, or waits to be killed if it has an argument.

#![no_main]
#![allow(unsafe_code)] // no standard library starts before it

use std::ffi::{c_char, c_int};

#[unsafe(no_mangle)]
extern "C" fn main(count: c_int, _: *const *const c_char) -> c_int {
    if count > 1 {
        // SAFETY: pause takes no arguments and touches no memory.
        unsafe { libc::pause() };
    }
    0
}

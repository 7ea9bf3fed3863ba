//! `orlop-oci`: an OCI container runtime with runc's command line.
#![cfg_attr(not(test), no_main)]
#![cfg_attr(test, allow(dead_code))] // under test the entry is the test runner's

use std::ffi::{c_char, c_int};

#[global_allocator]
static MEMORY: oci::runtime::Bump = oci::runtime::Bump::new();

/// As the C runtime calls it: what std does before its own `main` (a stack for handlers of overflow, a table of threads) costs a
/// fifth of a short command, and is for nothing here.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[allow(unsafe_code)] // the name is the C runtime's
extern "C" fn main(count: c_int, words: *const *const c_char) -> c_int {
    // SAFETY: the C runtime gives the kernel's list of `count` strings, which live as long as the program.
    let status = unsafe { oci::runtime::main(count, words) };
    status.into()
}

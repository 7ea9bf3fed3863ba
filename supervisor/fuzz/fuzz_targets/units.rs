//! Any bytes as a unit file.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| supervisor::unit::fuzz::one(data));

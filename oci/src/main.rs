//! `orlop-oci`: an OCI container runtime with runc's command line.
#![cfg_attr(not(test), no_main)]
#![cfg_attr(test, allow(dead_code))] // under test the entry is the test runner's

#[global_allocator]
static MEMORY: oci::runtime::Bump = oci::runtime::Bump::new();

oci::entry!();

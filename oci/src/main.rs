//! `orlop-oci`: an OCI container runtime with runc's command line.

use std::process::ExitCode;

#[global_allocator]
static MEMORY: oci::runtime::Bump = oci::runtime::Bump::new();

fn main() -> ExitCode {
    oci::runtime::main()
}

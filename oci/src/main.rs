//! `orlop-oci`: an OCI container runtime with runc's command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    oci::runtime::main()
}

//! Relative relocations packed (DT_RELR, generic ABI): 16 KiB less of a program whose every kilobyte is resident.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // GNU ld's spelling; musl relocates itself this way since 1.2.4, the one in Rust's sysroot is newer.
    if std::env::var("TARGET").as_deref() == Ok("x86_64-unknown-linux-musl") {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

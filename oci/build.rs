//! How the file is laid out, for one that is started a few times for each container: one piece less to be mapped (code and
//! constants together), and the code that every command runs in one place.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // GNU ld's spelling.
    if std::env::var("TARGET").as_deref() == Ok("x86_64-unknown-linux-musl") {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,noseparate-code,-z,norelro");
        let order = std::path::Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("order.ld");
        println!("cargo::rerun-if-changed={}", order.display());
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{}", order.display());
    }
}

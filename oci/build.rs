//! One piece less of the file to be mapped at each start: code and constants together.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // GNU ld's spelling.
    if std::env::var("TARGET").as_deref() == Ok("x86_64-unknown-linux-musl") {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,noseparate-code,-z,norelro");
    }
}

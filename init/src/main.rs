//! Orlop's PID 1, both stages, and `/sbin/modprobe` (the kernel's module requests come to the same program).
//!
//! Stage 1 (`/init` in the initramfs) finds root and state and executes stage 2 (`/sbin/init`), which reaps,
//! keeps fds, feeds the watchdog and has one child: the supervisor. Nothing ends it.
#![cfg_attr(not(test), no_main)]
#![cfg_attr(test, allow(dead_code))] // under test the entry is the test runner's

mod cmdline;
mod console;
mod contain;
mod exits;
mod fdstore;
mod kernel_log;
mod modprobe;
mod modules;
mod pid1;
mod rescue;
mod settings;
mod setup;
mod shutdown;
mod stage1;
mod story;
mod supervise;
#[allow(unsafe_code)]
mod sys;
mod text;
mod watchdog;

use std::ffi::CStr;

use sys::crash::Former;

/// `linux/magic.h`; the type of the field differs between C libraries.
const RAMFS_MAGIC: i128 = 0x8584_58f6;

/// True for what the kernel unpacks an initramfs into.
fn is_initramfs(kind: nix::sys::statfs::FsType) -> bool {
    kind == nix::sys::statfs::TMPFS_MAGIC || i128::from(kind.0) == RAMFS_MAGIC
}

/// Decides what this process is; called by [`sys::entry`] before anything else ran.
fn start(args: &[&CStr]) -> i32 {
    let name = args.first().map(|a| a.to_bytes()).unwrap_or_default();
    if name.ends_with(b"modprobe") {
        return modprobe::main(args);
    }
    if std::process::id() != 1 {
        eprintln!("init is PID 1 of an Orlop machine (or, called modprobe, loads modules); it does nothing else.");
        return 2;
    }
    sys::fds::stdio_to_null();
    let former = std::env::var("ORLOP_FORMER").ok().and_then(|env| Former::parse(&env));
    sys::crash::install(former.map_or(0, |former| former.lives));
    contain::install_hook();
    if is_stage_two() { pid1::run(former) } else { stage1::run() }
}

/// Stage 1 says so through `ORLOP_BOOT`; started in another way, the root decides: an initramfs is a ramfs or tmpfs.
fn is_stage_two() -> bool {
    if std::env::var_os("ORLOP_BOOT").is_some() {
        return true;
    }
    match nix::sys::statfs::statfs("/") {
        Ok(root) => !is_initramfs(root.filesystem_type()),
        Err(_) => true,
    }
}

#[cfg(test)]
fn main() {}

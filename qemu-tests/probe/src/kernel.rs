//! The machine's kernel: its log, and another one to execute in its place. Both take a capability.

use crate::sys;
use std::ffi::CString;
use std::fs::{self, File};
use std::io;

/// Needs CAP_SYSLOG.
pub(crate) fn log(text: &str) -> io::Result<()> {
    let log = sys::kernel_log()?;
    for line in String::from_utf8_lossy(&log).lines().filter(|line| line.contains(text)) {
        println!("{line}");
    }
    println!("end of the log");
    Ok(())
}

/// Needs CAP_SYS_BOOT.
pub(crate) fn load(image: &str, initramfs: &str, words: &str) -> io::Result<()> {
    let words = format!("{} {words}", fs::read_to_string("/proc/cmdline")?.trim());
    sys::kexec_file_load(&File::open(image)?, &File::open(initramfs)?, &CString::new(words)?)?;
    println!("loaded");
    Ok(())
}

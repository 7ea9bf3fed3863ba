//! Another kernel to execute in place of the machine's. Needs CAP_SYS_BOOT.

use crate::sys;
use std::ffi::CString;
use std::fs::{self, File};
use std::io;

pub(crate) fn load(image: &str, initramfs: &str, words: &str) -> io::Result<()> {
    let words = format!("{} {words}", fs::read_to_string("/proc/cmdline")?.trim());
    sys::kexec_file_load(&File::open(image)?, &File::open(initramfs)?, &CString::new(words)?)?;
    println!("loaded");
    Ok(())
}

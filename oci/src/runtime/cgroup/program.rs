//! The device program of a container, shared with others whose rules are the same: one of its own costs the kernel two pages and the
//! verifier's time, and most containers of a machine have the same rules.
//!
//! The last program that was loaded is remembered in a file of the runtime root: its number, the kernel's hash of it (the tag) and its
//! instructions. It lives as long as a cgroup has it; a number that is gone, or was given to another program, costs a load.

use std::fmt::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use crate::runtime::store::read_file;
use crate::runtime::sys::{self, bpf};

/// No id of a container: it has a blank.
pub(crate) const FILE: &str = "last device program";

/// A program with these instructions, loaded now or before.
pub(super) fn get(instructions: &[u64], file: &Path) -> sys::Result<OwnedFd> {
    let text = instructions.iter().fold(String::new(), |mut text, one| {
        let _ = write!(text, " {one:x}");
        text
    });
    if let Some(program) = remembered(&text, file) {
        return Ok(program);
    }
    let program = bpf::load_device_program(instructions)?;
    // It is there to save something: without it all is well.
    if let Ok(bpf::Identity { id, tag, .. }) = bpf::identity(program.as_fd()) {
        // One name for all: what two have mixed is no program's text, and what is left by one that was killed is written over.
        let temporary = file.with_extension("new");
        let written = std::fs::write(&temporary, format!("{id} {tag:x}{text}"));
        if written.and_then(|()| std::fs::rename(&temporary, file)).is_err() {
            let _ = std::fs::remove_file(&temporary);
        }
    }
    Ok(program)
}

fn remembered(text: &str, file: &Path) -> Option<OwnedFd> {
    let found = read_file(file).ok()?;
    let (id, tag) = found.strip_suffix(text)?.split_once(' ')?;
    let (id, tag) = (id.parse().ok()?, u64::from_str_radix(tag, 16).ok()?);
    let program = bpf::program(id).ok()?;
    let is = bpf::identity(program.as_fd()).ok()?;
    (is.is_for_devices() && is.tag == tag).then_some(program)
}

//! The command line: runc's, options before and after the container's id.

mod args;
mod help;
mod limits;
mod log;

use std::ffi::OsStr;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

pub(crate) use log::Log;

use self::args::{Command, Invocation, Words};
use super::error::{Error, Result, Step as _};
use super::ops::{self, Machine};
use super::procfs::Procfs;
use super::store::Store;
use super::sys::{self, entry, fs};

/// The program. Exit status: 0, or 1 (255 of `exec`) with one line on stderr; `run` and `exec` in the foreground give the
/// container's own.
pub(crate) fn main(entered: sys::Result<()>) -> u8 {
    let words = entry::words().iter().map(|word| OsStr::from_bytes(word.to_bytes()).to_owned());
    let mut words = Words::new(words);
    let invocation = entered.step("open", "/dev/null").and_then(|()| words.read());
    let done = invocation.and_then(|asked| asked.map_or(Ok(0), |asked| perform(words.log.clone(), asked)));
    done.unwrap_or_else(|error| {
        words.log.error(&error.to_string());
        words.failed()
    })
}

/// Where containers are noted. Who is not root of the machine (Podman makes an ordinary user root of a user namespace) has a place of
/// his own, gone with the boot as the other one is.
fn default_root(rootless: bool) -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| rootless && !dir.is_empty()) {
        Some(dir) => PathBuf::from(dir).join("orlop/oci"),
        None => PathBuf::from("/run/orlop/oci"),
    }
}

fn perform(log: Log, Invocation { root, rootless, mut command }: Invocation) -> Result<u8> {
    match &command {
        Command::Features => return print(&ops::features()),
        Command::Spec { bundle, rootless } => return ops::spec(bundle, *rootless).map(|()| 0),
        _ => {}
    }
    log.check()?;
    match &mut command {
        Command::Create { options, .. } | Command::Run { options, .. } => {
            options.listen_fds = ops::listen_fds();
            options.preserve_fds = passed_on(options.preserve_fds.saturating_add(options.listen_fds))?;
        }
        Command::Exec { options, .. } => options.preserve_fds = passed_on(options.preserve_fds)?,
        _ => {}
    }
    let ordinary = ops::ordinary_user();
    let enters = matches!(command, Command::Create { .. } | Command::Run { .. } | Command::Exec { .. });
    // Who is told where containers are noted, and makes no process, need not know.
    let first = ordinary || (root.is_some() && !enters) || ops::in_first_namespace()?;
    let root = root.unwrap_or_else(|| default_root(ordinary || !first));
    match &command {
        Command::Create { options, .. } | Command::Run { options, .. } if ordinary => {
            ops::enter_new(&options.bundle.join(&options.config))?;
        }
        Command::Exec { id, .. } if ordinary => ops::enter_existing(&root, id)?,
        _ => {}
    }
    if enters {
        ops::protect()?;
    }
    let entered = !first && ops::entered();
    let rootless = rootless.unwrap_or(ordinary || !first);
    let machine = &Machine { store: Store::new(root), proc: Procfs::open()?, log, rootless, entered };
    match command {
        Command::Create { id, options } => {
            // The container's process works with it for longer than we live.
            ops::create(machine, &id, &options, false).map(|created| std::mem::forget(created.held)).map(|()| 0)
        }
        Command::Run { id, options, detach, keep } => ops::run(machine, &id, &options, detach, keep),
        Command::Start { id } => ops::start(machine, &id).map(|()| 0),
        Command::Exec { id, options } => ops::exec(machine, &id, &options),
        Command::Kill { id, signal, all } => ops::kill(machine, &id, signal, all).map(|()| 0),
        Command::Delete { ids, force } => {
            // One that cannot be deleted keeps no other: the first reason is the last thing said.
            let failed = |id| ops::delete(machine, id, force).err();
            let mut failed = ids.iter().filter_map(failed);
            let first = failed.next();
            failed.for_each(|error| machine.log.error(&error.to_string()));
            first.map_or(Ok(0), Err)
        }
        Command::Freeze { id, frozen } => ops::freeze(machine, &id, frozen).map(|()| 0),
        Command::State { id } => print(&ops::state(machine, &id)?),
        Command::List { json, quiet } => print(&ops::list(machine, json, quiet)?),
        Command::Update { id, resources, rdt } => ops::update(machine, &id, *resources, &rdt).map(|()| 0),
        Command::Events { id, interval } => ops::events(machine, &id, interval, print).map(|()| 0),
        Command::Ps { id, json, options } => print(&ops::ps(machine, &id, json, &options)?),
        Command::Features | Command::Spec { .. } => Ok(0),
    }
}

/// How many numbers from 3 on are passed on: up to the last one that is open, as callers count generously (crun takes that, runc does
/// not). Before anything is opened: those that are free would be the numbers of something of ours, and are taken up instead.
fn passed_on(count: u32) -> Result<u32> {
    if count == 0 {
        return Ok(0);
    }
    let all = std::fs::read_dir("/proc/self/fd").step("list", "/proc/self/fd")?;
    let asked = 3..count.saturating_add(3);
    let numbers: Vec<u32> = all.filter_map(|one| one.ok()?.file_name().to_str()?.parse().ok()).collect();
    // That of the list itself is closed again.
    let open = numbers.into_iter().filter(|number| asked.contains(number) && fs::is_open(*number));
    let Some(last) = open.max() else { return Ok(0) };
    loop {
        let filler = std::fs::File::open("/dev/null").step("open", "/dev/null")?;
        if filler.as_raw_fd().unsigned_abs() > last {
            return Ok(last - 2);
        }
        std::mem::forget(filler);
    }
}

fn print(text: &str) -> Result<u8> {
    let failed =
        |error: std::io::Error| Error::System { step: "write to", object: "stdout".to_owned(), errno: error.into() };
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(failed)?;
    Ok(0)
}

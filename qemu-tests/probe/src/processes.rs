//! Processes that come, stay, refuse to go.

use crate::sys;
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

pub(crate) fn ignore_term() -> io::Result<()> {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT] {
        sys::ignore(signal);
    }
    say("ignoring")?;
    sys::pause()
}

/// A process that has ended is a zombie until its parent has looked at it: only one that stays counts.
pub(crate) fn zombies(proc: &str) -> io::Result<()> {
    const BEAT: Duration = Duration::from_millis(200);
    const LOOKS: u32 = 150;
    let mut left = zombies_now(proc)?;
    for _ in 0..LOOKS {
        if left.is_empty() {
            break;
        }
        std::thread::sleep(BEAT);
        let now = zombies_now(proc)?;
        left.retain(|zombie| now.contains(zombie));
    }
    for zombie in &left {
        say(&format!("zombie {zombie:?}"))?;
    }
    say(&format!("zombies {}", left.len()))
}

/// The pid, name and start time of each.
fn zombies_now(proc: &str) -> io::Result<BTreeSet<(String, String)>> {
    const START_TIME: usize = 19;
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(proc)? {
        // A process may end while we look: then it is no zombie any more.
        let Ok(stat) = fs::read_to_string(entry?.path().join("stat")) else { continue };
        // proc_pid_stat(5): the state follows the name, which may itself contain blanks and brackets.
        let Some((name, rest)) = stat.rsplit_once(") ") else { continue };
        if rest.starts_with('Z') {
            found.insert((name.to_owned(), rest.split(' ').nth(START_TIME).unwrap_or_default().to_owned()));
        }
    }
    Ok(found)
}

pub(crate) fn sleep(seconds: Option<u64>) -> io::Result<()> {
    sys::exit_on(libc::SIGTERM);
    say("sleeping")?;
    match seconds {
        Some(seconds) => std::thread::sleep(Duration::from_secs(seconds)),
        None => sys::pause(),
    }
    Ok(())
}

/// Who hears it may be gone for a while: what is said waits, and in the end so do we.
pub(crate) fn herald() -> io::Result<()> {
    const BEAT: Duration = Duration::from_millis(200);
    sys::exit_on(libc::SIGTERM);
    say("announcing")?;
    let path = std::env::var_os("NOTIFY_SOCKET").ok_or_else(|| io::Error::other("no NOTIFY_SOCKET"))?;
    let socket = UnixDatagram::unbound()?;
    socket.send_to(b"READY=1\nSTATUS=beat 0", &path)?;
    for beat in 1_u64.. {
        std::thread::sleep(BEAT);
        socket.send_to(format!("WATCHDOG=1\nSTATUS=beat {beat}").as_bytes(), &path)?;
    }
    Ok(())
}

/// Whoever runs next under this name counts on.
pub(crate) fn keep() -> io::Result<()> {
    sys::exit_on(libc::SIGTERM);
    let path = std::env::var_os("NOTIFY_SOCKET").ok_or_else(|| io::Error::other("no NOTIFY_SOCKET"))?;
    let socket = UnixDatagram::unbound()?;
    socket.connect(&path)?;
    let handed = sys::handed_file();
    let is_new = handed.is_none();
    let file = handed.map_or_else(sys::file_in_memory, Ok)?;
    let mut number = [0; 8];
    if !is_new {
        file.read_exact_at(&mut number, 0)?;
    }
    let number = u64::from_ne_bytes(number) + 1;
    file.write_all_at(&number.to_ne_bytes(), 0)?;
    if is_new {
        sys::send_with(&socket, b"FDSTORE=1\nFDNAME=number", &file)?;
    }
    say(&format!("keeping {number}"))?;
    socket.send(b"READY=1")?;
    sys::pause()
}

pub(crate) fn burn() -> io::Result<()> {
    sys::exit_on(libc::SIGTERM);
    say("burning")?;
    loop {
        std::hint::spin_loop();
    }
}

pub(crate) fn multiply() -> io::Result<()> {
    sys::exit_on(libc::SIGTERM);
    let mut children = 0;
    while sys::fork_one_that_stays().is_ok() {
        children += 1;
    }
    say(&format!("no more than {children}"))?;
    sys::pause()
}

pub(crate) fn eat_memory(mib: usize) -> io::Result<()> {
    sys::exit_on(libc::SIGTERM);
    let mut eaten = Vec::new();
    for _ in 0..mib {
        // Not zero: the kernel might give the zero page for those.
        eaten.push(vec![0x5a_u8; 1 << 20]);
    }
    say(&format!("ate {} MiB", eaten.len()))?;
    sys::pause()
}

/// As fast as somebody reads them.
pub(crate) fn lines(count: u32) -> io::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    for number in 0..count {
        writeln!(out, "{number:<99}")?;
    }
    out.flush()
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

//! What a container with the machine's cgroups in a volume can do to others: the way a test kills or stops the
//! supervisor without any door of its own.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// Between two looks.
const BEAT: Duration = Duration::from_millis(20);

/// Ends when the cgroup was seen empty after a kill so many times.
pub(crate) fn keep_killing(cgroup: &str, times: u32) -> io::Result<()> {
    println!("killing");
    let (mut killed, mut was_full) = (0, false);
    while killed < times {
        // PID 1 makes an empty cgroup anew between two supervisors: there may be none to read or to kill right now.
        let is_full =
            fs::read_to_string(Path::new(cgroup).join("cgroup.procs")).is_ok_and(|processes| !processes.is_empty());
        if is_full {
            let _ = fs::write(Path::new(cgroup).join("cgroup.kill"), "1");
        }
        killed += u32::from(was_full && !is_full);
        was_full = is_full;
        thread::sleep(BEAT);
    }
    Ok(())
}

/// Each line of a connection has whatever comes into the cgroup next killed, so many microseconds after it came. The answer says
/// which cgroup that was: each supervisor that PID 1 starts has another one in the same place.
pub(crate) fn strike(port: u16, cgroup: &str) -> io::Result<()> {
    const LOOK_EVERY: Duration = Duration::from_millis(2);
    crate::sys::exit_on(libc::SIGTERM);
    let cgroup = Path::new(cgroup);
    // As above: between two supervisors there may be no cgroup at all. Who was killed is listed until it was reaped.
    let is_full = || fs::read_to_string(cgroup.join("cgroup.procs")).is_ok_and(|processes| !processes.is_empty());
    // Where processors are short, another may be there before it was seen that none is.
    let wait_until_full = |full: bool, longest: Duration| {
        let started = Instant::now();
        while is_full() != full && started.elapsed() < longest {
            thread::sleep(LOOK_EVERY);
        }
    };
    let listener = crate::net::listen(port)?;
    println!("waiting on {port}");
    for client in listener.incoming() {
        let client = client?;
        for line in BufReader::new(&client).lines() {
            let micros = line?.parse().map_err(io::Error::other)?;
            wait_until_full(true, Duration::MAX);
            thread::sleep(Duration::from_micros(micros));
            let killed = fs::metadata(cgroup).and_then(|cgroup_now| {
                fs::write(cgroup.join("cgroup.kill"), "1")?;
                Ok(format!("killed {}\n", cgroup_now.ino()))
            });
            wait_until_full(false, Duration::from_secs(1));
            (&client).write_all(killed.as_deref().unwrap_or("nobody\n").as_bytes())?;
        }
    }
    Ok(())
}

pub(crate) fn keep_freezing(cgroup: &str) -> io::Result<()> {
    println!("freezing");
    loop {
        // For the same reason there may be none. Written only when it changes something: each write freezes anew.
        let file = Path::new(cgroup).join("cgroup.freeze");
        if fs::read_to_string(&file).is_ok_and(|frozen| frozen.trim() == "0") {
            let _ = fs::write(&file, "1");
        }
        thread::sleep(BEAT);
    }
}

pub(crate) fn freeze(seconds: u64, cgroups: &[&str]) -> io::Result<()> {
    let write =
        |word: &str| cgroups.iter().try_for_each(|cgroup| fs::write(Path::new(cgroup).join("cgroup.freeze"), word));
    println!("freezing");
    write("1")?;
    thread::sleep(Duration::from_secs(seconds));
    write("0")
}

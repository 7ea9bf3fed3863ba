//! What a container with the machine's cgroups in a volume can do to others: the way a test kills or stops the
//! supervisor without any door of its own.

use std::fs;
use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

pub(crate) fn keep_killing(cgroup: &str) -> io::Result<()> {
    const BEAT: Duration = Duration::from_millis(20);
    println!("killing");
    loop {
        // PID 1 makes an empty cgroup anew between two supervisors: there may be none to read or to kill right now.
        if fs::read_to_string(Path::new(cgroup).join("cgroup.procs")).is_ok_and(|processes| !processes.is_empty()) {
            let _ = fs::write(Path::new(cgroup).join("cgroup.kill"), "1");
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

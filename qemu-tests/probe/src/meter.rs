//! What a machine has done so far, in a machine that counts instructions (a nanosecond is one): the same program measures in a
//! container of Orlop's and below systemd.
//!
//! Busy is what any process ran, the kernel's threads included: the time in which the CPU had nothing to do is not in it, and
//! waiting is free.

use std::fs;
use std::io;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

/// After a command: what it left behind to be done is counted, too.
const AFTERMATH: Duration = Duration::from_secs(3);
/// Before memory is measured: a file system keeps the inodes it has logged until it has written them in their place, which xfs
/// does half a minute later (`xfssyncd_centisecs`).
const REST: Duration = Duration::from_secs(60);
/// What is given up only by and by has come to its end when a rest brings less than this.
const LITTLE_KIB: u64 = 64;
const RESTS: u32 = 20;

/// `NOW clock_ns idle_ns`: since the kernel's start.
pub(crate) fn now() -> io::Result<()> {
    // /proc/uptime counts hundredths of a second: for the clock that is too coarse, for the idle part it has to do.
    let uptime = fs::read_to_string("/proc/uptime")?;
    let idle: f64 = uptime.split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or(0.0);
    println!("NOW {} {:.0}", crate::sys::monotonic_ns()?, idle * 1e9);
    Ok(())
}

/// Runs lines of `ROUNDS LABEL COMMAND ; LABEL COMMAND…` and prints `METER LABEL million…` for each. Some commands are our own:
/// none, `sleep SECONDS`, `memory` (then it is KiB), `each FROM TO COMMAND` (the command with `mFROM … mTO` behind it).
pub(crate) fn measure(lines: &[&str]) -> io::Result<()> {
    for line in lines {
        let (rounds, steps) = line.split_once(' ').unwrap_or((line, ""));
        let steps: Vec<Vec<&str>> = steps.split(" ; ").map(|step| step.split(' ').collect()).collect();
        let mut costs = vec![String::new(); steps.len()];
        for _ in 0..rounds.parse::<u32>().map_err(io::Error::other)? {
            for (step, cost) in steps.iter().zip(&mut costs) {
                *cost += &format!(" {}", once(step.get(1..).unwrap_or_default())?);
            }
        }
        for (step, cost) in steps.iter().zip(costs) {
            println!("METER {}{cost}", step.first().unwrap_or(&""));
        }
    }
    println!("METERED");
    Ok(())
}

fn once(command: &[&str]) -> io::Result<String> {
    let before = busy_ns()?;
    match command {
        ["memory"] => return memory_kib().map(|kib| kib.to_string()),
        ["sleep", seconds] => thread::sleep(Duration::from_secs(number(seconds)?)),
        ["each", from, to, program, arguments @ ..] => {
            let units = (number(from)?..=number(to)?).map(|unit| format!("m{unit}"));
            call(Command::new(program).args(arguments).args(units))?;
        }
        [program, arguments @ ..] => call(Command::new(program).args(arguments))?,
        [] => {}
    }
    thread::sleep(AFTERMATH);
    Ok(format!("{:.3}", (busy_ns()? - before) as f64 / 1e6))
}

fn number(word: &str) -> io::Result<u64> {
    word.parse().map_err(|_| io::Error::other(format!("`{word}` is not a number")))
}

fn call(command: &mut Command) -> io::Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "|");
    Err(io::Error::other(format!("{command:?}: {}: {said}", output.status)))
}

/// Of all CPUs, from `/proc/schedstat` (sched-stats in the kernel's documentation): the seventh number of a CPU's line. Counted
/// when a process leaves the CPU, so this one does so before.
fn busy_ns() -> io::Result<u64> {
    thread::sleep(Duration::from_millis(1));
    let text = fs::read_to_string("/proc/schedstat")?;
    let cpus = text.lines().filter(|line| line.starts_with("cpu"));
    let busy = cpus.map(|line| line.split(' ').nth(7).and_then(|word| word.parse::<u64>().ok()));
    busy.sum::<Option<u64>>().ok_or_else(|| io::Error::other(format!("/proc/schedstat: {text}")))
}

/// What the machine has in use, once what can be read again is dropped. `/vm` is the machine's `/proc/sys/vm`. What is not yet
/// written cannot be dropped (sysctl/vm in the kernel's documentation), so it is written first.
fn memory_kib() -> io::Result<u64> {
    let folder = if fs::exists("/vm")? { "/vm" } else { "/proc/sys/vm" };
    // What was used lately is given up only when it is asked for again, and what threads of the kernel free only after a rest.
    let mut least = u64::MAX;
    for _ in 0..RESTS {
        crate::sys::sync();
        thread::sleep(REST);
        fs::write(format!("{folder}/drop_caches"), "3")?;
        let used = used_kib()?;
        let is_steady = used + LITTLE_KIB > least;
        least = least.min(used);
        if is_steady {
            break;
        }
    }
    Ok(least)
}

fn used_kib() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let value = |key: &str| -> Option<u64> {
        text.lines().find_map(|line| line.strip_prefix(key)?.strip_suffix(" kB")?.trim().parse().ok())
    };
    let both = value("MemTotal:").zip(value("MemFree:"));
    both.map(|(total, free)| total - free).ok_or_else(|| io::Error::other(text))
}

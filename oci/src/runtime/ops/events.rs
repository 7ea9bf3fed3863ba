//! `events`: what a container uses, and its out-of-memory kills, in the JSON of runc (types/events.go of its sources): a line each.

use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use super::Machine;
use crate::runtime::cgroup::Cgroup;
use crate::runtime::error::{Result, Step};
use crate::runtime::id::ContainerId;
use crate::runtime::json::Writer;
use crate::runtime::state::{START_SOCKET, State, Status};
use crate::runtime::sys::process;

/// Prints one line with `print` (`--stats`), or one at each interval and for each kill until the container ends.
pub(crate) fn events(
    machine: &Machine,
    id: &ContainerId,
    interval: Option<Duration>,
    print: fn(&str) -> Result<u8>,
) -> Result<()> {
    let state = State::peek(&machine.store, id)?;
    let status = state.status(&machine.proc, machine.store.has(id, START_SOCKET)?)?;
    state.needs_cgroup("watch")?;
    let cgroup = match Cgroup::open(&state.cgroup)? {
        Some(cgroup) if !matches!(status, Status::Stopped | Status::Creating) => cgroup,
        _ => return Err(state.refuse("watch", status)),
    };
    let Some(interval) = interval else { return print(&stats(&cgroup, &state.id)).map(drop) };
    let ends = cgroup.open_file("cgroup.events").step("open cgroup.events of cgroup", &state.cgroup)?;
    let memory = cgroup.open_file("memory.events").ok();
    let kills = || cgroup.value("memory.events", "oom_kill").flatten().unwrap_or(0);
    let (mut seen, mut next) = (kills(), Instant::now());
    while cgroup.populated() {
        if Instant::now() >= next {
            print(&stats(&cgroup, &state.id))?;
            next += interval;
        }
        let left = i32::try_from(next.saturating_duration_since(Instant::now()).as_millis() + 1).unwrap_or(i32::MAX);
        // The kernel counts what it has told by reading: the files are read again before the next wait.
        process::wait_changed_either(ends.as_fd(), memory.as_ref().map(|file| file.as_fd()), left)
            .step("wait for events of cgroup", &state.cgroup)?;
        let now = kills();
        for _ in seen..now {
            let mut w = Writer::new();
            w.open('{').name("type").string("oom").name("id").string(&state.id).close('}');
            print(&(w.finish() + "\n"))?;
        }
        seen = now;
    }
    Ok(())
}

fn stats(cgroup: &Cgroup, id: &str) -> String {
    let mut w = Writer::new();
    w.open('{').name("type").string("stats").name("id").string(id).name("data").open('{');
    cpu(&mut w, cgroup);
    w.name("cpuset").open('{').close('}');
    memory(&mut w, cgroup);
    w.name("pids").open('{').name("current").number(number(cgroup, "pids.current", ""));
    w.name("limit").number(cgroup.value("pids.max", "").flatten().unwrap_or(0).into()).close('}');
    w.name("blkio").open('{');
    io(&mut w, cgroup, "ioServiceBytesRecursive", &[("Read", "rbytes"), ("Write", "wbytes"), ("Discard", "dbytes")]);
    io(&mut w, cgroup, "ioServicedRecursive", &[("Read", "rios"), ("Write", "wios"), ("Discard", "dios")]);
    pressure(&mut w, cgroup, "io.pressure");
    w.close('}').name("hugetlb").open('{');
    for size in ["64KB", "2MB", "32MB", "512MB", "1GB"] {
        if let Some(usage) = cgroup.value(&format!("hugetlb.{size}.current"), "").flatten() {
            w.name(size).open('{').name("usage").number(usage.into());
            w.name("failcnt").number(number(cgroup, &format!("hugetlb.{size}.events"), "max")).close('}');
        }
    }
    w.close('}').name("intel_rdt").open('{').close('}').name("network_interfaces").open('[').close(']');
    w.close('}').close('}');
    w.finish() + "\n"
}

/// A value of a file, 0 where there is none.
fn number(cgroup: &Cgroup, file: &str, key: &str) -> i128 {
    cgroup.value(file, key).flatten().unwrap_or(0).into()
}

fn cpu(w: &mut Writer, cgroup: &Cgroup) {
    // The kernel counts microseconds, the interface nanoseconds.
    let nanoseconds = |key| number(cgroup, "cpu.stat", key) * 1000;
    w.name("cpu").open('{').name("usage").open('{').name("total").number(nanoseconds("usage_usec"));
    w.name("kernel").number(nanoseconds("system_usec")).name("user").number(nanoseconds("user_usec")).close('}');
    w.name("throttling").open('{').name("periods").number(number(cgroup, "cpu.stat", "nr_periods"));
    w.name("throttledPeriods").number(number(cgroup, "cpu.stat", "nr_throttled"));
    w.name("throttledTime").number(nanoseconds("throttled_usec")).close('}');
    pressure(w, cgroup, "cpu.pressure");
    w.close('}');
}

fn memory(w: &mut Writer, cgroup: &Cgroup) {
    let limit = |file| cgroup.value(file, "").flatten().map_or(i128::from(u64::MAX), i128::from);
    let usage = number(cgroup, "memory.current", "");
    w.name("memory").open('{').name("cache").number(number(cgroup, "memory.stat", "file"));
    let mut entry = |name: &str, limit: i128, usage: i128, peak: i128, failures: i128| {
        w.name(name).open('{').name("limit").number(limit).name("usage").number(usage);
        w.name("max").number(peak).name("failcnt").number(failures).close('}');
    };
    let memory_limit = limit("memory.max");
    entry("usage", memory_limit, usage, number(cgroup, "memory.peak", ""), number(cgroup, "memory.events", "max"));
    // As cgroup v1 counted, and engines still read it: memory and swap together.
    let both = (limit("memory.swap.max") + memory_limit).min(u64::MAX.into());
    let (swap, peak) = (number(cgroup, "memory.swap.current", ""), number(cgroup, "memory.swap.peak", ""));
    entry("swap", both, usage + swap, peak, number(cgroup, "memory.swap.events", "max"));
    for name in ["kernel", "kernelTCP"] {
        entry(name, 0, 0, 0, 0);
    }
    w.name("raw").open('{');
    for (key, value) in cgroup.read("memory.stat").unwrap_or_default().lines().filter_map(|line| line.split_once(' ')) {
        w.name(key).number(value.parse().unwrap_or(0));
    }
    w.close('}');
    pressure(w, cgroup, "memory.pressure");
    w.close('}');
}

/// Lines such as `8:0 rbytes=1 wbytes=2`.
fn io(w: &mut Writer, cgroup: &Cgroup, name: &str, operations: &[(&str, &str)]) {
    w.name(name).open('[');
    for line in cgroup.read("io.stat").unwrap_or_default().lines() {
        let mut words = line.split(' ');
        let Some((major, minor)) = words.next().and_then(|device| device.split_once(':')) else { continue };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let Some((operation, _)) = operations.iter().find(|(_, word)| *word == key) else { continue };
            w.open('{')
                .name("major")
                .number(major.parse().unwrap_or(0))
                .name("minor")
                .number(minor.parse().unwrap_or(0));
            w.name("op").string(operation).name("value").number(value.parse().unwrap_or(0)).close('}');
        }
    }
    w.close(']');
}

/// Lines such as `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`; the numbers go out as the kernel writes them.
fn pressure(w: &mut Writer, cgroup: &Cgroup, file: &str) {
    let Ok(text) = cgroup.read(file) else { return };
    w.name("psi").open('{');
    for (kind, rest) in text.lines().filter_map(|line| line.split_once(' ')) {
        w.name(kind).open('{');
        for (key, value) in rest.split(' ').filter_map(|word| word.split_once('=')) {
            if value.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
                w.name(key).value(value);
            }
        }
        w.close('}');
    }
    w.close('}');
}

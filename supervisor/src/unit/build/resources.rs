//! Limits in `[Service]`: systemd.resource-control(5) for the container's cgroup, systemd.exec(5)'s `Limit…=` for its processes.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use crate::unit::{
    Amount, CpuPolicy, CpuQuota, CpuWeight, IoLimit, IoLimitKind, IoPriority, OomPolicy, Resources, Scheduling,
    Startup, Ulimit, cpus, sheet::Sheet, values,
};

pub(super) fn resources(sheet: &mut Sheet<'_>) -> Resources {
    let memory = |sheet: &mut Sheet<'_>, key| sheet.read("Service", key, values::amount);
    let bound = |sheet: &mut Sheet<'_>, key, count: fn(&str) -> Result<u64, &'static str>| {
        sheet.read("Service", key, |text| match values::amount_of(text, count) {
            Ok(Amount::Is(0) | Amount::Share(0)) => Err("nothing runs within a limit of 0"),
            read => read,
        })
    };
    // "The period is clamped to the range supported by the kernel, which is [1ms, 1000ms]."
    let period = sheet
        .read("Service", "CPUQuotaPeriodSec", values::finite)
        .map(|period| period.clamp(Duration::from_millis(1), Duration::from_secs(1)));
    let share = sheet.read("Service", "CPUQuota", |text| match values::percent(text)? {
        0 => Err("nothing runs within a limit of 0"),
        share => Ok(share),
    });
    if share.is_none() && sheet.last("Service", "CPUQuota").is_none() {
        sheet.useless(("Service", "CPUQuotaPeriodSec"), "CPUQuota=");
    }
    delegate(sheet);
    Resources {
        memory_min: memory(sheet, "MemoryMin"),
        memory_low: memory(sheet, "MemoryLow"),
        memory_high: bound(sheet, "MemoryHigh", values::bytes),
        memory_max: bound(sheet, "MemoryMax", values::bytes),
        memory_swap_max: memory(sheet, "MemorySwapMax"),
        memory_zswap_max: memory(sheet, "MemoryZSwapMax"),
        memory_zswap_writeback: sheet.read("Service", "MemoryZSwapWriteback", values::boolean),
        tasks_max: bound(sheet, "TasksMax", |text| text.parse().map_err(|_| values::AMOUNT)),
        cpu_weight: sheet.read("Service", "CPUWeight", cpu_weight),
        cpu_quota: share.map(|share| CpuQuota { share, period: period.unwrap_or(Duration::from_millis(100)) }),
        allowed_cpus: sheet.read("Service", "AllowedCPUs", cpus::read),
        allowed_memory_nodes: sheet.read("Service", "AllowedMemoryNodes", cpus::read),
        io_weight: sheet.read("Service", "IOWeight", io_weight),
        io_limits: io_limits(sheet),
        oom_policy: sheet.read("Service", "OOMPolicy", |text| match text {
            "continue" => Ok(OomPolicy::Continue),
            "stop" => Ok(OomPolicy::Stop),
            "kill" => Ok(OomPolicy::Kill),
            _ => Err("expected continue, stop or kill"),
        }),
        scheduling: scheduling(sheet),
        limits: limits(sheet),
        startup: Startup {
            memory_low: memory(sheet, "StartupMemoryLow"),
            memory_high: bound(sheet, "StartupMemoryHigh", values::bytes),
            memory_max: bound(sheet, "StartupMemoryMax", values::bytes),
            memory_swap_max: memory(sheet, "StartupMemorySwapMax"),
            memory_zswap_max: memory(sheet, "StartupMemoryZSwapMax"),
            cpu_weight: sheet.read("Service", "StartupCPUWeight", cpu_weight),
            allowed_cpus: sheet.read("Service", "StartupAllowedCPUs", cpus::read),
            allowed_memory_nodes: sheet.read("Service", "StartupAllowedMemoryNodes", cpus::read),
            io_weight: sheet.read("Service", "StartupIOWeight", io_weight),
        },
    }
}

fn weight(text: &str) -> Option<u32> {
    text.parse().ok().filter(|n| (1..=10_000).contains(n))
}

fn cpu_weight(text: &str) -> Result<CpuWeight, &'static str> {
    match text {
        "idle" => Ok(CpuWeight::Idle),
        _ => weight(text).map(CpuWeight::Weight).ok_or("expected a weight from 1 to 10000, 100 is usual, or idle"),
    }
}

fn io_weight(text: &str) -> Result<u32, &'static str> {
    weight(text).ok_or("expected a weight from 1 to 10000, 100 is usual")
}

/// A container's cgroup is its own, with all controllers. What asks for fewer, or for none, is not built.
fn delegate(sheet: &mut Sheet<'_>) {
    const CONTROLLERS: [&str; 12] = [
        "cpu",
        "cpuacct",
        "cpuset",
        "io",
        "blkio",
        "memory",
        "devices",
        "pids",
        "bpf-firewall",
        "bpf-devices",
        "bpf-foreign",
        "bpf-socket-bind",
    ];
    sheet.read("Service", "Delegate", |text| {
        let known = |word: &str| CONTROLLERS.contains(&word) || word == "bpf-restrict-network-interfaces";
        if values::boolean(text).is_ok() || text.split_ascii_whitespace().all(known) {
            Ok(())
        } else {
            Err("expected yes, no or controllers of cgroups, such as cpu memory")
        }
    });
}

const IO_LIMITS: [(&str, IoLimitKind); 6] = [
    ("IODeviceWeight", IoLimitKind::Weight),
    ("IOReadBandwidthMax", IoLimitKind::ReadBandwidth),
    ("IOWriteBandwidthMax", IoLimitKind::WriteBandwidth),
    ("IOReadIOPSMax", IoLimitKind::ReadOperations),
    ("IOWriteIOPSMax", IoLimitKind::WriteOperations),
    ("IODeviceLatencyTargetSec", IoLimitKind::Latency),
];

/// A path and a number each; of one path the last line counts, and `infinity` takes a limit back.
fn io_limits(sheet: &mut Sheet<'_>) -> Vec<IoLimit> {
    let mut all: Vec<Option<IoLimit>> = Vec::new();
    for (key, kind) in IO_LIMITS {
        let mut places: BTreeMap<PathBuf, usize> = BTreeMap::new();
        for value in sheet.written("Service", key) {
            let words = sheet.words("Service", &value);
            let read = match words.as_slice() {
                [path, _] if !path.text.starts_with('/') => Err("expected an absolute path first".to_owned()),
                [path, number] => io_limit(&number.text, kind).map(|number| (PathBuf::from(&path.text), number)),
                _ if kind == IoLimitKind::Latency => {
                    Err("expected a path and a time span, such as /var 25ms".to_owned())
                }
                _ => Err("expected a path and a number, such as /var 5M".to_owned()),
            };
            match read {
                Ok((path, number)) => {
                    if let Some(before) = places.insert(path.clone(), all.len()) {
                        all[before] = None;
                    }
                    all.push(number.map(|value| IoLimit { path, kind, value }));
                }
                Err(expected) => sheet.error(&value, format!("{key}={}: {expected}", value.text)),
            }
        }
    }
    all.into_iter().flatten().collect()
}

fn io_limit(text: &str, kind: IoLimitKind) -> Result<Option<u64>, String> {
    match kind {
        IoLimitKind::Weight => return between(1, 10_000)(text).map(Some),
        IoLimitKind::Latency => {
            let micros = values::finite(text)?.as_micros();
            return Ok(u64::try_from(micros).ok().filter(|micros| *micros > 0));
        }
        _ => {}
    }
    match text {
        "infinity" => Ok(None),
        _ => match values::count(text) {
            Ok(0) => Err("nothing is read or written within a limit of 0".to_owned()),
            read => read.map(Some).map_err(str::to_owned),
        },
    }
}

/// A number between these two.
pub(super) fn between<T: std::str::FromStr + PartialOrd + std::fmt::Display>(
    from: T,
    to: T,
) -> impl Fn(&str) -> Result<T, String> {
    move |text| {
        let number = text.parse().ok().filter(|n| (&from..=&to).contains(&n));
        number.ok_or_else(|| format!("expected a number from {from} to {to}"))
    }
}

fn scheduling(sheet: &mut Sheet<'_>) -> Scheduling {
    let priority = sheet.read("Service", "CPUSchedulingPriority", between(1, 99));
    let real_time = priority.unwrap_or(1);
    let cpu = sheet.read("Service", "CPUSchedulingPolicy", |text| match text {
        "other" => Ok(CpuPolicy::Other),
        "batch" => Ok(CpuPolicy::Batch),
        "idle" => Ok(CpuPolicy::Idle),
        "fifo" => Ok(CpuPolicy::Fifo(real_time)),
        "rr" => Ok(CpuPolicy::RoundRobin(real_time)),
        _ => Err("expected other, batch, idle, fifo or rr"),
    });
    if priority.is_some()
        && !matches!(cpu, Some(CpuPolicy::Fifo(_) | CpuPolicy::RoundRobin(_)))
        && let Some(value) = sheet.last("Service", "CPUSchedulingPriority")
    {
        sheet.error(&value, "CPUSchedulingPriority= is for CPUSchedulingPolicy=fifo or rr");
    }
    let io = sheet.read("Service", "IOSchedulingPriority", between(0, 7));
    let level = io.unwrap_or(4);
    let class = sheet.read("Service", "IOSchedulingClass", |text| match text {
        "none" | "0" => Ok(None),
        "realtime" | "1" => Ok(Some(IoPriority::RealTime(level))),
        "best-effort" | "2" => Ok(Some(IoPriority::BestEffort(level))),
        "idle" | "3" => Ok(Some(IoPriority::Idle)),
        _ => Err("expected realtime, best-effort, idle or none"),
    });
    Scheduling {
        nice: sheet.read("Service", "Nice", between(-20, 19)),
        cpu: cpu.unwrap_or_default(),
        io: class.unwrap_or(io.map(IoPriority::BestEffort)),
        reset_on_fork: sheet.read("Service", "CPUSchedulingResetOnFork", values::boolean).unwrap_or(false),
        affinity: affinity(sheet),
    }
}

/// Several lines are one set, systemd.exec(5).
fn affinity(sheet: &mut Sheet<'_>) -> Option<String> {
    let mut all = Vec::new();
    for value in sheet.all("Service", "CPUAffinity") {
        match value.text.as_str() {
            "numa" => {
                sheet.unavailable(&value, "CPUAffinity=numa: known, not available in this version; write the CPUs");
            }
            text => match cpus::read(text) {
                Ok(cpus) => all.push(cpus),
                Err(expected) => sheet.error(&value, format!("CPUAffinity={text}: {expected}")),
            },
        }
    }
    cpus::read(&all.join(",")).ok()
}

/// What the numbers of a limit count.
#[derive(Clone, Copy)]
enum Counts {
    Things,
    Bytes,
    Seconds,
    Microseconds,
    Niceness,
}

const LIMITS: [(&str, &str, Counts); 16] = [
    ("LimitAS", "RLIMIT_AS", Counts::Bytes),
    ("LimitCORE", "RLIMIT_CORE", Counts::Bytes),
    ("LimitCPU", "RLIMIT_CPU", Counts::Seconds),
    ("LimitDATA", "RLIMIT_DATA", Counts::Bytes),
    ("LimitFSIZE", "RLIMIT_FSIZE", Counts::Bytes),
    ("LimitLOCKS", "RLIMIT_LOCKS", Counts::Things),
    ("LimitMEMLOCK", "RLIMIT_MEMLOCK", Counts::Bytes),
    ("LimitMSGQUEUE", "RLIMIT_MSGQUEUE", Counts::Bytes),
    ("LimitNICE", "RLIMIT_NICE", Counts::Niceness),
    ("LimitNOFILE", "RLIMIT_NOFILE", Counts::Things),
    ("LimitNPROC", "RLIMIT_NPROC", Counts::Things),
    ("LimitRSS", "RLIMIT_RSS", Counts::Bytes),
    ("LimitRTPRIO", "RLIMIT_RTPRIO", Counts::Things),
    ("LimitRTTIME", "RLIMIT_RTTIME", Counts::Microseconds),
    ("LimitSIGPENDING", "RLIMIT_SIGPENDING", Counts::Things),
    ("LimitSTACK", "RLIMIT_STACK", Counts::Bytes),
];

fn limits(sheet: &mut Sheet<'_>) -> Vec<Ulimit> {
    let mut all = Vec::new();
    for (key, kind, counts) in LIMITS {
        let read = sheet.read("Service", key, |text| {
            let (soft, hard) = text.split_once(':').unwrap_or((text, text));
            let (soft, hard) = (limit(soft, counts)?, limit(hard, counts)?);
            if soft > hard { Err("the soft limit is larger than the hard one") } else { Ok((soft, hard)) }
        });
        if let Some((soft, hard)) = read {
            all.push(Ulimit { kind: kind.to_owned(), soft, hard });
        }
    }
    all
}

fn limit(text: &str, counts: Counts) -> Result<u64, &'static str> {
    const THINGS: &str = "expected a number, infinity, or two of them as soft:hard";
    // A nice value has no such end to systemd.
    if text == "infinity" && !matches!(counts, Counts::Niceness) {
        return Ok(u64::MAX);
    }
    match counts {
        Counts::Things if values::octal(text).is_some() => {
            Err("a number that begins with 0 is an octal one to systemd")
        }
        // The largest number is infinity's own.
        Counts::Things => text.parse().ok().filter(|number| *number < u64::MAX).ok_or(THINGS),
        Counts::Bytes => values::bytes(text),
        Counts::Seconds => values::finite(text).map(|span| span.as_secs() + u64::from(span.subsec_nanos() > 0)),
        // Without a unit it counts microseconds, systemd.exec(5).
        Counts::Microseconds => match text.parse() {
            Ok(number) => Ok(number),
            Err(_) => values::finite(text).map(|span| u64::try_from(span.as_micros()).unwrap_or(u64::MAX)),
        },
        // getrlimit(2): 20 minus the nice value; without a sign the number is the limit itself.
        Counts::Niceness => match text.parse::<i64>() {
            Ok(nice @ -20..=19) if text.starts_with(['+', '-']) => u64::try_from(20 - nice).map_err(|_| THINGS),
            Ok(raw @ 0..=40) if !text.starts_with('+') => u64::try_from(raw).map_err(|_| THINGS),
            _ => Err("expected a nice value from -20 to +19 with its sign"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_count_what_the_manual_says() {
        assert_eq!(limit("infinity", Counts::Things), Ok(u64::MAX));
        assert_eq!(limit("64K", Counts::Bytes), Ok(65_536));
        assert_eq!(limit("1min", Counts::Seconds), Ok(60));
        assert_eq!([limit("5ms", Counts::Microseconds), limit("9", Counts::Microseconds)], [Ok(5000), Ok(9)]);
        assert_eq!(
            [limit("+5", Counts::Niceness), limit("-5", Counts::Niceness), limit("7", Counts::Niceness)],
            [Ok(15), Ok(25), Ok(7)]
        );
        let refused =
            [("infinity", Counts::Niceness), ("010", Counts::Things), ("18446744073709551615", Counts::Things)];
        assert!(refused.into_iter().all(|(text, counts)| limit(text, counts).is_err()));
        assert!(limit("1K", Counts::Things).is_err() && limit("+20", Counts::Niceness).is_err());
    }
}

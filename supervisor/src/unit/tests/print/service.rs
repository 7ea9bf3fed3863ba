//! What supervision reads: `[Service]`, made and written, and the health checks.

use std::time::Duration;

use super::{
    Dice, Lines,
    make::{bytes, coin, list, maybe, number, one, small, span as some_span},
    word,
    write::{json, span},
};
use crate::unit::{
    Amount, CpuPolicy, CpuQuota, CpuWeight, ExitStatuses, Health, IoLimit, IoLimitKind, IoPriority, MachineAction,
    MachineEnd, Notify, OomPolicy, Preserve, Requests, Resources, Restart, Scheduling, ServiceSpec, ServiceType,
    Startup, Ulimit,
};

pub(super) fn checks(t: &mut Lines, health: Option<&Health>, startup: Option<&Health>) {
    // With CMD in front a list of one is a program, too, and no line for a shell.
    let words = |command: &[String]| json(&[&["CMD".to_owned()], command].concat()).replace('$', "$$");
    let Some(Health {
        command,
        interval,
        timeout,
        retries,
        start_period,
        successes: _,
        on_failure,
        max_log_count,
        max_log_bytes,
        log_events,
    }) = health
    else {
        return t.put("HealthCmd", "none");
    };
    if !command.is_empty() {
        t.put("HealthCmd", words(command));
    }
    t.put("HealthInterval", interval.map_or("disable".to_owned(), span));
    t.put("HealthTimeout", span(*timeout));
    t.put("HealthRetries", retries);
    t.put("HealthStartPeriod", span(*start_period));
    t.put("HealthOnFailure", ["none", "kill", "restart", "stop"][*on_failure as usize]);
    t.put("HealthMaxLogCount", max_log_count);
    t.put("HealthMaxLogSize", max_log_bytes);
    t.put("HealthLogDestination", if *log_events { "events_logger" } else { "local" });
    if let Some(first) = startup {
        t.put("HealthStartupCmd", words(&first.command));
        t.put("HealthStartupInterval", first.interval.map_or("disable".to_owned(), span));
        t.put("HealthStartupTimeout", span(first.timeout));
        t.put("HealthStartupRetries", first.retries);
        t.put("HealthStartupSuccess", first.successes);
    }
}

fn endless(time: Option<Duration>) -> String {
    time.map_or("infinity".to_owned(), span)
}

fn shown(amount: Amount) -> String {
    match amount {
        Amount::Infinity => "infinity".to_owned(),
        Amount::Is(n) => n.to_string(),
        Amount::Share(share) => format!("{}.{:02}%", share / 100, share % 100),
    }
}

pub(super) fn write(t: &mut Lines, service: &ServiceSpec) {
    let ServiceSpec {
        kind,
        remain_after_exit,
        restart,
        restart_delay,
        restart_direct,
        restart_growth,
        restart_spread,
        success,
        restart_prevent,
        restart_force,
        runtime_max,
        runtime_extra,
        watchdog,
        fd_store_max,
        fd_store_preserve,
        kill_signal,
        abort_timeout,
        start_timeout,
        stop_timeout,
    } = service;
    t.put("Type", if *kind == ServiceType::Oneshot { "oneshot" } else { "notify" });
    t.put("RemainAfterExit", remain_after_exit);
    let words = ["no", "on-success", "on-failure", "on-abnormal", "on-watchdog", "on-abort", "always"];
    t.put("Restart", words[*restart as usize]);
    t.put("RestartSec", span(*restart_delay));
    t.put("RestartMode", if *restart_direct { "direct" } else { "normal" });
    if let Some((steps, most)) = restart_growth {
        t.put("RestartSteps", steps);
        t.put("RestartMaxDelaySec", span(*most));
    }
    t.put("RestartRandomizedDelaySec", span(*restart_spread));
    for (key, ExitStatuses { codes, signals }) in [
        ("SuccessExitStatus", success),
        ("RestartPreventExitStatus", restart_prevent),
        ("RestartForceExitStatus", restart_force),
    ] {
        t.each(key, codes);
        t.each(key, signals.iter().map(|signal| format!("SIGRTMIN+{}", signal - 34)));
    }
    t.put("RuntimeMaxSec", endless(*runtime_max));
    if !runtime_extra.is_zero() {
        t.put("RuntimeRandomizedExtraSec", span(*runtime_extra));
    }
    t.each("WatchdogSec", watchdog.map(span));
    t.each("KillSignal", kill_signal);
    if *fd_store_max > 0 {
        t.put("FileDescriptorStoreMax", fd_store_max);
    }
    t.put("FileDescriptorStorePreserve", ["no", "yes", "restart"][*fd_store_preserve as usize]);
    t.each("TimeoutAbortSec", abort_timeout.map(endless));
    t.put("TimeoutStartSec", endless(*start_timeout));
    t.put("TimeoutStopSec", endless(*stop_timeout));
}

pub(super) fn write_requests(t: &mut Lines, requests: Requests) {
    let Requests { refuse_start, refuse_stop, stop_when_unneeded, job_timeout } = requests;
    t.put("RefuseManualStart", refuse_start);
    t.put("RefuseManualStop", refuse_stop);
    t.put("StopWhenUnneeded", stop_when_unneeded);
    t.put("JobTimeoutSec", endless(job_timeout));
}

pub(super) fn write_resources(t: &mut Lines, resources: &Resources) {
    let Resources {
        memory_min,
        memory_low,
        memory_high,
        memory_max,
        memory_swap_max,
        memory_zswap_max,
        memory_zswap_writeback,
        tasks_max,
        cpu_weight,
        cpu_quota,
        allowed_cpus,
        allowed_memory_nodes,
        io_weight,
        io_limits,
        oom_policy,
        scheduling: Scheduling { nice, cpu, io, reset_on_fork, affinity },
        limits,
        startup,
    } = resources;
    write_startup(t, startup);
    for (key, value) in [
        ("MemoryMin", memory_min),
        ("MemoryLow", memory_low),
        ("MemoryHigh", memory_high),
        ("MemoryMax", memory_max),
        ("MemorySwapMax", memory_swap_max),
        ("MemoryZSwapMax", memory_zswap_max),
        ("TasksMax", tasks_max),
    ] {
        t.each(key, value.map(shown));
    }
    t.each("MemoryZSwapWriteback", memory_zswap_writeback);
    t.each("CPUWeight", cpu_weight.map(weight));
    if let Some(CpuQuota { share, period }) = cpu_quota {
        t.put("CPUQuota", shown(Amount::Share(*share)));
        t.put("CPUQuotaPeriodSec", span(*period));
    }
    t.each("AllowedCPUs", allowed_cpus);
    t.each("AllowedMemoryNodes", allowed_memory_nodes);
    t.each("IOWeight", io_weight);
    for IoLimit { path, kind, value } in io_limits {
        let key = match kind {
            IoLimitKind::Weight => "IODeviceWeight",
            IoLimitKind::ReadBandwidth => "IOReadBandwidthMax",
            IoLimitKind::WriteBandwidth => "IOWriteBandwidthMax",
            IoLimitKind::ReadOperations => "IOReadIOPSMax",
            IoLimitKind::WriteOperations => "IOWriteIOPSMax",
            IoLimitKind::Latency => "IODeviceLatencyTargetSec",
        };
        let unit = if *kind == IoLimitKind::Latency { "us" } else { "" };
        t.put(key, format!("{} {value}{unit}", word(&path.display().to_string())));
    }
    t.each("OOMPolicy", oom_policy.map(|policy| ["continue", "stop", "kill"][policy as usize]));
    t.each("Nice", nice);
    let (policy, priority) = match cpu {
        CpuPolicy::Other => ("other", None),
        CpuPolicy::Batch => ("batch", None),
        CpuPolicy::Idle => ("idle", None),
        CpuPolicy::Fifo(priority) => ("fifo", Some(priority)),
        CpuPolicy::RoundRobin(priority) => ("rr", Some(priority)),
    };
    t.put("CPUSchedulingPolicy", policy);
    t.each("CPUSchedulingPriority", priority);
    t.put("CPUSchedulingResetOnFork", reset_on_fork);
    t.each("CPUAffinity", affinity);
    if let Some(io) = io {
        let (class, level) = match io {
            IoPriority::RealTime(level) => ("realtime", Some(level)),
            IoPriority::BestEffort(level) => ("best-effort", Some(level)),
            IoPriority::Idle => ("idle", None),
        };
        t.put("IOSchedulingClass", class);
        t.each("IOSchedulingPriority", level);
    }
    for Ulimit { kind, soft, hard } in limits {
        let number = |n: u64| if n == u64::MAX { "infinity".to_owned() } else { n.to_string() };
        t.put(&format!("Limit{}", kind.trim_start_matches("RLIMIT_")), format!("{}:{}", number(*soft), number(*hard)));
    }
}

pub(super) fn action(dice: &mut Dice) -> Option<MachineAction> {
    maybe(dice, |dice| MachineAction {
        end: one(dice, &[MachineEnd::Reboot, MachineEnd::PowerOff, MachineEnd::Halt]),
        force: coin(dice),
    })
}

fn statuses(dice: &mut Dice) -> ExitStatuses {
    ExitStatuses {
        codes: list(dice, |dice, _| small(dice, 256)).into_iter().collect(),
        signals: list(dice, |_, i| 34 + i32::try_from(i).unwrap()).into_iter().collect(),
    }
}

pub(super) fn make(dice: &mut Dice, notify: Notify) -> ServiceSpec {
    let kind = one(dice, &[ServiceType::Exec, ServiceType::Oneshot]);
    let restarts = [
        Restart::No,
        Restart::OnFailure,
        Restart::OnAbnormal,
        Restart::OnWatchdog,
        Restart::OnAbort,
        Restart::OnSuccess,
        Restart::Always,
    ];
    let most = if kind == ServiceType::Oneshot { 5 } else { 7 };
    let restart_growth = maybe(dice, |dice| (number(dice, 9) + 1, some_span(dice)));
    // What means nothing there is warned about.
    let runtime_max = maybe(dice, some_span).filter(|_| kind != ServiceType::Oneshot);
    ServiceSpec {
        kind,
        remain_after_exit: coin(dice),
        restart: restarts[dice.roll(most)],
        restart_delay: some_span(dice).min(restart_growth.map_or(Duration::MAX, |(_, longest)| longest)),
        restart_growth,
        restart_spread: some_span(dice),
        success: statuses(dice),
        restart_prevent: statuses(dice),
        restart_direct: coin(dice),
        restart_force: statuses(dice),
        runtime_max,
        runtime_extra: runtime_max.map_or(Duration::ZERO, |_| some_span(dice)),
        // Nobody else says that it lives.
        watchdog: maybe(dice, some_span).filter(|_| notify == Notify::Container),
        fd_store_max: if notify == Notify::Container { number(dice, 99) } else { 0 },
        fd_store_preserve: [Preserve::No, Preserve::Yes, Preserve::Restart][dice.roll(3)],
        kill_signal: maybe(dice, |dice| i32::from(small(dice, 64)) + 1),
        abort_timeout: maybe(dice, |dice| maybe(dice, some_span)),
        start_timeout: maybe(dice, some_span),
        // Podman's own always ends.
        stop_timeout: Some(some_span(dice)),
    }
}

/// As `Ulimit=` and `Limit…=` both have them, in the order of their names.
fn weight(weight: CpuWeight) -> String {
    match weight {
        CpuWeight::Idle => "idle".to_owned(),
        CpuWeight::Weight(weight) => weight.to_string(),
    }
}

fn write_startup(t: &mut Lines, startup: &Startup) {
    let Startup {
        memory_low,
        memory_high,
        memory_max,
        memory_swap_max,
        memory_zswap_max,
        cpu_weight,
        allowed_cpus,
        allowed_memory_nodes,
        io_weight,
    } = startup;
    t.each("StartupMemoryLow", memory_low.map(shown));
    t.each("StartupMemoryHigh", memory_high.map(shown));
    t.each("StartupMemoryMax", memory_max.map(shown));
    t.each("StartupMemorySwapMax", memory_swap_max.map(shown));
    t.each("StartupMemoryZSwapMax", memory_zswap_max.map(shown));
    t.each("StartupCPUWeight", cpu_weight.map(weight));
    t.each("StartupAllowedCPUs", allowed_cpus);
    t.each("StartupAllowedMemoryNodes", allowed_memory_nodes);
    t.each("StartupIOWeight", io_weight);
}

pub(super) fn limits(dice: &mut Dice) -> Vec<Ulimit> {
    let kinds = ["RLIMIT_AS", "RLIMIT_CORE", "RLIMIT_NOFILE"].into_iter().filter(|_| coin(dice)).collect::<Vec<_>>();
    kinds
        .into_iter()
        .map(|kind| Ulimit { kind: kind.to_owned(), soft: u64::from(small(dice, 99)), hard: u64::MAX })
        .collect()
}

pub(super) fn make_resources(dice: &mut Dice) -> Resources {
    Resources {
        memory_min: maybe(dice, amount),
        memory_low: maybe(dice, amount),
        memory_high: maybe(dice, amount),
        memory_max: maybe(dice, amount),
        memory_swap_max: maybe(dice, amount),
        memory_zswap_max: maybe(dice, amount),
        memory_zswap_writeback: maybe(dice, coin),
        tasks_max: maybe(dice, amount),
        cpu_weight: maybe(dice, make_weight),
        cpu_quota: maybe(dice, |dice| CpuQuota { share: number(dice, 40_000) + 1, period: Duration::from_millis(20) }),
        allowed_cpus: maybe(dice, |_| "0-3,7".to_owned()),
        allowed_memory_nodes: maybe(dice, |_| "0-1".to_owned()),
        io_weight: maybe(dice, |dice| number(dice, 9999) + 1),
        io_limits: [
            IoLimitKind::Weight,
            IoLimitKind::ReadBandwidth,
            IoLimitKind::WriteOperations,
            IoLimitKind::Latency,
        ]
        .into_iter()
        .filter_map(|kind| {
            let value = u64::from(small(dice, 99)) + 1;
            coin(dice).then(|| IoLimit { path: "/a disk".into(), kind, value })
        })
        .collect(),
        oom_policy: maybe(dice, |dice| one(dice, &[OomPolicy::Continue, OomPolicy::Stop, OomPolicy::Kill])),
        scheduling: Scheduling {
            nice: maybe(dice, |dice| i32::from(small(dice, 40)) - 20),
            cpu: match dice.roll(5) {
                0 => CpuPolicy::Other,
                1 => CpuPolicy::Batch,
                2 => CpuPolicy::Idle,
                3 => CpuPolicy::Fifo(small(dice, 99) + 1),
                _ => CpuPolicy::RoundRobin(small(dice, 99) + 1),
            },
            io: maybe(dice, |dice| match dice.roll(3) {
                0 => IoPriority::RealTime(small(dice, 8)),
                1 => IoPriority::BestEffort(small(dice, 8)),
                _ => IoPriority::Idle,
            }),
            reset_on_fork: coin(dice),
            affinity: maybe(dice, |_| "1,4-5".to_owned()),
        },
        limits: limits(dice),
        startup: Startup {
            memory_low: maybe(dice, amount),
            memory_high: maybe(dice, amount),
            memory_max: maybe(dice, amount),
            memory_swap_max: maybe(dice, amount),
            memory_zswap_max: maybe(dice, amount),
            cpu_weight: maybe(dice, make_weight),
            allowed_cpus: maybe(dice, |_| "0-1".to_owned()),
            allowed_memory_nodes: maybe(dice, |_| "0".to_owned()),
            io_weight: maybe(dice, |dice| number(dice, 9999) + 1),
        },
    }
}

fn make_weight(dice: &mut Dice) -> CpuWeight {
    match number(dice, 3) {
        0 => CpuWeight::Idle,
        n => CpuWeight::Weight(n * 100),
    }
}

fn amount(dice: &mut Dice) -> Amount {
    match dice.roll(3) {
        0 => Amount::Infinity,
        1 => Amount::Is(bytes(dice)),
        _ => Amount::Share(number(dice, 10_000) + 1),
    }
}

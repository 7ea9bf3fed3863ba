//! A model written as a unit and read back is the same model, whatever stands in it.

use std::{collections::BTreeMap, fmt::Write as _, path::PathBuf, time::Duration};

use super::{hostile::Dice, language, minimal, shown};
use crate::unit::{
    Amount, Attachment, CpuQuota, CpuWeight, Device, Health, HealthAction, IdMap, Network, Notify, OomPolicy, Port,
    Protocol, Reload, Restart, Secret, SecretTarget, ServiceType, Tmpfs, TmpfsKind, Ulimit, Unit, Unmask, User,
    UserNamespace, Volume, VolumeSource,
};

/// As a word of a list: in quotes, with escapes, and every percent sign doubled.
fn word(text: &str) -> String {
    let mut shown = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => shown.extend(['\\', c]),
            '%' => shown.push_str("%%"),
            '\n' => shown.push_str("\\n"),
            '\t' => shown.push_str("\\t"),
            c if c.is_control() => shown.extend(format!("\\u{:04x}", u32::from(c)).chars()),
            c => shown.push(c),
        }
    }
    shown.push('"');
    shown
}

/// As a word of a command line, where a dollar is doubled too.
fn argument(text: &str) -> String {
    word(&text.replace('$', "$$"))
}

fn span(span: Duration) -> String {
    format!("{}us", span.as_micros())
}

fn amount(amount: Amount) -> String {
    match amount {
        Amount::Infinity => "infinity".to_owned(),
        Amount::Is(n) => n.to_string(),
        Amount::Share(share) => format!("{}.{:02}%", share / 100, share % 100),
    }
}

fn print(unit: &Unit) -> String {
    let c = &unit.container;
    let mut t = String::new();
    let mut line = |key: &str, value: String| writeln!(t, "{key}={value}").unwrap();
    line("Image", c.image.clone());
    match &c.network {
        Network::Host => line("Network", "host".into()),
        Network::None => line("Network", "none".into()),
        Network::Container(name) => line("Network", format!("{name}.container")),
        Network::Bridge(all) => {
            for one in all {
                let mut options: Vec<String> = Vec::new();
                options.extend(one.ip.map(|ip| format!("ip={ip}")));
                options.extend(one.mac.iter().map(|mac| format!("mac={mac}")));
                options.extend(one.aliases.iter().map(|alias| format!("alias={alias}")));
                line("Network", format!("{}:{}", one.network.as_deref().unwrap_or("bridge"), options.join(",")));
            }
        }
    }
    let words = |all: &[String]| all.iter().map(|w| argument(w)).collect::<Vec<_>>().join(" ");
    if !c.exec.is_empty() {
        line("Exec", words(&c.exec));
    }
    for (key, all) in [("Environment", &c.environment), ("Label", &c.labels), ("Annotation", &c.annotations)] {
        for (name, value) in all {
            line(key, word(&format!("{name}={value}")));
        }
    }
    for volume in &c.volumes {
        let source = match &volume.source {
            VolumeSource::Host(path) => format!("{}:", path.display()),
            VolumeSource::Named(name) => format!("{name}:"),
            VolumeSource::Anonymous => String::new(),
        };
        let mut options = vec![if volume.read_only { "ro" } else { "rw" }];
        options.extend((!volume.nosuid).then_some("suid"));
        options.extend(volume.noexec.then_some("noexec"));
        let options = if source.is_empty() { String::new() } else { format!(":{}", options.join(",")) };
        line("Volume", format!("{source}{}{options}", volume.destination));
    }
    for tmpfs in &c.tmpfs {
        line("Tmpfs", format!("{}:{}", tmpfs.destination, tmpfs.options.join(",")));
    }
    for device in &c.devices {
        let sign = if device.optional { "-" } else { "" };
        line("AddDevice", format!("{sign}{}:{}:{}", device.host.display(), device.container.display(), device.access));
    }
    for secret in &c.secrets {
        let options = match &secret.target {
            SecretTarget::File { path, uid, gid, mode } => {
                format!("type=mount,target={},uid={uid},gid={gid},mode={mode:o}", path.display())
            }
            SecretTarget::Environment(name) => format!("type=env,target={name}"),
        };
        line("Secret", format!("{},{options}", secret.name));
    }
    for port in &c.ports {
        let ip =
            port.host_ip.map_or(String::new(), |ip| if ip.is_ipv6() { format!("[{ip}]:") } else { format!("{ip}:") });
        let range = |first: u16| format!("{first}-{}", first + port.count - 1);
        let host = port.host.map_or(String::new(), range);
        let protocol = ["tcp", "udp", "sctp"][port.protocol as usize];
        line("PublishPort", format!("{ip}{host}:{}/{protocol}", range(port.container)));
    }
    if let Some(user) = &c.user {
        line("User", user.user.clone());
        user.group.iter().for_each(|group| line("Group", group.clone()));
    }
    match &c.user_namespace {
        UserNamespace::Mapped { uids, gids } => {
            for (key, maps) in [("UIDMap", uids), ("GIDMap", gids)] {
                maps.iter().for_each(|m| line(key, format!("{}:{}:{}", m.container, m.host, m.count)));
            }
        }
        UserNamespace::KeepId { uid, gid, .. } => {
            line("UserNS", format!("keep-id:uid={},gid={}", uid.unwrap_or(0), gid.unwrap_or(0)));
        }
        _ => line("UserNS", "host".into()),
    }
    c.hostname.iter().for_each(|name| line("HostName", name.clone()));
    line("ReadOnly", c.read_only.to_string());
    c.memory_max_bytes.iter().for_each(|bytes| line("Memory", bytes.to_string()));
    line("PidsLimit", c.pids_max.map_or("-1".to_owned(), |n| n.to_string()));
    line("ShmSize", c.shm_size_bytes.to_string());
    c.stop_signal.iter().for_each(|signal| line("StopSignal", signal.to_string()));
    for name in &c.capabilities.drop {
        line("DropCapability", name.clone());
    }
    for limit in &c.ulimits {
        let number = |n: u64| if n == u64::MAX { "-1".to_owned() } else { n.to_string() };
        line("Ulimit", format!("{}={}:{}", limit.kind, number(limit.soft), number(limit.hard)));
    }
    c.sysctls.iter().for_each(|(name, value)| line("Sysctl", word(&format!("{name}={value}"))));
    if let Unmask::Paths(paths) = &c.unmask {
        paths.iter().for_each(|path| line("Unmask", word(path)));
    }
    c.hosts.iter().for_each(|(name, address)| line("AddHost", format!("{name}:{address}")));
    c.timezone.iter().for_each(|zone| line("Timezone", zone.clone()));
    line("Notify", ["no", "yes", "healthy"][c.notify as usize].to_owned());
    if c.health.is_none() {
        line("HealthCmd", "none".to_owned());
    }
    if let Some(health) = c.health.as_ref().filter(|health| !health.command.is_empty()) {
        let list: Vec<String> = health.command.iter().map(|w| serde_json::to_string(w).unwrap()).collect();
        line("HealthCmd", format!("[{}]", list.join(",")).replace('%', "%%"));
        line("HealthInterval", health.interval.map_or("disable".to_owned(), span));
        line("HealthTimeout", span(health.timeout));
        line("HealthRetries", health.retries.to_string());
        line("HealthStartPeriod", span(health.start_period));
        line("HealthOnFailure", ["none", "kill", "restart", "stop"][health.on_failure as usize].to_owned());
    }
    match &c.reload {
        Some(Reload::Command(command)) => line("ReloadCmd", words(command)),
        Some(Reload::Signal(signal)) => line("ReloadSignal", signal.to_string()),
        None => {}
    }
    let s = &unit.service;
    t.push_str("[Service]\n");
    let mut line = |key: &str, value: String| writeln!(t, "{key}={value}").unwrap();
    line("Type", if s.kind == ServiceType::Oneshot { "oneshot" } else { "notify" }.to_owned());
    let word =
        ["no", "on-success", "on-failure", "on-abnormal", "on-watchdog", "on-abort", "always"][s.restart as usize];
    line("Restart", word.to_owned());
    line("RestartSec", span(s.restart_delay));
    line("TimeoutStartSec", s.start_timeout.map_or("infinity".to_owned(), span));
    s.runtime_max.iter().for_each(|max| line("RuntimeMaxSec", span(*max)));
    s.watchdog.iter().for_each(|watchdog| line("WatchdogSec", span(*watchdog)));
    for code in &s.success.codes {
        line("SuccessExitStatus", code.to_string());
    }
    for signal in &s.restart_prevent.signals {
        line("RestartPreventExitStatus", format!("SIGRTMIN+{}", signal - 34));
    }
    let r = &c.resources;
    for (key, value) in [
        ("MemoryMax", r.memory_max),
        ("MemoryHigh", r.memory_high),
        ("MemorySwapMax", r.memory_swap_max),
        ("TasksMax", r.tasks_max),
    ] {
        value.iter().for_each(|value| line(key, amount(*value)));
    }
    match r.cpu_weight {
        Some(CpuWeight::Idle) => line("CPUWeight", "idle".into()),
        Some(CpuWeight::Weight(weight)) => line("CPUWeight", weight.to_string()),
        None => {}
    }
    if let Some(CpuQuota { share, period }) = r.cpu_quota {
        line("CPUQuota", amount(Amount::Share(share)));
        line("CPUQuotaPeriodSec", span(period));
    }
    r.allowed_cpus.iter().for_each(|cpus| line("AllowedCPUs", cpus.clone()));
    if let Some(policy) = r.oom_policy {
        line("OOMPolicy", ["continue", "stop", "kill"][policy as usize].to_owned());
    }
    format!("[Container]\n{t}")
}

/// Something that a word may be, the odd ones included.
fn text(dice: &mut Dice) -> String {
    const PIECES: [&str; 16] =
        ["a", "Z9", " ", "\"", "'", "\\", "%", "$", "ä", "😀", "=", "#", ";", "\t", "\n", "${X}"];
    (0..dice.roll(6)).map(|_| PIECES[dice.roll(PIECES.len())]).collect()
}

fn list<T>(dice: &mut Dice, make: impl Fn(&mut Dice, usize) -> T) -> Vec<T> {
    (0..dice.roll(4)).map(|index| make(dice, index)).collect()
}

fn maybe<T>(dice: &mut Dice, make: impl Fn(&mut Dice) -> T) -> Option<T> {
    (dice.roll(2) == 0).then(|| make(dice))
}

fn number(dice: &mut Dice, most: usize) -> u32 {
    u32::try_from(dice.roll(most)).unwrap()
}

fn some_span(dice: &mut Dice) -> Duration {
    Duration::from_micros(u64::from(number(dice, 4_000_000_000)) + 1)
}

fn some_amount(dice: &mut Dice) -> Amount {
    match dice.roll(3) {
        0 => Amount::Infinity,
        1 => Amount::Is(u64::from(number(dice, 1 << 31)) + 1),
        _ => Amount::Share(number(dice, 10_000) + 1),
    }
}

fn pairs(dice: &mut Dice) -> BTreeMap<String, String> {
    list(dice, |dice, index| (format!("K{index}"), text(dice))).into_iter().collect()
}

fn map(dice: &mut Dice) -> IdMap {
    IdMap { container: number(dice, 1 << 20), host: number(dice, 1 << 30), count: number(dice, 65_536) + 1 }
}

/// A unit of which everything that is printed may be something else.
fn model(dice: &mut Dice) -> Unit {
    let mut unit = language(&[("web", &minimal("", ""))]).units.remove("web").unwrap();
    let c = &mut unit.container;
    c.image = format!("registry.example/x:{}", dice.roll(9));
    c.network = match dice.roll(3) {
        0 => Network::Host,
        1 => Network::None,
        _ => Network::Bridge(vec![Attachment {
            network: maybe(dice, |_| "net".to_owned()),
            ip: maybe(dice, |dice| number(dice, 1 << 31).into()),
            mac: maybe(dice, |_| "aa:bb:cc:dd:ee:ff".to_owned()),
            aliases: list(dice, |_, index| format!("alias{index}")),
            ..Attachment::default()
        }]),
    };
    c.exec = list(dice, |dice, _| text(dice));
    (c.environment, c.labels, c.annotations) = (pairs(dice), pairs(dice), pairs(dice));
    c.volumes = list(dice, |dice, index| {
        let source = match dice.roll(3) {
            0 => VolumeSource::Anonymous,
            1 => VolumeSource::Named(format!("v{index}")),
            _ => VolumeSource::Host(PathBuf::from(format!("/srv/{index}"))),
        };
        let plain = source == VolumeSource::Anonymous;
        let copy_up = !matches!(source, VolumeSource::Host(_));
        Volume {
            source,
            destination: format!("/v/{index}"),
            read_only: !plain && dice.roll(2) == 0,
            nosuid: plain || dice.roll(2) == 0,
            nodev: true,
            noexec: !plain && dice.roll(2) == 0,
            not_recursive: false,
            propagation: Default::default(),
            copy_up,
        }
    });
    c.tmpfs = list(dice, |dice, index| Tmpfs {
        kind: TmpfsKind::Tmpfs,
        destination: format!("/t/{index}"),
        options: vec![format!("size={}", dice.roll(1000))],
    });
    c.devices = list(dice, |dice, index| Device {
        host: format!("/dev/h{index}").into(),
        container: format!("/dev/c{index}").into(),
        access: ["r", "rw", "rwm"][dice.roll(3)].to_owned(),
        optional: dice.roll(2) == 0,
    });
    c.secrets = list(dice, |dice, index| Secret {
        name: format!("s{index}"),
        target: match dice.roll(2) {
            0 => SecretTarget::Environment(format!("S{index}")),
            _ => SecretTarget::File {
                path: format!("/run/secrets/{index}").into(),
                uid: number(dice, 9999),
                gid: 0,
                mode: number(dice, 0o777),
            },
        },
    });
    c.ports = list(dice, |dice, index| Port {
        host_ip: maybe(dice, |dice| ["192.0.2.1", "::1"][dice.roll(2)].parse().unwrap()),
        host: maybe(dice, |_| u16::try_from(1000 + index * 100).unwrap()),
        container: u16::try_from(dice.roll(60_000) + 1).unwrap(),
        count: u16::try_from(dice.roll(50) + 1).unwrap(),
        protocol: [Protocol::Tcp, Protocol::Udp, Protocol::Sctp][dice.roll(3)],
    });
    c.user =
        maybe(dice, |dice| User { user: number(dice, 9999).to_string(), group: maybe(dice, |_| "staff".to_owned()) });
    c.user_namespace = match dice.roll(3) {
        0 => UserNamespace::Host,
        1 => UserNamespace::KeepId { uid: Some(number(dice, 999)), gid: Some(5), size: None },
        _ => UserNamespace::Mapped { uids: vec![map(dice)], gids: vec![map(dice), map(dice)] },
    };
    c.hostname = maybe(dice, |dice| format!("h{}.example", dice.roll(9)));
    c.read_only = dice.roll(2) == 0;
    c.memory_max_bytes = maybe(dice, |dice| u64::from(number(dice, 1 << 31)) + (1 << 20));
    c.pids_max = maybe(dice, |dice| u64::from(number(dice, 9999)) + 1);
    c.shm_size_bytes = u64::from(number(dice, 1 << 31));
    c.stop_signal = maybe(dice, |dice| i32::try_from(number(dice, 64)).unwrap() + 1);
    c.capabilities.drop =
        list(dice, |_, i| ["CAP_KILL", "CAP_CHOWN", "CAP_SETUID"][i].to_owned()).into_iter().collect();
    c.ulimits = list(dice, |dice, i| Ulimit {
        kind: ["RLIMIT_AS", "RLIMIT_CORE", "RLIMIT_NOFILE"][i].to_owned(),
        soft: u64::from(number(dice, 99)),
        hard: u64::MAX,
    });
    if c.network != Network::Host {
        c.sysctls = list(dice, |dice, i| (format!("net.x.y{i}"), text(dice))).into_iter().collect();
    }
    c.unmask = Unmask::Paths(list(dice, |_, i| format!("/proc/x{i}*")));
    c.hosts = list(dice, |_, i| (format!("h{i}"), "192.0.2.9".parse().unwrap()));
    c.timezone = maybe(dice, |_| "Europe/Berlin".to_owned());
    c.notify = [Notify::Runtime, Notify::Container, Notify::Healthy][dice.roll(3)];
    c.health = maybe(dice, |dice| Health {
        command: vec![format!("/{}", text(dice)), text(dice)],
        interval: maybe(dice, some_span),
        timeout: some_span(dice),
        retries: number(dice, 9) + 1,
        start_period: some_span(dice),
        successes: 1,
        on_failure: [HealthAction::None, HealthAction::Kill, HealthAction::Stop][dice.roll(3)],
        max_log_count: 5,
        max_log_bytes: 500,
        log_events: false,
    });
    c.reload = match dice.roll(3) {
        0 => None,
        1 => Some(Reload::Signal(1)),
        _ => Some(Reload::Command(vec![text(dice), "x".to_owned()])),
    };
    c.resources.memory_max = maybe(dice, some_amount);
    c.resources.memory_high = maybe(dice, some_amount);
    c.resources.memory_swap_max = maybe(dice, some_amount);
    c.resources.tasks_max = maybe(dice, some_amount);
    c.resources.cpu_weight = maybe(dice, |dice| match number(dice, 3) {
        0 => CpuWeight::Idle,
        n => CpuWeight::Weight(n * 100),
    });
    c.resources.cpu_quota =
        maybe(dice, |dice| CpuQuota { share: number(dice, 40_000) + 1, period: Duration::from_millis(20) });
    c.resources.allowed_cpus = maybe(dice, |_| "0-3,7".to_owned());
    c.resources.oom_policy = maybe(dice, |dice| [OomPolicy::Continue, OomPolicy::Stop, OomPolicy::Kill][dice.roll(3)]);
    let s = &mut unit.service;
    s.restart =
        [Restart::No, Restart::OnFailure, Restart::OnAbnormal, Restart::OnWatchdog, Restart::OnAbort][dice.roll(5)];
    s.kind = [ServiceType::Exec, ServiceType::Oneshot][dice.roll(2)];
    s.restart_delay = some_span(dice);
    s.start_timeout = maybe(dice, some_span);
    s.runtime_max = maybe(dice, some_span);
    // Nobody else says that it lives.
    s.watchdog = maybe(dice, some_span).filter(|_| unit.container.notify == Notify::Container);
    s.success.codes = list(dice, |_, i| u8::try_from(i * 7).unwrap()).into_iter().collect();
    s.restart_prevent.signals = list(dice, |_, i| 34 + i32::try_from(i).unwrap()).into_iter().collect();
    unit.after_network_online = unit.container.network != Network::None;
    unit
}

#[test]
fn what_is_printed_is_read_back_the_same() {
    let mut dice = Dice::new(0x2545_f491_4f6c_dd1d);
    for _ in 0..2000 {
        let model = model(&mut dice);
        let printed = print(&model);
        let set = language(&[("web", &printed)]);
        assert_eq!(shown(&set), Vec::<String>::new(), "{printed}");
        let read = Unit { origins: Vec::new(), ..set.units["web"].clone() };
        assert_eq!(read, Unit { origins: Vec::new(), ..model }, "{printed}");
    }
}

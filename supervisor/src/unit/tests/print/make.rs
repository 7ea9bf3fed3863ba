//! Models of which every field may be something else.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::PathBuf,
    time::Duration,
};

use super::{Dice, service};
use crate::unit::{
    Attachment, Capabilities, Condition, ContainerSpec, Device, Dns, Glob, Health, HealthAction, IdMap, IdmapMount,
    ImageMount, Links, LogLimits, LogSpec, MachineActions, Network, Notify, Overlay, Port, Propagation, Protocol, Pull,
    Reload, Requests, Root, Seccomp, Secret, SecretTarget, Tmpfs, TmpfsKind, Unit, UnitName, Unmask, User,
    UserNamespace, Volume, VolumeSource,
};

/// Something that a word may be, the odd ones included.
fn text(dice: &mut Dice) -> String {
    const PIECES: [&str; 16] =
        ["a", "Z9", " ", "\"", "'", "\\", "%", "$", "ä", "😀", "=", "#", ";", "\t", "\n", "${X}"];
    (0..dice.roll(6)).map(|_| PIECES[dice.roll(PIECES.len())]).collect()
}

/// What stands on a line as it is.
pub(super) fn line(dice: &mut Dice) -> String {
    format!("a {} z", ["50%", "\"b\"", "ä = b", "it's", "# c"][dice.roll(5)])
}

pub(super) fn list<T>(dice: &mut Dice, make: impl Fn(&mut Dice, usize) -> T) -> Vec<T> {
    (0..dice.roll(4)).map(|index| make(dice, index)).collect()
}

pub(super) fn maybe<T>(dice: &mut Dice, make: impl Fn(&mut Dice) -> T) -> Option<T> {
    coin(dice).then(|| make(dice))
}

pub(super) fn coin(dice: &mut Dice) -> bool {
    dice.roll(2) == 0
}

pub(super) fn one<T: Clone>(dice: &mut Dice, of: &[T]) -> T {
    of[dice.roll(of.len())].clone()
}

pub(super) fn number(dice: &mut Dice, most: usize) -> u32 {
    u32::try_from(dice.roll(most)).unwrap()
}

pub(super) fn small(dice: &mut Dice, most: usize) -> u8 {
    u8::try_from(dice.roll(most)).unwrap()
}

pub(super) fn bytes(dice: &mut Dice) -> u64 {
    u64::from(number(dice, 1 << 31)) + (1 << 20)
}

pub(super) fn span(dice: &mut Dice) -> Duration {
    Duration::from_micros(u64::from(number(dice, 4_000_000_000)) + 1)
}

pub(super) fn pairs(dice: &mut Dice) -> BTreeMap<String, String> {
    list(dice, |dice, index| (format!("K{index}"), text(dice))).into_iter().collect()
}

fn some_of(dice: &mut Dice, names: &[&str]) -> BTreeSet<String> {
    names.iter().filter(|_| coin(dice)).map(|name| (*name).to_owned()).collect()
}

pub(super) fn name(text: &str) -> UnitName {
    UnitName::parse(text).unwrap()
}

fn names(dice: &mut Dice) -> BTreeSet<UnitName> {
    ["n1", "n2"].into_iter().filter(|_| coin(dice)).map(name).collect()
}

fn map(dice: &mut Dice) -> IdMap {
    IdMap { container: number(dice, 1 << 20), host: number(dice, 1 << 30), count: number(dice, 65_536) + 1 }
}

pub(super) fn user(dice: &mut Dice) -> Option<User> {
    maybe(dice, |dice| User { user: number(dice, 9999).to_string(), group: maybe(dice, |_| "staff".to_owned()) })
}

pub(super) fn links(dice: &mut Dice) -> Links {
    let mut links = Links {
        after: names(dice),
        before: BTreeSet::new(),
        requires: names(dice),
        wants: names(dice),
        binds_to: names(dice),
        requisite: names(dice),
        part_of: names(dice),
        upholds: names(dice),
        conflicts: names(dice),
        on_failure: names(dice),
        on_success: names(dice),
        propagates_stop_to: names(dice),
        propagates_reload_to: names(dice),
    };
    // Not in a circle.
    links.before = names(dice).difference(&links.after).cloned().collect();
    links
}

pub(super) fn conditions(dice: &mut Dice) -> Vec<Condition> {
    list(dice, |dice, _| {
        let (check, argument) = one(
            dice,
            &[("PathExists", "/a b"), ("FirstBoot", "yes"), ("Memory", ">=1G"), ("Host", "x"), ("CPUs", "4")],
        );
        Condition { check, assert: coin(dice), trigger: coin(dice), negated: coin(dice), argument: argument.to_owned() }
    })
}

pub(super) fn actions(dice: &mut Dice) -> MachineActions {
    MachineActions {
        start_limit: service::action(dice),
        failure: service::action(dice),
        success: service::action(dice),
    }
}

pub(super) fn requests(dice: &mut Dice) -> Requests {
    let job_timeout = maybe(dice, span).filter(|span| !span.is_zero());
    Requests { refuse_start: coin(dice), refuse_stop: coin(dice), stop_when_unneeded: coin(dice), job_timeout }
}

pub(super) fn unit(dice: &mut Dice) -> Unit {
    let mut container = container(dice);
    if coin(dice) {
        member(&mut container, coin(dice));
    }
    let mut unit = Unit {
        name: name("web"),
        description: line(dice),
        documentation: list(dice, |dice, i| format!("man:x{i}({})", dice.roll(9))),
        links: links(dice),
        conditions: conditions(dice),
        aliases: list(dice, |_, i| name(&format!("alias{i}"))).into_iter().collect(),
        origins: Vec::new(),
        after_network_online: coin(dice),
        start_limit_burst: number(dice, 99),
        start_limit_interval: span(dice),
        actions: actions(dice),
        requests: requests(dice),
        service: service::make(dice, container.notify),
        enabled: coin(dice),
        path: "web.container".into(),
        container,
    };
    let other = match &unit.container {
        ContainerSpec { network: Network::Container(other), .. } => Some(other),
        ContainerSpec { pod, .. } => pod.as_ref().map(|(pod, _)| pod),
    };
    if let Some(other) = other {
        unit.links.before.remove(other);
        unit.links.after.insert(other.clone());
        unit.links.binds_to.insert(other.clone());
    }
    unit
}

/// In a pod, with nothing that is said there.
fn member(container: &mut ContainerSpec, with: bool) {
    container.pod = Some((name("app-pod"), with));
    container.network = Network::Bridge(Vec::new());
    container.ports.clear();
    container.network_aliases.clear();
    container.dns = Dns::Generated { servers: Vec::new(), options: Vec::new(), search: Vec::new() };
    container.hosts.clear();
    container.hostname = None;
    container.user_namespace = UserNamespace::Host;
    container.shm_size_bytes = 64 << 20;
}

fn container(dice: &mut Dice) -> ContainerSpec {
    let network = network(dice, true);
    let hosts = hosts(dice, network != Network::None);
    let user_namespace = match namespace(dice) {
        _ if matches!(network, Network::Container(_)) => UserNamespace::Host,
        namespace => namespace,
    };
    let dns = match network {
        Network::None | Network::Container(_) => {
            Dns::Generated { servers: Vec::new(), options: Vec::new(), search: Vec::new() }
        }
        _ => dns(dice),
    };
    // Elsewhere they have no effect, and a warning says so.
    let on_bridge = matches!(network, Network::Bridge(_));
    let (ports, mut network_aliases) = (ports(dice), network_aliases(dice));
    if !on_bridge {
        network_aliases.clear();
    }
    let health = maybe(dice, health);
    let sysctls = if network == Network::Host {
        BTreeMap::new()
    } else {
        // Their words have no escapes, as systemd reads names.
        let value = |dice: &mut Dice| text(dice).replace(['"', '\n'], "");
        list(dice, |dice, i| (format!("net.x.y{i}"), value(dice))).into_iter().collect()
    };
    ContainerSpec {
        root: match dice.roll(3) {
            0 => Root::Folder { path: "/srv/root".into(), overlay: coin(dice) },
            _ => Root::Image(format!("registry.example/x:{}", dice.roll(9)).into()),
        },
        // Of the fourth a warning is given.
        pull: one(dice, &[Pull::Always, Pull::Missing, Pull::Never]),
        container_name: format!("c{}", dice.roll(9)),
        exec: list(dice, |dice, _| text(dice)),
        entrypoint: maybe(dice, |dice| list(dice, |dice, _| text(dice))),
        environment: pairs(dice),
        environment_files: list(dice, |dice, i| (PathBuf::from(format!("/etc/a b{i}.env")), coin(dice))),
        volumes: volumes(dice, true),
        image_mounts: list(dice, |dice, i| ImageMount {
            image: one(dice, &["localhost/i", "docker.io/library/x:1"]).to_owned().into(),
            destination: format!("/i/{i}"),
            writable: coin(dice),
            subpath: maybe(dice, |_| "/sub".to_owned()),
        }),
        globs: list(dice, |dice, i| {
            let host = VolumeSource::Host(format!("/g/{i}*").into());
            let complete_path = coin(dice);
            let to = if complete_path { "/" } else { "/globs" };
            let volume = Volume { copy_up: false, overlay: None, ..volume(dice, host, to.to_owned()) };
            Glob { volume, complete_path }
        }),
        tmpfs: tmpfs(dice),
        devices: list(dice, |dice, index| Device {
            host: format!("/dev/h{index}").into(),
            container: format!("/dev/c{index}").into(),
            access: one(dice, &["r", "rw", "rwm"]).to_owned(),
            optional: coin(dice),
        }),
        secrets: list(dice, |dice, index| Secret {
            name: format!("s{index}"),
            target: match dice.roll(2) {
                0 => SecretTarget::Environment(format!("S{index}")),
                _ => SecretTarget::File {
                    path: format!("/run/secrets/{index}").into(),
                    uid: number(dice, 9999),
                    gid: number(dice, 9999),
                    mode: number(dice, 0o777),
                },
            },
        }),
        network,
        ports: if on_bridge { ports } else { Vec::new() },
        exposed_ports: list(dice, |dice, _| {
            let from = u16::try_from(dice.roll(60_000) + 1).unwrap();
            (from, from + u16::from(small(dice, 99)), one(dice, &[Protocol::Tcp, Protocol::Udp, Protocol::Sctp]))
        }),
        network_aliases,
        dns,
        pod: None,
        user_namespace,
        user: user(dice),
        extra_groups: list(dice, |_, i| format!("g{i}")),
        umask: number(dice, 0o1000),
        working_dir: maybe(dice, |_| "/work".to_owned()),
        read_only: coin(dice),
        read_only_tmpfs: coin(dice),
        memory_max_bytes: maybe(dice, bytes),
        pids_max: maybe(dice, |dice| u64::from(number(dice, 9999)) + 1),
        hostname: maybe(dice, |dice| format!("h{}.example", dice.roll(9))),
        stop_signal: maybe(dice, |dice| i32::from(small(dice, 64)) + 1),
        capabilities: match dice.roll(3) {
            0 => Capabilities::Usual {
                add: some_of(dice, &["CAP_NET_RAW", "CAP_SYS_TIME"]),
                drop: some_of(dice, &["CAP_KILL", "CAP_CHOWN", "CAP_SETUID"]),
            },
            1 => Capabilities::AllBut(some_of(dice, &["CAP_SYS_ADMIN", "CAP_BPF"])),
            _ => Capabilities::Only(some_of(dice, &["CAP_CHOWN", "CAP_NET_ADMIN"])),
        },
        no_new_privileges: coin(dice),
        ulimits: service::limits(dice),
        shm_size_bytes: bytes(dice),
        sysctls,
        mask: list(dice, |_, i| format!("/proc/m {i}")),
        unmask: match dice.roll(3) {
            0 => Unmask::All,
            _ => Unmask::Paths(list(dice, |_, i| format!("/proc/x{i}*"))),
        },
        hosts,
        labels: pairs(dice),
        annotations: pairs(dice),
        oom_score_adj: i32::from(small(dice, 200)) - 100,
        timezone: maybe(dice, |_| "Europe/Berlin".to_owned()),
        notify: one(dice, &[Notify::Runtime, Notify::Container, Notify::Healthy]),
        startup_health: health.clone().filter(|health| !health.command.is_empty() && coin(dice)).map(|usual| Health {
            command: vec![format!("/{}", text(dice))],
            interval: maybe(dice, span),
            timeout: span(dice),
            retries: number(dice, 9),
            start_period: Duration::ZERO,
            successes: number(dice, 9) + 1,
            ..usual
        }),
        health,
        reload: match dice.roll(3) {
            0 => None,
            1 => Some(Reload::Signal(i32::from(small(dice, 64)) + 1)),
            _ => Some(Reload::Command(vec![text(dice), "x".to_owned()])),
        },
        run_init: coin(dice),
        seccomp: one(dice, &[Seccomp::Default, Seccomp::Unconfined, Seccomp::Profile("/etc/p.json".into())]),
        log: match dice.roll(3) {
            0 => LogSpec::Nothing,
            _ => LogSpec::Kept(LogLimits {
                max_file_bytes: maybe(dice, bytes),
                max_files: maybe(dice, |dice| number(dice, 99) + 1),
                rate: maybe(dice, |dice| (number(dice, 999) + 1, span(dice))),
            }),
        },
        resources: service::make_resources(dice),
    }
}

fn volume(dice: &mut Dice, source: VolumeSource, destination: String) -> Volume {
    let host = matches!(source, VolumeSource::Host(_));
    Volume {
        source,
        destination,
        read_only: coin(dice),
        nosuid: coin(dice),
        nodev: coin(dice),
        noexec: coin(dice),
        not_recursive: coin(dice),
        propagation: if host {
            one(dice, &[Propagation::Private, Propagation::Shared, Propagation::Slave])
        } else {
            Propagation::Private
        },
        copy_up: !host && coin(dice),
        chown: coin(dice),
        // Without mappings of its own it needs a user namespace.
        idmap: maybe(dice, |dice| IdmapMount { uids: vec![map(dice), map(dice)], gids: vec![map(dice)] }),
        overlay: match dice.roll(3) {
            0 => Some(Overlay::Temporary),
            1 => Some(Overlay::Kept { upper: "/u".into(), work: "/w".into() }),
            _ => None,
        },
    }
}

/// Anonymous ones come last, as the keys that make them do.
pub(super) fn volumes(dice: &mut Dice, anonymous: bool) -> Vec<Volume> {
    let mut all = list(dice, |dice, i| {
        let source = match dice.roll(2) {
            0 => VolumeSource::Named(format!("v{i}")),
            _ => VolumeSource::Host(format!("/srv/{i}").into()),
        };
        volume(dice, source, format!("/v/{i}"))
    });
    if anonymous {
        all.extend(list(dice, |dice, i| {
            let volume = volume(dice, VolumeSource::Anonymous, format!("/a/{i}"));
            Volume { copy_up: true, overlay: None, ..volume }
        }));
    }
    all
}

fn tmpfs(dice: &mut Dice) -> Vec<Tmpfs> {
    let mut all = list(dice, |dice, i| Tmpfs {
        kind: TmpfsKind::Tmpfs { copy_up: coin(dice) },
        destination: format!("/t/{i}"),
        options: vec![format!("size={}", dice.roll(1000)), "noexec".to_owned()],
    });
    if coin(dice) {
        let options = vec![format!("mode={:o}", dice.roll(0o777))];
        all.push(Tmpfs { kind: TmpfsKind::Ramfs, destination: "/r".into(), options });
    }
    if coin(dice) {
        let options = vec![format!("uid={}", dice.roll(99)), format!("max={}", dice.roll(99))];
        all.push(Tmpfs { kind: TmpfsKind::Devpts, destination: "/dev/pts".into(), options });
    }
    all
}

pub(super) fn network(dice: &mut Dice, of_container: bool) -> Network {
    match dice.roll(if of_container { 4 } else { 3 }) {
        0 => Network::Host,
        1 => Network::None,
        2 => Network::Bridge(
            (0..=dice.roll(2))
                .map(|index| Attachment {
                    network: maybe(dice, |_| format!("lan{index}")).or((index > 0).then(|| format!("lan{index}"))),
                    ip: maybe(dice, |dice| number(dice, 1 << 31).into()),
                    ip6: maybe(dice, |dice| u128::from(number(dice, 1 << 31)).into()),
                    mac: maybe(dice, |_| "aa:bb:cc:dd:ee:ff".to_owned()),
                    aliases: list(dice, |_, index| format!("alias{index}")),
                    interface: maybe(dice, |_| format!("eth{}", 7 + index)),
                })
                .collect(),
        ),
        _ => Network::Container(name("n1")),
    }
}

pub(super) fn ports(dice: &mut Dice) -> Vec<Port> {
    list(dice, |dice, index| Port {
        host_ip: maybe(dice, |dice| one(dice, &["192.0.2.1", "::1"]).parse().unwrap()),
        host: maybe(dice, |_| u16::try_from(1000 + index * 100).unwrap()),
        container: u16::try_from(dice.roll(60_000) + 1).unwrap(),
        count: u16::from(small(dice, 50)) + 1,
        protocol: one(dice, &[Protocol::Tcp, Protocol::Udp, Protocol::Sctp]),
    })
}

pub(super) fn network_aliases(dice: &mut Dice) -> Vec<String> {
    list(dice, |_, i| format!("also{i}"))
}

pub(super) fn dns(dice: &mut Dice) -> Dns {
    if dice.roll(4) == 0 {
        return Dns::OfImage;
    }
    Dns::Generated {
        servers: list(dice, |dice, _| one(dice, &["192.0.2.1", "2001:db8::1"]).parse().unwrap()),
        options: list(dice, |_, i| format!("ndots:{i}")),
        search: list(dice, |_, i| format!("d{i}.example")),
    }
}

/// `with_host`: its gateway can be among them.
pub(super) fn hosts(dice: &mut Dice, with_host: bool) -> Vec<(String, Option<IpAddr>)> {
    let known: &[&str] = &["192.0.2.9", "2001:db8::9", "host-gateway"];
    let known = if with_host { known } else { &known[..2] };
    list(dice, |dice, i| (format!("h{i}"), one(dice, known).parse().ok()))
}

pub(super) fn namespace(dice: &mut Dice) -> UserNamespace {
    // Of which none overlaps another.
    let maps = |dice: &mut Dice| {
        let low = map(dice);
        vec![low, IdMap { container: low.container + low.count, host: low.host + low.count, count: 1 }]
    };
    let size = |dice: &mut Dice| maybe(dice, |dice| number(dice, 999) + 1);
    match dice.roll(4) {
        0 => UserNamespace::Host,
        1 => UserNamespace::Auto { size: size(dice), uids: maps(dice), gids: maps(dice) },
        2 => UserNamespace::Mapped { uids: maps(dice), gids: maps(dice) },
        _ => UserNamespace::Named { uids: "u".to_owned(), gids: "g".to_owned() },
    }
}

fn health(dice: &mut Dice) -> Health {
    Health {
        command: if coin(dice) { Vec::new() } else { vec![format!("/{}", text(dice)), text(dice)] },
        interval: maybe(dice, span),
        timeout: span(dice),
        retries: number(dice, 9) + 1,
        start_period: span(dice),
        successes: 1,
        on_failure: one(dice, &[HealthAction::None, HealthAction::Kill, HealthAction::Restart, HealthAction::Stop]),
        max_log_count: dice.roll(100) + 1,
        max_log_bytes: dice.roll(4096) + 1,
        log_events: coin(dice),
    }
}

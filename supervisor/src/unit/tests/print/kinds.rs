//! The other kinds of files: made and written.

use std::net::IpAddr;

use oci::image::Platform;

use super::{
    Dice, Lines, make, word,
    write::{self, names, namespace, networks, pairs, ports, pull_word, span, volume as one_volume},
};
use crate::unit::{
    Backing, Calendar, Declared, ImageSpec, IpRange, Ipam, Listen, ListenAddress, ListenKind, Network, NetworkDriver,
    NetworkSpec, PodSpec, Pull, SocketSpec, Starts, TimerSpec, Trigger, VolumeSpec,
};

/// What all of them have, and the header of their own section.
fn head<T>(declared: &Declared<T>, section: &str) -> Lines {
    let Declared { description, path: _, enabled, origins: _, spec: _ } = declared;
    let mut t = Lines(String::new());
    t.section("Unit");
    t.put("Description", description.replace('%', "%%"));
    t.section("Install");
    if *enabled {
        t.put("WantedBy", "default.target");
    }
    t.section(section);
    t
}

pub(super) fn volume(declared: &Declared<VolumeSpec>) -> String {
    let VolumeSpec { name, labels, copy, owner, backing } = &declared.spec;
    let mut t = head(declared, "Volume");
    t.put("VolumeName", name);
    pairs(&mut t, "Label", labels);
    t.put("Copy", copy);
    t.each("User", owner.0);
    t.each("GID", owner.1);
    match backing {
        Backing::Folder => {}
        Backing::Bind { path, recursive, options } => {
            t.put("Device", path.display());
            let bind = if *recursive { "rbind" } else { "bind" };
            t.put("Options", [&[bind.to_owned()], options.as_slice()].concat().join(","));
        }
        Backing::FileSystem { kind, device, options } => {
            t.put("Device", device);
            t.put("Type", kind);
            t.put("Options", options.join(","));
        }
        Backing::Image(image) => {
            t.put("Driver", "image");
            t.put("Image", &image.name);
        }
    }
    t.0
}

pub(super) fn network(declared: &Declared<NetworkSpec>) -> String {
    let NetworkSpec {
        name,
        driver,
        ipam,
        subnets,
        interface,
        internal,
        ipv6,
        dns,
        disable_dns,
        delete_on_stop,
        options,
        labels,
    } = &declared.spec;
    let mut t = head(declared, "Network");
    t.put("NetworkName", name);
    t.put(
        "Driver",
        match driver {
            NetworkDriver::Bridge => "bridge",
            NetworkDriver::Macvlan => "macvlan",
            NetworkDriver::Ipvlan => "ipvlan",
        },
    );
    t.each(
        "IPAMDriver",
        ipam.map(|ipam| match ipam {
            Ipam::HostLocal => "host-local",
            Ipam::Dhcp => "dhcp",
            Ipam::None => "none",
        }),
    );
    for ((address, length), gateway, range) in subnets {
        t.put("Subnet", format!("{address}/{length}"));
        t.each("Gateway", gateway);
        t.each(
            "IPRange",
            range.map(|range| match range {
                IpRange::Subnet((address, length)) => format!("{address}/{length}"),
                IpRange::Between(from, to) => format!("{from}-{to}"),
            }),
        );
    }
    t.each("InterfaceName", interface);
    t.put("Internal", internal);
    t.put("IPv6", ipv6);
    t.each("DNS", dns);
    t.put("DisableDNS", disable_dns);
    t.put("NetworkDeleteOnStop", delete_on_stop);
    pairs(&mut t, "Options", options);
    pairs(&mut t, "Label", labels);
    t.0
}

pub(super) fn image(declared: &Declared<ImageSpec>) -> String {
    let ImageSpec { image, tag, pull, platform } = &declared.spec;
    let mut t = head(declared, "Image");
    t.put("Image", image);
    t.each("ImageTag", tag);
    t.put("Policy", pull_word(*pull));
    t.each("Arch", &platform.architecture);
    t.each("Variant", &platform.variant);
    t.0
}

pub(super) fn pod(declared: &Declared<PodSpec>) -> String {
    let PodSpec {
        name,
        network,
        ports: published,
        network_aliases,
        dns,
        hosts,
        hostname,
        volumes,
        shm_size_bytes,
        user_namespace,
        labels,
        stop_when_empty,
        links,
        conditions,
        aliases,
        after_network_online,
        start_limit_burst,
        start_limit_interval,
        actions,
        requests,
    } = &declared.spec;
    let mut t = head(declared, "Pod");
    t.put("PodName", name);
    networks(&mut t, network);
    ports(&mut t, published);
    names(&mut t, network_aliases, dns, hosts);
    t.each("HostName", hostname);
    volumes.iter().for_each(|volume| one_volume(&mut t, volume));
    t.put("ShmSize", shm_size_bytes);
    namespace(&mut t, user_namespace);
    pairs(&mut t, "Label", labels);
    t.put("ExitPolicy", if *stop_when_empty { "stop" } else { "continue" });
    t.section("Quadlet");
    t.put("DefaultDependencies", "no");
    t.section("Unit");
    write::links(&mut t, links);
    if *after_network_online {
        t.put("After", "network-online.target");
    }
    write::starts(&mut t, conditions, (*start_limit_burst, *start_limit_interval), *actions);
    super::service::write_requests(&mut t, *requests);
    t.section("Install");
    t.each("Alias", aliases.iter().map(|name| format!("{name}.service")));
    t.0
}

pub(super) fn timer(declared: &Declared<TimerSpec>) -> String {
    let TimerSpec {
        triggers,
        unit,
        accuracy,
        random_delay,
        fixed_delay,
        random_offset,
        persistent,
        remain_after_elapse,
        defer_reactivation,
    } = &declared.spec;
    let mut t = head(declared, "Timer");
    for trigger in triggers {
        let (key, value) = match trigger {
            Trigger::Calendar(calendar) => ("OnCalendar", calendar.to_string()),
            Trigger::Active(after) => ("OnActiveSec", span(*after)),
            Trigger::Boot(after) => ("OnBootSec", span(*after)),
            Trigger::Startup(after) => ("OnStartupSec", span(*after)),
            Trigger::UnitActive(after) => ("OnUnitActiveSec", span(*after)),
            Trigger::UnitInactive(after) => ("OnUnitInactiveSec", span(*after)),
        };
        t.put(key, value);
    }
    t.put("Unit", format!("{unit}.service"));
    t.put("AccuracySec", span(*accuracy));
    t.put("RandomizedDelaySec", span(*random_delay));
    t.put("FixedRandomDelay", fixed_delay);
    t.put("RandomizedOffsetSec", span(*random_offset));
    t.put("Persistent", persistent);
    t.put("RemainAfterElapse", remain_after_elapse);
    t.put("DeferReactivation", defer_reactivation);
    t.0
}

pub(super) fn socket(declared: &Declared<SocketSpec>) -> String {
    let SocketSpec { listen, starts, fd_name, owner, mode, directory_mode, backlog, max_connections, links } =
        &declared.spec;
    let mut t = head(declared, "Socket");
    for Listen { kind, address } in listen {
        let key = match kind {
            ListenKind::Stream => "ListenStream",
            ListenKind::Datagram => "ListenDatagram",
            ListenKind::SequentialPacket => "ListenSequentialPacket",
            ListenKind::Fifo => "ListenFIFO",
        };
        let address = match address {
            ListenAddress::Path(path) => path.display().to_string(),
            ListenAddress::Abstract(name) => format!("@{name}"),
            ListenAddress::Ip(None, port) => port.to_string(),
            ListenAddress::Ip(Some(ip), port) => std::net::SocketAddr::new(*ip, *port).to_string(),
            ListenAddress::Vsock(cid, port) => {
                format!("vsock:{}:{port}", cid.map_or(String::new(), |cid| cid.to_string()))
            }
        };
        t.put(key, address);
    }
    match starts {
        Starts::Unit(name) => t.put("Service", format!("{name}.service")),
        Starts::Instances(_) => t.put("Accept", "yes"),
    }
    t.put("FileDescriptorName", fd_name);
    t.each("SocketUser", owner.0);
    t.each("SocketGroup", owner.1);
    t.put("SocketMode", format!("{mode:04o}"));
    t.put("DirectoryMode", format!("{directory_mode:04o}"));
    t.put("Backlog", backlog);
    t.put("MaxConnections", max_connections);
    t.each("Symlinks", links.iter().map(|link| word(&link.display().to_string())));
    t.0
}

fn declared<T>(dice: &mut Dice, path: &str, spec: T) -> Declared<T> {
    Declared { description: make::line(dice), path: path.into(), enabled: make::coin(dice), origins: Vec::new(), spec }
}

fn volume_spec(dice: &mut Dice) -> VolumeSpec {
    let backing = match dice.roll(5) {
        0 => Backing::Folder,
        1 => Backing::Bind { path: "/srv/x".into(), recursive: make::coin(dice), options: vec!["ro".to_owned()] },
        2 => Backing::FileSystem {
            kind: "ext4".to_owned(),
            device: "/dev/sda1".to_owned(),
            options: vec!["ro".to_owned(), "noatime".to_owned()],
        },
        3 => Backing::FileSystem {
            kind: "tmpfs".to_owned(),
            device: "tmpfs".to_owned(),
            options: vec!["size=1m".to_owned()],
        },
        _ => Backing::Image("docker.io/library/x:1".to_owned().into()),
    };
    let tmpfs = matches!(&backing, Backing::FileSystem { kind, .. } if kind == "tmpfs");
    let owned = backing == Backing::Folder || tmpfs;
    let mut id = || (owned && make::coin(dice)).then(|| make::number(dice, 9999));
    let owner = (id(), id());
    let copy = !matches!(backing, Backing::Bind { .. } | Backing::FileSystem { .. }) && make::coin(dice);
    VolumeSpec { name: format!("v{}", dice.roll(9)), labels: make::pairs(dice), copy, owner, backing }
}

pub(super) fn make_volume(dice: &mut Dice) -> Declared<VolumeSpec> {
    let spec = volume_spec(dice);
    declared(dice, "x.volume", spec)
}

pub(super) fn make_network(dice: &mut Dice) -> Declared<NetworkSpec> {
    // Gateways and ranges belong to the subnets in their order: none is left out before another.
    let subnets = make::list(dice, |_, i| i).into_iter().map(|i| {
        let at = |last: u32| IpAddr::from([10, 0, u8::try_from(i).unwrap(), u8::try_from(last).unwrap()]);
        let range = match dice.roll(2) {
            0 => IpRange::Subnet((at(128), 25)),
            _ => IpRange::Between(at(5), at(9)),
        };
        ((at(0), 24), Some(at(make::number(dice, 9) + 1)), Some(range))
    });
    let subnets = subnets.collect();
    let spec = NetworkSpec {
        name: format!("net{}", dice.roll(9)),
        driver: make::one(dice, &[NetworkDriver::Bridge, NetworkDriver::Macvlan, NetworkDriver::Ipvlan]),
        ipam: make::maybe(dice, |dice| make::one(dice, &[Ipam::HostLocal, Ipam::Dhcp, Ipam::None])),
        subnets,
        interface: make::maybe(dice, |_| "br7".to_owned()),
        internal: make::coin(dice),
        ipv6: make::coin(dice),
        dns: make::list(dice, |_, i| IpAddr::from([192, 0, 2, u8::try_from(i).unwrap()])),
        disable_dns: make::coin(dice),
        delete_on_stop: make::coin(dice),
        options: make::maybe(dice, |dice| ("mtu".to_owned(), (576 + dice.roll(9000)).to_string()))
            .into_iter()
            .collect(),
        labels: make::pairs(dice),
    };
    declared(dice, "x.network", spec)
}

pub(super) fn make_image(dice: &mut Dice) -> Declared<ImageSpec> {
    let word = |text: &'static str| move |_: &mut Dice| text.to_owned();
    let spec = ImageSpec {
        image: format!("docker.io/library/x:{}", dice.roll(9)),
        tag: make::maybe(dice, word("localhost/x:1")),
        pull: make::one(dice, &[Pull::Always, Pull::Missing, Pull::Never]),
        platform: Platform { architecture: make::maybe(dice, word("arm64")), variant: make::maybe(dice, word("v8")) },
    };
    declared(dice, "x.image", spec)
}

pub(super) fn make_pod(dice: &mut Dice) -> Declared<PodSpec> {
    let network = make::network(dice, false);
    let hosts = make::hosts(dice, network != Network::None);
    let on_bridge = matches!(network, Network::Bridge(_));
    let spec = PodSpec {
        name: format!("p{}", dice.roll(9)),
        ports: if on_bridge { make::ports(dice) } else { Vec::new() },
        // Elsewhere they have no effect, and a warning says so.
        network_aliases: if on_bridge { make::network_aliases(dice) } else { Vec::new() },
        network,
        dns: make::dns(dice),
        hosts,
        hostname: make::maybe(dice, |_| "pod.example".to_owned()),
        volumes: make::volumes(dice, false),
        shm_size_bytes: make::bytes(dice),
        user_namespace: make::namespace(dice),
        labels: make::pairs(dice),
        stop_when_empty: make::coin(dice),
        links: make::links(dice),
        conditions: make::conditions(dice),
        aliases: make::list(dice, |_, i| make::name(&format!("alias{i}"))).into_iter().collect(),
        after_network_online: make::coin(dice),
        start_limit_burst: make::number(dice, 99),
        start_limit_interval: make::span(dice),
        actions: make::actions(dice),
        requests: make::requests(dice),
    };
    declared(dice, "x.pod", spec)
}

pub(super) fn make_timer(dice: &mut Dice) -> Declared<TimerSpec> {
    let trigger = |dice: &mut Dice| match dice.roll(6) {
        0 => {
            let event = make::one(dice, &["Mon *-*-* 08:00:00", "*-*~01 00:00:00", "*:0/15"]);
            Trigger::Calendar(Calendar::parse(event).ok().unwrap())
        }
        1 => Trigger::Active(make::span(dice)),
        2 => Trigger::Boot(make::span(dice)),
        3 => Trigger::Startup(make::span(dice)),
        4 => Trigger::UnitActive(make::span(dice)),
        _ => Trigger::UnitInactive(make::span(dice)),
    };
    let triggers: Vec<Trigger> = (0..=dice.roll(4)).map(|_| trigger(dice)).collect();
    let by_calendar = triggers.iter().any(|trigger| matches!(trigger, Trigger::Calendar(_)));
    let spec = TimerSpec {
        triggers,
        unit: make::one(dice, &[make::name("n1"), make::name("n2")]),
        accuracy: make::span(dice),
        random_delay: make::span(dice),
        fixed_delay: make::coin(dice),
        random_offset: make::span(dice),
        persistent: make::coin(dice) && by_calendar,
        remain_after_elapse: make::coin(dice),
        defer_reactivation: make::coin(dice),
    };
    declared(dice, "x.timer", spec)
}

pub(super) fn make_socket(dice: &mut Dice) -> Declared<SocketSpec> {
    // No two of one name.
    let address = |dice: &mut Dice, i: u16| match dice.roll(4) {
        0 => {
            let kind = make::one(dice, &[ListenKind::Stream, ListenKind::Datagram]);
            let ip = make::maybe(dice, |dice| make::one(dice, &["192.0.2.1", "::1"]).parse().unwrap());
            Listen { kind, address: ListenAddress::Ip(ip, u16::from(make::small(dice, 99)) + 1 + 100 * i) }
        }
        1 => Listen { kind: ListenKind::Fifo, address: ListenAddress::Path(format!("/run/fifo{i}").into()) },
        2 => Listen { kind: ListenKind::SequentialPacket, address: ListenAddress::Abstract(format!("name{i}")) },
        _ => {
            let cid = make::maybe(dice, |dice| make::number(dice, 99));
            Listen { kind: ListenKind::Stream, address: ListenAddress::Vsock(cid, make::number(dice, 99)) }
        }
    };
    let count = u16::try_from(dice.roll(4)).unwrap();
    let listen = (0..=count).map(|i| address(dice, i)).collect();
    let id = |dice: &mut Dice| make::maybe(dice, |dice| make::number(dice, 70_000));
    let spec = SocketSpec {
        listen,
        starts: if make::coin(dice) { Starts::Unit(make::name("n1")) } else { Starts::Instances("x@".to_owned()) },
        fd_name: format!("f{}", dice.roll(9)),
        owner: (id(dice), id(dice)),
        mode: make::number(dice, 0o7777),
        directory_mode: make::number(dice, 0o777),
        backlog: make::number(dice, 999),
        max_connections: make::number(dice, 999),
        links: make::list(dice, |_, i| format!("/run/a b{i}").into()),
    };
    declared(dice, "x.socket", spec)
}

//! A container's unit as text.

use std::{collections::BTreeMap, net::IpAddr, path::Path, time::Duration};

use super::{Lines, service, word};
use crate::unit::{
    Attachment, Capabilities, Condition, ContainerSpec, Device, Dns, IdMap, IdmapMount, ImageMount, Links, LogLimits,
    LogSpec, MachineAction, MachineActions, MachineEnd, Network, Overlay, Port, Propagation, Protocol, Pull, Reload,
    Root, Seccomp, Secret, SecretTarget, Tmpfs, TmpfsKind, Ulimit, Unit, UnitName, Unmask, User, UserNamespace, Volume,
    VolumeSource,
};

/// As a word of a command line, where a dollar is doubled too.
fn argument(text: &str) -> String {
    word(&text.replace('$', "$$"))
}

fn arguments(all: &[String]) -> String {
    all.iter().map(|w| argument(w)).collect::<Vec<_>>().join(" ")
}

/// As a JSON list that stands alone.
pub(super) fn json(all: &[String]) -> String {
    serde_json::to_string(all).unwrap().replace('%', "%%")
}

pub(super) fn span(span: Duration) -> String {
    format!("{}us", span.as_micros())
}

pub(super) fn pairs(t: &mut Lines, key: &str, all: &BTreeMap<String, String>) {
    t.each(key, all.iter().map(|(name, value)| argument(&format!("{name}={value}"))));
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

pub(super) fn unit(unit: &Unit) -> String {
    let Unit {
        name: _,
        description,
        documentation,
        links,
        conditions,
        aliases,
        origins: _,
        after_network_online,
        start_limit_burst,
        start_limit_interval,
        actions,
        requests,
        service: how,
        enabled,
        path: _,
        container,
    } = unit;
    let mut t = Lines(String::new());
    t.section("Unit");
    t.put("Description", description.replace('%', "%%"));
    t.each("Documentation", documentation.iter().map(|text| word(text)));
    self::links(&mut t, links);
    if *after_network_online {
        t.put("After", "network-online.target");
    }
    starts(&mut t, conditions, (*start_limit_burst, *start_limit_interval), *actions);
    service::write_requests(&mut t, *requests);
    t.section("Install");
    if *enabled {
        t.put("WantedBy", "default.target");
    }
    t.each("Alias", aliases.iter().map(|name| format!("{name}.service")));
    t.section("Quadlet");
    t.put("DefaultDependencies", "no");
    self::container(&mut t, container);
    t.section("Service");
    service::write(&mut t, how);
    service::write_resources(&mut t, &container.resources);
    t.put("OOMScoreAdjust", container.oom_score_adj);
    if let LogSpec::Kept(LogLimits { rate: Some((burst, interval)), .. }) = &container.log {
        t.put("LogRateLimitBurst", burst);
        t.put("LogRateLimitIntervalSec", span(*interval));
    }
    t.0
}

pub(super) fn links(t: &mut Lines, links: &Links) {
    let Links {
        after,
        before,
        requires,
        wants,
        binds_to,
        requisite,
        part_of,
        upholds,
        conflicts,
        on_failure,
        on_success,
        propagates_stop_to,
        propagates_reload_to,
    } = links;
    for (key, names) in [
        ("After", after),
        ("Before", before),
        ("Requires", requires),
        ("Wants", wants),
        ("BindsTo", binds_to),
        ("Requisite", requisite),
        ("PartOf", part_of),
        ("Upholds", upholds),
        ("Conflicts", conflicts),
        ("OnFailure", on_failure),
        ("OnSuccess", on_success),
        ("PropagatesStopTo", propagates_stop_to),
        ("PropagatesReloadTo", propagates_reload_to),
    ] {
        t.each(key, names.iter().map(|name: &UnitName| format!("{name}.service")));
    }
}

/// Conditions, the start limit, and what the machine does at its end.
pub(super) fn starts(
    t: &mut Lines,
    conditions: &[Condition],
    (burst, interval): (u32, Duration),
    actions: MachineActions,
) {
    let MachineActions { start_limit, failure, success } = actions;
    for condition in conditions {
        let key = if condition.assert { "Assert" } else { "Condition" };
        let (trigger, not) = (if condition.trigger { "|" } else { "" }, if condition.negated { "!" } else { "" });
        t.put(&format!("{key}{}", condition.check), format!("{trigger}{not}{}", condition.argument));
    }
    t.put("StartLimitBurst", burst);
    t.put("StartLimitIntervalSec", span(interval));
    for (key, action) in [("StartLimitAction", start_limit), ("FailureAction", failure), ("SuccessAction", success)] {
        if let Some(MachineAction { end, force }) = action {
            let end = match end {
                MachineEnd::Reboot => "reboot",
                MachineEnd::PowerOff => "poweroff",
                MachineEnd::Halt => "halt",
            };
            t.put(key, format!("{end}{}", if force { "-force" } else { "" }));
        }
    }
}

fn container(t: &mut Lines, container: &ContainerSpec) {
    let ContainerSpec {
        root,
        pull,
        container_name,
        exec,
        entrypoint,
        environment,
        environment_files,
        volumes,
        image_mounts,
        globs,
        tmpfs,
        devices,
        secrets,
        network,
        ports,
        exposed_ports,
        network_aliases,
        dns,
        pod,
        user_namespace,
        user,
        extra_groups,
        umask,
        working_dir,
        read_only,
        read_only_tmpfs,
        memory_max_bytes,
        pids_max,
        hostname,
        stop_signal,
        capabilities,
        no_new_privileges,
        ulimits,
        shm_size_bytes,
        sysctls,
        mask,
        unmask,
        hosts,
        labels,
        annotations,
        oom_score_adj: _,
        timezone,
        notify,
        health,
        startup_health,
        reload,
        run_init,
        seccomp,
        log,
        resources: _,
    } = container;
    t.section("Container");
    match root {
        Root::Image(image) => t.put("Image", &image.name),
        Root::Folder { path: folder, overlay } => {
            t.put("Rootfs", format!("{}{}", path(folder), if *overlay { ":O" } else { "" }));
        }
    }
    t.put("Pull", pull_word(*pull));
    t.put("ContainerName", container_name);
    t.put("StopTimeout", u32::MAX);
    if !exec.is_empty() {
        t.put("Exec", arguments(exec));
    }
    t.each("Entrypoint", entrypoint.as_ref().map(|all| json(all).replace('$', "$$")));
    pairs(t, "Environment", environment);
    t.each(
        "EnvironmentFile",
        environment_files.iter().map(|(p, may)| word(&format!("{}{}", if *may { "-" } else { "" }, path(p)))),
    );
    volumes.iter().for_each(|volume| self::volume(t, volume));
    for ImageMount { image, destination, writable, subpath } in image_mounts {
        let sub = subpath.as_ref().map_or(String::new(), |path| format!(",subpath={path}"));
        t.put("Mount", format!("type=image,src={},dst={destination},rw={writable}{sub}", image.name));
    }
    globs.iter().for_each(|glob| by_mount(t, "glob", &glob.volume));
    for Tmpfs { kind, destination, options } in tmpfs {
        match kind {
            TmpfsKind::Tmpfs { copy_up } => {
                let copy = if *copy_up { "tmpcopyup" } else { "notmpcopyup" };
                t.put("Tmpfs", format!("{destination}:{copy},{}", options.join(",")));
            }
            TmpfsKind::Ramfs => t.put("Mount", format!("type=ramfs,dst={destination},tmpfs-{}", options.join(","))),
            TmpfsKind::Devpts => t.put("Mount", format!("type=devpts,dst={destination},{}", options.join(","))),
        }
    }
    for Device { host, container, access, optional } in devices {
        t.put("AddDevice", format!("{}{}:{}:{access}", if *optional { "-" } else { "" }, path(host), path(container)));
    }
    for Secret { name, target } in secrets {
        let options = match target {
            SecretTarget::File { path, uid, gid, mode } => {
                format!("type=mount,target={},uid={uid},gid={gid},mode={mode:o}", path.display())
            }
            SecretTarget::Environment(name) => format!("type=env,target={name}"),
        };
        t.put("Secret", format!("{name},{options}"));
    }
    networks(t, network);
    self::ports(t, ports);
    t.each("ExposeHostPort", exposed_ports.iter().map(|(from, to, of)| format!("{from}-{to}/{}", protocol(*of))));
    names(t, network_aliases, dns, hosts);
    if let Some((name, with)) = pod {
        t.put("Pod", format!("{}.pod", name.as_str().trim_end_matches("-pod")));
        t.put("StartWithPod", with);
    }
    namespace(t, user_namespace);
    if let Some(User { user, group }) = user {
        t.put("User", user);
        t.each("Group", group);
    }
    t.each("GroupAdd", extra_groups);
    t.put("Umask", format!("{umask:04o}"));
    t.each("WorkingDir", working_dir);
    t.put("ReadOnly", read_only);
    t.put("ReadOnlyTmpfs", read_only_tmpfs);
    t.each("Memory", memory_max_bytes);
    t.put("PidsLimit", pids_max.map_or("-1".to_owned(), |n| n.to_string()));
    t.each("HostName", hostname);
    t.each("StopSignal", stop_signal);
    match capabilities {
        Capabilities::Usual { add, drop } => {
            t.each("AddCapability", add);
            t.each("DropCapability", drop);
        }
        Capabilities::AllBut(drop) => {
            t.put("AddCapability", "all");
            t.each("DropCapability", drop);
        }
        Capabilities::Only(add) => {
            t.put("DropCapability", "all");
            t.each("AddCapability", add);
        }
    }
    t.put("NoNewPrivileges", no_new_privileges);
    for Ulimit { kind, soft, hard } in ulimits {
        let number = |n: u64| if n == u64::MAX { "-1".to_owned() } else { n.to_string() };
        t.put("Ulimit", format!("{kind}={}:{}", number(*soft), number(*hard)));
    }
    if pod.is_none() {
        t.put("ShmSize", shm_size_bytes);
    }
    let setting =
        |(name, value): (&String, &String)| format!("\"{name}={}\"", value.replace('$', "$$").replace('%', "%%"));
    t.each("Sysctl", sysctls.iter().map(setting));
    t.each("Mask", mask.iter().map(|path| word(path)));
    match unmask {
        Unmask::Paths(paths) => t.each("Unmask", paths.iter().map(|path| word(path))),
        Unmask::All => t.put("Unmask", "all"),
    }
    pairs(t, "Label", labels);
    pairs(t, "Annotation", annotations);
    t.each("Timezone", timezone);
    t.put("Notify", ["no", "yes", "healthy"][*notify as usize]);
    service::checks(t, health.as_ref(), startup_health.as_ref());
    match reload {
        Some(Reload::Command(command)) => t.put("ReloadCmd", arguments(command)),
        Some(Reload::Signal(signal)) => t.put("ReloadSignal", signal),
        None => {}
    }
    t.put("RunInit", run_init);
    match seccomp {
        Seccomp::Default => {}
        Seccomp::Unconfined => t.put("SeccompProfile", "unconfined"),
        Seccomp::Profile(profile) => t.put("SeccompProfile", path(profile)),
    }
    match log {
        LogSpec::Nothing => t.put("LogDriver", "none"),
        LogSpec::Kept(LogLimits { max_file_bytes, max_files, rate: _ }) => {
            t.each("LogOpt", max_file_bytes.map(|bytes| format!("max-size={bytes}")));
            t.each("LogOpt", max_files.map(|files| format!("max-file={files}")));
        }
    }
}

pub(super) fn pull_word(pull: Pull) -> &'static str {
    match pull {
        Pull::Always => "always",
        Pull::Missing => "missing",
        Pull::Never => "never",
        Pull::Newer => "newer",
    }
}

fn mapped(all: &[IdMap], between: [&str; 2]) -> String {
    let one = |m: &IdMap| [m.container, m.host, m.count].map(|n| n.to_string()).join(between[0]);
    all.iter().map(one).collect::<Vec<_>>().join(between[1])
}

fn idmap(maps: &IdmapMount) -> String {
    let IdmapMount { uids, gids } = maps;
    let parts = [("uids", uids), ("gids", gids)].into_iter().filter(|(_, maps)| !maps.is_empty());
    let parts: Vec<String> = parts.map(|(name, maps)| format!("{name}={}", mapped(maps, ["-", "#"]))).collect();
    if parts.is_empty() { "idmap".to_owned() } else { format!("idmap={}", parts.join(";")) }
}

pub(super) fn volume(t: &mut Lines, volume: &Volume) {
    let Volume {
        source,
        destination,
        read_only,
        nosuid,
        nodev,
        noexec,
        not_recursive,
        propagation,
        copy_up,
        chown,
        idmap: maps,
        overlay,
    } = volume;
    let source = match source {
        VolumeSource::Host(path) => path.display().to_string(),
        VolumeSource::Named(name) => name.clone(),
        VolumeSource::Anonymous => return by_mount(t, "volume", volume),
    };
    let either = |on: bool, yes: &str, no: &str| if on { yes.to_owned() } else { no.to_owned() };
    let mut options = vec![
        either(*read_only, "ro", "rw"),
        either(*nosuid, "nosuid", "suid"),
        either(*nodev, "nodev", "dev"),
        either(*noexec, "noexec", "exec"),
        either(*not_recursive, "bind", "rbind"),
        either(*copy_up, "copy", "nocopy"),
    ];
    options.push(["rprivate", "rshared", "rslave"][*propagation as usize].to_owned());
    options.extend(chown.then(|| "U".to_owned()));
    options.extend(maps.as_ref().map(idmap));
    match overlay {
        None => {}
        Some(Overlay::Temporary) => options.push("O".to_owned()),
        Some(Overlay::Kept { upper, work }) => {
            options.push(format!("O,upperdir={},workdir={}", upper.display(), work.display()));
        }
    }
    t.put("Volume", format!("{source}:{destination}:{}", options.join(",")));
}

/// What `Volume=` has no way to say.
fn by_mount(t: &mut Lines, kind: &str, volume: &Volume) {
    assert!(volume.overlay.is_none());
    let source = match &volume.source {
        VolumeSource::Host(path) => format!(",src={}", path.display()),
        VolumeSource::Named(name) => format!(",src={name}"),
        VolumeSource::Anonymous => String::new(),
    };
    // Nothing but a pattern is mounted there: it has no destination then.
    let to = if volume.destination == "/" { String::new() } else { format!(",dst={}", volume.destination) };
    let mut options = format!("type={kind}{source}{to},ro={}", volume.read_only);
    options += if volume.nosuid { ",nosuid" } else { ",suid" };
    options += if volume.nodev { ",nodev" } else { ",dev" };
    options += if volume.noexec { ",noexec" } else { ",exec" };
    options += &format!(",bind-nonrecursive={},U={}", volume.not_recursive, volume.chown);
    if volume.propagation != Propagation::Private {
        options += &format!(",bind-propagation={}", ["", "shared", "slave"][volume.propagation as usize]);
    }
    options += &volume.idmap.as_ref().map_or(String::new(), |maps| format!(",{}", idmap(maps)));
    t.put("Mount", options);
}

pub(super) fn networks(t: &mut Lines, network: &Network) {
    match network {
        Network::Host => t.put("Network", "host"),
        Network::None => t.put("Network", "none"),
        Network::Container(name) => t.put("Network", format!("{name}.container")),
        Network::Bridge(all) => {
            for Attachment { network, ip, ip6, mac, aliases, interface } in all {
                let mut options: Vec<String> = Vec::new();
                options.extend(ip.map(|ip| format!("ip={ip}")));
                options.extend(ip6.map(|ip| format!("ip6={ip}")));
                options.extend(mac.iter().map(|mac| format!("mac={mac}")));
                options.extend(aliases.iter().map(|alias| format!("alias={alias}")));
                options.extend(interface.iter().map(|name| format!("interface_name={name}")));
                t.put("Network", format!("{}:{}", network.as_deref().unwrap_or("bridge"), options.join(",")));
            }
        }
    }
}

fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

pub(super) fn ports(t: &mut Lines, all: &[Port]) {
    for Port { host_ip, host, container, count, protocol: of } in all {
        let ip = match host_ip {
            Some(IpAddr::V6(ip)) => format!("[{ip}]:"),
            Some(IpAddr::V4(ip)) => format!("{ip}:"),
            None => String::new(),
        };
        let range = |first: u16| format!("{first}-{}", first + count - 1);
        let host = host.map_or(String::new(), range);
        t.put("PublishPort", format!("{ip}{host}:{}/{}", range(*container), protocol(*of)));
    }
}

pub(super) fn names(t: &mut Lines, aliases: &[String], dns: &Dns, hosts: &[(String, Option<IpAddr>)]) {
    t.each("NetworkAlias", aliases);
    match dns {
        Dns::OfImage => t.put("DNS", "none"),
        Dns::Generated { servers, options, search } => {
            t.each("DNS", servers);
            t.each("DNSOption", options);
            t.each("DNSSearch", search);
        }
    }
    let shown = |address: &Option<IpAddr>| address.map_or("host-gateway".to_owned(), |address| address.to_string());
    t.each("AddHost", hosts.iter().map(|(name, address)| format!("{name}:{}", shown(address))));
}

pub(super) fn namespace(t: &mut Lines, namespace: &UserNamespace) {
    let numbers = |all: &[(&str, Option<u32>)]| {
        let all = all.iter().filter_map(|(name, number)| Some(format!("{name}={}", (*number)?)));
        all.collect::<Vec<_>>()
    };
    match namespace {
        UserNamespace::Host => {}
        UserNamespace::Auto { size, uids, gids } => {
            let mut options = numbers(&[("size", *size)]);
            options.extend(uids.iter().map(|m| format!("uidmapping={}", mapped(&[*m], [":", ""]))));
            options.extend(gids.iter().map(|m| format!("gidmapping={}", mapped(&[*m], [":", ""]))));
            t.put("UserNS", format!("auto:{}", options.join(",")));
        }
        UserNamespace::Mapped { uids, gids } => {
            t.put("UIDMap", mapped(uids, [":", " "]));
            t.put("GIDMap", mapped(gids, [":", " "]));
        }
        UserNamespace::Named { uids, gids } => {
            t.put("SubUIDMap", uids);
            t.put("SubGIDMap", gids);
        }
    }
}

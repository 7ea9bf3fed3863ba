//! `[Container]`, but for what has a file of its own beside this one.

use std::{
    collections::BTreeMap,
    path::{Component, Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use oci::image::{Reference, ReferenceError};

use super::{
    Claim, Link, command, health, identity, limits, links,
    mount_key::{self, Mounted},
    mounts, namespaces, network, pod, resources, secrets,
};
use crate::unit::{
    ContainerSpec, Device, Network, Pull, Root, Said, Seccomp, UserNamespace, kind::Kind, sheet::Sheet, text::Text,
    values, words::Word,
};

pub(super) fn container(
    path: &Path,
    stem: &str,
    sheet: &mut Sheet<'_>,
    links: &mut Vec<Link>,
    claims: &mut Vec<Claim>,
) -> ContainerSpec {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut taken = mounts::Taken::new();
    let mut volumes = mounts::volumes("Container", folder, sheet, links, &mut taken);
    let mut tmpfs = mounts::tmpfs(sheet, &mut taken);
    let (mut image_mounts, mut globs) = (Vec::new(), Vec::new());
    for mounted in mount_key::mounts(folder, sheet, links, &mut taken) {
        match mounted {
            Mounted::Volume(volume) => volumes.push(volume),
            Mounted::Glob(volume) => globs.push(volume),
            Mounted::Image(image) => image_mounts.push(image),
            Mounted::Tmpfs(one) => tmpfs.push(one),
        }
    }
    let user_namespace = namespaces::user_namespace("Container", sheet);
    if user_namespace != UserNamespace::Host
        && let Some(value) = sheet.last("Container", "Rootfs")
    {
        let text = "Rootfs= with a user namespace is known, not available in this version; write UserNS=host";
        sheet.unavailable(&value, text);
    }
    // Of a pod's user namespace the pod's file knows.
    if user_namespace == UserNamespace::Host && sheet.last("Container", "Pod").is_none() {
        refuse_idmap("Container", &["Volume", "Mount"], sheet);
    }
    let network = container_network(sheet, links);
    if user_namespace != UserNamespace::Host && matches!(network, Network::Container(_)) {
        // That network, and its /sys, belong to another user namespace.
        for key in ["UserNS", "UIDMap", "GIDMap", "SubUIDMap", "SubGIDMap"] {
            for value in sheet.all("Container", key) {
                let text = "a container in another's network has the machine's user namespace; leave this out";
                sheet.error(&value, text);
            }
        }
    }
    let container_name = super::claimed(sheet, ("Container", "ContainerName"), stem, super::CONTAINER, claims);
    let (health, startup_health) = health::health(sheet);
    // "conflicting options: dns and the network mode", podman-run(1).
    if matches!(network, Network::None | Network::Container(_)) {
        for key in ["DNS", "DNSOption", "DNSSearch"] {
            if let Some(value) = sheet.last("Container", key) {
                sheet.error(
                    &value,
                    format!("{key}= is for a network of the container's own or the machine's; leave it out"),
                );
            }
        }
    }
    let hosts = network::hosts("Container", sheet, &network);
    sheet.last("Container", "HttpProxy");
    let mut labels = assignments(sheet, ("Container", "Label"), Bare::Empty);
    let update = sheet.read("Container", "AutoUpdate", |text| match text {
        "registry" | "local" => Ok(text.to_owned()),
        _ => Err("expected registry or local"),
    });
    labels.extend(update.map(|how| ("io.containers.autoupdate".to_owned(), how)));
    // All that it can be, unconfined, holds anyway.
    sheet.last("Container", "AppArmor");
    ContainerSpec {
        root: root(path, sheet, links),
        pull: pull("Container", "Pull", sheet),
        container_name,
        exec: command::words(sheet, "Exec"),
        entrypoint: command::entrypoint(sheet),
        environment: assignments(sheet, ("Container", "Environment"), Bare::Refused),
        environment_files: environment_files(folder, sheet),
        tmpfs,
        volumes,
        image_mounts,
        globs,
        devices: devices(sheet),
        secrets: secrets::secrets(sheet),
        network,
        ports: network::ports("Container", sheet, claims),
        exposed_ports: network::exposed(sheet),
        network_aliases: network::aliases("Container", sheet),
        dns: network::dns("Container", sheet),
        pod: pod::member(sheet, links),
        user_namespace,
        user: identity::user(sheet),
        extra_groups: identity::extra_groups(sheet),
        umask: sheet.read("Container", "Umask", umask).unwrap_or(0o022),
        working_dir: sheet.read("Container", "WorkingDir", mounts::destination),
        read_only: flag(sheet, "ReadOnly", false),
        read_only_tmpfs: flag(sheet, "ReadOnlyTmpfs", true),
        memory_max_bytes: limits::memory(sheet),
        pids_max: limits::pids(sheet),
        hostname: sheet.read("Container", "HostName", network::hostname),
        stop_signal: sheet.read("Container", "StopSignal", values::signal),
        capabilities: limits::capabilities(sheet),
        no_new_privileges: flag(sheet, "NoNewPrivileges", false),
        ulimits: limits::ulimits(sheet),
        shm_size_bytes: sheet.read("Container", "ShmSize", values::size).unwrap_or(64 << 20),
        sysctls: limits::sysctls(sheet),
        mask: limits::mask(sheet),
        unmask: limits::unmask(sheet),
        hosts,
        labels,
        annotations: assignments(sheet, ("Container", "Annotation"), Bare::Empty),
        oom_score_adj: sheet.read("Service", "OOMScoreAdjust", resources::between(-1000, 1000)).unwrap_or(0),
        timezone: sheet.read("Container", "Timezone", timezone),
        notify: health::notify(sheet),
        health,
        startup_health,
        reload: health::reload(sheet),
        run_init: sheet.last("Container", "RunInit").is_some_and(|v| values::boolean(&v.text) == Ok(true)),
        seccomp: seccomp(sheet),
        log: super::log::log(sheet),
        resources: resources::resources(sheet),
    }
}

/// The option without mappings of its own, where there are no others.
pub(super) fn refuse_idmap(section: &'static str, keys: &[&'static str], sheet: &mut Sheet<'_>) {
    for value in idmaps(section, keys, sheet) {
        let text = "idmap takes the ids of a user namespace: write UserNS=auto, or idmap=uids=0-1000-1;gids=0-1000-1";
        sheet.error(&value, text);
    }
}

/// What has the option. A volume may have that name.
pub(super) fn idmaps(section: &'static str, keys: &[&'static str], sheet: &mut Sheet<'_>) -> Vec<Rc<Text>> {
    let is_idmap = |option: &str| matches!(option, "idmap" | "idmap=true");
    let mut found = Vec::new();
    for key in keys {
        let options = |text: &str| text.split([':', ',']).skip(usize::from(*key == "Volume")).any(is_idmap);
        let all = sheet.all(section, key).into_iter();
        found.extend(all.filter(|value| !value.text.contains("type=image") && options(&value.text)));
    }
    found
}

/// `StopTimeout=`, in seconds; Podman's default is ten.
pub(super) fn stop_timeout(sheet: &mut Sheet<'_>) -> Option<Duration> {
    let seconds = sheet.read("Container", "StopTimeout", |text| {
        text.parse::<u32>().map_err(|_| "expected a number of seconds, without a unit")
    });
    Some(Duration::from_secs(seconds.unwrap_or(10).into()))
}

fn flag(sheet: &mut Sheet<'_>, key: &'static str, default: bool) -> bool {
    sheet.read("Container", key, values::boolean).unwrap_or(default)
}

fn root(path: &Path, sheet: &mut Sheet<'_>, links: &mut Vec<Link>) -> Root {
    let folder = sheet.read("Container", "Rootfs", rootfs);
    let said = sheet.last("Container", "Rootfs").is_some();
    let image = image_name("Container", sheet, links);
    if let Some((value, _)) = image.as_ref().filter(|_| said) {
        sheet.error(value, "Image= and Rootfs= exclude each other");
    }
    match (folder, image) {
        (Some(folder), _) => folder,
        (None, Some((_, image))) => Root::Image(image.into()),
        (None, None) => {
            if sheet.has_main() && !said {
                sheet.missing(
                    path,
                    "no Image=: write the image's full name, such as Image=docker.io/library/nginx:1.27",
                );
            }
            Root::Image(String::new().into())
        }
    }
}

/// `path[:O]`. What the machine itself consists of is no root of a container: Image= makes one of a folder that is somewhere else.
fn rootfs(text: &str) -> Result<Root, &'static str> {
    const OWN: [&str; 11] =
        ["bin", "boot", "dev", "etc", "proc", "run", "sbin", "sys", "tmp", "var/lib/orlop", "var/log/orlop"];
    let (path, overlay) = match text.split_once(':') {
        None => (text, false),
        Some((path, "O")) => (path, true),
        Some(_) => return Err("of the options O alone is available in this version"),
    };
    let path = Path::new(path);
    let below = path.strip_prefix("/").map_err(|_| "expected an absolute path of the host")?;
    if below.components().any(|part| !matches!(part, Component::Normal(_))) {
        return Err("expected a path without . and ..");
    }
    let is_volume = below.strip_prefix("var/lib/orlop/volumes").is_ok_and(|volume| volume.file_name().is_some());
    if !is_volume && OWN.iter().any(|own| below.starts_with(own) || Path::new(own).starts_with(below)) {
        return Err("it is, or holds, a part of the machine itself; put the folder elsewhere below /var");
    }
    Ok(Root::Folder { path: path.to_owned(), overlay })
}

/// `Image=`: the image's name, or the file that says it, and where.
pub(super) fn image_name(
    section: &'static str,
    sheet: &mut Sheet<'_>,
    links: &mut Vec<Link>,
) -> Option<(Rc<Text>, String)> {
    let all = sheet.every(section, "Image");
    all.iter().for_each(|value| check_image(value, sheet));
    let value = all.into_iter().next_back().filter(|value| !value.text.is_empty())?;
    if value.text.ends_with(".image") {
        let word = Word::of(&value, value.whole());
        links.push(links::uses(&value, word, Kind::Image, "Image", sheet.scope.instance()));
    }
    let name = value.text.clone();
    Some((value, name))
}

fn check_image(value: &Text, sheet: &mut Sheet<'_>) {
    if value.text.is_empty() || value.text.ends_with(".image") {
        // Whether there is such a file is seen when all are known.
    } else if value.text.ends_with(".build") {
        sheet.error(value, format!("{}: images are built elsewhere; write the built image's name", value.text));
    } else if value.text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        sheet.error(value, "an image's name has no spaces; arguments go into Exec=");
    } else if let Err(said) = reference(&value.text) {
        sheet.error(value, said);
    }
}

/// Whether it names an image wherever it is read.
pub(super) fn reference(text: &str) -> Result<(), Said> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    if digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err("an image's id is no name: nobody else knows it, and nothing can be pulled by it; write the image's full name, with \
                    @sha256: and its digest behind it if it has to be this very image"
            .into());
    }
    // containers-transports(5): a place where Podman looks, and no name.
    let transports = ["containers-storage", "dir", "docker-archive", "docker-daemon", "oci", "oci-archive", "sif"];
    if let Some((transport, _)) = text.split_once(':').filter(|(before, _)| transports.contains(before)) {
        return Err(format!("{transport}: is a store of another host; write the name that the image has here").into());
    }
    if let Some(name) = text.strip_prefix("docker://") {
        return Err(Said::from(format!("an image's name has no docker:// before it; write {name}")).offering(name));
    }
    text.parse::<Reference>().map(drop).map_err(|error| match &error {
        ReferenceError::ShortName { full, .. } => Said::from(error.to_string()).offering(full),
        _ => error.to_string().into(),
    })
}

fn container_network(sheet: &mut Sheet<'_>, links: &mut Vec<Link>) -> Network {
    let network = network::network("Container", sheet, links).unwrap_or(Network::Bridge(Vec::new()));
    if sheet.last("Container", "Pod").is_some() { network } else { network::addressed("Container", network, sheet) }
}

pub(super) fn pull(section: &'static str, key: &'static str, sheet: &mut Sheet<'_>) -> Pull {
    let word = |text: &str| {
        Ok::<_, Said>(match text {
            "always" => Pull::Always,
            "never" => Pull::Never,
            "newer" => Pull::Newer,
            // What is no policy at all is reported by the table of keys.
            _ => Pull::Missing,
        })
    };
    let pull = sheet.read(section, key, word).unwrap_or_default();
    // podman-pull(1): "Errors are suppressed if a local image was found", and no registry ever answers here.
    if pull == Pull::Newer
        && let Some(value) = sheet.last(section, key)
    {
        let text =
            format!("{key}=newer is as missing: nothing is pulled in this version, the image is the machine's own");
        sheet.warning(&value, text);
    }
    pull
}

fn seccomp(sheet: &mut Sheet<'_>) -> Seccomp {
    let read = sheet.read("Container", "SeccompProfile", |text| match text {
        "unconfined" => Ok(Seccomp::Unconfined),
        _ if text.starts_with('/') => Ok(Seccomp::Profile(PathBuf::from(text))),
        _ => Err("expected unconfined, or the absolute path of a profile"),
    });
    read.unwrap_or_default()
}

/// podman-run(1) `--umask`: of containers.conf(5) it is 0022.
fn umask(text: &str) -> Result<u32, &'static str> {
    let mask = u32::from_str_radix(text, 8).ok().filter(|mask| *mask <= 0o777 && (1..=4).contains(&text.len()));
    mask.ok_or("expected up to four octal digits, such as 0077")
}

fn timezone(text: &str) -> Result<String, &'static str> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '-' | '/');
    match text {
        // The machine's clock shows UTC.
        "local" => Ok("UTC".to_owned()),
        _ if text.starts_with('/') || text.split('/').any(str::is_empty) || !text.chars().all(good) => {
            Err("expected the name of a time zone, such as Europe/Berlin or UTC, or local")
        }
        _ => Ok(text.to_owned()),
    }
}

/// `[-]host[:container][:rwm]`
fn devices(sheet: &mut Sheet<'_>) -> Vec<Device> {
    let mut devices = Vec::new();
    for (value, word) in sheet.all_names("Container", "AddDevice") {
        let (optional, text) = word.text.strip_prefix('-').map_or((false, word.text.as_str()), |text| (true, text));
        let mut parts = text.split(':');
        let (host, second, third) = (parts.next().unwrap_or(""), parts.next(), parts.next());
        let is_access = |text: &str| !text.is_empty() && text.chars().all(|c| "rwm".contains(c));
        let (container, access) = match (second, third) {
            (Some(access), None) if is_access(access) => (host, access),
            (container, access) => (container.unwrap_or(host), access.unwrap_or("rwm")),
        };
        // As CDI has it, vendor.com/class=name.
        if !host.starts_with('/') && host.contains('/') && host.contains('=') {
            let text = "devices of CDI are known, not available in this version; write their files, such as /dev/dri/renderD128";
            sheet.unavailable(&value, format!("AddDevice={}: {text}", word.text));
            continue;
        }
        let paths = mounts::destination(host).and_then(|host| Ok((host, mounts::destination(container)?)));
        match paths {
            Err(text) => sheet.error_at(&value, &word, format!("AddDevice={}: {text}", word.text)),
            Ok(_) if !is_access(access) || parts.next().is_some() => {
                let text = format!("AddDevice={}: expected /dev/host[:/dev/container][:rwm]", word.text);
                sheet.error_at(&value, &word, text);
            }
            Ok((host, _)) if !host.starts_with("/dev/") => {
                sheet.error_at(&value, &word, format!("AddDevice={}: devices lie below /dev", word.text));
            }
            Ok((host, container)) => {
                let access = "rwm".chars().filter(|c| access.contains(*c)).collect();
                devices.push(Device { host: host.into(), container: container.into(), access, optional });
            }
        }
    }
    devices
}

/// What a word without `=` means.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Bare {
    Refused,
    Empty,
}

/// `KEY=value` words; a later one replaces an earlier one of the same key.
pub(super) fn assignments(
    sheet: &mut Sheet<'_>,
    (section, key): (&'static str, &'static str),
    bare: Bare,
) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    // The value whose words are being read, and whether one of them was an assignment.
    let mut before: Option<(Rc<Text>, bool)> = None;
    for (value, word) in sheet.all_words(section, key) {
        let follows = before.as_ref().is_some_and(|(other, seen)| *seen && Rc::ptr_eq(other, &value));
        before = Some((Rc::clone(&value), follows || word.text.contains('=')));
        // They stand in Quadlet's ExecStart=, whose dollars are systemd's.
        let text = match command::inner_dollars(&word.text) {
            Ok(text) => text,
            Err(text) => {
                sheet.error_at(&value, &word, text);
                continue;
            }
        };
        match text.split_once('=') {
            Some(("", _)) => {
                sheet.error_at(&value, &word, format!("{key}={}: the name before = is missing", word.text));
            }
            Some((_, text)) if text.contains('\0') => {
                sheet.error_at(&value, &word, "a NUL character cannot be part of a value");
            }
            Some((name, text)) => {
                found.insert(name.to_owned(), text.to_owned());
            }
            None if follows => {
                let text = format!("{} has no =; quote a value with spaces: {key}=\"NAME=two words\"", word.text);
                sheet.error_at(&value, &word, text);
            }
            None if bare == Bare::Empty => {
                found.insert(text, String::new());
            }
            None => {
                let text = format!(
                    "{} has no =, and the host has no environment to take it from; write {key}={}=value",
                    word.text, word.text
                );
                sheet.error_at(&value, &word, text);
            }
        }
    }
    found
}

fn environment_files(folder: &Path, sheet: &mut Sheet<'_>) -> Vec<(PathBuf, bool)> {
    let mut files = Vec::new();
    for (value, word) in sheet.all_words("Container", "EnvironmentFile") {
        let (path, optional) = word.text.strip_prefix('-').map_or((word.text.as_str(), false), |path| (path, true));
        // podman-systemd.unit(5): "Quadlet does not resolve relative paths that start with %", and systemd wants absolute ones.
        let written = value.text[word.range.clone()].trim_start_matches(['"', '\'', '-']);
        if written.starts_with('%') && !path.starts_with('/') {
            let text =
                format!("{path} is not absolute, and what begins with a specifier is not looked for beside the unit");
            sheet.error_at(&value, &word, text);
            continue;
        }
        files.push((folder.join(path), optional));
    }
    files
}

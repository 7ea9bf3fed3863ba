//! From what a unit's files set to the typed unit. Mistakes are collected in the sheet; the links to other units are resolved
//! when all units are known.

mod command;
mod conditions;
mod container;
mod health;
mod identity;
mod limits;
mod log;
pub(super) use command::inner_dollars;
pub(super) use limits::CAPABILITIES;
mod declared;
mod links;
mod mount_key;
mod mounts;
mod namespaces;
mod network;
mod pod;
mod reach;
mod resources;
mod secrets;
mod service;
mod timer;
mod volume;

use std::{
    collections::BTreeSet,
    net::IpAddr,
    path::{Path, PathBuf},
    rc::Rc,
};

use super::{
    Declared, ImageSpec, Network, NetworkSpec, PodSpec, Protocol, SocketSpec, TimerSpec, Unit, UnitName, VolumeSpec,
    kind::{Kind, is_template},
    sheet::Sheet,
    text::Text,
    values,
};
pub(super) use declared::{contains, first};
pub(super) use links::{Link, LinkKind, Target, boot_targets, unknown_target};
pub(super) use mounts::target as mount_point;
pub(super) use reach::{Card, Offer, Wishes};

/// A unit before its links to others are resolved.
pub(super) struct Draft {
    pub(super) kind: Kind,
    pub(super) what: What,
    pub(super) links: Vec<Link>,
    /// Names that nobody else may have, and where they are given.
    pub(super) claims: Vec<Claim>,
    pub(super) aliases: BTreeSet<UnitName>,
    /// Of a template: the instance that `[Install]` asks for.
    pub(super) default_instance: Option<String>,
    pub(super) wishes: Wishes,
    pub(super) offer: Offer,
    /// It has a mistake, and is not loaded.
    pub(super) broken: bool,
}

pub(super) enum What {
    Container(Box<Unit>),
    Volume(Declared<VolumeSpec>),
    Network(Declared<NetworkSpec>),
    Image(Declared<ImageSpec>),
    Pod(Box<Declared<PodSpec>>),
    Timer(Declared<TimerSpec>),
    Socket(Declared<SocketSpec>),
    /// Read for its mistakes only.
    Checked(PathBuf),
}

/// What two units cannot both have, and where it is said; nothing for a name that follows from the file's.
#[derive(Clone)]
pub(super) enum Claim {
    /// `container`, `volume`, …
    Name { what: &'static str, name: String, at: Option<Rc<Text>> },
    /// From the first to the last.
    Port { key: &'static str, hosts: Hosts, protocol: Protocol, first: u16, last: u16, at: Rc<Text> },
}

/// Addresses of the machine.
#[derive(Debug, Clone, Copy)]
pub(super) enum Hosts {
    All,
    All4,
    All6,
    One(IpAddr),
}

/// What `Alias=` claims; the units' own names are claimed by themselves.
pub(super) const ALIAS: &str = "unit";

/// Of `ContainerName=` and `PodName=`, which podman keeps in one list.
pub(super) const CONTAINER: &str = "container or pod";
pub(super) const NETWORK: &str = "network";

/// Always makes a draft, so that all mistakes of all parts are found; it is of use only when the sheet has no errors.
pub(super) fn draft(path: &Path, stem: &str, sheet: &mut Sheet<'_>) -> Draft {
    let kind = sheet.scope.kind;
    if !sheet.has_main() {
        let needs = if kind == Kind::Container { " with Image=" } else { "" };
        sheet.missing(path, format!("a .{} file needs a [{}] section{needs}", kind.suffix(), kind.section()));
    }
    // It has named the unit already, before anything else could be read.
    sheet.last(kind.section(), "ServiceName");
    let mut links = links::links(sheet);
    let mut claims = Vec::new();
    let aliases = aliases(stem, sheet, &mut claims);
    let default_instance = default_instance(stem, sheet);
    let what = match kind {
        Kind::Container => What::Container(Box::new(unit(path, stem, sheet, &mut links, &mut claims, &aliases))),
        Kind::Volume => {
            What::Volume(declare(path, sheet, &mut links, |s, l, _| volume::volume(stem, s, l, &mut claims)))
        }
        Kind::Network => {
            What::Network(declare(path, sheet, &mut links, |s, _, _| declared::network(stem, s, &mut claims)))
        }
        Kind::Image => What::Image(declare(path, sheet, &mut links, |s, _, _| declared::image(path, s))),
        Kind::Pod => What::Pod(Box::new(declare(path, sheet, &mut links, |s, l, shared| {
            pod::pod(path, stem, s, l, &mut claims, Shared { aliases: aliases.clone(), ..shared })
        }))),
        Kind::Timer => What::Timer(declare(path, sheet, &mut links, |s, l, _| timer::timer(path, stem, s, l))),
        Kind::Socket => {
            What::Socket(declare(path, sheet, &mut links, |s, l, _| timer::socket(path, stem, s, l, &mut claims)))
        }
    };
    let (wishes, offer) = match &what {
        What::Container(unit) => (reach::of_container(unit, sheet), Offer::Nothing),
        What::Pod(pod) => (reach::of_pod(&pod.spec.user_namespace, sheet), Offer::Nothing),
        What::Network(network) => (Wishes::default(), Offer::of_network(&network.spec, sheet)),
        What::Volume(volume) => (Wishes::default(), Offer::of_volume(&volume.spec)),
        _ => (Wishes::default(), Offer::Nothing),
    };
    Draft { kind, what, links, claims, aliases, default_instance, wishes, offer, broken: false }
}

/// What every file may say, and a pod alone of those that are no containers acts upon.
struct Shared {
    default_dependencies: bool,
    limit: service::StartLimit,
    conditions: Vec<super::Condition>,
    aliases: BTreeSet<UnitName>,
}

fn declare<T>(
    path: &Path,
    sheet: &mut Sheet<'_>,
    links: &mut Vec<Link>,
    spec: impl FnOnce(&mut Sheet<'_>, &mut Vec<Link>, Shared) -> T,
) -> Declared<T> {
    let mut default_dependencies = false;
    if sheet.scope.kind != Kind::Timer && sheet.scope.kind != Kind::Socket {
        default_dependencies = sheet.read("Quadlet", "DefaultDependencies", values::boolean).unwrap_or(true);
        service::service(sheet);
        resources::resources(sheet);
    }
    let shared = Shared {
        default_dependencies,
        limit: service::start_limit(sheet),
        conditions: conditions::conditions(sheet),
        aliases: BTreeSet::new(),
    };
    documentation(sheet);
    warn_of_no_effect(sheet);
    let spec = spec(sheet, links, shared);
    Declared {
        description: description(sheet),
        path: path.to_path_buf(),
        enabled: links::enabled(links, sheet.scope.kind),
        origins: Vec::new(),
        spec,
    }
}

/// There is no service of a volume or an image, and none of a timer or socket: what is written of it would act upon nothing.
fn warn_of_no_effect(sheet: &mut Sheet<'_>) {
    let kind = sheet.scope.kind;
    let (links, who): (&[&str], &str) = match kind {
        Kind::Timer | Kind::Socket => (&[], "that it starts"),
        Kind::Pod => (&[], "that runs in it"),
        // Those are followed to what stands behind them.
        _ => (&["After", "Requires"], "that uses it"),
    };
    // What Quadlet writes itself, and what holds anyway.
    let known = ["Description", "Documentation", "DefaultDependencies", "Type"];
    // A pod starts and stops, and nothing of its own runs.
    let sections: &[&'static str] = if kind == Kind::Pod { &["Service"] } else { &["Unit", "Service"] };
    for section in sections {
        for key in sheet.keys_of(section) {
            if !known.contains(&key)
                && !links.contains(&key)
                && let Some(value) = sheet.last(section, key)
                && !holds(kind, key, &value.text)
            {
                let text = format!("{key}= of a .{} has no effect here; write it in the unit {who}", kind.suffix());
                sheet.warning(&value, text);
            }
        }
    }
}

/// What Quadlet writes into each service of that kind; of another `Type=` it is told.
fn holds(kind: Kind, key: &str, value: &str) -> bool {
    key == "RemainAfterExit" && kind != Kind::Pod && values::boolean(value) == Ok(true)
}

/// systemd.unit(5): "URIs … of the types http://, https://, file:, info:, man:"; it leaves out all others.
fn documentation(sheet: &mut Sheet<'_>) -> Vec<String> {
    let mut all = Vec::new();
    for (value, word) in sheet.all_names("Unit", "Documentation") {
        if !["http://", "https://", "file:", "info:", "man:"].iter().any(|kind| word.text.starts_with(kind)) {
            let text = format!(
                "Documentation={}: no address that begins with https://, http://, file:, info: or man:",
                word.text
            );
            sheet.warning_at(&value, &word, text);
        }
        all.push(word.text);
    }
    all
}

fn description(sheet: &mut Sheet<'_>) -> String {
    sheet.last("Unit", "Description").map_or_else(|| sheet.scope.node.to_string(), |d| d.text.clone())
}

fn unit(
    path: &Path,
    stem: &str,
    sheet: &mut Sheet<'_>,
    links: &mut Vec<Link>,
    claims: &mut Vec<Claim>,
    aliases: &BTreeSet<UnitName>,
) -> Unit {
    let default_dependencies = sheet.read("Quadlet", "DefaultDependencies", values::boolean).unwrap_or(true);
    let container = container::container(path, stem, sheet, links, claims);
    let service = service::service(sheet);
    let limit = service::start_limit(sheet);
    // Quadlet waits for the network so that images can be pulled and addresses bound; a unit without a network needs neither.
    // One that shares another's network starts after that one, which waits.
    let own_network = container.pod.is_none() && matches!(container.network, Network::Host | Network::Bridge(_));
    let by_default = default_dependencies && own_network;
    Unit {
        name: sheet.scope.node.clone(),
        description: description(sheet),
        documentation: documentation(sheet),
        links: super::Links::default(),
        conditions: conditions::conditions(sheet),
        aliases: aliases.clone(),
        origins: Vec::new(),
        after_network_online: by_default || links::after_network_online(links),
        start_limit_burst: limit.burst,
        start_limit_interval: limit.interval,
        actions: limit.actions,
        requests: limit.requests,
        service: super::ServiceSpec {
            // Quadlet's podman kills after StopTimeout=, systemd after TimeoutStopSec=: whichever is first.
            stop_timeout: [service.stop_timeout, container::stop_timeout(sheet)].into_iter().flatten().min(),
            ..service
        },
        enabled: links::enabled(links, Kind::Container),
        path: path.to_path_buf(),
        container,
    }
}

fn aliases(stem: &str, sheet: &mut Sheet<'_>, claims: &mut Vec<Claim>) -> BTreeSet<UnitName> {
    let mut aliases = BTreeSet::new();
    // systemd.unit(5): "the same suffix as the unit file name".
    let suffix = match sheet.scope.kind {
        kind @ (Kind::Timer | Kind::Socket) => kind.suffix(),
        _ => "service",
    };
    let words = sheet.all_names("Install", "Alias");
    for line in words.chunk_by(|(one, _), (other, _)| Rc::ptr_eq(one, other)) {
        // One walk along the line, however many names it has.
        let mut cursor = line[0].0.cursor();
        for (value, word) in line {
            let text = word.text.as_str();
            let stripped = text.strip_suffix(suffix).and_then(|name| name.strip_suffix('.'));
            let name = stripped.unwrap_or(text);
            // Of a template the other template: each instance has the alias of its own.
            let instance =
                if is_template(name) { stem.split_once('@').map_or("", |(_, instance)| instance) } else { "" };
            let name = format!("{name}{instance}");
            // Quadlet makes a link in such a folder, that leads nowhere here.
            if name.contains('/') {
                sheet.warning_at(value, word, format!("Alias={text}: without effect, there are no folders of names"));
                continue;
            }
            match UnitName::parse(&if suffix == "service" { name } else { format!("{name}.{suffix}") }) {
                Ok(_) if stripped.is_none() => {
                    sheet.error_at(value, word, format!("Alias={text}: such a name ends in .{suffix}"));
                }
                // As systemd takes both: its own name, and one of its others again.
                Ok(name) if name == sheet.scope.node || aliases.contains(&name) => {}
                Ok(name) => {
                    let mut at = Text::new(Rc::clone(&value.file));
                    cursor.skip_to(word.range.start);
                    cursor.copy_to(word.range.end, &mut at);
                    let at = Some(Rc::new(at));
                    claims.push(Claim::Name { what: ALIAS, name: name.to_string(), at });
                    aliases.insert(name);
                }
                Err(error) => sheet.error_at(value, word, format!("Alias={text}: {error}")),
            }
        }
    }
    aliases
}

/// What cannot stand behind a template's `@` names nothing.
fn default_instance(stem: &str, sheet: &mut Sheet<'_>) -> Option<String> {
    let found = sheet.read("Install", "DefaultInstance", |text| {
        UnitName::parse(&format!("x@{text}")).map(|_| text.to_owned()).map_err(|error| error.to_string())
    });
    if let Some(value) = sheet.last("Install", "DefaultInstance").filter(|_| found.is_some() && !stem.contains('@')) {
        // systemd.unit(5): "This option has no effect in non-template unit files."
        sheet.warning(&value, "DefaultInstance= has no effect here; it is for templates, whose names end in @");
    }
    found
}

/// A name of the engine's own kind: of containers, volumes, networks, pods.
fn name(text: &str) -> Result<String, &'static str> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if text.chars().all(good) && text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.len() <= 255 {
        Ok(text.to_owned())
    } else {
        Err("a name has letters, digits, _, . and -, and begins with a letter or digit")
    }
}

/// The name of a resource: what the key says, or `systemd-` and the file's name.
fn claimed(
    sheet: &mut Sheet<'_>,
    key: (&'static str, &'static str),
    stem: &str,
    what: &'static str,
    claims: &mut Vec<Claim>,
) -> String {
    let given = sheet.read(key.0, key.1, name);
    let at = sheet.last(key.0, key.1);
    // podman-systemd.unit(5): "systemd-%N" and "systemd-%p_%i" for containers, by the service's name; "systemd-…-%i" for all else, by
    // the file's.
    let name = given.unwrap_or_else(|| match key.0 {
        "Container" => format!("systemd-{}", sheet.scope.name().replacen('@', "_", 1)),
        _ => format!("systemd-{}", stem.replace('@', "-")),
    });
    claims.push(Claim::Name { what, name: name.clone(), at });
    name
}

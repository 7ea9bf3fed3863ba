//! From what a unit's files set to the typed unit. Mistakes are collected in the sheet; the links to other units are resolved
//! when all units are known.

mod command;
mod conditions;
mod container;
mod health;
mod identity;
mod limits;
mod log;
pub(super) use limits::CAPABILITIES;
mod declared;
mod links;
mod mount_key;
mod mounts;
mod namespaces;
mod network;
mod resources;
mod secrets;
mod service;
mod timer;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    rc::Rc,
};

use super::{
    Declared, ImageSpec, NetworkSpec, PodSpec, Port, SocketSpec, TimerSpec, Unit, UnitName, VolumeSpec, kind::Kind,
    sheet::Sheet, text::Text, values,
};
pub(super) use links::{Link, LinkKind, Target, unknown_target};

/// A unit before its links to others are resolved.
pub(super) struct Draft {
    pub(super) what: What,
    pub(super) links: Vec<Link>,
    /// Names that nobody else may have, and where they are given.
    pub(super) claims: Vec<Claim>,
    pub(super) aliases: BTreeSet<UnitName>,
    /// Of a template: the instance that `[Install]` asks for.
    pub(super) default_instance: Option<String>,
    /// It has a mistake, and is not loaded.
    pub(super) broken: bool,
}

pub(super) enum What {
    Container(Box<Unit>),
    Volume(Declared<VolumeSpec>),
    Network(Declared<NetworkSpec>),
    Image(Declared<ImageSpec>),
    Pod(Declared<PodSpec>),
    Timer(Declared<TimerSpec>),
    Socket(Declared<SocketSpec>),
    /// Read for its mistakes only.
    Checked(PathBuf),
}

/// What two units cannot both have, and where it is said; nothing for a name that follows from the file's.
pub(super) enum Claim {
    /// `container`, `volume`, …
    Name {
        what: &'static str,
        name: String,
        at: Option<Rc<Text>>,
    },
    Port {
        port: Port,
        at: Rc<Text>,
    },
}

/// What `Alias=` claims; the units' own names are claimed by themselves.
pub(super) const ALIAS: &str = "unit";

/// Always makes a draft, so that all mistakes of all parts are found; it is of use only when the sheet has no errors.
pub(super) fn draft(path: &Path, stem: &str, sheet: &mut Sheet<'_>) -> Draft {
    let kind = sheet.scope.kind;
    if !sheet.has_main() {
        let needs = if kind == Kind::Container { " with Image=" } else { "" };
        sheet.missing(path, &format!("a .{} file needs a [{}] section{needs}", kind.suffix(), kind.section()));
    }
    // It has named the unit already, before anything else could be read.
    sheet.last(kind.section(), "ServiceName");
    let mut links = links::links(sheet);
    let mut claims = Vec::new();
    let aliases = aliases(sheet, &mut claims);
    let default_instance = sheet.last("Install", "DefaultInstance").map(|value| value.text.clone());
    let what = match kind {
        Kind::Container => What::Container(Box::new(unit(path, stem, sheet, &mut links, &mut claims, &aliases))),
        Kind::Volume => {
            What::Volume(declare(path, sheet, &mut links, |s, l| declared::volume(stem, s, l, &mut claims)))
        }
        Kind::Network => {
            What::Network(declare(path, sheet, &mut links, |s, _| declared::network(stem, s, &mut claims)))
        }
        Kind::Image => What::Image(declare(path, sheet, &mut links, |s, _| declared::image(path, s))),
        Kind::Pod => What::Pod(declare(path, sheet, &mut links, |s, l| declared::pod(path, stem, s, l, &mut claims))),
        Kind::Timer => What::Timer(declare(path, sheet, &mut links, |s, l| timer::timer(path, stem, s, l))),
        Kind::Socket => What::Socket(declare(path, sheet, &mut links, |s, l| timer::socket(path, stem, s, l))),
    };
    Draft { what, links, claims, aliases, default_instance, broken: false }
}

fn declare<T>(
    path: &Path,
    sheet: &mut Sheet<'_>,
    links: &mut Vec<Link>,
    spec: impl FnOnce(&mut Sheet<'_>, &mut Vec<Link>) -> T,
) -> Declared<T> {
    let targets: &[&str] = match sheet.scope.kind {
        Kind::Timer => &["default.target", "multi-user.target", "timers.target"],
        Kind::Socket => &["default.target", "multi-user.target", "sockets.target"],
        _ => &["default.target", "multi-user.target"],
    };
    if sheet.scope.kind != Kind::Timer && sheet.scope.kind != Kind::Socket {
        sheet.last("Quadlet", "DefaultDependencies");
        service::service(sheet);
        resources::resources(sheet);
    }
    service::start_limit(sheet);
    conditions::conditions(sheet);
    sheet.all_words("Unit", "Documentation");
    if targets.len() > 2 {
        // Links and conditions are those of what it starts.
        for key in sheet.keys_of("Unit") {
            if !["Description", "Documentation", "DefaultDependencies"].contains(&key)
                && let Some(value) = sheet.last("Unit", key)
            {
                let kind = sheet.scope.kind.suffix();
                sheet.warning(
                    &value,
                    format!("{key}= of a .{kind} has no effect here; write it in the unit that it starts"),
                );
            }
        }
    }
    let spec = spec(sheet, links);
    Declared {
        description: description(sheet),
        path: path.to_path_buf(),
        enabled: links::enabled(links, targets),
        origins: Vec::new(),
        spec,
    }
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
    let by_default = default_dependencies && container.network != super::Network::None;
    Unit {
        name: sheet.scope.node.clone(),
        description: description(sheet),
        documentation: sheet.all_words("Unit", "Documentation").into_iter().map(|(_, word)| word.text).collect(),
        after: BTreeSet::new(),
        before: BTreeSet::new(),
        requires: BTreeSet::new(),
        wants: BTreeSet::new(),
        binds_to: BTreeSet::new(),
        requisite: BTreeSet::new(),
        part_of: BTreeSet::new(),
        upholds: BTreeSet::new(),
        conflicts: BTreeSet::new(),
        on_failure: BTreeSet::new(),
        on_success: BTreeSet::new(),
        propagates_stop_to: BTreeSet::new(),
        propagates_reload_to: BTreeSet::new(),
        conditions: conditions::conditions(sheet),
        aliases: aliases.clone(),
        origins: Vec::new(),
        after_network_online: by_default || links::after_network_online(links),
        start_limit_burst: limit.burst,
        start_limit_interval: limit.interval,
        actions: limit.actions,
        service: super::ServiceSpec {
            // Quadlet's podman kills after StopTimeout=, systemd after TimeoutStopSec=: whichever is first.
            stop_timeout: [service.stop_timeout, container::stop_timeout(sheet)].into_iter().flatten().min(),
            ..service
        },
        enabled: links::enabled(links, &["default.target", "multi-user.target"]),
        path: path.to_path_buf(),
        container,
    }
}

fn aliases(sheet: &mut Sheet<'_>, claims: &mut Vec<Claim>) -> BTreeSet<UnitName> {
    let mut aliases = BTreeSet::new();
    for (value, word) in sheet.all_words("Install", "Alias") {
        match UnitName::parse(&word.text) {
            // systemd.unit(5): of the same kind as the unit.
            Ok(_) if !word.text.ends_with(".service") => {
                sheet.error_at(&value, &word, format!("Alias={}: such a name ends in .service", word.text));
            }
            Ok(name) => {
                claims.push(Claim::Name { what: ALIAS, name: name.to_string(), at: Some(value) });
                aliases.insert(name);
            }
            Err(error) => sheet.error_at(&value, &word, format!("Alias={}: {error}", word.text)),
        }
    }
    aliases
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
    let name = given.unwrap_or_else(|| format!("systemd-{}", stem.replace('@', "_")));
    claims.push(Claim::Name { what, name: name.clone(), at });
    name
}

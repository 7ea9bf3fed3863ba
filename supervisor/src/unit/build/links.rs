//! Names of units and targets in `[Unit]`, `[Install]` and wherever else one unit names another.

use std::rc::Rc;

use crate::unit::{
    NameError, Problem, Said, UnitName,
    kind::{KINDS, Kind, REFUSED, is_template, of_instance, template_of},
    nearest::nearest,
    problem::form,
    sheet::Sheet,
    text::Text,
    words::Word,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::unit) enum LinkKind {
    After,
    Before,
    Requires,
    Wants,
    BindsTo,
    PartOf,
    Conflicts,
    Upholds,
    Requisite,
    OnFailure,
    OnSuccess,
    PropagatesStopTo,
    StopPropagatedFrom,
    PropagatesReloadTo,
    ReloadPropagatedFrom,
    WantedBy,
    RequiredBy,
    UpheldBy,
    /// `Volume=x.volume`, `Network=x.network`, `Pod=x.pod`, `Image=x.image`: after it, and not without it.
    Uses,
    /// `Unit=` of a timer, `Service=` of a socket.
    Triggers,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::unit) enum Target {
    /// By the name of its file, which has to exist.
    File(Kind, String),
    /// A container by the name that podman would know it by.
    Named(String),
    /// A network by the name that podman would know it by.
    Network(String),
    /// By the name of its service.
    Service(UnitName),
    /// A target, with its suffix: one of systemd's, or of somebody's own.
    Milestone(String),
    /// A systemd unit of a kind that this system does not have.
    Foreign(String),
}

/// One name in one of these keys.
#[derive(Debug, Clone)]
pub(in crate::unit) struct Link {
    pub(in crate::unit) kind: LinkKind,
    /// The key that says it.
    pub(in crate::unit) key: &'static str,
    pub(in crate::unit) target: Target,
    /// The unit that is meant, once all are known.
    pub(in crate::unit) to: Option<UnitName>,
    value: Rc<Text>,
    word: Word,
}

impl Link {
    pub(in crate::unit) fn error(&self, text: impl Into<Said>) -> Problem {
        self.value.error(&self.word.range, text)
    }

    pub(in crate::unit) fn warning(&self, text: impl Into<Said>) -> Problem {
        self.value.warning(&self.word.range, text)
    }

    /// As it was written.
    pub(in crate::unit) fn text(&self) -> &str {
        &self.word.text
    }

    /// `file:line` for the path of a cycle.
    pub(in crate::unit) fn place(&self) -> String {
        format!("{}:{}", self.value.file.display(), self.value.place(&self.word.range).line)
    }
}

impl LinkKind {
    /// Whether the unit is of no use without the other.
    pub(in crate::unit) fn is_hard(self) -> bool {
        matches!(
            self,
            Self::Requires | Self::BindsTo | Self::Requisite | Self::RequiredBy | Self::Uses | Self::Triggers
        )
    }

    pub(in crate::unit) fn is_install(self) -> bool {
        matches!(self, Self::WantedBy | Self::RequiredBy | Self::UpheldBy)
    }
}

/// The keys that name units. Their meaning for others than containers is the same.
const KEYS: [(LinkKind, &str, &str); 18] = [
    (LinkKind::After, "Unit", "After"),
    (LinkKind::Before, "Unit", "Before"),
    (LinkKind::Requires, "Unit", "Requires"),
    (LinkKind::Wants, "Unit", "Wants"),
    (LinkKind::BindsTo, "Unit", "BindsTo"),
    (LinkKind::PartOf, "Unit", "PartOf"),
    (LinkKind::Conflicts, "Unit", "Conflicts"),
    (LinkKind::Upholds, "Unit", "Upholds"),
    (LinkKind::Requisite, "Unit", "Requisite"),
    (LinkKind::OnFailure, "Unit", "OnFailure"),
    (LinkKind::OnSuccess, "Unit", "OnSuccess"),
    (LinkKind::PropagatesStopTo, "Unit", "PropagatesStopTo"),
    (LinkKind::StopPropagatedFrom, "Unit", "StopPropagatedFrom"),
    (LinkKind::PropagatesReloadTo, "Unit", "PropagatesReloadTo"),
    (LinkKind::ReloadPropagatedFrom, "Unit", "ReloadPropagatedFrom"),
    (LinkKind::WantedBy, "Install", "WantedBy"),
    (LinkKind::RequiredBy, "Install", "RequiredBy"),
    (LinkKind::UpheldBy, "Install", "UpheldBy"),
];

/// systemd's targets that a unit file may name. All of them are reached before the first container starts, but for the network's.
const TARGETS: [&str; 28] = [
    "network-online.target",
    "network.target",
    "network-pre.target",
    "default.target",
    "multi-user.target",
    "basic.target",
    "sysinit.target",
    "local-fs.target",
    "local-fs-pre.target",
    "remote-fs.target",
    "remote-fs-pre.target",
    "nss-lookup.target",
    "nss-user-lookup.target",
    "time-set.target",
    "time-sync.target",
    "paths.target",
    "sockets.target",
    "slices.target",
    "swap.target",
    "timers.target",
    "getty.target",
    "graphical.target",
    "shutdown.target",
    "umount.target",
    "reboot.target",
    "poweroff.target",
    "halt.target",
    "final.target",
];

/// What there is no such target for, and the one that was probably meant.
pub(in crate::unit) fn unknown_target(text: &str) -> Option<Option<&'static str>> {
    (!TARGETS.contains(&text)).then(|| nearest(text, TARGETS.into_iter()))
}

pub(super) fn links(sheet: &mut Sheet<'_>) -> Vec<Link> {
    let mut links = Vec::new();
    for (kind, section, key) in KEYS {
        for (value, word) in sheet.all_names(section, key) {
            let text = if section == "Unit" { resolved(&word.text, sheet) } else { word.text.clone() };
            match target(&text) {
                Ok(target) if is_recursive(sheet, &target, &value, &word) => {
                    let text = format!("{key}= is left out: each instance would ask for one more");
                    sheet.warning_at(&value, &word, text);
                }
                Ok(target) => links.push(Link { kind, key, target, to: None, value, word }),
                Err(text) => sheet.error_at(&value, &word, text),
            }
        }
    }
    links
}

/// An instance that names another one of its template, by a name that has its own inside: `web@x%i.service`. systemd leaves it out
/// too (load-fragment.c, unit_is_likely_recursive_template_dependency).
fn is_recursive(sheet: &Sheet<'_>, target: &Target, value: &Text, word: &Word) -> bool {
    let other = match target {
        Target::Service(name) => name.as_str(),
        Target::File(kind, stem) if *kind == sheet.scope.kind => stem,
        _ => return false,
    };
    let Some((own, of)) = template_of(sheet.scope.node.as_str()).zip(sheet.scope.node.instance()) else { return false };
    let longer = |instance: &str| instance != of && instance.contains(of);
    other.strip_prefix(own).is_some_and(longer) && value.has_specifier(&word.range)
}

/// A template among the dependencies means the instance of the same name, or the one that has the unit's own name (`resolve_template` of
/// systemd's unit.c).
fn resolved(text: &str, sheet: &Sheet<'_>) -> String {
    let scope = &sheet.scope;
    match text.rsplit_once('.') {
        Some((stem, suffix)) => {
            format!("{}.{suffix}", of_instance(stem, scope.instance().or_else(|| Some(scope.name()))))
        }
        None => text.to_owned(),
    }
}

/// A link to the file of that kind, by its name; a template's is that of the same instance.
pub(super) fn uses(value: &Rc<Text>, word: Word, kind: Kind, key: &'static str, instance: Option<&str>) -> Link {
    let stem = word.text.strip_suffix(kind.suffix()).and_then(|stem| stem.strip_suffix('.')).unwrap_or(&word.text);
    let stem = of_instance(stem, instance);
    Link { kind: LinkKind::Uses, key, target: Target::File(kind, stem), to: None, value: Rc::clone(value), word }
}

/// `Network=container:name`
pub(super) fn uses_container(value: &Rc<Text>, name: String) -> Link {
    let word = Word::of(value, value.whole());
    let target = Target::Named(name);
    Link { kind: LinkKind::Uses, key: "Network", target, to: None, value: Rc::clone(value), word }
}

/// `Network=name`
pub(super) fn uses_network(value: &Rc<Text>, word: Word) -> Link {
    let target = Target::Network(word.text.clone());
    Link { kind: LinkKind::Uses, key: "Network", target, to: None, value: Rc::clone(value), word }
}

/// What a timer or a socket starts.
pub(super) fn triggers(value: &Rc<Text>, key: &'static str, target: Target) -> Link {
    let word = Word { text: value.text.clone(), range: value.whole() };
    Link { kind: LinkKind::Triggers, key, target, to: None, value: Rc::clone(value), word }
}

pub(super) fn target(text: &str) -> Result<Target, Said> {
    let Some((stem, suffix)) = text.rsplit_once('.') else {
        let said = format!("{text} has no suffix; write {text}.container for a container of this machine");
        return Err(Said::from(said).offering(format!("{text}.container")));
    };
    let named = |name: Result<UnitName, NameError>| match name {
        Ok(name) => Ok(name),
        Err(error) => Err(Said::from(format!("{text} is not a unit's name: {error}"))),
    };
    match (suffix, Kind::of(suffix)) {
        ("service", _) => named(UnitName::parse(stem)).map(Target::Service),
        // A timer or socket that is not here may be one of systemd's own.
        (_, Some(Kind::Timer | Kind::Socket)) => named(UnitName::parse(text)).map(Target::Service),
        (_, Some(kind)) => named(UnitName::parse(stem)).map(|_| Target::File(kind, stem.to_owned())),
        ("target", _) => Ok(Target::Milestone(text.to_owned())),
        ("build" | "kube", _) => {
            let why = REFUSED.iter().find(|(known, _)| *known == suffix).map_or("", |(_, why)| why);
            Err(Said { text: format!("{text} cannot be honoured here: {why}"), suggestion: form(why) })
        }
        ("device" | "mount" | "automount" | "swap" | "path" | "slice" | "scope", _) if !is_template(stem) => {
            Ok(Target::Foreign(text.to_owned()))
        }
        _ => {
            let suffixes = KINDS.map(Kind::suffix).into_iter().chain(["service", "target"]);
            let near = nearest(suffix, suffixes).map(|near| format!("{stem}.{near}"));
            Err(Said::guess(format!("{text} does not end in .container, .service or .target"), near, ""))
        }
    }
}

/// `Wants=` alone pulls the target in, which the system does anyway; only the order counts.
pub(super) fn after_network_online(links: &[Link]) -> bool {
    links.iter().any(|l| l.kind == LinkKind::After && l.target == Target::Milestone("network-online.target".to_owned()))
}

/// Which targets' start is the unit's.
pub(in crate::unit) fn boot_targets(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Timer => &["default.target", "multi-user.target", "timers.target"],
        Kind::Socket => &["default.target", "multi-user.target", "sockets.target"],
        _ => &["default.target", "multi-user.target"],
    }
}

pub(super) fn enabled(links: &[Link], kind: Kind) -> bool {
    let boot =
        |link: &Link| matches!(&link.target, Target::Milestone(name) if boot_targets(kind).contains(&name.as_str()));
    links.iter().any(|link| link.kind.is_install() && boot(link))
}

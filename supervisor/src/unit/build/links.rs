//! `After=`, `Before=`, `Requires=`, `Wants=`, `WantedBy=`, `RequiredBy=`: names of units and targets.

use std::rc::Rc;

use crate::unit::{NameError, Problem, UnitName, sheet::Sheet, text::Text, words::Word};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::unit) enum LinkKind {
    After,
    Before,
    Requires,
    Wants,
    WantedBy,
    RequiredBy,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::unit) enum Target {
    /// A container of this machine. `declared`: named as `x.container`, which Quadlet requires to exist.
    Unit { name: UnitName, declared: bool },
    /// One of systemd's targets, with its suffix.
    Milestone(String),
    /// A systemd unit of a kind that this system does not have.
    Foreign(String),
}

/// One name in one of these keys.
#[derive(Debug, Clone)]
pub(in crate::unit) struct Link {
    pub(in crate::unit) kind: LinkKind,
    pub(in crate::unit) target: Target,
    value: Rc<Text>,
    word: Word,
}

impl Link {
    pub(in crate::unit) fn error(&self, text: impl Into<String>) -> Problem {
        self.value.error(&self.word.range, text)
    }

    pub(in crate::unit) fn warning(&self, text: impl Into<String>) -> Problem {
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
    pub(in crate::unit) fn key(self) -> &'static str {
        match self {
            Self::After => "After",
            Self::Before => "Before",
            Self::Requires => "Requires",
            Self::Wants => "Wants",
            Self::WantedBy => "WantedBy",
            Self::RequiredBy => "RequiredBy",
        }
    }

    fn section(self) -> &'static str {
        if matches!(self, Self::WantedBy | Self::RequiredBy) { "Install" } else { "Unit" }
    }
}

const KINDS: [LinkKind; 6] =
    [LinkKind::After, LinkKind::Before, LinkKind::Requires, LinkKind::Wants, LinkKind::WantedBy, LinkKind::RequiredBy];

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

pub(super) fn links(sheet: &mut Sheet) -> Vec<Link> {
    let mut links = Vec::new();
    for kind in KINDS {
        for (value, word) in sheet.all_words(kind.section(), kind.key()) {
            match target(&word.text) {
                Ok(target) => links.push(Link { kind, target, value, word }),
                Err(text) => sheet.error_at(&value, &word, text),
            }
        }
    }
    links
}

fn target(text: &str) -> Result<Target, String> {
    let Some((_, suffix)) = text.rsplit_once('.') else {
        return Err(format!("{text} has no suffix; write {text}.container for a container of this machine"));
    };
    match suffix {
        "container" | "service" => match UnitName::parse(text) {
            Ok(name) => Ok(Target::Unit { name, declared: suffix == "container" }),
            Err(NameError::Template) => Err(NameError::Template.to_string()),
            Err(error) => Err(format!("{text} is not a unit's name: {error}")),
        },
        "target" if TARGETS.contains(&text) => Ok(Target::Milestone(text.to_owned())),
        "target" => {
            let near = crate::unit::nearest::nearest(text, TARGETS.into_iter());
            let guess = near.map_or(String::new(), |near| format!("; did you mean {near}?"));
            Err(format!("unknown target {text}{guess}"))
        }
        "volume" | "network" | "pod" | "image" | "build" | "kube" => {
            Err(format!("{text}: .{suffix} files are known, not available in this version"))
        }
        "socket" | "device" | "mount" | "automount" | "swap" | "path" | "timer" | "slice" | "scope" => {
            Ok(Target::Foreign(text.to_owned()))
        }
        _ => Err(format!("{text} does not end in .container, .service or .target")),
    }
}

/// `Wants=` alone pulls the target in, which the system does anyway; only the order counts.
pub(super) fn after_network_online(links: &[Link]) -> bool {
    links.iter().any(|l| l.kind == LinkKind::After && l.target == Target::Milestone("network-online.target".to_owned()))
}

pub(super) fn enabled(links: &[Link]) -> bool {
    links.iter().any(|link| {
        matches!(link.kind, LinkKind::WantedBy | LinkKind::RequiredBy)
            && matches!(&link.target, Target::Milestone(name) if name == "default.target" || name == "multi-user.target")
    })
}

//! The kinds of unit files, and what a file's name says.

use super::UnitName;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    Container,
    Volume,
    Network,
    Image,
    Pod,
    Timer,
    Socket,
}

use Kind::{Container, Image, Network, Pod, Socket, Timer, Volume};

pub(super) const KINDS: [Kind; 7] = [Container, Volume, Network, Image, Pod, Timer, Socket];

/// Of Quadlet and systemd, and never of this system: what to write instead.
pub(super) const REFUSED: [(&str, &str); 9] = [
    ("kube", "there is no Kubernetes here; write a .container file for each container of the pod"),
    ("build", "images are built elsewhere; write the built image's name in Image="),
    ("path", "there are no path units; a .timer or the container itself can look"),
    ("mount", "the state partition is mounted by the system; a .volume or Volume=/path:/path is a folder of it"),
    ("automount", "the state partition is mounted by the system"),
    ("swap", "the machine has no swap"),
    ("slice", "each container has its own cgroup; write the limits in its [Service]"),
    ("quadlets", "write a file of its own for each unit in it"),
    ("artifact", "artifacts are not pulled here; pack the files as an image"),
];

impl Kind {
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Container => "container",
            Volume => "volume",
            Network => "network",
            Image => "image",
            Pod => "pod",
            Timer => "timer",
            Socket => "socket",
        }
    }

    pub(super) fn of(suffix: &str) -> Option<Self> {
        KINDS.into_iter().find(|kind| kind.suffix() == suffix)
    }

    /// The section that makes a file one of this kind, and all that it may have.
    pub(super) fn section(self) -> &'static str {
        self.sections()[0]
    }

    pub(super) fn sections(self) -> &'static [&'static str] {
        match self {
            Container => &["Container", "Unit", "Service", "Install", "Quadlet"],
            Volume => &["Volume", "Unit", "Service", "Install", "Quadlet"],
            Network => &["Network", "Unit", "Service", "Install", "Quadlet"],
            Image => &["Image", "Unit", "Service", "Install", "Quadlet"],
            Pod => &["Pod", "Unit", "Service", "Install", "Quadlet"],
            Timer => &["Timer", "Unit", "Install"],
            Socket => &["Socket", "Unit", "Install"],
        }
    }

    /// Whether Podman takes quotes off whole values of the section.
    pub(super) fn is_quadlet(section: &str) -> bool {
        matches!(section, "Container" | "Volume" | "Network" | "Image" | "Pod" | "Quadlet")
    }

    /// The name that the unit has among all, given the stem of its file: systemd's service, and a timer's or socket's whole name.
    pub(super) fn node(self, stem: &str) -> String {
        match self {
            Container => stem.to_owned(),
            Volume | Network | Image | Pod => match template_of(stem) {
                Some(template) => {
                    format!("{}-{}@{}", template.trim_end_matches('@'), self.suffix(), &stem[template.len()..])
                }
                None => format!("{stem}-{}", self.suffix()),
            },
            Timer | Socket => format!("{stem}.{}", self.suffix()),
        }
    }

    /// Backwards, where the name is the usual one.
    pub(super) fn stem(self, node: &UnitName) -> String {
        let name = node.as_str();
        let (prefix, instance) = name.find('@').map_or((name, ""), |at| name.split_at(at));
        let prefix = prefix.strip_suffix(self.suffix()).and_then(|prefix| prefix.strip_suffix('-')).unwrap_or(prefix);
        format!("{prefix}{instance}")
    }

    /// `%n`: with systemd's suffix.
    pub(super) fn full(self, node: &UnitName) -> String {
        if matches!(self, Timer | Socket) { node.to_string() } else { format!("{node}.service") }
    }
}

/// `web@` of `web@blue`.
pub(super) fn template_of(stem: &str) -> Option<&str> {
    let at = stem.find('@')?;
    (at + 1 < stem.len()).then(|| &stem[..=at])
}

pub(super) fn is_template(stem: &str) -> bool {
    stem.find('@').is_some_and(|at| at + 1 == stem.len())
}

/// The stem as an instance of a template means it: `data@` is that of the same instance, podman-systemd.unit(5).
pub(super) fn of_instance(stem: &str, instance: Option<&str>) -> String {
    match instance {
        Some(instance) if is_template(stem) => format!("{stem}{instance}"),
        _ => stem.to_owned(),
    }
}

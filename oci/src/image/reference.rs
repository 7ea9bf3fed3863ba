//! Names of images, in the one full form everything else uses.

use std::fmt;
use std::str::FromStr;

use super::digest::{Digest, DigestError};

/// `registry/path[:tag][@digest]`, normalised: `docker.io/library/nginx:1.27`, `localhost/demo:latest`.
///
/// A short name (`nginx`, `someone/thing`) is an error that shows the full name to write: which registry a short name
/// means depends on the machine that reads it, so a unit file with one could not be moved. `latest` is filled in when
/// there is neither a tag nor a digest, as everywhere.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    registry: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Longest name and tag the distribution spec allows.
const NAME_MAX: usize = 255;
const TAG_MAX: usize = 128;

impl Reference {
    /// Host and port, `docker.io` for Docker Hub.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository below the registry.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Absent only when a digest pins the image.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Whether a text may stand behind the colon.
    pub(super) fn is_tag(text: &str) -> bool {
        let mut bytes = text.bytes();
        text.len() <= TAG_MAX
            && bytes.next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_')
            && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.path)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// Why a text names no image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReferenceError {
    Empty,
    ShortName { text: String, full: String },
    Transport { text: String, transport: String },
    Registry { text: String, registry: String },
    Uppercase { text: String, lower: String },
    Path { text: String, component: String },
    TooLong { text: String },
    Tag { text: String, tag: String },
    Digest { text: String, source: DigestError },
}

impl fmt::Display for ReferenceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Empty => return f.write_str("the image name is empty: write registry/path:tag"),
            Self::ShortName { text, .. }
            | Self::Transport { text, .. }
            | Self::Registry { text, .. }
            | Self::Uppercase { text, .. }
            | Self::Path { text, .. }
            | Self::TooLong { text }
            | Self::Tag { text, .. }
            | Self::Digest { text, .. } => text,
        };
        let shown: String = text.chars().take(NAME_MAX).collect();
        write!(f, "image `{}`: ", shown.escape_debug())?;
        match self {
            Self::Empty => Ok(()),
            Self::ShortName { full, .. } => {
                write!(f, "a short name means another image on another machine; write the full name, here `{full}`")
            }
            Self::Transport { transport, .. } => write!(
                f,
                "`{transport}:` is known, not available in this version; preload the image and write its full name"
            ),
            Self::Registry { registry, .. } => {
                write!(f, "`{}` is not a registry's host[:port]", registry.escape_debug())
            }
            Self::Uppercase { lower, .. } => write!(f, "names are lower case; write `{lower}`"),
            Self::Path { component, .. } => write!(
                f,
                "`{}` is not a path component (lower-case letters and digits, separated by `.`, `_`, `__` or `-`)",
                component.escape_debug()
            ),
            Self::TooLong { .. } => write!(f, "a name has at most {NAME_MAX} characters"),
            Self::Tag { tag, .. } => write!(
                f,
                "`{}` is not a tag (letters, digits, `_`, `.`, `-`; at most {TAG_MAX}; not first `.` or `-`)",
                tag.escape_debug()
            ),
            Self::Digest { source, .. } => write!(f, "{source}"),
        }
    }
}

impl std::error::Error for ReferenceError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Digest { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        refuse_transport(text)?;
        let (rest, digest) = match text.split_once('@') {
            None => (text, None),
            Some((rest, digest)) => {
                let digest = digest.parse().map_err(|source| ReferenceError::Digest { text: text.into(), source })?;
                (rest, Some(digest))
            }
        };
        // A colon is a tag's only behind the last slash; before it, it is a port's.
        let last = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match rest[last..].split_once(':') {
            None => (rest, None),
            Some((before, tag)) => (&rest[..last + before.len()], Some(tag)),
        };
        if let Some(tag) = tag
            && !Self::is_tag(tag)
        {
            return Err(ReferenceError::Tag { text: text.into(), tag: tag.into() });
        }
        if name.len() > NAME_MAX {
            return Err(ReferenceError::TooLong { text: text.into() });
        }
        let (registry, path) = match name.split_once('/') {
            Some((first, path)) if first.contains(['.', ':']) || first == "localhost" => (first, path),
            _ => {
                check_path(text, name)?;
                let library = if name.contains('/') { "" } else { "library/" };
                let latest = if tag.is_none() && digest.is_none() { ":latest" } else { "" };
                return Err(ReferenceError::ShortName {
                    text: text.into(),
                    full: format!("docker.io/{library}{text}{latest}"),
                });
            }
        };
        check_registry(text, registry)?;
        check_path(text, path)?;
        let registry = if registry == "index.docker.io" { "docker.io" } else { registry };
        let library = if registry == "docker.io" && !path.contains('/') { "library/" } else { "" };
        let tag = match (tag, &digest) {
            (None, None) => Some("latest"),
            (tag, _) => tag,
        };
        Ok(Self { registry: registry.into(), path: format!("{library}{path}"), tag: tag.map(Into::into), digest })
    }
}

/// Podman's other sources of an image, refused by name so that nobody reads `oci:` as a repository.
fn refuse_transport(text: &str) -> Result<(), ReferenceError> {
    const TRANSPORTS: [&str; 9] = [
        "docker://",
        "oci",
        "oci-archive",
        "docker-archive",
        "docker-daemon",
        "dir",
        "containers-storage",
        "sif",
        "ostree",
    ];
    for transport in TRANSPORTS {
        let behind = text.strip_prefix(transport.trim_end_matches("://")).and_then(|rest| rest.strip_prefix(':'));
        // `oci:1.0` could be somebody's image of that name; a path or a second colon makes it a transport.
        if behind.is_some_and(|rest| rest.contains('/') || rest.contains(':')) {
            return match text.strip_prefix("docker://") {
                Some(rest) => Err(ReferenceError::ShortName { text: text.into(), full: rest.into() }),
                None => Err(ReferenceError::Transport { text: text.into(), transport: transport.into() }),
            };
        }
    }
    Ok(())
}

fn check_registry(text: &str, registry: &str) -> Result<(), ReferenceError> {
    let bad = || ReferenceError::Registry { text: text.into(), registry: registry.into() };
    let (host, port) = match registry.rsplit_once(':') {
        Some((host, port)) if !registry.ends_with(']') => (host, Some(port)),
        _ => (registry, None),
    };
    if port.is_some_and(|port| port.parse::<u16>().is_err() || port.starts_with('+')) {
        return Err(bad());
    }
    let good = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.split('.').all(|label| {
            !label.is_empty()
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        }),
    };
    if good { Ok(()) } else { Err(bad()) }
}

fn check_path(text: &str, path: &str) -> Result<(), ReferenceError> {
    for component in path.split('/') {
        if is_component(component) {
            continue;
        }
        if is_component(&component.to_ascii_lowercase()) {
            return Err(ReferenceError::Uppercase { text: text.into(), lower: path.to_ascii_lowercase() });
        }
        return Err(ReferenceError::Path { text: text.into(), component: component.into() });
    }
    Ok(())
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(component: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let mut rest = component.as_bytes();
    loop {
        let length = rest.iter().take_while(|b| word(**b)).count();
        if length == 0 {
            return false;
        }
        rest = &rest[length..];
        if rest.is_empty() {
            return true;
        }
        let length = rest.iter().take_while(|b| !word(**b)).count();
        match &rest[..length] {
            b"." | b"_" | b"__" => {}
            dashes if dashes.iter().all(|b| *b == b'-') => {}
            _ => return false,
        }
        rest = &rest[length..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_names_are_normalised() {
        let hex = "0".repeat(64);
        for (text, full) in [
            ("docker.io/nginx", "docker.io/library/nginx:latest"),
            ("docker.io/library/nginx:1.27", "docker.io/library/nginx:1.27"),
            ("index.docker.io/a/b", "docker.io/a/b:latest"),
            ("localhost/demo", "localhost/demo:latest"),
            ("localhost:5000/a", "localhost:5000/a:latest"),
            ("[::1]:5000/a/b:t", "[::1]:5000/a/b:t"),
            ("ghcr.io/x/y_z/a--b:T.1", "ghcr.io/x/y_z/a--b:T.1"),
            (&format!("ghcr.io/x/y@sha256:{hex}"), &format!("ghcr.io/x/y@sha256:{hex}")),
            (&format!("ghcr.io/x/y:1@sha256:{hex}"), &format!("ghcr.io/x/y:1@sha256:{hex}")),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.to_string(), full);
            assert_eq!(full.parse::<Reference>().unwrap(), reference);
        }
    }

    #[test]
    fn short_names_show_the_full_one() {
        for (text, full) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.27", "docker.io/library/nginx:1.27"),
            ("grafana/grafana", "docker.io/grafana/grafana:latest"),
            ("docker://quay.io/x/y:1", "quay.io/x/y:1"),
        ] {
            let error = text.parse::<Reference>().unwrap_err();
            assert!(error.to_string().contains(&format!("`{full}`")), "{error}");
        }
    }

    #[test]
    fn what_is_not_a_name() {
        for bad in [
            "",
            "a.b/",
            "a.b//c",
            "a.b/../c",
            "a.b/c:",
            "a.b/c:-t",
            "a.b/c@sha256:1",
            "a.b/c@",
            "a.b/C",
            "a.b:x/c",
            "a..b/c",
            "-a.b/c",
            "a.b/c d",
            "a.b/c\n",
            "a.b/___c",
            "oci:/var/lib/x",
            "docker-archive:/x.tar",
            &format!("a.b/{}", "c".repeat(300)),
            &format!("a.b/c:{}", "t".repeat(129)),
        ] {
            let error = bad.parse::<Reference>().unwrap_err().to_string();
            assert!(!error.contains('\n'), "{error}");
        }
    }
}

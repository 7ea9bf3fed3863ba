//! What a machine as a whole is told, beside its units: `orlop.conf` in a folder of unit files, in their syntax. A later folder's
//! assignment replaces an earlier one's.

use std::{fmt, path::Path};

use super::{Problem, Said, nearest::nearest, source, syntax, text::Text, values};

pub(super) const FILE: &str = "orlop.conf";
const SECTION: &str = "Logs";
/// journald.conf(5)'s word, and ours.
const KEYS: [&str; 2] = ["SystemMaxUse", "Forward"];

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// `SystemMaxUse=`: what all logs together may take on the disk.
    pub max_log_bytes: Option<u64>,
    /// `Forward=`: where every line of every log is sent too, as RFC 5424.
    pub forward: Vec<Endpoint>,
}

/// `udp://host:port`, `tcp://host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub tcp: bool,
    /// Host and port; brackets around an IPv6 address.
    pub address: String,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tcp { "tcp" } else { "udp" }, self.address)
    }
}

/// What the files of these folders say.
pub(super) fn read(folders: &[&Path], problems: &mut Vec<Problem>) -> Options {
    let mut options = Options::default();
    for path in folders.iter().map(|folder| folder.join(FILE)).filter(|path| path.exists()) {
        match source::read(&path) {
            Ok(bytes) => take(&path, &bytes, &mut options, problems),
            Err((severity, text)) => problems.push(source::whole(&path, severity, text)),
        }
    }
    options
}

fn take(path: &Path, bytes: &[u8], options: &mut Options, problems: &mut Vec<Problem>) {
    let document = syntax::parse(path, bytes);
    problems.extend(document.problems);
    for section in document.sections.iter().filter(|section| section.text != SECTION) {
        let text = format!("unknown section [{}]; there is [{SECTION}]", section.text);
        problems.push(section.error(&section.whole(), text));
    }
    for assignment in document.assignments.iter().filter(|assignment| assignment.section.text == SECTION) {
        let (key, value) = (&assignment.key, &assignment.value);
        if let Err(text) = assign(options, &key.text, value) {
            let at: &Text = if KEYS.contains(&key.text.as_str()) { value } else { key };
            problems.push(at.error(&at.whole(), text));
        }
    }
}

fn assign(options: &mut Options, key: &str, value: &Text) -> Result<(), Said> {
    let text = value.text.as_str();
    match key {
        "SystemMaxUse" if text.is_empty() => options.max_log_bytes = None,
        "SystemMaxUse" => {
            let bytes = values::size(text).map_err(|expected| format!("{key}={text}: {expected}"))?;
            options.max_log_bytes = Some(bytes);
        }
        "Forward" if text.is_empty() => options.forward.clear(),
        "Forward" => {
            let endpoint = endpoint(text).ok_or_else(|| {
                format!("{key}={text}: expected udp:// or tcp://, a host and a port, such as udp://192.0.2.1:514")
            })?;
            options.forward.push(endpoint);
        }
        _ => {
            let near = nearest(key, KEYS.into_iter()).map(|near| format!("{near}="));
            return Err(Said::guess(format!("unknown key {key}= in [{SECTION}]"), near, ""));
        }
    }
    Ok(())
}

fn endpoint(text: &str) -> Option<Endpoint> {
    let (protocol, address) = text.split_once("://")?;
    let tcp = match protocol {
        "tcp" => true,
        "udp" => false,
        _ => return None,
    };
    let (host, port) = address.rsplit_once(':')?;
    let plain = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let good = match plain {
        Some(ip) => ip.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_')),
    };
    let port: u16 = port.parse().ok()?;
    (good && port > 0).then(|| Endpoint { tcp, address: address.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> (Options, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), text).unwrap();
        let set = crate::unit::load(&[folder.path()], &Default::default());
        let base = format!("{}/", folder.path().display());
        (set.options, set.problems.iter().map(|problem| problem.to_string().replace(&base, "")).collect())
    }

    #[test]
    fn the_machines_options_are_read_and_mistakes_have_places() {
        let text = "[Logs]\nSystemMaxUse=500M\nForward=udp://192.0.2.1:514\nForward=tcp://[2001:db8::1]:6514\n";
        let (options, problems) = read_text(text);
        assert_eq!((options.max_log_bytes, problems), (Some(500 << 20), vec![]));
        let forward: Vec<String> = options.forward.iter().map(ToString::to_string).collect();
        assert_eq!(forward, ["udp://192.0.2.1:514", "tcp://[2001:db8::1]:6514"]);
        let (options, problems) = read_text(
            "[Logs]\nForward=syslog.example.com\nForward=udp://a b:1\nForwrd=x\nSystemMaxUse=much\n[Journal]\nForward=udp://h:1\n",
        );
        assert_eq!(options, Options::default());
        let expected = [
            "orlop.conf:6:2: unknown section [Journal]; there is [Logs]",
            "orlop.conf:2:9: Forward=syslog.example.com: expected udp:// or tcp://",
            "orlop.conf:3:9: Forward=udp://a b:1: expected",
            "orlop.conf:4:1: unknown key Forwrd= in [Logs]; did you mean Forward=?",
            "orlop.conf:5:14: SystemMaxUse=much: ",
        ];
        assert_eq!(problems.len(), expected.len(), "{problems:#?}");
        for expected in expected {
            assert!(problems.iter().any(|problem| problem.contains(expected)), "{expected} in {problems:#?}");
        }
    }
}

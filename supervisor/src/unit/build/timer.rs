//! `[Timer]` and `[Socket]`.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use super::{Claim, Hosts, Link, Target, health::number, links};
use crate::unit::{
    Listen, ListenAddress, ListenKind, Protocol, Said, SocketSpec, Starts, TimerSpec, Trigger, UnitName,
    calendar::Calendar, keys::TIMES, sheet::Sheet, text::Text, values,
};

pub(super) fn timer(path: &Path, stem: &str, sheet: &mut Sheet<'_>, links: &mut Vec<Link>) -> TimerSpec {
    let mut triggers = Vec::new();
    // What is written wrongly is not missing as well.
    let mut said = false;
    for (key, value) in sheet.in_order("Timer", &TIMES) {
        said = true;
        if key == "OnCalendar" {
            match Calendar::parse(&value.text) {
                Ok(calendar) => {
                    if calendar.next_after(0).is_none() {
                        sheet.warning(&value, format!("{key}={}: there is no such day, it never comes", value.text));
                    }
                    triggers.push(Trigger::Calendar(calendar));
                }
                Err(fault) => sheet.error_in(&value, &fault.range, format!("{key}={}: {}", value.text, fault.text)),
            }
            continue;
        }
        match values::finite(&value.text) {
            Ok(span) => triggers.push(match key {
                "OnActiveSec" => Trigger::Active(span),
                "OnBootSec" => Trigger::Boot(span),
                "OnStartupSec" => Trigger::Startup(span),
                "OnUnitActiveSec" => Trigger::UnitActive(span),
                _ => Trigger::UnitInactive(span),
            }),
            Err(text) => sheet.error(&value, format!("{key}={}: {text}", value.text)),
        }
    }
    if !said && sheet.has_main() {
        sheet.missing(path, "no time to start at; write OnCalendar=, such as OnCalendar=daily, or On…Sec=");
    }
    let span = |key, sheet: &mut Sheet<'_>| sheet.read("Timer", key, values::finite);
    let flag = |key, sheet: &mut Sheet<'_>| sheet.read("Timer", key, values::boolean);
    // systemd.timer(5) on both: it says of which settings.
    let persistent = flag("Persistent", sheet).unwrap_or(false);
    if persistent && sheet.all("Timer", "OnCalendar").is_empty() {
        sheet.useless(("Timer", "Persistent"), "OnCalendar=");
    }
    let fixed_delay = flag("FixedRandomDelay", sheet).unwrap_or(false);
    if fixed_delay && sheet.last("Timer", "RandomizedDelaySec").is_none() {
        sheet.useless(("Timer", "FixedRandomDelay"), "RandomizedDelaySec=");
    }
    TimerSpec {
        triggers,
        unit: started(path, stem, ("Timer", "Unit"), sheet, links),
        accuracy: span("AccuracySec", sheet).unwrap_or(Duration::from_secs(60)),
        random_delay: span("RandomizedDelaySec", sheet).unwrap_or_default(),
        fixed_delay,
        random_offset: span("RandomizedOffsetSec", sheet).unwrap_or_default(),
        persistent,
        remain_after_elapse: flag("RemainAfterElapse", sheet).unwrap_or(true),
        defer_reactivation: flag("DeferReactivation", sheet).unwrap_or(false),
    }
}

/// What the key says, or the unit of the same name.
fn started(
    path: &Path,
    stem: &str,
    (section, key): (&'static str, &'static str),
    sheet: &mut Sheet<'_>,
    all: &mut Vec<Link>,
) -> UnitName {
    let mut values = sheet.every(section, key);
    if values.is_empty() {
        let mut text = Text::new(Rc::from(path));
        text.push(&format!("{stem}.service"), 0, 0);
        values.push(Rc::new(text));
    }
    let mut last = (sheet.scope.node.clone(), Vec::new());
    for value in values {
        let mut links = Vec::new();
        last = (one_started(stem, key, &value, sheet, &mut links), links);
    }
    all.append(&mut last.1);
    last.0
}

fn one_started(
    stem: &str,
    key: &'static str,
    value: &Rc<Text>,
    sheet: &mut Sheet<'_>,
    all: &mut Vec<Link>,
) -> UnitName {
    let (own, kind) = (sheet.scope.node.clone(), sheet.scope.kind);
    match links::target(&value.text) {
        // systemd.timer(5): of a unit "whose suffix is not .timer"; systemd.socket(5): "the name of a service unit".
        Ok(Target::Service(name)) if name.as_str().ends_with(".timer") || name.as_str().ends_with(".socket") => {
            let text =
                format!("{key}={}: a .{} starts a container, such as {stem}.container", value.text, kind.suffix());
            sheet.error(value, text);
            own
        }
        Ok(target @ (Target::Service(_) | Target::File(..))) => {
            let name = match &target {
                Target::File(kind, stem) => UnitName::parse(&kind.node(stem)).unwrap_or(own),
                Target::Service(name) => name.clone(),
                Target::Named(_) | Target::Network(_) | Target::Milestone(_) | Target::Foreign(_) => own,
            };
            all.push(links::triggers(value, key, target));
            name
        }
        Ok(_) => {
            sheet.error(value, format!("{key}={}: expected a container, such as {stem}.container", value.text));
            own
        }
        Err(text) => {
            sheet.error(value, Said { text: format!("{key}={}", text.text), ..text });
            own
        }
    }
}

const LISTEN: [(&str, ListenKind); 4] = [
    ("ListenStream", ListenKind::Stream),
    ("ListenDatagram", ListenKind::Datagram),
    ("ListenSequentialPacket", ListenKind::SequentialPacket),
    ("ListenFIFO", ListenKind::Fifo),
];

pub(super) fn socket(
    path: &Path,
    stem: &str,
    sheet: &mut Sheet<'_>,
    links: &mut Vec<Link>,
    claims: &mut Vec<Claim>,
) -> SocketSpec {
    let mut listen = Vec::new();
    let mut said = false;
    // systemd.socket(5): the sockets "are passed in the order of configuration".
    for (key, value) in sheet.in_order("Socket", &LISTEN.map(|(key, _)| key)) {
        said = true;
        let Some((_, kind)) = LISTEN.into_iter().find(|(of, _)| *of == key) else { continue };
        match address(&value.text, kind) {
            Ok(address) => {
                if matches!(address, ListenAddress::Vsock(..)) {
                    sheet.unavailable(&value, format!("{key}={}: known, not available in this version", value.text));
                }
                claims.extend(claim(key, kind, &address, &value));
                listen.push(Listen { kind, address });
            }
            Err(text) => sheet.error(&value, format!("{key}={}: {text}", value.text)),
        }
    }
    if !said && sheet.has_main() {
        sheet.missing(path, "nothing to listen on; write ListenStream=, such as ListenStream=8080");
    }
    let accept = sheet.read("Socket", "Accept", values::boolean).unwrap_or(false);
    let starts = if accept {
        // systemd.socket(5): then Service= must not be written.
        if let Some(value) = sheet.last("Socket", "Service") {
            sheet.error(&value, format!("with Accept=yes each connection has its own instance of {stem}@.container"));
        }
        Starts::Instances(format!("{stem}@"))
    } else {
        Starts::Unit(started(path, stem, ("Socket", "Service"), sheet, links))
    };
    let mode = |key, sheet: &mut Sheet<'_>| {
        sheet.read("Socket", key, |text| {
            u32::from_str_radix(text, 8)
                .ok()
                .filter(|m| *m <= 0o7777)
                .ok_or("expected a file mode in octal digits, such as 0660")
        })
    };
    let count = |key, sheet: &mut Sheet<'_>| sheet.read("Socket", key, number);
    let id = |key, sheet: &mut Sheet<'_>| sheet.read("Socket", key, owner);
    for key in ["MaxConnectionsPerSource", "TriggerLimitBurst", "PollLimitBurst"] {
        count(key, sheet);
    }
    sheet.text("Socket", "BindToDevice");
    SocketSpec {
        listen,
        starts,
        fd_name: sheet.read("Socket", "FileDescriptorName", fd_name).unwrap_or_else(|| format!("{stem}.socket")),
        owner: (id("SocketUser", sheet), id("SocketGroup", sheet)),
        mode: mode("SocketMode", sheet).unwrap_or(0o666),
        directory_mode: mode("DirectoryMode", sheet).unwrap_or(0o755),
        backlog: count("Backlog", sheet).unwrap_or(4096),
        max_connections: count("MaxConnections", sheet).unwrap_or(64),
        links: sheet.all_names("Socket", "Symlinks").into_iter().map(|(_, word)| PathBuf::from(word.text)).collect(),
    }
}

/// The names of several are told with colons between them.
fn fd_name(text: &str) -> Result<String, &'static str> {
    let valid = values::is_fd_name(text).then(|| text.to_owned());
    valid.ok_or("expected at most 255 letters, digits and signs of ASCII without a colon")
}

/// What the kernel, or the file system, gives to one only.
fn claim(key: &'static str, kind: ListenKind, address: &ListenAddress, at: &Rc<Text>) -> Option<Claim> {
    let at = Rc::clone(at);
    Some(match address {
        // BindIPv6Only= not being there, IPv6's any address takes IPv4's too (systemd.socket(5), ipv6(7)).
        ListenAddress::Ip(ip, port) => {
            let hosts = match ip.map(|ip| ip.to_canonical()) {
                None => Hosts::All,
                Some(ip) if ip.is_unspecified() => {
                    if ip.is_ipv4() {
                        Hosts::All4
                    } else {
                        Hosts::All
                    }
                }
                Some(ip) => Hosts::One(ip),
            };
            let protocol = if kind == ListenKind::Datagram { Protocol::Udp } else { Protocol::Tcp };
            Claim::Port { key, hosts, protocol, first: *port, last: *port, at }
        }
        ListenAddress::Path(path) => {
            // Written in two ways it is one file.
            let name = path.components().collect::<PathBuf>().display().to_string();
            Claim::Name { what: "socket", name, at: Some(at) }
        }
        // Those of each type have names of their own (unix(7), net/unix/af_unix.c).
        ListenAddress::Abstract(name) => {
            let what = match kind {
                ListenKind::Datagram => "datagram socket",
                ListenKind::SequentialPacket => "sequential-packet socket",
                ListenKind::Stream | ListenKind::Fifo => "stream socket",
            };
            Claim::Name { what, name: format!("@{name}"), at: Some(at) }
        }
        ListenAddress::Vsock(..) => return None,
    })
}

fn owner(text: &str) -> Result<u32, &'static str> {
    // The last number means nobody to chown(2).
    let number = if text == "root" { Some(0) } else { text.parse().ok() };
    number.filter(|id| *id < u32::MAX).ok_or("expected a number: the machine has no users and groups with names")
}

/// systemd.socket(5), `ListenStream=`.
fn address(text: &str, kind: ListenKind) -> Result<ListenAddress, &'static str> {
    const FORM: &str = "expected a port, an address with a port, or an absolute path";
    if text.starts_with('/') {
        return if text.len() < 108 {
            Ok(ListenAddress::Path(text.into()))
        } else {
            Err("the path of a socket has at most 107 bytes")
        };
    }
    if kind == ListenKind::Fifo {
        return Err("expected an absolute path");
    }
    if let Some(name) = text.strip_prefix('@').filter(|name| !name.is_empty()) {
        return Ok(ListenAddress::Abstract(name.to_owned()));
    }
    if kind == ListenKind::SequentialPacket && !text.starts_with("vsock:") {
        return Err("expected a path, or @ and a name");
    }
    if let Some(rest) = text.strip_prefix("vsock:") {
        let (cid, port) = rest.split_once(':').ok_or(FORM)?;
        let cid = if cid.is_empty() { None } else { Some(cid.parse().map_err(|_| FORM)?) };
        return Ok(ListenAddress::Vsock(cid, port.parse().map_err(|_| FORM)?));
    }
    let (ip, port) = match text.rsplit_once(':') {
        None => (None, text),
        Some((ip, port)) => {
            let plain = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']'));
            let ip: IpAddr = plain.unwrap_or(ip).parse().map_err(|_| FORM)?;
            // Without brackets one could not tell the port from the address.
            if ip.is_ipv6() != plain.is_some() {
                return Err(FORM);
            }
            (Some(ip), port)
        }
    };
    let port = port.parse().ok().filter(|port| *port > 0).ok_or(FORM)?;
    Ok(ListenAddress::Ip(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_an_address() {
        let stream = |text: &str| address(text, ListenKind::Stream);
        assert_eq!(stream("80"), Ok(ListenAddress::Ip(None, 80)));
        assert_eq!(stream("127.0.0.1:80"), Ok(ListenAddress::Ip("127.0.0.1".parse().ok(), 80)));
        assert_eq!(stream("[::1]:80"), Ok(ListenAddress::Ip("::1".parse().ok(), 80)));
        assert_eq!(stream("@x"), Ok(ListenAddress::Abstract("x".into())));
        assert_eq!(stream("vsock::9"), Ok(ListenAddress::Vsock(None, 9)));
        assert!(["", "0", "::1:80", "x", "host:80", "[127.0.0.1]:1", "70000", "@"].iter().all(|t| stream(t).is_err()));
        assert!(address("80", ListenKind::Fifo).is_err() && address("80", ListenKind::SequentialPacket).is_err());
    }
}

//! `Network=`, `PublishPort=`, `ExposeHostPort=`, `IP=`, `NetworkAlias=`, `DNS…=`, `AddHost=`, of containers and of pods.

use std::{collections::BTreeSet, net::IpAddr, rc::Rc};

use super::{Claim, Hosts, Link, links, name};
use crate::unit::{
    Attachment, DEFAULT_NETWORK, Dns, Network, Port, Protocol, Said, UnitName,
    kind::{Kind, of_instance},
    problem::form,
    sheet::Sheet,
    text::Text,
    words::Word,
};

const CHOICES: &str = "write Network=host or Network=none";

/// `links` gets what is named by its file. `None`: nothing is said.
pub(super) fn network(section: &'static str, sheet: &mut Sheet<'_>, links: &mut Vec<Link>) -> Option<Network> {
    let mut chosen: Option<Network> = None;
    let mut wrong = false;
    // Networks, and interfaces.
    let mut seen = BTreeSet::new();
    for value in sheet.all(section, "Network") {
        let found = match one(section, sheet.scope.instance(), &value, links) {
            Ok(found) => found,
            Err(text) => {
                sheet.error(&value, text);
                wrong = true;
                continue;
            }
        };
        chosen = match (chosen, found) {
            (None, found) => {
                if let Network::Bridge(all) = &found {
                    all.iter().for_each(|one| seen.extend([(0, one.network.clone()), (1, one.interface.clone())]));
                }
                Some(found)
            }
            (Some(Network::Bridge(mut all)), Network::Bridge(more)) => {
                for one in &more {
                    if !seen.insert((0, one.network.clone())) {
                        sheet.error(&value, "it is on this network already");
                    } else if one.interface.is_some() && !seen.insert((1, one.interface.clone())) {
                        let text = "interface_name= is the one of another network already; choose another";
                        sheet.error(&value, text);
                    }
                }
                all.extend(more);
                Some(Network::Bridge(all))
            }
            (Some(before), found) if before == found => Some(found),
            (Some(before), _) => {
                sheet.error(&value, "only bridge networks can be combined with another Network=");
                Some(before)
            }
        };
    }
    // What is written wrongly is not missing as well.
    chosen.or(wrong.then_some(Network::None))
}

fn one(section: &str, instance: Option<&str>, value: &Rc<Text>, links: &mut Vec<Link>) -> Result<Network, Said> {
    let (mode, options) = value.text.split_once(':').map_or((value.text.as_str(), None), |(m, o)| (m, Some(o)));
    match mode {
        "host" | "none" if options.is_some() => Err(format!("Network={mode} takes no options").into()),
        "host" => Ok(Network::Host),
        "none" => Ok(Network::None),
        "container" if section == "Container" => {
            let name = options.and_then(|text| name(text).ok()).and_then(|name| UnitName::parse(&name).ok());
            let form =
                "write the other container's name, such as Network=container:web, or its file, Network=web.container";
            let other = name.ok_or_else(|| Said::from(form))?;
            links.push(links::uses_container(value, other.to_string()));
            Ok(Network::Container(other))
        }
        "container" => Err(Said::from("a pod has a network of its own, or the machine's")),
        "pasta" | "slirp4netns" => {
            let text = format!("{mode} is for users' own podman, which this system does not have; {CHOICES}");
            Err(Said { text, suggestion: form(CHOICES) })
        }
        "ns" => {
            let text = format!("the host has no network namespaces of its own; {CHOICES}");
            Err(Said { text, suggestion: form(CHOICES) })
        }
        _ if mode.ends_with(".container") && section == "Container" => {
            links.push(links::uses(value, Word::of(value, 0..mode.len()), Kind::Container, "Network", instance));
            if options.is_some() {
                return Err("another container's network takes no options".into());
            }
            let mode = of_instance(mode.trim_end_matches(".container"), instance);
            UnitName::parse(&mode).map(Network::Container).map_err(|error| format!("Network={mode}: {error}").into())
        }
        // Several names, as podman still takes them.
        _ if options.is_none() && mode.contains(',') && !mode.ends_with(".network") => {
            let mut all: Vec<Attachment> = Vec::new();
            let mut begin = 0;
            for one in mode.split(',') {
                let network = Some(one).filter(|one| !is_default(one)).map(name).transpose();
                let network = network.map_err(|text| format!("Network={one}: {text}"))?;
                if network.is_some() {
                    links.push(links::uses_network(value, Word::of(value, begin..begin + one.len())));
                }
                begin += one.len() + 1;
                if all.iter().all(|before| before.network != network) {
                    all.push(Attachment { network, ..Attachment::default() });
                }
            }
            Ok(Network::Bridge(all))
        }
        _ => {
            let network = match mode {
                _ if is_default(mode) => None,
                _ if mode.ends_with(".network") => {
                    links.push(links::uses(value, Word::of(value, 0..mode.len()), Kind::Network, "Network", instance));
                    Some(mode.to_owned())
                }
                _ => {
                    let name = name(mode).map_err(|text| format!("Network={mode}: {text}"))?;
                    links.push(links::uses_network(value, Word::of(value, 0..mode.len())));
                    Some(name)
                }
            };
            let attachment = attachment(network, options.unwrap_or(""));
            let attachment = attachment.map_err(|text| format!("Network={}: {text}", value.text))?;
            Ok(Network::Bridge(vec![attachment]))
        }
    }
}

/// By its modes and by its name, podman's and the one here.
pub(super) fn is_default(mode: &str) -> bool {
    matches!(mode, "bridge" | "private" | "default" | "podman" | DEFAULT_NETWORK | "")
}

/// `ip=…,mac=…,alias=…` of podman-run(1).
pub(super) fn attachment(network: Option<String>, options: &str) -> Result<Attachment, String> {
    let mut all = Attachment { network, ..Attachment::default() };
    for option in options.split(',').filter(|o| !o.is_empty()) {
        let (key, value) = option.split_once('=').ok_or_else(|| format!("{option} has no value"))?;
        let wrong = |what: &str| format!("{value} is not {what}");
        match key {
            "ip" => all.ip = Some(value.parse().map_err(|_| wrong("an IPv4 address"))?),
            "ip6" => all.ip6 = Some(value.parse().map_err(|_| wrong("an IPv6 address"))?),
            "mac" => {
                let bytes: Vec<&str> = value.split([':', '-']).collect();
                let byte = |b: &str| b.len() == 2 && u8::from_str_radix(b, 16).is_ok();
                if bytes.len() != 6 || !bytes.iter().copied().all(byte) {
                    return Err(wrong("a MAC address"));
                }
                all.mac = Some(bytes.join(":").to_ascii_lowercase());
            }
            "alias" => all.aliases.push(name(value)?),
            "interface_name" if value.len() < 16 => all.interface = Some(name(value)?),
            "interface_name" => return Err("an interface's name has at most 15 characters".to_owned()),
            _ => return Err(format!("unknown option {key}; ip, ip6, mac, alias and interface_name are known")),
        }
    }
    Ok(all)
}

pub(super) fn ports(section: &'static str, sheet: &mut Sheet<'_>, claims: &mut Vec<Claim>) -> Vec<Port> {
    let ports = sheet.each(section, "PublishPort", port);
    for (at, port) in &ports {
        let Some(first) = port.host else { continue };
        // podman-systemd.unit(5): without an address it is IPv4's 0.0.0.0.
        let hosts = match port.host_ip.map(|ip| ip.to_canonical()) {
            None => Hosts::All4,
            Some(ip) if ip.is_unspecified() => {
                if ip.is_ipv4() {
                    Hosts::All4
                } else {
                    Hosts::All6
                }
            }
            Some(ip) => Hosts::One(ip),
        };
        let (protocol, last) = (port.protocol, first.saturating_add(port.count - 1));
        claims.push(Claim::Port { key: "PublishPort", hosts, protocol, first, last, at: Rc::clone(at) });
    }
    ports.into_iter().map(|(_, port)| port).collect()
}

/// `[[ip:][hostPort]:]containerPort[/protocol]`; either port may be a range.
pub(super) fn port(text: &str) -> Result<Port, String> {
    let (ports, protocol) = protocol(text)?;
    let (rest, container) = ports.rsplit_once(':').map_or((None, ports), |(rest, port)| (Some(rest), port));
    let (address, host) = match rest {
        None => (None, ""),
        // The address of IPv6 stands in brackets, and so has colons of its own.
        Some(rest) => match rest.rsplit_once(':') {
            Some((address, _)) if address.contains(':') && !address.starts_with('[') => {
                return Err("an address of IPv6 stands in brackets, such as [::1]:80:80".to_owned());
            }
            Some((address, host)) if !rest.ends_with(']') => (Some(address), host),
            _ if rest.starts_with('[') => {
                return Err("a host port, or nothing and a colon, follows the address".to_owned());
            }
            _ => (None, rest),
        },
    };
    let host_ip = match address.map(|a| a.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(a)) {
        None | Some("") => None,
        Some(address) => Some(address.parse::<IpAddr>().map_err(|_| format!("{address} is not an IP address"))?),
    };
    let (first, last) = range(container)?;
    let count = last - first + 1;
    let host = match host {
        "" => None,
        _ => {
            let (from, to) = range(host)?;
            if to - from + 1 != count {
                return Err("the ranges of host and container are not equally long".to_owned());
            }
            Some(from)
        }
    };
    Ok(Port { host_ip, host, container: first, count, protocol })
}

fn protocol(text: &str) -> Result<(&str, Protocol), String> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    // As podman's checkProtocol has it: whatever the case.
    Ok(match protocol.to_ascii_lowercase().as_str() {
        "tcp" => (ports, Protocol::Tcp),
        "udp" => (ports, Protocol::Udp),
        "sctp" => (ports, Protocol::Sctp),
        _ => return Err(format!("{protocol} is no protocol; tcp, udp and sctp are")),
    })
}

fn range(text: &str) -> Result<(u16, u16), String> {
    let number = |text: &str| {
        let good = text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u16>()
            .ok()
            .filter(|n| good && *n > 0)
            .ok_or_else(|| format!("{text:?} is not a port from 1 to 65535"))
    };
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let (from, to) = (number(from)?, number(to)?);
    if from > to { Err("the range ends before it begins".to_owned()) } else { Ok((from, to)) }
}

pub(super) fn exposed(sheet: &mut Sheet<'_>) -> Vec<(u16, u16, Protocol)> {
    each("Container", "ExposeHostPort", sheet, |text| {
        let (ports, protocol) = protocol(text)?;
        range(ports).map(|(from, to)| (from, to, protocol))
    })
}

/// With `IP=` and `IP6=`, which only a container or pod with a network of its own can have, and more: podman-run(1) discards ports as
/// well.
pub(super) fn addressed(section: &'static str, network: Network, sheet: &mut Sheet<'_>) -> Network {
    let ip = sheet.read(section, "IP", |text| text.parse().map_err(|_| "expected an IPv4 address"));
    let ip6 = sheet.read(section, "IP6", |text| text.parse().map_err(|_| "expected an IPv6 address"));
    let Network::Bridge(mut list) = network else {
        // A pod on the machine's network opens no ports, and hears so.
        let is_told = section == "Pod" && network == Network::Host;
        for key in ["IP", "IP6", "NetworkAlias", "PublishPort"].iter().filter(|key| **key != "PublishPort" || !is_told)
        {
            for value in sheet.all(section, key) {
                sheet.warning(&value, format!("{key}= has no effect here; it is for what is on bridge networks"));
            }
        }
        return network;
    };
    if list.is_empty() && (ip.is_some() || ip6.is_some()) {
        list.push(Attachment::default());
    }
    // podman-run(1): "can only be used if the container is joined to only a single network".
    let has = [list.iter().any(|one| one.ip.is_some()), list.iter().any(|one| one.ip6.is_some())];
    for ((key, option), has) in [("IP", "ip"), ("IP6", "ip6")].into_iter().zip(has) {
        let Some(value) = sheet.last(section, key).filter(|_| list.len() > 1 || has) else { continue };
        let text = if list.len() > 1 {
            format!("{key}= is for one network; of several write Network=x.network:{option}={}", value.text)
        } else {
            format!("{key}={}: Network= has its {option}= already; take one of them away", value.text)
        };
        sheet.error(&value, text);
    }
    if let [only] = list.as_mut_slice() {
        only.ip = only.ip.or(ip);
        only.ip6 = only.ip6.or(ip6);
    }
    Network::Bridge(list)
}

pub(super) fn aliases(section: &'static str, sheet: &mut Sheet<'_>) -> Vec<String> {
    each(section, "NetworkAlias", sheet, |text| name(text).map_err(str::to_owned))
}

/// Every value of a key in its own language; mistakes are reported.
fn each<T>(
    section: &'static str,
    key: &'static str,
    sheet: &mut Sheet<'_>,
    read: impl Fn(&str) -> Result<T, String>,
) -> Vec<T> {
    sheet.each(section, key, read).into_iter().map(|(_, one)| one).collect()
}

pub(super) fn dns(section: &'static str, sheet: &mut Sheet<'_>) -> Dns {
    let servers = each(section, "DNS", sheet, |text| match text {
        "none" => Ok(None),
        _ => text.parse::<IpAddr>().map(Some).map_err(|_| "expected an IP address, or none".to_owned()),
    });
    let none = servers.contains(&None);
    let word = |text: &str| {
        if text.contains(char::is_whitespace) { Err("expected one word".to_owned()) } else { Ok(text.to_owned()) }
    };
    let domain = |text: &str| {
        let fits = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
        if fits { Ok(text.to_owned()) } else { Err("a domain has letters, digits, - and .".to_owned()) }
    };
    let (options, search) = (each(section, "DNSOption", sheet, word), each(section, "DNSSearch", sheet, domain));
    if !none {
        return Dns::Generated { servers: servers.into_iter().flatten().collect(), options, search };
    }
    if servers.len() > 1 || !options.is_empty() || !search.is_empty() {
        for value in sheet.all(section, "DNS").iter().filter(|value| value.text == "none").take(1) {
            sheet.error(value, "DNS=none stands alone: the image's own resolv.conf is not changed");
        }
    }
    Dns::OfImage
}

/// What sethostname(2) and the resolver both take.
pub(super) fn hostname(text: &str) -> Result<String, &'static str> {
    let label = |l: &str| {
        !l.is_empty()
            && l.len() <= 63
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
    };
    if text.len() <= 64 && text.split('.').all(label) {
        Ok(text.to_owned())
    } else {
        Err("a host name has letters, digits, - and ., and at most 64 of them")
    }
}

pub(super) fn hosts(section: &'static str, sheet: &mut Sheet<'_>, network: &Network) -> Vec<(String, Option<IpAddr>)> {
    let mut hosts = Vec::new();
    for value in sheet.all(section, "AddHost") {
        let Some((names, address)) = value.text.trim_matches('"').split_once(':') else {
            sheet.error(&value, "expected a name and an address, such as AddHost=db:192.0.2.1");
            continue;
        };
        let address = match address.trim_start_matches('[').trim_end_matches(']').parse() {
            Ok(address) => Some(address),
            Err(_) if address == "host-gateway" && *network == Network::None => {
                sheet.error(&value, "from Network=none nothing leads to the host; take this line away");
                continue;
            }
            Err(_) if address == "host-gateway" => None,
            Err(_) => {
                sheet.error(&value, format!("{address:?} is not an IP address; write AddHost=name:192.0.2.1"));
                continue;
            }
        };
        // Podman takes several names with semicolons between them.
        for name in names.split(';') {
            match hostname(name) {
                Ok(name) => hosts.push((name, address)),
                Err(text) => sheet.error(&value, format!("AddHost={}: {text}", value.text)),
            }
        }
    }
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_port() {
        let one = |text: &str| port(text).map(|p| (p.host_ip.map(|ip| ip.to_string()), p.host, p.container, p.count));
        assert_eq!(one("80"), Ok((None, None, 80, 1)));
        assert_eq!(one("8080:80"), Ok((None, Some(8080), 80, 1)));
        assert_eq!(one("127.0.0.1:8080:80"), Ok((Some("127.0.0.1".into()), Some(8080), 80, 1)));
        assert_eq!(one("127.0.0.1::80"), Ok((Some("127.0.0.1".into()), None, 80, 1)));
        assert_eq!(one("[::1]:8080:80"), Ok((Some("::1".into()), Some(8080), 80, 1)));
        assert_eq!(one(":80"), Ok((None, None, 80, 1)));
        assert_eq!(one("50-59:150-159/udp"), Ok((None, Some(50), 150, 10)));
        for wrong in ["", "0", "70000", "a", "1-2:3", "2-1", "1:2:3:4", "80/icmp", "[::1]:80", "x:1:2", "-80", "+80"] {
            assert!(port(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn options_of_a_network() {
        let all = attachment(None, "ip=10.0.0.2,mac=aa:BB:cc:dd:ee:ff,alias=a,alias=b,interface_name=eth1").unwrap();
        assert_eq!((all.mac.as_deref(), all.aliases.len()), (Some("aa:bb:cc:dd:ee:ff"), 2));
        assert!(["ip=x", "mac=1", "foo=1", "ip", "ip6=1.2.3.4"].iter().all(|o| attachment(None, o).is_err()));
    }
}

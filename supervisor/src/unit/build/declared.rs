//! `[Network]`, `[Image]`.

use std::{collections::BTreeMap, net::IpAddr, path::Path};

use oci::image::Platform;

use super::{
    Claim, NETWORK, claimed,
    container::{Bare, assignments, pull, reference},
    name,
};
use crate::unit::{
    DEFAULT_NETWORK, ImageSpec, IpRange, Ipam, NetworkDriver, NetworkSpec, Subnet, sheet::Sheet, values,
};

pub(super) fn network(stem: &str, sheet: &mut Sheet<'_>, claims: &mut Vec<Claim>) -> NetworkSpec {
    let flag = |key, sheet: &mut Sheet<'_>| sheet.read("Network", key, values::boolean).unwrap_or(false);
    let name_ = claimed(sheet, ("Network", "NetworkName"), stem, NETWORK, claims);
    if let Some(value) = sheet.last("Network", "NetworkName") {
        // By such a name Network= means something else, which podman does not allow either.
        let what = match value.text.as_str() {
            DEFAULT_NETWORK | "podman" => Some("is the default network, which needs no file"),
            "bridge" | "container" | "default" | "host" | "none" | "ns" | "pasta" | "private" | "slirp4netns" => {
                Some("is a mode that Network= can have")
            }
            _ => None,
        };
        if let Some(what) = what {
            sheet.error(&value, format!("{} {what}; choose another name", value.text));
        }
    }
    NetworkSpec {
        name: name_,
        driver: sheet
            .read("Network", "Driver", |text| match text {
                "bridge" => Ok(NetworkDriver::Bridge),
                "macvlan" => Ok(NetworkDriver::Macvlan),
                "ipvlan" => Ok(NetworkDriver::Ipvlan),
                _ => Err("expected bridge, macvlan or ipvlan"),
            })
            .unwrap_or_default(),
        ipam: sheet.read("Network", "IPAMDriver", |text| match text {
            "host-local" => Ok(Ipam::HostLocal),
            "dhcp" => Ok(Ipam::Dhcp),
            "none" => Ok(Ipam::None),
            _ => Err("expected host-local, dhcp or none"),
        }),
        subnets: subnets(sheet),
        interface: interface(sheet, claims),
        internal: flag("Internal", sheet),
        ipv6: flag("IPv6", sheet),
        dns: sheet.each("Network", "DNS", address).into_iter().map(|(_, address)| address).collect(),
        disable_dns: flag("DisableDNS", sheet),
        delete_on_stop: flag("NetworkDeleteOnStop", sheet),
        options: options(sheet),
        labels: assignments(sheet, ("Network", "Label"), Bare::Empty),
    }
}

fn interface(sheet: &mut Sheet<'_>, claims: &mut Vec<Claim>) -> Option<String> {
    let name = sheet.read("Network", "InterfaceName", |text| {
        let name = name(text).ok().filter(|name| name.len() < 16);
        let name = name.ok_or("an interface's name has at most 15 characters")?;
        // Those two stand for other things in /proc/sys/net.
        if matches!(name.as_str(), "all" | "default" | "lo" | DEFAULT_NETWORK) {
            return Err("there is such an interface already");
        }
        Ok(name)
    })?;
    let at = sheet.last("Network", "InterfaceName");
    claims.push(Claim::Name { what: "network interface", name: name.clone(), at });
    Some(name)
}

/// Those of podman-network-create(1) that a bridge has.
fn options(sheet: &mut Sheet<'_>) -> BTreeMap<String, String> {
    let mut options = assignments(sheet, ("Network", "Options"), Bare::Refused);
    if let Some(mtu) = options.remove("com.docker.network.driver.mtu") {
        options.entry("mtu".to_owned()).or_insert(mtu);
    }
    let mut places = BTreeMap::new();
    for (value, word) in sheet.all_words("Network", "Options") {
        let name = word.text.split_once('=').map_or(word.text.as_str(), |(name, _)| name);
        places.insert(if name == "com.docker.network.driver.mtu" { "mtu" } else { name }.to_owned(), value);
    }
    for (name, text) in &options {
        // One that is written with `$$` has no place of its own.
        let last = || sheet.last("Network", "Options");
        let Some(value) = &places.get(name).cloned().or_else(last) else { continue };
        match (name.as_str(), text.as_str()) {
            // RFC 791, RFC 8200: the least that every host takes, and the most that a packet has.
            ("mtu", text) if text.parse::<u32>().is_ok_and(|mtu| (576..=65_535).contains(&mtu)) => {}
            ("mtu", _) => sheet.error(value, "mtu= is a number of bytes from 576 to 65535"),
            ("isolate", "true" | "1" | "false" | "0" | "strict") => {}
            ("isolate", _) => sheet.error(value, "isolate= is true, false or strict"),
            ("vlan" | "vrf" | "metric" | "no_default_route" | "mode" | "parent" | "bclim", _) => {
                let text = format!("Options={name}: known, not available in this version; it can be mtu, isolate");
                sheet.unavailable(value, text);
            }
            _ => sheet.error(value, format!("unknown option {name}; mtu and isolate are known")),
        }
    }
    options
}

fn address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| "expected an IP address".to_owned())
}

/// Each is an address of one bridge; every address that is asked for is compared with all.
const MAX_SUBNETS: usize = 256;

/// Gateways and ranges belong to the subnets in their order.
fn subnets(sheet: &mut Sheet<'_>) -> Vec<(Subnet, Option<IpAddr>, Option<IpRange>)> {
    let subnets = sheet.each("Network", "Subnet", subnet);
    let gateways = sheet.each("Network", "Gateway", address);
    let ranges = sheet.each("Network", "IPRange", range);
    if let Some((at, _)) = subnets.get(MAX_SUBNETS) {
        sheet.error(at, format!("a network has at most {MAX_SUBNETS} subnets; divide it, or write wider ones"));
    }
    for (what, rest) in [
        ("gateways", gateways.get(subnets.len()).map(|(at, _)| at)),
        ("ranges", ranges.get(subnets.len()).map(|(at, _)| at)),
    ] {
        if let Some(at) = rest {
            sheet.error(at, format!("there are more {what} than subnets; write a Subnet= for it"));
        }
    }
    for (index, (_, subnet)) in subnets.iter().enumerate() {
        let ends = ranges.get(index).map(|(at, range)| match range {
            IpRange::Subnet((address, _)) => (at, [*address; 2]),
            IpRange::Between(from, to) => (at, [*from, *to]),
        });
        let gateway = gateways.get(index).map(|(at, gateway)| (at, [*gateway; 2]));
        for (at, addresses) in ends.into_iter().chain(gateway) {
            if !addresses.iter().all(|address| contains(*subnet, *address)) {
                sheet.error(at, format!("{} is not inside the subnet {}/{}", at.text, subnet.0, subnet.1));
            }
        }
    }
    let mut gateways = gateways.into_iter().map(|(_, gateway)| gateway);
    let mut ranges = ranges.into_iter().map(|(_, range)| range);
    subnets.into_iter().map(|(_, subnet)| (subnet, gateways.next(), ranges.next())).collect()
}

pub(super) fn subnet(text: &str) -> Result<Subnet, String> {
    const FORM: &str = "expected an address and the length of its prefix, such as 192.0.2.0/24";
    let (address, length) = text.split_once('/').ok_or(FORM)?;
    let address: IpAddr = address.parse().map_err(|_| FORM)?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    Ok((address, length.parse().ok().filter(|n| *n <= most).ok_or(FORM)?))
}

/// A subnet, or `first-last`.
fn range(text: &str) -> Result<IpRange, String> {
    if let Some((from, to)) = text.split_once('-') {
        let (from, to) = (address(from)?, address(to)?);
        if from > to || from.is_ipv4() != to.is_ipv4() {
            return Err("the range ends before it begins".to_owned());
        }
        return Ok(IpRange::Between(from, to));
    }
    subnet(text).map(IpRange::Subnet)
}

pub(in crate::unit) fn contains(net: Subnet, address: IpAddr) -> bool {
    net.0.is_ipv4() == address.is_ipv4() && first(net) == first((address, net.1))
}

/// The bits of its first address, from the left.
pub(in crate::unit) fn first((address, length): Subnet) -> u128 {
    let bits = match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)) << 96,
        IpAddr::V6(v6) => u128::from(v6),
    };
    bits & u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
}

pub(super) fn image(path: &Path, sheet: &mut Sheet<'_>) -> ImageSpec {
    let tag = sheet.read("Image", "ImageTag", |text| reference(text).map(|_| text.to_owned()));
    let all = sheet.every("Image", "Image");
    for value in all.iter().filter(|value| !value.text.is_empty()) {
        let transport = value.text.split_once(':').map_or("", |(transport, _)| transport);
        let archive = ["docker-archive", "oci-archive", "oci", "dir", "docker", "containers-storage"];
        if value.text.contains(char::is_whitespace) {
            sheet.error(value, "an image's name has no spaces");
        } else if !archive.contains(&transport) {
            if let Err(text) = reference(&value.text) {
                sheet.error(value, text);
            }
        } else if tag.is_none() && transport != "docker" {
            sheet.error(value, "an archive needs ImageTag= beside it: the name of the image in it");
        } else {
            sheet.unavailable(
                value,
                "images of archives are known, not available in this version; write the image's name",
            );
        }
    }
    let image = all.last().map_or(String::new(), |value| value.text.clone());
    if image.is_empty() && sheet.has_main() {
        sheet.missing(path, "no Image=: write the image's full name, such as Image=docker.io/library/nginx:1.27");
    }
    ImageSpec { image, tag, pull: pull("Image", "Policy", sheet), platform: platform(sheet) }
}

fn platform(sheet: &mut Sheet<'_>) -> Platform {
    sheet.read(
        "Image",
        "OS",
        |text| if text == "linux" { Ok(()) } else { Err("the machine runs programs for linux alone") },
    );
    let architecture = sheet.read("Image", "Arch", |text| word(text).map(architecture));
    let own = sheet.read("Image", "Variant", word);
    let (architecture, variant) = architecture.unzip();
    Platform { architecture, variant: own.or(variant.flatten()) }
}

/// As indexes have them; a variant that no index has leads to no image, and the machine says which there are.
fn word(text: &str) -> Result<String, &'static str> {
    let good = (1..=32).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-' | b'.'));
    if good { Ok(text.to_owned()) } else { Err("expected a word in lower case, such as amd64, arm64 or v8") }
}

/// Other names of one architecture, as Podman knows them: uname(2)'s, Debian's, and systemd's (`%a`).
fn architecture(name: String) -> (String, Option<String>) {
    match name.as_str() {
        "x86_64" | "x86-64" => ("amd64".to_owned(), None),
        "aarch64" => ("arm64".to_owned(), None),
        "i386" => ("386".to_owned(), None),
        "armhf" => ("arm".to_owned(), Some("v7".to_owned())),
        "armel" => ("arm".to_owned(), Some("v6".to_owned())),
        _ => (name, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_architecture_has_many_names() {
        assert_eq!(architecture("x86-64".to_owned()), ("amd64".to_owned(), None));
        assert_eq!(architecture("armhf".to_owned()), ("arm".to_owned(), Some("v7".to_owned())));
        assert_eq!(architecture("s390x".to_owned()), ("s390x".to_owned(), None));
        assert!(["", "ARM", "a b", "a/b"].iter().all(|text| word(text).is_err()));
    }

    #[test]
    fn subnets_and_what_lies_inside() {
        let net = subnet("192.0.2.0/24").unwrap();
        assert!(contains(net, "192.0.2.7".parse().unwrap()) && !contains(net, "192.0.3.7".parse().unwrap()));
        assert!(contains(subnet("2001:db8::/32").unwrap(), "2001:db8:1::".parse().unwrap()));
        assert!(contains(subnet("0.0.0.0/0").unwrap(), "9.9.9.9".parse().unwrap()));
        assert!(!contains(net, "::1".parse().unwrap()));
        assert!(["192.0.2.0", "192.0.2.0/33", "x/8", "::/129"].iter().all(|t| subnet(t).is_err()));
        assert!(range("10.0.0.5-10.0.0.9").is_ok() && range("10.0.0.9-10.0.0.5").is_err() && range("a-b").is_err());
    }
}

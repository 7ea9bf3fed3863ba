//! The kernel's `ip=` parameter (Documentation/admin-guide/nfs/nfsroot.rst):
//! `ip=<client>:<server>:<gateway>:<netmask>:<hostname>:<device>:<autoconf>:<dns0>:<dns1>:<ntp0>`, or one word.

use std::fmt;
use std::net::Ipv4Addr;

/// How the machine gets its IPv4 address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Nothing is configured. IPv6 stays as the kernel has it.
    Off,
    /// From a server; on the named card, or on the first one.
    Dhcp {
        device: Option<String>,
    },
    Static(Static),
}

impl Default for Mode {
    fn default() -> Self {
        Self::Dhcp { device: None }
    }
}

/// A configuration written on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Static {
    pub address: Ipv4Addr,
    pub prefix: u8,
    pub gateway: Option<Ipv4Addr>,
    pub device: Option<String>,
    pub dns: Vec<Ipv4Addr>,
}

/// What `ip=` says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Parameter {
    pub mode: Mode,
}

/// The fields, in their order, as the messages name them.
const FIELDS: [&str; 10] =
    ["client address", "server", "gateway", "netmask", "hostname", "device", "autoconf", "dns0", "dns1", "ntp0"];

/// A field that cannot be what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpError {
    /// Counted from zero; none when it is the whole.
    field: Option<usize>,
    value: String,
    reason: String,
}

impl fmt::Display for IpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.value.escape_debug();
        match self.field {
            // A person counts from one.
            Some(field) => write!(f, "ip=: field {} ({}) is `{value}`: {}", field + 1, FIELDS[field], self.reason),
            None => write!(f, "ip={value}: {}", self.reason),
        }
    }
}

impl std::error::Error for IpError {}

impl Parameter {
    /// Reads the kernel's command line. Without `ip=` it is DHCP on the first card; the last one counts, as for the
    /// kernel.
    pub fn from_cmdline(cmdline: &str) -> Result<Self, IpError> {
        match cmdline.split_whitespace().filter_map(|word| word.strip_prefix("ip=")).next_back() {
            None => Ok(Self::default()),
            Some(value) => Self::parse(value),
        }
    }

    /// Reads the text behind `ip=`.
    pub fn parse(text: &str) -> Result<Self, IpError> {
        let whole = |reason: String| IpError { field: None, value: text.into(), reason };
        if text.contains('[') {
            return Err(whole("IPv6 addresses are configured by router advertisements; give IPv4 here".into()));
        }
        if !text.contains(':') && text.parse::<Ipv4Addr>().is_err() {
            let mode = match autoconf(text).map_err(whole)? {
                Some(Autoconf::Off) => Mode::Off,
                Some(Autoconf::Dhcp) | None => Mode::default(),
            };
            return Ok(Self { mode });
        }
        let fields: Vec<&str> = text.split(':').collect();
        if fields.len() > FIELDS.len() {
            return Err(whole(format!("{} fields; there are at most {}", fields.len(), FIELDS.len())));
        }
        Fields(fields).read()
    }
}

struct Fields<'a>(Vec<&'a str>);

impl Fields<'_> {
    fn read(&self) -> Result<Parameter, IpError> {
        let client = self.address(0)?;
        // The server is the NFS root's: read, so that a typing error shows, and not needed.
        self.address(1)?;
        let gateway = self.address(2)?;
        let mask = self.address(3)?;
        self.hostname(4)?;
        let device = self.device(5)?;
        let autoconf = autoconf(self.get(6)).map_err(|reason| self.error(6, reason))?;
        let dns: Vec<_> = [self.address(7)?, self.address(8)?].into_iter().flatten().collect();
        if self.address(9)?.is_some() {
            return Err(self.error(9, "time servers are known, not available in this version"));
        }
        let mode = match (client, autoconf) {
            (Some(_), Some(Autoconf::Dhcp)) => {
                return Err(self.error(6, "a server would give what the client address already says; write off"));
            }
            (Some(address), _) => {
                let prefix = self.prefix(address, mask)?;
                Mode::Static(Static { address, prefix, gateway, device, dns })
            }
            (None, Some(Autoconf::Off)) => {
                self.must_be_empty(&[2, 3, 7, 8], "it needs a client address")?;
                Mode::Off
            }
            (None, _) => {
                self.must_be_empty(&[2, 3, 7, 8], "DHCP gives it; with a client address it would count")?;
                Mode::Dhcp { device }
            }
        };
        Ok(Parameter { mode })
    }

    fn get(&self, field: usize) -> &str {
        self.0.get(field).copied().unwrap_or_default()
    }

    fn error(&self, field: usize, reason: impl Into<String>) -> IpError {
        IpError { field: Some(field), value: self.get(field).into(), reason: reason.into() }
    }

    fn must_be_empty(&self, fields: &[usize], reason: &str) -> Result<(), IpError> {
        match fields.iter().find(|field| !self.get(**field).is_empty()) {
            Some(field) => Err(self.error(*field, reason)),
            None => Ok(()),
        }
    }

    /// The kernel takes 0.0.0.0 for "not given", too.
    fn address(&self, field: usize) -> Result<Option<Ipv4Addr>, IpError> {
        match self.get(field) {
            "" => Ok(None),
            text => match text.parse::<Ipv4Addr>() {
                Ok(address) => Ok((!address.is_unspecified()).then_some(address)),
                Err(_) => Err(self.error(field, "not an IPv4 address (four numbers 0 to 255, separated by dots)")),
            },
        }
    }

    fn prefix(&self, address: Ipv4Addr, mask: Option<Ipv4Addr>) -> Result<u8, IpError> {
        if address.is_multicast() || address.is_loopback() || address.is_broadcast() {
            return Err(self.error(0, "no address a card can have"));
        }
        let Some(mask) = mask else { return Ok(class_prefix(address)) };
        prefix_of(mask).ok_or_else(|| self.error(3, "not a netmask (ones, then zeros: 255.255.255.0)"))
    }

    /// PID 1 has set it by now.
    fn hostname(&self, field: usize) -> Result<(), IpError> {
        match self.get(field) {
            "" => Ok(()),
            text if is_hostname(text) => Ok(()),
            _ => Err(self.error(field, "not a host name (letters, digits, `-` and `.`, at most 64)")),
        }
    }

    fn device(&self, field: usize) -> Result<Option<String>, IpError> {
        match self.get(field) {
            "" => Ok(None),
            // IFNAMSIZ, with its NUL; and what the kernel's dev_valid_name refuses.
            text if text.len() > 15 || matches!(text, "." | "..") || text.contains('/') => {
                Err(self.error(field, "not a device's name (at most 15 characters, no `/`)"))
            }
            text => Ok(Some(text.into())),
        }
    }
}

enum Autoconf {
    Off,
    Dhcp,
}

fn autoconf(text: &str) -> Result<Option<Autoconf>, String> {
    match text {
        "" => Ok(None),
        "off" | "none" => Ok(Some(Autoconf::Off)),
        "on" | "any" | "dhcp" => Ok(Some(Autoconf::Dhcp)),
        "bootp" | "rarp" | "both" => Err("known, not available in this version; write dhcp or off".into()),
        _ => Err("not one of: off, none, on, any, dhcp".into()),
    }
}

/// The mask of an address's class, which the kernel takes when none is given.
pub(super) fn class_prefix(address: Ipv4Addr) -> u8 {
    match address.octets()[0] {
        0..=127 => 8,
        128..=191 => 16,
        _ => 24,
    }
}

/// The length of a netmask; none if it has holes.
pub(super) fn prefix_of(mask: Ipv4Addr) -> Option<u8> {
    let bits = mask.to_bits();
    (bits.leading_ones() + bits.trailing_zeros() >= 32).then(|| u8::try_from(bits.leading_ones()).unwrap_or(32))
}

/// RFC 1123's names: also what may stand in a log line as it came from a server.
pub(super) fn is_hostname(text: &str) -> bool {
    (1..=64).contains(&text.len()) && is_domain(text)
}

/// A domain of such labels; underscores occur in practice.
pub(super) fn is_domain(text: &str) -> bool {
    text.len() <= 253
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Parameter, String> {
        Parameter::parse(text).map_err(|error| error.to_string())
    }

    #[test]
    fn words() {
        let mode = |text| parse(text).unwrap().mode;
        assert_eq!(mode("dhcp"), Mode::Dhcp { device: None });
        assert_eq!(mode("on"), Mode::Dhcp { device: None });
        assert_eq!(mode("off"), Mode::Off);
        assert_eq!(mode("none"), Mode::Off);
        assert_eq!(mode(""), Mode::Dhcp { device: None });
        assert_eq!(mode(":::::eth1:dhcp"), Mode::Dhcp { device: Some("eth1".into()) });
        assert_eq!(mode("::::web:eth1:any"), Mode::Dhcp { device: Some("eth1".into()) });
    }

    #[test]
    fn static_addresses() {
        let full = parse("10.0.2.15::10.0.2.2:255.255.254.0:web:eth0:off:10.0.2.3:1.1.1.1").unwrap();
        assert_eq!(
            full.mode,
            Mode::Static(Static {
                address: Ipv4Addr::new(10, 0, 2, 15),
                prefix: 23,
                gateway: Some(Ipv4Addr::new(10, 0, 2, 2)),
                device: Some("eth0".into()),
                dns: vec![Ipv4Addr::new(10, 0, 2, 3), Ipv4Addr::new(1, 1, 1, 1)],
            })
        );
        for (text, prefix) in [("10.1.2.3", 8), ("172.16.0.9::", 16), ("192.168.1.9:::", 24)] {
            let Mode::Static(found) = parse(text).unwrap().mode else { panic!("{text}") };
            assert_eq!(found.prefix, prefix);
        }
    }

    #[test]
    fn the_last_one_counts() {
        let mode = |text| Parameter::from_cmdline(text).unwrap().mode;
        assert_eq!(mode("quiet root=/dev/vda"), Mode::default());
        assert_eq!(mode("ip=dhcp quiet ip=off skip=1 zip=x\n"), Mode::Off);
    }

    #[test]
    fn errors_name_the_field() {
        for (text, field) in [
            ("10.0.2.256::::::off", "field 1 (client address) is `10.0.2.256`"),
            ("10.0.2.15:x", "field 2 (server)"),
            ("10.0.2.15::gw", "field 3 (gateway) is `gw`"),
            ("10.0.2.15:::255.0.255.0", "field 4 (netmask)"),
            ("10.0.2.15:::24", "field 4 (netmask)"),
            ("10.0.2.15::::a_b/c", "field 5 (hostname)"),
            ("10.0.2.15:::::averylongdevicename", "field 6 (device)"),
            ("10.0.2.15::::::dhpc", "field 7 (autoconf) is `dhpc`: not one of"),
            ("10.0.2.15::::::dhcp", "field 7 (autoconf)"),
            (":::::eth0:bootp", "not available in this version"),
            ("10.0.2.15:::::::8.8.8", "field 8 (dns0)"),
            ("10.0.2.15::::::::::1", "11 fields"),
            ("::10.0.2.2::::dhcp", "field 3 (gateway)"),
            ("::::::off:1.1.1.1", "field 8 (dns0)"),
            ("224.0.0.1", "field 1"),
            ("[fe80::1]", "IPv6"),
            ("dchp", "not one of"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(field), "{text}: {error}");
        }
    }
}

//! A range of addresses: the first and the length of the prefix.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};

/// Of either family. The address is the first one: no bits behind the prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Subnet {
    address: IpAddr,
    prefix: u8,
}

impl Subnet {
    /// The subnet that the address lies in.
    pub(crate) fn around(address: IpAddr, prefix: u8) -> Self {
        let prefix = prefix.min(width(address));
        Self { address: from_bits(bits(address) & mask(address, prefix), address), prefix }
    }

    pub(crate) fn first(self) -> IpAddr {
        self.address
    }

    pub(crate) fn prefix(self) -> u8 {
        self.prefix
    }

    pub(crate) fn is_ipv4(self) -> bool {
        self.address.is_ipv4()
    }

    pub(crate) fn contains(self, address: IpAddr) -> bool {
        self.is_ipv4() == address.is_ipv4() && bits(address) & mask(address, self.prefix) == bits(self.address)
    }

    pub(crate) fn overlaps(self, other: Self) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }

    /// Its address of that number, from 0 on.
    pub(crate) fn nth(self, number: u128) -> Option<IpAddr> {
        let address = from_bits(bits(self.address).checked_add(number)?, self.address);
        self.contains(address).then_some(address)
    }

    /// The number of an address of its.
    pub(crate) fn number_of(self, address: IpAddr) -> Option<u128> {
        self.contains(address).then(|| bits(address) - bits(self.address))
    }

    /// The last address; of IPv4 that is the broadcast address.
    pub(crate) fn last(self) -> IpAddr {
        let host = !mask(self.address, self.prefix) & full(self.address);
        from_bits(bits(self.address) | host, self.address)
    }

    /// The bits of the prefix, as an address.
    pub(crate) fn netmask(self) -> IpAddr {
        from_bits(mask(self.address, self.prefix), self.address)
    }
}

pub(crate) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

pub(crate) fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_bits().into(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// Of the family that `like` has; bits beyond an IPv4 address make one that no subnet contains.
fn from_bits(bits: u128, like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => u32::try_from(bits).map_or(IpAddr::V6(bits.into()), |bits| IpAddr::V4(bits.into())),
        IpAddr::V6(_) => IpAddr::V6(bits.into()),
    }
}

fn full(address: IpAddr) -> u128 {
    if address.is_ipv4() { u32::MAX.into() } else { u128::MAX }
}

fn mask(address: IpAddr, prefix: u8) -> u128 {
    let host = full(address).checked_shr(prefix.into()).unwrap_or(0);
    full(address) & !host
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Subnet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, prefix) = text.split_once('/').ok_or_else(|| format!("{text} has no length of a prefix"))?;
        let address: IpAddr = address.parse().map_err(|_| format!("{address} is no IP address"))?;
        let prefix = prefix.parse().ok().filter(|prefix| *prefix <= width(address));
        Ok(Self::around(address, prefix.ok_or_else(|| format!("{text}: the prefix is too long"))?))
    }
}

impl TryFrom<String> for Subnet {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> Self {
        subnet.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_and_their_numbers() {
        let net = subnet("10.89.0.77/24");
        assert_eq!(net.to_string(), "10.89.0.0/24");
        assert_eq!(net.nth(5), Some([10, 89, 0, 5].into()));
        assert_eq!(net.nth(256), None);
        assert_eq!(net.number_of([10, 89, 0, 9].into()), Some(9));
        assert_eq!(net.number_of([10, 89, 1, 9].into()), None);
        assert_eq!(net.last(), IpAddr::from([10, 89, 0, 255]));
        assert_eq!(net.netmask(), IpAddr::from([255, 255, 255, 0]));
        let six = subnet("fd00:1::9/64");
        assert_eq!((six.to_string().as_str(), six.nth(2)), ("fd00:1::/64", Some("fd00:1::2".parse().unwrap())));
        assert_eq!(six.last(), "fd00:1::ffff:ffff:ffff:ffff".parse::<IpAddr>().unwrap());
        assert_eq!(subnet("255.255.255.254/31").nth(2), None);
        assert_eq!(subnet("0.0.0.0/0").nth(u128::from(u32::MAX)), Some([255; 4].into()));
    }

    #[test]
    fn overlaps() {
        let overlap = |a, b| subnet(a).overlaps(subnet(b)) && subnet(b).overlaps(subnet(a));
        assert!(overlap("10.0.0.0/8", "10.89.0.0/24") && overlap("0.0.0.0/0", "1.2.3.4/32"));
        assert!(!overlap("10.88.0.0/16", "10.89.0.0/24") && !overlap("10.0.0.0/8", "fd00::/8"));
    }

    #[test]
    fn what_is_none() {
        for wrong in ["", "1.2.3.4", "1.2.3.4/33", "x/3", "::/129", "1.2.3.4/-1"] {
            assert!(wrong.parse::<Subnet>().is_err(), "{wrong}");
        }
    }
}

//! Who has which address, over restarts and reboots: /var/lib/orlop/networks.json.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    net::IpAddr,
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

use crate::{daemon::store, net::bridge::Subnet, unit::UnitName};

/// As it was read or written last.
#[derive(Debug)]
pub(super) struct Book {
    path: PathBuf,
    pub(super) networks: BTreeMap<String, Page>,
    written: Vec<u8>,
    /// Who got addresses since this supervisor began, as counted by the last number.
    asked: BTreeMap<String, u64>,
    count: u64,
}

/// Of one network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Page {
    pub(super) subnets: Vec<Subnet>,
    pub(super) addresses: BTreeMap<String, Vec<IpAddr>>,
}

/// What an address of one owner in one subnet must be.
pub(super) struct Wish<'a> {
    pub(super) owner: &'a UnitName,
    pub(super) network: &'a str,
    pub(super) subnet: Subnet,
    pub(super) gateway: IpAddr,
    /// The first and the last that are given by themselves.
    pub(super) pool: Option<(IpAddr, IpAddr)>,
    /// `IP=`
    pub(super) fixed: Option<IpAddr>,
    /// `IP=` of others.
    pub(super) reserved: &'a BTreeSet<IpAddr>,
    /// Of who runs.
    pub(super) in_use: &'a BTreeMap<IpAddr, UnitName>,
}

impl Book {
    /// One that is not there or cannot be read is empty: addresses are given anew then.
    pub(super) fn open(path: PathBuf) -> Self {
        let written = match fs::read(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                log::error!("{}: {error}; containers get other addresses", path.display());
                Vec::new()
            }
            read => read.unwrap_or_default(),
        };
        let networks = serde_json::from_slice(&written).unwrap_or_else(|error| {
            if !written.is_empty() {
                log::error!("{}: {error}; containers get other addresses", path.display());
            }
            BTreeMap::new()
        });
        Self { path, networks, written, asked: BTreeMap::new(), count: 0 }
    }

    /// Takes from everybody who is there no more.
    pub(super) fn free(&mut self, is_there: impl Fn(&str) -> bool) {
        for page in self.networks.values_mut() {
            page.addresses.retain(|owner, _| is_there(owner));
        }
        self.asked.retain(|owner, _| is_there(owner));
    }

    /// The address that the owner had last, the one it asks for, a free one, or of those who are at rest the one of whoever asked longest
    /// ago.
    pub(super) fn address(&mut self, wish: &Wish<'_>) -> Result<IpAddr, String> {
        let Wish { owner, network, subnet, gateway, fixed, .. } = *wish;
        let page = self.networks.entry(network.to_owned()).or_default();
        let own = page.addresses.get(owner.as_str()).into_iter().flatten().copied();
        let own = own.filter(|address| subnet.contains(*address)).find(|address| wish.may_give(*address));
        let taken: BTreeSet<IpAddr> =
            page.addresses.iter().filter(|(of, _)| *of != owner.as_str()).flat_map(|(_, all)| all).copied().collect();
        let address = match fixed {
            Some(address) => {
                let wrong = |text: String| Err(format!("the address {address} on the network {network}: {text}"));
                if !subnet.contains(address) {
                    return wrong(format!("it is not inside {subnet}"));
                }
                if address == gateway || !wish.is_host(address) {
                    return wrong("it is the network's own".to_owned());
                }
                if let Some(holder) = wish.in_use.get(&address).filter(|holder| *holder != owner) {
                    return wrong(format!("{holder} has it"));
                }
                address
            }
            None => {
                let free = |address: &IpAddr| wish.may_give(*address) && !taken.contains(address);
                let none = || format!("the network {network} has no free address in {subnet}");
                let asked = |of: &String| self.asked.get(of).copied().unwrap_or(0);
                let at_rest = || {
                    let others = page.addresses.iter().flat_map(|(of, all)| all.iter().map(move |one| (of, *one)));
                    let others = others.filter(|(_, one)| subnet.contains(*one) && wish.may_give(*one));
                    others.min_by_key(|(of, _)| asked(of)).map(|(_, one)| one)
                };
                own.or_else(|| wish.candidates().find(free)).or_else(at_rest).ok_or_else(none)?
            }
        };
        // Who does not run and has it by chance gets another one.
        page.addresses.values_mut().for_each(|all| all.retain(|other| *other != address));
        let all = page.addresses.entry(owner.to_string()).or_default();
        all.retain(|other| !subnet.contains(*other));
        all.push(address);
        self.count += 1;
        self.asked.insert(owner.to_string(), self.count);
        Ok(address)
    }

    /// What was changed holds over a power cut.
    pub(super) fn save(&mut self) -> io::Result<()> {
        let text = serde_json::to_vec(&self.networks)?;
        if text == self.written {
            return Ok(());
        }
        self.path.parent().map_or(Ok(()), fs::create_dir_all)?;
        store::replace_durably(&self.path, &text)?;
        self.written = text;
        Ok(())
    }
}

impl Wish<'_> {
    /// Neither the subnet's own address nor its broadcast, where it has them (RFC 3021, RFC 4291 2.6.1).
    fn is_host(&self, address: IpAddr) -> bool {
        let small = self.subnet.prefix() >= if self.subnet.is_ipv4() { 31 } else { 127 };
        small || (address != self.subnet.first() && (!self.subnet.is_ipv4() || address != self.subnet.last()))
    }

    fn may_give(&self, address: IpAddr) -> bool {
        let in_pool = self.pool.is_none_or(|(first, last)| first <= address && address <= last);
        let used = self.in_use.get(&address).is_some_and(|holder| holder != self.owner);
        in_pool && !used && address != self.gateway && self.is_host(address) && !self.reserved.contains(&address)
    }

    fn candidates(&self) -> impl Iterator<Item = IpAddr> {
        /// More than run on a machine; a subnet of IPv6 has no end.
        const MOST: u128 = 1 << 16;
        let first = self.pool.and_then(|(first, _)| self.subnet.number_of(first)).unwrap_or(0);
        (first..first + MOST).map_while(|number| self.subnet.nth(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct World {
        book: Book,
        in_use: BTreeMap<IpAddr, UnitName>,
        reserved: BTreeSet<IpAddr>,
    }

    impl World {
        fn ask(&mut self, owner: &str, subnet: &str, fixed: Option<&str>) -> Result<String, String> {
            let subnet: Subnet = subnet.parse().unwrap();
            let owner = UnitName::parse(owner).unwrap();
            let wish = Wish {
                owner: &owner,
                network: "n",
                subnet,
                gateway: subnet.nth(1).unwrap(),
                pool: None,
                fixed: fixed.map(|ip| ip.parse().unwrap()),
                reserved: &self.reserved,
                in_use: &self.in_use,
            };
            self.book.address(&wish).map(|ip| ip.to_string())
        }
    }

    #[test]
    fn addresses_stay_with_their_owners_and_nobody_has_anothers() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a/networks.json");
        let mut world = World {
            book: Book::open(path.clone()),
            in_use: BTreeMap::new(),
            reserved: ["10.0.0.4".parse().unwrap()].into(),
        };
        let net = "10.0.0.0/29";
        assert_eq!(world.ask("a", net, None).unwrap(), "10.0.0.2");
        assert_eq!(world.ask("b", net, None).unwrap(), "10.0.0.3");
        assert_eq!(world.ask("c", net, None).unwrap(), "10.0.0.5", "the fourth is somebody's by his word");
        assert_eq!(world.ask("a", net, None).unwrap(), "10.0.0.2");
        world.book.save().unwrap();
        world.book = Book::open(path.clone());
        assert_eq!(world.ask("b", net, None).unwrap(), "10.0.0.3");
        // Two families side by side.
        assert_eq!(world.ask("a", "fd00::/64", None).unwrap(), "fd00::2");
        assert_eq!(world.ask("a", net, None).unwrap(), "10.0.0.2");
        // Asked for: free, of somebody at rest, of somebody who runs, none at all.
        assert_eq!(world.ask("d", net, Some("10.0.0.4")).unwrap(), "10.0.0.4");
        world.reserved.insert("10.0.0.2".parse().unwrap());
        assert_eq!(world.ask("d", net, Some("10.0.0.2")).unwrap(), "10.0.0.2");
        assert_eq!(world.ask("a", net, None).unwrap(), "10.0.0.6");
        world.in_use.insert("10.0.0.3".parse().unwrap(), UnitName::parse("b").unwrap());
        assert!(world.ask("d", net, Some("10.0.0.3")).unwrap_err().ends_with("b has it"));
        assert!(world.ask("d", net, Some("10.0.0.1")).unwrap_err().contains("the network's own"));
        assert!(world.ask("d", net, Some("10.0.0.7")).unwrap_err().contains("the network's own"));
        assert!(world.ask("d", net, Some("10.0.1.1")).unwrap_err().contains("not inside 10.0.0.0/29"));
        world.reserved.clear();
        assert_eq!(world.ask("e", net, None).unwrap(), "10.0.0.4");
        world.book.free(|owner| owner != "c");
        assert_eq!(world.ask("f", net, None).unwrap(), "10.0.0.5");
        // A file that is cut begins anew.
        fs::write(&path, "{").unwrap();
        assert!(Book::open(path).networks.is_empty());
    }

    #[test]
    fn where_nothing_is_free_whoever_rests_longest_gives_its_address() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("networks.json");
        let mut world = World { book: Book::open(path.clone()), in_use: BTreeMap::new(), reserved: BTreeSet::new() };
        let net = "10.0.0.0/29";
        for (owner, last) in [("e", 2), ("d", 3), ("c", 4), ("b", 5), ("a", 6)] {
            assert_eq!(world.ask(owner, net, None).unwrap(), format!("10.0.0.{last}"));
        }
        let run = |world: &mut World, owner: &str, address: &str| {
            world.in_use.insert(address.parse().unwrap(), UnitName::parse(owner).unwrap());
        };
        // Since a boot two have asked, and one of them runs.
        world.book.save().unwrap();
        world.book = Book::open(path);
        assert_eq!(world.ask("a", net, None).unwrap(), "10.0.0.6");
        assert_eq!(world.ask("e", net, None).unwrap(), "10.0.0.2");
        run(&mut world, "e", "10.0.0.2");
        for (owner, address) in [("f", "10.0.0.5"), ("g", "10.0.0.4"), ("h", "10.0.0.3"), ("i", "10.0.0.6")] {
            assert_eq!(world.ask(owner, net, None).unwrap(), address);
            run(&mut world, owner, address);
        }
        assert!(world.ask("j", net, None).unwrap_err().contains("no free address"));
    }

    #[test]
    fn a_network_that_has_moved_gives_new_addresses() {
        let home = tempfile::tempdir().unwrap();
        let book = Book::open(home.path().join("networks.json"));
        let mut world = World { book, in_use: BTreeMap::new(), reserved: BTreeSet::new() };
        assert_eq!(world.ask("a", "10.89.0.0/24", None).unwrap(), "10.89.0.2");
        assert_eq!(world.ask("a", "10.89.1.0/24", None).unwrap(), "10.89.1.2");
    }
}

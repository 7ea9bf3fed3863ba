//! What follows from a connection alone.

use super::super::*;

fn on(subnets: &[&str], internal: bool) -> Connection {
    let subnets: Vec<Subnet> = subnets.iter().map(|subnet| subnet.parse().unwrap()).collect();
    let addresses = subnets.iter().map(|subnet| (subnet.nth(2).unwrap(), subnet.prefix())).collect();
    let network = Network {
        name: "app".to_owned(),
        interface: "app".to_owned(),
        subnets: subnets.iter().map(|subnet| (*subnet, subnet.nth(1).unwrap())).collect(),
        mtu: None,
        internal,
        isolation: bridge::Isolation::Open,
    };
    let card = Card {
        network,
        interface: "eth0".to_owned(),
        mac: Mac::of("x"),
        addresses,
        gateways: Vec::new(),
        names: Vec::new(),
        resolver: None,
        forget: false,
    };
    Connection { cards: vec![card], ..Connection::default() }
}

#[test]
fn a_port_without_an_address_is_of_the_family_that_the_container_has() {
    let at = |connection: &Connection, host_ip: Option<&str>| {
        let host_ip = host_ip.map(|ip| ip.parse().unwrap());
        let port = Port { host_ip, host: Some(80), container: 80, count: 1, protocol: unit::Protocol::Tcp };
        connection.published_address(&port).map(|ip| ip.to_string())
    };
    let (both, new) = (on(&["10.1.0.0/24", "fd00::/64"], false), on(&["fd00::/64"], false));
    assert_eq!(at(&both, None).unwrap(), "10.1.0.2");
    assert_eq!(at(&both, Some("::")).unwrap(), "fd00::2");
    assert_eq!(at(&new, None).unwrap(), "fd00::2");
    // Nothing of a family that it does not have, and nothing by a network that leads nowhere.
    assert_eq!(at(&new, Some("0.0.0.0")), None);
    assert_eq!(at(&on(&["10.1.0.0/24"], false), Some("::1")), None);
    assert_eq!(at(&on(&["fd00::/64"], true), None), None);
}

//! The whole thread against a real kernel and a DHCP server of our own, in two network namespaces joined by a virtual
//! wire. They need root and nothing else.

mod server;
mod wire;

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use dhcproto::v4::{DhcpOption, MessageType, OptionCode};

use super::card::{self, Control, News};
use super::netlink::Netlink;
use super::*;
use server::{Policy, Server};
use wire::Wire;

/// Nothing here takes this long, also on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 50);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);

/// A running thread, and what it tells.
struct Net {
    events: Receiver<NetEvent>,
    seen: Vec<NetEvent>,
    _handle: Handle,
}

impl Net {
    fn start(home: &Path, mode: Mode) -> Self {
        let config = Config {
            mode,
            hostname: Some("orlop-test".into()),
            lease_dir: home.join("leases"),
            resolv_conf: home.join("run/resolv.conf"),
            card_wait: Duration::from_millis(100),
        };
        let (sender, events) = channel();
        let report = move |event| {
            let _ = sender.send(event);
        };
        Self { events, seen: Vec::new(), _handle: spawn(config, Box::new(report)).unwrap() }
    }

    fn dhcp(home: &Path) -> Self {
        Self::start(home, Mode::Dhcp { device: Some("eth0".into()) })
    }

    /// Waits for an event; the ones before it are kept for the message when it does not come.
    fn expect(&mut self, what: &str, wanted: impl Fn(&NetEvent) -> bool) -> NetEvent {
        let end = Instant::now() + DEADLINE;
        loop {
            match self.events.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(event) if wanted(&event) => return event,
                Ok(event) => self.seen.push(event),
                Err(error) => panic!("{what}: {error}; seen: {:#?}", self.seen),
            }
        }
    }

    fn expect_lease(&mut self) -> Lease {
        match self.expect("a lease", |event| matches!(event, NetEvent::Lease { .. })) {
            NetEvent::Lease { lease, .. } => lease,
            _ => unreachable!(),
        }
    }

    fn expect_address(&mut self, origin: Origin) -> IpAddr {
        match self.expect("an address", |event| matches!(event, NetEvent::Address { origin: o, .. } if *o == origin)) {
            NetEvent::Address { address, .. } => address,
            _ => unreachable!(),
        }
    }

    fn expect_lost(&mut self, lost: Ipv4Addr) {
        let lost = IpAddr::V4(lost);
        self.expect(
            "an address lost",
            |event| matches!(event, NetEvent::AddressLost { address, .. } if *address == lost),
        );
    }
}

/// Runs a test on a thread of its own, in a network namespace of its own.
fn in_namespace(test: impl FnOnce(&Path, &mut Wire) + Send + 'static) {
    assert!(nix::unistd::geteuid().is_root(), "these tests make network namespaces: run them as root");
    let run = move || {
        let home = tempfile::tempdir().unwrap();
        let mut wire = Wire::new();
        // Strict reverse-path filtering drops what comes from where no route leads: a client must not depend on UDP.
        fs::write("/proc/sys/net/ipv4/conf/all/rp_filter", "1").unwrap();
        test(home.path(), &mut wire);
    };
    if let Err(panic) = std::thread::spawn(run).join() {
        std::panic::resume_unwind(panic);
    }
}

fn addresses() -> Vec<(Ipv4Addr, u8)> {
    let mut control = Control::new().unwrap();
    let card = control.cards().unwrap().into_iter().find(|card| card.name == "eth0").unwrap();
    control.addresses(card.index).unwrap()
}

fn routes() -> Vec<Route> {
    let mut control = Control::new().unwrap();
    let card = control.cards().unwrap().into_iter().find(|card| card.name == "eth0").unwrap();
    control.routes(card.index).unwrap()
}

fn resolv_conf(home: &Path) -> Vec<String> {
    let text = fs::read_to_string(home.join("run/resolv.conf")).unwrap();
    text.lines().skip(1).map(Into::into).collect()
}

#[test]
fn from_discover_to_a_configured_card_and_over_a_restart() {
    in_namespace(|home, wire| {
        let server = Server::start(wire, Policy::default());
        let mut net = Net::dhcp(home);
        net.expect("the cable", |event| matches!(event, NetEvent::Up { device, .. } if device == "eth0"));
        assert_eq!(net.expect_address(Origin::Dhcp), IpAddr::V4(CLIENT));
        let lease = net.expect_lease();
        assert_eq!((lease.address, lease.server, lease.gateway()), (CLIENT, SERVER, Some(SERVER)));

        let discover = server.wait_for("DISCOVER", |heard| heard.is(MessageType::Discover));
        assert!(discover.message.flags().broadcast());
        let name = discover.option(OptionCode::Hostname);
        assert_eq!(name, Some(&DhcpOption::Hostname("orlop-test".into())));
        let select = server.wait_for("REQUEST", |heard| heard.is(MessageType::Request));
        assert_eq!(select.option(OptionCode::ServerIdentifier), Some(&DhcpOption::ServerIdentifier(SERVER)));
        assert_eq!(addresses(), [(CLIENT, 24)]);
        assert_eq!(routes(), [Route::default_by(SERVER)]);
        assert_eq!(resolv_conf(home), ["nameserver 10.99.0.1", "search example.net"]);

        // The supervisor dies: the card stays as it is, and the next one asks for the same address.
        drop(net);
        assert_eq!(addresses(), [(CLIENT, 24)]);
        let mut net = Net::dhcp(home);
        net.expect_lease();
        server.wait_for("INIT-REBOOT", |heard| {
            heard.is(MessageType::Request)
                && heard.option(OptionCode::RequestedIpAddress) == Some(&DhcpOption::RequestedIpAddress(CLIENT))
                && heard.option(OptionCode::ServerIdentifier).is_none()
        });
        assert_eq!(addresses(), [(CLIENT, 24)]);

        // The net has changed meanwhile: the server refuses, and gives another address.
        drop(net);
        server.set(|policy| {
            policy.refuse = Some(CLIENT);
            policy.address = Ipv4Addr::new(10, 99, 0, 60);
        });
        let mut net = Net::dhcp(home);
        assert_eq!(net.expect_lease().address, Ipv4Addr::new(10, 99, 0, 60));
        assert_eq!(addresses(), [(Ipv4Addr::new(10, 99, 0, 60), 24)]);
        assert_eq!(routes(), [Route::default_by(SERVER)]);
    });
}

#[test]
fn renewing_rebinding_and_a_refusal() {
    in_namespace(|home, wire| {
        let times = |policy: &mut Policy| {
            policy.options.retain(|option| !matches!(option, DhcpOption::AddressLeaseTime(_)));
            policy.options.extend([DhcpOption::AddressLeaseTime(30), DhcpOption::Renewal(1), DhcpOption::Rebinding(2)]);
        };
        let mut policy = Policy::default();
        times(&mut policy);
        let server = Server::start(wire, policy);
        let mut net = Net::dhcp(home);
        net.expect_lease();

        // T1: to the server alone, from the address.
        let renewal = server.wait_for("a renewal", |heard| heard.message.ciaddr() == CLIENT);
        assert_eq!((*renewal.from.ip(), renewal.is_unicast), (CLIENT, true));
        net.expect_lease();

        // T2: the server does not hear its own name any more, so everybody is asked.
        server.set(|policy| policy.deaf_to_unicast = true);
        server.wait_for("a rebinding", |heard| !heard.is_unicast && heard.message.ciaddr() == CLIENT);
        net.expect_lease();

        // It is refused: the address is not used any more, another one is asked for.
        server.set(|policy| {
            policy.refuse = Some(CLIENT);
            policy.address = Ipv4Addr::new(10, 99, 0, 61);
        });
        net.expect_lost(CLIENT);
        server.wait_for("DISCOVER", |heard| heard.is(MessageType::Discover));
        net.expect(
            "the new address",
            |event| matches!(event, NetEvent::Lease { lease, .. } if lease.address == Ipv4Addr::new(10, 99, 0, 61)),
        );
        assert_eq!(addresses(), [(Ipv4Addr::new(10, 99, 0, 61), 24)]);
    });
}

#[test]
fn a_lease_that_nobody_extends_ends() {
    in_namespace(|home, wire| {
        let mut policy = Policy::default();
        policy.options.retain(|option| !matches!(option, DhcpOption::AddressLeaseTime(_)));
        policy.options.push(DhcpOption::AddressLeaseTime(3));
        let server = Server::start(wire, policy);
        let mut net = Net::dhcp(home);
        net.expect_lease();
        server.set(|policy| policy.silent = true);
        net.expect_lost(CLIENT);
        assert_eq!((addresses(), routes()), (vec![], vec![]));
        assert_eq!(resolv_conf(home), Vec::<String>::new());
        server.set(|policy| policy.silent = false);
        net.expect_lease();
        assert_eq!(addresses(), [(CLIENT, 24)]);
    });
}

#[test]
fn a_late_card_that_goes_and_comes_again() {
    in_namespace(|home, wire| {
        let mut net = Net::dhcp(home);
        net.expect("no card", |event| *event == NetEvent::NoCard);
        assert_eq!(resolv_conf(home), Vec::<String>::new(), "the file is there all the same");
        let server = Server::start(wire, Policy::default());
        net.expect_lease();
        // The cable is pulled, and plugged in again.
        server.link(false);
        net.expect("down", |event| matches!(event, NetEvent::Down { .. }));
        assert_eq!(addresses(), [(CLIENT, 24)], "a short break changes nothing");
        server.link(true);
        net.expect("up", |event| matches!(event, NetEvent::Up { .. }));
        net.expect_lease();
        // The card itself goes.
        drop(server);
        net.expect_lost(CLIENT);
        let _server = Server::start(wire, Policy::default());
        net.expect_lease();
    });
}

#[test]
fn classless_routes_of_a_cloud_and_its_mtu() {
    in_namespace(|home, wire| {
        let gateway = Ipv4Addr::new(169, 254, 1, 1);
        let mut policy = Policy::default();
        policy.options.retain(|option| !matches!(option, DhcpOption::SubnetMask(_)));
        policy.options.extend([
            DhcpOption::SubnetMask(Ipv4Addr::BROADCAST),
            DhcpOption::InterfaceMtu(1400),
            DhcpOption::ClasslessStaticRoute(vec![
                ("0.0.0.0/0".parse().unwrap(), gateway),
                ("169.254.1.1/32".parse().unwrap(), Ipv4Addr::UNSPECIFIED),
                ("10.7.0.0/16".parse().unwrap(), Ipv4Addr::new(10, 99, 0, 9)),
            ]),
        ]);
        let _server = Server::start(wire, policy);
        let mut net = Net::dhcp(home);
        let lease = net.expect_lease();
        assert_eq!(addresses(), [(CLIENT, 32)]);
        let mut found = routes();
        found.sort_by_key(|route| lease.routes.iter().position(|wanted| wanted == route));
        assert_eq!(found, lease.routes, "{:?}", net.seen);
        assert!(lease.routes.contains(&Route::default_by(gateway)));
        assert!(!net.seen.iter().any(|event| matches!(event, NetEvent::Problem { .. })), "{:?}", net.seen);
        assert_eq!(wire::mtu("eth0"), 1400);
    });
}

#[test]
fn a_static_address() {
    in_namespace(|home, wire| {
        let server = Server::start(wire, Policy::default());
        let mode = Parameter::parse("10.99.0.70::10.99.0.1:255.255.255.0::eth0:off:10.99.0.1").unwrap().mode;
        let mut net = Net::start(home, mode);
        assert_eq!(net.expect_address(Origin::Static), IpAddr::from([10, 99, 0, 70]));
        net.expect("up", |event| matches!(event, NetEvent::Up { .. }));
        assert_eq!(addresses(), [(Ipv4Addr::new(10, 99, 0, 70), 24)]);
        assert_eq!(routes(), [Route::default_by(SERVER)]);
        assert_eq!(resolv_conf(home), ["nameserver 10.99.0.1"]);
        assert!(server.heard_nothing(), "nobody was asked");
    });
}

#[test]
fn an_address_by_router_advertisement() {
    in_namespace(|home, wire| {
        let _server = Server::start(wire, Policy { advertise: true, ..Policy::default() });
        let mut net = Net::dhcp(home);
        let address = net.expect_address(Origin::Slaac);
        let IpAddr::V6(address) = address else { panic!("{address}") };
        assert_eq!(address.segments()[..4], [0x2001, 0xdb8, 0, 0]);
    });
}

/// What a bridge tells of its ports names no driver: a container's end would be taken for the machine's card.
#[test]
fn a_port_of_a_bridge_is_no_card_and_leaving_the_bridge_is_no_end() {
    in_namespace(|_, wire| {
        let news = Netlink::news(card::groups()).unwrap();
        wire::join(&wire.namespace());
        wire::bridge();
        wire::unbridge("srv");
        let messages = std::iter::from_fn(|| Some(news.receive().unwrap()).filter(|messages| !messages.is_empty()));
        let told: Vec<_> = messages.flatten().filter_map(|message| card::news(&message)).collect();
        assert!(told.iter().any(|news| matches!(news, News::Link(card) if card.name == "srv")), "{told:?}");
        for news in &told {
            assert!(matches!(news, News::Link(card) if card.is_virtual), "{news:?}");
        }
    });
}

#[test]
fn off_is_off() {
    in_namespace(|home, wire| {
        let server = Server::start(wire, Policy::default());
        let net = Net::start(home, Mode::Off);
        assert!(net.events.recv().is_err(), "no thread, no events");
        assert!(addresses().is_empty() && server.heard_nothing());
    });
}

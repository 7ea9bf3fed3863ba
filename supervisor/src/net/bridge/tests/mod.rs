//! Against a real kernel, in network namespaces of their own: real connections tell whether the rules are right. They need root and
//! nothing else.

use std::{
    fs::File,
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsFd, OwnedFd},
    thread,
    time::Duration,
};

use crate::unit::Protocol;
use nix::sched::{CloneFlags, unshare};

use super::{
    super::netlink::{Message, Netlink},
    *,
};

/// Nothing here takes this long, also on a busy machine; what does not come does not come for ever.
const PATIENCE: Duration = Duration::from_secs(30);
/// For what must not arrive.
const SOON: Duration = Duration::from_millis(300);

fn in_namespace(body: impl FnOnce() + Send + 'static) {
    assert!(nix::unistd::geteuid().is_root(), "these tests make network namespaces: run them as root");
    let thread = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        body();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn new_namespace() -> OwnedFd {
    let make = || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        File::open("/proc/thread-self/ns/net").unwrap().into()
    };
    thread::spawn(make).join().unwrap()
}

fn at<T: Send>(namespace: &OwnedFd, work: impl FnOnce() -> T + Send) -> T {
    namespace::inside(namespace.as_fd(), || Ok(work())).unwrap()
}

fn network(name: &str, interface: &str, subnets: &[&str]) -> Network {
    let subnets = subnets.iter().map(|text| text.parse::<Subnet>().unwrap());
    Network {
        name: name.to_owned(),
        interface: interface.to_owned(),
        subnets: subnets.map(|subnet| (subnet, subnet.nth(1).unwrap())).collect(),
        mtu: None,
        internal: false,
        isolation: Isolation::Open,
    }
}

/// Something like a container: a namespace on a network, as its nth station.
fn station(network: &Network, owner: &str, nth: u128) -> OwnedFd {
    let namespace = new_namespace();
    let addresses = network.subnets.iter().map(|(subnet, _)| (subnet.nth(nth).unwrap(), subnet.prefix()));
    let attachment = Attachment {
        bridge: network.interface.clone(),
        host_end: Attachment::host_end(owner, &network.name),
        owner: owner.to_owned(),
        interface: "eth0".to_owned(),
        mac: Mac::of(owner),
        mtu: network.mtu,
        addresses: addresses.collect(),
        gateways: if network.internal { Vec::new() } else { network.subnets.iter().map(|(_, g)| *g).collect() },
    };
    attach(namespace.as_fd(), &attachment).unwrap();
    // Said twice: the first card goes.
    attach(namespace.as_fd(), &attachment).unwrap();
    namespace
}

/// Says to each who connects who that is.
fn serve(namespace: &OwnedFd, address: &str) {
    let listener = at(namespace, || TcpListener::bind(address).unwrap());
    thread::spawn(move || {
        while let Ok((mut stream, from)) = listener.accept() {
            let _ = stream.write_all(from.ip().to_string().as_bytes());
        }
    });
}

/// As whom the server at that address sees who asks from here.
fn ask(address: &str, patience: Duration) -> io::Result<String> {
    let address: SocketAddr = address.parse().unwrap();
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn reaches(from: &OwnedFd, address: &str) -> String {
    at(from, || ask(address, PATIENCE)).unwrap_or_else(|error| panic!("{address}: {error}"))
}

fn fails(from: &OwnedFd, address: &str) {
    if let Ok(seen) = at(from, || ask(address, SOON)) {
        panic!("{address} is reached, as {seen}");
    }
}

fn here() -> OwnedFd {
    File::open("/proc/thread-self/ns/net").unwrap().into()
}

/// Another machine on a wire with this host: it is 192.0.2.9, the host 192.0.2.1.
fn outside() -> OwnedFd {
    let wire = network("wire", "eth7", &["192.0.2.0/24", "2001:db8:7::/64"]);
    ensure(&wire).unwrap();
    station(&wire, "outside", 9)
}

fn publish(host_ip: Option<&str>, host: u16, container: u16, count: u16, address: &str) -> Published {
    Published {
        host_ip: host_ip.map(|ip| ip.parse().unwrap()),
        host,
        container,
        count,
        protocol: Protocol::Tcp,
        address: address.parse().unwrap(),
    }
}

#[test]
fn two_on_a_bridge_reach_each_other_and_the_world_sees_the_host() {
    in_namespace(|| {
        let outside = outside();
        let net = network("app", "br-app", &["10.89.0.0/24", "fd00:89::/64"]);
        ensure(&net).unwrap();
        ensure(&net).unwrap();
        Firewall { zones: vec![Zone::of(&net)], published: Vec::new() }.put().unwrap();
        let (web, db) = (station(&net, "web", 2), station(&net, "db", 3));
        serve(&db, "[::]:5432");
        assert_eq!(reaches(&web, "10.89.0.3:5432"), "::ffff:10.89.0.2");
        assert_eq!(reaches(&web, "[fd00:89::3]:5432"), "fd00:89::2");
        serve(&web, "127.0.0.1:80");
        assert_eq!(reaches(&web, "127.0.0.1:80"), "127.0.0.1", "its loopback is up");
        serve(&outside, "[::]:80");
        assert_eq!(reaches(&web, "192.0.2.9:80"), "::ffff:192.0.2.1");
        assert_eq!(reaches(&web, "[2001:db8:7::9]:80"), "2001:db8:7::1");
        // Whoever knows the address and the way, which is its default route, does not get in.
        fails(&outside, "10.89.0.3:5432");
        // A card of somebody who lives on is nobody's leftover, nor is the bridge that it is joined to.
        let keep = ["eth7".to_owned(), Attachment::host_end("outside", "wire")].into();
        let left = |lives_on: &[&str]| leftovers(&keep, |owner| lives_on.contains(&owner)).unwrap();
        assert_eq!(left(&["web"]), [Attachment::host_end("db", "app")]);
        assert_eq!(left(&[]).len(), 3);
        // All of it goes, and twice.
        for owner in ["web", "db"] {
            detach(&Attachment::host_end(owner, "app")).unwrap();
            detach(&Attachment::host_end(owner, "app")).unwrap();
        }
        remove("br-app").unwrap();
        remove("br-app").unwrap();
        assert_eq!(left(&[]), Vec::<String>::new());
        Firewall::default().put().unwrap();
        Firewall::default().put().unwrap();
    });
}

#[test]
fn published_ports_are_reached_from_everywhere_and_sources_are_kept() {
    in_namespace(|| {
        let outside = outside();
        let host = here();
        let net = network("orlop0", "orlop0", &["10.89.0.0/24", "fd00:89::/64"]);
        ensure(&net).unwrap();
        let published = vec![
            publish(None, 8080, 80, 1, "10.89.0.2"),
            publish(Some("192.0.2.1"), 8081, 80, 1, "10.89.0.2"),
            publish(Some("127.0.0.1"), 8082, 80, 1, "10.89.0.2"),
            publish(None, 9000, 9000, 3, "10.89.0.2"),
            publish(None, 9100, 9000, 3, "10.89.0.2"),
            publish(Some("2001:db8:7::1"), 8080, 80, 1, "fd00:89::2"),
        ];
        Firewall { zones: vec![Zone::of(&net)], published }.put().unwrap();
        let (web, other) = (station(&net, "web", 2), station(&net, "other", 3));
        serve(&web, "[::]:80");
        serve(&web, "0.0.0.0:9002");
        // From outside, as who it is.
        assert_eq!(reaches(&outside, "192.0.2.1:8080"), "::ffff:192.0.2.9");
        assert_eq!(reaches(&outside, "192.0.2.1:8081"), "::ffff:192.0.2.9");
        assert_eq!(reaches(&outside, "[2001:db8:7::1]:8080"), "2001:db8:7::9");
        assert_eq!(reaches(&outside, "192.0.2.1:9002"), "192.0.2.9");
        assert_eq!(reaches(&outside, "192.0.2.1:9102"), "192.0.2.9");
        fails(&outside, "192.0.2.1:8082");
        fails(&outside, "192.0.2.1:80");
        fails(&outside, "192.0.2.1:9003");
        // From the host.
        at(&host, || {
            let mut links = link::Links::new().unwrap();
            let lo = links.find("lo").unwrap().unwrap().index;
            links.up(lo, "", false).unwrap();
        });
        assert_eq!(reaches(&host, "127.0.0.1:8080"), "::ffff:10.89.0.1");
        assert_eq!(reaches(&host, "127.0.0.1:8082"), "::ffff:10.89.0.1");
        assert_eq!(reaches(&host, "192.0.2.1:8080"), "::ffff:192.0.2.1");
        // From a neighbour, and from itself.
        assert_eq!(reaches(&other, "10.89.0.1:8080"), "::ffff:10.89.0.1");
        assert_eq!(reaches(&web, "10.89.0.1:8080"), "::ffff:10.89.0.1");
        assert_eq!(reaches(&web, "192.0.2.1:8080"), "::ffff:10.89.0.1");
        // The host's loopback is the host's.
        serve(&host, "127.0.0.1:22");
        at(&other, || {
            // It would send a packet to there by its gateway.
            std::fs::write("/proc/sys/net/ipv4/conf/eth0/route_localnet", "1").unwrap();
            let lo = link::Links::new().unwrap().find("lo").unwrap().unwrap().index;
            let head = [2, 8, 0, 0, u8::try_from(lo).unwrap(), 0, 0, 0];
            let message = Message::new(libc::RTM_DELADDR, 0, &head).attr(libc::IFA_LOCAL, &[127, 0, 0, 1]);
            Netlink::requests().unwrap().change(message).unwrap();
        });
        fails(&other, "127.0.0.1:22");
    });
}

#[test]
fn an_open_connection_bears_the_exchange_of_the_table_and_another_table_is_left_alone() {
    in_namespace(|| {
        let outside = outside();
        let net = network("orlop0", "orlop0", &["10.89.0.0/24"]);
        ensure(&net).unwrap();
        let firewall =
            Firewall { zones: vec![Zone::of(&net)], published: vec![publish(None, 8080, 80, 1, "10.89.0.2")] };
        let foreign = [nft::Chain { name: "theirs", hook: None, rules: vec![nft::Rule::default().accept()] }];
        nft::replace("others", &foreign).unwrap();
        firewall.put().unwrap();
        let web = station(&net, "web", 2);
        let listener = at(&web, || TcpListener::bind("0.0.0.0:80").unwrap());
        let (near, far) = thread::scope(|scope| {
            let accept = scope.spawn(|| listener.accept().unwrap().0);
            let connect = || TcpStream::connect_timeout(&"192.0.2.1:8080".parse().unwrap(), PATIENCE).unwrap();
            (at(&outside, connect), accept.join().unwrap())
        });
        for stream in [&near, &far] {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        let talk = |(mut from, mut to): (&TcpStream, &TcpStream)| {
            let mut byte = [0];
            from.write_all(b"x").unwrap();
            to.read_exact(&mut byte).unwrap();
        };
        for _ in 0..20 {
            firewall.put().unwrap();
            talk((&near, &far));
            talk((&far, &near));
        }
        // Not even when the port is published no more: what is established goes on.
        Firewall { zones: vec![Zone::of(&net)], published: Vec::new() }.put().unwrap();
        talk((&near, &far));
        talk((&far, &near));
        Firewall::default().put().unwrap();
        assert_eq!(tables(), ["others"]);
    });
}

#[test]
fn networks_that_are_apart_stay_apart() {
    in_namespace(|| {
        let outside = outside();
        serve(&outside, "0.0.0.0:80");
        let with = |name: &str, subnet: &str, internal, isolation| Network {
            internal,
            isolation,
            ..network(name, name, &[subnet])
        };
        let nets = [
            with("open", "10.89.0.0/24", false, Isolation::Open),
            with("two", "10.89.1.0/24", false, Isolation::Open),
            with("iso", "10.89.2.0/24", false, Isolation::Isolated),
            with("iso2", "10.89.3.0/24", false, Isolation::Isolated),
            with("strict", "10.89.4.0/24", false, Isolation::Strict),
            with("inside", "10.89.5.0/24", true, Isolation::Open),
        ];
        nets.iter().for_each(|net| ensure(net).unwrap());
        Firewall { zones: nets.iter().map(Zone::of).collect(), published: Vec::new() }.put().unwrap();
        let stations = nets.each_ref().map(|net| station(net, &net.name, 2));
        stations.iter().for_each(|station| serve(station, "0.0.0.0:80"));
        let allowed = |from: usize, to: usize| match (nets[from].isolation, nets[to].isolation) {
            _ if nets[from].internal || nets[to].internal => false,
            (Isolation::Strict, _) | (_, Isolation::Strict) | (Isolation::Isolated, Isolation::Isolated) => false,
            _ => true,
        };
        for from in 0..nets.len() {
            for to in (0..nets.len()).filter(|to| *to != from) {
                let address = format!("10.89.{to}.2:80");
                if allowed(from, to) {
                    reaches(&stations[from], &address);
                } else {
                    fails(&stations[from], &address);
                }
            }
            if nets[from].internal {
                fails(&stations[from], "192.0.2.9:80");
            } else {
                assert_eq!(reaches(&stations[from], "192.0.2.9:80"), "192.0.2.1");
            }
        }
        let second = station(&nets[5], "second", 3);
        assert_eq!(reaches(&second, "10.89.5.2:80"), "10.89.5.3");
    });
}

#[test]
fn datagrams_find_their_way_back() {
    in_namespace(|| {
        let outside = outside();
        let net = network("orlop0", "orlop0", &["10.89.0.0/24"]);
        ensure(&net).unwrap();
        let port = Published { protocol: Protocol::Udp, ..publish(None, 53, 5353, 1, "10.89.0.2") };
        Firewall { zones: vec![Zone::of(&net)], published: vec![port] }.put().unwrap();
        let web = station(&net, "web", 2);
        let server = at(&web, || UdpSocket::bind("0.0.0.0:5353").unwrap());
        let client = at(&outside, || UdpSocket::bind("0.0.0.0:0").unwrap());
        for socket in [&server, &client] {
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        client.connect("192.0.2.1:53").unwrap();
        client.send(b"?").unwrap();
        let (_, from) = server.recv_from(&mut [0; 8]).unwrap();
        assert_eq!(from.ip(), IpAddr::from([192, 0, 2, 9]));
        server.send_to(b"!", from).unwrap();
        assert_eq!(client.recv(&mut [0; 8]).unwrap(), 1);
    });
}

#[test]
fn a_bridge_of_somebody_else_is_not_taken() {
    in_namespace(|| {
        let mine = network("mine", "br0", &["10.89.0.0/24"]);
        ensure(&mine).unwrap();
        let error = ensure(&network("yours", "br0", &["10.89.1.0/24"])).unwrap_err().to_string();
        assert!(error.contains("there is an interface of this name already (orlop network mine)"), "{error}");
        let error = ensure(&network("lo", "lo", &["10.89.1.0/24"])).unwrap_err().to_string();
        assert!(error.contains("there is an interface of this name already;"), "{error}");
        let routes = host_routes(&network("new", "br1", &[])).unwrap();
        let on: Vec<_> = routes.iter().map(|(route, name)| (route.to.to_string(), name.as_str())).collect();
        assert!(on.contains(&("10.89.0.0/24".to_owned(), "br0")), "{on:?}");
        assert!(host_routes(&mine).unwrap().is_empty());
    });
}

/// Names of the tables of the namespace.
fn tables() -> Vec<String> {
    let mut netlink = Netlink::netfilter().unwrap();
    let message = Message::new(10 << 8 | 1, 0, &[1, 0, 0, 0]);
    let names = netlink.dump(message).unwrap();
    let name = |message: &Message| {
        let (_, attributes) = message.parts::<4>().unwrap();
        String::from_utf8_lossy(attributes.get(1).unwrap()).trim_end_matches('\0').to_owned()
    };
    names.iter().map(name).collect()
}

#[test]
fn golden_rule() {
    let rule = nft::Rule::default().protocol(6).ports(80, 80).drop();
    let messages = nft::messages("t", &[nft::Chain { name: "c", hook: Some(nft::Hook::RAW), rules: vec![rule] }]);
    assert_eq!(messages.len(), 7);
    // linux/netfilter/nf_tables.h by hand: table, chain with its hook, policy and type.
    let chain = [
        &[1, 0, 0, 0][..],
        b"\x06\0\x01\0t\0\0\0",
        b"\x06\0\x03\0c\0\0\0",
        b"\x14\0\x04\x80\x08\0\x01\0\0\0\0\0\x08\0\x02\0\xff\xff\xfe\xd4",
        b"\x08\0\x05\0\0\0\0\x01",
        b"\x0b\0\x07\0filter\0\0",
    ];
    assert_eq!(messages[4].body(), chain.concat());
    let rule = [
        &[1, 0, 0, 0][..],
        b"\x06\0\x01\0t\0\0\0",
        b"\x06\0\x02\0c\0\0\0",
        b"\xe4\0\x04\x80",
        b"\x24\0\x01\x80\x09\0\x01\0meta\0\0\0\0\x14\0\x02\x80\x08\0\x01\0\0\0\0\x01\x08\0\x02\0\0\0\0\x10",
        b"\x2c\0\x01\x80\x08\0\x01\0cmp\0\x20\0\x02\x80\x08\0\x01\0\0\0\0\x01\x08\0\x02\0\0\0\0\0\x0c\0\x03\x80\x05\0\x01\0\x06\0\0\0",
        b"\x34\0\x01\x80\x0c\0\x01\0payload\0\x24\0\x02\x80\x08\0\x01\0\0\0\0\x01\x08\0\x02\0\0\0\0\x02\x08\0\x03\0\0\0\0\x02\x08\0\x04\0\0\0\0\x02",
        b"\x2c\0\x01\x80\x08\0\x01\0cmp\0\x20\0\x02\x80\x08\0\x01\0\0\0\0\x01\x08\0\x02\0\0\0\0\0\x0c\0\x03\x80\x06\0\x01\0\0\x50\0\0",
        b"\x30\0\x01\x80\x0e\0\x01\0immediate\0\0\0\x1c\0\x02\x80\x08\0\x01\0\0\0\0\0\x10\0\x02\x80\x0c\0\x02\x80\x08\0\x01\0\0\0\0\0",
    ];
    assert_eq!(messages[5].body(), rule.concat());
}

#[test]
fn macs() {
    assert_eq!(Mac::parse("aa:BB:cc:00:01:02"), Some(Mac([0xaa, 0xbb, 0xcc, 0, 1, 2])));
    assert_eq!(Mac::parse("aa:bb"), None);
    assert_ne!(Mac::of("web1"), Mac::of("web2"));
    assert_eq!(Mac::of("web").to_string().len(), 17);
    assert_eq!(Attachment::host_end("web", "orlop0").len(), 14);
}

//! Who is called what, and what a question comes to: pure. What containers send is believed in nothing: only a question that stands
//! alone is read.

use std::net::IpAddr;

use simple_dns::{
    CLASS, Name, Packet, PacketFlag, QTYPE, Question, RCODE, ResourceRecord, SimpleDnsError, TYPE,
    rdata::{A, AAAA, OPT, PTR, RData},
};

/// The domain of all names here, as Podman has it; it may be left out.
pub(crate) const DOMAIN: &str = "dns.podman";
/// RFC 1035 4.2.1, where the client says nothing else.
const UDP_BYTES: usize = 512;
const HEAD_BYTES: usize = 12;
/// Of a question, which may have to wait; an answer may have any that there is.
pub(super) const MOST_BYTES: u16 = 4096;

/// A network and who is on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Zone {
    /// Its bridge; what comes by another way is not heard.
    pub(crate) interface: String,
    /// The host's addresses on it, at which it is asked.
    pub(crate) listen: Vec<IpAddr>,
    /// Without a way out, for questions too.
    pub(crate) internal: bool,
    /// Who is asked for all other names; none: the machine's name servers.
    pub(crate) servers: Vec<IpAddr>,
    pub(crate) hosts: Vec<Host>,
}

/// Somebody's card on one network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    /// The same on all its networks.
    pub(crate) owner: String,
    /// In lower case; the first is its own.
    pub(crate) names: Vec<String>,
    pub(crate) addresses: Vec<IpAddr>,
    /// Its `DNS=`, before its network's.
    pub(crate) servers: Vec<IpAddr>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Reply(Vec<u8>),
    /// To these servers, or to the machine's.
    Forward(Vec<IpAddr>),
    /// No question at all.
    Nothing,
}

/// What becomes of a message that came from somebody by the bridge `interface`. `stream`: an answer may have any length.
pub(super) fn judge(zones: &[Zone], interface: &str, from: IpAddr, message: &[u8], stream: bool) -> Verdict {
    let Some(head) = message.first_chunk::<HEAD_BYTES>() else { return Verdict::Nothing };
    // An answer to an answer would go round for ever.
    if head[2] & 0x80 != 0 {
        return Verdict::Nothing;
    }
    if message.len() > MOST_BYTES.into() {
        return Verdict::Reply(refusal(head, RCODE::FormatError));
    }
    // One question, nothing else but EDNS and a signature: with that the parser's work is bounded, too.
    if head[2] & 0x78 != 0 || head[4..10] != [0, 1, 0, 0, 0, 0] || head[10] != 0 || head[11] > 2 {
        return Verdict::Reply(refusal(head, RCODE::NotImplemented));
    }
    let Some(here) = zones.iter().find(|zone| zone.interface == interface) else { return Verdict::Nothing };
    let client = here.hosts.iter().find(|host| host.addresses.contains(&from));
    let is_on = |zone: &&Zone| zone.hosts.iter().any(|host| client.is_some_and(|client| client.owner == host.owner));
    // Who is on several networks sees the names of all of them. Whom nobody knows sees those of where he is.
    let mut seen: Vec<&Zone> = zones.iter().filter(is_on).collect();
    if client.is_none() {
        seen.push(here);
    }
    let (packet, question) = match Packet::parse(message) {
        Ok(packet) => match packet.questions.first().cloned() {
            Some(question) => (packet, question),
            None => return Verdict::Reply(refusal(head, RCODE::FormatError)),
        },
        Err(SimpleDnsError::InvalidQType(_)) => return judge_unknown(zones, interface, from, message, stream),
        Err(_) => return Verdict::Reply(refusal(head, RCODE::FormatError)),
    };
    let most = if stream { usize::from(u16::MAX) } else { packet.opt().map_or(0, |opt| opt.udp_packet_size.into()) };
    match own(&seen, &question) {
        Some(found) => Verdict::Reply(reply(head, &question, found, most.max(UDP_BYTES), packet.opt().is_some())),
        None => elsewhere(head, &seen, here, client),
    }
}

/// A question for a type of records that the library does not know: what is said of it is what is said of one that it knows, and
/// that no name of ours has.
fn judge_unknown(zones: &[Zone], interface: &str, from: IpAddr, message: &[u8], stream: bool) -> Verdict {
    let mut at = HEAD_BYTES;
    // One name without pointers, its type and class.
    while let Some(length @ 1..=63) = message.get(at) {
        at += usize::from(*length) + 1;
    }
    let place = at + 1..at + 3;
    let (Some(0), Some(asked)) = (message.get(at), message.get(place.clone())) else {
        return message
            .first_chunk()
            .map_or(Verdict::Nothing, |head| Verdict::Reply(refusal(head, RCODE::FormatError)));
    };
    let known = u16::from(TYPE::HINFO).to_be_bytes();
    let mut other = message.to_vec();
    other[place.clone()].copy_from_slice(&known);
    match judge(zones, interface, from, &other, stream) {
        Verdict::Reply(mut reply) => {
            // The question comes back with the name as it was; there is none behind a head alone.
            if let Some(back) = reply.get_mut(place).filter(|back| **back == known) {
                back.copy_from_slice(asked);
            }
            Verdict::Reply(reply)
        }
        verdict => verdict,
    }
}

fn elsewhere(head: &[u8; HEAD_BYTES], seen: &[&Zone], here: &Zone, client: Option<&Host>) -> Verdict {
    if seen.iter().all(|zone| zone.internal) {
        return Verdict::Reply(refusal(head, RCODE::NameError));
    }
    let own = client.map(|client| &client.servers).filter(|servers| !servers.is_empty());
    Verdict::Forward(own.unwrap_or(&here.servers).clone())
}

/// The records of a name that is ours. `None`: it is not; an error: it would be, and there is none of that name.
fn own<'a>(seen: &[&'a Zone], question: &Question<'_>) -> Option<Result<Vec<RData<'a>>, RCODE>> {
    let full = question.qname.to_string().to_ascii_lowercase();
    let in_domain =
        full.strip_suffix(DOMAIN).and_then(|rest| if rest.is_empty() { Some("") } else { rest.strip_suffix('.') });
    let name = in_domain.unwrap_or(&full);
    let hosts = || seen.iter().flat_map(|zone| &zone.hosts);
    let mut called = hosts().filter(|host| host.names.iter().any(|one| one == name)).peekable();
    if called.peek().is_some() {
        let mut addresses: Vec<IpAddr> = called.flat_map(|host| host.addresses.iter().copied()).collect();
        addresses.sort_unstable();
        addresses.dedup();
        let is_asked = |address: &IpAddr| match question.qtype {
            QTYPE::TYPE(TYPE::A) => address.is_ipv4(),
            QTYPE::TYPE(TYPE::AAAA) => address.is_ipv6(),
            QTYPE::ANY => true,
            _ => false,
        };
        let record = |address| match address {
            IpAddr::V4(v4) => RData::A(A::from(v4)),
            IpAddr::V6(v6) => RData::AAAA(AAAA::from(v6)),
        };
        return Some(Ok(addresses.into_iter().filter(is_asked).map(record).collect()));
    }
    if in_domain.is_some() {
        return Some(Err(RCODE::NameError));
    }
    let whose =
        hosts().find(|host| full.ends_with(".arpa") && host.addresses.iter().any(|one| reverse(*one) == full))?;
    let named = matches!(question.qtype, QTYPE::TYPE(TYPE::PTR) | QTYPE::ANY);
    let record = whose.names.first().filter(|_| named).and_then(|name| Name::new(name).ok());
    Some(Ok(record.map(|name| RData::PTR(PTR(name))).into_iter().collect()))
}

/// RFC 1035 3.5, RFC 3596 2.5.
fn reverse(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(v6) => {
            let nibbles = v6.octets().into_iter().rev().flat_map(|byte| [byte & 15, byte >> 4]);
            nibbles.map(|nibble| format!("{nibble:x}.")).collect::<String>() + "ip6.arpa"
        }
    }
}

fn reply(
    head: &[u8; HEAD_BYTES],
    question: &Question<'_>,
    found: Result<Vec<RData<'_>>, RCODE>,
    most_bytes: usize,
    extended: bool,
) -> Vec<u8> {
    let build = |records: &[RData<'_>], more: PacketFlag, code| {
        let mut packet = Packet::new_reply(u16::from_be_bytes([head[0], head[1]]));
        packet.set_flags(PacketFlag::AUTHORITATIVE_ANSWER | PacketFlag::RECURSION_AVAILABLE | more);
        if head[2] & 1 != 0 {
            packet.set_flags(PacketFlag::RECURSION_DESIRED);
        }
        *packet.rcode_mut() = code;
        // RFC 6891 6.1.1: whoever speaks of it hears of it.
        *packet.opt_mut() = extended.then(|| OPT { opt_codes: Vec::new(), udp_packet_size: MOST_BYTES, version: 0 });
        packet.questions.push(question.clone());
        // Nobody keeps it: the next container of the name may have another address.
        let record =
            |data: &RData<'_>| ResourceRecord::new(question.qname.clone(), CLASS::IN, 0, data.clone().into_owned());
        packet.answers = records.iter().map(record).collect();
        packet.build_bytes_vec_compressed().unwrap_or_else(|_| refusal(head, RCODE::ServerFailure))
    };
    let (records, code) = match found {
        Ok(records) => (records, RCODE::NoError),
        Err(code) => (Vec::new(), code),
    };
    let whole = build(&records, PacketFlag::empty(), code);
    if whole.len() <= most_bytes { whole } else { build(&[], PacketFlag::TRUNCATION, code) }
}

/// A head alone.
pub(super) fn refusal(head: &[u8; HEAD_BYTES], code: RCODE) -> Vec<u8> {
    // An answer, with what was asked for of recursion; recursion there is.
    let flags = [(head[2] & 0x79) | 0x80, 0x80 | u8::try_from(code as u16).unwrap_or(2)];
    [&head[..2], &flags, &[0; 8]].concat()
}

/// To a question that was passed on.
pub(super) fn failure(message: &[u8]) -> Option<Vec<u8>> {
    message.first_chunk().map(|head| refusal(head, RCODE::ServerFailure))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(owner: &str, names: &[&str], addresses: &[&str]) -> Host {
        Host {
            owner: owner.to_owned(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            servers: Vec::new(),
        }
    }

    /// `web` is on both networks, `db` on the inner one, `cat` on the outer one.
    fn zones() -> Vec<Zone> {
        let zone = |interface: &str, internal, hosts| Zone {
            interface: interface.to_owned(),
            listen: Vec::new(),
            internal,
            servers: vec!["192.0.2.53".parse().unwrap()],
            hosts,
        };
        let outer = [
            host("web", &["systemd-web", "web", "www"], &["10.1.0.2", "fd00::2"]),
            host("cat", &["cat"], &["10.1.0.3"]),
        ];
        let inner = [host("web", &["systemd-web", "web"], &["10.2.0.2"]), host("db", &["db"], &["10.2.0.3"])];
        vec![zone("outer", false, outer.to_vec()), zone("inner", true, inner.to_vec())]
    }

    fn query(name: &str, kind: TYPE) -> Vec<u8> {
        let mut packet = Packet::new_query(7);
        packet.set_flags(PacketFlag::RECURSION_DESIRED);
        packet.questions.push(Question::new(Name::new(name).unwrap(), kind.into(), CLASS::IN.into(), false));
        packet.build_bytes_vec().unwrap()
    }

    /// What is answered, in short.
    fn shown(verdict: Verdict) -> String {
        let bytes = match verdict {
            Verdict::Reply(bytes) => bytes,
            other => return format!("{other:?}"),
        };
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!(packet.id(), 7);
        assert!(
            packet.has_flags(PacketFlag::RESPONSE | PacketFlag::RECURSION_AVAILABLE | PacketFlag::RECURSION_DESIRED)
        );
        let record = |record: &ResourceRecord<'_>| match &record.rdata {
            RData::A(a) => std::net::Ipv4Addr::from(a.address).to_string(),
            RData::AAAA(aaaa) => std::net::Ipv6Addr::from(aaaa.address).to_string(),
            RData::PTR(PTR(name)) => name.to_string(),
            other => format!("{other:?}"),
        };
        let cut = if packet.has_flags(PacketFlag::TRUNCATION) { " cut" } else { "" };
        let records: Vec<String> = packet.answers.iter().map(record).collect();
        format!("{:?} {}{cut}", packet.rcode(), records.join(" "))
    }

    fn asked(interface: &str, from: &str, name: &str, kind: TYPE) -> String {
        shown(judge(&zones(), interface, from.parse().unwrap(), &query(name, kind), false))
    }

    #[test]
    fn names_are_those_of_the_networks_of_who_asks() {
        assert_eq!(asked("outer", "10.1.0.3", "web", TYPE::A), "NoError 10.1.0.2");
        assert_eq!(asked("outer", "10.1.0.3", "WWW.dns.Podman", TYPE::AAAA), "NoError fd00::2");
        assert_eq!(
            asked("outer", "10.1.0.3", "systemd-web", TYPE::MX),
            "NoError ",
            "the name is there, the record is not"
        );
        assert_eq!(asked("outer", "10.1.0.2", "db", TYPE::A), "NoError 10.2.0.3", "who is on both");
        assert_eq!(asked("inner", "10.2.0.2", "web", TYPE::A), "NoError 10.1.0.2 10.2.0.2");
        assert_eq!(asked("outer", "10.1.0.3", "db.dns.podman", TYPE::A), "NameError ");
        assert_eq!(asked("outer", "10.1.0.3", "dns.podman", TYPE::A), "NameError ");
        assert_eq!(asked("outer", "10.1.0.99", "cat", TYPE::A), "NoError 10.1.0.3", "somebody nobody knows");
        let forward = "Forward([192.0.2.53])";
        assert_eq!(asked("outer", "10.1.0.3", "db", TYPE::A), forward, "of another network");
        assert_eq!(asked("outer", "10.1.0.3", "notdns.podman", TYPE::A), forward);
        assert_eq!(asked("inner", "10.2.0.2", "example.com", TYPE::A), forward, "it has a way out by the other");
        assert_eq!(asked("inner", "10.2.0.3", "example.com", TYPE::A), "NameError ");
        assert_eq!(asked("elsewhere", "10.1.0.3", "cat", TYPE::A), "Nothing");
        let mut all = zones();
        all[0].hosts[1].servers = vec!["192.0.2.99".parse().unwrap()];
        let own = judge(&all, "outer", "10.1.0.3".parse().unwrap(), &query("example.com", TYPE::A), false);
        assert_eq!(own, Verdict::Forward(vec!["192.0.2.99".parse().unwrap()]));
    }

    #[test]
    fn addresses_have_names() {
        assert_eq!(asked("outer", "10.1.0.3", "2.0.1.10.in-addr.arpa", TYPE::PTR), "NoError systemd-web");
        assert_eq!(asked("outer", "10.1.0.3", &reverse("fd00::2".parse().unwrap()), TYPE::PTR), "NoError systemd-web");
        assert_eq!(asked("outer", "10.1.0.3", "3.0.2.10.in-addr.arpa", TYPE::PTR), "Forward([192.0.2.53])");
        assert!(reverse("2001:db8::567:89ab".parse().unwrap()).starts_with("b.a.9.8.7.6.5.0.0.0."));
    }

    #[test]
    fn what_is_too_long_for_a_packet_is_asked_for_again() {
        let mut all = zones();
        for number in 0..60 {
            all[0].hosts.push(host(&format!("h{number}"), &["many"], &[&format!("10.1.1.{number}")]));
        }
        let judge = |stream| shown(judge(&all, "outer", "10.1.0.3".parse().unwrap(), &query("many", TYPE::A), stream));
        assert_eq!(judge(false), "NoError  cut");
        assert_eq!(judge(true).split(' ').count(), 61);
    }

    #[test]
    fn whatever_comes_is_no_end() {
        let from = "10.1.0.3".parse().unwrap();
        let whole = query("web.dns.podman", TYPE::A);
        for cut in 0..whole.len() {
            let verdict = judge(&zones(), "outer", from, &whole[..cut], false);
            assert!(!matches!(verdict, Verdict::Forward(_)), "{cut}");
            for bit in 0..8 {
                let mut other = whole.clone();
                other[cut] ^= 1 << bit;
                judge(&zones(), "outer", from, &other, true);
            }
        }
        let mut reply = whole.clone();
        reply[2] |= 0x80;
        assert_eq!(judge(&zones(), "outer", from, &reply, false), Verdict::Nothing);
        let (mut notify, mut crowd) = (whole.clone(), whole);
        notify[2] |= 0x20;
        crowd[6] = 0xff;
        for odd in [notify, crowd] {
            let Verdict::Reply(bytes) = judge(&zones(), "outer", from, &odd, false) else { panic!() };
            assert_eq!((bytes.len(), bytes[3] & 15), (12, 4), "not implemented");
        }
        let unknown = [&query("example.com", TYPE::A)[..25], &[0xff, 0x77, 0, 1]].concat();
        assert_eq!(
            judge(&zones(), "outer", from, &unknown, false),
            Verdict::Forward(vec!["192.0.2.53".parse().unwrap()])
        );
        let mut long = query("example.com", TYPE::A);
        long.resize(4097, 0);
        long[11] = 1;
        let Verdict::Reply(bytes) = judge(&zones(), "outer", from, &long, false) else { panic!() };
        assert_eq!((bytes.len(), bytes[3] & 15), (12, 1), "a format error: nobody keeps it");
    }

    #[test]
    fn names_of_ours_have_no_records_that_nobody_knows() {
        let from = "10.1.0.3".parse().unwrap();
        // SSHFP, CDS, one that nobody has.
        for kind in [44_u16, 59, 0xff77] {
            let ask = |name: &str| {
                let mut question = query(name, TYPE::A);
                let end = question.len();
                question[end - 4..end - 2].copy_from_slice(&kind.to_be_bytes());
                (judge(&zones(), "outer", from, &question, false), question)
            };
            for (name, code) in [("Web", 0), ("db.dns.podman", 3), ("2.0.1.10.in-addr.arpa", 0)] {
                let (Verdict::Reply(bytes), question) = ask(name) else { panic!("{name} {kind}") };
                assert_eq!((bytes[3] & 15, &bytes[4..12]), (code, &[0, 1, 0, 0, 0, 0, 0, 0][..]), "{name} {kind}");
                assert_eq!(bytes[12..], question[12..], "what was asked");
            }
            assert!(matches!(ask("example.com"), (Verdict::Forward(_), _)));
        }
    }

    #[test]
    fn who_speaks_of_extensions_hears_of_them() {
        let ask = |opt: bool| {
            let plain = query("web", TYPE::A);
            let mut packet = Packet::parse(&plain).unwrap();
            *packet.opt_mut() = opt.then(|| OPT { opt_codes: Vec::new(), udp_packet_size: 1232, version: 0 });
            let question = packet.build_bytes_vec().unwrap();
            let Verdict::Reply(bytes) = judge(&zones(), "outer", "10.1.0.3".parse().unwrap(), &question, false) else {
                panic!()
            };
            Packet::parse(&bytes).unwrap().opt().map(|opt| (opt.udp_packet_size, opt.version))
        };
        assert_eq!((ask(true), ask(false)), (Some((MOST_BYTES, 0)), None));
    }
}

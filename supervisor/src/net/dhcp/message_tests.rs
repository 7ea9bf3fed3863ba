use super::*;

const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

/// A server's message: the head, and options as given.
fn reply(kind: u8, options: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; HEAD_BYTES];
    bytes[..8].copy_from_slice(&[2, 1, 6, 0, 1, 2, 3, 4]);
    bytes[16..20].copy_from_slice(&ADDRESS.octets());
    bytes[28..34].copy_from_slice(&MAC);
    bytes[236..].copy_from_slice(&MAGIC);
    bytes.extend([53, 1, kind]);
    bytes.extend(options);
    bytes
}

fn with_times(options: &[u8]) -> Vec<u8> {
    let mut all = vec![54, 4, 10, 0, 2, 2, 51, 4, 0, 0, 14, 16, 1, 4, 255, 255, 255, 0];
    all.extend(options);
    all.push(255);
    all
}

fn lease(options: &[u8]) -> Lease {
    match decode(&reply(5, &with_times(options)), MAC).unwrap().verdict {
        Verdict::Ack(lease) => lease,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_slirp_answers() {
    // QEMU's user network: mask, router, name server, a day, its host name.
    let options = [
        54, 4, 10, 0, 2, 2, 1, 4, 255, 255, 255, 0, 3, 4, 10, 0, 2, 2, 6, 4, 10, 0, 2, 3, 51, 4, 0, 1, 0x51, 0x80, 255,
    ];
    let found = decode(&reply(2, &options), MAC).unwrap();
    assert_eq!(found.xid, 0x0102_0304);
    assert_eq!(
        found.verdict,
        Verdict::Offer(Lease {
            address: ADDRESS,
            prefix: 24,
            server: SERVER,
            renew_seconds: 43_200,
            rebind_seconds: 75_600,
            lease_seconds: 86_400,
            routes: vec![Route::default_by(SERVER)],
            dns: vec![Ipv4Addr::new(10, 0, 2, 3)],
            search: Vec::new(),
            mtu: None,
            hostname: None,
        })
    );
}

#[test]
fn questions_as_another_decoder_reads_them() {
    let ask = |question| {
        let bytes = encode(&Outgoing { xid: 9, secs: 3, question }, MAC, Some("web")).unwrap();
        assert!(bytes.len() >= BOOTP_BYTES);
        Message::decode(&mut Decoder::new(&bytes)).unwrap()
    };
    let discover = ask(Question::Discover { hint: Some(ADDRESS) });
    assert_eq!((discover.xid(), discover.secs(), discover.chaddr()), (9, 3, &MAC[..]));
    assert!(discover.flags().broadcast() && discover.ciaddr().is_unspecified());
    let option = |message: &Message, code| message.opts().get(code).cloned();
    assert_eq!(discover.opts().msg_type(), Some(MessageType::Discover));
    let requested = Some(DhcpOption::RequestedIpAddress(ADDRESS));
    assert_eq!(option(&discover, OptionCode::RequestedIpAddress), requested);
    assert_eq!(option(&discover, OptionCode::Hostname), Some(DhcpOption::Hostname("web".into())));
    let id = [&[1], &MAC[..]].concat();
    assert_eq!(option(&discover, OptionCode::ClientIdentifier), Some(DhcpOption::ClientIdentifier(id)));

    // RFC 2131, table 5: which of the three says what.
    let select = ask(Question::Select { address: ADDRESS, server: SERVER });
    assert_eq!(option(&select, OptionCode::RequestedIpAddress), requested);
    assert_eq!(option(&select, OptionCode::ServerIdentifier), Some(DhcpOption::ServerIdentifier(SERVER)));
    let reboot = ask(Question::Reboot { address: ADDRESS });
    assert_eq!(option(&reboot, OptionCode::RequestedIpAddress), requested);
    assert_eq!(option(&reboot, OptionCode::ServerIdentifier), None);
    let extend = ask(Question::Extend { address: ADDRESS, server: Some(SERVER) });
    assert_eq!((extend.ciaddr(), extend.flags().broadcast()), (ADDRESS, false));
    assert_eq!(option(&extend, OptionCode::RequestedIpAddress), None);
    assert_eq!(option(&extend, OptionCode::ServerIdentifier), None);
}

#[test]
fn a_bad_option_hides_no_other() {
    // A host name in Latin-1, an MTU of three bytes, a name server list of five, a FQDN of nothing, rapid commit with a
    // value.
    let bad = [12, 2, b'k', 0xf6, 26, 3, 5, 5, 5, 6, 5, 1, 1, 1, 1, 1, 81, 0, 80, 1, 1, 151, 0];
    let found = lease(&[&bad[..], &[3, 4, 10, 0, 2, 2, 15, 3, b'l', b'a', b'n']].concat());
    assert_eq!((found.gateway(), found.dns, found.hostname), (Some(SERVER), vec![], None));
    assert_eq!(found.search, ["lan"]);
    // Cut off inside an option: what stands before it counts.
    assert_eq!(lease(&[3, 4, 10, 0, 2, 2, 6, 200, 1]).gateway(), Some(SERVER));
}

#[test]
fn classless_routes_replace_the_router() {
    let found =
        lease(&[3, 4, 10, 0, 2, 2, 121, 20, 0, 10, 0, 2, 1, 24, 192, 168, 7, 10, 0, 2, 9, 16, 172, 16, 0, 0, 0, 0]);
    let route = |destination: [u8; 4], prefix, gateway: Option<[u8; 4]>| Route {
        destination: destination.into(),
        prefix,
        gateway: gateway.map(Into::into),
    };
    assert_eq!(
        found.routes,
        [
            route([0, 0, 0, 0], 0, Some([10, 0, 2, 1])),
            route([192, 168, 7, 0], 24, Some([10, 0, 2, 9])),
            route([172, 16, 0, 0], 16, None)
        ]
    );
    // In two parts that do not stand side by side (RFC 3396).
    let found = lease(&[121, 3, 24, 192, 168, 15, 3, b'l', b'a', b'n', 121, 5, 7, 10, 0, 2, 9]);
    assert_eq!(found.routes, [route([192, 168, 7, 0], 24, Some([10, 0, 2, 9]))]);
    // Malformed ones: the router counts.
    for bad in [&[121, 1, 24][..], &[121, 5, 33, 1, 1, 1, 1], &[121, 0]] {
        assert_eq!(lease(&[bad, &[3, 4, 10, 0, 2, 2]].concat()).gateway(), Some(SERVER), "{bad:?}");
    }
}

#[test]
fn overloaded_fields() {
    let mut bytes = reply(5, &with_times(&[52, 1, 3]));
    bytes[108..115].copy_from_slice(&[3, 4, 10, 0, 2, 2, 255]);
    bytes[44..51].copy_from_slice(&[6, 4, 10, 0, 2, 3, 255]);
    let Verdict::Ack(found) = decode(&bytes, MAC).unwrap().verdict else { panic!() };
    assert_eq!((found.gateway(), found.dns), (Some(SERVER), vec![Ipv4Addr::new(10, 0, 2, 3)]));
}

#[test]
fn names_cannot_write_lines() {
    let text = |code: u8, text: &[u8]| lease(&[&[code, u8::try_from(text.len()).unwrap()], text].concat());
    assert_eq!(text(15, b"a.example b.example\0").search, ["a.example", "b.example"]);
    assert_eq!(text(15, b"lan\nnameserver 6.6.6.6").search, Vec::<String>::new());
    assert_eq!(text(15, b"").search, Vec::<String>::new());
    assert_eq!(
        text(119, b"\x03eng\x05apple\x03com\x00\x09marketing\xc0\x04").search,
        ["eng.apple.com", "marketing.apple.com"]
    );
    assert_eq!(text(12, b"web1\0").hostname.as_deref(), Some("web1"));
    for bad in [&b"web;reboot"[..], b"-web", b"web\n", b"a..b", &[b'a'; 65]] {
        assert_eq!(text(12, bad).hostname, None, "{}", bad.escape_ascii());
    }
}

#[test]
fn values_that_cannot_be() {
    assert_eq!((lease(&[26, 2, 5, 220]).mtu, lease(&[26, 2, 0, 68]).mtu), (Some(1500), None));
    assert_eq!(lease(&[1, 4, 255, 0, 255, 0]).prefix, 8, "a mask joined from two, with holes: the class's");
    assert_eq!(lease(&[6, 8, 127, 0, 0, 1, 255, 255, 255, 255]).dns, Vec::<Ipv4Addr>::new());
    // T1 and T2 out of order: a half and seven eighths.
    for bad in [[0, 0, 14, 17, 0, 0, 1, 0], [0, 0, 0, 0, 0, 0, 255, 255]] {
        let options = [&[58, 4], &bad[..4], &[59, 4], &bad[4..]].concat();
        let found = lease(&options);
        assert_eq!((found.renew_seconds, found.rebind_seconds), (1800, 3150));
    }
    let forever = decode(&reply(5, &[54, 4, 10, 0, 2, 2, 51, 4, 255, 255, 255, 255]), MAC).unwrap();
    assert!(matches!(forever.verdict, Verdict::Ack(Lease { renew_seconds: FOREVER, .. })));

    assert_eq!(decode(&reply(5, &[51, 4, 0, 0, 14, 16]), MAC), None, "no server");
    assert_eq!(decode(&reply(5, &[54, 4, 10, 0, 2, 2]), MAC), None, "no time");
    assert_eq!(decode(&reply(5, &[54, 4, 10, 0, 2, 2, 51, 4, 0, 0, 0, 0]), MAC), None, "no time at all");
    assert_eq!(decode(&reply(3, &with_times(&[])), MAC), None, "a client's message");
    for (at, value) in [(0, 1), (1, 6), (2, 16), (28, 0), (236, 0)] {
        let mut bytes = reply(5, &with_times(&[]));
        bytes[at] = value;
        assert_eq!(decode(&bytes, MAC), None, "byte {at}");
    }
    for address in [[0, 0, 0, 0], [127, 0, 0, 1], [224, 0, 0, 1], [255, 255, 255, 255]] {
        let mut bytes = reply(5, &with_times(&[]));
        bytes[16..20].copy_from_slice(&address);
        assert_eq!(decode(&bytes, MAC), None, "{address:?}");
    }
    let nak = decode(&reply(6, &[56, 3, b'n', b'o', 0]), MAC).unwrap().verdict;
    assert_eq!(nak, Verdict::Nak { server: None, reason: Some("no".into()) });
}

/// Nothing a server sends ends the process: in this build, arithmetic and the library's own assertions are checked.
#[test]
fn any_bytes() {
    let mut dice = 1_u64;
    let mut roll = move || {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) as usize
    };
    let good = reply(5, &with_times(&[121, 8, 24, 192, 168, 7, 10, 0, 2, 9, 119, 4, 2, b'a', b'b', 0, 15, 1, b'x']));
    for _ in 0..100_000 {
        let mut bytes = good.clone();
        for _ in 0..roll() % 6 + 1 {
            let at = HEAD_BYTES + roll() % (bytes.len() - HEAD_BYTES);
            bytes[at] = roll().to_le_bytes()[0];
        }
        bytes.truncate(HEAD_BYTES + roll() % (bytes.len() - HEAD_BYTES + 1));
        decode(&bytes, MAC);
    }
    // Compression that points at itself, and lists of everything.
    for text in [&[0xc0, 0][..], &[1, b'a', 0xc0, 0], &[0xc0], &[63], &[0; 255]] {
        lease(&[&[119, u8::try_from(text.len()).unwrap()], text].concat());
    }
    for code in 0..=255 {
        for length in [0, 1, 2, 3, 4, 5, 255] {
            decode(&reply(5, &[&[code, length][..], &vec![7; usize::from(length)]].concat()), MAC);
        }
    }
}

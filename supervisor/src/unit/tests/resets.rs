//! What an empty assignment takes back, and the order of what is left.

use super::{language, minimal, shown, unit, units};
use crate::unit::{Listen, ListenAddress, ListenKind, Trigger};

/// systemd.timer(5): "the list of timers is reset (both monotonic timers and OnCalendar= timers)".
#[test]
fn every_time_of_a_timer_is_taken_back_by_any_of_them() {
    let read = |lines: &str| {
        let timer = format!("[Timer]\nOnCalendar=daily\nOnUnitActiveSec=1h\n{lines}\n");
        units(&[("job", &minimal("", "")), ("job.timer", &timer)])
    };
    assert_eq!(read("").timers["job.timer"].spec.triggers.len(), 2);
    for key in ["OnCalendar", "OnActiveSec", "OnBootSec", "OnStartupSec", "OnUnitActiveSec", "OnUnitInactiveSec"] {
        let none = read(&format!("{key}="));
        assert!(shown(&none)[0].starts_with("job.timer:1:2: no time to start at"), "{key}: {:?}", shown(&none));
        let set = read(&format!("{key}=\nOnBootSec=5s"));
        assert!(matches!(set.timers["job.timer"].spec.triggers[..], [Trigger::Boot(_)]), "{key}");
    }
}

/// systemd.socket(5): "the list of addresses to listen on is reset".
#[test]
fn every_address_of_a_socket_is_taken_back_by_any_of_them() {
    let read = |lines: &str| {
        let socket = format!("[Socket]\nListenStream=80\nListenDatagram=81\n{lines}\n");
        units(&[("web", &minimal("", "")), ("web.socket", &socket)])
    };
    for key in ["ListenStream", "ListenDatagram", "ListenSequentialPacket", "ListenFIFO", "ListenNetlink"] {
        let none = read(&format!("{key}="));
        assert!(shown(&none)[0].starts_with("web.socket:1:2: nothing to listen on"), "{key}: {:?}", shown(&none));
        let set = read(&format!("{key}=\nListenStream=82"));
        let expected = Listen { kind: ListenKind::Stream, address: ListenAddress::Ip(None, 82) };
        assert_eq!(set.sockets["web.socket"].spec.listen, [expected], "{key}");
    }
}

/// systemd.socket(5): the sockets "are passed in the order of configuration".
#[test]
fn descriptors_come_in_the_order_of_the_lines() {
    let text = "[Socket]\nListenDatagram=53\nListenStream=53\nListenSequentialPacket=@a\nListenDatagram=54\n";
    let set = units(&[("dns", &minimal("", "")), ("dns.socket", text)]);
    let kinds: Vec<ListenKind> = set.sockets["dns.socket"].spec.listen.iter().map(|listen| listen.kind).collect();
    use ListenKind::{Datagram, SequentialPacket, Stream};
    assert_eq!(kinds, [Datagram, Stream, SequentialPacket, Datagram]);
}

/// systemd.unit(5): "the list of conditions is reset completely, all previous condition settings (of any kind) will have no effect".
#[test]
fn conditions_of_any_kind_are_taken_back_together() {
    let checks = |lines: &str| {
        let first = "ConditionPathExists=/b\nAssertPathExists=/c\nConditionFirstBoot=!no\n";
        let set = language(&[("a", &minimal("", &format!("[Unit]\n{first}{lines}")))]);
        assert_eq!(shown(&set), Vec::<String>::new());
        let conditions = set.units["a"].conditions.clone();
        conditions
            .into_iter()
            .map(|c| format!("{}{}", if c.assert { "assert " } else { "" }, c.check))
            .collect::<Vec<_>>()
    };
    assert_eq!(checks(""), ["PathExists", "assert PathExists", "FirstBoot"]);
    assert_eq!(checks("ConditionMemory="), ["assert PathExists"]);
    assert_eq!(checks("ConditionSecurity=\nConditionHost=x"), ["assert PathExists", "Host"]);
    assert_eq!(checks("AssertHost="), ["PathExists", "FirstBoot"]);
}

/// systemd.unit(5): "Dependencies (After=, etc.) cannot be reset to an empty list".
#[test]
fn dependencies_are_not_taken_back() {
    let set = units(&[("a", &minimal("", "[Unit]\nRequires=b.service\nRequires=\nAfter=")), ("b", &minimal("", ""))]);
    assert!(set.units["a"].links.requires.contains("b"));
    let shown = shown(&set);
    assert_eq!(shown.len(), 1, "{shown:#?}");
    assert!(
        shown[0].starts_with("a.container:7:1: warning: Requires= stays as it is: dependencies are not"),
        "{shown:?}"
    );
    // Those of [Install] are a list as others are.
    assert!(!unit("", "[Install]\nWantedBy=default.target\nWantedBy=").enabled);
}

/// `podman run --entrypoint=`
#[test]
fn an_empty_entrypoint_is_none_at_all() {
    assert_eq!(unit("Entrypoint=/x\nEntrypoint=", "").container.entrypoint, Some(vec![String::new()]));
    assert_eq!(unit("", "").container.entrypoint, None);
}

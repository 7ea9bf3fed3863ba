//! What units say of each other, by name: who is meant, who never comes, and who wants the same.

use super::{minimal, shown, source, units};
use crate::unit::{
    UnitSet,
    machine::Machine,
    set::assemble,
    source::{Content, Source, Sources},
};

fn said(files: &[(&str, &str)]) -> Vec<String> {
    shown(&units(files))
}

#[test]
fn two_units_on_one_port_are_told_whatever_they_are() {
    let socket = |lines: &str| format!("[Socket]\n{lines}\nService=web.container\n");
    let web = minimal("", "");
    let pair = |first: &str, second: &str| {
        let set = units(&[("a.socket", &socket(first)), ("b.socket", &socket(second)), ("web", &web)]);
        (set.broken.iter().map(ToString::to_string).collect::<Vec<_>>(), shown(&set))
    };
    for (first, second) in [
        ("ListenStream=8080", "ListenStream=8080"),
        ("ListenStream=80", "ListenStream=127.0.0.1:80"),
        ("ListenStream=127.0.0.1:80", "ListenStream=80"),
        ("ListenStream=[::1]:80", "ListenStream=80"),
        ("ListenStream=[::]:80", "ListenStream=0.0.0.0:80"),
        ("ListenStream=[::ffff:127.0.0.1]:80", "ListenStream=127.0.0.1:80"),
        ("ListenDatagram=53", "ListenDatagram=192.0.2.1:53"),
        ("ListenStream=/run/x.sock", "ListenStream=/run/x.sock"),
        ("ListenStream=/run/x.sock", "ListenDatagram=/run/x.sock"),
        ("ListenStream=@x", "ListenStream=@x"),
    ] {
        let (broken, lines) = pair(first, second);
        assert_eq!((broken, lines.len()), (vec!["b.socket".to_owned()], 1), "{first} {second}: {lines:?}");
        assert!(lines[0].starts_with("b.socket:2:") && lines[0].contains("a.socket:2"), "{lines:?}");
    }
    for (first, second) in [
        ("ListenStream=80", "ListenDatagram=80"),
        ("ListenStream=127.0.0.1:80", "ListenStream=127.0.0.2:80"),
        ("ListenStream=[::1]:80", "ListenStream=127.0.0.1:80"),
        ("ListenStream=[::1]:80", "ListenStream=0.0.0.0:80"),
        ("ListenStream=@x", "ListenDatagram=@x"),
    ] {
        assert_eq!(pair(first, second).1, Vec::<String>::new(), "{first} {second}");
    }
    let twice = socket("ListenStream=8080\nListenStream=0.0.0.0:8080");
    let lines = said(&[("a.socket", &twice), ("web", &web)]);
    let own = "a.socket:3:14: ListenStream=0.0.0.0:8080: this unit has the port of the host already (a.socket:2)";
    assert_eq!(lines, [own]);
    // Of a socket and of what is published.
    let published = said(&[("a.socket", &socket("ListenStream=80")), ("web", &minimal("PublishPort=80:80", ""))]);
    assert!(published.iter().any(|line| line.contains("PublishPort=80:80: a.socket has the port")), "{published:?}");
}

/// As one switches between two versions: they never run side by side, whichever says so. Who runs beside one of them is told all the same.
#[test]
fn units_that_exclude_each_other_may_have_one_port() {
    let at = |port: &str, lines: &str| format!("[Container]\nImage=localhost/x\nPublishPort={port}\n[Unit]\n{lines}\n");
    let (plain, rival) = (|port| at(port, ""), |port, of: &str| at(port, &format!("Conflicts={of}")));
    for (blue, green) in [
        (rival("80:80", "green.service"), plain("80:80")),
        (plain("80:80"), rival("80:80", "blue.container")),
        (rival("80-90:80-90", "green.service"), rival("85:80", "blue.service")),
    ] {
        assert_eq!(said(&[("blue", &blue), ("green", &green)]), Vec::<String>::new());
    }
    let (blue, green) = (plain("80:80"), rival("80:80", "blue.service"));
    let other = |red: &str| said(&[("blue", &blue), ("green", &green), ("red", red)]);
    let told = other(&rival("80:80", "blue.service"));
    assert!(told.len() == 1 && told[0].contains("green has the port of the host already"), "{told:?}");
    assert_eq!(other(&rival("80:80", "blue.service green.service")), Vec::<String>::new());
    // One at another address is in the way of who wants all.
    let mut named = [("blue", at("127.0.0.1:80:80", "")), ("green", at("192.0.2.1:80:80", "")), ("red", green)];
    let shown =
        |named: &[(&str, String)]| said(&named.iter().map(|(name, text)| (*name, text.as_str())).collect::<Vec<_>>());
    let told = shown(&named);
    assert!(told.len() == 1 && told[0].contains("green has the port of the host already"), "{told:?}");
    named[2].1 = rival("80:80", "blue.service green.service");
    assert_eq!(shown(&named), Vec::<String>::new());
    // A name is nobody's port.
    let named = |of: &str| minimal("ContainerName=x", &format!("[Unit]\nConflicts={of}"));
    assert_eq!(said(&[("a", &named("b.service")), ("b", &named("a.service"))]).len(), 1);
}

/// An overlap is none of two others: who has lost to one is told of the next too, and keeps nobody from loading.
#[test]
fn who_has_lost_is_told_of_all() {
    let socket = |address: &str| format!("[Socket]\nListenStream={address}\nService=web.container\n");
    let (a, b, c) = (socket("127.0.0.1:80"), socket("80"), socket("192.0.2.1:80"));
    let set = units(&[("a.socket", &a), ("b.socket", &b), ("c.socket", &c), ("web", &minimal("", ""))]);
    let has = |who: &str| {
        format!("b.socket:2:14: ListenStream=80: {who}.socket has the port of the host already ({who}.socket:2)")
    };
    assert_eq!(shown(&set), [has("a"), has("c")]);
    assert_eq!(set.broken.len(), 1);
}

#[test]
fn a_claim_that_fails_is_marked_by_its_word() {
    let wants = |lines: &str| minimal("", &format!("[Install]\nAlias={lines}"));
    let set = units(&[("a", &wants("x.service y.service")), ("b", &wants("z.service y.service"))]);
    let place = &set.problems[0].place;
    assert_eq!((set.problems.len(), place.line, place.column, place.width), (1, 6, 17, 9), "{:?}", shown(&set));
    let many: String = (0..300).map(|i| format!("x{i}.service ")).collect();
    assert_eq!(said(&[("a", &wants(&many)), ("b", &wants(&many))]).len(), 100);
}

#[test]
fn aliases_have_the_suffix_of_their_unit() {
    let timer = |alias: &str| format!("[Timer]\nOnCalendar=daily\nUnit=web.container\n[Install]\nAlias={alias}\n");
    let other = minimal("", "[Unit]\nAfter=other.timer\n");
    assert_eq!(said(&[("a.timer", &timer("other.timer")), ("web", &other)]), Vec::<String>::new());
    let wrong = said(&[("a.timer", &timer("other.service")), ("web", &minimal("", ""))]);
    assert_eq!(wrong, ["a.timer:5:7: Alias=other.service: such a name ends in .timer"]);
    // Of a template a template's: systemd.unit(5).
    let template = minimal("", "[Install]\nAlias=dd@.service\n");
    let asks = minimal("", "[Unit]\nRequires=dd@one.service d@one.service\n");
    let set = units(&[("d@one", &template), ("web", &asks)]);
    assert_eq!(shown(&set), Vec::<String>::new());
    assert_eq!(set.units["web"].links.requires.iter().map(ToString::to_string).collect::<Vec<_>>(), ["d@one"]);
}

#[test]
fn timers_and_sockets_start_containers() {
    let web = minimal("", "");
    let timer = |unit: &str| format!("[Timer]\nOnCalendar=daily\nUnit={unit}\n");
    let socket = |unit: &str| format!("[Socket]\nListenStream=80\nService={unit}\n");
    for (name, text) in [
        ("a.timer", timer("a.timer")),
        ("a.timer", timer("b.socket")),
        ("a.socket", socket("b.timer")),
        ("a.socket", socket("a.socket")),
    ] {
        let set = units(&[(name, &text), ("b.socket", &socket("web.service")), ("web", &web)]);
        let lines = shown(&set);
        assert!(
            lines.iter().any(|l| l.starts_with(name) && l.contains("starts a container, such as a.container")),
            "{lines:?}"
        );
        assert!(set.broken.contains(name));
    }
}

#[test]
fn what_does_not_start_at_boot_is_told() {
    let wants = |line: &str| minimal("", &format!("[Install]\n{line}\n"));
    for line in ["WantedBy=timers.target", "WantedBy=sockets.target", "RequiredBy=timers.target"] {
        let set = units(&[("web", &wants(line))]);
        assert!(!set.units["web"].enabled);
        assert!(shown(&set)[0].contains("does not start the unit at boot here; write WantedBy=default.target"));
    }
    let set = units(&[("web", &wants("UpheldBy=default.target"))]);
    assert!(set.units["web"].enabled && shown(&set)[0].contains("write Restart=always"), "{:?}", shown(&set));
    let timer = "[Timer]\nOnCalendar=daily\n[Install]\nWantedBy=timers.target\n";
    let set = units(&[("web", &minimal("", "")), ("web.timer", timer)]);
    assert!(set.timers["web.timer"].enabled && shown(&set).is_empty());
    let wrong = "[Timer]\nOnCalendar=daily\n[Install]\nWantedBy=sockets.target\n";
    assert_eq!(said(&[("web", &minimal("", "")), ("web.timer", wrong)]).len(), 1);
}

/// Nothing that is written is ignored in silence.
#[test]
fn what_a_volume_or_image_cannot_have_is_told() {
    let unit = "AssertPathExists=/nothere\nConditionPathExists=/x\nOnFailure=web.container\nFailureAction=reboot";
    let service = "Type=oneshot\nRemainAfterExit=yes\nRestart=no\nMemoryMax=1G";
    let web = minimal("", "");
    for (name, section) in [("v.volume", "[Volume]"), ("v.image", "[Image]\nImage=localhost/x")] {
        let text = format!("[Unit]\nDescription=x\nRequires=web.container\n{unit}\n{section}\n[Service]\n{service}\n");
        let lines = said(&[(name, &text), ("web", &web)]);
        assert_eq!(lines.len(), 6, "{lines:#?}");
        let tail = format!("of a {} has no effect here; write it in the unit that uses it", &name[1..]);
        assert!(lines.iter().all(|line| line.contains("warning: ") && line.ends_with(&tail)), "{lines:#?}");
    }
}

#[test]
fn guesses_are_of_names_and_of_suffixes_apart() {
    let asks = |name: &str| minimal("", &format!("[Unit]\nRequires={name}\n"));
    let ask = |name: &str| {
        let text = asks(name);
        let files = [("web", &*text), ("backend", &minimal("", "")), ("data.volume", "[Volume]\n")];
        said(&files).pop().unwrap_or_default()
    };
    assert!(ask("db.container").ends_with("there is no db.container"), "{}", ask("db.container"));
    assert!(ask("bakcend.container").ends_with("; did you mean backend.container?"));
    assert!(ask("backend.volume").ends_with("; did you mean backend.container?"));
    assert!(ask("date.volume").ends_with("; did you mean data.volume?"));
    assert!(ask("backend.conatiner").ends_with("; did you mean backend.container?"), "{}", ask("backend.conatiner"));
    assert!(ask("multi-user.traget").ends_with("; did you mean multi-user.target?"));
}

/// Beside `db.container`, which is empty.
fn with_masked(web: &str) -> UnitSet {
    let masked = Source { content: Content::Masked, ..source("db", b"") };
    let sources = Sources { units: vec![source("web", web.as_bytes()), masked], ..Sources::default() };
    assemble(sources, Vec::new(), &Machine::any(), true)
}

#[test]
fn what_needs_a_masked_unit_has_a_mistake() {
    for key in ["Requires", "BindsTo", "Requisite"] {
        let web = minimal("", &format!("[Unit]\n{key}=db.container\n"));
        let set = with_masked(&web);
        assert!(shown(&set)[0].contains("that unit is masked") && set.broken.contains("web"), "{:?}", shown(&set));
    }
    let web = minimal("", "[Unit]\nAfter=db.container\nWants=db.container\n[Install]\nRequiredBy=db.service\n");
    assert_eq!(shown(&with_masked(&web)), Vec::<String>::new());
}

/// systemd drops it and says so; a template that asks for ever more of itself is told once.
#[test]
fn a_unit_that_names_itself_is_told_and_loads() {
    let set = units(&[("web", &minimal("", "[Unit]\nAfter=web.service\nRequires=web.container\n"))]);
    assert_eq!((shown(&set).len(), set.units.len()), (2, 1), "{:?}", shown(&set));
    assert!(set.problems.iter().all(|problem| !problem.is_error()));
    for name in ["t@x%i.service", "t@%n.service", "t@%N.container", "t@%i%i.service"] {
        let text = minimal("", &format!("[Unit]\nAfter={name}\n"));
        let set = units(&[("t@one", &text), ("t@two", &text)]);
        let lines = shown(&set);
        assert_eq!((lines.len(), set.units.len()), (2, 2), "{lines:?}");
        assert!(lines.iter().all(|line| line.contains("warning: After= is left out: each instance")), "{lines:?}");
    }
    // One that is written is somebody.
    let set = units(&[("t@1", &minimal("", "[Unit]\nAfter=t@12.service\n")), ("t@12", &minimal("", ""))]);
    assert_eq!((shown(&set).len(), set.units["t@1"].links.after.len()), (0, 1));
}

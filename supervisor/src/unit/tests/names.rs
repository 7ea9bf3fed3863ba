//! Names as systemd-escape(1) writes them, specifiers in lists of words, and files of templates.

use super::{language, minimal, shown, units};
use crate::unit::{UnitName, VolumeSource};

fn names<'a>(set: impl IntoIterator<Item = &'a UnitName>) -> Vec<&'a str> {
    set.into_iter().map(UnitName::as_str).collect()
}

/// `config_parse_unit_deps` keeps escapes: they are part of the name.
#[test]
fn escapes_in_names_stay() {
    let text = r"[Unit]
Requires=my\x2dapp.service web@a\x2db.service
After=my\x2dapp.container
[Install]
WantedBy=my\x2dapp.service
Alias=other\x2dname.service";
    let set =
        units(&[(r"my\x2dapp", &minimal("", "")), ("web@", &minimal("HostName=x", "")), ("dep", &minimal("", text))]);
    assert_eq!(shown(&set), Vec::<String>::new());
    let dep = &set.units["dep"];
    assert_eq!(names(&dep.links.requires), [r"my\x2dapp", r"web@a\x2db"]);
    assert_eq!(names(&dep.links.after), [r"my\x2dapp"]);
    assert_eq!(names(&dep.aliases), [r"other\x2dname"]);
    assert_eq!(names(&set.units[r"my\x2dapp"].links.wants), ["dep"]);
    assert!(set.units.contains_key(r"web@a\x2db"));
}

/// Words are split before specifiers are replaced: nothing that one means ends a word, opens a quote or is an escape.
#[test]
fn a_specifier_is_part_of_its_word() {
    let template = minimal("Exec=echo %I \"%i\" %%i\nEnvironment=A=%i N=%I\nLabel=\\x25i=1", "");
    let asks = r"[Unit]
Wants=x@a\x2db.service x@a\x20b.service x@a\x22b.service";
    let set = units(&[("x@", &template), ("asks", &minimal("", asks))]);
    assert_eq!(shown(&set), Vec::<String>::new());
    for (instance, plain) in [(r"a\x2db", "a-b"), (r"a\x20b", "a b"), (r"a\x22b", "a\"b")] {
        let container = &set.units[format!("x@{instance}").as_str()].container;
        assert_eq!(container.exec, ["echo", plain, instance, "%i"]);
        assert_eq!((&*container.environment["A"], &*container.environment["N"]), (instance, plain));
        // As systemd has it: what an escape has made is a specifier too.
        assert_eq!(container.labels[instance], "1");
    }
    let wrong = units(&[("x", &minimal("Label=\\x25d=1", ""))]);
    assert!(shown(&wrong)[0].starts_with("x.container:4:7: %d cannot be honoured"), "{:?}", shown(&wrong));
}

/// podman-systemd.unit(5): `foo-data@.volume` in a template is the one of the same instance.
#[test]
fn a_templates_file_is_that_of_the_same_instance() {
    let container = "Volume=data@.volume:/a\nMount=type=volume,source=data@.volume,destination=/b";
    let set = language(&[
        ("foo@", &format!("[Container]\nImage=base@.image\nNetwork=net@.network\n{container}\n")),
        ("bar@", "[Container]\nImage=localhost/x\nPod=all@.pod\n"),
        ("data@.volume", "[Volume]\nLabel=a=%i\n"),
        ("net@.network", "[Network]\n"),
        ("base@.image", "[Image]\nImage=localhost/base:%i\n"),
        ("all@.pod", "[Pod]\n"),
        (
            "asks",
            &minimal(
                "",
                "[Unit]\nWants=foo@one.service foo@two.service bar@one.service bar@two.service\nAfter=data-volume@one.service",
            ),
        ),
    ]);
    assert_eq!(shown(&set), Vec::<String>::new());
    for instance in ["one", "two"] {
        let unit = &set.units[format!("foo@{instance}").as_str()];
        let data = VolumeSource::Named(format!("systemd-data-{instance}"));
        assert!(unit.container.volumes.iter().all(|volume| volume.source == data), "{:?}", unit.container.volumes);
        assert_eq!(set.volumes[format!("data-volume@{instance}").as_str()].spec.labels["a"], instance);
        let member = &set.units[format!("bar@{instance}").as_str()];
        assert_eq!(member.container.pod.as_ref().unwrap().0.as_str(), format!("all-pod@{instance}"));
        let shown = format!("{:?} {:?}", unit.container.root, unit.container.network);
        assert!(shown.contains(&format!("localhost/base:{instance}")), "{shown}");
        assert!(shown.contains(&format!("systemd-net-{instance}")), "{shown}");
    }
    // Without an instance there is none to be the same as.
    let plain = language(&[("a", &minimal("Volume=data@.volume:/a", "")), ("data@.volume", "[Volume]\n")]);
    assert!(shown(&plain)[0].contains("there is no data@.volume"), "{:?}", shown(&plain));
}

/// `resolve_template` of systemd's unit.c: of the same instance, or of the unit's own name.
#[test]
fn a_template_among_the_dependencies_is_an_instance() {
    let set = units(&[
        ("job@", &minimal("", "[Unit]\nAfter=db@.container\nRequires=db@.service")),
        ("db@", &minimal("", "")),
        ("web", &minimal("", "[Unit]\nWants=db@.service job@one.service")),
    ]);
    assert_eq!(shown(&set), Vec::<String>::new());
    assert_eq!(names(&set.units["job@one"].links.requires), ["db@one"]);
    assert_eq!(names(&set.units["web"].links.wants), ["db@web", "job@one"]);
}

/// Of a template that nobody names, what is wrong with one name may be right with another.
#[test]
fn what_a_name_makes_wrong_is_no_mistake_of_the_template() {
    let job = ("job", "[Container]\nImage=localhost/x\n");
    let problems = |timer: &str| units(&[("job@.timer", timer), job]).problems;
    assert_eq!(problems("[Timer]\nOnCalendar=%i\nUnit=job.container\n"), []);
    assert_eq!(problems("[Timer]\nOnCalendar=%i\nUnit=job.container\nPersistent=x\n").len(), 1);
}

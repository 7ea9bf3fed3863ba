//! Links between units, masks, drop-ins, and folders on disk.

use std::{collections::BTreeSet, fs, os::unix::fs::symlink};

use super::{language, minimal, path, problem, shown, units};
use crate::unit::{UnitName, load, tree};

fn names<'a>(set: impl IntoIterator<Item = &'a UnitName>) -> Vec<&'a str> {
    set.into_iter().map(UnitName::as_str).collect()
}

#[test]
fn links_are_resolved_in_both_directions() {
    let set = units(&[
        ("db", &minimal("", "[Install]\nWantedBy=multi-user.target")),
        ("web", &minimal("", "[Unit]\nAfter=db.container cache.service\nRequires=db.service\nWants=cache.container")),
        ("cache", &minimal("", "[Unit]\nBefore=web.service\n[Install]\nRequiredBy=db.container")),
    ]);
    assert_eq!(shown(&set), Vec::<String>::new());
    let web = &set.units["web"];
    assert_eq!(names(&web.links.after), ["cache", "db"]);
    assert_eq!(names(&web.links.requires), ["db"]);
    assert_eq!(names(&web.links.wants), ["cache"]);
    assert!(!web.enabled && set.units["db"].enabled && !set.units["cache"].enabled);
    assert_eq!(names(&set.units["cache"].links.before), ["web"]);
    assert_eq!(names(&set.units["db"].links.requires), ["cache"]);
}

#[test]
fn what_does_not_exist_is_refused_or_warned_about() {
    let set = units(&[
        ("db", &minimal("", "")),
        ("a", &minimal("", "[Unit]\nRequires=bd.service")),
        ("b", &minimal("", "[Unit]\nAfter=bd.container")),
        ("c", &minimal("", "[Unit]\nAfter=bd.service\nWants=proxy.service")),
        ("d", &minimal("", "[Unit]\nRequires=var.mount\nAfter=x.mount")),
    ]);
    assert_eq!(names(set.units.keys()), ["c", "db"]);
    assert_eq!(names(&set.broken), ["a", "b", "d"]);
    assert!(set.units["c"].links.after.is_empty() && set.units["c"].links.wants.is_empty());
    let shown = shown(&set);
    assert_eq!(shown[0], "a.container:6:10: Requires=bd.service: there is no bd.container; did you mean db.container?");
    assert_eq!(shown[1], "b.container:6:7: After=bd.container: there is no bd.container; did you mean db.container?");
    assert!(shown[2].starts_with("c.container:6:7: warning: After=bd.service: without effect"), "{}", shown[2]);
    assert!(shown[3].starts_with("c.container:7:7: warning: Wants=proxy.service: without effect"), "{}", shown[3]);
    assert_eq!(shown.len(), 6);
}

#[test]
fn a_circle_is_shown_as_its_path_and_the_rest_loads() {
    let set = units(&[
        ("a", &minimal("", "[Unit]\nAfter=b.container")),
        ("b", &minimal("", "[Unit]\nAfter=c.container")),
        ("c", &minimal("", "[Unit]\nBefore=x.container\nAfter=a.container")),
        ("d", &minimal("", "[Unit]\nAfter=a.container\nRequires=a.container")),
        ("x", &minimal("", "")),
    ]);
    assert_eq!(names(set.units.keys()), ["d", "x"]);
    assert_eq!(names(&set.broken), ["a", "b", "c"]);
    assert_eq!(
        shown(&set),
        [
            "a.container:6:7: units wait for each other in a circle: a after b (a.container:6, After=), b after c (b.container:6, After=), \
          c after a (c.container:7, After=); take one of these lines away"
        ]
    );
    // It cannot start, and nothing else is held up by it.
    assert_eq!(names(&set.units["d"].links.requires), ["a"]);
    assert!(set.units["d"].links.after.is_empty());
}

/// What one mistake hides of the others would be told one run after the other.
#[test]
fn all_mistakes_of_all_files_are_told_at_once() {
    let unit = "[Unit]\nRequires=nothere.service\nAfter=b.container docker.service";
    let set = units(&[
        ("a", &minimal("Memroy=1\nVolume=nodecl.volume:/x\nContainerName=same", unit)),
        ("b", &minimal("", "[Unit]\nAfter=a.container")),
        ("c", &minimal("ContainerName=same", "[Unit]\nRequires=nowhere.service")),
        ("d", &minimal("ContainerName=same", "")),
    ]);
    let shown = shown(&set);
    let expected = [
        "a.container:4:1: unknown key Memroy=",
        "a.container:5:8: Volume=nodecl.volume: there is no nodecl.volume",
        "a.container:6:15: d has this name of a container or pod already, same (d.container:4); choose another",
        "a.container:8:10: Requires=nothere.service: there is no nothere.container",
        "a.container:9:7: units wait for each other in a circle: a after b (a.container:9, After=), b after a",
        "a.container:9:19: warning: After=docker.service: without effect",
        "c.container:4:15: d has this name of a container or pod already",
        "c.container:6:10: Requires=nowhere.service: there is no nowhere.container",
    ];
    assert_eq!(shown.len(), expected.len(), "{shown:#?}");
    for (shown, expected) in shown.iter().zip(expected) {
        assert!(shown.starts_with(expected), "{shown}\n  is not\n{expected}");
    }
    // None of it keeps a unit without mistakes from starting.
    assert_eq!((names(set.units.keys()), names(&set.broken)), (vec!["b", "d"], vec!["a", "c"]));
    assert_eq!(set.circles.len(), 1);
    assert_eq!(names(&set.circles[0].0), ["a"]);
    assert!(set.units["b"].links.after.is_empty());
}

/// A unit that does not load takes no name away from one that would.
#[test]
fn what_a_refused_unit_claims_is_free_for_others() {
    let with = |lines: &str| format!("[Container]\nImage=localhost/x\nNetwork=bridge\n{lines}\n");
    let set = language(&[
        ("a", &with("PublishPort=80:80")),
        ("b", &with("PublishPort=80:80\nPublishPort=81:81")),
        ("c", &with("PublishPort=81:81")),
    ]);
    assert_eq!((names(set.units.keys()), names(&set.broken)), (vec!["a", "c"], vec!["b"]));
    let shown = shown(&set);
    assert!(shown[0].starts_with("b.container:4:13: PublishPort=80:80: a has the port"), "{shown:#?}");
    assert!(shown[1].starts_with("b.container:5:13: PublishPort=81:81: c has the port"), "{shown:#?}");
}

/// Whoever mends the first would be told of the second by the next run.
#[test]
fn circles_that_share_units_are_told_at_once() {
    let set = units(&[
        ("a", &minimal("", "[Unit]\nAfter=b.container")),
        ("b", &minimal("", "[Unit]\nAfter=a.container\nAfter=c.container")),
        ("c", &minimal("", "[Unit]\nAfter=b.container")),
    ]);
    let shown = shown(&set);
    assert_eq!(shown.len(), 2, "{shown:#?}");
    assert!(shown[0].contains("a after b (a.container:6, After=), b after a"), "{}", shown[0]);
    assert!(shown[1].contains("b after c (b.container:7, After=), c after b"), "{}", shown[1]);
    assert_eq!(names(&set.broken), ["a", "b", "c"]);
}

/// Each instance reads the template's lines.
#[test]
fn what_instances_share_is_told_once() {
    let set = units(&[
        ("t@", &minimal("", "[Install]\nWantedBy=nothere.service\nDefaultInstance=one")),
        ("a", &minimal("", "[Unit]\nWants=t@two.service")),
    ]);
    assert_eq!(names(set.units.keys()), ["a", "t@one", "t@two"]);
    let shown = shown(&set);
    assert_eq!(shown.len(), 1, "{shown:#?}");
    assert!(shown[0].contains("WantedBy=nothere.service: without effect"), "{}", shown[0]);
}

#[test]
fn two_circles_are_two_problems() {
    let both = |other: &str| minimal("", &format!("[Unit]\nAfter={other}.service\nBefore={other}.service"));
    let set = units(&[("a", &both("b")), ("b", &minimal("", "")), ("c", &both("d")), ("d", &minimal("", ""))]);
    assert_eq!(set.problems.len(), 2, "{:#?}", shown(&set));
    assert!(set.units.is_empty());
}

#[test]
fn targets_keep_their_meaning() {
    let set = units(&[
        ("a", "[Container]\nImage=localhost/x\nNetwork=host\n"),
        ("b", "[Container]\nImage=localhost/x\nNetwork=host\n[Quadlet]\nDefaultDependencies=no\n"),
        (
            "c",
            "[Container]\nImage=localhost/x\nNetwork=none\n[Unit]\nWants=network-online.target\nAfter=network-online.target local-fs.target\n",
        ),
        ("d", "[Container]\nImage=localhost/x\nNetwork=none\n[Unit]\nWants=network-online.target\n"),
        ("e", "[Container]\nImage=localhost/x\nNetwork=none\n[Unit]\nAfter=network-onlin.target my-app.target\n"),
        ("f", "[Container]\nImage=localhost/x\nNetwork=none\n[Install]\nWantedBy=graphical.target\n"),
    ]);
    let online = |name: &str| set.units[name].after_network_online;
    assert_eq!([online("a"), online("b"), online("c"), online("d")], [true, false, true, false]);
    let shown = shown(&set);
    let unknown = "there are no targets of one's own here, and systemd has none of this name";
    let near = "; did you mean network-online.target?";
    assert_eq!(shown[0], format!("e.container:5:7: warning: After=network-onlin.target: {unknown}{near}"));
    assert_eq!(shown[1], format!("e.container:5:28: warning: After=my-app.target: {unknown}"));
    assert!(shown[2].contains("warning") && shown[2].contains("default.target"), "{}", shown[2]);
    assert!(set.units.contains_key("e"));
    let hard = problem("", "[Unit]\nRequires=my-app.target");
    assert!(hard.ends_with(&format!("10: Requires=my-app.target: {unknown}")), "{hard}");
    assert!(!set.units["f"].enabled);
}

#[test]
fn folders_replace_mask_and_extend() {
    let dir = tempfile::tempdir().unwrap();
    let (lib, etc) = (dir.path().join("lib"), dir.path().join("etc"));
    for folder in [
        "lib/web-front.container.d",
        "etc/web-.container.d",
        "etc/container.d",
        "etc/web-front.container.d",
        "etc/gone.container.d",
    ] {
        fs::create_dir_all(dir.path().join(folder)).unwrap();
    }
    fs::write(lib.join("web-front.container"), minimal("Environment=A=lib", "")).unwrap();
    fs::write(lib.join("demo.container"), minimal("", "")).unwrap();
    fs::write(lib.join("old.container"), minimal("", "")).unwrap();
    fs::write(etc.join("old.container"), minimal("HostName=new", "")).unwrap();
    symlink("/dev/null", etc.join("demo.container")).unwrap();
    fs::write(etc.join("container.d/50-all.conf"), "[Container]\nEnvironment=B=all\nMemory=1G\n").unwrap();
    fs::write(etc.join("web-.container.d/50-all.conf"), "[Container]\nEnvironment=C=prefix\n").unwrap();
    fs::write(lib.join("web-front.container.d/60-x.conf"), "[Container]\nEnvironment=D=lib\n").unwrap();
    fs::write(etc.join("web-front.container.d/60-x.conf"), "[Container]\nEnvironment=D=etc\n").unwrap();
    fs::write(etc.join("web-front.container.d/70-typo.conf"), "[Container]\nEnvironmnt=D=etc\n").unwrap();
    fs::write(etc.join("web-front.container.d/readme.txt"), "").unwrap();
    fs::write(etc.join("data.volume"), "[Volume]\n").unwrap();
    fs::write(etc.join("x.contianer"), "").unwrap();
    fs::write(etc.join("app.env"), "A=1\n").unwrap();

    let set = load(&[&lib, &etc, path("/nonexistent/folder")], &BTreeSet::new());
    assert_eq!(names(set.units.keys()), ["old"]);
    assert_eq!(names(&set.masked), ["demo"]);
    assert_eq!(names(&set.broken), ["web-front"]);
    assert_eq!(set.units["old"].container.hostname.as_deref(), Some("new"));
    assert_eq!(set.units["old"].container.memory_max_bytes, Some(1 << 30));
    let strip = |line: String| line.replace(&format!("{}/", dir.path().display()), "");
    let shown: Vec<String> = shown(&set).into_iter().map(strip).collect();
    assert_eq!(
        shown,
        [
            "etc/gone.container.d: warning: drop-ins without effect: there is no gone.container",
            "etc/web-front.container.d/70-typo.conf:2:1: unknown key Environmnt= in [Container]; did you mean Environment=?",
            "etc/web-front.container.d/readme.txt: warning: left out: a drop-in's name ends in .conf",
            "etc/x.contianer: warning: left out: .contianer is no kind of unit; did you mean .container?",
        ]
    );
    fs::remove_file(etc.join("web-front.container.d/70-typo.conf")).unwrap();
    let set = load(&[&lib, &etc], &BTreeSet::new());
    let environment = &set.units["web-front"].container.environment;
    let of = |key: &str| environment.get(key).map(String::as_str);
    // The file of the nearer folder replaces the one of the same name: container.d's B is gone, web-'s C stands.
    assert_eq!([of("A"), of("B"), of("C"), of("D")], [Some("lib"), None, Some("prefix"), Some("etc")]);
}

/// systemd.unit(5): those of the whole kind are the weakest, then the folder counts, then the nearness to the unit's own name.
#[test]
fn of_two_drop_ins_of_one_name_the_later_folders_counts() {
    let dir = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let says = |word: &str| format!("[Container]\nHostName={word}\n");
    let name = || {
        let set = load(&[&dir.path().join("lib"), &dir.path().join("etc")], &BTreeSet::new());
        assert_eq!(shown(&set), Vec::<String>::new());
        set.units["web-front"].container.hostname.clone()
    };
    write("lib/web-front.container", &minimal("", ""));
    write("etc/container.d/50-x.conf", &says("kind"));
    assert_eq!(name().as_deref(), Some("kind"));
    write("lib/web-.container.d/50-x.conf", &says("lib-prefix"));
    assert_eq!(name().as_deref(), Some("lib-prefix"));
    write("lib/web-front.container.d/50-x.conf", &says("lib-own"));
    assert_eq!(name().as_deref(), Some("lib-own"));
    write("etc/web-.container.d/50-x.conf", &says("etc-prefix"));
    assert_eq!(name().as_deref(), Some("etc-prefix"));
    write("etc/web-front.container.d/50-x.conf", &says("etc-own"));
    assert_eq!(name().as_deref(), Some("etc-own"));
}

/// As Podman walks them, links followed.
#[test]
fn folders_in_folders_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let (etc, other) = (dir.path().join("etc"), dir.path().join("other"));
    for folder in ["etc/apps/deep", "etc/apps/web.container.d", "etc/.hidden", "other"] {
        fs::create_dir_all(dir.path().join(folder)).unwrap();
    }
    let named = |name: &str| minimal(&format!("HostName={name}"), "");
    fs::write(etc.join("twice.container"), named("top")).unwrap();
    fs::write(etc.join("apps/twice.container"), named("below")).unwrap();
    fs::write(etc.join("apps/web.container"), minimal("EnvironmentFile=web.env\nVolume=data.volume:/d", "")).unwrap();
    fs::write(etc.join("apps/web.container.d/10.conf"), "[Container]\nHostName=drop-in\n").unwrap();
    fs::write(etc.join("apps/deep/data.volume"), "[Volume]\n").unwrap();
    fs::write(etc.join("apps/my.target"), "[Unit]\n").unwrap();
    fs::write(etc.join("apps/all.quadlets"), "").unwrap();
    fs::write(etc.join(".hidden/no.container"), "x").unwrap();
    fs::write(other.join("linked.container"), named("linked")).unwrap();
    symlink(&other, etc.join("link")).unwrap();
    symlink(&etc, etc.join("apps/circle")).unwrap();
    let set = load(&[&etc], &BTreeSet::new());
    assert_eq!(names(set.units.keys()), ["linked", "twice", "web"]);
    let web = &set.units["web"].container;
    assert_eq!((web.hostname.as_deref(), &web.environment_files[0].0), (Some("drop-in"), &etc.join("apps/web.env")));
    assert_eq!(set.units["twice"].container.hostname.as_deref(), Some("top"));
    let strip = |line: String| line.replace(&format!("{}/", etc.display()), "");
    let shown: Vec<String> = shown(&set).into_iter().map(strip).collect();
    assert_eq!(
        shown,
        [
            "apps/all.quadlets: .quadlets files cannot be honoured here: write a file of its own for each unit in it",
            "apps/my.target: warning: left out: there are no targets of one's own; write WantedBy=default.target in the units",
            "apps/twice.container: warning: left out: twice.container has the same name",
        ]
    );
    // What is watched for changes is what is read.
    let tree: Vec<String> = tree(&etc).iter().map(|dir| strip(format!("{}/", dir.display()))).collect();
    assert_eq!(tree, ["", "apps/", "apps/deep/", "apps/web.container.d/", "link/"]);
}

#[test]
fn what_a_drop_in_of_many_is_wrong_in_is_said_once() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("container.d")).unwrap();
    symlink("nowhere", dir.path().join("container.d/10.conf")).unwrap();
    fs::write(dir.path().join("a.container"), minimal("", "")).unwrap();
    fs::write(dir.path().join("b.container"), minimal("", "")).unwrap();
    let set = load(&[dir.path()], &BTreeSet::new());
    assert_eq!(set.problems.len(), 1, "{:#?}", shown(&set));
}

#[test]
fn odd_files_do_not_disturb() {
    let dir = tempfile::tempdir().unwrap();
    nix::unistd::mkfifo(&dir.path().join("pipe.container"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::create_dir(dir.path().join("folder.container")).unwrap();
    symlink("nowhere", dir.path().join("dangling.container")).unwrap();
    fs::write(dir.path().join("empty.container"), "").unwrap();
    fs::write(dir.path().join("a@b.container"), "").unwrap();
    fs::write(dir.path().join("huge.container"), vec![b'#'; (1 << 20) + 1]).unwrap();
    fs::write(dir.path().join(".hidden.container"), "x").unwrap();
    fs::write(dir.path().join("good.container"), minimal("", "")).unwrap();
    let set = load(&[dir.path()], &BTreeSet::new());
    assert_eq!(names(set.units.keys()), ["good"]);
    assert_eq!(names(&set.masked), ["a@b", "empty"]);
    assert_eq!(names(&set.broken), ["dangling", "folder", "huge", "pipe"]);
    // And one that is told: its name begins with a dot.
    assert_eq!(set.problems.len(), 5, "{:#?}", shown(&set));
}

#[test]
fn instances_are_made_for_who_asks() {
    let dir = tempfile::tempdir().unwrap();
    let text = minimal("HostName=%i", "[Install]\nWantedBy=default.target\nDefaultInstance=blue");
    fs::write(dir.path().join("web@.container"), text).unwrap();
    fs::create_dir(dir.path().join("web@.container.d")).unwrap();
    fs::write(dir.path().join("web@.container.d/10.conf"), "[Container]\nEnvironment=A=all\n").unwrap();
    fs::write(dir.path().join("web@.container.d/20.conf"), "[Container]\nEnvironment=B=all\n").unwrap();
    fs::create_dir(dir.path().join("web@red.container.d")).unwrap();
    fs::write(dir.path().join("web@red.container.d/10.conf"), "[Container]\nEnvironment=A=red\n").unwrap();
    let asked = ["web@red", "web@blue", "other@x", "plain"].map(|name| UnitName::parse(name).unwrap());
    let set = load(&[dir.path()], &asked.into_iter().collect());
    assert_eq!(names(set.units.keys()), ["web@blue", "web@red"]);
    // The template's drop-ins are its instances' too, their own are stronger.
    let is = |of: &str, key: &str| set.units[of].container.environment.get(key).cloned().unwrap_or_default();
    assert_eq!(set.units["web@red"].container.hostname.as_deref(), Some("red"));
    assert_eq!(["A", "B"].map(|key| is("web@red", key)), ["red", "all"]);
    assert_eq!(["A", "B"].map(|key| is("web@blue", key)), ["all", "all"]);
    assert!(set.problems.is_empty(), "{:#?}", shown(&set));
}

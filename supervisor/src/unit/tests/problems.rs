//! What is written wrongly is told at its place, with what to write instead, and all at once.

use super::{minimal, problem, shown, units};
use crate::unit::{
    keys::{self, Honoured, Reset, Status},
    kind::{KINDS, Kind},
};

#[test]
fn everything_missing_is_said() {
    assert_eq!(
        shown(&units(&[("a", "# nothing\n")])),
        ["a.container: a .container file needs a [Container] section with Image="]
    );
    assert_eq!(
        shown(&units(&[("a", "[Unit]\n\n [Container]\n")])),
        ["a.container:3:3: no Image=: write the image's full name, such as Image=docker.io/library/nginx:1.27",]
    );
}

#[test]
fn all_mistakes_of_a_file_come_at_once() {
    let set = units(&[(
        "web",
        "[Container]\nimage=x\nRestart=always\nMemory=64X\nUser=-1\nPodmanArgs=--privileged\nPublishPort=8080:80\n\
         Pull=always\nNetwork=host\nFrobnicate=1\n[Contaner]\n[Service]\nRestartSec=soon\nX-Mine=1\n[X-Mine]\nAnything=goes\n[Volume]\n",
    )]);
    let shown = shown(&set);
    let expected = [
        "web.container:1:2: no Image=",
        "web.container:2:1: unknown key image= in [Container]; did you mean Image=?",
        "web.container:3:1: Restart= belongs in [Service], this is [Container]",
        "web.container:4:8: Memory=64X: expected a size such as 64M",
        "web.container:5:6: User=-1: expected a user's name or a number",
        "web.container:6:12: PodmanArgs=--privileged: not read here; write what it needs of it",
        "web.container:7:13: warning: PublishPort= has no effect here",
        "web.container:8:6: Pull=always: known, not available in this version; it can be missing, never, newer",
        "web.container:10:1: unknown key Frobnicate= in [Container]; keys of your own begin with X-",
        "web.container:11:2: unknown section [Contaner]; did you mean [Container]?",
        "web.container:13:12: RestartSec=soon: expected a time span",
        "web.container:17:2: [Volume] has no place in a .container file",
    ];
    assert_eq!(shown.len(), expected.len(), "{shown:#?}");
    for (shown, expected) in shown.iter().zip(expected) {
        assert!(shown.starts_with(expected), "{shown}\n  is not\n{expected}");
    }
}

#[test]
fn places_lie_inside_continued_lines() {
    let text = "Environment=A=1 \\\n# why not\n   B=2 \\\n   C";
    assert!(problem(text, "").starts_with("web.container:7:4: C has no =; quote a value with spaces"));
    assert!(
        problem("Volume=%N-data:/d:rx", "").starts_with("web.container:4:8: Volume=web-data:/d:rx: unknown option rx")
    );
    assert!(problem("Exec=a \"b", "").starts_with("web.container:4:8: the quote \" is never closed"));
    assert!(problem("Exec=sh -c ${X}", "").starts_with("web.container:4:12: ${X} would be taken"));
    assert!(
        problem("Exec=date +%Q", "")
            .starts_with("web.container:4:12: warning: %Q is not a specifier and stays as it is; write %%Q")
    );
}

#[test]
fn networks_that_are_not_built_are_refused_with_what_to_write() {
    for (value, what, instead) in [
        ("pasta:-t,auto", "users' own podman", "write Network=host or Network=none"),
        ("mynet", "no .network file describes the network mynet", "or Network=bridge"),
        ("systemd-apps", "no .network file describes the network systemd-apps", "or Network=bridge"),
    ] {
        let text = format!("[Container]\nImage=localhost/x\nNetwork={value}\n");
        let set = units(&[("a", &text), ("app.network", "[Network]\n"), ("db", &minimal("", ""))]);
        let shown: Vec<String> = shown(&set).into_iter().filter(|line| line.starts_with("a.")).collect();
        assert_eq!(shown.len(), 1, "{shown:#?}");
        assert!(shown[0].contains(what) && shown[0].ends_with(instead), "{}", shown[0]);
    }
}

#[test]
fn each_wrong_value_is_told_what_it_should_be() {
    for (container, words) in [
        ("AddCapability=CAP_NET_ADMN", "did you mean CAP_NET_ADMIN?"),
        ("DropCapability=CHOWN\nAddCapability=cap_chown", "dropped and added"),
        ("DropCapability=all\nAddCapability=all", "leave one of them out"),
        ("Ulimit=nofiles=1", "did you mean nofile?"),
        ("Ulimit=nofile=5:4", "soft limit"),
        ("Ulimit=nofile", "nofile=1024:4096"),
        ("Sysctl=kernel.panic=1", "not a container's own"),
        ("Sysctl=net..x=1", "not a container's own"),
        ("Sysctl=net.ipv4.ip_forward", "write Sysctl=name=value"),
        ("Group=5", "Group= needs User="),
        ("User=a:b\nGroup=c", "names a group already"),
        ("User=4294967296", "below 4294967295"),
        ("GroupAdd=keep-groups", "name the groups"),
        ("WorkingDir=here", "absolute path"),
        ("HostName=a_b..c", "host name"),
        ("StopTimeout=1min", "without a unit"),
        ("StopSignal=SIGFOO", "SIGTERM"),
        ("PidsLimit=many", "-1 for no limit"),
        ("Memory=64", "did you mean 64M?"),
        ("AddHost=db", "AddHost=db:192.0.2.1"),
        ("AddHost=db:nowhere", "not an IP address"),
        ("AddHost=db:", "\"\" is not an IP address"),
        ("Environment=A", "write Environment=A=value"),
        ("Environment==x", "the name before = is missing"),
        ("Environment=URL=http://${HOST}/", "write $${HOST}"),
        ("Label=a=${X}", "write $${X}"),
        ("AddCapability=CAP_KILL,CAP_NET_ADMN", "did you mean CAP_NET_ADMIN?"),
        ("Entrypoint=[\"a\", 5]", "JSON list"),
        ("Entrypoint=/bin/sh -c", "Entrypoint=[\"/bin/sh\", \"-c\"]"),
        ("Volume=/a:/x\nVolume=b:/x/", "has a volume already, from line 4"),
        ("Volume=/a:/x\nTmpfs=/x", "has a volume already"),
        ("Volume=a:/proc/sys", "below /proc"),
        ("Tmpfs=/x:sise=1", "size=64m"),
        ("Mask=proc/x", "absolute path"),
        ("Unmask=proc/x", "ALL or absolute paths"),
        ("ReadOnly=si", "expected yes"),
        ("ContainerName=-x", "begins with a letter"),
        ("Image=x y", "go into Exec="),
        ("Image=x.image", "there is no x.image"),
        ("Image=nginx", "docker.io/library/nginx:latest"),
        ("Image=sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "an image's id is no name"),
        ("Image=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "an image's id is no name"),
        ("HealthCmd=pg_isready -U ${POSTGRES_USER}", "write $${POSTGRES_USER}"),
        ("HealthCmd=[\"/check\", \"${X}\"]", "write $${X}"),
        ("HealthCmd=[\"/check\", x]", "warning: this is no JSON list of words"),
        ("LogDriver=none\nLogOpt=max-size=1M", "warning: without effect"),
        ("Notify=true\n[Service]\nFileDescriptorStoreMax=257", "warning: at most 256 descriptors"),
    ] {
        let shown = problem(container, "");
        assert!(shown.contains(words), "{container}: {shown}");
    }
    for (rest, words) in [
        ("[Service]\nType=forking", "notify (the default) or oneshot"),
        ("[Service]\nType=exec", "warning: Podman refuses Type=exec"),
        ("[Service]\nType=oneshot\nRestart=always", "not possible with Type=oneshot"),
        ("[Service]\nRestart=unless-stopped", "Docker's word"),
        ("[Service]\nMemoryMax=150%", "a share such as 50%"),
        ("[Service]\nTasksMax=0", "limit of 0"),
        ("[Service]\nOOMScoreAdjust=-1001", "-1000 to 1000"),
        ("[Service]\nRestartSec=infinity", "that ends"),
        ("[Service]\nExecStartPre=/bin/true", "no shell"),
        ("[Service]\nStartLimitBurst=3", "moved to [Unit]"),
        ("[Unit]\nStartLimitBurst=-1", "expected a number"),
        ("[Unit]\nAfter=db", "write db.container"),
        ("[Unit]\nAfter=data.volume", "there is no data.volume"),
        ("[Unit]\nAfter=web.service", "cannot name itself"),
        ("[Unit]\nAfter=x@.service", "without effect, there is no x@web.container"),
        ("[Install]\nWantedBy=x@.service", "names a template"),
        ("[Install]\nDefaultInstance=a b", "has no ' '"),
        ("[Unit]\nConditionMemoryPressure=web.slice:10%", "there are no slices here"),
        ("[Install]\nAlias=x", "ends in .service"),
    ] {
        let shown = problem("", rest);
        assert!(shown.contains(words), "{rest}: {shown}");
    }
}

/// The nearest word or the right form, and never a word of the value itself.
#[test]
fn what_is_suggested_can_be_written() {
    let suggestion = |container: &str, rest: &str| {
        let set = units(&[("web", &minimal(container, rest))]);
        set.problems.iter().find_map(|problem| problem.suggestion.clone())
    };
    for (container, rest, right) in [
        ("Enviroment=A=1", "", Some("Environment=")),
        ("Memory=64", "", Some("64M")),
        ("AddCapability=CAP_NET_ADMN", "", Some("CAP_NET_ADMIN")),
        ("Ulimit=nofiles=1", "", Some("nofile")),
        ("Volume=/a:/b:noexce", "", Some("noexec")),
        ("Mount=type=bind,src=/x,dst=/y,noexce", "", Some("noexec")),
        ("Secret=a,typ=env", "", Some("type")),
        ("Network=pasta", "", Some("Network=host")),
        ("Entrypoint=[\"a\", 5]", "", Some("Entrypoint=[\"/bin/program\", \"argument\"]")),
        ("", "[Instal]", Some("[Install]")),
        ("", "[Service]\nRestart=unless-stopped", Some("always")),
        ("", "[Service]\nExecStartPre=/bin/true", None),
        ("", "[Service]\nUser=a", None),
        ("", "[Service]\nWorkingDirectory=/", Some("WorkingDir=")),
        ("", "[Unit]\nAfter=db", Some("db.container")),
        ("", "[Unit]\nRequires=wbe.container", Some("web.container")),
        ("", "[Install]\nWantedBy=defalt.target", Some("default.target")),
        ("", "[Install]\nWantedBy=graphical.target", Some("WantedBy=default.target")),
        ("Exec=a \"b", "", Some("\\\"")),
        ("Exec=sh -c ${X}", "", Some("$${X}")),
        ("Exec=date +%Q", "", Some("%%Q")),
        ("Environment=A=%d", "", Some("Secret=")),
        ("Image=nginx", "", Some("docker.io/library/nginx:latest")),
        ("Memory=; did you mean x?", "", None),
        ("Volume=/a:/b:write evil=", "", None),
        ("PodmanArgs=x", "", None),
    ] {
        assert_eq!(suggestion(container, rest).as_deref(), right, "{container}{rest}");
    }
}

/// A file of the kind that has this section, and the least that makes it whole.
fn file(section: &str, lines: &str) -> (String, String) {
    let kind = KINDS.into_iter().find(|kind| kind.section() == section).unwrap_or(Kind::Container);
    let least = match kind {
        Kind::Container | Kind::Image => "Image=localhost/x",
        Kind::Timer => "OnCalendar=daily\nUnit=b.service",
        Kind::Socket => "ListenStream=1\nService=b.service",
        _ => "",
    };
    let network = if matches!(kind, Kind::Container | Kind::Pod) { "Network=none" } else { "" };
    let text = format!("[{}]\n{least}\n{network}\n[{section}]\n{lines}\n", kind.section());
    (format!("a.{}", kind.suffix()), text)
}

/// Each key that is not supported is refused or taken by its name, in the very words of its row.
#[test]
fn every_row_of_the_table_answers() {
    let other = minimal("", "");
    for key in keys::all() {
        let answer = |value: &str| {
            let (name, text) = file(key.section, &format!("{}={value}", key.name));
            shown(&units(&[(&name, &text), ("b", &other)]))
        };
        let nonsense = answer("zz zz\\\"");
        let says = |words: &str| nonsense.iter().any(|line| line.contains(words));
        let who = format!("[{}] {}=: {nonsense:?}", key.section, key.name);
        match key.status {
            Status::Supported(Honoured::No(hint)) => {
                assert!(says("not available in this version") && (says(hint) || says(".")), "{who}");
            }
            Status::Supported(Honoured::Only(values)) => {
                assert!(!nonsense.is_empty(), "{who}");
                assert_eq!(answer(values[0]), Vec::<String>::new(), "{who}");
            }
            Status::Supported(Honoured::Yes) | Status::Inert(_) => {}
            Status::Refused(why) => assert!(says(why), "{who}"),
        }
        // An empty assignment asks for nothing, or takes back what a unit needs.
        let needed = ["Image", "Network", "Unit", "Service"];
        if needed.contains(&key.name) || matches!((key.section, key.reset()), ("Timer" | "Socket", Reset::All(_))) {
            continue;
        }
        let empty = answer("");
        assert!(empty.iter().all(|line| line.contains("files are known, not available")), "{}=: {empty:?}", key.name);
    }
}

#[test]
fn hostile_texts_are_only_refused() {
    let long = format!("[Container]\nImage=localhost/x\nNetwork=none\nEnvironment={}\n", "A=1 ".repeat(100_000));
    assert_eq!(units(&[("a", &long)]).units.len(), 1);
    let lines = format!("[Container]\nImage=localhost/x\nNetwork=none\nExec=a{}\n", " \\\n b".repeat(50_000));
    assert_eq!(units(&[("a", &lines)]).units["a"].container.exec.len(), 50_001);
    for text in [
        "[",
        "]",
        "=",
        "\\",
        "\\\n\\",
        "[]\nA=1",
        "[Container]\n=\n\0",
        "[Container]\nImage=\u{202e}x\nNetwork=none",
        "\u{feff}",
    ] {
        assert_eq!(units(&[("a", text)]).units.len() + units(&[("a", text)]).broken.len(), 1, "{text:?}");
    }
}

#[test]
fn a_mistake_is_told_though_a_later_line_replaces_it() {
    for (wrong, right) in [
        ("[Service]\nRestart=foo", "Restart=always"),
        ("[Service]\nMemoryMax=rubbish", "MemoryMax=64M"),
        ("[Service]\nMemoryMax=%i", "MemoryMax=64M"),
        ("StopSignal=SIGFOO", "StopSignal=INT"),
        ("ReadOnly=maybe", "ReadOnly=yes"),
        ("Pull=sometimes", "Pull=never"),
    ] {
        let shown = problem(&format!("{wrong}\n{right}"), "");
        let (key, _) = right.split_once('=').unwrap();
        assert!(shown.contains(&format!("{key}=")), "{wrong}: {shown}");
    }
    // Without an instance it stands for nothing, which is no limit.
    assert!(problem("[Service]\nMemoryMax=%i", "").contains("MemoryMax="));
}

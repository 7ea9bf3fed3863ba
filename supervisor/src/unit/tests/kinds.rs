//! What the files of the other kinds become, and what containers get of them.

use std::time::Duration;

use super::{language, minimal, shown, units};
use crate::unit::{Listen, ListenAddress, ListenKind, Network, Trigger, UnitName, UserNamespace, VolumeSource};

#[test]
fn a_container_gets_what_its_files_say() {
    let set = units(&[
        ("web", "[Container]\nImage=base.image\nNetwork=none\nVolume=data.volume:/d\nVolume=own.volume:/o\n"),
        ("base.image", "[Unit]\nAfter=db.container\n[Image]\nImage=docker.io/library/nginx:1\n"),
        ("data.volume", "[Volume]\nCopy=no\n"),
        ("own.volume", "[Volume]\nVolumeName=mine\nServiceName=own\n"),
        ("db", &minimal("", "")),
    ]);
    assert_eq!(shown(&set), Vec::<String>::new());
    let web = &set.units["web"];
    assert_eq!(web.container.image(), Some("docker.io/library/nginx:1"));
    let volumes: Vec<_> = web.container.volumes.iter().map(|v| (v.source.clone(), v.copy_up)).collect();
    let named = |name: &str| VolumeSource::Named(name.into());
    assert_eq!(volumes, [(named("systemd-data"), false), (named("mine"), true)]);
    // What the image waits for, the container waits for; volumes and images are there by themselves.
    assert_eq!(web.links.after.iter().map(UnitName::as_str).collect::<Vec<_>>(), ["db"]);
    assert!(web.links.requires.is_empty());
    assert!(
        set.volumes.contains_key("own")
            && set.volumes.contains_key("data-volume")
            && set.images.contains_key("base-image")
    );
}

#[test]
fn networks_and_pods_are_typed() {
    let set = language(&[
        ("web", "[Container]\nImage=localhost/x\nNetwork=app.network:ip=10.0.0.9\nPublishPort=8080:80\n"),
        ("one", "[Container]\nImage=localhost/x\nPod=all.pod\n"),
        ("two", "[Container]\nImage=localhost/x\nPod=all.pod\nStartWithPod=no\n"),
        ("far", "[Container]\nImage=localhost/x\nNetwork=container:systemd-web\n"),
        ("side", "[Container]\nImage=localhost/x\nNetwork=web.container\n"),
        ("app.network", "[Network]\nSubnet=10.0.0.0/24\nGateway=10.0.0.1\nInternal=yes\n"),
        ("all.pod", "[Pod]\nPublishPort=9000:90\nUserNS=auto:size=5\n"),
    ]);
    assert_eq!(shown(&set), Vec::<String>::new());
    let web = &set.units["web"].container;
    let Network::Bridge(list) = &web.network else { panic!("{:?}", web.network) };
    assert_eq!((list[0].network.as_deref(), list[0].ip), (Some("systemd-app"), "10.0.0.9".parse().ok()));
    assert_eq!((web.ports[0].host, web.ports[0].container), (Some(8080), 80));
    for (unit, other) in [("side", "web"), ("far", "web"), ("one", "all-pod"), ("two", "all-pod")] {
        let links = &set.units[unit].links;
        assert!(links.binds_to.contains(other) && links.after.contains(other), "{unit}");
    }
    for unit in ["side", "far"] {
        assert_eq!(set.units[unit].container.network, Network::Container(UnitName::parse("web").unwrap()), "{unit}");
    }
    assert_eq!(set.units["two"].container.pod, Some((UnitName::parse("all-pod").unwrap(), false)));
    let network = &set.networks["app-network"].spec;
    assert!(network.internal && network.subnets.len() == 1 && network.name == "systemd-app");
    let pod = &set.pods["all-pod"].spec;
    assert_eq!(pod.user_namespace, UserNamespace::Auto { size: Some(5), uids: vec![], gids: vec![] });
    // As Quadlet has it: those that start with it come after it.
    assert_eq!(pod.links.wants, [UnitName::parse("one").unwrap()].into());
    assert_eq!(pod.links.before, pod.links.wants);
}

#[test]
fn timers_and_sockets_are_typed() {
    let job = minimal("", "[Service]\nType=oneshot");
    let set = language(&[
        ("job", &job),
        (
            "job.timer",
            "[Timer]\nOnCalendar=Mon 08:00\nOnBootSec=5min\nPersistent=yes\n[Install]\nWantedBy=timers.target\n",
        ),
        ("job.socket", "[Socket]\nListenStream=8080\nListenStream=/run/job\n"),
        ("bad.timer", "[Timer]\nOnCalendar=daily\n"),
    ]);
    assert_eq!(shown(&set), ["bad.timer: Unit=bad.service: there is no bad.container"]);
    let timer = &set.timers["job.timer"];
    assert!(timer.enabled && timer.spec.persistent && timer.spec.unit.as_str() == "job");
    let Trigger::Calendar(calendar) = &timer.spec.triggers[0] else { panic!() };
    assert_eq!(calendar.to_string(), "Mon *-*-* 08:00:00");
    assert_eq!(timer.spec.triggers[1], Trigger::Boot(Duration::from_secs(300)));
    let listen = &set.sockets["job.socket"].spec.listen;
    assert_eq!(listen[0], Listen { kind: ListenKind::Stream, address: ListenAddress::Ip(None, 8080) });
    assert_eq!(units(&[("job", &job), ("job.timer", "[Timer]\nOnCalendar=daily\n")]).problems.len(), 0);
}

#[test]
fn templates_become_instances_that_somebody_names() {
    let template = "[Container]\nImage=localhost/x\nNetwork=none\nHostName=%i\nEnvironment=P=%p I=%I N=%n\n";
    let set = units(&[
        ("web@", &format!("{template}[Install]\nWantedBy=default.target\nDefaultInstance=blue\n")),
        ("job@", template),
        ("idle@", &format!("{template}Memroy=1\n")),
        ("main", &minimal("", "[Unit]\nWants=job@a-b.service\nAfter=job@a-b.service job@c.container")),
    ]);
    let names: Vec<&str> = set.units.keys().map(UnitName::as_str).collect();
    assert_eq!(names, ["job@a-b", "job@c", "main", "web@blue"]);
    assert_eq!(shown(&set), ["idle@.container:6:1: unknown key Memroy= in [Container]; did you mean Memory=?"]);
    let blue = &set.units["web@blue"];
    assert!(blue.enabled && blue.container.hostname.as_deref() == Some("blue"));
    let environment = &set.units["job@a-b"].container.environment;
    assert_eq!(
        (environment["P"].as_str(), environment["I"].as_str(), environment["N"].as_str()),
        ("job", "a/b", "job@a-b.service")
    );
    assert!(set.templates.contains("idle@.container") && set.templates.len() == 1);
}

/// podman-systemd.unit(5), `ContainerName=`: "systemd-%N", and of a template's instance "systemd-%p_%i". What is claimed is what the
/// container has.
#[test]
fn a_container_without_a_name_has_podmans() {
    let set = units(&[
        ("job@", &minimal("", "")),
        ("web", &minimal("ServiceName=app", "")),
        ("main", &minimal("", "[Unit]\nWants=job@a@b.service")),
    ]);
    assert_eq!(shown(&set), Vec::<String>::new());
    let names: Vec<_> = set.units.values().map(|unit| unit.container.container_name.as_str()).collect();
    assert_eq!(names, ["systemd-app", "systemd-job_a@b", "systemd-main"]);
    let twice = units(&[
        ("job@", &minimal("", "[Install]\nDefaultInstance=1\nWantedBy=default.target")),
        ("other", &minimal("ContainerName=systemd-job_1", "")),
    ]);
    assert!(shown(&twice)[0].contains("job@1 has this name of a container or pod already"), "{:?}", shown(&twice));
}

#[test]
fn a_template_that_names_itself_for_ever_ends() {
    let set = units(&[
        ("a@", "[Container]\nImage=localhost/x\nNetwork=none\n[Unit]\nWants=c@%ix.service\n"),
        ("c@", "[Container]\nImage=localhost/x\nNetwork=none\n[Unit]\nWants=a@%ix.service\n"),
        ("b", &minimal("", "[Unit]\nWants=a@1.service")),
    ]);
    assert!(set.units.len() > 100 && set.units.len() < 1100, "{}", set.units.len());
}

#[test]
fn two_units_have_not_one_port_nor_one_name() {
    let with = |lines: &str| format!("[Container]\nImage=localhost/x\n{lines}\n");
    let problems = |a: &str, b: &str| shown(&language(&[("a", &with(a)), ("b", &with(b))]));
    let one = problems("PublishPort=8080:80", "Label=x\nPublishPort=0.0.0.0:8080:8080");
    assert_eq!(
        one,
        ["b.container:4:13: PublishPort=0.0.0.0:8080:8080: a has the port of the host already (a.container:3)"]
    );
    for (a, b, both) in [
        ("80:80", "80:80/udp", false),
        // Without an address it is IPv4's.
        ("80:80", "[::]:80:80", false),
        ("80:80", "[::1]:80:80", false),
        ("[::]:80:80", "[::1]:80:80", true),
        ("127.0.0.1:80:80", "127.0.0.2:80:80", false),
        ("127.0.0.1:80:80", "80:80", true),
        ("0.0.0.0:80:80", "[::]:80:80", false),
        ("[::1]:80:80", "0.0.0.0:80:80", false),
        ("0.0.0.0:80:80", "127.0.0.1:80:80", true),
        ("1000-1010:1-11", "1005:1", true),
        ("1000-1010:1-11", "1011:1", false),
        ("80", "80", false),
    ] {
        let found = problems(&format!("PublishPort={a}"), &format!("PublishPort={b}"));
        assert_eq!(!found.is_empty(), both, "{a} {b}: {found:?}");
    }
    let now = units(&[("a", &with("PublishPort=80:80")), ("b", &with("PublishPort=80:80"))]);
    assert!(shown(&now).iter().any(|line| line.contains("a has the port of the host already (a.container:3)")));
    assert!(problems("ContainerName=x", "ContainerName=x")[0].contains("a has this name of a container"));
    assert!(problems("ContainerName=systemd-b", "")[0].contains("systemd-b"));
    let alias = |of: &str| shown(&units(&[("a", &minimal("", of)), ("b", &minimal("", "[Install]\nAlias=c.service"))]));
    assert_eq!(alias("[Install]\nAlias=d.service e.service"), Vec::<String>::new());
    assert!(alias("[Install]\nAlias=b.service")[0].starts_with("a.container:6:7: b has this name of a unit already"));
    assert!(alias("[Install]\nAlias=c.service")[0].starts_with("b.container:6:7: a has this name of a unit already"));
    let same = units(&[("a", &minimal("ServiceName=b", "")), ("b", &minimal("", ""))]);
    assert!(shown(&same)[0].contains("makes the service b too"), "{:?}", shown(&same));
    let renamed = units(&[("a", &minimal("ServiceName=zed", "")), ("b", &minimal("", "[Unit]\nRequires=a.service"))]);
    let said = "b.container:6:10: Requires=a.service: a.container makes the service zed, by its ServiceName=";
    assert_eq!(shown(&renamed), [said]);
    // One file, written in two ways.
    let socket = |path: &str| format!("[Socket]\nListenStream={path}\nService=c.service\n");
    let (one, other) = (socket("/run//x"), socket("/run/x"));
    let two = units(&[("c", &minimal("", "")), ("a.socket", one.as_str()), ("b.socket", other.as_str())]);
    assert!(shown(&two)[0].contains("has this name of a socket already"), "{:?}", shown(&two));
}

//! What each supported key makes of the unit, beginning with the defaults.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use super::{minimal, path, unit, units};
use crate::unit::{
    Amount, Capabilities, Network, Restart, ServiceType, Severity, Ulimit, UnitName, Unmask, User, VolumeSource, build,
    keys::{self, Status, Value},
    kind::KINDS,
    machine::Machine,
    sheet::Sheet,
    specifier::Scope,
    syntax,
};

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

/// A row with a language of its own and a builder that never asks for it would be a key ignored in silence.
#[test]
fn every_key_with_a_language_of_its_own_is_read() {
    let mut asked = std::collections::BTreeSet::new();
    for kind in KINDS {
        let document = syntax::parse(path("a"), format!("[{}]\n", kind.section()).as_bytes());
        let node = UnitName::parse(&kind.node("a")).unwrap();
        let machine = Machine::any();
        let scope = Scope { kind, node, machine: &machine, path: "a".into() };
        let mut sheet = Sheet::new(scope, &[document.into()], false);
        build::draft(path("a"), "a", &mut sheet);
        asked.append(&mut sheet.asked);
    }
    for key in keys::all() {
        let own = matches!((key.value, key.status), (Value::Own(_), Status::Supported(_)));
        let read = asked.contains(&(key.section, key.name));
        // Conditions are read as far as there are any.
        let condition = key.name.starts_with("Condition") || key.name.starts_with("Assert");
        assert!(read || !own || condition, "[{}] {}= is not read", key.section, key.name);
    }
}

#[test]
fn the_defaults_are_podmans_and_systemds() {
    let unit = unit("", "");
    assert_eq!(unit.description, "web");
    assert!(!unit.enabled && !unit.after_network_online);
    assert_eq!((unit.start_limit_burst, unit.start_limit_interval), (5, Duration::from_secs(10)));
    let service = &unit.service;
    assert_eq!((service.kind, service.restart, service.remain_after_exit), (ServiceType::Exec, Restart::No, false));
    assert_eq!(service.restart_delay, Duration::from_millis(100));
    assert_eq!(
        (service.start_timeout, service.stop_timeout),
        (Some(Duration::from_secs(90)), Some(Duration::from_secs(10)))
    );
    let container = &unit.container;
    assert_eq!((container.pids_max, container.memory_max_bytes), (Some(2048), None));
    assert_eq!((container.read_only, container.read_only_tmpfs, container.no_new_privileges), (false, true, false));
    assert_eq!(container.shm_size_bytes, 64 << 20);
    assert_eq!(container.unmask, Unmask::Paths(vec![]));
    assert_eq!((container.stop_signal, container.user.clone(), container.entrypoint.clone()), (None, None, None));
}

#[test]
fn container_keys() {
    let container = |text: &str| unit(text, "").container;
    assert_eq!(container("ContainerName=my.name").container_name, "my.name");
    assert_eq!(container("Exec=a  \"b c\" $$d \\\n  e").exec, ["a", "b c", "$d", "e"]);
    assert_eq!(container("Exec=a\nExec=b").exec, ["b"]);
    assert_eq!(container("Exec=a\nExec=").exec, Vec::<String>::new());
    assert_eq!(container("Exec=\"quoted whole\"").exec, ["quoted whole"]);
    assert_eq!(container("Entrypoint=/bin/x").entrypoint, Some(vec!["/bin/x".into()]));
    assert_eq!(container("Entrypoint=[\"a\",\"b c\"]").entrypoint, Some(vec!["a".into(), "b c".into()]));
    assert_eq!(container("Entrypoint=[]").entrypoint, Some(vec![]));
    assert_eq!(
        container("Environment=A=1 \"B=two words\" C=\nEnvironment=A=2 D='x=y'").environment,
        map(&[("A", "2"), ("B", "two words"), ("C", ""), ("D", "x=y")])
    );
    assert_eq!(container("Environment=A=1\nEnvironment=\nEnvironment=B=2").environment, map(&[("B", "2")]));
    assert_eq!(container("Environment=PW=a$$b 'C=$$ $1 $${X}'").environment, map(&[("PW", "a$b"), ("C", "$ $1 ${X}")]));
    assert_eq!(
        container("AddCapability=CAP_NET_RAW,kill").capabilities,
        container("AddCapability=NET_RAW CAP_KILL").capabilities
    );
    assert_eq!(
        container("EnvironmentFile=/etc/a.env -b.env").environment_files,
        [(PathBuf::from("/etc/a.env"), false), (PathBuf::from("b.env"), true)]
    );
    assert_eq!(container("Volume=a:/a\nVolume=/b\nVolume=").volumes, []);
    assert_eq!(container("Volume=a:/a\nVolume=/b").volumes[1].source, VolumeSource::Anonymous);
    assert_eq!(container("Tmpfs=/t:size=1m,ro").tmpfs[0].options, ["size=1m", "ro"]);
    assert_eq!(container("Network=none").network, Network::None);
    assert_eq!(container("User=app").user, Some(User { user: "app".into(), group: None }));
    assert_eq!(container("User=\"5:6\"").user, Some(User { user: "5".into(), group: Some("6".into()) }));
    assert_eq!(container("User=5\nGroup=web").user, Some(User { user: "5".into(), group: Some("web".into()) }));
    assert_eq!(container("GroupAdd=video\nGroupAdd=44").extra_groups, ["video", "44"]);
    assert_eq!(container("WorkingDir=/srv/../app").working_dir.as_deref(), Some("/app"));
    assert!(container("ReadOnly=yes\nReadOnlyTmpfs=no").read_only);
    assert!(!container("ReadOnlyTmpfs=no").read_only_tmpfs);
    assert_eq!(container("Memory=20g").memory_max_bytes, Some(20 << 30));
    assert_eq!(container("PidsLimit=-1").pids_max, None);
    assert_eq!(container("PidsLimit=10").pids_max, Some(10));
    assert_eq!(container("HostName=%N.example.com").hostname.as_deref(), Some("web.example.com"));
    assert_eq!(container("AddHost=db:192.0.2.1\nAddHost=a;b:::1").hosts.len(), 3);
    assert_eq!(container("Network=\nAddHost=up:host-gateway").hosts, [("up".to_owned(), None)]);
    assert_eq!(container("StopSignal=SIGINT").stop_signal, Some(2));
    assert!(container("NoNewPrivileges=on").no_new_privileges);
    assert_eq!(container("Ulimit=nofile=1:2").ulimits, [Ulimit { kind: "RLIMIT_NOFILE".into(), soft: 1, hard: 2 }]);
    assert_eq!(container("Ulimit=core=-1").ulimits[0].hard, u64::MAX);
    assert_eq!(container("ShmSize=1m").shm_size_bytes, 1 << 20);
    assert_eq!(container("Sysctl=net.ipv4.tcp_syncookies=0 kernel.msgmax=1").sysctls.len(), 2);
    assert_eq!(container("Mask=/proc/a:/proc/b /x").mask, ["/proc/a", "/proc/b", "/x"]);
    assert_eq!(container("Unmask=ALL").unmask, Unmask::All);
    assert_eq!(container("Unmask=/proc/*").unmask, Unmask::Paths(vec!["/proc/*".into()]));
    assert_eq!(
        container("Label=b a=1 \"c=d e\"").labels,
        map(&[("a", "1"), ("c", "d e")]).into_iter().chain([("b".into(), String::new())]).collect()
    );
    assert_eq!(container("Annotation=x=y").annotations, map(&[("x", "y")]));
    let only = ["CAP_CHOWN", "CAP_NET_ADMIN"].map(str::to_owned).into();
    let capabilities = container("DropCapability=all\nAddCapability=net_admin CAP_CHOWN").capabilities;
    assert_eq!(capabilities, Capabilities::Only(only));
}

#[test]
fn service_keys() {
    let service = |text: &str| unit("", &format!("[Service]\n{text}")).service;
    assert_eq!(service("Restart=on-failure\nRestartSec=1min 30s").restart_delay, Duration::from_secs(90));
    let oneshot = service("Type=oneshot\nRemainAfterExit=yes");
    assert_eq!((oneshot.kind, oneshot.remain_after_exit, oneshot.start_timeout), (ServiceType::Oneshot, true, None));
    assert_eq!(service("Type=notify").kind, ServiceType::Exec);
    assert_eq!(service("TimeoutStartSec=0").start_timeout, None);
    assert_eq!(service("TimeoutStartSec=900").start_timeout, Some(Duration::from_secs(900)));
    assert_eq!(service("TimeoutStopSec=3").stop_timeout, Some(Duration::from_secs(3)));
    assert_eq!(service("TimeoutSec=5").start_timeout, Some(Duration::from_secs(5)));
    assert_eq!(service("TimeoutSec=5\nTimeoutStopSec=infinity").stop_timeout, Some(Duration::from_secs(10)));
    // A shorthand for both: the later line counts, of whichever key.
    assert_eq!(service("TimeoutStartSec=10\nTimeoutSec=60").start_timeout, Some(Duration::from_secs(60)));
    assert_eq!(service("TimeoutSec=60\nTimeoutStartSec=10").start_timeout, Some(Duration::from_secs(10)));
    assert_eq!(service("TimeoutStopSec=3\nTimeoutSec=5").stop_timeout, Some(Duration::from_secs(5)));
    assert_eq!(service("TimeoutSec=60\nTimeoutStartSec=10\nTimeoutSec=").start_timeout, Some(Duration::from_secs(10)));
    let named = service("SuccessExitStatus=NOTRUNNING CHDIR\nRestartForceExitStatus=3 EXCEPTION SIGUSR1");
    assert_eq!(named.success.codes, [7, 200].into());
    assert_eq!((named.restart_force.codes, named.restart_force.signals), ([3, 255].into(), [10].into()));
    assert_eq!(unit("StopTimeout=30", "").service.stop_timeout, Some(Duration::from_secs(30)));
    assert_eq!(unit("StopTimeout=300", "").service.stop_timeout, Some(Duration::from_secs(90)));
    let limits =
        unit("Memory=1g\nPidsLimit=50", "[Service]\nMemoryMax=512M\nTasksMax=infinity\nOOMScoreAdjust=-5").container;
    assert_eq!((limits.memory_max_bytes, limits.pids_max, limits.oom_score_adj), (Some(1 << 30), Some(50), -5));
    assert_eq!(limits.resources.memory_max, Some(Amount::Is(512 << 20)));
    assert_eq!(limits.resources.tasks_max, Some(Amount::Infinity));
}

#[test]
fn unit_keys() {
    let unit = unit(
        "",
        "[Unit]\nDescription=The %N of \"all\"\nDocumentation=man:a(1) https://example.com/\nStartLimitBurst=3\nStartLimitIntervalSec=1min",
    );
    assert_eq!(unit.description, "The web of \"all\"");
    assert_eq!(unit.documentation, ["man:a(1)", "https://example.com/"]);
    assert_eq!((unit.start_limit_burst, unit.start_limit_interval), (3, Duration::from_secs(60)));
    let for_ever = super::unit("", "[Unit]\nStartLimitIntervalSec=infinity");
    assert_eq!(for_ever.start_limit_interval, Duration::MAX);
}

#[test]
fn escapes_nobody_knows_are_kept_with_a_warning() {
    let set = units(&[("a", &minimal("Exec=grep a\\d", ""))]);
    assert_eq!(set.units["a"].container.exec, ["grep", "a\\d"]);
    assert_eq!(set.problems[0].severity, Severity::Warning);
}

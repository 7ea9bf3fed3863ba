//! The config.json of a unit: one of the whole, then what each key changes in it.

use std::{collections::BTreeMap, time::Duration};

use oci::image::HealthCheck;
use oci_spec::image::ImageConfiguration;
use serde_json::{Value, json};

use super::unit;
use crate::unit::{
    DeviceNode, Facts, HealthAction, IdMap, IdMaps, Joins, Network, SecretTarget, SpecError, Unit, UserNamespace,
    VolumeSource, runtime_spec, spec,
};

fn image(config: &Value) -> ImageConfiguration {
    let image = json!({
        "architecture": "amd64", "os": "linux", "config": config, "rootfs": {"type": "layers", "diff_ids": []}, "history": []
    });
    serde_json::from_value(image).unwrap()
}

fn facts() -> Facts {
    Facts {
        listen_names: Vec::new(),
        joins: Joins::default(),
        rootfs: "/run/orlop/units/web/rootfs".into(),
        hostname: "machine".into(),
        passwd:
            "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:App:/home/app:/bin/sh\n# odd\nbad:x:y\n12:x:77:78::/n:\n"
                .into(),
        group: "root:x:0:\nvideo:x:44:app,other\nstaff:x:50:app\nwheel:x:10:root\n".into(),
        volume_dirs: BTreeMap::from([("/data".to_owned(), "/var/lib/orlop/volumes/data".into())]),
        etc: Some("/var/lib/orlop/containers/web/etc".into()),
        notify: "/run/orlop/units/web/notify".into(),
        environment_files: Vec::new(),
        devices: Vec::new(),
        ids: None,
        secret_files: Vec::new(),
        secret_values: Vec::new(),
        disks: Vec::new(),
        memory_bytes: 1 << 30,
        tasks: 10_000,
        startup: false,
        io_latency: true,
    }
}

/// Sets come in no order: sorted, so that they can be compared.
fn sorted(mut value: Value) -> Value {
    for set in ["bounding", "effective", "permitted", "inheritable", "ambient"] {
        if let Some(Value::Array(names)) = value.pointer_mut(&format!("/process/capabilities/{set}")) {
            names.sort_by_key(ToString::to_string);
        }
    }
    value
}

fn make(unit: &Unit, config: &Value, facts: &Facts) -> Result<Value, SpecError> {
    runtime_spec(unit, &image(config), facts).map(|spec| sorted(serde_json::to_value(spec).unwrap()))
}

fn demo() -> Value {
    json!({"Entrypoint": ["/demo"], "Cmd": ["--port", "80"]})
}

/// Of a unit that needs nothing of its image.
pub(super) fn config_of(unit: &Unit) -> Value {
    let mut facts = facts();
    for volume in &unit.container.volumes {
        facts.volume_dirs.insert(volume.destination.clone(), "/volume".into());
    }
    facts.environment_files = vec![String::new(); unit.container.environment_files.len()];
    facts.startup = true;
    for (index, secret) in unit.container.secrets.iter().enumerate() {
        match secret.target {
            SecretTarget::File { .. } => facts.secret_files.push(format!("/secrets/{index}").into()),
            SecretTarget::Environment(_) => facts.secret_values.push("hidden".to_owned()),
        }
    }
    facts.ids = match &unit.container.user_namespace {
        UserNamespace::Host => None,
        UserNamespace::Mapped { uids, gids } => Some(IdMaps { uids: uids.clone(), gids: gids.clone() }),
        // What the machine keeps for it.
        UserNamespace::Auto { .. } | UserNamespace::Named { .. } => {
            let all = vec![IdMap { container: 0, host: 1 << 31, count: 65_536 }];
            Some(IdMaps { uids: all.clone(), gids: all })
        }
    };
    facts.disks = unit.container.resources.io_limits.iter().zip(0..).map(|(_, minor)| (8, minor)).collect();
    facts.devices = unit
        .container
        .devices
        .iter()
        .map(|device| DeviceNode {
            path: device.container.clone(),
            block: false,
            major: 10,
            minor: 200,
            mode: 0o600,
            uid: 0,
            gid: 0,
            access: device.access.clone(),
        })
        .collect();
    make(unit, &demo(), &facts).unwrap()
}

/// One place of the config.json of a unit with these lines in `[Container]`.
fn at(container: &str, pointer: &str) -> Value {
    let made = make(&unit(container, ""), &demo(), &facts()).unwrap();
    made.pointer(pointer).cloned().unwrap_or(Value::Null)
}

fn mount(container: &str, destination: &str) -> Value {
    let mounts = at(container, "/mounts");
    let found: Vec<&Value> = mounts.as_array().unwrap().iter().filter(|m| m["destination"] == destination).collect();
    assert!(found.len() <= 1, "{found:#?}");
    found.first().map_or(Value::Null, |m| (*m).clone())
}

/// Namespaces of others are joined by their paths, the name of one that is joined is not set again, and its /dev/shm is mounted.
#[test]
fn what_a_pod_holds_is_joined() {
    let unit = unit("Network=none", "");
    let alone = make(&unit, &demo(), &facts()).unwrap();
    let at = |name: &str| Some(format!("/run/orlop/pods/app-pod/{name}").into());
    let joins = Joins { net: at("net"), ipc: at("ipc"), uts: at("uts"), shm: at("shm"), user: None };
    let made = make(&unit, &demo(), &Facts { joins: joins.clone(), ..facts() }).unwrap();
    let mut namespaces = alone["linux"]["namespaces"].clone();
    for (kind, file) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts")] {
        let all = namespaces.as_array_mut().unwrap();
        let one = all.iter_mut().find(|namespace| namespace["type"] == kind).unwrap();
        one["path"] = format!("/run/orlop/pods/app-pod/{file}").into();
    }
    assert_eq!(made["linux"]["namespaces"], namespaces);
    assert_eq!((&alone["hostname"], &made["hostname"]), (&json!("web"), &Value::Null));
    let shm = made["mounts"].as_array().unwrap().iter().find(|mount| mount["destination"] == "/dev/shm").unwrap();
    assert_eq!((&shm["type"], &shm["source"]), (&json!("bind"), &json!("/run/orlop/pods/app-pod/shm")));
    assert_eq!(shm["options"], json!(["bind", "rprivate", "nosuid", "noexec", "nodev", "rw"]));

    let map = vec![IdMap { container: 0, host: 300_000, count: 1000 }];
    let ids = IdMaps { uids: map.clone(), gids: map };
    let joins = Joins { user: at("user").map(|path| (path, ids.clone())), ..joins };
    let mapped = make(&unit, &demo(), &Facts { joins, ids: Some(ids), ..facts() }).unwrap();
    let user = json!({ "type": "user", "path": "/run/orlop/pods/app-pod/user" });
    assert!(mapped["linux"]["namespaces"].as_array().unwrap().contains(&user));
    let map = json!([{ "containerID": 0, "hostID": 300_000, "size": 1000 }]);
    assert_eq!([&mapped["linux"]["uidMappings"], &mapped["linux"]["gidMappings"]], [&map, &map]);
}

#[test]
fn the_whole_of_a_small_unit() {
    let unit = unit("Environment=MODE=test\nMemory=64M\nVolume=data:/data", "");
    let made = make(&unit, &demo(), &facts()).unwrap();
    let capabilities = json!([
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FOWNER",
        "CAP_FSETID",
        "CAP_KILL",
        "CAP_NET_BIND_SERVICE",
        "CAP_SETFCAP",
        "CAP_SETGID",
        "CAP_SETPCAP",
        "CAP_SETUID",
        "CAP_SYS_CHROOT"
    ]);
    let file = |name: &str| {
        json!({
            "destination": format!("/etc/{name}"), "type": "bind", "source": format!("/var/lib/orlop/containers/web/etc/{name}"),
            "options": ["bind", "rprivate", "nosuid", "noexec", "nodev", "rw"]
        })
    };
    let expected = json!({
        "ociVersion": "1.2.0",
        "root": {"path": "/run/orlop/units/web/rootfs", "readonly": false},
        "annotations": {"org.orlop.dev-shm": "folder"},
        "hostname": "web",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0, "umask": 18, "additionalGids": [10]},
            "args": ["/demo", "--port", "80"],
            "env": [
                "HOME=/root", "HOSTNAME=web", "MODE=test",
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "container=oci"
            ],
            "cwd": "/",
            "capabilities": {
                "bounding": capabilities, "effective": capabilities, "permitted": capabilities, "inheritable": [], "ambient": []
            },
            "rlimits": [
                {"type": "RLIMIT_NOFILE", "soft": 1048576, "hard": 1048576},
                {"type": "RLIMIT_NPROC", "soft": 1048576, "hard": 1048576}
            ],
            "noNewPrivileges": false,
            "oomScoreAdj": 0
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                "options": ["nosuid", "noexec", "strictatime", "mode=755", "size=67108864"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
                "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]},
            file("hosts"), file("hostname"), file("resolv.conf"),
            {"destination": "/data", "type": "bind", "source": "/var/lib/orlop/volumes/data",
                "options": ["rbind", "rprivate", "rw", "nosuid", "nodev"]}
        ],
        "linux": {
            "sysctl": {"net.ipv4.ip_unprivileged_port_start": "0"},
            "resources": {
                "devices": [{"allow": false, "access": "rwm"}],
                "memory": {"limit": 67108864},
                "pids": {"limit": 2048},
                "unified": {"memory.oom.group": "1"}
            },
            "cgroupsPath": "/containers/web",
            "namespaces": [
                {"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "cgroup"}, {"type": "network"}
            ],
            "maskedPaths": [
                "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug",
                "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
                "/sys/fs/selinux"
            ],
            "readonlyPaths": [
                "/proc/asound", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"
            ]
        }
    });
    assert_eq!(made, expected);
}

#[test]
fn the_command_is_combined_as_podman_does() {
    let args = |container: &str, config: Value| {
        make(&unit(container, ""), &config, &facts()).map(|made| made.pointer("/process/args").cloned().unwrap())
    };
    assert_eq!(args("", demo()), Ok(json!(["/demo", "--port", "80"])));
    assert_eq!(args("Exec=x y", demo()), Ok(json!(["/demo", "x", "y"])));
    assert_eq!(args("Entrypoint=/e", demo()), Ok(json!(["/e"])));
    assert_eq!(args("Entrypoint=/e\nExec=x", demo()), Ok(json!(["/e", "x"])));
    assert_eq!(args("Entrypoint=[\"\"]\nExec=x", demo()), Ok(json!(["x"])));
    assert_eq!(args("Entrypoint=[]", demo()), Ok(json!(["--port", "80"])));
    assert_eq!(args("", json!({"Cmd": ["/bin/sh"]})), Ok(json!(["/bin/sh"])));
    assert_eq!(args("Entrypoint=[\"\"]", demo()), Err(SpecError::NoCommand));
    assert_eq!(args("", json!({})), Err(SpecError::NoCommand));
}

#[test]
fn users_are_looked_up_in_the_image() {
    let user = |container: &str, config: Value| {
        let made = make(&unit(container, ""), &config, &facts())?;
        let user = made.pointer("/process/user").unwrap();
        Ok::<_, SpecError>((user["uid"].clone(), user["gid"].clone(), user["additionalGids"].clone()))
    };
    let of = |name: &str| json!({"Cmd": ["x"], "User": name});
    assert_eq!(user("", of("")), Ok((json!(0), json!(0), json!([10]))));
    assert_eq!(user("", of("app")), Ok((json!(1000), json!(1001), json!([44, 50]))));
    assert_eq!(user("", of("1000")), Ok((json!(1000), json!(1001), json!([44, 50]))));
    assert_eq!(user("", of("app:staff")), Ok((json!(1000), json!(50), Value::Null)));
    assert_eq!(user("User=5", of("app")), Ok((json!(5), json!(0), Value::Null)));
    assert_eq!(user("User=5\nGroup=6", of("app")), Ok((json!(5), json!(6), Value::Null)));
    let added = user("User=app\nGroupAdd=video\nGroupAdd=99", of(""));
    assert_eq!(added, Ok((json!(1000), json!(1001), json!([44, 50, 99]))));
    // A user whose name is a number goes before the number.
    assert_eq!(user("User=12", of("")), Ok((json!(77), json!(78), Value::Null)));
    assert_eq!(user("User=nobody", of("")), Err(SpecError::NoUser("nobody".into())));
    assert_eq!(user("User=5\nGroup=none", of("")), Err(SpecError::NoGroup("none".into())));
    for odd in ["-1", "0x1", "1.5", "4294967295", "4294967296", " 1"] {
        assert!(user("", of(odd)).is_err(), "{odd:?}");
    }
    let empty = Facts { passwd: String::new(), group: String::new(), ..facts() };
    let made = make(&unit("User=root", ""), &of(""), &empty).unwrap();
    assert_eq!(made.pointer("/process/user/uid"), Some(&json!(0)));
    assert!(made.pointer("/process/env").unwrap().as_array().unwrap().contains(&json!("HOME=/root")));
}

#[test]
fn the_environment_is_layered() {
    let mut facts = facts();
    facts.environment_files = vec!["# note\nA=file\nB=\"kept as is\"\n\n".into()];
    let unit = unit("EnvironmentFile=/x.env\nEnvironment=A=unit\nUser=app", "");
    let config = json!({"Cmd": ["x"], "Env": ["PATH=/opt", "A=image", "B=image", "C=image"]});
    let made = make(&unit, &config, &facts).unwrap();
    let expected =
        ["A=unit", "B=\"kept as is\"", "C=image", "HOME=/home/app", "HOSTNAME=web", "PATH=/opt", "container=oci"];
    assert_eq!(made.pointer("/process/env").unwrap(), &json!(expected));
    // As podman: what has no value is its own environment's, and a name is all before the =.
    facts.environment_files = vec!["HOME\nexport D=1\n".into()];
    let made = make(&unit, &config, &facts).unwrap();
    let env = made.pointer("/process/env").unwrap().as_array().unwrap();
    assert!(env.contains(&json!("HOME=/home/app")) && env.contains(&json!("export D=1")), "{env:?}");
    facts.environment_files = vec!["A=1\n=nonsense\n".into()];
    assert_eq!(make(&unit, &config, &facts).unwrap_err().to_string(), "/x.env:2: expected NAME=value");
}

#[test]
fn capabilities_are_podmans() {
    let set = |container: &str, set: &str| at(container, &format!("/process/capabilities/{set}"));
    let count = |container: &str, name: &str| set(container, name).as_array().unwrap().len();
    assert_eq!(set("DropCapability=all", "bounding"), json!([]));
    assert_eq!(set("DropCapability=all\nAddCapability=net_raw", "effective"), json!(["CAP_NET_RAW"]));
    assert_eq!(count("AddCapability=all", "bounding"), 41);
    assert_eq!(count("AddCapability=all\nDropCapability=sys_admin", "permitted"), 40);
    assert_eq!(count("DropCapability=CAP_KILL", "bounding"), 10);
    // Another user than root starts with none, and keeps what was added for it.
    assert_eq!(count("User=5", "bounding"), 11);
    assert_eq!([count("User=5", "effective"), count("User=5", "permitted"), count("User=5", "ambient")], [0; 3]);
    for name in ["effective", "permitted", "inheritable", "ambient"] {
        assert_eq!(set("User=5\nAddCapability=CAP_NET_RAW", name), json!(["CAP_NET_RAW"]), "{name}");
    }
    assert_eq!(set("", "inheritable"), json!([]));
}

#[test]
fn host_network_shares_name_and_ports() {
    let mut host = unit("", "");
    host.container.network = Network::Host;
    let made = make(&host, &demo(), &facts()).unwrap();
    assert_eq!(made["hostname"], "machine");
    assert_eq!(made.pointer("/linux/sysctl").unwrap(), &json!({}));
    let namespaces = made.pointer("/linux/namespaces").unwrap().as_array().unwrap();
    assert!(!namespaces.contains(&json!({"type": "network"})) && namespaces.len() == 5);
}

#[test]
fn each_key_has_its_place() {
    for (container, pointer, expected) in [
        ("HostName=db.example", "/hostname", json!("db.example")),
        ("WorkingDir=/srv", "/process/cwd", json!("/srv")),
        ("ReadOnly=yes", "/root/readonly", json!(true)),
        ("NoNewPrivileges=yes", "/process/noNewPrivileges", json!(true)),
        ("Memory=1g", "/linux/resources/memory/limit", json!(1 << 30)),
        ("PidsLimit=10", "/linux/resources/pids/limit", json!(10)),
        ("PidsLimit=-1", "/linux/resources/pids/limit", json!(-1)),
        ("Ulimit=nofile=1:2", "/process/rlimits/0", json!({"type": "RLIMIT_NOFILE", "soft": 1, "hard": 2})),
        ("Ulimit=core=-1", "/process/rlimits/0/hard", json!(u64::MAX)),
        ("Sysctl=kernel.msgmax=9", "/linux/sysctl/kernel.msgmax", json!("9")),
        ("Annotation=a=b", "/annotations/a", json!("b")),
        ("", "/annotations", json!({"org.orlop.dev-shm": "folder"})),
        ("Tmpfs=/dev/shm", "/annotations", Value::Null),
        ("Mask=/proc/x", "/linux/maskedPaths/12", json!("/proc/x")),
        ("Unmask=ALL", "/linux/maskedPaths", json!([])),
        ("Unmask=ALL", "/linux/readonlyPaths", json!([])),
        (
            "Unmask=/proc/s*:/sys/*",
            "/linux/readonlyPaths",
            json!(["/proc/asound", "/proc/bus", "/proc/fs", "/proc/irq"]),
        ),
        ("", "/linux/seccomp", Value::Null),
    ] {
        assert_eq!(at(container, pointer), expected, "{container} {pointer}");
    }
    let made = make(&unit("", "[Service]\nOOMScoreAdjust=100"), &demo(), &facts()).unwrap();
    assert_eq!(made.pointer("/process/oomScoreAdj"), Some(&json!(100)));
    let made = make(&unit("", ""), &json!({"Cmd": ["x"], "WorkingDir": "/app"}), &facts()).unwrap();
    assert_eq!(made.pointer("/process/cwd"), Some(&json!("/app")));
    let error = make(&unit("", ""), &json!({"Cmd": ["x"], "WorkingDir": "app"}), &facts()).unwrap_err();
    assert_eq!(error, SpecError::WorkingDir("app".into()));
}

#[test]
fn a_unit_that_notifies_gets_a_socket_that_nothing_hides() {
    let text = "Notify=true\nReadOnly=true\nEnvironment=NOTIFY_SOCKET=/elsewhere";
    assert_eq!(mount(text, "/run/notify")["source"], "/run/orlop/units/web/notify");
    let all = at(text, "/mounts");
    let place = |path: &str| all.as_array().unwrap().iter().position(|m| m["destination"] == path).unwrap();
    assert!(place("/run") < place("/run/notify"));
    let env = at(text, "/process/env");
    let env: Vec<_> = env.as_array().unwrap().iter().filter(|e| e.as_str().unwrap().starts_with("NOTIFY")).collect();
    assert_eq!(env, ["NOTIFY_SOCKET=/run/notify/notify.sock"]);
    assert_eq!(mount("", "/run/notify"), Value::Null);
}

#[test]
fn mounts_follow_the_unit() {
    // Mostly /dev/shm is a folder of /dev.
    assert_eq!(mount("ShmSize=1m", "/dev")["options"][4], "size=1048576");
    assert_eq!(mount("ShmSize=1m", "/dev/shm"), Value::Null);
    assert_eq!(mount("Tmpfs=/dev/shm:size=1m", "/dev")["options"][4], "size=65536k");
    assert_eq!(mount("Unmask=/sys/fs/cgroup", "/sys/fs/cgroup")["options"][4], "rw");
    let options = |container: &str, to: &str| mount(container, to)["options"].clone();
    assert_eq!(options("Volume=/srv:/s:ro,exec,suid,dev", "/s"), json!(["rbind", "rprivate", "ro"]));
    let many = json!(["bind", "rshared", "rw", "nosuid", "nodev", "noexec"]);
    assert_eq!(options("Volume=/srv:/s:noexec,bind,rshared", "/s"), many);
    assert_eq!(options("Tmpfs=/t", "/t"), json!(["nosuid", "nodev", "noexec", "tmpcopyup"]));
    assert_eq!(options("Tmpfs=/t:size=1m,exec,notmpcopyup", "/t"), json!(["size=1m", "exec", "nosuid", "nodev"]));
    // Podman copies into those it makes of a sealed root, and not into those that every container has.
    assert_eq!(options("ReadOnly=yes", "/run"), json!(["rw", "nosuid", "nodev", "tmpcopyup"]));
    for path in ["/tmp", "/var/tmp"] {
        assert_eq!(options("ReadOnly=yes", path), json!(["rw", "nosuid", "nodev", "tmpcopyup", "noexec"]));
    }
    assert!(!options("ReadOnly=yes", "/dev").as_array().unwrap().contains(&json!("tmpcopyup")));
    assert_eq!(mount("ReadOnly=yes\nReadOnlyTmpfs=no", "/tmp"), Value::Null);
    assert_eq!(options("ReadOnly=yes\nReadOnlyTmpfs=no", "/dev/shm")[5], "ro");
    assert_eq!(options("ReadOnly=yes", "/etc/hosts")[5], "ro");
    assert_eq!(mount("ReadOnly=yes\nVolume=/scratch:/tmp", "/tmp")["type"], "bind");
    assert_eq!(mount("Volume=/my/hosts:/etc/hosts", "/etc/hosts")["source"], "/my/hosts");
    // The outer place first, whatever the order of the lines.
    let mounts = at("Volume=/a:/data/inner\nTmpfs=/data", "/mounts");
    let last: Vec<&str> =
        mounts.as_array().unwrap().iter().rev().take(2).filter_map(|m| m["destination"].as_str()).collect();
    assert_eq!(last, ["/data/inner", "/data"]);
    // And what every container has there is seen in it.
    let mounts = at("Tmpfs=/etc", "/mounts");
    let place = |path: &str| mounts.as_array().unwrap().iter().position(|m| m["destination"] == path).unwrap();
    assert!(place("/etc") < place("/etc/hosts"));
    let missing = make(&unit("Volume=other:/other", ""), &demo(), &facts()).unwrap_err();
    assert_eq!(missing, SpecError::NoVolumeDir("/other".into()));
}

#[test]
fn an_images_volumes_matter_where_the_root_is_sealed() {
    let config = image(&json!({"Cmd": ["x"], "Volumes": {"/var/lib/db": {}, "/cache": {}, "/data": {}}}));
    let volumes = |container: &str| {
        let found = spec::volumes(&unit(container, ""), &config);
        found.into_iter().map(|v| (v.destination, v.source)).collect::<Vec<_>>()
    };
    assert_eq!(volumes("Volume=data:/data").len(), 1);
    let sealed = volumes("Volume=data:/data\nTmpfs=/cache\nReadOnly=yes");
    let expected =
        [("/data".into(), VolumeSource::Named("data".into())), ("/var/lib/db".into(), VolumeSource::Anonymous)];
    assert_eq!(sealed, expected);
    // As a Dockerfile says it, with a slash behind it.
    let config = image(&json!({"Cmd": ["x"], "Volumes": {"/data/": {}, "/cache//x/..": {}, "/proc/x": {}}}));
    let sealed = spec::volumes(&unit("Volume=data:/data\nTmpfs=/cache\nReadOnly=yes", ""), &config);
    assert_eq!(sealed.iter().map(|one| one.destination.as_str()).collect::<Vec<_>>(), ["/data"]);
}

#[test]
fn limits_of_the_startup_go_back_to_the_plain_ones_or_the_kernels() {
    let startup = "StartupMemoryLow=1M\nStartupMemoryHigh=4M\nMemoryHigh=2M\nStartupMemoryMax=50%\nStartupCPUWeight=7\n\
                   StartupAllowedCPUs=0\nAllowedCPUs=0-1\nStartupAllowedMemoryNodes=0\nStartupIOWeight=9\nIOWeight=5";
    let unit = unit("Memory=256M", &format!("[Service]\nCPUWeight=idle\n{startup}\n"));
    let phase = |startup| {
        let facts = Facts { startup, ..facts() };
        spec::phase(&unit, &facts).into_iter().map(|(file, value)| format!("{file}={value}")).collect::<Vec<_>>()
    };
    let expected = |all: &str| all.split(';').map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(
        phase(true),
        expected(
            "memory.low=1048576;memory.high=4194304;memory.max=268435456;cpu.idle=0;cpu.weight=7;cpuset.cpus=0;\
             cpuset.mems=0;io.weight=default 9"
        )
    );
    assert_eq!(
        phase(false),
        expected(
            "memory.low=0;memory.high=2097152;memory.max=268435456;cpu.idle=1;cpuset.cpus=0-1;cpuset.mems=;\
             io.weight=default 5"
        )
    );
}

#[test]
fn the_stop_signal_is_the_units_the_images_or_term() {
    let signal = |container: &str, config: Value| spec::stop_signal(&unit(container, ""), &image(&config));
    assert_eq!(signal("", json!({})), 15);
    assert_eq!(signal("", json!({"StopSignal": "SIGQUIT"})), 3);
    assert_eq!(signal("", json!({"StopSignal": "RTMIN+3"})), 37);
    assert_eq!(signal("StopSignal=INT", json!({"StopSignal": "SIGQUIT"})), 2);
    assert_eq!(signal("[Service]\nKillSignal=USR1", json!({"StopSignal": "SIGQUIT"})), 10);
    assert_eq!(signal("StopSignal=INT\n[Service]\nKillSignal=USR1", json!({})), 2);
}

#[test]
fn the_health_check_is_the_units_or_the_images_with_what_the_unit_changes() {
    let of_image = |test: &[&str]| HealthCheck {
        test: test.iter().map(|&word| word.to_owned()).collect(),
        interval: 5_000_000_000,
        retries: 7,
        ..HealthCheck::default()
    };
    let check = |container: &str, test: &[&str]| spec::health(&unit(container, ""), Some(&of_image(test)));
    let found = check("", &["CMD-SHELL", "curl -f localhost"]).unwrap();
    assert_eq!(found.command, ["/bin/sh", "-c", "curl -f localhost"]);
    assert_eq!((found.interval, found.retries), (Some(Duration::from_secs(5)), 7));
    assert_eq!(found.timeout, Duration::from_secs(30), "podman's, where the image says nothing");
    let found = check("HealthInterval=1m\nHealthOnFailure=kill", &["CMD", "/check", "x"]).unwrap();
    assert_eq!((found.command, found.interval), (vec!["/check".into(), "x".into()], Some(Duration::from_secs(60))));
    assert_eq!(found.on_failure, HealthAction::Kill);
    let own = check("HealthCmd=CMD /own", &["CMD", "/check"]).unwrap();
    assert_eq!((own.command, own.retries), (vec!["/own".to_owned()], 3));
    // A shell's test is no list, and a list of one is a line for the shell.
    for (written, line) in [("[ -e /ok ]", "[ -e /ok ]"), (r#"["curl -f x || exit 1"]"#, "curl -f x || exit 1")] {
        assert_eq!(check(&format!("HealthCmd={written}"), &[]).unwrap().command, ["/bin/sh", "-c", line]);
    }
    assert_eq!(check(r#"HealthCmd=["/own", "a b"]"#, &[]).unwrap().command, ["/own", "a b"]);
    for (container, test) in [("HealthCmd=none", &["CMD", "/check"][..]), ("", &["NONE"]), ("", &[])] {
        assert_eq!(check(container, test), None);
    }
    assert_eq!(spec::health(&unit("", ""), None), None);
}

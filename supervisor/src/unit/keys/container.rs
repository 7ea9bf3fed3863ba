//! `[Container]` of podman-systemd.unit(5), Podman 5.

use super::{Rows, Value, inert, only, refused, yes};

const NO: &[&str] = &["no", "false", "off", "0"];

pub(super) const PULL: Value = Value::Choice(&["always", "missing", "never", "newer"]);
pub(super) const NAMESPACE: Value = Value::Own("host, private, auto[:size=number,uidmapping=map,gidmapping=map]");
pub(super) const ID_MAP: Value = Value::Own("[+ug]container:[@]host[:count] words");
pub(super) const PODMAN: &str = "there is no podman on this machine; write the key that says it";
pub(super) const MODULE: &str = "there is no containers.conf on this machine";

pub(super) const CONTAINER: &[Rows] = &[
    yes(Value::Own("image's full name, or x.image"), "Image"),
    yes(Value::Own("name"), "ContainerName ServiceName"),
    yes(Value::Own("path[:O]"), "Rootfs"),
    yes(Value::Own("command line"), "Exec"),
    yes(Value::Own("program, or JSON list of words"), "Entrypoint"),
    yes(Value::Own("NAME=value words"), "Environment Label Annotation"),
    yes(Value::Own("[-]paths"), "EnvironmentFile"),
    yes(Value::Own("[source:]destination[:options], not yet U and O"), "Volume"),
    yes(Value::Own("type=bind|volume|tmpfs|ramfs|devpts,…, not yet image and glob"), "Mount"),
    yes(Value::Own("destination[:options]"), "Tmpfs"),
    yes(Value::Own("host-device[:device][:rwm]"), "AddDevice"),
    // Networks that no file describes are typed and come later: `build` says which are honoured.
    yes(Value::Own("host, none, bridge, x.network, x.container, container:name, a name"), "Network"),
    yes(Value::Own("name or number"), "User Group GroupAdd"),
    yes(Value::Own("absolute path"), "WorkingDir"),
    // Podman 6, as ImageVolume=.
    yes(Value::Own("octal digits"), "Umask"),
    only(&["anonymous", "bind"], Value::Choice(&["anonymous", "bind", "tmpfs", "ignore"]), "ImageVolume"),
    yes(Value::Own("boolean"), "ReadOnly ReadOnlyTmpfs NoNewPrivileges"),
    yes(Value::Own("size"), "Memory ShmSize"),
    yes(Value::Own("number, -1 for no limit"), "PidsLimit"),
    yes(Value::Own("host name"), "HostName"),
    yes(Value::Own("name[;name…]:address, or :host-gateway"), "AddHost"),
    yes(Value::Own("signal"), "StopSignal"),
    yes(Value::Own("seconds"), "StopTimeout"),
    yes(Value::Own("capabilities, or all"), "AddCapability DropCapability"),
    yes(Value::Own("name=soft[:hard]"), "Ulimit"),
    yes(Value::Own("name=value words"), "Sysctl"),
    yes(Value::Own("address, or none"), "DNS"),
    yes(Value::Own("resolv.conf option"), "DNSOption"),
    yes(Value::Own("domain, or ."), "DNSSearch"),
    yes(Value::Own("paths with colons between them"), "Mask"),
    yes(Value::Own("ALL, or paths with colons between them"), "Unmask"),
    yes(Value::Own("Area/City, UTC or local"), "Timezone"),
    // Only `podman run --publish-all` acts upon it.
    yes(Value::Own("port[-port][/protocol]"), "ExposeHostPort"),
    inert("what is not pulled needs no second try", Value::Number, "Retry"),
    inert("what is not pulled needs no second try", Value::Span, "RetryDelay"),
    // The host has no proxy variables that it could hand on.
    yes(Value::Boolean, "HttpProxy"),
    inert(
        "SELinux is not part of the system, containers are kept apart by other means",
        Value::Boolean,
        "SecurityLabelDisable SecurityLabelNested",
    ),
    inert(
        "SELinux is not part of the system, containers are kept apart by other means",
        Value::Text,
        "SecurityLabelFileType SecurityLabelLevel SecurityLabelType",
    ),
    // There is no conmon: every container has its own cgroup below /containers.
    only(
        &["split", "enabled", "no-conmon"],
        Value::Choice(&["split", "enabled", "no-conmon", "disabled"]),
        "CgroupsMode",
    ),
    // The supervisor keeps every container's output (`orlop logs`), whatever the file format Podman would use.
    only(
        &["journald", "k8s-file", "json-file", "none"],
        Value::Choice(&["journald", "k8s-file", "json-file", "none", "passthrough", "passthrough-tty"]),
        "LogDriver",
    ),
    yes(Value::Own("max-size=size, max-file=number"), "LogOpt"),
    only(&["missing", "never", "newer"], PULL, "Pull"),
    only(NO, Value::Boolean, "RunInit EnvironmentHost"),
    yes(Value::Own("boolean, or healthy"), "Notify"),
    only(&["unconfined"], Value::Own("unconfined, or path of a profile"), "SeccompProfile"),
    yes(NAMESPACE, "UserNS"),
    yes(Value::Own("name[,type=mount|env][,target=][,uid=][,gid=][,mode=]"), "Secret"),
    yes(Value::Own("command line"), "ReloadCmd"),
    yes(Value::Own("signal"), "ReloadSignal"),
    // Only `podman auto-update` acts upon it.
    yes(Value::Own("registry or local: a label, nothing is pulled"), "AutoUpdate"),
    // There is nobody on the machine who would load a profile.
    only(&["unconfined"], Value::Text, "AppArmor"),
    yes(Value::Own("command line, JSON list or none"), "HealthCmd HealthStartupCmd"),
    yes(Value::Own("time span, or disable"), "HealthInterval HealthStartupInterval"),
    yes(Value::Own("time span"), "HealthTimeout HealthStartPeriod HealthStartupTimeout"),
    yes(Value::Own("number"), "HealthRetries HealthStartupRetries HealthStartupSuccess"),
    yes(Value::Own("none, kill, restart, stop"), "HealthOnFailure"),
    // Kept with the unit's state: `orlop status` shows them.
    yes(Value::Own("1 … 100"), "HealthMaxLogCount"),
    yes(Value::Own("1 … 4096"), "HealthMaxLogSize"),
    only(&["local", "events_logger"], Value::Own("local, events_logger"), "HealthLogDestination"),
    yes(Value::Own("[[ip:][host port]:]port[/protocol]"), "PublishPort"),
    yes(Value::Own("address"), "IP IP6"),
    yes(Value::Own("name"), "NetworkAlias"),
    yes(Value::Own("x.pod"), "Pod"),
    yes(Value::Own("boolean"), "StartWithPod"),
    yes(ID_MAP, "UIDMap GIDMap"),
    // The machine keeps a range of ids for each name, the same for whoever names it.
    yes(Value::Own("name"), "SubUIDMap SubGIDMap"),
    // Each is read as the key that says the same.
    yes(Value::Own("options of podman run, those below"), "PodmanArgs"),
    refused(PODMAN, "GlobalArgs"),
    refused(MODULE, "ContainersConfModule"),
    refused(
        "Podman has given it up; user namespaces are asked for with UserNS=",
        "RemapUsers RemapUid RemapGid RemapUidSize",
    ),
    refused("Podman has given it up; write Tmpfs=/tmp", "VolatileTmp"),
];

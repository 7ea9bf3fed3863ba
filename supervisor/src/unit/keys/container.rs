//! `[Container]` and `[Quadlet]` of podman-systemd.unit(5), Podman 5.

use super::{Rows, Status};

pub(super) const CONTAINER: &[Rows] = &[
    Rows {
        status: Status::Supported,
        names: "Image ContainerName Exec Entrypoint Environment EnvironmentFile Volume Tmpfs Network User Group GroupAdd WorkingDir \
                ReadOnly ReadOnlyTmpfs Memory PidsLimit HostName AddHost StopSignal StopTimeout AddCapability DropCapability \
                NoNewPrivileges Ulimit ShmSize Sysctl Mask Unmask Label Annotation",
    },
    Rows {
        status: Status::Inert("SELinux is not part of the system, containers are kept apart by other means"),
        names: "SecurityLabelDisable SecurityLabelFileType SecurityLabelLevel SecurityLabelNested SecurityLabelType",
    },
    Rows {
        status: Status::Inert(
            "it only tells `podman run --publish-all` and other containers what the image listens on",
        ),
        names: "ExposeHostPort",
    },
    Rows {
        status: Status::Inert("images come from the machine's own store in this version, nothing is pulled"),
        names: "Retry RetryDelay",
    },
    // There is no conmon: every container has its own cgroup below /containers.
    Rows { status: Status::Only(&["split", "enabled", "no-conmon"]), names: "CgroupsMode" },
    // The supervisor keeps every container's output (`orlop logs`), whatever the file format Podman would use.
    Rows { status: Status::Only(&["journald", "k8s-file", "json-file"]), names: "LogDriver" },
    Rows { status: Status::Only(&["missing", "never"]), names: "Pull" },
    Rows { status: Status::Only(&["no", "false", "off", "0"]), names: "RunInit Notify" },
    Rows { status: Status::Only(&["unconfined"]), names: "SeccompProfile" },
    Rows { status: Status::Only(&["host"]), names: "UserNS" },
    Rows {
        status: Status::NotYet(""),
        names: "AddDevice Mount Secret ReloadCmd ReloadSignal AutoUpdate LogOpt ServiceName",
    },
    Rows {
        status: Status::NotYet("write Restart= in [Service] to have it started again when it ends"),
        names: "HealthCmd HealthInterval HealthLogDestination HealthMaxLogCount HealthMaxLogSize HealthOnFailure HealthRetries \
                HealthStartPeriod HealthStartupCmd HealthStartupInterval HealthStartupRetries HealthStartupSuccess \
                HealthStartupTimeout HealthTimeout",
    },
    Rows {
        status: Status::NotYet("with Network=host the container listens on the machine's own addresses"),
        names: "PublishPort IP IP6 NetworkAlias DNS DNSOption DNSSearch",
    },
    Rows { status: Status::NotYet("write the container with Network=host instead"), names: "Pod StartWithPod" },
    Rows {
        status: Status::NotYet("containers run in the machine's user namespace until then"),
        names: "UIDMap GIDMap SubUIDMap SubGIDMap",
    },
    Rows {
        status: Status::NotYet("write Environment=TZ=…, which programs with their own time zone data understand"),
        names: "Timezone",
    },
    Rows { status: Status::NotYet("pack the folder as an image and write Image="), names: "Rootfs" },
    Rows { status: Status::NotYet(""), names: "AppArmor HttpProxy" },
    Rows {
        status: Status::Refused("there is no podman on this machine; write the key that says it"),
        names: "PodmanArgs GlobalArgs",
    },
    Rows { status: Status::Refused("there is no containers.conf on this machine"), names: "ContainersConfModule" },
    Rows {
        status: Status::Refused(
            "the host has no environment of its own to hand on; name each variable with Environment=",
        ),
        names: "EnvironmentHost",
    },
    Rows {
        status: Status::Refused("Podman has given it up; user namespaces are asked for with UserNS="),
        names: "RemapUsers RemapUid RemapGid RemapUidSize",
    },
    Rows { status: Status::Refused("Podman has given it up; write Tmpfs=/tmp"), names: "VolatileTmp" },
];

pub(super) const QUADLET: &[Rows] = &[Rows { status: Status::Supported, names: "DefaultDependencies" }];

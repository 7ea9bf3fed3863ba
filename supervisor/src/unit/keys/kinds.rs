//! `[Pod]`, `[Network]`, `[Volume]`, `[Image]` and `[Quadlet]` of podman-systemd.unit(5), Podman 5.

use super::{
    Rows, Value,
    container::{MODULE, PODMAN, PULL},
    inert, later, only, refused, yes,
};

const HOST_IDS: &str = "the containers of a pod run in the machine's user namespace until then";
const FOLDER: &str = "a volume is a folder, or what Device= names, until then";
const STORE: &str = "images come from the machine's own store, nothing is pulled";

pub(super) const POD: &[Rows] = &[
    yes(Value::Own("name"), "PodName ServiceName"),
    yes(Value::Own("name[;name…]:address"), "AddHost"),
    // As in a container, `build` says which are honoured.
    yes(Value::Own("host, none, bridge, x.network, a name"), "Network"),
    yes(Value::Own("host name"), "HostName"),
    yes(Value::Own("continue, stop"), "ExitPolicy"),
    yes(Value::Own("NAME=value words"), "Label"),
    yes(Value::Own("[source:]destination[:options]"), "Volume"),
    yes(Value::Own("size"), "ShmSize"),
    inert(
        "a pod has no process of its own; each of its containers has its own StopTimeout=",
        Value::Number,
        "StopTimeout",
    ),
    only(&["host"], Value::Own("host, auto[:…], keep-id[:…], nomap, private"), "UserNS"),
    yes(Value::Own("name"), "NetworkAlias"),
    yes(Value::Own("[[ip:][host port]:]port[/protocol]"), "PublishPort"),
    yes(Value::Own("address"), "IP IP6"),
    yes(Value::Own("address, or none"), "DNS"),
    yes(Value::Own("resolv.conf option"), "DNSOption"),
    yes(Value::Own("domain, or ."), "DNSSearch"),
    later(HOST_IDS, Value::Own("container:host:count words"), "UIDMap GIDMap"),
    later(HOST_IDS, Value::Own("name"), "SubUIDMap SubGIDMap"),
    refused(PODMAN, "PodmanArgs GlobalArgs"),
    refused(MODULE, "ContainersConfModule"),
    refused(
        "Podman has given it up; user namespaces are asked for with UserNS=",
        "RemapUsers RemapUid RemapGid RemapUidSize",
    ),
];

pub(super) const NETWORK: &[Rows] = &[
    yes(Value::Own("name"), "NetworkName ServiceName InterfaceName"),
    only(&["bridge"], Value::Own("bridge, macvlan, ipvlan"), "Driver"),
    only(&["host-local"], Value::Own("host-local, dhcp, none"), "IPAMDriver"),
    yes(Value::Own("address/length"), "Subnet"),
    yes(Value::Own("address"), "Gateway DNS"),
    yes(Value::Own("address/length, or first-last"), "IPRange"),
    yes(Value::Own("boolean"), "DisableDNS Internal IPv6 NetworkDeleteOnStop"),
    // `build` says which are known.
    yes(Value::Own("mtu=number, isolate=true|strict"), "Options"),
    yes(Value::Own("NAME=value words"), "Label"),
    refused(PODMAN, "PodmanArgs GlobalArgs"),
    refused(MODULE, "ContainersConfModule"),
];

pub(super) const VOLUME: &[Rows] = &[
    yes(Value::Own("name"), "VolumeName ServiceName"),
    yes(Value::Own("NAME=value words"), "Label"),
    yes(Value::Own("boolean"), "Copy"),
    only(&["local"], Value::Own("local, image"), "Driver"),
    later(FOLDER, Value::Own("image's full name, or x.image"), "Image"),
    // `build` says what fits together.
    yes(Value::Own("path, block device, or tmpfs"), "Device"),
    yes(Value::Own("bind, tmpfs, virtiofs, or a disk's file system"), "Type"),
    yes(Value::Own("mount options"), "Options"),
    yes(Value::Own("number, or root"), "User Group"),
    // Podman 6.
    yes(Value::Own("number"), "UID GID"),
    refused(PODMAN, "PodmanArgs GlobalArgs"),
    refused(MODULE, "ContainersConfModule"),
];

pub(super) const IMAGE: &[Rows] = &[
    yes(Value::Own("image's full name"), "Image ImageTag"),
    yes(Value::Own("name"), "ServiceName"),
    // What is not pulled needs no second try.
    yes(Value::Own("number"), "Retry"),
    yes(Value::Own("time span"), "RetryDelay"),
    only(&["missing", "never"], PULL, "Policy"),
    later(STORE, Value::Own("boolean"), "AllTags TLSVerify"),
    later(STORE, Value::Own("name"), "Arch OS Variant"),
    later(STORE, Value::Own("path"), "AuthFile CertDir"),
    later(STORE, Value::Own("name[:password]"), "Creds DecryptionKey"),
    refused(PODMAN, "PodmanArgs GlobalArgs"),
    refused(MODULE, "ContainersConfModule"),
];

pub(super) const QUADLET: &[Rows] = &[yes(Value::Own("boolean"), "DefaultDependencies")];

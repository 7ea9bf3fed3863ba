//! `[Pod]`, `[Network]`, `[Volume]`, `[Image]` and `[Quadlet]` of podman-systemd.unit(5), Podman 5.

use super::{
    Rows, Value,
    container::{ID_MAP, MODULE, NAMESPACE, PODMAN, PULL},
    inert, only, refused, yes,
};

const STORE: &str = "nothing is pulled in this version: the image is the one in the machine's own store";

pub(super) const POD: &[Rows] = &[
    yes(Value::Own("name"), "PodName ServiceName"),
    yes(Value::Own("name[;name…]:address, or :host-gateway"), "AddHost"),
    // As in a container, `build` says which are honoured.
    yes(Value::Own("host, none, bridge, x.network, a name"), "Network"),
    yes(Value::Own("host name"), "HostName"),
    yes(Value::Own("continue, stop"), "ExitPolicy"),
    yes(Value::Own("NAME=value words"), "Label"),
    yes(Value::Own("[source:]destination[:options], not yet U and O"), "Volume"),
    yes(Value::Own("size"), "ShmSize"),
    inert(
        "a pod has no process of its own; each of its containers has its own StopTimeout=",
        Value::Number,
        "StopTimeout",
    ),
    yes(NAMESPACE, "UserNS"),
    yes(Value::Own("name"), "NetworkAlias"),
    yes(Value::Own("[[ip:][host port]:]port[/protocol]"), "PublishPort"),
    yes(Value::Own("address"), "IP IP6"),
    yes(Value::Own("address, or none"), "DNS"),
    yes(Value::Own("resolv.conf option"), "DNSOption"),
    yes(Value::Own("domain, or ."), "DNSSearch"),
    yes(ID_MAP, "UIDMap GIDMap"),
    yes(Value::Own("name"), "SubUIDMap SubGIDMap"),
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
    yes(Value::Own("local, image"), "Driver"),
    yes(Value::Own("image's full name, or x.image"), "Image"),
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
    only(&["missing", "never", "newer"], PULL, "Policy"),
    yes(Value::Own("amd64, arm64, … as image indexes have it"), "Arch"),
    yes(Value::Own("v8, v7, … as image indexes have it"), "Variant"),
    yes(Value::Own("linux"), "OS"),
    inert(STORE, Value::Boolean, "AllTags TLSVerify"),
    inert(STORE, Value::Text, "AuthFile CertDir Creds"),
    inert("what is not pulled needs no second try", Value::Number, "Retry"),
    inert("what is not pulled needs no second try", Value::Span, "RetryDelay"),
    refused(
        "encrypted images are not read; store the image decrypted, as skopeo copy --decryption-key does",
        "DecryptionKey",
    ),
    refused(PODMAN, "PodmanArgs GlobalArgs"),
    refused(MODULE, "ContainersConfModule"),
];

pub(super) const QUADLET: &[Rows] = &[yes(Value::Own("boolean"), "DefaultDependencies")];

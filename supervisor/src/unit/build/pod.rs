//! `[Pod]`, and a container's `Pod=`.

use std::path::Path;

use super::{
    Claim, Link, Shared, claimed,
    container::{self, Bare, assignments},
    links, mounts, namespaces, network,
};
use crate::unit::{
    Links, Network, PodSpec, UnitName, UserNamespace,
    kind::{Kind, of_instance},
    sheet::Sheet,
    values,
    words::Word,
};

pub(super) fn pod(
    path: &Path,
    stem: &str,
    sheet: &mut Sheet<'_>,
    links: &mut Vec<Link>,
    claims: &mut Vec<Claim>,
    shared: Shared,
) -> PodSpec {
    let folder = path.parent().unwrap_or(Path::new("."));
    let network = network::network("Pod", sheet, links).unwrap_or(Network::Bridge(Vec::new()));
    let ports = network::ports("Pod", sheet, claims);
    let network = network::addressed("Pod", network, sheet);
    if network == Network::Host
        && let Some(value) = sheet.all("Pod", "PublishPort").first()
    {
        sheet.error(value, "with Network=host every port is the host's already; leave PublishPort= out");
    }
    let user_namespace = namespaces::user_namespace("Pod", sheet);
    if user_namespace == UserNamespace::Host {
        container::refuse_idmap("Pod", &["Volume"], sheet);
    }
    let hosts = network::hosts("Pod", sheet, &network);
    let by_default = shared.default_dependencies && network != Network::None;
    PodSpec {
        name: claimed(sheet, ("Pod", "PodName"), stem, super::CONTAINER, claims),
        network,
        ports,
        network_aliases: network::aliases("Pod", sheet),
        dns: network::dns("Pod", sheet),
        hosts,
        hostname: sheet.read("Pod", "HostName", network::hostname),
        volumes: mounts::volumes("Pod", folder, sheet, links, &mut mounts::Taken::new()),
        shm_size_bytes: sheet.read("Pod", "ShmSize", values::size).unwrap_or(64 << 20),
        user_namespace,
        labels: assignments(sheet, ("Pod", "Label"), Bare::Empty),
        stop_when_empty: sheet
            .read("Pod", "ExitPolicy", |text| match text {
                "stop" => Ok(true),
                "continue" => Ok(false),
                _ => Err("expected stop or continue"),
            })
            .unwrap_or(true),
        links: Links::default(),
        conditions: shared.conditions,
        aliases: shared.aliases,
        after_network_online: by_default || links::after_network_online(links),
        start_limit_burst: shared.limit.burst,
        start_limit_interval: shared.limit.interval,
        actions: shared.limit.actions,
        requests: shared.limit.requests,
    }
}

/// What podman refuses of a container in a pod, or would not act upon: the namespaces are the pod's.
const OF_THE_POD: [(&str, &[&str]); 4] = [
    ("network", &["Network", "PublishPort", "IP", "IP6", "NetworkAlias", "AddHost", "DNS", "DNSOption", "DNSSearch"]),
    ("host name", &["HostName"]),
    ("/dev/shm", &["ShmSize"]),
    ("user namespace", &["UserNS", "UIDMap", "GIDMap", "SubUIDMap", "SubGIDMap"]),
];

/// `Pod=`, and whether it starts with it.
pub(super) fn member(sheet: &mut Sheet<'_>, links: &mut Vec<Link>) -> Option<(UnitName, bool)> {
    let with = sheet.read("Container", "StartWithPod", values::boolean).unwrap_or(true);
    let instance = sheet.scope.instance().map(str::to_owned);
    let instance = instance.as_deref();
    let name = sheet.read("Container", "Pod", |text| {
        let stem = text.strip_suffix(".pod");
        let name = stem.and_then(|stem| UnitName::parse(&Kind::Pod.node(&of_instance(stem, instance))).ok());
        name.ok_or("expected the name of a .pod file, such as Pod=app.pod")
    });
    let Some(name) = name else {
        sheet.useless(("Container", "StartWithPod"), "Pod=");
        return None;
    };
    let value = sheet.last("Container", "Pod")?;
    for (what, keys) in OF_THE_POD {
        for key in keys {
            for set in sheet.all("Container", key) {
                sheet.error(&set, format!("the containers of a pod share its {what}: write {key}= in {}", value.text));
            }
        }
    }
    links.push(links::uses(&value, Word::of(&value, value.whole()), Kind::Pod, "Pod", instance));
    Some((name, with))
}

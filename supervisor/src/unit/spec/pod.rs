//! What a pod's file makes of its containers.

use super::as_hostname;
use crate::unit::{PodSpec, Unit};

/// What podman's infra container has, its other containers have.
pub fn be_member(unit: &mut Unit, pod: &PodSpec) {
    let container = &mut unit.container;
    container.network = pod.network.clone();
    container.hostname = Some(pod_hostname(pod));
    container.hosts.clone_from(&pod.hosts);
    container.dns = pod.dns.clone();
    // What a container mounts itself is in place of what the pod mounts there.
    let own = |to: &String| {
        let tmpfs = container.tmpfs.iter().map(|tmpfs| &tmpfs.destination);
        let images = container.image_mounts.iter().map(|image| &image.destination);
        container.volumes.iter().map(|volume| &volume.destination).chain(tmpfs).chain(images).any(|own| own == to)
    };
    let of_pod: Vec<_> = pod.volumes.iter().filter(|volume| !own(&volume.destination)).cloned().collect();
    container.volumes.extend(of_pod);
}

pub fn pod_hostname(pod: &PodSpec) -> String {
    pod.hostname.clone().unwrap_or_else(|| as_hostname(&pod.name))
}

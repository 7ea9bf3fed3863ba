//! The links that are left, written into the units: those of `[Install]` into the other unit, those to volumes, images, networks
//! and pods followed to what stands behind them.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Backing, ImageName, Links, Network, Root, Unit, UnitName, UnitSet, Volume, VolumeSource,
    build::{Draft, Link, LinkKind, What},
    kind::{Kind, of_instance},
    set::Drafts,
};

type Every = BTreeMap<UnitName, Vec<(LinkKind, UnitName)>>;

pub(super) fn connect(drafts: Drafts, set: &mut UnitSet) {
    let mut links = Every::new();
    let mut containers: Vec<Box<Unit>> = Vec::new();
    for (name, Draft { what, links: all, .. }) in drafts.all.into_iter().filter(|(_, draft)| !draft.broken) {
        let kept = |link: Link| link.to.map(|to| (link.kind, to));
        links.insert(name.clone(), all.into_iter().filter_map(kept).collect());
        match what {
            What::Container(unit) => containers.push(unit),
            What::Volume(unit) => drop(set.volumes.insert(name, unit)),
            What::Network(unit) => drop(set.networks.insert(name, unit)),
            What::Image(unit) => drop(set.images.insert(name, unit)),
            What::Pod(unit) => drop(set.pods.insert(name, *unit)),
            What::Timer(unit) => drop(set.timers.insert(name, unit)),
            What::Socket(unit) => drop(set.sockets.insert(name, unit)),
            What::Checked(_) => {}
        }
    }
    turn_around(&mut links);
    let mut volumes = std::mem::take(&mut set.volumes);
    for (name, volume) in &mut volumes {
        if let Backing::Image(image) = &mut volume.spec.backing {
            Resources { files: &drafts.files, instance: name.instance(), set }.name_image(image);
        }
    }
    set.volumes = volumes;
    let mut names: BTreeSet<UnitName> = containers.iter().map(|unit| unit.name.clone()).collect();
    names.extend(set.pods.keys().cloned());
    let mut pods = std::mem::take(&mut set.pods);
    for (name, pod) in &mut pods {
        for (kind, to) in links.get(name).into_iter().flatten() {
            insert((name, &mut pod.spec.links), *kind, to, &names, &links, set);
        }
        let resources = Resources { files: &drafts.files, instance: name.instance(), set };
        resources.name_volumes(&mut pod.spec.volumes);
        resources.name_networks(&mut pod.spec.network);
    }
    for mut unit in containers {
        for (kind, to) in links.get(&unit.name).into_iter().flatten() {
            insert((&unit.name, &mut unit.links), *kind, to, &names, &links, set);
        }
        name_resources(&mut unit, &drafts.files, set);
        if let Network::Container(other) = &mut unit.container.network {
            // The one container that it uses.
            let is_its = |(kind, to): &&(LinkKind, UnitName)| *kind == LinkKind::Uses && names.contains(to);
            if let Some((_, to)) = links.get(&unit.name).into_iter().flatten().find(is_its) {
                other.clone_from(to);
            }
        }
        // As Quadlet has it, the pod wants those that start with it and comes before them.
        if let Some((pod, true)) = &unit.container.pod
            && let Some(pod) = pods.get_mut(pod)
        {
            pod.spec.links.wants.insert(unit.name.clone());
            pod.spec.links.before.insert(unit.name.clone());
        }
        set.units.insert(unit.name.clone(), *unit);
    }
    set.pods = pods;
}

/// What one unit says of another is kept with the unit that it changes.
fn turn_around(links: &mut Every) {
    let mut reverse: Vec<(UnitName, LinkKind, UnitName)> = Vec::new();
    for (name, all) in links.iter_mut() {
        all.retain(|(kind, to)| {
            let kind = match kind {
                LinkKind::WantedBy => LinkKind::Wants,
                LinkKind::RequiredBy => LinkKind::Requires,
                LinkKind::UpheldBy => LinkKind::Upholds,
                LinkKind::StopPropagatedFrom => LinkKind::PropagatesStopTo,
                LinkKind::ReloadPropagatedFrom => LinkKind::PropagatesReloadTo,
                _ => return true,
            };
            reverse.push((to.clone(), kind, name.clone()));
            false
        });
    }
    for (owner, kind, name) in reverse {
        if let Some(all) = links.get_mut(&owner) {
            all.push((kind, name));
        }
    }
}

fn insert(
    (name, own): (&UnitName, &mut Links),
    kind: LinkKind,
    to: &UnitName,
    names: &BTreeSet<UnitName>,
    links: &Every,
    set: &UnitSet,
) {
    #[cfg(test)]
    super::text::steps::add(1);
    let masked = set.masked.contains(to);
    // What is ordered after or wants a unit with errors goes on without it; what requires it says so when it is to start.
    let there = names.contains(to) && !masked;
    let gone = !there && !links.contains_key(to);
    match kind {
        LinkKind::Uses | LinkKind::Requires | LinkKind::After | LinkKind::Wants if links.contains_key(to) && !there => {
            // A volume or image is there as soon as what it waits for is.
            for (behind, other) in links.get(to).into_iter().flatten() {
                if matches!(behind, LinkKind::After | LinkKind::Requires) && other != name {
                    insert((name, own), *behind, other, names, links, set);
                }
            }
        }
        LinkKind::Uses => {
            // Without who has the namespaces it has none: Quadlet binds the containers of a pod to it. For Network=x.container it
            // writes Requires=, and podman's container then goes on in a network that lost its interfaces.
            own.binds_to.insert(to.clone());
            if there {
                own.after.insert(to.clone());
            }
        }
        LinkKind::Requires if there || gone => drop(own.requires.insert(to.clone())),
        LinkKind::BindsTo if there || gone => drop(own.binds_to.insert(to.clone())),
        LinkKind::Requisite if there || gone => drop(own.requisite.insert(to.clone())),
        _ if !there => {}
        LinkKind::After => drop(own.after.insert(to.clone())),
        LinkKind::Before => drop(own.before.insert(to.clone())),
        LinkKind::Wants => drop(own.wants.insert(to.clone())),
        LinkKind::PartOf => drop(own.part_of.insert(to.clone())),
        LinkKind::Conflicts => drop(own.conflicts.insert(to.clone())),
        LinkKind::Upholds => drop(own.upholds.insert(to.clone())),
        LinkKind::OnFailure => drop(own.on_failure.insert(to.clone())),
        LinkKind::OnSuccess => drop(own.on_success.insert(to.clone())),
        LinkKind::PropagatesStopTo => drop(own.propagates_stop_to.insert(to.clone())),
        LinkKind::PropagatesReloadTo => drop(own.propagates_reload_to.insert(to.clone())),
        _ => {}
    }
}

type Files = std::collections::HashMap<(Kind, String), UnitName>;

/// What stands behind the files that a unit names.
struct Resources<'a> {
    files: &'a Files,
    instance: Option<&'a str>,
    set: &'a UnitSet,
}

impl Resources<'_> {
    fn node(&self, kind: Kind, file: &str) -> Option<&UnitName> {
        let stem = file.strip_suffix(kind.suffix())?.strip_suffix('.')?;
        self.files.get(&(kind, of_instance(stem, self.instance)))
    }

    fn name_image(&self, wanted: &mut ImageName) {
        if let Some(image) = self.node(Kind::Image, &wanted.name).and_then(|name| self.set.images.get(name)) {
            wanted.name = image.spec.tag.clone().unwrap_or_else(|| image.spec.image.clone());
            wanted.platform.clone_from(&image.spec.platform);
        }
    }

    fn name_volumes(&self, volumes: &mut [Volume]) {
        for volume in volumes {
            let Volume { source: VolumeSource::Named(name), .. } = volume else { continue };
            let by_file = self.node(Kind::Volume, name).and_then(|name| self.set.volumes.get(name));
            let by_name = || self.set.volumes.values().find(|found| found.spec.name == *name);
            if let Some(found) = by_file.or_else(by_name) {
                volume.copy_up &= found.spec.copy;
                // A mount of a mount has flags of its own.
                volume.read_only |= found.spec.backing.is_read_only();
                volume.source = VolumeSource::Named(found.spec.name.clone());
            }
        }
    }

    fn name_networks(&self, network: &mut Network) {
        let Network::Bridge(all) = network else { return };
        for attachment in all {
            let node = attachment.network.as_deref().and_then(|file| self.node(Kind::Network, file));
            if let Some(found) = node.and_then(|name| self.set.networks.get(name)) {
                attachment.network = Some(found.spec.name.clone());
            }
        }
    }
}

/// The names of volumes, images, networks and pods in place of their files'.
fn name_resources(unit: &mut Unit, files: &Files, set: &UnitSet) {
    let Unit { name, container, .. } = unit;
    let resources = Resources { files, instance: name.instance(), set };
    if let Root::Image(image) = &mut container.root {
        resources.name_image(image);
    }
    container.image_mounts.iter_mut().for_each(|mount| resources.name_image(&mut mount.image));
    resources.name_volumes(&mut container.volumes);
    resources.name_networks(&mut container.network);
    if let Some((name, _)) = &mut container.pod
        && let Some(found) = files.get(&(Kind::Pod, Kind::Pod.stem(name)))
    {
        *name = found.clone();
    }
}

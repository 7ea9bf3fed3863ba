//! The links that are left, written into the units: those of `[Install]` into the other unit, those to volumes, images, networks
//! and pods followed to what stands behind them.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Network, Root, Unit, UnitName, UnitSet, Volume, VolumeSource,
    build::{Draft, Link, LinkKind, What},
    kind::of_instance,
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
            What::Pod(unit) => drop(set.pods.insert(name, unit)),
            What::Timer(unit) => drop(set.timers.insert(name, unit)),
            What::Socket(unit) => drop(set.sockets.insert(name, unit)),
            What::Checked(_) => {}
        }
    }
    turn_around(&mut links);
    let names: BTreeSet<UnitName> = containers.iter().map(|unit| unit.name.clone()).collect();
    for mut unit in containers {
        for (kind, to) in links.get(&unit.name).into_iter().flatten() {
            insert(&mut unit, *kind, to, &names, &links, set);
        }
        name_resources(&mut unit, &drafts.files, set);
        set.units.insert(unit.name.clone(), *unit);
    }
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

fn insert(unit: &mut Unit, kind: LinkKind, to: &UnitName, names: &BTreeSet<UnitName>, links: &Every, set: &UnitSet) {
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
                if matches!(behind, LinkKind::After | LinkKind::Requires) && *other != unit.name {
                    insert(unit, *behind, other, names, links, set);
                }
            }
        }
        LinkKind::Uses => {
            unit.links.requires.insert(to.clone());
            if there {
                unit.links.after.insert(to.clone());
            }
        }
        LinkKind::Requires if there || gone => drop(unit.links.requires.insert(to.clone())),
        LinkKind::BindsTo if there || gone => drop(unit.links.binds_to.insert(to.clone())),
        LinkKind::Requisite if there || gone => drop(unit.links.requisite.insert(to.clone())),
        _ if !there => {}
        LinkKind::After => drop(unit.links.after.insert(to.clone())),
        LinkKind::Before => drop(unit.links.before.insert(to.clone())),
        LinkKind::Wants => drop(unit.links.wants.insert(to.clone())),
        LinkKind::PartOf => drop(unit.links.part_of.insert(to.clone())),
        LinkKind::Conflicts => drop(unit.links.conflicts.insert(to.clone())),
        LinkKind::Upholds => drop(unit.links.upholds.insert(to.clone())),
        LinkKind::OnFailure => drop(unit.links.on_failure.insert(to.clone())),
        LinkKind::OnSuccess => drop(unit.links.on_success.insert(to.clone())),
        LinkKind::PropagatesStopTo => drop(unit.links.propagates_stop_to.insert(to.clone())),
        LinkKind::PropagatesReloadTo => drop(unit.links.propagates_reload_to.insert(to.clone())),
        _ => {}
    }
}

/// The names of volumes, images, networks and pods in place of their files'.
fn name_resources(
    unit: &mut Unit,
    files: &std::collections::HashMap<(super::kind::Kind, String), UnitName>,
    set: &UnitSet,
) {
    use super::kind::Kind;
    let Unit { name, container, .. } = unit;
    let node = |kind: Kind, file: &str| {
        let stem = file.strip_suffix(kind.suffix())?.strip_suffix('.')?;
        files.get(&(kind, of_instance(stem, name.instance())))
    };
    let image = |name: &mut String| {
        if let Some(image) = node(Kind::Image, name).and_then(|name| set.images.get(name)) {
            *name = image.spec.tag.clone().unwrap_or_else(|| image.spec.image.clone());
        }
    };
    if let Root::Image(name) = &mut container.root {
        image(name);
    }
    container.image_mounts.iter_mut().for_each(|mount| image(&mut mount.image));
    for volume in &mut container.volumes {
        let Volume { source: VolumeSource::Named(name), .. } = volume else { continue };
        if let Some(found) = node(Kind::Volume, name).and_then(|name| set.volumes.get(name)) {
            volume.copy_up &= found.spec.copy;
            volume.source = VolumeSource::Named(found.spec.name.clone());
        }
    }
    if let Network::Bridge(all) = &mut container.network {
        for attachment in all {
            let file = attachment.network.as_deref();
            if let Some(found) = file.and_then(|file| node(Kind::Network, file)).and_then(|name| set.networks.get(name))
            {
                attachment.network = Some(found.spec.name.clone());
            }
        }
    }
    if let Network::Container(name) = &mut container.network
        && let Some(found) = files.get(&(Kind::Container, name.to_string()))
    {
        *name = found.clone();
    }
    if let Some((name, _)) = &mut container.pod
        && let Some(found) = files.get(&(Kind::Pod, Kind::Pod.stem(name)))
    {
        *name = found.clone();
    }
}

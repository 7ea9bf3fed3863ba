//! From what a unit's files set to the typed unit. Mistakes are collected in the sheet; the links to other units are resolved
//! when all units are known.

mod command;
mod container;
mod identity;
mod limits;
pub(super) use limits::CAPABILITIES;
mod links;
mod mounts;
mod service;

use std::{collections::BTreeSet, path::Path};

use super::{Unit, sheet::Sheet, values};
pub(super) use links::{Link, LinkKind, Target};

/// A unit before its links to others are resolved.
pub(super) struct Draft {
    pub(super) unit: Unit,
    pub(super) links: Vec<Link>,
}

/// Always makes a draft, so that all mistakes of all parts are found; it is of use only when the sheet has no errors.
pub(super) fn draft(path: &Path, sheet: &mut Sheet) -> Draft {
    if !sheet.has_container() {
        sheet.missing(path, "a .container file needs a [Container] section with Image=");
    }
    let links = links::links(sheet);
    let default_dependencies = sheet.read("Quadlet", "DefaultDependencies", values::boolean).unwrap_or(true);
    let container = container::container(path, sheet);
    let (service, start_timeouts) = service::service(sheet);
    // Quadlet waits for the network so that images can be pulled and addresses bound; a unit without a network needs neither.
    let by_default = default_dependencies && container.network != super::Network::None;
    let unit = Unit {
        name: sheet.unit.clone(),
        description: sheet.last("Unit", "Description").map_or_else(|| sheet.unit.to_string(), |d| d.text.clone()),
        documentation: sheet.all_words("Unit", "Documentation").into_iter().map(|(_, word)| word.text).collect(),
        after: BTreeSet::new(),
        before: BTreeSet::new(),
        requires: BTreeSet::new(),
        wants: BTreeSet::new(),
        after_network_online: by_default || links::after_network_online(&links),
        start_limit_burst: start_timeouts.burst,
        start_limit_interval: start_timeouts.interval,
        service: super::ServiceSpec {
            // Quadlet's podman kills after StopTimeout=, systemd after TimeoutStopSec=: whichever is first.
            stop_timeout: [service.stop_timeout, container::stop_timeout(sheet)].into_iter().flatten().min(),
            ..service
        },
        enabled: links::enabled(&links),
        path: path.to_path_buf(),
        container,
    };
    let mut unit = unit;
    service::limits(sheet, &mut unit.container);
    Draft { unit, links }
}

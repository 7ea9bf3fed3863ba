//! Ordering and requirement, apart, as systemd has them: `After=` says who waits, `Requires=` and `Wants=` say who comes along.

use std::collections::{BTreeMap, BTreeSet};

use crate::unit::{Links, UnitName};

type Edges = BTreeMap<UnitName, BTreeSet<UnitName>>;

/// The tables of systemd.unit(5), each link from the side that needs it.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    /// Both `After=` and the reverse of `Before=`.
    after: Edges,
    /// The reverse of `after`.
    before: Edges,
    /// What has to be up: `Requires=`, `BindsTo=`, `Requisite=`.
    requires: Edges,
    /// What comes along: the same without `Requisite=`, and `Wants=`, `Upholds=`.
    pulls: Edges,
    /// Who goes down with it: the reverse of `requires` and of `PartOf=`, and `PropagatesStopTo=`.
    stops: Edges,
    bound_by: Edges,
    propagates_stop: Edges,
    upheld_by: Edges,
    /// In both directions.
    conflicts: Edges,
    /// Units on a cycle of the ordering, each with the path as a sentence.
    cycles: BTreeMap<UnitName, String>,
}

static NONE: BTreeSet<UnitName> = BTreeSet::new();

fn link(edges: &mut Edges, from: &UnitName, to: &UnitName) {
    edges.entry(from.clone()).or_default().insert(to.clone());
}

impl Graph {
    /// Links to units that are not there are left out: they order nothing.
    pub(crate) fn new(units: &BTreeMap<UnitName, Links>) -> Self {
        let mut graph = Self::default();
        let known = |name: &&UnitName| units.contains_key(*name);
        for (name, links) in units {
            for other in links.after.iter().filter(known) {
                graph.order(other, name);
            }
            for other in links.before.iter().filter(known) {
                graph.order(name, other);
            }
            for other in links.requires.iter().chain(&links.binds_to).chain(&links.requisite).filter(known) {
                link(&mut graph.requires, name, other);
                link(&mut graph.stops, other, name);
            }
            let pulled = [&links.requires, &links.binds_to, &links.wants, &links.upholds];
            for other in pulled.into_iter().flatten().filter(known) {
                link(&mut graph.pulls, name, other);
            }
            for other in links.part_of.iter().filter(known) {
                link(&mut graph.stops, other, name);
            }
            for other in links.propagates_stop_to.iter().filter(known) {
                link(&mut graph.stops, name, other);
                link(&mut graph.propagates_stop, name, other);
            }
            for other in links.binds_to.iter().filter(known) {
                link(&mut graph.bound_by, other, name);
            }
            for other in links.upholds.iter().filter(known) {
                link(&mut graph.upheld_by, other, name);
            }
            for other in links.conflicts.iter().filter(known).filter(|other| *other != name) {
                link(&mut graph.conflicts, name, other);
                link(&mut graph.conflicts, other, name);
            }
        }
        graph.find_cycles();
        graph
    }

    fn order(&mut self, first: &UnitName, then: &UnitName) {
        if first != then {
            link(&mut self.after, then, first);
            link(&mut self.before, first, then);
        }
    }

    pub(crate) fn after(&self, name: &UnitName) -> &BTreeSet<UnitName> {
        self.after.get(name).unwrap_or(&NONE)
    }

    pub(crate) fn before(&self, name: &UnitName) -> &BTreeSet<UnitName> {
        self.before.get(name).unwrap_or(&NONE)
    }

    pub(crate) fn requires(&self, name: &UnitName) -> &BTreeSet<UnitName> {
        self.requires.get(name).unwrap_or(&NONE)
    }

    pub(crate) fn bound_by(&self, name: &UnitName) -> &BTreeSet<UnitName> {
        self.bound_by.get(name).unwrap_or(&NONE)
    }

    pub(crate) fn propagates_stop(&self, name: &UnitName) -> &BTreeSet<UnitName> {
        self.propagates_stop.get(name).unwrap_or(&NONE)
    }

    pub(crate) fn upheld_by(&self, name: &UnitName) -> &BTreeSet<UnitName> {
        self.upheld_by.get(name).unwrap_or(&NONE)
    }

    pub(crate) fn conflicts(&self, name: &UnitName) -> &BTreeSet<UnitName> {
        self.conflicts.get(name).unwrap_or(&NONE)
    }

    /// `ordering cycle: a after b after a`, for a unit on one.
    pub(crate) fn cycle(&self, name: &UnitName) -> Option<&str> {
        self.cycles.get(name).map(String::as_str)
    }

    /// The unit and everything that comes along with it.
    pub(crate) fn pulled_in(&self, name: &UnitName) -> BTreeSet<UnitName> {
        closure(name, &self.pulls)
    }

    /// The unit and everything that goes down with it.
    pub(crate) fn depending(&self, name: &UnitName) -> BTreeSet<UnitName> {
        closure(name, &self.stops)
    }

    /// For each unit the shortest way back to itself, if there is one. Breadth first, without recursion: a hostile set of
    /// units cannot exhaust the stack.
    fn find_cycles(&mut self) {
        for name in self.after.keys() {
            let mut came_from: BTreeMap<&UnitName, &UnitName> = BTreeMap::new();
            let mut queue = std::collections::VecDeque::from([name]);
            'search: while let Some(at) = queue.pop_front() {
                for next in self.after(at) {
                    if next == name {
                        came_from.insert(name, at);
                        break 'search;
                    }
                    if !came_from.contains_key(next) {
                        came_from.insert(next, at);
                        queue.push_back(next);
                    }
                }
            }
            let Some(mut at) = came_from.get(name).copied() else { continue };
            let mut path = vec![name.as_str(), at.as_str()];
            while at != name {
                let Some(previous) = came_from.get(at) else { break };
                at = previous;
                path.push(at.as_str());
            }
            path.reverse();
            self.cycles.insert(name.clone(), format!("ordering cycle: {}", path.join(" after ")));
        }
    }
}

fn closure(name: &UnitName, edges: &Edges) -> BTreeSet<UnitName> {
    let mut found = BTreeSet::from([name.clone()]);
    let mut queue = vec![name];
    while let Some(at) = queue.pop() {
        for next in edges.get(at).into_iter().flatten() {
            if found.insert(next.clone()) {
                queue.push(next);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> UnitName {
        UnitName::parse(text).unwrap()
    }

    fn graph(edges: &[(&str, &str)]) -> Graph {
        let mut units: BTreeMap<UnitName, Links> = BTreeMap::new();
        for (unit, after) in edges {
            units.entry(name(after)).or_default();
            units.entry(name(unit)).or_default().after.insert(name(after));
        }
        Graph::new(&units)
    }

    #[test]
    fn a_cycle_names_its_path_and_only_its_members() {
        let graph = graph(&[("a", "b"), ("b", "c"), ("c", "a"), ("c", "d"), ("outside", "a")]);
        assert_eq!(graph.cycle(&name("a")), Some("ordering cycle: a after b after c after a"));
        assert!(graph.cycle(&name("b")).is_some() && graph.cycle(&name("c")).is_some());
        assert_eq!(graph.cycle(&name("d")), None);
        assert_eq!(graph.cycle(&name("outside")), None);
    }

    #[test]
    fn before_is_after_from_the_other_side() {
        let mut units: BTreeMap<UnitName, Links> = BTreeMap::new();
        units.insert(name("db"), Links { before: BTreeSet::from([name("web")]), ..Links::default() });
        units.insert(name("web"), Links { after: BTreeSet::from([name("gone")]), ..Links::default() });
        let graph = Graph::new(&units);
        assert_eq!(graph.after(&name("web")), &BTreeSet::from([name("db")]), "and what is not there orders nothing");
        assert_eq!(graph.before(&name("db")), &BTreeSet::from([name("web")]));
    }

    #[test]
    fn requirements_pull_in_and_stops_run_the_other_way() {
        let mut units: BTreeMap<UnitName, Links> = BTreeMap::new();
        units.insert(name("web"), Links { requires: BTreeSet::from([name("db")]), ..Links::default() });
        units.insert(name("db"), Links { wants: BTreeSet::from([name("backup")]), ..Links::default() });
        units.insert(name("backup"), Links::default());
        let graph = Graph::new(&units);
        assert_eq!(graph.pulled_in(&name("web")).len(), 3);
        assert_eq!(graph.depending(&name("db")), BTreeSet::from([name("db"), name("web")]));
        assert_eq!(graph.depending(&name("backup")), BTreeSet::from([name("backup")]));
    }
}

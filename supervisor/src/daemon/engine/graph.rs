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
    /// The reverse of `requires` and `pulls`.
    needed_by: Edges,
    /// In both directions.
    conflicts: Edges,
    /// Units on a cycle of the ordering, each with the path as a sentence.
    cycles: BTreeMap<UnitName, String>,
    /// Units that need two others, or another, which may not run side by side.
    contradictions: BTreeMap<UnitName, String>,
}

/// What starts with a unit.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Transaction {
    pub(crate) all: BTreeSet<UnitName>,
    /// What would have come along, each with whom it conflicts.
    pub(crate) dropped: Vec<(UnitName, UnitName)>,
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
                link(&mut graph.needed_by, other, name);
            }
            let pulled = [&links.requires, &links.binds_to, &links.wants, &links.upholds];
            for other in pulled.into_iter().flatten().filter(known) {
                link(&mut graph.pulls, name, other);
                link(&mut graph.needed_by, other, name);
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
        if !graph.conflicts.is_empty() {
            graph.find_contradictions(units.keys());
        }
        graph
    }

    fn order(&mut self, first: &UnitName, then: &UnitName) {
        if first != then {
            link(&mut self.after, then, first);
            link(&mut self.before, first, then);
        }
    }

    pub(crate) fn after(&self, name: &UnitName) -> &BTreeSet<UnitName> {
        of(&self.after, name)
    }

    pub(crate) fn before(&self, name: &UnitName) -> &BTreeSet<UnitName> {
        of(&self.before, name)
    }

    pub(crate) fn requires(&self, name: &UnitName) -> &BTreeSet<UnitName> {
        of(&self.requires, name)
    }

    pub(crate) fn bound_by(&self, name: &UnitName) -> &BTreeSet<UnitName> {
        of(&self.bound_by, name)
    }

    pub(crate) fn propagates_stop(&self, name: &UnitName) -> &BTreeSet<UnitName> {
        of(&self.propagates_stop, name)
    }

    pub(crate) fn upheld_by(&self, name: &UnitName) -> &BTreeSet<UnitName> {
        of(&self.upheld_by, name)
    }

    pub(crate) fn needed_by(&self, name: &UnitName) -> &BTreeSet<UnitName> {
        of(&self.needed_by, name)
    }

    pub(crate) fn conflicts(&self, name: &UnitName) -> &BTreeSet<UnitName> {
        of(&self.conflicts, name)
    }

    /// `ordering cycle: a after b after a`, for a unit on one.
    pub(crate) fn cycle(&self, name: &UnitName) -> Option<&str> {
        self.cycles.get(name).map(String::as_str)
    }

    /// Why it can never start.
    pub(crate) fn refused(&self, name: &UnitName) -> Option<&str> {
        self.cycle(name).or(self.contradictions.get(name).map(String::as_str))
    }

    /// The unit and everything that comes along with it. Of two in it that conflict systemd deletes the start that nobody requires,
    /// and refuses all of it where both are required (transaction_merge_jobs() in its src/core/transaction.c): so here.
    pub(crate) fn transaction(&self, name: &UnitName) -> Transaction {
        self.together([name].into(), Some(name))
    }

    /// The same for several that are wanted, and none of them more than another: what a target comes to that wants them.
    pub(crate) fn transaction_of(&self, wanted: &BTreeSet<UnitName>) -> Transaction {
        self.together(wanted.iter().collect(), None)
    }

    fn together(&self, wanted: Vec<&UnitName>, asked: Option<&UnitName>) -> Transaction {
        let mut dropped = BTreeMap::new();
        if self.conflicts.is_empty() {
            let all = closure_without(wanted, |at| of(&self.pulls, at), &dropped);
            return Transaction { all, dropped: Vec::new() };
        }
        let needed = asked.map(|name| closure(name, |at| self.requires(at))).unwrap_or_default();
        loop {
            // What can never start brings nothing along.
            let comes = |at: &UnitName| if self.contradictions.contains_key(at) { &NONE } else { of(&self.pulls, at) };
            let mut all = closure_without(wanted.clone(), comes, &dropped);
            let Some((one, other)) = self.pair(&all) else {
                return Transaction { all, dropped: dropped.into_iter().collect() };
            };
            let (loser, winner) = if needed.contains(other) { (one, other) } else { (other, one) };
            let (loser, winner) = (loser.clone(), winner.clone());
            all.retain(|each| closure(each, |at| self.requires(at)).contains(&loser));
            let news = dropped.len();
            dropped.extend(all.into_iter().filter(|each| asked != Some(each)).map(|each| (each, winner.clone())));
            if dropped.len() == news {
                // It needs what may not run beside it: it alone is started, and refused.
                return Transaction { all: asked.into_iter().cloned().collect(), dropped: Vec::new() };
            }
        }
    }

    /// Two of these that conflict.
    fn pair<'a>(&'a self, all: &'a BTreeSet<UnitName>) -> Option<(&'a UnitName, &'a UnitName)> {
        all.iter().find_map(|one| Some((one, self.conflicts(one).iter().find(|other| all.contains(*other))?)))
    }

    fn find_contradictions<'a>(&mut self, units: impl Iterator<Item = &'a UnitName>) {
        for name in units {
            let needed = closure(name, |at| self.requires(at));
            if let Some((one, other)) = self.pair(&needed) {
                let text = format!("needs {one} and {other} at once, which conflict");
                self.contradictions.insert(name.clone(), text);
            }
        }
    }

    /// The unit and everything that goes down with it.
    pub(crate) fn depending(&self, name: &UnitName) -> BTreeSet<UnitName> {
        closure(name, |at| of(&self.stops, at))
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

fn of<'a>(edges: &'a Edges, name: &UnitName) -> &'a BTreeSet<UnitName> {
    edges.get(name).unwrap_or(&NONE)
}

fn closure<'a>(name: &'a UnitName, edges: impl Fn(&UnitName) -> &'a BTreeSet<UnitName>) -> BTreeSet<UnitName> {
    closure_without(vec![name], edges, &BTreeMap::new())
}

fn closure_without<'a>(
    names: Vec<&'a UnitName>,
    edges: impl Fn(&UnitName) -> &'a BTreeSet<UnitName>,
    without: &BTreeMap<UnitName, UnitName>,
) -> BTreeSet<UnitName> {
    let mut queue = names;
    queue.retain(|name| !without.contains_key(*name));
    let mut found: BTreeSet<UnitName> = queue.iter().copied().cloned().collect();
    while let Some(at) = queue.pop() {
        for next in edges(at) {
            if !without.contains_key(next) && found.insert(next.clone()) {
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
        assert_eq!(graph.transaction(&name("web")).all.len(), 3);
        assert_eq!(graph.depending(&name("db")), BTreeSet::from([name("db"), name("web")]));
        assert_eq!(graph.depending(&name("backup")), BTreeSet::from([name("backup")]));
    }
}

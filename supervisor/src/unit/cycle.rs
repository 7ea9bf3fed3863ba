//! Units that wait for one another in a circle.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{
    Problem, UnitName,
    build::{Draft, Link, LinkKind},
};

pub(super) struct Cycle {
    /// Every unit that is part of a circle with the others, not only of the one that is shown.
    pub(super) members: BTreeSet<UnitName>,
    pub(super) problem: Problem,
}

/// For each unit the units it starts after, with the words that say so.
type Order<'a> = BTreeMap<&'a UnitName, BTreeMap<&'a UnitName, &'a Link>>;

/// A circle longer than this is not read to its end by anybody.
const MAX_EDGES: usize = 16;

/// Of units that wait for each other in more ways than one, so many circles are told in one run.
const MAX_CIRCLES: usize = 8;

/// Those of the units that count.
pub(super) fn find(drafts: &BTreeMap<UnitName, Draft>, counts: impl Fn(&Draft) -> bool) -> Vec<Cycle> {
    let mut order = order(drafts, counts);
    let reverse = reverse(&order);
    let mut cycles = Vec::new();
    let mut done: BTreeSet<&UnitName> = BTreeSet::new();
    for start in candidates(&order, &reverse) {
        if done.contains(start) {
            continue;
        }
        let Some(path) = shortest(&order, start) else { continue };
        // Everything that waits for the start and that the start waits for.
        let members = &reach(&order, start) & &reach(&reverse, start);
        done.extend(&members);
        let members: BTreeSet<UnitName> = members.into_iter().cloned().collect();
        let mut next = Some(path);
        for _ in 0..MAX_CIRCLES {
            let Some(path) = next.take() else { break };
            cycles.extend(told(&path).map(|problem| Cycle { members: members.clone(), problem }));
            // A circle that has none of its lines is another mistake.
            for (from, to, _) in &path {
                if let Some(edges) = order.get_mut(from) {
                    edges.remove(to);
                }
            }
            next = path.iter().take(MAX_EDGES).find_map(|(from, ..)| shortest(&order, from));
        }
    }
    cycles
}

fn told(path: &[(&UnitName, &UnitName, &Link)]) -> Option<Problem> {
    let mut edges: Vec<String> = path
        .iter()
        .take(MAX_EDGES)
        .map(|(from, to, link)| format!("{from} after {to} ({}, {}=)", link.place(), link.key))
        .collect();
    if path.len() > MAX_EDGES {
        edges.push(format!("and {} more", path.len() - MAX_EDGES));
    }
    let text = format!("units wait for each other in a circle: {}; take one of these lines away", edges.join(", "));
    path.first().map(|(_, _, link)| link.error(text))
}

fn order(drafts: &BTreeMap<UnitName, Draft>, counts: impl Fn(&Draft) -> bool) -> Order<'_> {
    let mut order = Order::new();
    for (name, draft) in drafts.iter().filter(|(_, draft)| counts(draft)) {
        for link in &draft.links {
            let is_there = |other: &&UnitName| drafts.get(*other).is_some_and(&counts);
            let Some(other) = link.to.as_ref().filter(is_there) else { continue };
            match link.kind {
                LinkKind::After | LinkKind::Uses => order.entry(name).or_default().entry(other).or_insert(link),
                LinkKind::Before => order.entry(other).or_default().entry(name).or_insert(link),
                _ => continue,
            };
        }
    }
    order
}

fn reverse<'a>(order: &Order<'a>) -> Order<'a> {
    let mut reverse = Order::new();
    for (from, edges) in order {
        for (to, link) in edges {
            reverse.entry(*to).or_default().insert(*from, *link);
        }
    }
    reverse
}

/// What is left when every unit that waits for nothing left is taken away, again and again: circles, and what waits for them.
fn candidates<'a>(order: &Order<'a>, reverse: &Order<'a>) -> Vec<&'a UnitName> {
    let mut waits: BTreeMap<&UnitName, usize> = order.iter().map(|(name, edges)| (*name, edges.len())).collect();
    let mut free: Vec<&UnitName> = reverse.keys().copied().filter(|name| !waits.contains_key(*name)).collect();
    while let Some(unit) = free.pop() {
        for waiting in reverse.get(unit).into_iter().flat_map(|edges| edges.keys()) {
            if let Some(left) = waits.get_mut(*waiting) {
                *left -= 1;
                if *left == 0 {
                    waits.remove(*waiting);
                    free.push(waiting);
                }
            }
        }
    }
    waits.into_keys().collect()
}

/// The shortest way from a unit back to itself.
fn shortest<'a>(order: &Order<'a>, start: &'a UnitName) -> Option<Vec<(&'a UnitName, &'a UnitName, &'a Link)>> {
    let mut came: BTreeMap<&UnitName, (&'a UnitName, &'a Link)> = BTreeMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(unit) = queue.pop_front() {
        for (next, link) in order.get(unit).into_iter().flatten() {
            #[cfg(test)]
            super::text::steps::add(1);
            if came.contains_key(*next) {
                continue;
            }
            came.insert(next, (unit, link));
            if *next == start {
                let mut path = Vec::new();
                let mut at = start;
                while let Some((before, link)) = came.get(at) {
                    path.push((*before, at, *link));
                    at = before;
                    if at == start {
                        break;
                    }
                }
                path.reverse();
                return Some(path);
            }
            queue.push_back(next);
        }
    }
    None
}

/// All units that this one waits for, directly or not.
fn reach<'a>(order: &Order<'a>, start: &'a UnitName) -> BTreeSet<&'a UnitName> {
    let mut found = BTreeSet::new();
    let mut stack = vec![start];
    while let Some(unit) = stack.pop() {
        for next in order.get(unit).into_iter().flat_map(|edges| edges.keys()) {
            #[cfg(test)]
            super::text::steps::add(1);
            if found.insert(*next) {
                stack.push(next);
            }
        }
    }
    found
}

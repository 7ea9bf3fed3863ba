//! All units together: links between them resolved, unknown ones and cycles refused, and nothing else with them.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    path::Path,
};

use super::{
    Problem, Severity, UnitName, UnitSet,
    build::{self, Draft, Link, LinkKind, Target},
    cycle,
    sheet::Sheet,
    source::{self, Content, Source},
    syntax,
};

/// Reads every unit file of the folders. A file in a later folder replaces those of the same name; a link to /dev/null masks
/// them; drop-ins of all folders apply. A folder that does not exist is empty.
pub fn load(dirs: &[&Path]) -> UnitSet {
    let mut problems = Vec::new();
    let sources = source::find(dirs, &mut problems);
    assemble(sources, problems)
}

pub(super) fn assemble(sources: Vec<Source>, problems: Vec<Problem>) -> UnitSet {
    let mut set = UnitSet { problems, ..UnitSet::default() };
    let mut drafts: BTreeMap<UnitName, Draft> = BTreeMap::new();
    let mut of_drop_ins: HashSet<Problem> = HashSet::new();
    for source in sources {
        match source.content {
            Content::Masked => {
                set.masked.insert(source.name);
            }
            Content::Unreadable => {
                set.broken.insert(source.name);
            }
            Content::Text(ref text) => {
                let mut documents = vec![syntax::parse(&source.path, text)];
                documents.extend(source.drop_ins.iter().map(|(path, text)| syntax::parse(path, text)));
                let mut sheet = Sheet::new(source.name.clone(), documents);
                let draft = build::draft(&source.path, &mut sheet);
                let found = sheet.into_problems();
                if found.iter().any(|p| p.severity == Severity::Error) {
                    set.broken.insert(source.name);
                } else {
                    drafts.insert(source.name, draft);
                }
                // A drop-in of all containers is wrong once, not once for each of them.
                for problem in found {
                    if problem.path == source.path || of_drop_ins.insert(problem.clone()) {
                        set.problems.push(problem);
                    }
                }
            }
        }
    }
    let names: BTreeSet<UnitName> = drafts.keys().chain(&set.broken).chain(&set.masked).cloned().collect();
    drop_unknown(&mut drafts, &names, &mut set);
    for cycle in cycle::find(&drafts) {
        set.problems.push(cycle.problem);
        for name in cycle.members {
            drafts.remove(&name);
            set.broken.insert(name);
        }
    }
    connect(drafts, &mut set);
    set.problems.sort_by(|a, b| (&a.path, a.place, &a.text).cmp(&(&b.path, b.place, &b.text)));
    set
}

/// Units that name others which do not exist. What does not need them loses the link, with a warning.
fn drop_unknown(drafts: &mut BTreeMap<UnitName, Draft>, names: &BTreeSet<UnitName>, set: &mut UnitSet) {
    drafts.retain(|name, draft| {
        let mut good = true;
        draft.links.retain(|link| match judge(name, link, names) {
            Verdict::Keep => true,
            Verdict::Drop => false,
            Verdict::Warn(text) => {
                set.problems.push(link.warning(text));
                false
            }
            Verdict::Refuse(text) => {
                set.problems.push(link.error(text));
                good = false;
                false
            }
        });
        if !good {
            set.broken.insert(name.clone());
        }
        good
    });
}

enum Verdict {
    Keep,
    /// It means nothing more than what holds anyway.
    Drop,
    Warn(String),
    Refuse(String),
}

fn judge(name: &UnitName, link: &Link, names: &BTreeSet<UnitName>) -> Verdict {
    let key = link.kind.key();
    match &link.target {
        Target::Unit { name: other, .. } if other == name => {
            Verdict::Refuse(format!("{key}={}: a unit cannot name itself here", link.text()))
        }
        Target::Unit { name: other, .. } if names.contains(other) => Verdict::Keep,
        Target::Unit { name: other, declared } => {
            let near = super::nearest::nearest(other.as_str(), names.iter().map(UnitName::as_str));
            let guess = near.map_or(String::new(), |near| format!("; did you mean {near}.container?"));
            if *declared || link.kind == LinkKind::Requires {
                Verdict::Refuse(format!("{key}={}: there is no {other}.container{guess}", link.text()))
            } else {
                Verdict::Warn(format!("{key}={}: without effect, there is no {other}.container{guess}", link.text()))
            }
        }
        Target::Milestone(target) => match (link.kind, target.as_str()) {
            (LinkKind::WantedBy | LinkKind::RequiredBy, "default.target" | "multi-user.target") => Verdict::Drop,
            (LinkKind::WantedBy | LinkKind::RequiredBy, _) => Verdict::Warn(format!(
                "{key}={target} does not start the unit at boot here; write WantedBy=default.target"
            )),
            (LinkKind::After, "default.target" | "multi-user.target" | "graphical.target") => {
                Verdict::Warn(format!("After={target} is left out: it would wait for itself"))
            }
            (_, "time-sync.target") => Verdict::Warn(format!(
                "{key}={target}: without effect, the clock is not set from the network in this version"
            )),
            // Reached before the first container starts, or after the last has stopped.
            _ => Verdict::Drop,
        },
        Target::Foreign(_) if matches!(link.kind, LinkKind::Requires | LinkKind::RequiredBy) => {
            Verdict::Refuse(format!("{key}={}: this system has containers only, no such unit", link.text()))
        }
        Target::Foreign(_) => {
            Verdict::Warn(format!("{key}={}: without effect, this system has containers only", link.text()))
        }
    }
}

/// Writes the links that are left into the units, those from `[Install]` into the other unit.
fn connect(drafts: BTreeMap<UnitName, Draft>, set: &mut UnitSet) {
    let mut reverse: Vec<(UnitName, LinkKind, UnitName)> = Vec::new();
    for (name, draft) in drafts {
        let Draft { mut unit, links } = draft;
        for link in links {
            let Target::Unit { name: other, .. } = link.target else { continue };
            let masked_or_broken = set.masked.contains(&other);
            match link.kind {
                LinkKind::After if !masked_or_broken => unit.after.insert(other),
                LinkKind::Before if !masked_or_broken => unit.before.insert(other),
                LinkKind::Wants if !masked_or_broken => unit.wants.insert(other),
                LinkKind::Requires => unit.requires.insert(other),
                LinkKind::WantedBy | LinkKind::RequiredBy => {
                    reverse.push((other, link.kind, name.clone()));
                    true
                }
                _ => false,
            };
        }
        set.units.insert(name, unit);
    }
    for (owner, kind, name) in reverse {
        if let Some(unit) = set.units.get_mut(&owner) {
            let links = if kind == LinkKind::RequiredBy { &mut unit.requires } else { &mut unit.wants };
            links.insert(name);
        }
    }
    // What is ordered after or wants a unit with errors goes on without it.
    let names: BTreeSet<UnitName> = set.units.keys().cloned().collect();
    for unit in set.units.values_mut() {
        for links in [&mut unit.after, &mut unit.before, &mut unit.wants] {
            links.retain(|other| names.contains(other));
        }
    }
}

//! Links to units that do not exist, and what becomes of who names them.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Said, Severity, UnitName, UnitSet,
    build::{Link, LinkKind, Target, boot_targets, unknown_target},
    kind::{KINDS, Kind},
    nearest::nearest,
    set::Drafts,
    source::whole,
};

/// Finds the unit behind each name.
pub(super) fn resolve(drafts: &mut Drafts) {
    let aliases = drafts.aliases();
    let (containers, networks) = (drafts.containers(), drafts.networks());
    let Drafts { all, twins, files, names, .. } = drafts;
    for draft in all.values_mut().chain(twins.iter_mut().map(|(_, draft)| draft)) {
        for link in &mut draft.links {
            link.to = match &link.target {
                Target::File(kind, stem) => files.get(&(*kind, stem.clone())).cloned(),
                Target::Named(name) => containers.get(name).cloned(),
                Target::Network(name) => networks.get(name).cloned(),
                Target::Service(name) => names.get(name).or_else(|| aliases.get(name)).cloned(),
                Target::Milestone(_) | Target::Foreign(_) => None,
            };
        }
    }
}

const MAX_PROBLEMS: usize = 100;

/// What does not need a unit that is not there loses the link, with a warning; what needs it has a mistake.
pub(super) fn drop_unknown(drafts: &mut Drafts, set: &mut UnitSet) {
    // Of two that are equally near always the same is guessed.
    let files: Files = drafts.files.iter().map(|(file, service)| (file.clone(), service.clone())).collect();
    // Each guess looks at all names: enough of them for everybody who reads the page.
    let mut guesses = 100;
    let Drafts { all, twins, .. } = drafts;
    for (name, draft) in all.iter_mut().chain(twins.iter_mut().map(|(name, draft)| (&*name, draft))) {
        let mut good = true;
        let path = draft.what.path().to_path_buf();
        // As many as are read; each costs a walk along its line.
        let mut problems: usize = 0;
        draft.links.retain(|link| {
            let (severity, text) = match judge(name, draft.kind, link, &files, &set.masked, &mut guesses) {
                Verdict::Keep => return true,
                Verdict::Drop => return false,
                Verdict::Warn(text) => (Severity::Warning, text),
                Verdict::Refuse(text) => {
                    good = false;
                    (Severity::Error, text)
                }
            };
            problems += 1;
            if problems > MAX_PROBLEMS {
                return false;
            }
            let mut problem = if severity == Severity::Error { link.error(text) } else { link.warning(text) };
            if problems == MAX_PROBLEMS {
                problem.text = "more mistakes follow".to_owned();
                problem.suggestion = None;
                problem.severity = Severity::Error;
                good = false;
            }
            // A name that nobody wrote, which follows from the file's own.
            if problem.place.line == 0 {
                let said = Said { text: problem.text, suggestion: problem.suggestion };
                problem = whole(&path, severity, said);
            }
            set.problems.push(problem);
            false
        });
        if !good && !draft.broken {
            draft.broken = true;
            set.broken.insert(name.clone());
        }
    }
}

/// Files and the services they make.
type Files = BTreeMap<(Kind, String), UnitName>;

/// A file of that kind with nearly that name, or one of another kind with this very name.
fn nearest_file(kind: Kind, stem: &str, link: LinkKind, files: &Files) -> Option<String> {
    let of_kind =
        files.range((kind, String::new())..).take_while(|((of, _), _)| *of == kind).map(|((_, stem), _)| stem.as_str());
    let near = nearest(stem, of_kind).map(|near| format!("{near}.{}", kind.suffix()));
    // What starts a unit has its name too, and is not what is missing.
    let starts = |kind: &Kind| matches!(kind, Kind::Timer | Kind::Socket);
    let other = || KINDS.into_iter().find(|kind| !starts(kind) && files.contains_key(&(*kind, stem.to_owned())));
    // Volume= takes no container.
    near.or_else(|| other().filter(|_| link != LinkKind::Uses).map(|kind| format!("{stem}.{}", kind.suffix())))
}

enum Verdict {
    Keep,
    /// It means nothing more than what holds anyway.
    Drop,
    Warn(Said),
    Refuse(Said),
}

fn warn(text: impl Into<Said>) -> Verdict {
    Verdict::Warn(text.into())
}

fn refuse(text: impl Into<Said>) -> Verdict {
    Verdict::Refuse(text.into())
}

fn judge(
    name: &UnitName,
    of: Kind,
    link: &Link,
    files: &Files,
    masked: &BTreeSet<UnitName>,
    guesses: &mut usize,
) -> Verdict {
    let key = link.key;
    let mut missing = |kind: Kind, stem: &str| {
        if let Some(service) = files.get(&(kind, stem.to_owned())) {
            let text = format!("{stem}.{} makes the service {service}, by its ServiceName=", kind.suffix());
            return Said::from(text).offering(format!("{service}.service"));
        }
        let near = if *guesses > 0 { nearest_file(kind, stem, link.kind, files) } else { None };
        *guesses = guesses.saturating_sub(1);
        Said::guess(format!("there is no {stem}.{}", kind.suffix()), near, "")
    };
    match &link.target {
        Target::File(..) | Target::Named(_) | Target::Network(_) | Target::Service(_)
            if link.to.as_ref() == Some(name) =>
        {
            match link.kind {
                LinkKind::Triggers => Verdict::Keep,
                LinkKind::Uses => refuse(format!("{key}={}: a unit cannot name itself here", link.text())),
                // As systemd, which drops it and says so.
                _ => warn(format!("{key}={}: without effect, a unit cannot name itself here", link.text())),
            }
        }
        // What it needs never starts; that this is needed by something that never starts hurts nobody.
        Target::File(..) | Target::Named(_) | Target::Network(_) | Target::Service(_)
            if link.kind.is_hard()
                && link.kind != LinkKind::RequiredBy
                && link.to.as_ref().is_some_and(|to| masked.contains(to)) =>
        {
            refuse(format!(
                "{key}={}: that unit is masked, its file is empty or a link to /dev/null; it never starts",
                link.text()
            ))
        }
        Target::File(..) | Target::Named(_) | Target::Network(_) | Target::Service(_) if link.to.is_some() => {
            Verdict::Keep
        }
        Target::Named(other) => refuse(format!("{key}={}: there is no container of the name {other}", link.text())),
        Target::Network(other) => {
            let text = format!("{key}={}: no .network file describes the network {other}", link.text());
            refuse(format!("{text}; write Network=x.network for what x.network describes, or Network=bridge"))
        }
        Target::File(kind, stem) => Verdict::Refuse(missing(*kind, stem).behind(format_args!("{key}={}", link.text()))),
        Target::Service(other) => {
            let with_suffix =
                other.as_str().rsplit_once('.').and_then(|(stem, suffix)| Some((Kind::of(suffix)?, stem)));
            let (kind, stem) = with_suffix.unwrap_or((Kind::Container, other.as_str()));
            // A link that leads nowhere (systemctl: "added as a dependency to a non-existent unit") keeps nobody from starting.
            if link.kind.is_hard() && !link.kind.is_install() {
                Verdict::Refuse(missing(kind, stem).behind(format_args!("{key}={}", link.text())))
            } else {
                let Said { text, suggestion } = missing(kind, stem);
                Verdict::Warn(Said { text: format!("{key}={}: without effect, {text}", link.text()), suggestion })
            }
        }
        Target::Milestone(target) => match (link.kind, target.as_str()) {
            (LinkKind::UpheldBy, target) if boot_targets(of).contains(&target) => warn(format!(
                "UpheldBy={target} starts the unit at boot; to have it started again too write Restart=always"
            )),
            (kind, target) if kind.is_install() && boot_targets(of).contains(&target) => Verdict::Drop,
            (kind, _) if kind.is_install() => match unknown_target(target) {
                // Hardly somebody's own.
                Some(near @ Some(_)) => {
                    Verdict::Refuse(Said::guess(format!("{key}={target}: unknown target"), near, ""))
                }
                _ => {
                    let text =
                        format!("{key}={target} does not start the unit at boot here; write WantedBy=default.target");
                    Verdict::Warn(Said::from(text).offering("WantedBy=default.target"))
                }
            },
            (kind, target) if unknown_target(target).is_some() => {
                let near = unknown_target(target).unwrap_or_default();
                let text = format!(
                    "{key}={target}: there are no targets of one's own here, and systemd has none of this name"
                );
                let text = Said::guess(text, near, "");
                if kind.is_hard() { refuse(text) } else { warn(text) }
            }
            (LinkKind::After, "default.target" | "multi-user.target" | "graphical.target") => {
                warn(format!("After={target} is left out: it would wait for itself"))
            }
            (_, "time-sync.target") => {
                warn(format!("{key}={target}: without effect, the clock is not set from the network in this version"))
            }
            // Reached before the first container starts, or after the last has stopped.
            _ => Verdict::Drop,
        },
        Target::Foreign(_) if link.kind.is_hard() && !link.kind.is_install() => {
            refuse(format!("{key}={}: this system has containers only, no such unit", link.text()))
        }
        Target::Foreign(_) => warn(format!("{key}={}: without effect, this system has containers only", link.text())),
    }
}

//! Units that are let go of: those whose files are gone, and of the instances of templates, which come by the thousands and each under a name
//! of its own, those that ended longest ago. systemd lets go of an instance when it is inactive and nobody names it; here what came of
//! the last ones can be asked for.

use std::collections::BTreeSet;

use super::{Engine, Entry, State};
use crate::unit::UnitName;

/// So many instances at rest are known.
pub(crate) const KEPT: usize = 32;

impl Engine {
    /// `may_go`: an instance that no file names, and of which nothing is kept elsewhere. Those that failed go last.
    pub(crate) fn let_go(&mut self, may_go: impl Fn(&UnitName) -> bool) {
        let rests = |name: &UnitName, entry: &Entry| {
            let idle = entry.record.state.at_rest() && entry.job.is_none() && !entry.plan.enabled;
            idle && !self.wanted.contains_key(name) && may_go(name)
        };
        let resting = self.units.iter().filter(|(name, entry)| rests(name, entry));
        let age = |entry: &Entry| (entry.record.state == State::Failed, entry.record.since_us);
        let mut resting: Vec<_> = resting.map(|(name, entry)| (age(entry), name.clone())).collect();
        if resting.len() <= KEPT {
            return;
        }
        resting.sort();
        resting.truncate(resting.len() - KEPT);
        let named: BTreeSet<UnitName> =
            self.units.values().flat_map(|entry| entry.plan.links.names()).cloned().collect();
        for (_, name) in resting.into_iter().filter(|(_, name)| !named.contains(name)) {
            self.units.remove(&name);
            self.fated.remove(&name);
            self.gone.push(name);
        }
        self.regraph();
    }

    /// Units without a file stay until they are at rest.
    pub(super) fn let_unloaded_go(&mut self) {
        let goes = |entry: &Entry| !entry.loaded && entry.job.is_none() && entry.record.state.at_rest();
        self.gone.extend(self.units.extract_if(.., |_, entry| goes(entry)).map(|(name, _)| name));
    }

    /// Those that are not known any more; of some there may be a new one by the same name.
    pub(crate) fn take_gone(&mut self) -> Vec<UnitName> {
        std::mem::take(&mut self.gone)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use super::*;
    use crate::{
        daemon::{
            engine::Plan,
            machine::{Now, Policy, Record},
        },
        unit::Links,
    };

    #[test]
    fn of_hundreds_at_rest_the_last_stay_and_those_that_somebody_needs() {
        let name = |text: &str| UnitName::parse(text).unwrap();
        let links = |wants: &[&str]| Links { wants: wants.iter().map(|one| name(one)).collect(), ..Links::default() };
        let plan = |links: Links, enabled: bool| Plan {
            policy: Policy::plain(),
            links,
            enabled,
            after_network: false,
            forbidden: None,
            ends_pod: None,
            stop_when_unneeded: false,
            job_timeout: None,
        };
        let at = |number: u64| Now { mono: Duration::from_secs(number), wall_us: number.cast_signed() };
        let mut plans: BTreeMap<_, _> =
            (0..300).map(|number| (name(&format!("job@{number}")), plan(links(&[]), number == 7))).collect();
        plans.insert(name("boss"), plan(links(&["job@5"]), false));
        plans.insert(name("keeper@1"), plan(links(&[]), false));
        let mut engine = Engine::default();
        engine.load(plans, at(0));
        for number in 0..300 {
            let mut record = Record::new(at(number));
            match number {
                6 => record.state = State::AutoRestart { at: Duration::from_secs(900) },
                _ if number % 30 == 0 => record.state = State::Failed,
                _ => {}
            }
            engine.restore(name(&format!("job@{number}")), Policy::plain(), record, None);
        }
        engine.let_go(|unit| unit.as_str().starts_with("job@"));
        let left: BTreeSet<&str> = engine.units().map(|(name, _)| name.as_str()).collect();
        let there = |number: u64| left.contains(format!("job@{number}").as_str());
        assert!(left.contains("boss") && left.contains("keeper@1"));
        assert!(there(5) && there(6) && there(7), "named, about to start, enabled: {left:?}");
        assert!((0..300).step_by(30).all(there), "failed: {left:?}");
        assert!(there(299) && there(278) && !there(100) && !there(8));
        assert_eq!((left.len(), engine.take_gone().len()), (KEPT + 5, 300 - KEPT - 3));
        engine.let_go(|_| true);
        assert!(engine.take_gone().len() <= 5, "no more than what was not asked about");
        assert!(engine.take_gone().is_empty());
    }
}

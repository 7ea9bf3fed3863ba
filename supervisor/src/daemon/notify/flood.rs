//! What one container may say, so that no container costs the supervisor its time, or its log what else is in it.

use std::{collections::BTreeMap, time::Duration};

/// Messages taken from one container within `PACE`; what is beyond waits in its socket, and so, when that is full, does the container.
/// Each costs the writing of the unit's record; one with descriptors as much as ten, for a process has to close them.
const MESSAGES: u32 = 500;
const WITH_DESCRIPTORS: u32 = 10;
const PACE: Duration = Duration::from_secs(1);
/// A complaint of one kind about one container is written so often; what is beyond is counted.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// How much was taken lately.
#[derive(Debug, Default)]
pub(super) struct Pace {
    since: Duration,
    taken: u32,
}

impl Pace {
    /// One more; `Some`: the last one before this moment.
    pub(super) fn take(&mut self, now: Duration, with_descriptors: bool) -> Option<Duration> {
        if now.saturating_sub(self.since) >= PACE {
            (self.since, self.taken) = (now, 0);
        }
        self.taken += if with_descriptors { WITH_DESCRIPTORS } else { 1 };
        (self.taken >= MESSAGES).then_some(self.since + PACE)
    }
}

/// Complaints about one container: of each kind, when it was written last, and how many there were since.
#[derive(Debug, Default)]
pub(crate) struct Complaints(BTreeMap<&'static str, (Duration, u64)>);

impl Complaints {
    /// The line to write, if one is due.
    pub(super) fn add(&mut self, kind: &'static str, text: &str, now: Duration) -> Option<String> {
        match self.0.get_mut(kind) {
            Some((last, more)) if now.saturating_sub(*last) < COMPLAIN_EVERY => {
                *more += 1;
                None
            }
            known => {
                let more = known.map_or(0, |(_, more)| *more);
                self.0.insert(kind, (now, 0));
                Some(match more {
                    0 => text.to_owned(),
                    more => format!("{text} (and {more} more like it since the last line)"),
                })
            }
        }
    }

    /// What was counted and not written, at the end.
    pub(super) fn rest(self) -> impl Iterator<Item = String> {
        let counted = self.0.into_iter().filter(|(_, (_, more))| *more > 0);
        counted.map(|(kind, (_, more))| format!("{kind}: {more} more complaints of this kind"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_floods_waits_for_the_next_second_and_others_never() {
        let (mut pace, at) = (Pace::default(), Duration::from_secs(10));
        assert!((1..MESSAGES).all(|_| pace.take(at, false).is_none()));
        assert_eq!(pace.take(at, false), Some(at + PACE));
        assert!((1..MESSAGES / WITH_DESCRIPTORS).all(|_| pace.take(at + PACE, true).is_none()));
        assert_eq!(pace.take(at + PACE, true), Some(at + 2 * PACE));
    }

    #[test]
    fn what_is_not_written_is_counted() {
        let mut all = Complaints::default();
        let mut said = |kind, at| all.add(kind, "no", Duration::from_secs(at));
        assert_eq!(said("MAINPID=", 1).as_deref(), Some("no"));
        assert_eq!((said("MAINPID=", 2), said("MAINPID=", 60)), (None, None));
        assert_eq!(said("FDSTORE=1", 60).as_deref(), Some("no"), "another kind");
        assert_eq!(said("MAINPID=", 61).as_deref(), Some("no (and 2 more like it since the last line)"));
        assert_eq!(said("MAINPID=", 62), None);
        assert_eq!(all.rest().collect::<Vec<_>>(), ["MAINPID=: 1 more complaints of this kind"]);
    }
}

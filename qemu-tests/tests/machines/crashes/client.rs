//! A client that asks for one thing after the other, and knows what must come of each.

use crate::support::state;
use qemu_tests::{LIMIT, Machine, Response, ask_tcp};
use serde_json::Value;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Carries connections to the control socket: a serial port would end each with the supervisor that it was opened by.
pub(super) const RELAY: u16 = 9002;

pub(super) fn random(below: u64) -> u64 {
    // Its keys are other ones each time.
    RandomState::new().hash_one(0) % below
}

/// How the line begins that each run of a unit prints, once it has said which signals it wants.
pub(super) fn says(unit: &str) -> &'static str {
    match unit {
        "count" => "count",
        "seven" => "exiting",
        "stubborn" => "ignoring",
        "door" => "listening",
        "herald" => "announcing",
        "keeper" => "keeping",
        _ => "sleeping",
    }
}

/// What a request must have made of a unit.
#[derive(Debug, Clone, Copy)]
pub(super) enum Then {
    /// The process that ran runs on, or one runs now.
    Runs,
    /// Another process runs.
    Fresh,
    /// In this state, and nothing runs.
    Rests(&'static str),
    /// Failed, if it ran; else it is as it was.
    Killed,
    /// Inactive, if it ran; else it is as it was: who has failed is not mended by a stop.
    Severed,
    /// The same, after one more run that ended with this status.
    Ran(&'static str, i64),
}

/// A request, the status of its answer, and what it must have done.
pub(super) type Deed = (&'static str, u16, &'static [(&'static str, Then)]);

/// What a client remembers.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) asked: u64,
    pub(super) held_back: u64,
    /// How often a unit was started: exactly, or, where the answer died with the supervisor, between so and so often.
    pub(super) starts: BTreeMap<&'static str, (u64, u64)>,
    last: BTreeMap<&'static str, Seen>,
}

#[derive(Debug, Clone, PartialEq)]
struct Seen {
    state: String,
    pid: Option<u64>,
    exit_code: Option<i64>,
    /// So many supervisors died around its starts that it is not started any more, before somebody asks for it again.
    held_back: bool,
}

impl Seen {
    fn rests(&self) -> bool {
        self.pid.is_none() && matches!(&*self.state, "inactive" | "failed")
    }
}

impl Then {
    fn holds(self, before: &Seen, now: &Seen) -> bool {
        let rests = |state: &str| now.state == state && now.pid.is_none();
        match self {
            Self::Runs => now.state == "active" && (before.pid.is_none() || now.pid == before.pid),
            Self::Fresh => now.state == "active" && now.pid != before.pid,
            Self::Rests(state) => rests(state),
            Self::Killed | Self::Severed if before.pid.is_none() => now == before,
            Self::Killed => rests("failed"),
            Self::Severed => rests("inactive"),
            Self::Ran(state, code) => rests(state) && now.exit_code == Some(code),
        }
    }
}

pub(super) struct Client<'a> {
    pub(super) machine: &'a Machine,
    pub(super) done: &'a AtomicBool,
    /// Requests that were.
    pub(super) answered: AtomicU64,
}

impl Client<'_> {
    /// `None`: the connection broke before the answer was complete.
    pub(super) fn ask(&self, method: &str, path: &str) -> Option<Response> {
        let answer = ask_tcp(self.machine.forwarded(RELAY).unwrap(), method, path, LIMIT).ok()?;
        self.answered.fetch_add(1, Ordering::Relaxed);
        Some(answer)
    }

    /// What was only asked for can be asked for again.
    pub(super) fn get(&self, path: &str) -> Value {
        let answer = self.machine.wait_until(path, || Ok(self.ask("GET", path))).unwrap();
        serde_json::from_slice(&answer.body).unwrap_or_else(|_| panic!("{path}: {}", answer.text()))
    }

    fn see(&self, unit: &str) -> Seen {
        let unit = self.get(&format!("/v1/units/{unit}"));
        Seen {
            state: state(&unit).to_owned(),
            pid: unit["pid"].as_u64(),
            exit_code: unit["exit_code"].as_i64(),
            held_back: unit["reason"].as_str().is_some_and(|reason| reason.starts_with("the supervisor died ")),
        }
    }

    /// A first process of its namespace is not reached by signals that it has said nothing of yet.
    fn wait_for_line(&self, unit: &str, times: u64) {
        let begin = format!("\"message\":\"{}", says(unit));
        let said = |log: Response| log.text().lines().filter(|line| line.contains(&begin)).count() as u64 >= times;
        let what = format!("`{begin}` {times} times in the log of {unit}");
        let look = || Ok(self.ask("GET", &format!("/v1/units/{unit}/logs")).is_some_and(said).then_some(()));
        self.machine.wait_until(&what, look).unwrap();
    }

    /// Asks for these in any order, until done.
    pub(super) fn run(&self, deeds: &[Deed]) -> Tally {
        let mut tally = Tally::default();
        while !self.done.load(Ordering::Relaxed) {
            let index = usize::try_from(random(deeds.len() as u64)).unwrap();
            self.have_done(&deeds[index], &mut tally);
            tally.asked += 1;
        }
        tally
    }

    fn have_done(&self, (request, status, then): &Deed, tally: &mut Tally) {
        let all = || then.iter().map(|(unit, _)| self.see(unit)).collect::<Vec<_>>();
        let before = all();
        for ((unit, _), before) in then.iter().zip(&before) {
            if let Some(last) = tally.last.get(unit) {
                // Its socket may start one that was held back.
                assert!(last == before || last.held_back, "{unit} was {last:?}, and became {before:?} by itself");
            }
        }
        for ((unit, then), before) in then.iter().zip(&before) {
            if matches!(then, Then::Fresh | Then::Rests(_) | Then::Killed | Then::Severed) && before.pid.is_some() {
                self.wait_for_line(unit, tally.starts.get(unit).map_or(1, |(_, most)| *most));
            }
        }
        let kills = request.contains("/kill");
        let no_block = !kills && then.len() == 1 && random(2) == 0;
        let query = if no_block { "?no_block=true" } else { "" };
        let answer = self.ask("POST", &format!("/v1/units/{request}{query}"));
        let told =
            answer.as_ref().map_or("nothing".to_owned(), |answer| format!("{}: {}", answer.status, answer.text()));
        let what = format!("{request}{query} of {before:?}, told {told}");

        // Who was told that it is done finds it done. Who was told nothing finds all of it or nothing.
        let is_done = |now: &[Seen]| then.iter().zip(&before).zip(now).all(|(((_, then), b), n)| then.holds(b, n));
        let is_held_back = |now: &[Seen]| {
            now.iter().any(|seen| seen.held_back) && now.iter().all(|n| n.rests() || n.state == "active")
        };
        let is_over = |now: &[Seen]| is_done(now) || is_held_back(now) || (answer.is_none() && now == before);
        let mut now = all();
        // A signal is answered when it is sent.
        if no_block || kills || answer.is_none() {
            now = self.machine.wait_until(&what, || Ok(Some(all()).filter(|now| is_over(now)))).unwrap();
        }
        assert!(is_over(&now), "{what}: {now:?}");
        let held_back = is_held_back(&now);
        if let Some(answer) = answer {
            // There is nobody to be killed.
            let idle = kills && before.first().is_some_and(|before| before.pid.is_none());
            let expected = match (no_block, idle) {
                (true, _) => 202,
                (_, true) => 409,
                _ => *status,
            };
            assert!(answer.status == expected || (held_back && answer.status == 409), "{what}");
        }
        tally.held_back += u64::from(held_back);
        for (((unit, then), before), now) in then.iter().zip(before).zip(now) {
            let (least, most) = tally.starts.entry(unit).or_default();
            let last = tally.last.insert(unit, now.clone());
            match then {
                Then::Ran(..) => {
                    *least += u64::from(!told.starts_with("nothing") && !held_back);
                    *most += 1;
                }
                _ => {
                    let pids = [last.and_then(|last| last.pid), before.pid, now.pid];
                    let started = pids.windows(2).filter(|two| two[1].is_some() && two[0] != two[1]).count() as u64;
                    *least += started;
                    *most += started;
                }
            }
        }
    }
}

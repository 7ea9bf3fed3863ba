//! A pod: namespaces, and no process.

use super::{
    Action, Ending, Event, Outcome, State,
    end::{CLEAN_TIMEOUT, by_itself, by_request},
    step::Machine,
};

impl Machine<'_> {
    /// What is made by then goes in any case: over Cleaning.
    pub(super) fn preparing_pod(&mut self, event: Event) {
        match event {
            Event::Prepared { .. } => {
                self.goto(State::Held);
                self.remark("made");
            }
            Event::Unmet { text, assert, .. } => self.unmet(text, assert),
            Event::PrepareFailed { text, .. } => self.take_down(by_itself(Outcome::Runtime { text })),
            Event::Deadline => {
                let outcome = self.start_timeout();
                self.take_down(by_itself(outcome));
            }
            Event::Interrupted if self.held_back() => {}
            Event::Interrupted => self.act(Action::Prepare { attempt: self.record.attempt }),
            Event::Stop | Event::KillNow => self.take_down(by_request(Outcome::Cancelled)),
            _ => {}
        }
    }

    pub(super) fn held(&mut self, event: &Event) {
        if matches!(event, Event::Stop | Event::KillNow) {
            self.take_down(by_request(Outcome::TakenDown));
        }
    }

    fn take_down(&mut self, ending: Ending) {
        self.goto(State::Cleaning { ending, give_up_at: self.now.mono + CLEAN_TIMEOUT });
        self.act(Action::Clean { attempt: self.record.attempt });
    }
}

//! The client's state machine: pure, with the clock and the dice handed in.
//!
//! ```text
//!  Init ──▶ Selecting ──offer──▶ Requesting ──ack──▶ Bound ──T1──▶ Renewing ──T2──▶ Rebinding
//!   ▲ ▲       ▲  │                    │               ▲ ▲ ▲           │ ack            │ ack │
//!   │ │       │  │                    │               │ │ └───────────┘                │     │
//!   │ │       │  │                    │               │ └──────────────────────────────┘     │
//!   │ │       │  └─ no answer at all, but a remembered lease still runs ─▶ Rebinding         │
//!   │ │       ├──── no answer ────────┤               │                                      │
//!   │ └ NAK ──│───────────────────────┴── from every state that asks for one address ────────┤
//!   │         │                                       │ ack                                  │
//!   │         └──── no answer ──── Rebooting ─────────┘                                      │
//!   │                                  ▲                                                     │
//!   │                                  └── carrier, and an address to ask for again          │
//!   └───────────────────────────────────────────────────────── the lease's end ──────────────┘
//!  Offline: no carrier; comes from everywhere. What is configured stays until its lease ends.
//! ```
//!
//! Where it differs from the figure in RFC 2131, section 4.4: the first DISCOVER goes out at once and its first
//! repetition after a second instead of after 4 to 10 (a machine boots alone, and its applications wait); and a
//! remembered lease is used for the rest of its time when no server answers at all (section 3.2, point 4), by asking
//! for its extension as in REBINDING.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::super::lease::{FOREVER, Lease, Remembered};
use super::message::{Outgoing, Question, Reply, Verdict};

/// Shortest pause between repetitions while an address is in use (section 4.4.5), and the pause when there is no end.
const EXTEND_PAUSE_MIN: Duration = Duration::from_secs(60);
/// Pauses grow to two to the sixth seconds (section 4.1).
const PAUSE_DOUBLINGS: u32 = 6;
/// Tries before something else is done.
const REBOOT_TRIES: u32 = 2;
const REQUEST_TRIES: u32 = 4;
const FALLBACK_TRIES: u32 = 3;
const REPORT_TRIES: u32 = 5;

/// A moment, and 32 random bits for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At {
    /// Time since boot, including sleep.
    pub(crate) now: Duration,
    pub(crate) random: u32,
}

/// A lease with its ends on the clock of [`At`]; none is never.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    lease: Lease,
    renew: Option<Duration>,
    rebind: Option<Duration>,
    expiry: Option<Duration>,
}

/// A question that is repeated until it is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asking {
    xid: u32,
    tries: u32,
    /// When the address was first asked for: the `secs` field counts from here.
    began: Duration,
    sent: Duration,
    again: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    Offline { held: Option<Held> },
    Init { until: Duration },
    Selecting { asking: Asking, held: Option<Held> },
    Requesting { asking: Asking, offer: Lease, held: Option<Held> },
    Rebooting { asking: Asking, address: Ipv4Addr, held: Option<Held> },
    Bound { held: Held },
    Renewing { asking: Asking, held: Held },
    Rebinding { asking: Asking, held: Held },
}

#[derive(Debug)]
pub(crate) enum Event {
    Carrier(bool),
    Reply(Reply),
    /// The deadline has come.
    Tick,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Send(Outgoing),
    /// Make the card have just this, for so long.
    Configure(Lease, Option<Duration>),
    /// The card has no address of ours any more.
    Deconfigure,
    Remember(Lease),
    Forget,
    /// Something a person may want to know.
    Report(String),
}

/// The client of one card.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    state: State,
    /// The address to ask for first.
    hint: Option<Ipv4Addr>,
    /// NAKs since the last ACK: a server that offers what it then refuses must not be asked in a loop.
    refusals: u32,
}

type Step = (State, Vec<Action>);

impl Client {
    /// Begins without a carrier. A remembered lease is asked for again as soon as there is one.
    pub(crate) fn new(remembered: Option<Remembered>, now: Duration) -> Self {
        let hint = remembered.as_ref().map(|remembered| remembered.lease.address);
        let held = remembered.and_then(|Remembered { lease, remaining }| {
            let left = remaining.filter(|left| !left.is_zero())?;
            let expiry = (lease.lease_seconds != FOREVER).then(|| now.saturating_add(left));
            Some(Held { lease, renew: expiry, rebind: expiry, expiry })
        });
        Self { state: State::Offline { held }, hint, refusals: 0 }
    }

    /// When [`Event::Tick`] is due.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        let expiry = |held: &Option<Held>| held.as_ref().and_then(|held| held.expiry);
        match &self.state {
            State::Offline { held } => expiry(held),
            State::Init { until } => Some(*until),
            State::Selecting { asking, held }
            | State::Requesting { asking, held, .. }
            | State::Rebooting { asking, held, .. } => earliest(Some(asking.again), expiry(held)),
            State::Bound { held } => earliest(held.renew, held.expiry),
            State::Renewing { asking, held } => earliest(Some(asking.again), earliest(held.rebind, held.expiry)),
            State::Rebinding { asking, held } => earliest(Some(asking.again), held.expiry),
        }
    }

    /// Whether answers come to an address the card may not have yet.
    pub(crate) fn listens_below_ip(&self) -> bool {
        matches!(self.state, State::Selecting { .. } | State::Requesting { .. } | State::Rebooting { .. })
    }

    /// What happens, and what is to be done.
    pub(crate) fn step(mut self, event: Event, at: At) -> (Self, Vec<Action>) {
        let state = std::mem::replace(&mut self.state, State::Init { until: at.now });
        let (state, actions) = match event {
            Event::Carrier(true) => self.carrier(state, at),
            Event::Carrier(false) => (State::Offline { held: state.held().cloned() }, Vec::new()),
            Event::Reply(reply) => self.reply(state, reply, at),
            Event::Tick => self.tick(state, at),
        };
        self.state = state;
        (self, actions)
    }

    fn carrier(&mut self, state: State, at: At) -> Step {
        let State::Offline { held } = state else { return (state, Vec::new()) };
        let Some(address) = held.as_ref().map(|held| held.lease.address).or(self.hint) else {
            return self.discover(at, None);
        };
        let asking = Asking::first(at, at.now);
        let actions = vec![Action::Send(asking.ask(Question::Reboot { address }))];
        (State::Rebooting { asking, address, held }, actions)
    }

    fn discover(&self, at: At, held: Option<Held>) -> Step {
        let asking = Asking::first(at, at.now);
        let actions = vec![Action::Send(asking.ask(Question::Discover { hint: self.hint }))];
        (State::Selecting { asking, held }, actions)
    }

    fn tick(&mut self, state: State, at: At) -> Step {
        let due = |time: Option<Duration>| time.is_some_and(|time| time <= at.now);
        if due(state.held().and_then(|held| held.expiry)) {
            return self.expire(&state, at);
        }
        match state {
            State::Init { until } if due(Some(until)) => self.discover(at, None),
            State::Selecting { asking, held } if due(Some(asking.again)) => self.select_again(asking, held, at),
            State::Requesting { mut asking, offer, held } if due(Some(asking.again)) => {
                if asking.tries >= REQUEST_TRIES {
                    return self.discover(at, held);
                }
                asking.repeat(at, asking.pause(at));
                let question = Question::Select { address: offer.address, server: offer.server };
                let actions = vec![Action::Send(asking.ask(question))];
                (State::Requesting { asking, offer, held }, actions)
            }
            State::Rebooting { mut asking, address, held } if due(Some(asking.again)) => {
                if asking.tries >= REBOOT_TRIES {
                    return self.discover(at, held);
                }
                asking.repeat(at, asking.pause(at));
                let actions = vec![Action::Send(asking.ask(Question::Reboot { address }))];
                (State::Rebooting { asking, address, held }, actions)
            }
            State::Bound { held } if due(held.renew) => {
                let server = (!due(held.rebind)).then_some(held.lease.server);
                extend(held, at, Asking::first(at, at.now), server)
            }
            State::Renewing { asking, held } if due(held.rebind) => {
                extend(held, at, Asking::first(at, asking.began), None)
            }
            State::Renewing { asking, held } if due(Some(asking.again)) => {
                let server = held.lease.server;
                extend(held, at, asking, Some(server))
            }
            State::Rebinding { asking, held } if due(Some(asking.again)) => extend(held, at, asking, None),
            early => (early, Vec::new()),
        }
    }

    fn select_again(&self, mut asking: Asking, held: Option<Held>, at: At) -> Step {
        if asking.tries >= FALLBACK_TRIES
            && let Some(held) = held
        {
            let (lease, left) = (held.lease.clone(), held.expiry.map(|expiry| expiry.saturating_sub(at.now)));
            let text = format!("no DHCP server answers; {} of the last lease is used meanwhile", lease.address);
            let (state, ask) = extend(held, at, Asking::first(at, asking.began), None);
            let mut actions = vec![Action::Report(text), Action::Configure(lease, left)];
            actions.extend(ask);
            return (state, actions);
        }
        asking.repeat(at, asking.pause(at));
        let mut actions = vec![Action::Send(asking.ask(Question::Discover { hint: self.hint }))];
        if asking.tries == REPORT_TRIES {
            actions.push(Action::Report("no DHCP server answers; asking on".into()));
        }
        (State::Selecting { asking, held }, actions)
    }

    /// The address must not be used a moment longer (section 4.4.5).
    fn expire(&mut self, state: &State, at: At) -> Step {
        let mut actions = vec![Action::Deconfigure];
        if let State::Bound { held } | State::Renewing { held, .. } | State::Rebinding { held, .. } = state {
            let address = held.lease.address;
            actions.push(Action::Report(format!("the lease of {address} ended, no DHCP server extended it")));
        }
        if matches!(state, State::Offline { .. }) {
            return (State::Offline { held: None }, actions);
        }
        let (state, more) = self.discover(at, None);
        actions.extend(more);
        (state, actions)
    }

    fn reply(&mut self, state: State, reply: Reply, at: At) -> Step {
        if state.asking().is_none_or(|asking| asking.xid != reply.xid) {
            return (state, Vec::new());
        }
        match (state, reply.verdict) {
            (State::Selecting { asking, held }, Verdict::Offer(offer)) => {
                let asking = Asking::first(at, asking.began);
                let question = Question::Select { address: offer.address, server: offer.server };
                let actions = vec![Action::Send(asking.ask(question))];
                (State::Requesting { asking, offer, held }, actions)
            }
            // Neither an answer to a DISCOVER, nor another server's refusal of what it was not asked for.
            (state @ State::Selecting { .. }, _) => (state, Vec::new()),
            (state @ State::Requesting { .. }, Verdict::Nak { server: Some(server), .. })
                if state.offered_by() != Some(server) =>
            {
                (state, Vec::new())
            }
            (state, Verdict::Ack(lease)) => {
                let asked = state.asking().map_or(at.now, |asking| asking.sent);
                self.bind(lease, asked, at)
            }
            (state, Verdict::Nak { reason, .. }) => self.refused(&state, reason, at),
            (state, Verdict::Offer(_)) => (state, Vec::new()),
        }
    }

    fn bind(&mut self, lease: Lease, asked: Duration, at: At) -> Step {
        self.refusals = 0;
        self.hint = Some(lease.address);
        // From the request, not from the answer: then ours ends no later than the server's (section 4.4.1).
        let after =
            |seconds: u32| (lease.lease_seconds != FOREVER).then(|| asked + Duration::from_secs(seconds.into()));
        let held = Held {
            renew: after(lease.renew_seconds),
            rebind: after(lease.rebind_seconds),
            expiry: after(lease.lease_seconds),
            lease: lease.clone(),
        };
        let left = held.expiry.map(|expiry| expiry.saturating_sub(at.now));
        (State::Bound { held }, vec![Action::Configure(lease.clone(), left), Action::Remember(lease)])
    }

    fn refused(&mut self, state: &State, reason: Option<String>, at: At) -> Step {
        let pause = match self.refusals {
            // The usual one: the machine, or its server, has moved.
            0 => Duration::ZERO,
            n => jitter(Duration::from_secs(1 << n.min(PAUSE_DOUBLINGS)), at.random),
        };
        self.refusals += 1;
        self.hint = None;
        let why = reason.map(|reason| format!(": {}", reason.escape_debug())).unwrap_or_default();
        let mut actions = vec![
            // Also an address of the supervisor before this one, of which nothing but the lease is known.
            Action::Deconfigure,
            Action::Forget,
            Action::Report(format!("the DHCP server refused the address{why}")),
        ];
        if matches!(state, State::Requesting { held: None, .. }) {
            actions.remove(0);
        }
        if pause.is_zero() {
            let (state, more) = self.discover(at, None);
            actions.extend(more);
            return (state, actions);
        }
        (State::Init { until: at.now + pause }, actions)
    }
}

/// Asks for more time, at the lease's server or (none) at any.
fn extend(held: Held, at: At, mut asking: Asking, server: Option<Ipv4Addr>) -> Step {
    let end = if server.is_some() { held.rebind } else { held.expiry };
    // Half of what is left, at least a minute, and not beyond the end.
    let pause = end.map_or(EXTEND_PAUSE_MIN, |end| {
        let left = end.saturating_sub(at.now);
        (left / 2).max(EXTEND_PAUSE_MIN).min(left.max(Duration::from_secs(1)))
    });
    asking.repeat(at, pause);
    let question = Question::Extend { address: held.lease.address, server };
    let actions = vec![Action::Send(asking.ask(question))];
    let state = match server {
        Some(_) => State::Renewing { asking, held },
        None => State::Rebinding { asking, held },
    };
    (state, actions)
}

impl State {
    /// The lease that is, or may still be, configured.
    fn held(&self) -> Option<&Held> {
        match self {
            Self::Offline { held }
            | Self::Selecting { held, .. }
            | Self::Requesting { held, .. }
            | Self::Rebooting { held, .. } => held.as_ref(),
            Self::Bound { held } | Self::Renewing { held, .. } | Self::Rebinding { held, .. } => Some(held),
            Self::Init { .. } => None,
        }
    }

    fn asking(&self) -> Option<&Asking> {
        match self {
            Self::Selecting { asking, .. }
            | Self::Requesting { asking, .. }
            | Self::Rebooting { asking, .. }
            | Self::Renewing { asking, .. }
            | Self::Rebinding { asking, .. } => Some(asking),
            Self::Offline { .. } | Self::Init { .. } | Self::Bound { .. } => None,
        }
    }

    fn offered_by(&self) -> Option<Ipv4Addr> {
        match self {
            Self::Requesting { offer, .. } => Some(offer.server),
            _ => None,
        }
    }
}

impl Asking {
    fn first(at: At, began: Duration) -> Self {
        let again = at.now + jitter(Duration::from_secs(1), at.random);
        Self { xid: at.random, tries: 1, began, sent: at.now, again }
    }

    fn repeat(&mut self, at: At, pause: Duration) {
        self.tries += 1;
        self.sent = at.now;
        self.again = at.now + pause;
    }

    /// Behind the first try 1 second, then 2, 4, … give or take a tenth.
    fn pause(&self, at: At) -> Duration {
        jitter(Duration::from_secs(1 << self.tries.min(PAUSE_DOUBLINGS)), at.random)
    }

    fn ask(&self, question: Question) -> Outgoing {
        let secs = u16::try_from(self.sent.saturating_sub(self.began).as_secs()).unwrap_or(u16::MAX);
        Outgoing { xid: self.xid, secs, question }
    }
}

/// Nine to eleven tenths of a time, so that machines that lost power together do not ask in step for ever.
fn jitter(time: Duration, random: u32) -> Duration {
    time * 9 / 10 + (time / 5 / 1024) * (random % 1024)
}

fn earliest(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;

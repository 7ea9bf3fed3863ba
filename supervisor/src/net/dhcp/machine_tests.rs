use super::super::super::testing::lease;
use super::*;

/// A client, its clock, and what it asked for.
struct Sim {
    client: Client,
    now: Duration,
    random: u32,
    actions: Vec<Action>,
}

impl Sim {
    fn new(remembered: Option<Remembered>) -> Self {
        let now = seconds(1000);
        Self { client: Client::new(remembered, now), now, random: 1, actions: Vec::new() }
    }

    fn event(&mut self, event: Event) -> &[Action] {
        // Any sequence will do that does not repeat soon.
        self.random = self.random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let at = At { now: self.now, random: self.random };
        let (client, actions) = self.client.clone().step(event, at);
        self.client = client;
        self.actions = actions;
        &self.actions
    }

    /// Lets the clock run to the next deadline; how long that was.
    fn wait(&mut self) -> Duration {
        let deadline = self.client.deadline().expect("something is waited for");
        let waited = deadline.saturating_sub(self.now);
        self.now = deadline.max(self.now);
        self.event(Event::Tick);
        waited
    }

    fn answer(&mut self, verdict: Verdict) -> &[Action] {
        let xid = self.client.state.asking().expect("a question is open").xid;
        self.event(Event::Reply(Reply { xid, verdict }))
    }

    fn bind(&mut self, lease: Lease) {
        self.event(Event::Carrier(true));
        self.answer(Verdict::Offer(lease.clone()));
        self.answer(Verdict::Ack(lease));
        assert!(matches!(self.client.state, State::Bound { .. }));
    }

    fn question(&self) -> Option<Question> {
        self.actions.iter().find_map(|action| match action {
            Action::Send(outgoing) => Some(outgoing.question),
            _ => None,
        })
    }

    fn did(&self, action: &Action) -> bool {
        self.actions.contains(action)
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn remembered(lease: Lease, remaining: Option<u64>) -> Option<Remembered> {
    Some(Remembered { lease, remaining: remaining.map(seconds) })
}

fn nak() -> Verdict {
    Verdict::Nak { server: None, reason: None }
}

const DISCOVER: Option<Question> = Some(Question::Discover { hint: None });

#[test]
fn discover_offer_request_ack() {
    let mut sim = Sim::new(None);
    let lease = lease(3600);
    assert_eq!(sim.client.deadline(), None, "without a carrier nothing happens");
    sim.event(Event::Carrier(true));
    assert_eq!(sim.question(), DISCOVER);
    assert!(sim.client.listens_below_ip());
    sim.answer(Verdict::Offer(lease.clone()));
    let select = Question::Select { address: lease.address, server: lease.server };
    assert_eq!(sim.question(), Some(select));
    sim.now += seconds(2);
    sim.answer(Verdict::Ack(lease.clone()));
    // The two seconds the answer took are the server's.
    assert_eq!(sim.actions, [Action::Configure(lease.clone(), Some(seconds(3598))), Action::Remember(lease)]);
    assert!(!sim.client.listens_below_ip());
    assert_eq!(sim.wait(), seconds(1798));
}

#[test]
fn questions_are_repeated_ever_more_slowly() {
    let mut sim = Sim::new(None);
    sim.event(Event::Carrier(true));
    for (i, pause) in [1, 2, 4, 8, 16, 32, 64, 64, 64].into_iter().enumerate() {
        let waited = sim.wait();
        assert!(waited >= seconds(pause) * 9 / 10 && waited <= seconds(pause) * 11 / 10, "{i}: {waited:?}");
        assert_eq!(sim.question(), DISCOVER);
        let reported = sim.actions.iter().any(|action| matches!(action, Action::Report(_)));
        assert_eq!(reported, i == 3, "said once");
    }
    // An offer that is not confirmed: four tries, then anew.
    sim.answer(Verdict::Offer(lease(3600)));
    for _ in 0..3 {
        sim.wait();
        assert!(matches!(sim.question(), Some(Question::Select { .. })));
    }
    sim.wait();
    assert_eq!(sim.question(), DISCOVER);
}

#[test]
fn renew_rebind_expire() {
    let mut sim = Sim::new(None);
    let lease = lease(8000);
    sim.bind(lease.clone());
    let extend = |server| Some(Question::Extend { address: lease.address, server });

    assert_eq!(sim.wait(), seconds(4000));
    assert_eq!(sim.question(), extend(Some(lease.server)), "T1: its own server");
    assert_eq!(sim.wait(), seconds(1500), "half of what is left to T2");
    assert_eq!(sim.question(), extend(Some(lease.server)));
    sim.answer(Verdict::Ack(lease.clone()));
    assert!(sim.did(&Action::Configure(lease.clone(), Some(seconds(8000)))));

    sim.wait();
    let mut tries = 0;
    while sim.question() == extend(Some(lease.server)) {
        assert!(sim.wait() >= seconds(1));
        tries += 1;
    }
    assert!(tries < 10);
    assert_eq!(sim.question(), extend(None), "T2: any server");
    while sim.question() == extend(None) {
        sim.wait();
    }
    assert!(sim.did(&Action::Deconfigure));
    assert_eq!(sim.question(), Some(Question::Discover { hint: Some(lease.address) }));
}

#[test]
fn a_refusal_ends_the_use_of_an_address() {
    let lease = lease(8000);
    for state in ["requesting", "rebooting", "renewing", "rebinding"] {
        let mut sim = Sim::new(if state == "rebooting" { remembered(lease.clone(), None) } else { None });
        match state {
            "requesting" => {
                sim.event(Event::Carrier(true));
                sim.answer(Verdict::Offer(lease.clone()));
            }
            "rebooting" => {
                sim.event(Event::Carrier(true));
            }
            _ => {
                sim.bind(lease.clone());
                let waits = if state == "renewing" { 1 } else { 8 };
                for _ in 0..waits {
                    sim.wait();
                }
            }
        }
        sim.answer(nak());
        assert_eq!(sim.did(&Action::Deconfigure), state != "requesting", "{state}");
        assert!(sim.did(&Action::Forget), "{state}");
        assert_eq!(sim.question(), DISCOVER, "{state}: at once, and for any address");

        // A server that goes on like this is given time.
        sim.answer(Verdict::Offer(lease.clone()));
        sim.answer(nak());
        assert_eq!(sim.question(), None);
        assert!(sim.wait() >= seconds(1));
        assert_eq!(sim.question(), DISCOVER);
    }
}

#[test]
fn what_was_not_asked_for_is_not_heard() {
    let mut sim = Sim::new(None);
    let lease = lease(3600);
    sim.event(Event::Carrier(true));
    let before = sim.client.state.clone();
    let stray = |xid, verdict| Event::Reply(Reply { xid, verdict });
    assert!(sim.event(stray(77, Verdict::Offer(lease.clone()))).is_empty());
    assert!(sim.answer(Verdict::Ack(lease.clone())).is_empty(), "an ack without a request");
    assert!(sim.answer(nak()).is_empty());
    assert_eq!(sim.client.state, before);

    sim.answer(Verdict::Offer(lease.clone()));
    let other = Verdict::Nak { server: Some(Ipv4Addr::new(10, 99, 0, 2)), reason: None };
    assert!(sim.answer(other).is_empty(), "another server");
    assert!(sim.answer(Verdict::Offer(lease.clone())).is_empty(), "a second offer");
    sim.answer(Verdict::Ack(lease.clone()));
    for verdict in [nak(), Verdict::Ack(lease)] {
        assert!(sim.event(stray(sim.random, verdict)).is_empty(), "bound: nothing is open");
    }
}

#[test]
fn over_a_reboot() {
    let lease = lease(3600);
    let reboot = Some(Question::Reboot { address: lease.address });
    let mut sim = Sim::new(remembered(lease.clone(), Some(1000)));
    sim.event(Event::Carrier(true));
    assert_eq!(sim.question(), reboot);
    sim.answer(Verdict::Ack(lease.clone()));
    assert!(sim.did(&Action::Configure(lease.clone(), Some(seconds(3600)))));

    // Nobody answers: it is looked for another server, then the lease is used for the rest of its time.
    let mut sim = Sim::new(remembered(lease.clone(), Some(1000)));
    sim.event(Event::Carrier(true));
    sim.wait();
    assert_eq!(sim.question(), reboot);
    sim.wait();
    assert_eq!(sim.question(), Some(Question::Discover { hint: Some(lease.address) }));
    while sim.client.listens_below_ip() {
        sim.wait();
    }
    assert!(sim.now < seconds(1012), "not longer than ten seconds");
    let Some(Action::Configure(used, Some(left))) = sim.actions.get(1) else { panic!("{:?}", sim.actions) };
    assert!(used == &lease && *left < seconds(1000) && *left > seconds(980));
    assert_eq!(sim.question(), Some(Question::Extend { address: lease.address, server: None }));
    while !sim.did(&Action::Deconfigure) {
        sim.wait();
    }
    assert_eq!(sim.now, seconds(2000), "and not longer");

    // Its time is over, or unknown: it is asked for, and never used without an answer.
    for remaining in [Some(0), None] {
        let mut sim = Sim::new(remembered(lease.clone(), remaining));
        sim.event(Event::Carrier(true));
        assert_eq!(sim.question(), reboot);
        for _ in 0..20 {
            sim.wait();
            assert!(!sim.actions.iter().any(|action| matches!(action, Action::Configure(..))));
        }
    }
}

#[test]
fn the_cable() {
    let lease = lease(3600);
    let mut sim = Sim::new(None);
    sim.bind(lease.clone());
    sim.now += seconds(100);
    assert!(sim.event(Event::Carrier(false)).is_empty(), "a short break changes nothing");
    sim.now += seconds(100);
    sim.event(Event::Carrier(true));
    assert_eq!(sim.question(), Some(Question::Reboot { address: lease.address }), "it may be another net");
    assert!(!sim.did(&Action::Deconfigure));
    sim.event(Event::Carrier(false));
    assert_eq!(sim.wait(), seconds(3400));
    assert_eq!(sim.actions, [Action::Deconfigure], "the lease ends without a cable, too");
    assert_eq!(sim.client.deadline(), None);
}

#[test]
fn a_lease_for_ever() {
    let mut sim = Sim::new(None);
    let mut lease = lease(3600);
    (lease.lease_seconds, lease.renew_seconds, lease.rebind_seconds) = (FOREVER, FOREVER, FOREVER);
    sim.bind(lease.clone());
    assert_eq!(sim.client.deadline(), None);
    assert!(sim.did(&Action::Configure(lease.clone(), None)));
    let mut sim = Sim::new(Some(Remembered { lease, remaining: Some(Duration::MAX) }));
    sim.event(Event::Carrier(true));
    for _ in 0..50 {
        assert!(sim.wait() < seconds(100));
    }
}

/// Whatever happens in whatever order: the machine makes progress, never asks for a deadline that has passed, and no
/// address is configured beyond its lease.
#[test]
fn any_order_of_events() {
    let mut sim = Sim::new(None);
    let mut dice = 7_u64;
    let mut ends: Option<Duration> = None;
    for _ in 0..200_000 {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let roll = u32::try_from(dice >> 40).unwrap();
        let lease = lease([1, 2, 3, 60, 4000, 100_000][(roll >> 8) as usize % 6]);
        let verdict = match roll % 3 {
            0 => Verdict::Offer(lease),
            1 => Verdict::Ack(lease),
            _ => nak(),
        };
        let open = sim.client.state.asking().map(|asking| asking.xid);
        let event = match roll % 7 {
            0 => Event::Carrier(roll & 64 == 0),
            1..=3 => Event::Reply(Reply { xid: open.unwrap_or(roll), verdict }),
            4 => {
                sim.now += Duration::from_millis(u64::from(roll % 5000));
                Event::Tick
            }
            _ => {
                sim.now = sim.client.deadline().unwrap_or_default().max(sim.now);
                Event::Tick
            }
        };
        // The kernel would wake the thread at a deadline before anything else.
        if let Some(deadline) = sim.client.deadline().filter(|deadline| *deadline < sim.now) {
            sim.now = deadline;
        }
        let is_tick = matches!(event, Event::Tick);
        sim.event(event);
        for action in &sim.actions {
            match action {
                Action::Configure(_, left) => ends = left.map(|left| sim.now + left),
                Action::Deconfigure => ends = None,
                _ => {}
            }
        }
        if is_tick {
            assert!(sim.client.deadline().is_none_or(|deadline| deadline > sim.now), "{:?}", sim.client.state);
        }
        assert!(ends.is_none_or(|end| end >= sim.now), "{:?}", sim.client.state);
    }
}

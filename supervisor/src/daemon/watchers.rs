//! Clients that are told of every change of a unit, as it happens. One that does not keep up loses its connection, and nobody waits.

use std::time::Duration;

use super::{clock, core::Daemon};
use crate::{
    api::{http::Answer, server::ConnectionId, types::UnitEvent},
    unit::UnitName,
};

const MAX_WATCHERS: usize = 64;
/// Whoever hears nothing for longer may look for another connection.
const HEARTBEAT: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(crate) struct Watchers {
    /// With the units they want to hear of; all without.
    all: Vec<(ConnectionId, Vec<UnitName>)>,
    beat_at: Duration,
}

impl Watchers {
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        (!self.all.is_empty()).then_some(self.beat_at)
    }
}

impl Daemon {
    pub(crate) fn on_events(&mut self, connection: ConnectionId, units: &[UnitName]) -> Option<Answer> {
        let units: Vec<UnitName> = units.iter().map(|unit| self.files.real(unit)).collect();
        if self.watchers.all.len() >= MAX_WATCHERS {
            return Some(Answer::problem(503, format!("{MAX_WATCHERS} clients listen to events already")));
        }
        let now = clock::monotonic();
        self.server.begin_stream(connection, "application/x-ndjson");
        self.watchers.all.push((connection, units));
        self.watchers.beat_at = self.watchers.beat_at.max(now + HEARTBEAT);
        // From here on it misses nothing, and knows that.
        self.server.stream(&self.epoll, connection, b"\n", now);
        None
    }

    pub(crate) fn tell_watchers(&mut self, unit: &UnitName, event: &UnitEvent) {
        if self.watchers.all.is_empty() {
            return;
        }
        let mut line = serde_json::to_vec(event).unwrap_or_default();
        line.push(b'\n');
        self.send_to_watchers(&line, |units| units.is_empty() || units.contains(unit));
    }

    pub(crate) fn tick_watchers(&mut self, now: Duration) {
        if self.watchers.next_deadline().is_some_and(|at| at <= now) {
            self.watchers.beat_at = now + HEARTBEAT;
            self.send_to_watchers(b"\n", |_| true);
        }
    }

    fn send_to_watchers(&mut self, line: &[u8], hears: impl Fn(&[UnitName]) -> bool) {
        let now = clock::monotonic();
        for (connection, units) in std::mem::take(&mut self.watchers.all) {
            match self.server.room(connection) {
                None => continue,
                Some(room) if room < line.len() => {
                    self.server.end_stream(&self.epoll, connection, now);
                    continue;
                }
                Some(_) if hears(&units) => self.server.stream(&self.epoll, connection, line, now),
                Some(_) => {}
            }
            self.watchers.all.push((connection, units));
        }
    }
}

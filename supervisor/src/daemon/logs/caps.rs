//! What one log may grow to and how fast. Pure.

use std::time::Duration;

use crate::unit::{LogSpec, Unit};

/// Whose records outlive the rotation of units: some thousand lines of each boot, in two files.
const PSEUDO_BYTES: u64 = 2 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Caps {
    /// Of one file.
    pub(super) max_bytes: u64,
    /// The one that is written included.
    pub(super) max_files: u32,
    /// So many records in that time.
    pub(super) rate: Option<(u32, Duration)>,
}

impl Default for Caps {
    fn default() -> Self {
        Self { max_bytes: 10 << 20, max_files: 3, rate: None }
    }
}

impl Caps {
    pub(crate) fn of(unit: &Unit) -> Self {
        let usual = Self::default();
        match &unit.container.log {
            LogSpec::Nothing => usual,
            LogSpec::Kept(limits) => Self {
                max_bytes: limits.max_file_bytes.unwrap_or(usual.max_bytes),
                max_files: limits.max_files.unwrap_or(usual.max_files),
                rate: limits.rate,
            },
        }
    }

    pub(super) fn of_the_machine() -> Self {
        Self { max_bytes: PSEUDO_BYTES, max_files: 2, rate: None }
    }
}

/// journald's rate limit: what exceeds the burst within an interval is dropped until its end, and counted by whoever asks.
#[derive(Debug, Default)]
pub(super) struct Limiter {
    /// µs since 1970.
    began_us: i64,
    count: u32,
}

impl Limiter {
    /// Whether a record of this time is kept.
    pub(super) fn admit(&mut self, (burst, interval): (u32, Duration), time_us: i64) -> bool {
        let end = self.began_us.saturating_add(i64::try_from(interval.as_micros()).unwrap_or(i64::MAX));
        // A clock that was set back begins a new interval too.
        if !(self.began_us..end).contains(&time_us) {
            (self.began_us, self.count) = (time_us, 0);
        }
        self.count = self.count.saturating_add(1);
        self.count <= burst
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_exceeds_the_burst_is_dropped_until_the_interval_is_over() {
        let rate = (2, Duration::from_secs(30));
        let second = |s: i64| 1_700_000_000_000_000 + s * 1_000_000;
        let mut limiter = Limiter::default();
        let seen: Vec<_> = [0, 1, 2, 29, 30, 31, 59].map(|s| limiter.admit(rate, second(s))).into();
        assert_eq!(seen, [true, true, false, false, true, true, false]);
        assert!(limiter.admit(rate, second(-500)), "a clock that was set back drops nothing");
    }
}

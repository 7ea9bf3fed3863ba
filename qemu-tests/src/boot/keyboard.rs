//! The person's keyboard at the machine's console, for its rescue screen.
//!
//! Key by key, and not shown by this side: the machine's own terminal does that, as on any serial line. Ctrl-C stays a
//! signal here.

use std::io::{self, Read, Write};
use std::thread;

use nix::sys::termios::{LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr};
use nix::unistd::{getpgrp, tcgetpgrp};
use qemu_tests::Machine;

/// Dropped, the terminal is again as it was.
pub(crate) struct Keyboard {
    before: Option<Termios>,
}

impl Keyboard {
    /// Does nothing without a terminal, or behind another program that has it.
    pub(crate) fn connect(machine: &Machine) -> Self {
        let is_ours = tcgetpgrp(io::stdin()).is_ok_and(|group| group == getpgrp());
        let Some(before) = is_ours.then(|| tcgetattr(io::stdin()).ok()).flatten() else {
            return Self { before: None };
        };
        let mut mode = before.clone();
        mode.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO);
        mode.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
        mode.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
        let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, &mode);

        // Not the machine itself: a read of the keyboard ends with this process only.
        if let Ok(mut line) = machine.console().keyboard() {
            thread::spawn(move || {
                let mut keys = [0; 64];
                while let Ok(count @ 1..) = io::stdin().read(&mut keys)
                    && line.write_all(&keys[..count]).is_ok()
                {}
            });
        }
        Self { before: Some(before) }
    }
}

impl Drop for Keyboard {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, before);
        }
    }
}

//! The terminals of the rescue screen: every console the kernel writes to.

use nix::sys::termios::{LocalFlags, SetArg, SpecialCharacterIndices, tcgetattr, tcsetattr};

use crate::console::Console;
use crate::text::Text;

const MAX_TERMINALS: usize = 4;

pub(crate) struct Terminal {
    path: Text<64>,
    pub(crate) console: Console,
}

pub(crate) struct Terminals {
    list: Vec<Terminal>,
}

impl Terminals {
    /// `/sys/class/tty/console/active` names them (`tty0 ttyS0`); without it there is `/dev/console`.
    pub(crate) fn open() -> Self {
        let names = std::fs::read_to_string("/sys/class/tty/console/active").unwrap_or_default();
        let mut list: Vec<Terminal> = names
            .split_ascii_whitespace()
            .take(MAX_TERMINALS)
            .map(|name| Terminal::open(Text::of(format_args!("/dev/{name}"))))
            .filter(|terminal| terminal.console.fd().is_some())
            .collect();
        if list.is_empty() {
            list.push(Terminal::open(Text::of("/dev/console")));
        }
        Self { list }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Terminal> {
        self.list.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Terminal> {
        self.list.iter_mut()
    }

    /// Opens those again that hung up.
    pub(crate) fn reopen(&mut self) {
        for terminal in &mut self.list {
            *terminal = Terminal::open(terminal.path);
        }
    }
}

impl Terminal {
    fn open(path: Text<64>) -> Self {
        let mut console = Console::new();
        console.attach(path.as_str());
        // Keys one by one, so that a key press is seen before Enter; the terminal echoes. ECHOCTL would show Enter as ^J.
        if let Some(fd) = console.fd()
            && let Ok(mut mode) = tcgetattr(fd)
        {
            mode.local_flags.remove(LocalFlags::ICANON | LocalFlags::ISIG | LocalFlags::ECHOCTL);
            mode.local_flags.insert(LocalFlags::ECHO);
            mode.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
            mode.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
            let _ = tcsetattr(fd, SetArg::TCSANOW, &mode);
        }
        Self { path, console }
    }

    /// What was typed since; empty when nothing was, or when the terminal is gone.
    pub(crate) fn read<'a>(&mut self, keys: &'a mut [u8]) -> &'a [u8] {
        match self.console.fd().map(|fd| nix::unistd::read(fd, keys)) {
            Some(Ok(n)) if n > 0 => &keys[..n],
            // End of file or EIO: it hung up. It is closed, or poll would report it for ever.
            Some(Ok(_) | Err(nix::Error::EIO | nix::Error::ENXIO)) => {
                self.console.detach();
                &[]
            }
            _ => &[],
        }
    }
}

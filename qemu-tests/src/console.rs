//! The guest's serial console: everything it printed, and waiting for what it should print.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Older output than this is dropped, so that a machine that runs for days does not fill its watcher's memory.
const KEPT_BYTES: usize = 8 << 20;
/// For the rest of a line: a serial line shows it letter by letter, and a prompt has none.
const LINE_LIMIT: Duration = Duration::from_secs(2);
/// Lines shown when a wait ends badly.
const TAIL_LINES: usize = 40;

/// Gets each piece of output as it arrives.
pub type Echo = Box<dyn FnMut(&[u8]) + Send>;

/// What the guest prints on its console, read by a thread of its own until QEMU ends.
pub struct Console {
    shared: Arc<Shared>,
    keyboard: Mutex<UnixStream>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    text: String,
    /// Everything before has been waited for already: the same line after a reboot is found again, not twice.
    mark: usize,
    ended: bool,
}

/// A wait that ended without the awaited text.
#[derive(Debug, thiserror::Error)]
#[error("{why} after {:.1} s without `{awaited}` on the console, which ends:\n{tail}", after.as_secs_f32())]
pub struct ConsoleError {
    awaited: String,
    after: Duration,
    why: &'static str,
    tail: String,
}

impl Console {
    /// Starts the reader; every byte also goes to `log`, and to `echo` as it comes.
    pub(crate) fn start(stream: UnixStream, mut log: File, mut echo: Option<Echo>) -> io::Result<Self> {
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() });
        let keyboard = Mutex::new(stream.try_clone()?);
        let (reader, mut stream) = (Arc::clone(&shared), stream);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count) = stream.read(&mut buffer)
                && count > 0
            {
                // A full disk must not stop the reader: QEMU would block on the serial port.
                let _ = log.write_all(&buffer[..count]);
                if let Some(echo) = &mut echo {
                    echo(&buffer[..count]);
                }
                reader.lock().add(&buffer[..count]);
                reader.changed.notify_all();
            }
            reader.lock().ended = true;
            reader.changed.notify_all();
        });
        Ok(Self { shared, keyboard })
    }

    /// Waits until the console shows `pattern` after what was waited for before; gives the line it stands in, whole
    /// unless it is a prompt.
    pub fn wait(&self, pattern: &str, limit: Duration) -> Result<String, ConsoleError> {
        let started = Instant::now();
        let mut state = self.shared.lock();
        loop {
            if let Some(found) = state.find(pattern) {
                let goes_on = |state: &mut State| !state.ended && !state.text[found..].contains('\n');
                let waited = self.shared.changed.wait_timeout_while(state, LINE_LIMIT, goes_on);
                return Ok(waited.unwrap_or_else(PoisonError::into_inner).0.mark(found, pattern.len()));
            }
            let left = limit.saturating_sub(started.elapsed());
            if state.ended || left.is_zero() {
                let (awaited, tail) = (pattern.to_owned(), tail(&state.text));
                let why = if state.ended { "the machine ended" } else { "the deadline passed" };
                return Err(ConsoleError { awaited, after: started.elapsed(), why, tail });
            }
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until nothing more can come, as QEMU has closed the port.
    pub(crate) fn wait_end(&self, limit: Duration) {
        let state = self.shared.lock();
        let _ = self.shared.changed.wait_timeout_while(state, limit, |state| !state.ended);
    }

    /// Types at the serial console.
    pub fn type_keys(&self, keys: impl AsRef<[u8]>) -> io::Result<()> {
        self.keyboard.lock().unwrap_or_else(PoisonError::into_inner).write_all(keys.as_ref())
    }

    /// The serial line itself, for somebody who types as long as there is a keyboard.
    pub fn keyboard(&self) -> io::Result<UnixStream> {
        self.keyboard.lock().unwrap_or_else(PoisonError::into_inner).try_clone()
    }

    /// All of it so far.
    pub fn text(&self) -> String {
        self.shared.lock().text.clone()
    }

    /// The last line with something in it.
    pub fn last_line(&self) -> String {
        self.shared.lock().text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default().to_owned()
    }

    /// The last lines, for an error message.
    pub fn tail(&self) -> String {
        tail(&self.shared.lock().text)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, bytes: &[u8]) {
        // Carriage returns and the like would hide the start of a line in a test's output.
        self.text
            .extend(String::from_utf8_lossy(bytes).chars().filter(|c| *c == '\n' || *c == '\t' || !c.is_control()));
        if self.text.len() > KEPT_BYTES {
            let mut cut = self.text.len() - KEPT_BYTES / 2;
            while !self.text.is_char_boundary(cut) {
                cut += 1;
            }
            self.text.drain(..cut);
            self.mark = self.mark.saturating_sub(cut);
        }
    }

    fn find(&self, pattern: &str) -> Option<usize> {
        Some(self.mark + self.text.get(self.mark..)?.find(pattern)?)
    }

    /// What stands there has been waited for; its line.
    fn mark(&mut self, found: usize, bytes: usize) -> String {
        let start = self.text[..found].rfind('\n').map_or(0, |newline| newline + 1);
        let end = self.text[found..].find('\n').map_or(self.text.len(), |newline| found + newline);
        self.mark = found + bytes;
        self.text[start..end].to_owned()
    }
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].iter().map(|line| format!("  | {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console() -> (UnixStream, Console) {
        let (guest, host) = UnixStream::pair().unwrap();
        (guest, Console::start(host, tempfile::tempfile().unwrap(), None).unwrap())
    }

    #[test]
    fn the_same_line_is_found_once_per_appearance() {
        let (mut guest, console) = console();
        guest.write_all(b"[0.1] root  ready\r\nlast\n").unwrap();
        assert_eq!(console.wait("root", Duration::from_secs(10)).unwrap(), "[0.1] root  ready");
        assert!(console.wait("root", Duration::from_millis(1)).is_err());
        guest.write_all(b"[0.2] root").unwrap();
        let rest = thread::spawn(move || guest.write_all(b"  again\n[0.3").map(|()| guest));
        assert_eq!(console.wait("root", Duration::from_secs(10)).unwrap(), "[0.2] root  again");
        rest.join().unwrap().unwrap();
    }

    #[test]
    fn an_ended_machine_ends_the_wait_and_shows_the_tail() {
        let (mut guest, console) = console();
        guest.write_all(b"one\nKernel panic\n").unwrap();
        drop(guest);
        let error = console.wait("up", Duration::from_secs(60)).unwrap_err().to_string();
        assert!(error.contains("ended") && error.contains("  | Kernel panic"), "{error}");
    }

    #[test]
    fn memory_stays_bounded_and_waiting_goes_on() {
        let mut state = State::default();
        for _ in 0..KEPT_BYTES / 500 {
            state.add(&[b'x'; 1000]);
        }
        assert!(state.text.len() <= KEPT_BYTES);
        state.add("ü end\n".as_bytes());
        assert!(state.find("end").is_some());
    }
}

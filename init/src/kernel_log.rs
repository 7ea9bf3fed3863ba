//! The kernel's log, for the rescue screen.

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use crate::text::Text;

const MAX_LINES: usize = 32;

/// Calls `each` with the last records of `/dev/kmsg`, oldest first, at most `count`; nothing when it cannot be read.
pub(crate) fn last_lines(count: usize, mut each: impl FnMut(&str)) {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let Ok(kmsg) = open("/dev/kmsg", flags, Mode::empty()) else { return };
    let mut ring = [Text::<160>::new(); MAX_LINES];
    let mut seen = 0;
    // One read is one record. Bounded: the log may grow as fast as it is read.
    for _ in 0..20_000 {
        let mut record = [0; 1024];
        match nix::unistd::read(&kmsg, &mut record) {
            Ok(n) if n > 0 => {
                if let Some(line) = printable(&record[..n]) {
                    ring[seen % MAX_LINES] = line;
                    seen += 1;
                }
            }
            // EPIPE: records were overwritten before they were read. EINVAL: longer than the buffer.
            Err(nix::Error::EPIPE | nix::Error::EINTR | nix::Error::EINVAL) => {}
            _ => break,
        }
    }
    for i in seen.saturating_sub(count.min(MAX_LINES))..seen {
        each(ring[i % MAX_LINES].as_str());
    }
}

/// `priority,sequence,microseconds,flags;text` and continuation lines (Documentation/ABI/testing/dev-kmsg). What
/// init wrote itself is shown elsewhere.
fn printable(record: &[u8]) -> Option<Text<160>> {
    let record = std::str::from_utf8(record).ok()?;
    let (head, text) = record.split_once(';')?;
    let micros: u64 = head.split(',').nth(2)?.parse().ok()?;
    let text = text.lines().next()?;
    if text.starts_with("orlop: ") {
        return None;
    }
    let mut line = Text::new();
    line.push_fmt(format_args!("[{:>4}.{:03}] ", micros / 1_000_000, micros / 1000 % 1000));
    line.push_printable(text);
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_becomes_a_line_without_control_characters() {
        let line = printable(b"3,1201,12345678,-;XFS (vda): bad \x1b[2J magic\n SUBSYSTEM=block\n").unwrap();
        assert_eq!(line.as_str(), "[  12.345] XFS (vda): bad ?[2J magic");
        assert!(printable(b"30,1,1,-;orlop: root: mounted\n").is_none());
        assert!(printable(b"nonsense").is_none());
    }
}

//! One record of a log file: `2026-01-31T12:00:00.000000Z stdout F text`, the format the container world calls CRI, so that its
//! tools read our files. `P` instead of `F`: the line goes on in the next record.

use crate::api::types::LogLine;

/// No record holds more text, in bytes; a longer line becomes several.
pub(crate) const MAX_TEXT_BYTES: usize = 16 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stream {
    Out,
    Err,
    /// The supervisor's own remarks.
    Orlop,
    /// syslog(3)'s level of a message of the kernel, PID 1 or the supervisor, 0 to 7.
    Level(u8),
    /// No message: the records from here on are of the boot with this id.
    Boot,
}

/// syslog(3)'s levels, in the words of journalctl.
const LEVELS: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

impl Stream {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Out => "stdout",
            Self::Err => "stderr",
            Self::Orlop => "orlop",
            Self::Level(level) => LEVELS[usize::from(level & 7)],
            Self::Boot => "boot",
        }
    }
}

/// Appends a record to a batch.
pub(crate) fn write(out: &mut Vec<u8>, time: &str, stream: Stream, partial: bool, text: &[u8]) {
    out.extend_from_slice(time.as_bytes());
    out.push(b' ');
    out.extend_from_slice(stream.word().as_bytes());
    out.extend_from_slice(if partial { b" P " } else { b" F " });
    out.extend_from_slice(text);
    out.push(b'\n');
}

/// Reads a record, without its newline, back.
pub(crate) fn parse(unit: &str, line: &[u8]) -> Option<LogLine> {
    let mut fields = line.splitn(4, |byte| *byte == b' ');
    let time = std::str::from_utf8(fields.next()?).ok()?;
    let stream = std::str::from_utf8(fields.next()?).ok()?;
    let partial = match fields.next()? {
        b"P" => true,
        b"F" => false,
        _ => return None,
    };
    let text = fields.next()?;
    let message = String::from_utf8_lossy(text).into_owned();
    let raw = std::str::from_utf8(text).is_err().then(|| text.to_vec());
    Some(LogLine { time: time.to_owned(), unit: unit.to_owned(), stream: stream.to_owned(), message, partial, raw })
}

/// Cuts bytes into lines: calls `record(text, partial)` for every whole line, for what is too long for one record, and, when
/// nothing more will come, for what has no newline, until one is not taken (false). Returns how many bytes at the end are no record
/// yet.
pub(crate) fn cut(mut bytes: &[u8], ended: bool, mut record: impl FnMut(&[u8], bool) -> bool) -> usize {
    loop {
        // One more than a record holds: a line of exactly that length is whole.
        let window = &bytes[..bytes.len().min(MAX_TEXT_BYTES + 1)];
        match window.iter().position(|byte| *byte == b'\n') {
            Some(end) => {
                if !record(&bytes[..end], false) {
                    return bytes.len();
                }
                bytes = &bytes[end + 1..];
            }
            None if window.len() > MAX_TEXT_BYTES => {
                let (text, rest) = bytes.split_at(whole_characters(&window[..MAX_TEXT_BYTES]));
                if !record(text, true) {
                    return bytes.len();
                }
                bytes = rest;
            }
            None => break,
        }
    }
    if ended && !bytes.is_empty() && record(bytes, true) {
        return 0;
    }
    bytes.len()
}

/// How much of it can be cut off without cutting a character of UTF-8 in two.
fn whole_characters(bytes: &[u8]) -> usize {
    let continues = |byte: &u8| (byte & 0xc0) == 0x80;
    // At most three bytes follow the first of a character; what has more is no UTF-8.
    let lead = bytes.iter().rposition(|byte| !continues(byte)).unwrap_or(0);
    let length = match bytes.get(lead).map_or(0, |byte| byte.leading_ones()) {
        0 => 1,
        ones => ones as usize,
    };
    if (2..=4).contains(&length) && lead > 0 && bytes.len() - lead < length { lead } else { bytes.len() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::testing::Random;

    fn cut_all(chunks: &[&[u8]]) -> Vec<(Vec<u8>, bool)> {
        let (mut rest, mut found) = (Vec::new(), Vec::new());
        for (index, chunk) in chunks.iter().enumerate() {
            rest.extend_from_slice(chunk);
            let left = cut(&rest, index + 1 == chunks.len(), |text, partial| {
                found.push((text.to_vec(), partial));
                true
            });
            assert!(left <= MAX_TEXT_BYTES);
            rest.drain(..rest.len() - left);
        }
        assert!(rest.is_empty());
        found
    }

    #[test]
    fn lines_are_whole_however_they_arrive() {
        let whole = vec![(b"one".to_vec(), false), (vec![], false), (b"three".to_vec(), false)];
        assert_eq!(cut_all(&[b"one\n\nthree\n"]), whole);
        assert_eq!(cut_all(&[b"o", b"ne", b"\n", b"\nth", b"ree\n"]), whole);
        assert_eq!(cut_all(&[b"end without newline"]), [(b"end without newline".to_vec(), true)]);
        let until_e = |text: &[u8], _| !text.starts_with(b"e");
        assert_eq!(
            (cut(b"one\nend\nrest", true, until_e), cut(b"one\nend", true, until_e)),
            (8, 3),
            "what is not taken stays"
        );
    }

    #[test]
    fn no_record_is_longer_than_the_limit_and_no_byte_is_lost() {
        let mut random = Random::new(3);
        let exact = vec![b'x'; MAX_TEXT_BYTES];
        assert_eq!(cut_all(&[&exact, b"\n"]), [(exact.clone(), false)]);
        // A character that would be cut in two goes into the next record as a whole.
        let long = format!("{}\u{20ac}\n", "x".repeat(MAX_TEXT_BYTES - 2));
        let cut = cut_all(&[long.as_bytes()]);
        assert_eq!((cut[0].0.len(), cut[1].0.as_slice()), (MAX_TEXT_BYTES - 2, "\u{20ac}".as_bytes()));
        for _ in 0..50 {
            let text: Vec<u8> =
                (0..random.below(100_000)).map(|_| if random.below(9000) == 0 { b'\n' } else { b'a' }).collect();
            let mut chunks = Vec::new();
            let mut rest = text.as_slice();
            while !rest.is_empty() {
                let (chunk, more) = rest.split_at(1 + random.below(rest.len()));
                chunks.push(chunk);
                rest = more;
            }
            let mut joined = Vec::new();
            for (record, partial) in cut_all(&chunks) {
                assert!(record.len() <= MAX_TEXT_BYTES);
                joined.extend_from_slice(&record);
                if !partial {
                    joined.push(b'\n');
                }
            }
            assert!(joined == text, "{} bytes differ", text.len());
        }
    }

    #[test]
    fn records_read_back_with_whatever_they_hold() {
        let mut file = Vec::new();
        write(&mut file, "2026-01-31T12:00:00.000001Z", Stream::Err, true, b"a  b \xff \0 \x1b[31m");
        let line = parse("web", file.strip_suffix(b"\n").unwrap()).unwrap();
        assert_eq!((line.stream.as_str(), line.partial, line.unit.as_str()), ("stderr", true, "web"));
        assert_eq!(line.message, "a  b \u{fffd} \0 \u{1b}[31m");
        assert_eq!(line.raw.as_deref(), Some(&b"a  b \xff \0 \x1b[31m"[..]), "what is no UTF-8 is not lost");
        for garbage in [&b""[..], b"x", b"a b c d", b"2026 stdout"] {
            assert_eq!(parse("web", garbage), None);
        }
    }
}

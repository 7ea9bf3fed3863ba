//! What both sides say on a connection that was upgraded for `exec`: frames of a kind (one byte), a length (four, the highest first)
//! and so many bytes.
//!
//! | kind | from | bytes |
//! |---|---|---|
//! | 0 | client | for the program's standard input; none: it is at its end |
//! | 1, 2 | machine | of its standard output and error; of a terminal all are 1 |
//! | 3 | machine | the last one, JSON: `{"exit_code": 0}`, with `error` where it did not come to run |
//! | 4 | client | JSON: the terminal is `{"rows": 24, "columns": 80}` |
//! | 5 | client | JSON: the number of a signal for the program |
//! | 6 | client | none: it leaves, and the program goes on |

/// The word of `Upgrade:`.
pub(crate) const PROTOCOL: &str = "orlop-exec.1";
/// No frame is longer.
pub(crate) const MAX_BYTES: usize = 64 << 10;
const HEAD_BYTES: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Input = 0,
    Output = 1,
    Errors = 2,
    End = 3,
    Size = 4,
    Signal = 5,
    Leave = 6,
}

const KINDS: [Kind; 7] = [Kind::Input, Kind::Output, Kind::Errors, Kind::End, Kind::Size, Kind::Signal, Kind::Leave];

/// More than a frame has room for is more than one.
pub(crate) fn write(kind: Kind, bytes: &[u8], into: &mut Vec<u8>) {
    let mut rest = bytes;
    loop {
        let (piece, more) = rest.split_at(rest.len().min(MAX_BYTES));
        into.push(kind as u8);
        into.extend_from_slice(&u32::try_from(piece.len()).unwrap_or(0).to_be_bytes());
        into.extend_from_slice(piece);
        if more.is_empty() {
            return;
        }
        rest = more;
    }
}

/// Bytes as they come, cut into frames.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    bytes: Vec<u8>,
}

/// The other side does not speak this protocol.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Garbled;

impl Frames {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next frame, if it is whole.
    pub(crate) fn next(&mut self) -> Result<Option<(Kind, Vec<u8>)>, Garbled> {
        let Some((&[kind, a, b, c, d], rest)) = self.bytes.split_first_chunk::<HEAD_BYTES>() else { return Ok(None) };
        let kind = *KINDS.get(usize::from(kind)).ok_or(Garbled)?;
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).map_err(|_| Garbled)?;
        if length > MAX_BYTES {
            return Err(Garbled);
        }
        let Some(bytes) = rest.get(..length).map(<[u8]>::to_vec) else { return Ok(None) };
        self.bytes.drain(..HEAD_BYTES + length);
        Ok(Some((kind, bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_however_they_are_cut() {
        let mut bytes = Vec::new();
        let long = vec![7; MAX_BYTES + 3];
        write(Kind::Output, b"hello", &mut bytes);
        write(Kind::Input, b"", &mut bytes);
        write(Kind::Errors, &long, &mut bytes);
        for piece in [1, 2, 7, 4096, bytes.len()] {
            let (mut frames, mut seen) = (Frames::default(), Vec::new());
            for part in bytes.chunks(piece) {
                frames.push(part);
                while let Some(frame) = frames.next().unwrap() {
                    seen.push(frame);
                }
            }
            let errors = |bytes: &[u8]| (Kind::Errors, bytes.to_vec());
            let hello = (Kind::Output, b"hello".to_vec());
            let (most, rest) = long.split_at(MAX_BYTES);
            assert_eq!(seen, [hello, (Kind::Input, Vec::new()), errors(most), errors(rest)]);
        }
    }

    #[test]
    fn what_is_none_is_told() {
        for bytes in [[9, 0, 0, 0, 0], [1, 0, 1, 0, 1], [0xff; 5]] {
            let mut frames = Frames::default();
            frames.push(&bytes);
            assert_eq!(frames.next(), Err(Garbled));
        }
    }
}

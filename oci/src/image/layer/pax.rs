//! PAX extended headers and the three ways GNU tar writes sparse maps into them.
//!
//! The tar crate's reader of PAX records splits at newlines, which a binary value (`security.capability`) may contain;
//! records say their length, and here that is what counts.

use super::entry::{Segment, Time};

/// More segments than this in one file is an attack on memory, not a sparse file.
pub(super) const SEGMENTS_MAX: usize = 1 << 16;

/// What a PAX header overrides. The last record of a key wins, as POSIX says; an empty value takes the override back.
#[derive(Debug, Default)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) target: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<Time>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: Sparse,
}

/// `GNU.sparse.*`: the formats 0.0 (pairs of records), 0.1 (one record) and 1.0 (the map stands before the data).
#[derive(Debug, Default)]
pub(super) struct Sparse {
    pub(super) name: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) map: Vec<Segment>,
    pub(super) map_in_data: bool,
    offset: Option<u64>,
    seen: bool,
}

impl Sparse {
    pub(super) fn is_present(&self) -> bool {
        self.seen
    }
}

/// Reads the records of one header.
pub(super) fn parse(mut bytes: &[u8]) -> Result<Pax, String> {
    let mut pax = Pax::default();
    while !bytes.is_empty() {
        let (key, value, rest) = record(bytes).ok_or("a malformed PAX record")?;
        pax.set(key, value).map_err(|()| format!("PAX record {}: malformed value", key.escape_ascii()))?;
        bytes = rest;
    }
    Ok(pax)
}

/// Keys of a global header, which Docker and containerd ignore: a comment is harmless, anything that changes entries is
/// refused rather than read differently from everybody else.
pub(super) fn check_global(mut bytes: &[u8]) -> Result<(), String> {
    while !bytes.is_empty() {
        let (key, _, rest) = record(bytes).ok_or("a malformed PAX record")?;
        if key != b"comment" {
            return Err(format!("a global PAX header with {} is not supported", key.escape_ascii()));
        }
        bytes = rest;
    }
    Ok(())
}

/// `<length> <key>=<value>\n`, the length counting itself.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(20).position(|b| *b == b' ')?;
    let length = usize::try_from(number(&bytes[..space]).ok()?).ok()?;
    let text = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = text.iter().position(|b| *b == b'=')?;
    (equals > 0).then(|| (&text[..equals], &text[equals + 1..], &bytes[length..]))
}

impl Pax {
    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), ()> {
        let optional = || if value.is_empty() { Ok(None) } else { number(value).map(Some) };
        match key {
            b"path" => self.path = (!value.is_empty()).then(|| value.to_vec()),
            b"linkpath" => self.target = (!value.is_empty()).then(|| value.to_vec()),
            b"size" => self.size = optional()?,
            b"uid" => self.uid = optional()?,
            b"gid" => self.gid = optional()?,
            b"mtime" => self.mtime = if value.is_empty() { None } else { Some(time(value)?) },
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.retain(|(known, _)| known != name);
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                } else if let Some(word) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.set(word, value)?;
                }
                // Other keys (atime, ctime, uname, comment, LIBARCHIVE.*) say nothing that is restored.
            }
        }
        Ok(())
    }
}

impl Sparse {
    fn set(&mut self, word: &[u8], value: &[u8]) -> Result<(), ()> {
        self.seen = true;
        match word {
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => self.size = Some(number(value)?),
            b"major" => self.map_in_data = number(value)? == 1,
            b"minor" | b"numblocks" => drop(number(value)?),
            b"offset" => self.offset = Some(number(value)?),
            b"numbytes" => {
                let segment = Segment { offset: self.offset.take().ok_or(())?, length: number(value)? };
                self.push(segment)?;
            }
            b"map" => {
                let mut numbers = value.split(|b| *b == b',').map(number);
                while let Some(offset) = numbers.next() {
                    self.push(Segment { offset: offset?, length: numbers.next().ok_or(())?? })?;
                }
            }
            _ => return Err(()),
        }
        Ok(())
    }

    fn push(&mut self, segment: Segment) -> Result<(), ()> {
        if self.map.len() == SEGMENTS_MAX {
            return Err(());
        }
        self.map.push(segment);
        Ok(())
    }
}

/// Decimal digits and nothing else.
pub(super) fn number(text: &[u8]) -> Result<u64, ()> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return Err(());
    }
    std::str::from_utf8(text).map_err(drop)?.parse().map_err(drop)
}

/// `[-]seconds[.fraction]`; digits beyond nanoseconds are cut off.
fn time(text: &[u8]) -> Result<Time, ()> {
    let (negative, text) = text.strip_prefix(b"-").map_or((false, text), |rest| (true, rest));
    let mut parts = text.splitn(2, |b| *b == b'.');
    let seconds = i64::try_from(number(parts.next().ok_or(())?)?).map_err(drop)?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(());
    }
    let digit = |i: usize| fraction.get(i).map_or(0, |b| u32::from(b - b'0'));
    let nanoseconds = (0..9).fold(0, |sum, i| sum * 10 + digit(i));
    Ok(match (negative, nanoseconds) {
        (false, _) => Time { seconds, nanoseconds },
        (true, 0) => Time { seconds: -seconds, nanoseconds },
        // -1.25 is 0.75 s after -2.
        (true, _) => Time { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_hold_newlines() {
        let pax = parse(b"27 SCHILY.xattr.user.a=\n=\x00\n18 mtime=-1.25000\n12 path=a/b\n").unwrap();
        assert_eq!(pax.xattrs, [(b"user.a".to_vec(), b"\n=\0".to_vec())]);
        assert_eq!(pax.mtime, Some(Time { seconds: -2, nanoseconds: 750_000_000 }));
        assert_eq!(pax.path.as_deref(), Some(&b"a/b"[..]));
    }

    #[test]
    fn sparse_maps() {
        let pax = parse(b"27 GNU.sparse.map=0,5,10,7\n").unwrap();
        assert_eq!(pax.sparse.map, [Segment { offset: 0, length: 5 }, Segment { offset: 10, length: 7 }]);
        let pax = parse(b"23 GNU.sparse.offset=9\n25 GNU.sparse.numbytes=2\n").unwrap();
        assert_eq!(pax.sparse.map, [Segment { offset: 9, length: 2 }]);
    }

    #[test]
    fn malformed_records_are_refused() {
        for bad in [
            &b"5 a=b"[..],
            b"a=b\n",
            b"99999999999999999999 a=b\n",
            b"0 a=b\n",
            b"3 \n",
            b"6 =ab\n",
            b"10 size=-1\n",
            b"11 size=+10\n",
            b"26 GNU.sparse.map=0,5,10\n",
            b"25 GNU.sparse.numbytes=2\n",
            b"12 mtime=1.x\n",
        ] {
            assert!(parse(bad).is_err(), "{}", bad.escape_ascii());
        }
        assert!(check_global(b"13 comment=a\n").is_ok());
        assert!(check_global(b"9 size=1\n").is_err());
    }
}

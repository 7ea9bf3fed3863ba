//! Bytes in, bytes out: a bounded writer and a reader that cannot run past the packet.

use std::fmt;

use super::{MAX_PACKET_BYTES, VERSION};

const MAGIC: [u8; 2] = *b"OH";

/// Why a packet could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireError {
    /// Not `b"OH"` at the start.
    Magic,
    /// Another version of the protocol.
    Version(u8),
    /// No message of this kind in this direction.
    Kind(u8),
    /// Fewer bytes than the fields need.
    Short,
    /// More bytes than the fields need.
    Long,
    /// A text that is not UTF-8, or a number outside its enumeration.
    Value,
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic => f.write_str("not a handoff packet"),
            Self::Version(v) => write!(f, "handoff version {v}, this side speaks {VERSION}"),
            Self::Kind(k) => write!(f, "unknown message kind {k}"),
            Self::Short => f.write_str("packet too short for its kind"),
            Self::Long => f.write_str("packet longer than its kind"),
            Self::Value => f.write_str("a field holds no valid value"),
        }
    }
}

impl std::error::Error for WireError {}

/// Builds one packet on the stack; what does not fit is cut (texts) or cannot happen (the fixed fields).
pub(super) struct Writer {
    bytes: [u8; MAX_PACKET_BYTES],
    len: usize,
}

impl Writer {
    pub(super) fn new(kind: u8) -> Self {
        let mut writer = Self { bytes: [0; MAX_PACKET_BYTES], len: 0 };
        writer.raw(&MAGIC);
        writer.raw(&[VERSION, kind]);
        writer
    }

    fn raw(&mut self, bytes: &[u8]) {
        let room = self.bytes.len() - self.len;
        let n = bytes.len().min(room);
        self.bytes[self.len..self.len + n].copy_from_slice(&bytes[..n]);
        self.len += n;
    }

    pub(super) fn u8(&mut self, v: u8) -> &mut Self {
        self.raw(&[v]);
        self
    }

    pub(super) fn u32(&mut self, v: u32) -> &mut Self {
        self.raw(&v.to_le_bytes());
        self
    }

    pub(super) fn i32(&mut self, v: i32) -> &mut Self {
        self.raw(&v.to_le_bytes());
        self
    }

    pub(super) fn u64(&mut self, v: u64) -> &mut Self {
        self.raw(&v.to_le_bytes());
        self
    }

    /// A text of at most `max` bytes, cut at a character boundary.
    pub(super) fn text(&mut self, text: &str, max: usize) -> &mut Self {
        let cut = text.floor_char_boundary(max);
        let len = u16::try_from(cut).unwrap_or(0);
        self.raw(&len.to_le_bytes());
        self.raw(&text.as_bytes()[..usize::from(len)]);
        self
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Checks the head of a packet; returns its kind and a reader for its fields.
    pub(super) fn open(packet: &'a [u8]) -> Result<(u8, Self), WireError> {
        match packet {
            [m0, m1, ..] if [*m0, *m1] != MAGIC => Err(WireError::Magic),
            [_, _, VERSION, kind, rest @ ..] => Ok((*kind, Self { rest })),
            [_, _, version, _, ..] => Err(WireError::Version(*version)),
            _ => Err(WireError::Short),
        }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(WireError::Short)?;
        self.rest = rest;
        Ok(*head)
    }

    pub(super) fn u8(&mut self) -> Result<u8, WireError> {
        Ok(self.take::<1>()?[0])
    }

    pub(super) fn u32(&mut self) -> Result<u32, WireError> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    pub(super) fn i32(&mut self) -> Result<i32, WireError> {
        Ok(i32::from_le_bytes(self.take()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, WireError> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    pub(super) fn text(&mut self) -> Result<&'a str, WireError> {
        let len = usize::from(u16::from_le_bytes(self.take()?));
        let (head, rest) = self.rest.split_at_checked(len).ok_or(WireError::Short)?;
        self.rest = rest;
        std::str::from_utf8(head).map_err(|_| WireError::Value)
    }

    /// Every byte of a packet has a meaning; left-over ones are an error.
    pub(super) fn end(self) -> Result<(), WireError> {
        if self.rest.is_empty() { Ok(()) } else { Err(WireError::Long) }
    }
}

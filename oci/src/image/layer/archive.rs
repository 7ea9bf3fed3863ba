//! Reading a tar stream entry by entry, in memory that the stream cannot choose.
//!
//! The tar crate reads the header block; the walk from entry to entry is ours, because the crate's own reads long names
//! and PAX headers of any announced size into memory and splits PAX records at newlines. Where dialects disagree, Go's
//! archive/tar is followed: it is what wrote most layers, and an archive that two readers understand differently is a
//! way past any check.

use std::io::{self, Read};
use std::mem;

use tar::{EntryType, GnuExtSparseHeader, Header};

use super::super::error::LayerError;
use super::entry::{Entry, Kind, Segment, Time};
use super::pax::{self, Pax, SEGMENTS_MAX};

const BLOCK_BYTES: usize = 512;
/// Longest PAX header or GNU long name. One xattr can have 64 KiB, a path 4 KiB.
const EXTENSION_MAX_BYTES: u64 = 1 << 20;
/// Extension headers in front of one entry.
const EXTENSIONS_MAX: usize = 16;

/// Entries of a tar stream. As a reader, it yields the data of the last entry (the stored bytes, if it is sparse).
pub(super) struct Archive<R> {
    source: R,
    /// Data of the current entry that was not read yet, and the padding behind it.
    left: u64,
    padding: u64,
    ended: bool,
}

/// Extensions that apply to the next entry.
#[derive(Default)]
struct Extensions {
    pax: Pax,
    long_name: Option<Vec<u8>>,
    long_target: Option<Vec<u8>>,
}

impl<R: Read> Archive<R> {
    pub(super) fn new(source: R) -> Self {
        Self { source, left: 0, padding: 0, ended: false }
    }

    /// The next entry, or none at the end of the archive.
    pub(super) fn next_entry(&mut self) -> Result<Option<Entry>, LayerError> {
        if self.ended {
            return Ok(None);
        }
        self.skip().map_err(LayerError::Stream)?;
        let mut extensions = Extensions::default();
        for count in 0.. {
            if count > EXTENSIONS_MAX {
                return Err(malformed("too many extension headers before one entry"));
            }
            let Some(header) = self.header()? else {
                if count > 0 {
                    return Err(malformed("the archive ends behind an extension header"));
                }
                self.ended = true;
                return Ok(None);
            };
            match header.entry_type() {
                EntryType::XHeader => {
                    let bytes = self.extension(&header)?;
                    extensions.pax = pax::parse(&bytes).map_err(|reason| malformed(&reason))?;
                }
                EntryType::XGlobalHeader => {
                    let bytes = self.extension(&header)?;
                    pax::check_global(&bytes).map_err(|reason| malformed(&reason))?;
                }
                EntryType::GNULongName => extensions.long_name = Some(text(self.extension(&header)?)),
                EntryType::GNULongLink => extensions.long_target = Some(text(self.extension(&header)?)),
                _ => return self.entry(&header, extensions).map(Some),
            }
        }
        Ok(None)
    }

    fn entry(&mut self, header: &Header, extensions: Extensions) -> Result<Entry, LayerError> {
        let Extensions { mut pax, long_name, long_target } = extensions;
        let sparse_name = pax.sparse.name.take();
        let name = sparse_name.or(pax.path).or(long_name).unwrap_or_else(|| header.path_bytes().into_owned());
        let refuse = |reason: &str| LayerError::refused(&name, reason);
        let target = pax
            .target
            .or(long_target)
            .or_else(|| header.link_name_bytes().map(|target| target.into_owned()))
            .unwrap_or_default();
        if name.contains(&0) || target.contains(&0) {
            return Err(refuse("a NUL byte in its name"));
        }
        let kind = match header.entry_type() {
            // Before 1988 a directory was a file whose name ends in a slash.
            EntryType::Regular | EntryType::Continuous if name.ends_with(b"/") => Kind::Directory,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
            EntryType::Directory => Kind::Directory,
            EntryType::Symlink => Kind::Symlink,
            EntryType::Link => Kind::HardLink,
            EntryType::Fifo => Kind::Fifo,
            EntryType::Char | EntryType::Block => Kind::Device,
            other => {
                let letter = char::from(other.as_byte()).escape_default();
                return Err(refuse(&format!("entries of type `{letter}` are not supported")));
            }
        };
        let number = |field: &str, result: io::Result<u64>| {
            result.map_err(|error| LayerError::refused(&name, format!("field {field}: {error}")))
        };
        let stored = match pax.size {
            Some(size) => size,
            None => number("size", header.entry_size())?,
        };
        // Only files have data, whatever the field says: GNU tar and Go skip none for links and directories.
        let stored = if kind == Kind::File { stored } else { 0 };
        self.left = stored;
        self.padding = padding(stored);

        let mut size_bytes = stored;
        let mut sparse = None;
        if header.entry_type() == EntryType::GNUSparse {
            let (real_size, map) = self.gnu_sparse(header)?;
            (size_bytes, sparse) = (real_size, Some(map));
        } else if pax.sparse.is_present() && kind == Kind::File {
            size_bytes = pax.sparse.size.ok_or_else(|| refuse("a sparse file without a size"))?;
            sparse = Some(if pax.sparse.map_in_data { self.map_in_data()? } else { pax.sparse.map });
        }
        if let Some(map) = &sparse {
            check_map(map, self.left, size_bytes).map_err(refuse)?;
        }

        let id = |field: &str, given: Option<u64>, result: io::Result<u64>| {
            let id = given.map_or_else(|| number(field, result), Ok)?;
            // The last one means "leave it as it is" to chown(2).
            u32::try_from(id).ok().filter(|id| *id != u32::MAX).ok_or_else(|| refuse("an owner no system has"))
        };
        let mtime = match pax.mtime {
            Some(time) => time,
            // Base-256 numbers may be negative; the crate hands out their bits.
            None => Time { seconds: number("mtime", header.mtime())?.cast_signed(), nanoseconds: 0 },
        };
        Ok(Entry {
            kind,
            mode: header.mode().map_err(|error| refuse(&format!("field mode: {error}")))? & 0o7777,
            uid: id("uid", pax.uid, header.uid())?,
            gid: id("gid", pax.gid, header.gid())?,
            mtime,
            size_bytes,
            sparse,
            xattrs: mem::take(&mut pax.xattrs),
            name,
            target,
        })
    }

    /// One header block, checked; none at the end: two zero blocks, or the end of the stream at a block's border.
    fn header(&mut self) -> Result<Option<Header>, LayerError> {
        let mut header = Header::new_old();
        if !self.block(header.as_mut_bytes())? {
            return Ok(None);
        }
        if header.as_bytes().iter().all(|b| *b == 0) {
            let mut second = [0; BLOCK_BYTES];
            if self.block(&mut second)? && second.iter().any(|b| *b != 0) {
                return Err(malformed("a single zero block inside the archive"));
            }
            return Ok(None);
        }
        let bytes = header.as_bytes();
        // The checksum field counts as spaces. Old writers summed signed bytes.
        let field = 148..156;
        let sum = bytes.iter().enumerate().map(|(i, b)| if field.contains(&i) { b' ' } else { *b });
        let unsigned: u32 = sum.clone().map(u32::from).sum();
        let signed: i32 = sum.map(|b| i32::from(b.cast_signed())).sum();
        let said = header.cksum().map_err(LayerError::Stream)?;
        if said != unsigned && i64::from(said) != i64::from(signed) {
            return Err(malformed("a header's checksum is wrong"));
        }
        Ok(Some(header))
    }

    /// False at the end of the stream.
    fn block(&mut self, block: &mut [u8; BLOCK_BYTES]) -> Result<bool, LayerError> {
        let mut filled = 0;
        while filled < BLOCK_BYTES {
            match self.source.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(malformed("it is cut off inside a header")),
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(LayerError::Stream(error)),
            }
        }
        Ok(true)
    }

    fn extension(&mut self, header: &Header) -> Result<Vec<u8>, LayerError> {
        let size = header.entry_size().map_err(LayerError::Stream)?;
        if size > EXTENSION_MAX_BYTES {
            return Err(malformed(&format!(
                "an extension header of {size} bytes; at most {EXTENSION_MAX_BYTES} are read"
            )));
        }
        (self.left, self.padding) = (size, padding(size));
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes).map_err(LayerError::Stream)?;
        self.skip().map_err(LayerError::Stream)?;
        Ok(bytes)
    }

    /// The map of type `S`: four segments in the header, more in the blocks that follow it.
    fn gnu_sparse(&mut self, header: &Header) -> Result<(u64, Vec<Segment>), LayerError> {
        let gnu = header.as_gnu().ok_or_else(|| malformed("a sparse entry in a header that is not GNU's"))?;
        let real_size = gnu.real_size().map_err(LayerError::Stream)?;
        let mut map = Vec::new();
        add(&mut map, &gnu.sparse)?;
        let mut extended = gnu.is_extended();
        while extended {
            let mut block = GnuExtSparseHeader::new();
            if !self.block(block.as_mut_bytes())? {
                return Err(malformed("it is cut off inside a sparse map"));
            }
            add(&mut map, block.sparse())?;
            extended = block.is_extended();
        }
        Ok((real_size, map))
    }

    /// The map of PAX format 1.0: a count, then offset and length of each, a decimal number a line, padded to a block.
    fn map_in_data(&mut self) -> Result<Vec<Segment>, LayerError> {
        let mut block = [0; BLOCK_BYTES];
        let mut at = BLOCK_BYTES;
        let mut number = |archive: &mut Self| -> Result<u64, LayerError> {
            let mut digits = Vec::new();
            loop {
                if at == BLOCK_BYTES {
                    archive.read_exact(&mut block).map_err(LayerError::Stream)?;
                    at = 0;
                }
                let byte = block[at];
                at += 1;
                if byte == b'\n' {
                    return pax::number(&digits).map_err(|()| malformed("a malformed sparse map"));
                }
                digits.push(byte);
                if digits.len() > 20 {
                    return Err(malformed("a malformed sparse map"));
                }
            }
        };
        let count = number(self)?;
        let count = usize::try_from(count).ok().filter(|count| *count <= SEGMENTS_MAX);
        let count = count.ok_or_else(|| malformed("a sparse map of too many segments"))?;
        (0..count).map(|_| Ok(Segment { offset: number(self)?, length: number(self)? })).collect()
    }

    fn skip(&mut self) -> io::Result<()> {
        let rest = self.left.saturating_add(self.padding);
        let skipped = io::copy(&mut (&mut self.source).take(rest), &mut io::sink())?;
        // The very last padding may be missing.
        if skipped < self.left {
            return Err(cut_off());
        }
        (self.left, self.padding) = (0, 0);
        Ok(())
    }
}

impl<R: Read> Read for Archive<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if want == 0 {
            return Ok(0);
        }
        let n = self.source.read(&mut buffer[..want])?;
        if n == 0 {
            return Err(cut_off());
        }
        self.left -= n as u64;
        Ok(n)
    }
}

fn add(map: &mut Vec<Segment>, headers: &[tar::GnuSparseHeader]) -> Result<(), LayerError> {
    for header in headers.iter().filter(|header| !header.is_empty()) {
        if map.len() == SEGMENTS_MAX {
            return Err(malformed("a sparse map of too many segments"));
        }
        let offset = header.offset().map_err(LayerError::Stream)?;
        map.push(Segment { offset, length: header.length().map_err(LayerError::Stream)? });
    }
    Ok(())
}

/// In order, without overlap, inside the file, and exactly as long as the data.
fn check_map(map: &[Segment], stored: u64, size: u64) -> Result<(), &'static str> {
    let (mut end, mut sum) = (0_u64, 0_u64);
    for segment in map {
        if segment.offset < end {
            return Err("a sparse map that goes backwards");
        }
        end = segment
            .offset
            .checked_add(segment.length)
            .filter(|end| *end <= size)
            .ok_or("a sparse map beyond the file's end")?;
        sum += segment.length;
    }
    if sum == stored { Ok(()) } else { Err("a sparse map that does not fit its data") }
}

fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK_BYTES as u64
}

/// GNU writes long names with a NUL behind them.
fn text(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|b| *b == 0) {
        bytes.truncate(end);
    }
    bytes
}

fn malformed(reason: &str) -> LayerError {
    LayerError::Stream(io::Error::new(io::ErrorKind::InvalidData, format!("not a tar archive we read: {reason}")))
}

fn cut_off() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the archive is cut off inside an entry")
}

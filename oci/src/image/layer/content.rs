//! Writing a file's bytes: streaming, with holes where the image has zeros.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use super::entry::{Entry, Segment};

const BUFFER_BYTES: usize = 128 << 10;
/// The block of every file system we use. Zeros of this size need not be stored, so a bomb of zeros costs no disk.
const HOLE_BYTES: usize = 4096;

pub(super) struct Content {
    buffer: Box<[u8]>,
}

impl Content {
    pub(super) fn new() -> Self {
        Self { buffer: vec![0; BUFFER_BYTES].into_boxed_slice() }
    }

    /// Writes an entry's data to a new file.
    pub(super) fn write(&mut self, file: &File, entry: &Entry, data: &mut dyn Read) -> io::Result<()> {
        let whole = [Segment { offset: 0, length: entry.size_bytes }];
        for segment in entry.sparse.as_deref().unwrap_or(&whole) {
            self.segment(file, *segment, data)?;
        }
        // Sets the size over a hole at the end; all-zero files have no other write.
        file.set_len(entry.size_bytes)
    }

    fn segment(&mut self, file: &File, segment: Segment, data: &mut dyn Read) -> io::Result<()> {
        let Segment { mut offset, mut length } = segment;
        while length > 0 {
            let want = usize::try_from(length).unwrap_or(usize::MAX).min(self.buffer.len());
            let piece = &mut self.buffer[..want];
            data.read_exact(piece)?;
            write_without_holes(file, piece, offset)?;
            offset += want as u64;
            length -= want as u64;
        }
        Ok(())
    }
}

/// Writes the stretches between all-zero blocks.
fn write_without_holes(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut start = None;
    for (i, block) in bytes.chunks(HOLE_BYTES).enumerate() {
        let at = i * HOLE_BYTES;
        let is_zero = block.iter().all(|b| *b == 0);
        match (start, is_zero) {
            (None, false) => start = Some(at),
            (Some(from), true) => {
                file.write_all_at(&bytes[from..at], offset + from as u64)?;
                start = None;
            }
            _ => {}
        }
    }
    match start {
        Some(from) => file.write_all_at(&bytes[from..], offset + from as u64),
        None => Ok(()),
    }
}

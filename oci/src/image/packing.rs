//! Unpacking the bytes of a layer: plain, gzip (several members), zstd (several and skippable frames).

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::BlockDecodingStrategy::UptoBytes;
use ruzstd::decoding::FrameDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};

use super::manifest::Packing;

/// Compressed bytes are read in pieces of this size.
const PIECE_BYTES: usize = 64 << 10;
/// A zstd window is memory the image asks us to hold. 8 MiB is what the format wants every decoder to offer and what
/// every level below `--ultra` needs.
const WINDOW_MAX_BYTES: u64 = 32 << 20;

/// The archive inside a layer's blob.
pub(super) enum Unpacked<R: Read> {
    Plain(BufReader<R>),
    Gzip(Box<MultiGzDecoder<BufReader<R>>>),
    Zstd(Box<ZstdFrames<R>>),
}

impl<R: Read> Unpacked<R> {
    pub(super) fn new(packing: Packing, source: R) -> Self {
        let source = BufReader::with_capacity(PIECE_BYTES, source);
        match packing {
            Packing::Plain => Self::Plain(source),
            Packing::Gzip => Self::Gzip(Box::new(MultiGzDecoder::new(source))),
            Packing::Zstd => Self::Zstd(Box::new(ZstdFrames::new(source))),
        }
    }

    pub(super) fn into_inner(self) -> R {
        match self {
            Self::Plain(source) => source.into_inner(),
            Self::Gzip(decoder) => decoder.into_inner().into_inner(),
            Self::Zstd(frames) => frames.source.into_inner(),
        }
    }
}

impl<R: Read> Read for Unpacked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(source) => source.read(buffer),
            Self::Gzip(decoder) => decoder.read(buffer).map_err(|error| name("gzip", &error)),
            Self::Zstd(frames) => frames.read(buffer),
        }
    }
}

fn name(format: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{format}: {error}"))
}

/// ruzstd decodes one frame; a file may hold many (zstd:chunked and seekable writers end a frame per chunk and put
/// their tables into skippable frames).
pub(super) struct ZstdFrames<R> {
    source: BufReader<R>,
    decoder: FrameDecoder,
    in_frame: bool,
}

impl<R: Read> ZstdFrames<R> {
    fn new(source: BufReader<R>) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(WINDOW_MAX_BYTES);
        Self { source, decoder, in_frame: false }
    }

    /// Begins the next frame; false at the end of the stream.
    fn next_frame(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.decoder.reset(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                    let skipped = io::copy(&mut (&mut self.source).take(length.into()), &mut io::sink())?;
                    if skipped != u64::from(length) {
                        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "zstd: cut off in a skippable frame"));
                    }
                }
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, format!("zstd: {error}"))),
            }
        }
        Ok(false)
    }
}

impl<R: Read> Read for ZstdFrames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.in_frame {
                if !self.next_frame()? {
                    return Ok(0);
                }
                self.in_frame = true;
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                self.decoder
                    .decode_blocks(&mut self.source, UptoBytes(PIECE_BYTES))
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("zstd: {error}")))?;
            }
            let n = self.decoder.read(buffer)?;
            if n > 0 {
                return Ok(n);
            }
            self.in_frame = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};
    use std::io::Write;

    fn read(packing: Packing, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        Unpacked::new(packing, bytes).read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn frames_and_members_follow_each_other() {
        let text = b"orlop ".repeat(40_000);
        let (one, two) = text.split_at(100_001);

        let mut zstd = compress_to_vec(one, CompressionLevel::Fastest);
        zstd.extend([0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);
        zstd.extend(compress_to_vec(two, CompressionLevel::Fastest));
        zstd.extend([0x51, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]);
        assert_eq!(read(Packing::Zstd, &zstd).unwrap(), text);
        assert!(read(Packing::Zstd, &zstd[..zstd.len() - 3]).is_err());
        assert!(read(Packing::Zstd, b"garbage, not zstd").is_err());

        let gzip = |bytes: &[u8]| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        };
        let both = [gzip(one), gzip(two)].concat();
        assert_eq!(read(Packing::Gzip, &both).unwrap(), text);
        assert!(read(Packing::Gzip, &both[..both.len() - 9]).is_err());
        assert_eq!(read(Packing::Plain, &text).unwrap(), text);
    }
}

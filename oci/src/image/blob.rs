//! Reading blobs: every byte is counted and hashed, and nothing is believed before both fit.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::digest::{Digest, Hasher};
use super::error::ImageError;

/// Largest JSON document that is read (index, manifest, configuration): registries cap manifests at 4 MiB too.
pub(super) const DOCUMENT_MAX_BYTES: u64 = 4 << 20;

/// A blob being read. What was read counts only once [`BlobReader::finish`] says so.
pub(super) struct BlobReader {
    path: PathBuf,
    file: File,
    digest: Digest,
    hasher: Hasher,
    left: u64,
}

impl BlobReader {
    /// Opens `blobs/<algorithm>/<hex>` of a layout and compares its size.
    pub(super) fn open(layout: &Path, digest: Digest, size: u64) -> Result<Self, ImageError> {
        let path = layout.join("blobs").join(digest.algorithm().name()).join(digest.hex());
        let file = match open_file(&path) {
            Ok(file) => file,
            Err(source) if source.kind() == io::ErrorKind::NotFound => {
                return Err(ImageError::Blob { digest, reason: format!("missing in {}", layout.display()) });
            }
            Err(source) => return Err(ImageError::Read { path, source }),
        };
        let found = file.metadata().map_err(|source| ImageError::Read { path: path.clone(), source })?.len();
        if found != size {
            let reason = format!("{found} bytes, its descriptor says {size}");
            return Err(ImageError::Blob { digest, reason });
        }
        let hasher = Hasher::new(digest.algorithm());
        Ok(Self { path, file, digest, hasher, left: size })
    }

    /// Reads what is left and compares the digest.
    pub(super) fn finish(mut self) -> Result<(), ImageError> {
        let mut buffer = [0; 16 << 10];
        loop {
            match self.read(&mut buffer) {
                Ok(0) => break,
                Ok(_) => {}
                Err(source) => return Err(ImageError::Read { path: self.path, source }),
            }
        }
        let found = self.hasher.finish();
        if found == self.digest {
            return Ok(());
        }
        Err(ImageError::Blob { reason: format!("its content is {found}"), digest: self.digest })
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if want == 0 {
            return Ok(0);
        }
        let n = self.file.read(&mut buffer[..want])?;
        if n == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the blob became shorter while it was read"));
        }
        self.hasher.update(&buffer[..n]);
        self.left -= n as u64;
        Ok(n)
    }
}

/// A whole document, verified, of at most [`DOCUMENT_MAX_BYTES`].
pub(super) fn document(layout: &Path, digest: &Digest, size: u64) -> Result<Vec<u8>, ImageError> {
    if size > DOCUMENT_MAX_BYTES {
        let reason = format!("a document of {size} bytes; at most {DOCUMENT_MAX_BYTES} are read");
        return Err(ImageError::Document { digest: digest.clone(), reason });
    }
    let mut blob = BlobReader::open(layout, digest.clone(), size)?;
    let mut bytes = Vec::new();
    blob.read_to_end(&mut bytes).map_err(|source| ImageError::Read { path: blob.path.clone(), source })?;
    blob.finish()?;
    Ok(bytes)
}

/// A small file of the layout itself, which has no digest.
pub(super) fn small_file(path: &Path) -> Result<Vec<u8>, ImageError> {
    let read = || -> io::Result<Vec<u8>> {
        let file = open_file(path)?;
        let mut bytes = Vec::new();
        file.take(DOCUMENT_MAX_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > DOCUMENT_MAX_BYTES {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("more than {DOCUMENT_MAX_BYTES} bytes of JSON are not read"),
            ));
        }
        Ok(bytes)
    };
    read().map_err(|source| ImageError::Read { path: path.into(), source })
}

/// Only regular files: a fifo or a device in somebody's layout must not make the reader wait.
fn open_file(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok(file)
}

//! Layers: a tar stream becomes a folder that overlayfs can stack.
//!
//! The stream is hostile until its diff id has been verified at its very end, and a correct diff id only proves that
//! the image's author meant it. So every entry is made relative to a folder nobody else can enter, by the kernel's own
//! bounded path resolution, and what the contract does not allow is refused by name.

mod archive;
mod attributes;
mod content;
mod entry;
mod pax;
mod remove;
#[allow(unsafe_code)]
mod sys;
mod times;
mod tree;

pub use remove::remove_all;
#[cfg(test)]
pub(super) use sys::get_xattr;

use std::io::{self, Read};
use std::os::fd::BorrowedFd;

use super::digest::{Digest, Hasher};
use super::error::LayerError;
use super::packing::Unpacked;
use archive::Archive;
use tree::Tree;

/// What a layer may cost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Archive bytes and, for sparse files, what they claim to be.
    pub(super) bytes: u64,
    pub(super) entries: u64,
}

impl Limits {
    /// Real layers shrink by a factor of two to ten, gzip can do a thousand. A small blob may hold a gigabyte all the
    /// same: empty databases are mostly zeros. The largest real images have some 300,000 entries.
    pub(super) fn for_blob(size_bytes: u64) -> Self {
        const GIB: u64 = 1 << 30;
        Self { bytes: size_bytes.saturating_mul(200).clamp(GIB, 64 * GIB), entries: 500_000 }
    }
}

/// Counts and hashes the archive as it passes.
struct Measured<R: Read> {
    inner: Unpacked<R>,
    hasher: Hasher,
    left: u64,
    limit: u64,
}

impl<R: Read> Read for Measured<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(n as u64).ok_or_else(|| {
            io::Error::other(format!("it unpacks to more than {} bytes, the limit for a blob of its size", self.limit))
        })?;
        self.hasher.update(&buffer[..n]);
        Ok(n)
    }
}

/// Unpacks a layer's archive into an empty folder and compares its diff id. `staging` is a folder beside it on the same
/// file system for what must not be seen in the tree. Returns the exhausted source.
pub(super) fn unpack<R: Read>(
    source: Unpacked<R>,
    diff_id: &Digest,
    limits: Limits,
    tree: BorrowedFd<'_>,
    staging: BorrowedFd<'_>,
) -> Result<R, LayerError> {
    let hasher = Hasher::new(diff_id.algorithm());
    let mut measured = Measured { inner: source, hasher, left: limits.bytes, limit: limits.bytes };
    let mut archive = Archive::new(&mut measured);
    let mut tree = Tree::new(tree, staging)?;
    let (mut entries, mut claimed) = (0, 0_u64);
    while let Some(entry) = archive.next_entry()? {
        entries += 1;
        if entries > limits.entries {
            return Err(LayerError::refused(&entry.name, format!("more than {} entries", limits.entries)));
        }
        claimed = claimed.saturating_add(entry.size_bytes);
        if claimed > limits.bytes {
            let reason = format!("its files claim more than {} bytes, the limit for a blob of its size", limits.bytes);
            return Err(LayerError::refused(&entry.name, reason));
        }
        tree.apply(&entry, &mut archive)?;
    }
    tree.finish()?;
    // Behind the archive's end lies padding, which the diff id covers.
    io::copy(&mut measured, &mut io::sink()).map_err(LayerError::Stream)?;
    let found = measured.hasher.finish();
    if found != *diff_id {
        let text = format!("unpacked it is {found}, the image's configuration says {diff_id}");
        return Err(LayerError::Stream(io::Error::new(io::ErrorKind::InvalidData, text)));
    }
    Ok(measured.inner.into_inner())
}

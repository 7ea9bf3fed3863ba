//! What can be wrong with an image, said so that a person can act on it.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::digest::Digest;

/// Why an image was not prepared. Nothing of it was left on disk.
#[derive(Debug)]
pub enum ImageError {
    /// No layout has it.
    NotFound { reference: String, looked_in: Vec<PathBuf> },
    /// A folder is no OCI image layout.
    Layout { path: PathBuf, reason: String },
    /// Reading the layout failed.
    Read { path: PathBuf, source: io::Error },
    /// A blob's bytes are not what its descriptor says.
    Blob { digest: Digest, reason: String },
    /// A document (index, manifest, configuration) cannot be understood or is not one this machine runs.
    Document { digest: Digest, reason: String },
    /// A layer was refused while it was unpacked.
    Layer { digest: Digest, source: LayerError },
    /// The folder of unpacked layers could not be changed.
    Store { operation: &'static str, path: PathBuf, source: io::Error },
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound { reference, looked_in } => {
                write!(f, "image {reference} is not on this machine")?;
                for (i, path) in looked_in.iter().enumerate() {
                    write!(f, "{}{}", if i == 0 { " (looked in " } else { ", " }, path.display())?;
                }
                if looked_in.is_empty() { Ok(()) } else { f.write_str(")") }
            }
            Self::Layout { path, reason } => write!(f, "image layout {}: {reason}", path.display()),
            Self::Read { path, source } => write!(f, "read {}: {source}", path.display()),
            Self::Blob { digest, reason } => write!(f, "blob {digest}: {reason}"),
            Self::Document { digest, reason } => write!(f, "{digest}: {reason}"),
            Self::Layer { digest, source } => write!(f, "layer {digest}: {source}"),
            Self::Store { operation, path, source } => write!(f, "{operation} {}: {source}", path.display()),
        }
    }
}

impl std::error::Error for ImageError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read { source, .. } | Self::Store { source, .. } => Some(source),
            Self::Layer { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Why a layer was refused.
#[derive(Debug)]
pub enum LayerError {
    /// The stream could not be read: decompression, the archive's form, or the disk.
    Stream(io::Error),
    /// An entry the contract does not allow.
    Refused { entry: String, reason: String },
    /// The system refused a step for an entry.
    Entry { operation: &'static str, entry: String, source: io::Error },
}

impl LayerError {
    pub(super) fn refused(entry: &[u8], reason: impl Into<String>) -> Self {
        Self::Refused { entry: show(entry), reason: reason.into() }
    }
}

/// An entry's name as one line of bounded length, whatever bytes it holds.
fn show(name: &[u8]) -> String {
    const SHOWN: usize = 200;
    let cut = &name[..name.len().min(SHOWN)];
    format!("`{}{}`", cut.escape_ascii(), if cut.len() < name.len() { "…" } else { "" })
}

/// Names an entry and the step that failed on it.
pub(super) fn at<'a, E: Into<io::Error>>(
    operation: &'static str,
    entry: &'a [u8],
) -> impl FnOnce(E) -> LayerError + use<'a, E> {
    move |source| LayerError::Entry { operation, entry: show(entry), source: source.into() }
}

impl fmt::Display for LayerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream(source) => write!(f, "{source}"),
            Self::Refused { entry, reason } => write!(f, "entry {entry}: {reason}"),
            Self::Entry { operation, entry, source } => write!(f, "{operation} {entry}: {source}"),
        }
    }
}

impl std::error::Error for LayerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Stream(source) | Self::Entry { source, .. } => Some(source),
            Self::Refused { .. } => None,
        }
    }
}

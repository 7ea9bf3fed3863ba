//! One entry of an archive, as every dialect says it.

/// A hole-free stretch of a sparse file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) offset: u64,
    pub(super) length: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
    Symlink,
    HardLink,
    Fifo,
    Device,
}

/// Seconds and nanoseconds since the epoch; seconds may be negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Time {
    pub(super) seconds: i64,
    pub(super) nanoseconds: u32,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    /// As written: not yet checked, any bytes but NUL.
    pub(super) name: Vec<u8>,
    /// Target of a link.
    pub(super) target: Vec<u8>,
    /// Permission bits with setuid, setgid and sticky.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Time,
    /// Size of the file as the container sees it.
    pub(super) size_bytes: u64,
    /// Where the archive's data belongs when the file has holes.
    pub(super) sparse: Option<Vec<Segment>>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

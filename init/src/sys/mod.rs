//! The kernel's calls that no safe wrapper covers: one call per block, each with the reason it holds.

pub(crate) mod blockdev;
pub(crate) mod entry;
pub(crate) mod module;
pub(crate) mod random;

//! The kernel's calls that no safe wrapper covers: one call per block, each with the reason it holds.

pub(crate) mod alloc;
pub(crate) mod block;
pub(crate) mod blockdev;
pub(crate) mod crash;
pub(crate) mod entry;
pub(crate) mod fds;
pub(crate) mod fork;
pub(crate) mod loopback;
pub(crate) mod module;
pub(crate) mod random;
pub(crate) mod shared;
pub(crate) mod signals;
pub(crate) mod spawn;
pub(crate) mod wait;
pub(crate) mod watchdog;

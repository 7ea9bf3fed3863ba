//! Mounts are put together in a mount namespace of their own, which ends with its thread: nothing but the result is ever seen outside,
//! and who is killed over it leaves nothing.

use std::{io, path::Path, thread};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

use super::{BundleError, at};

/// Does the work there. What is to be seen outside is a copy of a mount, attached nowhere; `place` is for errors.
pub(super) fn apart<T: Send>(
    place: &Path,
    work: impl FnOnce() -> Result<T, BundleError> + Send,
) -> Result<T, BundleError> {
    let work = move || {
        // With it come a root and a current folder of this thread's own.
        unshare(CloneFlags::CLONE_NEWNS).map_err(|e| at("make a mount namespace for", place)(e.into()))?;
        let (none, private) = (None::<&Path>, MsFlags::MS_REC | MsFlags::MS_PRIVATE);
        mount(none, "/", none, private, none).map_err(|e| at("seal", "/".as_ref())(e.into()))?;
        work()
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("mounts apart".to_owned()).spawn_scoped(scope, work);
        let gone = || io::Error::other("its thread ended");
        thread.map_err(at("start a thread for", place))?.join().unwrap_or_else(|_| Err(at("mount", place)(gone())))
    })
}

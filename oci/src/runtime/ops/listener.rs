//! The seccomp listener: the descriptor on which an agent answers for the container's system calls goes to the agent's socket, with
//! the "container process state" (spec, section "The Container Process State").

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::runtime::error::{Error, Result, Step};
use crate::runtime::json::Writer;
use crate::runtime::state::{State, Status};
use crate::runtime::store::write_all;
use crate::runtime::sys::socket;

/// What a process says before its channel closes by the exec: nothing, or a failure. A listener on the way is handed over.
pub(super) fn last_words(channel: BorrowedFd<'_>, state: &State, status: Status, pid: i32) -> Result<Vec<u8>> {
    words(channel, state, status, pid, !state.listener_path.is_empty())
}

/// What it says next; nothing when it has ended.
pub(super) fn next_words(channel: BorrowedFd<'_>, state: &State, status: Status, pid: i32) -> Result<Vec<u8>> {
    words(channel, state, status, pid, false)
}

fn words(channel: BorrowedFd<'_>, state: &State, status: Status, pid: i32, mut missing: bool) -> Result<Vec<u8>> {
    loop {
        match socket::message_and_fd(channel) {
            Ok((_, Some(listener))) => {
                hand_over(state, status, pid, &listener)?;
                missing = false;
            }
            Ok((message, None)) if message.is_empty() && missing => {
                // Whatever its filter forbids: without that nobody would answer it.
                return Err(Error::ChildGone(
                    "the container's process ended before it gave its seccomp listener".to_owned(),
                ));
            }
            Ok((message, None)) => return Ok(message),
            // The process ended before it read our word: told once, and behind it comes what it said, if anything.
            Err(crate::runtime::sys::Errno(libc::ECONNRESET)) => {}
            Err(errno) => return Err(errno).step("listen to", "the container's process"),
        }
    }
}

/// One state a connection, which is closed behind it.
fn hand_over(state: &State, status: Status, pid: i32, listener: &OwnedFd) -> Result<()> {
    let mut w = Writer::new();
    w.open('{').name("ociVersion").string(&state.oci_version).strings("fds", &["seccompFd"]);
    w.name("pid").number(pid.into()).name("metadata").string(&state.listener_metadata).name("state");
    state.write(&mut w, status, "");
    w.close('}');
    let text = w.finish();
    let path = &state.listener_path;
    let agent = socket::connect_stream(path.as_bytes()).step("connect to linux.seccomp.listenerPath", path)?;
    let sent = socket::send_fd(agent.as_fd(), text.as_bytes(), listener.as_fd());
    let sent = sent.step("send the listener to linux.seccomp.listenerPath", path)?;
    let rest = text.as_bytes().get(sent..).unwrap_or_default();
    write_all(agent.as_fd(), rest).step("send the state to linux.seccomp.listenerPath", path)
}

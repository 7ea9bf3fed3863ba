//! The control socket of a machine on the host: `orlop -H unix:///…/control.sock`.
//!
//! QEMU gives each virtio-serial port a unix socket of its own that carries one connection at a time. The proxy
//! makes one socket of them that any number of clients may use: each connection gets a free port to itself.
//!
//! A port's life, as the guest's end tells it (`VSERPORT_CHANGE`):
//!
//! ```text
//!   Closed ──opened──▶ Free ──client──▶ Busy ──client leaves──▶ Settling ──opened──▶ Free
//!      ▲                                 ├──opened──▶ Cut ──client leaves──▶ Free
//!      └─────────────closed──────────────┴── (from any state)
//! ```
//!
//! `Settling` is why this is more than a relay: the guest may still be writing the previous client's answer. Only
//! when it has closed the port and opened it again does the next client get it. QEMU tells of at most one change a
//! second and port, the last one: so an opening that follows an opening is a closing and an opening.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::MsgFlags;

use crate::qmp::Event;

/// How long a client waits for a port: a boot under emulation lies in it.
const PORT_LIMIT: Duration = Duration::from_secs(180);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Port {
    Closed,
    Free,
    Busy,
    /// The guest ended the conversation and waits for the next.
    Cut,
    Settling,
}

struct Ports {
    state: Mutex<State>,
    changed: Condvar,
    folder: PathBuf,
}

#[derive(Default)]
struct State {
    ports: Vec<Port>,
    /// QEMU's ends of the busy ports, to end a connection whose guest end has closed.
    in_use: HashMap<usize, Conversation>,
    conversations: u64,
    ended: bool,
}

struct Conversation {
    /// Tells it from a later one on the same port.
    id: u64,
    guest: UnixStream,
}

/// The device id QEMU uses for a port in its events, and the name of its socket.
pub(crate) fn port_id(number: usize) -> String {
    format!("control{number}")
}

/// Serves `socket` until QEMU's events end.
pub(crate) fn start(socket: &Path, folder: &Path, count: usize, events: Receiver<Event>) -> io::Result<()> {
    let state = State { ports: vec![Port::Closed; count], ..State::default() };
    let ports = Arc::new(Ports { state: Mutex::new(state), changed: Condvar::new(), folder: folder.to_owned() });
    let listener = UnixListener::bind(socket)?;
    let (watcher, socket) = (Arc::clone(&ports), socket.to_owned());
    thread::spawn(move || {
        for event in events {
            watcher.note(&event);
        }
        watcher.end();
        // Wakes the accepting thread, which then sees the end.
        let _ = UnixStream::connect(socket);
    });
    thread::spawn(move || {
        for client in listener.incoming() {
            let ports = Arc::clone(&ports);
            if ports.lock().ended {
                return;
            }
            if let Ok(client) = client {
                thread::spawn(move || ports.serve(&client));
            }
        }
    });
    Ok(())
}

impl State {
    /// What the guest's opening or closing of its end makes of a port.
    fn note(&mut self, number: usize, open: bool) {
        let Some(port) = self.ports.get_mut(number) else { return };
        let was = *port;
        *port = match (was, open) {
            (_, false) => Port::Closed,
            (Port::Closed | Port::Free | Port::Settling, true) => Port::Free,
            (Port::Busy | Port::Cut, true) => Port::Cut,
        };
        // The server in the guest is gone or has ended the conversation: the client must learn it.
        if matches!(was, Port::Busy | Port::Cut)
            && let Some(conversation) = self.in_use.get(&number)
        {
            let _ = conversation.guest.shutdown(Shutdown::Both);
        }
    }

    fn take(&mut self, number: usize, guest: UnixStream) -> u64 {
        self.ports[number] = Port::Busy;
        self.conversations += 1;
        self.in_use.insert(number, Conversation { id: self.conversations, guest });
        self.conversations
    }

    /// The client has gone: unless the guest ended it first, its end has to be seen closing.
    fn release(&mut self, number: usize, id: u64) {
        if self.in_use.get(&number).is_none_or(|conversation| conversation.id != id) {
            return;
        }
        self.in_use.remove(&number);
        self.ports[number] = match self.ports[number] {
            Port::Busy => Port::Settling,
            Port::Cut => Port::Free,
            other => other,
        };
    }
}

impl Ports {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, event: &Event) {
        if event.name != "VSERPORT_CHANGE" {
            return;
        }
        let number = event.data["id"].as_str().and_then(|id| id.strip_prefix("control")?.parse().ok());
        if let (Some(number), Some(open)) = (number, event.data["open"].as_bool()) {
            self.lock().note(number, open);
            self.changed.notify_all();
        }
    }

    fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_all();
    }

    fn serve(&self, client: &UnixStream) {
        // A client that leaves without a word never gets a port: the guest would see no end of such a conversation.
        if !speaks(client) {
            return;
        }
        let state = self.lock();
        let busy = |state: &mut State| !state.ended && !state.ports.contains(&Port::Free);
        let waited = self.changed.wait_timeout_while(state, PORT_LIMIT, busy);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        let Some(number) = state.ports.iter().position(|port| *port == Port::Free).filter(|_| !state.ended) else {
            return;
        };
        if has_left(client) {
            return;
        }
        let Ok(guest) = UnixStream::connect(self.folder.join(port_id(number))) else { return };
        let Ok(handle) = guest.try_clone() else { return };
        let id = state.take(number, handle);
        drop(state);

        thread::scope(|scope| {
            scope.spawn(|| {
                relay(&guest, client);
                let _ = client.shutdown(Shutdown::Both);
            });
            relay(client, &guest);
            let _ = guest.shutdown(Shutdown::Both);
        });
        drop(guest);
        self.lock().release(number, id);
        self.changed.notify_all();
    }
}

/// Waits for the first byte, and leaves it there.
fn speaks(client: &UnixStream) -> bool {
    let mut waiting = [PollFd::new(client.as_fd(), PollFlags::POLLIN)];
    let mut first = [0];
    poll(&mut waiting, PollTimeout::NONE).is_ok()
        && nix::sys::socket::recv(client.as_raw_fd(), &mut first, MsgFlags::MSG_PEEK).is_ok_and(|count| count > 0)
}

/// A client may have lost its patience meanwhile: a port that it took would be lost to others for a second.
fn has_left(client: &UnixStream) -> bool {
    let mut left = [PollFd::new(client.as_fd(), PollFlags::empty())];
    poll(&mut left, PollTimeout::ZERO).is_ok() && left[0].revents().is_some_and(|r| r.contains(PollFlags::POLLHUP))
}

/// Copies until either end closes.
fn relay(mut from: &UnixStream, mut to: &UnixStream) {
    let mut buffer = [0; 16 << 10];
    while let Ok(count) = from.read(&mut buffer)
        && count > 0
        && to.write_all(&buffer[..count]).is_ok()
    {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy() -> (UnixStream, State, u64) {
        let (client, ours) = UnixStream::pair().unwrap();
        let mut state = State { ports: vec![Port::Closed], ..State::default() };
        state.note(0, true);
        assert_eq!(state.ports[0], Port::Free);
        let id = state.take(0, ours);
        (client, state, id)
    }

    #[test]
    fn a_port_is_free_again_only_after_the_guest_closed_and_opened_it() {
        let (_client, mut state, id) = busy();
        state.release(0, id);
        assert_eq!(state.ports[0], Port::Settling);
        state.note(0, false);
        assert_eq!(state.ports[0], Port::Closed);
        state.note(0, true);
        assert_eq!(state.ports[0], Port::Free);
    }

    #[test]
    fn a_client_that_left_is_told_from_one_that_waits() {
        let (client, ours) = UnixStream::pair().unwrap();
        assert!(!has_left(&ours));
        drop(client);
        assert!(has_left(&ours));
    }

    #[test]
    fn two_changes_within_a_second_are_told_as_one() {
        let (_client, mut state, id) = busy();
        state.release(0, id);
        state.note(0, true);
        assert_eq!(state.ports[0], Port::Free);
    }

    #[test]
    fn a_guest_that_closes_ends_the_conversation() {
        let (mut client, mut state, id) = busy();
        state.note(0, false);
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        state.release(0, id);
        assert_eq!(state.ports[0], Port::Closed);

        let (mut client, mut state, id) = busy();
        state.note(0, true);
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        state.release(0, id);
        assert_eq!(state.ports[0], Port::Free);
    }

    #[test]
    fn a_late_release_does_not_end_the_next_conversation() {
        let (_client, mut state, first) = busy();
        state.note(0, false);
        state.note(0, true);
        let (_next, ours) = UnixStream::pair().unwrap();
        let second = state.take(0, ours);
        state.release(0, first);
        assert_eq!(state.ports[0], Port::Busy);
        state.release(0, second);
        assert_eq!(state.ports[0], Port::Settling);
    }
}

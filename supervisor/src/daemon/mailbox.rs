//! How worker threads reach the loop: a channel, and an eventfd in the loop's epoll that says something is in it.

use std::{
    os::fd::{AsFd, BorrowedFd},
    sync::{Arc, mpsc},
    thread,
};

use nix::sys::eventfd::{EfdFlags, EventFd};

/// Room for what the workers call: tar, decompressors and JSON keep their large buffers on the heap.
const STACK_BYTES: usize = 256 << 10;

/// The workers' end.
#[derive(Debug)]
pub(crate) struct Sender<T> {
    channel: mpsc::Sender<T>,
    bell: Arc<EventFd>,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { channel: self.channel.clone(), bell: Arc::clone(&self.bell) }
    }
}

impl<T> Sender<T> {
    pub(crate) fn send(&self, message: T) {
        // Without a receiver the daemon is ending; nobody misses the message.
        if self.channel.send(message).is_ok() {
            let _ = self.bell.write(1);
        }
    }
}

#[derive(Debug)]
pub(crate) struct Mailbox<T> {
    sender: Sender<T>,
    channel: mpsc::Receiver<T>,
}

impl<T> Mailbox<T> {
    pub(crate) fn new() -> nix::Result<Self> {
        let bell = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
        let (channel, receiver) = mpsc::channel();
        Ok(Self { sender: Sender { channel, bell }, channel: receiver })
    }

    pub(crate) fn sender(&self) -> Sender<T> {
        self.sender.clone()
    }

    pub(crate) fn bell(&self) -> BorrowedFd<'_> {
        self.sender.bell.as_fd()
    }

    pub(crate) fn drain(&self) -> Vec<T> {
        let _ = self.sender.bell.read();
        self.channel.try_iter().collect()
    }
}

/// A thread for slow work, named for people who read of its panic; `false` when the machine has no room for one.
pub(crate) fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> bool {
    let thread = thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(work);
    if let Err(error) = &thread {
        log::error!("no thread for {name}: {error}");
    }
    thread.is_ok()
}

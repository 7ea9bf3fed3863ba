//! Netlink: messages and their attributes, requests with their answers, news, and the batches of nfnetlink.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvfrom, sendto, setsockopt, socket,
    sockopt,
};

const HEADER_BYTES: usize = 16;
/// The kernel's dumps come in pieces of at most 32 KiB.
const BUFFER_BYTES: usize = 32 << 10;
/// linux/netlink.h
const NLA_F_NESTED: u16 = 1 << 15;

/// One message, with its header; numbers are in the machine's order.
#[derive(Debug, Clone)]
pub(super) struct Message(Vec<u8>);

impl Message {
    /// A request; `flags` besides NLM_F_REQUEST.
    pub(super) fn new(kind: u16, flags: i32, head: &[u8]) -> Self {
        let flags = u16::try_from(flags | libc::NLM_F_REQUEST).unwrap_or_default();
        let mut bytes = vec![0; HEADER_BYTES];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(head);
        Self(bytes)
    }

    /// Appends an attribute.
    pub(super) fn attr(mut self, kind: u16, value: &[u8]) -> Self {
        push(&mut self.0, kind, value);
        self
    }

    /// Appends an attribute that holds others.
    pub(super) fn nest(mut self, kind: u16, inner: &Nest) -> Self {
        push(&mut self.0, kind | NLA_F_NESTED, &inner.0);
        self
    }

    pub(super) fn kind(&self) -> u16 {
        u16::from_ne_bytes([self.0[4], self.0[5]])
    }

    /// The fixed structure behind the header, and the attributes behind that.
    pub(super) fn parts<const N: usize>(&self) -> Option<(&[u8; N], Attributes<'_>)> {
        let (head, rest) = self.0.get(HEADER_BYTES..)?.split_first_chunk::<N>()?;
        Some((head, Attributes(rest)))
    }

    /// With its length and number in place, as it is sent.
    fn sealed(mut self, flags: i32, sequence: u32) -> io::Result<Vec<u8>> {
        let length = u32::try_from(self.0.len()).map_err(io::Error::other)?;
        let flags = u16::from_ne_bytes([self.0[6], self.0[7]]) | u16::try_from(flags).unwrap_or_default();
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0[6..8].copy_from_slice(&flags.to_ne_bytes());
        self.0[8..12].copy_from_slice(&sequence.to_ne_bytes());
        Ok(self.0)
    }

    /// What stands behind the header.
    #[cfg(test)]
    pub(super) fn body(&self) -> &[u8] {
        &self.0[HEADER_BYTES..]
    }

    fn sequence(&self) -> u32 {
        u32::from_ne_bytes([self.0[8], self.0[9], self.0[10], self.0[11]])
    }

    /// The messages in what was read at once.
    fn split(mut bytes: &[u8]) -> Vec<Self> {
        let mut messages = Vec::new();
        while let Some(length) = bytes.first_chunk::<4>() {
            let length = usize::try_from(u32::from_ne_bytes(*length)).unwrap_or(0);
            let Some(message) = bytes.get(..length).filter(|message| message.len() >= HEADER_BYTES) else { break };
            messages.push(Self(message.to_vec()));
            bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        messages
    }
}

/// Attributes on their way into another.
#[derive(Debug, Clone, Default)]
pub(super) struct Nest(Vec<u8>);

impl Nest {
    /// Begins with a fixed structure, as some do.
    pub(super) fn behind(head: &[u8]) -> Self {
        Self(head.to_vec())
    }

    pub(super) fn attr(mut self, kind: u16, value: &[u8]) -> Self {
        push(&mut self.0, kind, value);
        self
    }

    pub(super) fn nest(mut self, kind: u16, inner: &Self) -> Self {
        push(&mut self.0, kind | NLA_F_NESTED, &inner.0);
        self
    }
}

fn push(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    // None of ours comes near the limit.
    let length = u16::try_from(4 + value.len()).unwrap_or_default();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// Attributes, as kind and value.
#[derive(Clone, Copy)]
pub(super) struct Attributes<'a>(pub(super) &'a [u8]);

impl<'a> Attributes<'a> {
    pub(super) fn get(mut self, kind: u16) -> Option<&'a [u8]> {
        self.find(|(found, _)| *found == kind).map(|(_, value)| value)
    }

    pub(super) fn u32(self, kind: u16) -> Option<u32> {
        Some(u32::from_ne_bytes(*self.get(kind)?.first_chunk()?))
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (head, _) = self.0.split_first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        // The two upper bits are flags (nested, network order).
        let kind = u16::from_ne_bytes([head[2], head[3]]) & 0x3fff;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

/// A socket for requests, or for news.
pub(super) struct Netlink {
    fd: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// For requests: each waits for its answer, which the kernel gives at once.
    pub(super) fn requests() -> io::Result<Self> {
        Self::open(SockProtocol::NetlinkRoute, 0, SockFlag::empty())
    }

    /// For batches to nfnetlink.
    pub(super) fn netfilter() -> io::Result<Self> {
        Self::open(SockProtocol::NetlinkNetFilter, 0, SockFlag::empty())
    }

    /// For news of the groups (`RTMGRP_…`); reading never waits.
    pub(super) fn news(groups: u32) -> io::Result<Self> {
        Self::open(SockProtocol::NetlinkRoute, groups, SockFlag::SOCK_NONBLOCK)
    }

    fn open(protocol: SockProtocol, groups: u32, flags: SockFlag) -> io::Result<Self> {
        let flags = flags | SockFlag::SOCK_CLOEXEC;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
        Ok(Self { fd, sequence: 0 })
    }

    /// Does something, and waits for the kernel to say so.
    pub(super) fn change(&mut self, message: Message) -> io::Result<()> {
        self.exchange(message, libc::NLM_F_ACK).map(drop)
    }

    /// Lists things.
    pub(super) fn dump(&mut self, message: Message) -> io::Result<Vec<Message>> {
        self.exchange(message, libc::NLM_F_DUMP)
    }

    /// Asks for one thing.
    pub(super) fn get(&mut self, message: Message) -> io::Result<Option<Message>> {
        Ok(self.exchange(message, libc::NLM_F_ACK)?.pop())
    }

    /// Sends all messages at once: all of them come true or none. The kernel answers when it has looked at all; which one it
    /// refused is in the error.
    pub(super) fn batch(&mut self, messages: Vec<Message>) -> Result<(), Refused> {
        let first = self.sequence.wrapping_add(1);
        // The last one but the batch's own end: kernels before 6.10 acknowledge no end.
        let acknowledged =
            first.wrapping_add(u32::try_from(messages.len().saturating_sub(2)).map_err(io::Error::other)?);
        let mut bytes = Vec::new();
        for message in messages {
            self.sequence = self.sequence.wrapping_add(1);
            let flags = if self.sequence == acknowledged { libc::NLM_F_ACK } else { 0 };
            bytes.extend(message.sealed(flags, self.sequence)?);
        }
        // A message is no longer than the buffer it waits in; more than the machine's limit is root's right.
        setsockopt(&self.fd, sockopt::SndBufForce, &(2 * bytes.len() + BUFFER_BYTES)).map_err(io::Error::from)?;
        sendto(self.fd.as_raw_fd(), &bytes, &NetlinkAddr::new(0, 0), MsgFlags::empty()).map_err(io::Error::from)?;
        loop {
            for answer in self.receive()? {
                let number = answer.sequence().wrapping_sub(first);
                if i32::from(answer.kind()) != libc::NLMSG_ERROR || number > acknowledged.wrapping_sub(first) {
                    continue;
                }
                let code = answer.parts::<4>().map_or(-libc::EBADMSG, |(code, _)| i32::from_ne_bytes(*code));
                if code != 0 {
                    return Err(Refused { number: Some(number), source: io::Error::from_raw_os_error(-code) });
                }
                if answer.sequence() == acknowledged {
                    return Ok(());
                }
            }
        }
    }

    fn exchange(&mut self, message: Message, flags: i32) -> io::Result<Vec<Message>> {
        self.sequence = self.sequence.wrapping_add(1);
        let message = message.sealed(flags, self.sequence)?;
        sendto(self.fd.as_raw_fd(), &message, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
        let mut answers = Vec::new();
        loop {
            for answer in self.receive()? {
                if answer.sequence() != self.sequence {
                    continue;
                }
                match i32::from(answer.kind()) {
                    libc::NLMSG_DONE => return Ok(answers),
                    libc::NLMSG_ERROR => {
                        let code = answer.parts::<4>().map_or(-libc::EBADMSG, |(code, _)| i32::from_ne_bytes(*code));
                        return if code == 0 { Ok(answers) } else { Err(io::Error::from_raw_os_error(-code)) };
                    }
                    _ => answers.push(answer),
                }
            }
        }
    }

    /// What has come; nothing when nothing has. `ENOBUFS` means that something was lost: look at everything again.
    pub(super) fn receive(&self) -> io::Result<Vec<Message>> {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            return match recvfrom::<NetlinkAddr>(self.fd.as_raw_fd(), &mut buffer) {
                // Only the kernel's word counts.
                Ok((_, Some(from))) if from.pid() != 0 => continue,
                Ok((n, _)) => Ok(Message::split(&buffer[..n])),
                Err(Errno::EAGAIN) => Ok(Vec::new()),
                Err(Errno::EINTR) => continue,
                Err(error) => Err(error.into()),
            };
        }
    }
}

/// Why a batch was not taken.
#[derive(Debug)]
pub(super) struct Refused {
    /// The message at fault, counted from 0.
    pub(super) number: Option<u32>,
    pub(super) source: io::Error,
}

impl From<io::Error> for Refused {
    fn from(source: io::Error) -> Self {
        Self { number: None, source }
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_aligned_and_cut_ones_end_the_list() {
        let message = Message::new(16, 0, &[9; 4]).attr(1, b"abc").attr(2 | 0x8000, &7_u32.to_ne_bytes());
        let (head, attributes) = message.parts::<4>().unwrap();
        assert_eq!(head, &[9; 4]);
        assert_eq!((attributes.get(1), attributes.u32(2), attributes.get(3)), (Some(&b"abc"[..]), Some(7), None));
        for bytes in [&[][..], &[1], &[0; 3], &[3, 0, 0, 0], &[200, 0, 1, 0, 5]] {
            assert_eq!(Attributes(bytes).count(), 0);
        }
        assert!(Message::split(&[0; 16]).is_empty());
        assert!(Message::split(&[255; 16]).is_empty());
    }

    #[test]
    fn the_kernel_answers() {
        let mut netlink = Netlink::requests().unwrap();
        let links = netlink.dump(Message::new(libc::RTM_GETLINK, 0, &[0; 16])).unwrap();
        assert!(!links.is_empty());
        netlink.change(Message::new(libc::RTM_DELLINK, 0, &[0; 16])).unwrap_err();
    }
}

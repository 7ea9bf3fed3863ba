//! `linux.netDevices`: devices of the runtime's network namespace move into the container's, with their addresses, and are brought up
//! there. By netlink: a move with a new name is one message, and what has to stay is asked for before.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::runtime::config::NetDevice;
use crate::runtime::error::{Result, Step, c_string};
use crate::runtime::procfs::Procfs;
use crate::runtime::sys::{self, Errno, fs, net, process, socket};

// Of <linux/netlink.h> and <linux/rtnetlink.h>.
const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const DUMP: u16 = 0x300;
const CREATE_NEW: u16 = 0x600;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const NEW_LINK: u16 = 16;
const NEW_ADDRESS: u16 = 20;
const GET_ADDRESS: u16 = 22;
const LINK_NAME: u16 = 3;
const LINK_NAMESPACE: u16 = 28;
const ADDRESS_PERMANENT: u8 = 0x80;

/// What stands behind the header of an address: the fixed part (family, prefix length, flags, scope), then its attributes.
struct Address {
    fixed: [u8; 4],
    attributes: Vec<u8>,
}

pub(super) fn move_all(devices: &[NetDevice], target: BorrowedFd<'_>, proc: &Procfs) -> Result<()> {
    for device in devices {
        let field = || format!("linux.netDevices.{}", device.from);
        check_free(target, proc, &device.to).step("move", field())?;
        let here = net::route_socket().step("open", "a netlink socket")?;
        let index = net::index_of(&c_string(device.from.as_str())).step("find", field())?;
        let addresses = addresses(here.as_fd(), index).step("ask for the addresses of", field())?;
        let mut request = Message::new(NEW_LINK, ACKNOWLEDGE, &link(index, 0));
        request.attribute(LINK_NAMESPACE, &std::os::fd::AsRawFd::as_raw_fd(&target).to_ne_bytes());
        request.attribute(LINK_NAME, c_string(device.to.as_str()).as_bytes_with_nul());
        exchange(here.as_fd(), request, &mut |_, _| {}).step("move", field())?;
        let (there, index) = inside(target, proc, device, index).step("find in the container", field())?;
        for Address { fixed, attributes } in addresses {
            let mut body = fixed.to_vec();
            body.extend(index.to_ne_bytes());
            body.extend(attributes);
            let request = Message::new(NEW_ADDRESS, ACKNOWLEDGE | CREATE_NEW, &body);
            exchange(there.as_fd(), request, &mut |_, _| {}).step("give its address to", field())?;
        }
        let up = libc::IFF_UP.unsigned_abs();
        let request = Message::new(NEW_LINK, ACKNOWLEDGE, &link(index, up));
        exchange(there.as_fd(), request, &mut |_, _| {}).step("bring up", field())?;
    }
    Ok(())
}

/// Asked before the move: the kernel would find a taken name only behind it, and the device would go with the container.
fn check_free(target: BorrowedFd<'_>, proc: &Procfs, name: &str) -> sys::Result<()> {
    // The kernel makes a free name of a template.
    if name.contains('%') {
        return Ok(());
    }
    match within(target, proc, || net::index_of(&c_string(name)))? {
        Err(Errno(libc::ENODEV)) => Ok(()),
        Ok(_) => Err(Errno(libc::EEXIST)),
        Err(errno) => Err(errno),
    }
}

/// A socket that speaks to the container's network namespace, and the device's number there. A socket stays where it was made.
fn inside(target: BorrowedFd<'_>, proc: &Procfs, device: &NetDevice, index: u32) -> sys::Result<(OwnedFd, u32)> {
    let (there, index) = within(target, proc, || {
        // The kernel fills in a name such as eth%d; the number mostly stays as it was.
        let index = if device.to.contains('%') { Ok(index) } else { net::index_of(&c_string(device.to.as_str())) };
        (net::route_socket(), index)
    })?;
    Ok((there?, index?))
}

/// In another network namespace for a moment.
fn within<T>(target: BorrowedFd<'_>, proc: &Procfs, look: impl FnOnce() -> T) -> sys::Result<T> {
    let own = fs::open_at(proc.fd(), c"self/ns/net", libc::O_RDONLY, 0)?;
    process::join_namespace(target, libc::CLONE_NEWNET)?;
    let seen = look();
    process::join_namespace(own.as_fd(), libc::CLONE_NEWNET)?;
    Ok(seen)
}

/// `struct ifinfomsg`: only the flags that are named change.
fn link(index: u32, flags: u32) -> [u8; 16] {
    let mut body = [0; 16];
    for (at, word) in [(4, index), (8, flags), (12, flags)] {
        for (to, from) in body.iter_mut().skip(at).zip(word.to_ne_bytes()) {
            *to = from;
        }
    }
    body
}

/// The permanent addresses of global scope: the others come by themselves.
fn addresses(socket: BorrowedFd<'_>, index: u32) -> sys::Result<Vec<Address>> {
    let mut all = Vec::new();
    exchange(socket, Message::new(GET_ADDRESS, DUMP, &[0; 8]), &mut |kind, body| {
        let Some((fixed, rest)) = body.split_first_chunk::<4>() else { return };
        let Some((of, attributes)) = rest.split_first_chunk::<4>() else { return };
        let [_, _, flags, scope] = *fixed;
        if kind == NEW_ADDRESS && u32::from_ne_bytes(*of) == index && scope == 0 && flags & ADDRESS_PERMANENT != 0 {
            all.push(Address { fixed: *fixed, attributes: kept(attributes) });
        }
    })?;
    Ok(all)
}

/// IFA_ADDRESS, IFA_LOCAL and IFA_BROADCAST; the rest is about the old place.
fn kept(mut attributes: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(([l0, l1, k0, k1], _)) = attributes.split_first_chunk::<4>() {
        let length = usize::from(u16::from_ne_bytes([*l0, *l1]));
        let padded = length.next_multiple_of(4).min(attributes.len());
        if length < 4 {
            break;
        }
        if matches!(u16::from_ne_bytes([*k0, *k1]), 1 | 2 | 4) {
            all.extend(attributes.get(..padded).unwrap_or_default());
        }
        attributes = attributes.get(padded..).unwrap_or_default();
    }
    all
}

/// A netlink message: length, kind, flags, number, sender, then its body.
struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: u16, body: &[u8]) -> Message {
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((flags | REQUEST).to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(body);
        Message(bytes)
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
}

/// Sends a request and gives kind and body of each answer to `each`, until the kernel says that it is done.
fn exchange(socket: BorrowedFd<'_>, mut request: Message, each: &mut dyn FnMut(u16, &[u8])) -> sys::Result<()> {
    let length = u32::try_from(request.0.len()).unwrap_or(u32::MAX);
    for (to, from) in request.0.iter_mut().zip(length.to_ne_bytes()) {
        *to = from;
    }
    socket::send(socket, &[&request.0])?;
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let count = socket::receive(socket, &mut buffer)?;
        let mut rest = buffer.get(..count).unwrap_or_default();
        while let Some((head, _)) = rest.split_first_chunk::<16>() {
            let length = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]) as usize;
            let kind = u16::from_ne_bytes([head[4], head[5]]);
            let body = rest.get(16..length).ok_or(Errno(libc::EBADMSG))?;
            match kind {
                DONE => return Ok(()),
                ERROR => {
                    let (code, _) = body.split_first_chunk::<4>().ok_or(Errno(libc::EBADMSG))?;
                    let code = i32::from_ne_bytes(*code);
                    return if code == 0 { Ok(()) } else { Err(Errno(-code)) };
                }
                _ => each(kind, body),
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

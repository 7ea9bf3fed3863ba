//! `linux.netDevices`: devices of the runtime's network namespace move into the container's, with their addresses, and are brought up
//! there. By netlink: a move with a new name is one message, and what has to stay is asked for before.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

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
const GET_LINK: u16 = 18;
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

/// A device as it was before the move.
struct Device {
    name: String,
    to: String,
    index: u32,
    up: bool,
    addresses: Vec<Address>,
}

impl Device {
    fn field(&self) -> String {
        format!("linux.netDevices.{}", self.name)
    }
}

/// The devices that have moved, each with its number in the container's namespace: should `create` fail later, they go back. With that
/// namespace they would be lost (runtime.md, section "Errors").
pub(super) struct Taken {
    home: OwnedFd,
    target: OwnedFd,
    moved: Vec<(Device, u32)>,
}

impl Taken {
    pub(super) fn new(target: OwnedFd, proc: &Procfs) -> Result<Taken> {
        let home = fs::open_at(proc.fd(), c"self/ns/net", libc::O_RDONLY, 0);
        Ok(Taken { home: home.step("open", "the runtime's network namespace")?, target, moved: Vec::new() })
    }

    /// Everything that can be looked at is, before the first one moves.
    pub(super) fn take(&mut self, devices: &[NetDevice]) -> Result<()> {
        let here = net::route_socket().step("open", "a netlink socket")?;
        self.check_free(devices)?;
        let all = devices.iter().map(|device| look_at(here.as_fd(), device)).collect::<Result<Vec<_>>>()?;
        let there = self.socket_there()?;
        for device in all {
            relink(here.as_fd(), device.index, self.target.as_fd(), &device.to).step("move", device.field())?;
            let number = self.number_there(&device).step("find in the container", device.field());
            let index = *number.as_ref().unwrap_or(&device.index);
            let settled = number.and_then(|_| settle(there.as_fd(), index, &device, true));
            self.moved.push((device, index));
            settled?;
        }
        Ok(())
    }

    /// To where they were, as they were. Goes on where one of them cannot; gives the first failure.
    pub(super) fn give_back(&self) -> Result<()> {
        let here = net::route_socket().step("open", "a netlink socket")?;
        let there = self.socket_there()?;
        let one = |device: &Device, index: u32| {
            relink(there.as_fd(), index, self.home.as_fd(), &device.name).step("move back", device.field())?;
            let index = net::index_of(&c_string(device.name.as_str())).step("find", device.field())?;
            settle(here.as_fd(), index, device, device.up)
        };
        let mut all = Ok(());
        for (device, index) in self.moved.iter().rev() {
            all = all.and(one(device, *index));
        }
        all
    }

    /// The kernel would find a taken name only behind the move.
    fn check_free(&self, devices: &[NetDevice]) -> Result<()> {
        // Of a template the kernel makes a free name.
        let named = |device: &&NetDevice| !device.to.contains('%');
        let mut seen: Vec<&str> = Vec::new();
        for device in devices.iter().filter(named) {
            let there = self.within(|| net::index_of(&c_string(device.to.as_str())));
            let free = match there.step("look into", "the container's network namespace")? {
                Err(Errno(libc::ENODEV)) if !seen.contains(&device.to.as_str()) => Ok(()),
                Err(Errno(libc::ENODEV)) | Ok(_) => Err(Errno(libc::EEXIST)),
                Err(errno) => Err(errno),
            };
            free.step("move", format!("linux.netDevices.{}", device.from))?;
            seen.push(&device.to);
        }
        Ok(())
    }

    fn number_there(&self, device: &Device) -> sys::Result<u32> {
        // The kernel has filled in a name such as eth%d; the number mostly stays as it was.
        if device.to.contains('%') {
            return Ok(device.index);
        }
        self.within(|| net::index_of(&c_string(device.to.as_str())))?
    }

    /// A socket stays where it was made.
    fn socket_there(&self) -> Result<OwnedFd> {
        let socket = self.within(net::route_socket).and_then(|socket| socket);
        socket.step("open", "a netlink socket in the container's network namespace")
    }

    /// In the container's network namespace for a moment.
    fn within<T>(&self, look: impl FnOnce() -> T) -> sys::Result<T> {
        process::join_namespace(self.target.as_fd(), libc::CLONE_NEWNET)?;
        let seen = look();
        process::join_namespace(self.home.as_fd(), libc::CLONE_NEWNET)?;
        Ok(seen)
    }
}

fn look_at(here: BorrowedFd<'_>, device: &NetDevice) -> Result<Device> {
    let field = format!("linux.netDevices.{}", device.from);
    let index = net::index_of(&c_string(device.from.as_str())).step("find", &field)?;
    let addresses = addresses(here, index).step("ask for the addresses of", &field)?;
    let up = is_up(here, index).step("ask for the state of", field)?;
    Ok(Device { name: device.from.clone(), to: device.to.clone(), index, up, addresses })
}

fn is_up(here: BorrowedFd<'_>, index: u32) -> sys::Result<bool> {
    let mut up = false;
    exchange(here, Message::new(GET_LINK, ACKNOWLEDGE, &link(index, 0)), &mut |kind, body| {
        if let (NEW_LINK, Some(flags)) = (kind, body.get(8..).and_then(|rest| rest.first_chunk())) {
            up = u32::from_ne_bytes(*flags) & libc::IFF_UP.unsigned_abs() != 0;
        }
    })?;
    Ok(up)
}

/// Into another namespace, with another name.
fn relink(socket: BorrowedFd<'_>, index: u32, to: BorrowedFd<'_>, name: &str) -> sys::Result<()> {
    let mut request = Message::new(NEW_LINK, ACKNOWLEDGE, &link(index, 0));
    request.attribute(LINK_NAMESPACE, &to.as_raw_fd().to_ne_bytes());
    request.attribute(LINK_NAME, c_string(name).as_bytes_with_nul());
    exchange(socket, request, &mut |_, _| {})
}

/// What a move has taken from it.
fn settle(socket: BorrowedFd<'_>, index: u32, device: &Device, up: bool) -> Result<()> {
    for Address { fixed, attributes } in &device.addresses {
        let mut body = fixed.to_vec();
        body.extend(index.to_ne_bytes());
        body.extend(attributes);
        let request = Message::new(NEW_ADDRESS, ACKNOWLEDGE | CREATE_NEW, &body);
        exchange(socket, request, &mut |_, _| {}).step("give its address to", device.field())?;
    }
    if up {
        let request = Message::new(NEW_LINK, ACKNOWLEDGE, &link(index, libc::IFF_UP.unsigned_abs()));
        exchange(socket, request, &mut |_, _| {}).step("bring up", device.field())?;
    }
    Ok(())
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

//! A DHCP server for one client, which can be told to misbehave.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use dhcproto::v4::{DhcpOption, Message, MessageType, Opcode, OptionCode};
use dhcproto::{Decodable, Decoder, Encodable};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, bind, sendto, setsockopt,
    socket, sockopt,
};

use super::super::card::Control;
use super::wire::{self, MAC, Wire};
use super::{CLIENT, DEADLINE, SERVER};

/// What the server does.
#[derive(Clone)]
pub(super) struct Policy {
    pub(super) address: Ipv4Addr,
    pub(super) options: Vec<DhcpOption>,
    /// Requests for this address are refused.
    pub(super) refuse: Option<Ipv4Addr>,
    pub(super) silent: bool,
    /// As if its address had changed: what is sent to everybody is heard.
    pub(super) deaf_to_unicast: bool,
    /// It is an IPv6 router, too.
    pub(super) advertise: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            address: CLIENT,
            options: vec![
                DhcpOption::AddressLeaseTime(3600),
                DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 255, 0)),
                DhcpOption::Router(vec![SERVER]),
                DhcpOption::DomainNameServer(vec![SERVER]),
                DhcpOption::DomainName("example.net".into()),
            ],
            refuse: None,
            silent: false,
            deaf_to_unicast: false,
            advertise: false,
        }
    }
}

/// A message that came, and from where.
pub(super) struct Heard {
    pub(super) message: Message,
    pub(super) from: SocketAddrV4,
    pub(super) is_unicast: bool,
}

impl Heard {
    pub(super) fn is(&self, kind: MessageType) -> bool {
        self.message.opts().has_msg_type(kind)
    }

    pub(super) fn option(&self, code: OptionCode) -> Option<&DhcpOption> {
        self.message.opts().get(code)
    }
}

enum Order {
    Link(bool, Sender<()>),
    End,
}

pub(super) struct Server {
    policy: Arc<Mutex<Policy>>,
    heard: Receiver<Heard>,
    orders: Sender<Order>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Makes a wire to the client's namespace, and serves the other end.
    pub(super) fn start(wire: &Wire, policy: Policy) -> Self {
        let policy = Arc::new(Mutex::new(policy));
        let (heard_sender, heard) = channel();
        let (orders, order_receiver) = channel();
        let (ready_sender, ready) = channel();
        let shared = Arc::clone(&policy);
        let namespace = wire.namespace();
        let run = move || {
            let mut serving = Serving::new(&namespace, shared, heard_sender, order_receiver);
            ready_sender.send(()).unwrap();
            serving.run();
        };
        let thread = Some(std::thread::spawn(run));
        ready.recv_timeout(DEADLINE).unwrap();
        Self { policy, heard, orders, thread }
    }

    pub(super) fn set(&self, change: impl FnOnce(&mut Policy)) {
        change(&mut self.policy.lock().unwrap());
    }

    /// Lets messages pass until one is as wanted: on a busy machine, any question may be repeated.
    pub(super) fn wait_for(&self, what: &str, wanted: impl Fn(&Heard) -> bool) -> Heard {
        let end = Instant::now() + DEADLINE;
        loop {
            match self.heard.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(heard) if wanted(&heard) => return heard,
                Ok(_) => {}
                Err(error) => panic!("{what}: {error}"),
            }
        }
    }

    pub(super) fn heard_nothing(&self) -> bool {
        self.heard.try_recv().is_err()
    }

    /// Plugs the cable in or pulls it.
    pub(super) fn link(&self, up: bool) {
        let (done, wait) = channel();
        self.orders.send(Order::Link(up, done)).unwrap();
        wait.recv_timeout(DEADLINE).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.orders.send(Order::End);
        let ended = self.thread.take().is_none_or(|thread| thread.join().is_ok());
        assert!(ended || std::thread::panicking(), "the server's thread failed");
    }
}

/// The server's side of it, in its own thread and namespace.
struct Serving {
    policy: Arc<Mutex<Policy>>,
    heard: Sender<Heard>,
    orders: Receiver<Order>,
    control: Control,
    index: u32,
    socket: UdpSocket,
    /// Hears what is sent to the server's own address.
    unicast: UdpSocket,
    router: OwnedFd,
    advertised: Option<Instant>,
}

impl Serving {
    fn new(client: &OwnedFd, policy: Arc<Mutex<Policy>>, heard: Sender<Heard>, orders: Receiver<Order>) -> Self {
        wire::enter_new_namespace();
        wire::join(client);
        let mut control = Control::new().unwrap();
        let index = control.cards().unwrap().into_iter().find(|card| card.name == "srv").unwrap().index;
        control.set_address(index, SERVER, 24, None).unwrap();
        control.up(index).unwrap();
        let router = socket(AddressFamily::Inet6, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::IcmpV6).unwrap();
        setsockopt(&router, sockopt::Ipv6Ttl, &255).unwrap();
        let socket = listen(Ipv4Addr::UNSPECIFIED);
        let unicast = listen(SERVER);
        Self { policy, heard, orders, control, index, socket, unicast, router, advertised: None }
    }

    fn run(&mut self) {
        loop {
            match self.orders.try_recv() {
                Ok(Order::Link(up, done)) => {
                    if up {
                        self.control.up(self.index).unwrap();
                    } else {
                        wire::down(self.index);
                    }
                    done.send(()).unwrap();
                }
                Ok(Order::End) | Err(std::sync::mpsc::TryRecvError::Disconnected) => break,
                Err(std::sync::mpsc::TryRecvError::Empty) => {}
            }
            if self.policy.lock().unwrap().advertise {
                self.advertise();
            }
            self.serve(&self.socket, false);
            self.serve(&self.unicast, true);
        }
        // The wire goes at once; the namespace itself may take the kernel a while.
        wire::delete(self.index);
    }

    /// Waits a moment for a message and answers it.
    fn serve(&self, socket: &UdpSocket, is_unicast: bool) {
        let mut buffer = [0; 2048];
        let Ok((n, SocketAddr::V4(from))) = socket.recv_from(&mut buffer) else { return };
        let policy = self.policy.lock().unwrap().clone();
        if is_unicast && policy.deaf_to_unicast {
            return;
        }
        let message = Message::decode(&mut Decoder::new(&buffer[..n])).unwrap();
        let answer = if policy.silent { None } else { answer(&message, &policy) };
        let _ = self.heard.send(Heard { message: message.clone(), from, is_unicast });
        let Some(answer) = answer else { return };
        let to = if message.ciaddr().is_unspecified() || answer.opts().has_msg_type(MessageType::Nak) {
            Ipv4Addr::BROADCAST
        } else {
            message.ciaddr()
        };
        // The cable may have been pulled meanwhile.
        let _ = socket.send_to(&answer.to_vec().unwrap(), SocketAddrV4::new(to, 68));
    }

    /// Router advertisements to the client's own link-local address, as it is made from the card's; often, as the first
    /// ones come before the client can hear them.
    fn advertise(&mut self) {
        if self.advertised.is_some_and(|last| last.elapsed() < Duration::from_millis(200)) {
            return;
        }
        self.advertised = Some(Instant::now());
        // Type 134, hop limit 64, lifetime 1800; option 3: a /64 for addresses, valid and preferred an hour (RFC 4861,
        // 4.2 and 4.6.2).
        let mut packet = vec![134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0, 3, 4, 64, 0xc0];
        packet.extend([3600_u32.to_be_bytes(), 3600_u32.to_be_bytes(), [0; 4]].concat());
        packet.extend("2001:db8::".parse::<Ipv6Addr>().unwrap().octets());
        let [a, b, c, d, e, f] = MAC.map(u16::from);
        let to = Ipv6Addr::new(0xfe80, 0, 0, 0, (a ^ 2) << 8 | b, c << 8 | 0xff, 0xfe00 | d, e << 8 | f);
        let to = SockaddrIn6::from(SocketAddrV6::new(to, 0, 0, self.index));
        // Fails until our own link-local address is ready.
        let _ = sendto(self.router.as_raw_fd(), &packet, &to, MsgFlags::empty());
    }
}

fn listen(address: Ipv4Addr) -> UdpSocket {
    let fd = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).unwrap();
    setsockopt(&fd, sockopt::ReuseAddr, &true).unwrap();
    setsockopt(&fd, sockopt::Broadcast, &true).unwrap();
    setsockopt(&fd, sockopt::BindToDevice, &"srv".into()).unwrap();
    bind(fd.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(address, 67))).unwrap();
    let socket = UdpSocket::from(fd);
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    socket
}

fn answer(message: &Message, policy: &Policy) -> Option<Message> {
    let opts = message.opts();
    let requested = match opts.get(OptionCode::RequestedIpAddress) {
        Some(DhcpOption::RequestedIpAddress(address)) => *address,
        _ => message.ciaddr(),
    };
    let kind = match opts.msg_type()? {
        MessageType::Discover => MessageType::Offer,
        MessageType::Request if policy.refuse == Some(requested) => MessageType::Nak,
        MessageType::Request => MessageType::Ack,
        _ => return None,
    };
    let mut answer = Message::default();
    answer.set_opcode(Opcode::BootReply).set_xid(message.xid()).set_chaddr(message.chaddr()).set_flags(message.flags());
    answer.opts_mut().insert(DhcpOption::MessageType(kind));
    answer.opts_mut().insert(DhcpOption::ServerIdentifier(SERVER));
    if kind != MessageType::Nak {
        answer.set_yiaddr(policy.address);
        for option in &policy.options {
            answer.opts_mut().insert(option.clone());
        }
    }
    Some(answer)
}

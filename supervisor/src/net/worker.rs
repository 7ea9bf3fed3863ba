//! The thread: one loop that waits for the kernel's news, a server's answer or a timer, and does what the state machine
//! says.

use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;
use nix::time::{ClockId, clock_gettime};

use super::card::{self, Card, Control, News};
use super::dhcp::machine::{Action, At, Client, Event};
use super::dhcp::message::{self, Outgoing, Question};
use super::lease::{Lease, LeaseFile, Route, show_mac};
use super::netlink::Netlink;
use super::socket::{BoundSocket, PacketSocket};
use super::{Config, Mode, NetEvent, Origin, Static, resolv};

pub(super) struct Worker {
    config: Config,
    report: Box<dyn Fn(NetEvent) + Send>,
    stop: Arc<EventFd>,
    control: Control,
    news: Netlink,
    dice: Dice,
    active: Option<Active>,
    /// When to say that there is no card.
    patience: Option<Duration>,
}

/// The card in use.
struct Active {
    card: Card,
    /// None with a static address.
    client: Option<Client>,
    file: LeaseFile,
    packet: Option<PacketSocket>,
    bound: Option<BoundSocket>,
    address: Option<(Ipv4Addr, u8)>,
    ipv6: Vec<Ipv6Addr>,
}

impl Worker {
    pub(super) fn new(config: Config, report: Box<dyn Fn(NetEvent) + Send>, stop: Arc<EventFd>) -> io::Result<Self> {
        // News are subscribed to before the first look: nothing falls between the two.
        let news = Netlink::news(card::groups())?;
        let control = Control::new()?;
        let patience = Some(now() + config.card_wait);
        Ok(Self { config, report, stop, control, news, dice: Dice::new(), active: None, patience })
    }

    pub(super) fn run(mut self) {
        self.look_at_everything();
        loop {
            let deadline = [self.patience, self.active.as_ref().and_then(Active::deadline)].into_iter().flatten().min();
            let ready = match self.wait(deadline) {
                Ok(ready) => ready,
                Err(error) => {
                    self.problem(format!("wait for the network: {error}"));
                    return;
                }
            };
            if ready.stop {
                return;
            }
            if ready.news {
                self.read_news();
            }
            if ready.messages {
                self.read_messages();
            }
            if self.patience.is_some_and(|patience| patience <= now()) {
                self.patience = None;
                (self.report)(NetEvent::NoCard);
            }
            self.step(Event::Tick);
        }
    }

    fn wait(&self, deadline: Option<Duration>) -> nix::Result<Ready> {
        let timeout = match deadline {
            None => PollTimeout::NONE,
            Some(deadline) => {
                // Rounded up, so that the deadline has come when the wait ends.
                let left = deadline.saturating_sub(now()).as_millis() + 1;
                PollTimeout::try_from(left.min(60_000)).unwrap_or(PollTimeout::MAX)
            }
        };
        let mut fds =
            vec![PollFd::new(self.stop.as_fd(), PollFlags::POLLIN), PollFd::new(self.news.as_fd(), PollFlags::POLLIN)];
        if let Some(active) = &self.active {
            fds.extend(active.packet.as_ref().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)));
            fds.extend(active.bound.as_ref().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)));
        }
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
        Ok(Ready { stop: ready[0], news: ready[1], messages: ready[2..].contains(&true) })
    }

    /// At the start, and when the kernel had more news than it could keep.
    fn look_at_everything(&mut self) {
        match self.control.cards() {
            Ok(cards) => {
                let gone = self.active.as_ref().map(|active| active.card.index);
                if let Some(index) = gone.filter(|index| !cards.iter().any(|card| card.index == *index)) {
                    self.hear(News::Gone { index });
                }
                cards.into_iter().for_each(|card| self.hear(News::Link(card)));
            }
            Err(error) => self.problem(format!("list the network cards: {error}")),
        }
        match self.control.ipv6() {
            Ok(news) => news.into_iter().for_each(|news| self.hear(news)),
            Err(error) => self.problem(format!("list the addresses: {error}")),
        }
    }

    fn read_news(&mut self) {
        match self.news.receive() {
            Ok(messages) => messages.iter().filter_map(card::news).for_each(|news| self.hear(news)),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => self.look_at_everything(),
            Err(error) => self.problem(format!("read the kernel's news: {error}")),
        }
    }

    fn hear(&mut self, news: News) {
        let active = self.active.as_mut();
        match news {
            News::Link(card) => {
                let Some(active) = active else {
                    if self.is_ours(&card) {
                        self.take(card);
                    }
                    return;
                };
                if active.card.index == card.index {
                    let before = std::mem::replace(&mut active.card, card).carrier;
                    let after = active.card.carrier;
                    if before != after {
                        self.carrier(after);
                    }
                }
            }
            News::Gone { index } => {
                if let Some(active) = self.active.take_if(|active| active.card.index == index) {
                    let device = active.card.name;
                    (self.report)(NetEvent::Down { device: device.clone() });
                    if let Some((address, _)) = active.address {
                        (self.report)(NetEvent::AddressLost { device, address: address.into() });
                        self.write_resolv_conf(&[], &[]);
                    }
                    // Another card may be there already.
                    self.look_at_everything();
                }
            }
            News::Address { index, address, prefix } => {
                if let Some(active) =
                    active.filter(|active| active.card.index == index && !active.ipv6.contains(&address))
                {
                    active.ipv6.push(address);
                    let device = active.card.name.clone();
                    (self.report)(NetEvent::Address { device, address: address.into(), prefix, origin: Origin::Slaac });
                }
            }
            News::AddressGone { index, address } => {
                if let Some(active) =
                    active.filter(|active| active.card.index == index && active.ipv6.contains(&address))
                {
                    active.ipv6.retain(|known| *known != address);
                    let device = active.card.name.clone();
                    (self.report)(NetEvent::AddressLost { device, address: address.into() });
                }
            }
        }
    }

    fn is_ours(&self, card: &Card) -> bool {
        match &self.config.mode {
            Mode::Off => false,
            Mode::Dhcp { device: Some(name) } | Mode::Static(Static { device: Some(name), .. }) => card.name == *name,
            Mode::Dhcp { device: None } | Mode::Static(Static { device: None, .. }) => !card.is_virtual,
        }
    }

    /// Brings a card into use.
    fn take(&mut self, card: Card) {
        self.patience = None;
        let file = LeaseFile::new(&self.config.lease_dir, &card.name, card.mac);
        let client = matches!(self.config.mode, Mode::Dhcp { .. }).then(|| {
            let remembered = file.load(SystemTime::now()).unwrap_or_else(|error| {
                self.problem(format!("read the last lease: {error}"));
                None
            });
            Client::new(remembered, now())
        });
        let (index, has_carrier) = (card.index, card.carrier);
        allow_router_advertisements(&card.name);
        let active = Active { card, client, file, packet: None, bound: None, address: None, ipv6: Vec::new() };
        self.active = Some(active);
        let up = self.control.up(index);
        self.check("bring it up", up);
        if let Mode::Static(given) = &self.config.mode {
            let given = given.clone();
            self.configure_static(&given);
        }
        // When the carrier comes later, or with the card's start, the kernel says so.
        if has_carrier {
            self.carrier(true);
        }
    }

    fn carrier(&mut self, carrier: bool) {
        if let Some(active) = &self.active {
            let device = active.card.name.clone();
            (self.report)(match carrier {
                true => NetEvent::Up { device, mac: show_mac(active.card.mac) },
                false => NetEvent::Down { device },
            });
        }
        self.step(Event::Carrier(carrier));
    }

    fn read_messages(&mut self) {
        let Some(active) = &self.active else { return };
        let mut messages = Vec::new();
        let mut problems = Vec::new();
        for received in
            [active.packet.as_ref().map(PacketSocket::receive), active.bound.as_ref().map(BoundSocket::receive)]
        {
            match received {
                Some(Ok(more)) => messages.extend(more),
                Some(Err(error)) => problems.push(format!("hear the DHCP server: {error}")),
                None => {}
            }
        }
        let mac = active.card.mac;
        problems.into_iter().for_each(|problem| self.problem(problem));
        for message in messages {
            if let Some(reply) = message::decode(&message, mac) {
                self.step(Event::Reply(reply));
            }
        }
    }

    /// Asks the state machine and does what it says.
    fn step(&mut self, event: Event) {
        let at = At { now: now(), random: self.dice.roll() };
        let Some(active) = &mut self.active else { return };
        let Some(client) = active.client.take() else { return };
        let (client, actions) = client.step(event, at);
        let listens = client.listens_below_ip();
        active.client = Some(client);
        if listens && active.packet.is_none() {
            match PacketSocket::open(active.card.index) {
                Ok(socket) => active.packet = Some(socket),
                Err(error) => self.problem(format!("open a packet socket: {error}")),
            }
        }
        for action in actions {
            self.act(action);
        }
        if !listens && let Some(active) = &mut self.active {
            active.packet = None;
        }
    }

    fn act(&mut self, action: Action) {
        let Some(active) = &mut self.active else { return };
        match action {
            Action::Send(outgoing) => {
                let sent = active.send(&outgoing, self.config.hostname.as_deref());
                self.check("ask the DHCP server", sent);
            }
            Action::Configure(lease, valid) => self.configure(&lease, valid),
            Action::Deconfigure => {
                active.bound = None;
                let index = active.card.index;
                let lost = active.address.take();
                let device = active.card.name.clone();
                // Also what an earlier supervisor configured and this one has never confirmed.
                let removed = self.control.remove_addresses(index, None);
                self.check("take its address away", removed);
                self.write_resolv_conf(&[], &[]);
                if let Some((address, _)) = lost {
                    (self.report)(NetEvent::AddressLost { device, address: address.into() });
                }
            }
            Action::Remember(lease) => {
                let stored = active.file.store(&lease, SystemTime::now());
                self.check("store the lease", stored);
            }
            Action::Forget => {
                let removed = active.file.forget();
                self.check("remove the lease", removed);
            }
            Action::Report(text) => self.problem(text),
        }
    }

    fn configure(&mut self, lease: &Lease, valid: Option<Duration>) {
        self.set_address((lease.address, lease.prefix), valid, &lease.routes, lease.mtu, Origin::Dhcp);
        let Some(active) = &mut self.active else { return };
        let device = active.card.name.clone();
        if active.bound.is_none() {
            match BoundSocket::open(&device) {
                Ok(socket) => active.bound = Some(socket),
                Err(error) => self.problem(format!("open the DHCP client's port: {error}")),
            }
        }
        let servers: Vec<IpAddr> = lease.dns.iter().copied().map(IpAddr::V4).collect();
        self.write_resolv_conf(&servers, &lease.search);
        (self.report)(NetEvent::Lease { device, lease: lease.clone() });
    }

    fn configure_static(&mut self, given: &Static) {
        let routes: Vec<_> = given.gateway.map(Route::default_by).into_iter().collect();
        self.set_address((given.address, given.prefix), None, &routes, None, Origin::Static);
        let servers: Vec<IpAddr> = given.dns.iter().copied().map(IpAddr::V4).collect();
        self.write_resolv_conf(&servers, &[]);
    }

    fn set_address(
        &mut self,
        wanted: (Ipv4Addr, u8),
        valid: Option<Duration>,
        routes: &[Route],
        mtu: Option<u16>,
        origin: Origin,
    ) {
        let Some(active) = &mut self.active else { return };
        let (index, device) = (active.card.index, active.card.name.clone());
        let before = active.address.replace(wanted);
        let (address, prefix) = wanted;
        if let Some(mtu) = mtu {
            let set = self.control.set_mtu(index, mtu);
            self.check("set its MTU", set);
        }
        // The old one goes first: a second address of the same net would go with it.
        let removed = self.control.remove_addresses(index, Some(wanted));
        self.check("take its old address away", removed);
        let set = self.control.set_address(index, address, prefix, valid);
        self.check("set its address", set);
        let set = self.control.set_routes(index, wanted, routes);
        self.check("set its routes", set);
        if before != Some(wanted) {
            if let Some((old, _)) = before {
                (self.report)(NetEvent::AddressLost { device: device.clone(), address: old.into() });
            }
            (self.report)(NetEvent::Address { device, address: address.into(), prefix, origin });
        }
    }

    fn write_resolv_conf(&self, servers: &[IpAddr], search: &[String]) {
        let written = resolv::write(&self.config.resolv_conf, servers, search);
        self.check("write resolv.conf", written);
    }

    fn check(&self, what: &str, result: io::Result<()>) {
        if let Err(error) = result {
            self.problem(format!("{what}: {error}"));
        }
    }

    fn problem(&self, text: String) {
        let device = self.active.as_ref().map(|active| active.card.name.clone());
        (self.report)(NetEvent::Problem { device, text });
    }
}

struct Ready {
    stop: bool,
    news: bool,
    messages: bool,
}

impl Active {
    fn deadline(&self) -> Option<Duration> {
        self.client.as_ref()?.deadline()
    }

    fn send(&self, outgoing: &Outgoing, hostname: Option<&str>) -> io::Result<()> {
        let bytes = message::encode(outgoing, self.card.mac, hostname).map_err(io::Error::other)?;
        let sent = match (outgoing.question, &self.bound, &self.packet) {
            (Question::Extend { server, .. }, Some(bound), _) => bound.send(&bytes, server),
            (_, _, Some(packet)) => packet.send(&bytes),
            _ => Ok(()),
        };
        match sent {
            // The cable was pulled, or the server is gone, between two looks: the question is repeated anyway.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::ENETDOWN | libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENOBUFS)
                ) =>
            {
                Ok(())
            }
            sent => sent,
        }
    }
}

/// The kernel shall configure IPv6 by what routers advertise, also when the machine itself forwards between its
/// containers' networks (that is what 2 means). Without IPv6 in the kernel there are no such files.
fn allow_router_advertisements(device: &str) {
    for (key, value) in [("accept_ra", "2"), ("autoconf", "1")] {
        let path = Path::new("/proc/sys/net/ipv6/conf").join(device).join(key);
        if let Err(error) = std::fs::write(&path, value)
            && error.kind() != io::ErrorKind::NotFound
        {
            log::warn!("net device={device} {key} not set: {error}");
        }
    }
}

/// Time since boot, with the time the machine slept: leases end while it sleeps.
fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default()
}

/// Random numbers from the kernel.
struct Dice(Option<File>);

impl Dice {
    fn new() -> Self {
        Self(File::open("/dev/urandom").ok())
    }

    fn roll(&mut self) -> u32 {
        let mut bytes = [0; 4];
        match self.0.as_mut().map(|file| file.read_exact(&mut bytes)) {
            Some(Ok(())) => u32::from_ne_bytes(bytes),
            // Transaction ids that differ are all that is needed.
            _ => now().subsec_nanos().wrapping_mul(0x9e37_79b9),
        }
    }
}

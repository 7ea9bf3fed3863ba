//! nftables' messages: a table as a whole, its chains, and rules made of the kernel's expressions. Numbers are in network order
//! unless they go into a register, where they are as the packet or the kernel has them.

use std::{io, net::IpAddr};

use super::{
    super::netlink::{Message, Nest, Netlink, Refused},
    subnet::{Subnet, octets},
};

/// linux/netfilter.h, linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h
const NFPROTO_INET: u8 = 1;
const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
const REGISTER: u32 = 1;
const SECOND_REGISTER: u32 = 2;
const VERDICT_REGISTER: u32 = 0;
const JUMP: i32 = -3;

/// Where a chain hooks in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hook {
    pub(super) kind: &'static str,
    pub(super) number: u32,
    pub(super) priority: i32,
}

const PRE_ROUTING: u32 = 0;
const FORWARD: u32 = 2;
const OUTPUT: u32 = 3;
const POST_ROUTING: u32 = 4;

impl Hook {
    /// Before connections are looked up.
    pub(super) const RAW: Self = Self { kind: "filter", number: PRE_ROUTING, priority: -300 };
    pub(super) const DNAT: Self = Self { kind: "nat", number: PRE_ROUTING, priority: -100 };
    pub(super) const DNAT_LOCAL: Self = Self { kind: "nat", number: OUTPUT, priority: -100 };
    pub(super) const SNAT: Self = Self { kind: "nat", number: POST_ROUTING, priority: 100 };
    pub(super) const FILTER: Self = Self { kind: "filter", number: FORWARD, priority: 0 };
}

/// One expression of a rule.
#[derive(Debug, Clone)]
pub(super) struct Expression(&'static str, Nest);

/// A rule that is being written: it goes on as long as its expressions are true.
#[derive(Debug, Clone, Default)]
pub(super) struct Rule(Vec<Expression>);

#[derive(Debug, Clone, Copy)]
pub(super) enum Side {
    Source,
    Destination,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Way {
    In,
    Out,
}

fn be(number: u32) -> [u8; 4] {
    number.to_be_bytes()
}

fn c(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\0"].concat()
}

fn data(bytes: &[u8]) -> Nest {
    Nest::default().attr(1, bytes)
}

impl Rule {
    fn with(mut self, name: &'static str, data: Nest) -> Self {
        self.0.push(Expression(name, data));
        self
    }

    fn meta(self, key: u32) -> Self {
        self.with("meta", Nest::default().attr(1, &be(REGISTER)).attr(2, &be(key)))
    }

    fn compare(self, equal: bool, bytes: &[u8]) -> Self {
        let operation = be(u32::from(!equal));
        self.with("cmp", Nest::default().attr(1, &be(REGISTER)).attr(2, &operation).nest(3, &data(bytes)))
    }

    fn masked(self, mask: &[u8]) -> Self {
        let length = be(u32::try_from(mask.len()).unwrap_or_default());
        let expression = Nest::default().attr(1, &be(REGISTER)).attr(2, &be(REGISTER)).attr(3, &length);
        self.with("bitwise", expression.nest(4, &data(mask)).nest(5, &data(&vec![0; mask.len()])))
    }

    fn payload(self, base: u32, offset: u32, length: u32) -> Self {
        let expression = Nest::default().attr(1, &be(REGISTER)).attr(2, &be(base));
        self.with("payload", expression.attr(3, &be(offset)).attr(4, &be(length)))
    }

    /// Packets by this interface; or, with `equal` false, by any other.
    pub(super) fn interface(self, way: Way, name: &str, equal: bool) -> Self {
        let mut padded = [0; 16];
        padded.iter_mut().zip(name.bytes().take(15)).for_each(|(to, from)| *to = from);
        self.meta(match way {
            Way::In => 6,
            Way::Out => 7,
        })
        .compare(equal, &padded)
    }

    pub(super) fn family(self, ipv4: bool) -> Self {
        self.meta(15).compare(true, &[if ipv4 { 2 } else { 10 }])
    }

    fn address(self, side: Side, ipv4: bool) -> Self {
        let (first, length) = if ipv4 { (12, 4) } else { (8, 16) };
        self.payload(1, if matches!(side, Side::Source) { first } else { first + length }, length)
    }

    /// Needs the family before.
    pub(super) fn within(self, side: Side, subnet: Subnet, equal: bool) -> Self {
        let rule = self.address(side, subnet.is_ipv4());
        let width = octets(subnet.first()).len() * 8;
        let rule = if usize::from(subnet.prefix()) == width { rule } else { rule.masked(&octets(subnet.netmask())) };
        rule.compare(equal, &octets(subnet.first()))
    }

    /// To an address of this host.
    pub(super) fn local(self) -> Self {
        const DESTINATION_TYPE: (u32, u32) = (2, 3);
        const LOCAL: u32 = 2;
        let (flags, result) = DESTINATION_TYPE;
        let expression = Nest::default().attr(1, &be(REGISTER)).attr(2, &be(result)).attr(3, &be(flags));
        self.with("fib", expression).compare(true, &LOCAL.to_ne_bytes())
    }

    /// By its number in IP.
    pub(super) fn protocol(self, number: u8) -> Self {
        self.meta(16).compare(true, &[number])
    }

    /// To a port from the first to the last. Needs the protocol before.
    pub(super) fn ports(self, first: u16, last: u16) -> Self {
        let rule = self.payload(2, 2, 2);
        if first == last {
            return rule.compare(true, &first.to_be_bytes());
        }
        let range = Nest::default().attr(1, &be(REGISTER)).attr(2, &be(0));
        rule.with("range", range.nest(3, &data(&first.to_be_bytes())).nest(4, &data(&last.to_be_bytes())))
    }

    fn connection(self, key: u32, bits: u32) -> Self {
        let rule = self.with("ct", Nest::default().attr(1, &be(REGISTER)).attr(2, &be(key)));
        rule.masked(&bits.to_ne_bytes()).compare(false, &[0; 4])
    }

    /// Of a connection that both sides know, or that belongs to one.
    pub(super) fn established(self) -> Self {
        self.connection(0, 2 | 4)
    }

    /// Of a connection whose destination a rule has changed.
    pub(super) fn translated(self) -> Self {
        self.connection(2, 1 << 5)
    }

    fn verdict(self, code: i32, chain: Option<&str>) -> Self {
        let mut verdict = Nest::default().attr(1, &code.to_be_bytes());
        if let Some(chain) = chain {
            verdict = verdict.attr(2, &c(chain));
        }
        let expression = Nest::default().attr(1, &be(VERDICT_REGISTER));
        self.with("immediate", expression.nest(2, &Nest::default().nest(2, &verdict)))
    }

    pub(super) fn drop(self) -> Self {
        self.verdict(0, None)
    }

    pub(super) fn accept(self) -> Self {
        self.verdict(1, None)
    }

    pub(super) fn jump(self, chain: &str) -> Self {
        self.verdict(JUMP, Some(chain))
    }

    pub(super) fn masquerade(self) -> Self {
        self.with("masq", Nest::default())
    }

    /// To another address, and another port.
    pub(super) fn dnat(self, address: IpAddr, port: Option<u16>) -> Self {
        let load = |rule: Self, register: u32, bytes: &[u8]| {
            rule.with("immediate", Nest::default().attr(1, &be(register)).nest(2, &data(bytes)))
        };
        let mut rule = load(self, REGISTER, &octets(address));
        let family = be(if address.is_ipv4() { 2 } else { 10 });
        let mut nat = Nest::default().attr(1, &be(1)).attr(2, &family).attr(3, &be(REGISTER));
        if let Some(port) = port {
            rule = load(rule, SECOND_REGISTER, &port.to_be_bytes());
            nat = nat.attr(5, &be(SECOND_REGISTER));
        }
        rule.with("nat", nat)
    }
}

/// A chain, and what of packets that reach it.
#[derive(Debug, Clone)]
pub(super) struct Chain {
    pub(super) name: &'static str,
    pub(super) hook: Option<Hook>,
    pub(super) rules: Vec<Rule>,
}

/// Puts a table in the place of what was of its name, in one step; without chains it is gone.
pub(super) fn replace(table: &str, chains: &[Chain]) -> io::Result<()> {
    Netlink::netfilter()?.batch(messages(table, chains)).map_err(|Refused { number, source }| match number {
        Some(number) => io::Error::new(source.kind(), format!("message {number} of the table {table}: {source}")),
        None => source,
    })
}

pub(super) fn messages(table: &str, chains: &[Chain]) -> Vec<Message> {
    let message = |kind: u16, flags: i32| Message::new(SUBSYSTEM << 8 | kind, flags, &[NFPROTO_INET, 0, 0, 0]);
    let edge = |kind: u16| Message::new(kind, 0, &[&[0, 0][..], &SUBSYSTEM.to_be_bytes()].concat());
    let made = || message(NEW_TABLE, libc::NLM_F_CREATE).attr(1, &c(table));
    // Made first, so that it can be removed whether it was there or not.
    let mut all = vec![edge(BATCH_BEGIN), made(), message(DELETE_TABLE, 0).attr(1, &c(table))];
    if !chains.is_empty() {
        all.push(made());
    }
    for Chain { name, hook, .. } in chains {
        let mut chain = message(NEW_CHAIN, libc::NLM_F_CREATE).attr(1, &c(table)).attr(3, &c(name));
        if let Some(hook) = hook {
            let place = Nest::default().attr(1, &be(hook.number)).attr(2, &hook.priority.to_be_bytes());
            chain = chain.nest(4, &place).attr(5, &be(1)).attr(7, &c(hook.kind));
        }
        all.push(chain);
    }
    for (name, rule) in chains.iter().flat_map(|chain| chain.rules.iter().map(move |rule| (chain.name, rule))) {
        let expressions = rule.0.iter().fold(Nest::default(), |list, Expression(name, data)| {
            list.nest(1, &Nest::default().attr(1, &c(name)).nest(2, data))
        });
        let flags = libc::NLM_F_CREATE | libc::NLM_F_APPEND;
        all.push(message(NEW_RULE, flags).attr(1, &c(table)).attr(2, &c(name)).nest(4, &expressions));
    }
    all.push(edge(BATCH_END));
    all
}

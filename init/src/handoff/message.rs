//! The messages, one enum a direction.

use super::codec::{Reader, WireError, Writer};
use super::{MAX_NAME_BYTES, MAX_TEXT_BYTES};

/// How the machine ends. The numbers are the wire's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShutdownKind {
    PowerOff = 0,
    Reboot,
    Halt,
    Kexec,
}

/// Where `/var` lies. The numbers are the wire's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateStore {
    /// The state partition.
    Persistent = 0,
    /// A tmpfs, because the machine has no state partition.
    Volatile,
    /// A tmpfs, because the state partition is there and could not be mounted: units that need stored data must
    /// not start.
    Degraded,
}

/// Who ended the supervisor before this one. The numbers are the wire's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastEnd {
    /// It crashed, gave up, or hung until PID 1 killed it.
    ByItself = 0,
    /// It was asked to go, or somebody killed it.
    FromOutside,
}

/// First message after every start of the supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// How many supervisors PID 1 started in this boot, this one included. Above 1: adopt what runs.
    pub generation: u32,
    /// Exits that follow this message: they arrived while no supervisor listened, or were never acknowledged.
    pub queued_exits: u32,
    /// Exits dropped because the queue was full, in this boot.
    pub dropped_exits: u64,
    pub state: StateStore,
}

/// The end of a process that PID 1 reaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// Counts up by one per exit in this boot; acknowledged by [`ToInit::ExitsHandled`].
    pub seq: u64,
    pub pid: u32,
    /// Field 22 of `/proc/<pid>/stat`, in clock ticks since boot, read before the reaping: with it a reused pid
    /// is harmless. 0 when it could not be read.
    pub start_ticks: u64,
    /// As `wait(2)` encodes it, real-time signals included.
    pub wait_status: i32,
    /// User and system CPU time, in microseconds.
    pub user_us: u64,
    pub system_us: u64,
    /// Peak resident memory, in KiB.
    pub max_rss_kib: u64,
}

/// PID 1 to the supervisor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToSupervisor {
    Hello(Hello),
    /// Behind the hello of every supervisor but the first. A message of its own, so that supervisors older than it pass it over
    /// and a PID 1 that is older leaves it out.
    Predecessor {
        end: LastEnd,
    },
    Exit(Exit),
    /// A stage of the boot, sent after the hello of every generation: name, CLOCK_MONOTONIC in ns, and [`idle_ns`] by then.
    ///
    /// [`idle_ns`]: crate::idle_ns
    Stage {
        name: String,
        at_ns: u64,
        idle_ns: u64,
    },
    /// Answer to [`ToInit::TakeFd`], the descriptor beside it; still stored until dropped.
    Fd {
        name: String,
    },
    /// Answer to [`ToInit::ListFds`]: one per stored descriptor, then [`ToSupervisor::FdsEnd`]. Every exit that was reaped before
    /// the request was read has been told by then.
    FdName {
        name: String,
    },
    FdsEnd,
    /// Answer with [`ToInit::Pong`] at once.
    Ping {
        nonce: u64,
    },
    /// A signal or Ctrl-Alt-Del asks: stop the units, then send [`ToInit::Shutdown`].
    ShutdownRequest {
        kind: ShutdownKind,
    },
    /// A request that could not be done: the kind byte of the request, the errno, and what it concerned.
    Failed {
        request: u8,
        errno: i32,
        name: String,
    },
}

/// The supervisor to PID 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToInit {
    Pong {
        nonce: u64,
    },
    /// Every exit up to and with this sequence number is dealt with and need not be sent again.
    ExitsHandled {
        seq: u64,
    },
    /// Keep the descriptor beside this message under a name; replaces one of the same name.
    PutFd {
        name: String,
    },
    TakeFd {
        name: String,
    },
    DropFd {
        name: String,
    },
    ListFds,
    /// The units are stopped (or never will be): end the machine.
    Shutdown {
        kind: ShutdownKind,
    },
    /// A line for the console and for the messages the rescue screen shows.
    Say {
        text: String,
    },
    /// Units are being stopped for a shutdown; PID 1 waits at most this long, in ms, for [`ToInit::Shutdown`].
    Stopping {
        within_ms: u64,
    },
}

impl ShutdownKind {
    fn from_wire(value: u8) -> Result<Self, WireError> {
        let all = [Self::PowerOff, Self::Reboot, Self::Halt, Self::Kexec];
        all.into_iter().find(|kind| *kind as u8 == value).ok_or(WireError::Value)
    }
}

impl LastEnd {
    fn from_wire(value: u8) -> Result<Self, WireError> {
        [Self::ByItself, Self::FromOutside].into_iter().find(|end| *end as u8 == value).ok_or(WireError::Value)
    }
}

impl StateStore {
    fn from_wire(value: u8) -> Result<Self, WireError> {
        let all = [Self::Persistent, Self::Volatile, Self::Degraded];
        all.into_iter().find(|store| *store as u8 == value).ok_or(WireError::Value)
    }
}

impl ToSupervisor {
    /// The packet of this message.
    pub fn encode(&self) -> Vec<u8> {
        let mut w;
        match self {
            Self::Hello(hello) => {
                w = Writer::new(1);
                w.u32(hello.generation).u32(hello.queued_exits).u64(hello.dropped_exits).u8(hello.state as u8);
            }
            Self::Exit(exit) => {
                w = Writer::new(2);
                w.u64(exit.seq).u32(exit.pid).u64(exit.start_ticks).i32(exit.wait_status);
                w.u64(exit.user_us).u64(exit.system_us).u64(exit.max_rss_kib);
            }
            Self::Stage { name, at_ns, idle_ns } => {
                w = Writer::new(3);
                w.text(name, MAX_NAME_BYTES).u64(*at_ns).u64(*idle_ns);
            }
            Self::Fd { name } => {
                w = Writer::new(4);
                w.text(name, MAX_NAME_BYTES);
            }
            Self::FdName { name } => {
                w = Writer::new(5);
                w.text(name, MAX_NAME_BYTES);
            }
            Self::FdsEnd => w = Writer::new(6),
            Self::Ping { nonce } => {
                w = Writer::new(7);
                w.u64(*nonce);
            }
            Self::ShutdownRequest { kind } => {
                w = Writer::new(8);
                w.u8(*kind as u8);
            }
            Self::Failed { request, errno, name } => {
                w = Writer::new(9);
                w.u8(*request).i32(*errno).text(name, MAX_NAME_BYTES);
            }
            Self::Predecessor { end } => {
                w = Writer::new(10);
                w.u8(*end as u8);
            }
        }
        w.as_bytes().to_vec()
    }

    /// Reads one packet.
    pub fn decode(packet: &[u8]) -> Result<Self, WireError> {
        let (kind, mut r) = Reader::open(packet)?;
        let message = match kind {
            1 => Self::Hello(Hello {
                generation: r.u32()?,
                queued_exits: r.u32()?,
                dropped_exits: r.u64()?,
                state: StateStore::from_wire(r.u8()?)?,
            }),
            2 => Self::Exit(Exit {
                seq: r.u64()?,
                pid: r.u32()?,
                start_ticks: r.u64()?,
                wait_status: r.i32()?,
                user_us: r.u64()?,
                system_us: r.u64()?,
                max_rss_kib: r.u64()?,
            }),
            3 => Self::Stage { name: r.text()?.to_owned(), at_ns: r.u64()?, idle_ns: r.u64()? },
            4 => Self::Fd { name: r.text()?.to_owned() },
            5 => Self::FdName { name: r.text()?.to_owned() },
            6 => Self::FdsEnd,
            7 => Self::Ping { nonce: r.u64()? },
            8 => Self::ShutdownRequest { kind: ShutdownKind::from_wire(r.u8()?)? },
            9 => Self::Failed { request: r.u8()?, errno: r.i32()?, name: r.text()?.to_owned() },
            10 => Self::Predecessor { end: LastEnd::from_wire(r.u8()?)? },
            other => return Err(WireError::Kind(other)),
        };
        r.end()?;
        Ok(message)
    }
}

impl ToInit {
    /// The kind byte, as [`ToSupervisor::Failed`] names a request.
    pub fn kind(&self) -> u8 {
        match self {
            Self::Pong { .. } => 64,
            Self::ExitsHandled { .. } => 65,
            Self::PutFd { .. } => 66,
            Self::TakeFd { .. } => 67,
            Self::DropFd { .. } => 68,
            Self::ListFds => 69,
            Self::Shutdown { .. } => 70,
            Self::Say { .. } => 71,
            Self::Stopping { .. } => 72,
        }
    }

    /// The packet of this message.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new(self.kind());
        match self {
            Self::Pong { nonce } => w.u64(*nonce),
            Self::ExitsHandled { seq } => w.u64(*seq),
            Self::PutFd { name } | Self::TakeFd { name } | Self::DropFd { name } => w.text(name, MAX_NAME_BYTES),
            Self::ListFds => &mut w,
            Self::Shutdown { kind } => w.u8(*kind as u8),
            Self::Say { text } => w.text(text, MAX_TEXT_BYTES),
            Self::Stopping { within_ms } => w.u64(*within_ms),
        };
        w.as_bytes().to_vec()
    }

    /// Reads one packet.
    pub fn decode(packet: &[u8]) -> Result<Self, WireError> {
        let (kind, mut r) = Reader::open(packet)?;
        let message = match kind {
            64 => Self::Pong { nonce: r.u64()? },
            65 => Self::ExitsHandled { seq: r.u64()? },
            66 => Self::PutFd { name: r.text()?.to_owned() },
            67 => Self::TakeFd { name: r.text()?.to_owned() },
            68 => Self::DropFd { name: r.text()?.to_owned() },
            69 => Self::ListFds,
            70 => Self::Shutdown { kind: ShutdownKind::from_wire(r.u8()?)? },
            71 => Self::Say { text: r.text()?.to_owned() },
            72 => Self::Stopping { within_ms: r.u64()? },
            other => return Err(WireError::Kind(other)),
        };
        r.end()?;
        Ok(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_to_the_supervisor_reads_back() {
        let exit =
            Exit { seq: 9, pid: 4_194_304, start_ticks: 77, wait_status: 64, user_us: 1, system_us: 2, max_rss_kib: 3 };
        let hello = Hello { generation: 3, queued_exits: 2, dropped_exits: 1, state: StateStore::Degraded };
        for message in [
            ToSupervisor::Hello(hello),
            ToSupervisor::Predecessor { end: LastEnd::FromOutside },
            ToSupervisor::Exit(exit),
            ToSupervisor::Stage { name: "root".into(), at_ns: u64::MAX, idle_ns: 1 },
            ToSupervisor::Fd { name: "log:web".into() },
            ToSupervisor::FdName { name: String::new() },
            ToSupervisor::FdsEnd,
            ToSupervisor::Ping { nonce: 5 },
            ToSupervisor::ShutdownRequest { kind: ShutdownKind::Kexec },
            ToSupervisor::Failed { request: 66, errno: 24, name: "log:web".into() },
        ] {
            assert_eq!(ToSupervisor::decode(&message.encode()), Ok(message));
        }
    }

    #[test]
    fn every_message_to_init_reads_back() {
        for message in [
            ToInit::Pong { nonce: 1 },
            ToInit::ExitsHandled { seq: 2 },
            ToInit::PutFd { name: "a".into() },
            ToInit::TakeFd { name: "b".into() },
            ToInit::DropFd { name: "c".into() },
            ToInit::ListFds,
            ToInit::Shutdown { kind: ShutdownKind::Reboot },
            ToInit::Say { text: "web is up".into() },
            ToInit::Stopping { within_ms: 90_000 },
        ] {
            assert_eq!(ToInit::decode(&message.encode()), Ok(message));
        }
    }

    #[test]
    fn a_long_text_is_cut_between_characters_and_fits_a_packet() {
        let text = "ä".repeat(MAX_TEXT_BYTES);
        let packet = ToInit::Say { text: text.clone() }.encode();
        assert!(packet.len() <= super::super::MAX_PACKET_BYTES);
        let Ok(ToInit::Say { text: cut }) = ToInit::decode(&packet) else { panic!("unreadable") };
        assert!(text.starts_with(&cut) && cut.len() == MAX_TEXT_BYTES);
    }

    #[test]
    fn garbage_is_an_error_at_every_length() {
        let good = ToInit::Say { text: "hello".into() }.encode();
        for len in 0..good.len() {
            assert!(ToInit::decode(&good[..len]).is_err(), "cut to {len} bytes");
        }
        let mut long = good;
        long.push(0);
        assert_eq!(ToInit::decode(&long), Err(WireError::Long));
        assert_eq!(ToInit::decode(b"XX\x01\x47"), Err(WireError::Magic));
        assert_eq!(ToInit::decode(b"OH\x02\x47"), Err(WireError::Version(2)));
        assert_eq!(ToInit::decode(b"OH\x01\xff"), Err(WireError::Kind(255)));
        assert_eq!(ToInit::decode(b"OH\x01\x46\x09"), Err(WireError::Value));
    }
}

//! As much of D-Bus as talking to systemd takes (D-Bus Specification, "Message Protocol", "Authentication Protocol"): calls with
//! simple arguments, their answers, one signal. The connection is systemd's own socket, so no bus stands in between, and none
//! has to run.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use super::Value;
use crate::runtime::store::write_all;
use crate::runtime::sys::{Errno, Result, fs, process, socket};

/// What sd-bus and libdbus wait for an answer.
const PATIENCE: Duration = Duration::from_secs(25);
/// Far more than systemd ever says.
const LARGEST_BYTES: usize = 1 << 20;
const ENDIAN: u8 = if cfg!(target_endian = "little") { b'l' } else { b'B' };

/// A message's body and what its head says of it.
#[derive(Debug, Default)]
pub(super) struct Message {
    pub(super) kind: Kind,
    pub(super) reply_to: u32,
    pub(super) member: String,
    pub(super) error: String,
    body: Vec<u8>,
}

#[derive(Debug, Default, PartialEq, Eq, Clone, Copy)]
pub(super) enum Kind {
    #[default]
    Other,
    Answer,
    Failure,
    Signal,
}

impl Message {
    /// The strings (and object paths) of the body, behind `skip` numbers of 32 bits.
    pub(super) fn strings(&self, skip: usize) -> Vec<String> {
        let mut reader = Reader { bytes: &self.body, at: skip * 4 };
        std::iter::from_fn(|| reader.string()).collect()
    }
}

pub(super) struct Bus {
    socket: OwnedFd,
    serial: u32,
    deadline: Instant,
}

impl Bus {
    /// `user`: who the manager sees us as.
    pub(super) fn connect(path: &[u8], user: u32) -> Result<Bus> {
        let bus = Bus { socket: socket::connect_stream(path)?, serial: 0, deadline: Instant::now() + PATIENCE };
        let hex: String = user.to_string().bytes().map(|byte| format!("{byte:02x}")).collect();
        // In one piece, as sd-bus has it: what systemd reads together with a later BEGIN it leaves lying until more arrives.
        bus.write(format!("\0AUTH EXTERNAL {hex}\r\nBEGIN\r\n").as_bytes())?;
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") && line.len() < 200 {
            line.extend(bus.read(1)?);
        }
        if !line.starts_with(b"OK ") {
            return Err(Errno(libc::EACCES));
        }
        Ok(bus)
    }

    /// Calls a method of systemd's manager; gives the number of the call, which its answer names.
    pub(super) fn call(&mut self, member: &str, signature: &str, body: &Body) -> Result<u32> {
        self.serial += 1;
        self.deadline = Instant::now() + PATIENCE;
        let mut head = Body::default();
        head.0.extend([ENDIAN, 1, 0, 1]);
        head.u32(u32::try_from(body.0.len()).unwrap_or(0)).u32(self.serial);
        let fields: [(u8, &str, &str); 5] = [
            (1, "o", "/org/freedesktop/systemd1"),
            (2, "s", "org.freedesktop.systemd1.Manager"),
            (3, "s", member),
            (6, "s", "org.freedesktop.systemd1"),
            (8, "g", signature),
        ];
        head.array(8, |head| {
            for (code, kind, value) in fields {
                head.align(8).0.push(code);
                head.signature(kind);
                if kind == "g" {
                    head.signature(value)
                } else {
                    head.string(value)
                };
            }
        });
        head.align(8);
        self.write(&[head.0.as_slice(), body.0.as_slice()].concat())?;
        Ok(self.serial)
    }

    /// The next message, whatever it is.
    pub(super) fn next(&self) -> Result<Message> {
        let wrong = Errno(libc::EBADMSG);
        let head = self.read(16)?;
        let number = |at: usize| Reader { bytes: &head, at }.u32().map(|n| n as usize).ok_or(wrong);
        let (body, fields) = (number(4)?, number(12)?);
        if head.first() != Some(&ENDIAN) || body > LARGEST_BYTES || fields > LARGEST_BYTES {
            return Err(wrong);
        }
        let kind = match head.get(1) {
            Some(2) => Kind::Answer,
            Some(3) => Kind::Failure,
            Some(4) => Kind::Signal,
            _ => Kind::Other,
        };
        let mut message = Message { kind, ..Message::default() };
        // The fields end at a multiple of eight, and so does the fixed head in front of them.
        let bytes = self.read(fields.next_multiple_of(8))?;
        let mut reader = Reader { bytes: bytes.get(..fields).unwrap_or_default(), at: 0 };
        while let Some(code) = reader.align(8).byte() {
            let kind = reader.signature().ok_or(wrong)?;
            match (code, kind.as_str()) {
                (_, "u") => {
                    let number = reader.u32().ok_or(wrong)?;
                    message.reply_to = if code == 5 { number } else { message.reply_to };
                }
                (3, "s") => message.member = reader.string().ok_or(wrong)?,
                (4, "s") => message.error = reader.string().ok_or(wrong)?,
                (_, "s" | "o") => drop(reader.string().ok_or(wrong)?),
                (_, "g") => drop(reader.signature().ok_or(wrong)?),
                _ => return Err(wrong),
            }
        }
        message.body = self.read(body)?;
        Ok(message)
    }

    fn write(&self, bytes: &[u8]) -> Result<()> {
        write_all(self.socket.as_fd(), bytes)
    }

    fn read(&self, count: usize) -> Result<Vec<u8>> {
        let mut all = vec![0; count];
        let mut at = 0;
        while at < count {
            let left = self.deadline.saturating_duration_since(Instant::now()).as_millis();
            if !process::wait_readable(self.socket.as_fd(), i32::try_from(left).unwrap_or(i32::MAX))? {
                return Err(Errno(libc::ETIMEDOUT));
            }
            match fs::read(self.socket.as_fd(), all.get_mut(at..).unwrap_or_default())? {
                0 => return Err(Errno(libc::ECONNRESET)),
                got => at += got,
            }
        }
        Ok(all)
    }
}

/// Values in the wire's form; each stands at a multiple of its own size.
#[derive(Default)]
pub(super) struct Body(Vec<u8>);

impl Body {
    fn align(&mut self, to: usize) -> &mut Body {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
        self
    }

    fn u32(&mut self, number: u32) -> &mut Body {
        self.align(4).0.extend(number.to_ne_bytes());
        self
    }

    pub(super) fn string(&mut self, text: &str) -> &mut Body {
        self.u32(u32::try_from(text.len()).unwrap_or(0)).0.extend(text.bytes());
        self.0.push(0);
        self
    }

    pub(super) fn boolean(&mut self, value: bool) -> &mut Body {
        self.u32(value.into())
    }

    fn signature(&mut self, text: &str) -> &mut Body {
        self.0.push(u8::try_from(text.len()).unwrap_or(0));
        self.0.extend(text.bytes());
        self.0.push(0);
        self
    }

    /// The length in front does not count what aligns the first element.
    fn array(&mut self, align: usize, fill: impl FnOnce(&mut Body)) -> &mut Body {
        self.u32(0);
        let length = self.0.len() - 4;
        let start = self.align(align).0.len();
        fill(self);
        let bytes = u32::try_from(self.0.len() - start).unwrap_or(0).to_ne_bytes();
        self.0.splice(length..length + 4, bytes);
        self
    }

    /// `a(sv)`.
    pub(super) fn properties(&mut self, all: &[(&str, Value)]) -> &mut Body {
        self.array(8, |body| {
            for (name, value) in all {
                body.align(8).string(name).value(value);
            }
        })
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Text(text) => drop(self.signature("s").string(text)),
            Value::Boolean(value) => drop(self.signature("b").boolean(*value)),
            Value::Number(number) => self.signature("t").align(8).0.extend(number.to_ne_bytes()),
            Value::Pid(pid) => drop(self.signature("au").array(4, |body| _ = body.u32(*pid))),
            Value::Bytes(bytes) => drop(self.signature("ay").array(1, |body| body.0.extend(bytes))),
        }
    }

    /// An empty array of structures.
    pub(super) fn nothing(&mut self) -> &mut Body {
        self.array(8, |_| {})
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn align(&mut self, to: usize) -> &mut Self {
        self.at = self.at.next_multiple_of(to);
        self
    }

    fn byte(&mut self) -> Option<u8> {
        self.at += 1;
        self.bytes.get(self.at - 1).copied()
    }

    fn u32(&mut self) -> Option<u32> {
        self.align(4).at += 4;
        let bytes = self.bytes.get(self.at - 4..self.at)?;
        bytes.try_into().ok().map(u32::from_ne_bytes)
    }

    fn text(&mut self, length: usize) -> Option<String> {
        // Behind each text stands a zero.
        let bytes = self.bytes.get(self.at..self.at.checked_add(length)?)?;
        self.at += length + 1;
        std::str::from_utf8(bytes).ok().map(str::to_owned)
    }

    fn string(&mut self) -> Option<String> {
        let length = self.u32()?;
        self.text(length as usize)
    }

    fn signature(&mut self) -> Option<String> {
        let length = self.byte()?;
        self.text(length.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_where_the_wire_wants_them() {
        let mut body = Body::default();
        body.string("a").properties(&[("P", Value::Pid(7)), ("T", Value::Number(u64::MAX))]).nothing();
        let mut reader = Reader { bytes: &body.0, at: 0 };
        assert_eq!(reader.string().unwrap(), "a");
        let length = reader.u32().unwrap() as usize;
        let start = reader.align(8).at;
        assert_eq!((reader.string().unwrap(), reader.signature().unwrap()), ("P".into(), "au".into()));
        assert_eq!((reader.u32(), reader.u32()), (Some(4), Some(7)));
        assert_eq!((reader.align(8).string().unwrap(), reader.signature().unwrap()), ("T".into(), "t".into()));
        assert_eq!(reader.align(8).at + 8, start + length);
        reader.at += 8;
        assert_eq!((reader.u32(), reader.align(8).at), (Some(0), body.0.len()));
    }

    #[test]
    fn what_is_cut_off_is_no_message() {
        let mut reader = Reader { bytes: &[9, 0, 0, 0, b'a'], at: 0 };
        assert_eq!(reader.string(), None);
        assert_eq!(Message { body: vec![1], ..Message::default() }.strings(1), Vec::<String>::new());
    }

    #[test]
    fn nothing_of_the_handshake_is_left_to_be_read_with_the_first_call() {
        use std::io::{Read as _, Write as _};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("private");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let systemd = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut said = [0; 100];
            let count = stream.read(&mut said).unwrap();
            stream.write_all(b"OK 0123456789abcdef0123456789abcdef\r\n").unwrap();
            String::from_utf8(said[..count].to_vec()).unwrap()
        });
        Bus::connect(path.as_os_str().as_encoded_bytes(), 0).unwrap();
        assert_eq!(systemd.join().unwrap(), "\0AUTH EXTERNAL 30\r\nBEGIN\r\n");
    }
}

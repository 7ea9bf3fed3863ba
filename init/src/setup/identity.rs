//! Who the machine is: its id and its host name.

use std::fs;
use std::io;

use super::durable;
use crate::cmdline::Cmdline;
use crate::story;
use crate::sys::random;

const MACHINE_ID: &str = "/var/lib/orlop/machine-id";
const HOSTNAME: &str = "/var/lib/orlop/hostname";
/// HOST_NAME_MAX
const MAX_HOSTNAME_BYTES: usize = 64;

/// 32 lower-case hexadecimal digits, as machine-id(5) has it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct MachineId(String);

impl MachineId {
    /// `None` for an empty or unfinished file, for the word `uninitialized` and for anything else that is no id:
    /// machine-id(5) takes all of them for a first boot.
    fn parse(text: &str) -> Option<Self> {
        let id = text.strip_suffix('\n').unwrap_or(text);
        let digits = id.len() == 32 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (digits && id.bytes().any(|byte| byte != b'0')).then(|| Self(id.to_owned()))
    }

    /// A version 4 UUID without its dashes, as systemd makes them.
    fn of(uuid: [u8; 16]) -> Self {
        let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
        Self(uuid.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect())
    }
}

/// Reads or makes the machine's id and sets the host name.
pub(super) fn set_up(cmdline: &Cmdline) {
    let id = machine_id();
    let name = hostname(cmdline, id.as_ref());
    match nix::unistd::sethostname(&name) {
        Ok(()) => story::say("machine", &name),
        Err(errno) => story::warn("machine", format_args!("set the host name {name}: {}", errno.desc())),
    }
}

fn machine_id() -> Option<MachineId> {
    match fs::read_to_string(MACHINE_ID) {
        Ok(text) => {
            if let Some(id) = MachineId::parse(&text) {
                return Some(id);
            }
            story::warn("machine", format_args!("{MACHINE_ID} holds no machine id: made anew"));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => story::warn("machine", format_args!("read {MACHINE_ID}: {error}")),
    }
    let id = match random::uuid() {
        Ok(uuid) => MachineId::of(uuid),
        Err(errno) => {
            story::warn("machine", format_args!("draw a machine id: {}", errno.desc()));
            return None;
        }
    };
    if let Err(error) = durable::write(MACHINE_ID, format!("{}\n", id.0).as_bytes(), 0o444) {
        story::warn("machine", format_args!("write {MACHINE_ID}: {error}"));
    }
    Some(id)
}

/// The command line (`orlop.hostname=`, the fifth field of `ip=`), then the stored name, then one out of the id.
fn hostname(cmdline: &Cmdline, id: Option<&MachineId>) -> String {
    let stored = fs::read_to_string(HOSTNAME).unwrap_or_default();
    let given = cmdline.value("orlop.hostname").unwrap_or_default();
    let with_address = cmdline.value("ip").and_then(|ip| ip.split(':').nth(4)).unwrap_or_default();
    for (name, from) in [(given, "orlop.hostname"), (with_address, "ip"), (stored.trim(), HOSTNAME)] {
        if is_hostname(name) {
            return name.to_owned();
        }
        if !name.is_empty() {
            story::warn("machine", format_args!("{from}: {name} is no host name"));
        }
    }
    id.map_or_else(|| "orlop".to_owned(), |id| format!("orlop-{}", &id.0[..6]))
}

/// Letters, digits, dashes inside, dots between labels (RFC 1123).
fn is_hostname(name: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= MAX_HOSTNAME_BYTES && name.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_machine_id_5_calls_an_id() {
        let id = "4a1c0e5b9f2d4c7e8a3b6d9f0e1c2b3a";
        assert_eq!(MachineId::parse(&format!("{id}\n")).unwrap().0, id);
        assert!(MachineId::parse(id).is_some());
        for bad in ["", "\n", "uninitialized\n", &id[1..], &format!("{id}0"), &"0".repeat(32), &id.to_uppercase()] {
            assert_eq!(MachineId::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_new_id_is_a_version_4_uuid() {
        let id = MachineId::of(random::uuid().unwrap()).0;
        assert_eq!((&id[12..13], "89ab".contains(&id[16..17])), ("4", true), "{id}");
        assert_eq!(MachineId::parse(&id).unwrap().0, id);
    }

    #[test]
    fn host_names() {
        for good in ["a", "web-1", "web-1.example.org", "0"] {
            assert!(is_hostname(good), "{good}");
        }
        for bad in ["", "-a", "a-", "a..b", ".a", "a b", "a_b", "ä", &"a".repeat(65)] {
            assert!(!is_hostname(bad), "{bad}");
        }
        let id = MachineId::of([0xab; 16]);
        assert_eq!(hostname(&Cmdline::parse(""), Some(&id)), "orlop-ababab");
        assert_eq!(hostname(&Cmdline::parse("orlop.hostname=deck"), Some(&id)), "deck");
        assert_eq!(hostname(&Cmdline::parse("orlop.hostname=a_b"), None), "orlop");
        let ip = "ip=10.0.2.15::10.0.2.2:255.255.255.0:shelf:eth0:off";
        assert_eq!(hostname(&Cmdline::parse(ip), None), "shelf");
        assert_eq!(hostname(&Cmdline::parse(&format!("{ip} orlop.hostname=deck")), None), "deck");
    }
}

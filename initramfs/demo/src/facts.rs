//! What a container can find out about itself: from /proc, its cgroup, and by trying.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// A name and what was found; nothing where the kernel does not show it here.
pub(crate) type Fact = (String, Option<String>);

#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) hostname: String,
    pub(crate) container_uptime: Duration,
    pub(crate) machine_uptime: Option<Duration>,
    pub(crate) identity: Vec<Fact>,
    pub(crate) limits: Vec<Fact>,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) attempts: Vec<Attempt>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) at: String,
    pub(crate) kind: String,
    pub(crate) options: String,
}

/// Something of the host that was tried, and what came of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub(crate) what: &'static str,
    pub(crate) outcome: String,
    /// Whether the host kept it to itself.
    pub(crate) closed: bool,
}

pub(crate) fn collect(started: Instant) -> Facts {
    let status = read("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(|value| value.split_whitespace().next().unwrap_or_default().to_owned())
    };
    let fact = |name: &str, value: Option<String>| (name.to_owned(), value);
    Facts {
        hostname: read("/proc/sys/kernel/hostname").unwrap_or_else(|| "unknown".to_owned()),
        container_uptime: started.elapsed(),
        machine_uptime: read("/proc/uptime").and_then(|text| uptime(&text)),
        identity: vec![
            fact("Process id", Some(std::process::id().to_string())),
            fact("User and group", field("Uid").zip(field("Gid")).map(|(user, group)| format!("{user}:{group}"))),
            fact("User ids of the host", read("/proc/self/uid_map").map(|map| user_map(&map))),
            fact("Capabilities", field("CapEff").map(|mask| capabilities(&mask))),
            fact("New privileges", field("NoNewPrivs").map(|value| flag(&value, "refused", "possible"))),
            fact("System call filter", field("Seccomp").map(|value| flag(&value, "on", "off"))),
            fact("Processes in sight", processes().map(|count| count.to_string())),
            fact("Kernel", read("/proc/sys/kernel/osrelease")),
        ],
        limits: limits(),
        mounts: read("/proc/self/mountinfo").map(|text| mounts(&text)).unwrap_or_default(),
        attempts: attempts(),
    }
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim_end().to_owned())
}

fn uptime(text: &str) -> Option<Duration> {
    let seconds: f64 = text.split_whitespace().next()?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

fn flag(value: &str, on: &str, off: &str) -> String {
    if value == "0" { off.to_owned() } else { on.to_owned() }
}

/// The map's lines are: id here, id on the host, how many.
fn user_map(map: &str) -> String {
    let ranges: Vec<String> = map
        .lines()
        .filter_map(|line| {
            let numbers: Vec<u64> = line.split_whitespace().filter_map(|number| number.parse().ok()).collect();
            let [_, outside, count] = numbers[..] else { return None };
            Some(match (outside, count) {
                (0, 4_294_967_295) => "the same".to_owned(),
                (first, count) => format!("{first} to {}", first + count.saturating_sub(1)),
            })
        })
        .collect();
    ranges.join(", ")
}

fn capabilities(mask: &str) -> String {
    match u64::from_str_radix(mask, 16) {
        Ok(0) => "none".to_owned(),
        Ok(mask) => format!("{} of 41", mask.count_ones()),
        Err(_) => mask.to_owned(),
    }
}

fn processes() -> Option<usize> {
    let entries = fs::read_dir("/proc").ok()?.flatten();
    Some(entries.filter(|entry| entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit())).count())
}

fn limits() -> Vec<Fact> {
    let cgroup = |file: &str| read(&format!("/sys/fs/cgroup/{file}"));
    let used_of = |used: Option<String>, limit: Option<String>, show: fn(&str) -> String| {
        limit.map(|limit| match used {
            Some(used) => format!("{} of {}", show(&used), show(&limit)),
            None => show(&limit),
        })
    };
    let plain = |text: &str| if text == "max" { "no limit".to_owned() } else { text.to_owned() };
    let mut found = vec![
        ("Memory".to_owned(), used_of(cgroup("memory.current"), cgroup("memory.max"), bytes)),
        ("Processes and threads".to_owned(), used_of(cgroup("pids.current"), cgroup("pids.max"), plain)),
        ("Processor".to_owned(), cgroup("cpu.max").map(|text| processor(&text))),
    ];
    for (name, label) in [
        ("Max open files", "Open files"),
        ("Max processes", "Processes of this user"),
        ("Max core file size", "Core dumps"),
    ] {
        let limits = read("/proc/self/limits");
        let line = limits.as_deref().and_then(|text| text.lines().find_map(|line| line.strip_prefix(name)));
        let soft = line.and_then(|line| line.split_whitespace().next()).map(str::to_owned);
        found.push((label.to_owned(), soft.map(|soft| if soft == "unlimited" { "no limit".to_owned() } else { soft })));
    }
    found
}

/// `max` or a number of bytes.
fn bytes(text: &str) -> String {
    match text.parse::<u64>() {
        Ok(bytes) if bytes >= 1 << 30 => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
        Ok(bytes) if bytes >= 1 << 20 => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
        Ok(bytes) => format!("{} KiB", bytes >> 10),
        Err(_) => "no limit".to_owned(),
    }
}

/// `max 100000`, or microseconds in a period of microseconds.
fn processor(text: &str) -> String {
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    match numbers[..] {
        [quota, period] if period > 0.0 => format!("{:.2} processors", quota / period),
        _ => "no limit".to_owned(),
    }
}

/// Lines of proc_pid_mountinfo(5); fields are separated by blanks, which paths have as `\040`.
fn mounts(text: &str) -> Vec<Mount> {
    text.lines()
        .filter_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            let mut fields = before.split(' ').skip(4);
            let (at, options) = (fields.next()?, fields.next()?);
            Some(Mount { at: unescape(at), kind: after.split(' ').next()?.to_owned(), options: options.to_owned() })
        })
        .collect()
}

fn unescape(path: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        let octal = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if *first == b'\\' => {
                bytes.push(byte);
                rest = &after[3..];
            }
            _ => bytes.push(*first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// /dev/null, 1:3: the runtime binds it over files that must not be seen.
const NULL_DEVICE: u64 = 1 << 8 | 3;

/// Harmless: what opens is closed again, nothing is written but a file of our own.
fn attempts() -> Vec<Attempt> {
    let open = |what, path: &str| {
        let result = match fs::metadata(path) {
            // A container's own empty folder over the host's is as good as none.
            Ok(data) if data.is_dir() => fs::read_dir(path).map(|mut entries| entries.next().is_some()),
            // So is a file that the null device lies over.
            Ok(data) if data.rdev() == NULL_DEVICE => Ok(false),
            Ok(_) => File::open(path).map(|_| true),
            Err(error) => Err(error),
        };
        attempt(what, result)
    };
    let write = |what, path: &str| attempt(what, OpenOptions::new().write(true).open(path).map(|_| true));
    let own = Path::new("/.written-by-the-demo");
    let created = File::create_new(own).map(|_| true);
    if created.is_ok() {
        // It proved what it should; nobody needs it.
        let _ = fs::remove_file(own);
    }
    vec![
        open("Read the machine's disks", "/dev/vda"),
        open("Read physical memory", "/dev/mem"),
        open("Read the kernel's memory", "/proc/kcore"),
        open("Read the kernel's log", "/dev/kmsg"),
        open("See the firmware's tables", "/sys/firmware/acpi"),
        open("Talk to the supervisor", "/run/orlop/control.sock"),
        open("See other containers' data", "/var/lib/orlop"),
        open("Find the machine's programs", "/usr/bin/orlop"),
        write("Change a setting of the kernel", "/proc/sys/kernel/core_pattern"),
        write("Press the kernel's emergency keys", "/proc/sysrq-trigger"),
        attempt("Write into its own image", created),
    ]
}

fn attempt(what: &'static str, result: std::io::Result<bool>) -> Attempt {
    let (outcome, closed) = match result {
        Ok(true) => ("possible".to_owned(), false),
        Ok(false) => ("hidden: empty".to_owned(), true),
        Err(error) => match error.kind() {
            ErrorKind::NotFound => ("not there".to_owned(), true),
            ErrorKind::PermissionDenied => ("refused".to_owned(), true),
            ErrorKind::ReadOnlyFilesystem => ("read-only".to_owned(), true),
            _ => (error.to_string(), true),
        },
    };
    Attempt { what, outcome, closed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read_with_their_blanks() {
        let text = "36 35 0:42 / / ro,relatime - overlay overlay ro,lowerdir=/l\n\
            37 36 0:5 / /data\\040of\\011mine rw,nosuid master:1 - xfs /dev/vda rw\nbroken\n";
        let found = mounts(text);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0], Mount { at: "/".into(), kind: "overlay".into(), options: "ro,relatime".into() });
        assert_eq!((&*found[1].at, &*found[1].kind), ("/data of\tmine", "xfs"));
        assert_eq!(unescape("a\\04"), "a\\04", "a cut escape stays what it is");
    }

    #[test]
    fn numbers_are_told_as_people_read_them() {
        assert_eq!(bytes("67108864"), "64.0 MiB");
        assert_eq!(bytes("1610612736"), "1.5 GiB");
        assert_eq!(bytes("max"), "no limit");
        assert_eq!(processor("max 100000"), "no limit");
        assert_eq!(processor("50000 100000"), "0.50 processors");
        assert_eq!(capabilities("0000000000000000"), "none");
        assert_eq!(capabilities("00000000a80425fb"), "14 of 41");
        assert_eq!(user_map("         0          0 4294967295"), "the same");
        assert_eq!(user_map("         0     100000      65536"), "100000 to 165535");
        assert_eq!(uptime("12.50 80.1"), Some(Duration::from_millis(12_500)));
    }

    #[test]
    fn an_attempt_says_how_it_ended() {
        assert!(attempt("x", Err(ErrorKind::NotFound.into())).closed);
        assert_eq!(attempt("x", Ok(false)).outcome, "hidden: empty");
        assert!(!attempt("x", Ok(true)).closed);
    }

    #[test]
    fn this_very_process_can_be_described() {
        let facts = collect(Instant::now());
        assert!(!facts.hostname.is_empty());
        assert!(facts.mounts.iter().any(|mount| mount.at == "/proc"));
        assert!(!Path::new("/.written-by-the-demo").exists());
    }
}

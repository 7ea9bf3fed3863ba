//! A container's cgroup as a scope of systemd, where an engine asks for it (`--systemd-cgroup`): systemd makes the cgroup, puts it
//! where its slice lies, and leaves what is below it to us (Delegate=yes; see "Control Group APIs and Delegation" of systemd).
//!
//! A scope begins with a process, and systemd is the one that moves it there. That process is a helper which does nothing; with
//! the scope's cgroup open the container's own process is cloned into it, as into any other, and the helper ends. So nothing else
//! in the runtime differs, and a scope whose container never came to be is empty and goes by itself.

mod bus;

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use self::bus::{Body, Bus, Kind, Message};
use super::cgroup::Setting;
use super::error::{Error, Result, Step};
use super::procfs::Procfs;
use super::sys::process::{self, Side};
use super::sys::{Errno, fs, pipe};

/// A property of a unit.
pub(crate) enum Value {
    Text(String),
    Boolean(bool),
    Number(u64),
    Pid(u32),
    Bytes(Vec<u8>),
}

/// What `linux.cgroupsPath` says in systemd's form, `slice:prefix:name`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Scope {
    pub(crate) unit: String,
    slice: String,
}

impl Scope {
    pub(crate) fn parse(wanted: Option<&str>, id: &str, rootless: bool) -> Result<Scope> {
        let usual = if rootless { "user.slice" } else { "system.slice" };
        let Some(wanted) = wanted else {
            return Ok(Scope { unit: format!("orlop-{}.scope", escaped(id)), slice: usual.to_owned() });
        };
        let refuse = |why: &str| Err(Error::Cgroup { path: wanted.chars().take(200).collect(), why: why.to_owned() });
        let parts: Vec<&str> = wanted.split(':').collect();
        let [slice, prefix, name] = parts[..] else {
            return refuse("with --systemd-cgroup, linux.cgroupsPath has to be of the form slice:prefix:name");
        };
        let (prefix, name) = (escaped(prefix), escaped(name));
        let unit = if prefix.is_empty() { format!("{name}.scope") } else { format!("{prefix}-{name}.scope") };
        // The first part is a unit's name as it stands, the others are an engine's words.
        if name.is_empty() || escaped(slice) != slice || wanted.contains('/') || slice.len().max(unit.len()) > 255 {
            return refuse("linux.cgroupsPath does not name a unit of systemd");
        }
        let slice = match slice {
            "" => usual,
            "-" => "-.slice",
            other if other.ends_with(".slice") => other,
            _ => return refuse("the first part of linux.cgroupsPath is not the name of a slice"),
        };
        Ok(Scope { unit, slice: slice.to_owned() })
    }
}

/// What may not stand in the name of a unit, in the form of systemd-escape(1).
fn escaped(text: &str) -> String {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_-.@\\".contains(&b);
    text.bytes().map(|b| if allowed(b) { char::from(b).to_string() } else { format!("\\x{b:02x}") }).collect()
}

/// Keeps a new scope from being empty; ends with us.
pub(crate) struct Helper {
    _alive: OwnedFd,
    pidfd: OwnedFd,
    pid: i32,
}

impl Helper {
    fn start() -> Result<Helper> {
        let (read, write) = pipe::new().step("create", "pipe")?;
        match process::clone(0, None).step("clone", "a process for the scope")? {
            Side::Parent { pidfd, pid } => Ok(Helper { _alive: write, pidfd, pid }),
            Side::Child => {
                drop(write);
                let _ = fs::read(read.as_fd(), &mut [0]);
                process::exit_now(0)
            }
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = process::send_signal(self.pidfd.as_fd(), libc::SIGKILL);
        let _ = process::wait(self.pidfd.as_fd());
    }
}

pub(crate) struct Systemd {
    bus: Bus,
    /// What came in front of an answer.
    early: VecDeque<Message>,
}

impl Systemd {
    /// The machine's systemd, or the user's own.
    pub(crate) fn connect(rootless: bool, proc: &Procfs) -> Result<Systemd> {
        let folder = match std::env::var_os("XDG_RUNTIME_DIR").filter(|_| rootless) {
            Some(folder) => PathBuf::from(folder),
            None => PathBuf::from("/run"),
        };
        let path = folder.join("systemd/private");
        let map = proc.read(&format!("{}/uid_map", std::process::id())).step("read", "/proc/self/uid_map")?;
        match Bus::connect(path.as_os_str().as_encoded_bytes(), outside(&map, process::effective_user())) {
            Ok(bus) => Ok(Systemd { bus, early: VecDeque::new() }),
            Err(Errno(libc::ENOENT | libc::ECONNREFUSED)) => Err(Error::Usage(format!(
                "--systemd-cgroup is not available: no systemd answers at {}; have the engine use cgroupfs (Podman: \
                 --cgroup-manager=cgroupfs, Docker: native.cgroupdriver=cgroupfs, containerd: SystemdCgroup = false)",
                path.display()
            ))),
            other => other.map(|bus| Systemd { bus, early: VecDeque::new() }).step("connect to", path.display()),
        }
    }

    /// Starts a scope; gives its cgroup and what keeps it there until the container's process is in it.
    pub(crate) fn start(
        &mut self,
        scope: &Scope,
        id: &str,
        limits: &[Setting],
        proc: &Procfs,
    ) -> Result<(String, Helper)> {
        let helper = Helper::start()?;
        let mut all = vec![
            ("Description", Value::Text(format!("orlop-oci container {id}"))),
            ("Slice", Value::Text(scope.slice.clone())),
            ("PIDs", Value::Pid(helper.pid.unsigned_abs())),
            ("Delegate", Value::Boolean(true)),
            // Containers are the engine's to end, also at shutdown, and none of its failed ones stays behind.
            ("DefaultDependencies", Value::Boolean(false)),
            ("CollectMode", Value::Text("inactive-or-failed".to_owned())),
        ];
        all.extend(properties(limits));
        let mut body = Body::default();
        body.string(&scope.unit).string("replace").properties(&all).nothing();
        self.job("start", &scope.unit, "StartTransientUnit", "ssa(sv)a(sa(sv))", &body)?;
        let text = proc.read(&format!("{}/cgroup", helper.pid)).step("read", "the scope's cgroup")?;
        let path = text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default().to_owned();
        if path.rsplit('/').next() == Some(&scope.unit) {
            return Ok((path, helper));
        }
        Err(Error::Cgroup { path, why: format!("is not that of {}, which systemd says it has started", scope.unit) })
    }

    /// What systemd is to set again whenever it sets up the cgroup anew (`systemctl daemon-reload`).
    pub(crate) fn set(&mut self, unit: &str, limits: &[Setting]) -> Result<()> {
        let all: Vec<_> = properties(limits).collect();
        let mut body = Body::default();
        body.string(unit).boolean(true).properties(&all);
        let answer = self.ask("SetUnitProperties", "sba(sv)", &body).step("set properties of", unit)?;
        refused("set properties of", unit, &answer)
    }

    /// Waits until the scope is gone; fine if it is already.
    pub(crate) fn stop(&mut self, unit: &str) -> Result<()> {
        let mut body = Body::default();
        body.string(unit).string("replace");
        self.job("stop", unit, "StopUnit", "ss", &body)
    }

    /// Calls what starts a job, and waits for the job.
    fn job(&mut self, step: &'static str, unit: &str, member: &str, signature: &str, body: &Body) -> Result<()> {
        let answer = self.ask(member, signature, body).step(step, unit)?;
        if step == "stop" && answer.error.ends_with(".NoSuchUnit") {
            return Ok(());
        }
        refused(step, unit, &answer)?;
        let job = answer.strings(0).into_iter().next().unwrap_or_default();
        loop {
            let message = match self.early.pop_front() {
                Some(message) => message,
                None => self.bus.next().step(step, unit)?,
            };
            if message.kind != Kind::Signal || message.member != "JobRemoved" {
                continue;
            }
            // Its number, path, unit and result.
            if let [path, _, result] = &message.strings(1)[..]
                && *path == job
            {
                if result == "done" {
                    return Ok(());
                }
                return Err(Error::Cgroup {
                    path: unit.to_owned(),
                    why: format!("systemd's job to {step} it: {result}"),
                });
            }
        }
    }

    fn ask(&mut self, member: &str, signature: &str, body: &Body) -> super::sys::Result<Message> {
        let serial = self.bus.call(member, signature, body)?;
        loop {
            let message = self.bus.next()?;
            if message.reply_to == serial && matches!(message.kind, Kind::Answer | Kind::Failure) {
                return Ok(message);
            }
            // A job may be over before its number is told.
            self.early.push_back(message);
        }
    }
}

fn refused(step: &str, unit: &str, answer: &Message) -> Result<()> {
    if answer.kind == Kind::Answer {
        return Ok(());
    }
    let why = answer.strings(0).into_iter().next().unwrap_or_default();
    Err(Error::Cgroup { path: unit.to_owned(), why: format!("systemd does not {step} it: {} ({why})", answer.error) })
}

/// Who a user of this user namespace is one level up, which is where systemd looks from.
fn outside(map: &str, user: u32) -> u32 {
    let mapped = map.lines().find_map(|line| {
        let mut numbers = line.split_ascii_whitespace().map(|one| one.parse::<u32>().ok());
        let (inside, outside, count) = (numbers.next()??, numbers.next()??, numbers.next()??);
        user.checked_sub(inside).filter(|at| *at < count).and_then(|at| outside.checked_add(at))
    });
    mapped.unwrap_or(user)
}

/// The limits as systemd's properties (systemd.resource-control(5)); those it has none for are only in the cgroup's files.
fn properties(limits: &[Setting]) -> impl Iterator<Item = (&'static str, Value)> {
    limits.iter().flat_map(|setting| {
        let value = setting.value.as_str();
        let number = |text: &str| if text == "max" { Some(u64::MAX) } else { text.parse().ok() };
        let one = |name, value: Option<Value>| value.map(|value| (name, value)).into_iter().collect();
        match setting.file.as_str() {
            "memory.max" => one("MemoryMax", number(value).map(Value::Number)),
            "memory.high" => one("MemoryHigh", number(value).map(Value::Number)),
            "memory.low" => one("MemoryLow", number(value).map(Value::Number)),
            "memory.min" => one("MemoryMin", number(value).map(Value::Number)),
            "memory.swap.max" => one("MemorySwapMax", number(value).map(Value::Number)),
            "pids.max" => one("TasksMax", number(value).map(Value::Number)),
            "cpu.weight" => one("CPUWeight", number(value).map(Value::Number)),
            "io.weight" => one("IOWeight", number(value.trim_start_matches("default ")).map(Value::Number)),
            "cpuset.cpus" => one("AllowedCPUs", Some(Value::Bytes(bits(value)))),
            "cpuset.mems" => one("AllowedMemoryNodes", Some(Value::Bytes(bits(value)))),
            "cpu.max" => bandwidth(value).unwrap_or_default(),
            _ => Vec::new(),
        }
    })
}

/// `QUOTA PERIOD` in microseconds, as time per second and period.
fn bandwidth(value: &str) -> Option<Vec<(&'static str, Value)>> {
    let (quota, period) = value.split_once(' ')?;
    let period: u64 = period.parse().ok()?;
    let quota: Option<u64> = quota.parse().ok();
    // systemd counts in steps of 10 ms; what is set must not be less than what was asked for.
    let step = |quota: u64| (quota.saturating_mul(1_000_000) / period.max(1)).next_multiple_of(10_000);
    Some(vec![
        ("CPUQuotaPerSecUSec", Value::Number(quota.map_or(u64::MAX, step))),
        ("CPUQuotaPeriodUSec", Value::Number(period)),
    ])
}

/// `0-2,5` as bits, the lowest first.
fn bits(list: &str) -> Vec<u8> {
    let mut bits = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Ok(first), Ok(last)) = (first.trim().parse::<usize>(), last.trim().parse::<usize>()) else { continue };
        for number in first..=last.min(65535) {
            bits.resize(bits.len().max(number / 8 + 1), 0_u8);
            if let Some(byte) = bits.get_mut(number / 8) {
                *byte |= 1 << (number % 8);
            }
        }
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemds_form_of_a_cgroups_path() {
        let scope = |wanted: &str| Scope::parse(Some(wanted), "web", false).ok().map(|s| (s.slice, s.unit));
        let is = |slice: &str, unit: &str| Some((slice.to_owned(), unit.to_owned()));
        assert_eq!(scope("machine.slice:libpod:a1"), is("machine.slice", "libpod-a1.scope"));
        assert_eq!(scope(":docker:a1"), is("system.slice", "docker-a1.scope"));
        assert_eq!(scope("-::a1"), is("-.slice", "a1.scope"));
        assert_eq!(scope("a.slice:b c:d+é"), is("a.slice", "b\\x20c-d\\x2b\\xc3\\xa9.scope"));
        assert_eq!(Scope::parse(None, "a+b", false).unwrap().unit, "orlop-a\\x2bb.scope");
        let long = format!("a.slice:b:{}", "+".repeat(70));
        for bad in [
            &long,
            "a+b.slice:b:c",
            "/a/b",
            "a:b:c",
            "a.slice:b",
            "a.slice:b:",
            "a.slice:b:c:d",
            "a.slice:b:c/d",
            "../a.slice:b:c",
        ] {
            assert_eq!(scope(bad), None, "{bad}");
        }
        assert_eq!(Scope::parse(None, "web", true).unwrap().slice, "user.slice");
    }

    #[test]
    fn users_as_seen_from_outside() {
        assert_eq!(outside("         0          0 4294967295\n", 0), 0);
        assert_eq!(outside("0 1000 1\n1 100000 65536\n", 0), 1000);
        assert_eq!(outside("0 1000 1\n1 100000 65536\n", 5), 100_004);
    }

    #[test]
    fn limits_become_properties() {
        let setting = |file: &str, value: &str| Setting::of(file, value);
        let all = [setting("memory.max", "max"), setting("cpu.max", "15000 100000"), setting("cpuset.cpus", "0-2,9")];
        let all: Vec<_> = properties(&all).collect();
        let [memory, quota, period, cpus] = &all[..] else { panic!() };
        assert!(matches!(memory, ("MemoryMax", Value::Number(u64::MAX))));
        assert!(matches!(quota, ("CPUQuotaPerSecUSec", Value::Number(150_000))));
        assert!(matches!(period, ("CPUQuotaPeriodUSec", Value::Number(100_000))));
        assert!(matches!(&cpus.1, Value::Bytes(bits) if bits == &[7, 2]));
        assert!(matches!(bandwidth("max 50000").unwrap()[0].1, Value::Number(u64::MAX)));
    }
}

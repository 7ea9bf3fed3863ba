//! A machine made of namespaces: `init` as PID 1, the test program as its supervisor, a pseudo terminal as console.

use std::ffi::CString;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, poll};
use nix::pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::stat::Mode;

use crate::sys;

/// For anything that is to happen; long, because the machine that runs the tests may be busy.
const DEADLINE: Duration = Duration::from_secs(120);

pub(crate) struct Builder {
    script: &'static str,
    envp: Vec<(String, String)>,
    timing: Vec<String>,
    console: bool,
    close_stdio: bool,
    max_fds: Option<u64>,
}

pub(crate) struct Machine {
    pid: i32,
    console: PtyMaster,
    shown: String,
    report: fs::File,
    lines: Vec<String>,
    partial: String,
    folder: PathBuf,
    ended: bool,
}

/// A machine whose supervisor follows a script of `scripts.rs`.
pub(crate) fn machine(script: &'static str) -> Builder {
    Builder { script, envp: Vec::new(), timing: Vec::new(), console: true, close_stdio: false, max_fds: None }
}

impl Builder {
    /// An environment variable of init; a later one of the same name does not replace an earlier.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.envp.push((name.into(), value.into()));
        self
    }

    /// Milliseconds for one of init's times.
    pub(crate) fn timing(mut self, name: &str, ms: u32) -> Self {
        self.timing.push(format!("{name}={ms}"));
        self
    }

    pub(crate) fn without_dev(mut self) -> Self {
        self.console = false;
        self
    }

    pub(crate) fn without_stdio(mut self) -> Self {
        self.close_stdio = true;
        self
    }

    pub(crate) fn max_fds(mut self, max: u64) -> Self {
        self.max_fds = Some(max);
        self
    }

    pub(crate) fn start(self) -> Machine {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("pid1-{}-{number}", std::process::id()));
        for name in ["dev", "run"] {
            fs::create_dir_all(folder.join(name)).unwrap();
        }
        let fifo = folder.join("report");
        nix::unistd::mkfifo(&fifo, Mode::from_bits_truncate(0o666)).unwrap();
        // Read and write: it never ends while nobody writes.
        let report = fs::OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
        fcntl(&report, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();

        let console = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).unwrap();
        grantpt(&console).unwrap();
        unlockpt(&console).unwrap();
        let terminal = ptsname_r(&console).unwrap();

        let text = |text: &str| CString::new(text).unwrap();
        let path = |path: PathBuf| CString::new(path.into_os_string().into_string().unwrap()).unwrap();
        let supervisor = std::env::current_exe().unwrap();
        // What the test asks for comes first: getenv takes the first of a name.
        let mut envp: Vec<_> = self.envp.iter().map(|(name, value)| text(&format!("{name}={value}"))).collect();
        envp.extend([
            text("ORLOP_BOOT=init:1,root:2"),
            text("ORLOP_STATE=volatile"),
            text("ORLOP_TEST_NO_SETUP=1"),
            text(&format!("ORLOP_SUPERVISOR={}", supervisor.display())),
            text(&format!("ORLOP_TEST_SCRIPT={}", self.script)),
            text(&format!("ORLOP_TEST_REPORT={}", fifo.display())),
            text(&format!("ORLOP_TEST_TIMING={}", self.timing.join(","))),
        ]);
        let plan = sys::Plan {
            program: text(env!("CARGO_BIN_EXE_init")),
            envp,
            dev: path(folder.join("dev")),
            run: path(folder.join("run")),
            console: self.console.then(|| text(&terminal)),
            close_stdio: self.close_stdio,
            max_fds: self.max_fds,
        };
        let pid = sys::start(&plan).unwrap_or_else(|error| {
            panic!(
                "cannot make a user and pid namespace: {error}\nThese tests run init as a real PID 1 and need user \
                 namespaces: check /proc/sys/user/max_user_namespaces, kernel.unprivileged_userns_clone and \
                 kernel.apparmor_restrict_unprivileged_userns, or run them as root."
            )
        });
        let (shown, lines, partial) = (String::new(), Vec::new(), String::new());
        Machine { pid, console, shown, report, lines, partial, folder, ended: false }
    }
}

impl Machine {
    /// Sends a signal to PID 1, as a parent namespace may.
    pub(crate) fn signal(&self, signal: i32) {
        sys::kill(self.pid, signal);
    }

    /// Opens a folder of the machine from outside.
    pub(crate) fn open(&self, path: &str) -> fs::File {
        fs::File::open(format!("/proc/{}/root{path}", self.pid)).unwrap()
    }

    /// Types on the console.
    pub(crate) fn key(&mut self, keys: &str) {
        self.console.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until the supervisor reports a line that starts so; returns its rest. Earlier lines are dropped.
    pub(crate) fn expect(&mut self, start: &str) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            while !self.lines.is_empty() {
                let line = self.lines.remove(0);
                assert!(!line.starts_with("panic"), "the supervisor of the test: {line}");
                if let Some(rest) = line.strip_prefix(start) {
                    return rest.trim().to_owned();
                }
            }
            self.wait(deadline, &format!("the report `{start}`"));
        }
    }

    /// Waits until the console shows a text; what was shown up to its end is forgotten.
    pub(crate) fn expect_console(&mut self, text: &str) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(at) = self.shown.find(text) {
                self.shown.drain(..at + text.len());
                return;
            }
            self.wait(deadline, &format!("`{text}` on the console"));
        }
    }

    /// Waits until something holds for PID 1, whose number outside is given.
    pub(crate) fn wait_for(&mut self, what: &str, holds: impl Fn(i32) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !holds(self.pid) {
            self.wait(deadline, what);
        }
    }

    /// Waits until the machine ends and returns the signal that ended its PID 1: reboot(2) in a pid namespace sends
    /// SIGHUP for a restart and SIGINT for halt and power off.
    pub(crate) fn expect_end(&mut self) -> i32 {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = sys::wait(self.pid, 50) {
                self.ended = true;
                self.drain();
                return status & 0x7f;
            }
            self.drain();
            assert!(Instant::now() < deadline, "the machine did not end; console:\n{}", self.shown);
        }
    }

    /// Asserts that the console showed a text before the machine ended.
    pub(crate) fn expect_shown(&self, text: &str) {
        assert!(self.shown.contains(text), "not on the console: {text}; console:\n{}", self.shown);
    }

    fn wait(&mut self, deadline: Instant, what: &str) {
        let left = deadline.saturating_duration_since(Instant::now());
        let fds = &mut [
            PollFd::new(self.report.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.console.as_fd(), PollFlags::POLLIN),
        ];
        // A console that nobody has open any more reports a hang-up at once: then the pause is this call's alone.
        poll(fds, u16::try_from(left.as_millis().min(500)).unwrap()).unwrap();
        let ended = sys::wait(self.pid, 0);
        self.drain();
        if let Some(status) = ended {
            self.ended = true;
            panic!("PID 1 ended (wait status {status:#x}) while waiting for {what}; console:\n{}", self.shown);
        }
        assert!(!left.is_zero(), "no sign of {what}; console:\n{}", self.shown);
    }

    fn drain(&mut self) {
        let mut bytes = [0; 4096];
        while let Ok(n @ 1..) = self.report.read(&mut bytes) {
            self.partial.push_str(&String::from_utf8_lossy(&bytes[..n]));
        }
        while let Some((line, rest)) = self.partial.split_once('\n') {
            self.lines.push(line.to_owned());
            self.partial = rest.to_owned();
        }
        while let Ok(n @ 1..) = self.console.read(&mut bytes) {
            self.shown.push_str(&String::from_utf8_lossy(&bytes[..n]));
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if !self.ended {
            sys::kill(self.pid, libc::SIGKILL);
            sys::wait(self.pid, 10_000);
        }
        if std::thread::panicking() {
            self.drain();
            eprintln!("console:\n{}", self.shown);
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

//! A booted machine in front of a person: its units, its addresses, Ctrl-C, its end.

use std::io::{self, IsTerminal};
use std::net::TcpListener;
use std::process::{ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use qemu_tests::{Forward, LIMIT, Machine, MachineError};
use serde_json::Value;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use crate::screen::{say, table};

/// As shells report a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// Where the demo answers in the machine.
pub(crate) const DEMO_PORT: u16 = 8080;

/// The forwards asked for, and the demo's: from 8080, or from another port when that is taken.
pub(crate) fn forwards(asked: &[Forward]) -> Vec<Forward> {
    let mut forwards = asked.to_vec();
    if !asked.iter().any(|forward| forward.guest == DEMO_PORT) {
        let taken = TcpListener::bind(("127.0.0.1", DEMO_PORT)).is_err();
        let host = if taken || asked.iter().any(|forward| forward.host == DEMO_PORT) { 0 } else { DEMO_PORT };
        forwards.push(Forward { host, guest: DEMO_PORT });
    }
    forwards
}

/// Ctrl-C and its like, from the moment there is something to end: the first powers the machine off, the second kills it.
pub(crate) struct Interrupts {
    /// How many came.
    count: AtomicI32,
    signals: Mutex<Signals>,
    handle: Handle,
}

impl Interrupts {
    /// From here on a signal waits until [`Self::serve`] deals with it.
    pub(crate) fn watch() -> io::Result<Self> {
        let signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
        let handle = signals.handle();
        Ok(Self { count: AtomicI32::new(0), signals: Mutex::new(signals), handle })
    }

    /// Ends with [`Self::end`]. What it started for the machine is then over, too: nobody keeps the machine.
    pub(crate) fn serve(&self, machine: &Machine) {
        let mut signals = self.signals.lock().unwrap_or_else(PoisonError::into_inner);
        thread::scope(|scope| {
            for _ in signals.forever() {
                if self.count.fetch_add(1, Ordering::AcqRel) > 0 {
                    say("\ncutting the power\n");
                    machine.kill();
                } else {
                    say("\npowering off; Ctrl-C again cuts the power\n");
                    scope.spawn(|| power_off(machine));
                }
            }
        });
    }

    pub(crate) fn end(&self) {
        self.handle.close();
    }

    fn count(&self) -> i32 {
        self.count.load(Ordering::Acquire)
    }
}

/// Asks whoever listens: the rescue screen, the supervisor. A machine that only boots will listen soon; where nobody does for
/// long, or the machine is halted, the power is cut.
fn power_off(machine: &Machine) {
    let started = Instant::now();
    while started.elapsed() < LIMIT {
        let last = machine.console().last_line();
        if last.contains(HALTED) {
            machine.quit();
            return;
        }
        // The request may be on its way already, and nobody answer any more.
        if !last.contains(RESCUE_PROMPT) && machine.ask_to_power_off().is_ok() {
            return;
        }
        let _ = machine.console().type_keys("p\n");
        if machine.wait_end_for(UNDER_WAY).is_ok() {
            return;
        }
    }
    say("nothing in the machine answers: cutting the power\n");
    machine.kill();
}

/// Waits for the units, then says how to reach the machine. Runs beside [`wait`].
pub(crate) fn introduce(machine: &Machine, asked: &[Forward], timing: bool, boot: &Boot) {
    let introduction = || -> Result<String, MachineError> {
        let settled = machine.settled_within(PATIENCE)?;
        let note = if settled.is_none() { "\n  not all of them are settled yet\n" } else { "" };
        let units = settled.map_or_else(|| units(machine), Ok)?;
        boot.is_over();
        let mut text = format!("\n{}{note}", unit_table(&units));
        if timing {
            text.push_str(&format!("\n{}", timing_table(&machine.get("/v1/system/timing")?)));
        }
        text.push_str(&addresses(machine, asked, &units));
        Ok(text)
    };
    match introduction() {
        // Off, as somebody chose on the rescue screen for example.
        _ if machine.has_ended() => {}
        Ok(text) => say(&text),
        Err(error) => say(&format!("\nthe machine does not answer: {error}\n")),
    }
}

fn addresses(machine: &Machine, asked: &[Forward], units: &[Value]) -> String {
    let demo_is_up = units.iter().any(|unit| unit["name"] == "demo" && unit["state"] == "active");
    let is_demo = |forward: &Forward| forward.guest == DEMO_PORT && demo_is_up;
    // The demo's forward is there unasked: a machine without the demo has nothing to say of it.
    let forwards: Vec<Forward> =
        machine.forwards().iter().copied().filter(|forward| is_demo(forward) || is_asked(forward, asked)).collect();
    let silent = silent(machine, &forwards, demo_is_up);
    let mut text = String::from("\n");
    for forward in &forwards {
        let what = if is_demo(forward) { "the demo" } else { "the machine" };
        let address = format!("http://127.0.0.1:{}", forward.host);
        text.push_str(&match silent.contains(&forward.guest) {
            false => format!("  {what} answers at {address}\n"),
            true => format!("  nothing answers yet at {address} (port {} of the machine)\n", forward.guest),
        });
        if is_demo(forward) && forward.host != DEMO_PORT && !is_asked(forward, asked) {
            text.push_str(&format!("  (port {DEMO_PORT} of this host is taken)\n"));
        }
    }
    let command: Vec<String> = std::iter::once(machine.orlop_command().get_program().to_owned())
        .chain(machine.orlop_command().get_args().map(ToOwned::to_owned))
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    format!("{text}\n  {} ps\n\n  Ctrl-C powers the machine off.\n\n", command.join(" "))
}

/// Whether it is there because somebody wants it.
fn is_asked(forward: &Forward, asked: &[Forward]) -> bool {
    asked.iter().any(|asked| asked.guest == forward.guest)
}

/// The guest ports that answer nothing, though all are tried for a while: a started program is not yet a listening one. The demo
/// is known to speak HTTP and is waited for; what else is forwarded may not speak it at all.
fn silent(machine: &Machine, forwards: &[Forward], demo_is_up: bool) -> Vec<u16> {
    const PAUSE: Duration = Duration::from_millis(200);
    let mut silent: Vec<u16> = forwards.iter().map(|forward| forward.guest).collect();
    // A slow host is a slow host: what took long to boot takes its time for an answer, too.
    let (started, first_answer) = (Instant::now(), machine.started().elapsed().max(FIRST_ANSWER));
    loop {
        silent.retain(|port| !machine.answers_http(*port));
        let patience = if demo_is_up && silent.contains(&DEMO_PORT) { LIMIT } else { first_answer };
        if silent.is_empty() || machine.has_ended() || started.elapsed() > patience {
            return silent;
        }
        thread::park_timeout(PAUSE);
    }
}

/// The units as they are.
fn units(machine: &Machine) -> Result<Vec<Value>, MachineError> {
    Ok(machine.get("/v1/units")?.as_array_mut().map(std::mem::take).unwrap_or_default())
}

fn unit_table(units: &[Value]) -> String {
    let rows: Vec<Vec<String>> = units
        .iter()
        .map(|unit| {
            let word = |key: &str| unit[key].as_str().unwrap_or_default().to_owned();
            vec![word("name"), format!("{} ({})", word("state"), word("sub_state")), word("reason")]
        })
        .collect();
    table(&rows)
}

/// `GET /v1/system/timing` as rows: when, how long after the one before, what.
pub(crate) fn timing_table(stages: &Value) -> String {
    let mut rows = vec![vec!["at ms".to_owned(), "+ ms".to_owned(), "stage".to_owned()]];
    let mut before = 0.0;
    for stage in stages.as_array().into_iter().flatten() {
        let at = stage["at_ns"].as_f64().unwrap_or(0.0) / 1e6;
        let name = stage["name"].as_str().unwrap_or_default();
        rows.push(vec![format!("{at:>8.1}"), format!("{:>8.1}", at - before), name.to_owned()]);
        before = at;
    }
    table(&rows)
}

/// The first boot of a machine. A machine that has been up starts again after a panic, as it should; one that never was would
/// panic again and again.
#[derive(Default)]
pub(crate) struct Boot {
    over: AtomicBool,
    panic: OnceLock<String>,
}

impl Boot {
    fn is_over(&self) {
        self.over.store(true, Ordering::Release);
    }

    /// Ends the machine at the second panic of the kernel; an emulator may have one of its own making. Returns with the
    /// machine's end.
    pub(crate) fn watch(&self, machine: &Machine) {
        let mut panics = 0;
        while let Ok(line) = machine.console().wait("] Kernel panic", Duration::MAX) {
            panics += 1;
            if panics > 1 && !self.over.load(Ordering::Acquire) && self.panic.set(line).is_ok() {
                machine.kill();
            }
        }
    }

    /// What the kernel said.
    pub(crate) fn panic(&self) -> Option<&str> {
        self.panic.get().map(String::as_str)
    }
}

/// Waits for the machine's end, however long that takes.
pub(crate) fn wait(machine: &Machine, interrupts: &Interrupts) -> ExitCode {
    let end = machine.wait_for_the_end();
    match (end.reason.as_str(), interrupts.count()) {
        (_, 2..) => ExitCode::from(INTERRUPTED),
        ("guest-shutdown" | "host-qmp-quit" | "host-signal", _) => {
            say("the machine is off\n");
            ExitCode::SUCCESS
        }
        (reason, _) => {
            say(&format!("QEMU ended: {reason}\n"));
            ExitCode::FAILURE
        }
    }
}

/// `--run`: the units settled, one command, off. However it goes, the machine ends in order: its disk may be kept.
pub(crate) fn run(
    machine: &Machine,
    words: &[String],
    timing: bool,
    interrupts: &Interrupts,
    boot: &Boot,
) -> Result<ExitCode, MachineError> {
    let ran = ask(machine, words, timing, interrupts, boot);
    if interrupts.count() == 0 && !machine.has_ended() {
        power_off(machine);
    }
    machine.wait_end_for(POWEROFF_LIMIT)?;
    if interrupts.count() > 0 { Ok(ExitCode::from(INTERRUPTED)) } else { ran }
}

fn ask(
    machine: &Machine,
    words: &[String],
    timing: bool,
    interrupts: &Interrupts,
    boot: &Boot,
) -> Result<ExitCode, MachineError> {
    wait_until_settled(machine)?;
    boot.is_over();
    // Settled may be a machine that goes down.
    if interrupts.count() > 0 {
        return Ok(ExitCode::from(INTERRUPTED));
    }
    let status = machine.orlop_command().args(words).stdin(Stdio::null()).status();
    let status = status.map_err(|source| MachineError::Setup { what: "run orlop", source })?;
    if timing {
        say(&timing_table(&machine.get("/v1/system/timing")?));
    }
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Ok(ExitCode::from(code))
}

/// A unit may take its time, and says how long; a machine may say nothing at all. The person who waits is told for what: on a
/// terminal again and again, in a log when it is something else.
fn wait_until_settled(machine: &Machine) -> Result<(), MachineError> {
    let (mut answered, mut told) = (Instant::now(), String::new());
    while machine.settled_within(SAY_EVERY)?.is_none() {
        let (what, detail) = match machine.get_within("/v1/units", ONE_ANSWER)? {
            Some(units) => {
                answered = Instant::now();
                (unsettled(&units), String::new())
            }
            None if answered.elapsed() < LIMIT => {
                ("the machine to answer".to_owned(), format!("; its console ends: {}", machine.console().last_line()))
            }
            None => {
                let (what, after) = ("an answer of the machine".to_owned(), answered.elapsed());
                let (seen, tail) = ("no answer".to_owned(), machine.console().tail());
                return Err(MachineError::Deadline { what, after, seen, tail });
            }
        };
        if io::stderr().is_terminal() || what != told {
            say(&format!("waiting for {what}{detail}\n"));
        }
        told = what;
    }
    Ok(())
}

fn unsettled(units: &Value) -> String {
    let is_waiting = |unit: &&Value| ["activating", "deactivating"].iter().any(|state| unit["state"] == *state);
    let waiting = units.as_array().into_iter().flatten().filter(is_waiting);
    let names: Vec<&str> = waiting.filter_map(|unit| unit["name"].as_str()).collect();
    if names.is_empty() { "the units to settle".to_owned() } else { names.join(", ") }
}

/// So long nothing is said about units that have not settled.
const PATIENCE: Duration = Duration::from_secs(30);
/// The same where nothing else is said.
const SAY_EVERY: Duration = Duration::from_secs(15);
/// For an answer that needs no work.
const ONE_ANSWER: Duration = Duration::from_secs(5);
/// Something that was started a moment ago answers within this, or within what the boot took.
const FIRST_ANSWER: Duration = Duration::from_secs(5);
/// From the last answer of a supervisor that stops the machine to the machine's end.
const UNDER_WAY: Duration = Duration::from_secs(10);
/// How the rescue screen ends.
const RESCUE_PROMPT: &str = "Type a choice";
/// The kernel's last line.
const HALTED: &str = "System halted";
/// Units have their stop timeouts; ten minutes is the longest PID 1 allows them.
const POWEROFF_LIMIT: Duration = Duration::from_secs(660);

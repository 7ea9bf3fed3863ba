//! A booted machine in front of a person: its units, its addresses, Ctrl-C, its end.

use std::io::{self, IsTerminal};
use std::net::TcpListener;
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use qemu_tests::{Forward, LIMIT, Machine, MachineError};
use serde_json::Value;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

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

/// Turns signals into an orderly end: the first powers the machine off, the second kills it.
pub(crate) struct Interrupts {
    /// How many came.
    count: Arc<AtomicI32>,
    ended: Arc<AtomicBool>,
}

impl Interrupts {
    pub(crate) fn watch(machine: &Arc<Machine>) -> io::Result<Self> {
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
        let (count, ended) = (Arc::new(AtomicI32::new(0)), Arc::new(AtomicBool::new(false)));
        let (counter, machine, qemu) = (Arc::clone(&count), Arc::downgrade(machine), machine.pid());
        let over = Arc::clone(&ended);
        thread::spawn(move || {
            for _ in signals.forever() {
                if over.load(Ordering::Acquire) {
                    return;
                }
                if counter.fetch_add(1, Ordering::AcqRel) > 0 {
                    say("\ncutting the power\n");
                    let _ = kill(Pid::from_raw(qemu), Signal::SIGKILL);
                } else if let Some(machine) = machine.upgrade() {
                    say("\npowering off; Ctrl-C again cuts the power\n");
                    thread::spawn(move || power_off(&machine));
                }
            }
        });
        Ok(Self { count, ended })
    }

    fn count(&self) -> i32 {
        self.count.load(Ordering::Acquire)
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
    }
}

/// Asks the supervisor; where none answers, presses the power button; where that does nothing either, cuts the power.
fn power_off(machine: &Machine) {
    // It may be on its way already, and answers nobody any more.
    if machine.ask_to_power_off().is_ok() || machine.wait_end_for(UNDER_WAY).is_ok() {
        return;
    }
    say("the supervisor does not answer: pressing the power button\n");
    if let Err(error) = machine.power_button() {
        say(&format!("{error}\n"));
    }
    if machine.wait_end_for(BUTTON_LIMIT).is_err() {
        say("the power button does nothing: cutting the power\n");
        machine.kill();
    }
}

/// Waits for the units, then says how to reach the machine. Runs beside [`wait`].
pub(crate) fn introduce(machine: &Machine, timing: bool) {
    let introduction = || -> Result<String, MachineError> {
        let settled = machine.settled_within(PATIENCE)?;
        let note = if settled.is_none() { "\n  not all of them are settled yet\n" } else { "" };
        let units = settled.map_or_else(|| units(machine), Ok)?;
        let mut text = format!("\n{}{note}", unit_table(&units));
        if timing {
            text.push_str(&format!("\n{}", timing_table(&machine.get("/v1/system/timing")?)));
        }
        text.push_str(&addresses(machine, &units));
        Ok(text)
    };
    match introduction() {
        Ok(text) => say(&text),
        // Off, as somebody chose on the rescue screen for example.
        Err(_) if machine.has_ended() => {}
        Err(error) => say(&format!("\nthe machine does not answer: {error}\n")),
    }
}

fn addresses(machine: &Machine, units: &[Value]) -> String {
    let mut text = String::from("\n");
    for forward in machine.forwards() {
        let address = format!("http://127.0.0.1:{}", forward.host);
        let demo = forward.guest == DEMO_PORT && units.iter().any(|unit| unit["name"] == "demo");
        // A started program is not yet a listening one; what else is forwarded may not speak HTTP at all.
        let answers = if demo { machine.http(forward.guest, "/").is_ok() } else { machine.answers_http(forward.guest) };
        let what = if demo { "the demo" } else { "the machine" };
        text.push_str(&match answers {
            true => format!("  {what} answers at {address}\n"),
            false => format!("  {what} does not answer at {address} (port {} of the machine)\n", forward.guest),
        });
        if demo && forward.host != DEMO_PORT {
            text.push_str(&format!("  (port {DEMO_PORT} of this host is taken)\n"));
        }
    }
    let command: Vec<String> = std::iter::once(machine.orlop_command().get_program().to_owned())
        .chain(machine.orlop_command().get_args().map(ToOwned::to_owned))
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    format!("{text}\n  {} ps\n\n  Ctrl-C powers the machine off.\n\n", command.join(" "))
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
) -> Result<ExitCode, MachineError> {
    let ran = ask(machine, words, timing);
    if interrupts.count() == 0 {
        power_off(machine);
    }
    machine.wait_end_for(POWEROFF_LIMIT)?;
    if interrupts.count() > 0 { Ok(ExitCode::from(INTERRUPTED)) } else { ran }
}

fn ask(machine: &Machine, words: &[String], timing: bool) -> Result<ExitCode, MachineError> {
    wait_until_settled(machine)?;
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
/// From the last answer of a supervisor that stops the machine to the machine's end.
const UNDER_WAY: Duration = Duration::from_secs(10);
/// PID 1 without a supervisor has no unit to wait for.
const BUTTON_LIMIT: Duration = Duration::from_secs(30);
/// Units have their stop timeouts; ten minutes is the longest PID 1 allows them.
const POWEROFF_LIMIT: Duration = Duration::from_secs(660);

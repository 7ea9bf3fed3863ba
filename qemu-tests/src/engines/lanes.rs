//! Runs cases: engines that do not share a daemon beside each other, the cases of one engine in order.

use super::{Case, Cases, CasesError, Guest, GuestError, Outcome, Security};
use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

/// Docker's daemon uses the containerd of the lane's first cases.
const LANES: [&[&str]; 2] = [&["podman", "systemd"], &["containerd", "docker", "cgroups"]];
const SELINUX_LANES: [&[&str]; 1] = [&["selinux"]];
/// Loading an image, starting daemons: under emulation, on two busy cores.
const SETUP_LIMIT: Duration = Duration::from_secs(300);
const CASE_LIMIT: Duration = Duration::from_secs(400);

/// A case that was run.
#[derive(Debug)]
pub struct Verdict {
    pub case: Case,
    pub outcome: Outcome,
    pub took: Duration,
}

impl Verdict {
    pub fn holds(&self) -> bool {
        self.outcome.status == 0
    }
}

/// One line, and what the case printed if it does not hold.
impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { case, outcome, took } = self;
        let word = if self.holds() { "ok  " } else { "FAIL" };
        write!(out, "{word} {:>5.1} s  {:<10} {}", took.as_secs_f32(), case.engine, case.name)?;
        if !self.holds() {
            write!(out, " (status {})", outcome.status)?;
            outcome.output.lines().try_for_each(|line| write!(out, "\n  | {line}"))?;
        }
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Cases(#[from] CasesError),
    #[error(transparent)]
    Guest(#[from] GuestError),
    #[error("{engine} could not be set up ({status}):\n{output}")]
    Setup { engine: String, status: u8, output: String },
}

/// Whether a guest of this kind has any of the cases `wanted` chooses.
pub fn has_cases(security: Security, wanted: impl Fn(&Case) -> bool) -> Result<bool, CasesError> {
    let engines = lanes(security).iter().copied().flatten();
    let cases = engines.map(|engine| Cases::read(engine)).collect::<Result<Vec<_>, _>>()?;
    Ok(cases.iter().flat_map(|engine| &engine.cases).any(wanted))
}

fn lanes(security: Security) -> &'static [&'static [&'static str]] {
    match security {
        Security::AppArmor => &LANES,
        Security::Selinux => &SELINUX_LANES,
    }
}

/// Runs the cases `wanted` chooses; `told` gets each verdict as it falls.
pub fn run(
    guest: &Guest,
    wanted: impl Fn(&Case) -> bool + Sync,
    told: impl Fn(&Verdict) + Sync,
) -> Result<Vec<Verdict>, RunError> {
    thread::scope(|scope| {
        let (wanted, told) = (&wanted, &told);
        let lanes =
            lanes(guest.security()).iter().map(|engines| scope.spawn(move || lane(guest, engines, wanted, told)));
        // Both are to run before the first is waited for.
        let lanes: Vec<_> = lanes.collect();
        let mut verdicts = Vec::new();
        for lane in lanes {
            verdicts.extend(lane.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok(verdicts)
    })
}

fn lane(
    guest: &Guest,
    engines: &[&str],
    wanted: &(impl Fn(&Case) -> bool + Sync),
    told: &(impl Fn(&Verdict) + Sync),
) -> Result<Vec<Verdict>, RunError> {
    let mut verdicts = Vec::new();
    let mut shell = None;
    for engine in engines {
        let mut cases = Cases::read(engine)?;
        cases.cases.retain(wanted);
        if cases.cases.is_empty() {
            continue;
        }
        let shell = match &mut shell {
            Some(shell) => shell,
            none => none.insert(guest.shell()?),
        };
        let Outcome { status, output } = shell.run(&cases.setup, SETUP_LIMIT)?;
        if status != 0 {
            return Err(RunError::Setup { engine: cases.engine, status, output });
        }
        for case in cases.cases {
            let started = Instant::now();
            let outcome = shell.run(&case.script, CASE_LIMIT)?;
            let verdict = Verdict { case, outcome, took: started.elapsed() };
            told(&verdict);
            verdicts.push(verdict);
        }
    }
    Ok(verdicts)
}

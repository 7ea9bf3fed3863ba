//! systemd and Podman's Quadlet, in the guest of `cargo engines` with systemd as its PID 1 and all that is not needed switched off.

use std::time::Duration;

use qemu_tests::Artefacts;
use qemu_tests::engines::Guest;

use super::{Meter, rows, script, subjects};
use crate::{Result, Row};

/// Each takes them longer than Orlop takes for all of its five hundred: more by request, as `ORLOP_PEER_UNITS=10,100,500`.
const COUNTS: [u32; 2] = [10, 30];
/// In the guest's seconds, of which an idle hour is one.
const LIMIT: Duration = Duration::from_secs(20_000);

pub(super) fn measure(artefacts: &Artefacts) -> Result<Vec<Row>> {
    let counts = counts()?;
    let further = counts.iter().copied().max().unwrap_or(0);
    let guest = Guest::boot_systemd(artefacts, &subjects(further), &mut |line| eprintln!("{line}"))?;
    let mut shell = guest.shell()?;
    let mut run = |script: &str| -> Result<String> {
        let outcome = shell.run(script, LIMIT)?;
        if outcome.status != 0 {
            return Err(format!("`{script}` ended with {}: {}", outcome.status, outcome.output).into());
        }
        Ok(outcome.output)
    };
    let versions = run("systemctl --version | head -n 1; podman --version")?;
    let of = versions.lines().map(|line| line.split(" (").next().unwrap_or(line)).collect::<Vec<_>>().join(", ");
    run("systemctl is-active -q --wait first")?;
    let words: Vec<String> = script("systemctl", &counts).iter().map(|line| format!("'{line}'")).collect();
    let said = run(&format!("/run/media/probe measure {}", words.join(" ")))?;
    rows(&Meter::read(&said), &counts, &of)
}

fn counts() -> Result<Vec<u32>> {
    let Some(asked) = std::env::var_os("ORLOP_PEER_UNITS") else { return Ok(COUNTS.to_vec()) };
    let asked = asked.to_string_lossy();
    let counts = asked.split(',').map(str::parse).collect::<std::result::Result<_, _>>();
    counts.map_err(|_| format!("ORLOP_PEER_UNITS={asked}: say rising numbers, as 10,100,500").into())
}

//! systemd and Podman's Quadlet, in the guest of `cargo engines` with systemd as its PID 1 and all that is not needed switched off.

use std::time::Duration;

use qemu_tests::Artefacts;
use qemu_tests::engines::Guest;

use super::{Meter, rows, script, subjects};
use crate::{Result, Row};

/// Each takes them longer than Orlop takes for all of its five hundred.
const COUNTS: [u32; 2] = [10, 30];
/// In the guest's seconds, of which an idle hour is one.
const LIMIT: Duration = Duration::from_secs(20_000);

pub(super) fn measure(artefacts: &Artefacts) -> Result<Vec<Row>> {
    let guest = Guest::boot_systemd(artefacts, &subjects(COUNTS[COUNTS.len() - 1]), &mut |line| eprintln!("{line}"))?;
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
    let words: Vec<String> = script("systemctl", &COUNTS).iter().map(|line| format!("'{line}'")).collect();
    let said = run(&format!("/run/media/probe measure {}", words.join(" ")))?;
    rows(&Meter::read(&said), &COUNTS, &of)
}

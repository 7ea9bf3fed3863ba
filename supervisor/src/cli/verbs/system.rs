//! The machine as a whole: `status` without a unit, `info`, `poweroff`, `reboot`, `halt`, `kexec`.

use super::{span, state_color, state_text, status};
use crate::{
    api::types::{ActiveState, SystemStatus, UnitStatus},
    cli::{
        client::Client,
        error::CliError,
        screen::{Color, Screen},
    },
};

pub(in crate::cli) fn info(client: &Client, json: bool, screen: &mut Screen) -> Result<u8, CliError> {
    let system: SystemStatus = client.get("/v1/system")?;
    if json {
        screen.print_json(&system)?;
        return Ok(0);
    }
    facts(&system, screen)?;
    Ok(0)
}

/// Exit status 0 whatever the machine's state, as `systemctl status` without a unit.
pub(super) fn status(client: &Client, json: bool, screen: &mut Screen) -> Result<u8, CliError> {
    let system: SystemStatus = client.get("/v1/system")?;
    if json {
        screen.print_json(&system)?;
        return Ok(0);
    }
    facts(&system, screen)?;
    let units: Vec<UnitStatus> = client.get("/v1/units")?;
    let count = |state: ActiveState| units.iter().filter(|unit| unit.state == state).count();
    let mut summary = format!("{} active", count(ActiveState::Active));
    for (state, word) in [
        (ActiveState::Activating, "activating"),
        (ActiveState::Deactivating, "deactivating"),
        (ActiveState::Inactive, "inactive"),
        (ActiveState::Failed, "failed"),
    ] {
        let count = count(state);
        if count > 0 {
            summary.push_str(&format!(", {count} {word}"));
        }
    }
    screen.print(&format!("{:>11}: {summary}\n", "Units"))?;
    for unit in units.iter().filter(|unit| unit.state == ActiveState::Failed) {
        let dot = screen.paint("×", state_color(unit.state));
        let why = unit.reason.as_deref().map_or(String::new(), |reason| format!(": {reason}"));
        screen.print(&format!("             {dot} "))?;
        screen.print_foreign(&format!("{} {}{why}\n", unit.name, state_text(unit)))?;
    }
    Ok(0)
}

fn facts(system: &SystemStatus, screen: &mut Screen) -> Result<(), CliError> {
    let color = match system.state.as_str() {
        "running" => Color::Green,
        "degraded" => Color::Red,
        _ => Color::Yellow,
    };
    let state = screen.paint(&system.state, color);
    let store =
        screen.paint(&system.state_store, if system.state_store == "persistent" { Color::Plain } else { Color::Red });
    let mut text = String::new();
    let mut field = |name: &str, value: &str| text.push_str(&format!("{name:>11}: {value}\n"));
    field("Machine", &format!("{} ({})", system.hostname, system.machine_id));
    field("State", &state);
    field("Uptime", &span(system.uptime_ms / 1000));
    let taint = taint(system.kernel_taint);
    field("Version", &format!("{}, contract {}, kernel {}{taint}", system.version, system.contract, system.kernel));
    field("Store", &store);
    for address in &system.addresses {
        field("Address", address);
    }
    let supervisor = format!(
        "PID {}, number {} of this boot, {} KiB resident; init {} KiB",
        system.supervisor_pid, system.supervisor_generation, system.supervisor_rss_kib, system.init_rss_kib
    );
    field("Supervisor", &supervisor);
    if let Some(bytes) = system.memory_bytes {
        field("Memory", &format!("containers {}", status::memory(bytes, system.memory_events)));
    }
    if let Some(of) = system.pressure {
        field("Pressure", &status::pressure(of));
    }
    screen.print(&text)?;
    for problem in &system.problems {
        let name = screen.paint(&format!("{:>11}", "Problem"), Color::Red);
        screen.print(&format!("{name}: "))?;
        screen.print_foreign(&format!("{problem}\n"))?;
    }
    Ok(())
}

/// What taints the kernel, in the letters of its own messages (Documentation/admin-guide/tainted-kernels.rst). Only one of them
/// comes with this system: the modules of every boot are loaded without their signature.
fn taint(bits: u64) -> String {
    let set = |(bit, letter): (usize, char)| (bits >> bit & 1 == 1).then_some(letter);
    let letters: String = "PFSRMBUDAWCIOELKXTNJ".chars().enumerate().filter_map(set).collect();
    match bits {
        0 => String::new(),
        _ if letters == "E" => format!(", tainted E ({bits}): unsigned modules"),
        _ => format!(", tainted {letters} ({bits})"),
    }
}

pub(in crate::cli) fn shutdown(client: &Client, kind: &str, json: bool, screen: &mut Screen) -> Result<u8, CliError> {
    client.call("POST", &format!("/v1/system/{kind}"))?;
    if json {
        screen.print_json(&serde_json::json!({ "requested": kind }))?;
    }
    Ok(0)
}

/// How often and how long it is looked for the next supervisor.
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(50);
const LOOKS: usize = 600;

/// Returns once another supervisor answers.
pub(in crate::cli) fn reexec(client: &Client, json: bool, screen: &mut Screen) -> Result<u8, CliError> {
    let before: SystemStatus = client.get("/v1/system")?;
    client.call("POST", "/v1/system/reexec")?;
    let mut looks = 0..LOOKS;
    let after = loop {
        match client.get::<SystemStatus>("/v1/system") {
            Ok(now) if now.supervisor_generation > before.supervisor_generation => break now,
            // The old one, or neither of them.
            Ok(_) | Err(CliError::Connect { .. } | CliError::Exchange { .. }) if looks.next().is_some() => {
                std::thread::sleep(LOOK_EVERY);
            }
            Ok(_) => return Err(CliError::NotReplaced),
            Err(error) => return Err(error),
        }
    };
    if json {
        screen.print_json(&after)?;
    } else {
        let SystemStatus { supervisor_pid: pid, supervisor_generation: number, version, .. } = after;
        screen.print(&format!("supervisor {number} of this boot, PID {pid}, version {version}\n"))?;
    }
    Ok(0)
}

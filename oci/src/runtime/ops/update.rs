//! `update`: other limits for a container that exists.

use super::{Machine, rdt};
use crate::runtime::cgroup::{self, Cgroup};
use crate::runtime::config::{ConfigError, IntelRdt, Memory, Resources};
use crate::runtime::error::{Error, Result};
use crate::runtime::id::ContainerId;
use crate::runtime::state::{START_SOCKET, State, Status};

pub(crate) fn update(machine: &Machine, id: &ContainerId, mut resources: Resources, rdt: &IntelRdt) -> Result<()> {
    let folder = machine.open(id, "update")?;
    let mut state = State::load(&folder)?.ok_or_else(|| Error::NotFound { id: id.to_string() })?;
    let status = state.status(&machine.proc, folder.exists(START_SOCKET)?)?;
    state.needs_cgroup("update")?;
    let cgroup = match Cgroup::open(&state.cgroup)? {
        Some(cgroup) if !matches!(status, Status::Stopped | Status::Creating) => cgroup,
        _ => return Err(state.refuse("update", status)),
    };
    complete(&mut resources, &cgroup)?;
    if !state.scope.is_empty() {
        // It would set the old ones again some day.
        machine.systemd()?.set(&state.scope, &cgroup::limits(&resources)?)?;
    }
    cgroup.apply(&resources)?;
    if !resources.devices.is_empty() {
        cgroup.guard_devices(&resources.devices, true)?;
    }
    match state.resctrl.first() {
        _ if rdt.lines().is_empty() => Ok(()),
        Some(group) => rdt::set(group.as_ref(), &rdt.lines()),
        // It gets one now; what `exec` starts finds it in the state.
        None => {
            rdt::apply(rdt, &mut state, &machine.proc)?;
            state.save(&folder)
        }
    }
}

/// What is set as a pair keeps the half that is not named.
fn complete(resources: &mut Resources, cgroup: &Cgroup) -> Result<()> {
    let (memory, cpu) = (&mut resources.memory, &mut resources.cpu);
    if memory.swap.is_some() && memory.limit.is_none() {
        memory.limit = cgroup.value("memory.max", "").map(|limit| limit.unwrap_or(-1));
    }
    if cpu.quota.is_some() != cpu.period.is_some()
        && let Ok(text) = cgroup.read("cpu.max")
    {
        let (quota, period) = text.trim().split_once(' ').unwrap_or(("max", "100000"));
        cpu.quota = cpu.quota.or(Some(quota.parse().unwrap_or(-1)));
        cpu.period = cpu.period.or(period.parse().ok());
    }
    fits(memory, || cgroup.value("memory.current", "").flatten())
}

/// With `checkBeforeUpdate`, a limit below what is used is refused, where the kernel would call the OOM killer.
fn fits(memory: &Memory, used: impl FnOnce() -> Option<i64>) -> Result<()> {
    if let (true, Some(limit @ 1..)) = (memory.check_before_update, memory.limit)
        && let Some(used) = used().filter(|used| *used > limit)
    {
        let why = format!("rejecting memory limit {limit}, which is below what is used now ({used})");
        let error = ConfigError::invalid("memory.limit", why);
        return Err(Error::Config { file: "update".to_owned(), error });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::runtime::config::parse_resources;

    #[test]
    fn a_limit_below_what_is_used_is_refused_where_that_is_asked_for() {
        let fits = |json: &str, used| super::fits(&parse_resources(json).unwrap().memory, || used).is_ok();
        let checked = r#"{"memory":{"limit":100,"checkBeforeUpdate":true}}"#;
        assert!(!fits(checked, Some(101)));
        assert!(fits(checked, Some(100)) && fits(checked, None));
        assert!(fits(r#"{"memory":{"limit":100}}"#, Some(101)));
        assert!(fits(r#"{"memory":{"limit":-1,"checkBeforeUpdate":true}}"#, Some(101)));
    }
}

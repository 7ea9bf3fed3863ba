//! `update`: other limits for a container that exists.

use super::{Machine, rdt};
use crate::runtime::cgroup::{self, Cgroup, LAST_PROGRAM, Setting};
use crate::runtime::config::{BlockIo, ConfigError, Cpu, IntelRdt, Memory, Resources, Throttle};
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
    let limits = cgroup::limits(&resources).map_err(ours)?;
    let tell = |error: &Error| machine.log.warn(&format!("while undoing: {error}"));
    // All of it or nothing: what may be refused comes first, and what was done is taken back where a later step is.
    let shares = rdt::change(rdt, &mut state, &machine.proc)?;
    let undo_shares = |error| {
        shares.undo().unwrap_or_else(|error| tell(&error));
        error
    };
    let before = cgroup.change(&resources, &tell).map_err(ours).map_err(undo_shares)?;
    let told = tell_systemd(machine, &state, &limits).and_then(|()| {
        if !resources.devices.is_empty() {
            cgroup.guard_devices(&resources.devices, true, &machine.store.file(LAST_PROGRAM))?;
        }
        if let rdt::Changed::Made(_) = shares { state.save(&folder) } else { Ok(()) }
    });
    told.map_err(|error| {
        cgroup.put_back(&before, &tell);
        tell_systemd(machine, &state, &before).unwrap_or_else(|error| tell(&error));
        undo_shares(error)
    })
}

/// It would set the old ones again some day.
fn tell_systemd(machine: &Machine, state: &State, limits: &[Setting]) -> Result<()> {
    if state.scope.is_empty() { Ok(()) } else { machine.systemd()?.set(&state.scope, limits) }
}

/// What is set as a pair keeps the half that is not named.
fn complete(resources: &mut Resources, cgroup: &Cgroup) -> Result<()> {
    let (memory, cpu) = (&mut resources.memory, &mut resources.cpu);
    if memory.swap.is_some() && memory.limit.is_none() {
        memory.limit = cgroup.value("memory.max", "").map(|limit| limit.unwrap_or(-1));
    }
    let named = |file: &str| resources.unified.iter().any(|(name, _)| name == file);
    // A weight ends idleness, as under systemd: the kernel takes none before.
    let weighed = cpu.shares.is_some_and(|shares| shares != 0) || named("cpu.weight");
    if weighed && cpu.idle.is_none() && !named("cpu.idle") && cgroup.value("cpu.idle", "") == Some(Some(1)) {
        cpu.idle = Some(0);
    }
    if (cpu.quota.is_some() != cpu.period.is_some() || cpu.burst.is_some())
        && let Ok(text) = cgroup.read("cpu.max")
    {
        let (quota, period) = text.trim().split_once(' ').unwrap_or(("max", "100000"));
        cpu.quota = cpu.quota.or(Some(quota.parse().unwrap_or(-1)));
        cpu.period = cpu.period.or(period.parse().ok());
    }
    if let Ok(text) = cgroup.read("io.bfq.weight") {
        keep_weights(&mut resources.block_io, &text);
    }
    keeps_burst(cpu, cgroup.value("cpu.max.burst", "").flatten())?;
    fits(memory, |file| cgroup.value(file, "").flatten())
}

/// BFQ forgets the weights that disks have of their own when there is another for all.
fn keep_weights(io: &mut BlockIo, set: &str) {
    if io.weight.is_none() {
        return;
    }
    for (disk, weight) in set.lines().filter_map(|line| line.split_once(' ')) {
        let numbers = disk.split_once(':').map(|(major, minor)| (major.parse(), minor.parse(), weight.parse()));
        let Some((Ok(major), Ok(minor), Ok(rate))) = numbers else { continue };
        if !io.weight_device.iter().any(|named| (named.major, named.minor) == (major, minor)) {
            io.weight_device.push(Throttle { major, minor, rate });
        }
    }
}

/// The kernel lets no quota below the burst.
fn keeps_burst(cpu: &Cpu, set: Option<i64>) -> Result<()> {
    match (cpu.quota, set) {
        (Some(quota @ 1..), Some(burst)) if cpu.burst.is_none() && quota < burst => {
            let why = format!("{quota} is below the burst that is set, {burst}: a smaller one has to come with it");
            Err(wrong(ConfigError::invalid("cpu.quota", why)))
        }
        _ => Ok(()),
    }
}

/// With `checkBeforeUpdate`, a limit below what is used is refused, where the kernel would call the OOM killer.
fn fits(memory: &Memory, used: impl Fn(&str) -> Option<i64>) -> Result<()> {
    if !memory.check_before_update {
        return Ok(());
    }
    let both = || used("memory.current").map(|alone| alone + used("memory.swap.current").unwrap_or(0));
    let check = |limit: Option<i64>, used: &dyn Fn() -> Option<i64>, field: &str, what: &str| {
        let Some(limit @ 1..) = limit else { return Ok(()) };
        let Some(used) = used().filter(|used| *used > limit) else { return Ok(()) };
        // In runc's words, up to the number.
        let why = format!("rejecting {what} limit {limit}, which is below what is used now ({used})");
        Err(wrong(ConfigError::invalid(field, why)))
    };
    check(memory.swap, &both, "memory.swap", "memory+swap")?;
    check(memory.limit, &|| used("memory.current"), "memory.limit", "memory")
}

/// Of options and of a file alike.
fn wrong(error: ConfigError) -> Error {
    Error::Config { file: "update".to_owned(), error }
}

/// There is no config.json in it.
fn ours(error: Error) -> Error {
    match error {
        Error::Config { error: ConfigError { path, problem }, .. } => {
            wrong(ConfigError { path: path.trim_start_matches("linux.resources.").to_owned(), problem })
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use crate::runtime::config::parse_resources;

    #[test]
    fn a_quota_below_the_burst_that_is_set_is_refused_by_name() {
        let said = |json: &str, set| {
            let cpu = parse_resources(json).unwrap().0.cpu;
            super::keeps_burst(&cpu, set).map_err(|error| error.to_string())
        };
        let why = said(r#"{"cpu":{"quota":2000}}"#, Some(3000)).unwrap_err();
        assert!(why.starts_with("update: cpu.quota: 2000 is below the burst that is set, 3000"), "{why}");
        for (json, set) in [
            (r#"{"cpu":{"quota":3000}}"#, Some(3000)),
            (r#"{"cpu":{"quota":2000}}"#, None),
            (r#"{"cpu":{"quota":-1}}"#, Some(3000)),
            // The new one is judged beside the new quota.
            (r#"{"cpu":{"quota":2000,"burst":1000}}"#, Some(3000)),
        ] {
            assert_eq!(said(json, set), Ok(()), "{json}");
        }
    }

    #[test]
    fn weights_of_disks_outlive_one_for_all() {
        let kept = |json: &str| {
            let mut io = parse_resources(json).unwrap().0.block_io;
            super::keep_weights(&mut io, "default 100\n8:0 250\n8:16 70\n");
            io.weight_device.iter().map(|disk| (disk.minor, disk.rate)).collect::<Vec<_>>()
        };
        assert_eq!(kept(r#"{"blockIO":{"weight":20}}"#), [(0, 250), (16, 70)]);
        let named = r#"{"blockIO":{"weight":20,"weightDevice":[{"major":8,"minor":16,"weight":30}]}}"#;
        assert_eq!(kept(named), [(16, 30), (0, 250)]);
        assert_eq!(kept("{}"), []);
    }

    #[test]
    fn a_limit_below_what_is_used_is_refused_where_that_is_asked_for() {
        let said = |json: &str, used: Option<i64>, swapped: Option<i64>| {
            let of = |file: &str| if file == "memory.current" { used } else { swapped };
            super::fits(&parse_resources(json).unwrap().0.memory, of).map_err(|error| error.to_string())
        };
        let fits = |json: &str, used| said(json, used, None).is_ok();
        let checked = r#"{"memory":{"limit":100,"checkBeforeUpdate":true}}"#;
        assert!(!fits(checked, Some(101)));
        assert!(fits(checked, Some(100)) && fits(checked, None));
        assert!(fits(r#"{"memory":{"limit":100}}"#, Some(101)));
        assert!(fits(r#"{"memory":{"limit":-1,"checkBeforeUpdate":true}}"#, Some(101)));
        let swap = r#"{"memory":{"swap":200,"checkBeforeUpdate":true}}"#;
        assert!(said(swap, Some(150), Some(50)).is_ok());
        let why = said(swap, Some(150), Some(51)).unwrap_err();
        assert_eq!(why, "update: memory.swap: rejecting memory+swap limit 200, which is below what is used now (201)");
        // Of two that are too low the whole is named.
        let both = said(r#"{"memory":{"limit":100,"swap":200,"checkBeforeUpdate":true}}"#, Some(201), None);
        assert!(both.unwrap_err().contains("memory+swap"));
    }
}

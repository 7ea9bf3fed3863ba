//! What the interface shows, put together when asked for.

use std::{collections::BTreeSet, fs, path::Path, time::UNIX_EPOCH};

use ::handoff::StateStore;
use nix::ifaddrs::getifaddrs;

use super::{
    cgroup, clock,
    core::Daemon,
    engine::Entry,
    machine::{Checked, Outcome, Past},
    networks::Connection,
    perform::hostname,
};
use crate::{
    api::types::{ActiveState, BAD_SETTING, Health, HealthResult, PastStart, SystemStatus, UnitStatus},
    unit::{Problem, UnitName},
};

/// Of the contract between applications and the system.
pub(crate) const CONTRACT: u32 = 1;

impl Daemon {
    pub(crate) fn unit_status(&self, name: &UnitName, entry: &Entry) -> UnitStatus {
        let record = &entry.record;
        let (unit, about) = (self.files.get(name), self.files.about(name));
        let process = record.state.process();
        UnitStatus {
            name: name.to_string(),
            description: about.map_or_else(|| name.to_string(), |(description, _)| description.to_owned()),
            state: record.state.active(&entry.plan.policy),
            sub_state: record.state.sub_state().to_owned(),
            health: record.health(),
            health_log: record.checks.iter().flat_map(|checks| checks.log.iter().rev()).map(health_result).collect(),
            pid: record.main_process().map(|process| process.pid),
            image: unit.and_then(|unit| unit.container.image()).unwrap_or_default().to_owned(),
            restarts: record.restarts,
            since: clock::rfc3339(record.since_us),
            enabled: entry.plan.enabled,
            path: about.map(|(_, path)| path.display().to_string()).unwrap_or_default(),
            reason: record.last.as_ref().map(ToString::to_string),
            status_text: record.status.clone(),
            status_errno: record.errno,
            exit_code: record.last.as_ref().and_then(Outcome::exit_code),
            signal: record.last.as_ref().and_then(Outcome::signal),
            past: record.past.iter().rev().map(past_start).collect(),
            triggers: None,
            next_elapse: None,
            last_trigger: None,
            memory_events: None,
            pressure: None,
            tasks: None,
            networks: self.wiring.of(name).map(Connection::networks).unwrap_or_default(),
            ports: self.wiring.of(name).map(Connection::ports).unwrap_or_default(),
            memory_bytes: process.and_then(|_| cgroup::memory_bytes(&self.paths.cgroup(name))),
        }
    }

    /// With what takes some reading: of one unit only.
    pub(crate) fn whole_status(&self, name: &UnitName, entry: &Entry) -> UnitStatus {
        let mut status = self.unit_status(name, entry);
        if status.memory_bytes.is_some() {
            let cgroup = self.paths.cgroup(name);
            (status.memory_events, status.pressure) = (cgroup::memory_events(&cgroup), cgroup::pressure(&cgroup));
            status.tasks = cgroup::tasks(&cgroup);
        }
        status
    }

    pub(crate) fn all_units(&self) -> Vec<UnitStatus> {
        let refused = self.files.refused();
        let refused = refused.into_iter().filter(|(name, _)| self.engine.get(name).is_none());
        let mut all: Vec<UnitStatus> = self.engine.units().map(|(name, entry)| self.unit_status(name, entry)).collect();
        all.extend(refused.map(|(name, problem)| refused_status(&name, problem)));
        all.extend(self.timer_statuses());
        all.extend(self.socket_statuses());
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    pub(crate) fn system_status(&self) -> SystemStatus {
        let failed = self.engine.units().any(|(_, entry)| {
            let failed = entry.record.state.active(&entry.plan.policy) == ActiveState::Failed;
            let refused = matches!(entry.record.last, Some(Outcome::Asserted { .. }));
            let unhealthy = entry.record.health() == Health::Unhealthy;
            entry.plan.enabled && (failed || refused || unhealthy || entry.keeps_restarting())
        });
        let state = if self.engine.is_shutting_down() {
            "stopping"
        } else if !self.engine.settled() {
            "starting"
        } else if failed || self.state_store == StateStore::Degraded {
            "degraded"
        } else {
            "running"
        };
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let machine_id = fs::read_to_string(self.paths.machine_id()).unwrap_or_default();
        let containers = self.paths.cgroups().join("containers");
        SystemStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            contract: CONTRACT,
            hostname: hostname(),
            machine_id: machine_id.trim().to_owned(),
            kernel: read("/proc/sys/kernel/osrelease"),
            kernel_taint: read("/proc/sys/kernel/tainted").parse().unwrap_or(0),
            state: state.to_owned(),
            state_store: match self.state_store {
                StateStore::Persistent => "persistent",
                StateStore::Volatile => "volatile",
                StateStore::Degraded => "degraded",
            }
            .to_owned(),
            uptime_ms: u64::try_from(clock::monotonic().as_millis()).unwrap_or(u64::MAX),
            supervisor_generation: self.generation,
            supervisor_pid: std::process::id(),
            supervisor_rss_kib: rss_kib("self"),
            init_rss_kib: rss_kib("1"),
            memory_bytes: cgroup::memory_bytes(&containers),
            memory_events: cgroup::memory_events(&containers),
            pressure: cgroup::machine_pressure(),
            addresses: addresses(),
            problems: self.files.problems().iter().map(ToString::to_string).chain(self.sockets.problems()).collect(),
        }
    }
}

fn health_result(check: &Checked) -> HealthResult {
    HealthResult {
        start: clock::rfc3339(check.began_us),
        end: clock::rfc3339(check.ended_us),
        exit_code: check.exit_code,
        output: check.output.clone(),
    }
}

fn past_start(past: &Past) -> PastStart {
    PastStart {
        began: clock::rfc3339(past.began_us),
        ended: clock::rfc3339(past.ended_us),
        result: past.outcome.result().to_owned(),
        reason: past.outcome.to_string(),
        exit_code: past.outcome.exit_code(),
        signal: past.outcome.signal(),
    }
}

/// When a file was written.
pub(crate) fn modified(path: &Path) -> String {
    let written = fs::metadata(path).and_then(|file| file.modified()).ok();
    let written = written.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    clock::rfc3339(i64::try_from(written.as_micros()).unwrap_or_default())
}

/// A unit whose file has mistakes. Nobody can tell whether it is enabled.
pub(crate) fn refused_status(name: &UnitName, problem: &Problem) -> UnitStatus {
    UnitStatus {
        state: ActiveState::Failed,
        sub_state: BAD_SETTING.to_owned(),
        since: modified(&problem.path),
        path: problem.path.display().to_string(),
        reason: Some(problem.to_string()),
        ..UnitStatus::nothing(name.to_string())
    }
}

/// `VmRSS` of /proc/<pid>/status.
fn rss_kib(pid: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

/// `eth0 10.0.2.15/24`, without the loopback's and the link-local ones.
fn addresses() -> Vec<String> {
    let Ok(interfaces) = getifaddrs() else { return Vec::new() };
    let mut found = BTreeSet::new();
    for interface in interfaces {
        let (Some(address), Some(mask)) = (interface.address, interface.netmask) else { continue };
        let text = if let (Some(address), Some(mask)) = (address.as_sockaddr_in(), mask.as_sockaddr_in()) {
            let (ip, bits) = (address.ip(), mask.ip().to_bits().count_ones());
            (!ip.is_loopback() && !ip.is_link_local()).then(|| format!("{ip}/{bits}"))
        } else if let (Some(address), Some(mask)) = (address.as_sockaddr_in6(), mask.as_sockaddr_in6()) {
            let (ip, bits) = (address.ip(), mask.ip().to_bits().count_ones());
            (!ip.is_loopback() && !ip.is_unicast_link_local()).then(|| format!("{ip}/{bits}"))
        } else {
            None
        };
        found.extend(text.map(|text| format!("{} {text}", interface.interface_name)));
    }
    found.into_iter().collect()
}

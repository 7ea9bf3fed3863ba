//! What containers use: counted by their cgroups and their cards.

use std::fs;

use super::{bundle::memory_bytes, cgroup, clock, core::Daemon, machine::Process};
use crate::{
    api::types::{Stats, UnitStats},
    unit::{Network, UnitName},
};

impl Daemon {
    pub(crate) fn stats(&self) -> Stats {
        let running = self.engine.units().filter_map(|(name, entry)| Some((name, entry.record.state.process()?)));
        Stats {
            at_us: u64::try_from(clock::monotonic().as_micros()).unwrap_or(u64::MAX),
            units: running.map(|(name, process)| self.unit_stats(name, process)).collect(),
        }
    }

    fn unit_stats(&self, name: &UnitName, process: Process) -> UnitStats {
        let cgroup = self.paths.cgroup(name);
        let is_machines = self.files.get(name).is_some_and(|unit| unit.container.network == Network::Host);
        let cards = fs::read_to_string(format!("/proc/{}/net/dev", process.pid)).ok().filter(|_| !is_machines);
        let (received, sent) = cards.map(|text| card_bytes(&text)).unzip();
        let (read, written) = cgroup::disk_bytes(&cgroup).unzip();
        UnitStats {
            name: name.to_string(),
            cpu_us: cgroup::cpu_us(&cgroup),
            memory_bytes: cgroup::memory_bytes(&cgroup),
            memory_limit_bytes: cgroup::memory_limit(&cgroup).or_else(|| Some(memory_bytes())),
            tasks: cgroup::tasks(&cgroup),
            read_bytes: read,
            written_bytes: written,
            received_bytes: received,
            sent_bytes: sent,
            pressure: cgroup::pressure(&cgroup),
        }
    }
}

/// Received and sent on all cards but `lo`: proc_pid_net(5).
fn card_bytes(text: &str) -> (u64, u64) {
    let cards = text.lines().filter_map(|line| line.split_once(':')).filter(|(name, _)| name.trim() != "lo");
    let bytes = cards.filter_map(|(_, counts)| {
        let mut counts = counts.split_ascii_whitespace();
        Some((counts.next()?.parse::<u64>().ok()?, counts.nth(7)?.parse::<u64>().ok()?))
    });
    bytes.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_are_counted_without_the_loop() {
        let text = "Inter-|   Receive                                                |  Transmit\n \
                    face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    \
                    lo:     840      10    0    0    0     0          0         0      840      10    0    0    0     0       0          0\n  \
                    eth0: 1000001    9000    0    0    0     0          0         0  2000002    8000    0    0    0     0       0          0\n  \
                    eth1:       1       1    0    0    0     0          0         0        2       1    0    0    0     0       0          0\n";
        assert_eq!(card_bytes(text), (1_000_002, 2_000_004));
        assert_eq!(card_bytes(""), (0, 0));
    }
}

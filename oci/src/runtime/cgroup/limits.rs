//! `linux.resources` as lines for cgroup v2's files. Pure: the conversions from v1's units stand here, with their tests.

use crate::runtime::config::{BlockIo, ConfigError, Cpu, Memory, Resources, Throttle};
use crate::runtime::error::{self, Error};
use crate::runtime::sys::Errno;

/// One write to one file of the cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) file: String,
    pub(crate) value: String,
    /// A file that is used where it exists (the BFQ scheduler has its own weight).
    pub(crate) instead: Option<(&'static str, String)>,
    /// The value is the kernel's default, so a missing file is no loss.
    pub(crate) optional: bool,
}

impl Setting {
    /// The controller whose file it is.
    pub(super) fn controller(&self) -> &str {
        self.file.split('.').next().unwrap_or_default()
    }
}

#[cfg(test)]
impl Setting {
    pub(crate) fn of(file: &str, value: &str) -> Setting {
        set(file, value)
    }
}

type Result<T> = std::result::Result<T, ConfigError>;

fn set(file: &str, value: impl std::fmt::Display) -> Setting {
    let value = format!("{value}");
    Setting { file: file.to_owned(), value, instead: None, optional: false }
}

/// -1 means no limit.
fn amount(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

pub(crate) fn settings(resources: &Resources) -> Result<Vec<Setting>> {
    let mut all = Vec::new();
    memory(&resources.memory, &mut all)?;
    cpu(&resources.cpu, &mut all)?;
    // 0 is how engines write "not set".
    if let Some(limit) = resources.pids_limit.filter(|limit| *limit != 0) {
        all.push(set("pids.max", amount(limit)));
    }
    block_io(&resources.block_io, &mut all)?;
    for (size, limit) in &resources.hugepages {
        all.push(set(&format!("hugetlb.{size}.max"), limit));
        // Reservations too, where this kernel counts them (spec, section "Huge page limits").
        all.push(Setting { optional: true, ..set(&format!("hugetlb.{size}.rsvd.max"), limit) });
    }
    for (device, handles, objects) in &resources.rdma {
        let mut line = device.clone();
        for (name, value) in [("hca_handle", handles), ("hca_object", objects)] {
            line += &value.map_or_else(String::new, |v| format!(" {name}={v}"));
        }
        all.push(set("rdma.max", line));
    }
    for (file, value) in &resources.unified {
        // The key is a file's name: nothing that could leave the folder, or move, stop and end processes.
        let drives = file.starts_with("cgroup.") && !file.starts_with("cgroup.max.");
        if file.contains('/') || !file.contains('.') || drives || file.starts_with('.') {
            let path = format!("linux.resources.unified.{file}");
            return Err(ConfigError::invalid(path, "is not the name of a controller's file"));
        }
        // A device a line (io.max): the kernel reads the first line of a write only.
        all.extend(value.lines().map(|line| set(file, line)));
    }
    Ok(all)
}

/// In their order. A quota below the burst that is set, and a burst above the quota, are refused by the kernel: whichever comes too
/// early is tried again behind the others.
pub(super) fn in_turn(settings: &[Setting], mut set: impl FnMut(&Setting) -> error::Result<()>) -> error::Result<()> {
    let mut early = Vec::new();
    for setting in settings {
        match set(setting) {
            Err(Error::System { errno: Errno(libc::EINVAL), .. }) if setting.file.starts_with("cpu.max") => {
                early.push(setting);
            }
            other => other?,
        }
    }
    early.into_iter().try_for_each(set)
}

/// What puts a setting back, from what its file says now. Nothing where that cannot be read.
pub(super) fn as_it_was(setting: &Setting, read: impl Fn(&str) -> Option<String>) -> Option<Setting> {
    let instead = setting.instead.as_ref().and_then(|(file, value)| Some((*file, value, read(file)?)));
    let own = || Some((setting.file.as_str(), &setting.value, read(&setting.file)?));
    let (file, value, text) = instead.or_else(own)?;
    if !["io.", "rdma.", "misc."].iter().any(|controller| file.starts_with(controller)) || file == "io.prio.class" {
        // An empty write is none.
        return Some(set(file, if text.trim().is_empty() { "\n" } else { text.trim() }));
    }
    // A line a device, and one for all others.
    let key = value.split_once(' ').map_or("default", |(key, _)| key);
    let line = text.lines().find(|line| line.split(' ').next() == Some(key)).map(str::to_owned);
    let none = match file {
        "io.max" => "rbps=max wbps=max riops=max wiops=max",
        "io.latency" => "target=0",
        _ => "default",
    };
    Some(set(file, line.unwrap_or_else(|| format!("{key} {none}"))))
}

fn memory(memory: &Memory, all: &mut Vec<Setting>) -> Result<()> {
    let path = "linux.resources.memory.swap";
    let limit = memory.limit.filter(|limit| *limit != 0);
    // v1 counts memory and swap together, v2 swap alone.
    let swap = match (memory.swap.filter(|swap| *swap != 0), limit) {
        (None, Some(..0)) => Some("max".to_owned()),
        (None, _) => None,
        (Some(..0), _) => Some("max".to_owned()),
        (Some(_), None | Some(..0)) => {
            return Err(ConfigError::invalid(path, "a swap limit needs a memory limit beside it"));
        }
        (Some(both), Some(limit)) if both < limit => {
            let why = format!("memory and swap together ({both}) are below the memory limit ({limit})");
            return Err(ConfigError::invalid(path, why));
        }
        (Some(both), Some(limit)) => Some((both - limit).to_string()),
    };
    if let Some(swap) = swap {
        // A kernel without swap accounting has no such file: fine for "no limit" and for "no swap" alike.
        let optional = swap == "max" || swap == "0";
        all.push(Setting { optional, ..set("memory.swap.max", swap) });
    }
    all.extend(limit.map(|limit| set("memory.max", amount(limit))));
    all.extend(memory.reservation.filter(|r| *r != 0).map(|r| set("memory.low", amount(r))));
    Ok(())
}

/// v1's shares (2 to 262144, 1024 the default) as v2's weight (1 to 10000, 100 the default): the curve the runtimes agreed on in
/// 2025, which maps both ends and the default onto each other.
fn weight(shares: u64) -> u64 {
    let log = (shares.clamp(2, 262_144) as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // between 1 and 10000
    let weight = 10_f64.powf(exponent).ceil() as u64;
    weight.clamp(1, 10_000)
}

fn cpu(cpu: &Cpu, all: &mut Vec<Setting>) -> Result<()> {
    if let Some(idle) = cpu.idle {
        all.push(Setting { optional: idle == 0, ..set("cpu.idle", idle) });
    }
    // An idle cgroup has no weight to set.
    if let Some(shares) = cpu.shares.filter(|shares| *shares != 0 && cpu.idle != Some(1)) {
        all.push(set("cpu.weight", weight(shares)));
    }
    let quota = cpu.quota.filter(|quota| *quota != 0);
    let period = cpu.period.filter(|period| *period != 0);
    if quota.is_some() || period.is_some() {
        all.push(set("cpu.max", format!("{} {}", amount(quota.unwrap_or(-1)), period.unwrap_or(100_000))));
    }
    if let Some(burst) = cpu.burst {
        if let Some(quota) = quota.and_then(|quota| u64::try_from(quota).ok()).filter(|quota| burst > *quota) {
            let why = format!("{burst} is above the quota, {quota}");
            return Err(ConfigError::invalid("linux.resources.cpu.burst", why));
        }
        all.push(Setting { optional: burst == 0, ..set("cpu.max.burst", burst) });
    }
    for (file, list) in [("cpuset.cpus", &cpu.cpus), ("cpuset.mems", &cpu.mems)] {
        if let Some(list) = list {
            if !list.bytes().all(|b| b.is_ascii_digit() || b",-\n ".contains(&b)) {
                let path = format!("linux.resources.cpu.{}", file.trim_start_matches("cpuset."));
                return Err(ConfigError::invalid(path, format!("{list:?} is not a list such as 0-3,7")));
            }
            all.push(set(file, list));
        }
    }
    Ok(())
}

/// v1's io weight (10 to 1000) as v2's (1 to 10000).
fn io_weight(weight: u64) -> u64 {
    1 + (weight.saturating_sub(10)) * 9999 / 990
}

fn block_io(io: &BlockIo, all: &mut Vec<Setting>) -> Result<()> {
    let valid = |weight: u64, name: &str| {
        let path = format!("linux.resources.blockIO.{name}");
        if (10..=1000).contains(&weight) {
            Ok(())
        } else {
            Err(ConfigError::invalid(path, "must lie between 10 and 1000"))
        }
    };
    if let Some(weight) = io.weight.filter(|weight| *weight != 0) {
        valid(weight, "weight")?;
        let instead = Some(("io.bfq.weight", weight.to_string()));
        all.push(Setting { instead, ..set("io.weight", format!("default {}", io_weight(weight))) });
    }
    for Throttle { major, minor, rate } in io.weight_device.iter().filter(|d| d.rate != 0) {
        valid(*rate, "weightDevice")?;
        let instead = Some(("io.bfq.weight", format!("{major}:{minor} {rate}")));
        all.push(Setting { instead, ..set("io.weight", format!("{major}:{minor} {}", io_weight(*rate))) });
    }
    let throttles =
        [("rbps", &io.read_bps), ("wbps", &io.write_bps), ("riops", &io.read_iops), ("wiops", &io.write_iops)];
    for (key, devices) in throttles {
        for Throttle { major, minor, rate } in devices {
            let rate = if *rate == 0 { "max".to_owned() } else { rate.to_string() };
            all.push(set("io.max", format!("{major}:{minor} {key}={rate}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(resources: &str) -> std::result::Result<Vec<String>, String> {
        let resources = crate::runtime::config::parse_resources(resources).map_err(|e| e.to_string())?.0;
        let all = settings(&resources).map_err(|e| e.to_string())?;
        Ok(all.into_iter().map(|s| format!("{}={}", s.file, s.value)).collect())
    }

    #[test]
    fn shares_become_weights_at_both_ends_and_the_default() {
        assert_eq!([1, 2, 1024, 262_144, u64::MAX].map(weight), [1, 1, 100, 10_000, 10_000]);
        assert_eq!([10, 1000].map(io_weight), [1, 10_000]);
    }

    #[test]
    fn swap_is_what_v1_counted_less_the_memory() {
        let all = lines(r#"{"memory":{"limit":100,"swap":300,"reservation":50}}"#).unwrap();
        assert_eq!(all, ["memory.swap.max=200", "memory.max=100", "memory.low=50"]);
        assert_eq!(lines(r#"{"memory":{"limit":100,"swap":100}}"#).unwrap(), ["memory.swap.max=0", "memory.max=100"]);
        assert_eq!(lines(r#"{"memory":{"limit":5,"swap":-1}}"#).unwrap(), ["memory.swap.max=max", "memory.max=5"]);
        assert_eq!(lines(r#"{"memory":{"limit":-1}}"#).unwrap(), ["memory.swap.max=max", "memory.max=max"]);
        assert!(lines(r#"{"memory":{"swap":100}}"#).is_err());
        assert!(lines(r#"{"memory":{"limit":100,"swap":50}}"#).is_err());
        assert!(lines(r#"{"memory":{"limit":0,"swap":0}}"#).unwrap().is_empty());
    }

    #[test]
    fn quota_and_burst_follow_each_other_whichever_way_they_move() {
        // What the kernel checks on both writes; there is no limit at first.
        let (mut quota, mut burst) = (u64::MAX, 0);
        let mut apply = |new: (u64, u64)| {
            let all = [set("cpu.max", format!("{} 100000", new.0)), set("cpu.max.burst", new.1)];
            in_turn(&all, |setting| {
                let number = setting.value.split(' ').next().unwrap().parse().unwrap();
                let to = if setting.file == "cpu.max" { (number, burst) } else { (quota, number) };
                if to.1 > to.0 {
                    return Err(Error::System {
                        step: "set",
                        object: setting.file.clone(),
                        errno: Errno(libc::EINVAL),
                    });
                }
                (quota, burst) = to;
                Ok(())
            })
        };
        for good in [(50_000, 30_000), (20_000, 5000), (90_000, 80_000), (4000, 4000)] {
            apply(good).unwrap();
        }
        assert!(apply((4000, 4001)).is_err());
        assert_eq!((quota, burst), (4000, 4000));
        let why = lines(r#"{"cpu":{"quota":4000,"burst":4001}}"#).unwrap_err();
        assert_eq!(why, "linux.resources.cpu.burst: 4001 is above the quota, 4000");
        assert!(lines(r#"{"cpu":{"quota":-1,"burst":4001}}"#).is_ok());
    }

    #[test]
    fn what_was_set_can_be_put_back() {
        let files = [
            ("cpu.max", "max 100000\n"),
            ("cpuset.cpus", "\n"),
            ("io.max", "8:16 rbps=5 wbps=max riops=max wiops=max\n"),
            ("io.bfq.weight", "default 100\n8:16 250\n"),
            ("io.prio.class", "no-change\n"),
            ("io.latency", "8:0 target=5000\n"),
        ];
        let read = |file: &str| files.iter().find(|(name, _)| *name == file).map(|(_, text)| (*text).to_owned());
        let resources = r#"{"cpu":{"quota":5000,"period":50000,"cpus":"0","shares":7},"blockIO":{"weight":10,
            "weightDevice":[{"major":8,"minor":16,"weight":20},{"major":8,"minor":0,"weight":20}],
            "throttleReadBpsDevice":[{"major":8,"minor":16,"rate":9},{"major":8,"minor":0,"rate":9}]},
            "unified":{"io.latency":"8:0 target=7\n8:16 target=7","io.prio.class":"idle"}}"#;
        let all = settings(&crate::runtime::config::parse_resources(resources).unwrap().0).unwrap();
        let back: Vec<(String, String)> =
            all.iter().filter_map(|one| as_it_was(one, read)).map(|one| (one.file, one.value)).collect();
        let want = [
            ("cpu.max", "max 100000"),
            ("cpuset.cpus", "\n"),
            ("io.bfq.weight", "default 100"),
            ("io.bfq.weight", "8:16 250"),
            ("io.bfq.weight", "8:0 default"),
            ("io.max", "8:16 rbps=5 wbps=max riops=max wiops=max"),
            ("io.max", "8:0 rbps=max wbps=max riops=max wiops=max"),
            ("io.latency", "8:0 target=5000"),
            ("io.latency", "8:16 target=0"),
            ("io.prio.class", "no-change"),
        ];
        assert_eq!(back, want.map(|(file, value)| (file.to_owned(), value.to_owned())));
    }

    #[test]
    fn the_other_controllers() {
        let cpu = r#"{"cpu":{"shares":1024,"quota":50000,"period":0,"burst":7,"cpus":"0-1","mems":"0"}}"#;
        let want = ["cpu.weight=100", "cpu.max=50000 100000", "cpu.max.burst=7", "cpuset.cpus=0-1", "cpuset.mems=0"];
        assert_eq!(lines(cpu).unwrap(), want);
        assert_eq!(lines(r#"{"pids":{"limit":-1}}"#).unwrap(), ["pids.max=max"]);
        assert!(lines(r#"{"pids":{"limit":0}}"#).unwrap().is_empty());
        let io = r#"{"blockIO":{"weight":10,"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":5}]}}"#;
        assert_eq!(lines(io).unwrap(), ["io.weight=default 1", "io.max=8:0 rbps=5"]);
        assert_eq!(
            lines(r#"{"hugepageLimits":[{"pageSize":"2MB","limit":9}]}"#).unwrap(),
            ["hugetlb.2MB.max=9", "hugetlb.2MB.rsvd.max=9"]
        );
        assert_eq!(lines(r#"{"unified":{"memory.oom.group":"1"}}"#).unwrap(), ["memory.oom.group=1"]);
        let two = r#"{"unified":{"io.max":"8:0 rbps=1\n8:16 rbps=2\n"}}"#;
        assert_eq!(lines(two).unwrap(), ["io.max=8:0 rbps=1", "io.max=8:16 rbps=2"]);
        let rdma = r#"{"rdma":{"mlx5_1":{"hcaHandles":3,"hcaObjects":10000},"rxe3":{"hcaObjects":1}}}"#;
        assert_eq!(
            lines(rdma).unwrap(),
            ["rdma.max=mlx5_1 hca_handle=3 hca_object=10000", "rdma.max=rxe3 hca_object=1"]
        );
        let own = r#"{"unified":{"cgroup.max.depth":"3","misc.max":"res_a 1"}}"#;
        assert_eq!(lines(own).unwrap(), ["cgroup.max.depth=3", "misc.max=res_a 1"]);
        for bad in ["../x.y", "cgroup.procs", "cgroup.subtree_control", "memory", ".x.y"] {
            assert!(lines(&format!(r#"{{"unified":{{"{bad}":"1"}}}}"#)).is_err(), "{bad}");
        }
        assert!(lines(r#"{"cpu":{"cpus":"0; rm"}}"#).is_err());
    }
}

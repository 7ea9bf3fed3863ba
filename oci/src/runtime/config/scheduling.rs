//! When and where a process runs, and on which memory: the spec's words as the kernel's numbers.

use super::{Result, one_of, words_of};
use crate::runtime::json::{Reader, Taken};
use crate::runtime::sys::schedule::{NumberSet, SchedulerAttributes};

/// SCHED_* (<linux/sched.h>).
pub(crate) const POLICIES: [(&str, u32); 7] = [
    ("SCHED_OTHER", 0),
    ("SCHED_FIFO", 1),
    ("SCHED_RR", 2),
    ("SCHED_BATCH", 3),
    ("SCHED_ISO", 4),
    ("SCHED_IDLE", 5),
    ("SCHED_DEADLINE", 6),
];
const POLICY_FLAGS: [(&str, u64); 8] = [
    ("SCHED_FLAG_RESET_ON_FORK", 0x01),
    // As the crate oci-spec (0.10) writes it.
    ("SCHED_RESET_ON_FORK", 0x01),
    ("SCHED_FLAG_RECLAIM", 0x02),
    ("SCHED_FLAG_DL_OVERRUN", 0x04),
    ("SCHED_FLAG_KEEP_POLICY", 0x08),
    ("SCHED_FLAG_KEEP_PARAMS", 0x10),
    ("SCHED_FLAG_UTIL_CLAMP_MIN", 0x20),
    ("SCHED_FLAG_UTIL_CLAMP_MAX", 0x40),
];
const IO_CLASSES: [(&str, u32); 3] = [("IOPRIO_CLASS_RT", 1), ("IOPRIO_CLASS_BE", 2), ("IOPRIO_CLASS_IDLE", 3)];
/// MPOL_* (<linux/mempolicy.h>).
pub(crate) const MEMORY_MODES: [(&str, i32); 7] = [
    ("MPOL_DEFAULT", 0),
    ("MPOL_BIND", 2),
    ("MPOL_INTERLEAVE", 3),
    ("MPOL_WEIGHTED_INTERLEAVE", 6),
    ("MPOL_PREFERRED", 1),
    ("MPOL_PREFERRED_MANY", 5),
    ("MPOL_LOCAL", 4),
];
pub(crate) const MEMORY_FLAGS: [(&str, i32); 3] =
    [("MPOL_F_NUMA_BALANCING", 1 << 13), ("MPOL_F_RELATIVE_NODES", 1 << 14), ("MPOL_F_STATIC_NODES", 1 << 15)];

/// Where an `exec` runs before it is in the container's cgroup, and afterwards.
#[derive(Debug, Default, Clone)]
pub(crate) struct Affinity {
    pub(crate) initial: Option<NumberSet>,
    pub(crate) after: Option<NumberSet>,
}

/// Mode with its flags, as set_mempolicy(2) takes it.
#[derive(Debug, Default, Clone)]
pub(crate) struct MemoryPolicy {
    pub(crate) mode: i32,
    pub(crate) nodes: NumberSet,
}

pub(super) fn scheduler(r: &mut Reader<'_>) -> Result<SchedulerAttributes> {
    let mut all = SchedulerAttributes::default();
    r.object_with(&["policy"], &mut |r, name| {
        match name {
            "policy" => all.policy = one_of(r, &POLICIES)?,
            "nice" => {
                all.nice = r.integer()?;
                if !(-20..=19).contains(&all.nice) {
                    return Err(r.invalid("must lie between -20 and 19"));
                }
            }
            "priority" => all.priority = r.integer()?,
            "flags" => all.flags = words_of(r, &POLICY_FLAGS)?.iter().fold(0, |all, one| all | one),
            "runtime" => all.runtime = r.integer()?,
            "deadline" => all.deadline = r.integer()?,
            "period" => all.period = r.integer()?,
            _ => return Ok(Taken::No),
        }
        Ok(Taken::Yes)
    })?;
    Ok(all)
}

/// As ioprio_set(2) takes it: the class above the priority's 13 bits.
pub(super) fn io_priority(r: &mut Reader<'_>) -> Result<u32> {
    let (mut class, mut priority) = (0, 0_u32);
    r.object_with(&["class"], &mut |r, name| {
        match name {
            "class" => class = one_of(r, &IO_CLASSES)?,
            "priority" => {
                priority = r.integer()?;
                if priority > 7 {
                    return Err(r.invalid("must lie between 0 and 7"));
                }
            }
            _ => return Ok(Taken::No),
        }
        Ok(Taken::Yes)
    })?;
    Ok(class << 13 | priority)
}

pub(super) fn affinity(r: &mut Reader<'_>) -> Result<Affinity> {
    let mut all = Affinity::default();
    r.object(&mut |r, name| {
        match name {
            "initial" => all.initial = numbers(r)?,
            "final" => all.after = numbers(r)?,
            _ => return Ok(Taken::No),
        }
        Ok(Taken::Yes)
    })?;
    Ok(all)
}

pub(super) fn memory_policy(r: &mut Reader<'_>) -> Result<MemoryPolicy> {
    let mut all = MemoryPolicy::default();
    let (mut mode, mut flags) = (0, 0);
    r.object_with(&["mode"], &mut |r, name| {
        match name {
            "mode" => mode = one_of(r, &MEMORY_MODES)?,
            "nodes" => all.nodes = numbers(r)?.unwrap_or_default(),
            "flags" => flags = words_of(r, &MEMORY_FLAGS)?.iter().fold(0, |all, one| all | one),
            _ => return Ok(Taken::No),
        }
        Ok(Taken::Yes)
    })?;
    all.mode = mode | flags;
    Ok(all)
}

/// `0-3,7`; nothing for an empty list.
fn numbers(r: &mut Reader<'_>) -> Result<Option<NumberSet>> {
    let text = r.string()?;
    if text.is_empty() {
        return Ok(None);
    }
    match parse_numbers(&text) {
        Some(set) => Ok(Some(set)),
        None => Err(r.invalid(format!("{text:?} is not a list such as 0-3,7 of numbers below 1024"))),
    }
}

fn parse_numbers(text: &str) -> Option<NumberSet> {
    let mut set = NumberSet::default();
    for part in text.split(',') {
        let (first, last) = part.trim().split_once('-').unwrap_or((part.trim(), part.trim()));
        let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
        if first > last {
            return None;
        }
        for number in first..=last {
            *set.get_mut(number / 64)? |= 1 << (number % 64);
        }
    }
    Some(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_numbers() {
        let set = parse_numbers("0-3,7, 64-65").unwrap();
        assert_eq!((set[0], set[1], set[2]), (0x8f, 3, 0));
        for bad in ["", "a", "3-1", "1024", "1,,2", "-1"] {
            assert!(parse_numbers(bad).is_none(), "{bad}");
        }
    }
}

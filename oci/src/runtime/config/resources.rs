//! `linux.resources`: what cgroup v1 alone could do is refused here, so that nobody believes in a limit that is not there.

use super::{Result, string_map};
use crate::runtime::json::{Reader, Taken};

const V1: &str = "it exists in cgroup v1 only";

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) limit: Option<i64>,
    pub(crate) reservation: Option<i64>,
    /// Memory and swap together, as cgroup v1 counted.
    pub(crate) swap: Option<i64>,
    /// `update` refuses a limit below what is used.
    pub(crate) check_before_update: bool,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Cpu {
    pub(crate) shares: Option<u64>,
    pub(crate) quota: Option<i64>,
    pub(crate) burst: Option<u64>,
    pub(crate) period: Option<u64>,
    pub(crate) cpus: Option<String>,
    pub(crate) mems: Option<String>,
    pub(crate) idle: Option<i64>,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Throttle {
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) rate: u64,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct BlockIo {
    pub(crate) weight: Option<u64>,
    pub(crate) weight_device: Vec<Throttle>,
    pub(crate) read_bps: Vec<Throttle>,
    pub(crate) write_bps: Vec<Throttle>,
    pub(crate) read_iops: Vec<Throttle>,
    pub(crate) write_iops: Vec<Throttle>,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct DeviceRule {
    pub(crate) allow: bool,
    /// `b`, `c`, or `a` for both.
    pub(crate) kind: char,
    pub(crate) major: Option<u32>,
    pub(crate) minor: Option<u32>,
    pub(crate) read: bool,
    pub(crate) write: bool,
    pub(crate) mknod: bool,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Resources {
    pub(crate) memory: Memory,
    pub(crate) cpu: Cpu,
    pub(crate) pids_limit: Option<i64>,
    pub(crate) block_io: BlockIo,
    /// Page size as in the file's name (`2MB`) and bytes.
    pub(crate) hugepages: Vec<(String, u64)>,
    /// Device, handles, objects.
    pub(crate) rdma: Vec<(String, Option<u32>, Option<u32>)>,
    pub(crate) unified: Vec<(String, String)>,
    pub(crate) devices: Vec<DeviceRule>,
}

impl Resources {
    /// What is asked for beside something that leaves it without meaning.
    pub(crate) fn remark(&self) -> Option<String> {
        let weightless = self.cpu.idle == Some(1) && self.cpu.shares.is_some_and(|shares| shares != 0);
        weightless.then(|| "cpu.shares: an idle cgroup has no weight, ignored".to_owned())
    }

    pub(super) fn read(r: &mut Reader<'_>) -> Result<Resources> {
        let mut all = Resources::default();
        r.object(&mut |r, name| {
            match name {
                "memory" => all.memory = memory(r)?,
                "cpu" => all.cpu = cpu(r)?,
                "pids" => all.pids_limit = pids(r)?,
                "blockIO" => all.block_io = block_io(r)?,
                "hugepageLimits" => r.array(&mut |r| {
                    all.hugepages.push(hugepage(r)?);
                    Ok(())
                })?,
                "rdma" => r.object(&mut |r, name| {
                    all.rdma.push(rdma(r, name)?);
                    Ok(Taken::Yes)
                })?,
                "unified" => all.unified = string_map(r)?,
                "devices" => r.array(&mut |r| {
                    all.devices.push(device(r)?);
                    Ok(())
                })?,
                "network" => return r.refuse_unless_empty(V1),
                _ => return Ok(Taken::No),
            }
            Ok(Taken::Yes)
        })?;
        Ok(all)
    }
}

/// A v1-only number: zero means "not set" in what engines write, and less than zero "no limit".
fn only_v1(r: &mut Reader<'_>) -> Result<()> {
    match r.integer::<i64>()? {
        ..=0 => Ok(()),
        _ => Err(r.unsupported(V1)),
    }
}

fn memory(r: &mut Reader<'_>) -> Result<Memory> {
    let mut memory = Memory::default();
    r.object(&mut |r, name| {
        match name {
            "limit" => memory.limit = Some(r.integer()?),
            "reservation" => memory.reservation = Some(r.integer()?),
            "swap" => memory.swap = Some(r.integer()?),
            "kernel" | "kernelTCP" => only_v1(r)?,
            "swappiness" => return Err(r.unsupported(V1)),
            "disableOOMKiller" if r.boolean()? => return Err(r.unsupported(V1)),
            "useHierarchy" if !r.boolean()? => return Err(r.unsupported("cgroup v2 is always hierarchical")),
            "disableOOMKiller" | "useHierarchy" => {}
            "checkBeforeUpdate" => memory.check_before_update = r.boolean()?,
            _ => return Ok(Taken::No),
        }
        Ok(Taken::Yes)
    })?;
    Ok(memory)
}

fn cpu(r: &mut Reader<'_>) -> Result<Cpu> {
    let mut cpu = Cpu::default();
    r.object(&mut |r, name| {
        match name {
            "shares" => cpu.shares = Some(r.integer()?),
            "quota" => cpu.quota = Some(r.integer()?),
            "burst" => cpu.burst = Some(r.integer()?),
            "period" => cpu.period = Some(r.integer()?),
            "realtimeRuntime" | "realtimePeriod" => only_v1(r)?,
            "cpus" => cpu.cpus = Some(r.text()?).filter(|s| !s.is_empty()),
            "mems" => cpu.mems = Some(r.text()?).filter(|s| !s.is_empty()),
            "idle" => cpu.idle = Some(r.integer()?),
            _ => return Ok(Taken::No),
        }
        Ok(Taken::Yes)
    })?;
    Ok(cpu)
}

fn pids(r: &mut Reader<'_>) -> Result<Option<i64>> {
    let mut limit = None;
    // Go's binding of the spec leaves out a limit that is not set since 1.3, and the object stays.
    r.object(&mut |r, name| {
        match name {
            "limit" => limit = Some(r.integer()?),
            _ => return Ok(Taken::No),
        }
        Ok(Taken::Yes)
    })?;
    Ok(limit)
}

fn block_io(r: &mut Reader<'_>) -> Result<BlockIo> {
    let mut io = BlockIo::default();
    r.object(&mut |r, name| {
        match name {
            "weight" => io.weight = Some(r.integer()?),
            "leafWeight" => only_v1(r)?,
            "weightDevice" => io.weight_device = throttles(r, &RATE[..2])?,
            "throttleReadBpsDevice" => io.read_bps = throttles(r, &RATE)?,
            "throttleWriteBpsDevice" => io.write_bps = throttles(r, &RATE)?,
            "throttleReadIOPSDevice" => io.read_iops = throttles(r, &RATE)?,
            "throttleWriteIOPSDevice" => io.write_iops = throttles(r, &RATE)?,
            _ => return Ok(Taken::No),
        }
        Ok(Taken::Yes)
    })?;
    Ok(io)
}

/// What a limit of a device has to have; of a weight see below.
const RATE: [&str; 3] = ["major", "minor", "rate"];

fn throttles(r: &mut Reader<'_>, required: &[&str]) -> Result<Vec<Throttle>> {
    let mut all = Vec::new();
    r.array(&mut |r| {
        let (mut one, mut named) = (Throttle::default(), false);
        r.object_with(required, &mut |r, name| {
            match name {
                "major" => one.major = r.integer()?,
                "minor" => one.minor = r.integer()?,
                "rate" | "weight" => one.rate = r.integer()?,
                "leafWeight" => only_v1(r)?,
                _ => return Ok(Taken::No),
            }
            named |= matches!(name, "rate" | "weight" | "leafWeight");
            Ok(Taken::Yes)
        })?;
        if !named {
            return Err(r.invalid("needs weight or leafWeight"));
        }
        all.push(one);
        Ok(())
    })?;
    Ok(all)
}

fn hugepage(r: &mut Reader<'_>) -> Result<(String, u64)> {
    let (mut size, mut limit) = (String::new(), 0);
    r.object_with(&["limit"], &mut |r, name| {
        match name {
            // Callers of runc, whose reader takes either case, write it small.
            "pageSize" => size = r.text()?,
            "limit" => limit = r.integer()?,
            _ => return Ok(Taken::No),
        }
        Ok(Taken::Yes)
    })?;
    if size.is_empty() {
        return Err(r.missing("pageSize"));
    }
    // The size becomes part of a file's name.
    if !size.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err(r.invalid(format!("{size:?} is not a page size such as 2MB")));
    }
    Ok((size, limit))
}

fn rdma(r: &mut Reader<'_>, device: &str) -> Result<(String, Option<u32>, Option<u32>)> {
    let (mut handles, mut objects) = (None, None);
    r.object(&mut |r, name| {
        match name {
            "hcaHandles" => handles = Some(r.integer()?),
            "hcaObjects" => objects = Some(r.integer()?),
            _ => return Ok(Taken::No),
        }
        Ok(Taken::Yes)
    })?;
    if handles.or(objects).is_none() {
        return Err(r.invalid("needs hcaHandles or hcaObjects"));
    }
    Ok((device.to_owned(), handles, objects))
}

/// -1 is how engines write "all". Nothing else may come to mean that.
fn number(r: &mut Reader<'_>) -> Result<Option<u32>> {
    match r.integer::<i64>()? {
        -1 => Ok(None),
        number => {
            u32::try_from(number).map(Some).map_err(|_| r.invalid("is no number of a device, and not -1 for all"))
        }
    }
}

fn device(r: &mut Reader<'_>) -> Result<DeviceRule> {
    let mut rule = DeviceRule { kind: 'a', ..DeviceRule::default() };
    let mut access = None;
    r.object_with(&["allow"], &mut |r, name| {
        match name {
            "allow" => rule.allow = r.boolean()?,
            "type" => {
                let kind = r.string()?;
                rule.kind = match &*kind {
                    "a" | "" => 'a',
                    "b" => 'b',
                    "c" | "u" => 'c',
                    _ => return Err(r.invalid("must be a, b or c")),
                };
            }
            "major" => rule.major = number(r)?,
            "minor" => rule.minor = number(r)?,
            "access" => access = Some(r.text()?).filter(|a| !a.is_empty()),
            _ => return Ok(Taken::No),
        }
        Ok(Taken::Yes)
    })?;
    let access = access.as_deref().unwrap_or("rwm");
    if !access.contains(['r', 'w', 'm']) {
        return Err(r.invalid(format!("access {access:?} holds none of r, w and m")));
    }
    // runc passes over other letters, and its callers write them; the rule says the same without.
    if access.contains(|c| !"rwm".contains(c)) {
        r.remark("letters of access other than r, w and m, ignored");
    }
    rule.read = access.contains('r');
    rule.write = access.contains('w');
    rule.mknod = access.contains('m');
    Ok(rule)
}

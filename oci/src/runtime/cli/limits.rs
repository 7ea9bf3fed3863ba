//! The limits of `update`, as options or as a JSON file.

use crate::runtime::config::{Resources, parse_resources};
use crate::runtime::error::{Error, Result, Step};

/// Takes an option if it is one of a limit.
pub(super) fn set(all: &mut Resources, flag: &str, value: &str) -> Result<bool> {
    let wrong = || Error::Usage(format!("--{flag} {value:?} is not a number this option takes"));
    let size = || bytes(value).ok_or_else(wrong);
    let number = || value.parse::<i64>().map_err(|_| wrong());
    let positive = || value.parse::<u64>().map_err(|_| wrong());
    // 0 is how an option is taken back.
    match flag {
        "memory" | "m" => all.memory.limit = Some(size()?),
        "memory-reservation" => all.memory.reservation = Some(size()?),
        "memory-swap" => all.memory.swap = Some(size()?),
        "cpu-period" => all.cpu.period = Some(positive()?),
        "cpu-quota" => all.cpu.quota = Some(number()?),
        "cpu-burst" => all.cpu.burst = Some(positive()?),
        "cpu-share" => all.cpu.shares = Some(positive()?),
        "cpu-idle" => all.cpu.idle = Some(number()?),
        "cpuset-cpus" => all.cpu.cpus = Some(value.to_owned()),
        "cpuset-mems" => all.cpu.mems = Some(value.to_owned()),
        "pids-limit" => all.pids_limit = Some(number()?),
        "blkio-weight" => all.block_io.weight = Some(positive()?),
        "cpu-rt-period" | "cpu-rt-runtime" | "kernel-memory" | "kernel-memory-tcp" => {
            if size()? > 0 {
                return Err(Error::Usage(format!("--{flag}: it exists in cgroup v1 only")));
            }
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// `--resources`: a file, or `-` for standard input.
pub(super) fn read(file: &str) -> Result<Resources> {
    use std::io::Read as _;
    let text = if file == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).step("read", "standard input")?;
        text
    } else {
        std::fs::read_to_string(file).step("read", file)?
    };
    parse_resources(&text).map_err(|error| Error::Config { file: file.to_owned(), error })
}

/// `-1`, `1048576`, `1m`, `1.5 GiB`: powers of 1024, in the forms of RAMInBytes, which runc reads sizes with.
fn bytes(text: &str) -> Option<i64> {
    if text == "-1" {
        return Some(-1);
    }
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let factor = match unit.as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1_i64 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        "p" | "pb" | "pib" => 1 << 50,
        _ => return None,
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if part.contains('.') || (whole.is_empty() && part.is_empty()) {
        return None;
    }
    // What is less than a byte is not counted, and what stands further behind is less than that.
    let part = part.get(..18).unwrap_or(part);
    let above: i128 = if part.is_empty() { 0 } else { part.parse().ok()? };
    let part = above * i128::from(factor) / 10_i128.pow(u32::try_from(part.len()).ok()?);
    let whole = if whole.is_empty() { 0 } else { whole.parse::<i64>().ok()? };
    whole.checked_mul(factor)?.checked_add(i64::try_from(part).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, value) in [("-1", -1), ("7", 7), ("2k", 2048), ("1M", 1 << 20), ("3GiB", 3 << 30), ("1mb", 1 << 20)]
        {
            assert_eq!(bytes(text), Some(value), "{text}");
        }
        for (text, value) in [("1.5m", 3 << 19), (".5k", 512), ("1.", 1), ("0.1k", 102), ("2 GB", 2 << 30), ("7.9b", 7)]
        {
            assert_eq!(bytes(text), Some(value), "{text}");
        }
        for bad in ["", ".", "x", "-2", "1.5.m", "1  k", "1kk", "1ib", "1bb", "1,5m", "9999999999t"] {
            assert!(bytes(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn options_and_files_say_the_same() {
        let mut all = Resources::default();
        for (flag, value) in [("memory", "1m"), ("pids-limit", "-1"), ("cpuset-cpus", "0"), ("kernel-memory", "0")] {
            assert!(set(&mut all, flag, value).unwrap());
        }
        let text = r#"{"memory":{"limit":1048576},"pids":{"limit":-1},"cpu":{"cpus":"0"}}"#;
        assert_eq!(all, parse_resources(text).unwrap());
        assert!(!set(&mut all, "bundle", "x").unwrap());
        assert!(set(&mut all, "cpu-quota", "x").is_err());
    }
}

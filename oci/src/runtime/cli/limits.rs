//! The limits of `update`, as options or as a JSON file; sizes and durations as Go programs write them.

use std::time::Duration;

use crate::runtime::config::{Resources, parse_resources};
use crate::runtime::error::{Error, Result, Step};

/// Takes an option if it is one of a limit.
pub(super) fn set(all: &mut Resources, flag: &str, value: &str) -> Result<bool> {
    let wrong = || Error::Usage(format!("--{flag} {value:?} is not a number this option takes"));
    let size = || bytes(value).ok_or_else(wrong);
    let number = || value.parse::<i64>().map_err(|_| wrong());
    let positive = || value.parse::<u64>().map_err(|_| wrong());
    // No list is none, as in a file.
    let list = || Some(value.to_owned()).filter(|list| !list.is_empty());
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
        "cpuset-cpus" => all.cpu.cpus = list(),
        "cpuset-mems" => all.cpu.mems = list(),
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

/// `--resources`: a file, or `-` for standard input; and what was passed over in it.
pub(super) fn read(file: &str) -> Result<(Resources, Vec<String>)> {
    use std::io::Read as _;
    let text = if file == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).step("read", "standard input")?;
        text
    } else {
        std::fs::read_to_string(file).step("read", file)?
    };
    let parsed = parse_resources(&text).map_err(|error| Error::Config { file: file.to_owned(), error });
    let (resources, remarks) = parsed?;
    Ok((resources, remarks.into_iter().map(|remark| format!("{file}: {remark}")).collect()))
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
    scaled(number, factor)
}

/// Go's words for a duration (time.ParseDuration): `5s`, `1m30s`, `1.5s`. A number alone is seconds; less than a millisecond is none.
pub(super) fn interval(text: &str) -> Result<Duration> {
    let nanoseconds =
        if text.bytes().all(|b| b.is_ascii_digit()) { scaled(text, 1_000_000_000) } else { durations(text) };
    match nanoseconds.map(|count| Duration::from_nanos(count.unsigned_abs())) {
        Some(duration) if duration.as_millis() > 0 => Ok(duration),
        _ => Err(Error::Usage(format!("--interval {text:?} is not a duration such as 5s or 1m30s"))),
    }
}

fn durations(mut text: &str) -> Option<i64> {
    let mut sum = 0_i64;
    while !text.is_empty() {
        let ends = |text: &str, number: bool| {
            text.find(|c: char| (c.is_ascii_digit() || c == '.') != number).unwrap_or(text.len())
        };
        let (number, rest) = text.split_at(ends(text, true));
        let (unit, rest) = rest.split_at(ends(rest, false));
        let factor = match unit {
            "ns" => 1,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        sum = sum.checked_add(scaled(number, factor)?)?;
        text = rest;
    }
    Some(sum)
}

/// A decimal number of so many each, rounded down.
fn scaled(number: &str, factor: i64) -> Option<i64> {
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if part.contains('.') || (whole.is_empty() && part.is_empty()) {
        return None;
    }
    // What is less than one is not counted, and what stands further behind is less than that.
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
    fn intervals() {
        let parsed = |text| interval(text).ok().map(|duration| duration.as_millis());
        for (text, value) in
            [("5s", 5000), ("1m30s", 90_000), ("1.5s", 1500), ("2", 2000), ("1h.5ms1\u{b5}s", 3_600_000)]
        {
            assert_eq!(parsed(text), Some(value), "{text}");
        }
        for bad in ["", "s", "5x", "1m30", "-1s", "0s", ".", "1..5s", "1e3s", "1us", "9999999999999999h"] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
    }

    #[test]
    fn options_and_files_say_the_same() {
        let mut all = Resources::default();
        for (flag, value) in
            [("memory", "1m"), ("pids-limit", "-1"), ("cpuset-cpus", "0"), ("cpuset-mems", ""), ("kernel-memory", "0")]
        {
            assert!(set(&mut all, flag, value).unwrap());
        }
        let text = r#"{"memory":{"limit":1048576},"pids":{"limit":-1},"cpu":{"cpus":"0"}}"#;
        assert_eq!(all, parse_resources(text).unwrap().0);
        assert!(!set(&mut all, "bundle", "x").unwrap());
        assert!(set(&mut all, "cpu-quota", "x").is_err());
    }
}

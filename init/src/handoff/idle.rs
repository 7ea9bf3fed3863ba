//! How long the CPUs have had nothing to do. Both sides note it with each stage of the boot, which tells work from waiting.

use std::fs::File;
use std::io::Read;

/// Of all CPUs together, waits for disks included, since the kernel's start; in ns, exact to 10 ms. 0 without `/proc`.
pub fn idle_ns() -> u64 {
    let mut start = [0; 256];
    let count = File::open("/proc/stat").and_then(|mut file| file.read(&mut start)).unwrap_or(0);
    idle_in(std::str::from_utf8(&start[..count]).unwrap_or_default())
}

/// `cpu USER NICE SYSTEM IDLE IOWAIT …` in hundredths of a second (proc_stat(5)).
fn idle_in(stat: &str) -> u64 {
    let ticks = stat.split_ascii_whitespace().skip(4).take(2).filter_map(|word| word.parse::<u64>().ok());
    ticks.sum::<u64>().saturating_mul(10_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_is_idle_and_waiting_for_disks() {
        assert_eq!(idle_in("cpu  10 20 30 400 5 60 7 8 9 10\ncpu0 1 2 3 4"), 4_050_000_000);
        assert_eq!(idle_in(""), 0);
        assert!(idle_ns() > 0);
    }
}

//! Sets of CPUs and of memory nodes: `0-3 5,7` in systemd's words, `0-3,5,7` in the kernel's.

const CPUS: &str = "expected numbers and ranges such as 0-3 or 0,2";

/// The kernel's form, ordered and without doubles. More than 8192 CPUs are no machine.
pub(super) fn read(text: &str) -> Result<String, &'static str> {
    let mut parts: Vec<(u16, u16)> = Vec::new();
    for part in text.split([' ', ',', '\t']).filter(|part| !part.is_empty()) {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.parse::<u16>().ok().filter(|n| *n < 8192).ok_or(CPUS);
        let (from, to) = (number(from)?, number(to)?);
        if from > to {
            return Err("the range ends before it begins");
        }
        parts.push((from, to));
    }
    // Never one by one: a line may say `0-8191` ten thousand times.
    parts.sort_unstable();
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for (from, to) in parts {
        match ranges.last_mut() {
            Some((_, end)) if from <= *end + 1 => *end = to.max(*end),
            _ => ranges.push((from, to)),
        }
    }
    if ranges.is_empty() {
        return Err(CPUS);
    }
    let shown = ranges.iter().map(|(from, to)| if from == to { from.to_string() } else { format!("{from}-{to}") });
    Ok(shown.collect::<Vec<_>>().join(","))
}

/// Each of a set that `read` has made.
pub(crate) fn each(set: &str) -> impl Iterator<Item = usize> {
    set.split(',').flat_map(|range| {
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        // What cannot be: an empty range.
        from.parse().unwrap_or(1)..=to.parse().unwrap_or(0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_joined_and_nonsense_is_refused() {
        assert_eq!(read("0-3 5,4 9").as_deref(), Ok("0-5,9"));
        assert_eq!(read("7").as_deref(), Ok("7"));
        assert_eq!(read("0-8 2-3 9-10,12 11-11 14").as_deref(), Ok("0-12,14"));
        assert_eq!(each("0-2,9").collect::<Vec<_>>(), [0, 1, 2, 9]);
        assert!(["", ",", "3-1", "a", "-1", "9999", "1-", "1.5"].iter().all(|t| read(t).is_err()));
    }
}

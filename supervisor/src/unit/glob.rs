//! Patterns for paths and for names of units.

/// A shell's `*` and `?`, neither of which crosses a slash. A star is tried again one byte further on, never more than one star at
/// a time, so that no pattern takes longer than its length times the path's.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, path) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut at) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while at < path.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, at));
                p += 1;
            }
            Some(b'?') if path[at] != b'/' => (p, at) = (p + 1, at + 1),
            Some(byte) if *byte == path[at] => (p, at) = (p + 1, at + 1),
            _ => match star {
                Some((star_p, star_at)) if path[star_at] != b'/' => {
                    star = Some((star_p, star_at + 1));
                    (p, at) = (star_p + 1, star_at + 1);
                }
                _ => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_stay_inside_one_part() {
        let m = matches;
        assert!(m("/proc/*", "/proc/kcore") && m("/proc/k*e", "/proc/kcore") && m("/proc/kcore*", "/proc/kcore"));
        assert!(m("/proc/key?", "/proc/keys") && m("/*/kcore", "/proc/kcore") && m("/p*c/k*", "/proc/kcore"));
        assert!(
            !m("/*", "/proc/kcore") && !m("/proc/*", "/proc/sys/x") && !m("/proc/k???s", "/proc/keys") && !m("", "/x")
        );
        assert!(!m(&"*a".repeat(1000), &format!("{}b", "a".repeat(1000))));
    }
}

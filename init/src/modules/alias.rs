//! `modules.alias`: which module a device or a kernel's request wants.

/// The file, and where each pattern begins, its module's name begins and ends: a boot asks it some hundred times.
pub(crate) struct Aliases {
    text: String,
    lines: Vec<[usize; 3]>,
}

impl Aliases {
    pub(crate) fn parse(text: String) -> Self {
        let mut lines = Vec::with_capacity(text.len() / 32);
        let mut start = 0;
        for line in text.split_inclusive('\n') {
            let end = start + line.trim_ascii_end().len();
            // A module's name holds no blank, a pattern may (in theory): split off both ends.
            if let Some((pattern, name)) =
                line.strip_prefix("alias ").and_then(|rest| rest.trim_ascii_end().rsplit_once(' '))
            {
                lines.push([end - name.len() - 1 - pattern.len(), end - name.len(), end]);
            }
            start += line.len();
        }
        Self { text, lines }
    }

    /// Each module whose pattern matches, in the file's order (depmod's).
    pub(crate) fn matching(&self, wanted: &str) -> impl Iterator<Item = &str> {
        let name = move |&[pattern, name, end]: &[usize; 3]| {
            matches(&self.text.as_bytes()[pattern..name - 1], wanted.as_bytes()).then(|| &self.text[name..end])
        };
        self.lines.iter().filter_map(name)
    }
}

/// fnmatch(3) without flags, with `-` and `_` equal outside brackets as in kmod. Linear apart from the last `*`.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on when something after the last `*` does not fit: the pattern behind it, and one byte further.
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() || p < pattern.len() {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            retry = Some((p, t));
            continue;
        }
        let used = text.get(t).map_or(0, |&byte| one(&pattern[p..], byte));
        if used > 0 {
            p += used;
            t += 1;
            continue;
        }
        match retry {
            Some((behind, at)) if at < text.len() => {
                (p, t) = (behind, at + 1);
                retry = Some((behind, at + 1));
            }
            _ => return false,
        }
    }
    true
}

/// How many bytes of the pattern's head match this byte; 0: none.
fn one(pattern: &[u8], byte: u8) -> usize {
    match pattern.first() {
        None => 0,
        Some(b'?') => 1,
        Some(b'[') => set(pattern, byte),
        Some(b'\\') if pattern.len() > 1 => 2 * usize::from(fold(pattern[1]) == fold(byte)),
        Some(&literal) => usize::from(fold(literal) == fold(byte)),
    }
}

/// A bracket expression at the pattern's head; without its end it is a literal `[`.
fn set(pattern: &[u8], byte: u8) -> usize {
    let negated = matches!(pattern.get(1), Some(b'!' | b'^'));
    let first = 1 + usize::from(negated);
    let mut at = first;
    let mut hit = false;
    while let Some(&low) = pattern.get(at) {
        if low == b']' && at > first {
            return if hit == negated { 0 } else { at + 1 };
        }
        if pattern.get(at + 1) == Some(&b'-') && pattern.get(at + 2).is_some_and(|&high| high != b']') {
            hit |= (low..=pattern[at + 2]).contains(&byte);
            at += 3;
        } else {
            hit |= low == byte;
            at += 1;
        }
    }
    usize::from(byte == b'[')
}

fn fold(byte: u8) -> u8 {
    if byte == b'-' { b'_' } else { byte }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(pattern: &str, text: &str) -> bool {
        matches(pattern.as_bytes(), text.as_bytes())
    }

    #[test]
    fn patterns_as_depmod_writes_them() {
        let nic = "pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00";
        assert!(fits("pci:v00001AF4d*sv*sd*bc*sc*i*", nic));
        assert!(fits("pci:v*d*sv*sd*bc02sc*i*", nic));
        assert!(!fits("pci:v*d*sv*sd*bc01sc*i*", nic));
        assert!(!fits("pci:v00001AF4d*sv*sd*bc*sc*i*x", nic));
        assert!(fits("virtio:d00000002v*", "virtio:d00000002v00001AF4"));
        assert!(fits(
            "cpu:type:x86,ven*fam*mod*:feature:*0140*",
            "cpu:type:x86,ven0002fam000Fmod006B:feature:,0000,0140,"
        ));
        assert!(fits("fs-overlay", "fs_overlay") && fits("net_pf-10", "net-pf-10"));
        assert!(fits("usb:v1234d[0-4]*", "usb:v1234d3x") && !fits("usb:v1234d[0-4]*", "usb:v1234d7x"));
        assert!(fits("a[!b-d]e", "axe") && !fits("a[!b-d]e", "ace"));
        assert!(fits("a[-_]b", "a-b") && !fits("a[_]b", "a-b"));
        assert!(fits("a?c", "abc") && !fits("a?c", "ac"));
        assert!(fits("*", "") && fits("", "") && !fits("", "x") && !fits("a", ""));
        assert!(fits("a[b", "a[b") && fits("a\\*b", "a*b") && !fits("a\\*b", "axb"));
    }

    #[test]
    fn a_hostile_pattern_ends_soon() {
        let stars = "*a".repeat(60) + "b";
        assert!(!fits(&stars, &"a".repeat(4096)));
    }

    #[test]
    fn all_modules_of_an_alias_in_order() {
        let text = "# Aliases extracted from modules themselves.\nalias fs-xfs xfs\nalias crypto-crc32c crc32c_intel\nalias crypto-crc32c crc32c_generic\nbroken\n";
        let aliases = Aliases::parse(text.to_owned());
        assert!(aliases.matching("crypto_crc32c").eq(["crc32c_intel", "crc32c_generic"]));
    }
}

//! Text of a fixed capacity: built without allocating, cut at a character boundary when it is full.

use std::fmt;

#[derive(Clone, Copy)]
pub(crate) struct Text<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Text<N> {
    pub(crate) const fn new() -> Self {
        Self { bytes: [0; N], len: 0 }
    }

    pub(crate) fn of(what: impl fmt::Display) -> Self {
        let mut text = Self::new();
        text.push_fmt(format_args!("{what}"));
        text
    }

    pub(crate) fn push_fmt(&mut self, args: fmt::Arguments<'_>) {
        // Writing never fails: what does not fit is cut.
        let _ = fmt::Write::write_fmt(self, args);
    }

    /// Appends with control characters made visible: nothing a program sends may steer a terminal.
    pub(crate) fn push_printable(&mut self, text: &str) {
        for c in text.chars() {
            let c = if c.is_control() { '?' } else { c };
            let _ = fmt::Write::write_char(self, c);
        }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

impl<const N: usize> fmt::Write for Text<N> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let cut = s.floor_char_boundary(N - self.len);
        self.bytes[self.len..self.len + cut].copy_from_slice(&s.as_bytes()[..cut]);
        self.len += cut;
        Ok(())
    }
}

impl<const N: usize> fmt::Display for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_text_is_cut_between_characters() {
        let text = Text::<5>::of("äöü");
        assert_eq!(text.as_str(), "äö");
    }

    #[test]
    fn escape_sequences_become_harmless() {
        let mut text = Text::<32>::new();
        text.push_printable("a\x1b[2Jb\u{9b}1mc\n");
        assert_eq!(text.as_str(), "a?[2Jb?1mc?");
    }
}

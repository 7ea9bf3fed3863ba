//! The kernel's command line, split as the kernel splits it (lib/cmdline.c, `next_arg`): words at white space, double
//! quotes group, `-` and `_` are equal in names, and what follows `--` is not for us.

use std::fs;

/// The words of one command line, quotes removed, in order.
#[derive(Debug, Default, Clone)]
pub(crate) struct Cmdline {
    words: Vec<String>,
}

impl Cmdline {
    /// The running kernel's. Without `/proc` it is empty: every option has its default then.
    pub(crate) fn read() -> Self {
        fs::read_to_string("/proc/cmdline").map_or_else(|_| Self::default(), |text| Self::parse(&text))
    }

    pub(crate) fn parse(text: &str) -> Self {
        let mut words = Vec::new();
        let mut word = String::new();
        let mut quoted = false;
        let mut started = false;
        for c in text.chars().chain([' ']) {
            match c {
                '"' => {
                    quoted = !quoted;
                    started = true;
                }
                c if c.is_ascii_whitespace() && !quoted => {
                    if started && word == "--" {
                        return Self { words };
                    }
                    if started {
                        words.push(std::mem::take(&mut word));
                    }
                    started = false;
                }
                c => {
                    word.push(c);
                    started = true;
                }
            }
        }
        // An open quote runs to the end, as in the kernel.
        if started {
            words.push(word.trim_end().to_owned());
        }
        Self { words }
    }

    pub(crate) fn words(&self) -> impl Iterator<Item = &str> {
        self.words.iter().map(String::as_str)
    }

    /// The value of `key=value`; the last one counts.
    pub(crate) fn value(&self, key: &str) -> Option<&str> {
        self.pairs().filter(|(name, _)| same_name(name, key)).last().map(|(_, value)| value)
    }

    /// True when the bare word is there.
    pub(crate) fn has(&self, word: &str) -> bool {
        self.words.iter().any(|w| same_name(w, word))
    }

    /// `module.parameter=value` words as `finit_module` wants them: it does not look at the command line itself.
    pub(crate) fn module_parameters(&self, module: &str) -> String {
        let mut out = String::new();
        for word in &self.words {
            let name_end = word.find('=').unwrap_or(word.len());
            let Some((owner, _)) = word[..name_end].split_once('.') else { continue };
            if same_name(owner, module) {
                if !out.is_empty() {
                    out.push(' ');
                }
                let parameter = &word[owner.len() + 1..];
                match parameter.split_once('=') {
                    Some((name, value)) if value.contains(' ') => {
                        out.extend([name, "=\"", value, "\""]);
                    }
                    _ => out.push_str(parameter),
                }
            }
        }
        out
    }

    fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.words.iter().filter_map(|w| w.split_once('='))
    }
}

/// Names of options and modules: `-` and `_` are the same.
pub(crate) fn same_name(a: &str, b: &str) -> bool {
    let fold = |c: u8| if c == b'-' { b'_' } else { c };
    a.len() == b.len() && a.bytes().map(fold).eq(b.bytes().map(fold))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_quotes_and_the_end() {
        let line = Cmdline::parse("quiet  a=1 a=2 \"b=x y\" c=\"p  q\" orlop.debug empty= -- d=4\n");
        assert_eq!(line.value("a"), Some("2"));
        assert_eq!(line.value("b"), Some("x y"));
        assert_eq!(line.value("c"), Some("p  q"));
        assert_eq!(line.value("empty"), Some(""));
        assert_eq!(line.value("d"), None);
        assert!(line.has("quiet") && line.has("orlop.debug") && !line.has("a"));
        assert_eq!(Cmdline::parse("x=\"open end \n").value("x"), Some("open end"));
        assert_eq!(Cmdline::parse("").value("x"), None);
    }

    #[test]
    fn dashes_are_underscores_in_names_only() {
        let line = Cmdline::parse("orlop.rescue-timeout=5 orlop.state=re-set");
        assert_eq!(line.value("orlop.rescue_timeout"), Some("5"));
        assert_eq!(line.value("orlop.state"), Some("re-set"));
    }

    #[test]
    fn parameters_of_a_module() {
        let line = Cmdline::parse(
            "virtio-blk.num_request_queues=1 virtio_blk.x=\"a b\" virtio_blk.flag other.y=1 virtio_blk=3",
        );
        assert_eq!(line.module_parameters("virtio_blk"), "num_request_queues=1 x=\"a b\" flag");
        assert_eq!(line.module_parameters("other"), "y=1");
        assert_eq!(line.module_parameters("none"), "");
    }
}

//! JSON written piece by piece into a string.

use std::fmt::Write as _;

/// Writes values; commas and names are its business, matching brackets the caller's.
pub(crate) struct Writer {
    out: String,
    needs_comma: bool,
}

impl Writer {
    pub(crate) fn new() -> Writer {
        Writer { out: String::new(), needs_comma: false }
    }

    pub(crate) fn finish(self) -> String {
        self.out
    }

    /// A value that is written as it has to be already.
    pub(crate) fn value(&mut self, text: &str) -> &mut Self {
        self.separate();
        self.out.push_str(text);
        self.needs_comma = true;
        self
    }

    fn separate(&mut self) {
        if self.needs_comma {
            self.out.push(',');
        }
        self.needs_comma = false;
    }

    pub(crate) fn open(&mut self, bracket: char) -> &mut Self {
        self.separate();
        self.out.push(bracket);
        self
    }

    pub(crate) fn close(&mut self, bracket: char) -> &mut Self {
        self.out.push(bracket);
        self.needs_comma = true;
        self
    }

    pub(crate) fn name(&mut self, name: &str) -> &mut Self {
        self.string(name);
        self.out.push(':');
        self.needs_comma = false;
        self
    }

    pub(crate) fn string(&mut self, text: &str) -> &mut Self {
        self.separate();
        self.out.push('"');
        let mut rest = text;
        // Mostly there is nothing to be escaped.
        while let Some(at) = rest.bytes().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f)) {
            let (plain, behind) = rest.split_at(at);
            self.out.push_str(plain);
            let _ = match behind.as_bytes().first() {
                Some(b'\n') => self.out.write_str("\\n"),
                Some(b'\t') => self.out.write_str("\\t"),
                Some(b'\r') => self.out.write_str("\\r"),
                Some(byte @ 0..=0x1f) => write!(self.out, "\\u{byte:04x}"),
                Some(byte) => write!(self.out, "\\{}", char::from(*byte)),
                None => Ok(()),
            };
            rest = behind.get(1..).unwrap_or_default();
        }
        self.out.push_str(rest);
        self.out.push('"');
        self.needs_comma = true;
        self
    }

    pub(crate) fn number(&mut self, number: i128) -> &mut Self {
        self.value(&number.to_string())
    }

    pub(crate) fn boolean(&mut self, value: bool) -> &mut Self {
        self.value(if value { "true" } else { "false" })
    }

    pub(crate) fn strings<S: AsRef<str>>(&mut self, name: &str, all: &[S]) -> &mut Self {
        self.name(name).open('[');
        for one in all {
            self.string(one.as_ref());
        }
        self.close(']')
    }

    pub(crate) fn pairs(&mut self, name: &str, all: &[(String, String)]) -> &mut Self {
        self.name(name).open('{');
        for (key, value) in all {
            self.name(key).string(value);
        }
        self.close('}')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_and_escapes() {
        let mut w = Writer::new();
        w.open('{').name("a\"b").string("x\n\u{1}é").name("n").number(-3).name("l").open('[');
        w.boolean(true).number(1).open('{').close('}').close(']');
        w.strings("s", &["p", "q"]).pairs("e", &[]).close('}');
        assert_eq!(w.finish(), r#"{"a\"b":"x\n\u0001é","n":-3,"l":[true,1,{}],"s":["p","q"],"e":{}}"#);
    }
}

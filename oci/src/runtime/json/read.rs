//! The walk over a JSON text (RFC 8259).

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::runtime::config::{ConfigError, Problem};

/// Nothing of ours nests deeper; a text that does is hostile.
const DEPTH: u32 = 64;

/// What became of a property.
#[derive(PartialEq, Eq)]
pub(crate) enum Taken {
    Yes,
    /// Not known to us: the reader skips its value and notes its path (runtime-spec, Extensibility: never an error).
    No,
}

/// One step of the path to where the reader stands.
#[derive(Clone)]
enum Place<'a> {
    Name(Cow<'a, str>),
    Index(usize),
}

type Result<T> = std::result::Result<T, ConfigError>;

/// A place in a JSON text and the path of properties that led there.
pub(crate) struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: u32,
    /// Written out only for those who read it: an error, a remark.
    path: Vec<Place<'a>>,
    remarks: Vec<String>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(text: &'a str) -> Reader<'a> {
        Reader { text, at: 0, depth: 0, path: Vec::new(), remarks: Vec::new() }
    }

    /// The end of the text; gives what was passed over: the properties nobody knew first of all.
    pub(crate) fn finish(mut self) -> Result<Vec<String>> {
        match self.peek() {
            None => Ok(self.remarks),
            Some(_) => Err(self.syntax("the end of the file")),
        }
    }

    /// An error at the place the reader stands.
    pub(crate) fn error(&self, problem: Problem) -> ConfigError {
        ConfigError { path: self.path(), problem }
    }

    fn path(&self) -> String {
        let mut text = String::new();
        for place in &self.path {
            let _ = match place {
                Place::Name(name) if text.is_empty() => write!(text, "{name}"),
                Place::Name(name) => write!(text, ".{name}"),
                Place::Index(index) => write!(text, "[{index}]"),
            };
        }
        text
    }

    /// This field is known and cannot be honoured.
    pub(crate) fn unsupported(&self, why: &'static str) -> ConfigError {
        self.error(Problem::Unsupported(why))
    }

    /// Something here is passed over, which costs nothing that was asked for.
    pub(crate) fn remark(&mut self, what: &str) {
        self.remarks.push(format!("{}: {what}", self.path()));
    }

    /// The object that was read has to have this member.
    pub(crate) fn missing(&self, name: &str) -> ConfigError {
        let path = self.path();
        let dot = if path.is_empty() { "" } else { "." };
        ConfigError { path: format!("{path}{dot}{name}"), problem: Problem::Missing }
    }

    /// This field's value is not allowed.
    pub(crate) fn invalid(&self, why: impl Into<String>) -> ConfigError {
        self.error(Problem::Invalid(why.into()))
    }

    fn syntax(&self, wanted: &'static str) -> ConfigError {
        let before = self.text.get(..self.at).unwrap_or(self.text);
        let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
        let column = before.len() - before.rfind('\n').map_or(0, |at| at + 1) + 1;
        self.error(Problem::Syntax { line, column, wanted })
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// The next byte that is not white space, not taken.
    fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = self.byte() {
            self.at += 1;
        }
        self.byte()
    }

    fn expect(&mut self, byte: u8, wanted: &'static str) -> Result<()> {
        if self.peek() == Some(byte) {
            self.at += 1;
            return Ok(());
        }
        Err(self.syntax(wanted))
    }

    fn word(&mut self, word: &str) -> bool {
        self.peek();
        let here = self.text.get(self.at..).is_some_and(|rest| rest.starts_with(word));
        if here {
            self.at += word.len();
        }
        here
    }

    fn null(&mut self) -> bool {
        self.peek() == Some(b'n') && self.word("null")
    }

    fn deeper(&mut self) -> Result<()> {
        self.depth += 1;
        if self.depth > DEPTH { Err(self.invalid("is nested too deeply")) } else { Ok(()) }
    }

    /// Calls `field` with each name that has a value. `null` counts as absent, as engines written in Go mean it.
    pub(crate) fn object(&mut self, field: &mut dyn FnMut(&mut Self, &str) -> Result<Taken>) -> Result<()> {
        self.expect(b'{', "an object")?;
        self.deeper()?;
        if self.peek() == Some(b'}') {
            self.at += 1;
            self.depth -= 1;
            return Ok(());
        }
        loop {
            self.peek();
            let name = self.string()?;
            self.expect(b':', "`:` after a name")?;
            self.path.push(Place::Name(name.clone()));
            if !self.null() && field(self, &name)? == Taken::No {
                self.unknown(&name, field)?;
            }
            self.path.pop();
            if self.peek() == Some(b',') {
                self.at += 1;
                continue;
            }
            self.expect(b'}', "`,` or `}`")?;
            self.depth -= 1;
            return Ok(());
        }
    }

    /// A name nobody took: perhaps in another case than the spec's.
    #[cold]
    fn unknown(&mut self, name: &str, field: &mut dyn FnMut(&mut Self, &str) -> Result<Taken>) -> Result<()> {
        let meant = super::names::meant(name);
        if meant != name && field(self, &meant)? == Taken::Yes {
            self.remark(&format!("taken as {meant}"));
            return Ok(());
        }
        self.skip()?;
        self.remark("unknown property, ignored");
        Ok(())
    }

    /// The same of an object that has to have certain members.
    pub(crate) fn object_with(
        &mut self,
        required: &[&str],
        field: &mut dyn FnMut(&mut Self, &str) -> Result<Taken>,
    ) -> Result<()> {
        let mut seen = 0_u32;
        self.object(&mut |r, name| {
            if let Some(at) = required.iter().position(|one| *one == name) {
                seen |= 1 << at;
            }
            field(r, name)
        })?;
        match required.iter().enumerate().find(|(at, _)| seen & 1 << at == 0) {
            Some((_, name)) => Err(self.missing(name)),
            None => Ok(()),
        }
    }

    /// Calls `item` for each element.
    pub(crate) fn array(&mut self, item: &mut dyn FnMut(&mut Self) -> Result<()>) -> Result<()> {
        self.expect(b'[', "a list")?;
        self.deeper()?;
        if self.peek() == Some(b']') {
            self.at += 1;
            self.depth -= 1;
            return Ok(());
        }
        self.path.push(Place::Index(0));
        loop {
            item(self)?;
            if self.peek() == Some(b',') {
                self.at += 1;
                if let Some(Place::Index(index)) = self.path.last_mut() {
                    *index += 1;
                }
                continue;
            }
            self.path.pop();
            self.expect(b']', "`,` or `]`")?;
            break;
        }
        self.depth -= 1;
        Ok(())
    }

    /// A string; borrowed from the text unless it holds escapes. A NUL inside is refused: no kernel interface can carry it.
    pub(crate) fn string(&mut self) -> Result<Cow<'a, str>> {
        self.expect(b'"', "a string")?;
        let start = self.at;
        let rest = self.text.as_bytes().get(start..).unwrap_or_default();
        self.at = start + plain(rest);
        match self.byte() {
            Some(b'"') => {
                let plain = self.text.get(start..self.at).unwrap_or_default();
                self.at += 1;
                Ok(Cow::Borrowed(plain))
            }
            Some(b'\\') => self.escaped(start).map(Cow::Owned),
            Some(_) => Err(self.syntax("a string without control characters")),
            None => Err(self.syntax("the end of a string")),
        }
    }

    fn escaped(&mut self, start: usize) -> Result<String> {
        let mut out = String::from(self.text.get(start..self.at).unwrap_or_default());
        let mut plain = self.at;
        loop {
            match self.byte() {
                Some(b'"') => {
                    out.push_str(self.text.get(plain..self.at).unwrap_or_default());
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => {
                    out.push_str(self.text.get(plain..self.at).unwrap_or_default());
                    self.at += 1;
                    out.push(self.escape()?);
                    plain = self.at;
                }
                None | Some(0..=0x1f) => return Err(self.syntax("the end of a string")),
                Some(_) => self.at += 1,
            }
        }
    }

    fn escape(&mut self) -> Result<char> {
        let byte = self.byte();
        self.at += 1;
        Ok(match byte {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let high = self.hex()?;
                let code = if (0xd800..0xdc00).contains(&high) && self.word("\\u") {
                    let low = self.hex()?;
                    if !(0xdc00..0xe000).contains(&low) {
                        return Err(self.syntax("the second half of a surrogate pair"));
                    }
                    0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00)
                } else {
                    high
                };
                match char::from_u32(code) {
                    Some('\0') => return Err(self.invalid("contains a NUL character")),
                    Some(c) => c,
                    None => return Err(self.syntax("a Unicode character")),
                }
            }
            _ => return Err(self.syntax("a known escape")),
        })
    }

    fn hex(&mut self) -> Result<u32> {
        let digits = self.text.get(self.at..self.at + 4).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
        let Some(code) = digits.and_then(|d| u32::from_str_radix(d, 16).ok()) else {
            return Err(self.syntax("four hexadecimal digits"));
        };
        self.at += 4;
        Ok(code)
    }

    pub(crate) fn text(&mut self) -> Result<String> {
        self.string().map(Cow::into_owned)
    }

    pub(crate) fn strings(&mut self) -> Result<Vec<String>> {
        let mut all = Vec::new();
        self.array(&mut |r| {
            all.push(r.text()?);
            Ok(())
        })?;
        Ok(all)
    }

    pub(crate) fn boolean(&mut self) -> Result<bool> {
        if self.word("true") {
            Ok(true)
        } else if self.word("false") {
            Ok(false)
        } else {
            Err(self.syntax("true or false"))
        }
    }

    fn number(&mut self) -> Result<&'a str> {
        self.peek();
        let start = self.at;
        while let Some(b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E') = self.byte() {
            self.at += 1;
        }
        let number = self.text.get(start..self.at).unwrap_or_default();
        if number.is_empty() { Err(self.syntax("a number")) } else { Ok(number) }
    }

    /// A whole number in the range of the type asked for.
    pub(crate) fn integer<T: TryFrom<i128>>(&mut self) -> Result<T> {
        let digits = self.number()?;
        digits
            .parse::<i128>()
            .ok()
            .and_then(|n| T::try_from(n).ok())
            .ok_or_else(|| self.invalid(format!("{digits} is not a whole number in the range of this field")))
    }

    /// Reads a value and gives its text as well.
    pub(crate) fn with_text<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<(T, String)> {
        let start = self.at;
        let value = read(self)?;
        Ok((value, self.text.get(start..self.at).unwrap_or_default().trim().to_owned()))
    }

    /// The text of an object as it stands there, which was checked when it was written: only its end is looked for.
    pub(crate) fn raw(&mut self) -> Result<String> {
        self.peek();
        let (start, mut open) = (self.at, 0_u32);
        loop {
            match self.byte() {
                Some(b'"') if open > 0 => drop(self.string()?),
                Some(byte @ (b'{' | b'}')) if byte == b'{' || open > 0 => {
                    open = if byte == b'{' { open + 1 } else { open - 1 };
                    self.at += 1;
                    if open == 0 {
                        return Ok(self.text.get(start..self.at).unwrap_or_default().to_owned());
                    }
                }
                Some(_) if open > 0 => self.at += 1,
                _ => return Err(self.syntax("an object")),
            }
        }
    }

    /// Passes over a value of any kind.
    pub(crate) fn skip(&mut self) -> Result<()> {
        match self.peek() {
            Some(b'{') => self.object(&mut |r, _| r.skip().map(|()| Taken::Yes)),
            Some(b'[') => self.array(&mut Self::skip),
            Some(b'"') => self.string().map(drop),
            Some(b't' | b'f') => self.boolean().map(drop),
            Some(b'n') if self.null() => Ok(()),
            _ => self.number().map(drop),
        }
    }

    /// For fields that are refused unless they say nothing: an empty object, list or string, or false.
    pub(crate) fn refuse_unless_empty(&mut self, why: &'static str) -> Result<Taken> {
        let start = self.at;
        self.skip()?;
        let value = self.text.get(start..self.at).unwrap_or_default();
        let empty = value.chars().all(|c| matches!(c, '{' | '}' | '[' | ']' | '"') || c.is_whitespace());
        if empty || value.trim() == "false" { Ok(Taken::Yes) } else { Err(self.unsupported(why)) }
    }
}

/// How many bytes of a string come before a quote, a backslash or a control character: eight at a time, as most of a config.json
/// are strings.
fn plain(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    // The highest bit of each byte that is below `than`; those above the first such byte may be wrong.
    let below = |word: u64, than: u64| word.wrapping_sub(ONES * than) & !word;
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let (quote, backslash) = (word ^ (ONES * u64::from(b'"')), word ^ (ONES * u64::from(b'\\')));
        let found = (below(word, 0x20) | below(quote, 1) | below(backslash, 1)) & (ONES << 7);
        if found != 0 {
            return index * 8 + found.trailing_zeros() as usize / 8;
        }
    }
    let special = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f));
    words.len() * 8 + special.unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(text: &str) -> Result<String> {
        Reader::new(text).text()
    }

    #[test]
    fn strings_with_every_escape() {
        assert_eq!(string(r#""a\"\\\/\b\f\n\r\tz""#).unwrap(), "a\"\\/\u{8}\u{c}\n\r\tz");
        assert_eq!(string(r#""\u00e9\ud83d\ude00""#).unwrap(), "é😀");
        assert!(string(r#""\ud83d""#).is_err());
        assert!(string(r#""\ud83dx""#).is_err());
        assert!(string(r#""\u00""#).is_err());
        assert!(string("\"a\nb\"").is_err());
        assert!(string("\"a").is_err());
    }

    #[test]
    fn the_end_of_plain_text_is_found_wherever_it_is() {
        for length in 0..40 {
            for special in [b'"', b'\\', 0, b'\n', 0x1f] {
                let mut text: Vec<u8> = (0..length).map(|at| [b' ', b'!', b'#', 0x7f, 0x80, 0xff][at % 6]).collect();
                assert_eq!(plain(&text), length);
                text.extend([special, b'"', 0]);
                assert_eq!(plain(&text), length, "{special}");
            }
        }
    }

    #[test]
    fn an_object_is_passed_over_as_it_stands() {
        let mut reader = Reader::new(r#" {"a":[{}],"b":"}\"{"} ,"#);
        assert_eq!(reader.raw().unwrap(), r#"{"a":[{}],"b":"}\"{"}"#);
        for bad in ["", "{", "1", "\"x\"", r#"{"a"#, "}x"] {
            assert!(Reader::new(bad).raw().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_nul_is_refused() {
        assert!(string(r#""a\u0000""#).unwrap_err().to_string().contains("NUL"));
    }

    #[test]
    fn numbers_keep_their_range() {
        assert_eq!(Reader::new("18446744073709551615").integer::<u64>().unwrap(), u64::MAX);
        assert_eq!(Reader::new("-1").integer::<i64>().unwrap(), -1);
        assert!(Reader::new("-1").integer::<u32>().is_err());
        assert!(Reader::new("4294967296").integer::<u32>().is_err());
        assert!(Reader::new("1.5").integer::<u32>().is_err());
        assert!(Reader::new("\"1\"").integer::<u32>().is_err());
    }

    #[test]
    fn unknown_properties_are_noted_by_path_and_null_is_absent() {
        let mut reader = Reader::new(r#" {"a": {"b": [1, {"c": null}], "d": null}, "e": -1.5e3 } "#);
        reader
            .object(&mut |r, name| match name {
                "a" => r.object(&mut |_, _| Ok(Taken::No)).map(|()| Taken::Yes),
                _ => Ok(Taken::No),
            })
            .unwrap();
        assert_eq!(reader.finish().unwrap(), ["a.b: unknown property, ignored", "e: unknown property, ignored"]);
    }

    #[test]
    fn errors_name_the_place() {
        let mut reader = Reader::new("{\"a\": [\n  1, x]}");
        let error = reader
            .object(&mut |r, _| {
                r.array(&mut |r| r.integer::<u8>().map(drop))?;
                Ok(Taken::Yes)
            })
            .unwrap_err();
        assert_eq!(error.to_string(), "a[1]: line 2, column 6: expected a number");
    }

    #[test]
    fn depth_is_bounded() {
        let deep = "[".repeat(100_000);
        assert!(Reader::new(&deep).skip().is_err());
    }
}

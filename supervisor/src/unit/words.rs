//! Values that are lists of words: quotes and C escapes as in the QUOTING part of systemd.syntax(7).

use std::ops::Range;

use super::{
    Said,
    text::{Fault, Text},
};

/// One word, unquoted, and the bytes of the value it was written as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) range: Range<usize>,
}

impl Word {
    /// What a value has at these bytes.
    pub(super) fn of(value: &Text, range: Range<usize>) -> Self {
        Self { text: value.text[range.clone()].to_owned(), range }
    }
}

/// The words of a value; escapes that nobody knows are kept as they are and reported as warnings, as systemd does.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Words {
    pub(super) words: Vec<Word>,
    pub(super) warnings: Vec<Fault>,
}

/// What a backslash is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Backslash {
    /// The beginning of a C escape.
    Escapes,
    /// A character as any other: in names of units, where `\\x2d` is written by systemd-escape(1) and stays.
    Stays,
}

pub(super) fn split(value: &str, backslash: Backslash) -> Result<Words, Fault> {
    #[cfg(test)]
    super::text::steps::add(value.len());
    let mut found = Words::default();
    let mut rest = value.char_indices().peekable();
    while let Some((start, c)) = rest.next() {
        if is_blank(c) {
            continue;
        }
        let mut word = Vec::new();
        let mut quote: Option<(char, usize)> = None;
        let mut end = value.len();
        let mut current = Some((start, c));
        while let Some((at, c)) = current {
            match (c, quote) {
                ('\\', _) if backslash == Backslash::Escapes => {
                    let text = &value[at + 1..];
                    match unescape(text) {
                        Escape::Byte(0, _) | Escape::Char('\0', _) => {
                            return Err(Fault::new(at..at + 1, "a NUL character cannot be part of a word"));
                        }
                        Escape::Byte(byte, length) => {
                            word.push(byte);
                            skip(&mut rest, at + 1 + length);
                        }
                        Escape::Char(c, length) => {
                            word.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                            skip(&mut rest, at + 1 + length);
                        }
                        Escape::Unknown => {
                            let length = text.chars().next().map_or(0, char::len_utf8);
                            let shown = &value[at..at + 1 + length];
                            let text =
                                format!("{shown} is not an escape and stays as it is; write \\{shown} to say so");
                            found.warnings.push(Fault::new(at..at + 1 + length, text));
                            // Both of it, even if it is a blank (EXTRACT_UNESCAPE_RELAX of systemd).
                            word.extend_from_slice(shown.as_bytes());
                            skip(&mut rest, at + 1 + length);
                        }
                    }
                }
                ('"' | '\'', None) => quote = Some((c, at)),
                (c, Some((q, _))) if c == q => quote = None,
                (c, None) if is_blank(c) => {
                    end = at;
                    break;
                }
                (c, _) => word.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
            current = rest.next();
        }
        if let Some((q, at)) = quote {
            let text = format!("the quote {q} is never closed; write \\{q} for the character itself");
            return Err(Fault::new(at..at + 1, Said::from(text).offering(format!("\\{q}"))));
        }
        let range = start..end;
        let text = String::from_utf8(word)
            .map_err(|_| Fault::new(range.clone(), "the escapes of this word make bytes that are not UTF-8 text"))?;
        found.words.push(Word { text, range });
    }
    Ok(found)
}

/// What parts words to systemd (WHITESPACE of its string-util.h).
fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

fn skip(rest: &mut std::iter::Peekable<std::str::CharIndices<'_>>, to: usize) {
    while rest.peek().is_some_and(|(at, _)| *at < to) {
        rest.next();
    }
}

enum Escape {
    /// And how many bytes follow the backslash.
    Byte(u8, usize),
    Char(char, usize),
    Unknown,
}

/// What stands behind a backslash.
fn unescape(text: &str) -> Escape {
    let number = |from: usize, digits: usize, radix: u32| {
        let text = text.get(from..from + digits)?;
        text.bytes().all(|b| char::from(b).is_digit(radix)).then(|| u32::from_str_radix(text, radix).ok()).flatten()
    };
    let escape = match text.bytes().next() {
        Some(b'a') => Some(Escape::Byte(7, 1)),
        Some(b'b') => Some(Escape::Byte(8, 1)),
        Some(b'f') => Some(Escape::Byte(12, 1)),
        Some(b'n') => Some(Escape::Byte(b'\n', 1)),
        Some(b'r') => Some(Escape::Byte(b'\r', 1)),
        Some(b't') => Some(Escape::Byte(b'\t', 1)),
        Some(b'v') => Some(Escape::Byte(11, 1)),
        Some(b's') => Some(Escape::Byte(b' ', 1)),
        Some(b @ (b'\\' | b'"' | b'\'')) => Some(Escape::Byte(b, 1)),
        Some(b'x') => number(1, 2, 16).and_then(|n| u8::try_from(n).ok()).map(|b| Escape::Byte(b, 3)),
        Some(b'u') => number(1, 4, 16).and_then(char::from_u32).map(|c| Escape::Char(c, 5)),
        Some(b'U') => number(1, 8, 16).and_then(char::from_u32).map(|c| Escape::Char(c, 9)),
        Some(b'0'..=b'7') => number(0, 3, 8).and_then(|n| u8::try_from(n).ok()).map(|b| Escape::Byte(b, 3)),
        _ => None,
    };
    escape.unwrap_or(Escape::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(value: &str) -> Vec<String> {
        split(value, Backslash::Escapes).unwrap().words.into_iter().map(|w| w.text).collect()
    }

    #[test]
    fn quotes_hold_words_together() {
        assert_eq!(words(r#"a  "b c" 'd "e"' "#), ["a", "b c", "d \"e\""]);
        assert_eq!(words(r#"FOO="a b" x"#), ["FOO=a b", "x"]);
        assert_eq!(words("\"\" ''"), ["", ""]);
        assert_eq!(words("  "), Vec::<String>::new());
    }

    #[test]
    fn what_parts_words_is_systemds() {
        assert_eq!(words("A=b\\ c d"), ["A=b\\ c", "d"]);
        assert_eq!(words("a\u{b}b\u{c}c\u{85}d e"), ["a\u{b}b\u{c}c\u{85}d", "e"]);
    }

    #[test]
    fn every_escape_of_the_manual() {
        assert_eq!(words(r#"\a\b\f\n\r\t\v\\\"\'\s"#), ["\x07\x08\x0c\n\r\t\x0b\\\"' "]);
        assert_eq!(words(r"\x41\101\u00e4\U0001F600"), ["AAä😀"]);
        assert_eq!(words(r#""a\nb" 'c\td'"#), ["a\nb", "c\td"]);
        assert_eq!(words(r"\xc3\xa4"), ["ä"]);
    }

    #[test]
    fn a_backslash_can_be_a_character() {
        let found = split(r#"my\x2dapp.service "a\" \q\"#, Backslash::Stays).unwrap();
        let texts: Vec<&str> = found.words.iter().map(|w| w.text.as_str()).collect();
        assert_eq!((texts, found.warnings.len()), (vec![r"my\x2dapp.service", r"a\", r"\q\"], 0));
    }

    #[test]
    fn unknown_escapes_stay_and_are_reported() {
        let found = split(r"a\d+ \x4 \400", Backslash::Escapes).unwrap();
        let texts: Vec<&str> = found.words.iter().map(|w| w.text.as_str()).collect();
        assert_eq!(texts, [r"a\d+", r"\x4", r"\400"]);
        assert_eq!(found.warnings.len(), 3);
        assert_eq!(found.warnings[0].range, 1..3);
    }

    #[test]
    fn what_cannot_be_a_word_is_refused_at_its_place() {
        let split = |value: &str| split(value, Backslash::Escapes);
        assert_eq!(split("a \"b").unwrap_err().range, 2..3);
        assert_eq!(split("it's").unwrap_err().range, 2..3);
        assert_eq!(split(r"a \x00").unwrap_err().range, 2..3);
        assert!(split(r"\xff").is_err());
        assert!(split("a\\").is_ok());
        for open in [r#"a --b='c "d e"''"#, r#"a --b='c "d e" '""#, r#"--b='c "d e"more"#, "'", "\"", "'x'y'z", "\"a\\"]
        {
            assert!(split(open).is_err(), "{open}");
        }
        assert_eq!(words(r#"a  '--b=c "d e"'"#), ["a", r#"--b=c "d e""#]);
    }

    #[test]
    fn ranges_are_those_of_the_written_word() {
        let found = split(r#"ab "c d" e"#, Backslash::Escapes).unwrap();
        assert_eq!(found.words[1], Word { text: "c d".into(), range: 3..8 });
        assert_eq!(found.words[2].range, 9..10);
    }
}

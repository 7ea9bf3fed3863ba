//! The small language of a key's value. Keys with a language of their own are read by `build`; all others are checked here.

use crate::unit::{cpus, values};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::unit) enum Value {
    /// Read by `build`, in this form.
    Own(&'static str),
    Text,
    Boolean,
    /// A time span that ends, or one that may be `infinity`.
    Span,
    Timeout,
    Size,
    /// A size, a share of the machine in percent, or `infinity`.
    Amount,
    Number,
    /// From, to.
    Range(i64, i64),
    Choice(&'static [&'static str]),
    Signal,
    /// File mode in octal digits.
    Mode,
    Percent,
    /// Numbers and ranges of CPUs or memory nodes.
    Cpus,
    /// Names of units.
    Units,
    Words,
}

impl Value {
    /// As the documentation calls it.
    pub(in crate::unit) fn name(self) -> String {
        match self {
            Self::Own(form) => form.to_owned(),
            Self::Range(from, to) => format!("{from} … {to}"),
            Self::Choice(words) => words.join(", "),
            Self::Text => "text".into(),
            Self::Boolean => "boolean".into(),
            Self::Span => "time span".into(),
            Self::Timeout => "time span or infinity".into(),
            Self::Size => "size".into(),
            Self::Amount => "size, percent or infinity".into(),
            Self::Number => "number".into(),
            Self::Signal => "signal".into(),
            Self::Mode => "file mode".into(),
            Self::Percent => "percent".into(),
            Self::Cpus => "numbers and ranges".into(),
            Self::Units => "units".into(),
            Self::Words => "words".into(),
        }
    }

    /// Whether it is a plain number, or may be one.
    pub(in crate::unit) fn is_number(self) -> bool {
        match self {
            Self::Own(form) => {
                let other = ["size", "path", "name"].iter().any(|word| form.contains(word));
                (form.contains("number") || form.contains('…')) && !other
            }
            Self::Number | Self::Range(..) => true,
            _ => false,
        }
    }

    /// What was expected, if this is none of it.
    pub(in crate::unit) fn check(self, text: &str) -> Result<(), String> {
        let ok = |good: bool, expected: &str| if good { Ok(()) } else { Err(expected.to_owned()) };
        match self {
            Self::Own(_) | Self::Text | Self::Units | Self::Words => Ok(()),
            Self::Boolean => values::boolean(text).map(drop).map_err(str::to_owned),
            Self::Span => ok(values::span(text).is_ok_and(|s| s.is_some()), values::SPAN_ENDS),
            Self::Timeout => values::span(text).map(drop).map_err(str::to_owned),
            Self::Size => values::bytes(text).map(drop).map_err(str::to_owned),
            Self::Amount => values::amount(text).map(drop).map_err(str::to_owned),
            Self::Number => ok(text.parse::<u32>().is_ok(), "expected a number"),
            Self::Range(from, to) => {
                let good = text.parse::<i64>().is_ok_and(|n| (from..=to).contains(&n));
                ok(good, &format!("expected a number from {from} to {to}"))
            }
            Self::Choice(words) => ok(words.contains(&text), &format!("expected {}", words.join(", "))),
            Self::Signal => values::capital_signal(text).map(drop).map_err(str::to_owned),
            Self::Mode => {
                let digits = (3..=4).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
                ok(digits, "expected a file mode in octal digits, such as 0644")
            }
            Self::Percent => values::percent(text).map(drop).map_err(str::to_owned),
            Self::Cpus => cpus::read(text).map(drop).map_err(str::to_owned),
        }
    }
}

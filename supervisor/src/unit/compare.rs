//! The arguments of conditions that compare, and the comparisons: numbers, versions, patterns, shares.

use std::cmp::Ordering;

use regex_lite::Regex;

use super::{
    values,
    words::{self, Backslash},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    Glob(bool),
    /// Of the texts as they are.
    Text(bool),
    Is(&'static [Ordering]),
}

use Ordering::{Equal, Greater, Less};

/// Longer ones first.
const OPERATORS: [(&str, Operator); 10] = [
    ("!$=", Operator::Glob(false)),
    ("$=", Operator::Glob(true)),
    ("<>", Operator::Is(&[Less, Greater])),
    ("<=", Operator::Is(&[Less, Equal])),
    (">=", Operator::Is(&[Greater, Equal])),
    ("==", Operator::Is(&[Equal])),
    ("!=", Operator::Text(false)),
    ("<", Operator::Is(&[Less])),
    (">", Operator::Is(&[Greater])),
    ("=", Operator::Text(true)),
];

impl Operator {
    /// At the beginning of a text, and what follows.
    pub(crate) fn split(text: &str) -> Option<(Self, &str)> {
        OPERATORS.iter().find_map(|(sign, operator)| Some((*operator, text.strip_prefix(sign)?.trim_start())))
    }

    /// The machine has so much: `>=4`, and `4` is the same.
    pub(crate) fn number(argument: &str, has: u64) -> Result<bool, String> {
        let (operator, number) = Self::split(argument).unwrap_or((Self::Is(&[Greater, Equal]), argument));
        let number = values::bytes(number.trim_start())?;
        match operator {
            Self::Is(good) => Ok(good.contains(&has.cmp(&number))),
            Self::Text(equal) => Ok((has == number) == equal),
            Self::Glob(_) => Err("numbers are not compared with patterns".to_owned()),
        }
    }

    /// Of two versions or texts.
    pub(crate) fn holds(self, has: &str, wanted: &str) -> Result<bool, String> {
        match self {
            Self::Glob(equal) => Ok(glob(wanted, "")?.is_match(has) == equal),
            Self::Text(equal) => Ok((has == wanted) == equal),
            Self::Is(good) => Ok(good.contains(&versions(has, wanted))),
        }
    }
}

/// `ConditionKernelVersion=`: comparisons that all have to hold, or first of all a pattern.
pub(crate) fn version(argument: &str, has: &str) -> Result<bool, String> {
    let mut words = argument.split_ascii_whitespace();
    let (mut first, mut all) = (true, true);
    while let Some(word) = words.next() {
        all &= match Operator::split(word) {
            Some((operator, "")) => operator.holds(has, words.next().ok_or("a version is missing")?)?,
            Some((operator, wanted)) => operator.holds(has, wanted)?,
            None if first => glob(word, "")?.is_match(has),
            None => return Err(format!("there is no comparison before {word}")),
        };
        first = false;
    }
    Ok(all)
}

/// `ConditionOSRelease=`: comparisons that all have to hold. A field that is not there is empty, os-release(5).
pub(crate) fn release(argument: &str, text: &str) -> Result<bool, String> {
    const FORM: &str = "expected a field, a comparison and a value, such as VERSION_ID>=12";
    let mut all = true;
    for word in words::split(argument, Backslash::Escapes).map_err(|fault| fault.text)?.words {
        let word = word.text;
        let at = word.find(['$', '!', '<', '>', '=']).filter(|at| *at > 0).ok_or(FORM)?;
        let (operator, wanted) = Operator::split(&word[at..]).ok_or(FORM)?;
        let of = |line: &str| Some(line.strip_prefix(&word[..at])?.strip_prefix('=')?.trim().to_owned());
        let has = text.lines().filter_map(of).next_back().unwrap_or_default();
        all &= operator.holds(has.trim_matches(['"', '\'']), wanted)?;
    }
    Ok(all)
}

/// `20%` over five minutes, or `20%/1min`: the share in percent, and the average's name in proc(5).
pub(crate) fn pressure(argument: &str) -> Result<(f64, &'static str), String> {
    const FORM: &str = "expected a share such as 20%, or with a time 20%/1min; the times are 10sec, 1min and 5min";
    const SLICE: &str = "there are no slices here; write the share alone, it is the machine's";
    if argument.contains(':') {
        return Err(SLICE.to_owned());
    }
    let (share, time) = argument.split_once('/').unwrap_or((argument, "5min"));
    let average = match time.trim() {
        "10s" | "10sec" => "avg10=",
        "1min" => "avg60=",
        "5min" => "avg300=",
        _ => return Err(FORM.to_owned()),
    };
    let share = values::percent(share.trim()).map_err(|_| FORM)?;
    Ok((f64::from(share) / 100.0, average))
}

/// fnmatch(3) without flags. `flags`: the expression's, `(?i)` for either case.
pub(crate) fn glob(pattern: &str, flags: &str) -> Result<Regex, String> {
    let mut expression = format!("{flags}(?s)^");
    let mut rest = pattern.chars();
    while let Some(c) = rest.next() {
        match c {
            '*' => expression.push_str(".*"),
            '?' => expression.push('.'),
            '[' => {
                let text = rest.as_str();
                // A bracket in the first place is one of the characters.
                let from = usize::from(text.starts_with(['!', '^']));
                let skip = from + usize::from(text[from..].starts_with(']'));
                match text[skip..].find(']') {
                    Some(end) => {
                        let set = text[from..skip + end].replace('\\', r"\\").replace('[', r"\[").replace(']', r"\]");
                        expression.push_str(if from > 0 { "[^" } else { "[" });
                        expression.push_str(&set.replace('&', r"\&").replace('~', r"\~"));
                        expression.push(']');
                        rest = text[skip + end + 1..].chars();
                    }
                    None => expression.push_str(r"\["),
                }
            }
            '\\' => expression.push_str(&regex_lite::escape(&rest.next().unwrap_or('\\').to_string())),
            c => expression.push_str(&regex_lite::escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
    expression.push('$');
    Regex::new(&expression).map_err(|_| format!("{pattern} is no pattern"))
}

/// The order of the UAPI group's Version Format Specification: numbers by their value, letters by their code, `~` before
/// everything and before the end, then `-`, `^` and `.` as what ends a part.
pub(crate) fn versions(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    let counts = |c: u8| c.is_ascii_alphanumeric() || b"~-^.".contains(&c);
    loop {
        while let [c, rest @ ..] = a
            && !counts(*c)
        {
            a = rest;
        }
        while let [c, rest @ ..] = b
            && !counts(*c)
        {
            b = rest;
        }
        for sign in *b"~-^." {
            // After `~` the end of one of them decides.
            if sign == b'-' && (a.is_empty() || b.is_empty()) {
                return a.len().min(1).cmp(&b.len().min(1));
            }
            let (in_a, in_b) = (a.first() == Some(&sign), b.first() == Some(&sign));
            if in_a != in_b {
                return if in_a { Less } else { Greater };
            }
            if in_a {
                (a, b) = (&a[1..], &b[1..]);
            }
        }
        let digits = |text: &[u8]| text.iter().position(|c| !c.is_ascii_digit()).unwrap_or(text.len());
        let letters = |text: &[u8]| text.iter().position(|c| !c.is_ascii_alphabetic()).unwrap_or(text.len());
        let numeric = a.first().is_some_and(u8::is_ascii_digit) || b.first().is_some_and(u8::is_ascii_digit);
        let (in_a, in_b) = if numeric { (digits(a), digits(b)) } else { (letters(a), letters(b)) };
        let ((part_a, rest_a), (part_b, rest_b)) = (a.split_at(in_a), b.split_at(in_b));
        let order = if numeric {
            let value = |part: &[u8]| part.iter().position(|c| *c != b'0').unwrap_or(part.len());
            let (value_a, value_b) = (&part_a[value(part_a)..], &part_b[value(part_b)..]);
            // A number is newer than none.
            (in_a > 0).cmp(&(in_b > 0)).then(value_a.len().cmp(&value_b.len())).then_with(|| value_a.cmp(value_b))
        } else {
            part_a.cmp(part_b)
        };
        if order != Equal {
            return order;
        }
        (a, b) = (rest_a, rest_b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_the_specification_lists_them() {
        let order = [
            "~",
            "~1",
            "",
            "-",
            "122.1",
            "123~rc1-1",
            "123",
            "123-a",
            "123-a.1",
            "123-1",
            "123-1.1",
            "123^post1",
            "123.a-1",
            "123.1-1",
            "123a-1",
            "124-1",
        ];
        for (at, older) in order.iter().enumerate() {
            assert_eq!(versions(older, older), Equal);
            for newer in &order[at + 1..] {
                assert_eq!((versions(older, newer), versions(newer, older)), (Less, Greater), "{older:?} {newer:?}");
            }
        }
        assert_eq!(versions("6.12.0", "6.012.00"), Equal);
        assert_eq!(versions("6.1", "6.12"), Less);
    }

    #[test]
    fn comparisons_and_patterns() {
        for (argument, good) in [
            (">=6.1", true),
            (">= 6.1 < 7", true),
            ("<6.12", false),
            ("=6.12.1-amd64", true),
            ("!=6.12.1-amd64", false),
            ("6.*-amd64", true),
            ("$=6.1*", true),
            ("!$=6.1*", false),
            ("==06.12.1-amd64", true),
            ("<>6.12.1-amd64", false),
        ] {
            assert_eq!(version(argument, "6.12.1-amd64"), Ok(good), "{argument}");
        }
        for (argument, good) in [
            ("ID=orlop", true),
            ("ID=orlop VERSION_ID>=1.9", true),
            ("ID=orlop VERSION_ID<1.9", false),
            ("VERSION_ID$=1.*", true),
            ("NAME!=Orlop", false),
            ("BUILD_ID=", true),
            ("BUILD_ID=x", false),
            ("\"PRETTY_NAME=Orlop 1\" 'ID=orlop'", true),
            ("PRETTY_NAME=\"Orlop 2\"", false),
        ] {
            assert_eq!(
                release(argument, "NAME=\"Orlop\"\nPRETTY_NAME=\"Orlop 1\"\nID=orlop\nVERSION_ID='1.10'\n"),
                Ok(good),
                "{argument}"
            );
        }
        assert!(release("orlop", "").is_err() && release("=x", "").is_err() && release("ID=x y", "").is_err());
        assert_eq!([pressure("2.5%"), pressure("10% / 1min")], [Ok((2.5, "avg300=")), Ok((10.0, "avg60="))]);
        assert!(pressure("2").is_err() && pressure("2%/2min").is_err() && pressure("a.slice:2%").is_err());
        assert!(version(">", "6").is_err() && version(">=5 6", "6").is_err());
        for (argument, good) in
            [("4", true), (">=4", true), ("> 4", false), ("=4", true), ("!=4", false), ("<1K", true)]
        {
            assert_eq!(Operator::number(argument, 4), Ok(good), "{argument}");
        }
        assert!(Operator::number("few", 4).is_err() && Operator::number("$=4", 4).is_err());
        let matches = |pattern: &str, text: &str| glob(pattern, "").unwrap().is_match(text);
        assert!(matches("a[b-d]*", "acx") && matches("[!a]?", "bc") && matches("[]]", "]") && matches(r"\*", "*"));
        assert!(!matches("a[b-d]", "ae") && !matches("a.c", "abc") && !matches("[!]]", "]") && matches("[x", "[x"));
        assert!(glob("WEB*", "(?i)").unwrap().is_match("web1"));
    }
}

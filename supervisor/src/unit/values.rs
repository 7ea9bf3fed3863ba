//! The small value languages of both manuals: booleans, time spans, sizes, signals. Each error says what to write.

use std::time::Duration;

use super::model::Amount;

/// What was expected in place of the value, as a sentence's object: `expected …`.
pub(crate) type Expected = &'static str;

pub(super) const BOOLEAN: Expected = "expected yes, true, on, 1 or no, false, off, 0";
pub(super) const SPAN: Expected = "expected a time span such as 90, 1min 30s, 500ms or infinity";
pub(super) const SPAN_ENDS: Expected = "expected a time span that ends, such as 5s or 1min";
pub(super) const AMOUNT: Expected = "expected an amount, a share such as 50%, or infinity";
pub(super) const PERCENT: Expected = "expected a share such as 20% or 12.5%";
pub(super) const SIZE: Expected = "expected a size such as 64M, 1.5G or a number of bytes";
pub(super) const SIGNAL: Expected = "expected a signal such as SIGTERM, TERM, RTMIN+3 or 15";

/// What a descriptor that is handed on may be called (`fdname_is_valid` of systemd).
pub(crate) fn is_fd_name(name: &str) -> bool {
    let fits = (1..=255).contains(&name.len());
    fits && name.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b':')
}

pub(super) fn boolean(text: &str) -> Result<bool, Expected> {
    let is = |words: [&str; 6]| words.iter().any(|w| w.eq_ignore_ascii_case(text));
    if is(["1", "yes", "y", "true", "t", "on"]) {
        Ok(true)
    } else if is(["0", "no", "n", "false", "f", "off"]) {
        Ok(false)
    } else {
        Err(BOOLEAN)
    }
}

/// systemd.time(7), in microseconds at the finest; `None` is `infinity`.
pub(crate) fn span(text: &str) -> Result<Option<Duration>, Expected> {
    let text = text.trim();
    if text == "infinity" {
        return Ok(None);
    }
    let mut total: u128 = 0;
    let mut rest = text;
    if rest.is_empty() {
        return Err(SPAN);
    }
    while !rest.is_empty() {
        let (whole, fraction, follows) = number(rest.strip_prefix('+').unwrap_or(rest)).ok_or(SPAN)?;
        let after = follows.trim_start();
        let length = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
        // Only a unit or a space lets another number follow: 12.34.56 is no time.
        if length == 0 && !after.is_empty() && after.len() == follows.len() {
            return Err(SPAN);
        }
        let unit = unit_us(&after[..length]).ok_or(SPAN)?;
        let part = u128::from(whole) * u128::from(unit) + u128::from(fraction) * u128::from(unit) / u128::from(SCALE);
        total += part;
        rest = after[length..].trim_start();
    }
    // systemd's own limit: what does not fit 64 bits of microseconds is not a time.
    let total = u64::try_from(total).ok().filter(|t| *t < u64::MAX).ok_or(SPAN)?;
    Ok(Some(Duration::from_micros(total)))
}

fn unit_us(unit: &str) -> Option<u64> {
    const SECOND: u64 = 1_000_000;
    Some(match unit {
        "us" | "usec" | "µs" | "μs" => 1,
        "ms" | "msec" => 1000,
        "" | "s" | "sec" | "second" | "seconds" => SECOND,
        "m" | "min" | "minute" | "minutes" => 60 * SECOND,
        "h" | "hr" | "hour" | "hours" => 3600 * SECOND,
        "d" | "day" | "days" => 86_400 * SECOND,
        "w" | "week" | "weeks" => 7 * 86_400 * SECOND,
        "M" | "month" | "months" => 2_629_800 * SECOND,
        "y" | "year" | "years" => 31_557_600 * SECOND,
        _ => return None,
    })
}

/// Fractions are counted in billionths.
const SCALE: u64 = 1_000_000_000;

/// `12` or `1.5` at the start: the whole part, the fraction in billionths, what follows.
fn number(text: &str) -> Option<(u64, u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let whole = if digits == 0 { 0 } else { text[..digits].parse().ok()? };
    let rest = &text[digits..];
    let Some(after) = rest.strip_prefix('.') else {
        return (digits > 0).then_some((whole, 0, rest));
    };
    let length = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
    if length == 0 {
        return None;
    }
    let fraction =
        after[..length].bytes().chain(std::iter::repeat(b'0')).take(9).fold(0, |n, b| n * 10 + u64::from(b - b'0'));
    Some((whole, fraction, &after[length..]))
}

/// A size in bytes as Podman has it: the suffixes K, M, G, T, P, E (of 1024) may be small and may have `i` and `b` behind them.
pub(super) fn size(text: &str) -> Result<u64, Expected> {
    let (whole, fraction, rest) = number(text.trim()).ok_or(SIZE)?;
    let suffix = rest.trim_start().to_ascii_lowercase();
    let letter = match suffix.as_str() {
        "" | "b" => "",
        s => s.strip_suffix("ib").or_else(|| s.strip_suffix('b')).or_else(|| s.strip_suffix('i')).unwrap_or(s),
    };
    let power = match letter {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        "e" => 6,
        _ => return Err(SIZE),
    };
    let unit = 1024_u128.pow(power);
    let bytes = u128::from(whole) * unit + u128::from(fraction) * unit / u128::from(SCALE);
    u64::try_from(bytes).map_err(|_| SIZE)
}

/// A size in bytes as systemd has it (`parse_size`): one capital letter, and several parts from the largest on, `1G 512M`.
pub(super) fn bytes(text: &str) -> Result<u64, Expected> {
    parts(text, 1024)
}

/// So many a second: the suffixes are of 1000, systemd.resource-control(5).
pub(super) fn count(text: &str) -> Result<u64, Expected> {
    parts(text, 1000)
}

fn parts(text: &str, base: u128) -> Result<u64, Expected> {
    const LETTERS: [(&str, u32); 8] = [("E", 6), ("P", 5), ("T", 4), ("G", 3), ("M", 2), ("K", 1), ("B", 0), ("", 0)];
    let mut left = &LETTERS[..];
    let (mut total, mut rest) = (0_u128, text);
    loop {
        let (whole, fraction, after) = number(rest.trim_start()).ok_or(SIZE)?;
        let after = after.trim_start();
        let at = left.iter().position(|(letter, _)| after.starts_with(letter)).ok_or(SIZE)?;
        let (letter, power) = left[at];
        let unit = base.pow(power);
        total += u128::from(whole) * unit + u128::from(fraction) * unit / u128::from(SCALE);
        (left, rest) = (&left[at + 1..], &after[letter.len()..]);
        if rest.is_empty() {
            return u64::try_from(total).map_err(|_| SIZE);
        }
    }
}

/// What a number with a leading zero is to systemd (`safe_atoi`, base 0) and to podman (pflag, base 0), where that is not what it looks like: an octal one, or none.
pub(super) fn octal(text: &str) -> Option<Option<u64>> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let all = digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit());
    let octal = u64::from_str_radix(digits, 8).ok();
    (all && (octal.is_none() || octal != digits.parse().ok())).then_some(octal)
}

/// The sentence for one.
pub(super) fn two_numbers(key: &str, text: &str) -> String {
    let sign = if text.starts_with('-') { "-" } else { "" };
    let plain = text.trim_start_matches(['+', '-', '0']);
    match octal(text).flatten() {
        Some(octal) => format!(
            "{key}={text}: to systemd and podman a number that begins with 0 is an octal one, {sign}{octal}; write that or {sign}{plain}"
        ),
        None => format!(
            "{key}={text}: to systemd and podman a number that begins with 0 is an octal one, and this is none; write {sign}{plain}"
        ),
    }
}

/// A time span that ends. Of some keys systemd takes `infinity` too, and then nothing ever comes; whoever wants that has a key that says
/// it, such as Restart=no.
pub(super) fn finite(text: &str) -> Result<Duration, Expected> {
    span(text)?.ok_or(SPAN_ENDS)
}

/// A share in hundredths of a percent; more than 100 % is possible.
pub(super) fn percent(text: &str) -> Result<u32, Expected> {
    let (whole, fraction, rest) = number(text.strip_suffix('%').ok_or(PERCENT)?).ok_or(PERCENT)?;
    // Two digits behind the point are all that systemd takes.
    if !rest.is_empty() || fraction % (SCALE / 100) != 0 {
        return Err(PERCENT);
    }
    let hundredths = whole.checked_mul(100).and_then(|n| n.checked_add(fraction / (SCALE / 100)));
    hundredths.and_then(|n| u32::try_from(n).ok()).ok_or(PERCENT)
}

/// `MemoryMax=` and its kin.
pub(super) fn amount(text: &str) -> Result<Amount, Expected> {
    amount_of(text, bytes)
}

/// An amount that is counted by `read`.
pub(super) fn amount_of(text: &str, read: impl Fn(&str) -> Result<u64, Expected>) -> Result<Amount, Expected> {
    if text == "infinity" {
        return Ok(Amount::Infinity);
    }
    if text.ends_with('%') {
        return percent(text).ok().filter(|share| *share <= 10_000).map(Amount::Share).ok_or(AMOUNT);
    }
    read(text).map(Amount::Is).map_err(|_| AMOUNT)
}

/// Number of a signal by name, with or without SIG, or by number.
pub(crate) fn signal(text: &str) -> Result<i32, Expected> {
    oci::runtime::signal(text).filter(|number| *number > 0).ok_or(SIGNAL)
}

/// As systemd has them: in capitals.
pub(super) fn capital_signal(text: &str) -> Result<i32, Expected> {
    if text.contains(|c: char| c.is_ascii_lowercase()) { Err(SIGNAL) } else { signal(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans() {
        assert_eq!([boolean("yes"), boolean("True"), boolean("ON"), boolean("1")], [Ok(true); 4]);
        assert_eq!([boolean("no"), boolean("false"), boolean("Off"), boolean("0")], [Ok(false); 4]);
        assert!(["", "2", "yess", "enabled"].iter().all(|t| boolean(t).is_err()));
    }

    #[test]
    fn the_time_spans_of_the_manual() {
        let ms = |text| span(text).unwrap().unwrap().as_millis();
        assert_eq!(ms("50"), 50_000);
        assert_eq!(ms("2min 200ms"), 120_200);
        assert_eq!(ms("2h 30min"), 9_000_000);
        assert_eq!([ms("2 h"), ms("2hours")], [7_200_000; 2]);
        assert_eq!(ms("48hr"), 172_800_000);
        assert_eq!(ms("1y 12month"), 2 * 31_557_600_000);
        assert_eq!(ms("55s500ms"), 55_500);
        assert_eq!(ms("300ms20s 5day"), 432_020_300);
        assert_eq!(ms("1.5min"), 90_000);
        assert_eq!(
            [ms(".5"), ms(" 5.5s 500ms "), ms("+3.1s.2"), ms("3.1 .2"), ms(".5y")],
            [500, 6000, 3300, 3300, 15_778_800_000]
        );
        assert_eq!(span("infinity"), Ok(None));
        assert_eq!(span("0"), Ok(Some(Duration::ZERO)));
        for wrong in [
            "",
            "s",
            "-1",
            "1 fortnight",
            "1x",
            "5 . 3",
            "5.",
            "3. 1",
            "3.s",
            "12.34.56",
            "12..34",
            ".s",
            "-0.0s",
            ".3 infinity",
            "99999999999999999999",
            "600000y",
        ] {
            assert_eq!(span(wrong), Err(SPAN), "{wrong:?}");
        }
    }

    #[test]
    fn sizes_of_both_manuals() {
        assert_eq!(size("1024"), Ok(1024));
        assert_eq!([size("64M"), size("64m"), size("64MiB"), size("64 mb"), size("0.0625g")], [Ok(64 << 20); 5]);
        assert_eq!(size("1.5K"), Ok(1536));
        assert_eq!(size("1E"), Ok(1 << 60));
        for wrong in ["", "M", "64X", "-1", "64 M B", "16E", "1.5.5k"] {
            assert_eq!(size(wrong), Err(SIZE), "{wrong:?}");
        }
    }

    #[test]
    fn systemds_sizes_have_one_capital_letter_each() {
        assert_eq!(
            [bytes("64M"), bytes("67108864"), bytes("0.0625G"), bytes("63M 1024 K"), bytes("63M1048576B")],
            [Ok(64 << 20); 5]
        );
        assert_eq!([count("5M"), count("1K 500")], [Ok(5_000_000), Ok(1500)]);
        for wrong in ["", "64m", "64MB", "64Mi", "1K 1M", "1M 1M", "-1", "16E", "M"] {
            assert_eq!(bytes(wrong), Err(SIZE), "{wrong:?}");
        }
        assert_eq!(
            [capital_signal("SIGINT"), capital_signal("2"), capital_signal("sigint")],
            [Ok(2), Ok(2), Err(SIGNAL)]
        );
    }

    #[test]
    fn leading_zeros_are_told() {
        assert_eq!(
            [octal("010"), octal("-0100"), octal("08"), octal("0"), octal("10"), octal("0x10")],
            [Some(Some(8)), Some(Some(64)), Some(None), None, None, None]
        );
        // The same number either way.
        assert_eq!([octal("00"), octal("05"), octal("+007")], [None, None, None]);
        assert!(two_numbers("Nice", "-08").contains("and this is none; write -8"));
        assert!(two_numbers("Nice", "-010").contains("octal one, -8; write that or -10"));
    }

    #[test]
    fn shares_and_amounts() {
        assert_eq!([percent("20%"), percent("12.5%"), percent("150%")], [Ok(2000), Ok(1250), Ok(15_000)]);
        assert_eq!(amount("infinity"), Ok(Amount::Infinity));
        assert_eq!([amount("1K"), amount("50%")], [Ok(Amount::Is(1024)), Ok(Amount::Share(5000))]);
        assert!(["20", "1.234%", "%", "-1%"].iter().all(|t| percent(t).is_err()));
        assert!(["", "101%", "many"].iter().all(|t| amount(t).is_err()));
        assert_eq!((Amount::Share(2500).of(1000), Amount::Infinity.of(5)), (Some(250), None));
    }

    #[test]
    fn signals_by_name_and_number() {
        assert_eq!([signal("SIGTERM"), signal("term"), signal("15")], [Ok(15); 3]);
        assert_eq!([signal("SIGRTMIN+3"), signal("RTMIN+3"), signal("37")], [Ok(37); 3]);
        assert_eq!([signal("SIGRTMAX-1"), signal("RTMAX")], [Ok(63), Ok(64)]);
        for wrong in ["", "0", "65", "SIGFOO", "SIGSIG", "RTMIN3", "RTMIN+31", "RTMIN+99", "SIG", "-9", "RTMIN-1"] {
            assert!(signal(wrong).is_err(), "{wrong:?}");
        }
    }
}

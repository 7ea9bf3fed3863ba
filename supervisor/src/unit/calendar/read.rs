//! The text of a calendar event, part by part.

use super::{Calendar, Chain, Component, Fault, SECOND, WEEKDAYS};
use crate::unit::Said;

/// systemd's own bound.
const MAX_COMPONENTS: usize = 240;

/// What is left without a time zone's name.
pub(super) fn zone(text: &str) -> Result<(&str, bool), Fault> {
    if text.is_empty() {
        return Err(Fault::new(0..0, "expected a calendar event, such as daily or Mon..Fri 08:00"));
    }
    match text.rsplit_once(' ') {
        Some((rest, zone)) if zone.eq_ignore_ascii_case("UTC") && !rest.trim().is_empty() => {
            Ok((rest.trim_end(), true))
        }
        Some((_, zone)) if zone.starts_with(|c: char| c.is_ascii_alphabetic()) => {
            let range = text.len() - zone.len()..text.len();
            Err(Fault::new(
                range,
                format!("{zone}: the machine's clock is UTC and it knows no other zones; write the time in UTC"),
            ))
        }
        _ => Ok((text, false)),
    }
}

/// A year of two digits, as strptime(3) has it.
fn two_digits(year: u64) -> u64 {
    match year {
        0..70 => year + 2000,
        70..100 => year + 1900,
        _ => year,
    }
}

pub(super) struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    pub(super) fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    pub(super) fn fault(&self, text: impl Into<Said>) -> Fault {
        let width = self.rest().chars().next().map_or(0, char::len_utf8);
        Fault::new(self.at..self.at + width, text)
    }

    fn eat(&mut self, text: &str) -> bool {
        let there = self.rest().starts_with(text);
        if there {
            self.at += text.len();
        }
        there
    }

    /// At the end of a part: over the spaces to the next.
    fn ends(&mut self) -> bool {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches(' ').len();
        rest.is_empty() || rest.starts_with(' ')
    }

    pub(super) fn weekdays(&mut self) -> Result<u8, Fault> {
        let mut days = 0_u8;
        let mut from: Option<usize> = None;
        loop {
            let rest = self.rest();
            let length = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
            let word = &rest[..length];
            let is = |name: &&str| name.eq_ignore_ascii_case(word) || name[..3].eq_ignore_ascii_case(word);
            let Some(day) = WEEKDAYS.iter().position(is) else {
                if days == 0 && from.is_none() && word.is_empty() {
                    return Ok(0);
                }
                let range = self.at..self.at + length.max(rest.chars().next().map_or(0, char::len_utf8));
                return Err(Fault::new(
                    range,
                    "expected a weekday such as Mon, a date such as *-*-01, a time such as 08:30, or daily, hourly, …",
                ));
            };
            self.at += length;
            let first = from.unwrap_or(day);
            if first > day {
                return Err(self.fault("the weekdays end before they begin; the week begins on Monday"));
            }
            days |= (first..=day).fold(0, |bits, day| bits | 1 << day);
            if self.ends() {
                return Ok(days);
            }
            let open = from.is_none();
            if open && (self.eat("..") || self.eat("-")) {
                from = Some(day);
                continue;
            }
            from = None;
            if !self.eat(",") {
                return Err(self.fault("expected .., a comma or a space behind a weekday"));
            }
            if self.ends() {
                return Ok(days);
            }
        }
    }

    pub(super) fn date(&mut self, calendar: &mut Calendar) -> Result<(), Fault> {
        if self.rest().is_empty() {
            return Ok(());
        }
        let start = self.at;
        let first = self.chain(false)?;
        if self.rest().is_empty() || self.rest().starts_with(':') {
            // It was a time.
            self.at = start;
            return Ok(());
        }
        let mut join = |reader: &mut Self| {
            calendar.from_end = reader.eat("~");
            if calendar.from_end || reader.eat("-") {
                Ok(())
            } else {
                Err(reader.fault("expected - or ~ in a date, : in a time"))
            }
        };
        join(self)?;
        let second = self.chain(false)?;
        if self.ends() {
            (calendar.months, calendar.days) = (first, second);
            return Ok(());
        }
        if calendar.from_end {
            return Err(self.fault("~ stands before the day, behind the month"));
        }
        calendar.from_end = self.eat("~");
        if !calendar.from_end && !self.eat("-") {
            return Err(self.fault("expected - or ~ and the day"));
        }
        let third = self.chain(false)?;
        if !self.ends() {
            return Err(self.fault("expected a space behind the date"));
        }
        (calendar.years, calendar.months, calendar.days) = (first, second, third);
        for year in &mut calendar.years {
            *year = Component { start: two_digits(year.start), stop: year.stop.map(two_digits), repeat: year.repeat };
        }
        Ok(())
    }

    pub(super) fn time(&mut self, calendar: &mut Calendar) -> Result<(), Fault> {
        if self.rest().is_empty() {
            return Ok(());
        }
        calendar.hours = self.chain(false)?;
        if !self.eat(":") {
            return Err(self.fault("expected : and the minutes"));
        }
        calendar.minutes = self.chain(false)?;
        if self.eat(":") {
            calendar.seconds = self.chain(true)?;
        }
        if self.rest().is_empty() { Ok(()) } else { Err(self.fault("expected the end of the time")) }
    }

    fn chain(&mut self, fine: bool) -> Result<Chain, Fault> {
        let unit = if fine { SECOND } else { 1 };
        if self.eat("*") {
            return Ok(if fine { vec![Component { start: 0, stop: None, repeat: SECOND }] } else { Chain::new() });
        }
        let mut chain = Chain::new();
        loop {
            let start = self.number(fine)?;
            let stop = if self.eat("..") { Some(self.number(fine)?) } else { None };
            let mut repeat = if stop.is_some() { unit } else { 0 };
            if self.eat("/") {
                repeat = self.number(fine)?;
                if repeat == 0 {
                    return Err(self.fault("nothing is repeated every 0"));
                }
            } else if fine && stop.is_some_and(|stop| start <= stop && stop < start + repeat) {
                return Err(self.fault("a range of seconds without a step is a second long at least"));
            }
            // 93..00 are years; what is none of them is judged when all is read.
            if stop.is_some_and(|stop| stop < start && (fine || two_digits(stop) < two_digits(start))) {
                return Err(self.fault("the range ends before it begins"));
            }
            chain.push(Component { start, stop, repeat });
            if chain.len() > MAX_COMPONENTS {
                return Err(self.fault("more values than systemd takes, 240"));
            }
            if !self.eat(",") {
                return Ok(chain);
            }
        }
    }

    /// Whole, or with up to six digits behind the point.
    fn number(&mut self, fine: bool) -> Result<u64, Fault> {
        const WRONG: &str = "expected a number, *, or a range such as 1..5 or 0/15";
        let rest = self.rest();
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let whole: u64 = rest[..digits].parse::<u32>().map_err(|_| self.fault(WRONG))?.into();
        self.at += digits;
        if !fine {
            return Ok(whole);
        }
        let mut value = whole * SECOND;
        let rest = self.rest();
        if rest.starts_with('.') && !rest.starts_with("..") {
            let digits = rest[1..].find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len() - 1);
            // What is finer than a microsecond is rounded, as systemd does.
            let fraction = rest[1..=digits].bytes().chain(std::iter::repeat(b'0')).take(7);
            let tenths = fraction.fold(0, |n, byte| n * 10 + u64::from(byte - b'0'));
            if digits == 0 {
                return Err(self.fault(WRONG));
            }
            value += (tenths + 5) / 10;
            self.at += 1 + digits;
        }
        Ok(value)
    }
}

//! Calendar events of systemd.time(7), in UTC: read, written in their normal form, and when they come next.

mod read;

use std::fmt;

use jiff::{ToSpan, civil::Date};

use super::text::Fault;
use read::{Reader, zone};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calendar {
    /// Monday is bit 0; nothing is every day.
    weekdays: u8,
    years: Chain,
    months: Chain,
    days: Chain,
    /// `days` count from the last day of the month.
    from_end: bool,
    hours: Chain,
    minutes: Chain,
    /// In microseconds.
    seconds: Chain,
    /// Written with ` UTC` behind it.
    utc: bool,
}

/// `a,b..c,d/e`; nothing in it is `*`.
type Chain = Vec<Component>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Component {
    start: u64,
    stop: Option<u64>,
    /// 0: once.
    repeat: u64,
}

const SECOND: u64 = 1_000_000;
/// systemd's own bounds.
const YEARS: (u64, u64) = (1970, 2199);

const SHORTHANDS: [(&str, &str); 13] = [
    ("minutely", "*-*-* *:*:00"),
    ("hourly", "*-*-* *:00:00"),
    ("daily", "*-*-* 00:00:00"),
    ("monthly", "*-*-01 00:00:00"),
    ("weekly", "Mon *-*-* 00:00:00"),
    ("yearly", "*-01-01 00:00:00"),
    ("annually", "*-01-01 00:00:00"),
    ("quarterly", "*-01,04,07,10-01 00:00:00"),
    ("semiannually", "*-01,07-01 00:00:00"),
    ("semi-annually", "*-01,07-01 00:00:00"),
    ("biannually", "*-01,07-01 00:00:00"),
    ("bi-annually", "*-01,07-01 00:00:00"),
    ("anually", "*-01-01 00:00:00"),
];

const WEEKDAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

impl Calendar {
    pub(super) fn parse(text: &str) -> Result<Self, Fault> {
        let (text, utc) = zone(text)?;
        if let Some((_, meaning)) = SHORTHANDS.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)) {
            return Self::parse(meaning).map(|calendar| Self { utc, ..calendar });
        }
        let mut reader = Reader::new(text);
        let mut calendar = Self {
            weekdays: reader.weekdays()?,
            years: Chain::new(),
            months: Chain::new(),
            days: Chain::new(),
            from_end: false,
            hours: vec![once(0)],
            minutes: vec![once(0)],
            seconds: vec![once(0)],
            utc,
        };
        if let Some(seconds) = reader.rest().strip_prefix('@') {
            calendar.instant(seconds).ok_or_else(|| reader.fault("expected @ and the seconds since 1970"))?;
        } else {
            reader.date(&mut calendar)?;
            reader.time(&mut calendar)?;
        }
        calendar.normalize();
        calendar.check().map_err(|what| Fault::new(0..text.len(), what))?;
        Ok(calendar)
    }
}

fn once(start: u64) -> Component {
    Component { start, stop: None, repeat: 0 }
}

impl Calendar {
    #[cfg(test)]
    pub(crate) fn of(text: &str) -> Option<Self> {
        Self::parse(text).ok()
    }

    fn instant(&mut self, seconds: &str) -> Option<()> {
        let time = jiff::Timestamp::from_second(seconds.parse().ok()?).ok()?.to_zoned(jiff::tz::TimeZone::UTC);
        let one = |value: i8| u64::try_from(value).map(|value| vec![once(value)]);
        self.years = vec![once(u64::try_from(time.year()).ok()?)];
        (self.months, self.days) = (one(time.month()).ok()?, one(time.day()).ok()?);
        (self.hours, self.minutes) = (one(time.hour()).ok()?, one(time.minute()).ok()?);
        self.seconds = vec![once(u64::try_from(time.second()).ok()? * SECOND)];
        self.utc = true;
        Some(())
    }

    fn normalize(&mut self) {
        if self.weekdays == 0b111_1111 {
            self.weekdays = 0;
        }
        self.from_end &= !self.days.is_empty();
        // Every second is every second, whatever is said beside it.
        let every = Component { start: 0, stop: None, repeat: SECOND };
        if self.seconds.contains(&every) {
            self.seconds = vec![every];
        }
        let chains =
            [&mut self.years, &mut self.months, &mut self.days, &mut self.hours, &mut self.minutes, &mut self.seconds];
        for chain in chains {
            for part in chain.iter_mut() {
                if let Some(stop) = part.stop
                    && part.repeat > 0
                {
                    let stop = stop - stop.saturating_sub(part.start) % part.repeat;
                    *part = if stop == part.start { once(stop) } else { Component { stop: Some(stop), ..*part } };
                }
            }
            chain.sort_unstable();
            chain.dedup();
        }
    }

    fn check(&self) -> Result<(), &'static str> {
        let good = |chain: &Chain, from: u64, to: u64, from_end: bool| {
            chain.iter().all(|part| {
                // Every month has so many days.
                let to = if from_end { to - 3 } else { to };
                let fits = match part.stop {
                    Some(stop) => part.start <= stop && stop <= to,
                    None if from_end => part.start >= part.repeat + from,
                    None => part.start + part.repeat <= to,
                };
                part.start >= from && part.start <= to && part.repeat <= to - from && fits
            })
        };
        for (chain, from, to, from_end, what) in [
            (&self.years, YEARS.0, YEARS.1, false, "a year lies between 1970 and 2199"),
            (&self.months, 1, 12, false, "a month lies between 1 and 12"),
            (&self.days, 1, 31, self.from_end, "a day lies between 1 and 31, from the end of the month 1 and 28"),
            (&self.hours, 0, 23, false, "an hour lies between 0 and 23"),
            (&self.minutes, 0, 59, false, "a minute lies between 0 and 59"),
            (&self.seconds, 0, 60 * SECOND - 1, false, "a second lies between 0 and 59"),
        ] {
            if !good(chain, from, to, from_end) {
                return Err(what);
            }
        }
        Ok(())
    }

    /// The first time after this one, in microseconds since 1970. `None`: never again.
    pub fn next_after(&self, after: u64) -> Option<u64> {
        let now = jiff::Timestamp::from_microsecond(i64::try_from(after.checked_add(1)?).ok()?).ok()?;
        let now = now.to_zoned(jiff::tz::TimeZone::UTC).datetime();
        let unsigned = |value: i8| u64::try_from(value).unwrap_or(0);
        let time = (unsigned(now.hour()), unsigned(now.minute()));
        let micros = unsigned(now.second()) * SECOND + u64::try_from(now.subsec_nanosecond() / 1000).unwrap_or(0);
        let today = now.date();
        if let Some(date) = self.date(today).filter(|date| *date == today)
            && let Some(found) = self.time((time.0, time.1, micros))
        {
            return instant(date, found);
        }
        let date = self.date(today.tomorrow().ok()?)?;
        instant(date, self.time((0, 0, 0))?)
    }

    /// The first day that fits, this one or later.
    fn date(&self, from: Date) -> Option<Date> {
        let mut at = from;
        loop {
            let value = |n: i8| u64::try_from(n).unwrap_or(0);
            let year = u64::try_from(at.year()).ok()?;
            let first = |year: u64, month: u64| Date::new(i16::try_from(year).ok()?, i8::try_from(month).ok()?, 1).ok();
            let fitting = next(&self.years, year, YEARS.1, None)?;
            if fitting != year {
                at = first(fitting, 1)?;
                continue;
            }
            match next(&self.months, value(at.month()), 12, None) {
                None => {
                    at = first(year + 1, 1)?;
                    continue;
                }
                Some(month) if month != value(at.month()) => {
                    at = first(year, month)?;
                    continue;
                }
                Some(_) => {}
            }
            let last = value(at.days_in_month());
            match next(&self.days, value(at.day()), last, self.from_end.then_some(last)) {
                None => {
                    at = at.last_of_month().tomorrow().ok()?;
                }
                Some(day) if day != value(at.day()) => {
                    at = at.checked_add(i64::try_from(day - value(at.day())).ok()?.days()).ok()?;
                }
                Some(_) if self.weekdays != 0 && self.weekdays >> at.weekday().to_monday_zero_offset() & 1 == 0 => {
                    at = at.tomorrow().ok()?;
                }
                Some(_) => return Some(at),
            }
        }
    }

    /// The first time of a day, this one or later: hour, minute, microseconds of the minute.
    fn time(&self, (hour, minute, micros): (u64, u64, u64)) -> Option<(u64, u64, u64)> {
        let mut from = (hour, minute, micros);
        loop {
            let hour = next(&self.hours, from.0, 23, None)?;
            if hour != from.0 {
                from = (hour, 0, 0);
            }
            let Some(minute) = next(&self.minutes, from.1, 59, None) else {
                from = (hour + 1, 0, 0);
                continue;
            };
            if minute != from.1 {
                from = (hour, minute, 0);
            }
            match next(&self.seconds, from.2, 60 * SECOND - 1, None) {
                Some(second) => return Some((hour, minute, second)),
                None => from = (hour, minute + 1, 0),
            }
        }
    }
}

fn instant(date: Date, (hour, minute, micros): (u64, u64, u64)) -> Option<u64> {
    let day = date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_microsecond();
    Some(u64::try_from(day).ok()? + (hour * 60 + minute) * 60 * SECOND + micros)
}

/// The first value of the chain that is not before `from`. With `last`, the values count backwards from it.
fn next(chain: &Chain, from: u64, most: u64, last: Option<u64>) -> Option<u64> {
    if chain.is_empty() {
        return Some(from).filter(|value| *value <= most);
    }
    let mut best: Option<u64> = None;
    for part in chain {
        let (start, stop) = match (last, part.stop) {
            (None, stop) => (part.start, stop),
            (Some(last), None) => ((last + 1).saturating_sub(part.start), None),
            (Some(last), Some(stop)) => ((last + 1).saturating_sub(stop), Some((last + 1).saturating_sub(part.start))),
        };
        let value = if start >= from {
            start
        } else if part.repeat > 0 {
            start + (from - start).div_ceil(part.repeat) * part.repeat
        } else {
            continue;
        };
        if value <= stop.unwrap_or(most).min(most) && best.is_none_or(|best| value < best) {
            best = Some(value);
        }
    }
    best
}

impl fmt::Display for Calendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut day = 0;
        let mut first = true;
        while self.weekdays != 0 && day < 7 {
            let run = (day..7).take_while(|day| self.weekdays >> day & 1 == 1).count();
            let mut list = |day: usize, sign: &str| {
                let sign = if std::mem::take(&mut first) { "" } else { sign };
                write!(f, "{sign}{}", &WEEKDAYS[day][..3])
            };
            if run > 0 {
                list(day, ",")?;
            }
            if run > 1 {
                list(day + run - 1, if run > 2 { ".." } else { "," })?;
            }
            day += run.max(1);
        }
        if !first {
            write!(f, " ")?;
        }
        let end = if self.from_end { '~' } else { '-' };
        let chain = |chain: &Chain, width: usize| chain_text(chain, width, 1);
        write!(f, "{}-{}{end}{} ", chain(&self.years, 4), chain(&self.months, 2), chain(&self.days, 2))?;
        write!(f, "{}:{}:{}", chain(&self.hours, 2), chain(&self.minutes, 2), chain_text(&self.seconds, 2, SECOND))?;
        if self.utc { write!(f, " UTC") } else { Ok(()) }
    }
}

fn chain_text(chain: &Chain, width: usize, unit: u64) -> String {
    let every = [Component { start: 0, stop: None, repeat: SECOND }];
    if chain.is_empty() || unit > 1 && chain.as_slice() == every {
        return "*".to_owned();
    }
    let number = |value: u64, width: usize| {
        let rest = value % unit;
        let fraction = if rest > 0 { format!(".{rest:06}") } else { String::new() };
        format!("{:0width$}{fraction}", value / unit)
    };
    let part = |part: &Component| {
        let stop = part.stop.map_or(String::new(), |stop| format!("..{}", number(stop, width)));
        let plain = part.repeat == 0 || part.stop.is_some() && part.repeat == unit;
        let repeat = if plain { String::new() } else { format!("/{}", number(part.repeat, 0)) };
        format!("{}{stop}{repeat}", number(part.start, width))
    };
    chain.iter().map(part).collect::<Vec<_>>().join(",")
}

//! Calendar events against what systemd said of them, recorded in fixtures/calendar.txt.

use crate::unit::Calendar;

fn micros(text: &str) -> u64 {
    let time: jiff::civil::DateTime = text.parse().unwrap();
    u64::try_from(time.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp().as_microsecond()).unwrap()
}

fn shown(micros: u64) -> String {
    let time = jiff::Timestamp::from_microsecond(i64::try_from(micros).unwrap()).unwrap();
    time.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

#[test]
fn forms_and_times_are_systemds() {
    let mut event: Option<Calendar> = None;
    let mut wrong = Vec::new();
    for line in include_str!("../fixtures/calendar.txt").lines().filter(|line| !line.starts_with('#')) {
        let (left, right) = line.split_once(" | ").unwrap();
        let found = match left.strip_prefix("  ") {
            None => {
                event = Calendar::parse(left).ok();
                event.as_ref().map_or("invalid".to_owned(), ToString::to_string)
            }
            Some(base) => {
                let event = event.as_ref().unwrap_or_else(|| panic!("{line}"));
                let mut at = micros(base);
                let mut times = Vec::new();
                for _ in 0..right.split(", ").count() {
                    match event.next_after(at) {
                        Some(next) => times.push(shown(next)),
                        None => times.push("never".to_owned()),
                    }
                    at = event.next_after(at).unwrap_or(at);
                }
                times.join(", ")
            }
        };
        if found != right {
            wrong.push(format!("{line}\n    is {found}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn another_time_zone_is_refused_at_its_place() {
    let fault = Calendar::parse("Mon 08:00 Europe/Berlin").unwrap_err();
    assert_eq!(fault.range, 10..23);
    assert!(fault.text.contains("clock is UTC"));
    assert_eq!(Calendar::parse("12:xx").unwrap_err().range, 3..4);
}

/// The normal form means the same as what it was made from.
#[test]
fn normal_forms_are_their_own() {
    for line in include_str!("../fixtures/calendar.txt").lines().filter(|line| !line.starts_with(['#', ' '])) {
        let (text, _) = line.split_once(" | ").unwrap();
        if let Ok(event) = Calendar::parse(text) {
            assert_eq!(Calendar::parse(&event.to_string()), Ok(event), "{text}");
        }
    }
}

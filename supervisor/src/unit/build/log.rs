//! `LogDriver=`, `LogOpt=`, `LogRateLimit…=`.

use std::time::Duration;

use crate::unit::{LogLimits, LogSpec, sheet::Sheet, values};

/// journald's own, where only one of the two is written.
const USUAL_BURST: u32 = 10_000;
const USUAL_INTERVAL: Duration = Duration::from_secs(30);

pub(super) fn log(sheet: &mut Sheet<'_>) -> LogSpec {
    let mut spec = LogLimits::default();
    for (value, word) in sheet.all_words("Container", "LogOpt") {
        let Some((name, text)) = word.text.split_once('=') else {
            sheet.error_at(&value, &word, format!("{} has no =; write LogOpt=max-size=10M", word.text));
            continue;
        };
        let wrong = match name {
            "max-size" => {
                spec.max_file_bytes = values::size(text).ok().filter(|bytes| *bytes > 0);
                spec.max_file_bytes.is_none().then_some("expected a size such as 10M")
            }
            // Docker's word; Podman keeps one file.
            "max-file" => {
                spec.max_files = text.parse().ok().filter(|files| (1..=100).contains(files));
                spec.max_files.is_none().then_some("expected a number of files, 1 to 100")
            }
            "path" | "tag" | "label" => {
                let text =
                    format!("LogOpt={name}=: known, not available in this version; it can be max-size, max-file");
                sheet.unavailable(&value, text);
                None
            }
            _ => Some("there is no such option; it can be max-size, max-file"),
        };
        if let Some(wrong) = wrong {
            sheet.error_at(&value, &word, format!("LogOpt={}: {wrong}", word.text));
        }
    }
    // The table of keys has checked both. systemd.exec(5): zero of either turns it off.
    let interval = sheet.last("Service", "LogRateLimitIntervalSec").and_then(|value| values::span(&value.text).ok()?);
    let burst = sheet.last("Service", "LogRateLimitBurst").and_then(|value| value.text.parse::<u32>().ok());
    if interval.is_some() || burst.is_some() {
        let rate = (burst.unwrap_or(USUAL_BURST), interval.unwrap_or(USUAL_INTERVAL));
        spec.rate = Some(rate).filter(|(burst, interval)| *burst > 0 && !interval.is_zero());
    }
    match sheet.last("Container", "LogDriver") {
        Some(driver) if driver.text.eq_ignore_ascii_case("none") => {
            if let Some(value) = sheet.last("Container", "LogOpt") {
                sheet.warning(&value, "without effect: with LogDriver=none nothing is kept");
            }
            LogSpec::Nothing
        }
        _ => LogSpec::Kept(spec),
    }
}

//! The hardware watchdog: its driver, its device, its timeout. Feeding it is the event loop's.

use std::fs::OpenOptions;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use crate::cmdline::Cmdline;
use crate::modules::{Modules, device_aliases};
use crate::story;
use crate::sys::watchdog::{identity, set_timeout};

const DEVICE: &str = "/dev/watchdog0";
const DEFAULT_SECONDS: u16 = 30;
/// Less than this the event loop's feeding could miss on a busy machine.
const MIN_SECONDS: u16 = 5;

/// What `orlop.watchdog=` asks for.
#[derive(Debug, PartialEq, Eq)]
enum Wish {
    Off,
    Seconds(u16),
}

impl Wish {
    /// `Err` holds the word that is neither a number nor `off`.
    fn from(cmdline: &Cmdline) -> Result<Self, String> {
        match cmdline.value("orlop.watchdog") {
            None => Ok(Self::Seconds(DEFAULT_SECONDS)),
            Some("off" | "0") => Ok(Self::Off),
            Some(word) => match word.parse::<u16>() {
                Ok(seconds) => Ok(Self::Seconds(seconds.max(MIN_SECONDS))),
                Err(_) => Err(word.to_owned()),
            },
        }
    }
}

/// Stage 1 and the set-up of stage 2, which nobody feeds, have so many timeouts together: enough for the replay of a large
/// journal on a slow disk, and never for ever when the disk hangs.
const BOOT_TIMEOUTS: u16 = 10;

/// Arms the device for the boot, where the initramfs has its driver. Stage 2 takes the open device over.
pub(crate) fn arm_for_boot(cmdline: &Cmdline) {
    if crate::watchdog::is_adopted() {
        return;
    }
    match Wish::from(cmdline) {
        Ok(Wish::Off) => {}
        Ok(Wish::Seconds(seconds)) => open_for(seconds.saturating_mul(BOOT_TIMEOUTS), None, false),
        // Said by stage 2.
        Err(_) => open_for(DEFAULT_SECONDS * BOOT_TIMEOUTS, None, false),
    }
}

/// Opens and arms the device. From here on the machine resets unless it is fed: the last step before the loop.
pub(super) fn arm(cmdline: &Cmdline, open: Option<OwnedFd>) {
    match Wish::from(cmdline) {
        Ok(Wish::Off) => story::say("watchdog", "off"),
        Ok(Wish::Seconds(seconds)) => open_for(seconds, open, true),
        Err(word) => {
            story::warn("watchdog", format_args!("orlop.watchdog={word} is neither seconds nor off"));
            open_for(DEFAULT_SECONDS, open, true);
        }
    }
}

/// What stage 1 armed.
pub(super) fn from_stage_1() -> Option<OwnedFd> {
    let number = std::env::var("ORLOP_WATCHDOG").ok()?.parse().ok()?;
    crate::sys::fds::adopt(number).ok()
}

fn open_for(seconds: u16, open: Option<OwnedFd>, say: bool) {
    let opened = || OpenOptions::new().write(true).open(DEVICE).map(OwnedFd::from);
    let device = match open.map_or_else(opened, Ok) {
        Ok(device) => device,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return story::debug("watchdog", "this machine has none");
        }
        Err(error) => return story::warn("watchdog", format_args!("open {DEVICE}: {error}")),
    };
    let name = identity(device.as_fd()).unwrap_or_default();
    let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
    let name = std::str::from_utf8(name).unwrap_or("?");
    let timeout = match set_timeout(device.as_fd(), seconds) {
        Ok(set) => {
            if say {
                story::say("watchdog", format_args!("{name}, {set} s"));
            }
            set
        }
        Err(errno) => {
            story::warn("watchdog", format_args!("{name}: set {seconds} s: {}", errno.desc()));
            // It runs with the timeout it was made with, whatever that is.
            MIN_SECONDS.into()
        }
    };
    crate::watchdog::adopt(device, timeout);
}

/// Loads the driver of a watchdog the initramfs had none for, at once: the other drivers can wait, this one cannot.
pub(super) fn load_driver(modules: &mut Modules) {
    if Path::new(DEVICE).exists() {
        return;
    }
    for modalias in device_aliases() {
        for name in modules.names_for(&modalias, "/watchdog/") {
            if let Err(error) = modules.load(&name) {
                story::warn("watchdog", error);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_on_the_command_line() {
        let wish = |line: &str| Wish::from(&Cmdline::parse(line));
        assert_eq!(wish(""), Ok(Wish::Seconds(30)));
        assert_eq!(wish("orlop.watchdog=off"), Ok(Wish::Off));
        assert_eq!(wish("orlop.watchdog=60"), Ok(Wish::Seconds(60)));
        assert_eq!(wish("orlop.watchdog=1"), Ok(Wish::Seconds(MIN_SECONDS)));
        assert_eq!(wish("orlop.watchdog=soon"), Err("soon".to_owned()));
    }
}

//! The kernel's settings out of the image's list, in sysctl.d(5)'s syntax without its patterns.

use std::fs;
use std::io;

use crate::story;

const LIST: &str = "/usr/lib/orlop/sysctl.conf";

#[derive(Debug, PartialEq, Eq)]
struct Setting<'a> {
    /// Below `/proc/sys`.
    path: String,
    value: &'a str,
    /// A leading `-`: what goes wrong is not said.
    quiet: bool,
}

/// Applies the list; a key this kernel does not have is skipped, each failure is said and the rest goes on.
pub(super) fn set_up() {
    let text = match fs::read_to_string(LIST) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => return story::warn("sysctl", format_args!("read {LIST}: {error}")),
    };
    for (at, line) in text.lines().enumerate() {
        match parse(line) {
            Ok(None) => {}
            Ok(Some(setting)) => {
                // With the newline: printk_devkmsg takes no value without one.
                if let Err(error) = fs::write(format!("/proc/sys/{}", setting.path), format!("{}\n", setting.value))
                    && !setting.quiet
                    && error.kind() != io::ErrorKind::NotFound
                {
                    story::warn("sysctl", format_args!("{} = {}: {error}", setting.path, setting.value));
                }
            }
            Err(()) => story::warn("sysctl", format_args!("{LIST}:{}: not `key = value`", at + 1)),
        }
    }
}

fn parse(line: &str) -> Result<Option<Setting<'_>>, ()> {
    let line = line.trim();
    if line.is_empty() || line.starts_with(['#', ';']) {
        return Ok(None);
    }
    let (quiet, line) = line.strip_prefix('-').map_or((false, line), |rest| (true, rest));
    let (key, value) = line.split_once('=').ok_or(())?;
    let key = key.trim();
    let path: String = match key.find(['.', '/']) {
        // The separator that comes first is the separator; the other one is then part of a name and swapped
        // (`net.ipv4.conf.eth0/1.forwarding`).
        Some(at) if key.as_bytes()[at] == b'.' => key
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                other => other,
            })
            .collect(),
        _ => key.to_owned(),
    };
    let inside = !path.is_empty() && path.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    if inside { Ok(Some(Setting { path, value: value.trim(), quiet })) } else { Err(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(line: &str) -> (String, &str, bool) {
        let setting = parse(line).unwrap().unwrap();
        (setting.path, setting.value, setting.quiet)
    }

    #[test]
    fn lines_of_sysctl_d() {
        assert_eq!(setting("kernel.panic = 10"), ("kernel/panic".into(), "10", false));
        assert_eq!(setting(" -net/ipv4/ip_forward=1 "), ("net/ipv4/ip_forward".into(), "1", true));
        assert_eq!(setting("net.ipv4.conf.eth0/1.forwarding=0").0, "net/ipv4/conf/eth0.1/forwarding");
        assert_eq!(setting("net/ipv4/conf/eth0.1/forwarding=0").0, "net/ipv4/conf/eth0.1/forwarding");
        assert_eq!(setting("kernel.core_pattern=|/bin/x a=b").1, "|/bin/x a=b");
        for nothing in ["", "  ", "# kernel.panic = 1", "; x"] {
            assert_eq!(parse(nothing), Ok(None));
        }
        for bad in ["kernel.panic", "= 1", "../etc/passwd=1", "a..b=1", "/abs=1"] {
            assert_eq!(parse(bad), Err(()), "{bad}");
        }
    }
}

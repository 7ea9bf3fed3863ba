//! `Condition…=` and `Assert…=`, systemd.unit(5): asked of the machine right before each start, in a thread, because a path may lie on
//! a disk that is slow to answer. What cannot be told does not hold, whatever sign stands before it.

pub(in crate::daemon) mod files;
mod machine;

use std::{fs, path::Path};

use super::{
    bundle,
    core::{Daemon, Mail},
    logs,
    machine::Event,
    mailbox,
    paths::Paths,
};
use crate::unit::{
    Condition, UnitName,
    compare::{self, Operator},
};

/// What does not hold, as the file says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unmet {
    pub(crate) text: String,
    pub(crate) assert: bool,
}

/// The first of the conditions that does not hold, else of the assertions; of all with a `|` one has to.
fn judge(conditions: &[Condition], holds: impl Fn(&Condition) -> Result<bool, String>) -> Option<Unmet> {
    for assert in [false, true] {
        let (mut triggers, mut triggered) = (Vec::new(), false);
        for condition in conditions.iter().filter(|condition| condition.assert == assert) {
            let (good, doubt) = match holds(condition) {
                Ok(result) => (result != condition.negated, String::new()),
                Err(why) => (false, format!(" ({why})")),
            };
            let text = format!("{}{doubt}", shown(condition));
            if condition.trigger {
                triggered |= good;
                triggers.push(text);
            } else if !good {
                return Some(Unmet { text, assert });
            }
        }
        if !triggers.is_empty() && !triggered {
            return Some(Unmet { text: triggers.join(" or "), assert });
        }
    }
    None
}

fn shown(condition: &Condition) -> String {
    let kind = if condition.assert { "Assert" } else { "Condition" };
    let sign = |is: bool, sign: &'static str| if is { sign } else { "" };
    let Condition { check, trigger, negated, argument, .. } = condition;
    format!("{kind}{check}={}{}{argument}", sign(*trigger, "|"), sign(*negated, "!"))
}

fn holds(condition: &Condition, paths: &Paths) -> Result<bool, String> {
    let argument = condition.argument.as_str();
    let path = Path::new(argument);
    let yes = || match argument.to_ascii_lowercase().as_str() {
        "1" | "yes" | "y" | "true" | "t" | "on" => Some(true),
        "0" | "no" | "n" | "false" | "f" | "off" => Some(false),
        _ => None,
    };
    let boolean = || yes().ok_or("it is neither yes nor no");
    Ok(match condition.check {
        "PathExists" => path.exists(),
        "PathExistsGlob" => files::any_matches(argument),
        "PathIsDirectory" => path.is_dir(),
        "PathIsSymbolicLink" => path.is_symlink(),
        "PathIsMountPoint" => files::is_mount_point(path),
        "PathIsReadWrite" => files::is_read_write(path),
        "DirectoryNotEmpty" => files::has_entries(path),
        "FileNotEmpty" => fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() > 0),
        "FileIsExecutable" => files::is_executable(path),
        "FirstBoot" => boolean()? == logs::is_first_boot(&paths.logs()).ok_or("no earlier boot can be looked for")?,
        "Architecture" => machine::is_architecture(argument),
        "Firmware" => machine::has_firmware(argument)?,
        "Virtualization" => machine::is_virtual(argument, yes()),
        "Host" => machine::is_called(argument, &super::perform::hostname(), &machine::first_line(&paths.machine_id()))?,
        "KernelCommandLine" => machine::has_word(&machine::first_line(Path::new("/proc/cmdline")), argument),
        "KernelVersion" => compare::version(argument, &machine::first_line(Path::new("/proc/sys/kernel/osrelease")))?,
        "ACPower" => boolean()? == machine::has_ac_power(Path::new("/sys/class/power_supply")),
        "Memory" => Operator::number(argument, bundle::memory_bytes())?,
        "CPUs" => Operator::number(argument, std::thread::available_parallelism().map_or(1, |n| n.get() as u64))?,
        "CPUFeature" => machine::has_cpu_feature(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default(), argument),
        "ControlGroupController" => {
            machine::has_controllers(&machine::first_line(&paths.cgroups().join("cgroup.controllers")), argument)
        }
        "OSRelease" => compare::release(argument, &fs::read_to_string("/etc/os-release").unwrap_or_default())?,
        "MemoryPressure" => machine::is_calm(Path::new("/proc/pressure/memory"), argument)?,
        "CPUPressure" => machine::is_calm(Path::new("/proc/pressure/cpu"), argument)?,
        "IOPressure" => machine::is_calm(Path::new("/proc/pressure/io"), argument)?,
        "KernelModuleLoaded" => machine::has_module(argument),
        other => return Err(format!("{other} is not asked about on such a machine")),
    })
}

impl Daemon {
    /// The first thing of a start, for a unit that has conditions. False when no thread could be started.
    pub(crate) fn ask_conditions(&self, unit: &UnitName, attempt: u64, conditions: Vec<Condition>) -> bool {
        let (paths, unit, sender) = (self.paths.clone(), unit.clone(), self.mail.sender());
        mailbox::spawn(&format!("conditions of {unit}"), move || {
            let unmet = judge(&conditions, |condition| holds(condition, &paths));
            sender.send(Mail::Judged { unit, attempt, unmet });
        })
    }

    pub(crate) fn on_judged(&mut self, unit: &UnitName, attempt: u64, unmet: Option<Unmet>) {
        match unmet {
            Some(Unmet { text, assert }) => {
                self.engine.event(unit, Event::Unmet { attempt, text, assert }, super::clock::now());
            }
            None if self.engine.get(unit).is_some_and(|entry| entry.record.is_preparing(attempt)) => {
                self.want_image(unit, attempt);
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(check: &'static str, argument: &str) -> Condition {
        Condition { check, assert: false, trigger: false, negated: false, argument: argument.to_owned() }
    }

    #[test]
    fn all_have_to_hold_and_one_of_the_triggers() {
        let text = |conditions: &[Condition]| {
            judge(conditions, |condition| match condition.argument.as_str() {
                "yes" => Ok(true),
                "no" => Ok(false),
                _ => Err("why not".to_owned()),
            })
            .map(|unmet| (unmet.text, unmet.assert))
        };
        let of = |argument: &str| condition("Host", argument);
        let trigger = |argument: &str| Condition { trigger: true, ..of(argument) };
        let not = |condition: Condition| Condition { negated: true, ..condition };
        let unmet = |text: &str| Some((text.to_owned(), false));
        assert_eq!(text(&[]), None);
        assert_eq!(text(&[of("yes"), not(of("no")), trigger("no"), trigger("yes")]), None);
        assert_eq!(text(&[of("yes"), of("no")]), unmet("ConditionHost=no"));
        assert_eq!(text(&[not(of("yes")), trigger("yes")]), unmet("ConditionHost=!yes"));
        let none = text(&[of("yes"), trigger("no"), not(trigger("yes"))]);
        assert_eq!(none, unmet("ConditionHost=|no or ConditionHost=|!yes"));
        assert_eq!(text(&[not(of("odd"))]), unmet("ConditionHost=!odd (why not)"), "no sign makes a doubt good");
        // Assertions are a list of their own, and come after.
        let assert = |condition: Condition| Condition { assert: true, ..condition };
        assert_eq!(text(&[assert(of("no")), of("yes")]), Some(("AssertHost=no".to_owned(), true)));
        assert_eq!(text(&[assert(of("no")), of("no")]), unmet("ConditionHost=no"));
        assert_eq!(text(&[assert(trigger("no")), trigger("yes")]), Some(("AssertHost=|no".to_owned(), true)));
    }

    #[test]
    fn every_check_that_the_table_takes_is_asked() {
        let paths = Paths::new(Path::new("/"));
        for check in crate::unit::condition_checks() {
            let argument = match check {
                "FirstBoot" | "ACPower" => "yes",
                "Memory" | "CPUs" => ">=1",
                "KernelVersion" => ">=1",
                "OSRelease" => "ID=x",
                "MemoryPressure" | "CPUPressure" | "IOPressure" => "100%",
                "Firmware" => "uefi",
                _ => "/",
            };
            let result = holds(&condition(check, argument), &paths);
            let unasked = result.as_ref().is_err_and(|why| why.contains("not asked about"));
            assert!(!unasked, "{check}: {result:?}");
        }
        for (check, argument, expected) in [
            ("PathExists", "/proc/self", true),
            ("PathExists", "/proc/none", false),
            ("PathIsDirectory", "/proc", true),
            ("PathIsDirectory", "/proc/version", false),
            ("PathIsSymbolicLink", "/proc/self", true),
            ("PathIsMountPoint", "/proc", true),
            ("DirectoryNotEmpty", "/proc/none", false),
            ("FileNotEmpty", "/etc/passwd", true),
            ("FileIsExecutable", "/etc/passwd", false),
            ("Architecture", "native", true),
            ("Memory", ">=1M", true),
            ("Memory", "<1M", false),
            ("CPUs", "1", true),
            ("KernelVersion", ">=3.0", true),
        ] {
            assert_eq!(holds(&condition(check, argument), &paths), Ok(expected), "{check}={argument}");
        }
        assert!(holds(&condition("FirstBoot", "maybe"), &paths).is_err());
    }
}

//! The container's program: identity, privileges, limits, strings, all in the form the kernel takes them.

use std::ffi::{CStr, CString};
use std::str::FromStr as _;

use super::label::{self, Label};
use crate::runtime::config::{Capabilities, ConfigError, Linux, MemoryPolicy, Process, RLimit};
use crate::runtime::error::c_string;
use crate::runtime::seccomp::Filter;
use crate::runtime::sys::process::{self, CapabilitySets, StringList};
use crate::runtime::sys::schedule::{NumberSet, SchedulerAttributes};

pub(crate) struct ProcessPlan {
    pub(crate) args: StringList,
    pub(crate) env: StringList,
    /// Where the program may lie: one path if its name has a slash, else one for each folder of PATH.
    pub(crate) candidates: Vec<CString>,
    /// For errors. Empty: there is no program.
    pub(crate) name: CString,
    pub(crate) cwd: CString,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    /// Those of the caller instead.
    pub(crate) keep_groups: bool,
    pub(crate) umask: u32,
    pub(crate) sets: CapabilitySets,
    pub(crate) bounding: u64,
    pub(crate) ambient: u64,
    pub(crate) no_new_privileges: bool,
    limits: Vec<(u32, libc::rlimit, CString)>,
    /// The runtime sets them: in a user namespace the process itself may not raise one.
    pub(crate) limits_from_outside: bool,
    /// It is for a pid namespace that exists: another process makes everything ready outside of it, and clones this one into it last.
    /// What that one cannot hand on, or must not have itself, the runtime sets.
    pub(crate) made_outside: bool,
    pub(crate) terminal: bool,
    pub(crate) console_size: Option<(u16, u16)>,
    pub(crate) oom_score_adj: Option<i32>,
    pub(crate) personality: Option<u64>,
    pub(crate) memory_policy: Option<MemoryPolicy>,
    pub(crate) scheduler: Option<SchedulerAttributes>,
    pub(crate) io_priority: Option<u32>,
    /// The CPUs of an exec once it is in the container's cgroup. None: all that one allows (the kernel leaves out the others),
    /// whatever the caller is bound to.
    pub(crate) affinity: Option<NumberSet>,
    pub(crate) seccomp: Option<Filter>,
    pub(crate) labels: Vec<Label>,
    pub(crate) new_keyring: bool,
}

type Result<T> = std::result::Result<T, ConfigError>;

impl ProcessPlan {
    /// `grantable` are the capabilities this machine can give; what is asked beyond them is told to `warn`
    /// (spec: "SHOULD NOT fail").
    /// `more` is added to the environment.
    pub(crate) fn new(
        process: &Process,
        linux: &Linux,
        more: &[String],
        grantable: u64,
        warn: &mut dyn FnMut(String),
    ) -> Result<ProcessPlan> {
        let Some(program) = process.args.first() else {
            return Err(ConfigError::invalid("process.args", "holds no program"));
        };
        if program.is_empty() {
            return Err(ConfigError::invalid("process.args[0]", "is empty"));
        }
        let none = Capabilities::default();
        let given = process.capabilities.as_ref().unwrap_or(&none);
        let mut missing = Vec::new();
        let mut set = |names: &[String]| mask(names, grantable, &mut missing);
        let sets = CapabilitySets {
            effective: set(&given.effective),
            permitted: set(&given.permitted),
            inheritable: set(&given.inheritable),
        };
        let (bounding, ambient) = (set(&given.bounding), set(&given.ambient));
        missing.sort();
        missing.dedup();
        for name in missing {
            warn(format!("process.capabilities: {name} cannot be granted on this machine and is left out"));
        }
        for name in refused(&given.ambient, ambient & !(sets.permitted & sets.inheritable)) {
            warn(format!("can't raise ambient capability {name}: it is not both permitted and inheritable"));
        }
        if sets.effective & !sets.permitted != 0 {
            return Err(ConfigError::invalid(
                "process.capabilities.effective",
                "holds capabilities that permitted lacks",
            ));
        }
        Ok(ProcessPlan {
            candidates: candidates(program, &process.env),
            name: c_string(program.as_str()),
            args: strings(process.args.iter().map(String::as_str)),
            env: environment(&process.env, more),
            cwd: c_string(process.cwd.as_str()),
            uid: process.user.uid,
            gid: process.user.gid,
            groups: process.user.additional_gids.clone(),
            keep_groups: false,
            umask: process.user.umask.unwrap_or(0o022),
            sets,
            bounding,
            // The kernel refuses what is not both permitted and inheritable: told above.
            ambient: ambient & sets.permitted & sets.inheritable,
            no_new_privileges: process.no_new_privileges,
            limits: process.rlimits.iter().enumerate().map(|(i, l)| rlimit(i, l)).collect::<Result<_>>()?,
            limits_from_outside: false,
            made_outside: false,
            terminal: process.terminal,
            console_size: process.console_size.filter(|_| process.terminal),
            oom_score_adj: process.oom_score_adj,
            personality: linux.personality,
            memory_policy: linux.memory_policy.clone(),
            scheduler: process.scheduler.clone(),
            io_priority: process.io_priority,
            affinity: None,
            seccomp: None,
            labels: label::of_process(process)?,
            new_keyring: true,
        })
    }
}

/// Descriptors that our own last steps may need.
const OWN_DESCRIPTORS: libc::rlim_t = 64;

impl ProcessPlan {
    /// The limits while there are still rights to raise one: few descriptors are not yet a limit for us.
    pub(crate) fn early_limits(&self) -> impl Iterator<Item = Limit<'_>> {
        let all = self.all_limits().filter(|one| !self.made_outside || one.resource != NPROC);
        let all = all.filter(|one| !one.is_late() || one.value.rlim_max >= OWN_DESCRIPTORS);
        all.map(|one| match one.is_late() {
            true => Limit { value: libc::rlimit { rlim_cur: OWN_DESCRIPTORS, ..one.value }, ..one },
            false => one,
        })
    }

    /// That of the processes, where the one outside would be a process too many. Set behind the change of user, it does not keep the
    /// program from its exec, as runc's does (PF_NPROC_EXCEEDED, setrlimit(2)), but from every process more.
    pub(crate) fn limit_of_processes(&self) -> impl Iterator<Item = Limit<'_>> {
        self.all_limits().filter(|one| self.made_outside && one.resource == NPROC)
    }

    /// Those that are left for the end: they only lower.
    pub(crate) fn late_limits(&self) -> impl Iterator<Item = Limit<'_>> {
        self.all_limits().filter(Limit::is_late)
    }

    fn all_limits(&self) -> impl Iterator<Item = Limit<'_>> {
        self.limits.iter().map(|(resource, value, what)| Limit { resource: *resource, value: *value, what })
    }
}

pub(crate) struct Limit<'a> {
    pub(crate) resource: u32,
    pub(crate) value: libc::rlimit,
    /// For errors: which it is, and what is in its way.
    pub(crate) what: &'a CStr,
}

impl Limit<'_> {
    fn is_late(&self) -> bool {
        self.resource == NOFILE && self.value.rlim_cur < OWN_DESCRIPTORS
    }
}

/// setrlimit(2); libc's constants have another type for each C library.
const NPROC: u32 = 6;
const NOFILE: u32 = 7;

fn strings<'a>(all: impl Iterator<Item = &'a str>) -> StringList {
    StringList::new(all.map(c_string).collect())
}

/// What is named twice has its last value, in its last place: `exec --env` changes the container's own, and programs differ in
/// which of two they take.
fn environment(given: &[String], more: &[String]) -> StringList {
    let all: Vec<&str> = given.iter().chain(more).map(String::as_str).collect();
    let mut order: Vec<(&str, usize)> = all.iter().map(|one| name(one)).zip(0..).collect();
    order.sort_unstable();
    let mut repeated: Vec<usize> =
        order.iter().zip(order.iter().skip(1)).filter(|(one, next)| one.0 == next.0).map(|(one, _)| one.1).collect();
    repeated.sort_unstable();
    strings(all.into_iter().zip(0..).filter(|(_, at)| repeated.binary_search(at).is_err()).map(|(one, _)| one))
}

fn name(variable: &str) -> &str {
    variable.split_once('=').map_or(variable, |(name, _)| name)
}

fn mask(names: &[String], grantable: u64, missing: &mut Vec<String>) -> u64 {
    let mut bits = 0;
    for name in names {
        let bit = caps::Capability::from_str(name).map_or(0, |cap| cap.bitmask()) & grantable;
        if bit == 0 {
            missing.push(name.clone());
        }
        bits |= bit;
    }
    bits
}

/// Those of the names that are among the bits.
fn refused(names: &[String], bits: u64) -> impl Iterator<Item = &String> {
    names.iter().filter(move |name| caps::Capability::from_str(name).is_ok_and(|cap| cap.bitmask() & bits != 0))
}

/// A program without a slash is looked for in the PATH of the *container's* environment, as execvp does.
fn candidates(program: &str, env: &[String]) -> Vec<CString> {
    if program.contains('/') {
        return vec![c_string(program)];
    }
    let path = env.iter().rev().find_map(|one| one.strip_prefix("PATH=")).unwrap_or("/bin:/usr/bin");
    let folders = path.split(':').map(|folder| if folder.is_empty() { "." } else { folder });
    folders.map(|folder| c_string(format!("{folder}/{program}"))).collect()
}

fn rlimit(index: usize, limit: &RLimit) -> Result<(u32, libc::rlimit, CString)> {
    /// In the order of the kernel's numbers (asm-generic/resource.h).
    const NAMES: [&str; 16] = [
        "RLIMIT_CPU",
        "RLIMIT_FSIZE",
        "RLIMIT_DATA",
        "RLIMIT_STACK",
        "RLIMIT_CORE",
        "RLIMIT_RSS",
        "RLIMIT_NPROC",
        "RLIMIT_NOFILE",
        "RLIMIT_MEMLOCK",
        "RLIMIT_AS",
        "RLIMIT_LOCKS",
        "RLIMIT_SIGPENDING",
        "RLIMIT_MSGQUEUE",
        "RLIMIT_NICE",
        "RLIMIT_RTPRIO",
        "RLIMIT_RTTIME",
    ];
    let number = NAMES.iter().position(|name| *name == limit.kind);
    match number.and_then(|n| u32::try_from(n).ok()) {
        Some(number) => {
            let value = libc::rlimit { rlim_cur: limit.soft, rlim_max: limit.hard };
            Ok((number, value, c_string(what_limit(index, limit, process::hard_limit(number)))))
        }
        None => {
            let why = format!("{:?} is not a limit of this kernel", limit.kind);
            Err(ConfigError::invalid(format!("process.rlimits[{index}].type"), why))
        }
    }
}

/// `present`: the runtime's own, which the process has, too; none where it is unknown.
fn what_limit(index: usize, limit: &RLimit, present: Option<u64>) -> String {
    let words = |value: u64| if value == libc::RLIM_INFINITY { "unlimited".to_owned() } else { value.to_string() };
    let mut what = format!("process.rlimits[{index}]: {}", limit.kind);
    if let Some(present) = present.filter(|present| limit.hard > *present) {
        // Setting both is one call: the soft limit alone would not be what was asked for.
        let (hard, present) = (words(limit.hard), words(present));
        what += &format!(" to {hard}, which is above the present hard limit of {present} and takes CAP_SYS_RESOURCE");
        if limit.kind == "RLIMIT_NOFILE" {
            what += " (and fs.nr_open is the most there is)";
        }
    }
    what
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::config::parse_process;

    fn plan_of(json: &str, grantable: u64) -> (Result<ProcessPlan>, Vec<String>) {
        let mut warnings = Vec::new();
        let plan = ProcessPlan::new(&parse_process(json).unwrap().0, &Linux::default(), &[], grantable, &mut |w| {
            warnings.push(w);
        });
        (plan, warnings)
    }

    #[test]
    fn capabilities_become_bits_and_absent_ones_are_empty() {
        let sets = r#""bounding":["CAP_CHOWN","CAP_KILL","CAP_NO_SUCH"],"permitted":["CAP_CHOWN"],"effective":["CAP_CHOWN"],"ambient":["CAP_CHOWN"]"#;
        let (plan, warnings) = plan_of(&format!(r#"{{"cwd":"/","args":["a"],"capabilities":{{{sets}}}}}"#), 1);
        let plan = plan.unwrap();
        assert_eq!((plan.bounding, plan.sets.permitted, plan.sets.inheritable, plan.ambient), (1, 1, 0, 0));
        assert_eq!(warnings.len(), 3, "{warnings:?}");
        let (none, _) = plan_of(r#"{"cwd":"/","args":["a"]}"#, u64::MAX);
        assert_eq!(none.unwrap().sets, CapabilitySets::default());
    }

    #[test]
    fn a_limit_that_may_be_refused_says_why() {
        let limit = RLimit { kind: "RLIMIT_NPROC".to_owned(), soft: 5, hard: 10 };
        for present in [None, Some(10), Some(libc::RLIM_INFINITY)] {
            assert_eq!(what_limit(1, &limit, present), "process.rlimits[1]: RLIMIT_NPROC");
        }
        let why = "which is above the present hard limit of 9 and takes CAP_SYS_RESOURCE";
        assert_eq!(what_limit(1, &limit, Some(9)), format!("process.rlimits[1]: RLIMIT_NPROC to 10, {why}"));
        let all = RLimit { hard: libc::RLIM_INFINITY, kind: "RLIMIT_NOFILE".to_owned(), ..limit };
        let why = format!("{why} (and fs.nr_open is the most there is)");
        assert_eq!(what_limit(0, &all, Some(9)), format!("process.rlimits[0]: RLIMIT_NOFILE to unlimited, {why}"));
    }

    #[test]
    fn programs_are_looked_for_in_the_containers_path() {
        let paths = |name: &str, env: &[&str]| -> Vec<String> {
            let env: Vec<String> = env.iter().map(|s| (*s).to_owned()).collect();
            candidates(name, &env).iter().map(|c| c.to_string_lossy().into_owned()).collect()
        };
        assert_eq!(paths("sh", &["PATH=/a:/b:"]), ["/a/sh", "/b/sh", "./sh"]);
        assert_eq!(paths("./sh", &["PATH=/a"]), ["./sh"]);
        assert_eq!(paths("sh", &[]), ["/bin/sh", "/usr/bin/sh"]);
    }

    #[test]
    fn wrong_values_are_named() {
        let error = |json| plan_of(json, u64::MAX).0.err().unwrap().to_string();
        assert!(error(r#"{"cwd":"/"}"#).starts_with("process.args: "));
        let limit = r#"{"cwd":"/","args":["a"],"rlimits":[{"type":"RLIMIT_X","soft":1,"hard":1}]}"#;
        assert!(error(limit).starts_with("process.rlimits[0].type: "));
        let caps = r#"{"cwd":"/","args":["a"],"capabilities":{"effective":["CAP_KILL"]}}"#;
        assert!(error(caps).starts_with("process.capabilities.effective: "));
    }
}

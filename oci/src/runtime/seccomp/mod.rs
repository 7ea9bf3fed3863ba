//! `linux.seccomp` as a classic BPF program.
//!
//! For each architecture the system calls are a binary tree over ranges of numbers with the same answer: a profile of 434 rules
//! costs some eight comparisons a call, where a list of rules costs hundreds. The compiled program is kept in the container's
//! folder, so that `exec` loads it without the profile. Pure: names and numbers in, instructions out.

mod arguments;
mod table;
mod tree;

use super::config::{ConfigError, Seccomp, SyscallRule};
pub(crate) use table::ARCHITECTURES;
use table::Arch;

/// A program, one u64 an instruction (`struct sock_filter`), and the flags of seccomp(2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) program: Vec<u64>,
    pub(crate) flags: u32,
}

type Result<T> = std::result::Result<T, ConfigError>;

/// What the kernel answers a call: SECCOMP_RET_*.
type Answer = u32;

const KILL_PROCESS: Answer = 0x8000_0000;
const KILL_THREAD: Answer = 0;
const TRAP: Answer = 0x0003_0000;
const ERRNO: Answer = 0x0005_0000;
const TRACE: Answer = 0x7ff0_0000;
const NOTIFY: Answer = 0x7fc0_0000;
const LOG: Answer = 0x7ffc_0000;
const ALLOW: Answer = 0x7fff_0000;

const TSYNC: u32 = 1;
const SPEC_ALLOW: u32 = 4;
const NEW_LISTENER: u32 = 8;
const WAIT_KILLABLE: u32 = 32;

/// The answer for one system call: rules with conditions in their order, then the rest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Call<'a> {
    conditions: Vec<(Vec<&'a super::config::Argument>, Answer)>,
    always: Option<Answer>,
}

impl Filter {
    pub(crate) fn compile(seccomp: &Seccomp) -> Result<Filter> {
        if seccomp.listener_metadata.is_some() && seccomp.listener_path.is_none() {
            return Err(ConfigError::invalid("linux.seccomp.listenerMetadata", "needs a listenerPath"));
        }
        let default = answer(&seccomp.default_action, seccomp.default_errno, "linux.seccomp.defaultAction")?;
        let answers =
            seccomp.rules.iter().enumerate().map(|(index, rule)| {
                answer(&rule.action, rule.errno, &format!("linux.seccomp.syscalls[{index}].action"))
            });
        let answers = answers.collect::<Result<Vec<_>>>()?;
        let named = named(seccomp, &answers);
        let architectures = Arch::wanted(&seccomp.architectures)?;
        let blocks: Vec<_> = architectures.into_iter().map(|arch| (arch, block(arch, &named, default))).collect();
        let program = tree::program(&blocks);
        // BPF_MAXINSNS.
        if program.len() > 4096 {
            let why = format!("is too large: {} instructions of at most 4096", program.len());
            return Err(ConfigError::invalid("linux.seccomp", why));
        }
        let notifies = default == NOTIFY || answers.contains(&NOTIFY);
        if notifies {
            check_listener(seccomp, default, &answers)?;
        }
        Ok(Filter { program, flags: flags(seccomp.flags.as_deref(), notifies)? })
    }

    /// Whether loading it gives a descriptor to be handed to the listener.
    pub(crate) fn notifies(&self) -> bool {
        self.flags & NEW_LISTENER != 0
    }

    /// For the container's folder.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let head = u64::from(self.flags).to_ne_bytes();
        head.into_iter().chain(self.program.iter().flat_map(|one| one.to_ne_bytes())).collect()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Filter> {
        let (words, rest) = bytes.as_chunks::<8>();
        if !rest.is_empty() {
            return None;
        }
        let words: Vec<u64> = words.iter().map(|word| u64::from_ne_bytes(*word)).collect();
        let (flags, program) = words.split_first()?;
        Some(Filter { program: program.to_vec(), flags: u32::try_from(*flags).ok()? })
    }
}

/// Somebody has to listen, and the way there must not itself wait for an answer.
fn check_listener(seccomp: &Seccomp, default: Answer, answers: &[Answer]) -> Result<()> {
    if seccomp.listener_path.is_none() {
        return Err(ConfigError::invalid("linux.seccomp.listenerPath", "is required by SCMP_ACT_NOTIFY and missing"));
    }
    let mut named =
        seccomp.rules.iter().zip(answers).filter(|(rule, _)| rule.names.iter().any(|name| name == "sendmsg"));
    if named.clone().any(|(_, answer)| *answer == NOTIFY) || (default == NOTIFY && named.next().is_none()) {
        let why = "SCMP_ACT_NOTIFY cannot be used for sendmsg: the listener's descriptor is handed over with it";
        return Err(ConfigError::invalid("linux.seccomp.syscalls", why));
    }
    Ok(())
}

/// A rule's call, the rule, and the rule's answer.
type Named<'a> = (table::Entry, &'a SyscallRule, Answer);

/// Every name of every rule, in their order. A name the kernel's headers do not know is nothing to be filtered (as libseccomp has it).
fn named<'a>(seccomp: &'a Seccomp, answers: &[Answer]) -> Vec<Named<'a>> {
    let mut all = Vec::with_capacity(512);
    for (rule, answer) in seccomp.rules.iter().zip(answers) {
        all.extend(rule.names.iter().filter_map(|name| Some((table::find(name)?, rule, *answer))));
    }
    all
}

/// One architecture's answers by number: from each number on, up to the next.
fn block<'a>(arch: Arch, named: &[Named<'a>], default: Answer) -> Vec<(u32, Call<'a>)> {
    // Which of `calls` each number is; the first is what no rule names.
    let mut numbers = [0_usize; table::NUMBERS];
    let mut calls = vec![Call::default()];
    let mut next = 0;
    for (entry, rule, answer) in named {
        let Some(number) = entry.on(arch) else { continue };
        let Some(index) = numbers.get_mut(number) else { continue };
        next = next.max(number + 1);
        if rule.arguments.is_empty() {
            match calls.get_mut(*index) {
                Some(call) if *index > 0 => call.always = call.always.or(Some(*answer)),
                _ => *index = plain(&mut calls, *answer),
            }
            continue;
        }
        // Answers without conditions are shared by many numbers.
        if calls.get(*index).is_none_or(|call| call.conditions.is_empty()) {
            calls.push(calls.get(*index).cloned().unwrap_or_default());
            *index = calls.len() - 1;
        }
        if let Some(call) = calls.get_mut(*index) {
            add(call, rule, *answer);
        }
    }
    for call in &mut calls {
        call.always = call.always.or(Some(default));
    }
    let mut ranges: Vec<(u32, Call<'a>)> = Vec::with_capacity(256);
    let mut before = usize::MAX;
    for (number, index) in (0..).zip(numbers.iter().take(next)) {
        if *index != before {
            push(&mut ranges, number, calls.get(*index).cloned().unwrap_or_default());
            before = *index;
        }
    }
    // Calls newer than every one the profile names: the profile's author did not know them, and the C library tries older ones
    // when they do not exist, but not when they are forbidden.
    let forbids = matches!(default & 0xffff_0000, ERRNO | KILL_PROCESS | KILL_THREAD | TRAP);
    let newer = if forbids && next > 0 { ERRNO | libc::ENOSYS.unsigned_abs() } else { default };
    let next = u32::try_from(next).unwrap_or_default();
    push(&mut ranges, next, Call { conditions: Vec::new(), always: Some(newer) });
    ranges
}

/// The call that is always answered so.
fn plain(calls: &mut Vec<Call<'_>>, answer: Answer) -> usize {
    let same = |call: &Call<'_>| call.conditions.is_empty() && call.always == Some(answer);
    calls.iter().position(same).unwrap_or_else(|| {
        calls.push(Call { conditions: Vec::new(), always: Some(answer) });
        calls.len() - 1
    })
}

/// Neighbours with the same answer are one range.
fn push<'a>(ranges: &mut Vec<(u32, Call<'a>)>, start: u32, call: Call<'a>) {
    if ranges.last().is_none_or(|(_, before)| *before != call) {
        ranges.push((start, call));
    }
}

fn add<'a>(call: &mut Call<'a>, rule: &'a SyscallRule, answer: Answer) {
    if rule.arguments.is_empty() {
        call.always = call.always.or(Some(answer));
        return;
    }
    let twice = rule
        .arguments
        .iter()
        .enumerate()
        .any(|(at, one)| rule.arguments.iter().skip(at + 1).any(|two| one.index == two.index));
    if twice {
        // Several conditions on one argument: any of them is enough (as engines write it for libseccomp).
        call.conditions.extend(rule.arguments.iter().map(|one| (vec![one], answer)));
    } else {
        call.conditions.push((rule.arguments.iter().collect(), answer));
    }
}

/// What an action answers, and the errno behind it if it takes one.
pub(crate) const ACTIONS: [(&str, u32); 9] = [
    ("SCMP_ACT_ALLOW", ALLOW),
    ("SCMP_ACT_ERRNO", ERRNO),
    ("SCMP_ACT_KILL", KILL_THREAD),
    ("SCMP_ACT_KILL_PROCESS", KILL_PROCESS),
    ("SCMP_ACT_KILL_THREAD", KILL_THREAD),
    ("SCMP_ACT_LOG", LOG),
    ("SCMP_ACT_NOTIFY", NOTIFY),
    ("SCMP_ACT_TRACE", TRACE),
    ("SCMP_ACT_TRAP", TRAP),
];

/// SECCOMP_FILTER_FLAG_*.
pub(crate) const FLAGS: [(&str, u32); 4] = [
    ("SECCOMP_FILTER_FLAG_LOG", 2),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", SPEC_ALLOW),
    ("SECCOMP_FILTER_FLAG_TSYNC", TSYNC),
    ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", WAIT_KILLABLE),
];

fn answer(action: &str, errno: Option<u32>, path: &str) -> Result<Answer> {
    let Some((_, plain)) = ACTIONS.iter().find(|(name, _)| *name == action) else {
        return Err(ConfigError::invalid(path, format!("{action:?} is not an action")));
    };
    match (*plain, errno) {
        // The kernel's largest errno (MAX_ERRNO).
        (ERRNO | TRACE, Some(4096..)) => Err(ConfigError::invalid(path, "its errno is larger than 4095")),
        (ERRNO | TRACE, errno) => Ok(plain | errno.unwrap_or(libc::EPERM.unsigned_abs())),
        (_, None) => Ok(*plain),
        // Spec: "When the action doesn't support an errno, the runtime MUST print and error and fail."
        (_, Some(_)) => Err(ConfigError::invalid(path, format!("{action} takes no errno"))),
    }
}

fn flags(names: Option<&[String]>, notifies: bool) -> Result<u32> {
    // As with runc: before Linux 5.16 a filter without it slows the program by tens of per cent (seccomp(2)).
    let mut all = if names.is_none() { SPEC_ALLOW } else { 0 };
    for name in names.unwrap_or_default() {
        let flag = FLAGS.iter().find(|(word, _)| word == name);
        let why = || ConfigError::invalid("linux.seccomp.flags", format!("{name:?} is not a flag"));
        all |= flag.ok_or_else(why)?.1;
    }
    // A filter is loaded into the one thread there is, and the kernel gives a listener only where it need not choose between
    // threads; without a listener nobody could be waited for.
    Ok(if notifies { all & !TSYNC | NEW_LISTENER } else { all & !WAIT_KILLABLE })
}

#[cfg(test)]
mod tests;

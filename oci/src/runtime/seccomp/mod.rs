//! `linux.seccomp` as a classic BPF program.
//!
//! For each architecture the system calls are a binary tree over ranges of numbers with the same answer: a profile of 434 rules
//! costs some eight comparisons a call, where a list of rules costs hundreds. The compiled program is kept in the container's
//! folder, so that `exec` loads it without the profile. Pure: names and numbers in, instructions out.

mod arguments;
mod table;
mod tree;
mod verdict;

use super::config::{ConfigError, Seccomp, SyscallRule};
use table::Arch;
pub(crate) use table::{ARCHITECTURES, Entry, find};

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
        let architectures = Arch::wanted(&seccomp.architectures)?;
        let blocks: Vec<_> = architectures.into_iter().map(|arch| block(arch, seccomp, &answers, default)).collect();
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
    let sendmsg = find("sendmsg").and_then(|call| call.on(Arch::native()));
    let mut named = seccomp
        .rules
        .iter()
        .zip(answers)
        .filter(|(rule, _)| rule.calls.iter().any(|call| call.on(Arch::native()) == sendmsg));
    if named.clone().any(|(_, answer)| *answer == NOTIFY) || (default == NOTIFY && named.next().is_none()) {
        let why = "SCMP_ACT_NOTIFY cannot be used for sendmsg: the listener's descriptor is handed over with it";
        return Err(ConfigError::invalid("linux.seccomp.syscalls", why));
    }
    Ok(())
}

/// One architecture's answers by number: from each number on, up to the next.
struct Block<'a> {
    arch: Arch,
    calls: Vec<Call<'a>>,
    /// The first number, and which of `calls` it is.
    ranges: Vec<(u32, u16)>,
}

fn block<'a>(arch: Arch, seccomp: &'a Seccomp, answers: &[Answer], default: Answer) -> Block<'a> {
    // Which of `calls` each number is; the first is what no rule names.
    let mut numbers = [0_u16; table::NUMBERS];
    let mut calls = vec![Call::default()];
    let mut next = 0;
    for (rule, answer) in seccomp.rules.iter().zip(answers) {
        let plain = if rule.arguments.is_empty() { plain(&mut calls, *answer) } else { 0 };
        for number in rule.calls.iter().filter_map(|call| call.on(arch)) {
            let Some(index) = numbers.get_mut(number) else { continue };
            next = next.max(number + 1);
            if *index == 0 && plain != 0 {
                *index = plain;
                continue;
            }
            // Answers without conditions are shared by many numbers.
            let shared = calls.get(usize::from(*index)).is_none_or(|call| call.conditions.is_empty());
            if plain == 0 && shared {
                calls.push(calls.get(usize::from(*index)).cloned().unwrap_or_default());
                *index = last(&calls);
            }
            if let Some(call) = calls.get_mut(usize::from(*index)) {
                add(call, rule, *answer);
            }
        }
    }
    // Calls newer than every one the profile names: the profile's author did not know them, and the C library tries older ones
    // when they do not exist, but not when they are forbidden.
    let forbids = matches!(default & 0xffff_0000, ERRNO | KILL_PROCESS | KILL_THREAD | TRAP);
    let newer = if forbids && next > 0 { plain(&mut calls, ERRNO | libc::ENOSYS.unsigned_abs()) } else { 0 };
    for call in &mut calls {
        call.always = call.always.or(Some(default));
    }
    let mut ranges: Vec<(u32, u16)> = Vec::with_capacity(256);
    for (number, index) in (0..).zip(numbers.iter().take(next).copied().chain([newer])) {
        // Neighbours with the same answer are one range.
        let same = |(_, before): &(u32, u16)| {
            *before == index || calls.get(usize::from(*before)) == calls.get(usize::from(index))
        };
        if !ranges.last().is_some_and(same) {
            ranges.push((number, index));
        }
    }
    Block { arch, calls, ranges }
}

/// The call that is always answered so.
fn plain(calls: &mut Vec<Call<'_>>, answer: Answer) -> u16 {
    let same = |call: &Call<'_>| call.conditions.is_empty() && call.always == Some(answer);
    match calls.iter().position(same).and_then(|index| u16::try_from(index).ok()) {
        Some(index) => index,
        None => {
            calls.push(Call { conditions: Vec::new(), always: Some(answer) });
            last(calls)
        }
    }
}

/// There are at most as many as a thousand numbers with a call of their own, and a few answers.
fn last(calls: &[Call<'_>]) -> u16 {
    u16::try_from(calls.len() - 1).unwrap_or(u16::MAX)
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

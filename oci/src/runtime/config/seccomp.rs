//! `linux.seccomp`, as written; what its names mean on this machine is the compiler's business.

use super::{Result, one_of};
use crate::runtime::json::{Reader, Taken};
use crate::runtime::seccomp::{Entry, find};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    NotEqual,
    Less,
    LessOrEqual,
    Equal,
    GreaterOrEqual,
    Greater,
    /// `value` is the mask, `value_two` what remains under it.
    MaskedEqual,
}

pub(crate) const OPERATORS: [(&str, Operator); 7] = [
    ("SCMP_CMP_EQ", Operator::Equal),
    ("SCMP_CMP_GE", Operator::GreaterOrEqual),
    ("SCMP_CMP_GT", Operator::Greater),
    ("SCMP_CMP_LE", Operator::LessOrEqual),
    ("SCMP_CMP_LT", Operator::Less),
    ("SCMP_CMP_MASKED_EQ", Operator::MaskedEqual),
    ("SCMP_CMP_NE", Operator::NotEqual),
];

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Argument {
    pub(crate) index: u32,
    pub(crate) value: u64,
    pub(crate) value_two: u64,
    pub(crate) operator: Operator,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct SyscallRule {
    /// Its names, looked up at once: a profile has hundreds. One that the kernel's headers do not know is nothing to be filtered
    /// (as libseccomp has it).
    pub(crate) calls: Vec<&'static Entry>,
    pub(crate) action: String,
    pub(crate) errno: Option<u32>,
    pub(crate) arguments: Vec<Argument>,
}

#[derive(Debug, Default)]
pub(crate) struct Seccomp {
    pub(crate) default_action: String,
    pub(crate) default_errno: Option<u32>,
    pub(crate) architectures: Vec<String>,
    /// Absent is not empty.
    pub(crate) flags: Option<Vec<String>>,
    pub(crate) listener_path: Option<String>,
    pub(crate) listener_metadata: Option<String>,
    pub(crate) rules: Vec<SyscallRule>,
}

impl Seccomp {
    pub(super) fn read(r: &mut Reader<'_>) -> Result<Seccomp> {
        let mut seccomp = Seccomp::default();
        r.object(&mut |r, name| {
            match name {
                "defaultAction" => seccomp.default_action = r.text()?,
                "defaultErrnoRet" => seccomp.default_errno = Some(r.integer()?),
                "architectures" => seccomp.architectures = r.strings()?,
                "flags" => seccomp.flags = Some(r.strings()?),
                "listenerPath" => seccomp.listener_path = Some(r.text()?).filter(|p| !p.is_empty()),
                "listenerMetadata" => seccomp.listener_metadata = Some(r.text()?).filter(|m| !m.is_empty()),
                "syscalls" => r.array(&mut |r| {
                    seccomp.rules.push(rule(r)?);
                    Ok(())
                })?,
                _ => return Ok(Taken::No),
            }
            Ok(Taken::Yes)
        })?;
        if seccomp.default_action.is_empty() {
            return Err(r.missing("defaultAction"));
        }
        Ok(seccomp)
    }
}

fn rule(r: &mut Reader<'_>) -> Result<SyscallRule> {
    let mut rule = SyscallRule::default();
    let mut named = false;
    r.object_with(&["names", "action"], &mut |r, name| {
        match name {
            "names" => r.array(&mut |r| {
                rule.calls.extend(find(&r.string()?));
                named = true;
                Ok(())
            })?,
            "action" => rule.action = r.text()?,
            "errnoRet" => rule.errno = Some(r.integer()?),
            "args" => r.array(&mut |r| {
                rule.arguments.push(argument(r)?);
                Ok(())
            })?,
            // Written by old engines, meant for people.
            "comment" | "includes" | "excludes" => r.skip()?,
            _ => return Ok(Taken::No),
        }
        Ok(Taken::Yes)
    })?;
    if !named || rule.action.is_empty() {
        return Err(r.invalid("names and action must not be empty"));
    }
    Ok(rule)
}

fn argument(r: &mut Reader<'_>) -> Result<Argument> {
    let mut argument = Argument { index: 0, value: 0, value_two: 0, operator: Operator::Equal };
    r.object_with(&["index", "value", "op"], &mut |r, name| {
        match name {
            "index" => argument.index = r.integer()?,
            "value" => argument.value = r.integer()?,
            "valueTwo" => argument.value_two = r.integer()?,
            "op" => argument.operator = one_of(r, &OPERATORS)?,
            _ => return Ok(Taken::No),
        }
        Ok(Taken::Yes)
    })?;
    if argument.index > 5 {
        return Err(r.invalid("a system call has the arguments 0 to 5"));
    }
    Ok(argument)
}

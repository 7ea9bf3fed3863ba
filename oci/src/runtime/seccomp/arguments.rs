//! Conditions on arguments: 64-bit comparisons made of 32-bit ones.

use super::tree::{AND, JUMP_EQUAL, JUMP_GREATER, JUMP_GREATER_EQUAL, LOAD, RETURN, instruction};
use super::{Answer, Call};
use crate::runtime::config::{Argument, Operator};

/// Where a comparison goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Goes {
    Next,
    /// This condition holds.
    Holds,
    /// This condition does not hold, so the rule does not match.
    Fails,
}

/// Opcode, constant, and where it goes if true and if false.
type Line = (u16, u32, Goes, Goes);

/// The instructions for one call: rule after rule, then the answer for the rest.
pub(super) fn answers(call: &Call<'_>) -> Vec<u64> {
    let mut out = Vec::new();
    for (conditions, answer) in &call.conditions {
        out.extend(rule(conditions, *answer));
    }
    out.push(instruction(RETURN, 0, 0, call.always.unwrap_or(super::KILL_PROCESS)));
    out
}

fn rule(conditions: &[&Argument], answer: Answer) -> Vec<u64> {
    let lines: Vec<Vec<Line>> = conditions.iter().map(|one| condition(one)).collect();
    let total: usize = lines.iter().map(Vec::len).sum();
    let mut out = Vec::new();
    for lines in &lines {
        let end = out.len() + lines.len();
        for (opcode, constant, yes, no) in lines {
            let here = out.len() + 1;
            let jump = |goes: Goes| match goes {
                Goes::Next => 0,
                Goes::Holds => end - here,
                // Behind the answer of this rule.
                Goes::Fails => total + 1 - here,
            };
            out.push(instruction(*opcode, jump(*yes), jump(*no), *constant));
        }
    }
    out.push(instruction(RETURN, 0, 0, answer));
    out
}

fn condition(argument: &Argument) -> Vec<Line> {
    use Goes::{Fails, Holds, Next};
    // struct seccomp_data: number, architecture, instruction pointer, then six 64-bit arguments.
    let first = 16 + 8 * argument.index;
    let (high_at, low_at) = if cfg!(target_endian = "little") { (first + 4, first) } else { (first, first + 4) };
    let halves = |value: u64| {
        let half = |bits: u64| u32::try_from(bits & 0xffff_ffff).unwrap_or_default();
        (half(value >> 32), half(value))
    };
    let (high, low) = halves(argument.value);
    let load = |at: u32| (LOAD, at, Next, Next);
    let ordered = |above: Goes, below: Goes, last: Line| {
        vec![load(high_at), (JUMP_GREATER, high, above, Next), (JUMP_EQUAL, high, Next, below), load(low_at), last]
    };
    match argument.operator {
        Operator::Equal => {
            vec![load(high_at), (JUMP_EQUAL, high, Next, Fails), load(low_at), (JUMP_EQUAL, low, Holds, Fails)]
        }
        Operator::NotEqual => {
            vec![load(high_at), (JUMP_EQUAL, high, Next, Holds), load(low_at), (JUMP_EQUAL, low, Fails, Holds)]
        }
        Operator::Greater => ordered(Holds, Fails, (JUMP_GREATER, low, Holds, Fails)),
        Operator::GreaterOrEqual => ordered(Holds, Fails, (JUMP_GREATER_EQUAL, low, Holds, Fails)),
        Operator::Less => ordered(Fails, Holds, (JUMP_GREATER_EQUAL, low, Fails, Holds)),
        Operator::LessOrEqual => ordered(Fails, Holds, (JUMP_GREATER, low, Fails, Holds)),
        Operator::MaskedEqual => {
            let (left_high, left_low) = halves(argument.value_two);
            vec![
                load(high_at),
                (AND, high, Next, Next),
                (JUMP_EQUAL, left_high, Next, Fails),
                load(low_at),
                (AND, low, Next, Next),
                (JUMP_EQUAL, left_low, Holds, Fails),
            ]
        }
    }
}

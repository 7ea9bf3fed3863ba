//! The program: first the architecture, then a binary tree over the numbers.

use super::table::{Arch, X32_BIT};
use super::{Call, KILL_PROCESS, arguments};

// Classic BPF (<linux/filter.h>): class, size and mode in one number.
pub(super) const LOAD: u16 = 0x20;
pub(super) const AND: u16 = 0x54;
pub(super) const JUMP: u16 = 0x05;
pub(super) const JUMP_EQUAL: u16 = 0x15;
pub(super) const JUMP_GREATER: u16 = 0x25;
pub(super) const JUMP_GREATER_EQUAL: u16 = 0x35;
pub(super) const RETURN: u16 = 0x06;

/// `struct sock_filter`. Jumps that do not fit are the caller's mistake: they are kept short by construction.
pub(super) fn instruction(opcode: u16, yes: usize, no: usize, constant: u32) -> u64 {
    let [o0, o1] = opcode.to_ne_bytes();
    let [k0, k1, k2, k3] = constant.to_ne_bytes();
    let short = |jump: usize| u8::try_from(jump).unwrap_or(u8::MAX);
    u64::from_ne_bytes([o0, o1, short(yes), short(no), k0, k1, k2, k3])
}

/// Jumps over `count` instructions if the loaded word is at least (or equals) the constant, however many they are.
fn jump_over(opcode: u16, constant: u32, count: usize) -> Vec<u64> {
    if count <= usize::from(u8::MAX) {
        return vec![instruction(opcode, count, 0, constant)];
    }
    let far = u32::try_from(count).unwrap_or(u32::MAX);
    vec![instruction(opcode, 0, 1, constant), instruction(JUMP, 0, 0, far)]
}

pub(super) fn program(blocks: &[(Arch, Vec<(u32, Call<'_>)>)]) -> Vec<u64> {
    let x32 = blocks.iter().find(|(arch, _)| *arch == Arch::X32).map(|(_, ranges)| tree(ranges));
    // struct seccomp_data: the number at 0, the architecture at 4.
    let mut out = vec![instruction(LOAD, 0, 0, 4)];
    for (arch, ranges) in blocks.iter().filter(|(arch, _)| *arch != Arch::X32) {
        let mut body = vec![instruction(LOAD, 0, 0, 0)];
        let calls = tree(ranges);
        if *arch == Arch::X86_64 {
            // x32 shares the architecture's mark; without being asked for it is another architecture.
            let other = x32.clone().unwrap_or_else(|| vec![instruction(RETURN, 0, 0, KILL_PROCESS)]);
            body.extend(jump_over(JUMP_GREATER_EQUAL, X32_BIT, calls.len()));
            body.extend(calls);
            if x32.is_some() {
                body.push(instruction(AND, 0, 0, !X32_BIT));
            }
            body.extend(other);
        } else {
            body.extend(calls);
        }
        // Not this architecture: over its block.
        out.push(instruction(JUMP_EQUAL, 1, 0, arch.audit()));
        out.push(instruction(JUMP, 0, 0, u32::try_from(body.len()).unwrap_or(u32::MAX)));
        out.extend(body);
    }
    out.push(instruction(RETURN, 0, 0, KILL_PROCESS));
    out
}

/// Ranges by their first number, ascending, the first being 0.
fn tree(ranges: &[(u32, Call<'_>)]) -> Vec<u64> {
    match ranges {
        [] => vec![instruction(RETURN, 0, 0, KILL_PROCESS)],
        [(_, call)] => arguments::answers(call),
        _ => {
            let (left, right) = ranges.split_at(ranges.len() / 2);
            let below = tree(left);
            let first = right.first().map_or(0, |(number, _)| *number);
            let mut out = jump_over(JUMP_GREATER_EQUAL, first, below.len());
            out.extend(below);
            out.extend(tree(right));
            out
        }
    }
}

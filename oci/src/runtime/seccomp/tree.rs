//! The program: first the architecture, then a binary tree over the numbers.

use super::table::{Arch, X32_BIT};
use super::{Block, Call, KILL_PROCESS, arguments};

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

/// Jumps over `count` instructions if the loaded word is at least (or equals) the constant, however many they are. Backwards, as
/// everything here is written: see `tree`.
fn jump_over(out: &mut Vec<u64>, opcode: u16, constant: u32, count: usize) {
    if count <= usize::from(u8::MAX) {
        return out.push(instruction(opcode, count, 0, constant));
    }
    out.push(jump(count));
    out.push(instruction(opcode, 0, 1, constant));
}

fn jump(count: usize) -> u64 {
    instruction(JUMP, 0, 0, u32::try_from(count).unwrap_or(u32::MAX))
}

pub(super) fn program(blocks: &[Block<'_>]) -> Vec<u64> {
    let mut out = Vec::with_capacity(1024);
    out.push(instruction(RETURN, 0, 0, KILL_PROCESS));
    for block in blocks.iter().rev().filter(|block| block.arch != Arch::X32) {
        let before = out.len();
        if block.arch == Arch::X86_64 {
            // x32 shares the architecture's mark; without being asked for it is another architecture.
            match blocks.iter().find(|block| block.arch == Arch::X32) {
                Some(block) => {
                    tree(&mut out, &block.calls, &block.ranges);
                    out.push(instruction(AND, 0, 0, !X32_BIT));
                }
                None => out.push(instruction(RETURN, 0, 0, KILL_PROCESS)),
            }
            let calls = out.len();
            tree(&mut out, &block.calls, &block.ranges);
            let calls = out.len() - calls;
            jump_over(&mut out, JUMP_GREATER_EQUAL, X32_BIT, calls);
        } else {
            tree(&mut out, &block.calls, &block.ranges);
        }
        // struct seccomp_data: the number at 0, the architecture at 4.
        out.push(instruction(LOAD, 0, 0, 0));
        // Not this architecture: over its block.
        out.push(jump(out.len() - before));
        out.push(instruction(JUMP_EQUAL, 1, 0, block.arch.audit()));
    }
    out.push(instruction(LOAD, 0, 0, 4));
    out.reverse();
    out
}

/// Ranges by their first number, ascending, the first being 0. The last instruction comes first: so a jump's length is known
/// when it is written, and nothing has to be moved.
fn tree(out: &mut Vec<u64>, calls: &[Call<'_>], ranges: &[(u32, u16)]) {
    match ranges {
        [] => out.push(instruction(RETURN, 0, 0, KILL_PROCESS)),
        [(_, index)] => match calls.get(usize::from(*index)) {
            Some(call) if !call.conditions.is_empty() => out.extend(arguments::answers(call).into_iter().rev()),
            plain => {
                let answer = plain.and_then(|call| call.always).unwrap_or(KILL_PROCESS);
                out.push(instruction(RETURN, 0, 0, answer));
            }
        },
        _ => {
            let (left, right) = ranges.split_at(ranges.len() / 2);
            tree(out, calls, right);
            let before = out.len();
            tree(out, calls, left);
            let first = right.first().map_or(0, |(number, _)| *number);
            let count = out.len() - before;
            jump_over(out, JUMP_GREATER_EQUAL, first, count);
        }
    }
}

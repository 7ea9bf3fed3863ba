//! What a compiled filter answers a call: asked before the filter is loaded, as afterwards it may leave no way to say what it forbids.
//! Allocates nothing: the container's process asks.

use super::table::Arch;
use super::tree::{AND, JUMP, JUMP_EQUAL, JUMP_GREATER, JUMP_GREATER_EQUAL, LOAD, RETURN};
use super::{ALLOW, Answer, ERRNO, Filter, KILL_PROCESS, LOG, NOTIFY, TRACE};
use crate::runtime::sys::Errno;
use crate::runtime::sys::call::Call;

impl Filter {
    /// Why this call of a process of ours would not be done; nothing where it would, or somebody is asked.
    pub(crate) fn refusal(&self, call: &Call) -> Option<Errno> {
        let answer = evaluate(&self.program, Arch::native().audit(), call);
        match answer & 0xffff_0000 {
            ALLOW | LOG | NOTIFY => None,
            // Errno 0 would say that the program runs.
            ERRNO => {
                Some(Errno(i32::try_from(answer & 0xffff).ok().filter(|errno| *errno != 0).unwrap_or(libc::EPERM)))
            }
            // Nobody traces this process (seccomp(2)).
            TRACE => Some(Errno(libc::ENOSYS)),
            // It would be ended by SIGSYS.
            _ => Some(Errno(libc::EPERM)),
        }
    }
}

/// Classic BPF over `struct seccomp_data`: the number, the architecture, the instruction pointer (of which no profile speaks), and six
/// arguments. Outside what is compiled here nothing is allowed.
pub(super) fn evaluate(program: &[u64], arch: u32, call: &Call) -> Answer {
    let (mut at, mut word) = (0, 0);
    while let Some(instruction) = program.get(at) {
        let [o0, o1, yes, no, k0, k1, k2, k3] = instruction.to_ne_bytes();
        let constant = u32::from_ne_bytes([k0, k1, k2, k3]);
        let branch = |holds: bool| usize::from(if holds { yes } else { no });
        at += 1;
        match u16::from_ne_bytes([o0, o1]) {
            LOAD => word = load(arch, call, constant),
            AND => word &= constant,
            JUMP => at += constant as usize,
            JUMP_EQUAL => at += branch(word == constant),
            JUMP_GREATER => at += branch(word > constant),
            JUMP_GREATER_EQUAL => at += branch(word >= constant),
            RETURN => return constant,
            _ => break,
        }
    }
    KILL_PROCESS
}

fn load(arch: u32, call: &Call, offset: u32) -> u32 {
    match offset {
        0 => call.number,
        4 => arch,
        _ => {
            let argument = call.arguments.get((offset as usize).wrapping_sub(16) / 8).copied().unwrap_or_default();
            // The machines this is built for have the low half first.
            let half = if offset.is_multiple_of(8) { argument } else { argument >> 32 };
            u32::try_from(half & 0xffff_ffff).unwrap_or_default()
        }
    }
}

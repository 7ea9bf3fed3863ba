//! The device rules as a BPF program. cgroup v2 has no devices controller: a program of type CGROUP_DEVICE sees each open and
//! mknod, and answers 1 or 0. The last rule that matches decides (spec, section "Allowed Device list"), so they are tried from
//! the last to the first; what nobody matches is denied.

use crate::runtime::config::DeviceRule;

/// What every container may use, whatever its rules say: creating nodes (useless without a rule to open them), null, zero,
/// full, random, urandom, tty, ptmx, and the terminals of its devpts.
const DEFAULT: [(char, Option<u32>, Option<u32>, bool); 10] = [
    ('b', None, None, false),
    ('c', None, None, false),
    ('c', Some(1), Some(3), true),
    ('c', Some(1), Some(5), true),
    ('c', Some(1), Some(7), true),
    ('c', Some(1), Some(8), true),
    ('c', Some(1), Some(9), true),
    ('c', Some(5), Some(0), true),
    ('c', Some(5), Some(2), true),
    ('c', Some(136), None, true),
];

// Of <linux/bpf.h>: BPF_DEVCG_ACC_*, BPF_DEVCG_DEV_*.
const MKNOD: u32 = 1;
const READ: u32 = 2;
const WRITE: u32 = 4;
const BLOCK: u32 = 1;
const CHARACTER: u32 = 2;

/// One instruction as the kernel lays it out: opcode, registers, jump offset, constant.
fn instruction(opcode: u8, to: u8, from: u8, jump: u8, constant: u32) -> u64 {
    let registers = if cfg!(target_endian = "little") { to | from << 4 } else { to << 4 | from };
    let [j0, j1] = i16::from(jump).to_ne_bytes();
    let [c0, c1, c2, c3] = constant.to_ne_bytes();
    u64::from_ne_bytes([opcode, registers, j0, j1, c0, c1, c2, c3])
}

const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xbc;
const MOVE_CONSTANT: u8 = 0xb4;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const JUMP_IF_EQUAL: u8 = 0x16;
const JUMP_IF_NOT_EQUAL: u8 = 0x56;
const EXIT: u8 = 0x95;

/// The program for these rules; the default ones come last, so they win.
pub(super) fn program(rules: &[DeviceRule]) -> Vec<u64> {
    let defaults = DEFAULT.iter().map(|(kind, major, minor, all)| DeviceRule {
        allow: true,
        kind: *kind,
        major: *major,
        minor: *minor,
        read: *all,
        write: *all,
        mknod: true,
    });
    let mut out = vec![
        // r2: type, r3: access, r4: major, r5: minor, out of struct bpf_cgroup_dev_ctx in r1.
        instruction(LOAD_WORD, 2, 1, 0, 0),
        instruction(MOVE, 3, 2, 0, 0),
        instruction(SHIFT_RIGHT, 3, 0, 0, 16),
        instruction(AND, 2, 0, 0, 0xffff),
        instruction(LOAD_WORD, 4, 1, 4, 0),
        instruction(LOAD_WORD, 5, 1, 8, 0),
    ];
    let all: Vec<DeviceRule> = rules.iter().cloned().chain(defaults).collect();
    for rule in all.iter().rev() {
        let tests = tests(rule);
        let count = tests.len();
        for (index, (opcode, register, constant)) in tests.into_iter().enumerate() {
            let straight = opcode == AND || opcode == MOVE;
            // A test that fails jumps over the tests behind it and over the two instructions of the answer.
            let over = if straight { 0 } else { u8::try_from(count - index + 1).unwrap_or(u8::MAX) };
            out.push(instruction(opcode, register, if opcode == MOVE { 3 } else { 0 }, over, constant));
        }
        out.push(instruction(MOVE_CONSTANT, 0, 0, 0, u32::from(rule.allow)));
        out.push(instruction(EXIT, 0, 0, 0, 0));
        if count == 0 {
            // It matches everything, and the verifier refuses instructions that nothing can reach.
            return out;
        }
    }
    out.push(instruction(MOVE_CONSTANT, 0, 0, 0, 0));
    out.push(instruction(EXIT, 0, 0, 0, 0));
    out
}

/// The instructions that leave a rule when it does not match: opcode, register, constant.
fn tests(rule: &DeviceRule) -> Vec<(u8, u8, u32)> {
    let mut tests = Vec::new();
    match rule.kind {
        'b' => tests.push((JUMP_IF_NOT_EQUAL, 2, BLOCK)),
        'c' => tests.push((JUMP_IF_NOT_EQUAL, 2, CHARACTER)),
        _ => {}
    }
    let access = [(rule.mknod, MKNOD), (rule.read, READ), (rule.write, WRITE)];
    let mask: u32 = access.iter().filter(|(has, _)| *has).map(|(_, bit)| bit).sum();
    if mask != MKNOD | READ | WRITE {
        tests.push((MOVE, 1, 0));
        if rule.allow {
            // All that is asked for must be in the rule …
            tests.push((AND, 1, !mask));
            tests.push((JUMP_IF_NOT_EQUAL, 1, 0));
        } else {
            // … while one denied kind of access is enough to deny.
            tests.push((AND, 1, mask));
            tests.push((JUMP_IF_EQUAL, 1, 0));
        }
    }
    tests.extend(rule.major.map(|major| (JUMP_IF_NOT_EQUAL, 4, major)));
    tests.extend(rule.minor.map(|minor| (JUMP_IF_NOT_EQUAL, 5, minor)));
    tests
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would do with the program, for the instructions it uses.
    fn run(program: &[u64], kind: u32, access: u32, major: u32, minor: u32) -> bool {
        let mut r = [0_u32; 11];
        let mut at = 0;
        loop {
            let bytes = program[at].to_ne_bytes();
            let (to, from) = ((bytes[1] & 15) as usize, (bytes[1] >> 4) as usize);
            let jump = usize::try_from(i16::from_ne_bytes([bytes[2], bytes[3]])).unwrap();
            let constant = u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
            at += 1;
            match bytes[0] {
                LOAD_WORD => r[to] = [access << 16 | kind, major, minor][jump / 4],
                MOVE => r[to] = r[from],
                MOVE_CONSTANT => r[to] = constant,
                AND => r[to] &= constant,
                SHIFT_RIGHT => r[to] >>= constant,
                JUMP_IF_EQUAL if r[to] == constant => at += jump,
                JUMP_IF_NOT_EQUAL if r[to] != constant => at += jump,
                JUMP_IF_EQUAL | JUMP_IF_NOT_EQUAL => {}
                EXIT => return r[0] == 1,
                other => panic!("opcode {other:x}"),
            }
        }
    }

    fn rule(allow: bool, kind: char, major: Option<u32>, minor: Option<u32>, access: &str) -> DeviceRule {
        let has = |c| access.contains(c);
        DeviceRule { allow, kind, major, minor, read: has('r'), write: has('w'), mknod: has('m') }
    }

    #[test]
    fn defaults_alone() {
        let program = program(&[]);
        assert!(run(&program, CHARACTER, READ | WRITE, 1, 3));
        assert!(run(&program, CHARACTER, READ | WRITE, 136, 77));
        assert!(run(&program, BLOCK, MKNOD, 8, 0));
        assert!(!run(&program, BLOCK, READ, 8, 0));
        assert!(!run(&program, BLOCK, READ, 1, 3));
        assert!(!run(&program, CHARACTER, READ, 1, 1));
        assert!(!run(&program, CHARACTER, READ | MKNOD, 10, 229));
    }

    #[test]
    fn the_last_match_wins() {
        let rules = [
            rule(false, 'a', None, None, "rwm"),
            rule(true, 'b', Some(8), None, "rw"),
            rule(false, 'b', Some(8), Some(3), "w"),
        ];
        let program = program(&rules);
        assert!(run(&program, BLOCK, READ | WRITE, 8, 0));
        assert!(run(&program, BLOCK, READ, 8, 3));
        assert!(!run(&program, BLOCK, READ | WRITE, 8, 3));
        assert!(!run(&program, CHARACTER, READ, 8, 0));
        assert!(run(&program, CHARACTER, READ, 1, 9));
    }

    #[test]
    fn everything_allowed_ends_the_program() {
        let program = program(&[rule(true, 'a', None, None, "rwm")]);
        assert!(run(&program, BLOCK, READ | WRITE | MKNOD, 259, 1));
        assert_eq!(program.last().map(|i| i.to_ne_bytes()[0]), Some(EXIT));
    }
}

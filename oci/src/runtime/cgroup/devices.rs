//! The device rules as a BPF program. cgroup v2 has no devices controller: a program of type CGROUP_DEVICE sees each open and
//! mknod, and answers 1 or 0. The last rule that matches decides (spec, section "Allowed Device list"): each that matches sets the
//! answer, in their order; what nobody matches is denied.

use crate::runtime::config::DeviceRule;

/// What every container may use, whatever its rules say: creating nodes (useless without a rule to open them); null, zero,
/// full, random and urandom; tty and ptmx; the terminals of its devpts; tun, whose node is made in the container (runc and crun
/// allow it too: who may set up an interface is a matter of CAP_NET_ADMIN).
const DEFAULT: [&[Test]; 5] = [
    &[Test::AccessWithin(MKNOD)],
    &[Test::Equals(TYPE, CHARACTER), Test::Equals(MAJOR, 1), Test::MinorIn(1 << 3 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 9)],
    &[Test::Equals(TYPE, CHARACTER), Test::Equals(MAJOR, 5), Test::MinorIn(1 << 0 | 1 << 2)],
    &[Test::Equals(TYPE, CHARACTER), Test::Equals(MAJOR, 136)],
    &[Test::Equals(TYPE, CHARACTER), Test::Equals(MAJOR, 10), Test::Equals(MINOR, 200)],
];

// Of <linux/bpf.h>: BPF_DEVCG_ACC_*, BPF_DEVCG_DEV_*.
const MKNOD: u32 = 1;
const READ: u32 = 2;
const WRITE: u32 = 4;
const BLOCK: u32 = 1;
const CHARACTER: u32 = 2;

// Registers: what is asked for, out of struct bpf_cgroup_dev_ctx in r1; the answer is r0.
const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
const TYPE: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
/// 0 while the rule matches, one test's result, and room for one more.
const MISS: u8 = 6;
const RESULT: u8 = 7;
const OTHER: u8 = 8;

/// One instruction as the kernel lays it out: opcode, registers, offset, constant.
fn instruction(opcode: u8, to: u8, from: u8, offset: u8, constant: u32) -> u64 {
    let registers = if cfg!(target_endian = "little") { to | from << 4 } else { to << 4 | from };
    let [j0, j1] = i16::from(offset).to_ne_bytes();
    let [c0, c1, c2, c3] = constant.to_ne_bytes();
    u64::from_ne_bytes([opcode, registers, j0, j1, c0, c1, c2, c3])
}

const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xbf;
const MOVE_CONSTANT: u8 = 0xb7;
const AND: u8 = 0x5f;
/// On the lower 32 bits; the upper ones become zero.
const AND_CONSTANT: u8 = 0x54;
const OR: u8 = 0x4f;
const XOR_CONSTANT: u8 = 0xa4;
const SUBTRACT_CONSTANT: u8 = 0x17;
const SHIFT_RIGHT: u8 = 0x7f;
const SHIFT_RIGHT_CONSTANT: u8 = 0x77;
const EXIT: u8 = 0x95;

/// What a rule demands; each is worked out to 0 if it is so.
#[derive(Clone, Copy)]
enum Test {
    Equals(u8, u32),
    /// One of the first 31 numbers, as bits.
    MinorIn(u32),
    /// Nothing but this is asked for.
    AccessWithin(u32),
    /// Some of this is asked for.
    AccessTouches(u32),
}

/// The program for these rules; the default ones come last, so they win. There is not one jump in it: the kernel's verifier
/// follows every way through a program, which for a jump a rule is a sixth of a container's start.
pub(super) fn program(rules: &[DeviceRule]) -> Vec<u64> {
    let mut out = vec![
        instruction(LOAD_WORD, TYPE, CONTEXT, 0, 0),
        instruction(MOVE, ACCESS, TYPE, 0, 0),
        instruction(SHIFT_RIGHT_CONSTANT, ACCESS, 0, 0, 16),
        instruction(AND_CONSTANT, TYPE, 0, 0, 0xffff),
        instruction(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        instruction(LOAD_WORD, MINOR, CONTEXT, 8, 0),
        instruction(MOVE_CONSTANT, ANSWER, 0, 0, 0),
    ];
    let all = rules.iter().map(|rule| (tests(rule), rule.allow));
    // What comes before a rule that matches everything has no effect.
    let last = rules.iter().rposition(|rule| tests(rule).is_empty()).unwrap_or(0);
    for (tests, allow) in all.skip(last) {
        add(&mut out, &tests, allow);
    }
    for tests in DEFAULT {
        add(&mut out, tests, true);
    }
    // The verifier wants to see that the answer is 0 or 1.
    out.push(instruction(AND_CONSTANT, ANSWER, 0, 0, 1));
    out.push(instruction(EXIT, 0, 0, 0, 0));
    out
}

fn add(out: &mut Vec<u64>, tests: &[Test], allow: bool) {
    if tests.is_empty() {
        return out.push(instruction(MOVE_CONSTANT, ANSWER, 0, 0, u32::from(allow)));
    }
    for (index, test) in tests.iter().enumerate() {
        let to = if index == 0 { MISS } else { RESULT };
        add_test(out, *test, to);
        if to == RESULT {
            out.push(instruction(OR, MISS, RESULT, 0, 0));
        }
    }
    // The rule matches: 1 or 0.
    is_zero(out, MISS);
    if allow {
        out.push(instruction(OR, ANSWER, MISS, 0, 0));
    } else {
        out.push(instruction(XOR_CONSTANT, MISS, 0, 0, 1));
        out.push(instruction(AND, ANSWER, MISS, 0, 0));
    }
}

/// 1 or 0: a number of 32 bits is zero if the upper bit of (number - 1) is set in 64.
fn is_zero(out: &mut Vec<u64>, register: u8) {
    out.push(instruction(SUBTRACT_CONSTANT, register, 0, 0, 1));
    out.push(instruction(SHIFT_RIGHT_CONSTANT, register, 0, 0, 63));
}

/// The register becomes 0 if the test holds.
fn add_test(out: &mut Vec<u64>, test: Test, to: u8) {
    match test {
        Test::Equals(register, constant) => {
            out.push(instruction(MOVE, to, register, 0, 0));
            out.push(instruction(XOR_CONSTANT, to, 0, 0, constant));
        }
        Test::MinorIn(bits) => {
            // The constant is extended by its upper bit, which makes those from 32 on others.
            out.push(instruction(MOVE_CONSTANT, to, 0, 0, !bits));
            out.push(instruction(SHIFT_RIGHT, to, MINOR, 0, 0));
            out.push(instruction(AND_CONSTANT, to, 0, 0, 1));
            // The processor shifts by the minor modulo 64.
            out.push(instruction(MOVE, OTHER, MINOR, 0, 0));
            out.push(instruction(SHIFT_RIGHT_CONSTANT, OTHER, 0, 0, 6));
            out.push(instruction(OR, to, OTHER, 0, 0));
        }
        Test::AccessWithin(mask) => {
            out.push(instruction(MOVE, to, ACCESS, 0, 0));
            out.push(instruction(AND_CONSTANT, to, 0, 0, !mask));
        }
        Test::AccessTouches(mask) => {
            out.push(instruction(MOVE, to, ACCESS, 0, 0));
            out.push(instruction(AND_CONSTANT, to, 0, 0, mask));
            is_zero(out, to);
        }
    }
}

/// None: it matches everything.
fn tests(rule: &DeviceRule) -> Vec<Test> {
    let mut tests = Vec::new();
    match rule.kind {
        'b' => tests.push(Test::Equals(TYPE, BLOCK)),
        'c' => tests.push(Test::Equals(TYPE, CHARACTER)),
        _ => {}
    }
    let access = [(rule.mknod, MKNOD), (rule.read, READ), (rule.write, WRITE)];
    let mask: u32 = access.iter().filter(|(has, _)| *has).map(|(_, bit)| bit).sum();
    if mask != MKNOD | READ | WRITE {
        // All that is asked for must be in a rule that allows, while one denied kind of access is enough to deny.
        tests.push(if rule.allow { Test::AccessWithin(mask) } else { Test::AccessTouches(mask) });
    }
    tests.extend(rule.major.map(|major| Test::Equals(MAJOR, major)));
    tests.extend(rule.minor.map(|minor| Test::Equals(MINOR, minor)));
    tests
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation)] // registers are cut on purpose
mod tests {
    use super::*;

    /// What the kernel would do with the program, for the instructions it uses.
    fn run(program: &[u64], kind: u32, access: u32, major: u32, minor: u32) -> bool {
        let mut r = [0_u64; 11];
        for one in program {
            let [opcode, registers, offset, _, constant @ ..] = one.to_ne_bytes();
            let (to, from) = ((registers & 15) as usize, (registers >> 4) as usize);
            let constant = u32::from_ne_bytes(constant);
            match opcode {
                LOAD_WORD => r[to] = u64::from([access << 16 | kind, major, minor][usize::from(offset / 4)]),
                MOVE => r[to] = r[from],
                MOVE_CONSTANT => r[to] = i64::from(constant.cast_signed()).cast_unsigned(),
                AND => r[to] &= r[from],
                AND_CONSTANT => r[to] = u64::from(r[to] as u32 & constant),
                OR => r[to] |= r[from],
                XOR_CONSTANT => r[to] = u64::from(r[to] as u32 ^ constant),
                SUBTRACT_CONSTANT => r[to] = r[to].wrapping_sub(u64::from(constant)),
                SHIFT_RIGHT => r[to] = r[to].wrapping_shr(r[from] as u32),
                SHIFT_RIGHT_CONSTANT => r[to] >>= constant,
                EXIT => return r[0] == 1,
                other => panic!("opcode {other:x}"),
            }
        }
        panic!("no end")
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
        assert!(!run(&program, CHARACTER, READ, 1, 32 + 3));
        assert!(!run(&program, CHARACTER, READ, 1, 64 + 3));
        assert!(!run(&program, CHARACTER, READ, 1, u32::MAX));
        assert!(run(&program, CHARACTER, READ | WRITE, 10, 200));
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
    fn a_rule_for_everything_makes_those_before_it_needless() {
        let all = rule(true, 'a', None, None, "rwm");
        let rules = [rule(false, 'b', Some(8), None, "w"), all.clone()];
        assert!(run(&program(&rules), BLOCK, READ | WRITE | MKNOD, 259, 1));
        assert_eq!(program(&rules), program(&[all]));
    }
}

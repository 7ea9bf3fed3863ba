//! The program against the profile's meaning.

use super::*;
use crate::runtime::config::Config;
use crate::runtime::sys::Errno;
use crate::runtime::sys::call::Call;

fn seccomp(text: &str) -> Result<Seccomp> {
    let config = format!(r#"{{"ociVersion":"1.2.0","root":{{"path":"r"}},"linux":{{"seccomp":{text}}}}}"#);
    Ok(Config::parse(&config)?.linux.seccomp.unwrap())
}

fn profile(text: &str) -> Result<Filter> {
    Filter::compile(&seccomp(text)?)
}

fn run(filter: &Filter, arch: u32, number: u32, arguments: [u64; 6]) -> Answer {
    verdict::evaluate(&filter.program, arch, &Call { number, arguments })
}

#[test]
fn what_a_filter_refuses_is_known_before() {
    let refusal = |action: &str, value: u64| {
        let rules = format!(
            r#"{{"names":["execve"],"action":{action},"args":[{{"index":1,"value":{value},"op":"SCMP_CMP_GE"}}]}}"#
        );
        let text = format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{rules}]}}"#);
        let execve = u32::try_from(libc::SYS_execve).unwrap();
        profile(&text).unwrap().refusal(&Call { number: execve, arguments: [1, 1 << 33, 3, 0, 0, 0] })
    };
    for (action, errno) in [
        (r#""SCMP_ACT_ERRNO""#, Some(libc::EPERM)),
        (r#""SCMP_ACT_ERRNO","errnoRet":13"#, Some(libc::EACCES)),
        (r#""SCMP_ACT_ERRNO","errnoRet":0"#, Some(libc::EPERM)),
        (r#""SCMP_ACT_KILL""#, Some(libc::EPERM)),
        (r#""SCMP_ACT_KILL_PROCESS""#, Some(libc::EPERM)),
        (r#""SCMP_ACT_TRAP""#, Some(libc::EPERM)),
        (r#""SCMP_ACT_TRACE""#, Some(libc::ENOSYS)),
        (r#""SCMP_ACT_LOG""#, None),
    ] {
        assert_eq!(refusal(action, 1 << 33), errno.map(Errno), "{action}");
        assert_eq!(refusal(action, 1 + (1 << 33)), None, "{action}");
    }
    // No program of ours: nothing is said to be allowed.
    assert_eq!(run(&Filter { program: Vec::new(), flags: 0 }, 0, 0, NONE), KILL_PROCESS);
}

const X64: u32 = 0xc000_003e;
const X86: u32 = 0x4000_0003;
const NONE: [u64; 6] = [0; 6];

#[test]
#[cfg(target_arch = "x86_64")]
fn each_architecture_has_its_numbers() {
    let filter = profile(
        r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,"architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86","SCMP_ARCH_X32","SCMP_ARCH_MIPS"],
        "syscalls":[{"names":["read","write","nonsense","statx"],"action":"SCMP_ACT_ALLOW"},{"names":["ptrace"],"action":"SCMP_ACT_KILL_PROCESS"}]}"#,
    )
    .unwrap();
    assert_eq!(run(&filter, X64, 0, NONE), ALLOW);
    assert_eq!(run(&filter, X64, 1, NONE), ALLOW);
    assert_eq!(run(&filter, X64, 2, NONE), ERRNO | 38);
    assert_eq!(run(&filter, X64, 101, NONE), KILL_PROCESS);
    assert_eq!(run(&filter, X86, 3, NONE), ALLOW);
    assert_eq!(run(&filter, X86, 0, NONE), ERRNO | 38);
    assert_eq!(run(&filter, X86, 26, NONE), KILL_PROCESS);
    assert_eq!(run(&filter, X64, 0x4000_0000, NONE), ALLOW);
    assert_eq!(run(&filter, X64, 0x4000_0000 + 521, NONE), KILL_PROCESS);
    assert_eq!(run(&filter, 0x1234, 0, NONE), KILL_PROCESS);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn without_x32_its_calls_are_foreign_and_newer_calls_do_not_exist() {
    let filter = profile(
        r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read","statx"],"action":"SCMP_ACT_ALLOW"}]}"#,
    )
    .unwrap();
    assert_eq!(run(&filter, X64, 0x4000_0000, NONE), KILL_PROCESS);
    assert_eq!(run(&filter, X86, 3, NONE), KILL_PROCESS);
    assert_eq!(run(&filter, X64, 331, NONE), ERRNO | 1);
    assert_eq!(run(&filter, X64, 333, NONE), ERRNO | 38);
    let open = profile(
        r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_ERRNO","errnoRet":5}]}"#,
    )
    .unwrap();
    assert_eq!((run(&open, X64, 0, NONE), run(&open, X64, 400, NONE)), (ERRNO | 5, ALLOW));
}

#[test]
#[cfg(target_arch = "x86_64")]
fn every_operator_at_its_edges() {
    let big = 0x1_0000_0005_u64;
    let values = [0, 4, 5, 6, big - 1, big, big + 1, 0x2_0000_0000, u64::MAX];
    type Holds = fn(u64, u64) -> bool;
    let cases: [(&str, Holds); 6] = [
        ("NE", |a, b| a != b),
        ("LT", |a, b| a < b),
        ("LE", |a, b| a <= b),
        ("EQ", |a, b| a == b),
        ("GE", |a, b| a >= b),
        ("GT", |a, b| a > b),
    ];
    for (operator, holds) in cases {
        for value in [0, 5, big, u64::MAX] {
            let filter = profile(&format!(
                r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{{"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{{"index":2,"value":{value},"op":"SCMP_CMP_{operator}"}}]}}]}}"#
            ))
            .unwrap();
            for given in values {
                let answer = run(&filter, X64, 0, [0, 0, given, 0, 0, 0]);
                assert_eq!(answer == ALLOW, holds(given, value), "{given} {operator} {value}");
            }
        }
    }
    let masked = profile(
        r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["clone"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":2114060288,"valueTwo":0,"op":"SCMP_CMP_MASKED_EQ"}]}]}"#,
    )
    .unwrap();
    assert_eq!(run(&masked, X64, 56, [0x11, 0, 0, 0, 0, 0]), ALLOW);
    assert_eq!(run(&masked, X64, 56, [0x1000_0000, 0, 0, 0, 0, 0]), ERRNO | 1);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn rules_of_one_call_are_tried_in_order_and_conditions_joined() {
    let filter = profile(
        r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
        {"names":["socket"],"action":"SCMP_ACT_ERRNO","errnoRet":22,"args":[{"index":0,"value":16,"op":"SCMP_CMP_EQ"},{"index":2,"value":9,"op":"SCMP_CMP_EQ"}]},
        {"names":["socket"],"action":"SCMP_ACT_ALLOW"},
        {"names":["personality"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":0,"op":"SCMP_CMP_EQ"},{"index":0,"value":8,"op":"SCMP_CMP_EQ"}]}]}"#,
    )
    .unwrap();
    assert_eq!(run(&filter, X64, 41, [16, 0, 9, 0, 0, 0]), ERRNO | 22);
    assert_eq!(run(&filter, X64, 41, [16, 0, 8, 0, 0, 0]), ALLOW);
    assert_eq!(run(&filter, X64, 135, [8, 0, 0, 0, 0, 0]), ALLOW);
    assert_eq!(run(&filter, X64, 135, [9, 0, 0, 0, 0, 0]), ERRNO | 1);
}

#[test]
fn what_cannot_be_honoured_is_refused() {
    for (text, words) in [
        (r#"{"defaultAction":"SCMP_ACT_MAYBE"}"#, "is not an action"),
        (r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#, "linux.seccomp.listenerPath: "),
        (r#"{"defaultAction":"SCMP_ACT_ALLOW","defaultErrnoRet":1}"#, "takes no errno"),
        (r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":5000}"#, "its errno is larger than 4095"),
        (r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":["X"]}"#, "linux.seccomp.flags"),
        (r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["PDP11"]}"#, "linux.seccomp.architectures"),
        (r#"{"defaultAction":"SCMP_ACT_ALLOW","listenerMetadata":"x"}"#, "linux.seccomp.listenerMetadata"),
        (r#"{"defaultAction":"SCMP_ACT_NOTIFY","listenerPath":"/x"}"#, "SCMP_ACT_NOTIFY cannot be used for sendmsg"),
    ] {
        let error = profile(text).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn a_filter_is_written_and_read_back() {
    let filter = profile(r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_LOG"]}"#).unwrap();
    assert_eq!(Filter::from_bytes(&filter.to_bytes()), Some(filter));
    assert_eq!(Filter::from_bytes(&[]), None);
}

#[test]
fn each_flag_is_the_kernels() {
    let flags = |names: &str, rest: &str| {
        profile(&format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW","flags":[{names}]{rest}}}"#)).unwrap().flags
    };
    assert_eq!(flags("", ""), 0);
    assert_eq!(profile(r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#).unwrap().flags, 4);
    assert_eq!(flags(r#""SECCOMP_FILTER_FLAG_LOG""#, ""), 2);
    assert_eq!(flags(r#""SECCOMP_FILTER_FLAG_SPEC_ALLOW""#, ""), 4);
    assert_eq!(flags(r#""SECCOMP_FILTER_FLAG_TSYNC""#, ""), 1);
    // Nobody waits for a listener that is not there.
    let killable = r#""SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV""#;
    assert_eq!(flags(killable, ""), 0);
    let notify = r#","listenerPath":"/x","syscalls":[{"names":["read"],"action":"SCMP_ACT_NOTIFY"}]"#;
    assert_eq!(flags(killable, notify), 32 | 8);
}

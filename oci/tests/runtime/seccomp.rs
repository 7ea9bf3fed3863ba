//! What a compiled profile means, judged by the kernel: each operator around its edges, each action by what becomes of the caller,
//! and calls in another architecture's way.

use serde_json::{Value, json};

use crate::support::{Container, Said};

/// Takes any numbers and does nothing.
const ASKED: i64 = libc::SYS_getpriority;
const REFUSED: &str = "77";
/// What `run` gives of a program the kernel has ended for a forbidden call.
const ENDED: i32 = 128 + libc::SIGSYS;

fn under(profile: &Value, verbs: &[&str]) -> Said {
    Container::new(verbs).set("/linux/seccomp", profile.clone()).run()
}

/// What an operator says of an argument with its two values.
type Means = fn(u64, u64, u64) -> bool;

#[test]
fn every_operator_means_on_64_bits_what_its_name_says() {
    // Halves that are equal while the others differ, both signs' edges, and the ends.
    let edges = [0, 5, 0x8000_0000, 0x1_0000_0005, 1 << 63, u64::MAX];
    let all: [(&str, Means); 6] = [
        ("SCMP_CMP_NE", |is, value, _| is != value),
        ("SCMP_CMP_LT", |is, value, _| is < value),
        ("SCMP_CMP_LE", |is, value, _| is <= value),
        ("SCMP_CMP_EQ", |is, value, _| is == value),
        ("SCMP_CMP_GE", |is, value, _| is >= value),
        ("SCMP_CMP_GT", |is, value, _| is > value),
    ];
    let mut operators: Vec<(&str, u64, u64, Means)> =
        all.iter().flat_map(|(name, means)| edges.map(|edge| (*name, edge, 0, *means))).collect();
    for (mask, wanted) in [(0xff00_0000_00f0, 0x1200_0000_0030), (u64::MAX, 1 << 63), (0xf0, 0), (0, 0)] {
        operators.push(("SCMP_CMP_MASKED_EQ", mask, wanted, |is, mask, wanted| is & mask == wanted));
    }
    let asked = ASKED.to_string();
    for (name, value, two, means) in operators {
        let near = [value, two].into_iter().flat_map(|at| [at.wrapping_sub(1), at, at.wrapping_add(1)]);
        let halves = [value ^ 1 << 32, value ^ 1 << 63, value & 0xffff_ffff, value >> 32 << 32];
        let masked = [0x1200_0000_0030, 0x12ff_0000_0030, 0x3412_0000_013f, 0x1200_0000_0020, 0x1300_0000_0030];
        let arguments: Vec<u64> = near.chain(halves).chain(masked).collect();
        // The same in one place and in another.
        for index in [0, 1] {
            let numbers: Vec<String> = arguments.iter().map(|is| is.cast_signed().to_string()).collect();
            let mut verbs = Vec::new();
            for number in &numbers {
                verbs.extend(["syscall", &asked]);
                verbs.extend(if index == 0 { [number.as_str(), "9"] } else { ["9", number] });
            }
            let condition = json!({"index": index, "value": value, "valueTwo": two, "op": name});
            let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                {"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77, "args": [condition]}]});
            let said = under(&profile, &verbs).ok();
            let answers: Vec<&str> = said.out.lines().map(|line| line.rsplit(' ').next().unwrap()).collect();
            assert_eq!(answers.len(), arguments.len(), "{said:?}");
            for (is, answer) in arguments.iter().zip(answers) {
                let refused = means(*is, value, two);
                assert_eq!(answer == REFUSED, refused, "{is:#x} {name} {value:#x} {two:#x}: {answer}");
            }
        }
    }
}

#[test]
fn every_action_does_to_the_caller_what_its_name_says() {
    let asked = ASKED.to_string();
    // By the program's first thread, by a second one, and with a handler for the signal.
    let kinds =
        [&["syscall", &asked, "0", "0"][..], &["beside", &asked], &["handle", "31", "syscall", &asked, "0", "0"]];
    let ends = |profile: Value| {
        kinds.map(|verbs| {
            let said = under(&profile, &[verbs, &["say", "on"]].concat());
            assert!(matches!(said.status, 0 | ENDED), "{profile}: {said:?}");
            assert_eq!(said.status == 0, said.out.contains("on\n"), "{profile}: {said:?}");
            said.out.replace('\n', ", ") + &said.status.to_string()
        })
    };
    let at = |action: &str, errno: Option<u32>| {
        let rule = json!({"names": ["getpriority"], "action": action, "errnoRet": errno});
        ends(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}))
    };
    let answered = |errno: u32| {
        let call = format!("syscall {asked}: {errno}, ");
        [format!("{call}on, 0"), format!("beside: back {errno}, beside: over, on, 0"), format!("{call}on, 0")]
    };
    let ended = ENDED.to_string();
    assert_eq!(at("SCMP_ACT_ALLOW", None), answered(0));
    // Told to whoever reads the kernel's log, and let through.
    assert_eq!(at("SCMP_ACT_LOG", None), answered(0));
    assert_eq!(at("SCMP_ACT_ERRNO", None), answered(1), "EPERM is the default");
    assert_eq!(at("SCMP_ACT_ERRNO", Some(4095)), answered(4095));
    // Nobody traces: then there is no such call (seccomp(2)).
    assert_eq!(at("SCMP_ACT_TRACE", None), answered(38));
    assert_eq!(at("SCMP_ACT_KILL_PROCESS", None), [ended.clone(), ended.clone(), ended.clone()]);
    for action in ["SCMP_ACT_KILL_THREAD", "SCMP_ACT_KILL"] {
        assert_eq!(at(action, None), [ended.clone(), "beside: over, on, 0".to_owned(), ended.clone()], "{action}");
    }
    // A signal, which a program may handle.
    let handled = at("SCMP_ACT_TRAP", None);
    assert_eq!(handled[..2], [ended.clone(), ended]);
    assert!(handled[2].starts_with("handled 31, ") && handled[2].ends_with("on, 0"), "{handled:?}");
}

#[test]
#[cfg(target_arch = "x86_64")] // has three ways of calling
fn a_call_in_another_architectures_way_is_refused_by_a_profile_that_does_not_name_it() {
    let getpid = libc::SYS_getpid;
    let x32 = (getpid | 0x4000_0000).to_string();
    let profile = |architectures: &[&str]| {
        json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": architectures, "syscalls": [
            {"names": ["getppid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77}]})
    };
    // Numbers of x86: getpid, getppid.
    let (own, parents) = ("20", "64");
    let without = Container::new(&["call32", own]).run();
    assert_eq!(
        without.out, "call32 20: 1\n",
        "this test needs a kernel with 32-bit calls (CONFIG_IA32_EMULATION): {without:?}"
    );
    for architectures in [&["SCMP_ARCH_X86_64"][..], &["SCMP_ARCH_X86_64", "SCMP_ARCH_X32"], &[]] {
        let said = under(&profile(architectures), &["say", "up", "call32", own, "say", "on"]);
        assert_eq!((said.status, said.out.as_str()), (ENDED, "up\n"), "{architectures:?}: {said:?}");
    }
    let said = under(&profile(&["SCMP_ARCH_X86_64"]), &["say", "up", "syscall", &x32, "0", "0", "say", "on"]);
    assert_eq!((said.status, said.out.as_str()), (ENDED, "up\n"), "{said:?}");
    // Named, it has the profile's answers, by its own numbers.
    let said = under(&profile(&["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]), &["call32", own, "call32", parents]).ok();
    said.has("call32 20: 1").has("call32 64: -77");
}

//! A seccomp profile of the form and size of Podman's default, as it is for a container that has CAP_AUDIT_WRITE, which the bundle's
//! has: everything allowed that an ordinary program uses, a few calls by their arguments, what takes a capability refused with EPERM, and
//! the rest with ENOSYS. A rule is one call with one answer: 434 of them.

use serde_json::{Value, json};

/// Every name the runtime knows, a line each with its numbers.
const NAMES: &str = include_str!("../../../oci/src/runtime/seccomp/syscalls.txt");

/// What no container needs without a capability for it, or what is allowed with certain arguments only.
const NOT_ALLOWED: &str = "acct add_key bpf clock_adjtime clock_settime create_module delete_module finit_module \
    fsconfig fsmount fsopen fspick get_kernel_syms get_mempolicy init_module ioperm iopl kcmp kexec_file_load \
    kexec_load keyctl lookup_dcookie mbind migrate_pages mount mount_setattr move_mount move_pages name_to_handle_at \
    nfsservctl open_by_handle_at open_tree perf_event_open pivot_root query_module quotactl quotactl_fd reboot \
    request_key set_mempolicy setns settimeofday stime swapoff swapon sysfs _sysctl umount umount2 unshare uselib \
    userfaultfd ustat vm86 vm86old personality socket clone clone3";

/// Of those, what is refused by name.
const FORBIDDEN: [&str; 17] = [
    "acct",
    "bpf",
    "clock_settime",
    "delete_module",
    "finit_module",
    "init_module",
    "ioperm",
    "iopl",
    "kcmp",
    "kexec_file_load",
    "kexec_load",
    "lookup_dcookie",
    "open_by_handle_at",
    "perf_event_open",
    "quotactl",
    "reboot",
    "settimeofday",
];

pub(super) fn default() -> Value {
    let refused: Vec<&str> = NOT_ALLOWED.split_whitespace().collect();
    let names: Vec<&str> = NAMES.lines().filter_map(|line| line.split(' ').next()).collect();
    let names: Vec<&&str> = names.iter().filter(|name| !refused.contains(*name)).collect();
    let when = |name: &str, value: u64, two: u64, operator: &str| {
        let argument = json!({"index": 0, "value": value, "valueTwo": two, "op": operator});
        json!({"names": [name], "action": "SCMP_ACT_ALLOW", "args": [argument]})
    };
    let mut rules = vec![json!({"names": names, "action": "SCMP_ACT_ALLOW"})];
    for personality in [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff] {
        rules.push(when("personality", personality, 0, "SCMP_CMP_EQ"));
    }
    // AF_VSOCK would reach the hypervisor; CLONE_NEW* makes namespaces.
    rules.push(when("socket", 40, 0, "SCMP_CMP_NE"));
    rules.push(when("clone", 0x7e02_0000, 0, "SCMP_CMP_MASKED_EQ"));
    rules.push(json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}));
    rules.push(json!({"names": FORBIDDEN, "action": "SCMP_ACT_ERRNO", "errnoRet": 1}));
    json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "syscalls": rules,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_of_the_size_of_podmans() {
        let profile = default();
        let rules = profile["syscalls"].as_array().unwrap();
        let names = |rule: &Value| rule["names"].as_array().unwrap().len();
        assert_eq!(rules.iter().map(names).sum::<usize>(), 434);
        assert!(FORBIDDEN.iter().all(|name| NOT_ALLOWED.split_whitespace().any(|one| one == *name)));
    }
}

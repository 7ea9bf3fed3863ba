//! Seccomp profiles under which the program cannot be started: each is said to be one, whatever else it forbids.

use serde_json::{Value, json};

use crate::support::Container;

/// Everything is refused so, execve by an argument that it has.
fn profile(action: &str) -> Value {
    json!({"defaultAction": action, "syscalls": [{"names": ["execve"], "action": "SCMP_ACT_ALLOW", "args": [
        {"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}]}]})
}

#[test]
fn a_program_that_may_not_be_started_is_an_error_of_start() {
    for (action, why) in [
        ("SCMP_ACT_ERRNO", "operation not permitted"),
        ("SCMP_ACT_TRACE", "function not implemented"),
        ("SCMP_ACT_TRAP", "operation not permitted"),
        ("SCMP_ACT_KILL", "operation not permitted"),
        ("SCMP_ACT_KILL_PROCESS", "operation not permitted"),
    ] {
        let c = Container::new(&["say", "up"]).set("/linux/seccomp", profile(action));
        let c = c.set("/process/noNewPrivileges", json!(true));
        let words = format!("linux.seccomp forbids execve: exec /bin/inspect: {why}");
        let said = c.run().refused(&words);
        assert!(!said.out.contains("up"), "{said:?}");
        c.assert_gone();
        c.create().ok();
        c.start().refused(&words);
        c.wait_for_status("stopped");
        c.oci(&["delete", &c.id]).ok();
        c.assert_gone();
    }
}

#[test]
fn capabilities_that_may_not_be_given_up_are_an_error_of_start_and_of_exec() {
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["capset", "sendmsg", "exit_group"], "action": "SCMP_ACT_ERRNO"}]});
    let c = Container::new(&["say", "up", "sleep"]).set("/linux/seccomp", profile);
    let c = c.set("/process/noNewPrivileges", json!(false));
    let words = "linux.seccomp forbids capset: set process.capabilities: operation not permitted";
    c.run().refused(words);
    let c = c.set("/process/noNewPrivileges", json!(true));
    c.create().ok();
    c.start().ok();
    c.wait_for_output("up");
    let process = json!({"args": ["/bin/inspect", "say", "in"], "cwd": "/", "user": {"uid": 0, "gid": 0}});
    std::fs::write(c.path("process.json"), process.to_string()).unwrap();
    // Behind the word that it is seen with a right more than it will have.
    let said = c.oci(&["exec", "--process", "process.json", &c.id]);
    assert!(said.status == 255 && said.err.contains("CAP_SYS_ADMIN") && said.err.contains(words), "{said:?}");
    c.oci(&["delete", "--force", &c.id]).ok();
    c.assert_gone();
}

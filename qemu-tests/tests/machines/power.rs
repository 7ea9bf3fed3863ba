//! Off and on again, in order.

use crate::support::{enabled, machine, probe_unit, state};

/// Ignores every request to end.
fn stubborn() -> String {
    enabled(&probe_unit("ignore-term", "StopTimeout=2"))
}

#[test]
fn power_off_is_orderly_though_a_container_ignores_it() {
    let machine = machine("poweroff").unit("stubborn.container", &stubborn()).start().unwrap();
    machine.settled().unwrap();
    machine.wait_for_log("stubborn", "ignoring").unwrap();
    // Killed as a whole by its cgroup, it can be started again.
    let again = machine.post("/v1/units/stubborn/restart").unwrap();
    assert_eq!((state(&again), again["sub_state"].as_str()), ("active", Some("running")), "{again:#}");
    machine.post("/v1/system/poweroff").unwrap();
    let end = machine.wait_end().unwrap();
    assert_eq!(end.reason, "guest-shutdown", "{}", machine.console().tail());
    let console = machine.console().text();
    assert!(!console.contains("Kernel panic"), "{console}");
}

#[test]
fn reboot_is_orderly_and_the_machine_comes_up_again() {
    let machine = machine("reboot").may_reboot().unit("stubborn.container", &stubborn()).start().unwrap();
    machine.settled().unwrap();
    machine.wait_for_console("demo").unwrap();
    let output = machine.orlop(&["reboot"]).unwrap();
    assert!(output.status.success(), "{output:?}");
    machine.wait_event("RESET").unwrap();
    machine.wait_for_console("root ").unwrap();
    let units = machine.settled().unwrap();
    assert!(units.iter().any(|unit| unit["name"] == "stubborn" && state(unit) == "active"), "{units:#?}");
}

#[test]
fn ctrl_alt_del_is_an_orderly_reboot() {
    let machine = machine("keys").start().unwrap();
    machine.settled().unwrap();
    machine.qmp().execute("send-key", &ctrl_alt_del()).unwrap();
    // The machine may not reboot here, so QEMU ends.
    let end = machine.wait_end().unwrap();
    assert_eq!(end.reason, "guest-reset", "{}", machine.console().tail());
    let console = machine.console().text();
    assert!(console.to_lowercase().contains("reboot"), "nothing was said before the reset:\n{console}");
}

fn ctrl_alt_del() -> serde_json::Value {
    let key = |name: &str| serde_json::json!({"type": "qcode", "data": name});
    serde_json::json!({"keys": [key("ctrl"), key("alt"), key("delete")]})
}

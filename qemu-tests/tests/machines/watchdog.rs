//! When nothing in the machine can help any more: it starts again by itself, and the hardware sees to that.

use crate::support::{enabled, machine, probe_unit};

const CGROUPS: &str = "Volume=/sys/fs/cgroup:/cg";

#[test]
fn a_supervisor_that_always_dies_ends_in_the_rescue_screen_and_then_in_a_reboot() {
    let machine = machine("rescue")
        .append("orlop.rescue_timeout=20")
        .unit("web.container", &enabled(&probe_unit("serve 8081", "")))
        .unit("kill.container", &probe_unit("keep-killing /cg/orlop", CGROUPS))
        .forward(8081)
        .start()
        .unwrap();
    machine.settled().unwrap();
    let _ = machine.post("/v1/units/kill/start?no_block=true");
    machine.wait_for_console("Orlop: rescue").unwrap();
    // Containers run on while a person may be thinking.
    assert_eq!(machine.http(8081, "/").unwrap().text(), "ok");
    machine.wait_for_console("nobody pressed a key").unwrap();
    assert_eq!(machine.wait_end().unwrap().reason, "guest-reset");
}

#[test]
fn the_rescue_screen_can_be_answered_on_the_serial_console() {
    let machine =
        machine("answered").unit("kill.container", &probe_unit("keep-killing /cg/orlop", CGROUPS)).start().unwrap();
    machine.settled().unwrap();
    let _ = machine.post("/v1/units/kill/start?no_block=true");
    machine.wait_for_console("Type a choice").unwrap();
    machine.console().type_keys("nonsense\n").unwrap();
    machine.wait_for_console("Not one of the choices").unwrap();
    machine.console().type_keys("p\n").unwrap();
    assert_eq!(machine.wait_end().unwrap().reason, "guest-shutdown");
}

#[test]
fn the_watchdog_fires_when_supervisor_and_init_are_stopped_for_good() {
    let machine = machine("watchdog")
        .append("orlop.watchdog=6")
        .unit("stop.container", &probe_unit("freeze 600 /cg/orlop /cg/init", CGROUPS))
        .start()
        .unwrap();
    machine.settled().unwrap();
    let _ = machine.post("/v1/units/stop/start?no_block=true");
    let event = machine.wait_event("WATCHDOG").unwrap();
    assert_eq!(event.data["action"], "reset");
    assert_eq!(machine.wait_end().unwrap().reason, "guest-reset");
}

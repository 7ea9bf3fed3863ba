//! When nothing in the machine can help any more: it starts again by itself, and the hardware sees to that.

use crate::support::{enabled, machine, probe_unit};
use std::time::Duration;

const CGROUPS: &str = "Volume=/sys/fs/cgroup:/cg";

/// In order, and not by the watchdog: that is for a reboot that does not come to its end.
#[test]
fn a_supervisor_that_always_dies_ends_in_the_rescue_screen_and_then_in_a_reboot() {
    let machine = machine("rescue")
        .append("orlop.rescue_timeout=20 orlop.watchdog=30")
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
    machine.wait_for_console("shutdown  done: reboot").unwrap();
    assert_eq!(machine.wait_end().unwrap().reason, "guest-reset");
    let events: Vec<_> = machine.qmp().events().try_iter().map(|event| event.name).collect();
    assert!(!events.iter().any(|name| name == "WATCHDOG"), "{events:?}");
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

#[test]
fn a_halted_machine_is_left_alone_by_the_watchdog() {
    let machine = machine("halt").append("orlop.watchdog=5").start().unwrap();
    machine.settled().unwrap();
    machine.post("/v1/system/halt").unwrap();
    machine.wait_for_console("System halted").unwrap();
    // Armed, it would fire after 5 s.
    let fired = machine.qmp().wait_event("WATCHDOG", Duration::from_secs(10), |_| true);
    assert!(fired.is_err(), "{}", machine.console().tail());
}

/// The state disk answers nothing from the moment the root is mounted: PID 1 waits in the kernel, and nobody feeds.
#[test]
fn a_disk_that_hangs_in_the_boot_is_no_silent_hang() {
    let machine = machine("slow").append("orlop.watchdog=5").start().unwrap();
    let one_a_while = serde_json::json!({
        "device": "disk1", "bps": 1, "bps_rd": 0, "bps_wr": 0, "iops": 0, "iops_rd": 0, "iops_wr": 0,
    });
    machine.wait_for_console("init ").unwrap();
    machine.qmp().execute("block_set_io_throttle", &one_a_while).unwrap();
    let event = machine.wait_event("WATCHDOG").unwrap();
    assert_eq!(event.data["action"], "reset");
    assert!(!machine.console().text().contains("supervise"), "{}", machine.console().tail());
}

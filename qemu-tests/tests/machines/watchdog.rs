//! When nothing in the machine can help any more, the hardware does.

use crate::support::{enabled, machine, probe_unit};

#[test]
fn the_watchdog_fires_when_the_supervisor_is_stopped_for_good() {
    // Every new supervisor is killed as well: PID 1 gives up, shows its rescue screen, waits for a key, and then no
    // longer feeds the watchdog.
    let machine = machine("watchdog")
        .append("orlop.rescue_timeout=2")
        .unit("web.container", &enabled(&probe_unit("serve 8081", "")))
        .unit("kill.container", &probe_unit("keep-killing /cg/orlop", "Volume=/sys/fs/cgroup:/cg"))
        .forward(8081)
        .start()
        .unwrap();
    machine.settled().unwrap();
    let _ = machine.post("/v1/units/kill/start?no_block=true");
    machine.wait_for_console("rescue").unwrap();
    // Containers run on while a person may be thinking.
    assert_eq!(machine.http(8081, "/").unwrap().text(), "ok");
    let event = machine.wait_event("WATCHDOG").unwrap();
    assert_eq!(event.data["action"], "reset");
    assert_eq!(machine.wait_end().unwrap().reason, "guest-reset");
}

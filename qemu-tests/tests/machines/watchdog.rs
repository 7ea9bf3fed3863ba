//! When nothing in the machine can help any more: it starts again by itself, and the hardware sees to that.

use crate::support::{enabled, machine, probe_unit};
use qemu_tests::Machine;
use serde_json::json;
use std::net::TcpStream;
use std::time::Duration;

const CGROUPS: &str = "Volume=/sys/fs/cgroup:/cg";

/// A clock that counts instructions jumps to the next timer while PID 1 waits for the host's disk: from tick to tick, and not over all the
/// time that the watchdog has.
const TICKS: &str = "nohz=off";

fn is_fired(machine: &Machine) -> bool {
    machine.qmp().events().try_iter().any(|event| event.name == "WATCHDOG")
}

/// In order, and not by the watchdog: that is for a reboot that does not come to its end. So it has more time than any of it takes.
#[test]
fn a_supervisor_that_always_dies_ends_in_the_rescue_screen_and_a_reboot_from_there_is_orderly() {
    let machine = machine("rescue")
        .append("orlop.rescue_timeout=0 orlop.watchdog=200")
        .unit("web.container", &enabled(&probe_unit("serve 8081", "")))
        .unit("stubborn.container", &enabled(&probe_unit("ignore-term", "")))
        .unit("kill.container", &probe_unit("keep-killing /cg/orlop", CGROUPS))
        .forward(8081)
        .start()
        .unwrap();
    machine.settled().unwrap();
    let _ = machine.post("/v1/units/kill/start?no_block=true");
    machine.wait_for_console("Type a choice").unwrap();
    // Containers run on while a person is thinking.
    assert_eq!(machine.http(8081, "/").unwrap().text(), "ok");
    machine.console().type_keys("b\n").unwrap();
    // There is no supervisor to stop it any more.
    let killed = machine.wait_for_console("what is left is killed: ").unwrap();
    assert!(killed.contains("stubborn"), "{killed}");
    machine.wait_for_console("shutdown  done: reboot").unwrap();
    assert_eq!(machine.wait_end().unwrap().reason, "guest-reset");
    assert!(!is_fired(&machine), "{}", machine.console().tail());
}

/// Nothing but the supervisor is stopped: PID 1 lives, feeds the watchdog, and ends the wait. The guest's clock jumps over
/// what it only waits for.
#[test]
fn a_supervisor_that_is_stopped_again_and_again_ends_in_an_orderly_reboot() {
    let machine = machine("stopped")
        .counting_instructions()
        .append("orlop.rescue_timeout=20 orlop.watchdog=60")
        .append(TICKS)
        .unit("freeze.container", &probe_unit("keep-freezing /cg/orlop", CGROUPS))
        .start()
        .unwrap();
    machine.settled().unwrap();
    let _ = machine.post("/v1/units/freeze/start?no_block=true");
    for _ in 0..5 {
        machine.wait_for_console("killing the supervisor: it does not answer its ping").unwrap();
    }
    machine.wait_for_console("Orlop: rescue").unwrap();
    machine.wait_for_console("nobody pressed a key").unwrap();
    machine.wait_for_console("shutdown  done: reboot").unwrap();
    assert_eq!(machine.wait_end().unwrap().reason, "guest-reset");
    assert!(!is_fired(&machine), "{}", machine.console().tail());
}

/// The supervisor is gone, the disk answers nothing, nobody is there: the orderly end goes on step by step, and has no time for
/// that. PID 1 lives, and no longer feeds.
#[test]
fn the_watchdog_ends_an_orderly_end_that_takes_too_long() {
    let machine = machine("hung")
        .counting_instructions()
        // As many ticks as the guest is busy with for some seconds.
        .append("orlop.rescue_timeout=300 orlop.watchdog=10")
        .append(TICKS)
        .unit("freeze.container", &probe_unit("keep-freezing /cg/orlop", CGROUPS))
        .start()
        .unwrap();
    machine.settled().unwrap();
    let _ = machine.post("/v1/units/freeze/start?no_block=true");
    machine.wait_for_console("Type a choice").unwrap();
    let one_byte_a_second =
        json!({"device": "disk1", "bps": 1, "bps_rd": 0, "bps_wr": 0, "iops": 0, "iops_rd": 0, "iops_wr": 0});
    machine.qmp().execute("block_set_io_throttle", &one_byte_a_second).unwrap();
    machine.wait_for_console("nobody pressed a key").unwrap();
    machine.wait_for_console("Unmount { round: 1 } hangs, going on without it").unwrap();
    machine.wait_for_console("the end of the machine takes too long: not fed any more").unwrap();
    assert_eq!(machine.wait_event("WATCHDOG").unwrap().data["action"], "reset");
    assert!(!machine.console().text().contains("done: reboot"), "{}", machine.console().tail());
}

/// Init's own console is the screen: what is shown and typed on the serial line is there besides. What the screen says, and what
/// was chosen, stays in the kernel's log.
#[test]
fn the_rescue_screen_is_on_the_serial_console_too_and_logged() {
    let machine = machine("answered")
        .append("console=tty0")
        // When asked to, so that no supervisor dies in the middle of starting it and the next one starts it again.
        .unit("kill.container", &enabled(&probe_unit("on-request 9001 keep-killing /cg/orlop 5", CGROUPS)))
        .forward(9001)
        .start()
        .unwrap();
    machine.settled().unwrap();
    machine.wait_for_log("kill", "waiting on").unwrap();
    drop(TcpStream::connect(machine.forwarded(9001).unwrap()).unwrap());
    machine.wait_for_console("Type a choice").unwrap();
    let serial = machine.console().text();
    let (before, screen) = serial.split_once("Orlop: rescue").unwrap();
    assert!(!before.contains("supervise"), "this is init's console: {before}");
    const REASON: &str = "the supervisor ended 5 times in a row; the last time: killed by signal 9 SIGKILL";
    for said in [&format!("What failed:  {REASON}"), "Last messages of the kernel", "power off"] {
        assert!(screen.contains(said), "no `{said}` in {screen}");
    }
    machine.console().type_keys("nonsense\n").unwrap();
    machine.wait_for_console("Not one of the choices").unwrap();
    machine.console().type_keys("r\n").unwrap();

    // PID 1's part of the kernel's log, kept by the supervisor that is there again.
    for logged in [REASON, "chosen: try again"] {
        machine.wait_for_log("@init", logged).unwrap();
    }
    machine.post("/v1/system/poweroff").unwrap();
    assert_eq!(machine.wait_end().unwrap().reason, "guest-shutdown");
}

/// The clock of a guest that counts instructions soon comes to the end of the device's time, and a starved host stops both.
#[test]
fn the_watchdog_fires_when_supervisor_and_init_are_stopped_for_good() {
    let machine = machine("watchdog")
        .counting_instructions()
        .append("orlop.watchdog=200")
        .append(TICKS)
        .unit("stop.container", &probe_unit("freeze 100000 /cg/orlop /cg/init", CGROUPS))
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
    // The kernel's driver would do the same by itself.
    let words = "orlop.watchdog=200 watchdog.stop_on_reboot=0";
    let machine = machine("halt").counting_instructions().append(words).append(TICKS).start().unwrap();
    machine.settled().unwrap();
    machine.post("/v1/system/halt").unwrap();
    machine.wait_for_console("System halted").unwrap();
    // Armed, it would fire at once: nothing else is left for which the guest's clock could stop before.
    let fired = machine.qmp().wait_event("WATCHDOG", Duration::from_secs(10), |_| true);
    assert!(fired.is_err(), "{}", machine.console().tail());
}

/// The state disk answers the kernel's look for partitions and nothing more: PID 1 waits in the kernel, and nobody feeds.
#[test]
fn a_disk_that_hangs_in_the_boot_is_no_silent_hang() {
    let machine = machine("slow")
        .state_throttling("throttling.bps-total=1,throttling.bps-total-max=65536")
        .append("orlop.watchdog=5")
        .start()
        .unwrap();
    let event = machine.wait_event("WATCHDOG").unwrap();
    assert_eq!(event.data["action"], "reset");
    assert!(!machine.console().text().contains("supervise"), "{}", machine.console().tail());
}

//! Off and on again, in order.

use crate::support::{enabled, machine, probe_unit, run_probe, state};
use initramfs::requirements::{MKFS_XFS, Tool, ensure};
use qemu_tests::{Artefacts, Machine};
use std::fs::File;
use std::path::PathBuf;
use std::process::Command;

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
    let output = machine.orlop(&["poweroff"]).unwrap();
    assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
    let end = machine.wait_end().unwrap();
    assert_eq!(end.reason, "guest-shutdown", "{}", machine.console().tail());
    expect_order(&machine.console().text(), "power off");
}

/// The whole story of an orderly end, with nothing left mounted.
fn expect_order(console: &str, kind: &str) {
    let mut rest = console;
    for said in ["stopping all units", "every process is asked to end", "unmounting", &format!("done: {kind}")] {
        rest = rest.split_once(said).unwrap_or_else(|| panic!("no `{said}` where it belongs in:\n{console}")).1;
    }
    for wrong in ["Kernel panic", "could not be unmounted", "not stopped", "busy"] {
        assert!(!console.contains(wrong), "`{wrong}` in:\n{console}");
    }
}

#[test]
fn reboot_is_orderly_and_the_machine_comes_up_again() {
    let machine = machine("reboot").may_reboot().unit("stubborn.container", &stubborn()).start().unwrap();
    machine.settled().unwrap();
    machine.wait_for_console("demo").unwrap();
    let output = machine.orlop(&["reboot", "--json"]).unwrap();
    assert!(output.status.success(), "{output:?}");
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["requested"], "reboot");
    machine.wait_for_console("done: reboot").unwrap();
    machine.wait_event("RESET").unwrap();
    expect_order(&machine.console().text(), "reboot");
    machine.wait_for_console("root ").unwrap();
    let units = machine.settled().unwrap();
    assert!(units.iter().any(|unit| unit["name"] == "stubborn" && state(unit) == "active"), "{units:#?}");
}

/// Two file systems, each on device mapper on a loop device over a file, the second file in the first file system, the
/// first in the state; the last write is never synced by who wrote it. In order, each is unmounted, and its devices
/// taken away, before the one that holds it.
#[test]
fn file_systems_in_file_systems_are_taken_apart_in_order() {
    const MKFS_EXT4: Tool = Tool { program: "mkfs.ext4", package: "e2fsprogs" };
    ensure(&[MKFS_EXT4, MKFS_XFS], &mut |line| eprintln!("{line}")).unwrap();
    let folder = tempfile::tempdir_in(&Artefacts::shared().out).unwrap();
    for (name, bytes) in [("outer", 16 << 20), ("inner", 4 << 20)] {
        let image = folder.path().join(name);
        File::create(&image).unwrap().set_len(bytes).unwrap();
        let output = Command::new("mkfs.ext4").arg("-q").arg(&image).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    let layout = folder.path().join("image");
    Artefacts::shared().pack_probe(&[&folder.path().join("outer"), &folder.path().join("inner")], &layout).unwrap();
    let disk = folder.path().join("state.raw");
    File::create(&disk).unwrap().set_len(2 << 30).unwrap();
    let stack = probe_unit(
        "stack /host-proc /var/stack /outer /inner",
        "Volume=/proc:/host-proc\nAddCapability=SYS_ADMIN SYS_PTRACE SYS_MODULE",
    );
    let builder = Machine::builder(Artefacts::shared(), "stack").append("orlop.debug");
    let builder = builder.image(&layout).state_file(&disk).unit("stack.container", &enabled(&stack));

    for (count, word) in [(1, "reboot"), (2, "poweroff")] {
        let machine = builder.clone().start().unwrap();
        machine.wait_for_log("stack", &format!("stack {count}")).unwrap();
        let log = machine.log("stack").unwrap();
        let storeys: Vec<&String> = log.iter().filter(|line| line.starts_with("storey")).collect();
        assert_eq!(storeys[storeys.len() - 2..], ["storey 0 in order", "storey 1 in order"], "{log:#?}");
        machine.post(&format!("/v1/system/{word}")).unwrap();
        machine.wait_end().unwrap();
        let console = machine.console().text();
        // The loop device below a mapping goes with it.
        for device in ["dm-1", "loop1", "dm-0"] {
            assert!(console.contains(&format!("detached {device}")), "{device}: {console}");
        }
        assert!(!console.contains("could not be unmounted"), "{console}");
        let log = Command::new("xfs_logprint").arg("-t").arg(&disk).output().unwrap();
        let said = String::from_utf8_lossy(&log.stdout);
        assert!(said.contains("state: <CLEAN>"), "the state was not unmounted: {said}\n{console}");
    }
}

/// The same kernel and initramfs again, loaded by a program in a container. The machine may not reset: QEMU would end.
#[test]
fn kexec_is_orderly_and_goes_on_with_the_loaded_kernel() {
    let artefacts = Artefacts::shared();
    let folder = tempfile::tempdir_in(&artefacts.out).unwrap();
    let files = [&artefacts.kernel.image, &artefacts.image.initramfs];
    let [kernel, initramfs] = files.map(|file| file.file_name().unwrap().to_str().unwrap());
    let layout = folder.path().join("image");
    Artefacts::shared().pack_probe(&files.map(PathBuf::as_path), &layout).unwrap();
    let load = probe_unit(&format!("load-kernel /{kernel} /{initramfs} orlop.second"), "AddCapability=SYS_BOOT");
    let machine = Machine::builder(artefacts, "kexec")
        .image(&layout)
        .memory_mib(512)
        .unit("load.container", &load)
        .unit("words.container", &probe_unit("show /proc/cmdline", ""))
        .start()
        .unwrap();
    machine.settled().unwrap();
    let refused = machine.orlop(&["kexec"]).unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(1) && said.contains("no kernel is loaded to execute"), "{refused:?}");

    run_probe(&machine, "load", "loaded").unwrap();
    let accepted = machine.orlop(&["kexec"]).unwrap();
    assert!(accepted.status.success(), "{accepted:?}");
    machine.wait_for_console("done: kexec").unwrap();
    expect_order(&machine.console().text(), "kexec");
    machine.wait_for_console("supervise started").unwrap();
    run_probe(&machine, "words", "orlop.second").unwrap();
    machine.post("/v1/system/poweroff").unwrap();
    assert_eq!(machine.wait_end().unwrap().reason, "guest-shutdown");
}

#[test]
fn ctrl_alt_del_is_an_orderly_reboot() {
    let machine = machine("keys").start().unwrap();
    machine.settled().unwrap();
    machine.qmp().execute("send-key", &ctrl_alt_del()).unwrap();
    // The machine may not reboot here, so QEMU ends.
    let end = machine.wait_end().unwrap();
    assert_eq!(end.reason, "guest-reset", "{}", machine.console().tail());
    expect_order(&machine.console().text(), "reboot");
}

fn ctrl_alt_del() -> serde_json::Value {
    let key = |name: &str| serde_json::json!({"type": "qcode", "data": name});
    serde_json::json!({"keys": [key("ctrl"), key("alt"), key("delete")]})
}

//! Limits that only a machine can show: the kernel's own counters say whether it keeps to them.

use crate::support::{machine, probe_unit, run_probe};

const MIB: u64 = 1 << 20;
const WRITTEN: u64 = 12;

/// The number behind `name=` in the line of a counter file.
fn counter(lines: &[String], file: &str, name: &str) -> u64 {
    let line = lines.iter().find(|line| line.contains(file)).unwrap_or_else(|| panic!("no {file} in {lines:#?}"));
    let found =
        line.split([' ', '|']).filter_map(|word| word.strip_prefix(name)?.strip_prefix('=')?.parse().ok()).max();
    found.unwrap_or_else(|| panic!("no {name} in {line}"))
}

#[test]
fn a_disk_takes_no_more_of_a_unit_than_its_limit() {
    let files = ["io.max", "io.stat", "io.pressure"].map(|file| format!("/cg/containers/slow/{file}")).join(" ");
    let once = "[Service]\nType=oneshot\nIOWriteBandwidthMax=/var 1048576\nIOReadIOPSMax=/var 500\n";
    let volumes = "Volume=/sys/fs/cgroup:/cg:ro\nVolume=data:/data";
    let machine = machine("limits")
        .unit("slow.container", &(probe_unit(&format!("fill /data/file {WRITTEN} {files}"), volumes) + once))
        .start()
        .unwrap();
    machine.settled().unwrap();
    let shown = run_probe(&machine, "slow", "shown").unwrap();
    assert_eq!((counter(&shown, "io.max", "wbps"), counter(&shown, "io.max", "riops")), (MIB, 500), "{shown:#?}");
    let written = counter(&shown, "io.stat", "wbytes");
    assert!(written >= WRITTEN * MIB, "{written} bytes are counted for the unit: {shown:#?}");
    // Microseconds in which all of the unit's processes waited for a disk: a moment without a limit. With it the kernel lets a MiB
    // through each second, however slow the machine is beside that; not all of this waiting is counted as such.
    let waited = counter(&shown, "io.pressure", "total");
    assert!(waited >= WRITTEN / 3 * 1_000_000, "waited for {waited} us: {shown:#?}");
}

//! User namespaces on the machine's own file systems: layers from erofs and xfs, idmapped below overlayfs.

use crate::support::{machine, probe_unit, run_probe};
use qemu_tests::Machine;

/// The first id on the host of a unit that has just written into its root and its volume.
fn first_id(machine: &Machine, unit: &str) -> u32 {
    let shown = run_probe(machine, unit, "shown").unwrap();
    let maps: Vec<&str> = shown.iter().filter_map(|line| line.split_once("_map: ")).map(|(_, map)| map).collect();
    let last = &maps[maps.len() - 2..];
    assert_eq!(last[0], last[1], "{shown:#?}");
    let numbers: Vec<u32> = last[0].split_ascii_whitespace().map(|number| number.parse().unwrap()).collect();
    assert!(matches!(numbers[..], [0, first, 65_536] if first >= 1 << 31), "{shown:#?}");
    numbers[1]
}

#[test]
fn ids_are_the_containers_own_on_disk_and_the_same_after_a_boot() {
    // Without capabilities only the owner of what another wrote may write it again.
    let more = "UserNS=auto\nVolume=data:/data\nDropCapability=all\n[Service]\nType=oneshot\n";
    let unit = probe_unit("fill /data/file 1 /proc/self/uid_map /proc/self/gid_map", more);
    let machine = machine("identities")
        .may_reboot()
        .unit("one.container", &unit)
        .unit("two.container", &unit)
        .unit("own.container", &unit.replace("UserNS=auto", "UIDMap=0:500000:1000"))
        .start()
        .unwrap();
    machine.settled().unwrap();
    let ranges = |machine: &Machine| ["one", "two"].map(|unit| first_id(machine, unit));
    let before = ranges(&machine);
    assert!(before[0].abs_diff(before[1]) >= 65_536, "{before:?}");
    let own = run_probe(&machine, "own", "shown").unwrap();
    let map = own.iter().find_map(|line| line.strip_prefix("/proc/self/uid_map: ")).unwrap();
    assert_eq!(map.split_ascii_whitespace().collect::<Vec<_>>(), ["0", "500000", "1000"]);
    let _ = machine.post("/v1/system/reboot");
    machine.wait_event("RESET").unwrap();
    machine.wait_until("an answer", || machine.get("/v1/ping").map(Some)).unwrap();
    machine.settled().unwrap();
    assert_eq!(ranges(&machine), before);
}

//! Limits, as the kernel has them in the container's cgroup.

use serde_json::{Value, json};

use crate::support::{Container, TEST_CGROUPS};

fn with(resources: Value) -> Container {
    Container::new(&["sleep"]).set("/linux/resources", resources)
}

/// Limits that need a controller are there, or create fails and says which controller this machine lacks: some machines give theirs
/// to cgroup v1. Both answers are right; a limit that is silently missing is not.
#[track_caller]
fn check(resources: Value, controller: &str, files: &[(&str, &str)]) {
    let c = with(resources);
    let said = c.create();
    let machine = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap();
    if machine.split_ascii_whitespace().any(|one| one == controller) {
        said.ok();
        for (file, value) in files {
            assert_eq!(std::fs::read_to_string(c.cgroup(file)).unwrap().trim(), *value, "{file}");
        }
    } else {
        said.refused(&format!("cannot enable the controller {controller}: this machine's hierarchy does not have it"));
        c.assert_gone();
    }
}

#[test]
fn memory() {
    let limits = json!({"memory": {"limit": 33_554_432, "swap": 33_554_432, "reservation": 16_777_216}});
    check(limits, "memory", &[("memory.max", "33554432"), ("memory.low", "16777216")]);
}

#[test]
fn pids() {
    check(json!({"pids": {"limit": 17}}), "pids", &[("pids.max", "17")]);
}

#[test]
fn cpu() {
    let limits = json!({"cpu": {"shares": 1024, "quota": 50_000, "period": 100_000}});
    check(limits, "cpu", &[("cpu.weight", "100"), ("cpu.max", "50000 100000")]);
}

#[test]
fn hugepages() {
    if !std::path::Path::new("/sys/kernel/mm/hugepages/hugepages-2048kB").exists() {
        check(json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 2_097_152}]}), "no such pages", &[]);
        return;
    }
    check(
        json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 2_097_152}]}),
        "hugetlb",
        &[("hugetlb.2MB.max", "2097152")],
    );
}

#[test]
fn unified_is_written_as_it_is() {
    let c = with(json!({"unified": {"cgroup.procs": "1"}}));
    c.create().refused("linux.resources.unified.cgroup.procs: is not the name of a controller's file");
    c.assert_gone();
    check(json!({"unified": {"nothing.max": "1"}}), "nothing", &[]);
}

#[test]
fn a_cgroup_with_processes_is_not_taken_over() {
    let first = Container::new(&["sleep"]);
    first.create().ok();
    let second = Container::new(&["sleep"]).set("/linux/cgroupsPath", json!(format!("/orlop-oci-tests/{}", first.id)));
    second.create().refused("it exists and processes run in it");
    assert_eq!(first.state()["status"], "created");
    assert!(std::path::Path::new(TEST_CGROUPS).join(&first.id).exists());
}

#[test]
fn paths_of_cgroups_stay_below_the_root() {
    for bad in ["/../x", "/", "a:b:c", "/a\nb"] {
        let c = Container::new(&["sleep"]).set("/linux/cgroupsPath", json!(bad));
        c.create().refused("linux.cgroupsPath");
        c.assert_gone();
    }
}

#[test]
fn devices_are_guarded() {
    // The first device is made by the runtime; /dev/mem is made by the container, and stays closed to it.
    let device =
        json!({"type": "c", "path": "/dev/full2", "major": 1, "minor": 7, "fileMode": 0o600, "uid": 5, "gid": 6});
    let c =
        Container::new(&["mknod", "/dev/mem", "1", "1", "open", "/dev/mem", "open", "/dev/full2", "open", "/dev/null"])
            .capabilities(&["CAP_MKNOD", "CAP_DAC_OVERRIDE"])
            .set("/linux/devices", json!([device]));
    let said = c.run().ok();
    said.has("mknod: ok")
        .has("open /dev/mem: Operation not permitted (os error 1)")
        .has("open /dev/full2: ok")
        .has("open /dev/null: ok");
    let rules = json!({"devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"}]});
    let c = Container::new(&[
        "mknod",
        "/dev/fuse",
        "10",
        "229",
        "open",
        "/dev/fuse",
        "mknod",
        "/dev/kmsg",
        "1",
        "11",
        "open",
        "/dev/kmsg",
    ])
    .capabilities(&["CAP_MKNOD", "CAP_DAC_OVERRIDE"])
    .set("/linux/resources", rules);
    let said = c.run().ok();
    assert!(!said.out.contains("open /dev/fuse: Operation not permitted"), "{said:?}");
    said.has("open /dev/kmsg: Operation not permitted (os error 1)");
}

#[test]
fn the_same_rules_are_one_program_of_the_kernels() {
    let c = Container::new(&["say", "up", "sleep"]);
    c.create().ok();
    c.start().ok();
    let file = c.path("state/last device program");
    let program = || std::fs::read_to_string(&file).unwrap();
    let first = program();
    let (number, rest) = first.split_once(' ').unwrap();
    let (tag, instructions) = rest.split_once(' ').unwrap();
    // Another container with these rules, while what is remembered is this.
    let beside = |remembered: &str| {
        std::fs::write(&file, remembered).unwrap();
        let mut config = c.config.clone();
        let id = format!("{}-beside", c.id);
        config["linux"]["cgroupsPath"] = format!("/orlop-oci-tests/{id}").into();
        config["process"]["args"] =
            json!(["/bin/inspect", "mknod", "/dev/mem", "1", "1", "open", "/dev/mem", "open", "/dev/null"]);
        for set in ["bounding", "effective", "permitted"] {
            config["process"]["capabilities"][set] = json!(["CAP_MKNOD", "CAP_DAC_OVERRIDE"]);
        }
        std::fs::write(c.path("config.json"), config.to_string()).unwrap();
        let said = c.oci(&["run", &id]).ok();
        said.has("open /dev/mem: Operation not permitted (os error 1)").has("open /dev/null: ok");
        program()
    };
    assert_eq!(beside(&first), first);
    // A number that is nobody's, one that is another program's, and what is no such file.
    for (id, tag) in [(u32::MAX.to_string(), tag), (number.to_owned(), "1234")] {
        let loaded = beside(&format!("{id} {tag} {instructions}"));
        assert!(loaded.ends_with(instructions) && !loaded.starts_with(&format!("{id} {tag} ")), "{loaded}");
    }
    assert!(beside("nonsense").ends_with(instructions));
    // Who is listed is who has a folder.
    assert_eq!(c.oci(&["list", "--quiet"]).ok().out.trim(), c.id);
}

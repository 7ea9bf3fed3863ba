//! Machines that lack something, or are built differently.

use crate::support::{enabled, machine, named, probe_unit, run_probe, state};
use qemu_tests::{Artefacts, Machine};
use serde_json::{Value, json};

#[test]
fn a_machine_without_a_network_card_runs_its_units() {
    let sleep = enabled(&probe_unit("sleep", ""));
    let machine = machine("no-network").no_network().unit("sleep.container", &sleep).start().unwrap();
    let units = machine.settled().unwrap();
    assert_eq!(state(named(&units, "sleep")), "active", "{units:#?}");
    // Its image is in the root, its address the loopback's.
    assert_eq!(state(named(&units, "demo")), "active", "{units:#?}");
    machine.wait_for_log("demo", "listening on").unwrap();
    let system = machine.get("/v1/system").unwrap();
    assert_eq!(system["addresses"].as_array().map(Vec::len), Some(0), "{system:#}");
    assert_eq!(system["state"], "running", "{system:#}");
}

#[test]
fn a_network_that_gives_no_address_holds_units_up_for_half_a_minute_and_no_longer() {
    let after = "[Unit]\nWants=network-online.target\nAfter=network-online.target";
    let machine = machine("alone")
        .alone_on_its_network()
        .unit("early.container", &enabled(&probe_unit("sleep", "[Quadlet]\nDefaultDependencies=false")))
        .unit("late.container", &format!("{after}\n{}", enabled(&probe_unit("sleep", ""))))
        .start()
        .unwrap();
    let units = machine.settled().unwrap();
    assert_eq!(state(named(&units, "late")), "active", "{units:#?}");
    // The console is told after whoever asked.
    let both = |console: &str| {
        let (whole, _) = console.rsplit_once('\n')?;
        ["early     up", "late      up"].iter().all(|up| whole.contains(up)).then(|| whole.to_owned())
    };
    let console = machine.wait_until("both units on the console", || Ok(both(&machine.console().text()))).unwrap();
    let told = console.matches("no address within 30 s").count();
    assert_eq!(told, 1, "{console}");
    let place = |text: &str| console.find(text).unwrap_or_else(|| panic!("no `{text}` in:\n{console}"));
    let told = place("no address within 30 s");
    assert!(told < place("late      up"), "{console}");
    // `[   5.434] early     up after 1.2 s`: however long it took, it did not wait to begin.
    let number = |text: &str| text.split_whitespace().next().and_then(|word| word.parse::<f64>().ok());
    let second = |at: usize| {
        let line = console[..at].rfind('[').map(|start| &console[start + 1..at]);
        line.and_then(|line| number(line.split(']').next()?)).unwrap_or_else(|| panic!("{console}"))
    };
    let up = place("early     up after ");
    let took = number(&console[up + "early     up after ".len()..]).unwrap_or_else(|| panic!("{console}"));
    assert!(second(up) - took < second(told) - 1.0, "{console}");
    let story = console.lines().filter(|line| line.contains("] network")).count();
    assert!(story <= 3, "{story} lines on the network in:\n{console}");

    // The last verb that ends a machine: halted, it stays on.
    let output = machine.orlop(&["halt", "--json"]).unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["requested"], "halt");
    machine.wait_for_console("done: halt").unwrap();
}

#[test]
fn ninety_six_mebibytes_are_enough() {
    let machine = Machine::builder(Artefacts::shared(), "memory").memory_mib(96).forward(8080).start().unwrap();
    let units = machine.settled().unwrap();
    assert_eq!(state(named(&units, "demo")), "active", "{units:#?}");
    assert_eq!(machine.http(8080, "/").unwrap().status, 200);
}

/// Which modules are loaded shows in what the kernel says of itself (Documentation/admin-guide/tainted-kernels.rst).
#[test]
fn modules_are_bare_and_the_distributions_own_where_the_kernel_takes_no_others() {
    const UNSIGNED_MODULE: u64 = 1 << 13;
    for (name, append, taint) in [
        ("bare", "orlop.debug", UNSIGNED_MODULE),
        ("signed", "module.sig_enforce=1", 0),
        ("lockdown", "lockdown=integrity", 0),
    ] {
        let tainted = probe_unit("show /proc/sys/kernel/tainted", "");
        let machine = machine(name).append(append).unit("tainted.container", &tainted).start().unwrap();
        let units = machine.settled().unwrap();
        assert_eq!(state(named(&units, "demo")), "active", "{units:#?}");
        let shown = run_probe(&machine, "tainted", "shown").unwrap();
        assert!(shown.contains(&format!("/proc/sys/kernel/tainted: {taint}")), "{append}: {shown:#?}");
        let console = machine.console().text();
        assert!(console.contains("state     xfs") && !console.contains("insert module"), "{console}");
        // Once of each program that loads modules: stage 1, the set-up's child.
        let told = console.matches("the distribution's own are loaded").count();
        assert!(if taint == 0 { (1..=3).contains(&told) } else { told == 0 }, "{console}");
    }
}

#[test]
fn a_static_address_comes_from_the_kernels_command_line() {
    // Another prefix length than QEMU's DHCP server gives, to tell the two apart.
    let machine = Machine::builder(Artefacts::shared(), "static")
        .append("ip=10.0.2.15::10.0.2.2:255.255.255.128:shelf:eth0:off:10.0.2.3")
        .forward(8080)
        .start()
        .unwrap();
    // It answers as soon as it has its address, which may be later than its units are settled.
    assert_eq!(machine.http(8080, "/").unwrap().status, 200);
    let system = machine.get("/v1/system").unwrap();
    let addresses = system["addresses"].as_array().unwrap();
    assert!(addresses.iter().any(|address| address == "eth0 10.0.2.15/25"), "{system:#}");
    assert!(machine.console().text().contains("machine   shelf"), "{}", machine.console().tail());
}

#[test]
fn a_raw_disk_boots_by_its_partition_labels() {
    let artefacts = Artefacts::shared();
    let disk = initramfs::raw_disk(&artefacts.out, &artefacts.image, 1 << 30, &mut |_| {}).unwrap();
    let machine = Machine::builder(artefacts, "raw-disk").raw_disk(&disk).forward(8080).start().unwrap();
    let units = machine.settled().unwrap();
    assert_eq!(state(named(&units, "demo")), "active", "{units:#?}");
    assert_eq!(machine.get("/v1/system").unwrap()["state_store"], "persistent");
    assert_eq!(machine.http(8080, "/").unwrap().status, 200);
}

#[test]
fn a_machine_with_uefi_has_its_variables() {
    let mounts = probe_unit("show /host/proc/1/mounts", "Volume=/:/host");
    let machine = machine("uefi").uefi().unit("mounts.container", &mounts).start().unwrap();
    machine.settled().unwrap();
    let shown = run_probe(&machine, "mounts", "shown").unwrap();
    let mounts: Vec<&str> = shown.iter().flat_map(|line| line.split('|')).collect();
    let variables = mounts.iter().find(|line| line.split(' ').nth(1) == Some("/sys/firmware/efi/efivars"));
    let fields: Vec<&str> = variables.unwrap_or_else(|| panic!("{mounts:#?}")).split(' ').collect();
    let options: Vec<&str> = fields[3].split(',').collect();
    assert_eq!((fields[2], &options[..4]), ("efivarfs", &["rw", "nosuid", "nodev", "noexec"][..]));
}

#[test]
fn without_a_state_disk_the_machine_says_that_nothing_is_kept() {
    let machine = Machine::builder(Artefacts::shared(), "stateless").no_state().start().unwrap();
    let units = machine.settled().unwrap();
    assert_eq!(state(named(&units, "demo")), "active", "{units:#?}");
    assert_eq!(machine.get("/v1/system").unwrap()["state_store"], "volatile");
}

/// What a boot costs is counted the same whether its disk answers at once or late, which moves the clock.
#[test]
fn waiting_for_the_disk_is_not_counted() {
    let boot = |slow: bool| {
        let machine = Machine::builder(Artefacts::shared(), "counting")
            .counting_instructions()
            .append("orlop.watchdog=off")
            .start()
            .unwrap();
        if slow {
            let limit =
                json!({"device": "disk1", "iops": 400, "iops_rd": 0, "iops_wr": 0, "bps": 0, "bps_rd": 0, "bps_wr": 0});
            machine.qmp().execute("block_set_io_throttle", &limit).unwrap();
        }
        machine.settled().unwrap();
        let stages = machine.get("/v1/system/timing").unwrap();
        (machine.million_instructions("supervisor-exec").unwrap(), stages)
    };
    let ((fast, fast_stages), (slow, slow_stages)) = (boot(false), boot(true));
    let idle = |stages: &Value| {
        let last = stages.as_array().and_then(|stages| stages.iter().find(|stage| stage["name"] == "supervisor-exec"));
        last.unwrap()["idle_ns"].as_f64().unwrap() / 1e6
    };
    // The timers that pass while it waits cost some instructions themselves: far less than a thousandth of the time.
    let room = fast / 10.0 + (idle(&slow_stages) - idle(&fast_stages)).abs() / 1000.0;
    assert!((slow - fast).abs() < room, "{fast}: {fast_stages:#}\n{slow}: {slow_stages:#}");
}

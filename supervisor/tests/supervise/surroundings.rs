//! What a container is given beside its cgroup: CPUs, name servers.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use nix::mount::{MsFlags, mount};
use serde_json::Value;

use crate::{pid1::Pid1, place};

#[test]
fn a_container_and_what_is_executed_in_it_run_on_their_cpus() {
    place::inside("surroundings::a_container_and_what_is_executed_in_it_run_on_their_cpus", |place| {
        let own = fs::read_to_string("/proc/self/status").unwrap();
        let cpus = own.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:\t")).unwrap();
        // One of them, and not the first where there are more.
        let last = cpus.rsplit([',', '-']).next().unwrap();
        let show = "grep Cpus_allowed_list /proc/self/status";
        let check = format!("HealthCmd={show}\nHealthInterval=50ms");
        let service = |cpus: &str| format!("[Service]\nCPUAffinity={cpus}\n[Install]\nWantedBy=default.target");
        place.unit("web", &format!("{show}; sleep 1000"), &check, &service(last));
        place.unit("none", "sleep 1000", "", &service("1023"));
        let mut machine = Pid1::boot(place);
        machine.until_active("web");
        let shown = format!("Cpus_allowed_list:\t{last}");
        let said = |machine: &Pid1| machine.logs("/v1/units/web/logs").iter().any(|line| line["message"] == *shown);
        machine.wait("the CPUs of its first process", said);
        let checked = |machine: &Pid1| {
            let log = &machine.unit("web")["health_log"][0];
            log["output"].as_str().is_some_and(|output| output.contains(&shown))
        };
        machine.wait("the CPUs of a check", checked);
        let text = "CPUAffinity=1023: the machine lets it run on none of these";
        machine.wait("a failure", |machine| machine.unit("none")["state"] == "failed");
        let told = machine.unit("none");
        assert!(told.to_string().contains(text), "{told:#}");
        // Whoever starts it next does the same.
        machine.kill_supervisor();
        machine.start_supervisor();
        machine.post("/v1/units/web/restart");
        let twice = |machine: &Pid1| {
            machine.logs("/v1/units/web/logs").iter().filter(|line| line["message"] == *shown).count() == 2
        };
        machine.wait("the CPUs of the next one", twice);
    });
}

/// `DNS…=`: the container's own words and the machine's for the rest; `none` leaves the image's file alone, which has none here.
#[test]
fn a_container_asks_the_name_servers_of_its_unit() {
    place::inside("surroundings::a_container_asks_the_name_servers_of_its_unit", |place| {
        let host = |name: &str, script: &str, container: &str| {
            place.unit(name, script, container, "[Service]\nType=oneshot");
            place.edit(name, |text| text.replace("Network=none", "Network=host"));
        };
        let show = "echo it says $$(cat /etc/resolv.conf).";
        host("own", show, "DNS=192.0.2.53\nDNSSearch=a.example\nDNSSearch=b.example\nDNSOption=ndots:1");
        host("none", show, "DNS=none");
        let machine = Pid1::boot(place);
        for unit in ["own", "none"] {
            machine.post(&format!("/v1/units/{unit}/start"));
        }
        let said = |unit: &str, text: &str| {
            let lines = machine.logs(&format!("/v1/units/{unit}/logs"));
            assert!(lines.iter().any(|line| line["message"] == text), "{lines:#?}");
        };
        said("own", "it says nameserver 192.0.2.53 search a.example b.example options ndots:1.");
        // The machine's own has a line at the least.
        said("none", "it says .");
    });
}

/// The machine's new name servers reach those that run, but not who has its own.
#[test]
fn new_name_servers_reach_the_containers_that_run() {
    place::inside("surroundings::new_name_servers_reach_the_containers_that_run", |place| {
        let host = |unit: &str, script: &str, lines: &str| {
            // Not after the network, for which they would wait in vain.
            let enabled = "[Quadlet]\nDefaultDependencies=no\n[Install]\nWantedBy=default.target";
            place.unit(unit, &format!("{script}; echo written; sleep 1000"), lines, enabled);
            place.edit(unit, |text| text.replace("Network=none", "Network=host"));
        };
        let waits = "until grep -q 192.0.2.9 /etc/resolv.conf; do sleep 0.1; done";
        host("plain", waits, "");
        host("bound", waits, "Volume=bound:/etc");
        host("own", "echo mine > /etc/resolv.conf", "DNS=none");
        let machine = Pid1::boot(place);
        machine.until_active("own");
        fs::write("/run/orlop/resolv.conf", "nameserver 192.0.2.9\n").unwrap();
        // News of the network come ten seconds later at the latest: there is no card.
        for unit in ["plain", "bound", "own"] {
            machine.wait("what they have", |machine| {
                machine.logs(&format!("/v1/units/{unit}/logs")).iter().any(|line| line["message"] == "written")
            });
        }
        assert_eq!(fs::read_to_string("/run/orlop/units/own/rootfs/etc/resolv.conf").unwrap(), "mine\n");
    });
}

/// `Rootfs=`: what is written stays in the folder, with `:O` it goes with the container; through a link nobody is led elsewhere.
#[test]
fn a_folder_is_a_containers_root() {
    place::inside("surroundings::a_folder_is_a_containers_root", |place| {
        let folder = "/var/lib/orlop/volumes/tree";
        fs::create_dir_all(folder).unwrap();
        symlink("/", "/var/lib/orlop/volumes/away").unwrap();
        for (unit, root) in
            [("own", folder), ("over", &format!("{folder}:O")), ("astray", "/var/lib/orlop/volumes/away")]
        {
            place.unit(unit, &format!("echo x >> /{unit}; cat /{unit} /over"), "", "[Service]\nType=oneshot");
            place.edit(unit, |text| text.replace("Image=localhost/shell:latest", &format!("Rootfs={root}")));
        }
        let careful = "/var/lib/orlop/volumes/careful";
        fs::create_dir(careful).unwrap();
        mount(Some("tmpfs"), careful, Some("tmpfs"), MsFlags::MS_NOSUID, None::<&str>).unwrap();
        place.unit("careful", "grep ' / ' /proc/self/mounts", "", "[Service]\nType=oneshot");
        place.edit("careful", |text| text.replace("Image=localhost/shell:latest", &format!("Rootfs={careful}")));
        let machine = Pid1::boot(place);
        fs::write(format!("{folder}/over"), "y\n").unwrap();
        for unit in ["own", "own", "over", "over"] {
            machine.post(&format!("/v1/units/{unit}/start"));
        }
        let written = |name: &str| fs::read_to_string(format!("{folder}/{name}")).unwrap();
        assert_eq!([written("own"), written("over")], ["x\nx\n", "y\n"]);
        let lines = machine.logs("/v1/units/over/logs");
        let said: Vec<&str> =
            lines.iter().filter_map(|line| line["message"].as_str()).filter(|m| m.len() == 1).collect();
        assert_eq!(said, ["y", "x", "y", "x"].repeat(2), "{lines:#?}");
        // What the mount has is kept, besides what a container's root has.
        machine.post("/v1/units/careful/start");
        let lines = machine.logs("/v1/units/careful/logs");
        let mounted = |line: &Value| line["message"].as_str().is_some_and(|m| m.contains(" / tmpfs rw,nosuid,nodev,"));
        assert!(lines.iter().any(mounted), "{lines:#?}");
        machine.try_post("/v1/units/astray/start");
        let told = machine.unit("astray").to_string();
        assert!(told.contains("open Rootfs /var/lib/orlop/volumes/away: "), "{told}");
        assert!(!place.mounts().contains("/run/orlop/units/own/rootfs"), "{}", place.mounts());
    });
}

/// /etc/hosts and its like are in the container's own layer where that can be; where it cannot, they are mounted.
#[test]
fn the_files_every_container_gets_are_its_own() {
    place::inside("surroundings::the_files_every_container_gets_are_its_own", |place| {
        let [plain, linked] = ["plain", "linked"].map(|name| PathBuf::from("/var/lib/orlop/volumes").join(name));
        for etc in [plain.join("etc"), linked.join("srv/etc")] {
            fs::create_dir_all(&etc).unwrap();
            fs::write(etc.join("other"), "of the folder\n").unwrap();
        }
        symlink("/nowhere", plain.join("etc/hosts")).unwrap();
        fs::set_permissions(plain.join("etc"), fs::Permissions::from_mode(0o750)).unwrap();
        symlink("srv/etc", linked.join("etc")).unwrap();
        let script = "echo $$(stat -c %%a /etc/) $$(cat /etc/other) $$(cat /etc/hostname) $$(grep -c '/etc' /proc/mounts); \
                      grep -c '.localhost' /etc/hosts; sed -i s/localhost/elsewhere/ /etc/hosts && echo moved || echo bound";
        let units = [("plain", &plain, ""), ("linked", &linked, ""), ("covered", &linked, "Volume=covered:/etc")];
        for (unit, root, lines) in units {
            place.unit(unit, script, lines, "[Service]\nType=oneshot");
            let root = format!("Rootfs={}:O", root.display());
            place.edit(unit, |text| text.replace("Image=localhost/shell:latest", &root));
        }
        let machine = Pid1::boot(place);
        for (unit, first, last) in [
            ("plain", "750 of the folder plain 0", "moved"),
            ("linked", "755 of the folder linked 3", "bound"),
            ("covered", "755 of the folder covered 4", "bound"),
        ] {
            machine.post(&format!("/v1/units/{unit}/start"));
            let lines = machine.logs(&format!("/v1/units/{unit}/logs"));
            let said = |text: &str| lines.iter().any(|line| line["message"] == text);
            assert!(said(first) && said("2") && said(last), "{unit}: {lines:#?}");
        }
        assert_eq!(fs::read_link(plain.join("etc/hosts")).unwrap(), Path::new("/nowhere"));
    });
}

#[test]
fn what_a_container_writes_into_its_hosts_is_not_in_the_memory_of_all() {
    place::inside("surroundings::what_a_container_writes_into_its_hosts_is_not_in_the_memory_of_all", |place| {
        let script = "grep -c localhost /etc/hosts; head -c 8388608 /dev/zero > /etc/hosts && echo written; sleep 1000";
        place.unit("web", script, "", "[Install]\nWantedBy=default.target");
        let used = || {
            let run = nix::sys::statvfs::statvfs("/run").unwrap();
            (run.blocks() - run.blocks_free()) * run.fragment_size()
        };
        let before = used();
        let machine = Pid1::boot(place);
        machine.until_active("web");
        let says = |machine: &Pid1, text: &str| {
            machine.logs("/v1/units/web/logs").iter().filter(|line| line["message"] == text).count()
        };
        machine.wait("its word", |machine| says(machine, "written") == 1);
        assert!(used() - before < 4 << 20, "{} bytes", used() - before);
        // The next one has what it should have.
        machine.post("/v1/units/web/restart");
        machine.wait("the next one's word", |machine| says(machine, "written") == 2);
        assert_eq!(says(&machine, "2"), 2, "{:?}", machine.logs("/v1/units/web/logs"));
    });
}

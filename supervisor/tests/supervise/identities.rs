//! Containers in user namespaces: what their ids are inside, on the host and on disk, and that they stay what they are.

use std::{
    fs,
    os::unix::fs::{MetadataExt, chown},
};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{SAY, pid1::Pid1, place};

const ENABLED: &str = "[Quadlet]\nDefaultDependencies=false\n[Install]\nWantedBy=default.target";

/// Where a container's user 0 begins on the host.
fn first_id(machine: &Pid1, unit: &str) -> u32 {
    let map = fs::read_to_string(format!("/proc/{}/uid_map", machine.unit(unit)["pid"])).unwrap();
    assert_eq!(map, fs::read_to_string(format!("/proc/{}/gid_map", machine.unit(unit)["pid"])).unwrap());
    let numbers: Vec<u32> = map.split_ascii_whitespace().map(|number| number.parse().unwrap()).collect();
    assert!(numbers.len() == 3 && numbers[0] == 0, "{map}");
    numbers[1]
}

fn said(machine: &Pid1, unit: &str, text: &str) -> bool {
    machine.logs(&format!("/v1/units/{unit}/logs")).iter().any(|line| line["message"] == text)
}

#[test]
fn ids_of_a_user_namespace_are_the_containers_own_on_disk() {
    place::inside("identities::ids_of_a_user_namespace_are_the_containers_own_on_disk", |place| {
        let shared = place.shared_folder();
        chown(&shared, Some(70), Some(70)).unwrap();
        let script = "touch /root-file /data/file /tmp/t /dev/shm/s; chown 7:8 /data/file /root-file; mknod /data/pipe p; \
                      stat -c '%%u:%%g %%n' / /bin /etc/hosts /etc/hostname /data /data/file /root-file /dev /dev/null /ask; \
                      echo again > /dev/stdout; echo >> /etc/hosts && echo hosts; sleep 1000";
        let keys = format!("UserNS=auto\nStopSignal=KILL\nVolume=data:/data\nVolume={}:/ask", shared.display());
        place.unit("web", script, &keys, ENABLED);
        place.unit("app", "sleep 1000", "UserNS=auto:size=4096\nStopSignal=KILL\nVolume=data:/data", ENABLED);
        let mut machine = Pid1::boot(place);
        machine.until_active("web");
        machine.wait("its last word", |machine| said(machine, "web", "hosts"));
        for line in [
            "0:0 /",
            "65534:65534 /bin",
            "0:0 /etc/hosts",
            "0:0 /etc/hostname",
            "0:0 /data",
            "7:8 /data/file",
            "7:8 /root-file",
            "0:0 /dev",
            "65534:65534 /ask",
            "again",
        ] {
            let all = machine.logs("/v1/units/web/logs");
            assert!(said(&machine, "web", line), "{line} is not in {all:#?}");
        }
        let owner = |path: &str| fs::symlink_metadata(path).map(|meta| (meta.uid(), meta.gid())).unwrap();
        for (path, expected) in [
            ("volumes/data", (0, 0)),
            ("volumes/data/file", (7, 8)),
            ("containers/web/upper/root-file", (7, 8)),
            ("containers/web/upper", (0, 0)),
        ] {
            assert_eq!(owner(&format!("/var/lib/orlop/{path}")), expected, "{path}");
        }
        let web = first_id(&machine, "web");
        assert_eq!(owner("/run/orlop/units/web/rootfs/root-file"), (web + 7, web + 8));
        assert_eq!(owner(&format!("/proc/{}/root/data/file", machine.unit("web")["pid"])), (web + 7, web + 8));
        assert_eq!(owner(&format!("/proc/{}", machine.unit("web")["pid"])), (web, web));
        machine.until_active("app");
        let app = first_id(&machine, "app");
        assert!(web.abs_diff(app) >= 65_536, "{web} and {app}");

        // Again, with a supervisor that dies meanwhile, and when all that a reboot takes away is gone.
        for round in 0..6 {
            machine.try_post("/v1/units/web/restart?no_block=true");
            machine.let_run(std::time::Duration::from_millis(round * 9));
            machine.end_supervisor(Signal::SIGKILL);
            machine.start_supervisor();
            machine.until_active("web");
            assert_eq!((first_id(&machine, "web"), first_id(&machine, "app")), (web, app));
        }
        machine.post("/v1/units/web/stop");
        machine.post("/v1/units/app/stop");
        assert!(!place.mounts().contains("/run/orlop/units/"), "nothing is left mounted");
        for unit in ["web", "app"] {
            fs::remove_dir_all(format!("/run/orlop/units/{unit}")).unwrap();
        }
        machine.kill_supervisor();
        machine.start_supervisor();
        machine.post("/v1/units/app/start");
        machine.post("/v1/units/web/start");
        machine.until_active("web");
        assert_eq!((first_id(&machine, "web"), first_id(&machine, "app")), (web, app));
        assert_eq!(owner("/var/lib/orlop/volumes/data/file"), (7, 8));
    });
}

#[test]
fn ids_that_a_unit_maps_itself_and_those_of_a_name() {
    place::inside("identities::ids_that_a_unit_maps_itself_and_those_of_a_name", |place| {
        let shared = place.shared_folder();
        chown(&shared, Some(300_000), Some(300_000)).unwrap();
        let bind = |options: &str| format!("Volume={}:/ask{options}", shared.display());
        let show = "stat -c '%%u:%%g %%n' /ask; sleep 1000";
        place.unit("own", show, &format!("UIDMap=0:300000:1000 +5:@9\nUIDMap=7000:7000\n{}", bind("")), ENABLED);
        place.unit("asks", show, &format!("UserNS=auto\n{}", bind(":idmap")), ENABLED);
        chown(&shared, Some(3), Some(3)).unwrap();
        for unit in ["one", "two"] {
            place.unit(unit, "sleep 1000", "SubUIDMap=shared", ENABLED);
        }
        let machine = Pid1::boot(place);
        for unit in ["own", "asks", "one", "two"] {
            machine.until_active(unit);
        }
        machine.wait("the ids of a path as they are", |machine| said(machine, "own", "65534:65534 /ask"));
        machine.wait("the ids of a path as asked for", |machine| said(machine, "asks", "3:3 /ask"));
        let map = fs::read_to_string(format!("/proc/{}/gid_map", machine.unit("own")["pid"])).unwrap();
        let rows: Vec<Vec<&str>> = map.lines().map(|line| line.split_ascii_whitespace().collect()).collect();
        let expected = [["0", "300000", "5"], ["6", "300006", "994"], ["5", "9", "1"], ["7000", "7000", "1"]]
            .map(|row| row.to_vec());
        assert!(expected.iter().all(|row| rows.contains(row)) && rows.len() == expected.len(), "{map}");
        assert_eq!(first_id(&machine, "one"), first_id(&machine, "two"));
        assert_ne!(first_id(&machine, "one"), first_id(&machine, "asks"));
    });
}

#[test]
fn a_user_namespace_changes_nothing_else_of_a_container() {
    place::inside("identities::a_user_namespace_changes_nothing_else_of_a_container", |place| {
        let shared = place.shared_folder();
        fs::write(shared.join("say"), SAY).unwrap();
        let script = "hostname; cat /proc/sys/net/ipv4/ip_default_ttl; id -u; echo user > /dev/stderr; touch /scratch/f && \
                      ls -l /dev/pts/ptmx && test -d /sys/class && perl /ask/say READY=1 STATUS=serving; sleep 1000";
        let keys = format!(
            "UserNS=auto\nUser=1234:5\nNotify=true\nHostName=db.example\nSysctl=net.ipv4.ip_default_ttl=77\nReadOnly=true\n\
             Tmpfs=/scratch:mode=1777\nHealthCmd=test -e /scratch/f\nHealthInterval=1s\nVolume={}:/ask",
            shared.display()
        );
        place.unit("web", script, &keys, ENABLED);
        place.unit("host", "test -d /sys/class && echo sys; sleep 1000", "UserNS=auto", ENABLED);
        place.edit("host", |text| text.replace("Network=none", "Network=host"));
        let machine = Pid1::boot(place);
        machine.until_active("web");
        for word in ["db.example", "77", "1234", "user"] {
            machine.wait("a word of it", |machine| said(machine, "web", word));
        }
        machine.wait("a health check", |machine| machine.unit("web")["health"] == "healthy");
        machine.until_active("host");
        machine.wait("a word of it", |machine| said(machine, "host", "sys"));
        let status: Value = machine.unit("web");
        assert_eq!(status["status_text"], "serving", "{status}");
    });
}

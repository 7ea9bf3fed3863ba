//! Pods, and containers in the network of another.

use std::{fs, os::unix::fs::MetadataExt, path::Path, time::Duration};

use serde_json::Value;

use crate::{COUNT, crashes, numbers, pid1::Pid1, place};

/// Listens on the loopback, keeps something in System V shared memory and in /dev/shm, and answers.
const SERVE: &str = r#"
use IO::Socket::INET;
$SIG{TERM} = sub { exit 0 };
my $id = shmget(4711, 64, 01600);
defined($id) or die "shmget: $!";
shmwrite($id, "sysv", 0, 4) or die "shmwrite: $!";
open(my $file, ">", "/dev/shm/x") or die "shm: $!";
print $file "posix"; close($file);
my $listener = IO::Socket::INET->new(Listen => 5, LocalAddr => "127.0.0.1:8080") or die "listen: $!";
while (my $client = $listener->accept) { print $client "hello"; close($client); }
"#;

/// Says what the other one has for it.
const ASK: &str = r#"
use IO::Socket::INET;
$SIG{TERM} = sub { exit 0 };
my $socket;
until ($socket = IO::Socket::INET->new("127.0.0.1:8080")) { select(undef, undef, undef, 0.01) }
my $said = <$socket>;
shmread(shmget(4711, 64, 0), my $sysv, 0, 4) or die "shmread: $!";
open(my $file, "<", "/dev/shm/x") or die "shm: $!";
my $posix = <$file>;
my $name = `hostname`; chomp($name);
my $hosts = `grep -c "192.0.2.7.friend" /etc/hosts`; chomp($hosts);
my $pids = () = glob("/proc/[0-9]*");
$| = 1;
print "$said $sysv $posix $name $ENV{HOSTNAME} $hosts ", $pids < 9 ? "alone" : "not alone", "\n";
sleep(1000);
"#;

const POD: &str = "[Pod]\nNetwork=none\nHostName=boat\nShmSize=1m\nAddHost=friend:192.0.2.7\n";

fn pod(text: &str) {
    fs::write("/etc/containers.d/app.pod", text).unwrap();
}

/// A unit of the place, with other words than `Network=none`.
fn unit(place: &place::Place, name: &str, script: &str, network: &str) {
    place.unit(name, script, "StopTimeout=1", "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestart=on-failure");
    place.edit(name, |text| text.replace("Network=none", network));
}

/// The inode of one of a process's namespaces.
fn namespace(unit: &Value, kind: &str) -> u64 {
    fs::metadata(format!("/proc/{}/ns/{kind}", unit["pid"])).unwrap().ino()
}

fn held(kind: &str) -> u64 {
    fs::metadata(Path::new("/run/orlop/pods/app-pod").join(kind)).unwrap().ino()
}

fn pods() -> Vec<String> {
    let all = fs::read_dir("/run/orlop/pods").into_iter().flatten().flatten();
    all.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn state(machine: &Pid1, unit: &str) -> String {
    machine.unit(unit)["state"].as_str().unwrap().to_owned()
}

#[test]
fn containers_of_a_pod_share_network_ipc_name_and_shm_and_nothing_else() {
    place::inside("pods::containers_of_a_pod_share_network_ipc_name_and_shm_and_nothing_else", |place| {
        let shared = place.shared_folder();
        fs::write(shared.join("serve"), SERVE).unwrap();
        fs::write(shared.join("ask"), ASK).unwrap();
        pod(&format!("{POD}Volume={}:/ask\n[Install]\nWantedBy=default.target\n", shared.display()));
        unit(place, "server", "exec perl /ask/serve", "Pod=app.pod");
        unit(place, "client", "exec perl /ask/ask", "Pod=app.pod");
        unit(place, "late", COUNT, "Pod=app.pod\nStartWithPod=no");
        let mut machine = Pid1::boot(place);
        let (server, client) = (machine.until_active("server"), machine.until_active("client"));
        let said = |machine: &Pid1, times: usize| {
            let lines = machine.logs("/v1/units/client/logs");
            lines.iter().filter(|line| line["message"] == "hello sysv posix boat boat 1 alone").count() == times
        };
        machine.wait("what the client sees", |machine| said(machine, 1));
        assert_eq!(
            (machine.unit("app-pod")["sub_state"].as_str(), state(&machine, "late").as_str()),
            (Some("running"), "inactive")
        );
        assert_eq!(machine.unit("app.pod")["name"], "app-pod", "by its file's name too");
        for kind in ["net", "ipc", "uts"] {
            assert_eq!([namespace(&server, kind), namespace(&client, kind)], [held(kind); 2], "{kind}");
        }
        for kind in ["pid", "mnt", "cgroup"] {
            assert_ne!(namespace(&server, kind), namespace(&client, kind), "{kind}");
        }
        let mounts = fs::read_to_string(format!("/proc/{}/mounts", server["pid"])).unwrap();
        assert!(mounts.lines().any(|line| line.contains(" /dev/shm ") && line.contains("size=1024k")), "{mounts}");

        // Nobody holds them but the machine: they are the same for who starts under another supervisor.
        machine.kill_supervisor();
        machine.start_supervisor();
        assert_eq!(machine.until_active("server")["pid"], server["pid"]);
        machine.post("/v1/units/client/restart");
        let client = machine.until_active("client");
        machine.wait("what the next client sees", |machine| said(machine, 2));
        assert_eq!([namespace(&client, "net"), namespace(&client, "ipc")], [held("net"), held("ipc")]);
        machine.post("/v1/units/late/start");
        assert_eq!(namespace(&machine.until_active("late"), "net"), held("net"));
        // Who is asked to stop before it listens for that is ended.
        machine.wait("its trap", |machine| !numbers(machine, "late").is_empty());

        // With the pod go its containers, and with them the pod's name.
        machine.post("/v1/units/app.pod/stop");
        for unit in ["server", "client", "late", "app-pod"] {
            assert_eq!(state(&machine, unit), "inactive", "{unit}");
        }
        assert_eq!((pods(), place.mounts().contains("/run/orlop/pods")), (Vec::new(), false), "nothing is left");
        // Who is in it brings it, and it those that start with it.
        machine.post("/v1/units/late/start");
        machine.until_active("server");
        assert_eq!(state(&machine, "app-pod"), "active");
    });
}

/// As in /proc/PID/uid_map.
fn id_map(unit: &Value) -> Vec<u32> {
    let read = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", unit["pid"])).unwrap();
    assert_eq!(read("uid_map"), read("gid_map"));
    read("uid_map").split_ascii_whitespace().map(|number| number.parse().unwrap()).collect()
}

#[test]
fn the_containers_of_a_pod_have_one_user_namespace() {
    place::inside("pods::the_containers_of_a_pod_have_one_user_namespace", |place| {
        let shared = place.shared_folder();
        fs::write(shared.join("serve"), SERVE).unwrap();
        fs::write(shared.join("ask"), ASK).unwrap();
        let own = |keys: &str| pod(&format!("{POD}Volume={}:/ask\nVolume=data:/data\n{keys}\n", shared.display()));
        own("UserNS=auto:size=4096");
        let script = "touch /data/$$HOSTNAME /dev/shm/s; stat -c '%%u %%n' /data /data/boat /dev/shm /dev/shm/s; \
                      test -d /sys/class && cat /proc/sys/net/ipv4/ip_unprivileged_port_start; exec perl /ask/";
        unit(place, "server", &format!("{script}serve"), "Pod=app.pod");
        unit(place, "client", &format!("{script}ask"), "Pod=app.pod");
        let mut machine = Pid1::boot(place);
        machine.post("/v1/units/app-pod/start");
        let said = |machine: &Pid1, unit: &str, text: &str| {
            machine.logs(&format!("/v1/units/{unit}/logs")).iter().filter(|line| line["message"] == text).count()
        };
        let both = |machine: &Pid1| ["server", "client"].map(|unit| machine.until_active(unit));
        machine.wait("what the client sees", |m| said(m, "client", "hello sysv posix boat boat 1 alone") == 1);
        for line in ["0 /data", "0 /data/boat", "0 /dev/shm", "0 /dev/shm/s", "0"] {
            assert_eq!(said(&machine, "client", line), 1, "{line}");
        }
        let [server, client] = both(&machine);
        for kind in ["user", "net", "ipc", "uts"] {
            assert_eq!([namespace(&server, kind), namespace(&client, kind)], [held(kind); 2], "{kind}");
        }
        let map = id_map(&server);
        assert_eq!((map[0], map[2], &map), (0, 4096, &id_map(&client)));
        assert!(map[1] >= 1 << 31, "{map:?}");
        assert_eq!(
            fs::metadata("/var/lib/orlop/volumes/data/boat").unwrap().uid(),
            0,
            "the disk has the pod's own ids"
        );

        // The pod that is there counts, whatever is written about it, and whoever supervises.
        own("UIDMap=0:300000:1000");
        machine.kill_supervisor();
        machine.start_supervisor();
        machine.post("/v1/units/client/restart");
        assert_eq!(id_map(&machine.until_active("client")), map);
        machine.post("/v1/units/app-pod/restart");
        for unit in both(&machine) {
            assert_eq!((id_map(&unit), namespace(&unit, "user")), (vec![0, 300_000, 1000], held("user")));
        }
        own("UserNS=host");
        machine.post("/v1/units/app-pod/restart");
        for unit in both(&machine) {
            assert_ne!(id_map(&unit)[2], 1000);
        }
        machine.post("/v1/units/app-pod/stop");
        assert_eq!((pods(), place.mounts().contains("/run/orlop/pods")), (Vec::new(), false), "nothing is left");
    });
}

#[test]
fn a_pod_ends_with_its_last_container_unless_it_is_to_stay() {
    place::inside("pods::a_pod_ends_with_its_last_container_unless_it_is_to_stay", |place| {
        pod(POD);
        unit(place, "one", COUNT, "Pod=app.pod");
        unit(place, "two", COUNT, "Pod=app.pod");
        let mut machine = Pid1::boot(place);
        machine.post("/v1/units/app-pod/start");
        machine.until_active("one");
        let two = machine.until_active("two");
        machine.post("/v1/units/two/restart");
        machine.post("/v1/units/one/stop");
        assert_eq!(state(&machine, "app-pod"), "active", "one of two");
        // A restart is no end.
        machine.kill(&machine.until_active("two")["pid"], libc::SIGKILL);
        machine.wait("the restart", |machine| machine.unit("two")["restarts"] == 1);
        assert_ne!(machine.until_active("two")["pid"], two["pid"]);
        assert_eq!(state(&machine, "app-pod"), "active");
        // The last one ends while no supervisor looks.
        let two = machine.until_active("two");
        machine.kill_supervisor();
        machine.kill(&two["pid"], libc::SIGTERM);
        machine.wait("its end", |machine| machine.queued_exits() > 0);
        machine.start_supervisor();
        machine.wait("the pod's end", |machine| state(machine, "app-pod") == "inactive");
        assert_eq!(pods(), Vec::<String>::new());

        pod(&format!("{POD}ExitPolicy=continue\n"));
        machine.post("/v1/units/app-pod/start");
        for unit in ["one", "two"] {
            machine.until_active(unit);
            machine.post(&format!("/v1/units/{unit}/stop"));
        }
        assert_eq!(state(&machine, "app-pod"), "active");
    });
}

#[test]
fn a_pod_is_whole_whenever_its_supervisors_are_killed() {
    place::inside("pods::a_pod_is_whole_whenever_its_supervisors_are_killed", |place| {
        pod(&format!("{POD}UserNS=auto\n[Unit]\nStartLimitIntervalSec=0\n"));
        unit(place, "one", COUNT, "Pod=app.pod");
        let mut machine = Pid1::boot(place);
        for round in 0..crashes() {
            let verb = ["start", "stop", "start", "restart"][usize::try_from(round % 4).unwrap()];
            machine.try_post(&format!("/v1/units/app-pod/{verb}?no_block=true"));
            // As with the containers: the moments differ from round to round, and no assertion depends on them.
            machine.let_run(Duration::from_millis(round * 5 % 50));
            machine.kill_supervisor();
            machine.start_supervisor();
            assert!(place.live_containers("one") <= 1, "round {round}");
        }
        // What is killed in the middle of every start counts as the cause, until somebody asks for it.
        machine.post("/v1/units/one/start");
        let one = machine.until_active("one");
        assert_eq!(namespace(&one, "uts"), held("uts"));
        let mounted =
            |name: &str| place.mounts().lines().filter(|line| line.contains(&format!("/pods/app-pod/{name} "))).count();
        assert_eq!(["user", "net", "ipc", "uts", "shm"].map(mounted), [1; 5], "each is there once: {}", place.mounts());
        machine.post("/v1/units/app-pod/stop");
        assert_eq!((pods(), place.mounts().contains("/run/orlop/pods")), (Vec::new(), false), "nothing is left");
    });
}

#[test]
fn a_container_lives_in_the_network_of_another_as_long_as_that_one() {
    place::inside("pods::a_container_lives_in_the_network_of_another_as_long_as_that_one", |place| {
        place.unit("web", COUNT, "ContainerName=front\nStopTimeout=1", "[Service]\nRestart=on-failure");
        unit(place, "side", COUNT, "Network=web.container");
        unit(place, "far", COUNT, "Network=container:front");
        let mut machine = Pid1::boot(place);
        machine.post("/v1/units/side/start");
        machine.post("/v1/units/far/start");
        let all = |machine: &Pid1| ["web", "side", "far"].map(|unit| machine.until_active(unit));
        let [web, side, far] = all(&machine);
        let net = namespace(&web, "net");
        assert_eq!([namespace(&side, "net"), namespace(&far, "net")], [net; 2]);
        assert_ne!(namespace(&side, "uts"), namespace(&web, "uts"));
        // Under the next supervisor it is that one's still.
        machine.kill_supervisor();
        machine.start_supervisor();
        assert_eq!(all(&machine)[1]["pid"], side["pid"]);
        // What is made anew has another network: they move with it.
        machine.kill(&web["pid"], libc::SIGKILL);
        machine.wait("the others' restart", |machine| {
            let moved = |unit: &Value, before: &Value| unit["state"] == "active" && unit["pid"] != before["pid"];
            moved(&machine.unit("side"), &side) && moved(&machine.unit("far"), &far)
        });
        let [web, side, far] = all(&machine);
        assert_eq!([namespace(&side, "net"), namespace(&far, "net")], [namespace(&web, "net"); 2]);
        let lines = numbers(&machine, "side").len();
        machine.wait("its lines", |machine| numbers(machine, "side").len() > lines);
        machine.post("/v1/units/web/stop");
        assert_eq!(["side", "far"].map(|unit| state(&machine, unit)), ["inactive", "inactive"]);
        assert!(!place.mounts().contains("/run/orlop/units/"), "nothing is left mounted");
    });
}

fn of_the_machine() -> u64 {
    fs::metadata("/proc/self/ns/net").unwrap().ino()
}

#[test]
fn the_pod_that_is_there_counts_and_not_what_is_written_about_it() {
    place::inside("pods::the_pod_that_is_there_counts_and_not_what_is_written_about_it", |place| {
        pod(POD);
        unit(place, "one", COUNT, "Pod=app.pod");
        unit(place, "two", COUNT, "Pod=app.pod");
        let mut machine = Pid1::boot(place);
        machine.post("/v1/units/app-pod/start");
        let (one, two) = (machine.until_active("one"), machine.until_active("two"));
        machine.kill_supervisor();
        fs::write("/run/orlop/units/app-pod/state.json", "{").unwrap();
        machine.start_supervisor();
        assert_eq!(
            [machine.until_active("one"), machine.until_active("two")].map(|now| now["pid"].clone()),
            [one["pid"].clone(), two["pid"].clone()]
        );
        assert_eq!((state(&machine, "app-pod").as_str(), namespace(&one, "net")), ("active", held("net")));
        // Its file says another network from its next start on.
        pod(&POD.replace("Network=none", "Network=host"));
        machine.post("/v1/units/two/restart");
        assert_eq!(namespace(&machine.until_active("two"), "net"), held("net"));
        machine.post("/v1/units/app-pod/restart");
        assert_eq!(namespace(&machine.until_active("one"), "net"), of_the_machine());
    });
}

#[test]
fn the_network_of_another_is_the_machines_over_any_number_of_steps() {
    place::inside("pods::the_network_of_another_is_the_machines_over_any_number_of_steps", |place| {
        unit(place, "a", COUNT, "Network=host");
        unit(place, "b", COUNT, "Network=a.container");
        unit(place, "c", COUNT, "Network=b.container");
        let ports = || fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
        let before = ports();
        let machine = Pid1::boot(place);
        machine.post("/v1/units/c/start");
        for name in ["a", "b", "c"] {
            assert_eq!(namespace(&machine.until_active(name), "net"), of_the_machine(), "{name}");
        }
        assert_eq!(ports(), before);
    });
}

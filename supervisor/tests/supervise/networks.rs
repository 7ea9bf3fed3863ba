//! Containers on bridges: what they reach and who reaches them, while their supervisors are killed.

use std::{
    fs,
    io::Read,
    net::{TcpListener, TcpStream},
    process::Command,
    time::Duration,
};

use serde_json::Value;

use crate::{COUNT, pid1::Pid1, place};

/// Tells each who connects as whom it sees him.
const SERVE: &str = r#"
use IO::Socket::INET;
my $socket = IO::Socket::INET->new(LocalPort => 80, Listen => 9, ReuseAddr => 1) or die "$!";
while (my $client = $socket->accept) { print $client $client->peerhost; close($client) }
"#;
/// Asks that, by name or address.
const ASK: &str = r#"
use IO::Socket::INET;
my $socket = IO::Socket::INET->new(PeerAddr => $ARGV[0], PeerPort => $ARGV[1], Timeout => 60) or die "$!";
local $/; print "seen as ", scalar <$socket>, "\n";
"#;

/// As whom the host is seen behind one of its own ports; nothing where nobody answers.
fn seen(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

fn interfaces() -> Vec<String> {
    let text = fs::read_to_string("/proc/net/dev").unwrap();
    text.lines().filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect()
}

fn address(machine: &Pid1, unit: &str) -> String {
    let status = machine.unit(unit);
    let address = status["networks"][0]["addresses"][0].as_str().unwrap_or_else(|| panic!("{status:#}"));
    address.split_once('/').unwrap().0.to_owned()
}

#[test]
fn containers_on_bridges_are_reached_over_kills_and_leave_nothing_behind() {
    place::inside("networks::containers_on_bridges_are_reached_over_kills_and_leave_nothing_behind", |place| {
        // The route to an own address leads there.
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
        assert!(up.is_ok_and(|status| status.success()), "this test needs the program ip of iproute2");
        let shared = place.shared_folder();
        fs::write(shared.join("serve"), SERVE).unwrap();
        fs::write(shared.join("ask"), ASK).unwrap();
        let ask = format!("Network=\nVolume={}:/ask:ro", shared.display());
        let always = "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestart=always\n[Install]\nWantedBy=default.target";
        place.unit("web", "exec perl /ask/serve", &format!("{ask}\nPublishPort=8080:80\nStopTimeout=1"), always);
        fs::write("/etc/containers.d/app.network", "[Network]\nSubnet=10.66.0.0/24\nIPv6=yes\n").unwrap();
        let on_app = "Network=app.network:ip=10.66.0.7,interface_name=app0\nNetwork=bridge";
        place.unit("db", "exec perl /ask/serve", &format!("{ask}\n{on_app}\nStopTimeout=1"), always);
        let client = "perl /ask/ask 10.66.0.7 80; perl /ask/ask host.containers.internal 8080; cat /etc/hosts";
        let on_app = format!("{ask}\nNetwork=app.network\nAddHost=up:host-gateway");
        place.unit("client", client, &on_app, "[Service]\nType=oneshot");
        let mut machine = Pid1::boot(place);
        let _ = (machine.until_active("web"), machine.until_active("db"));
        let (web, db) = (address(&machine, "web"), machine.unit("db"));
        assert_eq!(machine.unit("web")["ports"][0]["host_port"], 8080);
        assert_eq!(db["networks"][0]["addresses"][0], "10.66.0.7/24");
        assert_eq!(
            (&db["networks"][0]["interface"], &db["networks"][1]["interface"]),
            (&"app0".into(), &"eth0".into())
        );
        machine.wait("the published port", |_| seen(8080).is_some());
        assert_eq!(seen(8080).unwrap(), "10.88.0.1");
        // One reaches the other, the host, and whatever is published there.
        machine.wait("an answer", |machine| {
            machine.try_post("/v1/units/client/start");
            let lines = machine.logs("/v1/units/client/logs");
            let said = |text: &str| lines.iter().any(|line| line["message"].as_str().is_some_and(|m| m.contains(text)));
            said("seen as 10.66.0.") && said("host.containers.internal") && said("\tclient") && said("10.66.0.1\tup")
        });
        // Whoever the supervisor is, and while there is none, it goes on; addresses stay.
        machine.kill_supervisor();
        assert_eq!(seen(8080).unwrap(), "10.88.0.1");
        machine.start_supervisor();
        assert_eq!(machine.unit("web")["ports"][0]["host_port"], 8080);
        for round in 0..crate::crashes() / 4 {
            machine.try_post("/v1/units/web/restart?no_block=true");
            machine.let_run(Duration::from_millis(round * 29 % 300));
            machine.kill_supervisor();
            machine.start_supervisor();
        }
        machine.try_post("/v1/units/web/start");
        machine.wait("the published port", |machine| {
            machine.unit("web")["state"] == "active" && seen(8080).as_deref() == Some("10.88.0.1")
        });
        assert_eq!((address(&machine, "web"), address(&machine, "db")), (web, "10.66.0.7".to_owned()));
        // A port that a process of the host's has.
        let taken = TcpListener::bind("0.0.0.0:8090").unwrap();
        place.unit("late", COUNT, &format!("{ask}\nPublishPort=8090:80"), "");
        machine.try_post("/v1/units/late/start");
        let reason = machine.unit("late")["reason"].to_string();
        assert!(reason.contains("the port 8090/tcp of the host is in use by "), "{reason}");
        drop(taken);
        machine.post("/v1/units/late/start");
        for unit in ["web", "db", "late"] {
            machine.post(&format!("/v1/units/{unit}/stop"));
        }
        assert_eq!(interfaces(), ["lo"], "no card and no bridge is left");
        assert_eq!(seen(8080), None);
    });
}

/// A newer supervisor may have written it, or one that this one knows nothing of.
#[test]
fn a_connection_that_cannot_be_read_costs_no_card() {
    place::inside("networks::a_connection_that_cannot_be_read_costs_no_card", |place| {
        for unit in ["web", "db", "other"] {
            place.unit(unit, COUNT, "Network=", "");
        }
        let mut machine = Pid1::boot(place);
        machine.post("/v1/units/web/start");
        machine.post("/v1/units/db/start");
        let before = interfaces();
        // Its card is the last, and nobody's when its file is gone: the last that goes.
        machine.post("/v1/units/other/start");
        assert_eq!(interfaces().len(), before.len() + 1);
        machine.kill_supervisor();
        let path = |unit: &str| format!("/run/orlop/units/{unit}/net.json");
        let kept: Value = serde_json::from_slice(&fs::read(path("web")).unwrap()).unwrap();
        assert!(kept["version"].as_u64() >= kept["readable_from"].as_u64() && kept["version"].is_u64(), "{kept}");
        let mut newer = kept.clone();
        newer["readable_from"] = 1000.into();
        fs::write(path("web"), newer.to_string()).unwrap();
        fs::write(path("db"), kept.to_string().replace("\"open\"", "\"mild\"").replace("Open", "Mild")).unwrap();
        fs::remove_file(path("other")).unwrap();
        machine.start_supervisor();
        machine.wait("what nobody has to be gone", |_| interfaces().len() <= before.len());
        assert_eq!(interfaces(), before);
        // Nor does it lose its bridge when the others end.
        machine.post("/v1/units/other/stop");
        machine.post("/v1/units/db/stop");
        assert!(interfaces().contains(&"orlop0".to_owned()), "{:?}", interfaces());
        machine.post("/v1/units/web/restart");
        assert!(machine.until_active("web")["networks"][0]["addresses"][0].is_string());
    });
}

#[test]
fn a_pod_has_one_card_and_its_ports_and_names_over_kills() {
    place::inside("networks::a_pod_has_one_card_and_its_ports_and_names_over_kills", |place| {
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
        assert!(up.is_ok_and(|status| status.success()), "this test needs the program ip of iproute2");
        let shared = place.shared_folder();
        fs::write(shared.join("serve"), SERVE).unwrap();
        fs::write(shared.join("ask"), ASK).unwrap();
        fs::write("/etc/containers.d/app.network", "[Network]\nSubnet=10.66.0.0/24\n").unwrap();
        let pod = "[Pod]\nNetwork=app.network\nIP=10.66.0.9\nPublishPort=8081:80\nNetworkAlias=boat\n\
                   [Unit]\nStartLimitIntervalSec=0\n[Install]\nWantedBy=default.target\n";
        fs::write("/etc/containers.d/sea.pod", pod).unwrap();
        let volume = format!("Volume={}:/ask:ro\nStopTimeout=1", shared.display());
        let restarts = "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestart=on-failure";
        place.unit("server", "exec perl /ask/serve", &format!("Network=\nPod=sea.pod\n{volume}"), restarts);
        let inside = "perl /ask/ask localhost 80; cat /etc/hosts /etc/resolv.conf";
        place.unit(
            "inner",
            inside,
            &format!("Network=\nPod=sea.pod\nStartWithPod=no\n{volume}"),
            "[Service]\nType=oneshot",
        );
        let client = "perl /ask/ask boat 80; perl /ask/ask systemd-sea 80";
        place.unit("client", client, &format!("Network=\n{volume}\nNetwork=app.network"), "[Service]\nType=oneshot");
        let mut machine = Pid1::boot(place);
        machine.until_active("server");
        let pod = machine.unit("sea-pod");
        assert_eq!(pod["networks"][0]["addresses"][0], "10.66.0.9/24", "{pod:#}");
        assert_eq!(pod["ports"][0]["host_port"], 8081);
        machine.wait("the published port", |_| seen(8081).as_deref() == Some("10.66.0.1"));
        let says = |machine: &Pid1, unit: &str, text: &str| {
            let lines = machine.logs(&format!("/v1/units/{unit}/logs"));
            lines.iter().filter(|line| line["message"].as_str().is_some_and(|m| m.contains(text))).count()
        };
        machine.post("/v1/units/inner/start");
        machine.wait("the pod's files", |machine| {
            ["seen as 127.0.0.1", "10.66.0.9\tsystemd-sea", "nameserver 10.66.0.1", "search dns.podman"]
                .iter()
                .all(|text| says(machine, "inner", text) > 0)
        });
        let by_both_names = |machine: &mut Pid1| {
            let before = says(machine, "client", "seen as 10.66.0.");
            machine.post("/v1/units/client/start");
            machine.wait("the pod by its names", |machine| says(machine, "client", "seen as 10.66.0.") == before + 2);
        };
        by_both_names(&mut machine);
        for round in 0..crate::crashes() / 4 {
            let verb = ["restart", "stop", "start"][usize::try_from(round % 3).unwrap()];
            machine.try_post(&format!("/v1/units/sea-pod/{verb}?no_block=true"));
            machine.let_run(Duration::from_millis(round * 29 % 300));
            machine.kill_supervisor();
            machine.start_supervisor();
        }
        machine.post("/v1/units/server/start");
        machine.until_active("server");
        machine.wait("the published port", |_| seen(8081).as_deref() == Some("10.66.0.1"));
        by_both_names(&mut machine);
        machine.post("/v1/units/sea-pod/stop");
        machine.post("/v1/units/client/stop");
        assert_eq!(interfaces(), ["lo"], "no card and no bridge is left");
        assert_eq!(seen(8081), None);
    });
}

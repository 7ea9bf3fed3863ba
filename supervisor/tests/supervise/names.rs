//! Names on the containers' networks.

use std::{fs, net::UdpSocket, process::Command, thread, time::Duration};

use crate::{COUNT, pid1::Pid1, place};

/// Asks for these again and again, and says what each is; the last one backwards.
const ASK: &str = r#"
use Socket;
$| = 1;
my $last = "";
while (1) {
    my $said = join(" ", map { my $at = gethostbyname($_); $at ? inet_ntoa($at) : "-" } @ARGV);
    my $at = gethostbyname($ARGV[0]);
    $said .= " " . (($at && gethostbyaddr($at, AF_INET)) || "-");
    print "$said\n";
    select(undef, undef, undef, 0.05);
}
"#;

/// A name server that has one answer to all questions, 192.0.2.80.
fn name_server() {
    let socket = UdpSocket::bind("127.0.0.1:53").unwrap();
    thread::spawn(move || {
        let mut room = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut room) {
            let question = &room[..length];
            let end = question[12..].iter().position(|byte| *byte == 0).unwrap() + 17;
            let is_a = question[end - 4..end] == [0, 1, 0, 1];
            let record: &[u8] = &[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 192, 0, 2, 80];
            let head = [question[0], question[1], 0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0];
            let answer = [&head[..], &question[12..end], if is_a { record } else { &[] }].concat();
            socket.send_to(&answer, client).unwrap();
        }
    });
}

fn says(machine: &Pid1, unit: &str) -> Vec<String> {
    let lines = machine.logs(&format!("/v1/units/{unit}/logs"));
    lines.iter().filter_map(|line| line["message"].as_str().map(str::to_owned)).collect()
}

#[test]
fn containers_find_each_other_by_name_over_kills() {
    place::inside("names::containers_find_each_other_by_name_over_kills", |place| {
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
        assert!(up.is_ok_and(|status| status.success()), "this test needs the program ip of iproute2");
        name_server();
        let shared = place.shared_folder();
        fs::write(shared.join("ask"), ASK).unwrap();
        fs::write("/etc/containers.d/app.network", "[Network]\nSubnet=10.66.0.0/24\nDNS=127.0.0.1\n").unwrap();
        fs::write("/etc/containers.d/in.network", "[Network]\nSubnet=10.67.0.0/24\nInternal=yes\n").unwrap();
        let unit = |name: &str, script: &str, more: &str| {
            let container = format!("Network=\nVolume={}:/ask:ro\nStopTimeout=1\n{more}", shared.display());
            place.unit(name, script, &container, "[Service]\nRestart=always\n[Install]\nWantedBy=default.target");
        };
        unit("web", COUNT, "Network=app.network:ip=10.66.0.7,alias=site\nNetworkAlias=WWW");
        unit("db", COUNT, "Network=in.network:ip=10.67.0.8\nContainerName=base");
        let names = "web systemd-web site www web.dns.podman db example.com no.dns.podman";
        unit("near", &format!("exec perl /ask/ask {names}"), "Network=app.network\nDNSOption=timeout:1");
        unit("tcp", "exec perl /ask/ask web www", "Network=app.network\nDNSOption=use-vc");
        unit("both", "exec perl /ask/ask base web db", "Network=in.network\nNetwork=app.network\nDNSOption=timeout:1");
        unit("alone", "exec perl /ask/ask db web example.com", "Network=in.network\nDNSOption=timeout:1");
        let mut machine = Pid1::boot(place);
        let web = "10.66.0.7";
        // `db` is nobody's name there, and so the world's.
        let near = format!("{web} {web} {web} {web} {web} 192.0.2.80 192.0.2.80 - systemd-web");
        let expected = [
            ("near", near),
            ("tcp", format!("{web} {web} systemd-web")),
            ("both", format!("10.67.0.8 {web} 10.67.0.8 base")),
            ("alone", "10.67.0.8 - - base".to_owned()),
        ];
        let all_found = |machine: &mut Pid1| {
            for (unit, said) in &expected {
                let seen = says(machine, unit).len();
                machine.wait(said, |machine| says(machine, unit).iter().skip(seen).any(|line| line == said));
            }
        };
        all_found(&mut machine);
        for _ in 0..3 {
            machine.kill_supervisor();
            machine.start_supervisor();
            all_found(&mut machine);
        }
        // Who is gone has no name.
        machine.post("/v1/units/web/stop");
        machine.wait("nobody called web", |machine| {
            says(machine, "alone").len() > 3
                && says(machine, "both").iter().any(|line| line == "10.67.0.8 192.0.2.80 10.67.0.8 base")
        });
        for unit in ["near", "tcp", "both", "alone", "db"] {
            machine.post(&format!("/v1/units/{unit}/stop"));
        }
        let sockets = ["udp", "tcp"].map(|kind| fs::read_to_string(format!("/proc/net/{kind}")).unwrap());
        let listening = |text: &String| text.lines().filter(|line| line.contains(":0035 00000000:0000")).count();
        assert_eq!(sockets.each_ref().map(listening), [1, 0], "but for the test's own, nobody listens: {sockets:?}");
    });
}

/// Asks without pause, and ends with the first question that is refused or not answered at all.
const ASK_ON: &str = r#"
$| = 1;
my $count = 0;
while (1) { gethostbyname($ARGV[0]) or die "refused: $!\n"; print "answered\n" if ++$count % 1000 == 1; }
"#;

#[test]
fn nobody_is_refused_an_answer_while_supervisors_are_killed() {
    place::inside("names::nobody_is_refused_an_answer_while_supervisors_are_killed", |place| {
        let shared = place.shared_folder();
        fs::write(shared.join("ask"), ASK_ON).unwrap();
        fs::write("/etc/containers.d/app.network", "[Network]\nSubnet=10.66.0.0/24\n").unwrap();
        let keys = format!("Network=app.network\nVolume={}:/ask:ro\nStopTimeout=0", shared.display());
        place.unit("web", "exec sleep 1000", &format!("Network=\n{keys}"), "");
        // What was read and not answered when its reader died is asked again.
        let asks = format!("Network=\n{keys}\nDNSOption=timeout:1\nDNSOption=attempts:5");
        place.unit("asker", "exec perl /ask/ask web", &asks, "");
        let mut machine = Pid1::boot(place);
        machine.post("/v1/units/web/start");
        machine.post("/v1/units/asker/start");
        for round in 0..crate::crashes() / 2 {
            let answered = says(&machine, "asker").len();
            machine.wait("more answers", |machine| says(machine, "asker").len() > answered);
            machine.let_run(Duration::from_millis(round * 13 % 50));
            machine.kill_supervisor();
            // Questions of then wait, too.
            machine.let_run(Duration::from_millis(round * 29 % 300));
            machine.start_supervisor();
        }
        let asker = machine.unit("asker");
        assert!(asker["state"] == "active" && asker["restarts"] == 0, "{asker:#}");
        let kept = |machine: &Pid1| machine.stored().iter().filter(|name| name.starts_with("names:")).count();
        assert_eq!(kept(&machine), 2, "{:?}", machine.stored());
        // With who can be asked for they go; and its end may come while nobody looks.
        machine.kill_supervisor();
        machine.start_supervisor();
        machine.post("/v1/units/asker/stop");
        machine.post("/v1/units/web/stop");
        machine.wait("the end of the sockets", |machine| kept(machine) == 0);
        machine.post("/v1/units/web/start");
        machine.wait("new ones", |machine| kept(machine) == 2);
    });
}

#[test]
fn a_network_whose_names_cannot_be_asked_for_is_no_trouble_of_others() {
    place::inside("names::a_network_whose_names_cannot_be_asked_for_is_no_trouble_of_others", |place| {
        fs::write("/etc/containers.d/app.network", "[Network]\nSubnet=10.66.0.0/24\n").unwrap();
        fs::write("/etc/containers.d/far.network", "[Network]\nSubnet=10.67.0.0/24\nDisableDNS=yes\n").unwrap();
        for (unit, network) in
            [("app", "app.network"), ("late", "app.network"), ("far", "far.network"), ("usual", "bridge")]
        {
            place.unit(unit, "exec sleep 1000", &format!("Network=\nNetwork={network}\nStopTimeout=0"), "");
        }
        let mut machine = Pid1::boot(place);
        machine.post("/v1/units/app/start");
        // Somebody has all addresses of the machine, of which the next supervisor finds none for the network that is there.
        machine.kill_supervisor();
        machine.forget_stored("names:");
        let everybodys = UdpSocket::bind("0.0.0.0:53").unwrap();
        machine.start_supervisor();
        for unit in ["far", "usual"] {
            machine.post(&format!("/v1/units/{unit}/start"));
        }
        let problem = machine.try_post("/v1/units/late/start").unwrap().to_string();
        assert!(problem.contains("listen for names on 10.66.0.1 port 53: Address already in use"), "{problem}");
        assert_eq!(machine.unit("app")["state"], "active");
        drop(everybodys);
        machine.post("/v1/units/late/start");
    });
}

/// Asks once, when it is told to.
const ASK_ONCE: &str = r#"
while (!-e "/ask/go") { select(undef, undef, undef, 0.01) }
my $at = gethostbyname("web");
open(my $said, ">", "/ask/said") or die "$!";
print $said $at ? "answered" : "refused: $!";
close($said);
sleep 1000;
"#;

#[test]
fn a_connection_for_which_there_is_no_room_waits_and_costs_nothing() {
    place::inside("names::a_connection_for_which_there_is_no_room_waits_and_costs_nothing", |place| {
        let shared = place.shared_folder();
        fs::write(shared.join("ask"), ASK_ONCE).unwrap();
        fs::write("/etc/containers.d/app.network", "[Network]\nSubnet=10.66.0.0/24\n").unwrap();
        let keys = format!("Network=\nNetwork=app.network\nVolume={}:/ask\nStopTimeout=0", shared.display());
        place.unit("web", "exec sleep 1000", &keys, "");
        place.unit("asker", "exec perl /ask/ask", &format!("{keys}\nDNSOption=use-vc\nDNSOption=timeout:60"), "");
        let machine = Pid1::boot(place);
        machine.post("/v1/units/web/start");
        machine.post("/v1/units/asker/start");
        machine.limit_descriptors(true);
        let before = machine.supervisor_ticks();
        fs::write(shared.join("go"), "").unwrap();
        machine.let_run(Duration::from_secs(3));
        // A hundred are a second of work.
        let ticks = machine.supervisor_ticks() - before;
        assert!(ticks < 100, "{ticks} ticks for a connection that waits");
        machine.limit_descriptors(false);
        // Not in its log: that may have wanted a descriptor, too.
        let said = || fs::read_to_string(shared.join("said")).unwrap_or_default();
        machine.wait("the answer", |_| !said().is_empty());
        assert_eq!(said(), "answered");
    });
}

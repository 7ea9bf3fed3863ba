//! `.socket` units.

use std::{
    fs,
    io::{BufRead, Write},
    os::unix::net::UnixStream,
    time::Duration,
};

use crate::{pid1::Pid1, place};

/// Answers each connection on the first socket it was handed with what it was told of them, and lets none half answered.
const SERVE: &str = r#"
my $end = 0;
$SIG{TERM} = sub { $end = 1 };
open(my $socket, "+<&=", 3) or die "$!";
until ($end) {
    accept(my $client, $socket) or next;
    my $word = <$client>;
    print $client "$ENV{LISTEN_FDS} $ENV{LISTEN_PID} $ENV{LISTEN_FDNAMES}\n";
    close($client);
}
"#;

#[test]
fn a_connection_starts_its_container_and_none_is_refused_over_restarts() {
    place::inside("sockets::a_connection_starts_its_container_and_none_is_refused_over_restarts", |place| {
        let shared = place.shared_folder();
        fs::write(shared.join("serve"), SERVE).unwrap();
        let ask = format!("Volume={}:/ask", shared.display());
        place.unit("web", "exec perl /ask/serve", &ask, "");
        place.unit("bad", "exit 1", "", "[Unit]\nStartLimitIntervalSec=infinity");
        let socket = |name: &str, text: &str| {
            let text = format!("[Socket]\n{text}\n[Install]\nWantedBy=sockets.target\n");
            fs::write(format!("/etc/containers.d/{name}.socket"), text).unwrap();
        };
        let listen = "ListenStream=/run/test/web.sock\nListenStream=8080\nListenDatagram=8081";
        socket("web", &format!("{listen}\nFileDescriptorName=http"));
        socket("bad", "ListenStream=/run/test/bad.sock");
        let mut machine = Pid1::boot(place);
        let connect = |name: &str| {
            let stream = UnixStream::connect(format!("/run/test/{name}.sock")).expect("nobody is refused");
            (&stream).write_all(b"?\n").unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            stream
        };
        let answer = |stream: UnixStream| {
            let mut text = String::new();
            std::io::BufReader::new(stream).read_line(&mut text).unwrap();
            assert_eq!(text, "3 1 http:http:http\n");
        };
        assert_eq!(machine.unit("web")["state"], "inactive");
        let listens = machine.unit("web.socket");
        assert_eq!((&listens["state"], &listens["sub_state"]), (&"active".into(), &"listening".into()), "{listens}");
        assert_eq!(listens["triggers"], "web");
        let refused = machine.try_post("/v1/units/web.socket/stop").unwrap();
        assert!(refused["detail"].as_str().is_some_and(|text| text.contains("stop or start web")), "{refused}");
        answer(connect("web"));
        let first = machine.until_active("web");
        assert_eq!(machine.unit("web.socket")["sub_state"], "running");
        // The container serves without a supervisor, and under the next one.
        machine.kill_supervisor();
        answer(connect("web"));
        machine.start_supervisor();
        answer(connect("web"));
        assert_eq!(machine.until_active("web")["pid"], first["pid"]);
        // Over a restart and over a stop connections wait.
        machine.post("/v1/units/web/restart?no_block=true");
        let waiting: Vec<UnixStream> = (0..10).map(|_| connect("web")).collect();
        waiting.into_iter().for_each(answer);
        assert_ne!(machine.until_active("web")["pid"], first["pid"]);
        machine.post("/v1/units/web/stop");
        answer(connect("web"));
        // Neither of them is there.
        let second = machine.until_active("web");
        machine.kill_supervisor();
        machine.kill(&second["pid"], libc::SIGKILL);
        machine.wait("the end of the container", |machine| machine.queued_exits() > 0);
        let waits = connect("web");
        machine.start_supervisor();
        answer(waits);
        // A mistake in a file refuses nobody: what was read last holds, under the next supervisor whoever connects waits for the
        // file to be mended.
        let good = fs::read_to_string("/etc/containers.d/web.socket").unwrap();
        fs::write("/etc/containers.d/web.socket", format!("{good}Wantde=x\n")).unwrap();
        machine.post("/v1/units/web/stop");
        answer(connect("web"));
        assert_eq!(machine.until_active("web.socket")["sub_state"], "running");
        machine.post("/v1/units/web/stop");
        machine.kill_supervisor();
        machine.start_supervisor();
        let waits = connect("web");
        assert_eq!(machine.unit("web.socket")["state"], "failed");
        fs::write("/etc/containers.d/web.socket", good).unwrap();
        assert_eq!(machine.until_active("web.socket")["triggers"], "web");
        answer(waits);
        // One that fails at every start is not started for ever.
        let _waits = connect("bad");
        let story = "starts bad too often in vain";
        machine.wait("an end of it", |machine| machine.said().iter().any(|line| line.contains(story)));
        assert_eq!(machine.unit("bad")["state"], "failed");
        assert_eq!(machine.said().iter().filter(|line| line.contains(story)).count(), 1);
        // A file that is gone takes its sockets with it.
        fs::remove_file("/etc/containers.d/web.socket").unwrap();
        machine.get("/v1/units");
        let gone = |machine: &Pid1| machine.stored().iter().filter(|name| name.starts_with("socket:")).count() == 1;
        machine.wait("the end of the sockets", gone);
    });
}

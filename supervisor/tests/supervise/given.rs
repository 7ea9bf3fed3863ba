//! What containers say and give beside being ready: descriptors that are kept for them, and which process is the main one.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{SAY, pid1::Pid1, place};

/// Without a descriptor it makes one, gives it away, waits until that is done, and is ready. With one it tells what it got.
const KEEPER: &str = r#"
my %nr = ("x86_64" => 46, "aarch64" => 211);
chomp(my $arch = `uname -m`);
socket(my $socket, 1, 2, 0) or die;
my $name = pack("Sa*x", 1, $ENV{NOTIFY_SOCKET});
sub say_with {
    my ($fd, $text) = @_;
    my $iov = pack("PQ", $text, length $text);
    my $control = pack("QllLx4", 20, 1, 1, $fd);
    my $header = pack("PQPQPQlx4", $name, length $name, $iov, 1, $control, length $control, 0);
    syscall($nr{$arch}, fileno($socket), $header, 0) > 0 or die "sendmsg: $!";
}
$| = 1;
$SIG{TERM} = sub { exit 0 };
if ($ENV{LISTEN_FDS}) {
    open(my $kept, "+<&=", 3) or die;
    seek($kept, 0, 0);
    print "got $ENV{LISTEN_FDS} $ENV{LISTEN_FDNAMES} ", scalar <$kept>, "\n";
} else {
    print "nothing of $ENV{FDSTORE}\n";
    open(my $new, "+>", undef) or die;
    syswrite($new, "treasure");
    say_with(fileno($new), "FDSTORE=1\nFDNAME=state") for 1 .. 2;
    pipe(my $done, my $barrier) or die;
    say_with(fileno($barrier), "BARRIER=1");
    close($barrier);
    sysread($done, my $end, 1);
}
send($socket, "READY=1", 0, $name) or die;
sleep 1000;
"#;

#[test]
fn what_a_container_gives_away_its_next_one_gets_whoever_supervises() {
    place::inside("given::what_a_container_gives_away_its_next_one_gets_whoever_supervises", |place| {
        let shared = place.shared_folder();
        fs::write(shared.join("keeper"), KEEPER).unwrap();
        let keys = format!("Notify=true\nVolume={}:/ask", shared.display());
        let service = "[Service]\nFileDescriptorStoreMax=2\nRestart=always\nRestartSec=10ms";
        place.unit("web", "exec perl /ask/keeper", &keys, &format!("{service}\n[Install]\nWantedBy=default.target"));
        let mut machine = Pid1::boot(place);
        machine.until_active("web");
        let given = |machine: &Pid1| machine.stored().iter().filter(|name| name.starts_with("fds:")).count();
        machine.wait("the descriptor", |machine| given(machine) > 0);
        machine.kill_supervisor();
        machine.start_supervisor();
        let said = |machine: &Pid1, text: &str| {
            machine.logs("/v1/units/web/logs").iter().filter(|line| line["message"] == text).count()
        };
        let got = "got 1 state treasure";
        assert_eq!(given(&machine), 1, "the same one twice is one");
        machine.post("/v1/units/web/restart");
        machine.wait("its word", |machine| said(machine, got) == 1);
        let pid = machine.until_active("web")["pid"].clone();
        machine.kill(&pid, libc::SIGKILL);
        machine.wait("its word after a restart", |machine| said(machine, got) == 2);
        machine.until_active("web");
        machine.post("/v1/units/web/stop");
        machine.wait("the end of it by a stop that is meant", |machine| given(machine) == 0);
        machine.post("/v1/units/web/start");
        machine.wait("its first word", |machine| said(machine, "nothing of 2") == 2);
    });
}

#[test]
fn what_is_given_away_is_kept_as_long_as_the_unit_says() {
    place::inside("given::what_is_given_away_is_kept_as_long_as_the_unit_says", |place| {
        let shared = place.shared_folder();
        fs::write(shared.join("keeper"), KEEPER).unwrap();
        let keys = format!("Notify=true\nVolume={}:/ask", shared.display());
        for preserve in ["yes", "no"] {
            let service = format!("FileDescriptorStoreMax=2\nFileDescriptorStorePreserve={preserve}");
            let sections = format!("[Service]\n{service}\n[Install]\nWantedBy=default.target");
            place.unit(preserve, "exec perl /ask/keeper", &keys, &sections);
        }
        let mut machine = Pid1::boot(place);
        let given = |machine: &Pid1| machine.stored().iter().filter(|name| name.starts_with("fds:")).count();
        let _ = (machine.until_active("yes"), machine.until_active("no"));
        // They come to PID 1 by another way than the answer comes here.
        machine.wait("both descriptors", |machine| given(machine) == 2);
        machine.post("/v1/units/no/restart");
        machine.post("/v1/units/yes/stop");
        machine.kill_supervisor();
        machine.start_supervisor();
        machine.post("/v1/units/yes/start");
        let said = |machine: &Pid1, unit: &str| {
            let lines = machine.logs(&format!("/v1/units/{unit}/logs"));
            let its = lines.into_iter().filter(|line| line["stream"] == "stdout");
            its.map(|line| line["message"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        for (unit, second) in [("yes", "got 1 state treasure"), ("no", "nothing of 2")] {
            machine.wait("its second word", |machine| said(machine, unit).len() == 2);
            assert_eq!(said(&machine, unit), ["nothing of 2", second], "{unit}");
        }
        // With its file it goes.
        machine.post("/v1/units/yes/stop");
        assert_eq!(given(&machine), 2);
        fs::remove_file("/etc/containers.d/yes.container").unwrap();
        machine.get("/v1/units");
        machine.wait("the end of what was kept", |machine| given(machine) == 1);
    });
}

#[test]
fn the_main_process_is_the_one_that_was_named() {
    place::inside("given::the_main_process_is_the_one_that_was_named", |place| {
        let shared = place.shared_folder();
        fs::write(shared.join("say"), SAY).unwrap();
        // The first process of a container that catches no signal does not get it.
        // Who has ended before it is heard is not heard.
        let say = "STAY=1000 perl /ask/say";
        let script =
            format!("sleep 1000 & main=$$!; {say} MAINPID=$$main READY=1 & {say} MAINPID=9999 & wait $$main; exit 0");
        let keys = format!("Notify=true\nVolume={}:/ask", shared.display());
        place.unit("web", &script, &keys, "[Install]\nWantedBy=default.target");
        let mut machine = Pid1::boot(place);
        let comm = |pid: &Value| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
        let pid = machine.until_active("web")["pid"].clone();
        assert_eq!(comm(&pid), "sleep\n");
        machine.kill_supervisor();
        machine.start_supervisor();
        assert_eq!(machine.unit("web")["pid"], pid);
        machine.post("/v1/units/web/stop");
        let web = machine.unit("web");
        assert_eq!((&web["state"], &web["reason"]), (&"inactive".into(), &"exited with status 0".into()), "{web}");
    });
}

/// SCM_PIDFD of a process that is reaped: Linux 6.16.
fn kernel_knows_the_dead() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(16))
}

#[test]
fn who_ends_before_it_is_heard_is_known_by_where_it_ended() {
    if !kernel_knows_the_dead() {
        return println!("this kernel tells nothing of senders that are gone");
    }
    place::inside("given::who_ends_before_it_is_heard_is_known_by_where_it_ended", |place| {
        let shared = place.shared_folder();
        fs::write(shared.join("say"), SAY).unwrap();
        let ask = format!("Volume={}:/ask", shared.display());
        let until = |file: &str| format!("while [ ! -e /ask/{file} ]; do sleep 0.01; done");
        let say = "perl /ask/say READY=1 STATUS=served MAINPID=$$main; touch /ask/said";
        let script = format!("sleep 1000 & main=$$!; {}; {say}; wait $$main", until("go"));
        place.unit("web", &script, &format!("Notify=true\n{ask}"), "[Install]\nWantedBy=default.target");
        let stolen =
            "Volume=/run/orlop/units/web/notify:/run/notify\nEnvironment=NOTIFY_SOCKET=/run/notify/notify.sock";
        let forge = format!("{}; perl /ask/say STATUS=forged; touch /ask/forged; sleep 1000", until("said"));
        place.unit("forger", &forge, &format!("{stolen}\n{ask}"), "");
        let machine = Pid1::boot(place);
        machine.wait("the container", |machine| machine.unit("web")["sub_state"] == "starting");
        machine.post("/v1/units/forger/start");
        machine.signal_supervisor(Signal::SIGSTOP);
        fs::write(shared.join("go"), "").unwrap();
        machine.wait("both words", |_| shared.join("forged").exists());
        machine.signal_supervisor(Signal::SIGCONT);
        let web = machine.until_active("web");
        let comm = fs::read_to_string(format!("/proc/{}/comm", web["pid"])).unwrap();
        assert_eq!((&web["status_text"], comm.as_str()), (&"served".into(), "sleep\n"));
        let forged = |line: &Value| line["message"].as_str().is_some_and(|text| text.contains("not in its cgroup"));
        machine.wait("a word of the forgery", |machine| machine.logs("/v1/logs?unit=@supervisor").iter().any(forged));
        assert_eq!(machine.unit("web")["status_text"], "served");
    });
}

/// More than is taken at once, each with a complaint.
const FLOOD: &str = r#"
socket(my $socket, 1, 2, 0) or die;
my $name = pack("Sa*x", 1, $ENV{NOTIFY_SOCKET});
send($socket, "MAINPID=99999\nSTATUS=$_", 0, $name) or die "$!" for 1 .. 1500;
send($socket, "READY=1\nSTATUS=done", 0, $name) or die "$!";
sleep 1000;
"#;

#[test]
fn who_says_too_much_waits_and_fills_nobodys_log() {
    place::inside("given::who_says_too_much_waits_and_fills_nobodys_log", |place| {
        let shared = place.shared_folder();
        fs::write(shared.join("flood"), FLOOD).unwrap();
        let keys = format!("Notify=true\nVolume={}:/ask", shared.display());
        place.unit("loud", "exec perl /ask/flood", &keys, "[Install]\nWantedBy=default.target");
        let machine = Pid1::boot(place);
        assert_eq!(machine.until_active("loud")["status_text"], "done", "all of it is heard, and in order");
        let said = |what: &str| {
            let lines = machine.logs("/v1/units/@supervisor/logs");
            lines.iter().filter(|line| line["message"].as_str().is_some_and(|text| text.contains(what))).count()
        };
        machine.wait("the first complaint", |_| said("MAINPID=99999 is no process") > 0);
        assert!(said("MAINPID=99999 is no process") < 5 && said("loud: says so much") == 1);
    });
}

//! `orlop supervise` as it runs on a machine, without a machine: in pid, mount and cgroup namespaces, below a PID 1 that speaks
//! the handoff protocol and can be told to kill its supervisor. The containers are real ones.
//!
//! Needs root. `ORLOP_OCI` names another runtime than ours, `ORLOP_OTHER` another version of `orlop`, which then is every second
//! supervisor: `ORLOP_OTHER=PATH cargo test -p supervisor --test supervise killed` goes there and back again and again.

#![allow(clippy::unwrap_used)] // tests are exempt, their helpers too

mod asked;
mod command;
mod ends;
mod exec;
mod faults;
mod given;
mod http;
mod identities;
mod images;
mod inject;
mod instances;
mod kinds;
mod layers;
mod life;
mod names;
mod networks;
mod pid1;
mod place;
mod pods;
mod secrets;
mod shim;
mod sockets;
mod surroundings;
mod versions;
mod volumes;

use std::{fs, time::Duration};

use handoff::ShutdownKind;
use nix::sys::signal::Signal;
use pid1::Pid1;
use serde_json::Value;

/// A shell that counts, one line a number, and ends on SIGTERM.
const COUNT: &str = r#"trap 'exit 0' TERM; i=0; while true; do echo $$i; i=$$((i+1)); sleep 0.05; done"#;
/// The same without pauses, up to a number; and in two pieces a line, of which one waits for the other.
const FLOOD: &str = "i=0; while [ $$i -lt 50000 ]; do echo $$i; i=$$((i+1)); done; sleep 1000";
const PIECES: &str = r#"i=0; while true; do printf $$i; sleep 0.02; printf '\n'; i=$$((i+1)); done"#;
const DEAF: &str = r#"trap 'echo asked' TERM; while true; do sleep 0.1; done"#;

#[test]
fn without_pid_1_it_says_so_and_makes_nothing() {
    let orlop = std::process::Command::new(env!("CARGO_BIN_EXE_orlop")).arg("supervise").env_clear().output().unwrap();
    assert_eq!(orlop.status.code(), Some(1));
    let said = String::from_utf8_lossy(&orlop.stderr);
    assert!(said.contains("there is no ORLOP_HANDOFF") && said.contains("cargo boot"), "{said}");
}

#[test]
fn a_container_lives_through_the_death_of_its_supervisor() {
    place::inside("a_container_lives_through_the_death_of_its_supervisor", |place| {
        place.unit("web", COUNT, "", "[Service]\nRestart=always\n[Install]\nWantedBy=default.target");
        let mut machine = Pid1::boot(place);
        let first = machine.until_active("web");
        for _ in 0..5 {
            let lines = numbers(&machine, "web").len();
            machine.wait("more lines", |machine| numbers(machine, "web").len() > lines + 3);
            machine.kill_supervisor();
            machine.start_supervisor();
        }
        let unit = machine.until_active("web");
        assert_eq!(unit["pid"], first["pid"], "the same process");
        assert_eq!(unit["restarts"], 0);
        let counted = numbers(&machine, "web");
        let expected: Vec<u64> = (0..counted.len() as u64).collect();
        assert_eq!(counted, expected, "no line is lost and none is there twice");

        // It ends while one begins to look: gone, and its exit is not told yet.
        machine.kill_supervisor();
        machine.kill(&unit["pid"], libc::SIGKILL);
        machine.wait("the end of the container", |machine| machine.queued_exits() > 0);
        machine.tell_exits_late();
        machine.start_supervisor();
        machine.wait("the restart", |machine| machine.unit("web")["restarts"] == 1);
        assert_eq!(machine.unit("web")["past"][0]["reason"], "killed by SIGKILL");
        let unit = machine.until_active("web");

        // It ends while nobody looks.
        machine.kill_supervisor();
        machine.kill(&unit["pid"], libc::SIGKILL);
        machine.wait("the end of the container", |machine| machine.queued_exits() > 0);
        machine.start_supervisor();
        machine.wait("the next restart", |machine| machine.unit("web")["restarts"] == 2);
        let unit = machine.until_active("web");
        assert_ne!(unit["pid"], first["pid"]);
        assert_eq!(unit["reason"], "killed by SIGKILL");
        assert_eq!(place.live_containers("web"), 1);
    });
}

#[test]
fn whatever_a_container_writes_is_logged_once_though_its_supervisor_is_killed() {
    place::inside("whatever_a_container_writes_is_logged_once_though_its_supervisor_is_killed", |place| {
        for (unit, script) in [("flood", FLOOD), ("pieces", PIECES)] {
            place.unit(unit, script, "", "[Install]\nWantedBy=default.target");
        }
        let mut machine = Pid1::boot(place);
        let _ = (machine.until_active("flood"), machine.until_active("pieces"));
        for round in 0..crashes() {
            machine.let_run(Duration::from_millis(round % 17));
            machine.kill_supervisor();
            machine.start_supervisor();
        }
        machine.wait("the flood's end", |machine| numbers(machine, "flood").last() == Some(&49_999));
        for unit in ["flood", "pieces"] {
            let counted = numbers(&machine, unit);
            let wrong = counted.iter().zip(0..).find(|(number, expected)| **number != *expected);
            assert_eq!(wrong, None, "{unit}: a line is lost, broken, or there twice");
        }
        assert!(numbers(&machine, "pieces").len() > 3);
        // The container ends in the middle of a line: that is logged too, as a part.
        machine.post("/v1/units/pieces/stop");
        assert!(machine.logs("/v1/units/pieces/logs").iter().any(|line| line["partial"] == true));
    });
}

#[test]
fn a_full_log_disk_stops_no_container_and_is_told_once() {
    place::inside("a_full_log_disk_stops_no_container_and_is_told_once", |place| {
        place.small_log_disk();
        place.unit("flood", FLOOD, "", "");
        place.unit("web", COUNT, "", "");
        let machine = Pid1::boot(place);
        machine.post("/v1/units/flood/start");
        machine.post("/v1/units/web/start");
        let story = "logs are dropped and counted";
        machine.wait("a word on it", |machine| machine.said().iter().any(|line| line.contains(story)));
        // It writes more than its pipe holds, into nothing, and goes on.
        machine.wait("the flood's end", |_| place.sleeps("flood"));
        assert_eq!(machine.said().iter().filter(|line| line.contains(story)).count(), 1, "{:?}", machine.said());
        assert_eq!(machine.unit("web")["state"], "active");
        place.free_log_disk();
        machine.post("/v1/units/flood/stop");
        let lost = |line: &Value| line["message"].as_str().is_some_and(|text| text.contains("records lost: No space"));
        machine.wait("a word of what was lost", |machine| machine.logs("/v1/units/flood/logs").iter().any(lost));
        let lines = numbers(&machine, "web").len();
        machine.wait("more lines", |machine| numbers(machine, "web").len() > lines);
    });
}

#[test]
fn a_stop_goes_on_under_the_next_supervisor() {
    place::inside("a_stop_goes_on_under_the_next_supervisor", |place| {
        place.unit("deaf", DEAF, "StopTimeout=10", "[Service]\nRestart=always\n[Install]\nWantedBy=default.target");
        let mut machine = Pid1::boot(place);
        machine.until_active("deaf");
        machine.post("/v1/units/deaf/stop?no_block=true");
        let asked = |machine: &Pid1| {
            let lines = machine.logs("/v1/units/deaf/logs");
            lines.iter().filter(|line| line["message"] == "asked").count()
        };
        machine.wait("the signal", |machine| asked(machine) == 1);
        for _ in 0..3 {
            assert_eq!(machine.unit("deaf")["state"], "deactivating");
            machine.kill_supervisor();
            machine.start_supervisor();
        }
        machine.wait("the kill", |machine| machine.unit("deaf")["state"] == "failed");
        assert_eq!(machine.unit("deaf")["reason"], "did not end within 10 s of SIGTERM, killed");
        assert_eq!(asked(&machine), 1, "a second signal means at once to many a program");
        assert_eq!(place.live_containers("deaf"), 0);
        assert!(!place.mounts().contains("/run/orlop/units/deaf/rootfs"), "nothing is left mounted");
    });
}

/// The supervisor is killed at moments spread over everything it does; what must be true is true after each death. How often:
/// `ORLOP_CRASHES=1000 cargo test -p supervisor --test supervise killed` is the long campaign.
#[test]
fn killed_at_any_instant_nothing_is_lost_and_nothing_starts_twice() {
    place::inside("killed_at_any_instant_nothing_is_lost_and_nothing_starts_twice", |place| {
        let always = "[Service]\nRestart=always\n[Install]\nWantedBy=default.target";
        place.unit("web", COUNT, "", always);
        place.unit("app", COUNT, "", &format!("[Unit]\nRequires=web.service\nAfter=web.service\n{always}"));
        place.unit("crash", "sleep 0.03; echo ran; exit 3", "", "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestart=always\nRestartSec=10ms\n[Install]\nWantedBy=default.target");
        let mut machine = Pid1::boot(place);
        let settled: Value = machine.get("/v1/system/settled");
        assert_eq!(settled["settled"], true, "though one of them restarts for ever");
        for round in 0..crashes() {
            // What is killed in the middle of every start counts as the cause, until somebody asks for it.
            machine.try_post("/v1/units/crash/start?no_block=true");
            let verb = ["restart", "stop", "start"][usize::try_from(round % 3).unwrap()];
            machine.try_post(&format!("/v1/units/web/{verb}?no_block=true"));
            // Wherever that is: the moments differ from round to round, and no assertion depends on them.
            machine.let_run(Duration::from_millis(round * 7 % 60));
            machine.kill_supervisor();
            machine.start_supervisor();
            for unit in ["web", "app", "crash"] {
                assert!(place.live_containers(unit) <= 1, "round {round}: {unit} runs twice");
            }
        }
        machine.post("/v1/units/app/start");
        machine.try_post("/v1/units/crash/start");
        let (web, app) = (machine.until_active("web"), machine.until_active("app"));
        assert_ne!(web["pid"], app["pid"]);
        assert_eq!((place.live_containers("web"), place.live_containers("app")), (1, 1));
        machine.wait("another crash", |machine| machine.unit("crash")["exit_code"] == 3);
        machine.try_post("/v1/units/crash/stop");
        ends::every_end_has_its_line(&machine, "crash");
        machine.post("/v1/system/poweroff");
        machine.wait("the end", |machine| machine.shutdown_asked() == Some(ShutdownKind::PowerOff));
        for unit in ["web", "app", "crash"] {
            assert_eq!(place.live_containers(unit), 0, "{unit}");
        }
        assert!(!place.mounts().contains("/run/orlop/units/"), "nothing is left mounted");
    });
}

#[test]
fn a_container_that_crashes_its_supervisor_at_every_start_is_held_back() {
    place::inside("a_container_that_crashes_its_supervisor_at_every_start_is_held_back", |place| {
        let ask = place.shared_folder();
        // It cannot reach the supervisor, so it asks the test to do it.
        let hostile = "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestart=always\n[Install]\nWantedBy=default.target";
        place.unit(
            "hostile",
            "echo > /ask/now; while [ -e /ask/now ]; do sleep 0.01; done",
            &format!("Volume={}:/ask", ask.display()),
            hostile,
        );
        place.unit("web", COUNT, "", "[Install]\nWantedBy=default.target");
        let mut machine = Pid1::boot(place);
        let until_held_back = |machine: &mut Pid1, signal: Signal| {
            let mut deaths = 0;
            while machine.unit("hostile")["state"] != "failed" {
                if ask.join("now").exists() {
                    deaths += 1;
                    assert!(deaths < 5, "PID 1 would have given up by now");
                    machine.end_supervisor(signal);
                    fs::remove_file(ask.join("now")).unwrap();
                    machine.wait("its end", |machine| machine.queued_exits() > 0);
                    machine.start_supervisor();
                }
            }
            machine.unit("hostile")["reason"].as_str().unwrap().to_owned()
        };
        assert_eq!(until_held_back(&mut machine, Signal::SIGABRT), "the supervisor died 3 times while starting it");
        machine.try_post("/v1/units/hostile/start?no_block=true");
        // Somebody else's doing, as far as can be seen: it has every chance but the last.
        assert_eq!(until_held_back(&mut machine, Signal::SIGKILL), "the supervisor died 4 times while starting it");
        machine.until_active("web");
        let settled: Value = machine.get("/v1/system/settled");
        assert_eq!(settled["settled"], true);
    });
}

#[test]
fn the_machine_goes_down_in_order_and_says_for_whom_it_waits() {
    place::inside("the_machine_goes_down_in_order_and_says_for_whom_it_waits", |place| {
        let enabled = "[Install]\nWantedBy=default.target";
        place.unit("db", COUNT, "", enabled);
        place.unit("app", DEAF, "StopTimeout=20", &format!("[Unit]\nRequires=db.service\nAfter=db.service\n{enabled}"));
        place.unit("late", COUNT, "", "");
        let timer = "[Timer]\nOnActiveSec=4\nAccuracySec=1us\n[Install]\nWantedBy=timers.target\n";
        fs::write("/etc/containers.d/late.timer", timer).unwrap();
        let machine = Pid1::boot(place);
        let settled: Value = machine.get("/v1/system/settled");
        assert_eq!(settled["settled"], true);
        let up = |machine: &Pid1| machine.said().iter().any(|line| line.starts_with("app       up after"));
        machine.wait("a word of it", up);
        machine.request_shutdown(ShutdownKind::Reboot);
        let sleeps = machine.supervisor_sleeps();
        machine.wait("the end", |machine| machine.shutdown_asked() == Some(ShutdownKind::Reboot));
        // The timer's time has come meanwhile: nothing to do for it, and nothing to turn round for.
        let sleeps = machine.supervisor_sleeps() - sleeps;
        assert!(sleeps < 2000, "{sleeps} turns for the end of two units");
        let said = machine.said();
        assert!(said.iter().any(|line| line.contains("waiting for app (killed in ")), "{said:?}");
        let down = |unit: &str| fs::read_to_string(format!("/var/log/orlop/{unit}/current")).unwrap();
        assert!(down("app").contains("did not end within 20 s of SIGTERM, killed"));
        assert!(down("db").contains("exited with status 0"));
        assert_eq!(place.live_containers("db"), 0);
    });
}

/// Says its words, one a line, to `$NOTIFY_SOCKET`: with the Perl that every Debian has.
const SAY: &str = r#"
socket(my $socket, 1, 2, 0) or die;
send($socket, join("\n", @ARGV), 0, pack("Sa*x", 1, $ENV{NOTIFY_SOCKET})) or die "$!";
open(my $said, ">", $ENV{SAID}) if $ENV{SAID};
sleep($ENV{STAY} || 0);
"#;

#[test]
fn a_container_is_ready_when_it_says_so_and_nobody_says_it_for_another() {
    place::inside("a_container_is_ready_when_it_says_so_and_nobody_says_it_for_another", |place| {
        let shared = place.shared_folder();
        fs::write(shared.join("say"), SAY).unwrap();
        let ask = format!("Volume={}:/ask", shared.display());
        let until = |file: &str| format!("while [ ! -e /ask/{file} ]; do sleep 0.01; done");
        let long = "STAY=1000 perl /ask/say READY=1 X=$$(printf %%05000d 0) &";
        let script = format!("{long} {}; perl /ask/say READY=1 STATUS=serving; sleep 1000", until("go"));
        place.unit("web", &script, &format!("Notify=true\n{ask}"), "[Install]\nWantedBy=default.target");
        let after = "[Unit]\nRequires=web.service\nAfter=web.service\n[Install]\nWantedBy=default.target";
        place.unit("app", COUNT, "", after);
        // Another container that got hold of the socket.
        let stolen =
            "Volume=/run/orlop/units/web/notify:/run/notify\nEnvironment=NOTIFY_SOCKET=/run/notify/notify.sock";
        let forge = "STAY=1000 SAID=/ask/forged perl /ask/say READY=1 STATUS=forged";
        place.unit("forger", forge, &format!("{stolen}\n{ask}"), "");
        let mut machine = Pid1::boot(place);
        machine.wait("the container", |machine| {
            machine.unit("web")["sub_state"] == "starting" && place.live_containers("web") == 1
        });
        let ignored = |line: &Value| line["message"].as_str().is_some_and(|text| text.contains("4096 bytes: ignored"));
        machine.wait("a word of what is too long", |machine| {
            machine.logs("/v1/logs?unit=@supervisor").iter().any(ignored)
        });
        machine.post("/v1/units/forger/start");
        machine.wait("the forgery", |_| shared.join("forged").exists());
        assert_eq!(machine.unit("web")["state"], "activating");
        assert_eq!(machine.unit("app")["sub_state"], "waiting");
        // What is said while there is no supervisor waits for the next one.
        machine.kill_supervisor();
        fs::write(shared.join("go"), "").unwrap();
        machine.wait("its word", |_| place.sleeps("web"));
        machine.start_supervisor();
        machine.until_active("app");
        let web = machine.unit("web");
        assert_eq!(
            (&web["state"], &web["status_text"], &web["restarts"]),
            (&"active".into(), &"serving".into(), &0.into())
        );
        machine.post("/v1/units/web/stop");
        assert_eq!(place.live_containers("web"), 0);
    });
}

#[test]
fn failures_are_told_apart_and_units_are_read_again() {
    place::inside("failures_are_told_apart_and_units_are_read_again", |place| {
        place.unit("code", "exit 3", "", "");
        place.unit("signal", "kill -QUIT $$$$; kill -37 $$$$; sleep 9", "", "");
        place.unit("missing", "true", "", "");
        place.edit("missing", |text| text.replace("localhost/shell", "localhost/nothing"));
        place.unit("broken", "sleep 1000", "", "[Service]\nRestrat=always");
        let machine = Pid1::boot(place);
        machine.wait("a word of it", |machine| machine.said().iter().any(|line| line.contains("broken.container:")));
        // Told that it has started, or, by chance, that it has ended already.
        machine.try_post("/v1/units/code/start");
        machine.wait("its end", |machine| machine.unit("code")["state"] == "failed");
        let code = machine.unit("code");
        assert_eq!((&code["exit_code"], &code["past"][0]["result"]), (&3.into(), &"exit-code".into()), "{code}");
        let problem = machine.try_post("/v1/units/missing/start").unwrap();
        assert_eq!(problem["status"], 409);
        assert!(problem["detail"].as_str().unwrap().contains("localhost/nothing"), "{problem}");
        let problem = machine.try_post("/v1/units/broken/start").unwrap();
        assert!(problem["detail"].as_str().unwrap().contains("Restrat"), "{problem}");
        // Mended, and asked for again.
        place.edit("broken", |text| text.replace("Restrat", "Restart"));
        machine.post("/v1/units/broken/start");
        assert_eq!(machine.unit("nothing")["status"], 404);
        let lines = machine.logs("/v1/units/code/logs");
        assert!(lines.iter().any(|line| line["message"] == "exited with status 3" && line["stream"] == "orlop"));
    });
}

#[test]
fn an_instance_of_a_template_is_made_when_it_is_wanted_and_outlives_its_supervisor() {
    place::inside("an_instance_of_a_template_is_made_when_it_is_wanted_and_outlives_its_supervisor", |place| {
        let sections = "[Service]\nNice=7\n[Install]\nAlias=%p-%i-alias.service";
        place.unit("web@", "echo I am $$NAME; sleep 1000", "Environment=NAME=%i", sections);
        let mut machine = Pid1::boot(place);
        assert_eq!(machine.unit("web@blue")["status"], 404);
        machine.post("/v1/units/web@blue/start");
        let first = machine.until_active("web@blue");
        // proc(5): the nineteenth field, of which the second has no spaces here.
        let stat = fs::read_to_string(format!("/proc/{}/stat", first["pid"])).unwrap();
        assert_eq!(stat.split(' ').nth(18), Some("7"), "{stat}");
        machine.wait("its name", |machine| {
            machine.logs("/v1/units/web-blue-alias/logs").iter().any(|line| line["message"] == "I am blue")
        });
        machine.kill_supervisor();
        machine.start_supervisor();
        let unit = machine.until_active("web@blue");
        assert_eq!((&unit["pid"], &unit["restarts"]), (&first["pid"], &0.into()));
        machine.post("/v1/units/web-blue-alias/restart");
        assert_ne!(machine.until_active("web@blue")["pid"], first["pid"]);
        let problem = machine.try_post("/v1/units/nothing@blue/start").unwrap();
        assert_eq!(problem["status"], 404);
        machine.post("/v1/units/web@blue/stop");
        assert_eq!(place.live_containers("web@blue"), 0);
    });
}

fn crashes() -> u64 {
    std::env::var("ORLOP_CRASHES").map_or(40, |text| text.parse().unwrap())
}

/// The numbers that a counting container has written so far, in the log's order.
fn numbers(machine: &Pid1, unit: &str) -> Vec<u64> {
    let lines = machine.logs(&format!("/v1/units/{unit}/logs"));
    lines.iter().filter(|line| line["stream"] == "stdout").filter_map(|l| l["message"].as_str()?.parse().ok()).collect()
}

#[test]
fn the_machines_own_logs_lose_no_line_and_are_merged_with_the_units() {
    place::inside("the_machines_own_logs_lose_no_line_and_are_merged_with_the_units", |place| {
        place.unit("web", COUNT, "LogOpt=max-size=64k max-file=2", "[Install]\nWantedBy=default.target");
        place.unit("mute", COUNT, "LogDriver=none", "[Install]\nWantedBy=default.target");
        let mut machine = Pid1::boot(place);
        machine.wait("a line", |machine| !numbers(machine, "web").is_empty());
        machine.until_active("mute");
        for _ in 0..5 {
            machine.kill_supervisor();
            machine.start_supervisor();
        }
        let own = |machine: &Pid1| machine.logs("/v1/logs?unit=@supervisor&boot=0");
        let taken_over = |line: &Value| {
            let text = line["message"].as_str().unwrap();
            text.contains("taken over, supervisor ").then(|| text.to_owned())
        };
        machine.wait("its words", |machine| own(machine).iter().filter_map(taken_over).count() >= 5);
        let said: Vec<String> = own(&machine).iter().filter_map(taken_over).collect();
        let expected: Vec<String> =
            (2..7).map(|n| format!("orlop     taken over, supervisor {n} of this boot")).collect();
        assert_eq!(said, expected, "each is there, and once");
        let all = machine.logs("/v1/logs");
        assert!(all.is_sorted_by_key(|line| line["time"].as_str().unwrap().to_owned()), "in the order of time");
        let of = |unit: &str| all.iter().filter(|line| line["unit"] == unit && line["stream"] == "stdout").count();
        assert!(of("web") > 0 && of("mute") == 0);
        let problem: Value = machine.get("/v1/logs?boot=-1");
        assert!(problem["detail"].as_str().unwrap().contains("no logs are kept of such a boot"), "{problem}");
    });
}

#[test]
fn a_supervisor_is_replaced_on_purpose_and_whoever_waits_is_answered() {
    place::inside("a_supervisor_is_replaced_on_purpose_and_whoever_waits_is_answered", |place| {
        place.unit("web", COUNT, "", "[Service]\nRestart=always\n[Install]\nWantedBy=default.target");
        place.unit("deaf", DEAF, "StopTimeout=15", "[Install]\nWantedBy=default.target");
        let mut machine = Pid1::boot(place);
        let (web, _) = (machine.until_active("web"), machine.until_active("deaf"));
        for used in ["config.json", "runtime.log", "pid"] {
            let file = std::path::Path::new("/run/orlop/units/web").join(used);
            assert!(!file.exists(), "what the start used is memory: {used}");
        }
        // Somebody waits for a stop that takes its time.
        let client = std::thread::spawn(|| http::ask("POST", "/v1/units/deaf/stop"));
        machine.wait("the stop", |machine| machine.unit("deaf")["state"] == "deactivating");
        // One that goes away is forgotten, though what it asked for goes on.
        let replies = |machine: &Pid1| machine.stored().iter().filter(|name| name.starts_with("reply:")).count();
        let impatient = http::begin("POST", "/v1/units/deaf/stop");
        machine.wait("both of them", |machine| replies(machine) == 2);
        drop(impatient);
        machine.wait("one of them", |machine| replies(machine) == 1);
        for round in 0..3 {
            assert_eq!(machine.post("/v1/system/reexec")["accepted"], true);
            machine.renew_supervisor();
            assert_eq!(machine.get("/v1/system")["supervisor_generation"], round + 2);
        }
        let (status, body) = client.join().unwrap().expect("an answer");
        let unit: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((status, &unit["reason"]), (200, &"did not end within 15 s of SIGTERM, killed".into()), "{unit}");
        machine.wait("nobody to be answered", |machine| replies(machine) == 0);
        assert_eq!(machine.until_active("web")["pid"], web["pid"]);
        assert_eq!(machine.unit("web")["restarts"], 0);
    });
}

#[test]
fn a_state_that_cannot_be_read_costs_history_and_no_container() {
    place::inside("a_state_that_cannot_be_read_costs_history_and_no_container", |place| {
        place.unit("web", COUNT, "", "[Service]\nRestart=always\n[Install]\nWantedBy=default.target");
        let mut machine = Pid1::boot(place);
        let web = machine.until_active("web");
        machine.wait("some lines", |machine| numbers(machine, "web").len() > 3);
        let path = "/run/orlop/units/web/state.json";
        for change in ["newer", "broken"] {
            machine.kill_supervisor();
            let mut state: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
            state["version"] = 1000.into();
            state["readable_from"] = 1000.into();
            state["record"]["state"] = "of the future".into();
            fs::write(path, if change == "newer" { state.to_string() } else { "{".to_owned() }).unwrap();
            machine.start_supervisor();
            let now = machine.until_active("web");
            assert_eq!((&now["pid"], &now["restarts"]), (&web["pid"], &0.into()), "{change}");
            let lines = numbers(&machine, "web").len();
            machine.wait("more lines", |machine| numbers(machine, "web").len() > lines + 3);
        }
        let counted = numbers(&machine, "web");
        assert_eq!(counted, (0..counted.len() as u64).collect::<Vec<_>>(), "no line is lost");
        assert_eq!(place.live_containers("web"), 1);
        machine.kill(&web["pid"], libc::SIGKILL);
        machine.wait("the restart", |machine| machine.unit("web")["restarts"] == 1);
    });
}

//! Health checks, timers, and what the end of a unit means for others.

use std::fs;

use handoff::ShutdownKind;
use nix::{sys::stat::Mode, unistd::mkfifo};
use serde_json::Value;

use crate::{COUNT, SAY, numbers, pid1::Pid1, place};

#[test]
fn the_end_of_a_unit_reaches_those_that_say_so_and_the_machine() {
    place::inside("life::the_end_of_a_unit_reaches_those_that_say_so_and_the_machine", |place| {
        let enabled = "[Install]\nWantedBy=default.target";
        place.unit("db", COUNT, "", &format!("[Unit]\nOnFailure=alarm.service\n{enabled}"));
        place.unit("app", COUNT, "", &format!("[Unit]\nBindsTo=db.service\nAfter=db.service\n{enabled}"));
        place.unit("alarm", COUNT, "", "");
        let once = "[Unit]\nStartLimitBurst=1\nStartLimitIntervalSec=infinity\nStartLimitAction=reboot\n[Service]\nRestart=always";
        place.unit("vital", "exit 1", "", once);
        let machine = Pid1::boot(place);
        let (db, _) = (machine.until_active("db"), machine.until_active("app"));
        machine.kill(&db["pid"], libc::SIGKILL);
        machine.until_active("alarm");
        machine.wait("the bound unit's end", |machine| machine.unit("app")["state"] == "inactive");
        assert_eq!(machine.unit("db")["state"], "failed");
        machine.try_post("/v1/units/vital/start?no_block=true");
        machine.wait("the end", |machine| machine.shutdown_asked() == Some(ShutdownKind::Reboot));
        assert_eq!(place.live_containers("alarm"), 0);
    });
}

#[test]
fn an_exit_whose_record_could_not_be_written_is_told_to_the_next_supervisor() {
    place::inside("life::an_exit_whose_record_could_not_be_written_is_told_to_the_next_supervisor", |place| {
        place.unit("job", "trap 'exit 7' TERM; sleep 1000 & wait", "", "");
        let mut machine = Pid1::boot(place);
        machine.post("/v1/units/job/start");
        let job = machine.until_active("job");
        machine.wait("its trap", |_| place.sleeps("job"));
        // Where its record is written before it takes the old one's place.
        let blocked = "/run/orlop/units/job/state.new";
        fs::create_dir(blocked).unwrap();
        machine.kill(&job["pid"], libc::SIGTERM);
        machine.wait("its end", |machine| machine.unit("job")["exit_code"] == 7);
        machine.kill_supervisor();
        fs::remove_dir(blocked).unwrap();
        machine.start_supervisor();
        machine.wait("its end, heard again", |machine| machine.unit("job")["state"] == "failed");
        assert_eq!(machine.unit("job")["exit_code"], 7);
    });
}

/// The word reaches it before it knows of any unit.
#[test]
fn a_shutdown_that_a_new_supervisor_is_greeted_with_stops_what_runs_in_order() {
    place::inside("life::a_shutdown_that_a_new_supervisor_is_greeted_with_stops_what_runs_in_order", |place| {
        place.unit("db", COUNT, "", "[Install]\nWantedBy=default.target");
        let mut machine = Pid1::boot(place);
        machine.until_active("db");
        machine.kill_supervisor();
        machine.request_shutdown(ShutdownKind::Reboot);
        machine.start_supervisor();
        machine.wait("the end", |machine| machine.shutdown_asked() == Some(ShutdownKind::Reboot));
        assert!(fs::read_to_string("/var/log/orlop/db/current").unwrap().contains("exited with status 0"));
    });
}

#[test]
fn a_timer_starts_its_unit_again_and_again_whoever_supervises() {
    place::inside("life::a_timer_starts_its_unit_again_and_again_whoever_supervises", |place| {
        place.unit("job", "echo 1", "", "[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=oneshot");
        let times = "OnActiveSec=50ms\nOnUnitInactiveSec=50ms\nOnCalendar=yearly\nPersistent=yes";
        let timer = format!("[Timer]\n{times}\n[Install]\nWantedBy=timers.target\n");
        let file = "/etc/containers.d/job.timer";
        fs::write(file, &timer).unwrap();
        let mut machine = Pid1::boot(place);
        let settled: Value = machine.get("/v1/system/settled");
        assert_eq!(settled["settled"], true, "a timer is waited for by nobody");
        let runs = |machine: &Pid1| numbers(machine, "job").len();
        machine.wait("runs", |machine| runs(machine) > 2);
        let before = runs(&machine);
        machine.kill_supervisor();
        machine.start_supervisor();
        machine.wait("further runs", |machine| runs(machine) > before + 2);
        let shown = machine.unit("job.timer");
        assert_eq!((&shown["state"], &shown["triggers"]), (&"active".into(), &"job".into()), "{shown}");
        assert!(shown["last_trigger"].is_string() && place.timer_stamp("job.timer"), "{shown}");
        // A record that cannot be read costs the timer its history only, and a mistake in its file as long as it is there.
        machine.kill_supervisor();
        fs::write("/run/orlop/timers/job.timer", "{").unwrap();
        machine.start_supervisor();
        fs::write(file, timer.replace("Persistent", "Persistant")).unwrap();
        machine.wait("the mistake", |machine| machine.unit("job.timer")["state"] == "failed");
        fs::write(file, &timer).unwrap();
        machine.wait("its timer again", |machine| machine.unit("job.timer")["state"] == "active");
        let before = runs(&machine);
        machine.wait("runs after that", |machine| runs(machine) > before + 2);
        machine.post("/v1/units/job.timer/stop");
        assert_eq!(machine.unit("job.timer")["sub_state"], "dead");
        machine.wait("its last run's end", |machine| machine.unit("job")["state"] == "inactive");
        let before = runs(&machine);
        machine.post("/v1/units/job.timer/start");
        machine.wait("one more", |machine| runs(machine) > before);
    });
}

#[test]
fn health_checks_run_in_the_container_and_outlive_the_supervisor() {
    place::inside("life::health_checks_run_in_the_container_and_outlive_the_supervisor", |place| {
        let ask = place.shared_folder();
        let volume = format!("Volume={}:/ask", ask.display());
        let often = "HealthInterval=50ms\nHealthRetries=2";
        let check = "HealthCmd=echo looked; test -e /ask/well";
        let first = format!("{}\nHealthStartupInterval=50ms", check.replace("HealthCmd", "HealthStartupCmd"));
        let keys = format!("{volume}\n{check}\n{first}\n{often}\nNotify=healthy\nHealthOnFailure=kill");
        place.unit("web", "sleep 1000", &keys, "[Service]\nRestart=on-failure\nRestartSec=10ms");
        let after = "[Unit]\nRequires=web.service\nAfter=web.service\n[Install]\nWantedBy=default.target";
        place.unit("app", COUNT, "", after);
        // One that hangs, with a child, and writes without an end.
        let hang = "HealthCmd=sleep 999 & yes\nHealthInterval=50ms\nHealthTimeout=300ms";
        place.unit("hang", COUNT, hang, "[Install]\nWantedBy=default.target");
        let mut machine = Pid1::boot(place);
        machine.wait("checks that fail", |machine| {
            machine.unit("web")["health_log"].as_array().is_some_and(|log| log.len() > 1)
        });
        let web = machine.unit("web");
        assert_eq!((&web["state"], &web["health_log"][0]["output"]), (&"activating".into(), &"looked".into()), "{web}");
        assert_eq!(machine.unit("app")["sub_state"], "waiting");
        fs::write(ask.join("well"), "").unwrap();
        machine.until_active("app");
        assert_eq!(machine.unit("web")["health"], "healthy");
        let before = machine.unit("web")["health_log"][0]["start"].clone();
        machine.kill_supervisor();
        machine.start_supervisor();
        assert_eq!(machine.unit("web")["health"], "healthy", "kept");
        machine.wait("the next check", |machine| machine.unit("web")["health_log"][0]["start"] != before);
        assert_eq!(machine.unit("web")["restarts"], 0);
        fs::remove_file(ask.join("well")).unwrap();
        machine.wait("the kill", |machine| machine.unit("web")["past"][0]["result"] == "unhealthy");
        let reason = machine.unit("web")["past"][0]["reason"].clone();
        assert_eq!(reason, "unhealthy: 2 checks in a row failed, the last with status 1: looked");
        fs::write(ask.join("well"), "").unwrap();
        machine.until_active("web");
        machine.wait("a word of it", |machine| machine.said().iter().any(|line| line == "web       unhealthy"));

        machine.wait("unhealthy", |machine| machine.unit("hang")["health"] == "unhealthy");
        let hang = machine.unit("hang");
        assert_eq!((&hang["state"], &hang["health_log"][0]["exit_code"]), (&"active".into(), &(-1).into()), "{hang}");
        // The app has restarted with what it requires.
        machine.wait("the machine's word", |machine| machine.get("/v1/system")["state"] == "degraded");
        machine.post("/v1/units/hang/stop");
        assert_eq!(place.live_containers("hang"), 0);
    });
}

#[test]
fn conditions_are_asked_at_each_start() {
    place::inside("life::conditions_are_asked_at_each_start", |place| {
        let shared = place.shared_folder();
        let file = shared.join("go");
        let condition = format!("ConditionPathExists={}\nConditionPathIsMountPoint=!/etc/passwd", file.display());
        let enabled = "[Install]\nWantedBy=default.target";
        place.unit("web", COUNT, "", &format!("[Unit]\n{condition}\n{enabled}"));
        place.unit("app", COUNT, "", &format!("[Unit]\nRequires=web.service\nAfter=web.service\n{enabled}"));
        place.unit("strict", COUNT, "", &format!("[Unit]\nAssertPathExists={}", file.display()));
        let machine = Pid1::boot(place);
        machine.until_active("app");
        let web = machine.unit("web");
        assert_eq!((&web["state"], &web["sub_state"]), (&"inactive".into(), &"dead".into()), "{web}");
        let reason = format!("was not started: ConditionPathExists={} does not hold", file.display());
        assert_eq!(web["reason"], reason);
        assert_eq!(machine.get("/v1/system")["state"], "running", "nothing of it is a failure");
        assert_eq!(machine.post("/v1/units/web/start")["state"], "inactive", "the job is done");
        let why = format!("cannot start: AssertPathExists={} does not hold", file.display());
        let refused = machine.try_post("/v1/units/strict/start").unwrap();
        assert!(refused["detail"].as_str().is_some_and(|text| text.contains(&why)), "{refused}");
        let said = format!("strict    {why}");
        machine.wait("a word of it", |machine| machine.said().contains(&said));
        fs::write(&file, "").unwrap();
        machine.post("/v1/units/strict/start");
        assert_eq!(machine.post("/v1/units/web/start")["state"], "active");
    });
}

#[test]
fn a_unit_that_has_run_its_time_is_asked_to_end_by_its_kill_signal() {
    place::inside("life::a_unit_that_has_run_its_time_is_asked_to_end_by_its_kill_signal", |place| {
        let shared = place.shared_folder();
        fs::write(shared.join("say"), SAY).unwrap();
        // Its time begins when it is ready.
        let script = "trap 'echo asked; exit 0' USR1; trap '' TERM; STAY=1000 perl /ask/say READY=1 & \
                      while true; do sleep 0.01; done";
        let service = "[Service]\nRuntimeMaxSec=500ms\nKillSignal=SIGUSR1\nRestart=always\nRestartSec=10ms";
        let unit = "[Unit]\nStartLimitIntervalSec=0\n[Install]\nWantedBy=default.target";
        let keys = format!("Notify=true\nVolume={}:/ask", shared.display());
        place.unit("brief", script, &keys, &format!("{service}\n{unit}"));
        let mut machine = Pid1::boot(place);
        machine.wait("its end", |machine| machine.unit("brief")["past"][0]["result"] == "timeout");
        let reason = machine.unit("brief")["past"][0]["reason"].to_string();
        assert!(reason.ends_with("as long as RuntimeMaxSec= allows\""), "{reason}");
        assert!(machine.logs("/v1/units/brief/logs").iter().any(|line| line["message"] == "asked"));
        // The time goes on under another supervisor.
        machine.until_active("brief");
        let before = machine.unit("brief")["restarts"].as_u64();
        machine.kill_supervisor();
        machine.start_supervisor();
        machine.wait("its next end", |machine| machine.unit("brief")["restarts"].as_u64() > before);
    });
}

#[test]
fn units_are_reloaded_as_their_files_say() {
    place::inside("life::units_are_reloaded_as_their_files_say", |place| {
        let ask = place.shared_folder();
        let enabled = "[Install]\nWantedBy=default.target";
        let deaf = "trap 'echo again' HUP; echo up; while true; do sleep 0.05; done";
        place.unit("hup", deaf, "ReloadSignal=HUP", enabled);
        let command = "ReloadCmd=/bin/sh -c \"test -e /ask/good || { echo not yet; exit 3; }; sleep 999 & echo $$$$ > /ask/reloaded\"";
        place.unit("cmd", COUNT, &format!("Volume={}:/ask\n{command}", ask.display()), enabled);
        place.unit("none", COUNT, "", enabled);
        let with = format!("[Unit]\nReloadPropagatedFrom=hup.service\nPropagatesReloadTo=none.service\n{enabled}");
        place.unit("follows", deaf, "ReloadSignal=HUP", &with);
        let machine = Pid1::boot(place);
        let hup = machine.until_active("hup")["pid"].clone();
        let said = |machine: &Pid1, word: &str| {
            let by = |unit: &str| machine.logs(&format!("/v1/units/{unit}/logs"));
            ["hup", "follows"].iter().all(|unit| by(unit).iter().any(|line| line["message"] == word))
        };
        machine.wait("their traps", |machine| said(machine, "up"));
        machine.post("/v1/units/hup/reload");
        machine.wait("their word", |machine| said(machine, "again"));
        assert_eq!(machine.unit("hup")["pid"], hup);
        let said = |unit: &str| machine.try_post(&format!("/v1/units/{unit}/reload")).unwrap().to_string();
        let _ = (machine.until_active("cmd"), machine.until_active("none"));
        let failed = said("cmd");
        assert!(failed.contains("exited with status 3: not yet"), "{failed}");
        fs::write(ask.join("good"), "").unwrap();
        machine.post("/v1/units/cmd/reload");
        assert!(fs::read_to_string(ask.join("reloaded")).is_ok(), "it answers when the command has ended");
        let left = || {
            fs::read_dir("/sys/fs/cgroup/containers/cmd").unwrap().flatten().filter(|entry| {
                entry.file_name().to_string_lossy().starts_with("orlop-reload-")
                    && fs::read_to_string(entry.path().join("cgroup.procs")).is_ok_and(|procs| !procs.is_empty())
            })
        };
        machine.wait("the end of what it left behind", |_| left().count() == 0);
        // As long as a start may take, and not longer.
        place.edit("cmd", |text| {
            text.replace(command, "ReloadCmd=sleep 999")
                .replace("[Install]", "[Service]\nTimeoutStartSec=100ms\n[Install]")
        });
        machine.wait("the new file", |machine| machine.get("/v1/units").is_array());
        let late = said("cmd");
        assert!(late.contains("took longer than TimeoutStartSec="), "{late}");
        assert!(said("none").contains("write ReloadSignal= or ReloadCmd="));
        machine.post("/v1/units/none/stop");
        assert!(said("none").contains("not running") && said("nobody").contains("there is no such unit"));
    });
}

/// It takes its time with a file of variables: a pipe that nobody writes to.
#[test]
fn a_start_that_was_given_up_on_has_its_files_to_itself_until_it_has_ended() {
    place::inside("life::a_start_that_was_given_up_on_has_its_files_to_itself_until_it_has_ended", |place| {
        const VARIABLES: &str = "/run/variables";
        mkfifo(VARIABLES, Mode::S_IRWXU).unwrap();
        place.unit("slow", COUNT, &format!("EnvironmentFile={VARIABLES}"), "");
        let machine = Pid1::boot(place);
        let is = |machine: &Pid1, key: &str, value: &str| machine.unit("slow")[key] == value;
        let roots = || place.mounts().matches("units/slow/rootfs").count();
        machine.try_post("/v1/units/slow/start?no_block=true");
        machine.wait("its root to be made", |_| roots() == 1);
        machine.try_post("/v1/units/slow/stop?no_block=true");
        machine.wait("the start to be given up on", |machine| is(machine, "state", "inactive"));
        machine.try_post("/v1/units/slow/start?no_block=true");
        machine.wait("the next one to be refused", |machine| is(machine, "sub_state", "cleaning"));
        assert_eq!(roots(), 1, "made twice");
        fs::write(VARIABLES, "A=1").unwrap();
        machine.wait("its end", |machine| is(machine, "state", "failed"));
        let told = |machine: &Pid1| machine.said().iter().any(|line| line.contains("an earlier start still works"));
        machine.wait("its reason", told);
        assert_eq!(roots(), 0, "what the late one made is taken down");
        fs::remove_file(VARIABLES).unwrap();
        fs::write(VARIABLES, "A=1").unwrap();
        machine.post("/v1/units/slow/start");
        machine.until_active("slow");
        assert_eq!(roots(), 1);
    });
}

#[test]
fn the_network_that_was_waited_for_once_is_not_waited_for_again() {
    place::inside("life::the_network_that_was_waited_for_once_is_not_waited_for_again", |place| {
        let wants = "[Unit]\nWants=network-online.target\nAfter=network-online.target";
        place.unit("web", "exec sleep 1000", "StopTimeout=0", wants);
        let mut machine = Pid1::boot(place);
        machine.post("/v1/units/web/start?no_block=true");
        let first = machine.until_active("web");
        // That this place has no card is what it waited for; and what each supervisor finds out for itself in its time.
        let words = |machine: &Pid1| machine.said().iter().filter(|line| line.starts_with("network ")).count();
        assert_eq!(words(&machine), 1, "{:?}", machine.said());
        machine.kill_supervisor();
        machine.start_supervisor();
        machine.post("/v1/units/web/restart");
        assert_ne!(machine.unit("web")["pid"], first["pid"]);
        assert_eq!(words(&machine), 1, "{:?}", machine.said());
    });
}

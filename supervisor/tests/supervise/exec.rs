//! Other programs in a unit's container: their streams, terminals and ends.

use std::{
    fs::{self, File},
    io::{Read, Write, pipe},
    os::fd::OwnedFd,
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use nix::pty::{Winsize, openpty};

use crate::{
    COUNT,
    command::{done, orlop},
    pid1::{PROGRAM, Pid1},
    place,
};

/// Nothing of a session is left.
fn none_left(machine: &Pid1) {
    let folder = Path::new("/run/orlop/exec");
    machine.wait("the end of all sessions", |_| fs::read_dir(folder).map_or(0, Iterator::count) == 0);
}

#[test]
fn a_program_has_its_streams_its_identity_and_its_status() {
    place::inside("exec::a_program_has_its_streams_its_identity_and_its_status", |place| {
        place.unit("web", COUNT, "Environment=LEVEL=1", "");
        place.unit("off", COUNT, "", "");
        let machine = Pid1::boot(place);
        machine.post("/v1/units/web/start");
        machine.until_active("web");
        let sh = |options: &[&str], script: &str, input: &str| {
            let words = [&["exec"], options, &["web", "sh", "-c", script]].concat();
            orlop(&machine, &words, input)
        };
        let said = sh(&[], "echo out; echo err >&2; echo $LEVEL; cat; exit 7", "not sent");
        assert_eq!((said.code.as_str(), said.out.as_str(), said.err.as_str()), ("7", "out\n1\n", "err\n"));
        assert_eq!(sh(&["-i"], "wc -c", "four").out.trim(), "4");
        // More than any buffer on the way, there and back.
        let long = "0123456789abcdef".repeat(64 << 10);
        assert_eq!(sh(&["-i"], "cat", &long).out, long);
        assert_eq!(sh(&["-i"], "exec 0<&-; sleep 0.2; echo done", &long).out, "done\n");
        assert_eq!(sh(&[], "kill -9 $$", "").code, "137");
        let where_ = sh(&["-w", "/tmp", "-e", "LEVEL=2"], "pwd; echo $LEVEL", "");
        assert_eq!((where_.code.as_str(), where_.out.as_str()), ("0", "/tmp\n2\n"), "{}", where_.err);
        // What does not come to run.
        for (words, code, text) in [
            (&["exec", "web", "no-such-program"][..], "127", "no-such-program"),
            (&["exec", "web", "/etc"], "126", "permission denied"),
            (&["exec", "-w", "/nowhere", "web", "true"], "127", "/nowhere"),
            (&["exec", "-u", "nobody-here", "web", "true"], "125", "no user nobody-here"),
            (&["exec", "off", "true"], "125", "off: not running"),
            (&["exec", "nothing", "true"], "125", "no such unit"),
            (&["exec", "-d", "web", "no-such-program"], "125", "no-such-program"),
        ] {
            let said = orlop(&machine, words, "");
            assert!(
                said.code == code && said.err.contains(text) && said.err.lines().count() == 1,
                "{words:?}: {} {}",
                said.code,
                said.err
            );
        }
        done(&machine, &["exec", "-d", "web", "sh", "-c", "sleep 0.1; echo left > /tmp/left"], "");
        machine.wait("what runs by itself", |_| sh(&[], "cat /tmp/left", "").out == "left\n");
        for _ in 0..30 {
            assert_eq!(sh(&[], "true", "").code, "0");
        }
        none_left(&machine);
        assert_eq!(machine.unit("web")["restarts"], 0);
    });
}

#[test]
fn a_session_outlives_the_supervisor_and_not_its_client() {
    place::inside("exec::a_session_outlives_the_supervisor_and_not_its_client", |place| {
        place.unit("web", COUNT, "", "");
        let mut machine = Pid1::boot(place);
        machine.post("/v1/units/web/start");
        machine.until_active("web");
        let script = "trap 'echo hung up > /tmp/end; exit' HUP; while read line; do echo got $line; done; echo end";
        let begin = |machine: &Pid1| {
            let ((stdin, mut input), (output, stdout)) = (pipe().unwrap(), pipe().unwrap());
            let mut command = Command::new(PROGRAM);
            command.args(["exec", "-i", "web", "sh", "-c", script]).stdin(stdin).stdout(stdout);
            let pid = command.spawn().unwrap().id();
            let said = listen(output.into());
            input.write_all(b"one\n").unwrap();
            machine.wait("the first answer", |_| *said.lock().unwrap() == "got one\n");
            (pid, input, said)
        };
        let (_, mut input, said) = begin(&machine);
        machine.kill_supervisor();
        input.write_all(b"two\n").unwrap();
        machine.wait("an answer without a supervisor", |_| said.lock().unwrap().ends_with("got two\n"));
        machine.start_supervisor();
        machine.until_active("web");
        drop(input);
        machine.wait("its end", |_| said.lock().unwrap().ends_with("got two\nend\n"));
        let (pid, _input, _) = begin(&machine);
        machine.kill(&pid.into(), libc::SIGKILL);
        let end = |machine: &Pid1| orlop(machine, &["exec", "web", "cat", "/tmp/end"], "").out;
        machine.wait("the hang-up", |machine| end(machine) == "hung up\n");
        none_left(&machine);
    });
}

/// What is written there, as it comes.
fn listen(from: OwnedFd) -> Arc<Mutex<String>> {
    let said = Arc::new(Mutex::new(String::new()));
    let heard = Arc::clone(&said);
    thread::spawn(move || {
        let (mut from, mut bytes) = (File::from(from), [0; 4096]);
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            heard.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    });
    said
}

#[test]
fn a_terminal_is_a_terminal() {
    place::inside("exec::a_terminal_is_a_terminal", |place| {
        place.unit("web", COUNT, "", "");
        let machine = Pid1::boot(place);
        machine.post("/v1/units/web/start");
        machine.until_active("web");
        let size = Winsize { ws_row: 33, ws_col: 101, ws_xpixel: 0, ws_ypixel: 0 };
        let terminal = openpty(&size, None).unwrap();
        let said = listen(terminal.master.try_clone().unwrap());
        let mut keys = File::from(terminal.master.try_clone().unwrap());
        let end = |name: &str| place.shared_folder().join(name);
        let begin = |words: &str, name: &str| {
            let script = format!("{PROGRAM} exec {words}; echo $? > {0}.new; mv {0}.new {0}", end(name).display());
            let stream = || Stdio::from(terminal.slave.try_clone().unwrap());
            let mut command = Command::new("setsid");
            command.args(["-c", "sh", "-c", &script]).stdin(stream()).stdout(stream()).stderr(stream());
            drop(command.env("TERM", "vt220").spawn().unwrap());
        };
        let until = |what: &str| machine.wait(what, |_| said.lock().unwrap().contains(what));
        begin("-it web sh", "shell");
        until("# ");
        keys.write_all(b"stty size; echo $TERM; tty\n").unwrap();
        until("33 101\r\nvt220\r\n/dev/pts/0\r\n");
        // Another size, while it waits; what is typed as a signal; the end of the input.
        let stty = |words: &[&str]| {
            let stdin = Stdio::from(terminal.slave.try_clone().unwrap());
            drop(Command::new("stty").args(words).stdin(stdin).spawn().unwrap());
        };
        keys.write_all(b"sleep 1000\n").unwrap();
        machine.wait("its sleep", |machine| orlop(machine, &["exec", "web", "pgrep", "sleep"], "").code == "0");
        stty(&["rows", "44", "cols", "122"]);
        keys.write_all(&[3]).unwrap();
        until("^C");
        keys.write_all(b"echo status $?\n").unwrap();
        until("status 130\r\n");
        machine.wait("the other size", |_| {
            keys.write_all(b"stty size\n").unwrap();
            said.lock().unwrap().contains("44 122\r\n")
        });
        keys.write_all(&[4]).unwrap();
        machine.wait("its end", |_| end("shell").exists());
        // By now the terminal is as it was: what is typed is shown, and not sent.
        begin("-it web cat", "left");
        machine.let_run(std::time::Duration::from_millis(300));
        keys.write_all(b"typed\n").unwrap();
        until("typed\r\ntyped\r\n");
        keys.write_all(b"\x10\x11").unwrap();
        machine.wait("its leave", |_| end("left").exists());
        assert_eq!(fs::read_to_string(end("left")).unwrap(), "0\n");
        assert_eq!(orlop(&machine, &["exec", "web", "pkill", "-c", "cat"], "").out, "1\n", "it goes on");
        none_left(&machine);
    });
}

#[test]
fn what_becomes_of_units_is_told_and_waited_for() {
    place::inside("exec::what_becomes_of_units_is_told_and_waited_for", |place| {
        place.unit("job", "while ! test -e /tmp/end; do sleep 0.05; done; exit 5", "StopSignal=KILL", "");
        let mut machine = Pid1::boot(place);
        let begin = |words: &[&str]| {
            let (output, stdout) = pipe().unwrap();
            drop(Command::new(PROGRAM).args(words).stdout(stdout).spawn().unwrap());
            listen(output.into())
        };
        let told = begin(&["events", "--json"]);
        // It waits for what is there, and for what comes of it.
        machine.wait("the listener", |machine| {
            machine.post("/v1/units/job/start");
            let heard = told.lock().unwrap().contains(r#""unit":"job","state":"active""#);
            if !heard {
                machine.post("/v1/units/job/stop");
            }
            heard
        });
        let waits = begin(&["wait", "job"]);
        done(&machine, &["wait", "--condition", "running", "job"], "");
        machine.kill_supervisor();
        machine.start_supervisor();
        machine.until_active("job");
        assert_eq!(*waits.lock().unwrap(), "");
        done(&machine, &["exec", "job", "touch", "/tmp/end"], "");
        machine.wait("the end", |_| *waits.lock().unwrap() == "5\n");
        let last = |line: &str| line.contains(r#""state":"failed""#) && line.contains("exited with status 5");
        machine.wait("the last event", |_| told.lock().unwrap().lines().last().is_some_and(last));
    });
}

//! What ends while something else goes on: a container under its own `start`, an engine's output, one beside those that live below it.

use std::fs::{self, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::Stdio;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::json;

use crate::support::{Container, Said, spawn, wait_until};

/// A container whose hook inside waits for somebody who opens `fifo` and closes it.
fn waiting_at_its_hook(c: Container) -> Container {
    mkfifo(&c.rootfs("fifo"), Mode::S_IRWXU).unwrap();
    let mut c = c;
    c.config["hooks"]["startContainer"] = json!([{"path": "/bin/inspect", "args": ["inspect", "cat", "/fifo"]}]);
    c.create().ok();
    c
}

/// The hook is there; it goes on when this is closed.
fn hook(c: &Container) -> fs::File {
    let mut open = OpenOptions::new();
    open.write(true).custom_flags(libc::O_NONBLOCK);
    let mut fifo = None;
    wait_until("the hook", || {
        fifo = open.open(c.rootfs("fifo")).ok();
        fifo.is_some()
    });
    fifo.unwrap()
}

#[test]
fn start_says_that_there_is_nobody_to_start_any_more() {
    let mut c = Container::new(&["say", "ran"]);
    c.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "pid");
    let c = waiting_at_its_hook(c);
    let start = spawn(c.command(&["start", &c.id]).stdout(Stdio::piped()).stderr(Stdio::piped()));
    let fifo = hook(&c);
    c.oci(&["kill", &c.id, "TERM"]).ok();
    c.wait_for_status("stopped");
    drop(fifo);
    Said::from(&start.wait_with_output().unwrap()).refused("cannot start container");
    assert_eq!(c.output(), "");
}

#[test]
fn who_holds_the_lock_takes_nothing_of_a_hooks_time() {
    let mut c = Container::new(&["say", "up", "sleep"]);
    c.config["hooks"] = json!({"poststart": [{"path": "/bin/true", "timeout": 1}]});
    let c = waiting_at_its_hook(c);
    let start = spawn(c.command(&["start", &c.id]).stdout(Stdio::null()).stderr(Stdio::piped()));
    let fifo = hook(&c);
    let folder = c.path("state").join(&c.id);
    let mut holder = spawn(std::process::Command::new("flock").arg("-x").arg(folder).args(["sleep", "3"]));
    let waits = format!("-> FLOCK  ADVISORY  WRITE {} ", holder.id());
    wait_until("somebody who waits for the lock", || fs::read_to_string("/proc/locks").unwrap().contains(&waits));
    drop(fifo);
    Said::from(&start.wait_with_output().unwrap()).ok();
    holder.wait().unwrap();
}

#[test]
fn a_container_whose_poststart_hook_fails_is_stopped_when_that_is_told() {
    for _ in 0..20 {
        let c = Container::new(&["sleep"]).set("/hooks", json!({"poststart": [{"path": "/bin/false"}]}));
        c.create().ok();
        c.start().refused("error running poststart hook #0");
        assert_eq!(c.state()["status"], "stopped");
        c.oci(&["delete", &c.id]).ok();
    }
}

#[test]
fn hooks_do_not_run_in_the_state_of_a_container_whose_bundle_has_gone() {
    let c = Container::new(&["sleep"]);
    let (bundle, log) = (c.path("elsewhere"), c.path("log"));
    fs::create_dir(&bundle).unwrap();
    let line = format!("pwd > {}", log.display());
    let c = c
        .set("/hooks", json!({"poststart": [{"path": "/bin/sh", "args": ["sh", "-c", line]}]}))
        .set("/root/path", json!(log.with_file_name("rootfs")));
    fs::write(bundle.join("config.json"), c.config.to_string()).unwrap();
    c.create_with(&["--bundle", bundle.to_str().unwrap()]).ok();
    fs::remove_dir_all(&bundle).unwrap();
    c.start().ok();
    assert_eq!(fs::read_to_string(&log).unwrap(), "/\n");
}

#[test]
fn a_terminals_output_that_cannot_be_written_ends_nothing_and_is_told() {
    let c = Container::new(&["cat", "/big", "exit", "0"]).set("/process/terminal", json!(true));
    // More than a terminal keeps.
    c.file("big", "a line of many\n".repeat(20_000).as_bytes(), 0o644);
    c.write_config();
    let full = || OpenOptions::new().write(true).open("/dev/full").unwrap();
    let run = spawn(c.command(&["run", &c.id]).stdout(full()).stderr(Stdio::piped()));
    Said::from(&run.wait_with_output().unwrap()).refused("write to stdout: no space left on device");
    // One who reads the first of it only: the terminal hangs up, as if a user had closed the window.
    let mut run = spawn(c.command(&["run", &c.id]).stdout(Stdio::piped()).stderr(Stdio::null()));
    let mut first = [0; 10];
    run.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let mut ended = false;
    wait_until("the end of what nobody reads", || {
        ended = run.try_wait().unwrap().is_some();
        ended
    });
}

#[test]
fn a_slow_reader_who_does_not_block_loses_nothing() {
    let c = Container::new(&["cat", "/big"]).set("/process/terminal", json!(true));
    let big = "a line of many\n".repeat(20_000);
    c.file("big", big.as_bytes(), 0o644);
    c.write_config();
    let (mut read, write) = std::io::pipe().unwrap();
    nix::fcntl::fcntl(&write, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).unwrap();
    let mut run = spawn(c.command(&["run", &c.id]).stdout(write).stderr(Stdio::piped()));
    let mut all = String::new();
    read.read_to_string(&mut all).unwrap();
    assert!(run.wait().unwrap().success());
    assert_eq!(all.matches("a line of many").count(), 20_000);
}

#[test]
fn of_a_container_beside_an_heir_below_it_nothing_runs_on() {
    let mut c = Container::new(&["child", "say", "up", "sleep"]);
    c.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "pid");
    c.create().ok();
    c.start().ok();
    c.wait_for_output("up");
    let path = format!("{}/below", c.config["linux"]["cgroupsPath"].as_str().unwrap());
    let (first, procs) = (c.id.clone(), c.cgroup("cgroup.procs"));
    c.id = "heir".to_owned();
    let c = c.with_args(&["sleep"]).set("/linux/cgroupsPath", json!(path));
    c.create().ok();
    c.start().ok();
    let inside = || fs::read_to_string(&procs).unwrap().lines().count();
    assert_eq!(inside(), 2);
    let said = c.oci(&["delete", "--force", &first]).ok();
    assert!(said.err.contains("container heir is in it now"), "{said:?}");
    assert_eq!((inside(), c.state()["status"].as_str()), (0, Some("running")));
    c.oci(&["delete", "--force", &c.id]).ok();
    fs::remove_dir(procs.parent().unwrap()).unwrap();
}

#[test]
fn files_for_the_engine_are_whole_or_not_there() {
    let c = Container::new(&["sleep"]);
    // The empty word is none, as with runc.
    c.create_with(&["--pid-file", "", "--console-socket", ""]).ok();
    c.oci(&["delete", "--force", &c.id]).ok();
    fs::create_dir(c.path("pid")).unwrap();
    c.create_with(&["--pid-file", "pid"]).refused("pid: ");
    c.assert_gone();
    let mut left = fs::read_dir(c.path("")).unwrap().flatten().map(|one| one.file_name().into_string().unwrap());
    assert_eq!(left.find(|name| name.contains("orlop-new")), None);
}

//! `process.terminal`: the engine gets the master by its socket, the program the other side.

use std::io::{IoSliceMut, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::process::Stdio;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use serde_json::json;

use crate::support::{Container, Said, spawn, wait_until};

/// Takes the descriptor an engine would get.
fn master(listener: &UnixListener) -> std::fs::File {
    let (stream, _) = listener.accept().unwrap();
    let mut bytes = [0; 64];
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let mut space = nix::cmsg_space!([i32; 1]);
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC).unwrap();
    let mut fds = message.cmsgs().unwrap().filter_map(|one| match one {
        ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
        _ => None,
    });
    let fd = fds.next().expect("a descriptor");
    #[allow(unsafe_code)]
    // SAFETY: the kernel has just made this descriptor for us.
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    owned.into()
}

/// Reads until the terminal has shown these words.
#[track_caller]
fn wait_for(terminal: &mut std::fs::File, seen: &mut String, words: &str) {
    wait_until(words, || {
        let mut buffer = [0; 4096];
        // EIO: the other side is closed.
        let count = terminal.read(&mut buffer).unwrap_or(0);
        seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
        seen.contains(words)
    });
}

const VERBS: [&str; 8] = ["tty", "size", "link", "/proc/self/fd/0", "cat", "/proc/self/mountinfo", "say", "END"];

#[test]
fn the_engine_gets_the_master_and_the_program_a_terminal() {
    for uid in [0, 1000] {
        let c = Container::new(&VERBS)
            .set("/process/terminal", json!(true))
            .set("/process/consoleSize", json!({"height": 24, "width": 300}))
            .set("/process/user", json!({"uid": uid, "gid": uid}));
        let listener = UnixListener::bind(c.path("console.sock")).unwrap();
        c.create_with(&["--console-socket", "console.sock"]).ok();
        let mut terminal = master(&listener);
        c.start().ok();
        let mut seen = String::new();
        wait_for(&mut terminal, &mut seen, "END");
        assert!(seen.contains("tty 1 1 1") && seen.contains("/proc/self/fd/0 -> /dev/pts/0"), "{seen}");
        assert!(seen.contains(" /dev/console rw"), "{seen}");
        assert!(seen.contains("size 24 rows 300 columns"), "{seen}");
    }
}

#[test]
fn exec_gets_a_terminal_of_its_own_and_its_keys_are_signals() {
    let c = Container::new(&["say", "up", "sleep"]);
    c.create().ok();
    c.start().ok();
    c.wait_for_output("up");
    let listener = UnixListener::bind(c.path("console.sock")).unwrap();
    let options = ["exec", "-d", "-t", "--console-socket", "console.sock", "--console-size", "24x300", &c.id];
    c.oci(&[&options[..], &["/bin/inspect", "tty", "size", "say", "READY", "sleep"]].concat()).ok();
    let mut terminal = master(&listener);
    let mut seen = String::new();
    wait_for(&mut terminal, &mut seen, "READY");
    assert!(seen.contains("tty 1 1 1") && seen.contains("size 24 rows 300 columns"), "{seen}");
    let procs = || std::fs::read_to_string(c.cgroup("cgroup.procs")).unwrap().lines().count();
    assert_eq!(procs(), 2);
    // Ctrl-C reaches the process only if the terminal controls its session.
    terminal.write_all(b"\x03").unwrap();
    wait_until("the end of the process", || procs() == 1);
}

#[test]
fn a_ptmx_that_is_none_is_refused() {
    // CVE-2025-52565: what lies at /dev/pts/ptmx is checked, not believed.
    let mut c = Container::new(&VERBS).set("/process/terminal", json!(true)).set("/root/readonly", json!(false));
    let mounts = c.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|m| !m["destination"].as_str().unwrap().starts_with("/dev"));
    c.file("dev/pts/ptmx", b"canary", 0o666);
    let _listener = UnixListener::bind(c.path("console.sock")).unwrap();
    c.create_with(&["--console-socket", "console.sock"]).refused("check /dev/pts/ptmx: no such device or address");
    assert_eq!(std::fs::read(c.rootfs("dev/pts/ptmx")).unwrap(), b"canary");
}

#[test]
fn a_terminal_without_a_socket_and_a_socket_without_a_terminal_are_refused() {
    let c = Container::new(&VERBS);
    let _listener = UnixListener::bind(c.path("console.sock")).unwrap();
    c.create_with(&["--console-socket", "console.sock"]).refused("no terminal is asked for");
    let c = c.set("/process/terminal", json!(true));
    c.create_with(&["--console-socket", "absent.sock"]).refused("connect to console socket");
    c.create().refused("--console-socket is needed");
}

#[test]
fn a_foreground_terminal_is_the_callers() {
    // Without a socket to hand it over to, as `runc run` and `exec -t` have it: the runtime stands in between.
    let c = Container::new(&["tty", "cat", "/dev/stdin", "exit", "5"]).set("/process/terminal", json!(true));
    c.write_config();
    let mut run = c.command(&["run", &c.id]);
    let mut run = spawn(run.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()));
    // The last is the key for the end of the input.
    run.stdin.take().unwrap().write_all(b"typed\n\x04").unwrap();
    let said = Said::from(&run.wait_with_output().unwrap());
    assert_eq!(said.status, 5, "{said:?}");
    // Lines end as the program ended them.
    said.has("tty 1 1 1").has("/dev/stdin: typed");

    let c = Container::new(&["say", "up", "sleep"]);
    c.create().ok();
    c.start().ok();
    c.oci(&["exec", "-t", &c.id, "/bin/inspect", "tty"]).ok().has("tty 1 1 1");
    c.oci(&["exec", "-t", "-d", &c.id, "/bin/inspect", "tty"]).refused("--console-socket is needed");
}

#[test]
fn who_prints_without_a_pause_hears_of_a_key() {
    let c = Container::new(&["say", "up", "sleep"]);
    c.create().ok();
    c.start().ok();
    let mut exec = c.command(&["exec", "-t", &c.id, "/bin/inspect", "flood"]);
    let mut exec = spawn(exec.stdin(Stdio::piped()).stdout(Stdio::piped()));
    let mut printed = exec.stdout.take().unwrap();
    let mut buffer = vec![0; 1 << 16];
    assert!(printed.read(&mut buffer).unwrap() > 0);
    let reader = std::thread::spawn(move || while printed.read(&mut buffer).is_ok_and(|count| count > 0) {});
    exec.stdin.as_mut().unwrap().write_all(b"\x03").unwrap();
    let mut status = None;
    wait_until("the end of what was interrupted", || {
        status = exec.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.unwrap().code(), Some(128 + libc::SIGINT));
    reader.join().unwrap();
}

#[test]
fn the_engine_gets_the_process_as_a_descriptor() {
    let c = Container::new(&["say", "up", "sleep"]);
    let listener = UnixListener::bind(c.path("pidfd.sock")).unwrap();
    c.create_with(&["--pidfd-socket", "pidfd.sock"]).ok();
    let (pid, pidfd) = (c.pid(), master(&listener));
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).unwrap();
    assert!(info.lines().any(|line| line == format!("Pid:\t{pid}")), "{info}");
    c.start().ok();
    c.wait_for_output("up");
    let mut exec = c.command(&["exec", "-d", "--pidfd-socket", "pidfd.sock", &c.id, "/bin/inspect", "sleep"]);
    assert!(spawn(exec.stdout(Stdio::null())).wait().unwrap().success());
    let pidfd = master(&listener);
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).unwrap();
    assert!(info.contains("Pid:\t") && !info.lines().any(|line| line == format!("Pid:\t{pid}")), "{info}");
}

//! Scripts of supervisors that die at the wrong time, and that keep what does not like to be closed.

use std::io::{ErrorKind, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;

use handoff::{ToInit, ToSupervisor};
use nix::sys::socket::{setsockopt, sockopt::Linger};

use crate::supervisor::Supervisor;
use crate::sys;

/// Answers a request to shut down and dies; the second one carries it out, unless all are to die.
pub(crate) fn dies_while_stopping(s: &mut Supervisor) {
    let always = std::env::var_os("ORLOP_TEST_ALWAYS").is_some();
    if s.hello.generation == 1 {
        s.report("ready");
    } else if !always {
        return;
    }
    while !matches!(s.next(), (ToSupervisor::ShutdownRequest { .. }, _)) {}
    s.send(&ToInit::Stopping { within_ms: 60_000 });
    s.report("stopping");
    std::process::exit(1);
}

/// Has a socket kept that would hold whoever closes it last for days.
pub(crate) fn lingering(s: &mut Supervisor) {
    sys::loopback_up();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (_deaf, _) = listener.accept().unwrap();
    client.set_nonblocking(true).unwrap();
    let full = std::iter::repeat_with(|| client.write(&[0; 65536])).find_map(Result::err).unwrap();
    assert_eq!(full.kind(), ErrorKind::WouldBlock);
    setsockopt(&client, Linger, &libc::linger { l_onoff: 1, l_linger: 1 << 20 }).unwrap();
    s.send_fd(&ToInit::PutFd { name: "lingering".into() }, client.as_raw_fd());
    assert_eq!(s.names(), ["lingering"]);
    drop(client);
    s.send(&ToInit::DropFd { name: "lingering".into() });
    s.check_health();
    s.report("healthy");
}

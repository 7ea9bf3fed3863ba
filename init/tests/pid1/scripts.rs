//! What the supervisor does in each test, inside the machine.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd as _, RawFd};

use handoff::{Exit, LastEnd, ShutdownKind, ToInit, ToSupervisor};

use crate::endings;
use crate::supervisor::{Supervisor, histogram, init_memory_kib};
use crate::sys;

pub(crate) fn run(script: &str) -> ! {
    let mut s = Supervisor::start();
    match script {
        "healthy" => healthy(&mut s),
        "touch" => touch(&mut s),
        "orphans" => orphans(&mut s),
        "signals" => signals(&mut s),
        "storm" => storm(&mut s),
        "exhaust fds" => exhaust_fds(&mut s),
        "away" => away(&mut s, 0, |_| std::process::exit(1)),
        "away at a fault" => away_at_a_fault(&mut s),
        "drop exits" => drop_exits(&mut s),
        "crash" => crash(),
        "killed five times" => killed_five_times(&mut s),
        "hang" => hang(&mut s),
        "close socket" => close_socket(&mut s),
        "flood" => flood(&mut s),
        "garbage" => garbage(&mut s),
        "fork bomb" => fork_bomb(&mut s),
        "keep fd" => keep_fd(&mut s, store),
        "keep fd at a fault" => keep_fd(&mut s, store_at_a_fault),
        "provoke" => provoke(&mut s),
        "container" => container(&mut s),
        "mount" => mount(&mut s),
        "stubborn" => stubborn(&mut s),
        "stubborn in a cgroup" => stubborn_in_a_cgroup(&mut s),
        "mute" => mute(&mut s),
        "dies while stopping" => endings::dies_while_stopping(&mut s),
        "lingering" => endings::lingering(&mut s),
        "reboot" => s.shut_down(ShutdownKind::Reboot),
        other => panic!("no script {other}"),
    }
    s.serve()
}

fn healthy(s: &mut Supervisor) {
    s.check_health();
    s.report("healthy");
}

/// Tries to write where the test program lies, in the root and in the places every program writes to.
fn touch(s: &mut Supervisor) {
    for folder in [env!("CARGO_TARGET_TMPDIR"), "/", "/tmp", "/var/tmp", "/etc", "/root", "/sys/fs/cgroup"] {
        let result = std::fs::write(format!("{folder}/orlop-pid1-test"), "");
        assert!(result.is_err(), "{folder} is writable");
    }
    healthy(s);
}

/// 100,000 of them, by batches, so that none has to be dropped.
fn orphans(s: &mut Supervisor) {
    const BATCH: u32 = 1000;
    let mut early = 0;
    for batch in 0..100 {
        let parent = sys::fork(|| {
            for _ in 0..BATCH {
                // Each ends with a status that its pid predicts.
                sys::fork(|| sys::getpid() % 251);
            }
            0
        });
        for _ in 0..BATCH {
            let exit = s.next_exit();
            assert_eq!(exit.wait_status, i32::try_from(exit.pid % 251).unwrap() << 8, "pid {}", exit.pid);
            assert!(exit.start_ticks > 0);
            s.acknowledge(&exit);
        }
        assert_eq!(sys::wait(parent, 10_000), Some(0));
        if batch == 2 {
            early = init_memory_kib("VmHWM");
        }
    }
    let last = init_memory_kib("VmHWM");
    s.report(&format!("orphans reaped, peak KiB: after 3000 {early}, at the end {last}"));
    assert!(last <= early + 256, "init grew from {early} to {last} KiB");
    healthy(s);
}

/// Every signal whose default action ends a process, real-time ones and those of the C library included.
fn signals(s: &mut Supervisor) {
    let harmless = [libc::SIGCHLD, libc::SIGCONT, libc::SIGURG, libc::SIGWINCH];
    let stopping = [libc::SIGSTOP, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];
    for signal in 1..=64 {
        let pid = s.orphan(|| {
            sys::default_signal(signal);
            sys::kill(sys::getpid(), signal);
            33
        });
        if stopping.contains(&signal) {
            sys::kill(i32::try_from(pid).unwrap(), libc::SIGKILL);
        }
        let status = s.exit_of(pid).wait_status;
        if harmless.contains(&signal) {
            assert_eq!(status, 33 << 8, "signal {signal}");
        } else if stopping.contains(&signal) {
            // An orphaned process group is not stopped by the terminal's signals: then it ended by itself.
            assert!(status == libc::SIGKILL || status == 33 << 8, "signal {signal}: {status:#x}");
        } else {
            assert_eq!(status & 0x7f, signal, "signal {signal}: {status:#x}");
        }
    }
    // What it used comes with its end: at its peak at least the memory that it touched.
    const MIB: usize = 32;
    let eater = s.orphan(|| i32::from(std::hint::black_box(vec![1_u8; MIB << 20])[MIB]) - 1);
    let exit = s.exit_of(eater);
    assert!(exit.wait_status == 0 && exit.max_rss_kib >= (MIB as u64) << 10, "{exit:?}");
    healthy(s);
}

/// Signals to PID 1 as fast as they can be sent, while children end: none may be lost, nor anything else stop.
fn storm(s: &mut Supervisor) {
    let senders: Vec<_> = (0..3)
        .map(|_| {
            sys::fork(|| {
                for i in 0..60_000 {
                    sys::kill(1, [libc::SIGCHLD, libc::SIGUSR1, libc::SIGRTMAX() - 2, libc::SIGURG][i % 4]);
                }
                0
            })
        })
        .collect();
    let parent = sys::fork(|| {
        for _ in 0..2000 {
            sys::fork(|| 9);
        }
        0
    });
    let exits: Vec<Exit> = (0..2000).map(|_| s.next_exit()).collect();
    assert_eq!(histogram(exits.iter().copied()), BTreeMap::from([(9 << 8, 2000)]));
    s.acknowledge(exits.last().unwrap());
    for pid in senders.into_iter().chain([parent]) {
        assert_eq!(sys::wait(pid, 60_000), Some(0));
    }
    healthy(s);
}

/// Puts descriptors until PID 1 has no room for more; in the second life what was stored is still there.
fn exhaust_fds(s: &mut Supervisor) {
    if s.hello.generation == 1 {
        for i in 0..200 {
            let (read, _write) = nix::unistd::pipe().unwrap();
            s.send_fd(&ToInit::PutFd { name: format!("fd{i}") }, read.as_raw_fd());
        }
        let first_failed = loop {
            if let (ToSupervisor::Failed { request: 66, errno, name }, _) = s.next() {
                assert_eq!(errno, libc::EMFILE);
                break name;
            }
        };
        s.report(&format!("full at {first_failed}"));
        let pid = s.orphan(|| 3);
        let exit = s.exit_of(pid);
        assert!(exit.start_ticks > 0, "the spare descriptors let /proc be read");
        std::process::exit(1);
    }
    let names = s.names();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        s.send(&ToInit::DropFd { name });
    }
    healthy(s);
}

/// Exits while nobody listens are kept; those acknowledged do not come again.
fn away(s: &mut Supervisor, more: u32, leave: fn(&mut Supervisor)) {
    if s.hello.generation == 1 {
        let acknowledged = s.orphan(|| 1);
        s.exit_of(acknowledged);
        // Told, not acknowledged.
        let told = s.orphan(|| 2);
        while s.next_exit().pid != told {}
        // These end when this process does: their pipe closes.
        let (read, write) = nix::unistd::pipe().unwrap();
        for status in [3, 4, 5] {
            s.orphan(|| {
                // Its own copy of the write end would keep it from seeing the end.
                drop(sys::own(write.as_raw_fd()));
                let _ = nix::unistd::read(&read, &mut [0]);
                status
            });
        }
        leave(s);
    }
    let mut seen: Vec<Exit> = Vec::new();
    let mut missing = 4 + more;
    while missing > 0 {
        let exit = s.next_exit();
        // PID 1 may have ended the supervisor before, and that is an exit, too.
        missing -= u32::from(exit.wait_status != libc::SIGKILL);
        seen.push(exit);
    }
    assert_eq!(seen[0].wait_status, 2 << 8, "the oldest first");
    let mut all = histogram(seen.iter().copied());
    all.remove(&libc::SIGKILL);
    assert_eq!(all.remove(&(6 << 8)).unwrap_or(0), more);
    assert_eq!(all, BTreeMap::from([(2 << 8, 1), (3 << 8, 1), (4 << 8, 1), (5 << 8, 1)]));
    assert_eq!(s.hello.dropped_exits, 0);
    let last = seen.iter().map(|exit| exit.seq).max().unwrap();
    s.send(&ToInit::ExitsHandled { seq: last });
    healthy(s);
}

/// The same while PID 1 itself breaks: some were told, more wait unread, and the rest end with this process, which
/// the next PID 1 kills.
fn away_at_a_fault(s: &mut Supervisor) {
    away(s, 2000, |s| {
        let (read, write) = nix::unistd::pipe().unwrap();
        let parent = sys::fork(|| {
            drop(sys::own(read.as_raw_fd()));
            for _ in 0..2000 {
                sys::fork(|| 6);
            }
            // Only now its end is seen, and with it that of all of them.
            i32::from(nix::unistd::write(&write, b"!").is_err())
        });
        assert_eq!(nix::unistd::read(&read, &mut [0]), Ok(1));
        assert_eq!(sys::wait(parent, 10_000), Some(0));
        s.report("away");
        sys::pause();
    });
}

/// More exits than the queue holds, while nobody acknowledges.
fn drop_exits(s: &mut Supervisor) {
    if s.hello.generation == 1 {
        let parent = sys::fork(|| {
            for _ in 0..6000 {
                sys::fork(|| 1);
            }
            0
        });
        assert_eq!(sys::wait(parent, 60_000), Some(0));
        // The queue is a queue: when the last one is there, all of them were.
        let last = s.orphan(|| 2);
        while s.next_exit().pid != last {}
        std::process::exit(1);
    }
    assert_eq!((s.hello.queued_exits, s.hello.dropped_exits), (4096, 6001 - 4096));
    healthy(s);
}

fn crash() {
    std::process::exit(7);
}

fn be_killed() {
    sys::kill(sys::getpid(), libc::SIGKILL);
    sys::pause();
}

fn killed_five_times(s: &mut Supervisor) {
    if s.hello.generation <= 5 {
        be_killed();
    }
    assert_eq!(s.predecessor, Some(LastEnd::FromOutside), "as far as can be seen");
    healthy(s);
}

fn hang(s: &mut Supervisor) {
    if s.hello.generation == 1 {
        sys::kill(sys::getpid(), libc::SIGSTOP);
    } else {
        assert_eq!(s.predecessor, Some(LastEnd::ByItself));
    }
    healthy(s);
}

fn close_socket(s: &mut Supervisor) {
    if s.hello.generation == 1 {
        drop(sys::own(handoff::SUPERVISOR_FD));
        sys::pause();
    }
    healthy(s);
}

/// Requests and lines without reading an answer, until the socket takes no more; then everything is still right.
fn flood(s: &mut Supervisor) {
    let list = ToInit::ListFds.encode();
    let say = ToInit::Say { text: "web flood ".repeat(30) }.encode();
    let unknown = ToInit::TakeFd { name: "nobody".into() }.encode();
    let (mut listings, mut failures) = (0, 0);
    for round in 0..300_000 {
        let (packet, counter) = match round % 3 {
            0 => (&list, Some(&mut listings)),
            1 => (&say, None),
            _ => (&unknown, Some(&mut failures)),
        };
        if s.try_send(packet) {
            counter.into_iter().for_each(|counter| *counter += 1);
        }
    }
    s.report(&format!("flooded: {listings} listings, {failures} unknown names"));
    while listings + failures > 0 {
        match s.next().0 {
            ToSupervisor::FdsEnd => listings -= 1,
            ToSupervisor::Failed { request: 67, .. } => failures -= 1,
            other => panic!("after the flood: {other:?}"),
        }
    }
    healthy(s);
}

fn garbage(s: &mut Supervisor) {
    let mut packet = Vec::new();
    for i in 0..20_000u32 {
        packet.clear();
        packet.extend(i.wrapping_mul(2_654_435_761).to_le_bytes().iter().cycle().take((i % 700) as usize));
        if i % 2 == 0 {
            let kind = u8::try_from(60 + i % 20).unwrap();
            let len = packet.len().min(4);
            packet[..len].copy_from_slice(&[b'O', b'H', 1, kind][..len]);
        }
        // What happens to be a request to end the machine would be obeyed.
        if packet.get(3) != Some(&70) {
            s.send_raw(&packet, (i % 50 == 0).then_some(1));
        }
        while s.is_readable(0) {
            s.take_one();
        }
    }
    // A listing's end says that everything before it was answered.
    s.send(&ToInit::ListFds);
    while s.next().0 != ToSupervisor::FdsEnd {}
    healthy(s);
}

/// Fills the namespace with processes, keeps it full while this supervisor dies, and lets go two seconds later.
fn fork_bomb(s: &mut Supervisor) {
    if s.hello.generation > 1 {
        // The bomb ends, and with it all it made; their process ids are used again at once, so their exits go first.
        s.next_exit();
        while s.is_readable(500) {
            s.take_one();
        }
        s.drop_exits();
        healthy(s);
        return;
    }
    // Since Linux 6.14 the limit belongs to the pid namespace; before, to the machine, which is not ours to change.
    let release = nix::sys::utsname::uname().unwrap().release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    if (numbers.next(), numbers.next()) < (Some(6), Some(14)) {
        s.report("pid_max of the machine");
        healthy(s);
        return;
    }
    std::fs::write("/proc/sys/kernel/pid_max", "400").unwrap();
    s.report("pid_max own");
    let (read, write) = nix::unistd::pipe().unwrap();
    s.orphan(|| {
        let until = sys::seconds() + 2;
        while sys::seconds() < until {
            sys::fork(|| {
                drop(sys::own(write.as_raw_fd()));
                let _ = nix::unistd::read(&read, &mut [0]);
                0
            });
        }
        // Its end closes the pipe, which ends all of them.
        0
    });
    // Not before the ids are used up: then this fork fails.
    while sys::fork(|| 0) > 0 {}
    drop(write);
    sys::kill(sys::getpid(), libc::SIGKILL);
}

fn keep_fd(s: &mut Supervisor, store: fn(&mut Supervisor, RawFd)) {
    if s.hello.generation == 1 {
        let (read, write) = nix::unistd::pipe().unwrap();
        nix::unistd::write(&write, b"kept").unwrap();
        store(s, read.as_raw_fd());
        s.report("stored");
        // Until the test makes an end of it.
        loop {
            s.next();
        }
    }
    assert_eq!(s.names(), ["log:web:out"]);
    s.send(&ToInit::TakeFd { name: "log:web:out".into() });
    let (_, fd) = s.next();
    let mut bytes = [0; 4];
    assert_eq!(nix::unistd::read(fd.unwrap(), &mut bytes), Ok(4));
    assert_eq!(&bytes, b"kept");
    healthy(s);
}

fn store(s: &mut Supervisor, fd: RawFd) {
    s.send_fd(&ToInit::PutFd { name: "log:web:out".into() }, fd);
    assert_eq!(s.names(), ["log:web:out"]);
}

/// The test stops PID 1; when that goes on, it meets the signal that breaks it before it looks into the socket.
fn store_at_a_fault(s: &mut Supervisor, fd: RawFd) {
    s.report("ready");
    while !std::fs::read_to_string("/proc/1/stat").unwrap().contains(") T ") {
        std::thread::yield_now();
    }
    s.send_fd(&ToInit::PutFd { name: "log:web:out".into() }, fd);
    sys::kill(1, libc::SIGUSR2);
}

/// One of each kind of event, for an injected fault to meet; then all of it has to work.
fn provoke(s: &mut Supervisor) {
    sys::kill(1, libc::SIGUSR1);
    s.send(&ToInit::Say { text: "web provoking".into() });
    for _ in 0..3 {
        let parent = sys::fork(|| {
            for _ in 0..5 {
                sys::fork(|| 1);
            }
            0
        });
        assert_eq!(sys::wait(parent, 10_000), Some(0));
    }
    // The messages and exits that met the fault may be lost: what comes after it may not. The signal was taken
    // before the message that follows it.
    s.send(&ToInit::ListFds);
    s.send(&ToInit::ListFds);
    while s.next().0 != ToSupervisor::FdsEnd {}
    while s.is_readable(100) {
        s.take_one();
    }
    s.drop_answers();
    healthy(s);
}

/// A process that stands for a container: it outlives everything but the machine.
fn container(s: &mut Supervisor) {
    if s.hello.generation == 1 {
        let pid = s.orphan(|| sys::pause());
        s.send(&ToInit::PutFd { name: "no descriptor beside this".into() });
        s.report(&format!("container {pid}"));
    }
    if s.hello.generation <= 5 {
        crash();
    }
    let own = std::process::id().to_string();
    let is_child_of_init = |pid: &str| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|rest| rest.split(' ').nth(1) == Some("1"))
    };
    let names = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let alive = names.filter(|name| *name != own && name.parse::<u32>().is_ok() && is_child_of_init(name)).count();
    assert_eq!(alive, 1, "children of init besides the supervisor");
    healthy(s);
}

/// A file system whose writes count as writes, in the machine's `/run`.
fn mount(s: &mut Supervisor) {
    for folder in ["lower", "upper", "work", "held"] {
        std::fs::create_dir(format!("/run/{folder}")).unwrap();
    }
    let options = "lowerdir=/run/lower,upperdir=/run/upper,workdir=/run/work";
    let flags = nix::mount::MsFlags::empty();
    nix::mount::mount(Some("overlay"), "/run/held", Some("overlay"), flags, Some(options)).unwrap();
    s.report("mounted");
    s.serve();
}

/// With a process that ignores TERM, for the shutdown to deal with.
fn stubborn(s: &mut Supervisor) {
    // Before the fork: a process that comes to it later may be asked to end first.
    sys::ignore_signal(libc::SIGTERM);
    s.orphan(|| sys::pause());
    s.report("ready");
    s.serve();
}

/// The same; the tree of cgroups is one of plain files, in which stays what PID 1 wrote.
fn stubborn_in_a_cgroup(s: &mut Supervisor) {
    let none = None::<&str>;
    nix::mount::mount(none, "/sys/fs/cgroup", Some("tmpfs"), nix::mount::MsFlags::empty(), none).unwrap();
    for (cgroup, populated) in [("containers/web", 1), ("containers/done", 0), ("orlop", 1)] {
        std::fs::create_dir_all(format!("/sys/fs/cgroup/{cgroup}")).unwrap();
        let events = format!("populated {populated}\nfrozen 0\n");
        std::fs::write(format!("/sys/fs/cgroup/{cgroup}/cgroup.events"), events).unwrap();
    }
    stubborn(s);
}

/// Never answers a request to shut down.
fn mute(s: &mut Supervisor) {
    s.report("ready");
    sys::pause();
}

//! The one program in the test rootfs: says what it sees, does what its arguments ask, one after the other.
//! Built at test time by `rustc --target <arch>-unknown-linux-musl`; uses std alone.

use std::fs;
use std::io::{Read, Write};
use std::process::exit;

unsafe extern "C" {
    fn signal(number: i32, handler: usize) -> usize;
    fn pause() -> i32;
    fn fork() -> i32;
    fn mknod(path: *const u8, mode: u32, rdev: u64) -> i32;
    fn isatty(fd: i32) -> i32;
    fn getrlimit(resource: i32, limit: *mut [u64; 2]) -> i32;
    fn personality(domain: u64) -> i32;
    fn clock_gettime(clock: i32, time: *mut [i64; 2]) -> i32;
    fn umask(mask: u32) -> u32;
    fn lgetxattr(path: *const u8, name: *const u8, value: *mut u8, size: usize) -> isize;
    fn ioctl(fd: i32, request: u64, ...) -> i32;
    fn syscall(number: i64, ...) -> i64;
}

fn main() {
    let mut args = std::env::args().skip(1);
    while let Some(verb) = args.next() {
        let mut next = || args.next().unwrap_or_default();
        match verb.as_str() {
            "exit" => exit(next().parse().unwrap_or(99)),
            "say" => println!("{}", next()),
            "flood" => loop {
                println!("more");
            },
            "cat" => show(&next()),
            "ls" => list(&next()),
            "link" => {
                let path = next();
                println!("{path} -> {}", fs::read_link(&path).map_or_else(|e| e.to_string(), |p| p.display().to_string()));
            }
            "write" => {
                let (path, text) = (next(), next());
                report(&format!("write {path}"), fs::OpenOptions::new().write(true).open(&path).and_then(|mut f| f.write_all(text.as_bytes())));
            }
            "create" => {
                let path = next();
                report(&format!("create {path}"), fs::File::create(&path).map(drop));
            }
            "open" => {
                let path = next();
                report(&format!("open {path}"), fs::File::open(&path).map(drop));
            }
            "stat" => {
                use std::os::unix::fs::MetadataExt as _;
                let path = next();
                let said = fs::symlink_metadata(&path).map(|m| format!("{:o} {}:{}", m.mode(), m.rdev() >> 8, m.rdev() & 255));
                println!("stat {path}: {}", said.unwrap_or_else(|e| e.to_string()));
            }
            "mknod" => {
                let (path, major, minor): (String, u64, u64) = (next() + "\0", next().parse().unwrap(), next().parse().unwrap());
                let done = unsafe { mknod(path.as_ptr(), 0o020666, major << 8 | minor) };
                println!("mknod: {}", if done == 0 { "ok".into() } else { std::io::Error::last_os_error().to_string() });
            }
            "status" => {
                let wanted = next();
                let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
                for line in text.lines().filter(|line| wanted.split(',').any(|w| line.starts_with(&format!("{w}:")))) {
                    println!("{}", line.split_whitespace().collect::<Vec<_>>().join(" "));
                }
            }
            "fds" => {
                let mut all: Vec<i32> =
                    fs::read_dir("/proc/self/fd").unwrap().filter_map(|e| e.unwrap().file_name().to_str()?.parse().ok()).collect();
                all.sort_unstable();
                // The last is the one that lists.
                all.pop();
                println!("fds {all:?}");
            }
            "pid" => println!("pid {}", std::process::id()),
            "cwd" => println!("cwd {}", std::env::current_dir().map_or_else(|e| e.to_string(), |p| p.display().to_string())),
            "env" => std::env::vars().for_each(|(k, v)| println!("env {k}={v}")),
            "tty" => println!("tty {} {} {}", unsafe { isatty(0) }, unsafe { isatty(1) }, unsafe { isatty(2) }),
            "size" => {
                let mut size = [0_u16; 4];
                // TIOCGWINSZ
                unsafe { ioctl(0, 0x5413, &mut size) };
                println!("size {} rows {} columns", size[0], size[1]);
            }
            "keyring" => {
                let number = if cfg!(target_arch = "x86_64") { 250 } else { 219 };
                // KEYCTL_GET_KEYRING_ID of KEY_SPEC_SESSION_KEYRING
                println!("keyring {}", unsafe { syscall(number, 0_i64, -3_i64, 0_i64) });
            }
            // Whose the standard streams are.
            "owners" => {
                use std::os::{fd::FromRawFd, unix::fs::MetadataExt};
                let of = |fd| std::mem::ManuallyDrop::new(unsafe { fs::File::from_raw_fd(fd) }).metadata().unwrap().uid();
                println!("owners {} {} {}", of(0), of(1), of(2));
            }
            "umask" => println!("umask {:o}", unsafe { umask(0) }),
            "personality" => println!("personality {:x}", unsafe { personality(0xffff_ffff) }),
            "limit" => {
                let (number, mut limit) = (next().parse().unwrap(), [0; 2]);
                unsafe { getrlimit(number, &mut limit) };
                println!("limit {number} {} {}", limit[0], limit[1]);
            }
            "boottime" => {
                let mut time = [0; 2];
                unsafe { clock_gettime(7, &mut time) };
                println!("boottime {}", time[0]);
            }
            "syscall" => {
                let (number, a, b): (i64, i64, i64) = (next().parse().unwrap(), next().parse().unwrap(), next().parse().unwrap());
                let result = unsafe { syscall(number, a, b, 0_i64, 0_i64, 0_i64, 0_i64) };
                println!("syscall {number}: {}", if result < 0 { std::io::Error::last_os_error().raw_os_error().unwrap_or(0) } else { 0 });
            }
            // By a thread of its own: which may be ended alone, and then nobody can join it.
            "beside" => {
                let number: i64 = next().parse().unwrap();
                std::thread::spawn(move || {
                    let result = unsafe { syscall(number, 0_i64, 0_i64, 0_i64, 0_i64, 0_i64, 0_i64) };
                    println!("beside: back {}", if result < 0 { std::io::Error::last_os_error().raw_os_error().unwrap_or(0) } else { 0 });
                });
                while fs::read_dir("/proc/self/task").unwrap().count() > 1 {
                    std::thread::yield_now();
                }
                println!("beside: over");
            }
            "handle" => drop(unsafe { signal(next().parse().unwrap(), handled as extern "C" fn(i32) as usize) }),
            // As a 32-bit program calls, on an x86_64 machine.
            #[cfg(target_arch = "x86_64")]
            "call32" => {
                let number: i64 = next().parse().unwrap();
                let mut result = number;
                unsafe { std::arch::asm!("int 0x80", inout("rax") result, out("r8") _, out("r9") _, out("r10") _, out("r11") _) };
                println!("call32 {number}: {}", result as i32);
            }
            "mode" => {
                use std::os::unix::fs::MetadataExt;
                let path = next();
                match fs::symlink_metadata(&path) {
                    Ok(m) => println!("{path}: {:o} {} {} {}", m.mode(), m.uid(), m.gid(), m.rdev()),
                    Err(error) => println!("{path}: {error}"),
                }
            }
            "xattr" => {
                let (path, name, mut value) = (next() + "\0", next() + "\0", [0_u8; 256]);
                let length = unsafe { lgetxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr(), value.len()) };
                let said = usize::try_from(length).map_or_else(|_| std::io::Error::last_os_error().to_string(), |n| format!("{:02x?}", &value[..n]));
                println!("xattr {} {}: {said}", path.trim_end_matches('\0'), name.trim_end_matches('\0'));
            }
            "sched" => {
                // Behind the name: state is the first field, nice the 17th, priority and policy the 38th and 39th.
                let text = fs::read_to_string("/proc/self/stat").unwrap();
                let fields: Vec<&str> = text[text.rfind(')').unwrap() + 2..].split(' ').collect();
                let (mut attributes, number) = ([0_u64; 8], if cfg!(target_arch = "x86_64") { 315 } else { 275 });
                unsafe { syscall(number, 0_i64, &raw mut attributes, 64_i64, 0_i64, 0_i64, 0_i64) };
                println!("sched {} nice {} priority {} flags {:x}", fields[38], fields[16], fields[37], attributes[1]);
            }
            "ioprio" => println!("ioprio {}", unsafe { syscall(if cfg!(target_arch = "x86_64") { 252 } else { 31 }, 1_i64, 0_i64) }),
            "mempolicy" => {
                let (mut mode, mut nodes, number) = (0_i32, [0_u64; 16], if cfg!(target_arch = "x86_64") { 239 } else { 236 });
                unsafe { syscall(number, &raw mut mode, &raw mut nodes, 1024_i64, 0_i64, 0_i64) };
                println!("mempolicy {mode} nodes {:x}", nodes[0]);
            }
            "mount" => {
                let target = next();
                let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
                for line in text.lines().filter(|line| line.split(' ').nth(4) == Some(&target)) {
                    let fields: Vec<&str> = line.split(' ').collect();
                    let dash = fields.iter().position(|f| *f == "-").unwrap();
                    // Peer groups have numbers of the machine's choice.
                    let peers: Vec<&str> = fields[6..dash].iter().map(|f| f.split(':').next().unwrap()).collect();
                    println!("mount {target} {} {} {}", fields[5], peers.join("+"), fields[dash + 1]);
                }
            }
            "bare" => bare(),
            "ignore" => drop(unsafe { signal(next().parse().unwrap(), 1) }),
            "child" => {
                if unsafe { fork() } == 0 {
                    loop {
                        unsafe { pause() };
                    }
                }
            }
            // A process that is another one all the time. Not libc's fork: musl's blocks every signal around the call, so that one
            // which comes meanwhile is the parent's alone, and the child, born afterwards, never had it.
            "flee" => {
                if raw_fork() == 0 {
                    while raw_fork() == 0 {}
                    exit(0);
                }
            }
            "stdin" => {
                let mut text = String::new();
                std::io::stdin().read_to_string(&mut text).unwrap();
                println!("stdin {text}");
            }
            "seize" => seize(),
            "trace" => trace(None, false),
            "hold" => trace(None, true),
            "pretend" => trace(next().parse().ok(), false),
            "sleep" => loop {
                unsafe { pause() };
            },
            other => {
                println!("no verb {other}");
                exit(98);
            }
        }
        std::io::stdout().flush().unwrap();
    }
}

extern "C" fn handled(number: i32) {
    println!("handled {number}");
}

fn raw_fork() -> i64 {
    let clone = if cfg!(target_arch = "x86_64") { 56 } else { 220 };
    // SIGCHLD at the end, nothing shared.
    unsafe { syscall(clone, 17_i64, 0_i64, 0_i64, 0_i64, 0_i64) }
}

/// A procfs of its own, in a user namespace of its own: which the kernel gives to who sees a whole one already.
fn bare() {
    let (unshare, mount, wait4) = if cfg!(target_arch = "x86_64") { (272, 165, 61) } else { (97, 40, 260) };
    // CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNS; then the first process of the new pid namespace.
    let left = unsafe { syscall(unshare, 0x3002_0000_i64) };
    if unsafe { fork() } != 0 {
        unsafe { syscall(wait4, -1_i64, 0_i64, 0_i64, 0_i64) };
        return;
    }
    let proc = c"proc".as_ptr();
    let done = unsafe { syscall(mount, proc, c"/proc".as_ptr(), proc, 0_i64, 0_i64) };
    println!("bare: unshare {left}, mount {}", if done == 0 { "ok".into() } else { std::io::Error::last_os_error().to_string() });
    exit(0);
}

/// Takes hold of the file of any other program that shows itself in /proc, and writes to it as soon as nobody runs it.
fn seize() -> ! {
    use std::os::fd::AsRawFd;
    let own = fs::read_link("/proc/self/exe").unwrap();
    let mut said = Vec::new();
    let mut say = |word: String| {
        if !said.contains(&word) {
            println!("{word}");
            said.push(word);
        }
    };
    say("seize".to_owned());
    loop {
        for entry in fs::read_dir("/proc").unwrap().flatten().filter(|e| e.file_name().as_encoded_bytes()[0].is_ascii_digit()) {
            let exe = entry.path().join("exe");
            match fs::read_link(&exe) {
                Ok(path) if path == own => continue,
                Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => say("hidden".to_owned()),
                _ => {}
            }
            let Ok(held) = fs::File::open(&exe) else { continue };
            // Its own may have come in between.
            let again = format!("/proc/self/fd/{}", held.as_raw_fd());
            if fs::read_link(&again).is_ok_and(|path| path == own) {
                continue;
            }
            say("held".to_owned());
            loop {
                match fs::OpenOptions::new().write(true).open(&again) {
                    Ok(mut file) => {
                        file.write_all(b"seized").unwrap();
                        say("written".to_owned());
                    }
                    Err(e) if e.kind() == std::io::ErrorKind::ExecutableFileBusy => continue,
                    Err(e) => say(format!("refused: {e}")),
                }
                break;
            }
        }
    }
}

/// Takes hold of every process that shows itself in /proc as soon as it does, and tells, each thing once, what it has got: capabilities,
/// descriptors beyond the standard streams, whose root, and whether it has the caller's environment. And says on its sockets that the
/// container's process is this one of the host; or lets nobody go, and takes nobody away who has ended.
fn trace(pretended: Option<i32>, holds: bool) -> ! {
    const SEIZE: i64 = 0x4206;
    const INTERRUPT: i64 = 0x4207;
    const DETACH: i64 = 17;
    let (ptrace, wait4) = if cfg!(target_arch = "x86_64") { (101, 61) } else { (117, 260) };
    let reap = |pid: i64| unsafe { syscall(wait4, pid, 0_i64, if pid < 0 { 0x4000_0001_i64 } else { 0x4000_0000 }, 0_i64) };
    let mut said = Vec::new();
    let mut say = |word: String| {
        if !said.contains(&word) {
            println!("{word}");
            said.push(word);
        }
    };
    let mut known: Vec<i64> = vec![std::process::id().into()];
    say("trace".to_owned());
    loop {
        let all: Vec<i64> =
            fs::read_dir("/proc").unwrap().filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok()).collect();
        known.retain(|pid| all.contains(pid));
        for pid in all {
            if known.contains(&pid) {
                continue;
            }
            known.push(pid);
            if unsafe { syscall(ptrace, SEIZE, pid, 0_i64, 0_i64) } != 0 {
                say(format!("not traced: {}", std::io::Error::last_os_error()));
                continue;
            }
            unsafe { syscall(ptrace, INTERRUPT, pid, 0_i64, 0_i64) };
            reap(pid);
            if holds {
                continue;
            }
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            for line in status.lines().filter(|line| line.starts_with("CapPrm:") || line.starts_with("CapEff:")) {
                say(format!("capabilities {}", line.split_whitespace().nth(1).unwrap()));
            }
            for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
                let target = fs::read_link(entry.path()).map(|path| path.display().to_string()).unwrap_or_default();
                if !["0", "1", "2"].iter().any(|one| entry.file_name() == *one) {
                    say(format!("descriptor {}", target.split('[').next().unwrap()));
                }
            }
            if remembers(pid) {
                say("the caller's environment".to_owned());
            }
            if let Some(pretended) = pretended {
                pretend(pid, pretended);
                say("pretended".to_owned());
            }
            // What is known of a container's root in these tests.
            if let Ok(mut entries) = fs::read_dir(format!("/proc/{pid}/root")) {
                let own = !entries.any(|entry| entry.is_ok_and(|entry| entry.file_name() == "etc"));
                say(if own { "root: a container's" } else { "root: the host's" }.to_owned());
            }
            unsafe { syscall(ptrace, DETACH, pid, 0_i64, 0_i64) };
        }
        while !holds && reap(-1) > 0 {}
    }
}

/// Whether what the caller of the runtime has in its environment is anywhere in what a process may write to.
fn remembers(pid: i64) -> bool {
    use std::os::unix::fs::FileExt as _;
    let canary = b"ORLOP_CANARY=of the caller";
    let Ok(memory) = fs::File::open(format!("/proc/{pid}/mem")) else { return false };
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let mut held = false;
    for range in maps.lines().filter(|line| line.contains(" rw-p ")).filter_map(|line| line.split(' ').next()) {
        let (start, end) = range.split_once('-').unwrap();
        let (start, end) = (u64::from_str_radix(start, 16).unwrap(), u64::from_str_radix(end, 16).unwrap());
        let mut bytes = vec![0; (end - start) as usize];
        let there = memory.read_exact_at(&mut bytes, start).is_ok();
        held |= there && bytes.windows(canary.len()).any(|window| window == canary);
    }
    held
}

/// Takes the sockets of a process that is held, and speaks on them in its place.
fn pretend(pid: i64, pretended: i32) {
    use std::os::fd::{FromRawFd, OwnedFd};
    const PIDFD_OPEN: i64 = 434;
    const PIDFD_GETFD: i64 = 438;
    let sendto = if cfg!(target_arch = "x86_64") { 44 } else { 206 };
    let number = pretended.to_le_bytes();
    let words = [&[b'C', number[0], number[1], number[2], number[3]][..], b"R", b"H"];
    let pidfd = unsafe { syscall(PIDFD_OPEN, pid, 0_i64) };
    for fd in 3..20_i64 {
        let taken = unsafe { syscall(PIDFD_GETFD, pidfd, fd, 0_i64) };
        for word in words.iter().filter(|_| taken >= 0) {
            // MSG_DONTWAIT, MSG_NOSIGNAL
            unsafe { syscall(sendto, taken, word.as_ptr(), word.len(), 0x4040_i64, 0_i64, 0_i64) };
        }
        if taken >= 0 {
            drop(unsafe { OwnedFd::from_raw_fd(taken as i32) });
        }
    }
    drop(unsafe { OwnedFd::from_raw_fd(pidfd as i32) });
}

fn show(path: &str) {
    match fs::read_to_string(path) {
        Ok(text) => println!("{path}: {}", text.trim_end()),
        Err(error) => println!("{path}: {error}"),
    }
}

fn list(path: &str) {
    match fs::read_dir(path) {
        Ok(entries) => {
            let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
            names.sort();
            println!("{path}: {}", names.join(" "));
        }
        Err(error) => println!("{path}: {error}"),
    }
}

fn report(what: &str, result: std::io::Result<()>) {
    println!("{what}: {}", result.map_or_else(|e| e.to_string(), |()| "ok".to_owned()));
}

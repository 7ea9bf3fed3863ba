//! The least a container can cost: what the runtimes are measured against (`cargo bench -- oci`).
//!
//! It does what the bundle of the benchmark asks for by the fewest and cheapest system calls, and nothing else: no file is
//! read, nothing is checked, no path is safe, nothing is undone. Never a runtime: only the floor below all of them.
//!
//! `floor run|create|start|kill|delete|exec [FILTER]`; FILTER is a program as `orlop-oci` keeps it (`seccomp.bpf`).

#![no_main]
#![allow(unsafe_code)] // it is nothing but system calls
#![allow(clippy::cast_possible_truncation)] // whose arguments are registers

use std::ffi::{CStr, c_char, c_int};

use libc::{SYS_mount, SYS_read};

const CGROUP: &CStr = c"/sys/fs/cgroup/bench/floor";
const ROOTFS: &CStr = c"/bundle/rootfs";
const FIFO: &CStr = c"/run/floor.fifo";
const PID: &CStr = c"/run/floor.pid";
/// CAP_AUDIT_WRITE, CAP_KILL, CAP_NET_BIND_SERVICE: those of the bundle.
const CAPABILITIES: u64 = 1 << 29 | 1 << 5 | 1 << 10;
const FLAGS: i32 =
    libc::CLONE_NEWPID | libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWNS;
const NSE: u64 = libc::MS_NOSUID | libc::MS_NOEXEC;
const NSED: u64 = NSE | libc::MS_NODEV;

/// Type, target, flags, data, in the order of the bundle.
const MOUNTS: [(&CStr, &CStr, u64, &CStr); 7] = [
    (c"proc", c"proc", NSED, c""),
    (c"tmpfs", c"dev", NSE | libc::MS_STRICTATIME, c"mode=755,size=65536k"),
    (c"devpts", c"dev/pts", NSE, c"newinstance,ptmxmode=0666,mode=0620"),
    (c"tmpfs", c"dev/shm", NSED, c"mode=1777,size=65536k"),
    (c"mqueue", c"dev/mqueue", NSED, c""),
    (c"sysfs", c"sys", NSED | libc::MS_RDONLY, c""),
    (c"cgroup2", c"sys/fs/cgroup", NSED | libc::MS_RELATIME | libc::MS_RDONLY, c""),
];
const FOLDERS: [&CStr; 3] = [c"dev/pts", c"dev/shm", c"dev/mqueue"];
const DEVICES: [(&CStr, u32, u32); 6] = [
    (c"dev/null", 1, 3),
    (c"dev/zero", 1, 5),
    (c"dev/full", 1, 7),
    (c"dev/random", 1, 8),
    (c"dev/urandom", 1, 9),
    (c"dev/tty", 5, 0),
];
const LINKS: [(&CStr, &CStr); 5] = [
    (c"/proc/self/fd", c"dev/fd"),
    (c"/proc/self/fd/0", c"dev/stdin"),
    (c"/proc/self/fd/1", c"dev/stdout"),
    (c"/proc/self/fd/2", c"dev/stderr"),
    (c"pts/ptmx", c"dev/ptmx"),
];
const READ_ONLY: [&CStr; 5] = [c"proc/bus", c"proc/fs", c"proc/irq", c"proc/sys", c"proc/sysrq-trigger"];
/// Those of the bundle that this kernel has: files and folders.
const MASKED_FILES: [&CStr; 4] = [c"proc/kcore", c"proc/keys", c"proc/timer_list", c"proc/sched_debug"];
const MASKED_FOLDERS: [&CStr; 4] = [c"proc/acpi", c"proc/asound", c"proc/scsi", c"sys/firmware"];

type Filter = Option<libc::sock_fprog>;

/// A system call; negative numbers are errnos.
fn call(number: i64, args: [usize; 6]) -> isize {
    let [a, b, c, d, e, f] = args;
    // SAFETY: every argument is a number, or points to something that lives through the call; see each caller.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    result as isize
}

/// The same where failing is the end: the line number says which one it was.
macro_rules! must {
    ($number:expr $(, $argument:expr)*) => {{
        let mut args = [0_usize; 6];
        let given = [$($argument as usize),*];
        args[..given.len()].copy_from_slice(&given);
        let result = call($number as i64, args);
        if result < 0 {
            end(line!())
        }
        result as usize
    }};
}

fn end(line: u32) -> ! {
    let mut words = *b"floor: line 0000\n";
    let (mut rest, mut at) = (line, 15);
    while rest > 0 && at > 11 {
        words[at] += (rest % 10) as u8;
        (rest, at) = (rest / 10, at - 1);
    }
    call(libc::SYS_write, [2, words.as_ptr() as usize, words.len(), 0, 0, 0]);
    loop {
        call(libc::SYS_exit_group, [1, 0, 0, 0, 0, 0]);
    }
}

fn mount(source: &CStr, target: &CStr, kind: &CStr, flags: u64, data: &CStr) -> isize {
    let numbers = [source.as_ptr() as usize, target.as_ptr() as usize, kind.as_ptr() as usize, flags as usize];
    call(SYS_mount, [numbers[0], numbers[1], numbers[2], numbers[3], data.as_ptr() as usize, 0])
}

#[unsafe(no_mangle)]
extern "C" fn main(count: c_int, arguments: *const *const c_char) -> c_int {
    let argument = |index: usize| {
        if index >= count as usize {
            return c"";
        }
        // SAFETY: the kernel gives `count` pointers.
        let text = unsafe { *arguments.wrapping_add(index) };
        // SAFETY: each of them is a string that lives as long as the program.
        unsafe { CStr::from_ptr(text) }
    };
    let filter = if argument(2).is_empty() { None } else { Some(read(argument(2))) };
    match argument(1).to_bytes() {
        b"run" => run(filter),
        b"create" => create(filter),
        b"start" => start(),
        b"kill" => drop(must!(libc::SYS_kill, pid(), libc::SIGKILL)),
        b"delete" => delete(),
        b"exec" => exec(filter),
        _ => return 2,
    }
    0
}

fn make_cgroup() -> usize {
    must!(libc::SYS_mkdir, CGROUP.as_ptr(), 0o755);
    open(CGROUP, libc::O_RDONLY | libc::O_DIRECTORY)
}

fn open(path: &CStr, flags: i32) -> usize {
    must!(libc::SYS_open, path.as_ptr(), flags | libc::O_CLOEXEC, 0o600)
}

/// In the child 0, else the pid; `pidfd` is filled in the parent.
fn clone(flags: i32, cgroup: usize, pidfd: &mut i32) -> usize {
    const INTO_CGROUP: u64 = 0x2_0000_0000;
    // SAFETY: clone_args is plain integers; all zero is valid.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags as u64 | libc::CLONE_PIDFD as u64 | INTO_CGROUP;
    args.pidfd = (&raw mut *pidfd) as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    args.cgroup = cgroup as u64;
    must!(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>())
}

fn wait(pidfd: i32) {
    must!(libc::SYS_waitid, libc::P_PIDFD, pidfd, 0, libc::WEXITED, 0);
}

fn run(filter: Filter) {
    let (cgroup, mut pidfd) = (make_cgroup(), -1);
    if clone(FLAGS, cgroup, &mut pidfd) == 0 {
        prepare();
        become_program(filter, false);
    }
    wait(pidfd);
    must!(libc::SYS_rmdir, CGROUP.as_ptr());
}

fn create(filter: Filter) {
    let (cgroup, mut pidfd, mut ready) = (make_cgroup(), -1, [0_i32; 2]);
    must!(libc::SYS_mknod, FIFO.as_ptr(), libc::S_IFIFO | 0o600, 0);
    let fifo = open(FIFO, libc::O_RDWR);
    must!(libc::SYS_pipe2, &raw mut ready, libc::O_CLOEXEC);
    let byte = [0_u8; 1];
    let pid = clone(FLAGS, cgroup, &mut pidfd);
    if pid == 0 {
        prepare();
        must!(libc::SYS_write, ready[1], byte.as_ptr(), 1);
        must!(SYS_read, fifo, byte.as_ptr(), 1);
        become_program(filter, true);
    }
    must!(SYS_read, ready[0], byte.as_ptr(), 1);
    let number = (pid as i32).to_ne_bytes();
    let file = open(PID, libc::O_WRONLY | libc::O_CREAT);
    must!(libc::SYS_write, file, number.as_ptr(), number.len());
}

fn start() {
    let fifo = open(FIFO, libc::O_WRONLY);
    must!(libc::SYS_write, fifo, b"G".as_ptr(), 1);
}

fn pid() -> usize {
    let mut number = [0; 4];
    must!(SYS_read, open(PID, libc::O_RDONLY), number.as_mut_ptr(), 4);
    i32::from_ne_bytes(number) as usize
}

fn delete() {
    let pidfd = call(libc::SYS_pidfd_open, [pid(), 0, 0, 0, 0, 0]);
    if pidfd >= 0 {
        let poll = libc::pollfd { fd: pidfd as i32, events: libc::POLLIN, revents: 0 };
        must!(libc::SYS_poll, &raw const poll, 1, -1_isize);
    }
    for path in [FIFO, PID] {
        must!(libc::SYS_unlink, path.as_ptr());
    }
    must!(libc::SYS_rmdir, CGROUP.as_ptr());
}

fn exec(filter: Filter) {
    let (container, mut pidfd) = (must!(libc::SYS_pidfd_open, pid(), 0), -1);
    let cgroup = open(CGROUP, libc::O_RDONLY | libc::O_DIRECTORY);
    must!(libc::SYS_setns, container, libc::CLONE_NEWPID);
    if clone(0, cgroup, &mut pidfd) == 0 {
        must!(libc::SYS_setns, container, FLAGS & !libc::CLONE_NEWPID | libc::CLONE_NEWCGROUP);
        become_program(filter, false);
    }
    wait(pidfd);
}

fn prepare() {
    must!(libc::SYS_setsid);
    must!(libc::SYS_unshare, libc::CLONE_NEWCGROUP);
    let name = c"orlop";
    must!(libc::SYS_sethostname, name.as_ptr(), name.count_bytes());
    let socket = must!(libc::SYS_socket, libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
    let mut request = [0_u8; 40];
    request[..2].copy_from_slice(b"lo");
    request[16] = (libc::IFF_UP | libc::IFF_RUNNING) as u8;
    must!(libc::SYS_ioctl, socket, libc::SIOCSIFFLAGS, request.as_ptr());
    mounts();
}

fn mounts() {
    let none = c"";
    let done = |result: isize, line| {
        if result < 0 {
            end(line)
        }
    };
    done(mount(none, c"/", none, libc::MS_SLAVE | libc::MS_REC, none), line!());
    done(mount(ROOTFS, ROOTFS, none, libc::MS_BIND | libc::MS_REC, none), line!());
    must!(libc::SYS_chdir, ROOTFS.as_ptr());
    for (index, (kind, target, flags, data)) in MOUNTS.iter().enumerate() {
        done(mount(kind, target, kind, *flags, data), line!());
        if index == 1 {
            for folder in FOLDERS {
                must!(libc::SYS_mkdir, folder.as_ptr(), 0o755);
            }
        }
    }
    for (path, major, minor) in DEVICES {
        must!(libc::SYS_mknod, path.as_ptr(), libc::S_IFCHR | 0o666, libc::makedev(major, minor));
    }
    for (text, path) in LINKS {
        must!(libc::SYS_symlink, text.as_ptr(), path.as_ptr());
    }
    let readonly = libc::MS_BIND | libc::MS_REMOUNT | libc::MS_RDONLY;
    for path in READ_ONLY {
        done(mount(path, path, none, libc::MS_BIND | libc::MS_REC, none), line!());
        done(mount(none, path, none, readonly | NSED, none), line!());
    }
    // What this kernel lacks is not there to be masked.
    for path in MASKED_FILES {
        mount(c"dev/null", path, none, libc::MS_BIND, none);
    }
    let mut empty = None;
    for path in MASKED_FOLDERS {
        let result = match empty {
            None => mount(c"tmpfs", path, c"tmpfs", libc::MS_RDONLY, c"nr_blocks=1,nr_inodes=1"),
            Some(first) => mount(first, path, none, libc::MS_BIND, none),
        };
        if result >= 0 {
            empty = empty.or(Some(path));
        }
    }
    done(mount(none, ROOTFS, none, readonly, none), line!());
    must!(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr());
    must!(libc::SYS_umount2, c".".as_ptr(), libc::MNT_DETACH);
    must!(libc::SYS_chdir, c"/".as_ptr());
}

/// `stays`: the program waits to be killed.
fn become_program(filter: Filter, stays: bool) -> ! {
    let limit = [1024_u64; 2];
    must!(libc::SYS_prlimit64, 0, libc::RLIMIT_NOFILE, limit.as_ptr(), 0);
    for number in (0..=40_u64).filter(|number| CAPABILITIES & 1 << number == 0) {
        must!(libc::SYS_prctl, libc::PR_CAPBSET_DROP, number, 0, 0, 0);
    }
    let (header, low) = ([0x2008_0522_u32, 0], CAPABILITIES as u32);
    let data = [[low, low, 0], [0, 0, 0]];
    must!(libc::SYS_capset, header.as_ptr(), data.as_ptr());
    must!(libc::SYS_prctl, libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if let Some(program) = &filter {
        const SET_MODE_FILTER: usize = 1;
        must!(libc::SYS_seccomp, SET_MODE_FILTER, 0, &raw const *program);
    }
    let (program, environment) = (c"/bin/true", c"PATH=/bin");
    let wait = if stays { c"wait".as_ptr() } else { std::ptr::null() };
    let args = [program.as_ptr(), wait, std::ptr::null()];
    let environment = [environment.as_ptr(), std::ptr::null()];
    must!(libc::SYS_execve, program.as_ptr(), args.as_ptr(), environment.as_ptr());
    end(line!())
}

fn read(filter: &CStr) -> libc::sock_fprog {
    static mut PROGRAM: [u64; 4097] = [0; 4097];
    let program = (&raw mut PROGRAM).cast::<u64>();
    let bytes = must!(SYS_read, open(filter, libc::O_RDONLY), program, size_of::<[u64; 4097]>());
    // The first word holds the flags.
    libc::sock_fprog { len: (bytes / 8 - 1) as u16, filter: program.wrapping_add(1).cast() }
}

//! New user, pid, mount, uts, ipc, network and cgroup namespaces with `init` as PID 1.
//!
//! They share the machine's file system, and whoever is root there is its owner's user here. So all of it is
//! read-only inside, recursively: nothing that runs there, whatever it is, can change a file outside.
//!
//! The child between clone and exec makes system calls only: everything it needs is prepared in [`Plan`].

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

pub(crate) struct Plan {
    pub(crate) program: CString,
    pub(crate) envp: Vec<CString>,
    /// Empty folders of the test's own, to build `/dev` and `/run` on.
    pub(crate) dev: CString,
    pub(crate) run: CString,
    /// The terminal that becomes `/dev/console`; none: `/dev` stays empty.
    pub(crate) console: Option<CString>,
    pub(crate) close_stdio: bool,
    pub(crate) max_fds: Option<u64>,
}

#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    rest: [u64; 6],
}

/// struct mount_attr of linux/mount.h.
#[repr(C)]
#[derive(Default)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

const MOUNT_ATTR_RDONLY: u64 = 1;
const AT_RECURSIVE: u32 = 0x8000;

/// Starts it; the pid is the caller's child.
pub(crate) fn start(plan: &Plan) -> io::Result<i32> {
    // SAFETY: no arguments.
    let uid = unsafe { libc::geteuid() };
    // SAFETY: no arguments.
    let gid = unsafe { libc::getegid() };
    let text = |text: String| CString::new(text).unwrap();
    let maps = [
        (c"/proc/self/setgroups", c"deny".to_owned()),
        (c"/proc/self/uid_map", text(format!("0 {uid} 1"))),
        (c"/proc/self/gid_map", text(format!("0 {gid} 1"))),
    ];
    let dev = plan.dev.to_str().unwrap();
    let files = [text(format!("{dev}/null")), text(format!("{dev}/console"))];
    let mut envp: Vec<_> = plan.envp.iter().map(|s| s.as_ptr()).collect();
    envp.push(std::ptr::null());
    let argv = [c"/sbin/init".as_ptr(), std::ptr::null()];

    let spaces = libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWCGROUP;
    let args = CloneArgs { flags: spaces as u64, exit_signal: libc::SIGCHLD as u64, ..CloneArgs::default() };
    // SAFETY: without CLONE_VM; the child makes only system calls until it executes.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    if pid > 0 {
        return Ok(pid as i32);
    }
    // A test run that is cut short leaves no machine behind.
    // SAFETY: numbers only.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    for (path, content) in &maps {
        write_file(path, content);
    }
    mount(c"none", c"/", None, libc::MS_REC | libc::MS_PRIVATE, 1);
    read_only_root();
    mount(c"proc", c"/proc", Some(c"proc"), 0, 2);
    mount(c"tmpfs", &plan.dev, Some(c"tmpfs"), 0, 3);
    if let Some(console) = &plan.console {
        for (from, to) in [(c"/dev/null", &files[0]), (console.as_c_str(), &files[1])] {
            make_file(to);
            mount(from, to, None, libc::MS_BIND, 4);
        }
    }
    mount(&plan.dev, c"/dev", None, libc::MS_BIND | libc::MS_REC, 5);
    mount(c"tmpfs", &plan.run, Some(c"tmpfs"), 0, 6);
    mount(&plan.run, c"/run", None, libc::MS_BIND, 7);
    if let Some(max) = plan.max_fds {
        let limit = libc::rlimit { rlim_cur: max, rlim_max: max };
        // SAFETY: reads the struct.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    }
    // The test program's descriptors end here; with close_stdio there are none at all.
    let first = if plan.close_stdio { 0u32 } else { 3 };
    // SAFETY: numbers only.
    unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
    // SAFETY: NUL-terminated strings in null-terminated lists.
    unsafe { libc::execve(plan.program.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    fail(8)
}

/// Everything mounted so far; what the test mounts afterwards is its own.
fn read_only_root() {
    let attr = MountAttr { set: MOUNT_ATTR_RDONLY, ..MountAttr::default() };
    let size = size_of::<MountAttr>();
    // SAFETY: a constant path, and a mount_attr of the size given. Kernel 5.12.
    let result = unsafe {
        libc::syscall(libc::SYS_mount_setattr, libc::AT_FDCWD, c"/".as_ptr(), AT_RECURSIVE, &raw const attr, size)
    };
    if result != 0 {
        fail(11);
    }
}

/// Ends the child with a status that tells the step.
fn fail(step: i32) -> ! {
    // SAFETY: ends the child at once.
    unsafe { libc::_exit(100 + step) }
}

fn mount(from: &CStr, to: &CStr, kind: Option<&CStr>, flags: libc::c_ulong, step: i32) {
    let kind = kind.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: NUL-terminated strings, no data.
    if unsafe { libc::mount(from.as_ptr(), to.as_ptr(), kind, flags, std::ptr::null()) } != 0 {
        fail(step);
    }
}

fn make_file(path: &CStr) {
    // SAFETY: a NUL-terminated string.
    let fd = unsafe { libc::open(path.as_ptr(), libc::O_CREAT | libc::O_WRONLY, 0o666) };
    if fd < 0 {
        fail(9);
    }
    // SAFETY: the fd opened above.
    unsafe { libc::close(fd) };
}

fn write_file(path: &CStr, content: &CStr) {
    // SAFETY: a NUL-terminated string.
    let fd = unsafe { libc::open(path.as_ptr(), libc::O_WRONLY) };
    let bytes = content.to_bytes();
    // SAFETY: the bytes are readable.
    if unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) } < 0 {
        fail(10);
    }
    // SAFETY: the fd opened above.
    unsafe { libc::close(fd) };
}

/// A signal by number, real-time ones included.
pub(crate) fn kill(pid: i32, signal: i32) {
    assert!(pid > 0, "a test signals one process, never a group or everyone");
    // SAFETY: numbers only.
    unsafe { libc::kill(pid, signal) };
}

/// The raw status of a child that ended, waiting for it at most so long.
pub(crate) fn wait(pid: i32, within_ms: i32) -> Option<i32> {
    // SAFETY: numbers only.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd >= 0 {
        let fd = own(fd as i32);
        let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd.
        unsafe { libc::poll(&raw mut poll, 1, within_ms) };
    }
    let mut status = 0;
    // SAFETY: status is writable.
    let got = unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) };
    (got == pid).then_some(status)
}

/// Forks; the child runs `work` and ends with what it returns.
pub(crate) fn fork(work: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the children of these tests make system calls only.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let status = work();
        // SAFETY: ends the child.
        unsafe { libc::_exit(status) };
    }
    pid
}

/// This process, by a system call: a C library may keep an older answer over a fork.
pub(crate) fn getpid() -> i32 {
    // SAFETY: no arguments.
    unsafe { libc::syscall(libc::SYS_getpid) as i32 }
}

/// Default disposition and unblocked, whatever the test runner did.
pub(crate) fn default_signal(signal: i32) {
    let action = [0u64; 4];
    // SAFETY: an all-zero struct sigaction of the kernel (SIG_DFL); libc would refuse 32 and 33.
    unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, action.as_ptr(), std::ptr::null::<u8>(), 8) };
    let none = 0u64;
    // SAFETY: an empty set of 8 bytes.
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const none, std::ptr::null::<u8>(), 8) };
}

/// CLOCK_MONOTONIC.
pub(crate) fn seconds() -> i64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: now is writable.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec
}

/// Ignores a signal.
pub(crate) fn ignore_signal(signal: i32) {
    // SAFETY: SIG_IGN is a valid disposition.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// Waits for a signal that ends this process; never returns.
pub(crate) fn pause() -> ! {
    loop {
        // SAFETY: no arguments.
        unsafe { libc::pause() };
    }
}

/// The descriptor a number stands for, owned.
pub(crate) fn own(fd: i32) -> OwnedFd {
    // SAFETY: the callers own the number.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// The loopback of this network namespace, which the tests' init does not set up.
pub(crate) fn loopback_up() {
    // SAFETY: plain data; all zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    (request.ifr_name[0], request.ifr_name[1]) = (b'l' as libc::c_char, b'o' as libc::c_char);
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    // SAFETY: an ifreq, alive over the call.
    assert_eq!(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) }, 0);
}

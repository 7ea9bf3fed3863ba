//! When PID 1 itself is broken: a fault (SIGSEGV and its kin), or no memory at all even in the reserve.
//!
//! The kernel would panic. Instead PID 1 executes its own program again: the processes stay its children, mounts
//! and cgroups stay; the stored fds, the exits nobody acknowledged and what the supervisor said last are handed on in
//! files left open; a shutdown that was under way goes on. Only the supervisor has to be started again, because what
//! was being said to it is lost.
//! The third time in one boot PID 1 reboots instead. Everything here is async-signal-safe.

use std::cell::UnsafeCell;
use std::ffi::CStr;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicI32, AtomicU8, AtomicU32, Ordering};

use nix::sys::signal::{SigSet, Signal};

use crate::fdstore::{ENTRY_BYTES, MAX_FDS};

const MAX_LIVES: u8 = 3;
/// What a program that is broken gets; never blocked, or the kernel would end PID 1 without asking.
const FAULTS: [libc::c_int; 7] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT, libc::SIGSYS, libc::SIGTRAP];
const STACK_BYTES: usize = 16 * 1024;

struct Stack(UnsafeCell<[u8; STACK_BYTES]>);

// SAFETY: only the kernel hands it out, to one handler at a time of the one thread there is.
unsafe impl Sync for Stack {}

static STACK: Stack = Stack(UnsafeCell::new([0; STACK_BYTES]));

/// How many times PID 1 started over in this boot.
static LIVES: AtomicU8 = AtomicU8::new(0);
/// The fd store's table; its content is what the next self reads.
static TABLE: AtomicI32 = AtomicI32::new(-1);
/// The file with the exits that nobody acknowledged.
static EXITS: AtomicI32 = AtomicI32::new(-1);
/// The socket with what the supervisor said and nobody read.
static SOCKET: AtomicI32 = AtomicI32::new(-1);
/// The supervisor at the time, which the next self ends: it cannot talk to it.
static SUPERVISOR: AtomicU32 = AtomicU32::new(0);
/// The number of the signal that asks for the shutdown that is under way; 0 for none.
static ENDING: AtomicU32 = AtomicU32::new(0);

/// What a former self hands on through the environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Former {
    pub(crate) lives: u8,
    pub(crate) table: RawFd,
    pub(crate) exits: RawFd,
    pub(crate) socket: RawFd,
    pub(crate) supervisor: u32,
    pub(crate) ending: u32,
}

impl Former {
    /// `ORLOP_FORMER=lives:table:exits:socket:supervisor:ending`.
    pub(crate) fn parse(env: &str) -> Option<Self> {
        let mut parts = env.split(':');
        let lives = parts.next()?.parse().ok()?;
        let table = parts.next()?.parse().ok()?;
        let exits = parts.next()?.parse().ok()?;
        let socket = parts.next()?.parse().ok()?;
        let supervisor = parts.next()?.parse().ok()?;
        let ending = parts.next()?.parse().ok()?;
        Some(Self { lives, table, exits, socket, supervisor, ending })
    }
}

pub(crate) fn remember_table(fd: RawFd) {
    TABLE.store(fd, Ordering::Relaxed);
}

pub(crate) fn remember_exits(fd: RawFd) {
    EXITS.store(fd, Ordering::Relaxed);
}

pub(crate) fn remember_socket(fd: RawFd) {
    SOCKET.store(fd, Ordering::Relaxed);
}

/// The socket is closed, unless another one is remembered by now.
pub(crate) fn forget_socket(fd: RawFd) {
    let _ = SOCKET.compare_exchange(fd, -1, Ordering::Relaxed, Ordering::Relaxed);
}

/// How the machine is about to end.
pub(crate) fn remember_ending(kind: u32) {
    ENDING.store(kind, Ordering::Relaxed);
}

pub(crate) fn remember_supervisor(pid: u32) {
    SUPERVISOR.store(pid, Ordering::Relaxed);
}

/// Installs the handlers, on a stack of their own: the fault may be a stack that is used up.
pub(crate) fn install(lives: u8) {
    LIVES.store(lives, Ordering::Relaxed);
    let stack = libc::stack_t { ss_sp: STACK.0.get().cast(), ss_flags: 0, ss_size: STACK_BYTES };
    // SAFETY: memory that lives as long as the program, and that nothing else uses.
    unsafe { libc::sigaltstack(&raw const stack, std::ptr::null_mut()) };
    for signal in FAULTS {
        let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: all-zero is SIG_DFL without flags, an empty mask.
        let action = unsafe { action.assume_init_mut() };
        action.sa_sigaction = on_fault as *const () as libc::sighandler_t;
        action.sa_flags = libc::SA_ONSTACK | libc::SA_NODEFER | libc::SA_SIGINFO;
        // SAFETY: the handler is a plain function and async-signal-safe.
        unsafe { libc::sigaction(signal, action, std::ptr::null_mut()) };
    }
    // A blocked fault is no fault handled: the kernel would end PID 1.
    let _ = faults().thread_unblock();
}

pub(super) fn faults() -> SigSet {
    FAULTS.into_iter().filter_map(|signal| Signal::try_from(signal).ok()).collect()
}

extern "C" fn on_fault(signal: libc::c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: with SA_SIGINFO the kernel passes a valid siginfo_t.
    let info = unsafe { &*info };
    if info.si_code <= 0 {
        // Sent by a process. abort(3) sends to itself; what others send is no fault of ours.
        // SAFETY: as above; for codes of kill(2) and tgkill(2) the sender is filled in.
        let sender = unsafe { info.si_pid() };
        // SAFETY: no arguments.
        if sender != unsafe { libc::getpid() } {
            return;
        }
    }
    // SAFETY: no arguments. Forked helpers inherit the handler: they just end.
    if unsafe { libc::getpid() } != 1 {
        // SAFETY: ends this process at once.
        unsafe { libc::_exit(128 + signal) };
    }
    start_over(match signal {
        libc::SIGSEGV => "segmentation fault",
        libc::SIGBUS => "bus error",
        libc::SIGABRT => "abort",
        libc::SIGILL => "illegal instruction",
        _ => "a fault",
    })
}

/// Executes this program anew in PID 1's place, or reboots when that happened too often.
pub(crate) fn start_over(why: &str) -> ! {
    // SAFETY: no arguments.
    if unsafe { libc::getpid() } != 1 {
        // SAFETY: ends this process (a helper, or the test program) at once.
        unsafe { libc::_exit(134) };
    }
    tell(&[b"<24>orlop: init: PID 1 is broken: ", why.as_bytes(), b"\n"]);
    let lives = LIVES.load(Ordering::Relaxed) + 1;
    if lives < MAX_LIVES {
        let table = TABLE.load(Ordering::Relaxed);
        keep_stored_fds(table);
        keep(EXITS.load(Ordering::Relaxed));
        keep(SOCKET.load(Ordering::Relaxed));
        exec_self(lives, table);
        tell(&[b"<24>orlop: init: cannot execute /sbin/init\n"]);
    }
    // SAFETY: numbers only; the disks are as a power cut leaves them, which they survive by design.
    unsafe { libc::reboot(libc::RB_AUTOBOOT) };
    loop {
        // SAFETY: no arguments. Without reboot(2) the watchdog is what remains, and it is not fed any more.
        unsafe { libc::pause() };
    }
}

/// To the kernel's log and the console, with nothing but system calls.
fn tell(parts: &[&[u8]]) {
    let mut line = [0u8; 160];
    let mut len = 0;
    for part in parts {
        let n = part.len().min(line.len() - len);
        line[len..len + n].copy_from_slice(&part[..n]);
        len += n;
    }
    for (path, skip) in [(c"/dev/kmsg", 0), (c"/dev/console", 4)] {
        // SAFETY: a constant, NUL-terminated path.
        let fd = unsafe { libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_NONBLOCK | libc::O_NOCTTY) };
        if fd >= 0 {
            // SAFETY: len readable bytes; the priority is left out for the console.
            unsafe { libc::write(fd, line[skip..len].as_ptr().cast(), len - skip) };
            // SAFETY: the fd opened above.
            unsafe { libc::close(fd) };
        }
    }
}

/// Stored fds, and the table that names them, stay open over the exec.
fn keep_stored_fds(table: RawFd) {
    if table < 0 {
        return;
    }
    for place in 0..MAX_FDS {
        let mut number = [0u8; 4];
        let offset = libc::off_t::try_from(place * ENTRY_BYTES).unwrap_or(0);
        // SAFETY: four writable bytes.
        let got = unsafe { libc::pread(table, number.as_mut_ptr().cast(), 4, offset) };
        if got != 4 {
            break;
        }
        let fd = i32::from_le_bytes(number);
        if fd > 2 {
            keep(fd);
        }
    }
    keep(table);
}

fn keep(fd: RawFd) {
    // SAFETY: numbers only; what is not open stays so.
    unsafe { libc::fcntl(fd, libc::F_SETFD, 0) };
}

unsafe extern "C" {
    static environ: *const *const libc::c_char;
}

fn exec_self(lives: u8, table: RawFd) {
    let mut former = [0u8; 96];
    let mut len = 0;
    let mut put = |bytes: &[u8]| {
        former[len..len + bytes.len()].copy_from_slice(bytes);
        len += bytes.len();
    };
    put(b"ORLOP_FORMER=");
    put(decimal(u32::from(lives), &mut [0; 10]));
    for fd in [table, EXITS.load(Ordering::Relaxed), SOCKET.load(Ordering::Relaxed)] {
        put(b":");
        match u32::try_from(fd) {
            Ok(fd) => put(decimal(fd, &mut [0; 10])),
            Err(_) => put(b"-1"),
        }
    }
    for number in [&SUPERVISOR, &ENDING] {
        put(b":");
        put(decimal(number.load(Ordering::Relaxed), &mut [0; 10]));
    }

    let mut envp = [std::ptr::null(); 64];
    envp[0] = former.as_ptr().cast();
    let mut count = 1;
    for i in 0.. {
        // SAFETY: environ is the C library's null-terminated list; nothing changes it at this point.
        let place = unsafe { environ.add(i) };
        // SAFETY: at or before the list's end.
        let entry = unsafe { *place };
        if entry.is_null() || count == envp.len() - 1 {
            break;
        }
        // SAFETY: entries are NUL-terminated.
        let text = unsafe { CStr::from_ptr(entry) };
        if !text.to_bytes().starts_with(b"ORLOP_FORMER=") {
            envp[count] = entry;
            count += 1;
        }
    }
    let argv = [c"/sbin/init".as_ptr(), std::ptr::null()];
    // Itself first: outside the machine (a test in namespaces) /sbin/init is somebody else's, and systemd as PID 1 of a
    // namespace empties the /tmp it finds.
    let itself = c"/proc/self/exe";
    let programs: &[&CStr] = if cfg!(debug_assertions) { &[itself] } else { &[itself, c"/sbin/init"] };
    for program in programs {
        // SAFETY: NUL-terminated strings in null-terminated lists, all alive.
        unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    }
}

/// Fault injection: `stack` runs out of stack, `segv` raises a SIGSEGV, anything else aborts.
#[cfg(debug_assertions)]
pub(crate) fn break_down(how: &std::ffi::OsStr) -> ! {
    if how == "stack" {
        dig(&[0; 4096], 0);
    }
    if how == "segv" {
        // SAFETY: a number only; the handler does not return.
        unsafe { libc::raise(libc::SIGSEGV) };
    }
    std::process::abort()
}

/// Without an end, as far as the stack goes.
#[cfg(debug_assertions)]
fn dig(above: &[u8; 4096], depth: u64) -> u64 {
    let mut here = *above;
    here[usize::try_from(depth % 4096).unwrap_or(0)] = 1;
    std::hint::black_box(&here);
    if depth == u64::MAX { 0 } else { dig(&here, depth + 1) + u64::from(here[0]) }
}

fn decimal(mut value: u32, digits: &mut [u8; 10]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
        if value == 0 {
            return &digits[at..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_without_the_library() {
        for value in [0, 7, 10, 4_294_967_295] {
            assert_eq!(decimal(value, &mut [0; 10]), value.to_string().as_bytes());
        }
    }

    #[test]
    fn what_a_former_self_hands_on_reads_back() {
        let former = Former { lives: 2, table: -1, exits: 9, socket: 8, supervisor: 77, ending: 4 };
        assert_eq!(Former::parse("2:-1:9:8:77:4"), Some(former));
        assert_eq!(Former::parse("2:x:9:8:77:4"), None);
    }
}

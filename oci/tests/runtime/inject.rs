//! One system call of the runtime, or of the process that becomes the container, fails or is the last: the process is traced, and
//! what happens to its Nth call is ours to say. Nothing of this is in the product.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use crate::support::{Container, Said, spawn, wait_until};

/// Whose calls are counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Who {
    Runtime,
    /// What it clones first, and from its own clone on what that one has cloned.
    Child,
    /// What the runtime clones first, and no other.
    Maker,
}

/// What becomes of the call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    Fails(i32),
    Killed,
    /// It is carried out, and the last: the runtime hears of the call and of the end at once. (A call that waits for the runtime is not.)
    Unheard,
}

/// What the traced operation said, and its Nth call, if it had one.
pub(crate) struct Traced {
    pub(crate) said: Said,
    pub(crate) call: Option<Call>,
}

/// The number of a system call, and its first argument.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Call {
    pub(crate) number: i64,
    pub(crate) first: i64,
}

/// The registers of x86_64 as PTRACE_GETREGS gives them: only these are of interest.
const RAX: usize = 10 * 8;
const RDI: usize = 14 * 8;
const ORIG_RAX: usize = 15 * 8;

/// Runs the operation; the call `number` (from 1) of `who` meets its fate.
pub(crate) fn traced(c: &Container, mut command: Command, who: Who, number: usize, fate: Fate) -> Traced {
    let file = |name: &str| std::fs::File::create(c.path(name)).unwrap();
    command.stdout(file("traced.out")).stderr(file("traced.err")).stdin(Stdio::null());
    #[allow(unsafe_code)]
    // SAFETY: between fork and exec only ptrace is called, which is a plain system call.
    unsafe {
        command.pre_exec(|| ptrace(libc::PTRACE_TRACEME, 0, 0, 0).map(drop));
    }
    let mut runtime = spawn(&mut command);
    let pid = runtime.id().cast_signed();
    // It stops when it executes the runtime.
    wait(pid).expect("the runtime stops at its exec");
    let follow = if who != Who::Runtime {
        libc::PTRACE_O_TRACEFORK | libc::PTRACE_O_TRACEVFORK | libc::PTRACE_O_TRACECLONE | libc::PTRACE_O_TRACEEXEC
    } else {
        0
    };
    let options = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_EXITKILL | follow;
    ptrace(libc::PTRACE_SETOPTIONS, pid, 0, options.unsigned_abs() as usize).unwrap();
    let mut target = (who == Who::Runtime).then_some(pid);
    let resume = if who == Who::Runtime { libc::PTRACE_SYSCALL } else { libc::PTRACE_CONT };
    ptrace(resume, pid, 0, 0).unwrap();
    let call = follow_calls(pid, (who, &mut target), number, fate);
    let status = Said::status_of(runtime.wait().unwrap());
    let text = |name: &str| std::fs::read_to_string(c.path(name)).unwrap();
    Traced { said: Said { status, out: text("traced.out"), err: text("traced.err") }, call }
}

/// Until the runtime ends, or the call has met its fate; then nobody is traced any more who can be let go.
fn follow_calls(runtime: i32, (who, target): (Who, &mut Option<i32>), number: usize, fate: Fate) -> Option<Call> {
    let (mut calls, mut entering, mut failing) = (0, true, None);
    // The end of the runtime stays for its own wait: only stops are taken from it.
    while let Some((pid, status)) = next_stop(runtime) {
        if !libc::WIFSTOPPED(status) {
            continue;
        }
        if status >> 16 == libc::PTRACE_EVENT_EXEC && Some(pid) == *target {
            // What follows are the program's own calls.
            ptrace(libc::PTRACE_DETACH, pid, 0, 0).unwrap();
            return None;
        }
        if status >> 16 == libc::PTRACE_EVENT_EXEC {
            let _ = ptrace(libc::PTRACE_CONT, pid, 0, 0);
            continue;
        }
        if status >> 16 != 0 && who == Who::Maker && Some(pid) == *target {
            // What it made goes its own way. This one is in the midst of its call.
            let made = event_message(pid);
            if wait(made).is_ok_and(|status| libc::WIFSTOPPED(status)) {
                ptrace(libc::PTRACE_DETACH, made, 0, 0).unwrap();
            }
            let _ = ptrace(libc::PTRACE_SYSCALL, pid, 0, 0);
            continue;
        }
        if status >> 16 != 0 {
            // A fork: what it made is traced from birth, who made it no more.
            *target = Some(event_message(pid));
            entering = true;
            ptrace(libc::PTRACE_DETACH, pid, 0, 0).unwrap();
            continue;
        }
        if Some(pid) != *target && pid != runtime && who == Who::Maker && target.is_some() {
            // Seen before its maker's word of it.
            let _ = ptrace(libc::PTRACE_DETACH, pid, 0, 0);
            continue;
        }
        if Some(pid) != *target && pid != runtime {
            // A child's first stop, seen before its maker's word of it.
            let maker = target.replace(pid).unwrap_or(runtime);
            if wait(maker).is_ok_and(|status| libc::WIFSTOPPED(status)) {
                let _ = ptrace(libc::PTRACE_DETACH, maker, 0, 0);
            }
            entering = true;
        }
        if Some(pid) != *target {
            let _ = ptrace(libc::PTRACE_CONT, pid, 0, 0);
            continue;
        }
        if libc::WSTOPSIG(status) != libc::SIGTRAP | 0x80 {
            // The first stop of a child is no signal of its own.
            let signal = Some(libc::WSTOPSIG(status)).filter(|signal| ![libc::SIGSTOP, libc::SIGTRAP].contains(signal));
            let _ = ptrace(libc::PTRACE_SYSCALL, pid, 0, signal.unwrap_or(0).unsigned_abs() as usize);
            continue;
        }
        if failing.is_some() {
            let Fate::Fails(errno) = fate else { unreachable!() };
            ptrace(libc::PTRACE_POKEUSER, pid, RAX, 0_usize.wrapping_sub(errno.unsigned_abs() as usize)).unwrap();
            let _ = ptrace(libc::PTRACE_DETACH, pid, 0, 0);
            return failing;
        }
        if entering {
            calls += 1;
            if calls == number {
                let call = Call { number: ptrace_read(pid, ORIG_RAX), first: ptrace_read(pid, RDI) };
                if fate == Fate::Killed {
                    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL);
                    // The runtime learns of its child's end only when its tracer has.
                    while pid != runtime && wait(pid).is_ok_and(|status| !libc::WIFSIGNALED(status)) {}
                    return Some(call);
                }
                if fate == Fate::Unheard {
                    end_unheard(runtime, pid, call);
                    return Some(call);
                }
                // Another one instead, which does nothing, and at its end the answer is ours. Not a number that is none: for that a
                // filter ends the process. A close that fails has closed all the same (close(2)).
                const NEVER_FAIL: [i64; 4] =
                    [libc::SYS_umask, libc::SYS_exit_group, libc::SYS_geteuid, libc::SYS_getegid];
                let carried_out = call.number == libc::SYS_close || NEVER_FAIL.contains(&call.number);
                if !carried_out {
                    let nothing = usize::try_from(libc::SYS_sched_yield).unwrap();
                    ptrace(libc::PTRACE_POKEUSER, pid, ORIG_RAX, nothing).unwrap();
                }
                failing = Some(call).filter(|call| !NEVER_FAIL.contains(&call.number));
            }
        }
        entering = !entering;
        // A process that was killed meanwhile is gone.
        let _ = ptrace(libc::PTRACE_SYSCALL, pid, 0, 0);
    }
    None
}

fn end_unheard(runtime: i32, pid: i32, call: Call) {
    const WAIT_FOR_IT: [i64; 3] = [libc::SYS_recvfrom, libc::SYS_accept, libc::SYS_accept4];
    let signal = |pid, signal| nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal);
    let _ = signal(runtime, nix::sys::signal::SIGSTOP);
    let state = || std::fs::read_to_string(format!("/proc/{runtime}/stat")).unwrap_or_default();
    let rests = |stat: &str| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['T', 'Z', 'X']));
    wait_until("the runtime's stop", || rests(&state()));
    let mut stopped = true;
    while stopped && !WAIT_FOR_IT.contains(&call.number) {
        let _ = ptrace(libc::PTRACE_SYSCALL, pid, 0, 0);
        let Ok(status) = wait(pid) else { break };
        stopped = libc::WIFSTOPPED(status);
        if libc::WSTOPSIG(status) == libc::SIGTRAP | 0x80 || status >> 16 == libc::PTRACE_EVENT_EXEC {
            break;
        }
        if stopped && status >> 16 != 0 {
            // What it made goes its own way.
            let made = event_message(pid);
            let _ = wait(made);
            let _ = ptrace(libc::PTRACE_DETACH, made, 0, 0);
        }
    }
    let _ = signal(pid, nix::sys::signal::SIGKILL);
    while stopped && wait(pid).is_ok_and(|status| !libc::WIFSIGNALED(status)) {}
    let _ = signal(runtime, nix::sys::signal::SIGCONT);
}

fn ptrace(request: u32, pid: i32, address: usize, data: usize) -> std::io::Result<i64> {
    #[allow(unsafe_code)]
    // SAFETY: the requests used here take numbers, or (PTRACE_GETEVENTMSG) the address of a long that lives through the call.
    let result = unsafe { libc::ptrace(request, pid, address, data) };
    if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(result) }
}

/// The word at an offset of the registers.
fn ptrace_read(pid: i32, offset: usize) -> i64 {
    let mut word = 0_i64;
    #[allow(unsafe_code)]
    // SAFETY: the system call itself (the C library's wrapper differs) writes one word to where the last argument points.
    let done = unsafe { libc::syscall(libc::SYS_ptrace, libc::PTRACE_PEEKUSER, pid, offset, &raw mut word) };
    assert_eq!(done, 0, "read a register");
    word
}

fn event_message(pid: i32) -> i32 {
    let mut message = 0_i64;
    ptrace(libc::PTRACE_GETEVENTMSG, pid, 0, (&raw mut message).addr()).unwrap();
    i32::try_from(message).unwrap()
}

fn wait(pid: i32) -> std::io::Result<i32> {
    let mut status = 0;
    #[allow(unsafe_code)]
    // SAFETY: the status is an int that lives through the call.
    let result = unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL | libc::__WNOTHREAD) };
    if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(status) }
}

/// The next stop or end of one whom this thread traces; none when the runtime has ended (which is left to be waited for).
fn next_stop(runtime: i32) -> Option<(i32, i32)> {
    loop {
        #[allow(unsafe_code)]
        // SAFETY: siginfo_t is plain data; all zero is valid.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let flags = libc::WEXITED | libc::WSTOPPED | libc::WNOWAIT | libc::__WALL | libc::__WNOTHREAD;
        #[allow(unsafe_code)]
        // SAFETY: the buffer is a whole siginfo_t.
        if unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, flags) } < 0 {
            return None;
        }
        #[allow(unsafe_code)]
        // SAFETY: waitid fills the fields of a SIGCHLD.
        let pid = unsafe { info.si_pid() };
        if pid == runtime && [libc::CLD_EXITED, libc::CLD_KILLED, libc::CLD_DUMPED].contains(&info.si_code) {
            return None;
        }
        if let Ok(status) = wait(pid) {
            return Some((pid, status));
        }
    }
}

/// Takes the ends of those who were traced when the runtime ended.
pub(crate) fn reap() {
    let mut status = 0;
    #[allow(unsafe_code)]
    // SAFETY: the status is an int that lives through the call.
    while unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | libc::__WNOTHREAD | libc::WNOHANG) } > 0 {}
}

//! One system call of the supervisor fails: it runs below a tracer, which counts the calls of all its threads and answers one of
//! them with an error instead of carrying it out. Nothing of this is in the product.

use std::{
    env, io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

const NUMBER: &str = "ORLOP_TEST_INJECT";
const COUNT: &str = "ORLOP_TEST_INJECT_COUNT";

/// What the tracer is told: which call fails, from 1, and with what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    pub(crate) number: usize,
    pub(crate) errno: i32,
}

/// The command that runs the supervisor's command line traced; how many calls there were, is written to `count`.
pub(crate) fn traced(fault: Fault, count: &Path) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "inject::tracer", "--nocapture", "--test-threads=1"]);
    command.env(NUMBER, format!("{} {}", fault.number, fault.errno)).env(COUNT, count);
    command
}

/// Not a test of anything: the tracer's life. Passes at once in every other.
#[test]
fn tracer() {
    let (Ok(told), Some(count)) = (env::var(NUMBER), env::var_os(COUNT).map(PathBuf::from)) else { return };
    let (number, errno) = told.split_once(' ').unwrap();
    let fault = Fault { number: number.parse().unwrap(), errno: errno.parse().unwrap() };
    let mut command = crate::pid1::supervisor_command();
    command.env_remove(NUMBER).env_remove(COUNT);
    #[allow(unsafe_code)]
    // SAFETY: between fork and exec only ptrace is called, which is a plain system call.
    unsafe {
        command.pre_exec(|| ptrace(libc::PTRACE_TRACEME, 0, 0, 0).map(drop));
    }
    let child = command.spawn().unwrap();
    let end = follow(child.id().cast_signed(), fault, &count);
    // Dies as it died; the core of a tracer is of no use.
    std::process::exit(if libc::WIFEXITED(end) { libc::WEXITSTATUS(end) } else { 128 });
}

/// What cannot fail, and what only waits for another thread: an error there says nothing about the supervisor.
const SPARED: [i64; 16] = [
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_close,
    libc::SYS_munmap,
    libc::SYS_getpid,
    libc::SYS_getuid,
    libc::SYS_getgid,
    libc::SYS_geteuid,
    libc::SYS_getegid,
    libc::SYS_gettid,
    libc::SYS_sched_yield,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigaction,
];

/// The registers of x86_64 as PTRACE_GETREGS gives them: only these two are of interest.
const RAX: usize = 10 * 8;
const ORIG_RAX: usize = 15 * 8;

fn follow(first: i32, fault: Fault, count: &Path) -> i32 {
    let (mut calls, mut failing, mut inside) = (0, None, std::collections::BTreeSet::new());
    // The shell before it puts it into its cgroup; what is counted begins with the supervisor's own exec.
    let mut execs = 0;
    loop {
        let mut status = 0;
        #[allow(unsafe_code)]
        // SAFETY: the status is an int that lives through the call.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL) };
        if pid == first && (libc::WIFEXITED(status) || libc::WIFSIGNALED(status)) {
            return status;
        }
        if pid < 0 || !libc::WIFSTOPPED(status) {
            continue;
        }
        let (signal, event) = (libc::WSTOPSIG(status), status >> 16);
        let mut deliver = 0;
        if signal == libc::SIGTRAP | 0x80 {
            let entering = inside.insert(pid);
            if !entering {
                inside.remove(&pid);
            }
            if entering && execs > 1 && !SPARED.contains(&peek(pid, ORIG_RAX)) {
                calls += 1;
                if calls == fault.number {
                    eprintln!("call {calls}, system call {}, fails with error {}", peek(pid, ORIG_RAX), fault.errno);
                    // No such call: the kernel does nothing, and at its end the answer is ours.
                    let _ = ptrace(libc::PTRACE_POKEUSER, pid, ORIG_RAX, usize::MAX);
                    failing = Some(pid);
                }
                let _ = std::fs::write(count, calls.to_string());
            } else if !entering && failing == Some(pid) {
                failing = None;
                let answer = 0_usize.wrapping_sub(fault.errno.unsigned_abs() as usize);
                let _ = ptrace(libc::PTRACE_POKEUSER, pid, RAX, answer);
            }
        } else if signal == libc::SIGTRAP && (event == libc::PTRACE_EVENT_EXEC || (event == 0 && execs == 0)) {
            if execs == 0 {
                let options = libc::PTRACE_O_TRACESYSGOOD
                    | libc::PTRACE_O_EXITKILL
                    | libc::PTRACE_O_TRACECLONE
                    | libc::PTRACE_O_TRACEEXEC;
                let _ = ptrace(libc::PTRACE_SETOPTIONS, pid, 0, options.unsigned_abs() as usize);
            }
            execs += 1;
        } else if event == 0 && signal != libc::SIGSTOP {
            deliver = signal.unsigned_abs() as usize;
        }
        // One that was killed meanwhile is gone.
        let _ = ptrace(libc::PTRACE_SYSCALL, pid, 0, deliver);
    }
}

fn ptrace(request: u32, pid: i32, address: usize, data: usize) -> io::Result<i64> {
    #[allow(unsafe_code)]
    // SAFETY: the requests used here take numbers.
    let result = unsafe { libc::ptrace(request, pid, address, data) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The word at an offset of the registers; of one that is gone no call of interest.
fn peek(pid: i32, offset: usize) -> i64 {
    let mut word = libc::SYS_exit;
    #[allow(unsafe_code)]
    // SAFETY: the system call itself (the C library's wrapper differs) writes one word to where the last argument points.
    unsafe {
        libc::syscall(libc::SYS_ptrace, libc::PTRACE_PEEKUSER, pid, offset, &raw mut word)
    };
    word
}

//! Signals by name.

const NAMES: [(&str, i32); 34] = [
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("IOT", libc::SIGABRT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("STKFLT", libc::SIGSTKFLT),
    ("CHLD", libc::SIGCHLD),
    ("CLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("VTALRM", libc::SIGVTALRM),
    ("PROF", libc::SIGPROF),
    ("WINCH", libc::SIGWINCH),
    ("IO", libc::SIGIO),
    ("POLL", libc::SIGIO),
    ("PWR", libc::SIGPWR),
    ("SYS", libc::SIGSYS),
];

/// `TERM`, `SIGTERM`, `15`, `RTMIN+3`; 0 is the one that only asks.
pub fn signal(text: &str) -> Option<i32> {
    // As the kernel and musl number them, less the first ones, which C libraries keep for themselves: 34 is what everybody calls RTMIN.
    const RTMIN: i32 = 34;
    const RTMAX: i32 = 64;
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().ok().filter(|number| *number <= RTMAX);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |rest: &str, sign: char| match rest.strip_prefix(sign) {
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok(),
        _ => rest.is_empty().then_some(0),
    };
    let number = if let Some(rest) = name.strip_prefix("RTMIN") {
        offset(rest, '+').map(|n: i32| RTMIN.saturating_add(n))
    } else if let Some(rest) = name.strip_prefix("RTMAX") {
        offset(rest, '-').map(|n: i32| RTMAX.saturating_sub(n))
    } else {
        return NAMES.iter().find(|(one, _)| *one == name).map(|(_, number)| *number);
    };
    number.filter(|number| (RTMIN..=RTMAX).contains(number))
}

#[cfg(test)]
mod tests {
    use super::signal;

    #[test]
    fn signals() {
        let good = [("TERM", 15), ("sigkill", 9), ("9", 9), ("SIGRTMIN+3", 37), ("RTMAX-1", 63), ("0", 0), ("SYS", 31)];
        for (text, number) in good {
            assert_eq!(signal(text), Some(number), "{text}");
        }
        for bad in ["", "SIG", "65", "-1", "+9", "TERMS", "RTMIN+99", "RTMIN33", "RTMIN-1", "RTMIN++1", "1.5", "é"] {
            assert!(signal(bad).is_none(), "{bad}");
        }
    }
}

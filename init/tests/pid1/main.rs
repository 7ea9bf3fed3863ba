//! PID 1 as a real PID 1: of a user and pid namespace, without a virtual machine and without root.
#![allow(clippy::unwrap_used)] // a test that cannot go on ends

#[allow(unsafe_code, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
mod sys;

mod endings;
mod machine;
mod scripts;
mod supervisor;

use machine::machine;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use std::fs;

/// Not a test of its own: init executes this program as `orlop supervise`, and the test runner takes that word for a
/// filter. Elsewhere it has nothing to do.
#[test]
fn supervise() {
    if let Ok(script) = std::env::var("ORLOP_TEST_SCRIPT") {
        std::panic::set_hook(Box::new(|info| {
            let text = info.to_string().replace('\n', " ");
            let _ = fs::write(std::env::var("ORLOP_TEST_REPORT").unwrap_or_default(), format!("panic {text}\n"));
            std::process::exit(99);
        }));
        scripts::run(&script);
    }
}

/// The machines below share the file system of the one that runs them: inside, nothing of it may be writable.
#[test]
fn the_file_system_outside_is_safe() {
    machine("touch").start().expect("healthy");
}

mod reaping {
    use super::*;

    #[test]
    fn a_hundred_thousand_orphans_with_their_statuses_in_bounded_memory() {
        machine("orphans").start().expect("healthy");
    }

    #[test]
    fn every_signal_that_ends_a_child_is_told() {
        machine("signals").start().expect("healthy");
    }

    #[test]
    fn a_storm_of_signals_loses_nothing() {
        machine("storm").start().expect("healthy");
    }

    #[test]
    fn what_nobody_acknowledges_is_bounded_and_counted() {
        machine("drop exits").start().expect("healthy");
    }

    #[test]
    fn exits_wait_for_the_next_supervisor() {
        machine("away").start().expect("healthy");
    }

    #[test]
    fn exits_wait_for_the_next_pid_1() {
        for fault in ["abort", "segv", "stack"] {
            let mut machine = machine("away at a fault").env("ORLOP_FAULT_CRASH", fault).start();
            machine.expect("away");
            machine.signal(libc::SIGUSR2);
            machine.expect_console("PID 1 started over times=1");
            machine.expect("healthy");
        }
    }
}

mod poverty {
    use super::*;

    #[test]
    fn without_stdio() {
        machine("healthy").without_stdio().start().expect("healthy");
    }

    #[test]
    fn without_dev() {
        machine("healthy").without_dev().start().expect("healthy");
    }

    #[test]
    fn without_dev_and_stdio() {
        machine("healthy").without_dev().without_stdio().start().expect("healthy");
    }

    #[test]
    fn without_memory_everything_runs_on_the_reserve() {
        for script in ["keep fd", "away", "storm", "flood"] {
            let mut machine = machine(script).env("ORLOP_FAULT_ALLOC", "1").start();
            if script == "keep fd" {
                machine.expect("stored");
                machine.signal(libc::SIGTERM);
            }
            machine.expect("healthy");
        }
    }

    #[test]
    fn without_file_descriptors() {
        let mut machine = machine("exhaust fds").max_fds(64).start();
        machine.expect("full");
        machine.expect("healthy");
    }

    #[test]
    fn without_processes_to_start() {
        let mut machine = machine("healthy").env("ORLOP_FAULT_SPAWN", "3").start();
        machine.expect_console("Try again");
        machine.expect("healthy");
    }

    /// A fork bomb takes every process id there is while the supervisor dies. Its own id is free then: the next one may
    /// get it before the bomb does, and want for more itself. A limit of one's own is a matter of newer kernels; on others
    /// the test above stands for it.
    #[test]
    fn without_process_ids() {
        machine("fork bomb").start().expect("healthy");
    }
}

mod panics {
    use super::*;

    #[test]
    fn one_in_each_handler_is_survived() {
        for handler in ["setup", "signals", "reap", "link", "clock"] {
            let mut machine = machine("provoke").env("ORLOP_FAULT_PANIC", &format!("{handler}:1")).start();
            machine.expect_console(&format!("handler={handler} panicked times=1"));
            machine.expect("healthy");
        }
    }

    #[test]
    fn a_reaper_that_always_panics_still_reaps() {
        let mut machine = machine("crash").env("ORLOP_FAULT_PANIC", "reap:*").timing("backoff", 1).start();
        machine.expect_console("Orlop: rescue");
    }

    #[test]
    fn a_link_that_always_panics_ends_in_the_rescue_screen() {
        let mut machine = machine("healthy").env("ORLOP_FAULT_PANIC", "link:*").timing("backoff", 1).start();
        machine.expect_console("Orlop: rescue");
    }

    #[test]
    fn a_clock_that_always_panics_ends_in_the_rescue_screen() {
        let mut machine = machine("healthy").env("ORLOP_FAULT_PANIC", "clock:*").start();
        machine.expect_console("clock handler is broken");
        machine.expect_console("power off");
    }

    #[test]
    fn a_rescue_screen_that_panics_again_and_again_reboots() {
        let mut machine = machine("crash").env("ORLOP_FAULT_PANIC", "rescue:*").timing("backoff", 1).start();
        assert_eq!(machine.expect_end(), libc::SIGHUP);
    }

    #[test]
    fn a_fault_of_pid_1_itself_keeps_the_stored_fds() {
        for (fault, name) in [("abort", "abort"), ("segv", "segmentation fault"), ("stack", "segmentation fault")] {
            let mut machine = machine("keep fd").env("ORLOP_FAULT_CRASH", fault).start();
            machine.expect("stored");
            machine.signal(libc::SIGUSR2);
            machine.expect_console(&format!("PID 1 is broken: {name}"));
            machine.expect_console("PID 1 started over times=1 kept fds=1");
            machine.expect("healthy");
        }
    }

    #[test]
    fn what_the_supervisor_said_before_a_fault_is_done_after_it() {
        let mut machine = machine("keep fd at a fault").env("ORLOP_FAULT_CRASH", "segv").start();
        machine.expect("ready");
        machine.signal(libc::SIGSTOP);
        machine.expect("stored");
        machine.signal(libc::SIGCONT);
        machine.expect("healthy");
    }

    #[test]
    fn a_fault_during_a_shutdown_does_not_stop_it() {
        let mut machine = machine("mute").env("ORLOP_FAULT_CRASH", "segv").start();
        machine.expect("ready");
        machine.signal(libc::SIGRTMIN() + 4);
        machine.expect_console("power off");
        machine.signal(libc::SIGUSR2);
        assert_eq!(machine.expect_end(), libc::SIGINT);
        machine.expect_shown("PID 1 started over times=1");
        machine.expect_shown("unmounting");
    }

    #[test]
    fn the_third_fault_reboots() {
        let mut machine = machine("healthy").env("ORLOP_FAULT_CRASH", "abort").start();
        for _ in 0..3 {
            machine.expect("healthy");
            machine.signal(libc::SIGUSR2);
        }
        assert_eq!(machine.expect_end(), libc::SIGHUP);
    }
}

mod supervision {
    use super::*;

    #[test]
    fn one_that_cannot_be_started_is_named_on_the_rescue_screen() {
        let mut machine = machine("healthy").env("ORLOP_SUPERVISOR", "/no/such/orlop").timing("backoff", 1).start();
        machine.expect_console("Orlop: rescue");
        machine.expect_console("exec /no/such/orlop: No such file or directory");
    }

    #[test]
    fn five_deaths_in_a_row_lead_to_the_rescue_screen_and_retry_starts_it_again() {
        let mut machine = machine("killed five times").timing("backoff", 1).start();
        machine.expect_console("killed by signal 9");
        machine.expect_console("Orlop: rescue");
        machine.expect_console("> ");
        machine.key("nonsense\r");
        machine.expect_console("Not one of the choices");
        machine.key("r\r");
        machine.expect("healthy");
    }

    /// Whoever kills it from outside ends no machine that way.
    #[test]
    fn one_that_was_killed_is_tried_again_when_nobody_answers() {
        let mut machine = machine("killed five times").timing("backoff", 1).timing("rescue_timeout", 300).start();
        machine.expect_console("nobody pressed a key: try again");
        machine.expect("healthy");
    }

    #[test]
    fn containers_outlive_the_supervisor_and_the_rescue_screen() {
        let mut machine = machine("container").timing("backoff", 1).start();
        machine.expect("container");
        machine.expect_console("Orlop: rescue");
        machine.expect_console("keep running");
        machine.expect_console("> ");
        machine.key("r\r");
        machine.expect("healthy");
    }

    #[test]
    fn a_rescue_screen_that_nobody_answers_reboots() {
        let mut machine = machine("crash").timing("backoff", 1).timing("rescue_timeout", 300).start();
        machine.expect_console("Orlop: rescue");
        assert_eq!(machine.expect_end(), libc::SIGHUP);
    }

    /// The watchdog stands behind the reboot that nobody waits for. What hangs here is what can: a disk.
    #[test]
    fn a_rescue_screen_that_nobody_answers_leaves_a_bounded_time_to_reboot() {
        let mut machine = machine("crash")
            .env("ORLOP_FAULT_HANG", "1")
            .timing("backoff", 1)
            .timing("rescue_timeout", 300)
            .timing("unattended", 300)
            .start();
        machine.expect_console("nobody pressed a key");
        machine.expect_console("takes too long: not fed any more");
    }

    #[test]
    fn one_that_hangs_is_killed_and_started_again() {
        let mut machine = machine("hang").timing("ping_interval", 50).timing("ping_timeout", 300).start();
        machine.expect("hello 1");
        machine.expect_console("does not answer its ping");
        machine.expect("hello 2");
        machine.expect("healthy");
    }

    #[test]
    fn one_that_closes_its_socket_is_started_again() {
        let mut machine = machine("close socket").start();
        machine.expect_console("closed its handoff socket");
        machine.expect("hello 2");
        machine.expect("healthy");
    }

    #[test]
    fn floods_and_garbage_are_survived() {
        for script in ["flood", "garbage"] {
            machine(script).start().expect("healthy");
        }
    }

    #[test]
    fn a_new_supervisor_on_sigterm_finds_its_fds() {
        let mut machine = machine("keep fd").start();
        machine.expect("stored");
        machine.signal(libc::SIGTERM);
        machine.expect("hello 2");
        machine.expect("healthy");
    }
}

mod descriptors {
    use super::*;

    /// A container may give what takes its peer's time to be closed.
    #[test]
    fn one_that_lingers_is_not_waited_for() {
        machine("lingering").start().expect("healthy");
    }
}

mod shutdown {
    use super::*;

    #[test]
    fn signals_ask_the_supervisor_and_end_the_machine() {
        let rt = libc::SIGRTMIN();
        for (signal, word, end) in [
            (libc::SIGINT, "Reboot", libc::SIGHUP),
            (libc::SIGPWR, "PowerOff", libc::SIGINT),
            (rt + 3, "Halt", libc::SIGINT),
            (rt + 4, "PowerOff", libc::SIGINT),
            (rt + 5, "Reboot", libc::SIGHUP),
        ] {
            let mut machine = machine("healthy").start();
            machine.expect("healthy");
            machine.signal(signal);
            assert_eq!(machine.expect("asked"), word);
            assert_eq!(machine.expect_end(), end, "signal {signal}");
            machine.expect_shown("unmounting");
        }
    }

    #[test]
    fn a_kexec_without_a_kernel_to_execute_is_a_reboot() {
        let mut machine = machine("healthy").start();
        machine.expect("healthy");
        machine.signal(libc::SIGRTMIN() + 6);
        assert_eq!(machine.expect("asked"), "Kexec");
        assert_eq!(machine.expect_end(), libc::SIGHUP);
        machine.expect_shown("kexec: no kernel is loaded to execute; reboot instead");
    }

    /// Whoever holds it is outside of the machine, as the kernel itself may be: no signal reaches it.
    #[test]
    fn what_cannot_be_unmounted_becomes_read_only() {
        let mut machine = machine("mount").start();
        machine.expect("mounted");
        let held = machine.open("/run/held");
        nix::sys::stat::mkdirat(&held, "written", Mode::S_IRWXU).unwrap();
        machine.signal(libc::SIGRTMIN() + 4);
        assert_eq!(machine.expect_end(), libc::SIGINT);
        machine.expect_shown("/run/held could not be unmounted, now read-only");
        let refused = nix::sys::stat::mkdirat(&held, "too late", Mode::S_IRWXU);
        assert_eq!(refused, Err(nix::errno::Errno::EROFS));
    }

    #[test]
    fn a_process_that_ignores_term_is_killed() {
        let mut machine = machine("stubborn").timing("grace", 300).start();
        machine.expect("ready");
        machine.signal(libc::SIGRTMIN() + 4);
        assert_eq!(machine.expect_end(), libc::SIGINT);
        machine.expect_shown("what is left is killed");
    }

    #[test]
    fn what_ignores_term_is_killed_by_its_cgroup_and_named() {
        let mut machine = machine("stubborn in a cgroup").timing("grace", 300).start();
        machine.expect("ready");
        let trees = ["containers", "orlop"].map(|tree| machine.open(&format!("/sys/fs/cgroup/{tree}")));
        machine.signal(libc::SIGRTMIN() + 4);
        assert_eq!(machine.expect_end(), libc::SIGINT);
        machine.expect_shown("what is left is killed: web, orlop");
        for tree in trees {
            let file = nix::fcntl::openat(&tree, "cgroup.kill", OFlag::O_RDONLY, Mode::empty()).unwrap();
            assert_eq!(std::io::read_to_string(fs::File::from(file)).unwrap(), "1");
        }
    }

    /// A dead disk makes unmount(2) and sync(2) wait for ever, in a process that cannot even be killed.
    #[test]
    fn steps_that_hang_are_left_behind() {
        let mut machine = machine("reboot").env("ORLOP_FAULT_HANG", "1").timing("step", 50).timing("sync", 50).start();
        assert_eq!(machine.expect_end(), libc::SIGHUP);
        for step in ["Unmount", "Detach", "ReadOnly", "Sync"] {
            machine.expect_shown(step);
        }
    }

    /// What hangs for ever must not hold the watchdog or a client's connection for as long.
    #[test]
    fn a_step_holds_nothing_of_pid_1s() {
        let mut machine = machine("reboot").env("ORLOP_FAULT_HANG", "1").timing("step", 600_000).start();
        machine.expect_console("unmounting");
        machine.wait_for("a child without PID 1's descriptors", |pid| {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            let held = |child: &str| -> Option<Vec<_>> {
                let fds = fs::read_dir(format!("/proc/{child}/fd")).ok()?.flatten();
                Some(fds.filter_map(|fd| fs::read_link(fd.path()).ok()).collect())
            };
            children.split_whitespace().filter_map(held).any(|links| {
                let others = links.iter().filter(|link| !link.starts_with("/dev"));
                links.len() >= 4 && others.count() == 0
            })
        });
    }

    #[test]
    fn a_supervisor_that_does_not_answer_is_not_waited_for() {
        let mut machine = machine("mute").timing("answer_timeout", 300).start();
        machine.expect("ready");
        machine.signal(libc::SIGRTMIN() + 5);
        assert_eq!(machine.expect_end(), libc::SIGHUP);
    }

    /// Units are stopped in their order whoever kills the supervisor meanwhile.
    #[test]
    fn a_supervisor_that_dies_meanwhile_is_followed_by_one_that_is_asked_again() {
        let mut machine = machine("dies while stopping").start();
        machine.expect("ready");
        machine.signal(libc::SIGRTMIN() + 4);
        machine.expect("stopping");
        machine.expect("hello 2");
        assert_eq!(machine.expect("asked"), "PowerOff");
        assert_eq!(machine.expect_end(), libc::SIGINT);
    }

    #[test]
    fn one_that_dies_again_and_again_is_not_waited_for() {
        let mut machine = machine("dies while stopping").env("ORLOP_TEST_ALWAYS", "1").timing("backoff", 1).start();
        machine.expect("ready");
        machine.signal(libc::SIGRTMIN() + 4);
        assert_eq!(machine.expect_end(), libc::SIGINT);
        machine.expect_shown("every process is asked to end");
    }

    #[test]
    fn the_supervisor_may_end_the_machine_itself() {
        assert_eq!(machine("reboot").start().expect_end(), libc::SIGHUP);
    }

    #[test]
    fn the_rescue_screen_powers_off() {
        let mut machine = machine("crash").timing("backoff", 1).start();
        machine.expect_console("> ");
        machine.key("p\r");
        assert_eq!(machine.expect_end(), libc::SIGINT);
    }
}

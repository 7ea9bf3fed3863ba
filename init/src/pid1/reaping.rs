//! Reaping: every child, ours and the orphans of the whole machine. SIGCHLD coalesces, so it is drained.

use std::io::Read as _;
use std::time::Duration;

use handoff::Exit;
use nix::errno::Errno;

use super::machine::Machine;
use crate::contain::{self, Handler};
use crate::shutdown::mounts::Outcome;
use crate::shutdown::plan;
use crate::supervise::policy;
use crate::sys::wait::{self, Ended};
use crate::{story, sys};

/// Children reaped before other work gets its turn.
const TURN: usize = 256;

impl Machine {
    pub(crate) fn on_children(&mut self, now: Duration) {
        self.more_children = true;
        for _ in 0..TURN {
            match wait::peek() {
                Ok(Some(pid)) => self.on_child(pid, now),
                Ok(None) => {
                    self.more_children = false;
                    return;
                }
                Err(errno) => {
                    self.more_children = false;
                    if errno == Errno::ECHILD {
                        self.shut_down(plan::Event::Alone, now);
                    }
                    return;
                }
            }
        }
    }

    fn on_child(&mut self, pid: u32, now: Duration) {
        // Before the reaping: afterwards the pid may be another's.
        let start_ticks = self.with_spare(|_| start_ticks(pid)).unwrap_or(0);
        contain::fault_point(Handler::Reap);
        let Ok(Some(ended)) = wait::reap(pid) else { return };
        if self.child.as_ref().is_some_and(|child| child.pid == pid) {
            self.supervisor_died(&ended, now);
        } else if self.helper == Some(pid) {
            self.helper = None;
            let Outcome { progress, left } = Outcome::from_wait(ended.wait_status);
            self.shut_down(plan::Event::StepDone { progress, left }, now);
        } else {
            self.exits.push(Exit {
                seq: 0,
                pid,
                start_ticks,
                wait_status: ended.wait_status,
                user_us: ended.user_us,
                system_us: ended.system_us,
                max_rss_kib: ended.max_rss_kib,
            });
        }
    }

    fn supervisor_died(&mut self, ended: &Ended, now: Duration) {
        let Some(child) = self.child.take() else { return };
        sys::crash::remember_supervisor(0);
        let why = child.obituary(self.command.program(), ended.wait_status);
        // Its last words may still be in the socket: acknowledged exits, fds to keep. A socket holds fewer than these.
        for _ in 0..16 {
            self.hear(now);
        }
        self.link = None;
        self.more_to_send = false;
        if self.plan.is_up() || self.plan.asks().is_some() {
            story::warn("init", format_args!("the supervisor ended: {why}"));
        }
        self.last_death = why;
        self.last_end = Some(self.policy.who_ended_it(ended.wait_status));
        let was_given_up = self.policy.is_given_up();
        self.supervise(policy::Event::Died, now);
        if was_given_up {
            // It could not be killed, and that is why a person was asked.
            self.rescue = None;
        }
    }

    /// The way without any of the above, after it panicked: children are reaped, what they were is counted only.
    pub(crate) fn reap_plainly(&mut self, now: Duration) {
        for _ in 0..TURN {
            let Ok(Some(pid)) = wait::peek() else { return };
            let Ok(Some(ended)) = wait::reap(pid) else { return };
            if self.child.as_ref().is_some_and(|child| child.pid == pid) {
                let _ = contain::run(Handler::Setup, || self.supervisor_died(&ended, now));
            } else if self.helper == Some(pid) {
                self.helper = None;
            } else {
                self.exits.count_dropped();
            }
        }
    }
}

/// Field 22 of `/proc/<pid>/stat`; a zombie still has it. The name in field 2 may hold anything, so what counts
/// comes behind the last `)`.
fn start_ticks(pid: u32) -> nix::Result<u64> {
    let path = crate::text::Text::<32>::of(format_args!("/proc/{pid}/stat"));
    let open = std::fs::File::open(path.as_str());
    let mut file = open.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))?;
    let mut stat = [0; 1024];
    let len = file.read(&mut stat).map_err(|_| Errno::EIO)?;
    parse_start_ticks(&stat[..len]).ok_or(Errno::EINVAL)
}

fn parse_start_ticks(stat: &[u8]) -> Option<u64> {
    let behind_name = stat.iter().rposition(|&byte| byte == b')')? + 2;
    let field = stat.get(behind_name..)?.split(|&byte| byte == b' ').nth(19)?;
    std::str::from_utf8(field).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_found_behind_any_name() {
        let stat = b"42 (a) b (c ) d) Z 1 42 42 0 -1 4 5 6 7 8 9 10 11 12 20 0 1 0 987654 13 14\n";
        assert_eq!(parse_start_ticks(stat), Some(987_654));
        assert_eq!(parse_start_ticks(b"42 (a"), None);
        assert!(start_ticks(std::process::id()).unwrap() > 0);
    }
}

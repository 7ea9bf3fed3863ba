//! `exec`: another program in a unit's container, for somebody who looks on or not. The client's connection is given to a process of
//! its own (`orlop relay`, see `relay`), which runs the runtime and carries the bytes: no session costs the supervisor memory or time,
//! and none hears of it when the supervisor dies or is replaced.

pub mod relay;
mod task;

use std::{
    collections::BTreeMap,
    fs, io,
    os::fd::OwnedFd,
    path::PathBuf,
    process::{Command, Stdio},
};

use task::Task;

use super::{bundle::container_id, clock, core::Daemon};
use crate::{
    api::{http::Answer, server::ConnectionId, types::ExecRequest},
    unit::UnitName,
};

/// At the same time.
const MAX_SESSIONS: usize = 64;

#[derive(Debug, Default)]
pub(crate) struct Sessions {
    /// By the pid of the relay.
    running: BTreeMap<u32, (ConnectionId, PathBuf)>,
    /// Of the folders.
    next: u64,
}

impl Daemon {
    pub(crate) fn on_exec(
        &mut self,
        connection: ConnectionId,
        unit: &UnitName,
        request: ExecRequest,
    ) -> Option<Answer> {
        let Some(entry) = self.engine.get(unit) else { return Some(self.no_such_unit(unit)) };
        if entry.record.main_process().is_none() {
            return Some(Answer::problem(409, format!("{unit}: not running; `orlop start {unit}` starts it")));
        }
        if self.sessions.running.len() >= MAX_SESSIONS {
            return Some(Answer::problem(503, format!("{MAX_SESSIONS} commands run already by exec")));
        }
        let Some(client) = self.server.give(connection) else {
            return Some(Answer::problem(400, "nothing may follow the request before its answer"));
        };
        self.sessions.next += 1;
        let folder = self.paths.execs().join(format!("{}-{}", self.generation, self.sessions.next));
        let task = Task {
            runtime: self.runtime.program().to_owned(),
            root: self.paths.runtime_root(),
            container: container_id(unit),
            rootfs: self.paths.rootfs(unit),
            folder: folder.clone(),
            request,
        };
        match spawn(&task, client) {
            Ok(pid) => drop(self.sessions.running.insert(pid, (connection, folder))),
            Err(error) => {
                let answer =
                    Answer::problem(503, format!("{unit}: the machine has no room for another process: {error}"));
                self.server.take_back(&self.epoll, connection, &answer, clock::monotonic());
            }
        }
        None
    }

    /// A relay ended; true if it was one.
    pub(crate) fn on_exec_ended(&mut self, pid: u32) -> bool {
        let Some((connection, folder)) = self.sessions.running.remove(&pid) else { return false };
        let _ = fs::remove_dir_all(folder);
        self.server.end_given(&self.epoll, connection, clock::monotonic());
        true
    }
}

fn spawn(task: &Task, client: OwnedFd) -> io::Result<u32> {
    let mut command = Command::new("/proc/self/exe");
    command.env_clear().arg("relay").arg(serde_json::to_string(task)?);
    command.stdin(client).stdout(Stdio::null()).stderr(Stdio::null());
    // Reaped by the loop, like all children.
    Ok(command.spawn()?.id())
}

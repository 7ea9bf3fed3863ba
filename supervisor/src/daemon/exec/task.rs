//! What a relay is started for, and how it begins: the runtime's process with its streams.

use std::{
    fs, io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{fs::DirBuilderExt, net::UnixListener, process::ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use serde::{Deserialize, Serialize};

use super::super::{bundle, runtime, sys};
use crate::{
    api::{
        frame::Kind,
        http::Answer,
        types::{ExecEnd, ExecRequest, TerminalSize},
    },
    unit::spec::user_ids,
};

/// What it is started for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(crate) runtime: PathBuf,
    pub(crate) root: PathBuf,
    pub(crate) container: String,
    pub(crate) rootfs: PathBuf,
    /// Its own, below /run.
    pub(crate) folder: PathBuf,
    pub(crate) request: ExecRequest,
}

/// The runtime's process is there.
pub(super) struct Begun {
    child: Child,
    pub(super) pidfd: OwnedFd,
    pub(super) folder: PathBuf,
    /// Until the terminal has come.
    pub(super) listener: Option<UnixListener>,
    pub(super) tty: bool,
    pub(super) stdin: Option<OwnedFd>,
    /// Standard output and error; the terminal alone.
    pub(super) outputs: Vec<(Kind, OwnedFd)>,
}

impl Task {
    pub(super) fn begin(&self) -> Result<Begun, Answer> {
        let machine = |error: io::Error| Answer::problem(500, format!("{}: {error}", self.folder.display()));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder).map_err(machine)?;
        let mut command = self.command()?;
        let mut listener = None;
        let request = &self.request;
        if request.tty {
            let path = self.folder.join("console");
            listener = Some(UnixListener::bind(&path).map_err(machine)?);
            command.arg("--tty").arg("--console-socket").arg(path);
            if let Some(TerminalSize { rows, columns }) = request.size {
                command.arg("--console-size").arg(format!("{rows}x{columns}"));
            }
        }
        let pipe = |wanted| if wanted { Stdio::piped() } else { Stdio::null() };
        let is_piped = !request.tty && !request.detach;
        command.stdin(pipe(is_piped && request.stdin)).stdout(pipe(is_piped)).stderr(pipe(is_piped));
        command.arg(&self.container).arg("--").args(&request.command);
        let mut child = command.spawn().map_err(machine)?;
        let pidfd = sys::pidfd_open(child.id()).map_err(machine)?;
        let outputs = [
            (Kind::Output, child.stdout.take().map(OwnedFd::from)),
            (Kind::Errors, child.stderr.take().map(OwnedFd::from)),
        ];
        let outputs: Vec<(Kind, OwnedFd)> = outputs.into_iter().filter_map(|(kind, fd)| Some((kind, fd?))).collect();
        let stdin = child.stdin.take().map(OwnedFd::from);
        for fd in outputs.iter().map(|(_, fd)| fd).chain(&stdin) {
            do_not_block(fd.as_fd());
        }
        Ok(Begun { child, pidfd, folder: self.folder.clone(), listener, tty: request.tty, stdin, outputs })
    }

    /// All but what concerns streams.
    fn command(&self) -> Result<Command, Answer> {
        let request = &self.request;
        let mut command = Command::new(&self.runtime);
        command.env_clear().arg("--root").arg(&self.root);
        command.arg("--log").arg(self.folder.join("log")).args(["--log-format", "json", "exec"]);
        command.arg("--pid-file").arg(self.folder.join("pid"));
        if request.detach {
            command.arg("--detach");
        }
        if let Some(user) = &request.user {
            let read = |path| {
                let found = bundle::read_in(&self.rootfs, path);
                found.map_err(|error| Answer::problem(409, format!("read the container's /{path}: {error}")))
            };
            let (uid, gid, groups) = user_ids(user, &read("etc/passwd")?, &read("etc/group")?)
                .map_err(|name| Answer::problem(409, format!("the container has no {name}; write a number")))?;
            command.arg("--user").arg(format!("{uid}:{gid}"));
            command.args(groups.iter().map(|gid| format!("--additional-gids={gid}")));
        }
        if let Some(path) = &request.working_directory {
            command.arg("--cwd").arg(path);
        }
        command.args(request.environment.iter().map(|variable| format!("--env={variable}")));
        Ok(command)
    }

    /// The runtime ends when the program has begun.
    pub(super) fn detached(&self, mut begun: Begun) -> Answer {
        match begun.child.wait() {
            Ok(status) if status.success() => {
                let pid = pid_of(&self.folder);
                Answer::json(200, &serde_json::json!({ "pid": pid }))
            }
            _ => Answer::problem(409, begun.why().unwrap_or_else(|| "the runtime did not say why".to_owned())),
        }
    }
}

impl Begun {
    /// How it ended, once it has.
    pub(super) fn end(&mut self) -> ExecEnd {
        let status = self.child.wait().ok();
        let code = status.and_then(|status| status.code().or_else(|| status.signal().map(|signal| 128 + signal)));
        let exit_code = code.and_then(|code| u8::try_from(code).ok()).unwrap_or(125);
        match self.why() {
            Some(text) if exit_code == FAILED => ExecEnd { exit_code: status_of(&text), error: Some(text) },
            _ => ExecEnd { exit_code, error: None },
        }
    }

    /// Why the program did not come to run.
    fn why(&self) -> Option<String> {
        runtime::last_message(&self.folder.join("log"))
    }
}

/// The runtime's own failure, of `exec`.
const FAILED: u8 = 255;

/// Podman's.
fn status_of(text: &str) -> u8 {
    match () {
        () if text.contains("no such file or directory") || text.contains("not found") => 127,
        () if text.contains("permission denied") || text.contains("exec format error") => 126,
        () => 125,
    }
}

pub(super) fn pid_of(folder: &Path) -> Option<u32> {
    fs::read_to_string(folder.join("pid")).ok()?.trim().parse().ok()
}

pub(super) fn do_not_block(fd: BorrowedFd<'_>) {
    if let Err(errno) = fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)) {
        log::warn!("set O_NONBLOCK: {errno}");
    }
}

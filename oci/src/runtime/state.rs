//! state.json: what the runtime remembers of a container, and the container's status, which is always asked of the kernel.
//!
//! ```text
//!   (create) creating ──► created ──(start)──► running ◄──(pause/resume)──► paused
//!                │             └───────┬──────────┘
//!                └── runtime died      └── process ended ──► stopped ──(delete)──► gone
//! ```

use super::config::{ConfigError, Hooks, Linux, Process};
use super::error::{Error, Result, Step};
use super::id::ContainerId;
use super::json::{Reader, Taken, Writer};
use super::procfs::{Procfs, Stat, text};
use super::store::{Folder, Store, read_file};

/// The name of the socket `start` connects to; it is there as long as the container waits for it.
pub(crate) const START_SOCKET: &std::ffi::CStr = c"start.sock";
pub(crate) const FILE: &str = "state.json";
/// The compiled filter, for `exec`; only where there is one.
pub(crate) const FILTER_FILE: &str = "seccomp.bpf";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

#[derive(Debug, Default, Clone)]
pub(crate) struct State {
    pub(crate) id: String,
    pub(crate) oci_version: String,
    /// 0 until there is one.
    pub(crate) pid: i32,
    /// There is one, and this `create` is at its hooks: its pid, and its start in ticks.
    pub(crate) creator: Option<(i32, u64)>,
    /// The process's start in ticks since boot: with it a reused pid is not mistaken for the container.
    pub(crate) start_ticks: u64,
    pub(crate) bundle: String,
    pub(crate) rootfs: String,
    pub(crate) created: String,
    /// Below /sys/fs/cgroup.
    pub(crate) cgroup: String,
    /// The unit of systemd it is, where it was asked for one.
    pub(crate) scope: String,
    /// The CLONE_NEW… bits of the namespaces that are not the host's, for exec and hooks.
    pub(crate) namespaces: i32,
    /// Its pid namespace is somebody else's, who goes on when it ends.
    pub(crate) guest: bool,
    /// The mount that is the container's root in the host's mount namespace, by the kernel's number; 0 where it has its own.
    pub(crate) root_mount: u64,
    pub(crate) annotations: Vec<(String, String)>,
    /// As written in config.json: what changes there later has no effect (spec, section "Lifecycle").
    pub(crate) hooks: String,
    pub(crate) process: String,
    /// What of `linux` holds for every process: an object, or empty.
    pub(crate) linux: String,
    /// Where the seccomp listener goes, and what the agent is to be told with it.
    pub(crate) listener_path: String,
    pub(crate) listener_metadata: String,
    /// The resctrl groups every process enters, in this order, and what of them was made for this container.
    pub(crate) resctrl: Vec<String>,
    pub(crate) resctrl_made: Vec<String>,
}

impl State {
    pub(crate) fn save(&self, folder: &Folder) -> Result<()> {
        let mut w = Writer::new();
        w.open('{').name("id").string(&self.id).name("ociVersion").string(&self.oci_version);
        w.name("pid").number(self.pid.into()).name("startTicks").number(self.start_ticks.into());
        if let Some((pid, ticks)) = self.creator {
            w.name("creator")
                .open('{')
                .name("pid")
                .number(pid.into())
                .name("startTicks")
                .number(ticks.into())
                .close('}');
        }
        w.name("bundle").string(&self.bundle).name("rootfs").string(&self.rootfs);
        w.name("created").string(&self.created).name("cgroup").string(&self.cgroup);
        w.name("namespaces").number(self.namespaces.into()).pairs("annotations", &self.annotations);
        if self.guest {
            w.name("guest").boolean(true);
        }
        for (name, text) in [("hooks", &self.hooks), ("process", &self.process), ("linux", &self.linux)] {
            if !text.is_empty() {
                w.name(name).value(text);
            }
        }
        w.name("listenerPath").string(&self.listener_path);
        w.name("listenerMetadata").string(&self.listener_metadata);
        if self.root_mount != 0 {
            w.name("rootMount").value(&self.root_mount.to_string());
        }
        if !self.scope.is_empty() {
            w.name("scope").string(&self.scope);
        }
        if !self.resctrl.is_empty() {
            w.strings("resctrl", &self.resctrl).strings("resctrlMade", &self.resctrl_made);
        }
        w.close('}');
        folder.replace(FILE, w.finish().as_bytes())
    }

    fn parse(text: &str) -> std::result::Result<State, ConfigError> {
        let mut state = State::default();
        let mut reader = Reader::new(text);
        reader.object(&mut |r, name| {
            match name {
                "id" => state.id = r.text()?,
                "ociVersion" => state.oci_version = r.text()?,
                "pid" => state.pid = r.integer()?,
                "creator" => {
                    let (mut pid, mut ticks) = (0, 0);
                    r.object(&mut |r, name| {
                        match name {
                            "pid" => pid = r.integer()?,
                            "startTicks" => ticks = r.integer()?,
                            _ => return Ok(Taken::No),
                        }
                        Ok(Taken::Yes)
                    })?;
                    state.creator = Some((pid, ticks));
                }
                "startTicks" => state.start_ticks = r.integer()?,
                "bundle" => state.bundle = r.text()?,
                "rootfs" => state.rootfs = r.text()?,
                "created" => state.created = r.text()?,
                "cgroup" => state.cgroup = r.text()?,
                "scope" => state.scope = r.text()?,
                "namespaces" => state.namespaces = r.integer()?,
                "guest" => state.guest = r.boolean()?,
                "rootMount" => state.root_mount = r.integer()?,
                "annotations" => r.object(&mut |r, key| {
                    let value = r.text()?;
                    state.annotations.push((key.to_owned(), value));
                    Ok(Taken::Yes)
                })?,
                "hooks" => state.hooks = r.raw()?,
                "process" => state.process = r.raw()?,
                "linux" => state.linux = r.raw()?,
                "listenerPath" => state.listener_path = r.text()?,
                "resctrl" => state.resctrl = r.strings()?,
                "resctrlMade" => state.resctrl_made = r.strings()?,
                "listenerMetadata" => state.listener_metadata = r.text()?,
                _ => return Ok(Taken::No),
            }
            Ok(Taken::Yes)
        })?;
        reader.finish()?;
        Ok(state)
    }

    /// The state of a container whose folder is locked; none: `create` died before it wrote one.
    pub(crate) fn load(folder: &Folder) -> Result<Option<State>> {
        let Some(bytes) = folder.read(FILE)? else { return Ok(None) };
        Self::checked(&text(bytes), &folder.path.join(FILE).display().to_string()).map(Some)
    }

    /// The same without the lock.
    pub(crate) fn peek(store: &Store, id: &ContainerId) -> Result<State> {
        Self::checked(&store.peek(id, FILE)?, &store.path(id, FILE).display().to_string())
    }

    fn checked(text: &str, file: &str) -> Result<State> {
        Self::parse(text).map_err(|error| Error::Config { file: file.to_owned(), error })
    }

    /// What the kernel says about the container's process now; `waiting` is whether the start socket is still there.
    pub(crate) fn status(&self, proc: &Procfs, waiting: bool) -> Result<Status> {
        Ok(match self.lives(proc)? {
            _ if self.pid == 0 => Status::Creating,
            false => Status::Stopped,
            true if self.creator.is_some() => Status::Creating,
            // Also before its start, which would wait for it for ever.
            true if self.frozen() => Status::Paused,
            true if waiting => Status::Created,
            true => Status::Running,
        })
    }

    /// Whether the container's process is there.
    pub(crate) fn lives(&self, proc: &Procfs) -> Result<bool> {
        lives(proc, self.pid, self.start_ticks)
    }

    /// Whether its process has ended or begun to.
    pub(crate) fn is_ending(&self, proc: &Procfs) -> bool {
        let stat = proc.stat(self.pid).ok().flatten().filter(|stat| stat.start_ticks == self.start_ticks);
        stat.is_none_or(|stat| stat.exiting || matches!(stat.state, 'Z' | 'X'))
    }

    /// Whether `create` is still at its hooks.
    pub(crate) fn is_being_created(&self, proc: &Procfs) -> Result<bool> {
        self.creator.map_or(Ok(false), |(pid, ticks)| lives(proc, pid, ticks))
    }

    pub(crate) fn frozen(&self) -> bool {
        read_file(format!("/sys/fs/cgroup{}/cgroup.freeze", self.cgroup).as_ref()).is_ok_and(|text| text.trim() == "1")
    }

    pub(crate) fn hooks(&self) -> Result<Hooks> {
        Self::part(&self.hooks, Hooks::read, "hooks")
    }

    pub(crate) fn process(&self) -> Result<Process> {
        Self::part(&self.process, Process::read, "process")
    }

    pub(crate) fn linux(&self) -> Result<Linux> {
        Self::part(&self.linux, Linux::read, "linux")
    }

    fn part<T: Default>(
        text: &str,
        read: fn(&mut Reader<'_>) -> std::result::Result<T, ConfigError>,
        name: &str,
    ) -> Result<T> {
        if text.is_empty() {
            return Ok(T::default());
        }
        let wrong = |error: ConfigError| Error::Config { file: format!("{FILE}, {name}"), error };
        read(&mut Reader::new(text)).map_err(wrong)
    }

    /// The state object of the spec, for `state` and for hooks.
    pub(crate) fn document(&self, status: Status) -> String {
        let mut w = Writer::new();
        self.write(&mut w, status, "");
        w.finish()
    }

    /// `owner` is runc's word, and only `list` says it.
    pub(crate) fn write(&self, w: &mut Writer, status: Status, owner: &str) {
        let pid = if status == Status::Stopped { 0 } else { self.pid };
        w.open('{').name("ociVersion").string(&self.oci_version).name("id").string(&self.id);
        w.name("pid").number(pid.into()).name("status").string(status.word());
        w.name("bundle").string(&self.bundle).name("rootfs").string(&self.rootfs);
        w.name("created").string(&self.created).pairs("annotations", &self.annotations);
        w.name("owner").string(owner).close('}');
    }

    /// An ordinary user's container may have none (see `create`).
    pub(crate) fn needs_cgroup(&self, operation: &'static str) -> Result<()> {
        if !self.cgroup.is_empty() {
            return Ok(());
        }
        let why = format!("cannot {operation} the container: it runs without a cgroup of its own");
        Err(Error::Cgroup { path: format!("of {}", self.id), why })
    }

    /// An error for an operation that the status does not allow.
    pub(crate) fn refuse(&self, operation: &'static str, status: Status) -> Error {
        Error::Status { operation, id: self.id.clone(), status: status.word() }
    }
}

fn lives(proc: &Procfs, pid: i32, ticks: u64) -> Result<bool> {
    let stat = if pid == 0 { Ok(None) } else { proc.stat(pid) };
    let stat = stat.step("look for", format!("process {pid}"))?;
    Ok(stat.is_some_and(|Stat { state, start_ticks, .. }| start_ticks == ticks && !matches!(state, 'Z' | 'X')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let state = State {
            id: "a".into(),
            pid: 7,
            start_ticks: u64::MAX,
            bundle: "/b \"x\"\n".into(),
            annotations: vec![("k".into(), "v".into())],
            hooks: r#"{"poststop":[{"path":"/bin/x"}]}"#.into(),
            ..State::default()
        };
        let root = tempfile::tempdir().unwrap();
        let store = Store::new(root.path().join("new/root"));
        let folder = store.create(&ContainerId::parse("a").unwrap()).unwrap();
        state.save(&folder).unwrap();
        let read = State::load(&folder).unwrap().unwrap();
        assert_eq!(format!("{state:?}"), format!("{read:?}"));
        assert_eq!(read.hooks().unwrap().poststop[0].args, ["/bin/x"]);
        assert!(matches!(store.create(&ContainerId::parse("a").unwrap()), Err(Error::Exists { .. })));
        folder.remove().unwrap();
        assert!(matches!(store.open(&ContainerId::parse("a").unwrap(), || Ok(())), Err(Error::NotFound { .. })));
        assert!(store.ids().unwrap().is_empty());
    }
}

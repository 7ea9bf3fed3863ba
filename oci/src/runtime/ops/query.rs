//! What only reads: `state`, `list`, `ps`, `features`, `spec`.

use super::Machine;
use crate::runtime::cgroup::Cgroup;
use crate::runtime::error::{Error, Result, Step};
use crate::runtime::id::ContainerId;
use crate::runtime::json::Writer;
use crate::runtime::state::{START_SOCKET, State, Status};

fn status(machine: &Machine, id: &ContainerId, state: &State) -> Status {
    let socket = START_SOCKET.to_str().unwrap_or_default();
    state.status(&machine.proc, machine.store.has(id, socket))
}

/// The state object of the spec.
pub(crate) fn state(machine: &Machine, id: &ContainerId) -> Result<String> {
    let state = State::peek(&machine.store, id)?;
    Ok(state.document(status(machine, id, &state)) + "\n")
}

pub(crate) fn list(machine: &Machine, json: bool, quiet: bool) -> Result<String> {
    let mut all = Vec::new();
    for id in machine.store.ids()? {
        match State::peek(&machine.store, &id) {
            Ok(state) => all.push((status(machine, &id, &state), state)),
            // Deleted while we looked, or not yet written.
            Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    if quiet {
        return Ok(all.iter().map(|(_, state)| state.id.clone() + "\n").collect());
    }
    if json {
        let mut w = Writer::new();
        w.open('[');
        for (status, state) in &all {
            state.write(&mut w, *status);
        }
        w.close(']');
        return Ok(w.finish() + "\n");
    }
    let width = all.iter().map(|(_, state)| state.id.len()).max().unwrap_or(0).max(2);
    let mut out = format!("{:width$}  {:>8}  {:8}  {:30}  BUNDLE\n", "ID", "PID", "STATUS", "CREATED");
    for (status, state) in &all {
        let pid = if *status == Status::Stopped { 0 } else { state.pid };
        let word = status.word();
        out += &format!("{:width$}  {pid:>8}  {word:8}  {:30}  {}\n", state.id, state.created, state.bundle);
    }
    Ok(out)
}

/// The host's pids of the container's processes.
pub(crate) fn ps(machine: &Machine, id: &ContainerId, json: bool) -> Result<String> {
    let state = State::peek(&machine.store, id)?;
    let pids = match Cgroup::open(&state.cgroup)? {
        Some(cgroup) => cgroup.pids()?,
        None => Vec::new(),
    };
    if json {
        let all: Vec<String> = pids.iter().map(i32::to_string).collect();
        return Ok(format!("[{}]\n", all.join(",")));
    }
    let mut out = format!("{:>8}  COMMAND\n", "PID");
    for pid in pids {
        let line = machine.proc.read(&format!("{pid}/cmdline")).unwrap_or_default();
        // Arguments are the container's: nothing in them may drive the terminal.
        let words = line.trim_end_matches('\0').replace('\0', " ");
        out += &format!("{pid:>8}  {}\n", words.escape_debug());
    }
    Ok(out)
}

const MOUNT_OPTIONS: &str = "async atime bind defaults dev diratime exec loud mand noatime nodev nodiratime noexec noiversion \
    nolazytime nomand norelatime nostrictatime nosuid nosymfollow private ratime rbind rdev rdiratime relatime rexec rnoatime \
    rnodev rnodiratime rnoexec rnorelatime rnostrictatime rnosuid rnosymfollow ro rprivate rrelatime rro rrw rshared rslave \
    rstrictatime rsuid rsymfollow runbindable rw shared silent slave strictatime suid symfollow unbindable";

const SECCOMP_ACTIONS: [&str; 8] = [
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];
const SECCOMP_OPERATORS: [&str; 7] =
    ["SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE"];
const SECCOMP_ARCHS: [&str; 4] = ["SCMP_ARCH_AARCH64", "SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64"];
const SECCOMP_FLAGS: [&str; 3] =
    ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC"];

/// The "features" document (spec, section "Linux Features Structure"): what this build honours, and nothing more.
pub(crate) fn features() -> String {
    let hooks = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
    let namespaces = ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"];
    let options: Vec<&str> = MOUNT_OPTIONS.split_ascii_whitespace().collect();
    let mut capabilities: Vec<String> = caps::all().into_iter().map(|cap| cap.to_string()).collect();
    capabilities.sort();
    let mut w = Writer::new();
    w.open('{').name("ociVersionMin").string("1.0.0").name("ociVersionMax").string("1.3.0");
    w.strings("hooks", &hooks).strings("mountOptions", &options);
    w.name("linux").open('{').strings("namespaces", &namespaces).strings("capabilities", &capabilities);
    w.name("cgroup").open('{').name("v1").boolean(false).name("v2").boolean(true).name("systemd").boolean(false);
    w.name("systemdUser").boolean(false).name("rdma").boolean(true).close('}');
    w.name("seccomp").open('{').name("enabled").boolean(true).strings("actions", &SECCOMP_ACTIONS);
    w.strings("operators", &SECCOMP_OPERATORS).strings("archs", &SECCOMP_ARCHS);
    w.strings("knownFlags", &SECCOMP_FLAGS).strings("supportedFlags", &SECCOMP_FLAGS).close('}');
    for name in ["apparmor", "selinux", "intelRdt", "netDevices"] {
        w.name(name).open('{').name("enabled").boolean(false).close('}');
    }
    w.name("mountExtensions").open('{').name("idmap").open('{').name("enabled").boolean(false);
    w.close('}').close('}').close('}');
    w.name("annotations").open('{').name("org.orlop.version").string(env!("CARGO_PKG_VERSION")).close('}');
    w.close('}');
    w.finish() + "\n"
}

/// A config.json to start from; never over one that exists.
pub(crate) fn spec(bundle: &std::path::Path) -> Result<()> {
    use std::io::Write as _;
    let path = bundle.join("config.json");
    let mut file = std::fs::File::create_new(&path).step("create", path.display())?;
    file.write_all(include_bytes!("spec.json")).step("write", path.display())
}

#[cfg(test)]
mod tests {
    use crate::runtime::config::Config;

    #[test]
    fn the_sample_config_is_one_we_read_whole() {
        let config = Config::parse(include_str!("spec.json")).unwrap();
        assert!(config.unknown.is_empty(), "{:?}", config.unknown);
    }

    #[test]
    fn features_are_json() {
        let value: serde_json::Value = serde_json::from_str(&super::features()).unwrap();
        assert_eq!(value["ociVersionMax"], "1.3.0");
        assert!(value["linux"]["capabilities"].as_array().unwrap().len() > 30);
    }
}

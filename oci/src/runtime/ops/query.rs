//! What only reads: `state`, `list`, `ps`, `features`, `spec`.

use std::os::fd::AsFd as _;
use std::path::Path;

use super::Machine;
use crate::runtime::cgroup::Cgroup;
use crate::runtime::config::{MEMORY_FLAGS, MEMORY_MODES, NamespaceKind, OPERATORS};
use crate::runtime::error::{Error, Result, Step, c_string};
use crate::runtime::id::ContainerId;
use crate::runtime::json::Writer;
use crate::runtime::plan::{KEEP_GROUPS, known_mount_options};
use crate::runtime::procfs::read_all;
use crate::runtime::seccomp;
use crate::runtime::state::{START_SOCKET, State, Status};
use crate::runtime::store::read_file;
use crate::runtime::sys::process::{self, Ended, Side, StringList};
use crate::runtime::sys::{fs, pipe};

fn status(machine: &Machine, id: &ContainerId, state: &State) -> Result<Status> {
    state.status(&machine.proc, machine.store.has(id, START_SOCKET)?)
}

/// The state object of the spec.
pub(crate) fn state(machine: &Machine, id: &ContainerId) -> Result<String> {
    let state = State::peek(&machine.store, id)?;
    Ok(state.document(status(machine, id, &state)?) + "\n")
}

pub(crate) fn list(machine: &Machine, json: bool, quiet: bool) -> Result<String> {
    let mut all = Vec::new();
    for id in machine.store.ids()? {
        match State::peek(&machine.store, &id).and_then(|state| Ok((status(machine, &id, &state)?, state))) {
            Ok((status, state)) => all.push((status, owner(&machine.store.path(&id, "")), state)),
            // Deleted while we looked, or not yet written.
            Err(Error::NotFound { .. }) => {}
            // The others are there all the same.
            Err(error) => machine.log.warn(&format!("container {:?} is left out: {error}", id.as_str())),
        }
    }
    if quiet {
        return Ok(all.iter().map(|(.., state)| state.id.clone() + "\n").collect());
    }
    if json {
        let mut w = Writer::new();
        w.open('[');
        for (status, owner, state) in &all {
            state.write(&mut w, *status, owner);
        }
        w.close(']');
        return Ok(w.finish() + "\n");
    }
    let width = all.iter().map(|(.., state)| state.id.len()).max().unwrap_or(0).max(2);
    let room = all.iter().map(|(.., state)| state.bundle.len()).max().unwrap_or(0).max(6);
    let mut out =
        format!("{:width$}  {:>8}  {:8}  {:room$}  {:30}  OWNER\n", "ID", "PID", "STATUS", "BUNDLE", "CREATED");
    for (status, owner, state) in &all {
        let pid = if *status == Status::Stopped { 0 } else { state.pid };
        let word = status.word();
        out += &format!(
            "{:width$}  {pid:>8}  {word:8}  {:room$}  {:30}  {owner}\n",
            state.id, state.bundle, state.created
        );
    }
    Ok(out)
}

/// Whose folder it is, by name if this machine has one for it.
fn owner(folder: &Path) -> String {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(uid) = folder.metadata().map(|data| data.uid()) else { return String::new() };
    name_of(uid, &read_file(Path::new("/etc/passwd")).unwrap_or_default())
}

fn name_of(uid: u32, passwd: &str) -> String {
    let wanted = uid.to_string();
    let mut names = passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == wanted).then_some(name)
    });
    names.next().map_or_else(|| format!("#{uid}"), str::to_owned)
}

/// Those lines of the host's own `ps` (`ps -ef` unless options say otherwise) that are about the container's processes; their pids
/// and commands where the host has none that takes this, or as JSON the pids alone.
pub(crate) fn ps(machine: &Machine, id: &ContainerId, json: bool, options: &[String]) -> Result<String> {
    let state = State::peek(&machine.store, id)?;
    let pids = match Cgroup::open(&state.cgroup)? {
        Some(cgroup) => cgroup.pids()?,
        None if status(machine, id, &state)? != Status::Stopped => vec![state.pid],
        None => Vec::new(),
    };
    if json {
        let all: Vec<String> = pids.iter().map(i32::to_string).collect();
        return Ok(format!("[{}]\n", all.join(",")));
    }
    if !options.is_empty() {
        let missing = || Error::Usage("options of ps need this machine's ps, which is missing".to_owned());
        return lines_about(&pids, &output_of_ps(options)?.ok_or_else(missing)?);
    }
    // Some of the small ones do not take it.
    if let Ok(Some(text)) = output_of_ps(&["-ef".to_owned()]) {
        return lines_about(&pids, &text);
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

/// None: there is no such program.
fn output_of_ps(options: &[String]) -> Result<Option<String>> {
    let words = ["ps"].into_iter().chain(options.iter().map(String::as_str));
    let args = StringList::new(words.map(c_string).collect());
    let env = StringList::new(Vec::new());
    let (read, write) = pipe::new().step("create", "pipe")?;
    let pidfd = match process::clone(0, None).step("clone", "ps")? {
        Side::Parent { pidfd, .. } => pidfd,
        Side::Child => {
            if fs::replace_stdio(write.as_fd(), 1).is_ok() {
                for place in [c"/usr/bin/ps", c"/bin/ps"] {
                    process::exec(place, &args, &env);
                }
            }
            process::exit_now(127)
        }
    };
    drop(write);
    let text = read_all(read.as_fd()).step("read the output of", "ps")?;
    match process::wait(pidfd.as_fd()).step("wait for", "ps")? {
        Ended::Exited(0) => Ok(Some(text)),
        Ended::Exited(127) => Ok(None),
        _ => Err(Error::Usage("ps did not take these options".to_owned())),
    }
}

/// The heading, and the lines with one of these numbers below PID.
fn lines_about(pids: &[i32], text: &str) -> Result<String> {
    let heading = text.lines().next().unwrap_or_default();
    let Some(place) = heading.split_ascii_whitespace().position(|name| name == "PID") else {
        return Err(Error::Usage("with these options ps tells no PID".to_owned()));
    };
    let about = |line: &&str| {
        let pid = line.split_ascii_whitespace().nth(place).and_then(|word| word.parse().ok());
        pid.is_some_and(|pid: i32| pids.contains(&pid))
    };
    let lines = [heading].into_iter().chain(text.lines().skip(1).filter(about));
    Ok(lines.map(|line| format!("{line}\n")).collect())
}

/// The "features" document (spec, features.md and features-linux.md): what this build honours, whether or not this machine can.
/// The words are those of the tables config.json is read with.
pub(crate) fn features() -> String {
    let hooks = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
    let mut capabilities: Vec<String> = caps::all().into_iter().map(|cap| cap.to_string()).collect();
    capabilities.sort();
    let mut w = Writer::new();
    w.open('{').name("ociVersionMin").string("1.0.0").name("ociVersionMax").string("1.3.0");
    w.strings("hooks", &hooks).strings("mountOptions", &known_mount_options());
    w.name("linux").open('{').strings("namespaces", &words(&NamespaceKind::ALL)).strings("capabilities", &capabilities);
    w.name("cgroup").open('{');
    for (name, has) in [("v1", false), ("v2", true), ("systemd", true), ("systemdUser", true), ("rdma", true)] {
        w.name(name).boolean(has);
    }
    w.close('}');
    let flags = words(&seccomp::FLAGS);
    w.name("seccomp").open('{').name("enabled").boolean(true).strings("actions", &words(&seccomp::ACTIONS));
    w.strings("operators", &words(&OPERATORS)).strings("archs", &seccomp::ARCHITECTURES);
    w.strings("knownFlags", &flags).strings("supportedFlags", &flags).close('}');
    w.name("intelRdt").open('{');
    for name in ["enabled", "schemata", "monitoring"] {
        w.name(name).boolean(true);
    }
    w.close('}');
    w.name("memoryPolicy").open('{').strings("modes", &words(&MEMORY_MODES)).strings("flags", &words(&MEMORY_FLAGS));
    w.close('}');
    for name in ["apparmor", "selinux", "netDevices"] {
        w.name(name).open('{').name("enabled").boolean(true).close('}');
    }
    w.name("mountExtensions").open('{').name("idmap").open('{').name("enabled").boolean(true);
    w.close('}').close('}').close('}');
    w.strings("potentiallyUnsafeConfigAnnotations", &[KEEP_GROUPS]);
    w.name("annotations").open('{').name("org.orlop.version").string(env!("CARGO_PKG_VERSION")).close('}');
    w.close('}');
    w.finish() + "\n"
}

fn words<T>(table: &[(&'static str, T)]) -> Vec<&'static str> {
    table.iter().map(|(word, _)| *word).collect()
}

/// A config.json to start from; never over one that exists.
pub(crate) fn spec(bundle: &Path, rootless: bool) -> Result<()> {
    use std::io::Write as _;
    let path = bundle.join("config.json");
    let mut file = std::fs::File::create_new(&path).step("create", path.display())?;
    let text = if rootless { rootless_sample() } else { SAMPLE.to_owned() };
    file.write_all(text.as_bytes()).step("write", path.display())
}

const SAMPLE: &str = include_str!("spec.json");

/// What an ordinary user can run: root of a user namespace that maps him alone, with the host's network (his own would have no way
/// out) and therefore its /sys, and without what takes a cgroup.
fn rootless_sample() -> String {
    let maps = |name: &str, id: u32| format!(r#""{name}": [{{ "containerID": 0, "hostID": {id}, "size": 1 }}]"#);
    let uids = maps("uidMappings", process::effective_user());
    let gids = maps("gidMappings", process::effective_group());
    SAMPLE
        .replace(
            r#""resources": { "devices": [{ "allow": false, "access": "rwm" }] }"#,
            &format!("{uids},\n    {gids}"),
        )
        .replace(r#", "gid=5"]"#, "]")
        .replace(r#""type": "network""#, r#""type": "user""#)
        .replace(
            r#""type": "sysfs", "source": "sysfs", "options": ["nosuid""#,
            r#""type": "none", "source": "/sys", "options": ["rbind", "nosuid""#,
        )
}

#[cfg(test)]
mod tests {
    use crate::runtime::config::{Config, NamespaceKind};

    #[test]
    fn the_sample_config_is_one_we_read_whole() {
        for text in [super::SAMPLE, &super::rootless_sample()] {
            let config = Config::parse(text).unwrap();
            assert!(config.remarks.is_empty(), "{:?}", config.remarks);
        }
    }

    #[test]
    fn an_ordinary_users_sample_differs_where_it_must() {
        let linux = Config::parse(&super::rootless_sample()).unwrap().linux;
        let has = |kind| linux.namespaces.iter().any(|one| one.kind == kind);
        assert!(has(NamespaceKind::User) && !has(NamespaceKind::Network) && linux.resources.is_none());
        assert_eq!((linux.uid_mappings.len(), linux.gid_mappings.len()), (1, 1));
        assert!(super::rootless_sample().contains(r#""source": "/sys", "options": ["rbind""#));
    }

    #[test]
    fn owners_have_names_or_numbers() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken:x\nweb:x:33:33::/:\n";
        assert_eq!([0, 33, 7].map(|uid| super::name_of(uid, passwd)), ["root", "web", "#7"]);
    }

    #[test]
    fn what_ps_says_about_others_is_left_out() {
        let text = "UID   PID  CMD\nroot    1  init 7\nroot    7  sh 1\n";
        assert_eq!(super::lines_about(&[7, 9], text).unwrap(), "UID   PID  CMD\nroot    7  sh 1\n");
        assert!(super::lines_about(&[7], "UID  CMD\n").is_err());
    }

    #[test]
    fn features_are_json() {
        let value: serde_json::Value = serde_json::from_str(&super::features()).unwrap();
        assert_eq!(value["ociVersionMax"], "1.3.0");
        // In the words of the spec's own types.
        let features: oci_spec::runtime::Features = serde_json::from_value(value.clone()).unwrap();
        let linux = features.linux().as_ref().unwrap();
        assert_eq!(linux.memory_policy().as_ref().unwrap().modes().as_ref().unwrap().len(), 7);
        assert!(features.mount_options().as_ref().unwrap().iter().any(|option| option == "rnosymfollow"));
        // What an annotation changes about a container, whoever wrote it.
        assert_eq!(value["potentiallyUnsafeConfigAnnotations"], serde_json::json!(["run.oci.keep_original_groups"]));
        assert!(value["linux"]["capabilities"].as_array().unwrap().len() > 30);
    }
}

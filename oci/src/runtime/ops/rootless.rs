//! An ordinary user's containers: the runtime goes into the container's user namespace first, with a mount namespace of its own, and
//! is then, as root of that namespace, the same program as ever. Between the two it executes itself anew, read-only as always.
//!
//! What it may not do there: make device nodes (they are bound), and make cgroups that nobody delegated to it (then it goes without,
//! if no limit is asked for).

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use super::kill::open_process;
use super::protect::again;
use crate::runtime::config::{Config, ConfigError, IdMapping, NamespaceKind};
use crate::runtime::error::{Error, Result, Step, c_string};
use crate::runtime::id::ContainerId;
use crate::runtime::procfs::Procfs;
use crate::runtime::state::State;
use crate::runtime::store::Store;
use crate::runtime::sys::process::{self, Ended, Side, StringList};
use crate::runtime::sys::{Errno, fs, socket};

/// Set for the program that is executed anew: the container's user namespace is the one it is in.
const ENTERED: &str = "ORLOP_OCI_ENTERED";

/// Whether this program, which is not in the machine's user namespace, went into the container's itself.
pub(crate) fn entered() -> bool {
    std::env::var_os(ENTERED).is_some()
}

pub(crate) fn ordinary_user() -> bool {
    process::effective_user() != 0
}

/// Whether this is the machine's own user namespace: its inode has a number of its own (PROC_USER_INIT_INO).
pub(crate) fn in_first_namespace() -> Result<bool> {
    const FIRST: u64 = 0xefff_fffd;
    match fs::stat_host(c"/proc/self/ns/user") {
        // A kernel without user namespaces has no other one; without a procfs nobody could say.
        Err(Errno(libc::ENOENT)) => fs::stat_host(c"/proc/self/ns").step("look for", "/proc/self/ns").map(|_| true),
        other => other.step("look for", "/proc/self/ns/user").map(|stat| stat.st_ino == FIRST),
    }
}

/// Into a new user namespace as config.json describes it, and anew from there.
pub(crate) fn enter_new(file: &Path) -> Result<()> {
    let text = std::fs::read_to_string(file).step("read", file.display())?;
    let wrong = |error| Error::Config { file: file.display().to_string(), error };
    let linux = Config::parse(&text).map_err(wrong)?.linux;
    let user = linux.namespaces.iter().find(|one| one.kind == NamespaceKind::User);
    if user.is_none_or(|one| one.path.is_some()) {
        let why = format!(
            "holds no new user namespace, without which user {} cannot run a container",
            process::effective_user()
        );
        return Err(wrong(ConfigError::invalid("linux.namespaces", why)));
    }
    for (mappings, field) in [(&linux.uid_mappings, "linux.uidMappings"), (&linux.gid_mappings, "linux.gidMappings")] {
        if !mappings.iter().any(|one| one.container == 0 && one.size > 0) {
            // It executes itself anew in there, and an exec leaves the rights of the namespace to its root alone (capabilities(7)).
            let why =
                "maps no id to the container's 0, who an ordinary user's runtime has to be to set the container up";
            return Err(wrong(ConfigError::invalid(field, why)));
        }
    }
    let (uid, gid) = (process::effective_user(), process::effective_group());
    let own = |all: &[IdMapping], id| matches!(all, [one] if one.host == id && one.size == 1);
    let alone = own(&linux.uid_mappings, uid) && own(&linux.gid_mappings, gid);
    // They have to be started on this side.
    let helpers = if alone {
        Vec::new()
    } else {
        vec![helper("newuidmap", &linux.uid_mappings)?, helper("newgidmap", &linux.gid_mappings)?]
    };
    // The files of a process that cannot be dumped belong to the machine's root.
    process::control(libc::PR_SET_DUMPABLE, 1, 0).step("make", "this process dumpable")?;
    process::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS).step("create", "user and mount namespace")?;
    if alone {
        let write = |name: &str, text: String| std::fs::write(format!("/proc/self/{name}"), text);
        let line = |one: &IdMapping| format!("{} {} 1\n", one.container, one.host);
        write("setgroups", "deny".to_owned()).step("set", "/proc/self/setgroups")?;
        write("uid_map", linux.uid_mappings.iter().map(line).collect()).step("set", "linux.uidMappings")?;
        write("gid_map", linux.gid_mappings.iter().map(line).collect()).step("set", "linux.gidMappings")?;
    }
    for (tool, channel, pidfd) in helpers {
        socket::send(channel.as_fd(), &[b"G"]).step("start", tool)?;
        match process::wait(pidfd.as_fd()).step("wait for", tool)? {
            Ended::Exited(0) => {}
            Ended::Exited(127) => return Err(Error::Child(format!("{tool} is missing; ranges of ids need it"))),
            _ => return Err(Error::Child(format!("{tool} refused the mapping (are the ids in /etc/subuid, subgid?)"))),
        }
    }
    become_root_again()
}

/// Into the user namespace of a container that exists, and anew from there.
pub(crate) fn enter_existing(root: &Path, id: &ContainerId) -> Result<()> {
    let state = State::peek(&Store::new(root.to_path_buf()), id)?;
    let Some(container) = open_process(&state, &Procfs::open()?)? else { return Ok(()) };
    if state.namespaces & libc::CLONE_NEWUSER == 0 {
        return Ok(());
    }
    process::join_namespace(container.as_fd(), libc::CLONE_NEWUSER).step("join", "the container's user namespace")?;
    process::unshare(libc::CLONE_NEWNS).step("create", "mount namespace")?;
    become_root_again()
}

fn become_root_again() -> Result<()> {
    process::set_group(0).step("set group to", "0 of the user namespace")?;
    process::set_user(0).step("set user to", "0 of the user namespace")?;
    Err(again(&[(ENTERED, "1")]))
}

/// A program that maps ranges of ids for this process, once it is told to.
fn helper(tool: &'static str, mappings: &[IdMapping]) -> Result<(&'static str, OwnedFd, OwnedFd)> {
    let numbers = mappings.iter().flat_map(|one| [one.container, one.host, one.size]).map(|one| one.to_string());
    let words = [tool.to_owned(), std::process::id().to_string()].into_iter().chain(numbers);
    let args = StringList::new(words.map(c_string).collect());
    let env = StringList::new(Vec::new());
    let places = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"].map(|folder| c_string(format!("{folder}/{tool}")));
    let (ours, theirs) = socket::pair().step("create", "channel")?;
    match process::clone(0, None).step("clone", tool)? {
        Side::Parent { pidfd, .. } => Ok((tool, ours, pidfd)),
        Side::Child => {
            drop(ours);
            if socket::receive(theirs.as_fd(), &mut [0]).is_ok_and(|count| count == 1) {
                for place in &places {
                    process::exec(place, &args, &env);
                }
            }
            process::exit_now(127)
        }
    }
}

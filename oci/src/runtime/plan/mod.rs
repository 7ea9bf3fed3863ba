//! The plan: all that the child between clone and exec will do, worked out before the clone, so that the child only makes
//! system calls. Building it opens descriptors and nothing else; dropping it undoes it.

mod console;
mod devices;
mod home;
mod idmap;
mod label;
mod mounts;
mod namespaces;
mod options;
mod process;
mod sysctl;

use std::cell::RefCell;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

pub(crate) use console::{Console, ConsoleTo};
pub(crate) use devices::{Bound, DevicePlan, Node};
pub(crate) use home::missing_home;
pub(crate) use mounts::{MountStep, Root, Source};
pub(crate) use namespaces::Namespaces;
pub(crate) use options::known as known_mount_options;
pub(crate) use process::{Limit, ProcessPlan};

use super::config::{Config, ConfigError, NamespaceKind, Process};
use super::error::{Error, Result, Step, c_string};
use super::procfs::Procfs;
use super::seccomp::Filter;
use super::sys::{self, Errno};

/// Podman's `--group-add keep-groups`: the caller's supplementary groups stay, which an ordinary user could not ask for by number.
pub(crate) const KEEP_GROUPS: &str = "run.oci.keep_original_groups";

/// With the value `folder`: a /dev/shm for everybody, without a file system of its own (Orlop's supervisor). Engines that leave the mount out
/// mean that there is none (Podman's `--ipc=none`).
pub(crate) const DEV_SHM: &str = "org.orlop.dev-shm";

pub(crate) struct Plan {
    pub(crate) namespaces: Namespaces,
    pub(crate) hostname: Option<CString>,
    pub(crate) domainname: Option<CString>,
    pub(crate) root: Root,
    pub(crate) mounts: Vec<MountStep>,
    pub(crate) devices: DevicePlan,
    /// The host's /dev/null, detached: what covers masked files.
    pub(crate) null: Option<OwnedFd>,
    pub(crate) masked: Vec<CString>,
    pub(crate) readonly: Vec<CString>,
    /// Below /proc: path and value.
    pub(crate) sysctl: Vec<(CString, Vec<u8>)>,
    pub(crate) console: Option<Console>,
    pub(crate) process: ProcessPlan,
    pub(crate) preserve_fds: u32,
}

/// What the command line adds to config.json.
pub(crate) struct Given<'a> {
    pub(crate) proc: &'a Procfs,
    pub(crate) bundle: &'a Path,
    pub(crate) cgroup: &'a str,
    pub(crate) console: ConsoleTo<'a>,
    pub(crate) preserve_fds: u32,
    /// How many of those, the first, the program is told of.
    pub(crate) listen_fds: u32,
    pub(crate) no_pivot: bool,
    /// No device nodes can be made, as in a user namespace that is made for the container.
    pub(crate) rootless: bool,
    /// The container's user namespace is the runtime's.
    pub(crate) entered: bool,
    pub(crate) no_new_keyring: bool,
    /// The capabilities the runtime itself has.
    pub(crate) own_capabilities: u64,
}

pub(crate) fn rootfs_path(config: &Config, bundle: &Path) -> PathBuf {
    bundle.join(&config.root.path)
}

/// Whether what enters an existing pid namespace can be made ready before it is seen there.
fn can_be_outside(config: &Config, pid_namespace: BorrowedFd<'_>) -> Result<bool> {
    // Hooks are given the number of the container's process, which has to be there then.
    if config.hooks.any_at_create() {
        return Ok(false);
    }
    if !config.mounts.iter().any(|one| one.kind.as_deref() == Some("proc")) {
        return Ok(true);
    }
    match sys::mount::open_procfs_of(pid_namespace) {
        Ok(_) => Ok(true),
        // An older kernel makes a procfs for its mounter's own pid namespace alone: there all has to be done inside. EPERM: the
        // namespace belongs to a user namespace that is entered inside, too.
        Err(Errno(libc::EINVAL | libc::EPERM)) => Ok(false),
        Err(errno) => Err(errno).step("prepare the procfs of", "the pid namespace to be joined"),
    }
}

impl Plan {
    pub(crate) fn build(config: &Config, given: &Given<'_>, warn: &mut dyn FnMut(String)) -> Result<Plan> {
        let wrong = |error: ConfigError| Error::Config { file: "config.json".to_owned(), error };
        let namespaces = Namespaces::new(&config.linux, given.proc, given.entered)?;
        let user_namespace = namespaces.has(NamespaceKind::User);
        // In a user namespace of its own the container's root can be given everything.
        let grantable = if user_namespace { u64::MAX } else { given.own_capabilities };
        // It is required by `start`, not by `create` (spec, section "Process").
        let absent = Process { cwd: "/".to_owned(), args: vec!["absent".to_owned()], ..Process::default() };
        let given_process = config.process.as_ref().unwrap_or(&absent);
        let mut root = mounts::root(config, &rootfs_path(config, given.bundle))?;
        root.shared = !namespaces.has(NamespaceKind::Mount);
        if root.shared {
            warn(
                "linux.namespaces: holds no mount namespace: the container's root is no more than a chroot".to_owned(),
            );
        } else if given.no_pivot {
            root.pivot = false;
            root.bare = mounts::bare_views(given.proc, &rootfs_path(config, given.bundle))?;
        }
        let mut more: Vec<String> =
            missing_home(&given_process.env, root.tree.as_fd(), given_process.user.uid).into_iter().collect();
        if given.listen_fds > 0 {
            // The protocol of sd_listen_fds(3): the program is the first process, wherever it looks from.
            more.extend([format!("LISTEN_FDS={}", given.listen_fds), "LISTEN_PID=1".to_owned()]);
        }
        let mut process = ProcessPlan::new(given_process, &config.linux, &more, grantable, warn).map_err(wrong)?;
        if config.process.is_none() {
            process.name = CString::default();
        }
        process.limits_from_outside = user_namespace;
        process.made_outside = match &namespaces.pid {
            Some(pid) => can_be_outside(config, pid.as_fd())?,
            None => false,
        };
        process.keep_groups = config.annotations.iter().any(|(key, value)| key == KEEP_GROUPS && value != "0");
        process.new_keyring = !given.no_new_keyring;
        process.seccomp = config.linux.seccomp.as_ref().map(Filter::compile).transpose().map_err(wrong)?;
        for (name, field) in [(&config.hostname, "hostname"), (&config.domainname, "domainname")] {
            if name.is_some() && !namespaces.owns(NamespaceKind::Uts) {
                let why = "needs a uts namespace in linux.namespaces that is not the host's";
                return Err(wrong(ConfigError::invalid(field, why)));
            }
        }
        if !config.linux.net_devices.is_empty() && !namespaces.owns(NamespaceKind::Network) {
            let why = "needs a network namespace in linux.namespaces that is not the host's";
            return Err(wrong(ConfigError::invalid("linux.netDevices", why)));
        }
        let around = mounts::Surroundings {
            bundle: given.bundle,
            rootfs: &rootfs_path(config, given.bundle),
            mounts: &config.mounts,
            warn: RefCell::new(warn),
            cgroup: given.cgroup,
            own_cgroup_namespace: namespaces.owns(NamespaceKind::Cgroup),
            user_namespace,
            label: config.linux.mount_label.as_deref(),
            idmaps: idmap::Idmaps {
                proc: given.proc,
                linux: &config.linux,
                joined: namespaces.user.as_ref().map(AsFd::as_fd),
                last: RefCell::new(None),
            },
        };
        if let Some(label) = &config.linux.mount_label {
            label::check_selinux("linux.mountLabel", label).map_err(wrong)?;
        }
        let console = Console::new(process.terminal, given.console)?;
        let steps = config.mounts.iter().enumerate().map(|(index, one)| mounts::step(index, one, &around));
        let mounts = steps.collect::<Result<Vec<_>>>()?;
        let masked = around.paths(&config.linux.masked_paths, "maskedPaths")?;
        Ok(Plan {
            hostname: config.hostname.as_deref().map(c_string),
            domainname: config.domainname.as_deref().map(c_string),
            root,
            devices: DevicePlan::new(config, &around, &namespaces, user_namespace || given.rootless)?,
            null: if masked.is_empty() { None } else { Some(devices::host_node(c"/dev/null", libc::makedev(1, 3))?) },
            masked,
            readonly: around.paths(&config.linux.readonly_paths, "readonlyPaths")?,
            sysctl: sysctl::plan(&config.linux.sysctl, &namespaces).map_err(wrong)?,
            mounts,
            console,
            process,
            preserve_fds: given.preserve_fds,
            namespaces,
        })
    }
}

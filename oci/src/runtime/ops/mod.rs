//! One file an operation of the command line.

mod create;
mod delete;
mod events;
mod exec;
mod hooks;
mod kill;
mod listener;
mod net_devices;
mod newcomer;
mod outside;
mod protect;
mod query;
mod rdt;
mod rootfs;
mod rootless;
mod run;
mod start;
mod terminal;
mod update;
mod wait;

pub(crate) use create::{CreateOptions, create, listen_fds};
pub(crate) use delete::delete;
pub(crate) use events::events;
pub(crate) use exec::{ExecOptions, exec};
pub(crate) use kill::{freeze, kill};
pub(crate) use protect::protect;
pub(crate) use query::{features, list, ps, spec, state};
pub(crate) use rootless::{enter_existing, enter_new, entered, in_first_namespace, ordinary_user};
pub(crate) use run::run;
pub(crate) use start::start;
pub(crate) use update::update;

use super::cli::Log;
use super::error::Result;
use super::id::ContainerId;
use super::procfs::Procfs;
use super::state::{State, Status};
use super::store::{Folder, Store};
use super::systemd::Systemd;

/// What every operation works with.
pub(crate) struct Machine {
    pub(crate) store: Store,
    pub(crate) proc: Procfs,
    pub(crate) log: Log,
    /// Not the machine's root: what only that one can do is done another way, or left where it is not asked for.
    pub(crate) rootless: bool,
    /// The container's user namespace is the one this program is in.
    pub(crate) entered: bool,
}

impl Machine {
    /// A container's folder, locked. A `create` that is at its hooks has the lock until they are done, and who asks may be one of them:
    /// it would wait for itself. (Under runc there is no container yet for a hook to work with.)
    fn open(&self, id: &ContainerId, operation: &'static str) -> Result<Folder> {
        self.store.open(id, || {
            let state = State::peek(&self.store, id)?;
            // Else another operation has the lock, or a hook on its way to its exec, whose `create` was killed.
            if state.is_being_created(&self.proc)? {
                return Err(state.refuse(operation, Status::Creating));
            }
            Ok(())
        })
    }

    /// The systemd that scopes are asked of: the machine's, or the user's own.
    fn systemd(&self) -> Result<Systemd> {
        Systemd::connect(self.rootless || !in_first_namespace()?, &self.proc)
    }
}

//! Sockets as the interface shows them, in systemctl's words.

use crate::{
    api::types::{ActiveState, UnitStatus},
    daemon::{core::Daemon, status::modified},
    unit::{Declared, SocketSpec, UnitName},
};

impl Daemon {
    pub(crate) fn socket_statuses(&self) -> impl Iterator<Item = UnitStatus> {
        self.files.sockets().map(|(name, file)| self.socket_status(name, file))
    }

    pub(crate) fn socket_status(&self, name: &UnitName, file: &Declared<SocketSpec>) -> UnitStatus {
        let service = UnitName::parse(file.spec.starts.name()).ok();
        let active = self.sockets.open.iter().any(|socket| socket.unit == *name);
        let held = service.as_ref().is_some_and(|service| self.sockets.held.contains(service));
        let serves = service.and_then(|service| self.engine.get(&service)).is_some_and(|e| !e.record.state.at_rest());
        let problem = self.sockets.problems.get(name).cloned();
        let (state, sub_state) = match active {
            _ if problem.is_some() => (ActiveState::Failed, "failed"),
            true if held => (ActiveState::Failed, "trigger-limit-hit"),
            true if serves => (ActiveState::Active, "running"),
            true => (ActiveState::Active, "listening"),
            false => (ActiveState::Inactive, "dead"),
        };
        let held = || held.then(|| format!("started {} too often in vain", file.spec.starts.name()));
        UnitStatus {
            description: file.description.clone(),
            state,
            sub_state: sub_state.to_owned(),
            since: modified(&self.paths.socket_stamp(name)),
            enabled: file.enabled,
            path: file.path.display().to_string(),
            reason: problem.or_else(held),
            triggers: Some(file.spec.starts.name().to_owned()),
            ..UnitStatus::nothing(name.to_string())
        }
    }
}

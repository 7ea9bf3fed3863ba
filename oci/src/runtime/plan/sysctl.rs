//! `linux.sysctl`: only what belongs to a namespace the container has of its own; everything else is the host's. Pure.

use std::ffi::CString;

use super::Namespaces;
use crate::runtime::config::{ConfigError, NamespaceKind};
use crate::runtime::error::c_string;

pub(super) fn plan(
    given: &[(String, String)],
    namespaces: &Namespaces,
) -> Result<Vec<(CString, Vec<u8>)>, ConfigError> {
    let mut all = Vec::new();
    for (key, value) in given {
        let refuse = |why: String| Err(ConfigError::invalid(format!("linux.sysctl.{key}"), why));
        let path = path_of(key);
        if path.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
            return refuse("is not the name of a setting".to_owned());
        }
        let Some(owner) = owner(&path) else {
            return refuse("belongs to no namespace: it would change the host".to_owned());
        };
        if !namespaces.owns(owner) {
            return refuse(format!("needs a {} namespace in linux.namespaces that is not the host's", owner.name()));
        }
        if path == "kernel/hostname" {
            // As runc and crun have it: two ways to say one thing would contradict each other.
            return refuse("is not taken here: the property hostname sets it".to_owned());
        }
        all.push((c_string(format!("sys/{path}")), value.clone().into_bytes()));
    }
    Ok(all)
}

/// Whichever of dot and slash comes first separates, and the other is part of names, as sysctl(8) has it: `net.ipv4.conf.eth0/1.x`
/// and `net/ipv4/conf/eth0.1/x` are the same.
fn path_of(key: &str) -> String {
    let swap = |c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    match (key.find('.'), key.find('/')) {
        (Some(dot), Some(slash)) if slash < dot => key.to_owned(),
        (None, _) => key.to_owned(),
        _ => key.chars().map(swap).collect(),
    }
}

fn owner(path: &str) -> Option<NamespaceKind> {
    const IPC: [&str; 8] = ["msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"];
    if path.starts_with("net/") {
        return Some(NamespaceKind::Network);
    }
    if path.starts_with("fs/mqueue/") {
        return Some(NamespaceKind::Ipc);
    }
    match path.strip_prefix("kernel/")? {
        "hostname" | "domainname" => Some(NamespaceKind::Uts),
        name if IPC.contains(&name) => Some(NamespaceKind::Ipc),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_paths() {
        assert_eq!(path_of("net.ipv4.ip_forward"), "net/ipv4/ip_forward");
        assert_eq!(path_of("net/ipv4/conf/eth0.1/forwarding"), "net/ipv4/conf/eth0.1/forwarding");
        assert_eq!(path_of("net.ipv4.conf.eth0/1.forwarding"), "net/ipv4/conf/eth0.1/forwarding");
    }

    #[test]
    fn only_namespaced_settings_have_an_owner() {
        assert_eq!(owner("net/core/somaxconn"), Some(NamespaceKind::Network));
        assert_eq!(owner("kernel/shmmax"), Some(NamespaceKind::Ipc));
        for host in ["kernel/core_pattern", "kernel/sysrq", "vm/overcommit_memory", "fs/file-max", "network"] {
            assert_eq!(owner(host), None, "{host}");
        }
    }
}

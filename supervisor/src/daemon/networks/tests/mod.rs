//! What is planned and given back, in a network namespace of its own.

mod published;

use std::thread;

use nix::sched::{CloneFlags, unshare};

use super::*;
use crate::unit::Protocol;

fn request(owner: &str) -> Request {
    let port = Port { host_ip: None, host: Some(8080), container: 80, count: 1, protocol: Protocol::Tcp };
    Request {
        owner: UnitName::parse(owner).unwrap(),
        wanted: vec![(Definition::usual(), unit::Attachment::default())],
        ports: vec![port],
        names: vec![owner.to_owned()],
        servers: Vec::new(),
        reserved: BTreeMap::new(),
        written: Vec::new(),
        known: BTreeSet::new(),
    }
}

#[test]
fn what_ended_without_a_thread_is_nobodys_when_the_next_one_comes() {
    let in_namespace = || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let home = tempfile::tempdir().unwrap();
        let (networks, path) = (Networks::new(&Paths::new(home.path()), drop), home.path().join("web/net.json"));
        networks.plan(&request("web"), &path).unwrap();
        let other = home.path().join("other/net.json");
        let refused = networks.plan(&request("other"), &other).unwrap_err();
        assert!(refused.contains("published by web already"), "{refused}");
        networks.leave(UnitName::parse("web").unwrap(), path.clone());
        networks.plan(&request("other"), &other).unwrap();
        assert!(!path.exists());
    };
    thread::spawn(in_namespace).join().unwrap();
}

/// The written name is kept for whom it is written, as with podman.
#[test]
fn an_interface_has_the_name_that_is_written_for_it() {
    let in_namespace = || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let home = tempfile::tempdir().unwrap();
        let (networks, path) = (Networks::new(&Paths::new(home.path()), drop), home.path().join("web/net.json"));
        let mut request = request("web");
        let mut other = Definition::usual();
        (other.name, other.interface) = ("other".to_owned(), "other".to_owned());
        let written = unit::Attachment { interface: Some("eth0".to_owned()), ..unit::Attachment::default() };
        request.wanted.push((other, written));
        networks.plan(&request, &path).unwrap();
        let connection = Connection::read(&path).unwrap().unwrap();
        assert_eq!(connection.cards.iter().map(|card| &card.interface).collect::<Vec<_>>(), ["eth1", "eth0"]);
    };
    thread::spawn(in_namespace).join().unwrap();
}

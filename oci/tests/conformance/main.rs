//! The runtime-spec's MUSTs (version 1.3), one case each, in the tables `*.cases`, named by file and section; written from the
//! spec's text, not from a runtime. Every case prints a line, with the reason where it does not pass.
//!
//! ```text
//! # file.md#section
//! what MUST be so
//!   with {"/json/pointer": value, …}   what is changed in a config that works, see `container`
//!   run VERBS                          what the program does, see programs/inspect.rs
//!   says LINE                          `run` ends with 0, and this line is in the output; parts of one between `…`
//!   ends N                             `run` ends with this status
//!   fails WORDS                        `create` fails with these words, and leaves nothing
//!   do WORDS, refuses WORDS => WHY     operations in their order; ID stands for the container's
//!   status WORD, reaches WORD          the container's status now, or after a while
//!   wait LINE, silent, gone            its output has the line, has nothing; nothing of it is left
//!   behind SHELL                       the caller of `run` has done this before
//!   holds NAME                         a function of the files here
//!   differs WHY                        it is not so, for this reason
//!   elsewhere WHERE                    another test holds it
//! ```
//!
//! What is not here: MUSTs for bundles and engines, for other platforms, and for cgroup v1.

#![allow(clippy::unwrap_used)] // a failed helper is a failed test; the lint's own exemption sees only #[test] functions
#![allow(clippy::needless_pass_by_value)] // the functions of HOLDS have one signature
#![allow(dead_code)] // the helpers are shared with the other tests, which use all of them

mod config;
mod features;
mod lifecycle;
mod linux;
#[path = "../runtime/support.rs"]
mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};

use initramfs::requirements::Tool;
use serde_json::{Value, json};
use support::{Container, Said};

type Holds = fn(Container);

const HOLDS: &[(&str, Holds)] = &[
    ("bind_and_rbind", config::bind_and_rbind),
    ("deadline", config::deadline),
    ("oom_score_stays", config::oom_score_stays),
    ("ungrantable", config::ungrantable),
    ("exec_affinity", config::exec_affinity),
    ("idmapped", config::idmapped),
    ("recursive_attributes", config::recursive_attributes),
    ("feature_capabilities", features::capabilities),
    ("feature_hooks", features::hooks),
    ("feature_mount_options", features::mount_options),
    ("feature_namespaces", features::namespaces),
    ("feature_properties", features::properties),
    ("feature_seccomp", features::seccomp),
    ("feature_versions", features::versions),
    ("failing_create", lifecycle::failing_create),
    ("failing_poststart", lifecycle::failing_poststart),
    ("failing_poststop", lifecycle::failing_poststop),
    ("failing_start", lifecycle::failing_start),
    ("hooks_in_order", lifecycle::hooks_in_order),
    ("later_changes", lifecycle::later_changes),
    ("state", lifecycle::state),
    ("cgroup_owned_as_listed", linux::cgroup_owned_as_listed),
    ("cgroup_owned_by_default", linux::cgroup_owned_by_default),
    ("cgroup_taken", linux::cgroup_taken),
    ("cgroups_path", linux::cgroups_path),
    ("inherited_namespaces", linux::inherited_namespaces),
    ("joined", linux::joined),
    ("joined_mount", linux::joined_mount),
    ("joined_user", linux::joined_user),
    ("new_namespaces", linux::new_namespaces),
    ("net_device", linux::net_device),
    ("net_device_stays", linux::net_device_stays),
    ("net_device_taken", linux::net_device_taken),
    ("net_device_template", linux::net_device_template),
    ("no_root", linux::no_root),
    ("notify", linux::notify),
    ("pod_user", linux::pod_user),
    ("propagation", linux::propagation),
    ("unified", linux::unified),
];

#[test]
fn config_md() {
    check(include_str!("config.cases"));
}

#[test]
fn config_linux_md() {
    // Before the first case takes this thread to a place where nothing can be installed.
    let tool = Tool { program: "ip", package: "iproute2" };
    initramfs::requirements::ensure(&[tool], &mut |line| println!("{line}")).unwrap();
    check(include_str!("config-linux.cases"));
}

#[test]
fn features_md() {
    check(include_str!("features.cases"));
}

#[test]
fn runtime_md() {
    check(include_str!("runtime.cases"));
}

/// Runs a table and prints it.
fn check(table: &str) {
    let (mut failed, mut section) = (0, "");
    for block in table.split("\n\n") {
        let mut lines = block.lines().peekable();
        section = lines.next_if(|line| line.starts_with("# ")).map_or(section, |line| &line[2..]);
        let must = lines.next().unwrap();
        let case: Vec<(&str, &str)> =
            lines.map(|line| line.trim().split_once(' ').unwrap_or((line.trim(), ""))).collect();
        let result = catch_unwind(AssertUnwindSafe(|| judge(&case)));
        let why = result.err().map(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default()
        });
        let elsewhere = case.iter().find(|(step, _)| *step == "elsewhere");
        let differs = case.iter().find(|(step, _)| *step == "differs");
        match why {
            None if elsewhere.is_some() => println!("other {section}: {must}: {}", elsewhere.map_or("", |(_, at)| at)),
            None if differs.is_some() => println!("differs {section}: {must}: {}", differs.map_or("", |(_, why)| why)),
            None => println!("pass  {section}: {must}"),
            Some(why) => {
                failed += 1;
                println!("FAIL  {section}: {must}\n      {}", why.replace('\n', "\n      "));
            }
        }
    }
    assert_eq!(failed, 0, "cases that do not pass; see the table");
}

fn judge(case: &[(&str, &str)]) {
    let of = |word: &str| case.iter().find(|(name, _)| *name == word).map(|(_, rest)| *rest);
    let change = of("with").map_or(json!({}), |text| serde_json::from_str(text).unwrap());
    let c = container(of("run").unwrap_or("pid"), &change);
    let mut said = None;
    for (step, rest) in case {
        let mut run = || match of("behind") {
            Some(shell) => c.run_behind(shell, "").ok(),
            None => c.run().ok(),
        };
        match *step {
            "with" | "run" | "behind" | "differs" | "elsewhere" => {}
            "says" => says(said.get_or_insert_with(&mut run), rest),
            "ends" => assert_eq!(c.run().status, rest.parse::<i32>().unwrap()),
            "fails" => {
                let said = c.create();
                assert!(said.status == 1 && said.err.contains(rest), "wanted {rest:?}: {said:?}");
                c.assert_gone();
            }
            "do" if *rest == "create" => drop(c.create().ok()),
            "do" => drop(operation(&c, rest).ok()),
            "refuses" => {
                let (words, why) = rest.split_once("=> ").unwrap();
                operation(&c, words).refused(why);
            }
            "status" => assert_eq!(c.state()["status"], *rest),
            "reaches" => c.wait_for_status(rest),
            "wait" => c.wait_for_output(rest),
            "silent" => assert_eq!(c.output(), ""),
            "gone" => c.assert_gone(),
            "holds" => return HOLDS.iter().find(|(name, _)| name == rest).expect("a function of this name").1(c),
            other => panic!("{other:?} is no step"),
        }
    }
}

fn operation(c: &Container, words: &str) -> Said {
    let words: Vec<&str> = words.split_ascii_whitespace().map(|word| if word == "ID" { &c.id } else { word }).collect();
    c.oci(&words)
}

/// A line that is there as a whole, or that holds the parts between `…`.
fn says(said: &Said, line: &str) {
    let parts: Vec<&str> = line.split('…').collect();
    let has =
        |one: &str| if parts.len() == 1 { one.trim() == line } else { parts.iter().all(|part| one.contains(part)) };
    assert!(said.out.lines().any(has), "wanted {line:?} in:\n{}{}", said.out, said.err);
}

/// The container a case describes: for the keys `/json/pointer` a new value (`null` takes it away), `+/pointer` an element more,
/// `-ns` namespaces to be left out, `file:PATH`, `folder:PATH`, `link:PATH` what lies in the rootfs, `owner` whose it is, `user` a
/// user namespace that starts at this id, and owns it.
fn container(verbs: &str, change: &Value) -> Container {
    let verbs: Vec<&str> = verbs.split_ascii_whitespace().collect();
    let mut c = Container::new(&verbs);
    if let Some(kinds) = change["-ns"].as_str() {
        let all = c.config["linux"]["namespaces"].as_array_mut().unwrap();
        all.retain(|one| !kinds.split(' ').any(|kind| one["type"] == kind));
    }
    for (key, value) in change.as_object().into_iter().flatten().filter(|(key, _)| *key != "-ns") {
        let text = value.as_str().unwrap_or_default();
        if let Some(path) = key.strip_prefix("file:") {
            c.file(path, text.as_bytes(), 0o644);
        } else if let Some(path) = key.strip_prefix("folder:") {
            std::fs::create_dir_all(c.rootfs(path)).unwrap();
        } else if let Some(path) = key.strip_prefix("link:") {
            std::os::unix::fs::symlink(text, c.rootfs(path)).unwrap();
        } else if let Some(pointer) = key.strip_prefix('+') {
            c = c.push(pointer, value.clone());
        } else if key == "owner" {
            own(&c, value);
        } else if key == "user" {
            let map = json!([{"containerID": 0, "hostID": value, "size": 1000}]);
            c = c.push("/linux/namespaces", json!({"type": "user"}));
            c = c.set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
            own(&c, value);
        } else {
            c = c.set(key, value.clone());
        }
    }
    c
}

/// Gives the rootfs to the container's root, who makes folders in it.
fn own(c: &Container, uid: &Value) {
    let uid = u32::try_from(uid.as_u64().unwrap()).ok();
    std::os::unix::fs::chown(c.rootfs(""), uid, uid).unwrap();
}

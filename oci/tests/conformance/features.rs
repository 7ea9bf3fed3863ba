//! What `features` says, against what config.json is taken.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::Container;

fn features(c: &Container) -> Value {
    serde_json::from_str(&c.oci(&["features"]).ok().out).unwrap()
}

/// The words of a list in the document.
fn words(features: &Value, pointer: &str) -> Vec<String> {
    let all = features.pointer(pointer).unwrap().as_array().unwrap();
    assert!(!all.is_empty(), "{pointer}");
    all.iter().map(|word| word.as_str().unwrap().to_owned()).collect()
}

pub(crate) fn versions(c: Container) {
    let features = features(&c);
    let of = |name: &str| features[name].as_str().unwrap().to_owned();
    let numbers = |version: &str| version.split('.').map(|n| n.parse().unwrap()).collect::<Vec<u32>>();
    assert!(numbers(&of("ociVersionMin")) <= numbers(&of("ociVersionMax")));
    let c = c.set("/ociVersion", json!(of("ociVersionMin")));
    c.run().ok().has("ok");
    c.set("/ociVersion", json!(of("ociVersionMax"))).run().ok().has("ok");
}

/// Of the document and of its part for Linux.
pub(crate) fn properties(c: Container) {
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let features = features(&c);
    let known = ["annotations", "hooks", "linux", "mountOptions", "ociVersionMax", "ociVersionMin"];
    let more = ["potentiallyUnsafeConfigAnnotations"];
    assert!(names(&features).iter().all(|name| known.contains(&name.as_str()) || more.contains(&name.as_str())));
    assert!(known.iter().all(|name| features.get(name).is_some()));
    let known = [
        "apparmor",
        "capabilities",
        "cgroup",
        "intelRdt",
        "memoryPolicy",
        "mountExtensions",
        "namespaces",
        "netDevices",
        "seccomp",
        "selinux",
    ];
    assert_eq!(names(&features["linux"]), known);
}

pub(crate) fn hooks(c: Container) {
    let all = words(&features(&c), "/hooks");
    assert_eq!(all.len(), 6);
    for hook in all {
        let c = crate::container("pid", &json!({"/hooks": {&hook: [{"path": "not-absolute"}]}}));
        c.create().refused(&format!("hooks.{hook}[0]"));
    }
}

/// What no option is reaches the file system, which refuses it.
pub(crate) fn mount_options(c: Container) {
    let with = |option: &str| {
        let mount = json!({"destination": "/x", "type": "tmpfs", "source": "t", "options": [option]});
        let c = crate::container("pid", &json!({"+/mounts": mount}));
        let said = c.create();
        c.oci(&["delete", "--force", &c.id]).ok();
        said.err
    };
    assert!(with("nonsense").contains("invalid argument"));
    for option in words(&features(&c), "/mountOptions") {
        assert!(!with(&option).contains("invalid argument"), "{option}: {}", with(&option));
    }
}

pub(crate) fn namespaces(c: Container) {
    let all = words(&features(&c), "/linux/namespaces");
    assert_eq!(all.len(), 8);
    for kind in all {
        let c =
            crate::container("pid", &json!({"-ns": kind, "+/linux/namespaces": {"type": kind, "path": "relative"}}));
        c.create().refused("path \"relative\" is not absolute");
    }
}

pub(crate) fn capabilities(c: Container) {
    let all = words(&features(&c), "/linux/capabilities");
    assert!(all.len() >= 41, "{all:?}");
    // A name that is unknown is told and left out.
    let sets = |names: &[String]| json!({"bounding": names});
    let c = c.set("/process/capabilities", sets(&all));
    assert_eq!(c.run().ok().err, "");
    let said = c.set("/process/capabilities", sets(&["CAP_NO_SUCH".to_owned()])).run().ok();
    assert!(said.err.contains("CAP_NO_SUCH"), "{said:?}");
}

pub(crate) fn seccomp(c: Container) {
    let features = features(&c);
    let of = |name: &str| words(&features, &format!("/linux/seccomp/{name}"));
    // A call nobody makes.
    let rule = |action: &str, operator: &str| {
        let arguments = json!([{"index": 0, "value": 1, "valueTwo": 1, "op": operator}]);
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["kexec_load"], "action": action, "args": arguments}]})
    };
    let mut c = c;
    for action in of("actions") {
        c = c.set("/linux/seccomp", rule(&action, "SCMP_CMP_EQ"));
        if action == "SCMP_ACT_NOTIFY" {
            c.run().refused("linux.seccomp.listenerPath");
        } else {
            c.run().ok();
        }
    }
    for operator in of("operators") {
        c = c.set("/linux/seccomp", rule("SCMP_ACT_ERRNO", &operator));
        c.run().ok();
    }
    assert!(of("supportedFlags").iter().all(|flag| of("knownFlags").contains(flag)));
    // Those of the spec, section "Seccomp".
    let archs = "X86 X86_64 X32 ARM AARCH64 MIPS MIPS64 MIPS64N32 MIPSEL MIPSEL64 MIPSEL64N32 PPC PPC64 PPC64LE S390 S390X PARISC \
                 PARISC64 RISCV64 LOONGARCH64 M68K SH SHEB";
    let archs: BTreeSet<String> = archs.split_ascii_whitespace().map(|arch| format!("SCMP_ARCH_{arch}")).collect();
    assert_eq!(of("archs").into_iter().collect::<BTreeSet<_>>(), archs);
    let all = json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": archs, "flags": of("knownFlags")});
    c.set("/linux/seccomp", all).run().ok();
}

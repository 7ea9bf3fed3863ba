//! Cases of config.md that take more than a line.

use serde_json::json;

use crate::support::Container;

pub(crate) fn recursive_attributes(_: Container) {
    let c = crate::container("create /y/f create /y/z/f mount /y/z", &json!({}));
    let source = c.path("src");
    std::fs::create_dir_all(source.join("z")).unwrap();
    let none = None::<&str>;
    nix::mount::mount(Some("t"), &source.join("z"), Some("tmpfs"), nix::mount::MsFlags::empty(), none).unwrap();
    let c = c.bind(&source, "/y", &["rbind", "rro", "rnosuid", "rnodev", "rnoatime"]);
    let said = c.run().ok();
    nix::mount::umount(&source.join("z")).unwrap();
    for line in ["create /y/f: Read-only…", "create /y/z/f: Read-only…", "mount /y/z ro,nosuid,nodev,noatime…"] {
        crate::says(&said, line);
    }
}

pub(crate) fn bind_and_rbind(c: Container) {
    let source = c.path("src");
    std::fs::create_dir_all(source.join("z")).unwrap();
    let none = None::<&str>;
    nix::mount::mount(Some("t"), &source.join("z"), Some("tmpfs"), nix::mount::MsFlags::empty(), none).unwrap();
    std::fs::write(source.join("z/f"), "").unwrap();
    let c = c.bind(&source, "/one", &["bind"]).bind(&source, "/all", &["rbind"]);
    let said = c.run();
    nix::mount::umount(&source.join("z")).unwrap();
    said.ok().has("/one/z: ").has("/all/z: f");
}

/// Through options with a mapping, through mappings of the mount, and through the container's own.
pub(crate) fn idmapped(_: Container) {
    let maps = json!([{"containerID": 0, "hostID": 100_000, "size": 1000}]);
    let own = json!({"user": 100_000});
    for (change, mappings, option, want) in [
        (json!({}), Some(maps.clone()), "idmap", "/x/f: 100644 100007 100007 0"),
        (json!({}), Some(maps), "rbind", "/x/f: 100644 100007 100007 0"),
        (json!({}), None, "ridmap=uids=0-5-100;gids=0-6-100", "/x/f: 100644 12 13 0"),
        (own, None, "idmap", "/x/f: 100644 7 7 0"),
    ] {
        let c = crate::container("mode /x/f", &change);
        std::fs::create_dir(c.path("src")).unwrap();
        std::fs::write(c.path("src/f"), "").unwrap();
        std::os::unix::fs::chown(c.path("src/f"), Some(7), Some(7)).unwrap();
        let mut mount =
            json!({"destination": "/x", "type": "bind", "source": c.path("src"), "options": ["bind", option]});
        if let Some(mappings) = mappings {
            mount["uidMappings"] = mappings.clone();
            mount["gidMappings"] = mappings;
        }
        c.push("/mounts", mount).run().ok().has(want);
    }
}

fn cpus_allowed() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim().to_owned()
}

/// sched(7): the kernel gives deadlines only to who may use every CPU, and refuses others with EPERM.
pub(crate) fn deadline(c: Container) {
    let all = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap();
    if cpus_allowed() == all.trim() {
        crate::says(&c.run().ok(), "sched 6…");
    } else {
        c.create().refused("process.scheduler: operation not permitted");
    }
}

pub(crate) fn exec_affinity(c: Container) {
    // Whatever CPUs this process was given: the first and the last of `2-3,6`.
    let mine = cpus_allowed();
    let (first, last) = (mine.split(['-', ',']).next().unwrap(), mine.rsplit(['-', ',']).next().unwrap());
    assert_ne!(first, last, "this case needs two CPUs");
    let c = c.set("/process/execCPUAffinity", json!({"initial": first, "final": last}));
    c.create().ok();
    c.start().ok();
    c.wait_for_output("up");
    let verbs = ["/bin/inspect", "status", "Cpus_allowed_list"];
    let exec = |c: &Container| c.oci(&[&["exec", &c.id], &verbs[..]].concat()).ok();
    exec(&c).has(&format!("Cpus_allowed_list: {last}"));
    // The one that waits for it is the one that has put it there.
    let mut waits = c.command(&["exec", &c.id, "/bin/inspect", "sleep"]);
    let mut waits = crate::support::spawn(waits.stdout(std::process::Stdio::null()));
    crate::support::wait_until("the process", || {
        std::fs::read_to_string(c.cgroup("cgroup.procs")).unwrap().lines().count() == 2
    });
    let status = std::fs::read_to_string(format!("/proc/{}/status", waits.id())).unwrap();
    assert!(status.contains(&format!("Cpus_allowed_list:\t{first}\n")), "{status}");
    c.oci(&["delete", "--force", &c.id]).ok();
    waits.wait().unwrap();
}

//! Cases of config.md that take more than a line.

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use serde_json::{Value, json};

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

fn bind_this_thread(cpus: impl IntoIterator<Item = usize>) {
    let mut set = CpuSet::new();
    cpus.into_iter().for_each(|cpu| set.set(cpu).unwrap());
    sched_setaffinity(Pid::from_raw(0), &set).unwrap();
}

/// Lets this thread use every CPU there is for it; gives their list.
fn every_cpu() -> String {
    bind_this_thread(0..CpuSet::count());
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim().to_owned()
}

/// sched(7): the kernel gives deadlines only to who may use every CPU, and refuses others with EPERM.
pub(crate) fn deadline(c: Container) {
    let all = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap();
    if every_cpu() == all.trim() {
        crate::says(&c.run().ok(), "sched 6…");
    } else {
        c.create().refused("process.scheduler: operation not permitted");
    }
}

/// A capability that the caller has not got.
pub(crate) fn ungrantable(c: Container) {
    c.write_config();
    let run = c.command(&["run", &c.id]);
    let mut less = std::process::Command::new("setpriv");
    less.args(["--bounding-set", "-net_raw"]).arg(run.get_program()).args(run.get_args());
    let said = crate::support::Said::from(&crate::support::output(less.current_dir(c.path("")))).ok();
    said.has("CapPrm: 0000000000000020").has("CapBnd: 0000000000000020");
    let why = "warning: process.capabilities: CAP_NET_RAW cannot be granted on this machine and is left out";
    assert!(said.err.contains(why), "{said:?}");
}

pub(crate) fn oom_score_stays(c: Container) {
    // That of the caller, whatever it is.
    let said = c.run_behind("echo 77 > /proc/self/oom_score_adj", "").ok();
    said.has("/proc/self/oom_score_adj: 77");
}

pub(crate) fn exec_affinity(mut c: Container) {
    // Whatever CPUs there are here: the first and the last of `2-3,6`.
    let every = every_cpu();
    let (first, last) = (every.split(['-', ',']).next().unwrap(), every.rsplit(['-', ',']).next().unwrap());
    assert_ne!(first, last, "this case needs two CPUs");
    c.create().ok();
    c.start().ok();
    c.wait_for_output("up");
    let of = |path: String| std::fs::read_to_string(path).unwrap();
    let exec = |affinity: Value| {
        let process = json!({"cwd": "/", "args": ["/bin/inspect", "status", "Cpus_allowed_list"],
            "execCPUAffinity": affinity});
        std::fs::write(c.path("process.json"), process.to_string()).unwrap();
        c.oci(&["exec", "--process", "process.json", &c.id]).ok()
    };
    exec(json!({"initial": first, "final": last})).has(&format!("Cpus_allowed_list: {last}"));
    exec(json!({"initial": first})).has(&format!("Cpus_allowed_list: {every}"));
    // What the caller is bound to is its own matter.
    bind_this_thread([first.parse().unwrap()]);
    exec(json!({})).has(&format!("Cpus_allowed_list: {every}"));
    c.oci(&["delete", "--force", &c.id]).ok();
    c = c.with_args(&["status", "Cpus_allowed_list"]);
    c.run().ok().has(&format!("Cpus_allowed_list: {every}"));
    // The one that waits for the process is the one that has put it there.
    every_cpu();
    c = c.with_args(&["say", "up", "sleep"]).set("/process/execCPUAffinity", json!({"initial": first}));
    c.create().ok();
    c.start().ok();
    let mut waits = c.command(&["exec", &c.id, "/bin/inspect", "sleep"]);
    let mut waits = crate::support::spawn(waits.stdout(std::process::Stdio::null()));
    crate::support::wait_until("the process", || {
        of(c.cgroup("cgroup.procs").display().to_string()).lines().count() == 2
    });
    let status = of(format!("/proc/{}/status", waits.id()));
    assert!(status.contains(&format!("Cpus_allowed_list:\t{first}\n")), "{status}");
    c.oci(&["delete", "--force", &c.id]).ok();
    waits.wait().unwrap();
}

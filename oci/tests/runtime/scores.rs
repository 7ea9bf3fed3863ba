//! `process.oomScoreAdj` and `process.rlimits`: whose they are, and what is said where the kernel refuses them.

use std::os::unix::fs::chown;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::{Container, Said, output, spawn, wait_until};

const SCORE: &str = "/proc/self/oom_score_adj";
const USER: u32 = 1000;

fn score_of(pid: i32) -> i32 {
    std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap().trim().parse().unwrap()
}

/// In a user namespace of its own, where each limit is set from outside, or not.
fn in_user_namespace(c: Container, user: bool) -> Container {
    if !user {
        return c;
    }
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    chown(c.rootfs(""), Some(100_000), Some(100_000)).unwrap();
    c.push("/linux/namespaces", json!({"type": "user"}))
        .set("/linux/uidMappings", map.clone())
        .set("/linux/gidMappings", map)
}

#[test]
fn the_score_is_the_containers_and_not_the_runtimes() {
    let own = score_of(std::process::id().cast_signed());
    for user in [false, true] {
        let c = in_user_namespace(Container::new(&["say", "up", "sleep"]), user);
        let seen = c.path("seen");
        let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", format!("cat {SCORE} >> {}", seen.display())]}]);
        let c =
            c.set("/hooks", json!({"createRuntime": hook, "poststart": hook})).set("/process/oomScoreAdj", json!(700));
        c.write_config();
        let mut run = c.command(&["run", &c.id]);
        let mut run = spawn(run.stdout(std::fs::File::create(c.path("out")).unwrap()));
        c.wait_for_output("up");
        let hooks = || std::fs::read_to_string(&seen).unwrap_or_default();
        wait_until("the hooks", || hooks().lines().count() == 2);
        assert_eq!(hooks(), format!("{own}\n").repeat(2));
        assert_eq!((score_of(c.pid()), score_of(run.id().cast_signed())), (700, own));
        let process = json!({"cwd": "/", "args": ["/bin/inspect", "say", "further", "sleep"], "oomScoreAdj": 800,
            "user": {"uid": 0, "gid": 0}});
        std::fs::write(c.path("process.json"), process.to_string()).unwrap();
        let mut exec = c.command(&["exec", "--process", "process.json", "--pid-file", "exec.pid", &c.id]);
        let mut exec = spawn(exec.stdout(std::fs::File::create(c.path("exec.out")).unwrap()));
        wait_until("exec", || std::fs::read_to_string(c.path("exec.out")).unwrap().contains("further"));
        let pid = std::fs::read_to_string(c.path("exec.pid")).unwrap().parse().unwrap();
        assert_eq!((score_of(pid), score_of(exec.id().cast_signed())), (800, own));
        c.oci(&["kill", &c.id, "KILL"]).ok();
        run.wait().unwrap();
        exec.wait().unwrap();
    }
}

#[test]
fn without_one_it_is_the_callers() {
    let mut c = Container::new(&["cat", SCORE]);
    let own = format!("echo 600 > {SCORE}");
    c.run_behind(&own, "").ok().has(&format!("{SCORE}: 600"));
    // And the same for one that is said to have it.
    c.config["process"]["oomScoreAdj"] = json!(600);
    c.run_behind(&own, "").ok().has(&format!("{SCORE}: 600"));
}

/// As root without the right to it, by a shell that has set up what is inherited.
fn without_the_right(c: &Container, shell: &str) -> Said {
    c.write_config();
    let runtime = format!("{} --root {}", c.runtime.display(), c.path("state").display());
    let line = format!("{shell}; exec setpriv --bounding-set -sys_resource {runtime} run {}", c.id);
    let mut bash = Command::new("bash");
    bash.args(["-c", &line]).current_dir(c.path("")).stdin(Stdio::null());
    Said::from(&output(&mut bash))
}

#[test]
fn a_lower_score_takes_a_right() {
    let c = Container::new(&["cat", SCORE]).set("/process/oomScoreAdj", json!(-7));
    let said = without_the_right(&c, ":");
    let own = score_of(std::process::id().cast_signed());
    said.refused(&format!(
        "set process.oomScoreAdj to -7 (below the present {own} it takes CAP_SYS_RESOURCE): permission denied"
    ));
    c.assert_gone();
}

fn of_user(verbs: &[&str]) -> Container {
    let map = json!([{"containerID": 0, "hostID": USER, "size": 1}]);
    let c = Container::new(verbs)
        .set("/root/readonly", json!(false))
        .push("/linux/namespaces", json!({"type": "user"}))
        .set("/linux/uidMappings", map.clone())
        .set("/linux/gidMappings", map);
    std::fs::create_dir(c.path("state")).unwrap();
    for path in ["", "state", "rootfs", "rootfs/bin"] {
        chown(c.path(path), Some(USER), Some(USER)).unwrap();
    }
    c
}

fn as_user(c: &Container, shell: &str, verb: &str) -> Said {
    use std::os::unix::process::CommandExt as _;
    c.write_config();
    let runtime = format!("{} --root {}", c.runtime.display(), c.path("state").display());
    let mut bash = Command::new("bash");
    bash.args(["-c", &format!("{shell}; exec {runtime} {verb}")]).current_dir(c.path("")).stdin(Stdio::null());
    Said::from(&output(bash.uid(USER).gid(USER)))
}

#[test]
fn an_ordinary_user_is_told_that_a_score_stays_higher() {
    let c = of_user(&["cat", SCORE]).set("/process/oomScoreAdj", json!(-9));
    let said = as_user(&c, ":", &format!("run {}", c.id)).ok();
    let own = score_of(std::process::id().cast_signed());
    said.has(&format!("{SCORE}: {own}"));
    let why = format!("stays as it is, not -9: below the present {own} it takes CAP_SYS_RESOURCE");
    assert!(said.err.contains(&why), "{said:?}");
}

fn limit(soft: u64, hard: u64) -> Value {
    json!([{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}, {"type": "RLIMIT_NPROC", "soft": soft, "hard": hard}])
}

const WHY: &str = "set process.rlimits[1]: RLIMIT_NPROC to 5000, which is above the present hard limit of 4000 and takes \
    CAP_SYS_RESOURCE: operation not permitted";

#[test]
fn a_limit_above_the_callers_is_refused_with_its_name() {
    for user in [false, true] {
        let c = in_user_namespace(Container::new(&["limit", "6"]), user).set("/process/rlimits", limit(5000, 5000));
        without_the_right(&c, "ulimit -u 4000").refused(WHY);
        c.assert_gone();
    }
    let c = of_user(&["limit", "6"]).set("/process/rlimits", limit(5000, 5000));
    as_user(&c, "ulimit -u 4000", &format!("run {}", c.id)).refused(WHY);
    c.assert_gone();
}

#[test]
fn a_limit_up_to_the_callers_is_set_whoever_the_program_is() {
    // Set before the user changes: of root's processes there may be more than the limit of the program's user allows.
    let c = Container::new(&["limit", "6"])
        .set("/process/rlimits", limit(3000, 4000))
        .set("/process/user", json!({"uid": 1234, "gid": 1234}));
    without_the_right(&c, "ulimit -S -u 100; ulimit -H -u 4000").ok().has("limit 6 3000 4000");
}

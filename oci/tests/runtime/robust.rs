//! Whatever call fails and wherever the runtime is killed: what is left, `delete --force` clears; two at once come one after the
//! other; a thousand runs are a thousand ends.

use std::collections::BTreeSet;
use std::fs::File;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::fcntl::{Flock, FlockArg};
use serde_json::{Value, json};

use crate::inject::{Fate, Traced, Who, reap, traced};
use crate::shapes::{Shape, Shaped};
use crate::support::{Container, Said, spawn, wait_until};

/// An operation, what it is done to, and the state of that.
#[derive(Clone, Copy)]
struct Operation {
    verb: &'static [&'static str],
    before: Before,
    shape: Shape,
    /// Of its calls only so many meet a fate: one of each this many.
    step: usize,
}

impl Operation {
    const fn new(verb: &'static [&'static str], before: Before) -> Operation {
        Operation { verb, before, shape: Shape::Plain, step: 1 }
    }

    /// In another way, and one of each `step` calls: `ORLOP_EVERY_ERRNO=1` makes it all of them.
    fn of(self, shape: Shape, step: usize) -> Operation {
        Operation { shape, step: if everything() { 1 } else { step }, ..self }
    }
}

fn everything() -> bool {
    std::env::var_os("ORLOP_EVERY_ERRNO").is_some()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    Created,
    Running,
}

fn prepare(c: &Container, before: Before) {
    if before == Before::Nothing {
        return;
    }
    c.create().ok();
    if before == Before::Running {
        c.start().ok();
        c.wait_for_output("up");
    }
}

/// Processes that were started for this container, whatever they have become.
fn processes(c: &Container) -> BTreeSet<String> {
    let mark = c.path("state").display().to_string();
    let all = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|one| one.file_name().into_string().ok());
    let bundle = c.path("");
    all.filter(|pid| pid.bytes().all(|b| b.is_ascii_digit()))
        .filter(|pid| {
            // Who is seen by others shows no command line.
            std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(&bundle))
                || std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains(&mark))
        })
        .collect()
}

/// Every call of the operation, until it has no more; gives how many there were.
fn every_call(operation: Operation, who: Who, fates: &(impl Fn(usize) -> Fate + Sync)) {
    let next = AtomicUsize::new(1);
    let shape = operation.shape;
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let shaped = Shaped::new(shape, operation.before == Before::Running);
                let c = &shaped.c;
                let expected = undisturbed(&shaped, operation);
                loop {
                    let number = next.fetch_add(operation.step, Ordering::Relaxed);
                    let fate = fates(number);
                    prepare(c, operation.before);
                    let mut args: Vec<&str> = operation.verb.to_vec();
                    args.insert(1, &c.id);
                    let done = traced(c, shaped.command(&args), who, number, fate);
                    let what = format!(
                        "{shape:?}: {args:?}: call {number} of {who:?} {fate:?}: {:?}: {:?}",
                        done.call, done.said
                    );
                    judge(&what, &done, &expected, fate);
                    let state = shaped.oci(&["state", &c.id]);
                    assert!(state.status == 0 || state.err.contains("does not exist"), "{what}: then: {state:?}");
                    let deleted = shaped.oci(&["delete", "--force", &c.id]);
                    shaped.hang_up();
                    assert_eq!(deleted.status, 0, "{what}: then: {deleted:?}");
                    reap();
                    assert_eq!(c.left_behind(), "", "{what}");
                    wait_until("the end of all processes", || {
                        reap();
                        processes(c).is_empty()
                    });
                    if done.call.is_none() {
                        assert!(number > 10, "{what}");
                        break;
                    }
                }
            });
        }
    });
}

/// What the operation says when nothing is in its way.
fn undisturbed(shaped: &Shaped, operation: Operation) -> String {
    let c = &shaped.c;
    prepare(c, operation.before);
    let mut args: Vec<&str> = operation.verb.to_vec();
    args.insert(1, &c.id);
    // Its output is kept in a file: `create` leaves a process behind that would hold a pipe open.
    let done = traced(c, shaped.command(&args), Who::Runtime, usize::MAX, Fate::Killed);
    shaped.oci(&["delete", "--force", &c.id]).ok();
    shaped.hang_up();
    done.said.ok().out
}

/// A failure is reported with the kernel's reason, or it changes nothing of what the program sees.
fn judge(what: &str, done: &Traced, expected: &str, fate: Fate) {
    let said = &done.said;
    match (fate, said.status) {
        (Fate::Fails(_), 0) => assert_eq!(said.out, expected, "{what}"),
        (Fate::Fails(errno), 1 | 255) => {
            let reason = ERRNOS.iter().find(|(one, _)| *one == errno).map_or("", |(_, words)| words);
            let told = said.err.starts_with("orlop-oci: ") && said.err.contains(reason);
            assert!(told, "{what}");
        }
        // Before `main` the C library and std end the program in their own way.
        (Fate::Fails(_), _) => assert!(said.status >= 1000 || said.out.is_empty(), "{what}"),
        // That it was not found any more is no reason.
        (Fate::Unheard, _) => assert!(!said.err.contains("no such process"), "{what}"),
        (Fate::Killed, _) => {}
    }
}

const ERRNOS: [(i32, &str); 3] = [
    (libc::EIO, "input/output error"),
    (libc::ENOMEM, "cannot allocate memory"),
    (libc::EPERM, "operation not permitted"),
];

/// Each call once with one of the errnos in turn; `ORLOP_EVERY_ERRNO=1` makes it each call with each of them.
fn fails(operation: Operation, who: Who) {
    let rounds = if everything() { 3 } else { 1 };
    for round in 0..rounds {
        every_call(operation, who, &|number| Fate::Fails(ERRNOS[(number + round) % 3].0));
    }
}

const CREATE: Operation = Operation::new(&["create"], Before::Nothing);
const START: Operation = Operation::new(&["start"], Before::Created);
const RUN: Operation = Operation::new(&["run"], Before::Nothing);
const EXEC: Operation =
    Operation::new(&["exec", "/bin/inspect", "status", "CapEff,CapBnd,NoNewPrivs,Seccomp"], Before::Running);
const DELETE: Operation = Operation::new(&["delete"], Before::Created);

#[test]
fn any_call_of_create_fails() {
    fails(CREATE, Who::Runtime);
}

#[test]
fn any_call_of_the_containers_process_fails() {
    fails(RUN, Who::Child);
}

#[test]
fn any_call_of_start_and_delete_fails() {
    fails(START, Who::Runtime);
    fails(DELETE, Who::Runtime);
}

#[test]
fn any_call_of_run_fails() {
    fails(RUN, Who::Runtime);
}

#[test]
fn any_call_of_a_run_in_a_pid_namespace_that_exists_fails() {
    let beside = RUN.of(Shape::Beside, 1);
    fails(beside, Who::Runtime);
    fails(beside, Who::Child);
    fails(RUN.of(Shape::Beside, 5), Who::Maker);
}

#[test]
fn any_call_of_exec_fails() {
    fails(EXEC, Who::Runtime);
    fails(EXEC, Who::Child);
    fails(EXEC.of(Shape::Plain, 5), Who::Maker);
}

#[test]
fn create_and_its_child_are_killed_at_any_call() {
    every_call(CREATE, Who::Runtime, &|_| Fate::Killed);
    every_call(CREATE, Who::Child, &|_| Fate::Killed);
}

#[test]
fn run_start_exec_and_delete_are_killed_at_any_call() {
    for operation in [RUN, RUN.of(Shape::Beside, 1), START, EXEC, DELETE] {
        every_call(operation, Who::Runtime, &|_| Fate::Killed);
    }
}

#[test]
fn who_joins_a_pid_namespace_is_killed_at_any_call() {
    for operation in [RUN.of(Shape::Beside, 5), EXEC.of(Shape::Plain, 5)] {
        every_call(operation, Who::Child, &|_| Fate::Killed);
        every_call(operation, Who::Maker, &|_| Fate::Killed);
    }
}

/// The same where the container is made in another way: some of the calls of each.
fn in_another_way(shape: Shape) {
    for operation in [CREATE.of(shape, 29), RUN.of(shape, 37)] {
        for who in [Who::Runtime, Who::Child] {
            fails(operation, who);
            every_call(operation, who, &|_| Fate::Killed);
        }
        every_call(operation, Who::Child, &|_| Fate::Unheard);
    }
}

#[test]
fn what_ended_before_it_was_served_is_not_called_missing() {
    for operation in [RUN, RUN.of(Shape::User, 1), RUN.of(Shape::Time, 1), RUN.of(Shape::Beside, 3), EXEC] {
        every_call(operation, Who::Child, &|_| Fate::Unheard);
    }
}

#[test]
fn one_on_the_hosts_mounts() {
    in_another_way(Shape::NoMountNamespace);
}

#[test]
fn one_in_a_user_namespace() {
    in_another_way(Shape::User);
}

#[test]
fn one_in_a_time_namespace() {
    in_another_way(Shape::Time);
}

#[test]
fn one_with_hooks() {
    in_another_way(Shape::Hooks);
}

#[test]
fn one_with_a_terminal() {
    in_another_way(Shape::Terminal);
}

#[test]
fn one_with_an_agent_for_its_calls() {
    in_another_way(Shape::Notify);
}

#[test]
fn one_of_an_ordinary_user() {
    in_another_way(Shape::Rootless);
}

#[test]
fn one_in_a_pid_namespace_that_exists() {
    in_another_way(Shape::Beside);
}

#[test]
fn one_with_hooks_in_a_pid_namespace_that_exists() {
    in_another_way(Shape::BesideHooks);
}

#[test]
fn two_operations_at_once_come_one_after_the_other() {
    let c = Container::new(&["sleep"]);
    c.write_config();
    let null = Stdio::null;
    // What two of them may say, whichever comes first: how many succeed.
    let pairs: [(&[&str], &[&str], &[usize]); 10] = [
        (&["create"], &["create"], &[1]),
        (&["start"], &["start"], &[1]),
        (&["create"], &["delete", "--force"], &[2]),
        (&["delete", "--force"], &["delete", "--force"], &[2]),
        (&["start"], &["kill"], &[1, 2]),
        (&["run", "--detach"], &["run", "--detach"], &[1]),
        (&["run", "--detach"], &["delete", "--force"], &[1, 2]),
        (&["pause"], &["pause"], &[1]),
        (&["pause"], &["delete", "--force"], &[1, 2]),
        (&["exec", "--detach"], &["delete", "--force"], &[1, 2]),
    ];
    for round in 0..300 {
        let (one, two, allowed) = pairs[round % pairs.len()];
        if !matches!(one[0], "create" | "run") {
            c.create().ok();
        }
        if matches!(one[0], "pause" | "exec") {
            c.start().ok();
        }
        let barrier = std::sync::Barrier::new(2);
        let succeeds = |verb: &[&str]| {
            let mut command = c.command(verb);
            command.arg(&c.id).stdout(null()).stderr(null());
            if verb[0] == "exec" {
                command.args(["/bin/inspect", "pid"]);
            }
            barrier.wait();
            spawn(&mut command).wait().unwrap().success()
        };
        let good = std::thread::scope(|scope| {
            let other = scope.spawn(|| succeeds(two));
            usize::from(succeeds(one)) + usize::from(other.join().unwrap())
        });
        assert!(allowed.contains(&good), "{one:?} and {two:?}: {good} succeeded");
        let state = c.oci(&["state", &c.id]);
        assert!(state.status == 0 || state.err.contains("does not exist"), "{one:?} and {two:?}: {state:?}");
        c.oci(&["delete", "--force", &c.id]).ok();
        c.assert_gone();
    }
}

/// A hook's process has the lock until its exec, also when `create` is killed meanwhile.
#[test]
fn a_killed_create_at_its_hooks_refuses_nobody() {
    let mut dead = spawn(&mut Command::new("/bin/true"));
    dead.wait().unwrap();
    let c = Container::new(&["sleep"]);
    c.create().ok();
    let folder = c.path("state").join(&c.id);
    let mut state: Value = serde_json::from_slice(&std::fs::read(folder.join("state.json")).unwrap()).unwrap();
    state["creator"] = json!({"pid": dead.id(), "startTicks": 1});
    std::fs::write(folder.join("state.json"), state.to_string()).unwrap();
    let lock = Flock::lock(File::open(&folder).unwrap(), FlockArg::LockExclusive).unwrap();
    let mut delete = c.command(&["delete", "--force", &c.id]);
    let mut delete = spawn(delete.stdout(Stdio::piped()).stderr(Stdio::piped()));
    let waits = format!(" {} ", delete.id());
    let is_waiting = || {
        let locks = std::fs::read_to_string("/proc/locks").unwrap();
        locks.lines().any(|line| line.contains("-> FLOCK") && line.contains(&waits))
    };
    wait_until("delete", || delete.try_wait().unwrap().is_some() || is_waiting());
    drop(lock);
    Said::from(&delete.wait_with_output().unwrap()).ok();
    c.assert_gone();
}

#[test]
fn a_thousand_runs_return_a_thousand_times() {
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                let c = Container::new(&["exit", "0"]);
                for run in 0..250 {
                    assert_eq!(c.run().status, 0, "run {run} of thread {thread}");
                }
            });
        }
    });
}

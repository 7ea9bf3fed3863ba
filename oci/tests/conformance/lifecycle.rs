//! Cases of runtime.md, and of hooks, that take more than a line.

use serde_json::{Value, json};

use crate::support::Container;

pub(crate) fn state(c: Container) {
    c.create().ok();
    c.start().ok();
    c.wait_for_output("up");
    let state = c.state();
    let of = |name: &str| state[name].clone();
    assert_eq!((of("id"), of("status"), of("ociVersion")), (json!(c.id), json!("running"), json!("1.3.0")));
    assert_eq!(of("annotations"), json!({"k": "v"}));
    assert_eq!(of("bundle"), json!(c.path("").to_str().unwrap().trim_end_matches('/')));
    assert!(std::fs::read_to_string(format!("/proc/{}/comm", of("pid"))).unwrap().starts_with("inspect"));
}

pub(crate) fn later_changes(c: Container) {
    c.create().ok();
    std::fs::write(c.path("config.json"), "{}").unwrap();
    c.start().ok();
    c.wait_for_output("old");
    c.oci(&["delete", "--force", &c.id]).ok();
}

/// A hook that notes its name, the status on its standard input, whether the program ran, and where it is.
fn noting(c: &Container, name: &str, exit: i32) -> Value {
    let script = format!(
        "echo {name} $(sed 's/.*\"status\":\"\\([a-z]*\\)\".*/\\1/') $A $(readlink /proc/self/ns/uts) >> {0}/notes; exit {exit}",
        c.path("").display()
    );
    json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["A=1", "PATH=/usr/bin:/bin"]})
}

fn notes(c: &Container) -> String {
    std::fs::read_to_string(c.path("notes")).unwrap_or_default()
}

pub(crate) fn hooks_in_order(c: Container) {
    let points = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"];
    let all: serde_json::Map<String, Value> =
        points.iter().map(|name| ((*name).to_owned(), json!([noting(&c, name, 0), noting(&c, "again", 0)]))).collect();
    let c = c.set("/hooks", Value::Object(all));
    c.create().ok();
    c.start().ok();
    c.wait_for_output("up");
    let pid = c.pid();
    let own = std::fs::read_link("/proc/thread-self/ns/uts").unwrap();
    let inside = std::fs::read_link(format!("/proc/{pid}/ns/uts")).unwrap();
    c.oci(&["delete", "--force", &c.id]).ok();
    let status = |name: &str| match name {
        "poststart" => "running",
        "poststop" => "stopped",
        _ => "creating",
    };
    let want = points.iter().flat_map(|name| {
        let place = if *name == "createContainer" { &inside } else { &own };
        [*name, "again"].map(|word| format!("{word} {} 1 {}\n", status(name), place.display()))
    });
    assert_eq!(notes(&c), want.collect::<String>());
}

pub(crate) fn failing_create(c: Container) {
    for point in ["prestart", "createRuntime", "createContainer"] {
        let c = crate::container("sleep", &json!({}));
        let hooks =
            json!({point: [noting(&c, "first", 3), noting(&c, "second", 0)], "poststop": [noting(&c, "poststop", 0)]});
        let c = c.set("/hooks", hooks);
        c.create().refused("it exited with 3");
        c.assert_gone();
        assert_eq!(names(&c), ["first", "poststop"]);
    }
    drop(c);
}

pub(crate) fn failing_start(c: Container) {
    let c = c.set("/hooks", json!({"startContainer": [{"path": "/bin/inspect", "args": ["inspect", "exit", "3"]}]}));
    c.create().ok();
    c.start().refused("it exited with 3");
    c.wait_for_status("stopped");
    assert_eq!(c.output(), "");
}

pub(crate) fn failing_poststart(c: Container) {
    let hooks = json!({"poststart": [noting(&c, "a", 1), noting(&c, "b", 0)]});
    let c = c.set("/hooks", hooks);
    c.create().ok();
    c.start().refused("hook #0: /bin/sh: it exited with 1");
    c.wait_for_status("stopped");
    assert_eq!(names(&c), ["a"]);
}

pub(crate) fn failing_poststop(c: Container) {
    let hooks = json!({"poststop": [noting(&c, "c", 1), noting(&c, "d", 0)]});
    let c = c.set("/hooks", hooks);
    c.create().ok();
    let said = c.oci(&["delete", "--force", &c.id]).ok();
    assert!(said.err.contains("warning: error running poststop hook #0: /bin/sh: it exited with 1"), "{said:?}");
    assert_eq!(names(&c), ["c", "d"]);
}

fn names(c: &Container) -> Vec<String> {
    notes(c).lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

//! The containers that the matrix of `robust` is run over: each one is made in another way.

use std::cell::OnceCell;
use std::os::unix::fs::chown;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Container, Said, output};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shape {
    Plain,
    /// It is mounted on the host.
    NoMountNamespace,
    /// With a mapping, which only the runtime can write.
    User,
    Time,
    /// At each of the points, and poststop.
    Hooks,
    Terminal,
    /// Its seccomp listener goes to an agent.
    Notify,
    /// The runtime is an ordinary user's.
    Rootless,
    /// In a pid namespace that exists.
    Beside,
    /// As above, and all of it is made ready inside.
    BesideHooks,
}

const SAYS: [&str; 10] = [
    "status",
    "CapInh,CapPrm,CapEff,CapBnd,CapAmb,NoNewPrivs,Seccomp,Uid,Gid,Groups",
    "fds",
    "cat",
    "/proc/sys/kernel/hostname",
    "ls",
    "/sys/firmware",
    "limit",
    "7",
    "umask",
];
const USER: u32 = 1000;
const SOCKET: &str = "peer.sock";

/// A container, and who listens to its runtime.
pub(crate) struct Shaped {
    pub(crate) c: Container,
    shape: Shape,
    peer: OnceCell<UnixListener>,
}

impl Shaped {
    /// One that says what it sees, or (`stays`) says `up` and sleeps.
    pub(crate) fn new(shape: Shape, stays: bool) -> Shaped {
        let mut c = Container::new(&[]);
        let mark = c.path("state").display().to_string();
        let mut verbs: Vec<&str> = if stays { vec!["say", "up"] } else { SAYS.to_vec() };
        // By this its process is found.
        verbs.extend(["say", &mark]);
        verbs.extend(stays.then_some("sleep"));
        c = c.with_args(&verbs);
        let filter = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["getppid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77}]});
        let mut shaped = Shaped { c: c.set("/linux/seccomp", filter), shape, peer: OnceCell::new() };
        shaped.take_shape(&mark);
        shaped.c.write_config();
        shaped
    }

    fn take_shape(&mut self, mark: &str) {
        let c = &mut self.c;
        let namespaces = c.config["linux"]["namespaces"].as_array_mut().unwrap();
        match self.shape {
            Shape::Plain => {}
            Shape::NoMountNamespace => namespaces.retain(|one| one["type"] != "mount"),
            Shape::Time => {
                namespaces.push(json!({"type": "time"}));
                c.config["linux"]["timeOffsets"] = json!({"boottime": {"secs": 1_000_000}});
            }
            Shape::User => self.map(100_000, 65536),
            Shape::Rootless => {
                std::fs::create_dir(c.path("state")).unwrap();
                for path in ["", "state", "rootfs/bin"] {
                    chown(c.path(path), Some(USER), Some(USER)).unwrap();
                }
                self.map(USER, 1);
            }
            Shape::Hooks => c.config["hooks"] = hooks(mark),
            Shape::Terminal => {
                c.config["process"]["terminal"] = json!(true);
                self.listen();
            }
            Shape::Notify => {
                c.config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW",
                    "listenerPath": c.path(SOCKET),
                    "syscalls": [{"names": ["getppid"], "action": "SCMP_ACT_NOTIFY"}]});
                self.listen();
            }
            Shape::Beside | Shape::BesideHooks => {
                for one in namespaces.iter_mut().filter(|one| one["type"] == "pid") {
                    one["path"] = json!("/proc/self/ns/pid");
                }
                c.config["process"]["noNewPrivileges"] = json!(false);
                if self.shape == Shape::BesideHooks {
                    c.config["hooks"] = hooks(mark);
                }
            }
        }
    }

    fn map(&mut self, host: u32, size: u32) {
        let c = &mut self.c;
        let map = json!([{"containerID": 0, "hostID": host, "size": size}]);
        let linux = &mut c.config["linux"];
        linux["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        linux["uidMappings"] = map.clone();
        linux["gidMappings"] = map;
        c.config["root"]["readonly"] = json!(false);
        chown(c.rootfs(""), Some(host), Some(host)).unwrap();
    }

    fn listen(&self) {
        let listener = UnixListener::bind(self.c.path(SOCKET)).unwrap();
        listener.set_nonblocking(true).unwrap();
        self.peer.set(listener).unwrap();
    }

    /// What has been sent is let go, so that there is room for more.
    pub(crate) fn hang_up(&self) {
        while self.peer.get().is_some_and(|listener| listener.accept().is_ok()) {}
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = self.c.command(args);
        if self.shape == Shape::Terminal && args[0] == "create" {
            command.args(["--console-socket", SOCKET]);
        }
        if self.shape == Shape::Rootless {
            command.uid(USER).gid(USER);
        }
        command
    }

    pub(crate) fn oci(&self, args: &[&str]) -> Said {
        Said::from(&output(&mut self.command(args)))
    }
}

fn hooks(mark: &str) -> Value {
    let one = json!([{"path": "/bin/sh", "args": ["sh", "-c", "exit 0", mark]}]);
    let inside = json!([{"path": "/bin/inspect", "args": ["inspect", "say", mark]}]);
    json!({"createRuntime": one, "createContainer": one, "startContainer": inside, "poststart": one, "poststop": one})
}

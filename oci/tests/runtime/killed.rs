//! Called from a cgroup that was killed as a whole at some time (`cgroup.kill`): since Linux 6.14 the kernel kills at birth whom
//! CLONE_INTO_CGROUP brings out of there. Nobody who uses the runtime sees that.

use std::fs;
use std::process::{Command, Stdio};

use crate::shapes::{Shape, Shaped};
use crate::support::{Container, TEST_CGROUPS, spawn};

/// A cgroup that was killed when nobody was in it.
struct Killed {
    folder: String,
}

impl Killed {
    fn new(c: &Container) -> Killed {
        let folder = format!("{TEST_CGROUPS}/killed-{}", c.id);
        fs::create_dir_all(&folder).unwrap();
        fs::write(format!("{folder}/cgroup.kill"), "1").unwrap();
        Killed { folder }
    }

    /// The command, from within.
    fn enter(&self, command: &Command) -> Command {
        let mut bash = Command::new("bash");
        let line = format!("echo 0 > {}/cgroup.procs && exec \"$@\"", self.folder);
        bash.args(["-c", &line, "bash"]).arg(command.get_program()).args(command.get_args());
        bash.current_dir(command.get_current_dir().unwrap()).stdin(Stdio::null());
        bash
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.folder);
    }
}

/// All but that with a terminal, whose engine listens for one try.
const SHAPES: [Shape; 8] = [
    Shape::Plain,
    Shape::NoMountNamespace,
    Shape::User,
    Shape::Time,
    Shape::Hooks,
    Shape::Notify,
    Shape::Beside,
    Shape::BesideHooks,
];

#[test]
fn what_is_called_from_a_killed_cgroup_works() {
    for shape in SHAPES {
        let shaped = Shaped::new(shape, true);
        let c = &shaped.c;
        let killed = Killed::new(c);
        let works = |args: &[&str]| {
            let err = fs::File::create(c.path("err")).unwrap();
            let mut command = killed.enter(&shaped.command(args));
            let status = spawn(command.stdout(Stdio::null()).stderr(err)).wait().unwrap();
            let err = fs::read_to_string(c.path("err")).unwrap();
            assert!(status.success(), "{shape:?}: {args:?}: {status}: {err}");
        };
        works(&["create", &c.id]);
        let inside = fs::read_to_string(c.cgroup("cgroup.procs")).unwrap();
        assert_eq!(inside.trim(), c.pid().to_string(), "{shape:?}");
        works(&["start", &c.id]);
        works(&["exec", &c.id, "/bin/inspect", "exit", "0"]);
        c.oci(&["delete", "--force", &c.id]).ok();
        c.assert_gone();
    }
}

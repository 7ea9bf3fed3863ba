//! What the program says of itself. It is also the list of commands and options there is.

pub(super) const HELP: &str = "\
orlop-oci: an OCI container runtime (runtime-spec 1.3, cgroup v2)

usage: orlop-oci [--root DIR] [--rootless true|false|auto] [--log FILE] [--log-format text|json] [--debug] [--systemd-cgroup]
                 COMMAND …

  create  [--bundle DIR] [--config FILE] [--pid-file FILE] [--console-socket SOCKET] [--pidfd-socket SOCKET] [--preserve-fds N]
          [--no-pivot] [--no-new-keyring] ID
  start   ID
  run     the options of create, [--detach] [--keep] ID
  exec    [--process FILE] [--detach] [--pid-file FILE] [--console-socket SOCKET] [--pidfd-socket SOCKET] [--tty]
          [--console-size ROWSxCOLUMNS] [--cwd DIR] [--env N=V] [--user UID[:GID]] [--additional-gids GID] [--cap CAP]
          [--apparmor PROFILE] [--process-label LABEL] [--no-new-privs] [--ignore-paused] [--cgroup PATH] [--preserve-fds N]
          ID COMMAND …
  kill    [--all] ID [SIGNAL]
  delete  [--force] ID …
  state   ID
  list    [--format table|json] [--quiet]
  ps      [--format table|json] ID [OPTIONS OF ps …]
  update  [--resources FILE|-] [--memory SIZE] [--memory-reservation SIZE] [--memory-swap SIZE] [--cpu-period N] [--cpu-quota N]
          [--cpu-burst N] [--cpu-share N] [--cpu-idle 0|1] [--cpuset-cpus LIST] [--cpuset-mems LIST] [--pids-limit N] [--blkio-weight N]
          [--l3-cache-schema LINES] [--mem-bw-schema LINE] ID
  events  [--stats] [--interval DURATION] ID
  pause   ID
  resume  ID
  features
  spec    [--bundle DIR] [--rootless]
  help    [COMMAND]
";

/// Each command begins a line.
fn command_of(line: &str) -> Option<&str> {
    line.strip_prefix("  ")?.split(' ').next().filter(|name| !name.is_empty())
}

pub(super) fn is_command(name: &str) -> bool {
    HELP.lines().any(|line| command_of(line) == Some(name))
}

pub(super) fn is_long(name: &str) -> bool {
    let ends = |rest: &str| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '-');
    let known = |rest: &str| rest.strip_prefix(name).is_some_and(ends);
    name.len() > 1 && (matches!(name, "help" | "version") || HELP.split("--").skip(1).any(known))
}

/// What holds for all commands, and this one's own words.
pub(super) fn help_of(command: &str) -> String {
    let mut wanted = true;
    let mut line_of = |line: &str| {
        if let Some(name) = command_of(line) {
            // Its options are those of `create`.
            wanted = name == command || (command == "run" && name == "create");
        }
        wanted
    };
    HELP.lines().filter(|line| line_of(line)).flat_map(|line| [line, "\n"]).collect()
}

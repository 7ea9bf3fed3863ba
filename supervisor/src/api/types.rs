//! The shapes of `/v1`. Fields are only ever added; a client ignores what it does not know.

use serde::{Deserialize, Serialize};

/// systemd's ActiveState words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActiveState {
    Inactive,
    Activating,
    Active,
    Deactivating,
    Failed,
}

/// What the health check says; `none` without one, and while nothing runs.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    #[default]
    None,
    Starting,
    Healthy,
    Unhealthy,
}

/// The `sub_state` of a unit whose file has mistakes, in systemd's word.
pub const BAD_SETTING: &str = "bad-setting";

/// One unit, as `ps --json` and `GET /v1/units` list it and `status --json` and `GET /v1/units/{name}` show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UnitStatus {
    /// Without suffix: `web` for `web.container`.
    pub name: String,
    pub description: String,
    pub state: ActiveState,
    /// `dead`, `waiting` (for dependencies), `preparing` (image), `running`, `exited`, `stopping`, `killing`, `auto-restart`, `failed`,
    /// [`BAD_SETTING`].
    pub sub_state: String,
    pub health: Health,
    /// The last health checks of the present container, the newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub health_log: Vec<HealthResult>,
    /// The container's first process as the machine counts it; absent while none runs.
    pub pid: Option<u32>,
    pub image: String,
    /// Starts after the first one since the unit was last started by request or boot.
    pub restarts: u32,
    /// When `state` was entered, RFC 3339 in UTC.
    pub since: String,
    pub enabled: bool,
    /// The unit file.
    pub path: String,
    /// Why it is in this state, in one sentence: `exited with status 3`, `killed by SIGKILL`, `image … not found`.
    pub reason: Option<String>,
    /// What the container said of itself, sd_notify(3)'s `STATUS=` and `ERRNO=`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_errno: Option<i32>,
    /// Last exit: `exit_code` or `signal`, never both.
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
    /// The last containers of this boot, the newest first, each with the reason of its end.
    #[serde(default)]
    pub past: Vec<PastStart>,
    /// Of a timer or socket: what it starts; of a timer when next and when last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub triggers: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_elapse: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_trigger: Option<String>,
    /// The networks its container is on, while it runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<NetworkStatus>,
    /// What of the machine's ports is its container's, while it runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortStatus>,
    /// `memory.current` of its cgroup, in bytes; absent while none runs.
    pub memory_bytes: Option<u64>,
    /// Of the same cgroup, when one unit is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_events: Option<MemoryEvents>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pressure: Option<Pressure>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks: Option<Tasks>,
}

/// A container's card on one network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkStatus {
    pub name: String,
    /// As the container calls it.
    pub interface: String,
    pub mac: String,
    /// Each with the length of its prefix, `10.89.0.2/24`.
    pub addresses: Vec<String>,
}

/// `range` ports of the machine from `host_port` on are the container's from `container_port` on; the names are Podman's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortStatus {
    /// `0.0.0.0` and `::` for all.
    pub host_ip: String,
    pub host_port: u16,
    pub container_port: u16,
    pub range: u16,
    /// `tcp`, `udp`, `sctp`
    pub protocol: String,
}

/// Processes and threads: `pids.current`, `pids.max` (none: no limit), and how often one more was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tasks {
    pub current: u64,
    pub max: Option<u64>,
    pub refused: u64,
}

/// How often it came to its limits: `memory.events`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryEvents {
    pub high: u64,
    pub max: u64,
    pub oom: u64,
    pub oom_kill: u64,
}

/// The share of the last ten seconds, in percent, in which some of its processes waited: `avg10` of the pressure files.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Pressure {
    pub cpu: f64,
    pub memory: f64,
    pub io: f64,
}

impl UnitStatus {
    /// Of a unit without a container.
    pub(crate) fn nothing(name: String) -> Self {
        Self {
            description: name.clone(),
            name,
            state: ActiveState::Inactive,
            sub_state: String::new(),
            health: Health::None,
            health_log: Vec::new(),
            pid: None,
            image: String::new(),
            restarts: 0,
            since: String::new(),
            enabled: false,
            path: String::new(),
            reason: None,
            status_text: None,
            status_errno: None,
            exit_code: None,
            signal: None,
            past: Vec::new(),
            triggers: None,
            next_elapse: None,
            last_trigger: None,
            memory_bytes: None,
            memory_events: None,
            pressure: None,
            networks: Vec::new(),
            ports: Vec::new(),
            tasks: None,
        }
    }
}

/// One run of a health check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthResult {
    /// RFC 3339 in UTC.
    pub start: String,
    pub end: String,
    /// -1 when it did not end in time.
    pub exit_code: i32,
    /// The begin of what it wrote, `HealthMaxLogSize=` of it.
    pub output: String,
}

/// A container that was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastStart {
    /// RFC 3339 in UTC.
    pub began: String,
    pub ended: String,
    /// systemd's `$SERVICE_RESULT` words (`success`, `exit-code`, `signal`, `core-dump`, `oom-kill`, `timeout`, `watchdog`, `protocol`),
    /// `unhealthy`, and `image` and `runtime` where no container came to be.
    pub result: String,
    /// The same as one sentence.
    pub reason: String,
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
}

/// `GET /v1/system`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SystemStatus {
    pub version: String,
    /// Number of the contract between applications and the system.
    pub contract: u32,
    pub hostname: String,
    pub machine_id: String,
    pub kernel: String,
    /// The bits of `/proc/sys/kernel/tainted`; 0: nothing has tainted it.
    #[serde(default)]
    pub kernel_taint: u64,
    /// `running` (all enabled units active or finished), `starting`, `degraded` (one failed, is unhealthy or keeps restarting, or state not persistent), `stopping`.
    pub state: String,
    /// `persistent`, `volatile`, `degraded`.
    pub state_store: String,
    pub uptime_ms: u64,
    /// How many supervisors ran in this boot, the present one included.
    pub supervisor_generation: u32,
    pub supervisor_pid: u32,
    pub supervisor_rss_kib: u64,
    pub init_rss_kib: u64,
    /// Of all containers together: `memory.current` and `memory.events` of the cgroup above theirs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_events: Option<MemoryEvents>,
    /// Of the machine as a whole: `/proc/pressure`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pressure: Option<Pressure>,
    /// `eth0 10.0.2.15/24`, one per address.
    pub addresses: Vec<String>,
    /// Mistakes in unit files, as `file:line:column: text`.
    pub problems: Vec<String>,
}

/// One row of `GET /v1/system/timing`, in the order of time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootStage {
    /// PID 1's stages as it names them, then `supervisor`, `unit:<name>:started`, `unit:<name>:active`, `settled`.
    pub name: String,
    /// CLOCK_MONOTONIC.
    pub at_ns: u64,
    /// Of all CPUs together since the kernel's start, waits for disks included, exact to 10 ms; 0 of `init`, which is before
    /// `/proc`.
    pub idle_ns: u64,
}

/// One line of `GET /v1/logs` and `GET /v1/units/{name}/logs`, a JSON object a line (`application/x-ndjson`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// RFC 3339 with microseconds, UTC.
    pub time: String,
    pub unit: String,
    /// `stdout`, `stderr`, or `orlop` for the supervisor's own remarks about the unit; of `@kernel`, `@init` and `@supervisor` the
    /// level in journalctl's words: `emerg`, `alert`, `crit`, `err`, `warning`, `notice`, `info`, `debug`.
    pub stream: String,
    /// Without its newline; bytes that are not UTF-8 as U+FFFD.
    pub message: String,
    /// The line goes on in the next record: it was longer than a record, or the writer ended inside it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
    /// All bytes of a message that is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<Vec<u8>>,
}

/// Every error of the interface: RFC 9457, `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `about:blank`, or `/problems/<word>` for those a program may want to tell apart.
    #[serde(rename = "type")]
    pub kind: String,
    pub title: String,
    pub status: u16,
    /// The sentence the command line shows.
    pub detail: String,
}

/// A secret without its value, which nobody gets back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Secret {
    pub(crate) name: String,
    /// When it was given its value, RFC 3339.
    pub(crate) changed: String,
}

/// The body of `POST /v1/units/{name}/exec`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExecRequest {
    /// The program, looked for in the container's `PATH`, and its arguments.
    pub(crate) command: Vec<String>,
    /// It has a terminal, whose one stream comes as standard output.
    #[serde(default)]
    pub(crate) tty: bool,
    /// What the client sends is its standard input; else that is empty.
    #[serde(default)]
    pub(crate) stdin: bool,
    /// `NAME=VALUE`, beside the container's own.
    #[serde(default)]
    pub(crate) environment: Vec<String>,
    /// `user[:group]`, names or numbers of the container; else its own.
    #[serde(default)]
    pub(crate) user: Option<String>,
    /// Absolute; else the container's own.
    #[serde(default)]
    pub(crate) working_directory: Option<String>,
    /// Of its terminal.
    #[serde(default)]
    pub(crate) size: Option<TerminalSize>,
    /// Nobody waits for its end, and what it prints goes nowhere. The connection is not upgraded.
    #[serde(default)]
    pub(crate) detach: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TerminalSize {
    pub(crate) rows: u16,
    pub(crate) columns: u16,
}

/// How `exec` ended: as a shell tells it, 128 more than a signal's number. Where the program did not come to run there is an `error`,
/// and the status is podman's: 127 without such a program, 126 for one that is none, 125 for all else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExecEnd {
    pub(crate) exit_code: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

/// `GET /v1/stats`: what containers use at this moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// CLOCK_MONOTONIC, to count rates from two of these.
    pub at_us: u64,
    /// Those that run, by name.
    pub units: Vec<UnitStats>,
}

/// One container's. What its cgroup does not count is absent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UnitStats {
    pub name: String,
    /// Since its start, of all CPUs.
    pub cpu_us: Option<u64>,
    pub memory_bytes: Option<u64>,
    /// What it may have: its own limit, or the machine's memory.
    pub memory_limit_bytes: Option<u64>,
    pub tasks: Option<Tasks>,
    /// From and to all disks, since its start.
    pub read_bytes: Option<u64>,
    pub written_bytes: Option<u64>,
    /// On all its cards, since its start; absent where the machine's are its own.
    pub received_bytes: Option<u64>,
    pub sent_bytes: Option<u64>,
    pub pressure: Option<Pressure>,
}

/// One line of `GET /v1/events`, a JSON object a line (`application/x-ndjson`); an empty line says that the machine is still there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitEvent {
    /// RFC 3339 with microseconds, UTC.
    pub time: String,
    pub unit: String,
    /// What it is now, and was. From `activating` to `activating`: the first start of a row has failed and there will be another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<ActiveState>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<ActiveState>,
    /// Why its last container ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Instead of a state: what its health check has come to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
}

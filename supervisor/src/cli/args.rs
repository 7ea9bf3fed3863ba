//! The words of the command line, their help and its examples.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(
    name = "orlop",
    version,
    about = "Runs containers on one machine, described by unit files",
    after_help = "Examples:\n  orlop ps\n  orlop logs -f web\n  orlop -H unix:///run/orlop/control.sock status\n\n\
                  `orlop VERB --help` has an example for each verb. On the machine, PID 1 starts `orlop supervise`.",
    disable_help_subcommand = true
)]
pub(super) struct Cli {
    /// The machine's control socket
    #[arg(short = 'H', long = "host", value_name = "unix://PATH", env = "ORLOP_HOST", global = true)]
    #[arg(default_value = "unix:///run/orlop/control.sock")]
    pub(super) host: String,

    /// Show JSON instead of text
    #[arg(long, global = true)]
    pub(super) json: bool,

    #[command(subcommand)]
    pub(super) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// List the units
    #[command(after_help = "Examples:\n  orlop ps\n  orlop ps 'web*' --json\n  orlop ps --failed -q")]
    Ps(PsArgs),

    /// Show units with their last log lines, or the machine
    ///
    /// Exit status 0: all are active; 3: one is not; 4: there is no such unit.
    #[command(after_help = "Examples:\n  orlop status\n  orlop status web db\n  orlop status 'web*' --json")]
    Status(StatusArgs),

    /// Say whether units are active
    ///
    /// Exit status 0: at least one is active; 3: none is; 4: there is no such unit.
    #[command(after_help = "Example:\n  orlop is-active -q web && echo up")]
    IsActive(IsActiveArgs),

    /// Show what containers wrote, and what the machine itself said
    #[command(
        after_help = "Examples:\n  orlop logs web\n  orlop logs -f -n 20 web db\n  orlop logs -t --since 10min --grep error\n  \
                      orlop logs -k --boot=-1"
    )]
    Logs(LogsArgs),

    /// Start units and what they require
    #[command(after_help = "Examples:\n  orlop start web\n  orlop start --no-block 'job-*'")]
    Start(JobArgs),

    /// Stop units and what requires them
    #[command(after_help = "Examples:\n  orlop stop web db\n  orlop stop '*'")]
    Stop(JobArgs),

    /// Stop units and start them again
    #[command(after_help = "Example:\n  orlop restart web")]
    Restart(JobArgs),

    /// Have units read their settings anew, as ReloadSignal= or ReloadCmd= of their files says
    #[command(after_help = "Example:\n  orlop reload web")]
    Reload(ReloadArgs),

    /// Send a signal to a unit's main process
    #[command(after_help = "Examples:\n  orlop kill -s HUP web\n  orlop kill --signal RTMIN+3 web")]
    Kill(KillArgs),

    /// Tell what becomes of units, as it happens
    #[command(after_help = "Examples:\n  orlop events\n  orlop events web db --json")]
    Events(EventsArgs),

    /// Wait until units have ended, and print what their programs ended with
    ///
    /// One that is about to be restarted has not ended.
    #[command(after_help = "Examples:\n  orlop wait backup\n  orlop wait --condition healthy web && ./switch")]
    Wait(WaitArgs),

    /// Show what containers use: CPU, memory, network, disks, processes, and how long they wait for these
    #[command(
        after_help = "Examples:\n  orlop stats\n  orlop stats --no-stream 'web*'\n  orlop stats --no-stream --json"
    )]
    Stats(StatsArgs),

    /// The same, who uses the CPUs most first
    #[command(after_help = "Example:\n  orlop top")]
    Top(StatsArgs),

    /// Run another program in a unit's container
    ///
    /// Exit status: the program's, 128 more than the number of a signal that ended it; 127: there is no such program; 126: it cannot be
    /// executed; 125: anything else kept it from running. Whoever goes away hangs up: the program gets SIGHUP, and after 10 s SIGKILL.
    #[command(
        after_help = "Examples:\n  orlop exec web nginx -t\n  orlop exec -it web sh\n  pg_dump … | orlop exec -i db psql shop\n  \
                      orlop exec -d -e LEVEL=3 -u www -w /srv web ./reindex"
    )]
    Exec(ExecArgs),

    /// Keep passwords and keys for containers that ask for them with Secret=
    #[command(
        after_help = "Examples:\n  orlop secret create db password.txt\n  pass show db | orlop secret set db -\n  orlop secret ls"
    )]
    Secret(SecretArgs),

    /// Check unit files, without a machine
    ///
    /// A file is checked together with the others of its folder. Exit status 0: no error was found, warnings at most; 1: an error
    /// was found; 2: a file or folder cannot be read, or the command line is wrong. `orlop help units` says what may stand in a file, and what --json prints.
    #[command(
        after_help = "Examples:\n  orlop lint\n  orlop lint web.container\n  orlop lint /usr/lib/containers.d /etc/containers.d --json"
    )]
    Lint(LintArgs),

    /// Show what there is to know of a topic
    #[command(after_help = "Example:\n  orlop help units")]
    Help(HelpArgs),

    /// Show facts of the machine
    #[command(after_help = "Example:\n  orlop info --json")]
    Info,

    /// What concerns the machine's own programs
    #[command(after_help = "Example:\n  orlop system reexec")]
    System(SystemArgs),

    /// Stop all units and turn the machine off
    #[command(after_help = "Example:\n  orlop poweroff")]
    Poweroff,

    /// Stop all units and start the machine again
    #[command(after_help = "Example:\n  orlop reboot")]
    Reboot,

    /// Stop all units and halt the machine, its power on
    #[command(after_help = "Example:\n  orlop halt")]
    Halt,

    /// Stop all units and go on with the kernel that a program has loaded for that
    #[command(after_help = "Example:\n  orlop kexec")]
    Kexec,
}

#[derive(Debug, Args)]
pub(super) struct PsArgs {
    /// Units, or patterns for them; all without one
    #[arg(value_name = "UNIT")]
    pub(super) units: Vec<String>,
    /// Only names, one on a line
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// Only units that failed
    #[arg(long)]
    pub(super) failed: bool,
    /// Units that do not run too: they are always listed (podman's habit is no mistake)
    #[arg(short, long, hide = true)]
    pub(super) all: bool,
}

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// Units, or patterns for them; the machine without one
    #[arg(value_name = "UNIT")]
    pub(super) units: Vec<String>,
    /// How many log lines to show
    #[arg(short = 'n', long, default_value_t = 10, value_name = "COUNT")]
    pub(super) lines: usize,
}

#[derive(Debug, Args)]
pub(super) struct IsActiveArgs {
    #[arg(value_name = "UNIT", required = true)]
    pub(super) units: Vec<String>,
    /// Only the exit status
    #[arg(short, long)]
    pub(super) quiet: bool,
}

#[derive(Debug, Args)]
pub(super) struct LogsArgs {
    /// Units, or patterns for them, and the machine's own @kernel, @init and @supervisor; everything without one
    #[arg(value_name = "UNIT")]
    pub(super) units: Vec<String>,
    /// Go on with new lines as they come
    #[arg(short, long)]
    pub(super) follow: bool,
    /// Only the last lines
    #[arg(short = 'n', long = "lines", visible_alias = "tail", value_name = "COUNT")]
    pub(super) lines: Option<usize>,
    /// Only lines since a time (2026-01-31 12:00, yesterday) or for a span until now (10min, 2h); times are UTC
    #[arg(short = 'S', long, value_name = "TIME", allow_hyphen_values = true)]
    pub(super) since: Option<String>,
    /// Only lines until a time
    #[arg(short = 'U', long, value_name = "TIME", allow_hyphen_values = true)]
    pub(super) until: Option<String>,
    /// Only lines of one boot: 0 this one, -1 the one before, 1 the oldest that is kept, or an id
    #[arg(short, long, value_name = "BOOT", num_args = 0..=1, require_equals = true, default_missing_value = "0")]
    #[arg(allow_hyphen_values = true)]
    pub(super) boot: Option<String>,
    /// The kernel's messages of this boot, as --boot @kernel
    #[arg(short = 'k', long)]
    pub(super) dmesg: bool,
    /// Only lines that a regular expression matches; without capitals it means both
    #[arg(short, long, value_name = "PATTERN", allow_hyphen_values = true)]
    pub(super) grep: Option<String>,
    /// Each line with its time
    #[arg(short, long)]
    pub(super) timestamps: bool,
    /// Control characters as they are, on a terminal too
    #[arg(long)]
    pub(super) raw: bool,
}

#[derive(Debug, Args)]
pub(super) struct JobArgs {
    /// Units, or patterns for them
    #[arg(value_name = "UNIT", required = true)]
    pub(super) units: Vec<String>,
    /// Ask for it, and do not wait until it is done
    #[arg(long)]
    pub(super) no_block: bool,
}

#[derive(Debug, Args)]
pub(super) struct SystemArgs {
    #[command(subcommand)]
    pub(super) verb: SystemVerb,
}

#[derive(Debug, Subcommand)]
pub(super) enum SystemVerb {
    /// Replace the supervisor by a new one, of the program that lies there now; containers run on
    #[command(after_help = "Example:\n  orlop system reexec")]
    Reexec,
}

#[derive(Debug, Args)]
pub(super) struct SecretArgs {
    #[command(subcommand)]
    pub(super) verb: SecretVerb,
}

#[derive(Debug, Subcommand)]
pub(super) enum SecretVerb {
    /// Keep a new one
    Create(SecretValue),
    /// Give one another value, which containers have from their next start on
    Set(SecretValue),
    /// List their names, and when each was given its value
    Ls,
    /// The same of some, as JSON; a value is never shown
    Inspect {
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
    },
    /// Forget them; what runs keeps what it has
    Rm {
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub(super) struct SecretValue {
    #[arg(value_name = "NAME")]
    pub(super) name: String,
    /// Holds the value; - is standard input
    #[arg(value_name = "FILE", default_value = "-")]
    pub(super) file: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct ReloadArgs {
    /// Units, or patterns for them
    #[arg(value_name = "UNIT", required = true)]
    pub(super) units: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct KillArgs {
    /// Units, or patterns for them
    #[arg(value_name = "UNIT", required = true)]
    pub(super) units: Vec<String>,
    /// By name or number
    #[arg(short, long, default_value = "TERM")]
    pub(super) signal: String,
}

#[derive(Debug, Args)]
pub(super) struct EventsArgs {
    /// Units, or patterns for those there are; all without one, those to come too
    #[arg(value_name = "UNIT")]
    pub(super) units: Vec<String>,
    /// Go on with what comes: it always does (journalctl's habit is no mistake)
    #[arg(short, long, hide = true)]
    pub(super) follow: bool,
}

#[derive(Debug, Args)]
pub(super) struct WaitArgs {
    /// Units, or patterns for them
    #[arg(value_name = "UNIT", required = true)]
    pub(super) units: Vec<String>,
    /// What to wait for
    #[arg(long, value_name = "CONDITION", default_value = "stopped")]
    pub(super) condition: Condition,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Condition {
    /// Inactive or failed
    #[value(alias = "exited")]
    Stopped,
    /// Active
    Running,
    /// Its health check says so
    Healthy,
    Unhealthy,
}

#[derive(Debug, Args)]
pub(super) struct StatsArgs {
    /// Units, or patterns for them; all that run without one
    #[arg(value_name = "UNIT")]
    pub(super) units: Vec<String>,
    /// Once, and not again and again
    #[arg(long)]
    pub(super) no_stream: bool,
    /// How long from one table to the next, in seconds
    #[arg(short, long, value_name = "SECONDS", default_value_t = 2.0)]
    pub(super) interval: f64,
}

#[derive(Debug, Args)]
pub(super) struct ExecArgs {
    /// Send it what comes on standard input
    #[arg(short, long)]
    pub(super) interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    pub(super) tty: bool,
    /// Have it run by itself, and do not wait; what it prints goes nowhere
    #[arg(short, long)]
    pub(super) detach: bool,
    /// A variable beside those of the container; a name alone: as it is here
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(super) env: Vec<String>,
    /// Who it runs as, by the container's names or numbers
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub(super) user: Option<String>,
    /// Where it runs
    #[arg(short, long, value_name = "FOLDER")]
    pub(super) workdir: Option<String>,
    /// What to type in its terminal to leave it running; none where this is empty
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q")]
    pub(super) detach_keys: String,
    #[arg(value_name = "UNIT")]
    pub(super) unit: String,
    /// The program, by its name or path in the container, and what it is told
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(super) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct HelpArgs {
    pub(super) topic: Topic,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(super) enum Topic {
    /// Every key of unit files
    Units,
}

#[derive(Debug, Args)]
pub(super) struct LintArgs {
    /// Unit files, drop-ins, or folders of them, of which a later one replaces an earlier one's units
    #[arg(value_name = "FILE|FOLDER", default_value = ".")]
    pub(super) paths: Vec<PathBuf>,
}

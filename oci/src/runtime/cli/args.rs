//! From words to an operation.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::prelude::{Long, Short, Value};
use lexopt::{Parser, ValueExt as _};

use super::help::{HELP, help_of, is_command, is_long};
use super::{Log, limits};
use crate::runtime::config::{IntelRdt, Resources};
use crate::runtime::error::{Error, Result, Step as _};
use crate::runtime::id::ContainerId;
use crate::runtime::ops::{CreateOptions, ExecOptions};
use crate::runtime::signal::signal;

pub(super) struct Invocation {
    /// None: where it lies by default.
    pub(super) root: Option<PathBuf>,
    /// None: found out.
    pub(super) rootless: Option<bool>,
    pub(super) command: Command,
}

pub(super) enum Command {
    Create { id: ContainerId, options: CreateOptions },
    Run { id: ContainerId, options: CreateOptions, detach: bool, keep: bool },
    Start { id: ContainerId },
    Exec { id: ContainerId, options: Box<ExecOptions> },
    Kill { id: ContainerId, signal: i32, all: bool },
    Delete { ids: Vec<ContainerId>, force: bool },
    State { id: ContainerId },
    List { json: bool, quiet: bool },
    Update { id: ContainerId, resources: Box<Resources>, rdt: IntelRdt },
    Events { id: ContainerId, interval: Option<Duration> },
    Ps { id: ContainerId, json: bool, options: Vec<String> },
    Freeze { id: ContainerId, frozen: bool },
    Features,
    Spec { bundle: PathBuf, rootless: bool },
}

pub(super) struct Words {
    parser: Parser,
    /// `--` was there.
    only_words: bool,
    /// What was said so far is not to be done, but explained.
    help: bool,
    root: Option<PathBuf>,
    rootless: Option<bool>,
    systemd: bool,
    /// Empty until it is read.
    command: String,
    /// As far as it was read when an error came: an engine shows what it finds there.
    pub(super) log: Log,
}

/// What an option or positional of a command was.
enum Word {
    Flag(String),
    Positional(String),
    End,
}

fn usage(error: impl std::fmt::Display) -> Error {
    Error::Usage(format!("{error} (see orlop-oci --help)"))
}

impl Words {
    pub(super) fn new(words: impl IntoIterator<Item = OsString>) -> Words {
        Words {
            parser: Parser::from_iter(words),
            only_words: false,
            help: false,
            root: None,
            rootless: None,
            systemd: false,
            command: String::new(),
            log: Log::default(),
        }
    }

    /// What a failure ends with, as runc has it: of exec so far from a program's own that it is seen to be the runtime's.
    pub(super) fn failed(&self) -> u8 {
        if self.command == "exec" { 255 } else { 1 }
    }

    /// Nothing: help or version was asked for and printed.
    pub(super) fn read(&mut self) -> Result<Option<Invocation>> {
        let first = self.word();
        if self.help {
            return say(HELP);
        }
        let name = match first? {
            Word::Positional(name) => name,
            Word::End => return Err(usage("a command is missing")),
            Word::Flag(flag) if flag == "version" || flag == "v" => {
                return say(concat!("orlop-oci version ", env!("CARGO_PKG_VERSION"), "\nspec: 1.3.0\n"));
            }
            Word::Flag(flag) => return Err(unknown(&flag)),
        };
        self.command.clone_from(&name);
        let command = match name.as_str() {
            "create" | "run" => self.create(name == "run"),
            "exec" => self.exec(),
            "kill" => self.kill(),
            "list" => self.list(),
            "update" => self.update(),
            "events" => self.events(),
            "help" => match self.word()? {
                Word::Positional(name) if is_command(&name) => return say(&help_of(&name)),
                Word::Positional(name) => return Err(no_command(&name)),
                _ => return say(HELP),
            },
            _ => self.simple(&name),
        };
        if self.help {
            return say(&help_of(&name));
        }
        Ok(Some(Invocation { root: self.root.take(), rootless: self.rootless, command: command? }))
    }

    /// The next option that is not one of the global ones, which may stand anywhere.
    fn word(&mut self) -> Result<Word> {
        loop {
            self.one_dash();
            let flag = match self.parser.next().map_err(usage)? {
                None => return Ok(Word::End),
                Some(Value(value)) => return value.string().map(Word::Positional).map_err(usage),
                Some(Long(name)) => name.to_owned(),
                Some(Short(letter)) => letter.to_string(),
            };
            match flag.as_str() {
                "help" | "h" => {
                    self.help = true;
                    return Err(usage("help is asked for"));
                }
                "root" => self.root = absolute(self.value()?)?,
                "log" => self.log.file = absolute(self.value()?)?,
                "log-format" => {
                    self.log.json = match self.value()?.as_str() {
                        "json" => true,
                        "text" => false,
                        other => return Err(usage(format!("--log-format {other:?} is neither text nor json"))),
                    }
                }
                "debug" => self.log.debug = self.boolean()?,
                "systemd-cgroup" => self.systemd = self.boolean()?,
                // The same in crun's words.
                "cgroup-manager" => {
                    self.systemd = match self.value()?.as_str() {
                        "systemd" => true,
                        "cgroupfs" => false,
                        other => {
                            return Err(usage(format!("--cgroup-manager {other:?} is neither cgroupfs nor systemd")));
                        }
                    }
                }
                // An option of its own there.
                "rootless" if self.command != "spec" => {
                    self.rootless = match self.value()?.as_str() {
                        "true" => Some(true),
                        "false" => Some(false),
                        "auto" => None,
                        other => return Err(usage(format!("--rootless {other:?} is neither true, false nor auto"))),
                    }
                }
                _ => return Ok(Word::Flag(flag)),
            }
        }
    }

    /// To Go's flag package, and so to who writes for runc, one dash is as good as two: `-root`.
    fn one_dash(&mut self) {
        let Some(mut rest) = self.parser.try_raw_args() else { return };
        let Some(word) = rest.peek().and_then(|word| word.to_str()).map(str::to_owned) else { return };
        self.only_words |= word == "--";
        let name = word.strip_prefix('-').and_then(|rest| rest.split('=').next()).unwrap_or_default();
        // Who writes two is not searched for: that is every option of every engine.
        if !self.only_words && !name.starts_with('-') && is_long(name) {
            let _ = rest.next();
            let rest: Vec<OsString> = rest.collect();
            self.parser = Parser::from_args([OsString::from(format!("-{word}"))].into_iter().chain(rest));
        }
    }

    /// What is left is another program's.
    fn rest(&mut self) -> Result<Vec<String>> {
        self.parser.raw_args().map_err(usage)?.map(|one| one.string().map_err(usage)).collect()
    }

    fn value(&mut self) -> Result<String> {
        self.parser.value().map_err(usage)?.string().map_err(usage)
    }

    fn number(&mut self, flag: &str) -> Result<u32> {
        let value = self.value()?;
        decimal(&value).ok_or_else(|| usage(format!("--{flag} {value:?} is not a number")))
    }

    /// A flag alone, or `--flag=true` in the words of Go's ParseBool.
    fn boolean(&mut self) -> Result<bool> {
        let Some(value) = self.parser.optional_value() else { return Ok(true) };
        match value.to_str() {
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
            _ => Err(usage(format!("{value:?} is neither true nor false"))),
        }
    }

    fn format(&mut self) -> Result<bool> {
        match self.value()?.as_str() {
            "json" => Ok(true),
            "table" => Ok(false),
            other => Err(usage(format!("--format {other:?} is neither table nor json"))),
        }
    }

    fn create(&mut self, run: bool) -> Result<Command> {
        let mut options =
            CreateOptions { bundle: ".".into(), config: "config.json".into(), ..CreateOptions::default() };
        let (mut id, mut detach, mut keep) = (None, false, false);
        loop {
            match self.word()? {
                Word::End => break,
                Word::Positional(word) => take_id(&mut id, &word)?,
                Word::Flag(flag) => match flag.as_str() {
                    "bundle" | "b" => options.bundle = self.value()?.into(),
                    "pid-file" => options.pid_file = absolute(self.value()?)?,
                    "config" | "f" => options.config = self.value()?.into(),
                    "console-socket" => options.console_socket = absolute(self.value()?)?,
                    "pidfd-socket" => options.pidfd_socket = absolute(self.value()?)?,
                    "preserve-fds" => options.preserve_fds = self.number("preserve-fds")?,
                    "no-pivot" => options.no_pivot = self.boolean()?,
                    "no-new-keyring" => options.no_new_keyring = self.boolean()?,
                    "detach" | "d" if run => detach = self.boolean()?,
                    "keep" if run => keep = self.boolean()?,
                    // There is never a subreaper: it is as asked.
                    "no-subreaper" if run => drop(self.boolean()?),
                    _ => return Err(unknown(&flag)),
                },
            }
        }
        let id = need_id(id)?;
        options.foreground = run && !detach;
        options.systemd = self.systemd;
        Ok(if run { Command::Run { id, options, detach, keep } } else { Command::Create { id, options } })
    }

    fn exec(&mut self) -> Result<Command> {
        let mut options = Box::new(ExecOptions::default());
        let id = loop {
            match self.word()? {
                Word::End => return Err(usage("the container's id is missing")),
                Word::Positional(id) => break ContainerId::parse(&id)?,
                Word::Flag(flag) => self.exec_flag(&flag, &mut options)?,
            }
        };
        // Behind the id everything is the command's, unless the process comes from a file.
        while options.process_file.is_some() {
            match self.word()? {
                Word::Flag(flag) => self.exec_flag(&flag, &mut options)?,
                Word::Positional(_) => return Err(usage("a command was given beside --process")),
                Word::End => return Ok(Command::Exec { id, options }),
            }
        }
        options.args = self.rest()?;
        // `exec ID -- COMMAND`: the dashes are the shell's habit, not the program's name.
        if options.args.first().is_some_and(|first| first == "--") {
            options.args.remove(0);
        }
        if options.args.is_empty() {
            return Err(usage("the command is missing"));
        }
        Ok(Command::Exec { id, options })
    }

    fn exec_flag(&mut self, flag: &str, options: &mut ExecOptions) -> Result<()> {
        match flag {
            "process" | "p" => options.process_file = Some(self.value()?.into()),
            "detach" | "d" => options.detach = self.boolean()?,
            "pid-file" => options.pid_file = absolute(self.value()?)?,
            "console-socket" => options.console_socket = absolute(self.value()?)?,
            "pidfd-socket" => options.pidfd_socket = absolute(self.value()?)?,
            "tty" | "t" => options.terminal = self.boolean()?,
            "console-size" => options.console_size = Some(size(&self.value()?)?),
            "cwd" => options.cwd = Some(self.value()?),
            "env" | "e" => {
                let value = self.value()?;
                if !value.contains('=') {
                    return Err(usage(format!("--env {value:?} is not of the form NAME=VALUE")));
                }
                options.env.push(value);
            }
            "user" | "u" => options.user = Some(user(&self.value()?)?),
            "additional-gids" | "g" => options.groups.push(self.number("additional-gids")?),
            "cap" | "c" => options.capabilities.push(self.value()?),
            "no-new-privs" => options.no_new_privileges = self.boolean()?,
            "ignore-paused" => options.ignore_paused = self.boolean()?,
            "cgroup" => options.cgroup = Some(self.value()?),
            "preserve-fds" => options.preserve_fds = self.number("preserve-fds")?,
            "apparmor" => options.apparmor = Some(self.value()?),
            "process-label" => options.process_label = Some(self.value()?),
            _ => return Err(unknown(flag)),
        }
        Ok(())
    }

    fn kill(&mut self) -> Result<Command> {
        let (mut id, mut signal, mut all) = (None, None, false);
        loop {
            match self.word()? {
                Word::End => break,
                Word::Positional(word) if id.is_none() => id = Some(ContainerId::parse(&word)?),
                Word::Positional(word) if signal.is_none() => signal = Some(signal_of(&word)?),
                Word::Positional(word) => return Err(usage(format!("one word too many: {word:?}"))),
                Word::Flag(flag) if flag == "all" || flag == "a" => all = self.boolean()?,
                Word::Flag(flag) if flag == "signal" || flag == "s" => signal = Some(signal_of(&self.value()?)?),
                Word::Flag(flag) => return Err(unknown(&flag)),
            }
        }
        Ok(Command::Kill { id: need_id(id)?, signal: signal.unwrap_or(libc::SIGTERM), all })
    }

    fn list(&mut self) -> Result<Command> {
        let (mut json, mut quiet) = (false, false);
        loop {
            match self.word()? {
                Word::End => return Ok(Command::List { json, quiet }),
                Word::Flag(flag) if flag == "format" || flag == "f" => json = self.format()?,
                Word::Flag(flag) if flag == "quiet" || flag == "q" => quiet = self.boolean()?,
                Word::Flag(flag) => return Err(unknown(&flag)),
                Word::Positional(word) => return Err(usage(format!("one word too many: {word:?}"))),
            }
        }
    }

    fn update(&mut self) -> Result<Command> {
        let (mut id, mut resources, mut rdt) = (None, Box::<Resources>::default(), IntelRdt::default());
        let mut remarks = Vec::<String>::new();
        loop {
            match self.word()? {
                Word::End => {
                    // Not before: where they go may stand behind.
                    remarks.iter().chain(&resources.remark()).for_each(|remark| self.log.warn(remark));
                    return Ok(Command::Update { id: need_id(id)?, resources, rdt });
                }
                Word::Positional(word) => take_id(&mut id, &word)?,
                Word::Flag(flag) if flag == "resources" || flag == "r" => {
                    (*resources, remarks) = limits::read(&self.value()?)?;
                }
                Word::Flag(flag) if flag == "l3-cache-schema" => rdt.l3 = Some(self.value()?),
                Word::Flag(flag) if flag == "mem-bw-schema" => rdt.bandwidth = Some(self.value()?),
                Word::Flag(flag) => {
                    let value = self.value()?;
                    if !limits::set(&mut resources, &flag, &value)? {
                        return Err(unknown(&flag));
                    }
                }
            }
        }
    }

    fn events(&mut self) -> Result<Command> {
        let (mut id, mut once, mut interval) = (None, false, Duration::from_secs(5));
        loop {
            match self.word()? {
                Word::End => break,
                Word::Positional(word) => take_id(&mut id, &word)?,
                Word::Flag(flag) if flag == "stats" => once = self.boolean()?,
                Word::Flag(flag) if flag == "interval" => interval = limits::interval(&self.value()?)?,
                Word::Flag(flag) => return Err(unknown(&flag)),
            }
        }
        Ok(Command::Events { id: need_id(id)?, interval: (!once).then_some(interval) })
    }

    /// The commands with an id and at most one option.
    fn simple(&mut self, name: &str) -> Result<Command> {
        if matches!(name, "checkpoint" | "restore") {
            return Err(usage(format!("{name} is not available: this runtime does not write processes to disk")));
        }
        if !is_command(name) {
            return Err(no_command(name));
        }
        let (mut id, mut force, mut json, mut rootless, mut options) = (None, false, false, false, Vec::new());
        let (mut bundle, mut more) = (PathBuf::from("."), Vec::new());
        loop {
            match self.word()? {
                Word::End => break,
                Word::Positional(word) if name == "delete" && id.is_some() => more.push(ContainerId::parse(&word)?),
                Word::Positional(word) => {
                    take_id(&mut id, &word)?;
                    let next = self.parser.try_raw_args();
                    let next = next.as_ref().and_then(|rest| rest.peek()).and_then(|word| word.to_str());
                    // As with runc everything behind the id is for ps; our own option may stand there too.
                    if name == "ps" && !next.is_some_and(|next| next.starts_with("--format")) {
                        options = self.rest()?;
                    }
                }
                Word::Flag(flag) => match (name, flag.as_str()) {
                    ("delete", "force" | "f") => force = self.boolean()?,
                    ("ps", "format" | "f") => json = self.format()?,
                    ("spec", "bundle" | "b") => bundle = self.value()?.into(),
                    ("spec", "rootless") => rootless = self.boolean()?,
                    _ => return Err(unknown(&flag)),
                },
            }
        }
        match name {
            "features" => return Ok(Command::Features),
            "spec" => return Ok(Command::Spec { bundle, rootless }),
            _ => {}
        }
        let id = need_id(id)?;
        if json && !options.is_empty() {
            return Err(usage("--format json gives numbers alone: it has no options of ps"));
        }
        Ok(match name {
            "start" => Command::Start { id },
            "state" => Command::State { id },
            "delete" => Command::Delete { ids: std::iter::once(id).chain(more).collect(), force },
            "ps" => Command::Ps { id, json, options },
            _ => Command::Freeze { id, frozen: name == "pause" },
        })
    }
}

fn signal_of(word: &str) -> Result<i32> {
    signal(word).ok_or_else(|| usage(format!("{word:?} is not a signal")))
}

fn say(text: &str) -> Result<Option<Invocation>> {
    super::print(text).map(|_| None)
}

fn no_command(name: &str) -> Error {
    usage(format!("{name:?} is not a command"))
}

fn unknown(flag: &str) -> Error {
    let dashes = if flag.chars().count() == 1 { "-" } else { "--" };
    usage(format!("{dashes}{flag} is not an option of this command"))
}

fn take_id(id: &mut Option<ContainerId>, word: &str) -> Result<()> {
    if id.is_some() {
        return Err(usage(format!("one word too many: {word:?}")));
    }
    *id = Some(ContainerId::parse(word)?);
    Ok(())
}

fn need_id(id: Option<ContainerId>) -> Result<ContainerId> {
    id.ok_or_else(|| usage("the container's id is missing"))
}

/// The runtime changes its working directory, so paths are made absolute at once.
/// An empty one is none, as with runc.
fn absolute(path: String) -> Result<Option<PathBuf>> {
    if path.is_empty() || path.starts_with('/') {
        return Ok((!path.is_empty()).then(|| path.into()));
    }
    std::path::absolute(&path).step("find the working directory, for", path).map(Some)
}

/// Of a terminal, as stty(1) tells it: rows, columns.
fn size(text: &str) -> Result<(u16, u16)> {
    let parsed = text.split_once('x').and_then(|(rows, columns)| Some((rows.parse().ok()?, columns.parse().ok()?)));
    parsed.ok_or_else(|| usage(format!("--console-size {text:?} is not of the form ROWSxCOLUMNS")))
}

/// Digits and nothing else: no sign, no space, no other base.
fn decimal(text: &str) -> Option<u32> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// `UID` or `UID:GID`, as numbers; names would have to be looked up in files of the container (CVE-2026-30892).
fn user(text: &str) -> Result<(u32, Option<u32>)> {
    let wrong = || usage(format!("--user {text:?} is not of the form UID or UID:GID"));
    let id = |text: &str| decimal(text).filter(|id| *id != u32::MAX).ok_or_else(wrong);
    match text.split_once(':') {
        Some((uid, gid)) => Ok((id(uid)?, Some(id(gid)?))),
        None => Ok((id(text)?, None)),
    }
}

#[cfg(test)]
mod tests;

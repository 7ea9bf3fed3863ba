//! `PodmanArgs=`: what a key says as well. Each option of `podman run` here is the assignment that means the same, read as if it stood
//! behind all others (where Quadlet puts it on the command line), so it has that key's language, mistakes and places.

use std::{iter::Peekable, ops::Range, rc::Rc};

use super::{
    Said,
    nearest::did_you_mean,
    syntax::Assignment,
    text::{Cursor, Text},
    values,
    words::Word,
};

/// What becomes of an option's value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// The key's value is one.
    Value,
    /// Several, with commas between them: the key is set to each.
    List,
    /// The key's values are words, each like one of these.
    Word,
    /// Several such, with commas between them.
    Words,
    /// A number of seconds; 0 is no limit.
    Seconds,
    /// In podman's units, the key's are systemd's.
    Bytes,
    /// It needs none: `--init`, or `--init=false`.
    Switch,
    /// A number of processors: `1.5`.
    Processors,
    /// `no-new-privileges`, `label=disable`, …
    Security,
    /// It holds anyway.
    Holds,
}

use Form::{Bytes, Holds, List, Processors, Seconds, Security, Switch, Value, Word as OneWord, Words};

/// Options with spaces between them, the key of `[Container]` or another section, and how its value is written.
const OPTIONS: &[(&str, &str, Form)] = &[
    ("--add-host", "AddHost", List),
    ("--annotation", "Annotation", OneWord),
    ("--cap-add", "AddCapability", Words),
    ("--cap-drop", "DropCapability", Words),
    ("--cgroups", "CgroupsMode", Value),
    ("--cpus", "[Service] CPUQuota", Processors),
    ("--cpuset-cpus", "[Service] AllowedCPUs", Value),
    ("--cpuset-mems", "[Service] AllowedMemoryNodes", Value),
    ("--device", "AddDevice", OneWord),
    ("--dns", "DNS", List),
    ("--dns-option --dns-opt", "DNSOption", List),
    ("--dns-search", "DNSSearch", List),
    ("--entrypoint", "Entrypoint", Value),
    ("--env -e", "Environment", OneWord),
    ("--env-file", "EnvironmentFile", OneWord),
    ("--env-host", "EnvironmentHost", Switch),
    ("--expose", "ExposeHostPort", List),
    ("--gidmap", "GIDMap", Words),
    ("--group-add", "GroupAdd", List),
    ("--health-cmd", "HealthCmd", Value),
    ("--health-interval", "HealthInterval", Value),
    ("--health-on-failure", "HealthOnFailure", Value),
    ("--health-retries", "HealthRetries", Value),
    ("--health-start-period", "HealthStartPeriod", Value),
    ("--health-startup-cmd", "HealthStartupCmd", Value),
    ("--health-startup-interval", "HealthStartupInterval", Value),
    ("--health-startup-retries", "HealthStartupRetries", Value),
    ("--health-startup-success", "HealthStartupSuccess", Value),
    ("--health-startup-timeout", "HealthStartupTimeout", Value),
    ("--health-timeout", "HealthTimeout", Value),
    ("--hostname -h", "HostName", Value),
    ("--http-proxy", "HttpProxy", Switch),
    ("--image-volume", "ImageVolume", Value),
    ("--init", "RunInit", Switch),
    ("--ip", "IP", Value),
    ("--ip6", "IP6", Value),
    ("--label -l", "Label", OneWord),
    ("--log-driver", "LogDriver", Value),
    ("--log-opt", "LogOpt", OneWord),
    ("--memory -m", "Memory", Value),
    ("--memory-reservation", "[Service] MemoryLow", Bytes),
    ("--mount", "Mount", OneWord),
    ("--name", "ContainerName", Value),
    ("--network --net", "Network", Value),
    ("--network-alias", "NetworkAlias", List),
    ("--oom-score-adj", "[Service] OOMScoreAdjust", Value),
    ("--pids-limit", "PidsLimit", Value),
    ("--publish -p", "PublishPort", List),
    ("--pull", "Pull", Value),
    ("--read-only", "ReadOnly", Switch),
    ("--read-only-tmpfs", "ReadOnlyTmpfs", Switch),
    // A container is made anew at each start, and nothing of it is left behind.
    ("--detach -d --replace --rm", "", Holds),
    ("--secret", "Secret", OneWord),
    ("--security-opt", "", Security),
    ("--shm-size", "ShmSize", Value),
    ("--stop-signal", "StopSignal", Value),
    ("--stop-timeout", "StopTimeout", Value),
    ("--subgidname", "SubGIDMap", Value),
    ("--subuidname", "SubUIDMap", Value),
    ("--sysctl", "Sysctl", Words),
    ("--timeout", "[Service] RuntimeMaxSec", Seconds),
    ("--tmpfs", "Tmpfs", Value),
    ("--tz", "Timezone", Value),
    ("--uidmap", "UIDMap", Words),
    ("--ulimit", "Ulimit", List),
    ("--umask", "Umask", Value),
    ("--user -u", "User", Value),
    ("--userns", "UserNS", Value),
    ("--volume -v", "Volume", Value),
    ("--workdir -w", "WorkingDir", Value),
];

/// Options that a key says in another language, or that are no container's here.
const INSTEAD: &[(&str, &str)] = &[
    ("--blkio-weight", "write IOWeight= in [Service]"),
    ("--cpu-period", "write CPUQuotaPeriodSec= in [Service]"),
    ("--cpu-quota", "write CPUQuota= in [Service]"),
    ("--cpu-shares", "write CPUWeight= in [Service]"),
    ("--gpus", "write AddDevice= for each of its devices"),
    ("--interactive -i --tty -t", "nobody types at a unit; take it away"),
    ("--memory-swap", "write MemorySwapMax= in [Service]"),
    ("--no-healthcheck", "write HealthCmd=none"),
    ("--pod", "write Pod="),
    ("--privileged", "write what it needs of it: AddDevice=, AddCapability=, SeccompProfile=unconfined, Unmask=ALL"),
    ("--requires", "write Requires= in [Unit]"),
    ("--restart", "write Restart= in [Service]"),
    ("--rootfs", "write Rootfs="),
];

/// Words of `--security-opt`, up to their `=` or `:`, and the key.
const SECURITY: &[(&str, &str)] = &[
    ("apparmor", "AppArmor"),
    ("mask", "Mask"),
    ("no-new-privileges", "NoNewPrivileges"),
    ("seccomp", "SeccompProfile"),
    ("unmask", "Unmask"),
];

/// The options and what says them, for the page of all keys.
pub(super) fn options() -> impl Iterator<Item = (&'static str, &'static str)> {
    OPTIONS.iter().map(|(options, key, form)| match form {
        Holds => (*options, "holds anyway"),
        Security => (*options, "NoNewPrivileges SeccompProfile Mask Unmask AppArmor SecurityLabelDisable"),
        _ => (*options, *key),
    })
}

/// What a value's words ask for, and mistakes with the word that each is of.
pub(super) fn assignments(value: &Text, words: &[Word]) -> (Vec<Assignment>, Vec<(Word, Said)>) {
    let (mut found, mut wrong) = (Vec::new(), Vec::new());
    let mut at = At { value, cursor: value.cursor() };
    let mut rest = words.iter().peekable();
    while let Some(word) = rest.next() {
        match option(&mut at, word, &mut rest) {
            Ok(assignments) => found.extend(assignments),
            Err(said) => wrong.push((word.clone(), said)),
        }
    }
    (found, wrong)
}

/// A walk along the value, which costs its length once.
struct At<'a> {
    value: &'a Text,
    cursor: Cursor<'a>,
}

impl At<'_> {
    /// Another text at the place of a word.
    fn instead(&mut self, word: &Word, text: &str) -> Text {
        self.cursor.skip_to(word.range.start.max(self.cursor.at()));
        let mut made = Text::new(Rc::clone(&self.value.file));
        made.push_replaced(text, &self.cursor);
        made
    }

    /// The same, for a text in which nothing is a specifier any more.
    fn made(&mut self, word: &Word, text: &str) -> Text {
        self.instead(word, &text.replace('%', "%%"))
    }

    /// These bytes of a word's text: where it has neither quotes nor specifiers, each of them stands where it is.
    fn part(&mut self, word: &Word, range: Range<usize>) -> Text {
        if self.value.text.get(word.range.clone()) != Some(&word.text) {
            return self.made(word, &word.text[range]);
        }
        self.cursor.skip_to((word.range.start + range.start).max(self.cursor.at()));
        let mut part = Text::new(Rc::clone(&self.value.file));
        self.cursor.copy_to(word.range.start + range.end, &mut part);
        part
    }
}

fn option<'a>(
    at: &mut At<'_>,
    word: &Word,
    rest: &mut Peekable<impl Iterator<Item = &'a Word>>,
) -> Result<Vec<Assignment>, Said> {
    let (name, given) = split(&word.text);
    if name.starts_with('$') {
        return Err("there is no environment here to take it from; write the option itself".to_owned().into());
    }
    if !name.starts_with('-') {
        return Err("no option of podman run; the program's own words belong in Exec=".to_owned().into());
    }
    let is = |names: &str| names.split(' ').any(|one| one == name);
    let Some((_, key, form)) = OPTIONS.iter().find(|(names, ..)| is(names)) else {
        // Its value, if it has one behind it.
        if given.is_none() {
            rest.next_if(|next| !next.text.starts_with('-'));
        }
        if let Some((_, instead)) = INSTEAD.iter().find(|(names, _)| is(names)) {
            return Err(format!("not read here; {instead}").into());
        }
        let text = "no key of this system says that, and there is no podman to say it to".to_owned();
        return Err(did_you_mean(text, name, OPTIONS.iter().flat_map(|(names, ..)| names.split(' '))));
    };
    let (section, key) = key.strip_prefix("[Service] ").map_or(("Container", *key), |key| ("Service", key));
    let (here, section) = (at.instead(word, ""), Rc::new(at.instead(word, section)));
    let set = |key: &str, value: Text| {
        let mut here = here.clone();
        key.clone_into(&mut here.text);
        Assignment { section: Rc::clone(&section), key: here, value: Rc::new(value) }
    };
    if matches!(form, Switch | Holds) {
        if given.is_some() && !word.text.contains('=') {
            return Err("write each option by itself".to_owned().into());
        }
        let text = given.map_or("true", |from| &word.text[from..]);
        // As Go's strconv.ParseBool, which reads them for podman.
        return match text {
            "0" | "f" | "F" | "false" | "FALSE" | "False" if *form == Holds => {
                Err("that holds here anyway; take it away".to_owned().into())
            }
            "1" | "t" | "T" | "true" | "TRUE" | "True" if *form == Holds => Ok(Vec::new()),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(vec![set(key, at.made(word, "false"))]),
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(vec![set(key, at.made(word, "true"))]),
            _ => Err("expected true or false".to_owned().into()),
        };
    }
    // Where what is given stands, and what it is.
    let (holder, from) = match given {
        Some(from) => (word, from),
        None => (rest.next().ok_or_else(|| format!("it needs a value: {name}=…"))?, 0),
    };
    let text = &holder.text[from..];
    if text.is_empty() && key != "Entrypoint" {
        return Err(format!("it needs a value: {name}=…").into());
    }
    let is_plain = !text.contains(['"', '\'', '\\', ' ', '\t', ',']);
    match form {
        Processors => {
            let cpus = text.parse().ok().filter(|cpus: &f64| (0.0..=100_000.0).contains(cpus));
            let cpus = cpus.ok_or_else(|| "expected a number of processors: 2, 0.5".to_owned())?;
            let percent = format!("{:.2}", cpus * 100.0);
            let percent = percent.trim_end_matches('0').trim_end_matches('.');
            // 0: no limit, whatever stood before.
            let quota = if cpus == 0.0 { String::new() } else { format!("{percent}%") };
            Ok(vec![set(key, at.made(holder, &quota))])
        }
        Bytes => {
            let bytes = values::size(text).map_err(Said::from)?;
            Ok(vec![set(key, at.made(holder, &bytes.to_string()))])
        }
        Seconds => match text.parse::<u32>() {
            Ok(0) => Ok(vec![set(key, at.made(holder, ""))]),
            Ok(seconds) => Ok(vec![set(key, at.made(holder, &seconds.to_string()))]),
            Err(_) => Err("expected a number of seconds, without a unit".to_owned().into()),
        },
        List | Words if text.contains(',') => {
            let mut begin = from;
            let mut all = Vec::new();
            for one in text.split(',') {
                let range = begin..begin + one.len();
                begin = range.end + 1;
                if one.is_empty() {
                    return Err("there is nothing between two of its commas, or behind the last".to_owned().into());
                }
                let value = if *form == Words { at.made(holder, &quoted(one)) } else { at.part(holder, range) };
                all.push(set(key, value));
            }
            Ok(all)
        }
        Security => security(text).map(|(key, text)| vec![set(key, at.made(holder, text))]),
        OneWord | Words if !is_plain => Ok(vec![set(key, at.made(holder, &quoted(text)))]),
        _ => Ok(vec![set(key, at.part(holder, from..holder.text.len()))]),
    }
}

/// As one word.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The key, and its value.
fn security(text: &str) -> Result<(&'static str, &str), Said> {
    let (what, value) = text.split_once(['=', ':']).unwrap_or((text, "true"));
    if what == "label" {
        // Whatever it asks of SELinux, which is not part of the system.
        return Ok(("SecurityLabelDisable", "true"));
    }
    match SECURITY.iter().find(|(one, _)| *one == what) {
        Some((_, key)) => Ok((key, value)),
        None => {
            let text = format!("{what} is no option that is known here");
            Err(did_you_mean(text, what, SECURITY.iter().map(|(one, _)| *one)))
        }
    }
}

/// The option's name, and where in the word its value begins: `--env=A=1`, `-eA=1`, `-e`.
fn split(word: &str) -> (&str, Option<usize>) {
    if !word.starts_with("--") && word.len() > 2 && word.is_char_boundary(2) {
        return (&word[..2], Some(2 + usize::from(word[2..].starts_with('='))));
    }
    word.split_once('=').map_or((word, None), |(name, _)| (name, Some(name.len() + 1)))
}

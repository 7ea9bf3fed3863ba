//! `PodmanArgs=`: what a key says as well. Each option of `podman run` here is the assignment that means the same, read as if it stood
//! behind all others (where Quadlet puts it on the command line), so it has that key's language, mistakes and places.

use std::{iter::Peekable, ops::Range, rc::Rc};

use super::{Said, nearest::did_you_mean, syntax::Assignment, text::Text, values, words::Word};

/// What becomes of an option's value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// The key's value is one.
    Value,
    /// Several, with commas between them: the key is set to each.
    List,
    /// The key's values are words, each like one of these.
    Word,
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

use Form::{Bytes, Holds, List, Processors, Security, Switch, Value, Word as OneWord};

/// Options with spaces between them, the key of `[Container]` or another section, and how its value is written.
const OPTIONS: &[(&str, &str, Form)] = &[
    ("--add-host", "AddHost", Value),
    ("--annotation", "Annotation", OneWord),
    ("--cap-add", "AddCapability", List),
    ("--cap-drop", "DropCapability", List),
    ("--cgroups", "CgroupsMode", Value),
    ("--cpus", "[Service] CPUQuota", Processors),
    ("--cpuset-cpus", "[Service] AllowedCPUs", Value),
    ("--cpuset-mems", "[Service] AllowedMemoryNodes", Value),
    ("--device", "AddDevice", Value),
    ("--dns", "DNS", List),
    ("--dns-option --dns-opt", "DNSOption", Value),
    ("--dns-search", "DNSSearch", List),
    ("--entrypoint", "Entrypoint", Value),
    ("--env -e", "Environment", OneWord),
    ("--env-file", "EnvironmentFile", OneWord),
    ("--env-host", "EnvironmentHost", Switch),
    ("--expose", "ExposeHostPort", List),
    ("--gidmap", "GIDMap", Value),
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
    ("--mount", "Mount", Value),
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
    ("--secret", "Secret", Value),
    ("--security-opt", "", Security),
    ("--shm-size", "ShmSize", Value),
    ("--stop-signal", "StopSignal", Value),
    ("--stop-timeout", "StopTimeout", Value),
    ("--subgidname", "SubGIDMap", Value),
    ("--subuidname", "SubUIDMap", Value),
    ("--sysctl", "Sysctl", OneWord),
    ("--timeout", "[Service] RuntimeMaxSec", Value),
    ("--tmpfs", "Tmpfs", Value),
    ("--tz", "Timezone", Value),
    ("--uidmap", "UIDMap", Value),
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
    let mut rest = words.iter().peekable();
    while let Some(word) = rest.next() {
        match option(value, word, &mut rest) {
            Ok(assignments) => found.extend(assignments),
            Err(said) => wrong.push((word.clone(), said)),
        }
    }
    (found, wrong)
}

fn option<'a>(
    value: &Text,
    word: &Word,
    rest: &mut Peekable<impl Iterator<Item = &'a Word>>,
) -> Result<Vec<Assignment>, Said> {
    let (name, given) = split(&word.text);
    if !name.starts_with('-') {
        return Err("no option of podman run; the program's own words belong in Exec=".to_owned().into());
    }
    let Some((_, key, form)) = OPTIONS.iter().find(|(names, ..)| names.split(' ').any(|one| one == name)) else {
        // Its value, if it has one behind it.
        if given.is_none() {
            rest.next_if(|next| !next.text.starts_with('-'));
        }
        if let Some((_, instead)) = INSTEAD.iter().find(|(one, _)| *one == name) {
            return Err(format!("not read here; {instead}").into());
        }
        let text = "no key of this system says that, and there is no podman to say it to".to_owned();
        return Err(did_you_mean(text, name, OPTIONS.iter().flat_map(|(names, ..)| names.split(' '))));
    };
    let (section, key) = key.strip_prefix("[Service] ").map_or(("Container", *key), |key| ("Service", key));
    let set = |key: &str, text: Text| {
        let (section, key) = (Rc::new(replaced(value, word, section)), replaced(value, word, key));
        vec![Assignment { section, key, value: Rc::new(text) }]
    };
    let made = |word: &Word, text: &str| replaced(value, word, &text.replace('%', "%%"));
    if matches!(form, Switch | Holds) {
        let text = given.map_or("true", |from| &word.text[from..]);
        return Ok(if *form == Holds { Vec::new() } else { set(key, made(word, text)) });
    }
    // Where what is given stands, and what it is.
    let (holder, from) = match given {
        Some(from) => (word, from),
        None => (rest.next().ok_or_else(|| format!("it needs a value: {name}=…"))?, 0),
    };
    let text = &holder.text[from..];
    if text.is_empty() {
        return Err(format!("it needs a value: {name}=…").into());
    }
    // Neither quotes nor specifiers: each byte stands where it is.
    let plain = value.text.get(holder.range.clone()) == Some(&holder.text);
    let part = |range: Range<usize>| match plain {
        true => value.trimmed(holder.range.start + range.start..holder.range.start + range.end),
        false => made(holder, &holder.text[range]),
    };
    match form {
        Processors => {
            let cpus = text.parse().ok().filter(|cpus: &f64| (0.01..=100_000.0).contains(cpus));
            let cpus = cpus.ok_or_else(|| "expected a number of processors: 2, 0.5".to_owned())?;
            let percent = format!("{:.2}", cpus * 100.0);
            let percent = percent.trim_end_matches('0').trim_end_matches('.');
            Ok(set(key, made(holder, &format!("{percent}%"))))
        }
        Bytes => {
            let bytes = values::size(text).map_err(Said::from)?;
            Ok(set(key, made(holder, &bytes.to_string())))
        }
        List => {
            let mut begin = from;
            let parts = text.split(',').map(|one| {
                let range = begin..begin + one.len();
                begin = range.end + 1;
                range
            });
            Ok(parts.filter(|range| !range.is_empty()).flat_map(|range| set(key, part(range))).collect())
        }
        Security => security(text).map(|(key, text)| set(key, made(holder, text))),
        OneWord if !plain || text.contains(['"', '\'', '\\']) => {
            let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
            Ok(set(key, made(holder, &format!("\"{quoted}\""))))
        }
        _ => Ok(set(key, part(from..holder.text.len()))),
    }
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

/// Another text at the place of a word.
fn replaced(value: &Text, word: &Word, text: &str) -> Text {
    let mut cursor = value.cursor();
    cursor.skip_to(word.range.start);
    let mut made = Text::new(Rc::clone(&value.file));
    made.push_replaced(text, &cursor);
    made
}

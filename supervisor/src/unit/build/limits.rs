//! What a container may use and do: memory, processes, capabilities, limits, sysctls, hidden paths.

use std::collections::{BTreeMap, BTreeSet};

use super::{command, mounts};
use crate::unit::{Capabilities, Said, Ulimit, Unmask, nearest::did_you_mean, sheet::Sheet, values};

/// Podman's containers.conf(5) default.
const PIDS_LIMIT: u64 = 2048;

pub(super) fn memory(sheet: &mut Sheet<'_>) -> Option<u64> {
    let read = sheet.read("Container", "Memory", |text| match values::size(text)? {
        // Less than a program's first pages: a suffix was forgotten.
        bytes @ 1..0x4_0000 => {
            let near = text.bytes().all(|b| b.is_ascii_digit()).then(|| format!("{text}M"));
            Err(Said::guess(format_args!("{bytes} bytes are too little for any program"), near, ""))
        }
        bytes => Ok(bytes),
    });
    read.filter(|bytes| *bytes > 0)
}

/// Zero and -1 mean no limit.
pub(super) fn pids(sheet: &mut Sheet<'_>) -> Option<u64> {
    let limit = sheet.read("Container", "PidsLimit", |text| match text {
        "-1" | "0" => Ok(None),
        _ => text.parse::<u64>().map(Some).map_err(|_| "expected a number, or -1 for no limit"),
    });
    limit.unwrap_or(Some(PIDS_LIMIT))
}

/// capabilities(7), Linux 6.12, in the order of their numbers.
pub(in crate::unit) const CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

pub(super) fn capabilities(sheet: &mut Sheet<'_>) -> Capabilities {
    let (drop, drop_all) = capability_words(sheet, "DropCapability", &BTreeSet::new());
    let (add, add_all) = capability_words(sheet, "AddCapability", &drop);
    if add_all && drop_all {
        for value in sheet.all("Container", "AddCapability").iter().rev().take(1) {
            sheet.error(value, "all capabilities are dropped and added at once; leave one of them out");
        }
    }
    match (add_all, drop_all) {
        (true, _) => Capabilities::AllBut(drop),
        (false, true) => Capabilities::Only(add),
        (false, false) => Capabilities::Usual { add, drop },
    }
}

fn capability_words(sheet: &mut Sheet<'_>, key: &'static str, other: &BTreeSet<String>) -> (BTreeSet<String>, bool) {
    let mut names = BTreeSet::new();
    let mut all = false;
    for (value, word) in sheet.all_names("Container", key) {
        // podman-run(1) takes several with commas between them.
        for text in word.text.split(',') {
            let upper = text.to_ascii_uppercase();
            if upper == "ALL" {
                all = true;
                continue;
            }
            let name = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
            if !CAPABILITIES.contains(&name.as_str()) {
                let text = format!("unknown capability {text}");
                sheet.error_at(&value, &word, did_you_mean(text, &name, CAPABILITIES));
            } else if other.contains(&name) {
                sheet.error_at(&value, &word, format!("{name} is dropped and added at once"));
            } else {
                names.insert(name);
            }
        }
    }
    (names, all)
}

const ULIMITS: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

pub(super) fn ulimits(sheet: &mut Sheet<'_>) -> Vec<Ulimit> {
    let all = sheet.each("Container", "Ulimit", ulimit).into_iter();
    let limits: BTreeMap<String, Ulimit> = all.map(|(_, limit)| (limit.kind.clone(), limit)).collect();
    limits.into_values().collect()
}

fn ulimit(text: &str) -> Result<Ulimit, Said> {
    const FORM: &str = "expected a name and one or two numbers, such as nofile=1024:4096; -1 is no limit";
    if text == "host" {
        return Err("there is nobody here whose limits could be copied; write them, such as nofile=1024:4096".into());
    }
    let (name, numbers) = text.split_once('=').ok_or(FORM)?;
    let lower = name.to_ascii_lowercase();
    let lower = lower.strip_prefix("rlimit_").unwrap_or(&lower);
    if !ULIMITS.contains(&lower) {
        return Err(did_you_mean(format!("unknown limit {name}"), lower, ULIMITS));
    }
    let number = |text: &str| match text {
        "-1" | "unlimited" => Ok(u64::MAX),
        _ => text.parse::<u64>().map_err(|_| FORM),
    };
    let (soft, hard) = match numbers.split_once(':') {
        Some((soft, hard)) => (number(soft)?, number(hard)?),
        None => (number(numbers)?, number(numbers)?),
    };
    if soft > hard {
        return Err("the first number (soft limit) is larger than the second (hard limit)".into());
    }
    Ok(Ulimit { kind: format!("RLIMIT_{}", lower.to_ascii_uppercase()), soft, hard })
}

/// Those that belong to a namespace of the container; any other would change the machine.
const SYSCTLS: [&str; 11] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
    "kernel.domainname",
    "fs.mqueue.",
    "net.",
];

pub(super) fn sysctls(sheet: &mut Sheet<'_>) -> BTreeMap<String, String> {
    let host_network = sheet.all("Container", "Network").iter().any(|v| v.text == "host");
    let mut sysctls = BTreeMap::new();
    for (value, word) in sheet.all_names("Container", "Sysctl") {
        let text = match command::inner_dollars(&word.text) {
            Ok(text) => text,
            Err(text) => {
                sheet.error_at(&value, &word, text);
                continue;
            }
        };
        let Some((name, setting)) = text.split_once('=') else {
            sheet.error_at(&value, &word, format!("{} has no value; write Sysctl=name=value", word.text));
            continue;
        };
        // sysctl(8) takes both forms.
        let name = if name.contains('/') { name.replace('/', ".") } else { name.to_owned() };
        let own =
            SYSCTLS.iter().any(|known| if known.ends_with('.') { name.starts_with(known) } else { name == *known });
        let odd = name.split('.').any(|part| part.is_empty() || part == "..") || name.contains(char::is_whitespace);
        if !own || odd {
            sheet.error_at(
                &value,
                &word,
                format!("{name} is not a container's own kernel parameter; set it for the machine"),
            );
        } else if host_network && name.starts_with("net.") {
            sheet.error_at(
                &value,
                &word,
                format!("with Network=host, {name} is the machine's; set it there or write Network=none"),
            );
        } else {
            sysctls.insert(name, setting.to_owned());
        }
    }
    sysctls
}

pub(super) fn mask(sheet: &mut Sheet<'_>) -> Vec<String> {
    let mut paths = Vec::new();
    for (value, word) in sheet.all_words("Container", "Mask") {
        for path in word.text.split(':') {
            match mounts::destination(path) {
                Ok(path) => paths.push(path),
                Err(text) => sheet.error_at(&value, &word, format!("Mask={}: {text}", word.text)),
            }
        }
    }
    paths
}

pub(super) fn unmask(sheet: &mut Sheet<'_>) -> Unmask {
    let mut paths = Vec::new();
    let mut all = false;
    for (value, word) in sheet.all_words("Container", "Unmask") {
        for path in word.text.split(':') {
            if path.eq_ignore_ascii_case("all") {
                all = true;
            } else if path.starts_with('/') {
                paths.push(path.to_owned());
            } else {
                sheet.error_at(
                    &value,
                    &word,
                    format!("Unmask={}: expected ALL or absolute paths with colons between them", word.text),
                );
            }
        }
    }
    if all { Unmask::All } else { Unmask::Paths(paths) }
}

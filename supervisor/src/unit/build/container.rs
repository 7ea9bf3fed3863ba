//! `[Container]`, but for what has a file of its own beside this one.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use super::{command, identity, limits, mounts};
use crate::unit::{ContainerSpec, Network, sheet::Sheet, text::Text, values, words::Word};

pub(super) fn container(path: &Path, sheet: &mut Sheet) -> ContainerSpec {
    let folder = path.parent().unwrap_or(Path::new("."));
    let volumes = mounts::volumes(folder, sheet);
    ContainerSpec {
        image: image(path, sheet),
        container_name: sheet.read("Container", "ContainerName", name),
        exec: command::exec(sheet),
        entrypoint: command::entrypoint(sheet),
        environment: assignments(sheet, "Environment", Bare::Refused),
        environment_files: environment_files(folder, sheet),
        tmpfs: mounts::tmpfs(&volumes, sheet),
        volumes: volumes.into_iter().map(|(_, volume)| volume).collect(),
        network: network(path, sheet),
        user: identity::user(sheet),
        extra_groups: identity::extra_groups(sheet),
        working_dir: sheet.read("Container", "WorkingDir", mounts::destination),
        read_only: flag(sheet, "ReadOnly", false),
        read_only_tmpfs: flag(sheet, "ReadOnlyTmpfs", true),
        memory_max_bytes: limits::memory(sheet),
        pids_max: limits::pids(sheet),
        hostname: sheet.read("Container", "HostName", hostname),
        stop_signal: sheet.read("Container", "StopSignal", values::signal),
        capabilities: limits::capabilities(sheet),
        no_new_privileges: flag(sheet, "NoNewPrivileges", false),
        ulimits: limits::ulimits(sheet),
        shm_size_bytes: sheet.read("Container", "ShmSize", values::size).unwrap_or(64 << 20),
        sysctls: limits::sysctls(sheet),
        mask: limits::mask(sheet),
        unmask: limits::unmask(sheet),
        hosts: hosts(sheet),
        labels: assignments(sheet, "Label", Bare::Empty),
        annotations: assignments(sheet, "Annotation", Bare::Empty),
        oom_score_adj: 0,
    }
}

/// `StopTimeout=`, in seconds; Podman's default is ten.
pub(super) fn stop_timeout(sheet: &mut Sheet) -> Option<Duration> {
    let seconds = sheet.read("Container", "StopTimeout", |text| {
        text.parse::<u32>().map_err(|_| "expected a number of seconds, without a unit")
    });
    Some(Duration::from_secs(seconds.unwrap_or(10).into()))
}

fn flag(sheet: &mut Sheet, key: &'static str, default: bool) -> bool {
    sheet.read("Container", key, values::boolean).unwrap_or(default)
}

fn image(path: &Path, sheet: &mut Sheet) -> String {
    let Some(value) = sheet.last("Container", "Image").filter(|v| !v.text.is_empty()) else {
        if sheet.has_container() {
            sheet.missing(path, "no Image=: write the image's full name, such as Image=docker.io/library/nginx:1.27");
        }
        return String::new();
    };
    if value.text.ends_with(".image") || value.text.ends_with(".build") {
        sheet
            .error(&value, format!("{}: .image and .build files are known, not available in this version", value.text));
    } else if value.text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        sheet.error(&value, "an image's name has no spaces; arguments go into Exec=");
    } else if let Err(error) = value.text.parse::<oci::image::Reference>() {
        sheet.error(&value, error.to_string());
    }
    value.text.clone()
}

fn network(path: &Path, sheet: &mut Sheet) -> Network {
    const CHOICES: &str = "write Network=host or Network=none";
    let values = sheet.all("Container", "Network");
    let mut chosen = None;
    for value in &values {
        let network = match value.text.as_str() {
            "host" => Network::Host,
            "none" => Network::None,
            other => {
                let what = match other.split_once(':').map_or(other, |(word, _)| word) {
                    word if word.ends_with(".network") => "networks of .network files are",
                    "bridge" | "private" => "bridge networks are",
                    "pasta" | "slirp4netns" | "ns" | "container" => "this mode is",
                    word if word.ends_with(".container") => "another container's network is",
                    _ => "networks by name are",
                };
                sheet.error(value, format!("Network={other}: {what} known, not available in this version; {CHOICES}"));
                chosen = Some(Network::None);
                continue;
            }
        };
        if chosen.is_some_and(|before| before != network) {
            sheet.error(value, "host and none cannot be combined with another Network=");
        }
        chosen = Some(network);
    }
    chosen.unwrap_or_else(|| {
        if sheet.has_container() {
            sheet.missing(path, &format!("no Network=: bridge networks are not available in this version; {CHOICES}"));
        }
        Network::None
    })
}

/// What a word without `=` means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bare {
    Refused,
    Empty,
}

/// `KEY=value` words; a later one replaces an earlier one of the same key.
fn assignments(sheet: &mut Sheet, key: &'static str, bare: Bare) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    // The value whose words are being read, and whether one of them was an assignment.
    let mut before: Option<(Rc<Text>, bool)> = None;
    for (value, word) in sheet.all_words("Container", key) {
        let follows = before.as_ref().is_some_and(|(other, seen)| *seen && Rc::ptr_eq(other, &value));
        match word.text.split_once('=') {
            Some(("", _)) => {
                sheet.error_at(&value, &word, format!("{key}={}: the name before = is missing", word.text));
            }
            Some((_, text)) if text.contains('\0') => {
                sheet.error_at(&value, &word, "a NUL character cannot be part of a value");
            }
            Some((name, text)) => {
                found.insert(name.to_owned(), text.to_owned());
            }
            None if follows => {
                let text = format!("{} has no =; quote a value with spaces: {key}=\"NAME=two words\"", word.text);
                sheet.error_at(&value, &word, text);
            }
            None if bare == Bare::Empty => {
                found.insert(word.text.clone(), String::new());
            }
            None => {
                let text = format!(
                    "{} has no =, and the host has no environment to take it from; write {key}={}=value",
                    word.text, word.text
                );
                sheet.error_at(&value, &word, text);
            }
        }
        before = Some((value, follows || word.text.contains('=')));
    }
    found
}

fn environment_files(folder: &Path, sheet: &mut Sheet) -> Vec<PathBuf> {
    sheet.all_words("Container", "EnvironmentFile").into_iter().map(|(_, word)| folder.join(word.text)).collect()
}

fn name(text: &str) -> Result<String, &'static str> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if text.chars().all(good) && text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        Ok(text.to_owned())
    } else {
        Err("a container's name has letters, digits, _, . and -, and begins with a letter or digit")
    }
}

/// What sethostname(2) and the resolver both take.
fn hostname(text: &str) -> Result<String, &'static str> {
    let label = |l: &str| {
        !l.is_empty()
            && l.len() <= 63
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
    };
    if text.len() <= 64 && text.split('.').all(label) {
        Ok(text.to_owned())
    } else {
        Err("a host name has letters, digits, - and ., and at most 64 of them")
    }
}

fn hosts(sheet: &mut Sheet) -> Vec<(String, IpAddr)> {
    let mut hosts = Vec::new();
    for value in sheet.all("Container", "AddHost") {
        let word = Word { text: value.text.clone(), range: value.whole() };
        match value.text.split_once(':') {
            Some((_, "host-gateway")) => {
                sheet.error_at(
                    &value,
                    &word,
                    "host-gateway is known, not available in this version; write the address",
                );
            }
            Some((names, address)) => match address.trim_start_matches('[').trim_end_matches(']').parse() {
                // Podman takes several names with semicolons between them.
                Ok(address) => {
                    for name in names.split(';') {
                        match hostname(name) {
                            Ok(name) => hosts.push((name, address)),
                            Err(text) => sheet.error_at(&value, &word, format!("AddHost={}: {text}", value.text)),
                        }
                    }
                }
                Err(_) => sheet.error_at(
                    &value,
                    &word,
                    format!("{address} is not an IP address; write AddHost=name:192.0.2.1"),
                ),
            },
            None => sheet.error_at(&value, &word, "expected a name and an address, such as AddHost=db:192.0.2.1"),
        }
    }
    hosts
}

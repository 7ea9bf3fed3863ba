//! config.json as the runtime-spec 1.3 describes it, read in one walk.
//!
//! Invariant: every property the spec defines for Linux is named here; it is either kept, or refused by an error with its
//! path. A property the spec does not know is noted and ignored, as its section "Extensibility" demands. On failure nothing
//! has happened yet: reading touches nothing but the file.

mod hooks;
mod linux;
mod mount;
mod process;
mod rdt;
mod resources;
mod scheduling;
mod seccomp;

use std::fmt;

pub(crate) use hooks::{Hook, Hooks};
pub(crate) use linux::{DeviceKind, IdMapping, Linux, NamespaceKind, NetDevice};
pub(crate) use mount::Mount;
pub(crate) use process::{Capabilities, Process, RLimit, User};
pub(crate) use rdt::IntelRdt;
pub(crate) use resources::{BlockIo, Cpu, DeviceRule, Memory, Resources, Throttle};
pub(crate) use scheduling::{MEMORY_FLAGS, MEMORY_MODES, MemoryPolicy};
pub(crate) use seccomp::{Argument, OPERATORS, Operator, Seccomp, SyscallRule};

use super::json::{Reader, Taken};

/// What is wrong with a file a user or an engine wrote, and at which property.
#[derive(Debug)]
pub(crate) struct ConfigError {
    pub(crate) path: String,
    pub(crate) problem: Problem,
}

#[derive(Debug)]
pub(crate) enum Problem {
    Syntax { line: usize, column: usize, wanted: &'static str },
    Missing,
    Invalid(String),
    Unsupported(&'static str),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(out, "{}: ", self.path)?;
        }
        match &self.problem {
            Problem::Syntax { line, column, wanted } => write!(out, "line {line}, column {column}: expected {wanted}"),
            Problem::Missing => out.write_str("is required and missing"),
            Problem::Invalid(why) => out.write_str(why),
            Problem::Unsupported(why) => write!(out, "is not supported: {why}"),
        }
    }
}

impl ConfigError {
    pub(crate) fn missing(path: &str) -> ConfigError {
        ConfigError { path: path.to_owned(), problem: Problem::Missing }
    }

    pub(crate) fn invalid(path: impl Into<String>, why: impl Into<String>) -> ConfigError {
        ConfigError { path: path.into(), problem: Problem::Invalid(why.into()) }
    }

    pub(crate) fn unsupported(path: impl Into<String>, why: &'static str) -> ConfigError {
        ConfigError { path: path.into(), problem: Problem::Unsupported(why) }
    }
}

type Result<T> = std::result::Result<T, ConfigError>;

/// The root file system, as named in the file (relative to the bundle unless absolute).
#[derive(Debug, Default)]
pub(crate) struct Root {
    pub(crate) path: String,
    pub(crate) readonly: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Config {
    pub(crate) oci_version: String,
    pub(crate) root: Root,
    pub(crate) hostname: Option<String>,
    pub(crate) domainname: Option<String>,
    pub(crate) mounts: Vec<Mount>,
    /// Optional in the spec until `start`; this runtime has nothing to do without one.
    pub(crate) process: Option<Process>,
    pub(crate) hooks: Hooks,
    pub(crate) annotations: Vec<(String, String)>,
    pub(crate) linux: Linux,
    /// `process` and `hooks` as written, for the state file.
    pub(crate) process_text: String,
    pub(crate) hooks_text: String,
    /// What was passed over, with its path: properties the spec does not know.
    pub(crate) remarks: Vec<String>,
}

impl Config {
    pub(crate) fn parse(text: &str) -> Result<Config> {
        let mut reader = Reader::new(text);
        let mut config = Config::default();
        reader.object(&mut |r, name| {
            match name {
                "ociVersion" => config.oci_version = r.text()?,
                "root" => config.root = root(r)?,
                "hostname" => config.hostname = Some(r.text()?).filter(|n| !n.is_empty()),
                "domainname" => config.domainname = Some(r.text()?).filter(|n| !n.is_empty()),
                "mounts" => r.array(&mut |r| {
                    config.mounts.push(Mount::read(r)?);
                    Ok(())
                })?,
                "process" => (config.process, config.process_text) = r.with_text(|r| Process::read(r).map(Some))?,
                "hooks" => (config.hooks, config.hooks_text) = r.with_text(Hooks::read)?,
                "annotations" => config.annotations = string_map(r)?,
                "linux" => config.linux = Linux::read(r)?,
                "solaris" | "windows" | "vm" | "zos" | "freebsd" => {
                    return r.refuse_unless_empty("it is for another platform");
                }
                _ => return Ok(Taken::No),
            }
            Ok(Taken::Yes)
        })?;
        config.remarks = reader.finish()?;
        let remark = config.linux.resources.as_ref().and_then(Resources::remark);
        config.remarks.extend(remark.map(|remark| format!("linux.resources.{remark}")));
        config.check_version()?;
        let minor = config.minor_version();
        let pids = config.linux.resources.as_mut().and_then(|resources| resources.pids_limit.as_mut());
        if let Some(limit) = pids.filter(|limit| **limit == 0)
            && minor >= 3
        {
            // A limit like any other since 1.3 (before, it was how engines wrote "not set"). The container's own process is let in.
            *limit = 1;
        }
        if config.root.path.is_empty() {
            return Err(ConfigError::missing("root.path"));
        }
        Ok(config)
    }

    /// Of a version that was checked.
    fn minor_version(&self) -> u32 {
        self.oci_version.split('.').nth(1).and_then(|minor| minor.parse().ok()).unwrap_or(0)
    }

    /// Every 1.x is compatible by semantic versioning (spec, section "Specification version").
    fn check_version(&self) -> Result<()> {
        if self.oci_version.is_empty() {
            return Err(ConfigError::missing("ociVersion"));
        }
        if is_semantic(&self.oci_version) && self.oci_version.starts_with("1.") {
            return Ok(());
        }
        let why = format!("{:?} is not a version this runtime reads; it reads 1.x.y", self.oci_version);
        Err(ConfigError::invalid("ociVersion", why))
    }
}

/// MAJOR.MINOR.PATCH, with `-…` for a version before it and `+…` for a build (SemVer 2.0.0, items 2, 9 and 10).
fn is_semantic(version: &str) -> bool {
    let (version, build) = version.split_once('+').map_or((version, None), |(version, build)| (version, Some(build)));
    let (core, before) = version.split_once('-').map_or((version, None), |(core, before)| (core, Some(before)));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = |text: &str| digits(text) && (text == "0" || !text.starts_with('0'));
    let word = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    core.split('.').count() == 3
        && core.split('.').all(number)
        && before.is_none_or(|all| all.split('.').all(|one| word(one) && (!digits(one) || number(one))))
        && build.is_none_or(|all| all.split('.').all(word))
}

fn root(r: &mut Reader<'_>) -> Result<Root> {
    let mut root = Root::default();
    r.object(&mut |r, name| {
        match name {
            "path" => root.path = r.text()?,
            "readonly" => root.readonly = r.boolean()?,
            _ => return Ok(Taken::No),
        }
        Ok(Taken::Yes)
    })?;
    Ok(root)
}

/// An object whose values are strings, in the order of the file.
fn string_map(r: &mut Reader<'_>) -> Result<Vec<(String, String)>> {
    let mut all: Vec<(String, String)> = Vec::new();
    r.object(&mut |r, name| {
        if name.is_empty() {
            return Err(r.invalid("has an empty key"));
        }
        let value = r.text()?;
        all.push((name.to_owned(), value));
        Ok(Taken::Yes)
    })?;
    Ok(all)
}

/// One of the words the spec lists, as what it stands for.
fn one_of<T: Clone>(r: &mut Reader<'_>, words: &[(&str, T)]) -> Result<T> {
    let word = r.string()?;
    match words.iter().find(|(name, _)| *name == word) {
        Some((_, meaning)) => Ok(meaning.clone()),
        None => {
            let known: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
            Err(r.invalid(format!("{word:?} is not one of {}", known.join(", "))))
        }
    }
}

/// A list of such words.
fn words_of<T: Clone>(r: &mut Reader<'_>, words: &[(&str, T)]) -> Result<Vec<T>> {
    let mut all = Vec::new();
    r.array(&mut |r| {
        all.push(one_of(r, words)?);
        Ok(())
    })?;
    Ok(all)
}

/// A list of strings that all pass a check; `form` says what they should look like.
fn string_list_of(r: &mut Reader<'_>, form: &str, good: fn(&str) -> bool) -> Result<Vec<String>> {
    let mut all = Vec::new();
    r.array(&mut |r| {
        let one = r.text()?;
        if !good(&one) {
            return Err(r.invalid(format!("{one:?} is not of the form {form}")));
        }
        all.push(one);
        Ok(())
    })?;
    Ok(all)
}

/// The process of `exec --process FILE`, alone in its file, and what was passed over there.
pub(crate) fn parse_process(text: &str) -> Result<(Process, Vec<String>)> {
    let mut reader = Reader::new(text);
    let process = Process::read(&mut reader)?;
    Ok((process, reader.finish()?))
}

/// Resources alone in their file, and what was passed over there. One in which nothing is known is a mistake.
pub(crate) fn parse_resources(text: &str) -> Result<(Resources, Vec<String>)> {
    let mut reader = Reader::new(text);
    let resources = Resources::read(&mut reader)?;
    let remarks = reader.finish()?;
    if !remarks.is_empty() && resources == Resources::default() {
        return Err(ConfigError::invalid("", format!("sets nothing: {}", remarks.join("; "))));
    }
    Ok((resources, remarks))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Config::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn no_processes_are_a_limit_since_1_3() {
        let limit = |version: &str, limit: i64| {
            let text = format!(
                r#"{{"ociVersion":"{version}","root":{{"path":"r"}},"linux":{{"resources":{{"pids":{{"limit":{limit}}}}}}}}}"#
            );
            Config::parse(&text).unwrap().linux.resources.unwrap().pids_limit
        };
        assert_eq!((limit("1.2.1", 0), limit("1.3.0", 0), limit("1.10.0", 0)), (Some(0), Some(1), Some(1)));
        assert_eq!((limit("1.3.0", 7), limit("1.3.0", -1)), (Some(7), Some(-1)));
    }

    #[test]
    fn the_least_config() {
        let config = Config::parse(r#"{"ociVersion":"1.0.2","root":{"path":"rootfs"},"x":{"y":1}}"#).unwrap();
        assert_eq!(config.root.path, "rootfs");
        assert!(config.process.is_none());
        assert_eq!(config.remarks, ["x: unknown property, ignored"]);
    }

    #[test]
    fn required_fields_are_named() {
        assert_eq!(error("{}"), "ociVersion: is required and missing");
        let lines =
            r#"{"ociVersion":"1.3.0","root":{"path":"r"},"linux":{"intelRdt":{"schemata":["L3:0=f\nMB:0=9"]}}}"#;
        assert_eq!(error(lines), "linux.intelRdt.schemata: has a line break in one of its lines");
        assert_eq!(error(r#"{"ociVersion":"1.2.0"}"#), "root.path: is required and missing");
        assert!(error(r#"{"ociVersion":"2.0.0","root":{"path":"r"}}"#).contains("it reads 1.x.y"));
        for good in ["1.0.0", "1.3.0-rc.1", "1.0.2-dev", "1.2.0+git.07", "1.0.0-0a.-+x"] {
            assert!(is_semantic(good), "{good}");
        }
        for bad in [
            "1",
            "1.",
            "1..",
            "1.a.b",
            "1.0",
            "1.0.0.0",
            "1.01.0",
            "1.0.0-",
            "1.0.0-01",
            "1.0.0+",
            "1.0.0-a..b",
            " 1.0.0",
        ] {
            assert!(
                error(&format!(r#"{{"ociVersion":"{bad}","root":{{"path":"r"}}}}"#)).contains("it reads 1.x.y"),
                "{bad}"
            );
        }
        assert!(error(r#"{"ociVersion":"banana","root":{"path":"r"}}"#).contains("banana"));
    }

    #[test]
    fn members_that_have_to_be_there_are_named() {
        let base = |field: &str| format!(r#"{{"ociVersion":"1.2.0","root":{{"path":"r"}},{field}}}"#);
        for (field, path) in [
            (r#""mounts":[{"source":"x"}]"#, "mounts[0].destination"),
            (r#""process":{}"#, "process.cwd"),
            (r#""process":{"cwd":"/","consoleSize":{"width":7}}"#, "process.consoleSize.height"),
            (r#""process":{"cwd":"/","rlimits":[{"type":"RLIMIT_CORE","hard":1}]}"#, "process.rlimits[0].soft"),
            (r#""process":{"cwd":"/","rlimits":[{"type":"RLIMIT_CORE","soft":1}]}"#, "process.rlimits[0].hard"),
            (r#""process":{"cwd":"/","scheduler":{"nice":1}}"#, "process.scheduler.policy"),
            (r#""process":{"cwd":"/","ioPriority":{"priority":1}}"#, "process.ioPriority.class"),
            (r#""hooks":{"poststop":[{"args":["a"]}]}"#, "hooks.poststop[0].path"),
            (r#""linux":{"namespaces":[{"path":"/x"}]}"#, "linux.namespaces[0].type"),
            (r#""linux":{"uidMappings":[{"containerID":0,"hostID":1}]}"#, "linux.uidMappings[0].size"),
            (r#""linux":{"gidMappings":[{"size":1,"hostID":1}]}"#, "linux.gidMappings[0].containerID"),
            (r#""linux":{"devices":[{"type":"c","major":1,"minor":1}]}"#, "linux.devices[0].path"),
            (r#""linux":{"devices":[{"type":"c","path":"/a","major":1}]}"#, "linux.devices[0].minor"),
            (r#""linux":{"resources":{"devices":[{"access":"rwm"}]}}"#, "linux.resources.devices[0].allow"),
            (r#""linux":{"resources":{"hugepageLimits":[{"limit":1}]}}"#, "linux.resources.hugepageLimits[0].pageSize"),
            (
                r#""linux":{"resources":{"hugepageLimits":[{"pageSize":"2MB"}]}}"#,
                "linux.resources.hugepageLimits[0].limit",
            ),
            (
                r#""linux":{"resources":{"blockIO":{"weightDevice":[{"major":1}]}}}"#,
                "linux.resources.blockIO.weightDevice[0].minor",
            ),
            (
                r#""linux":{"resources":{"blockIO":{"throttleReadBpsDevice":[{"major":1,"minor":null,"rate":1}]}}}"#,
                "linux.resources.blockIO.throttleReadBpsDevice[0].minor",
            ),
            (
                r#""linux":{"resources":{"blockIO":{"throttleWriteIOPSDevice":[{"major":1,"minor":1}]}}}"#,
                "linux.resources.blockIO.throttleWriteIOPSDevice[0].rate",
            ),
            (r#""linux":{"seccomp":{"syscalls":[]}}"#, "linux.seccomp.defaultAction"),
            (
                r#""linux":{"seccomp":{"defaultAction":"x","syscalls":[{"names":["a"]}]}}"#,
                "linux.seccomp.syscalls[0].action",
            ),
            (
                r#""linux":{"seccomp":{"defaultAction":"x","syscalls":[{"names":["a"],"action":"x","args":[{"index":0,"op":"SCMP_CMP_EQ"}]}]}}"#,
                "linux.seccomp.syscalls[0].args[0].value",
            ),
            (r#""linux":{"memoryPolicy":{"nodes":"0"}}"#, "linux.memoryPolicy.mode"),
            (r#""linux":{"personality":{}}"#, "linux.personality.domain"),
        ] {
            assert_eq!(error(&base(field)), format!("{path}: is required and missing"), "{field}");
        }
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        let base = |field: &str| format!(r#"{{"ociVersion":"1.2.0","root":{{"path":"r"}},{field}}}"#);
        for (field, path) in [
            (r#""linux":{"intelRdt":{"memBwSchema":"x"}}"#, "linux.intelRdt.memBwSchema"),
            (r#""linux":{"memoryPolicy":{"mode":"MPOL_ODD"}}"#, "linux.memoryPolicy.mode"),
            (r#""linux":{"netDevices":{"eth0":{"name":"a/b"}}}"#, "linux.netDevices.eth0.name"),
            (r#""vm":{"kernel":{"path":"/k"}}"#, "vm"),
            (r#""linux":{"resources":{"memory":{"swappiness":10}}}"#, "linux.resources.memory.swappiness"),
            (r#""linux":{"resources":{"network":{"classID":10}}}"#, "linux.resources.network"),
            (r#""linux":{"resources":{"memory":{"kernel":1}}}"#, "linux.resources.memory.kernel"),
            (r#""linux":{"resources":{"memory":{"kernelTCP":1}}}"#, "linux.resources.memory.kernelTCP"),
            (
                r#""linux":{"resources":{"memory":{"disableOOMKiller":true}}}"#,
                "linux.resources.memory.disableOOMKiller",
            ),
            (r#""linux":{"resources":{"memory":{"useHierarchy":false}}}"#, "linux.resources.memory.useHierarchy"),
            (r#""linux":{"resources":{"cpu":{"realtimeRuntime":1}}}"#, "linux.resources.cpu.realtimeRuntime"),
            (r#""linux":{"resources":{"cpu":{"realtimePeriod":1}}}"#, "linux.resources.cpu.realtimePeriod"),
            (r#""linux":{"resources":{"blockIO":{"leafWeight":1}}}"#, "linux.resources.blockIO.leafWeight"),
            (
                r#""linux":{"resources":{"devices":[{"allow":true,"major":4294967296}]}}"#,
                "linux.resources.devices[0].major",
            ),
            (r#""linux":{"resources":{"devices":[{"allow":true,"minor":-2}]}}"#, "linux.resources.devices[0].minor"),
            (r#""linux":{"namespaces":[{"type":"moon"}]}"#, "linux.namespaces[0].type"),
        ] {
            let error = error(&base(field));
            assert!(error.starts_with(&format!("{path}: ")), "{error}");
        }
        assert!(Config::parse(&base(r#""linux":{"intelRdt":null,"netDevices":{}}"#)).is_ok());
    }
}

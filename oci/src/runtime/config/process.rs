//! The `process` object.

use super::scheduling::{self, Affinity};
use super::{Result, string_list_of};
use crate::runtime::json::{Reader, Taken};
use crate::runtime::sys::schedule::SchedulerAttributes;

#[derive(Debug, Default, Clone)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) umask: Option<u32>,
    pub(crate) additional_gids: Vec<u32>,
}

/// Names as in the file (`CAP_CHOWN`).
#[derive(Debug, Default, Clone)]
pub(crate) struct Capabilities {
    pub(crate) bounding: Vec<String>,
    pub(crate) effective: Vec<String>,
    pub(crate) inheritable: Vec<String>,
    pub(crate) permitted: Vec<String>,
    pub(crate) ambient: Vec<String>,
}

#[derive(Debug, Default, Clone)]
pub(crate) struct RLimit {
    pub(crate) kind: String,
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

#[derive(Debug, Default, Clone)]
pub(crate) struct Process {
    pub(crate) terminal: bool,
    /// Rows and columns.
    pub(crate) console_size: Option<(u16, u16)>,
    pub(crate) cwd: String,
    pub(crate) env: Vec<String>,
    pub(crate) args: Vec<String>,
    pub(crate) user: User,
    pub(crate) capabilities: Option<Capabilities>,
    pub(crate) rlimits: Vec<RLimit>,
    pub(crate) no_new_privileges: bool,
    pub(crate) oom_score_adj: Option<i32>,
    pub(crate) apparmor_profile: Option<String>,
    pub(crate) selinux_label: Option<String>,
    pub(crate) scheduler: Option<SchedulerAttributes>,
    /// As ioprio_set(2) takes it.
    pub(crate) io_priority: Option<u32>,
    pub(crate) exec_affinity: Affinity,
}

impl Process {
    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Process> {
        let mut process = Process::default();
        r.object(&mut |r, name| {
            match name {
                "terminal" => process.terminal = r.boolean()?,
                "consoleSize" => process.console_size = Some(console_size(r)?),
                "cwd" => process.cwd = r.text()?,
                "env" => process.env = string_list_of(r, "NAME=VALUE", |s| s.contains('='))?,
                "args" => process.args = r.strings()?,
                "user" => process.user = user(r)?,
                "capabilities" => process.capabilities = Some(capabilities(r)?),
                "rlimits" => r.array(&mut |r| {
                    let one = rlimit(r)?;
                    // "If rlimits contains duplicated entries with same type, the runtime MUST generate an error."
                    if process.rlimits.iter().any(|other| other.kind == one.kind) {
                        return Err(r.invalid(format!("{} is named twice", one.kind)));
                    }
                    process.rlimits.push(one);
                    Ok(())
                })?,
                "noNewPrivileges" => process.no_new_privileges = r.boolean()?,
                "oomScoreAdj" => {
                    let score: i32 = r.integer()?;
                    if !(-1000..=1000).contains(&score) {
                        return Err(r.invalid("must lie between -1000 and 1000"));
                    }
                    process.oom_score_adj = Some(score);
                }
                "apparmorProfile" => process.apparmor_profile = Some(r.text()?).filter(|p| !p.is_empty()),
                "selinuxLabel" => process.selinux_label = Some(r.text()?).filter(|l| !l.is_empty()),
                "scheduler" => process.scheduler = Some(scheduling::scheduler(r)?),
                "ioPriority" => process.io_priority = Some(scheduling::io_priority(r)?),
                "execCPUAffinity" => process.exec_affinity = scheduling::affinity(r)?,
                "commandLine" => return r.refuse_unless_empty("it is for another platform"),
                _ => return Ok(Taken::No),
            }
            Ok(Taken::Yes)
        })?;
        if process.cwd.is_empty() {
            return Err(r.missing("cwd"));
        }
        if !process.cwd.starts_with('/') {
            return Err(r.invalid(format!("cwd {:?} is not an absolute path", process.cwd)));
        }
        Ok(process)
    }
}

fn user(r: &mut Reader<'_>) -> Result<User> {
    let mut user = User::default();
    // The published schema asks for neither id, and callers write one of them; what is not there is 0, as in Go's binding.
    r.object(&mut |r, name| {
        match name {
            "uid" => user.uid = id(r)?,
            "gid" => user.gid = id(r)?,
            "umask" => {
                let mask: u32 = r.integer()?;
                if mask > 0o777 {
                    return Err(r.invalid("is larger than 0777"));
                }
                user.umask = Some(mask);
            }
            "additionalGids" => r.array(&mut |r| {
                user.additional_gids.push(id(r)?);
                Ok(())
            })?,
            "username" => return r.refuse_unless_empty("it is for another platform"),
            _ => return Ok(Taken::No),
        }
        Ok(Taken::Yes)
    })?;
    Ok(user)
}

/// A user or group id. The largest number means "unchanged" to the kernel, so it is no id.
fn id(r: &mut Reader<'_>) -> Result<u32> {
    let id: u32 = r.integer()?;
    if id == u32::MAX { Err(r.invalid("is not a valid id")) } else { Ok(id) }
}

fn console_size(r: &mut Reader<'_>) -> Result<(u16, u16)> {
    let (mut rows, mut columns) = (0, 0);
    r.object_with(&["height", "width"], &mut |r, name| {
        match name {
            "height" => rows = r.integer()?,
            "width" => columns = r.integer()?,
            _ => return Ok(Taken::No),
        }
        Ok(Taken::Yes)
    })?;
    Ok((rows, columns))
}

fn capabilities(r: &mut Reader<'_>) -> Result<Capabilities> {
    let mut sets = Capabilities::default();
    r.object(&mut |r, name| {
        let set = match name {
            "bounding" => &mut sets.bounding,
            "effective" => &mut sets.effective,
            "inheritable" => &mut sets.inheritable,
            "permitted" => &mut sets.permitted,
            "ambient" => &mut sets.ambient,
            _ => return Ok(Taken::No),
        };
        *set = r.strings()?;
        Ok(Taken::Yes)
    })?;
    Ok(sets)
}

fn rlimit(r: &mut Reader<'_>) -> Result<RLimit> {
    let mut limit = RLimit::default();
    r.object_with(&["type", "soft", "hard"], &mut |r, name| {
        match name {
            "type" => limit.kind = r.text()?,
            "soft" => limit.soft = r.integer()?,
            "hard" => limit.hard = r.integer()?,
            _ => return Ok(Taken::No),
        }
        Ok(Taken::Yes)
    })?;
    if limit.soft > limit.hard {
        return Err(r.invalid(format!("the soft limit {} is above the hard limit {}", limit.soft, limit.hard)));
    }
    Ok(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Process> {
        Process::read(&mut Reader::new(text))
    }

    #[test]
    fn wrong_values_are_refused() {
        for text in [
            r#"{"args":["a"]}"#,
            r#"{"cwd":"tmp"}"#,
            r#"{"cwd":"/","env":["A"]}"#,
            r#"{"cwd":"/","user":{"uid":4294967295,"gid":0}}"#,
            r#"{"cwd":"/","user":{"uid":-1,"gid":0}}"#,
            r#"{"cwd":"/","user":{"uid":0,"gid":0,"umask":512}}"#,
            r#"{"cwd":"/","oomScoreAdj":1001}"#,
            r#"{"cwd":"/","rlimits":[{"type":"RLIMIT_CORE","soft":2,"hard":1}]}"#,
            r#"{"cwd":"/","rlimits":[{"type":"RLIMIT_CORE","soft":1,"hard":1},{"type":"RLIMIT_CORE","soft":0,"hard":1}]}"#,
            r#"{"cwd":"/","scheduler":{"policy":"SCHED_NEVER"}}"#,
            r#"{"cwd":"/","scheduler":{"nice":1}}"#,
            r#"{"cwd":"/","scheduler":{"policy":"SCHED_OTHER","nice":20}}"#,
            r#"{"cwd":"/","ioPriority":{"class":"IOPRIO_CLASS_BE","priority":8}}"#,
            r#"{"cwd":"/","execCPUAffinity":{"initial":"x"}}"#,
        ] {
            assert!(read(text).is_err(), "{text}");
        }
        assert!(read(r#"{"cwd":"/","scheduler":null,"user":{"uid":4294967294,"gid":0,"umask":63}}"#).is_ok());
        assert_eq!(read(r#"{"cwd":"/","user":{"uid":5}}"#).unwrap().user.gid, 0);
    }
}

//! Security labels: AppArmor profiles and SELinux contexts, applied where the kernel has them and refused where it has not.

use std::ffi::CStr;
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use crate::runtime::config::{ConfigError, Process};

/// A setting of the process itself, below /proc.
pub(crate) struct Label {
    pub(crate) path: &'static CStr,
    pub(crate) value: Vec<u8>,
    /// For errors.
    pub(crate) field: &'static str,
}

type Result<T> = std::result::Result<T, ConfigError>;

/// The security modules of a kernel.
#[derive(Clone, Copy)]
struct Modules {
    apparmor: bool,
    /// AppArmor has a file of its own: a kernel with several modules gives the common one to the first.
    apparmor_file: bool,
    selinux: bool,
}

/// Takes what is a context to the loaded policy and refuses what is none (what security_check_context(3) writes to).
const CONTEXT: &str = "/sys/fs/selinux/context";

impl Modules {
    fn here() -> Modules {
        // Before a policy is loaded every process is `kernel`, and the kernel takes any words for a context.
        let own = std::fs::read("/proc/self/attr/current").unwrap_or_default();
        let enabled = std::fs::read("/sys/module/apparmor/parameters/enabled").unwrap_or_default();
        Modules {
            apparmor: enabled.first() == Some(&b'Y'),
            apparmor_file: Path::new("/proc/self/attr/apparmor/exec").exists(),
            selinux: Path::new(CONTEXT).exists() && own.strip_suffix(b"\0").unwrap_or(&own) != b"kernel",
        }
    }
}

/// What the program is to run under, from its exec on.
pub(super) fn of_process(process: &Process) -> Result<Vec<Label>> {
    if process.apparmor_profile.is_none() && process.selinux_label.is_none() {
        return Ok(Vec::new());
    }
    if let Some(label) = process.selinux_label.as_deref() {
        check_selinux("process.selinuxLabel", label)?;
    }
    labels(process, Modules::here())
}

fn labels(process: &Process, modules: Modules) -> Result<Vec<Label>> {
    let mut all = Vec::new();
    if let Some(profile) = process.apparmor_profile.as_deref() {
        let field = "process.apparmorProfile";
        match (modules.apparmor, profile) {
            (true, _) => {
                let path = if modules.apparmor_file { c"self/attr/apparmor/exec" } else { c"self/attr/exec" };
                all.push(Label { path, value: format!("exec {profile}").into_bytes(), field });
            }
            (false, "unconfined") => {}
            (false, _) => return Err(ConfigError::unsupported(field, "this kernel runs without AppArmor")),
        }
    }
    if let Some(label) = process.selinux_label.as_deref() {
        let field = "process.selinuxLabel";
        need_selinux(field, modules)?;
        // The session keyring is to be the program's, too; its exec ends that (selinux_bprm_committing_creds).
        for path in [c"self/attr/keycreate", c"self/attr/exec"] {
            all.push(Label { path, value: label.as_bytes().to_vec(), field });
        }
    }
    Ok(all)
}

fn need_selinux(field: &str, modules: Modules) -> Result<()> {
    if modules.selinux {
        return Ok(());
    }
    Err(ConfigError::unsupported(field, "this kernel runs without SELinux or a policy of it"))
}

/// Before anything is made: a mount's context would be refused without a word on which field it came from.
pub(super) fn check_selinux(field: &str, label: &str) -> Result<()> {
    need_selinux(field, Modules::here())?;
    let asked =
        std::fs::File::options().write(true).open(CONTEXT).and_then(|mut file| file.write_all(label.as_bytes()));
    match asked {
        Err(error) if error.kind() == ErrorKind::InvalidInput => {
            Err(ConfigError::invalid(field, format!("{label:?} is no context of the loaded SELinux policy")))
        }
        // Whoever may not ask learns it from the kernel when the label is set.
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Modules = Modules { apparmor: false, apparmor_file: false, selinux: false };

    /// The file below /proc and what is written to it.
    fn written(apparmor: Option<&str>, selinux: Option<&str>, modules: Modules) -> Result<Vec<(String, String)>> {
        let process = Process {
            apparmor_profile: apparmor.map(str::to_owned),
            selinux_label: selinux.map(str::to_owned),
            ..Process::default()
        };
        let text = |label: Label| {
            (label.path.to_string_lossy().into_owned(), String::from_utf8_lossy(&label.value).into_owned())
        };
        Ok(labels(&process, modules)?.into_iter().map(text).collect())
    }

    #[test]
    fn labels_are_written_where_the_kernel_reads_them() {
        let pair = |path: &str, value: &str| vec![(path.to_owned(), value.to_owned())];
        let apparmor = Modules { apparmor: true, ..NONE };
        assert_eq!(written(Some("p"), None, apparmor).unwrap(), pair("self/attr/exec", "exec p"));
        let both = Modules { apparmor_file: true, selinux: true, ..apparmor };
        assert_eq!(written(Some("p"), None, both).unwrap(), pair("self/attr/apparmor/exec", "exec p"));
        // A profile of its own name, by which what confines the runtime is left behind.
        assert_eq!(
            written(Some("unconfined"), None, both).unwrap(),
            pair("self/attr/apparmor/exec", "exec unconfined")
        );
        let context = [pair("self/attr/keycreate", "a:b:c:s0"), pair("self/attr/exec", "a:b:c:s0")].concat();
        assert_eq!(written(None, Some("a:b:c:s0"), both).unwrap(), context);
    }

    #[test]
    fn labels_nobody_reads_are_refused() {
        assert!(written(Some("p"), None, Modules { selinux: true, ..NONE }).is_err());
        assert!(written(None, Some("a:b:c:s0"), Modules { apparmor: true, ..NONE }).is_err());
        assert_eq!(written(Some("unconfined"), None, NONE).unwrap(), []);
    }
}

//! Security labels: AppArmor profiles and SELinux contexts, applied where the kernel has them and refused where it has not.

use std::ffi::CStr;
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

/// What the program is to run under, from its exec on.
pub(super) fn of_process(process: &Process) -> Result<Vec<Label>> {
    let mut all = Vec::new();
    if let Some(profile) = process.apparmor_profile.as_deref() {
        let field = "process.apparmorProfile";
        let text = std::fs::read("/sys/module/apparmor/parameters/enabled").unwrap_or_default();
        match (text.first() == Some(&b'Y'), profile) {
            (true, _) => {
                let path = if Path::new("/proc/self/attr/apparmor/exec").exists() {
                    c"self/attr/apparmor/exec"
                } else {
                    c"self/attr/exec"
                };
                all.push(Label { path, value: format!("exec {profile}").into_bytes(), field });
            }
            (false, "unconfined") => {}
            (false, _) => return Err(ConfigError::unsupported(field, "this kernel runs without AppArmor")),
        }
    }
    if let Some(label) = process.selinux_label.as_deref() {
        let field = "process.selinuxLabel";
        need_selinux(field)?;
        all.push(Label { path: c"self/attr/exec", value: label.as_bytes().to_vec(), field });
    }
    Ok(all)
}

pub(super) fn need_selinux(field: &str) -> Result<()> {
    if Path::new("/sys/fs/selinux/status").exists() {
        return Ok(());
    }
    Err(ConfigError::unsupported(field, "this kernel runs without SELinux"))
}

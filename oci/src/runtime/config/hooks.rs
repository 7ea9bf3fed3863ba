//! Programs to run at the points of a container's life (spec, section "POSIX-platform Hooks").

use super::{Result, string_list_of};
use crate::runtime::json::{Reader, Taken};

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Hook {
    pub(crate) path: String,
    /// With the program's name as the first.
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) timeout_seconds: Option<u32>,
}

#[derive(Debug, Default)]
pub(crate) struct Hooks {
    pub(crate) prestart: Vec<Hook>,
    pub(crate) create_runtime: Vec<Hook>,
    pub(crate) create_container: Vec<Hook>,
    pub(crate) start_container: Vec<Hook>,
    pub(crate) poststart: Vec<Hook>,
    pub(crate) poststop: Vec<Hook>,
}

impl Hooks {
    /// Hooks that are run while the container is made.
    pub(crate) fn any_at_create(&self) -> bool {
        !(self.prestart.is_empty() && self.create_runtime.is_empty() && self.create_container.is_empty())
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Hooks> {
        let mut hooks = Hooks::default();
        r.object(&mut |r, name| {
            let list = match name {
                "prestart" => &mut hooks.prestart,
                "createRuntime" => &mut hooks.create_runtime,
                "createContainer" => &mut hooks.create_container,
                "startContainer" => &mut hooks.start_container,
                "poststart" => &mut hooks.poststart,
                "poststop" => &mut hooks.poststop,
                _ => return Ok(Taken::No),
            };
            r.array(&mut |r| {
                list.push(hook(r)?);
                Ok(())
            })?;
            Ok(Taken::Yes)
        })?;
        Ok(hooks)
    }
}

fn hook(r: &mut Reader<'_>) -> Result<Hook> {
    let mut hook = Hook::default();
    r.object_with(&["path"], &mut |r, name| {
        match name {
            "path" => hook.path = r.text()?,
            "args" => hook.args = r.strings()?,
            "env" => hook.env = string_list_of(r, "NAME=VALUE", |s| s.contains('='))?,
            "timeout" => {
                let seconds: u32 = r.integer()?;
                if seconds == 0 {
                    return Err(r.invalid("must be greater than zero"));
                }
                hook.timeout_seconds = Some(seconds);
            }
            _ => return Ok(Taken::No),
        }
        Ok(Taken::Yes)
    })?;
    if !hook.path.starts_with('/') {
        return Err(r.invalid(format!("the hook's path {:?} is not absolute", hook.path)));
    }
    if hook.args.is_empty() {
        hook.args.push(hook.path.clone());
    }
    Ok(hook)
}

//! `Secret=`

use std::path::{Path, PathBuf};

use crate::unit::{Said, Secret, SecretTarget, nearest::did_you_mean, sheet::Sheet};

pub(super) fn secrets(sheet: &mut Sheet<'_>) -> Vec<Secret> {
    let mut secrets: Vec<Secret> = Vec::new();
    let mut targets = std::collections::HashSet::new();
    for (value, word) in sheet.all_words("Container", "Secret") {
        match secret(&word.text) {
            Ok(secret) if !targets.insert(secret.target.clone()) => {
                sheet.error_at(&value, &word, format!("Secret={}: another secret has this target", word.text));
            }
            Ok(secret) => secrets.push(secret),
            Err(text) => sheet.error_at(&value, &word, text.behind(format_args!("Secret={}", word.text))),
        }
    }
    secrets
}

/// podman-run(1) `--secret`.
fn secret(text: &str) -> Result<Secret, Said> {
    const OPTIONS: [&str; 5] = ["type", "target", "uid", "gid", "mode"];
    let (first, rest) = text.split_once(',').map_or((text, None), |(first, rest)| (first, Some(rest)));
    // Podman takes the name without its key where it stands first, and with it anywhere.
    let (bare, options) = if first.contains('=') { (None, Some(text)) } else { (Some(first), rest) };
    let options: Vec<&str> = options.map_or_else(Vec::new, |options| options.split(',').collect());
    let named = |option: &&str| option.starts_with("source=");
    let source = options.iter().copied().rfind(named).and_then(|option| option.split_once('='));
    let name = super::name(source.map(|(_, name)| name).or(bare).ok_or("which secret? write its name first")?)?;
    let (mut is_file, mut target, mut uid, mut gid, mut mode) = (None, None, 0, 0, 0o444);
    let mut of_file = None;
    for option in options.iter().copied().filter(|option| !named(option)) {
        let (key, value) = option.split_once('=').ok_or_else(|| format!("{option} has no value"))?;
        let id = || value.parse::<u32>().ok().filter(|n| *n != u32::MAX).ok_or_else(|| format!("{value} is not an id"));
        match key {
            "type" if is_file.is_some() => return Err("a secret has one type".into()),
            "type" => {
                is_file = Some(match value {
                    "mount" => true,
                    "env" => false,
                    _ => return Err(format!("{value} is no type of a secret; mount and env are").into()),
                });
            }
            "target" if value.is_empty() || value.contains(char::is_whitespace) => {
                return Err("a target is a path or a variable's name".into());
            }
            "target" => target = Some(value),
            "uid" | "UID" => uid = id()?,
            "gid" | "GID" => gid = id()?,
            "mode" => {
                mode = u32::from_str_radix(value, 8)
                    .ok()
                    .filter(|m| *m <= 0o777)
                    .ok_or("a mode is octal, such as 0400")?;
            }
            _ => return Err(did_you_mean(format!("unknown option {key}"), key, OPTIONS)),
        }
        if matches!(key, "uid" | "UID" | "gid" | "GID" | "mode") {
            of_file = Some(key);
        }
    }
    let target = if is_file.unwrap_or(true) {
        let path = target.unwrap_or(&name);
        // A path that is not absolute lies in the usual place.
        let path = if path.starts_with('/') { PathBuf::from(path) } else { Path::new("/run/secrets").join(path) };
        SecretTarget::File { path: PathBuf::from(super::mounts::destination(&path.to_string_lossy())?), uid, gid, mode }
    } else if let Some(key) = of_file {
        return Err(format!("{key} is for secrets of type mount").into());
    } else {
        SecretTarget::Environment(target.unwrap_or(&name).to_owned())
    };
    Ok(Secret { name, target })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_variables() {
        let file = |path: &str, uid, mode| SecretTarget::File { path: path.into(), uid, gid: 0, mode };
        assert_eq!(secret("db").unwrap().target, file("/run/secrets/db", 0, 0o444));
        assert_eq!(secret("db,target=/etc/db,uid=5,mode=0400").unwrap().target, file("/etc/db", 5, 0o400));
        assert_eq!(secret("db,type=env,target=DB").unwrap().target, SecretTarget::Environment("DB".into()));
        assert_eq!(secret("source=db,type=env").unwrap(), secret("db,type=env,target=db").unwrap());
        // As podman's command line, in any order.
        assert_eq!(secret("type=env,source=db,target=DB").unwrap(), secret("db,type=env,target=DB").unwrap());
        assert_eq!(secret("db,UID=5,GID=6").unwrap(), secret("db,uid=5,gid=6").unwrap());
        assert!(secret("type=env,target=DB").is_err());
        for wrong in [
            "",
            "source=",
            "db,type=x",
            "db,foo=1",
            "db,mode=9",
            "db,type=env,uid=1",
            "db,target=",
            "db,,type=env",
            "db,",
            "db,TYPE=env",
            "src=db,type=env",
            "db,type=env,type=mount",
            "a/b",
            "db,uid=-1",
        ] {
            assert!(secret(wrong).is_err(), "{wrong}");
        }
    }
}

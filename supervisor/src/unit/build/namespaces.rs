//! `UserNS=`, `UIDMap=`, `GIDMap=`, `SubUIDMap=`, `SubGIDMap=`.

use crate::unit::{IdMap, UserNamespace, sheet::Sheet};

pub(super) fn user_namespace(section: &'static str, sheet: &mut Sheet<'_>) -> UserNamespace {
    let uids = maps(section, "UIDMap", sheet);
    let gids = maps(section, "GIDMap", sheet);
    let named = |key, sheet: &mut Sheet<'_>| sheet.read(section, key, super::name);
    let (sub_uids, sub_gids) = (named("SubUIDMap", sheet), named("SubGIDMap", sheet));
    let mode = sheet.read(section, "UserNS", mode);
    let own = !uids.is_empty() || !gids.is_empty();
    let by_name = sub_uids.is_some() || sub_gids.is_some();
    if let Some(value) = sheet.last(section, "UserNS")
        && (own || by_name)
        && !matches!(mode, Some(None))
    {
        sheet.error(&value, format!("UserNS={} and a mapping of one's own exclude each other", value.text));
    }
    match (mode, own, by_name) {
        // podman-run(1): one of the two stands for both.
        (_, true, _) => UserNamespace::Mapped {
            uids: if uids.is_empty() { gids.clone() } else { uids.clone() },
            gids: if gids.is_empty() { uids } else { gids },
        },
        (_, _, true) => UserNamespace::Named { uids: sub_uids, gids: sub_gids },
        (Some(Some(mode)), ..) => mode,
        (Some(None), ..) => {
            if let Some(value) = sheet.last(section, "UserNS") {
                sheet.error(
                    &value,
                    "UserNS=private needs UIDMap= or GIDMap= beside it; auto takes unused ids by itself",
                );
            }
            UserNamespace::Host
        }
        (None, ..) => UserNamespace::Host,
    }
}

/// `None`: a namespace with mappings of other keys.
fn mode(text: &str) -> Result<Option<UserNamespace>, String> {
    let (word, options) = text.split_once(':').unwrap_or((text, ""));
    let options = || options.split(',').filter(|o| !o.is_empty()).map(|o| o.split_once('=').unwrap_or((o, "")));
    let number = |text: &str| text.parse::<u32>().map_err(|_| format!("{text:?} is not a number"));
    match word {
        "host" => Ok(Some(UserNamespace::Host)),
        "nomap" => Ok(Some(UserNamespace::Nomap)),
        "private" => Ok(None),
        "auto" => {
            let (mut size, mut uids, mut gids) = (None, Vec::new(), Vec::new());
            for (key, value) in options() {
                match key {
                    "size" => size = Some(number(value)?),
                    "uidmapping" => uids.push(map(value)?),
                    "gidmapping" => gids.push(map(value)?),
                    _ => return Err(format!("unknown option {key}; size, uidmapping and gidmapping are known")),
                }
            }
            Ok(Some(UserNamespace::Auto { size, uids, gids }))
        }
        "keep-id" => {
            let (mut uid, mut gid, mut size) = (None, None, None);
            for (key, value) in options() {
                match key {
                    "uid" => uid = Some(number(value)?),
                    "gid" => gid = Some(number(value)?),
                    "size" => size = Some(number(value)?),
                    _ => return Err(format!("unknown option {key}; uid, gid and size are known")),
                }
            }
            Ok(Some(UserNamespace::KeepId { uid, gid, size }))
        }
        "ns" | "container" => Err("the user namespace of somebody else cannot be joined here".to_owned()),
        _ => Err("expected host, auto, keep-id, nomap or private".to_owned()),
    }
}

fn maps(section: &'static str, key: &'static str, sheet: &mut Sheet<'_>) -> Vec<IdMap> {
    let mut maps = Vec::new();
    for (value, word) in sheet.all_words(section, key) {
        // podman-run(1): `[flags]container_uid:from_uid[:amount]`, with an @ before an id of the caller's parent namespace.
        let plain = word.text.trim_start_matches(['+', 'u', 'g']).replace(":@", ":");
        if plain != word.text && map(&plain).is_ok() {
            let text = format!("{key}={}: flags and @ are known, not available in this version", word.text);
            sheet.unavailable(&value, text);
            continue;
        }
        match map(&word.text) {
            Ok(map) => maps.push(map),
            Err(text) => sheet.error_at(&value, &word, format!("{key}={}: {text}", word.text)),
        }
    }
    maps
}

/// `container:host[:count]`
pub(super) fn map(text: &str) -> Result<IdMap, String> {
    const FORM: &str = "expected container:host:count, such as 0:100000:65536";
    let mut numbers = text.split(':').map(|n| n.parse::<u32>());
    let mut next = || numbers.next().transpose().map_err(|_| FORM);
    let (container, host, count) = (next()?, next()?, next()?);
    let (Some(container), Some(host), None) = (container, host, next()?) else { return Err(FORM.to_owned()) };
    let count = count.unwrap_or(1);
    // 4294967295 means nobody to the kernel.
    if count == 0 || container.checked_add(count).is_none() || host.checked_add(count).is_none() {
        return Err("the range is empty or goes beyond the last id, 4294967294".to_owned());
    }
    Ok(IdMap { container, host, count })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_and_maps() {
        assert_eq!(mode("host"), Ok(Some(UserNamespace::Host)));
        let keep = UserNamespace::KeepId { uid: Some(200), gid: Some(210), size: None };
        assert_eq!(mode("keep-id:uid=200,gid=210"), Ok(Some(keep)));
        assert!(matches!(mode("auto:size=1000,uidmapping=0:5:1"), Ok(Some(UserNamespace::Auto { .. }))));
        assert!(["x", "keep-id:x=1", "auto:size=a", "ns:/x"].iter().all(|t| mode(t).is_err()));
        assert_eq!(map("0:10000:10"), Ok(IdMap { container: 0, host: 10_000, count: 10 }));
        assert_eq!(map("5:6").unwrap().count, 1);
        assert!(["", "0", "0:1:0", "0:1:2:3", "a:1:1", "4294967295:0:1", "-1:0:1"].iter().all(|t| map(t).is_err()));
    }
}

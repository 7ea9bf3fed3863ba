//! `UserNS=`, `UIDMap=`, `GIDMap=`, `SubUIDMap=`, `SubGIDMap=`.

use crate::unit::{FIRST_GIVEN_ID, IdMap, UserNamespace, sheet::Sheet};

/// What /proc/PID/uid_map takes, user_namespaces(7).
const MAX_MAPS: usize = 340;
/// And of how much text, with its last NUL: a page (kernel/user_namespace.c, map_write).
const PAGE_BYTES: usize = 4096;
/// The machine's own root is added where a root file system is written to (daemon/bundle/idmapped.rs).
const LONGEST_LINE_BYTES: usize = "4294967294 0 1\n".len();

pub(super) fn user_namespace(section: &'static str, sheet: &mut Sheet<'_>) -> UserNamespace {
    let (uids, gids) = maps(section, sheet);
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
    for (map, sub) in [("UIDMap", "SubUIDMap"), ("GIDMap", "SubGIDMap")] {
        if own && let Some(value) = sheet.last(section, sub) {
            sheet.error(&value, format!("{sub}= and {map}= exclude each other"));
        }
    }
    match (mode, own) {
        (_, true) => UserNamespace::Mapped { uids, gids },
        // As podman: one of the two names stands for both.
        (_, _) if by_name => {
            let (uids, gids) = (sub_uids.clone().or(sub_gids.clone()), sub_gids.or(sub_uids));
            UserNamespace::Named { uids: uids.unwrap_or_default(), gids: gids.unwrap_or_default() }
        }
        (Some(Some(mode)), _) => mode,
        (Some(None), _) => {
            if let Some(value) = sheet.last(section, "UserNS") {
                sheet.error(
                    &value,
                    "UserNS=private needs UIDMap= or GIDMap= beside it; auto takes unused ids by itself",
                );
            }
            UserNamespace::Host
        }
        (None, _) => UserNamespace::Host,
    }
}

/// `None`: a namespace with mappings of other keys.
fn mode(text: &str) -> Result<Option<UserNamespace>, String> {
    let (word, options) = text.split_once(':').unwrap_or((text, ""));
    let options = || options.split(',').filter(|o| !o.is_empty()).map(|o| o.split_once('=').unwrap_or((o, "")));
    match word {
        "host" => Ok(Some(UserNamespace::Host)),
        "private" => Ok(None),
        "auto" => {
            let (mut size, mut uids, mut gids) = (None, Vec::new(), Vec::new());
            for (key, value) in options() {
                match key {
                    "size" => size = Some(self::size(value)?),
                    "uidmapping" => uids.push(map(value)?),
                    "gidmapping" => gids.push(map(value)?),
                    _ => return Err(format!("unknown option {key}; size, uidmapping and gidmapping are known")),
                }
            }
            check(&uids)?;
            check(&gids)?;
            Ok(Some(UserNamespace::Auto { size, uids, gids }))
        }
        "keep-id" | "nomap" => Err(format!(
            "{word} is about the user who calls podman, and nobody does here; write auto, or UIDMap= and GIDMap="
        )),
        "ns" | "container" => Err("the user namespace of somebody else cannot be joined here".to_owned()),
        _ => Err("expected host, auto or private".to_owned()),
    }
}

fn size(text: &str) -> Result<u32, String> {
    let most = u32::MAX - FIRST_GIVEN_ID;
    let size = text.parse().ok().filter(|size| (1..=most).contains(size));
    size.ok_or_else(|| format!("a size is a number of ids, at most {most}"))
}

/// One word of `UIDMap=` or `GIDMap=`.
struct Word {
    map: IdMap,
    /// `+`: what was said before gives way.
    extends: bool,
    of_users: bool,
    of_groups: bool,
}

/// For users, for groups.
fn maps(section: &'static str, sheet: &mut Sheet<'_>) -> (Vec<IdMap>, Vec<IdMap>) {
    let (users, groups) = (words(section, "UIDMap", sheet), words(section, "GIDMap", sheet));
    // podman-run(1): "if only one of --uidmap or --gidmap is given, podman assumes the mapping refers to both", but for the words
    // whose flags say otherwise.
    let (of_users, of_groups) = match (users.is_empty(), groups.is_empty()) {
        (false, true) => (&users, &users),
        (true, false) => (&groups, &groups),
        _ => (&users, &groups),
    };
    let uids = merged(of_users.iter().filter(|word| word.of_users));
    let gids = merged(of_groups.iter().filter(|word| word.of_groups));
    let mut said = false;
    for (key, maps, other) in [("UIDMap", &uids, "GIDMap"), ("GIDMap", &gids, "UIDMap")] {
        // Where one stands for both its mistakes are told once.
        let value = sheet.last(section, key).or_else(|| sheet.last(section, other).filter(|_| !said));
        let Some(value) = value else { continue };
        let empty = maps.is_empty() && !(uids.is_empty() && gids.is_empty());
        let empty = empty.then(|| "its flags leave it without any id".to_owned());
        if let Some(text) = check(maps).err().or(empty) {
            sheet.error(&value, format!("{key}=: {text}"));
            said = true;
        }
    }
    (uids, gids)
}

fn words(section: &'static str, key: &'static str, sheet: &mut Sheet<'_>) -> Vec<Word> {
    let mut words = Vec::new();
    for (value, text) in sheet.all_words(section, key) {
        match word(&text.text) {
            Ok(word) => words.push(word),
            Err(said) => sheet.error_at(&value, &text, format!("{key}={}: {said}", text.text)),
        }
    }
    words
}

/// podman-run(1): `[flags]container_uid:from_uid[:amount]`.
fn word(text: &str) -> Result<Word, String> {
    let plain = text.trim_start_matches(['+', 'u', 'g']);
    let flags = &text[..text.len() - plain.len()];
    let neither = !flags.contains(['u', 'g']);
    // An @ names an id of the host and not of Podman's own namespace; here there is only the host.
    let map = map(&plain.replacen(":@", ":", 1))?;
    Ok(Word {
        map,
        extends: flags.contains('+'),
        of_users: neither || flags.contains('u'),
        of_groups: neither || flags.contains('g'),
    })
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

fn merged<'a>(words: impl Iterator<Item = &'a Word>) -> Vec<IdMap> {
    let mut maps: Vec<IdMap> = Vec::new();
    for Word { map, extends, .. } in words {
        // Each `+` walks along what is there; so many the kernel does not take whatever follows.
        if maps.len() > 4 * MAX_MAPS {
            break;
        }
        if *extends {
            #[cfg(test)]
            crate::unit::text::steps::add(maps.len());
            let without = |have: IdMap| cut(have, have.container, map.container, map.count);
            let without_host = |have: IdMap| cut(have, have.host, map.host, map.count);
            maps = maps.into_iter().flat_map(without).flat_map(without_host).collect();
        }
        maps.push(*map);
    }
    maps
}

/// The map without those ids that, counted from `start`, lie among `count` from `from` on.
fn cut(map: IdMap, start: u32, from: u32, count: u32) -> impl Iterator<Item = IdMap> {
    let clamp = |id: u32| id.saturating_sub(start).min(map.count);
    let (low, high) = (clamp(from), clamp(from + count));
    let part = move |begin: u32, end: u32| IdMap {
        container: map.container + begin,
        host: map.host + begin,
        count: end - begin,
    };
    let parts = if low < high { [part(0, low), part(high, map.count)] } else { [map, part(0, 0)] };
    parts.into_iter().filter(|part| part.count > 0)
}

/// What the kernel takes, and what is not the machine's to give.
fn check(maps: &[IdMap]) -> Result<(), String> {
    if maps.len() > MAX_MAPS {
        return Err(format!("the kernel takes {MAX_MAPS} ranges"));
    }
    let line = |map: &IdMap| format!("{} {} {}\n", map.container, map.host, map.count).len();
    if maps.iter().map(line).sum::<usize>() + LONGEST_LINE_BYTES >= PAGE_BYTES {
        return Err(format!("the kernel takes {PAGE_BYTES} bytes of ranges, one a line, and these are longer"));
    }
    if let Some(map) = maps.iter().find(|map| map.host + map.count > FIRST_GIVEN_ID) {
        return Err(format!(
            "{}:{}:{}: ids of the host from {FIRST_GIVEN_ID} on are for UserNS=auto; map to lower ones",
            map.container, map.host, map.count
        ));
    }
    for (what, of) in [("the container's", (|map| map.container) as fn(&IdMap) -> u32), ("the host's", |map| map.host)]
    {
        let mut sorted: Vec<(u32, u32)> = maps.iter().map(|map| (of(map), map.count)).collect();
        sorted.sort_unstable();
        if let Some(pair) = sorted.windows(2).find(|pair| pair[0].0 + pair[0].1 > pair[1].0) {
            return Err(format!("{what} id {} is mapped twice", pair[1].0));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_map(container: u32, host: u32, count: u32) -> IdMap {
        IdMap { container, host, count }
    }

    #[test]
    fn modes_and_maps() {
        assert_eq!(mode("host"), Ok(Some(UserNamespace::Host)));
        let auto = UserNamespace::Auto { size: Some(1000), uids: vec![id_map(0, 5, 1)], gids: Vec::new() };
        assert_eq!(mode("auto:size=1000,uidmapping=0:5:1"), Ok(Some(auto)));
        for wrong in ["x", "keep-id:uid=1", "nomap", "auto:size=a", "auto:size=0", "auto:size=2147483648", "ns:/x"] {
            assert!(mode(wrong).is_err(), "{wrong}");
        }
        assert!(
            mode("auto:uidmapping=0:5:1,uidmapping=0:6:1")
                .unwrap_err()
                .contains("the container's id 0 is mapped twice")
        );
        assert_eq!(map("0:10000:10"), Ok(id_map(0, 10_000, 10)));
        assert_eq!(map("5:6").unwrap().count, 1);
        assert!(["", "0", "0:1:0", "0:1:2:3", "a:1:1", "4294967295:0:1", "-1:0:1"].iter().all(|t| map(t).is_err()));
    }

    #[test]
    fn flags_say_what_gives_way_and_whom_a_map_is_for() {
        let merge = |texts: &[&str]| merged(texts.iter().map(|text| word(text).unwrap()).collect::<Vec<_>>().iter());
        // podman-run(1)'s own example.
        assert_eq!(
            merge(&["0:0:65000", "+100000:1:1"]),
            [id_map(0, 0, 1), id_map(2, 2, 64_998), id_map(100_000, 1, 1)]
        );
        assert_eq!(merge(&["0:1000:10", "+5:2000:2"]), [id_map(0, 1000, 5), id_map(7, 1007, 3), id_map(5, 2000, 2)]);
        assert_eq!(merge(&["0:1000:10", "+0:1000:10"]), [id_map(0, 1000, 10)]);
        let both = |text: &str| word(text).map(|word| (word.of_users, word.of_groups)).unwrap();
        assert_eq!(
            ["0:@1:1", "+u0:1", "g0:1", "ug0:1"].map(both),
            [(true, true), (true, false), (false, true), (true, true)]
        );
        assert!(["x0:1:1", "0:@@1", "@0:1", "+"].iter().all(|text| word(text).is_err()));
        assert!(check(&[id_map(0, 5, 5), id_map(5, 9, 1)]).unwrap_err().contains("the host's id 9"));
        assert!(check(&[id_map(0, FIRST_GIVEN_ID - 1, 2)]).is_err());
        let many = |count| (0..count).map(|n| id_map(10_000_000 + n, 10_000_000 + n, 1)).collect::<Vec<_>>();
        assert_eq!(check(&many(200)), Ok(()));
        assert!(check(&many(250)).unwrap_err().contains("longer"));
    }
}

//! `User=`, `Group=`, `GroupAdd=`. Names are looked up in the image later; here only what no image can have is refused.

use crate::unit::{User, sheet::Sheet};

pub(super) fn user(sheet: &mut Sheet<'_>) -> Option<User> {
    let user = sheet.last("Container", "User").filter(|v| !v.text.is_empty());
    let group = sheet.last("Container", "Group").filter(|v| !v.text.is_empty());
    let Some(user) = user else {
        if let Some(group) = group {
            // As Quadlet: it has no way to say it to podman.
            sheet.error(&group, "Group= needs User= beside it");
        }
        return None;
    };
    let (name, own_group) = match user.text.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (user.text.as_str(), None),
    };
    if own_group.is_some() && group.is_some() {
        sheet.error(&user, format!("User={} names a group already; leave it out here or leave Group= out", user.text));
    }
    if !is_identity(name) || own_group.is_some_and(|g| !is_identity(g)) {
        sheet.error(&user, format!("User={}: expected a user's name or a number below 4294967295", user.text));
    }
    if let Some(group) = &group
        && !is_identity(&group.text)
    {
        sheet.error(group, format!("Group={}: expected a group's name or a number below 4294967295", group.text));
    }
    let group = group.map(|g| g.text.clone()).or_else(|| own_group.map(str::to_owned));
    Some(User { user: name.to_owned(), group })
}

pub(super) fn extra_groups(sheet: &mut Sheet<'_>) -> Vec<String> {
    let mut groups = Vec::new();
    for value in sheet.all("Container", "GroupAdd") {
        if value.text == "keep-groups" {
            sheet.error(
                &value,
                "keep-groups is for users' own podman, which this system does not have; name the groups",
            );
        } else if is_identity(&value.text) {
            groups.push(value.text.clone());
        } else {
            sheet.error(
                &value,
                format!("GroupAdd={}: expected one group's name or a number below 4294967295", value.text),
            );
        }
    }
    groups
}

/// A name as useradd(8) makes them, or an exact decimal number: never something that is almost a number (CVE-2026-30892).
fn is_identity(text: &str) -> bool {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u32>().is_ok_and(|n| n != u32::MAX);
    }
    !text.is_empty()
        && !text.starts_with('-')
        && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '$'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_exact_or_refused() {
        assert!(["0", "1000", "4294967294", "www-data", "_apt", "a.b"].iter().all(|t| is_identity(t)));
        assert!(
            ["", "-1", "4294967295", "4294967296", " 1", "0x1", "1.5", "1a", "a b", "a:b"]
                .iter()
                .all(|t| !is_identity(t))
        );
    }
}

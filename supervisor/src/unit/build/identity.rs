//! `User=`, `Group=`, `GroupAdd=`. Names are looked up in the image later; here only what no image can have is refused.

use std::rc::Rc;

use crate::unit::{User, sheet::Sheet, text::Text};

pub(super) fn user(sheet: &mut Sheet<'_>) -> Option<User> {
    let (users, groups) = (sheet.every("Container", "User"), sheet.every("Container", "Group"));
    for user in &users {
        let (name, own_group) = parts(&user.text);
        if !user.text.is_empty() && (!is_identity(name) || own_group.is_some_and(|g| !is_identity(g))) {
            sheet.error(user, format!("User={}: expected a user's name or a number below 4294967295", user.text));
        }
    }
    for group in groups.iter().filter(|group| !group.text.is_empty() && !is_identity(&group.text)) {
        sheet.error(group, format!("Group={}: expected a group's name or a number below 4294967295", group.text));
    }
    let last = |all: Vec<Rc<Text>>| all.into_iter().next_back().filter(|v| !v.text.is_empty());
    let (user, group) = (last(users), last(groups));
    let Some(user) = user else {
        if let Some(group) = group {
            // As Quadlet: it has no way to say it to podman.
            sheet.error(&group, "Group= needs User= beside it");
        }
        return None;
    };
    let (name, own_group) = parts(&user.text);
    if own_group.is_some() && group.is_some() {
        sheet.error(&user, format!("User={} names a group already; leave it out here or leave Group= out", user.text));
    }
    let group = group.map(|g| g.text.clone()).or_else(|| own_group.map(str::to_owned));
    Some(User { user: name.to_owned(), group })
}

/// `user[:group]`
fn parts(text: &str) -> (&str, Option<&str>) {
    text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)))
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

//! Who a process is: names looked up in the image's own /etc/passwd and /etc/group, as podman-run(1) does for `--user`.

use oci_spec::runtime::User;

use super::{Facts, SpecError};
use crate::unit::ContainerSpec;

pub(super) struct Identity {
    pub(super) user: User,
    /// The user's home in the image's /etc/passwd.
    pub(super) home: String,
}

/// One line of /etc/passwd.
struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// `of_image` is the configuration's `User`: `user`, `uid`, `user:group`, …, or nothing.
pub(super) fn identity(container: &ContainerSpec, of_image: &str, facts: &Facts) -> Result<Identity, SpecError> {
    let (user, group) = match &container.user {
        Some(user) => (user.user.as_str(), user.group.as_deref()),
        None => match of_image.split_once(':') {
            Some((user, group)) => (user, Some(group).filter(|g| !g.is_empty())),
            None => (of_image, None),
        },
    };
    let Ids { uid, gid, mut extra, home } = look_up(user, group, &facts.passwd, &facts.group)?;
    for group in &container.extra_groups {
        extra.push(group_id(group, &facts.group)?);
    }
    extra.sort_unstable();
    extra.dedup();
    let mut user = User::default();
    user.set_uid(uid);
    user.set_gid(gid);
    user.set_umask(Some(container.umask));
    user.set_additional_gids((!extra.is_empty()).then_some(extra));
    user.set_username(None);
    let home = match home {
        // Where the image does not say: root's usual place, or none in particular.
        "" if uid == 0 => "/root",
        "" => "/",
        home => home,
    };
    Ok(Identity { user, home: home.to_owned() })
}

struct Ids<'a> {
    uid: u32,
    gid: u32,
    /// The groups it is a member of.
    extra: Vec<u32>,
    home: &'a str,
}

fn look_up<'a>(user: &str, group: Option<&str>, passwd: &'a str, all_groups: &str) -> Result<Ids<'a>, SpecError> {
    let user = if user.is_empty() { "0" } else { user };
    let by_name = accounts(passwd).find(|account| account.name == user);
    let account = match number(user) {
        Some(uid) => by_name.or_else(|| accounts(passwd).find(|account| account.uid == uid)),
        None => by_name,
    };
    let uid = match (&account, number(user)) {
        (Some(account), _) => account.uid,
        (None, Some(uid)) => uid,
        // An image without /etc/passwd has a root all the same.
        (None, None) if user == "root" => 0,
        (None, None) => return Err(SpecError::NoUser(user.to_owned())),
    };
    let gid = match group {
        Some(group) => group_id(group, all_groups)?,
        None => account.as_ref().map_or(0, |account| account.gid),
    };
    let mut extra: Vec<u32> = Vec::new();
    // Memberships count only where no group was asked for.
    if group.is_none()
        && let Some(account) = &account
    {
        let member = |members: &str| members.split(',').any(|m| m == account.name);
        extra.extend(groups(all_groups).filter(|(_, _, members)| member(members)).map(|(_, gid, _)| gid));
    }
    Ok(Ids { uid, gid, extra, home: account.map_or("", |account| account.home) })
}

/// The ids that `user[:group]` has in a container with these files, and the groups the user is in; or who is not there.
pub(crate) fn user_ids(text: &str, passwd: &str, all_groups: &str) -> Result<(u32, u32, Vec<u32>), String> {
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    match look_up(user, group.filter(|group| !group.is_empty()), passwd, all_groups) {
        Ok(Ids { uid, gid, extra, .. }) => Ok((uid, gid, extra)),
        Err(SpecError::NoGroup(name)) => Err(format!("group {name}")),
        Err(_) => Err(format!("user {user}")),
    }
}

fn group_id(group: &str, all_groups: &str) -> Result<u32, SpecError> {
    let found = groups(all_groups).find(|(name, _, _)| *name == group).map(|(_, gid, _)| gid);
    match found.or_else(|| number(group)) {
        Some(gid) => Ok(gid),
        None if group == "root" => Ok(0),
        None => Err(SpecError::NoGroup(group.to_owned())),
    }
}

/// Exact decimal digits, and not the number that means nobody to the kernel.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().filter(|n| *n != u32::MAX)
}

fn accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _password) = (fields.next()?, fields.next()?);
        let (uid, gid) = (number(fields.next()?)?, number(fields.next()?)?);
        let (_comment, home) = (fields.next(), fields.next());
        Some(Account { name, uid, gid, home: home.unwrap_or("") })
    })
}

/// Name, number, members.
fn groups(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _password) = (fields.next()?, fields.next()?);
        Some((name, number(fields.next()?)?, fields.next().unwrap_or("")))
    })
}

//! Mount options, as mount(8) and the spec's table write them, in the terms of the new mount interface. Pure.

use crate::runtime::sys::mount::{
    ATIME, NOATIME, NODEV, NODIRATIME, NOEXEC, NOSUID, NOSYMFOLLOW, RDONLY, RELATIME, STRICTATIME,
};

/// What a bind mount takes along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bind {
    One,
    Recursive,
}

/// Bits to set and to clear in mount_setattr.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Bits {
    pub(crate) set: u64,
    pub(crate) clear: u64,
}

impl Bits {
    fn on(&mut self, bits: u64) {
        self.set |= bits;
        self.clear &= !bits;
    }

    fn off(&mut self, bits: u64) {
        self.clear |= bits;
        self.set &= !bits;
    }

    fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::On(bits) => self.on(bits),
            Effect::Off(bits) => self.off(bits),
            Effect::AccessTime(policy) => self.access_time(policy),
        }
    }

    /// The access time policies exclude each other: the kernel wants the whole field cleared with the new value set.
    fn access_time(&mut self, policy: u64) {
        self.set = self.set & !ATIME | policy;
        self.clear |= ATIME;
    }
}

/// What a word does to the attributes of a mount. With an `r` in front it does so to everything below it too.
#[derive(Clone, Copy)]
enum Effect {
    On(u64),
    Off(u64),
    AccessTime(u64),
}

const ATTRIBUTES: [(&str, Effect); 18] = [
    ("atime", Effect::AccessTime(RELATIME)),
    ("dev", Effect::Off(NODEV)),
    ("diratime", Effect::Off(NODIRATIME)),
    ("exec", Effect::Off(NOEXEC)),
    ("noatime", Effect::AccessTime(NOATIME)),
    ("nodev", Effect::On(NODEV)),
    ("nodiratime", Effect::On(NODIRATIME)),
    ("noexec", Effect::On(NOEXEC)),
    ("norelatime", Effect::AccessTime(STRICTATIME)),
    ("nostrictatime", Effect::AccessTime(RELATIME)),
    ("nosuid", Effect::On(NOSUID)),
    ("nosymfollow", Effect::On(NOSYMFOLLOW)),
    ("relatime", Effect::AccessTime(RELATIME)),
    ("ro", Effect::On(RDONLY)),
    ("rw", Effect::Off(RDONLY)),
    ("strictatime", Effect::AccessTime(STRICTATIME)),
    ("suid", Effect::Off(NOSUID)),
    ("symfollow", Effect::Off(NOSYMFOLLOW)),
];

/// The words for propagation, for options and for `rootfsPropagation`.
const PROPAGATION: [(&str, (u64, bool)); 8] = [
    ("private", (libc::MS_PRIVATE, false)),
    ("rprivate", (libc::MS_PRIVATE, true)),
    ("rshared", (libc::MS_SHARED, true)),
    ("rslave", (libc::MS_SLAVE, true)),
    ("runbindable", (libc::MS_UNBINDABLE, true)),
    ("shared", (libc::MS_SHARED, false)),
    ("slave", (libc::MS_SLAVE, false)),
    ("unbindable", (libc::MS_UNBINDABLE, false)),
];

/// Words of a file system's super block, which every file system takes; the defaults among them change nothing for a bind mount.
const SUPER_BLOCK: [&str; 7] = ["async", "dirsync", "lazytime", "mand", "nolazytime", "nomand", "sync"];
/// Words of mount(8) that ask for what is so anyway, or that each file system decides for itself (a super block's `iversion`).
const NOTHING: [&str; 5] = ["defaults", "iversion", "loud", "noiversion", "silent"];
const OTHERS: [&str; 6] = ["bind", "idmap", "rbind", "remount", "ridmap", "tmpcopyup"];

/// Every word that is known here, for `features`.
pub(crate) fn known() -> Vec<String> {
    let attributes = ATTRIBUTES.iter().flat_map(|(word, _)| [(*word).to_owned(), format!("r{word}")]);
    let rest = SUPER_BLOCK.iter().chain(&NOTHING).chain(&OTHERS).chain(PROPAGATION.iter().map(|(word, _)| word));
    let mut all: Vec<String> = attributes.chain(rest.map(|word| (*word).to_owned())).collect();
    all.sort();
    all
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) bind: Option<Bind>,
    /// For this mount alone, and for it with everything below.
    pub(crate) own: Bits,
    pub(crate) recursive: Bits,
    /// MS_SHARED and its like, and whether it goes for everything below.
    pub(crate) propagation: Option<(u64, bool)>,
    /// `idmap` or `ridmap`, and the mapping some engines write behind it.
    pub(crate) idmap: Option<(Bind, String)>,
    /// Change the attributes of what is mounted there already.
    pub(crate) remount: bool,
    /// Fill the new tmpfs with what the image has there.
    pub(crate) copy_up: bool,
    /// For the file system: a name, or a name and a value.
    pub(crate) data: Vec<(String, Option<String>)>,
}

impl Options {
    pub(crate) fn parse(options: &[String]) -> Options {
        let mut all = Options::default();
        options.iter().for_each(|option| all.add(option));
        all
    }

    fn add(&mut self, option: &str) {
        let (name, value) = option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
        match name {
            "bind" => self.bind = Some(self.bind.unwrap_or(Bind::One)),
            "rbind" => self.bind = Some(Bind::Recursive),
            "idmap" => self.idmap = Some((Bind::One, value.unwrap_or_default().to_owned())),
            "ridmap" => self.idmap = Some((Bind::Recursive, value.unwrap_or_default().to_owned())),
            "remount" => self.remount = true,
            "tmpcopyup" => self.copy_up = true,
            "" => {}
            word if NOTHING.contains(&word) => {}
            _ if self.attribute(option) => {}
            _ => match propagation(option) {
                Some(kind) => self.propagation = Some(kind),
                None => self.data.push((name.to_owned(), value.map(str::to_owned))),
            },
        }
    }

    fn attribute(&mut self, option: &str) -> bool {
        let effect = |word: &str| ATTRIBUTES.iter().find(|(name, _)| *name == word).map(|(_, effect)| *effect);
        if let Some(effect) = effect(option) {
            self.own.apply(effect);
            return true;
        }
        let Some(effect) = option.strip_prefix('r').and_then(effect) else { return false };
        self.recursive.apply(effect);
        true
    }

    /// An option that means nothing for a mount without a file system of its own.
    pub(crate) fn not_for_bind(&self) -> Option<&str> {
        let neutral = ["async", "mand", "nolazytime", "nomand"];
        self.data.iter().map(|(name, _)| name.as_str()).find(|name| !neutral.contains(name))
    }
}

pub(crate) fn propagation(word: &str) -> Option<(u64, bool)> {
    PROPAGATION.iter().find(|(name, _)| *name == word).map(|(_, kind)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Options {
        Options::parse(&text.split(',').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_last_of_two_opposites_wins() {
        let options = parse("ro,nosuid,rw,dev,nodev");
        assert_eq!(options.own, Bits { set: NOSUID | NODEV, clear: RDONLY });
    }

    #[test]
    fn recursive_forms_are_kept_apart() {
        let options = parse("rbind,rro,rnosuid,nodev,rslave");
        assert_eq!(options.bind, Some(Bind::Recursive));
        assert_eq!(options.own, Bits { set: NODEV, clear: 0 });
        assert_eq!(options.recursive, Bits { set: RDONLY | NOSUID, clear: 0 });
        assert_eq!(options.propagation, Some((libc::MS_SLAVE, true)));
    }

    #[test]
    fn access_times_replace_each_other() {
        assert_eq!(parse("noatime,strictatime").own, Bits { set: STRICTATIME, clear: ATIME });
        assert_eq!(parse("noatime,relatime,nodiratime").own, Bits { set: NODIRATIME, clear: ATIME });
        assert_eq!(parse("rnoatime").recursive, Bits { set: NOATIME, clear: ATIME });
    }

    #[test]
    fn the_rest_is_for_the_file_system() {
        let options = parse("size=64k,mode=1777,newinstance,gid=5,rsize=9");
        let some = |n: &str, v: &str| (n.to_owned(), Some(v.to_owned()));
        let newinstance = ("newinstance".to_owned(), None);
        let want = vec![some("size", "64k"), some("mode", "1777"), newinstance, some("gid", "5"), some("rsize", "9")];
        assert_eq!(options.data, want);
        assert!(parse("defaults,,loud").data.is_empty());
        assert_eq!(parse("sync,async,nolazytime").not_for_bind(), Some("sync"));
        assert_eq!(parse("ridmap=uids=0-1-2").idmap, Some((Bind::Recursive, "uids=0-1-2".to_owned())));
    }
}

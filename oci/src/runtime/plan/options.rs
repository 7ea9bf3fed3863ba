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

    /// The access time policies exclude each other: the kernel wants the whole field cleared with the new value set.
    fn access_time(&mut self, policy: u64) {
        self.set = self.set & !ATIME | policy;
        self.clear |= ATIME;
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) bind: Option<Bind>,
    /// For this mount alone, and for it with everything below.
    pub(crate) own: Bits,
    pub(crate) recursive: Bits,
    /// MS_SHARED and its like, and whether it goes for everything below.
    pub(crate) propagation: Option<(u64, bool)>,
    /// `idmap` or `ridmap`.
    pub(crate) idmap: Option<Bind>,
    /// For the file system: a name, or a name and a value.
    pub(crate) data: Vec<(String, Option<String>)>,
}

impl Options {
    /// The error is the option and what is wrong with it.
    pub(crate) fn parse(options: &[String]) -> Result<Options, String> {
        let mut all = Options::default();
        for option in options {
            all.add(option)?;
        }
        Ok(all)
    }

    fn add(&mut self, option: &str) -> Result<(), String> {
        match option {
            "bind" => self.bind = Some(self.bind.unwrap_or(Bind::One)),
            "rbind" => self.bind = Some(Bind::Recursive),
            "idmap" => self.idmap = Some(Bind::One),
            "ridmap" => self.idmap = Some(Bind::Recursive),
            "defaults" | "" => {}
            "remount" => return Err("remount: there is nothing yet that could be mounted again".to_owned()),
            "tmpcopyup" => return Err("tmpcopyup is not available in this version".to_owned()),
            _ if self.attribute(option) => {}
            _ => match propagation(option) {
                Some(kind) => self.propagation = Some(kind),
                None => self.data.push(match option.split_once('=') {
                    Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                    None => (option.to_owned(), None),
                }),
            },
        }
        Ok(())
    }

    /// An attribute of the mount, or with an `r` in front of it of everything below too.
    fn attribute(&mut self, option: &str) -> bool {
        if apply(&mut self.own, option) {
            return true;
        }
        option.strip_prefix('r').is_some_and(|rest| apply(&mut self.recursive, rest))
    }
}

fn apply(bits: &mut Bits, option: &str) -> bool {
    match option {
        "ro" => bits.on(RDONLY),
        "rw" => bits.off(RDONLY),
        "nosuid" => bits.on(NOSUID),
        "suid" => bits.off(NOSUID),
        "nodev" => bits.on(NODEV),
        "dev" => bits.off(NODEV),
        "noexec" => bits.on(NOEXEC),
        "exec" => bits.off(NOEXEC),
        "nosymfollow" => bits.on(NOSYMFOLLOW),
        "symfollow" => bits.off(NOSYMFOLLOW),
        "nodiratime" => bits.on(NODIRATIME),
        "diratime" => bits.off(NODIRATIME),
        "relatime" | "atime" | "nostrictatime" => bits.access_time(RELATIME),
        "norelatime" | "strictatime" => bits.access_time(STRICTATIME),
        "noatime" => bits.access_time(NOATIME),
        _ => return false,
    }
    true
}

/// The words for propagation, for options and for `rootfsPropagation`.
pub(crate) fn propagation(word: &str) -> Option<(u64, bool)> {
    let (kind, recursive) = match word {
        "shared" | "slave" | "private" | "unbindable" => (word, false),
        "rshared" | "rslave" | "rprivate" | "runbindable" => (&word[1..], true),
        _ => return None,
    };
    let flag = match kind {
        "shared" => libc::MS_SHARED,
        "slave" => libc::MS_SLAVE,
        "private" => libc::MS_PRIVATE,
        _ => libc::MS_UNBINDABLE,
    };
    Some((flag, recursive))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Options {
        Options::parse(&text.split(',').map(str::to_owned).collect::<Vec<_>>()).unwrap()
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
        assert!(Options::parse(&["tmpcopyup".to_owned()]).is_err());
        assert!(Options::parse(&["remount".to_owned()]).is_err());
    }
}

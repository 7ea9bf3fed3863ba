//! The boots that logs are kept of: a folder each, `@boots/<number>-<id>`, with what the kernel, PID 1 and the supervisor said in
//! it. Units' logs go on over boots; in their files a mark says where one begins.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The present one included.
const KEPT: usize = 10;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Boot {
    number: u64,
    /// 32 hexadecimal digits, as journalctl shows it.
    pub(super) id: String,
    pub(super) folder: PathBuf,
}

/// The kernel's id of this boot.
pub(super) fn present_id() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().replace('-', "")
}

/// The boots there are, the oldest first.
pub(super) fn list(logs: &Path) -> Vec<Boot> {
    let entries = fs::read_dir(logs.join("@boots")).into_iter().flatten().flatten();
    let boot = |entry: fs::DirEntry| {
        let name = entry.file_name();
        let (number, id) = name.to_str()?.split_once('-')?;
        Some(Boot { number: number.parse().ok()?, id: id.to_owned(), folder: entry.path() })
    };
    let mut boots: Vec<Boot> = entries.filter_map(boot).collect();
    boots.sort_by_key(|boot| boot.number);
    boots
}

/// Whether there was none before this one; `None` where no boot is kept.
pub(super) fn is_first(logs: &Path, id: &str) -> Option<bool> {
    list(logs).iter().find(|boot| boot.id == id).map(|boot| boot.number == 1)
}

/// The folder of this boot, made when it begins; boots that are no longer kept go.
pub(super) fn enter(logs: &Path, id: &str) -> io::Result<PathBuf> {
    let mut boots = list(logs);
    if let Some(boot) = boots.iter().find(|boot| boot.id == id) {
        return Ok(boot.folder.clone());
    }
    let number = boots.last().map_or(1, |boot| boot.number + 1);
    let folder = logs.join("@boots").join(format!("{number}-{id}"));
    fs::create_dir_all(&folder)?;
    let gone = (boots.len() + 1).saturating_sub(KEPT);
    for boot in boots.drain(..gone) {
        if let Err(error) = fs::remove_dir_all(&boot.folder) {
            log::warn!("{}: {error}", boot.folder.display());
        }
    }
    Ok(folder)
}

/// journalctl's words: 0 is this boot, -1 the one before, 1 the oldest that is kept; or an id.
pub(super) fn find(boots: &[Boot], word: &str) -> Result<Boot, String> {
    let found = match word.parse::<i64>() {
        Ok(back @ ..=0) => usize::try_from(-back).ok().and_then(|back| boots.iter().rev().nth(back)),
        // An id has 32 digits.
        Ok(number) if word.len() < 20 => usize::try_from(number - 1).ok().and_then(|at| boots.get(at)),
        _ => boots.iter().find(|boot| boot.id == word.replace('-', "")),
    };
    found.cloned().ok_or_else(|| {
        let oldest = boots.len().saturating_sub(1);
        format!(
            "boot {word}: no logs are kept of such a boot; write 0 for this one, -1 to -{oldest} for those before it, or an id"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_boots_are_kept_and_found_by_number_and_id() {
        let folder = tempfile::tempdir().unwrap();
        let id = |n: u32| format!("{n:032x}");
        for n in 0..14 {
            let entered = enter(folder.path(), &id(n)).unwrap();
            fs::write(entered.join("@kernel"), "").unwrap();
            assert_eq!(enter(folder.path(), &id(n)).unwrap(), entered, "another supervisor of the same boot");
        }
        let boots = list(folder.path());
        let ids: Vec<String> = boots.iter().map(|boot| boot.id.clone()).collect();
        assert_eq!(ids, (4..14).map(id).collect::<Vec<_>>());
        let at = |word: &str| find(&boots, word).map(|boot| boot.id);
        assert_eq!([at("0"), at("-1"), at("-9"), at("1"), at("10")], [13, 12, 4, 4, 13].map(|n| Ok(id(n))));
        assert_eq!(at(&id(7)), Ok(id(7)));
        for word in ["-10", "11", "yesterday", &id(3)] {
            assert!(at(word).unwrap_err().contains("-1 to -9"), "{word}");
        }
    }
}

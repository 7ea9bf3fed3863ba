//! What conditions ask of paths.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use nix::sys::statvfs::{FsFlags, statvfs};

use crate::unit::compare;

/// glob(3): a star stays inside one part of a path, and is no beginning of a hidden name.
pub(super) fn any_matches(pattern: &str) -> bool {
    let mut found = vec![PathBuf::from("/")];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        if part.contains(['*', '?', '[']) {
            let Ok(matches) = compare::glob(part, "") else { return false };
            let fits = |name: &str| (part.starts_with('.') || !name.starts_with('.')) && matches.is_match(name);
            let entries = found.iter().flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten());
            found = entries.filter(|entry| entry.file_name().to_str().is_some_and(fits)).map(|e| e.path()).collect();
        } else {
            found = found.iter().map(|folder| folder.join(part)).filter(|path| path.exists()).collect();
        }
    }
    !found.is_empty()
}

pub(in crate::daemon) fn is_mount_point(path: &Path) -> bool {
    let Ok(path) = fs::canonicalize(path) else { return false };
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let place = |line: &str| line.split(' ').nth(4).map(unescaped);
    mounts.lines().filter_map(place).any(|place| path.as_os_str().as_encoded_bytes() == place.as_slice())
}

/// proc_pid_mountinfo(5): space, tab, newline and backslash stand there as octal numbers.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        bytes.extend_from_slice(before.as_bytes());
        let number = after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(number.unwrap_or(b'\\'));
        rest = if number.is_some() { &after[3..] } else { after };
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

pub(super) fn is_read_write(path: &Path) -> bool {
    statvfs(path).is_ok_and(|found| !found.flags().contains(FsFlags::ST_RDONLY))
}

/// Any but hidden files and the backups of editors and package managers (`hidden_or_backup_file` of systemd).
pub(super) fn has_entries(path: &Path) -> bool {
    const ENDS: [&str; 17] = [
        "rpmnew",
        "rpmsave",
        "rpmorig",
        "dpkg-old",
        "dpkg-new",
        "dpkg-tmp",
        "dpkg-dist",
        "dpkg-bak",
        "dpkg-backup",
        "dpkg-remove",
        "ucf-new",
        "ucf-old",
        "ucf-dist",
        "swp",
        "bak",
        "old",
        "new",
    ];
    let counts = |name: &str| {
        let end = name.rsplit_once('.').map_or("", |(_, end)| end);
        let own = ["lost+found", "aquota.user", "aquota.group"].contains(&name);
        !(name.starts_with('.') || name.ends_with('~') || own || ENDS.contains(&end))
    };
    fs::read_dir(path).is_ok_and(|entries| entries.flatten().any(|entry| counts(&entry.file_name().to_string_lossy())))
}

pub(super) fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_find_what_a_shell_would() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a/one.conf", "b/two.txt", "c/.hidden"] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        let matches = |pattern: &str| any_matches(&format!("{}/{pattern}", folder.path().display()));
        assert!(matches("*/one.conf") && matches("a/*.conf") && matches("[ab]/*") && matches("c/.h*") && matches("a"));
        assert!(!matches("*.conf") && !matches("[!abc]/*") && !matches("c/*") && !matches("d") && !matches("b/*.conf"));
    }

    #[test]
    fn hidden_files_and_backups_are_no_entries() {
        let folder = tempfile::tempdir().unwrap();
        for name in [".keep", "lost+found", "x.conf~", "x.dpkg-new", "x.bak"] {
            fs::write(folder.path().join(name), "x").unwrap();
            assert!(!has_entries(folder.path()), "{name}");
        }
        fs::write(folder.path().join("x.conf"), "x").unwrap();
        assert!(has_entries(folder.path()) && !has_entries(&folder.path().join("x.conf")));
    }

    #[test]
    fn files_are_what_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f");
        fs::write(&file, "x").unwrap();
        assert!(is_read_write(&file) && !is_read_write(Path::new("/none")) && !is_executable(&file));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o700)).unwrap();
        assert!(is_executable(&file) && !is_executable(folder.path()));
        assert!(is_mount_point(Path::new("/proc/../proc")) && !is_mount_point(&file));
        assert_eq!(unescaped(r"/a\040b\134\x"), br"/a b\\x");
    }
}

//! `/run/orlop/resolv.conf`: which name servers programs on the machine and in containers of `Network=host` ask.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::Path;

/// Replaces the file in one step; a reader sees the old one or the new one. It lies in /run: nothing to sync.
pub(super) fn write(path: &Path, servers: &[IpAddr], search: &[String]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let new = path.with_extension("conf.new");
    File::create(&new)?.write_all(text(servers, search).as_bytes())?;
    fs::rename(new, path)
}

/// C libraries ask the first three servers: more would be ignored in silence, so they stand in a comment.
fn text(servers: &[IpAddr], search: &[String]) -> String {
    let mut text = String::from("# Written by orlop; changes are lost.\n");
    for (i, server) in servers.iter().enumerate() {
        let comment = if i < 3 { "" } else { "# " };
        let _ = writeln!(text, "{comment}nameserver {server}");
    }
    if !search.is_empty() {
        let _ = writeln!(text, "search {}", search.join(" "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let servers: Vec<IpAddr> = (1..=4).map(|i| [10, 0, 0, i].into()).collect();
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("orlop/resolv.conf");
        write(&path, &servers, &["a.example".into(), "b.example".into()]).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let expected = "nameserver 10.0.0.1\nnameserver 10.0.0.2\nnameserver 10.0.0.3\n# nameserver 10.0.0.4\nsearch a.example b.example\n";
        assert!(text.ends_with(expected), "{text}");
        write(&path, &[], &[]).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 1);
        assert_eq!(fs::read_dir(home.path().join("orlop")).unwrap().count(), 1);
    }
}

//! A file tree in memory, which becomes a cpio archive or a folder for mkfs: one description of names, modes and
//! contents, sorted, without owners and times. Nobody has to be root to describe a device node or a root-owned file.

use crate::error::{Result, at};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// What stands at a path.
pub(crate) enum Node {
    Folder { mode: u32 },
    File { mode: u32, content: Content },
    Link { target: String },
    Character { mode: u32, major: u32, minor: u32 },
}

pub(crate) enum Content {
    Bytes(Vec<u8>),
    /// A file of the host, read when the tree is written.
    Copy(PathBuf),
}

/// Paths are relative, `/`-separated; parents are made on the way.
#[derive(Default)]
pub(crate) struct Tree {
    nodes: BTreeMap<String, Node>,
}

impl Tree {
    pub(crate) fn folder(&mut self, path: &str, mode: u32) {
        self.add(path, Node::Folder { mode });
    }

    pub(crate) fn text(&mut self, path: &str, text: &str) {
        self.add(path, Node::File { mode: 0o644, content: Content::Bytes(text.as_bytes().to_vec()) });
    }

    pub(crate) fn bytes(&mut self, path: &str, bytes: Vec<u8>) {
        self.add(path, Node::File { mode: 0o644, content: Content::Bytes(bytes) });
    }

    pub(crate) fn copy(&mut self, path: &str, mode: u32, from: &Path) {
        self.add(path, Node::File { mode, content: Content::Copy(from.to_path_buf()) });
    }

    pub(crate) fn program(&mut self, path: &str, from: &Path) {
        self.copy(path, 0o755, from);
    }

    pub(crate) fn link(&mut self, path: &str, target: &str) {
        self.add(path, Node::Link { target: target.to_owned() });
    }

    pub(crate) fn character(&mut self, path: &str, mode: u32, major: u32, minor: u32) {
        self.add(path, Node::Character { mode, major, minor });
    }

    /// All files of a folder of the host, as they are named there, readable for all.
    pub(crate) fn copy_folder(&mut self, path: &str, from: &Path) -> Result<()> {
        self.folder(path, 0o755);
        for file in crate::digest::walk(from)? {
            let name = format!("{path}/{}", file.strip_prefix(from).unwrap_or(&file).display());
            if file.is_dir() {
                self.folder(&name, 0o755);
            } else {
                self.copy(&name, 0o644, &file);
            }
        }
        Ok(())
    }

    fn add(&mut self, path: &str, node: Node) {
        for (end, _) in path.match_indices('/') {
            self.nodes.entry(path[..end].to_owned()).or_insert(Node::Folder { mode: 0o755 });
        }
        self.nodes.insert(path.to_owned(), node);
    }

    /// A newc archive, as the kernel unpacks it (Documentation/driver-api/early-userspace/buffer-format.rst).
    pub(crate) fn write_cpio(&self, mut out: impl Write, path: &Path) -> Result<()> {
        use cpio::newc::{Builder, ModeFileType, trailer};
        let failed = || at("write", path);
        for (inode, (name, node)) in (1u32..).zip(&self.nodes) {
            // Sorted order puts folders before what they hold, which the kernel needs.
            let entry = Builder::new(name).ino(inode).mtime(0).uid(0).gid(0);
            let (entry, content) = match node {
                Node::Folder { mode } => {
                    (entry.nlink(2).mode(*mode).set_mode_file_type(ModeFileType::Directory), Vec::new())
                }
                Node::File { mode, content } => {
                    (entry.mode(*mode).set_mode_file_type(ModeFileType::Regular), content.read()?)
                }
                Node::Link { target } => {
                    (entry.mode(0o777).set_mode_file_type(ModeFileType::Symlink), target.clone().into_bytes())
                }
                Node::Character { mode, major, minor } => {
                    let entry = entry.rdev_major(*major).rdev_minor(*minor).mode(*mode);
                    (entry.set_mode_file_type(ModeFileType::Char), Vec::new())
                }
            };
            let bytes = u32::try_from(content.len())
                .map_err(|_| std::io::Error::other("a file of 4 GiB does not fit this archive format"))
                .map_err(failed())?;
            let mut writer = entry.write(out, bytes);
            writer.write_all(&content).map_err(failed())?;
            out = writer.finish().map_err(failed())?;
        }
        trailer(out).and_then(|mut out| out.flush()).map_err(failed())
    }

    /// Files and folders for mkfs; owners and times are its options, device nodes come from devtmpfs in the machine.
    pub(crate) fn write_folder(&self, folder: &Path) -> Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        let chmod = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(at("set the mode of", path))
        };
        for (name, node) in &self.nodes {
            let path = folder.join(name);
            match node {
                Node::Folder { .. } => fs::create_dir_all(&path).map_err(at("create", &path))?,
                Node::File { mode, content } => {
                    match content {
                        Content::Bytes(bytes) => fs::write(&path, bytes).map_err(at("write", &path))?,
                        Content::Copy(from) => fs::copy(from, &path).map(drop).map_err(at("copy", from))?,
                    }
                    chmod(&path, *mode)?;
                }
                Node::Link { target } => std::os::unix::fs::symlink(target, &path).map_err(at("link", &path))?,
                Node::Character { .. } => {}
            }
        }
        // Folders last: a mode without write permission would keep their content out.
        for (name, node) in self.nodes.iter().rev() {
            if let Node::Folder { mode } = node {
                chmod(&folder.join(name), *mode)?;
            }
        }
        chmod(folder, 0o755)
    }
}

impl Content {
    fn read(&self) -> Result<Vec<u8>> {
        match self {
            Self::Bytes(bytes) => Ok(bytes.clone()),
            Self::Copy(from) => fs::read(from).map_err(at("read", from)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn tree() -> Tree {
        let mut tree = Tree::default();
        tree.character("dev/console", 0o600, 5, 1);
        tree.text("etc/hosts", "127.0.0.1 localhost\n");
        tree.link("lib", "usr/lib");
        tree.folder("tmp", 0o1777);
        tree
    }

    #[test]
    fn an_archive_names_parents_first_and_nothing_of_the_host() {
        let mut archive = Vec::new();
        tree().write_cpio(&mut archive, Path::new("archive")).unwrap();
        let mut rest = &archive[..];
        let mut seen = Vec::new();
        loop {
            let reader = cpio::newc::Reader::new(rest).unwrap();
            let entry = reader.entry().clone();
            if entry.is_trailer() {
                break;
            }
            assert_eq!((entry.uid(), entry.gid(), entry.mtime()), (0, 0, 0));
            seen.push(format!("{} {:o} {}:{}", entry.name(), entry.mode(), entry.rdev_major(), entry.rdev_minor()));
            rest = reader.finish().unwrap();
        }
        assert_eq!(
            seen,
            [
                "dev 40755 0:0",
                "dev/console 20600 5:1",
                "etc 40755 0:0",
                "etc/hosts 100644 0:0",
                "lib 120777 0:0",
                "tmp 41777 0:0"
            ]
        );
    }

    #[test]
    fn a_folder_has_the_trees_modes_whatever_the_umask() {
        let folder = tempfile::tempdir().unwrap();
        tree().write_folder(folder.path()).unwrap();
        let mode = |name: &str| fs::symlink_metadata(folder.path().join(name)).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode("tmp"), mode("etc"), mode("etc/hosts")), (0o1777, 0o755, 0o644));
        assert_eq!(fs::read_link(folder.path().join("lib")).unwrap(), Path::new("usr/lib"));
        assert!(!folder.path().join("dev/console").exists());
    }
}

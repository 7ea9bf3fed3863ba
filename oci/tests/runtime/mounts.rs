//! What an option does to the mounts below the one that has it.

use nix::mount::{MsFlags, mount, umount};
use serde_json::json;

use crate::support::Container;

/// A folder with a file, and a mount below it with another.
fn tree(c: &Container) -> std::path::PathBuf {
    let tree = c.path("tree");
    std::fs::create_dir_all(tree.join("below")).unwrap();
    mount(Some("below"), &tree.join("below"), Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    for file in ["file", "below/file"] {
        std::fs::write(tree.join(file), "").unwrap();
    }
    tree
}

#[test]
fn idmap_is_for_one_mount_and_ridmap_for_all_below() {
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    for (option, below) in [("idmap", 0), ("ridmap", 100_000)] {
        let c = Container::new(&["mode", "/tree/file", "mode", "/tree/below/file"]);
        let source = tree(&c);
        let mapped = json!({"destination": "/tree", "type": "bind", "source": source, "options": ["rbind", option],
            "uidMappings": map, "gidMappings": map});
        let c = c.push("/mounts", mapped);
        let said = c.run().ok();
        umount(&source.join("below")).unwrap();
        said.has("/tree/file: 100644 100000 100000 0");
        said.has(&format!("/tree/below/file: 100644 {below} {below} 0"));
    }
}

#[test]
fn propagation_is_for_one_mount_and_its_r_form_for_all_below() {
    for (option, below) in [("unbindable", ""), ("runbindable", "unbindable"), ("shared", ""), ("rshared", "shared")] {
        let c = Container::new(&["mount", "/tree", "mount", "/tree/below"]);
        let source = tree(&c);
        let c = c.bind(&source, "/tree", &["rbind", "rprivate", option]);
        let said = c.run().ok();
        umount(&source.join("below")).unwrap();
        said.has(&format!("mount /tree rw,relatime {} tmpfs", option.trim_start_matches('r')));
        said.has(&format!("mount /tree/below rw,relatime {below} tmpfs"));
    }
}

#[test]
fn words_that_a_file_system_decides_for_itself_are_taken() {
    for option in ["defaults", "iversion", "noiversion", "silent", "loud"] {
        let tmpfs = json!({"destination": "/tree", "type": "tmpfs", "source": "tmpfs", "options": [option]});
        let c = Container::new(&["mount", "/tree"]).push("/mounts", tmpfs);
        c.run().ok().has("mount /tree rw,relatime  tmpfs");
    }
}

//! `tmpcopyup`: a tmpfs that begins with what the image has at its place, as engines ask for with each `--tmpfs`.

use std::ffi::CString;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use serde_json::{Value, json};

use super::support::Container;

fn tmpfs(to: &str, options: &[&str]) -> Value {
    json!({"destination": to, "source": "tmpfs", "type": "tmpfs", "options": options})
}

fn attribute(path: &Path, name: &str, value: &[u8]) {
    let (path, name) = (CString::new(path.to_str().unwrap()).unwrap(), CString::new(name).unwrap());
    // SAFETY: both names end in NUL; the value's length is its own.
    #[allow(unsafe_code)]
    let set = unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    assert_eq!(set, 0, "{path:?}: {}", std::io::Error::last_os_error());
}

#[test]
fn files_keep_their_modes_owners_links_and_attributes() {
    let c = Container::new(&[
        "mount",
        "/var/www",
        "mode",
        "/var/www",
        "cat",
        "/var/www/index",
        "mode",
        "/var/www/index",
        "mode",
        "/var/www/tool",
        "xattr",
        "/var/www/tool",
        "security.capability",
        "mode",
        "/var/www/sub",
        "xattr",
        "/var/www/sub",
        "trusted.note",
        "cat",
        "/var/www/sub/deep/file",
        "link",
        "/var/www/out",
        "mode",
        "/var/www/out",
        "stat",
        "/var/www/pipe",
        "create",
        "/var/www/new",
        "ls",
        "/none",
        "create",
        "/none/new",
    ])
    // trusted.* is for those who administer.
    .capabilities(&["CAP_SYS_ADMIN"])
    .set("/root/readonly", json!(true))
    .push("/mounts", tmpfs("/var/www", &["tmpcopyup", "nosuid", "nodev"]))
    .push("/mounts", tmpfs("/none", &["tmpcopyup"]));
    c.file("var/www/index", b"hello", 0o604);
    c.file("var/www/tool", b"#!", 0o755);
    c.file("var/www/sub/deep/file", b"deep", 0o600);
    let www = c.rootfs("var/www");
    nix::unistd::mkfifo(&www.join("pipe"), nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    symlink("/etc/../../secret", www.join("out")).unwrap();
    std::os::unix::fs::lchown(www.join("out"), Some(3), Some(4)).unwrap();
    chown(www.join("index"), Some(33), Some(34)).unwrap();
    chown(www.join("tool"), Some(1000), Some(1000)).unwrap();
    // After the owner: a change of owner takes set-user-id and capabilities away.
    std::fs::set_permissions(www.join("tool"), PermissionsExt::from_mode(0o4755)).unwrap();
    // vfs_cap_data of revision 2 with cap_net_bind_service, permitted and effective.
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    attribute(&www.join("tool"), "security.capability", &capability);
    attribute(&www.join("sub"), "trusted.note", b"n");
    std::fs::set_permissions(www.join("sub"), PermissionsExt::from_mode(0o2750)).unwrap();
    std::fs::set_permissions(&www, PermissionsExt::from_mode(0o1770)).unwrap();
    let said = c.run().ok();
    said.has("mount /var/www rw,nosuid,nodev,relatime  tmpfs").has("/var/www: 41770 0 0 0");
    said.has("/var/www/index: hello").has("/var/www/index: 100604 33 34 0");
    said.has("/var/www/tool: 104755 1000 1000 0");
    said.has(&format!("xattr /var/www/tool security.capability: {capability:02x?}"));
    said.has("/var/www/sub: 42750 0 0 0").has("xattr /var/www/sub trusted.note: [6e]");
    said.has("/var/www/sub/deep/file: deep");
    said.has("/var/www/out -> /etc/../../secret")
        .has("/var/www/out: 120777 3 4 0")
        .has("stat /var/www/pipe: 10600 0:0");
    said.has("create /var/www/new: ok").has("/none: ").has("create /none/new: ok");
    // What is written is the container's alone.
    assert!(!www.join("new").exists() && !c.rootfs("none/new").exists());
}

#[test]
fn a_read_only_tmpfs_is_sealed_when_it_is_filled() {
    let c = Container::new(&["cat", "/conf/file", "create", "/conf/new", "mount", "/conf"]);
    c.file("conf/file", b"x", 0o644);
    let c = c.push("/mounts", tmpfs("/conf", &["tmpcopyup", "ro"]));
    let said = c.run().ok();
    said.has("/conf/file: x").has("create /conf/new: Read-only file system (os error 30)");
    said.has("mount /conf ro,relatime  tmpfs");
}

#[test]
fn attributes_as_long_as_the_kernel_lets_them_be() {
    let c = Container::new(&["xattr", "/var/www/tool", "trusted.long", "xattr", "/var/www/tool", "trusted.short"]);
    c.file("var/www/tool", b"#!", 0o755);
    attribute(&c.rootfs("var/www/tool"), "trusted.long", &[b'x'; 60_000]);
    attribute(&c.rootfs("var/www/tool"), "trusted.short", b"y");
    let c = c.capabilities(&["CAP_SYS_ADMIN"]).push("/mounts", tmpfs("/var/www", &["tmpcopyup"]));
    let said = c.run().ok();
    // It does not fit into what the program has for it.
    said.has("xattr /var/www/tool trusted.long: Result not representable (os error 34)");
    said.has("xattr /var/www/tool trusted.short: [79]");
}

#[test]
fn what_does_not_fit_ends_in_a_sentence() {
    let c = Container::new(&["pid"]);
    c.file("big/file", &vec![7; 256 << 10], 0o644);
    let c = c.push("/mounts", tmpfs("/big", &["tmpcopyup", "size=64k"]));
    c.create().refused("copy what lies under tmpfs on /big: no space left on device");
    c.assert_gone();
}

#[test]
fn links_in_the_image_lead_to_nothing_of_the_host() {
    let outside = tempfile::tempdir_in("/dev/shm").unwrap();
    std::fs::write(outside.path().join("secret"), "canary").unwrap();
    for target in
        [outside.path().to_owned(), Path::new("../../../../..").join(outside.path().strip_prefix("/").unwrap())]
    {
        // The place itself, a folder on the way to it, and what lies in it.
        let c = Container::new(&["ls", "/a", "ls", "/b/c", "link", "/d/link", "cat", "/d/link/secret"]);
        std::fs::create_dir(c.rootfs("d")).unwrap();
        for link in ["a", "b", "d/link"] {
            symlink(&target, c.rootfs(link)).unwrap();
        }
        let mut c = c;
        for to in ["/a", "/b/c", "/d"] {
            c = c.push("/mounts", tmpfs(to, &["tmpcopyup"]));
        }
        let said = c.run();
        assert!(!said.out.contains("canary") && !said.out.contains("/a: secret"), "{said:?}");
        let all: Vec<_> = std::fs::read_dir(outside.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(all, ["secret"], "{said:?}");
        assert_eq!(std::fs::read_to_string(outside.path().join("secret")).unwrap(), "canary");
    }
}

#[test]
fn capabilities_for_another_user_namespace_stay_behind() {
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let c = Container::new(&["cat", "/var/www/tool"]);
    c.file("var/www/tool", b"#!", 0o755);
    // vfs_cap_data of revision 3: its last word is the user who is root there, 200000.
    let capability = [1, 0, 0, 3, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x40, 0x0d, 3, 0];
    attribute(&c.rootfs("var/www/tool"), "security.capability", &capability);
    chown(c.rootfs(""), Some(100_000), Some(100_000)).unwrap();
    let c = c
        .push("/linux/namespaces", json!({"type": "user"}))
        .set("/linux/uidMappings", map.clone())
        .set("/linux/gidMappings", map)
        .push("/mounts", tmpfs("/var/www", &["tmpcopyup"]));
    c.run().ok().has("/var/www/tool: #!");
}

//! What an image holds is what lies on disk.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};

use super::*;

#[test]
fn every_kind_of_entry_and_attribute() {
    let home = Home::new();
    let long = format!("deep/{}/{}", "n".repeat(120), "m".repeat(200));
    let capability = b"\x01\x00\x00\x02\x0a\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
    let bytes = tar([
        raw(b'5', b"./").mode(0o750).owner(7, 8),
        folder("bin/").mode(0o2775).owner(1, 2).pax("mtime", b"123456789.5"),
        file("bin/tool", b"#!").mode(0o4755).owner(1000, 2000).pax("SCHILY.xattr.security.capability", capability),
        link(b'1', "bin/same", "bin/tool"),
        link(b'2', "bin/points", "../../../../outside").owner(5, 6),
        raw(b'6', b"pipe").mode(0o622),
        file("/absolute", b"inside"),
        raw(b'0', long.as_bytes()).data(b"long").pax("SCHILY.xattr.user.note", b"a\nb"),
        raw(b'0', b"big ids").pax("uid", b"3000000000").pax("mtime", b"-5.25"),
        raw(0, b"old style/"),
        raw(b'3', b"dev/null"),
        file("implied/x/y/file", b"y"),
        raw(b'0', b"lab").pax("SCHILY.xattr.security.selinux", b"system_u:object_r:bin_t:s0\0"),
    ]);
    let root = home.unpack(&bytes).unwrap();
    let meta = |name: &str| fs::symlink_metadata(root.join(name)).unwrap();

    let top = meta("");
    assert_eq!((top.mode() & 0o7777, top.uid(), top.gid(), top.mtime()), (0o750, 7, 8, 1_000_000_000));
    let bin = meta("bin");
    assert_eq!((bin.mode() & 0o7777, bin.uid(), bin.gid()), (0o2775, 1, 2));
    assert_eq!((bin.mtime(), bin.mtime_nsec()), (123_456_789, 500_000_000), "set after its entries were made");
    let tool = meta("bin/tool");
    assert_eq!((tool.mode() & 0o7777, tool.uid(), tool.gid(), tool.nlink()), (0o4755, 1000, 2000, 2));
    assert_eq!(meta("bin/same").ino(), tool.ino());
    assert_eq!(xattr(&root.join("bin/tool"), "security.capability").unwrap(), capability);
    assert_eq!(fs::read_link(root.join("bin/points")).unwrap(), Path::new("../../../../outside"));
    assert_eq!((meta("bin/points").uid(), meta("bin/points").mtime()), (5, 1_000_000_000));
    assert!(meta("pipe").file_type().is_fifo());
    assert_eq!(meta("pipe").mode() & 0o777, 0o622);
    assert_eq!(fs::read(root.join("absolute")).unwrap(), b"inside");
    assert_eq!(xattr(&root.join(&long), "user.note").unwrap(), b"a\nb");
    assert_eq!(
        (meta("big ids").uid(), meta("big ids").mtime(), meta("big ids").mtime_nsec()),
        (3_000_000_000, -6, 750_000_000)
    );
    assert!(meta("old style").is_dir());
    assert!(!root.join("dev/null").exists(), "each container has its own /dev");
    assert_eq!((meta("implied/x").mode() & 0o7777, meta("implied/x").mtime()), (0o755, 1_000_000_000));
    assert_eq!(xattr(&root.join("lab"), "security.selinux").filter(|v| v.starts_with(b"system_u")), None);
    assert_eq!(fs::metadata(home.layers_dir()).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn whiteouts_are_overlayfs_own() {
    let home = Home::new();
    let bytes = tar([
        folder("etc"),
        raw(b'0', b"etc/.wh.removed"),
        folder("etc/new"),
        raw(b'0', b"etc/new/.wh..wh..opq"),
        file("etc/new/kept", b""),
        // Both orders: a name that is whited out below and anew here.
        raw(b'0', b".wh.again"),
        folder("again"),
        file("again/x", b""),
        folder("before"),
        raw(b'0', b".wh.before"),
        file("stays", b"here"),
        raw(b'0', b".wh.stays"),
        raw(b'0', b".wh.implied"),
        file("implied/x", b""),
        raw(b'0', b".wh..wh.plnk"),
    ]);
    let root = home.unpack(&bytes).unwrap();
    let removed = fs::symlink_metadata(root.join("etc/removed")).unwrap();
    assert!(removed.file_type().is_char_device() && removed.rdev() == 0);
    for opaque in ["etc/new", "again", "before", "implied"] {
        assert_eq!(xattr(&root.join(opaque), "trusted.overlay.opaque").as_deref(), Some(&b"y"[..]), "{opaque}");
    }
    assert_eq!(xattr(&root.join("etc"), "trusted.overlay.opaque"), None);
    assert_eq!(fs::read(root.join("stays")).unwrap(), b"here");
    assert_eq!(listing(&root), ["again", "before", "etc", "implied", "stays"]);
}

#[test]
fn the_last_entry_of_a_name_counts() {
    let home = Home::new();
    let canary = home.path("canary");
    let canary = canary.to_str().unwrap();
    let bytes = tar([
        file("a", b"first"),
        file("a", b"second"),
        link(b'2', "b", &format!("{canary}/file")),
        file("b", b"a file now"),
        folder("c/d/e"),
        file("c", b"a file now"),
        link(b'2', "d", canary),
        folder("d"),
        file("d/inside", b""),
        file("e", b"once"),
        link(b'1', "e", "a"),
        link(b'1', "e", "e"),
    ]);
    let root = home.unpack(&bytes).unwrap();
    assert_eq!(fs::read(root.join("a")).unwrap(), b"second");
    assert_eq!(fs::read(root.join("b")).unwrap(), b"a file now");
    assert_eq!(fs::read(root.join("c")).unwrap(), b"a file now");
    assert!(fs::symlink_metadata(root.join("d")).unwrap().is_dir());
    assert_eq!(fs::read(root.join("e")).unwrap(), b"second");
}

#[test]
fn sparse_files_of_every_dialect() {
    let home = Home::new();
    let mut data = vec![b'A'; 512];
    data.extend([b'B'; 512]);
    let segments = [(4096_usize, 512_usize), (1 << 20, 512)];
    let size = 2_usize << 20;

    let mut gnu = tar::Header::new_gnu();
    gnu.set_entry_type(tar::EntryType::GNUSparse);
    gnu.set_path("gnu").unwrap();
    gnu.set_mode(0o644);
    gnu.set_uid(0);
    gnu.set_gid(0);
    gnu.set_mtime(0);
    gnu.set_size(1024);
    let fields = gnu.as_gnu_mut().unwrap();
    fields.set_real_size(size as u64);
    for (field, (offset, length)) in fields.sparse.iter_mut().zip(segments) {
        field.set_offset(offset as u64);
        field.set_length(length as u64);
    }
    let gnu = Raw { header: gnu, pax: Vec::new(), data: data.clone() };

    let size_text = size.to_string();
    let mut one = b"2\n4096\n512\n1048576\n512\n".to_vec();
    one.resize(512, 0);
    one.extend(&data);
    let bytes = tar([
        gnu,
        file("GNUSparseFile.0/x", &one)
            .pax("GNU.sparse.major", b"1")
            .pax("GNU.sparse.minor", b"0")
            .pax("GNU.sparse.name", b"pax-1.0")
            .pax("GNU.sparse.realsize", size_text.as_bytes()),
        file("y", &data)
            .pax("GNU.sparse.name", b"pax-0.1")
            .pax("GNU.sparse.size", size_text.as_bytes())
            .pax("GNU.sparse.map", b"4096,512,1048576,512"),
        file("zeros", &vec![0; 1 << 20]),
        file("tail", &[vec![b'x'; 5000], vec![0; 9000]].concat()),
    ]);
    let root = home.unpack(&bytes).unwrap();
    let mut want = vec![0; size];
    for (byte, (offset, length)) in b"AB".iter().copied().zip(segments) {
        want[offset..][..length].fill(byte);
    }
    for name in ["gnu", "pax-1.0", "pax-0.1"] {
        assert!(fs::read(root.join(name)).unwrap() == want, "{name}");
    }
    let zeros = fs::metadata(root.join("zeros")).unwrap();
    assert_eq!((zeros.size(), zeros.blocks()), (1 << 20, 0), "zeros are not stored");
    assert_eq!(fs::read(root.join("tail")).unwrap(), [vec![b'x'; 5000], vec![0; 9000]].concat());
}

#[test]
fn layers_of_every_packing_stack_once() {
    let home = Home::new();
    let (one, two) = (tar([file("a", b"1")]), tar([file("b", &b"2".repeat(100_000))]));
    let three = tar([file("c", b"3")]);
    let layers: [(&str, &[u8]); 4] = [(GZIP, &one), (ZSTD, &two), (PLAIN, &three), (GZIP, &one)];
    let image = home.prepare_tars(&layers).unwrap();
    let id = |tar: &[u8]| home.layers_dir().join(Digest::sha256_of(tar).hex());
    assert_eq!(image.layers, [id(&two), id(&three), id(&one)], "lowest first, a repeated layer where it is highest");
    assert_eq!(fs::read(id(&two).join("b")).unwrap(), b"2".repeat(100_000));

    // A second time nothing is unpacked: the blobs may even be gone.
    let inode = fs::metadata(id(&one).join("a")).unwrap().ino();
    for blob in listing(&home.path("layout/blobs/sha256")) {
        let path = home.path("layout/blobs/sha256").join(blob);
        if !fs::read(&path).unwrap().starts_with(b"{") {
            fs::remove_file(path).unwrap();
        }
    }
    home.prepare(DEMO).unwrap();
    assert_eq!(fs::metadata(id(&one).join("a")).unwrap().ino(), inode);
    assert_eq!(listing(&home.layers_dir()).len(), 3);
}

#[test]
fn many_at_once() {
    let home = Home::new();
    let layers: Vec<_> = (0..6).map(|i| tar([file(&format!("file{i}"), &[i; 3000])])).collect();
    let up: Vec<_> = layers.iter().map(|tar| (GZIP, tar.as_slice())).collect();
    let down: Vec<_> = up.iter().rev().copied().collect();
    home.write_index(&[named(home.put_image(&up), "localhost/up:1"), named(home.put_image(&down), "localhost/down:1")]);
    std::thread::scope(|scope| {
        for name in ["localhost/up:1", "localhost/down:1"].repeat(4) {
            scope.spawn(|| home.prepare(name).unwrap());
        }
    });
    assert_eq!(listing(&home.layers_dir()).len(), 6);
}

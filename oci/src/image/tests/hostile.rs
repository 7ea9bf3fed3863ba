//! Layers that want out, or want too much (security.md, row "layers").

use super::*;
use std::io::Read;

#[test]
fn names_that_lead_upward() {
    let home = Home::new();
    for name in ["../canary/file", "a/../../canary/file", "..", "a/..", "./../x", "/../x", "x/.."] {
        home.refuses(&tar([file(name, b"evil")]), "leads upward");
        home.refuses(&tar([folder(name)]), "leads upward");
        home.refuses(&tar([file("x", b""), link(b'1', "y", name)]), "leads upward");
    }
    home.refuses(&tar([raw(b'0', b"").data(b"x")]), "empty name");
    home.refuses(&tar([file("./", b"x").mode(0o644).kind(b'2').target("/")]), "root of a layer");
    home.refuses(&tar([raw(b'0', b"x").pax("path", b"a\0b")]), "NUL");
}

impl Raw {
    fn kind(mut self, kind: u8) -> Self {
        self.header.set_entry_type(tar::EntryType::new(kind));
        self
    }
}

#[test]
fn links_followed_by_later_entries() {
    let home = Home::new();
    let canary = home.path("canary");
    let canary = canary.to_str().unwrap();
    let up = format!("../../../../../../../../../..{canary}");
    for target in [canary, &up] {
        // To the container, the link leads to its own folder of that name, which this layer does not hold.
        home.refuses(&tar([link(b'2', "out", target), file("out/file", b"evil")]), "leads nowhere");
        home.refuses(&tar([link(b'2', "out", target), folder("out/folder/sub")]), "leads nowhere");
        home.refuses(&tar([link(b'2', "out", target), link(b'1', "got", "out/file")]), "does not hold");
        home.refuses(&tar([link(b'2', "out", target), raw(b'0', b"out/.wh.file")]), "leads nowhere");
        home.refuses(&tar([link(b'2', "out", target), raw(b'0', b"out/.wh..wh..opq")]), "leads nowhere");
    }
    // When it does hold it, what follows the link lands there.
    let bytes = tar([folder(&canary[1..]), link(b'2', "out", &up), file("out/file", b"inside")]);
    let root = home.unpack(&bytes).unwrap();
    assert_eq!(fs::read(root.join(&canary[1..]).join("file")).unwrap(), b"inside");

    let home = Home::new();
    home.refuses(&tar([link(b'2', "a", "b"), link(b'2', "b", "a"), file("a/x", b"")]), "Too many levels");
    home.refuses(&tar([link(b'2', "p", "/proc/self/root"), file("p/x", b"")]), "leads nowhere");
    // A link to a file, replaced: the link itself goes.
    let root = home.unpack(&tar([link(b'2', "f", &format!("{canary}/file")), file("f", b"x")])).unwrap();
    assert!(fs::symlink_metadata(root.join("f")).unwrap().is_file());
}

#[test]
fn hard_links_outward() {
    let home = Home::new();
    let file_path = home.path("canary/file");
    for target in [file_path.to_str().unwrap(), "nothing", "sub/nothing", "/etc/passwd"] {
        home.refuses(&tar([link(b'1', "x", target)]), "does not hold");
    }
    home.refuses(&tar([folder("d"), link(b'1', "x", "d")]), "folder or a removed file");
    home.refuses(&tar([raw(b'0', b".wh.w"), link(b'1', "x", "w")]), "folder or a removed file");
    home.refuses(&tar([link(b'1', "x", "/")]), "root of the layer");
    // To a symbolic link: the link gets a second name, its target none.
    let bytes = tar([link(b'2', "s", file_path.to_str().unwrap()), link(b'1', "x", "s"), file("x", b"mine")]);
    let root = home.unpack(&bytes).unwrap();
    assert_eq!(fs::read(root.join("x")).unwrap(), b"mine");
}

#[test]
fn whiteouts_outward() {
    let home = Home::new();
    for name in [".wh...", ".wh..", ".wh.", "a/.wh..."] {
        home.refuses(&tar([folder("a"), raw(b'0', name.as_bytes())]), "whiteout of no name");
    }
    home.refuses(&tar([raw(b'0', b"../.wh.canary")]), "leads upward");
}

#[test]
fn devices_and_attributes() {
    let home = Home::new();
    for kind in *b"34" {
        home.refuses(&tar([raw(kind, b"etc/disk")]), "device node outside /dev");
        home.refuses(&tar([raw(kind, b"devil")]), "device node outside /dev");
        home.refuses(&tar([link(b'2', "dev", "/etc"), raw(kind, b"etc/dev/x")]), "device node outside /dev");
    }
    for name in
        ["trusted.overlay.redirect", "trusted.overlay.opaque", "trusted.x", "user.overlay.redirect", "security.evil"]
    {
        let bytes = tar([file("x", b"").pax(&format!("SCHILY.xattr.{name}"), b"/etc")]);
        home.refuses(&bytes, "is none an image may set");
    }
    home.refuses(&tar([file("x", b"").pax("uid", b"4294967295")]), "owner no system has");
    home.refuses(&tar([file("x", b"").pax("gid", b"99999999999")]), "owner no system has");
    home.refuses(&tar([raw(b'Z', b"x")]), "type `Z`");
}

#[test]
fn bombs() {
    let home = Home::new();
    // 2 GiB of zeros in 2 MiB; more would only take longer to make.
    let path = home.path("bomb.gz");
    let mut encoder = flate2::write::GzEncoder::new(fs::File::create(&path).unwrap(), flate2::Compression::fast());
    let mut header = raw(b'0', b"zeros").header;
    header.set_size(2 << 30);
    header.set_cksum();
    encoder.write_all(header.as_bytes()).unwrap();
    std::io::copy(&mut std::io::repeat(0).take((2 << 30) + 1024), &mut encoder).unwrap();
    encoder.finish().unwrap();
    let mut layer = home.put(&fs::read(&path).unwrap());
    fs::remove_file(path).unwrap();
    layer["mediaType"] = GZIP.into();
    let config = home.put_json(CONFIG, &config(&[Digest::sha256_of(b"").to_string()]));
    home.write_index(&[named(home.put_json(MANIFEST, &manifest(&config, &[layer])), DEMO)]);
    let error = home.prepare(DEMO).unwrap_err().to_string();
    assert!(error.contains("the limit for a blob of its size"), "{error}");
    home.left_nothing();

    home.refuses(
        &tar([file("sparse", b"").pax("GNU.sparse.size", b"9000000000000").pax("GNU.sparse.map", b"0,0")]),
        "claim more than",
    );
    home.refuses(&tar([file("x", b"").pax("size", b"18446744073709551615")]), "claim more than");
    for map in ["5,0,4,0", "18446744073709551615,1", "0,1", "9,9"] {
        home.refuses(
            &tar([file("x", b"").pax("GNU.sparse.size", b"10").pax("GNU.sparse.map", map.as_bytes())]),
            "sparse map",
        );
    }
}

#[test]
fn a_million_entries() {
    let home = Home::new();
    let mut bytes = Vec::new();
    let mut one = Vec::new();
    raw(b'6', b"same").append(&mut one);
    // Entries that cost nothing but their number; the limit is half a million.
    let device = {
        let mut bytes = Vec::new();
        raw(b'3', b"dev/x").append(&mut bytes);
        bytes
    };
    for _ in 0..500_001 {
        bytes.extend(&device);
    }
    bytes.extend(&one);
    home.refuses(&bytes, "more than 500000 entries");
}

#[test]
fn archives_that_are_none() {
    let home = Home::new();
    let good = tar([file("x", &[1; 2000])]);
    home.refuses(&good[..1000], "cut off");
    home.refuses(&good[..300], "cut off");
    let mut bad = good.clone();
    bad[0] = b'y';
    home.refuses(&bad, "checksum");
    let mut bad = tar([]);
    bad.splice(512.., good.iter().copied());
    home.refuses(&bad, "single zero block");
    let mut header = raw(b'x', b"pax").header;
    header.set_size(1 << 40);
    header.set_cksum();
    home.refuses(header.as_bytes(), "extension header of");
    home.refuses(&tar([raw(b'x', b"p").data(b"12 garbage\n")]), "PAX record");
    home.refuses(&tar([raw(b'g', b"p").data(b"10 path=ab\n"), file("x", b"")]), "PAX");
    home.refuses(&tar([raw(b'L', b"l").data(b"name\0")]), "ends behind");
    let mut many = Vec::new();
    for _ in 0..100 {
        raw(b'L', b"l").data(b"name\0").append(&mut many);
    }
    home.refuses(&many, "too many extension headers");
}

#[test]
fn nothing_of_a_half_good_image_stays() {
    let home = Home::new();
    let (good, bad) = (tar([file("a", b"1")]), tar([file("../b", b"2")]));
    home.prepare_tars(&[(GZIP, &good), (GZIP, &good), (ZSTD, &bad)]).unwrap_err();
    home.left_nothing();
}

#[test]
fn depth_through_links_can_be_removed() {
    let home = Home::new();
    // Each link leads 40 folders deeper into what is there already; 60 of them make 2,400 levels.
    let mut bytes = Vec::new();
    let step = "d/".repeat(40);
    folder(&step).append(&mut bytes);
    link(b'2', "l0", &step).append(&mut bytes);
    for i in 0..60 {
        raw(b'5', format!("l{i}/{step}").as_bytes()).append(&mut bytes);
        link(b'1', &format!("keep{i}"), "l0").append(&mut bytes);
        // A link inside the tree, so that the next one starts where this one ends.
        raw(b'2', format!("l{}", i + 1).as_bytes())
            .pax("linkpath", format!("l{i}/{step}").as_bytes())
            .append(&mut bytes);
    }
    bytes.extend(tar([raw(b'3', b"etc/disk")]));
    let error = home.unpack(&bytes).unwrap_err().to_string();
    assert!(error.contains("device") || error.contains("Too many levels"), "{error}");
    home.left_nothing();
}

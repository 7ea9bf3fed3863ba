//! Provisioning disks, from every form of image; what is wrong with one is said in one sentence.

use initramfs::PackConfig;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder for a test, with an image `localhost/web:1` packed into `layout`.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { folder: tempfile::tempdir().expect("set up") };
        bench.pack("layout", "localhost/web:1", "hello");
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn pack(&self, layout: &str, reference: &str, text: &str) {
        let rootfs = self.path("rootfs");
        fs::create_dir_all(rootfs.join("etc")).expect("set up");
        fs::write(rootfs.join("web"), text).expect("set up");
        let _ = std::os::unix::fs::symlink("../web", rootfs.join("etc/link"));
        let config = PackConfig { entrypoint: vec!["/web".to_owned()], ..PackConfig::default() };
        initramfs::pack(&rootfs, reference, &config, &self.path(layout)).expect("set up");
    }

    fn build(&self, images: &[&str]) -> initramfs::Result<PathBuf> {
        let images: Vec<PathBuf> = images.iter().map(|name| self.path(name)).collect();
        initramfs::seed_disk(&self.path("out"), None, &images, &mut |_| {})
    }

    fn error(&self, images: &[&str]) -> String {
        self.build(images).expect_err("this input is wrong").to_string()
    }

    /// The files of a disk.
    fn extract(&self, disk: &Path) -> PathBuf {
        let target = self.path("extracted");
        let mut fsck = Command::new("fsck.erofs");
        fsck.arg(format!("--extract={}", target.display())).arg("--overwrite").arg(disk);
        let output = fsck.output().expect("run fsck.erofs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        target
    }

    fn index(&self, layout: &str) -> serde_json::Value {
        json(&self.path(layout).join("index.json"))
    }

    /// The blob of a descriptor.
    fn blob(&self, layout: &str, descriptor: &serde_json::Value) -> PathBuf {
        let digest = descriptor["digest"].as_str().expect("set up").strip_prefix("sha256:").expect("set up");
        self.path(layout).join("blobs/sha256").join(digest)
    }
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(path).expect("set up")).expect("set up")
}

/// An archive of files by name.
fn archive(path: &Path, files: &[(&str, &[u8])]) {
    let mut tar = tar::Builder::new(File::create(path).expect("set up"));
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, *bytes).expect("set up");
    }
    tar.finish().expect("set up");
}

fn names(index: &serde_json::Value) -> Vec<String> {
    let name = |image: &serde_json::Value| image["annotations"]["org.opencontainers.image.ref.name"].to_string();
    let mut names: Vec<String> = index["manifests"].as_array().expect("set up").iter().map(name).collect();
    names.sort();
    names
}

#[test]
fn packing_is_reproducible_and_replaces_by_name() {
    let bench = Bench::new();
    bench.pack("again", "localhost/web:1", "hello");
    assert_eq!(bench.index("layout"), bench.index("again"));
    bench.pack("again", "localhost/web:1", "changed");
    bench.pack("again", "localhost/web:2", "hello");
    assert_eq!(names(&bench.index("again")), ["\"localhost/web:1\"", "\"localhost/web:2\""]);
    assert_ne!(bench.index("layout")["manifests"][0], bench.index("again")["manifests"][0]);
}

#[test]
fn every_form_of_image_ends_in_one_layout() {
    let bench = Bench::new();
    // An oci-archive, compressed as a user would keep it.
    bench.pack("second", "localhost/second:1", "second");
    let mut tar =
        tar::Builder::new(zstd::Encoder::new(File::create(bench.path("second.tar.zst")).unwrap(), 1).unwrap());
    tar.append_dir_all(".", bench.path("second")).unwrap();
    tar.into_inner().unwrap().finish().unwrap();
    // A docker-archive of two names.
    let layer = b"not really a tar, but a layer is only counted and compared here";
    let diff_id = format!("sha256:{}", sha256(layer));
    let arch = bench.index("layout")["manifests"][0].clone();
    let config = json(&bench.blob("layout", &json(&bench.blob("layout", &arch))["config"]));
    let config = serde_json::json!({
        "architecture": config["architecture"], "os": "linux", "config": { "Cmd": ["/x"] },
        "rootfs": { "type": "layers", "diff_ids": [diff_id] },
    });
    let manifest =
        br#"[{"Config":"abc.json","RepoTags":["nginx:1.27","example.org/nginx:1"],"Layers":["1/layer.tar"]}]"#;
    archive(
        &bench.path("docker.tar"),
        &[("manifest.json", manifest), ("abc.json", config.to_string().as_bytes()), ("1/layer.tar", layer)],
    );

    let disk = bench.build(&["layout", "second.tar.zst", "docker.tar"]).unwrap();
    let files = bench.extract(&disk);
    let index = json(&files.join("images/index.json"));
    assert_eq!(
        names(&index),
        ["\"example.org/nginx:1\"", "\"localhost/second:1\"", "\"localhost/web:1\"", "\"nginx:1.27\""]
    );
    // Every blob has the digest it is named by, and every image its manifest.
    let blobs = files.join("images/blobs/sha256");
    for blob in fs::read_dir(&blobs).unwrap().flatten() {
        assert_eq!(blob.file_name().to_string_lossy(), sha256(&fs::read(blob.path()).unwrap()));
    }
    for image in index["manifests"].as_array().unwrap() {
        let digest = image["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
        let manifest = json(&blobs.join(digest));
        assert_eq!(manifest["layers"].as_array().unwrap().len(), 1);
    }
}

#[test]
fn a_disk_is_built_once_and_again_when_something_changes() {
    let bench = Bench::new();
    fs::create_dir(bench.path("units")).unwrap();
    let unit = bench.path("units/web.container");
    fs::write(&unit, "[Container]\nImage=localhost/web:1\n").unwrap();
    let build = |out: &str, progress: &mut dyn FnMut(&str)| {
        let (units, images) = (bench.path("units"), [bench.path("layout")]);
        initramfs::seed_disk(&bench.path(out), Some(&units), &images, progress).unwrap()
    };
    let disk = build("out", &mut |_| {});
    assert_eq!(build("out", &mut |step| panic!("{step}")), disk);
    let other = build("elsewhere", &mut |_| {});
    assert!(fs::read(&disk).unwrap() == fs::read(&other).unwrap(), "the same bytes wherever it is built");
    let found = fs::read_to_string(bench.extract(&disk).join("containers.d/web.container")).unwrap();
    assert!(found.contains("localhost/web:1"));
    fs::write(&unit, "[Container]\nImage=localhost/web:2\n").unwrap();
    assert_ne!(build("out", &mut |_| {}), disk);
}

#[test]
fn an_empty_disk_is_a_disk() {
    let bench = Bench::new();
    let files = bench.extract(&bench.build(&[]).unwrap());
    assert!(files.join("containers.d").is_dir());
    assert_eq!(json(&files.join("images/index.json"))["manifests"], serde_json::json!([]));
}

#[test]
fn damage_is_found_before_the_machine_sees_it() {
    let bench = Bench::new();
    let manifest = bench.blob("layout", &bench.index("layout")["manifests"][0]);
    let layer = bench.blob("layout", &json(&manifest)["layers"][0]);
    let mut damaged = fs::read(&layer).unwrap();
    damaged[20] ^= 1;
    fs::write(&layer, damaged).unwrap();
    assert!(bench.error(&["layout"]).contains("damaged: its content has the digest sha256:"));
    fs::remove_file(&layer).unwrap();
    assert!(bench.error(&["layout"]).contains("is missing"));
    assert!(!bench.path("out").read_dir().unwrap().flatten().any(|entry| entry.path().extension().is_some()));
}

#[test]
fn images_of_other_machines_are_refused() {
    let bench = Bench::new();
    let index = r#"{"manifests":[{"digest":"sha256:DIGEST","size":SIZE,"annotations":{"org.opencontainers.image.ref.name":"x/y:1"}}]}"#;
    let nested = r#"{"manifests":[{"digest":"sha256:0","size":1,"platform":{"os":"linux","architecture":"riscv64"}}]}"#;
    let digest = sha256(nested.as_bytes());
    let index = index.replace("DIGEST", &digest).replace("SIZE", &nested.len().to_string());
    archive(
        &bench.path("foreign.tar"),
        &[("index.json", index.as_bytes()), (&format!("blobs/sha256/{digest}"), nested.as_bytes())],
    );
    assert!(bench.error(&["foreign.tar"]).contains("x/y:1 is for riscv64, not for "));
}

#[test]
fn what_is_no_image_is_said_to_be_none() {
    let bench = Bench::new();
    fs::write(bench.path("notes.txt"), "hello").unwrap();
    fs::create_dir(bench.path("empty")).unwrap();
    archive(&bench.path("files.tar"), &[("readme", b"hello")]);
    let error = bench.error(&["notes.txt"]);
    assert!(error.contains("notes.txt: ") && error.contains("archive"), "{error}");
    assert!(bench.error(&["empty"]).contains("neither index.json (OCI layout) nor manifest.json"));
    assert!(bench.error(&["files.tar"]).contains("neither index.json (OCI layout) nor manifest.json"));
    assert!(bench.error(&["missing"]).contains("there is no such image"));
}

#[test]
fn names_that_clash_are_refused() {
    let bench = Bench::new();
    bench.pack("other", "localhost/web:1", "other content");
    let error = bench.error(&["layout", "other"]);
    assert!(error.contains("holds another image with the name localhost/web:1: leave one out"), "{error}");
    // The same image twice is no clash.
    bench.pack("copy", "localhost/web:1", "hello");
    bench.build(&["layout", "copy"]).unwrap();
    bench.pack("tag1", "latest", "one");
    bench.pack("tag2", "latest", "two");
    assert!(bench.error(&["tag1", "tag2"]).contains("give them full names"));
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

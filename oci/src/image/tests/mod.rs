//! Whole images through `prepare`, as the supervisor calls it. They need root: owners, whiteouts and `trusted.`
//! attributes do.

mod documents;
mod faithful;
mod hostile;

use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
const PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const DEMO: &str = "localhost/demo:latest";

/// A folder with a layout, a folder for layers, and a canary beside them that no image may touch.
struct Home {
    dir: TempDir,
    canary: Value,
}

impl Home {
    fn new() -> Self {
        assert!(nix::unistd::geteuid().is_root(), "these tests make whiteouts and set owners: run them as root");
        let dir = tempfile::tempdir().unwrap();
        for folder in ["layout/blobs/sha256", "canary/folder"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        fs::write(dir.path().join("layout/oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        fs::write(dir.path().join("canary/file"), "untouched").unwrap();
        let mut home = Self { dir, canary: Value::Null };
        home.canary = home.look_at_canary();
        home
    }

    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    fn sealed_dir(&self) -> PathBuf {
        self.path("layout/sealed")
    }

    fn layers_dir(&self) -> PathBuf {
        self.path("layers")
    }

    /// Everything an escape could change.
    fn look_at_canary(&self) -> Value {
        let mut names: Vec<_> = listing(&self.path("canary")).into_iter().chain(listing(self.dir.path())).collect();
        names.retain(|name| name != "layers");
        let facts: Vec<_> = ["canary", "canary/file", "canary/folder"]
            .iter()
            .map(|name| {
                let meta = fs::symlink_metadata(self.path(name)).unwrap();
                json!([name, meta.mode(), meta.uid(), meta.gid(), meta.nlink(), meta.size(), meta.mtime(), meta.ino()])
            })
            .collect();
        json!([names, facts, fs::read_to_string(self.path("canary/file")).unwrap()])
    }

    fn put(&self, bytes: &[u8]) -> Value {
        let digest = Digest::sha256_of(bytes);
        fs::write(self.path("layout/blobs/sha256").join(digest.hex()), bytes).unwrap();
        json!({"digest": digest.to_string(), "size": bytes.len()})
    }

    fn put_json(&self, media_type: &str, document: &Value) -> Value {
        let mut descriptor = self.put(document.to_string().as_bytes());
        descriptor["mediaType"] = media_type.into();
        descriptor
    }

    fn put_layer(&self, media_type: &str, tar: &[u8]) -> Value {
        let mut descriptor = match media_type {
            GZIP => self.put(&gzip(tar)),
            ZSTD => self.put(&ruzstd::encoding::compress_to_vec(tar, ruzstd::encoding::CompressionLevel::Fastest)),
            _ => self.put(tar),
        };
        descriptor["mediaType"] = media_type.into();
        descriptor
    }

    /// A manifest for this machine; the diff ids are those of the archives.
    fn put_image(&self, layers: &[(&str, &[u8])]) -> Value {
        let diff_ids: Vec<_> = layers.iter().map(|(_, tar)| Digest::sha256_of(tar).to_string()).collect();
        let config = self.put_json(CONFIG, &config(&diff_ids));
        let layers: Vec<_> = layers.iter().map(|(media_type, tar)| self.put_layer(media_type, tar)).collect();
        self.put_json(MANIFEST, &manifest(&config, &layers))
    }

    fn write_index(&self, entries: &[Value]) {
        let index = json!({"schemaVersion": 2, "manifests": entries});
        fs::write(self.path("layout/index.json"), index.to_string()).unwrap();
    }

    fn layout(&self) -> Layout {
        Layout::open(&self.path("layout")).unwrap()
    }

    fn prepare(&self, name: &str) -> Result<PreparedImage, ImageError> {
        self.prepare_for(name, &Platform::default())
    }

    fn prepare_for(&self, name: &str, platform: &Platform) -> Result<PreparedImage, ImageError> {
        let name = name.parse().unwrap();
        let result = prepare(&[self.layout()], &self.sealed_dir(), &self.layers_dir(), &name, platform);
        assert_eq!(self.look_at_canary(), self.canary, "something outside the layers was touched");
        result
    }

    /// Prepares an image of the given archives.
    fn prepare_tars(&self, layers: &[(&str, &[u8])]) -> Result<PreparedImage, ImageError> {
        let image = self.put_image(layers);
        self.write_index(&[named(image, DEMO)]);
        self.prepare(DEMO)
    }

    /// Unpacks one archive; the folder it became.
    fn unpack(&self, tar: &[u8]) -> Result<PathBuf, ImageError> {
        self.prepare_tars(&[(PLAIN, tar)]).map(|image| image.layers[0].clone())
    }

    /// The archive is refused with these words, and nothing of it is left.
    fn refuses(&self, tar: &[u8], words: &str) {
        let error = match self.unpack(tar) {
            Err(error) => error.to_string(),
            Ok(path) => panic!("accepted, expected: {words}\n{:?}", listing(&path)),
        };
        assert!(error.contains(words), "{error}\nexpected: {words}");
        assert!(!error.contains('\n'), "{error}");
        self.left_nothing();
    }

    fn left_nothing(&self) {
        assert_eq!(listing(&self.layers_dir()), Vec::<String>::new(), "a refused image leaves nothing behind");
    }
}

fn config(diff_ids: &[String]) -> Value {
    json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}})
}

fn manifest(config: &Value, layers: &[Value]) -> Value {
    json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers})
}

fn named(mut descriptor: Value, name: &str) -> Value {
    descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": name});
    descriptor
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn listing(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// One entry of a hostile archive: raw bytes where a library would object.
struct Raw {
    header: tar::Header,
    pax: Vec<u8>,
    data: Vec<u8>,
}

fn raw(kind: u8, name: &[u8]) -> Raw {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_mode(if kind == b'5' { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_000_000_000);
    header.set_size(0);
    let mut entry = Raw { header, pax: Vec::new(), data: Vec::new() };
    if name.len() <= 100 {
        entry.header.as_old_mut().name[..name.len()].copy_from_slice(name);
    } else {
        entry = entry.pax("path", name);
    }
    entry
}

fn file(name: &str, data: &[u8]) -> Raw {
    raw(b'0', name.as_bytes()).data(data)
}

fn folder(name: &str) -> Raw {
    raw(b'5', name.as_bytes())
}

fn link(kind: u8, name: &str, target: &str) -> Raw {
    raw(kind, name.as_bytes()).target(target)
}

impl Raw {
    fn target(mut self, target: &str) -> Self {
        self.header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        self
    }

    fn data(mut self, data: &[u8]) -> Self {
        self.header.set_size(data.len() as u64);
        self.data = data.to_vec();
        self
    }

    fn owner(mut self, uid: u64, gid: u64) -> Self {
        self.header.set_uid(uid);
        self.header.set_gid(gid);
        self
    }

    fn mode(mut self, mode: u32) -> Self {
        self.header.set_mode(mode);
        self
    }

    fn pax(mut self, key: &str, value: &[u8]) -> Self {
        let mut length = key.len() + value.len() + 3;
        while length != key.len() + value.len() + 3 + length.to_string().len() {
            length = key.len() + value.len() + 3 + length.to_string().len();
        }
        self.pax.extend(format!("{length} {key}=").bytes().chain(value.iter().copied()).chain(*b"\n"));
        self
    }

    fn append(mut self, tar: &mut Vec<u8>) {
        if !self.pax.is_empty() {
            raw(b'x', b"pax").data(&self.pax).append(tar);
        }
        self.header.set_cksum();
        tar.extend(self.header.as_bytes());
        tar.extend(&self.data);
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
}

fn tar<const N: usize>(entries: [Raw; N]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in entries {
        entry.append(&mut bytes);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

/// An extended attribute, through /proc as the kernel's own tools are not there.
fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
    let name = std::ffi::CString::new(name).unwrap();
    layer::get_xattr(&path, &name)
}

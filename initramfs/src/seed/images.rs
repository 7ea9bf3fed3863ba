//! Gathers images into one OCI layout, following each from its name to its layers and checking every digest on the way.

use crate::digest;
use crate::error::{Result, at, input};
use crate::layout::{REF_NAME, index_text, text};
use crate::pack::architecture;
use crate::tree::Tree;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// containerd and Docker write the full name here, and only the tag into `REF_NAME`.
const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// No manifest or configuration is larger; image-spec asks registries for 4 MiB.
const DOCUMENT_LIMIT_BYTES: u64 = 4 << 20;

#[derive(Default)]
pub(super) struct Images {
    /// By SHA-256: a file of the host, or bytes we made.
    blobs: BTreeMap<String, Blob>,
    named: Vec<Named>,
}

enum Blob {
    File(PathBuf),
    Bytes(Vec<u8>),
}

struct Named {
    name: Option<String>,
    descriptor: Value,
    given: PathBuf,
}

impl Images {
    /// Adds all images of a layout folder.
    pub(super) fn layout(&mut self, given: &Path, folder: &Path) -> Result<()> {
        let index = folder.join("index.json");
        if !index.exists() {
            return Err(input(
                given,
                "not an image: neither index.json (OCI layout) nor manifest.json (docker-archive)",
            ));
        }
        let index = document(given, &fs::read(&index).map_err(at("read", &index))?)?;
        let manifests = index["manifests"].as_array().filter(|list| !list.is_empty());
        for descriptor in manifests.ok_or_else(|| input(given, "index.json lists no image"))? {
            let annotation = |key: &str| descriptor["annotations"][key].as_str().map(str::to_owned);
            let name = annotation(CONTAINERD_NAME).or_else(|| annotation(REF_NAME));
            let called = name.clone().unwrap_or_else(|| "the image".to_owned());
            self.follow(given, folder, descriptor, &called)?;
            self.name(given, name, descriptor.clone())?;
        }
        Ok(())
    }

    /// Names an image whose blobs are there already.
    pub(super) fn name(&mut self, given: &Path, name: Option<String>, mut descriptor: Value) -> Result<()> {
        if let Some(name) = &name {
            descriptor["annotations"][REF_NAME] = Value::String(name.clone());
        }
        let same = self.named.iter().find(|found| found.name == name);
        match (same, &name) {
            (Some(found), _) if found.descriptor["digest"] == descriptor["digest"] => return Ok(()),
            (Some(found), Some(name)) => {
                let other = found.given.display();
                let advice = if name.contains(['/', ':']) { "leave one out" } else { "give them full names, NAME:TAG" };
                return Err(input(given, format!("{other} holds another image with the name {name}: {advice}")));
            }
            (Some(found), None) => {
                let other = found.given.display();
                let reason = format!("neither this image nor that of {other} has a name to tell them apart");
                return Err(input(given, reason));
            }
            (None, _) => self.named.push(Named { name, descriptor, given: given.to_path_buf() }),
        }
        Ok(())
    }

    /// Adds bytes we made; returns their digest.
    pub(super) fn bytes(&mut self, bytes: Vec<u8>) -> String {
        let digest = digest::bytes(&bytes);
        self.blobs.insert(digest.clone(), Blob::Bytes(bytes));
        digest
    }

    /// Adds a file under the digest it was found to have.
    pub(super) fn file(&mut self, digest: &str, path: &Path) {
        self.blobs.insert(digest.to_owned(), Blob::File(path.to_path_buf()));
    }

    /// Walks index → manifest → configuration and layers; of an index, only this architecture's image is taken.
    fn follow(&mut self, given: &Path, folder: &Path, descriptor: &Value, called: &str) -> Result<()> {
        let content = document(given, &self.document(given, folder, descriptor)?)?;
        if let Some(children) = content["manifests"].as_array() {
            let ours = |child: &&Value| {
                child["platform"]["os"] == "linux" && child["platform"]["architecture"] == architecture()
            };
            let mut found = children.iter().filter(ours).peekable();
            // An index of one manifest need not say for which platform.
            let only = children.iter().filter(|child| child["platform"].is_null() && children.len() == 1);
            if found.peek().is_none() && only.clone().next().is_none() {
                let platforms: Vec<&str> =
                    children.iter().filter_map(|child| child["platform"]["architecture"].as_str()).collect();
                let reason = format!("{called} is for {}, not for {}", platforms.join(", "), architecture());
                return Err(input(given, reason));
            }
            return found.chain(only).try_for_each(|child| self.follow(given, folder, child, called));
        }
        let (Some(layers), false) = (content["layers"].as_array(), content["config"].is_null()) else {
            return Err(input(given, format!("the manifest of {called} names no configuration and layers")));
        };
        let config = document(given, &self.document(given, folder, &content["config"])?)?;
        // Artifacts that are no images have configurations of other kinds.
        let Some(diff_ids) = config["rootfs"]["diff_ids"].as_array() else {
            return Err(input(given, format!("{called} is not a container image: its configuration lists no layers")));
        };
        if config["architecture"] != architecture() || config["os"] != "linux" {
            let text = |field: &str| config[field].as_str().unwrap_or("unknown").to_owned();
            let found = format!("{}/{}", text("os"), text("architecture"));
            return Err(input(given, format!("{called} is for {found}, not for linux/{}", architecture())));
        }
        if diff_ids.len() != layers.len() {
            let reason = format!("{called} has {} layers, its configuration knows {}", layers.len(), diff_ids.len());
            return Err(input(given, reason));
        }
        for layer in layers {
            let kind = layer["mediaType"].as_str().unwrap_or_default();
            // docker's image.rootfs.diff.tar.gzip and all of the OCI's: tar, +gzip, +zstd.
            if !(kind.starts_with("application/vnd.oci.image.layer.v1.tar") && !kind.contains("encrypted")
                || kind == "application/vnd.docker.image.rootfs.diff.tar.gzip"
                || kind == "application/vnd.docker.image.rootfs.diff.tar")
            {
                return Err(input(given, format!("{called} has a layer of a kind that cannot be unpacked: {kind:?}")));
            }
            self.blob(given, folder, layer)?;
        }
        Ok(())
    }

    fn document(&mut self, given: &Path, folder: &Path, descriptor: &Value) -> Result<Vec<u8>> {
        let path = self.blob(given, folder, descriptor)?;
        let bytes = fs::metadata(&path).map_err(at("look at", &path))?.len();
        if bytes > DOCUMENT_LIMIT_BYTES {
            return Err(input(&path, format!("{bytes} bytes are too many for a manifest or configuration")));
        }
        fs::read(&path).map_err(at("read", &path))
    }

    /// Takes a blob in after checking size and digest.
    fn blob(&mut self, given: &Path, folder: &Path, descriptor: &Value) -> Result<PathBuf> {
        let name = descriptor["digest"].as_str().unwrap_or_default();
        let hex =
            name.strip_prefix("sha256:").filter(|hex| hex.len() == 64 && hex.bytes().all(|c| c.is_ascii_hexdigit()));
        let hex = hex.ok_or_else(|| input(given, format!("{name:?} is not a sha256 digest")))?;
        if let Some(Blob::File(path)) = self.blobs.get(hex) {
            return Ok(path.clone());
        }
        let path = folder.join("blobs/sha256").join(hex);
        if !path.is_file() {
            return Err(input(given, format!("the blob {name} is missing; was it copied without its layers?")));
        }
        let (found, bytes) = digest::file(&path)?;
        if found != hex {
            return Err(input(&path, format!("damaged: its content has the digest sha256:{found}")));
        }
        if descriptor["size"].as_u64() != Some(bytes) {
            return Err(input(&path, format!("it has {bytes} bytes, its descriptor says {}", descriptor["size"])));
        }
        self.file(hex, &path);
        Ok(path)
    }

    /// Puts the layout into the disk's tree.
    pub(super) fn write(self, tree: &mut Tree) -> Result<()> {
        if let [_, _, ..] = &self.named[..]
            && let Some(unnamed) = self.named.iter().find(|image| image.name.is_none())
        {
            let reason = "this image has no name, and it is not the only one: no unit could ask for it";
            return Err(input(&unnamed.given, reason));
        }
        tree.folder("images/blobs/sha256", 0o755);
        for (digest, blob) in self.blobs {
            let path = format!("images/blobs/sha256/{digest}");
            match blob {
                Blob::File(file) => tree.copy(&path, 0o644, &file),
                Blob::Bytes(bytes) => tree.bytes(&path, bytes),
            }
        }
        let mut manifests: Vec<Value> = self.named.into_iter().map(|image| image.descriptor).collect();
        manifests.sort_by_cached_key(text);
        tree.text("images/oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
        tree.text("images/index.json", &index_text(&manifests));
        Ok(())
    }
}

fn document(given: &Path, bytes: &[u8]) -> Result<Value> {
    serde_json::from_slice(bytes).map_err(|error| input(given, format!("a document of the image is damaged: {error}")))
}

//! An OCI image layout folder that is being written (image-spec, image-layout.md). JSON is written with sorted keys
//! and without spaces, so that equal content has equal digests.

use crate::digest;
use crate::error::{Result, at, input};
use crate::place;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// Where an image's name stands in the index.
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";

pub(crate) struct Layout {
    folder: PathBuf,
    manifests: Vec<Value>,
}

impl Layout {
    /// Opens the layout to add to it, or makes an empty one.
    pub(crate) fn create(folder: &Path) -> Result<Self> {
        let blobs = folder.join("blobs/sha256");
        fs::create_dir_all(&blobs).map_err(at("create", &blobs))?;
        let index = folder.join("index.json");
        let manifests = if index.exists() {
            let text = fs::read(&index).map_err(at("read", &index))?;
            let found: Value = serde_json::from_slice(&text).map_err(|error| input(&index, error.to_string()))?;
            found["manifests"].as_array().cloned().unwrap_or_default()
        } else {
            Vec::new()
        };
        Ok(Self { folder: folder.to_path_buf(), manifests })
    }

    /// Adds a blob and returns its descriptor.
    pub(crate) fn add_blob(&self, bytes: &[u8], media_type: &str) -> Result<Value> {
        let digest = digest::bytes(bytes);
        let path = self.blob(&digest);
        if !path.exists() {
            place::write(&path, bytes)?;
        }
        Ok(json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len() }))
    }

    pub(crate) fn add_json(&self, value: &Value, media_type: &str) -> Result<Value> {
        self.add_blob(text(value).as_bytes(), media_type)
    }

    /// Where a blob lies or will lie.
    pub(crate) fn blob(&self, digest: &str) -> PathBuf {
        self.folder.join("blobs/sha256").join(digest)
    }

    /// Names an image, in place of what had the name before.
    pub(crate) fn replace(&mut self, reference: &str, descriptor: Value) {
        self.manifests.retain(|found| found["annotations"][REF_NAME] != reference);
        self.manifests.push(descriptor);
    }

    /// Writes the index, which makes the images visible.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.manifests.sort_by_cached_key(text);
        self.manifests.dedup();
        place::write(&self.folder.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        place::write(&self.folder.join("index.json"), index_text(&self.manifests).as_bytes())
    }
}

/// The content of `index.json`.
pub(crate) fn index_text(manifests: &[Value]) -> String {
    text(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": manifests,
    }))
}

/// serde_json keeps objects sorted by key unless a dependency turns its `preserve_order` on; then this sorts.
pub(crate) fn text(value: &Value) -> String {
    fn sorted(value: &Value) -> Value {
        match value {
            Value::Object(map) => {
                let mut keys: Vec<&String> = map.keys().collect();
                keys.sort();
                Value::Object(keys.into_iter().map(|key| (key.clone(), sorted(&map[key]))).collect())
            }
            Value::Array(list) => Value::Array(list.iter().map(sorted).collect()),
            other => other.clone(),
        }
    }
    sorted(value).to_string()
}

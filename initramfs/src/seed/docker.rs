//! Turns a docker-archive (`docker save`, `podman save`, `skopeo copy … docker-archive:`) into OCI blobs. Its
//! configuration is the OCI's; it has no manifest of that kind, so one is made from its list of layers.

use super::images::Images;
use crate::digest;
use crate::error::{Result, at, input};
use crate::layout::text;
use crate::pack::architecture;
use serde::Deserialize;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// New versions of docker write both kinds into one archive: then the OCI's is the better one.
pub(super) fn is_archive(folder: &Path) -> bool {
    folder.join("manifest.json").exists() && !folder.join("index.json").exists()
}

pub(super) fn collect(given: &Path, folder: &Path, images: &mut Images) -> Result<()> {
    let path = folder.join("manifest.json");
    let text = fs::read(&path).map_err(at("read", &path))?;
    let entries: Vec<Entry> =
        serde_json::from_slice(&text).map_err(|error| input(given, format!("manifest.json is damaged: {error}")))?;
    if entries.is_empty() {
        return Err(input(given, "manifest.json lists no image"));
    }
    for entry in entries {
        let manifest = convert(given, folder, &entry, images)?;
        let names = entry.repo_tags.unwrap_or_default();
        if names.is_empty() {
            images.name(given, None, manifest.clone())?;
        }
        for name in names {
            images.name(given, Some(name), manifest.clone())?;
        }
    }
    Ok(())
}

/// Adds an entry's blobs and returns the descriptor of its manifest.
fn convert(given: &Path, folder: &Path, entry: &Entry, images: &mut Images) -> Result<Value> {
    let config_path = member(given, folder, &entry.config)?;
    let config_bytes = fs::read(&config_path).map_err(at("read", &config_path))?;
    let config: Value = serde_json::from_slice(&config_bytes)
        .map_err(|error| input(given, format!("the configuration {} is damaged: {error}", entry.config)))?;
    if config["architecture"] != architecture() {
        return Err(input(given, format!("the image is for {}, not for {}", config["architecture"], architecture())));
    }
    let diff_ids: Vec<&str> =
        config["rootfs"]["diff_ids"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if diff_ids.len() != entry.layers.len() {
        let reason = format!("the image has {} layers, its configuration knows {}", entry.layers.len(), diff_ids.len());
        return Err(input(given, reason));
    }
    let mut layers = Vec::new();
    for (layer, diff_id) in entry.layers.iter().zip(diff_ids) {
        let path = member(given, folder, layer)?;
        let (digest, bytes) = digest::file(&path)?;
        let kind = match magic(&path)? {
            [0x1f, 0x8b, ..] => "application/vnd.oci.image.layer.v1.tar+gzip",
            [0x28, 0xb5, 0x2f, 0xfd] => "application/vnd.oci.image.layer.v1.tar+zstd",
            _ if format!("sha256:{digest}") != diff_id => {
                return Err(input(given, format!("the layer {layer} is damaged: it should have the digest {diff_id}")));
            }
            _ => "application/vnd.oci.image.layer.v1.tar",
        };
        images.file(&digest, &path);
        layers.push(json!({ "mediaType": kind, "digest": format!("sha256:{digest}"), "size": bytes }));
    }
    let size = config_bytes.len();
    let digest = images.bytes(config_bytes);
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": format!("sha256:{digest}"),
            "size": size,
        },
        "layers": layers,
    });
    let bytes = text(&manifest).into_bytes();
    let size = bytes.len();
    let digest = images.bytes(bytes);
    Ok(json!({
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": format!("sha256:{digest}"),
        "size": size,
    }))
}

/// A file the manifest names; it may only name what lies in the archive.
fn member(given: &Path, folder: &Path, name: &str) -> Result<PathBuf> {
    let parts: Vec<&str> = name.split('/').collect();
    let path = folder.join(name);
    if name.starts_with('/') || parts.contains(&"..") || !path.is_file() {
        return Err(input(given, format!("the archive lacks {name}, which its manifest.json names")));
    }
    Ok(path)
}

fn magic(path: &Path) -> Result<[u8; 4]> {
    let mut magic = [0; 4];
    let mut file = File::open(path).map_err(at("open", path))?;
    // A file shorter than that is no compressed layer.
    let _ = file.read(&mut magic).map_err(at("read", path))?;
    Ok(magic)
}

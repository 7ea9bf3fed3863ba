//! Packs a folder as an OCI image: a layout folder (image-spec, image-layout.md) with one gzip layer, the same bytes
//! for the same files every time.

use crate::digest;
use crate::error::{Result, at, input};
use crate::layout::Layout;
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// What the image says about how to run it.
#[derive(Debug, Clone, Default)]
pub struct PackConfig {
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// `user`, `uid` or `uid:gid`.
    pub user: Option<String>,
    pub working_dir: Option<String>,
    /// `8080/tcp`.
    pub exposed_ports: Vec<String>,
    pub stop_signal: Option<String>,
}

/// Adds an image of `rootfs`, named `reference`, to the layout folder `layout_out`, which is made when it is missing.
/// Gives the layer's diff id: `sha256:…`.
pub fn pack(rootfs: &Path, reference: &str, config: &PackConfig, layout_out: &Path) -> Result<String> {
    if reference.is_empty() || reference.chars().any(|character| character.is_whitespace() || character.is_control()) {
        return Err(input(rootfs, format!("{reference:?} is no image reference; expected NAME:TAG")));
    }
    let mut layout = Layout::create(layout_out)?;
    let (layer, diff_id) = layer(rootfs)?;
    let layer = layout.add_blob(&layer, "application/vnd.oci.image.layer.v1.tar+gzip")?;
    let config = layout.add_json(&configuration(config, &diff_id), "application/vnd.oci.image.config.v1+json")?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config,
        "layers": [layer],
    });
    let mut manifest = layout.add_json(&manifest, "application/vnd.oci.image.manifest.v1+json")?;
    manifest["annotations"] = json!({ "org.opencontainers.image.ref.name": reference });
    layout.replace(reference, manifest);
    layout.finish()?;
    Ok(diff_id)
}

/// The configuration leaves `created` out: it is optional, and a build has no time of its own.
fn configuration(config: &PackConfig, diff_id: &str) -> Value {
    let mut run = serde_json::Map::new();
    let mut list = |name: &str, values: &[String]| {
        if !values.is_empty() {
            run.insert(name.to_owned(), json!(values));
        }
    };
    list("Entrypoint", &config.entrypoint);
    list("Cmd", &config.cmd);
    list("Env", &config.env);
    for (name, value) in
        [("User", &config.user), ("WorkingDir", &config.working_dir), ("StopSignal", &config.stop_signal)]
    {
        if let Some(value) = value {
            run.insert(name.to_owned(), json!(value));
        }
    }
    if !config.exposed_ports.is_empty() {
        let ports: serde_json::Map<String, Value> =
            config.exposed_ports.iter().map(|port| (port.clone(), json!({}))).collect();
        run.insert("ExposedPorts".to_owned(), Value::Object(ports));
    }
    json!({
        "architecture": architecture(),
        "os": "linux",
        "config": run,
        "rootfs": { "type": "layers", "diff_ids": [diff_id] },
    })
}

/// Go's name of this host's architecture, as image-spec wants it.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The layer's bytes and the digest of its tar stream.
fn layer(rootfs: &Path) -> Result<(Vec<u8>, String)> {
    let mut archive = tar::Builder::new(Vec::new());
    for path in digest::walk(rootfs)? {
        let name = path.strip_prefix(rootfs).unwrap_or(&path);
        let data = fs::symlink_metadata(&path).map_err(at("look at", &path))?;
        let mut header = tar::Header::new_gnu();
        header.set_mode(data.permissions().mode() & 0o7777);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        let kind = data.file_type();
        let added = if kind.is_dir() {
            header.set_entry_type(tar::EntryType::Directory);
            archive.append_data(&mut header, name, std::io::empty())
        } else if kind.is_symlink() {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_mode(0o777);
            let target = fs::read_link(&path).map_err(at("read the link", &path))?;
            archive.append_link(&mut header, name, target)
        } else if kind.is_file() {
            header.set_entry_type(tar::EntryType::Regular);
            header.set_size(data.len());
            let file = File::open(&path).map_err(at("open", &path))?;
            archive.append_data(&mut header, name, file)
        } else {
            return Err(input(
                &path,
                "only files, folders and links can be packed; a container gets its devices at its start",
            ));
        };
        added.map_err(at("pack", &path))?;
    }
    let tar = archive.into_inner().map_err(at("pack", rootfs))?;
    let diff_id = format!("sha256:{}", digest::bytes(&tar));
    // No name, no time, and no trace of the operating system in the header.
    let mut gzip = GzBuilder::new().mtime(0).operating_system(255).write(Vec::new(), Compression::best());
    std::io::Write::write_all(&mut gzip, &tar).map_err(at("compress", rootfs))?;
    Ok((gzip.finish().map_err(at("compress", rootfs))?, diff_id))
}

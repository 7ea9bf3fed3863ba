//! From a descriptor to the manifest and configuration of the one image for a platform.
//!
//! A document's own words never overrule its descriptor: media types must agree (CVE-2021-41190), sizes and digests are
//! checked before anything is parsed, and the nesting of indexes is bounded.

use std::path::Path;

use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType};
use serde::Deserialize;

use super::blob;
use super::digest::Digest;
use super::error::ImageError;
use super::platform::Platform;

/// How deep indexes may nest, and how many are read to find one digest.
const INDEX_DEPTH: usize = 4;
const INDEX_READS: usize = 64;
/// overlayfs takes at most 500 lower layers.
const LAYERS_MAX: usize = 500;

const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// How a layer's archive is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    Plain,
    Gzip,
    Zstd,
}

/// One layer: where its bytes are, and what they must be when unpacked.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    pub(super) digest: Digest,
    pub(super) size_bytes: u64,
    pub(super) packing: Packing,
    pub(super) diff_id: Digest,
}

/// An image whose documents are verified and understood; its layers are not read yet.
pub(super) struct Image {
    pub(super) digest: Digest,
    pub(super) config: ImageConfiguration,
    pub(super) health_check: Option<HealthCheck>,
    pub(super) layers: Vec<Layer>,
}

/// `Healthcheck` of a configuration in Docker's format; the OCI's has none. Times in ns, 0: not said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HealthCheck {
    /// `CMD` and words, `CMD-SHELL` and a line, `NONE`, or nothing.
    pub test: Vec<String>,
    pub interval: u64,
    pub timeout: u64,
    pub start_period: u64,
    pub retries: u32,
}

#[derive(Deserialize)]
struct Extended {
    config: Option<Extension>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Extension {
    healthcheck: Option<HealthCheck>,
}

/// What both kinds of document may say about themselves.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    media_type: Option<String>,
    schema_version: Option<u32>,
    manifests: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
    config: Option<serde::de::IgnoredAny>,
}

/// Follows indexes to the manifest for a platform and reads it with its configuration.
pub(super) fn load(layout: &Path, descriptor: &Descriptor, wanted: &Platform) -> Result<Image, ImageError> {
    let mut descriptor = descriptor.clone();
    for _ in 0..INDEX_DEPTH {
        let digest = digest_of(&descriptor)?;
        if !is_index(&descriptor) {
            return manifest(layout, digest, &descriptor, wanted);
        }
        let index = index(layout, &digest, &descriptor)?;
        descriptor = wanted.choose(index.manifests().iter()).ok_or_else(|| {
            let offered: Vec<_> = index.manifests().iter().filter_map(|e| e.platform().as_ref()).map(show).collect();
            let reason = format!("no image for {wanted}; it offers: {}", offered.join(", "));
            ImageError::Document { digest, reason }
        })?;
    }
    let reason = format!("indexes nested more than {INDEX_DEPTH} deep");
    Err(ImageError::Document { digest: digest_of(&descriptor)?, reason })
}

/// The descriptor with a digest among entries, or in the indexes among them.
pub(super) fn by_digest(
    layout: &Path,
    entries: &[Descriptor],
    wanted: &Digest,
) -> Result<Option<Descriptor>, ImageError> {
    let is_wanted = |entry: &Descriptor| entry.digest().as_ref() == wanted.to_string();
    let mut queue: Vec<(Descriptor, usize)> = entries.iter().map(|entry| (entry.clone(), 0)).collect();
    if let Some((entry, _)) = queue.iter().find(|(entry, _)| is_wanted(entry)) {
        return Ok(Some(entry.clone()));
    }
    let mut reads = 0;
    while let Some((entry, depth)) = queue.pop() {
        if !is_index(&entry) || depth == INDEX_DEPTH || reads == INDEX_READS {
            continue;
        }
        reads += 1;
        // An index of another image that cannot be read is that image's problem.
        let Ok(index) = digest_of(&entry).and_then(|digest| index(layout, &digest, &entry)) else { continue };
        if let Some(found) = index.manifests().iter().find(|entry| is_wanted(entry)) {
            return Ok(Some(found.clone()));
        }
        queue.extend(index.manifests().iter().map(|entry| (entry.clone(), depth + 1)));
    }
    Ok(None)
}

fn index(layout: &Path, digest: &Digest, descriptor: &Descriptor) -> Result<ImageIndex, ImageError> {
    let bytes = blob::document(layout, digest, descriptor.size())?;
    let shape: Shape = parse(digest, &bytes)?;
    agree(digest, descriptor, &shape)?;
    if shape.layers.is_some() || shape.config.is_some() {
        return Err(refuse(digest, "an index that is a manifest, too"));
    }
    parse(digest, &bytes)
}

fn manifest(layout: &Path, digest: Digest, descriptor: &Descriptor, wanted: &Platform) -> Result<Image, ImageError> {
    let is_manifest = matches!(descriptor.media_type(), MediaType::ImageManifest)
        || descriptor.media_type().as_ref() == DOCKER_MANIFEST;
    if !is_manifest {
        return Err(refuse(&digest, format!("media type {} is no image manifest", descriptor.media_type())));
    }
    let bytes = blob::document(layout, &digest, descriptor.size())?;
    let shape: Shape = parse(&digest, &bytes)?;
    agree(&digest, descriptor, &shape)?;
    if shape.manifests.is_some() {
        return Err(refuse(&digest, "a manifest that is an index, too"));
    }
    let manifest: ImageManifest = parse(&digest, &bytes)?;
    let config_type = manifest.config().media_type();
    if !matches!(config_type, MediaType::ImageConfig) && config_type.as_ref() != DOCKER_CONFIG {
        return Err(refuse(&digest, format!("not a container image: its configuration is {config_type}")));
    }
    let config_digest = digest_of(manifest.config())?;
    let bytes = blob::document(layout, &config_digest, manifest.config().size())?;
    let config: ImageConfiguration = parse(&config_digest, &bytes)?;
    if !wanted.takes(config.os(), config.architecture(), config.variant().as_deref()) {
        let found = format!("{}/{}", config.os(), config.architecture());
        let why = if *wanted == Platform::default() { "this machine is" } else { "wanted is one for" };
        return Err(refuse(&config_digest, format!("an image for {found}, {why} {wanted}")));
    }
    let layers = layers(&digest, &manifest, &config)?;
    let health_check = parse::<Extended>(&config_digest, &bytes)?.config.and_then(|config| config.healthcheck);
    Ok(Image { digest, config, health_check, layers })
}

fn layers(digest: &Digest, manifest: &ImageManifest, config: &ImageConfiguration) -> Result<Vec<Layer>, ImageError> {
    let diff_ids = config.rootfs().diff_ids();
    if manifest.layers().len() != diff_ids.len() {
        let reason =
            format!("{} layers, but the configuration lists {} diff ids", manifest.layers().len(), diff_ids.len());
        return Err(refuse(digest, reason));
    }
    if diff_ids.len() > LAYERS_MAX {
        return Err(refuse(digest, format!("{} layers; at most {LAYERS_MAX} can be stacked", diff_ids.len())));
    }
    let mut layers = Vec::with_capacity(diff_ids.len());
    for (descriptor, diff_id) in manifest.layers().iter().zip(diff_ids) {
        let diff_id = diff_id.parse().map_err(|error| refuse(digest, format!("diff id: {error}")))?;
        layers.push(Layer {
            digest: digest_of(descriptor)?,
            size_bytes: descriptor.size(),
            packing: packing(digest, descriptor.media_type())?,
            diff_id,
        });
    }
    Ok(layers)
}

fn packing(digest: &Digest, media_type: &MediaType) -> Result<Packing, ImageError> {
    Ok(match media_type.as_ref() {
        "application/vnd.oci.image.layer.v1.tar"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar"
        | "application/vnd.docker.image.rootfs.diff.tar" => Packing::Plain,
        "application/vnd.oci.image.layer.v1.tar+gzip"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
        | "application/vnd.docker.image.rootfs.diff.tar.gzip" => Packing::Gzip,
        "application/vnd.oci.image.layer.v1.tar+zstd"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
        | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Packing::Zstd,
        other => {
            return Err(refuse(digest, format!("layers of media type {} are not supported", other.escape_debug())));
        }
    })
}

fn is_index(descriptor: &Descriptor) -> bool {
    matches!(descriptor.media_type(), MediaType::ImageIndex) || descriptor.media_type().as_ref() == DOCKER_LIST
}

fn agree(digest: &Digest, descriptor: &Descriptor, shape: &Shape) -> Result<(), ImageError> {
    if shape.schema_version != Some(2) {
        return Err(refuse(digest, "only documents of schemaVersion 2 are supported"));
    }
    let said = descriptor.media_type().as_ref();
    match &shape.media_type {
        Some(own) if own != said => {
            Err(refuse(digest, format!("it calls itself {}, its descriptor says {said}", own.escape_debug())))
        }
        _ => Ok(()),
    }
}

fn digest_of(descriptor: &Descriptor) -> Result<Digest, ImageError> {
    let text = descriptor.digest().as_ref();
    text.parse().map_err(|error| ImageError::Document {
        // The descriptor has no usable digest of its own, so it is named by that of its text.
        digest: Digest::sha256_of(text.as_bytes()),
        reason: format!("a descriptor's digest: {error}"),
    })
}

fn parse<'a, T: Deserialize<'a>>(digest: &Digest, bytes: &'a [u8]) -> Result<T, ImageError> {
    serde_json::from_slice(bytes).map_err(|error| refuse(digest, error.to_string()))
}

fn refuse(digest: &Digest, reason: impl Into<String>) -> ImageError {
    ImageError::Document { digest: digest.clone(), reason: reason.into() }
}

fn show(platform: &oci_spec::image::Platform) -> String {
    let mut text = format!("{}/{}", platform.os(), platform.architecture());
    if let Some(variant) = platform.variant() {
        text.push('/');
        text.extend(variant.escape_debug());
    }
    text
}

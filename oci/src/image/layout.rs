//! An OCI image layout folder, read-only: `oci-layout`, `index.json`, `blobs/`.

use std::path::{Path, PathBuf};

use oci_spec::image::{Descriptor, ImageIndex};
use serde::Deserialize;

use super::blob;
use super::error::ImageError;
use super::manifest;
use super::platform::Platform;
use super::reference::Reference;

/// What OCI tools write: the full reference, or the bare tag.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// containerd and Docker write the full reference here and the bare tag into `REF_NAME`.
const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// A folder in the image layout's form. Nothing is cached: another process may replace `index.json` at any time.
#[derive(Debug, Clone)]
pub struct Layout {
    path: PathBuf,
}

/// The content of the file `oci-layout`.
#[derive(Deserialize)]
struct Marker {
    #[serde(rename = "imageLayoutVersion")]
    version: String,
}

impl Layout {
    /// Checks that a folder says it is a layout, of version 1.
    pub fn open(path: &Path) -> Result<Self, ImageError> {
        let bytes = blob::small_file(&path.join("oci-layout"))?;
        let refuse = |reason: String| Err(ImageError::Layout { path: path.into(), reason });
        match serde_json::from_slice::<Marker>(&bytes) {
            Ok(marker) if marker.version.starts_with("1.") => Ok(Self { path: path.into() }),
            Ok(marker) => refuse(format!("version {:?} is not supported, 1.0.0 is", marker.version)),
            Err(error) => refuse(format!("the file oci-layout: {error}")),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Every entry of `index.json`, with the name it carries.
    pub fn images(&self) -> Result<Vec<(Option<String>, Descriptor)>, ImageError> {
        let index = self.index()?;
        Ok(index.manifests().iter().map(|entry| (name_of(entry), entry.clone())).collect())
    }

    /// The entry a reference means: by its digest if it has one, else by full name, else by [`Layout::resolve_tag`].
    pub fn resolve(&self, reference: &Reference, wanted: &Platform) -> Result<Option<Descriptor>, ImageError> {
        match self.resolve_name(reference, wanted)? {
            None => self.resolve_tag(reference, wanted),
            found => Ok(found),
        }
    }

    /// The entry that carries exactly this reference. A digest decides alone: it may also be that of an image inside an
    /// index.
    pub(super) fn resolve_name(
        &self,
        reference: &Reference,
        wanted: &Platform,
    ) -> Result<Option<Descriptor>, ImageError> {
        let index = self.index()?;
        if let Some(digest) = reference.digest() {
            return manifest::by_digest(&self.path, index.manifests(), digest);
        }
        let named = index.manifests().iter().filter(|entry| {
            let matches = |name: &String| name.parse::<Reference>().is_ok_and(|name| name == *reference);
            [CONTAINERD_NAME, REF_NAME].iter().any(|key| annotation(entry, key).is_some_and(matches))
        });
        Ok(wanted.choose(named))
    }

    /// umoci and buildah write only the tag into a layout. Such an entry is taken for any name with that tag, and one
    /// without any name for every reference, as long as the layout holds nothing else it could be.
    pub(super) fn resolve_tag(
        &self,
        reference: &Reference,
        wanted: &Platform,
    ) -> Result<Option<Descriptor>, ImageError> {
        let index = self.index()?;
        let (None, Some(tag)) = (reference.digest(), reference.tag()) else { return Ok(None) };
        let tagged: Vec<_> = index
            .manifests()
            .iter()
            .filter(|entry| {
                annotation(entry, CONTAINERD_NAME).is_none()
                    && annotation(entry, REF_NAME).is_some_and(|name| name == tag)
            })
            .collect();
        let candidates = match (tagged.is_empty(), index.manifests().as_slice()) {
            (true, [only]) if name_of(only).is_none() => vec![only],
            _ => tagged,
        };
        // Several entries are one image only when they differ by platform.
        let mut platforms: Vec<_> = candidates.iter().map(|entry| entry.platform().as_ref()).collect();
        platforms.dedup();
        if candidates.len() > 1 && platforms.len() < candidates.len() {
            return Ok(None);
        }
        Ok(wanted.choose(candidates.into_iter()))
    }

    fn index(&self) -> Result<ImageIndex, ImageError> {
        let bytes = blob::small_file(&self.path.join("index.json"))?;
        serde_json::from_slice(&bytes)
            .map_err(|error| ImageError::Layout { path: self.path.clone(), reason: format!("index.json: {error}") })
    }
}

fn annotation<'a>(entry: &'a Descriptor, key: &str) -> Option<&'a String> {
    entry.annotations().as_ref()?.get(key)
}

fn name_of(entry: &Descriptor) -> Option<String> {
    annotation(entry, CONTAINERD_NAME).or_else(|| annotation(entry, REF_NAME)).cloned()
}

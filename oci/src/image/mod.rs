//! Images: from a name and an OCI image layout to a stack of verified, unpacked layers.
//!
//! Nothing is believed before its digest has been computed, every document has a bounded size, every layer a bounded
//! cost. Layers are unpacked once per machine, streaming, in memory that does not grow with the image, and appear by a
//! rename; an image that is refused leaves nothing behind. What a layer may contain is written in `layer`.

mod blob;
mod digest;
mod error;
mod layer;
mod layout;
mod manifest;
mod packing;
mod platform;
mod reference;
mod store;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use oci_spec::image::{Descriptor, ImageConfiguration};

pub use digest::{Algorithm, Digest, DigestError};
pub use error::{ImageError, LayerError};
pub use layer::remove_all;
pub use layout::Layout;
pub use manifest::HealthCheck;
pub use platform::Platform;
pub use reference::{Reference, ReferenceError};

use blob::BlobReader;
use layer::Limits;
use packing::Unpacked;
use store::{Partial, Store};

/// An image that is ready to be mounted.
#[derive(Debug, Clone)]
pub struct PreparedImage {
    /// The manifest's digest: `sha256:…`.
    pub digest: String,
    pub config: ImageConfiguration,
    pub health_check: Option<HealthCheck>,
    /// Unpacked layers, lowest first. A layer that occurs twice is listed where it is highest: overlayfs refuses to
    /// stack one folder twice, and what a lower one shows is hidden by the same entries above.
    pub layers: Vec<PathBuf>,
}

/// Finds the reference in the first layout that has it, for the platform that is wanted, verifies every digest, and unpacks the layers that neither `sealed_dir` nor
/// `layers_dir` has yet. What lies in `sealed_dir` is believed: it is part of a read-only system. May be called from several
/// threads and processes at once. Needs root.
pub fn prepare(
    layouts: &[Layout],
    sealed_dir: &Path,
    layers_dir: &Path,
    reference: &Reference,
    platform: &Platform,
) -> Result<PreparedImage, ImageError> {
    let (layout, descriptor) = find(layouts, reference, platform)?;
    let image = manifest::load(layout.path(), &descriptor, platform)?;
    let store = Store::open(layers_dir)?;
    store.sweep()?;

    // Each layer is locked while it is unpacked, and the locks are kept to the end: taken in one order by everybody,
    // nobody waits in a circle.
    let by_diff_id: BTreeMap<_, _> = image.layers.iter().map(|layer| (&layer.diff_id, layer)).collect();
    let sealed = |layer: &manifest::Layer| {
        let path = sealed_dir.join(layer.diff_id.hex());
        path.is_dir().then_some(path)
    };
    let mut partials = Vec::new();
    for layer in by_diff_id.into_values() {
        if sealed(layer).is_some() || store.has(&layer.diff_id)? {
            continue;
        }
        let Some(partial) = store.begin(&layer.diff_id)? else { continue };
        unpack(layout, layer, &partial)?;
        partials.push(partial);
    }
    store::commit(partials)?;

    let mut layers: Vec<PathBuf> = Vec::with_capacity(image.layers.len());
    for layer in image.layers.iter().rev() {
        let path = sealed(layer).unwrap_or_else(|| store.layer_path(&layer.diff_id));
        if !layers.contains(&path) {
            layers.push(path);
        }
    }
    layers.reverse();
    Ok(PreparedImage {
        digest: image.digest.to_string(),
        config: image.config,
        health_check: image.health_check,
        layers,
    })
}

/// An exact name in any layout comes before a bare tag in an earlier one. A layout that cannot be read matters only
/// when no other has the image.
fn find<'l>(
    layouts: &'l [Layout],
    reference: &Reference,
    platform: &Platform,
) -> Result<(&'l Layout, Descriptor), ImageError> {
    let mut unreadable = None;
    for resolve in [Layout::resolve_name, Layout::resolve_tag] {
        for layout in layouts {
            match resolve(layout, reference, platform) {
                Ok(Some(descriptor)) => return Ok((layout, descriptor)),
                Ok(None) => {}
                Err(error) => unreadable = Some(error),
            }
        }
    }
    Err(unreadable.unwrap_or_else(|| ImageError::NotFound {
        reference: reference.to_string(),
        looked_in: layouts.iter().map(|layout| layout.path().into()).collect(),
    }))
}

fn unpack(layout: &Layout, layer: &manifest::Layer, partial: &Partial<'_>) -> Result<(), ImageError> {
    let blob = BlobReader::open(layout.path(), layer.digest.clone(), layer.size_bytes)?;
    let source = Unpacked::new(layer.packing, blob);
    let limits = Limits::for_blob(layer.size_bytes);
    layer::unpack(source, &layer.diff_id, limits, partial.tree(), partial.staging())
        .map_err(|source| ImageError::Layer { digest: layer.digest.clone(), source })?
        .finish()
}

//! Images for units: prepared in worker threads, one per reference, whoever waits for it.

use std::{collections::BTreeMap, sync::Arc};

use oci::image::{Layout, PreparedImage, Reference, prepare};
use oci_spec::image::ImageConfiguration;

use super::{mailbox, paths::Paths};
use crate::unit::{ImageName, UnitName};

/// How a preparation ended; the sentence is for the person who wrote the unit.
pub(crate) type Prepared = Result<Arc<PreparedImage>, String>;

#[derive(Debug, Default)]
pub(crate) struct Images {
    /// References being prepared, and for whom (with their attempt).
    wanted: BTreeMap<ImageName, Vec<(UnitName, u64)>>,
}

impl Images {
    /// Prepares the image in a thread of its own, if none is at it already. `report` is called from there. False when no thread
    /// could be started.
    pub(crate) fn want(
        &mut self,
        paths: &Paths,
        unit: &UnitName,
        attempt: u64,
        image: &ImageName,
        report: impl FnOnce(ImageName, Prepared) + Send + 'static,
    ) -> bool {
        let waiting = self.wanted.entry(image.clone()).or_default();
        waiting.push((unit.clone(), attempt));
        if waiting.len() > 1 {
            return true;
        }
        let (paths, wanted) = (paths.clone(), image.clone());
        let started = mailbox::spawn(&format!("image {}", wanted.name), move || {
            let prepared = find(&paths, &wanted);
            report(wanted, prepared.map(Arc::new));
        });
        if !started {
            self.wanted.remove(image);
        }
        started
    }

    /// Who waited for it.
    pub(crate) fn done(&mut self, image: &ImageName) -> Vec<(UnitName, u64)> {
        self.wanted.remove(image).unwrap_or_default()
    }
}

pub(crate) fn find(paths: &Paths, image: &ImageName) -> Result<PreparedImage, String> {
    let ImageName { name: image, platform } = image;
    // `Rootfs=`: no reference begins so, and a folder brings no configuration.
    if image.starts_with('/') {
        let config = ImageConfiguration::default();
        return Ok(PreparedImage { digest: String::new(), config, health_check: None, layers: Vec::new() });
    }
    let reference: Reference = image.parse().map_err(|error| format!("image {image}: {error}"))?;
    let mut layouts = Vec::new();
    for path in paths.layouts() {
        if path.join("oci-layout").exists() {
            match Layout::open(&path) {
                Ok(layout) => layouts.push(layout),
                // One broken layout does not hide the others.
                Err(error) => log::error!("{}: {error}", path.display()),
            }
        }
    }
    prepare(&layouts, &paths.sealed_layers(), &paths.layers(), &reference, platform).map_err(|error| error.to_string())
}

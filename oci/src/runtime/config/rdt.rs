//! `linux.intelRdt`.

use super::Result;
use crate::runtime::json::{Reader, Taken};

#[derive(Debug, Default)]
pub(crate) struct IntelRdt {
    /// `closID`: the name of the group; none: the container's own.
    pub(crate) class: Option<String>,
    pub(crate) l3: Option<String>,
    pub(crate) bandwidth: Option<String>,
    pub(crate) schemata: Vec<String>,
    pub(crate) monitoring: bool,
}

impl IntelRdt {
    pub(super) fn read(r: &mut Reader<'_>) -> Result<IntelRdt> {
        let mut all = IntelRdt::default();
        r.object(&mut |r, name| {
            match name {
                "closID" => all.class = Some(r.text()?).filter(|id| !id.is_empty()),
                "l3CacheSchema" => all.l3 = Some(r.text()?).filter(|schema| !schema.is_empty()),
                "memBwSchema" => {
                    let schema = r.text()?;
                    if !schema.is_empty() && (!schema.starts_with("MB:") || schema.contains('\n')) {
                        return Err(r.invalid("must be one line that starts with MB:"));
                    }
                    all.bandwidth = Some(schema).filter(|schema| !schema.is_empty());
                }
                "schemata" => {
                    all.schemata = r.strings()?;
                    if all.schemata.iter().any(|line| line.contains('\n')) {
                        return Err(r.invalid("has a line break in one of its lines"));
                    }
                }
                // The two older ones ask for a part of what the newer one gives.
                "enableMonitoring" | "enableCMT" | "enableMBM" => all.monitoring |= r.boolean()?,
                _ => return Ok(Taken::No),
            }
            Ok(Taken::Yes)
        })?;
        Ok(all)
    }

    /// The lines for the group's `schemata`, in their order: where both name a bandwidth, `memBwSchema` has it.
    pub(crate) fn lines(&self) -> Vec<&str> {
        let l3 = self.l3.as_deref().unwrap_or_default().lines();
        let l3 = l3.filter(|line| self.bandwidth.is_none() || !line.starts_with("MB:"));
        l3.chain(self.bandwidth.as_deref()).chain(self.schemata.iter().map(String::as_str)).collect()
    }
}

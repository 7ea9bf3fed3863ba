//! Orlop's OCI library: images (`image`), and what the runtime `orlop-oci` is made of.

pub mod image;
pub mod runtime;

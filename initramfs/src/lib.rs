//! Builds what an Orlop machine boots from, on the host: kernel, initramfs, root image, seeds, disks, OCI images.
//!
//! Invariants: no root, no loop devices, no mounts. Two builds of the same inputs give the same bytes (fixed times,
//! owners, identifiers and order). Everything is written beside its final name and renamed, so an interrupted build
//! leaves no half file behind, and a build with nothing changed does nothing. On failure: an error that says what was
//! done to which file and why it did not work.
//!
//! Steps that take time say so through a callback that receives one line a step, for the screen.

mod bare;
mod command;
mod debian;
mod digest;
mod disk;
mod erofs;
mod error;
mod image;
mod kernel;
mod layout;
mod modules;
mod pack;
mod place;
mod programs;
pub mod requirements;
mod root;
mod seed;
mod seeds;
mod tree;

pub use debian::{depmod, tree_of_packages};
pub use disk::raw_disk;
pub use error::{Error, Result};
pub use image::{Entry, Image, Sizes, archive, image};
pub use kernel::{Kernel, kernel, update_kernel};
pub use pack::{PackConfig, pack};
pub use programs::{Programs, out, programs, triple, workspace};
pub use seed::seed_disk;

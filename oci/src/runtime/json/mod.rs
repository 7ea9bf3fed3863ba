//! JSON, read in one walk and written without a tree.
//!
//! Why not serde: the reader knows at every point where in config.json it is, so each error names the field
//! (`linux.resources.memory.limit: …`); an unknown property is noted by its path instead of being dropped in silence; and the
//! program stays a third of the size, which every start of a container pays for in page faults.

mod names;
mod read;
mod write;

pub(crate) use read::{Reader, Taken};
pub(crate) use write::Writer;

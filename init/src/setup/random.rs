//! The random seed: carried from boot to boot, credited once.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;

use super::durable;
use crate::story;
use crate::sys::random::{self, SEED_BYTES};

const SEED: &str = "/var/lib/orlop/random-seed";
/// What the generator can hold; a seed was drawn from an initialised one, so it is worth all of it.
const CREDIT_BITS: u16 = 256;

/// Mixes the stored seed in, then replaces it by one that depends on it.
pub(super) fn set_up() {
    if let Err(error) = load() {
        story::warn("random", format_args!("load {SEED}: {error}"));
    }
    rotate();
}

/// Saves a seed for the next boot: for the shutdown, while `/var` is still writable.
pub(crate) fn save() {
    if super::is_our_root() {
        rotate();
    }
}

/// A generator that is not ready yet would make its caller wait: no seed is better than a weak one.
fn rotate() {
    let mut fresh = [0; SEED_BYTES];
    if random::try_fill(&mut fresh).is_ok()
        && let Err(error) = durable::write(SEED, &fresh, 0o600)
    {
        story::warn("random", format_args!("write {SEED}: {error}"));
    }
}

fn load() -> io::Result<()> {
    let seed = match fs::read(SEED) {
        Ok(seed) => seed,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    // Gone before it counts, also after a crash right here: the same seed credited in two boots would give both
    // the same "random" numbers.
    durable::remove(SEED)?;
    let Ok(seed) = <&[u8; SEED_BYTES]>::try_from(seed.as_slice()) else {
        return Err(io::Error::other("it is not 512 bytes long, so it was not used"));
    };
    let generator: File = OpenOptions::new().read(true).write(true).open("/dev/urandom")?;
    random::credit(generator.as_fd(), seed, CREDIT_BITS)?;
    story::debug("random", format_args!("{CREDIT_BITS} bits of the last boot's seed are credited"));
    // So that what is drawn next, the new seed first of all, depends on the old one.
    random::reseed(generator.as_fd())?;
    Ok(())
}

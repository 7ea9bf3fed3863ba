//! Seeds made here from a real `mkfs.xfs`, written to a file, and judged by xfs's own tools.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::{Whence, lseek};

use super::*;

const UUID: [u8; 16] = *b"\x12\x34\x56\x78\x9a\xbc\x4d\xef\x81\x23\x45\x67\x89\xab\xcd\xef";
const UUID_TEXT: &str = "12345678-9abc-4def-8123-456789abcdef";
const OLD_UUID: &str = "6f726c6f-7000-4000-8000-000000000001";
const SIZE: u64 = 1 << 30;

/// A folder of one test's own, deleted at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("orlop-seed-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn sparse(&self, name: &str, len: u64) -> (PathBuf, File) {
        let path = self.0.join(name);
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        file.set_len(len).unwrap();
        (path, file)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn run(program: &str, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(program)
        .args(arguments)
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .output()
        .unwrap_or_else(|error| panic!("{program} cannot be run: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

fn make_xfs(path: &Path, sector: &str) {
    use initramfs::requirements::{MKFS_XFS, ensure};
    static INSTALLED: std::sync::Once = std::sync::Once::new();
    INSTALLED.call_once(|| ensure(&[MKFS_XFS], &mut |line| println!("{line}")).unwrap());
    let uuid = format!("uuid={OLD_UUID}");
    let sector = format!("size={sector}");
    let path = path.to_str().unwrap();
    let (ok, text) =
        run("mkfs.xfs", &["-q", "-f", "-K", "-d", "agcount=4", "-s", &sector, "-m", &uuid, "-L", "orlop-state", path]);
    assert!(ok, "{text}");
}

/// The seed of a file system image: its non-zero blocks but for the log, as the image builder makes it.
fn seed_of(file: &File) -> Vec<u8> {
    let mut sector = [0; 4096];
    file.read_exact_at(&mut sector, 0).unwrap();
    let log = Geometry::read(&sector).unwrap().log;
    let mut extents = Vec::new();
    let mut block = [0; 4096];
    let mut at = 0;
    let mut count = 0_u32;
    // From data to data: what was never written is a hole.
    while let Ok(data) = lseek(file, at, Whence::SeekData) {
        let offset = u64::try_from(data).unwrap() & !4095;
        file.read_exact_at(&mut block, offset).unwrap();
        if !log.contains(&offset) && block.iter().any(|&byte| byte != 0) {
            extents.extend_from_slice(&offset.to_le_bytes());
            extents.extend_from_slice(&4096_u32.to_le_bytes());
            extents.extend_from_slice(&block);
            count += 1;
        }
        at = i64::try_from(offset).unwrap() + 4096;
    }
    let mut seed = MAGIC.to_vec();
    seed.extend_from_slice(&SIZE.to_le_bytes());
    seed.extend_from_slice(&count.to_le_bytes());
    seed.extend_from_slice(&extents);
    seed
}

fn check_whole(path: &Path) {
    let path = path.to_str().unwrap();
    // A log of zeroes is the one thing it remarks on; whatever it "would" change or finds "bad" is a defect.
    let (_, text) = run("xfs_repair", &["-n", path]);
    assert!(text.contains("No modify flag set"), "{text}");
    assert!(!text.contains("would ") && !text.contains("bad ") && !text.contains("inconsistent"), "{text}");
    for superblock in ["sb 0", "sb 1", "sb 2", "sb 3"] {
        let (ok, text) = run("xfs_db", &["-c", superblock, "-c", "print uuid meta_uuid fname", path]);
        assert!(ok, "{text}");
        assert_eq!(text, format!("uuid = {UUID_TEXT}\nmeta_uuid = {OLD_UUID}\nfname = \"orlop-state\\000\"\n"));
    }
}

#[test]
fn a_written_seed_is_a_whole_xfs_with_its_own_uuid() {
    for sector in ["512", "4096"] {
        let scratch = Scratch::new(&format!("whole-{sector}"));
        let (path, made) = scratch.sparse("made", SIZE);
        make_xfs(&path, sector);
        let bytes = seed_of(&made);
        assert_eq!(size_of(&bytes[..HEADER_BYTES]), Some(SIZE));
        let seed = Seed::parse(&bytes).unwrap();
        assert_eq!(seed.geometry.superblocks.len(), 4);

        // A device that is larger, and was something else before: the old log must not be replayed.
        let (path, device) = scratch.sparse("device", 2 * SIZE);
        device.write_all_at(&[0xa5; 1 << 16], seed.geometry.log.end - (1 << 16)).unwrap();
        seed.write(&device, UUID).unwrap();
        check_whole(&path);
        let mut log = vec![1; 1 << 20];
        device.read_exact_at(&mut log, seed.geometry.log.end - (1 << 20)).unwrap();
        assert!(log.iter().all(|&byte| byte == 0));
        assert!(device.metadata().unwrap().blocks() * 512 < SIZE / 4, "the device stays sparse");
    }
}

/// The power goes after each write: what is there is either begun again or whole, never taken for something else.
#[test]
fn an_interrupted_creation_is_begun_again() {
    let scratch = Scratch::new("cut");
    let (path, made) = scratch.sparse("made", SIZE);
    make_xfs(&path, "512");
    let bytes = seed_of(&made);
    let seed = Seed::parse(&bytes).unwrap();
    let (path, device) = scratch.sparse("device", SIZE);

    // Everything is written but for the last write, sector 0.
    seed.write(&device, UUID).unwrap();
    mark_unfinished(&device).unwrap();
    let mut sector = [0; 512];
    device.read_exact_at(&mut sector, 0).unwrap();
    assert!(is_unfinished(&sector) && Geometry::read(&sector).is_none());

    seed.write(&device, UUID).unwrap();
    device.read_exact_at(&mut sector, 0).unwrap();
    assert!(!is_unfinished(&sector));
    check_whole(&path);
}

#[test]
fn a_broken_seed_is_refused() {
    let scratch = Scratch::new("broken");
    let (path, made) = scratch.sparse("made", SIZE);
    make_xfs(&path, "512");
    let bytes = seed_of(&made);
    assert!(Seed::parse(&bytes).is_some());
    assert!(Seed::parse(&bytes[..bytes.len() - 1]).is_none(), "cut short");
    assert!(Seed::parse(&[&bytes[..], b"x"].concat()).is_none(), "too long");
    assert!(Seed::parse(&bytes[..HEADER_BYTES]).is_none());
    let mut other = bytes.clone();
    other[8] ^= 1;
    assert!(Seed::parse(&other).is_none(), "another size than its superblock says");
    let mut other = bytes.clone();
    other[HEADER_BYTES + 12] = b'x';
    assert!(Seed::parse(&other).is_none(), "no superblock");
    let mut other = bytes;
    let second = HEADER_BYTES + 12 + 4096;
    other[second..second + 8].copy_from_slice(&SIZE.to_le_bytes());
    assert!(Seed::parse(&other).is_none(), "outside the file system, and out of order");
    assert!(Seed::parse(b"").is_none());
}

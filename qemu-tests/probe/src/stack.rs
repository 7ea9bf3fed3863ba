//! File systems on device mapper on loop devices over files, one in another: what a shutdown has to take apart storey by
//! storey. Made with the rights of the machine itself, whose name spaces the probe enters.

use crate::sys;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

/// linux/loop.h
const LOOP_CTL_GET_FREE: u32 = 0x4c82;
const LOOP_SET_FD: u32 = 0x4c00;
/// linux/dm-ioctl.h: `_IOWR(0xfd, 3 | 9 | 6, struct dm_ioctl)`
const DM_DEV_CREATE: u32 = 0xc138_fd03;
const DM_TABLE_LOAD: u32 = 0xc138_fd09;
const DM_DEV_SUSPEND: u32 = 0xc138_fd06;

/// Builds a storey in FOLDER for each image, each inside the one before, adds one to a number in the innermost without
/// syncing it, and stays. Prints first whether each file system found was left in order.
pub(crate) fn stack(proc: &str, folder: &str, images: &[&str]) -> io::Result<()> {
    let images = images.iter().map(fs::read).collect::<io::Result<Vec<_>>>()?;
    // Both opened before the first is entered: the second takes this procfs away.
    let spaces = ["cgroup", "mnt"].map(|space| File::open(format!("{proc}/1/ns/{space}")));
    for space in spaces {
        sys::enter(&space?)?;
    }
    // The cgroup of a container filters devices: a free one beside it does not.
    let cgroup = Path::new("/sys/fs/cgroup/containers/without-filter");
    fs::create_dir_all(cgroup)?;
    fs::write(cgroup.join("cgroup.procs"), "0")?;
    for module in ["loop", "dm_mod"] {
        Command::new("/sbin/modprobe").arg(module).status()?;
    }
    let mut place = Path::new(folder).to_owned();
    for (storey, image) in images.iter().enumerate() {
        fs::create_dir_all(&place)?;
        let disk = place.join("disk");
        if !disk.exists() {
            fs::write(&disk, image)?;
        }
        let file = File::options().read(true).write(true).open(&disk)?;
        println!("storey {storey} {}", if is_clean(&file)? { "in order" } else { "NOT in order" });
        let inside = place.join("inside");
        fs::create_dir_all(&inside)?;
        sys::mount(&mapped(storey, &looped(&file)?, image.len())?, &inside, "ext4")?;
        place = inside;
    }
    let number = place.join("number");
    let count = fs::read_to_string(&number).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0) + 1;
    fs::write(&number, format!("{count}\n"))?;
    println!("stack {count}");
    sys::exit_on(libc::SIGTERM);
    sys::pause()
}

/// ext4's superblock: `s_feature_incompat` says RECOVER as long as it is mounted, `s_state` VALID when it was left well.
fn is_clean(disk: &File) -> io::Result<bool> {
    let mut superblock = [0; 1024];
    disk.read_exact_at(&mut superblock, 1024)?;
    Ok(superblock[0x60] & 4 == 0 && superblock[0x3a] & 1 == 1)
}

fn looped(file: &File) -> io::Result<String> {
    let number = sys::ioctl(&File::open("/dev/loop-control")?, LOOP_CTL_GET_FREE, 0)?;
    let device = File::options().read(true).write(true).open(format!("/dev/loop{number}"))?;
    sys::ioctl(&device, LOOP_SET_FD, file.as_raw_fd() as usize)?;
    Ok(format!("7:{number}"))
}

/// A linear mapping of a whole device.
fn mapped(storey: usize, device: &str, bytes: usize) -> io::Result<String> {
    let control = File::options().read(true).write(true).open("/dev/mapper/control")?;
    let mut request = Request::new(&format!("storey-{storey}"));
    request.put(DM_DEV_CREATE, &control)?;
    let number = u32::from_ne_bytes(request.0[40..44].try_into().unwrap_or_default());
    let mut load = Request::new(&format!("storey-{storey}"));
    // One target behind the header (struct dm_target_spec): start, length in sectors, status, next, type, parameters.
    load.0[20] = 1;
    load.write(320, &(bytes as u64 / 512).to_ne_bytes());
    load.write(336, b"linear");
    load.write(352, format!("{device} 0").as_bytes());
    load.put(DM_TABLE_LOAD, &control)?;
    // Without its flag a suspend is a resume.
    Request::new(&format!("storey-{storey}")).put(DM_DEV_SUSPEND, &control)?;
    // The low eight bits of a minor number are the lowest of the device's (linux/kdev_t.h, new_encode_dev).
    Ok(format!("/dev/dm-{}", number & 0xff))
}

/// `struct dm_ioctl` (312 bytes) and room for one target.
#[repr(align(8))]
struct Request([u8; 512]);

impl Request {
    fn new(name: &str) -> Self {
        let mut request = Self([0; 512]);
        // Version 4.0.0, the size of all, where data begins, the name.
        request.0[0] = 4;
        request.write(12, &512_u32.to_ne_bytes());
        request.write(16, &312_u32.to_ne_bytes());
        request.write(48, name.as_bytes());
        request
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn put(&mut self, number: u32, control: &File) -> io::Result<i32> {
        sys::ioctl(control, number, self.0.as_mut_ptr() as usize)
    }
}

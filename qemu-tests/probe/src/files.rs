//! What can be read and written where.

use crate::sys;
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// statfs(2) type numbers of file systems that show kernel objects: nothing can be stored there, and a walk never ends.
const KERNEL_OBJECTS: [libc::c_long; 2] = [0x9fa0 /* proc */, 0x6265_6572 /* sysfs */];

/// Prints `writable PATH` for every folder that takes a file and does not walk into it, then `walked COUNT`.
pub(crate) fn try_writes(root: &str, skip: &[&str]) -> io::Result<()> {
    let mut seen = BTreeSet::new();
    let mut waiting = vec![root.to_owned()];
    let mut walked = 0;
    while let Some(folder) = waiting.pop() {
        let Ok(metadata) = fs::symlink_metadata(&folder) else { continue };
        // The same folder through two mounts is tried once; a bind of a parent would otherwise go in circles.
        if !metadata.is_dir() || skip.contains(&folder.as_str()) || !seen.insert((metadata.dev(), metadata.ino())) {
            continue;
        }
        if sys::statfs(&folder).is_ok_and(|fs| KERNEL_OBJECTS.contains(&(fs.f_type as libc::c_long))) {
            continue;
        }
        walked += 1;
        if takes_a_file(&folder) {
            println!("writable {folder}");
            continue;
        }
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        waiting.extend(entries.flatten().filter_map(|entry| entry.path().to_str().map(str::to_owned)));
    }
    println!("walked {walked}");
    Ok(())
}

fn takes_a_file(folder: &str) -> bool {
    let file = Path::new(folder).join(".orlop-probe");
    let created = OpenOptions::new().write(true).create_new(true).open(&file).is_ok();
    if created {
        let _ = fs::remove_file(file);
    }
    created
}

pub(crate) fn mount_of(path: &str) -> io::Result<()> {
    let fs = sys::statfs(path)?;
    let (blocks, size) = (fs.f_blocks, u64::try_from(fs.f_bsize).unwrap_or(0));
    println!("type={:x} bytes={}", fs.f_type, blocks.saturating_mul(size));
    Ok(())
}

pub(crate) fn write(file: &str, text: &str) -> io::Result<()> {
    // One write call: files of the cgroup file system take a value whole.
    let mut opened = OpenOptions::new().write(true).create(true).truncate(true).open(file)?;
    opened.write_all(text.as_bytes())?;
    // Kernel files have nothing to sync and say so.
    let _ = opened.sync_all();
    println!("wrote {file}");
    Ok(())
}

pub(crate) fn fill(file: &str, mib: usize) -> io::Result<()> {
    let mut opened = File::create(file)?;
    let bytes = vec![1; 1 << 20];
    (0..mib).try_for_each(|_| opened.write_all(&bytes))?;
    opened.sync_all()
}

/// The file has no name any more: its room is free when its program ends, however it ends.
pub(crate) fn hoard(file: &str, mib: usize) -> io::Result<()> {
    sys::exit_on(libc::SIGTERM);
    fill(file, mib)?;
    let taken = OpenOptions::new().write(true).open(file)?;
    fs::remove_file(file)?;
    let (mut at, mut piece) = (taken.metadata()?.len(), 1 << 30);
    while piece >= 4096 {
        match sys::allocate(&taken, at, piece) {
            Ok(()) => at += piece,
            Err(error) if error.kind() == io::ErrorKind::StorageFull => piece /= 2,
            Err(error) => return Err(error),
        }
    }
    println!("hoards {} MiB", at >> 20);
    sys::pause()
}

/// One line a file, `FILE: TEXT`, its lines joined by `|`; `absent` for one that cannot be read.
pub(crate) fn show(files: &[&str]) {
    for file in files {
        let text = fs::read(file).map(|text| String::from_utf8_lossy(&text).trim().replace('\n', "|"));
        println!("{file}: {}", text.as_deref().unwrap_or("absent"));
    }
    println!("shown");
}

/// `NAME: BYTES` of each file there, then `sized`.
pub(crate) fn sizes(folder: &str) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        println!("{}: {}", entry.file_name().to_string_lossy(), entry.metadata()?.len());
    }
    println!("sized");
    Ok(())
}

pub(crate) fn cat(files: &[&str]) -> io::Result<()> {
    for file in files {
        let mut text = String::new();
        File::open(file)?.read_to_string(&mut text)?;
        print!("{text}");
    }
    io::stdout().flush()
}

pub(crate) fn digest(files: &[&str]) -> io::Result<()> {
    for file in files {
        let mut digest = DefaultHasher::new();
        digest.write(&fs::read(file)?);
        println!("{file}: {:016x}", digest.finish());
    }
    Ok(())
}

pub(crate) fn count(file: &str) -> io::Result<()> {
    let number = number_in(file, 0)? + 1;
    replace(file, &format!("{number}\n"))?;
    println!("count {number}");
    Ok(())
}

/// The last thing it does is to write down when that was.
pub(crate) fn tick(file: &str) -> io::Result<()> {
    let (number, ended_ms) = (number_in(file, 0)? + 1, number_in(file, 1)?);
    let now_ms = || sys::monotonic_ns().map(|ns| ns.cast_unsigned() / 1_000_000);
    let after_ms = now_ms()?.saturating_sub(ended_ms);
    println!("tick {number} after {after_ms}");
    replace(file, &format!("{number} {}\n", now_ms()?))
}

/// Of the numbers in a file that may not be there yet.
fn number_in(file: &str, index: usize) -> io::Result<u64> {
    match fs::read_to_string(file) {
        Ok(text) => text.split_whitespace().nth(index).unwrap_or_default().parse().map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

/// A power cut leaves the old text or the new one.
fn replace(file: &str, text: &str) -> io::Result<()> {
    let path = Path::new(file);
    let temporary = path.with_extension("new");
    let mut new = File::create(&temporary)?;
    new.write_all(text.as_bytes())?;
    new.sync_all()?;
    fs::rename(temporary, path)?;
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

/// For a moment nobody else may be.
pub(crate) fn alone(file: &str) -> io::Result<()> {
    const MOMENT: std::time::Duration = std::time::Duration::from_millis(100);
    let lock = File::create(file)?;
    lock.try_lock().map_err(|error| io::Error::other(format!("beside another: {error}")))?;
    std::thread::sleep(MOMENT);
    Ok(())
}

//! What a machine stores, it keeps: over a reboot, over a power cut, and in front of a file system it cannot read.

use crate::support::{enabled, machine, named, probe_unit, run_probe, state};
use qemu_tests::{Artefacts, LIMIT, Machine};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const DISK_BYTES: u64 = 2 << 30;
/// Where xfs keeps its own identity: `sb_magicnum` at 0, `sb_uuid` at 32 (xfs_db(8), superblock).
const SUPERBLOCK_UUID: std::ops::Range<usize> = 32..48;

fn blank_disk(folder: &Path) -> PathBuf {
    let disk = folder.join("state.raw");
    File::create(&disk).unwrap().set_len(DISK_BYTES).unwrap();
    disk
}

fn head(disk: &Path) -> Vec<u8> {
    let mut head = vec![0; 1 << 20];
    File::open(disk).unwrap().read_exact_at(&mut head, 0).unwrap();
    head
}

fn uuid(disk: &Path) -> Vec<u8> {
    let head = head(disk);
    assert_eq!(&head[..4], b"XFSB");
    head[SUPERBLOCK_UUID].to_vec()
}

/// Counts its own starts in a named volume.
fn counter() -> String {
    enabled(&probe_unit("count /data/count", "Volume=data:/data"))
}

/// What the next boot will give the kernel; by a unit of its own each time, as logs outlive a boot.
fn random_seed(machine: &Machine, unit: &str) -> String {
    let lines = run_probe(machine, unit, "shown").unwrap();
    let seed = lines.iter().find_map(|line| line.strip_prefix("/host/var/lib/orlop/random-seed: ")).unwrap();
    assert!(seed.len() > 100, "{seed}");
    seed.to_owned()
}

fn machine_id(machine: &Machine) -> String {
    machine.get("/v1/system").unwrap()["machine_id"].as_str().unwrap().to_owned()
}

#[test]
fn state_and_identity_are_kept_over_reboot_and_power_cut() {
    let folder = tempfile::tempdir_in(&Artefacts::shared().out).unwrap();
    let disk = blank_disk(folder.path());
    let seed = probe_unit("show /host/var/lib/orlop/random-seed", "Volume=/:/host");
    let builder = machine("state").state_file(&disk).unit("count.container", &counter()).may_reboot();
    let builder = builder.unit("seed-1.container", &seed).unit("seed-2.container", &seed);

    let first = builder.clone().start().unwrap();
    first.wait_for_log("count", "count 1").unwrap();
    let id = machine_id(&first);
    let seed = random_seed(&first, "seed-1");
    let made = uuid(&disk);
    assert!(made.iter().any(|byte| *byte != 0));
    first.post("/v1/system/reboot").unwrap();
    first.wait_event("RESET").unwrap();
    first.wait_for_log("count", "count 2").unwrap();
    assert_eq!(machine_id(&first), id);
    assert_ne!(random_seed(&first, "seed-2"), seed, "a seed that was credited is never used again");
    first.settled().unwrap();
    first.power_cut();

    // As a power cut in the middle of growing leaves it.
    let old = File::options().write(true).open(&disk).unwrap();
    old.write_all_at(&(DISK_BYTES / 8192).to_be_bytes(), SECOND_GROUP + 8).unwrap();
    let second = builder.clone().may_reboot().append("orlop.debug").start().unwrap();
    second.wait_for_console("bits of the last boot's seed are credited").unwrap();
    second.wait_for_log("count", "count 3").unwrap();
    assert_eq!(machine_id(&second), id);
    assert_eq!(uuid(&disk), made);
    second.post("/v1/system/poweroff").unwrap();
    assert_eq!(second.wait_end().unwrap().reason, "guest-shutdown");
    drop(second);
    assert!(is_grown(&File::open(&disk).unwrap(), SECOND_GROUP), "a copy of the superblock is as old as it was");

    // Another machine is another one.
    let other_disk = folder.path().join("other.raw");
    File::create(&other_disk).unwrap().set_len(DISK_BYTES).unwrap();
    let other = machine("other").state_file(&other_disk).start().unwrap();
    other.settled().unwrap();
    assert_ne!(machine_id(&other), id);
    assert_ne!(uuid(&other_disk), made);
}

#[test]
fn a_corrupted_state_file_system_is_said_and_not_overwritten() {
    let folder = tempfile::tempdir_in(&Artefacts::shared().out).unwrap();
    let disk = blank_disk(folder.path());
    let builder = machine("corrupted").state_file(&disk).unit("count.container", &counter());
    let first = builder.clone().start().unwrap();
    first.wait_for_log("count", "count 1").unwrap();
    first.post("/v1/system/poweroff").unwrap();
    first.wait_end().unwrap();
    drop(first);

    // The superblock's magic stays, so that it is plainly an xfs; the rest of its head is nonsense.
    File::options().write(true).open(&disk).unwrap().write_all_at(&[0xa5; 8192 - 4], 4).unwrap();
    let damaged = head(&disk);

    let second = builder.clone().start().unwrap();
    second.wait_for_console("nothing was overwritten").unwrap();
    let units = second.settled().unwrap();
    let system = second.get("/v1/system").unwrap();
    assert_eq!((&system["state_store"], &system["state"]), (&"degraded".into(), &"degraded".into()), "{system:#}");
    let count = named(&units, "count");
    assert_eq!(state(count), "failed", "a unit with stored data must not start on an empty disk: {count:#}");
    assert!(count["reason"].as_str().unwrap_or_default().contains("state"), "{count:#}");
    assert_eq!(state(named(&units, "demo")), "active", "what stores nothing runs: {units:#?}");
    second.post("/v1/system/poweroff").unwrap();
    second.wait_end().unwrap();
    drop(second);
    assert!(head(&disk) == damaged, "the damaged file system was written to");

    // Somebody at the console may decide otherwise, by typing the whole word.
    let third = builder.start().unwrap();
    third.wait_for_console("press a key").unwrap();
    // A key within a few seconds: one of many comes in time, and those that come later are empty lines.
    const A_KEY_EVERY: Duration = Duration::from_millis(200);
    let started = Instant::now();
    while third.console().wait("Type a choice", A_KEY_EVERY).is_err() {
        assert!(started.elapsed() < LIMIT, "{}", third.console().tail());
        third.console().type_keys("\n").unwrap();
    }
    third.console().type_keys("reset\n").unwrap();
    third.wait_for_log("count", "count 1").unwrap();
    assert_eq!(third.get("/v1/system").unwrap()["state_store"], "persistent");
}

/// The name init gives the machine, which comes from its stored id.
fn name_on_console(machine: &Machine) -> String {
    let line = machine.wait_for_console("machine   orlop-").unwrap();
    line.rsplit(' ').next().unwrap_or_default().trim().to_owned()
}

#[test]
fn a_state_grows_with_its_disk_and_keeps_what_it_holds() {
    let folder = tempfile::tempdir_in(&Artefacts::shared().out).unwrap();
    let disk = blank_disk(folder.path());
    let builder = machine("grown").state_file(&disk);
    let first = builder.clone().start().unwrap();
    let name = name_on_console(&first);
    let made = uuid(&disk);
    // Not an orderly end: the log is replayed and the file system grown in one boot.
    first.power_cut();

    File::options().write(true).open(&disk).unwrap().set_len(3 * DISK_BYTES).unwrap();
    let second = builder.start().unwrap();
    second.wait_for_console("grown from 2048 to 6144 MiB").unwrap();
    assert_eq!(name_on_console(&second), name);
    second.power_cut();
    assert_eq!(uuid(&disk), made);
}

#[test]
fn a_disk_that_holds_something_else_is_not_touched() {
    let folder = tempfile::tempdir_in(&Artefacts::shared().out).unwrap();
    let disk = blank_disk(folder.path());
    // Zero at its head but for one word, as a file system looks whose first sector belongs to a boot loader.
    File::options().write(true).open(&disk).unwrap().write_all_at(b"\x53\xef", 1080).unwrap();
    let before = head(&disk);
    let machine = machine("foreign").state_file(&disk).start().unwrap();
    machine.wait_for_console("nothing was overwritten").unwrap();
    machine.wait_for_console("tmpfs, lost at power off").unwrap();
    name_on_console(&machine);
    machine.power_cut();
    assert!(head(&disk) == before, "somebody's disk was written to");
}

/// Boots for the first time on a blank disk, cuts the power when `now` says so, and boots again: into a state that is whole,
/// with nothing said about damage. A cut that came `too_late` is tried again.
fn cut_the_first_boot(moment: &str, now: impl Fn(&File) -> bool, too_late: impl Fn(&File) -> bool) {
    const TRIES: u32 = 10;
    let folder = tempfile::tempdir_in(&Artefacts::shared().out).unwrap();
    let disk = folder.path().join("state.raw");
    let builder = machine("cut").state_file(&disk);
    for tries in 1.. {
        blank_disk(folder.path());
        // Slow enough to look between two writes.
        let first = builder.clone().state_throttling("throttling.iops-total=50").start().unwrap();
        let (file, started) = (File::open(&disk).unwrap(), Instant::now());
        while !now(&file) {
            assert!(started.elapsed() < LIMIT, "{moment}: never seen; {}", first.console().tail());
        }
        first.power_cut();
        if !too_late(&file) {
            break;
        }
        assert!(tries < TRIES, "{moment}: each of {tries} cuts came too late");
    }

    let second = builder.start().unwrap();
    name_on_console(&second);
    let console = second.console().text();
    assert!(!console.contains("nothing was overwritten"), "{moment}: {console}");
    assert_eq!(second.get("/v1/system").unwrap()["state_store"], "persistent", "{moment}: {console}");
    second.post("/v1/system/poweroff").unwrap();
    second.wait_end().unwrap();
    let check = Command::new("xfs_repair").args(["-n", "-f"]).arg(&disk).output().unwrap();
    assert!(check.status.success(), "{moment}: {}", String::from_utf8_lossy(&check.stderr));
    assert!(is_grown(&File::open(&disk).unwrap(), 0), "{moment}");
}

fn sector(disk: &File, at: u64) -> [u8; 512] {
    let mut sector = [0; 512];
    disk.read_exact_at(&mut sector, at).unwrap();
    sector
}

/// The largest seed for this disk is half as large and has four allocation groups.
const SECOND_GROUP: u64 = DISK_BYTES / 8;

/// Whether the superblock there says that the file system is as large as the disk.
fn is_grown(disk: &File, superblock: u64) -> bool {
    sector(disk, superblock)[8..16] == (DISK_BYTES / 4096).to_be_bytes()
}

#[test]
fn a_power_cut_when_the_state_is_made_leaves_a_machine_that_comes_up() {
    cut_the_first_boot("made", |disk| sector(disk, 0).starts_with(b"XFSB"), |disk| is_grown(disk, 0));
}

#[test]
fn a_power_cut_while_the_state_grows_leaves_a_machine_that_comes_up() {
    // The copies are written when the growth is in the log, the primary one with the unmount.
    cut_the_first_boot("growing", |disk| is_grown(disk, SECOND_GROUP), |disk| is_grown(disk, 0));
    cut_the_first_boot("grown", |disk| is_grown(disk, 0), |_| false);
}

/// One, at the begin. `ORLOP_CUTS=100 cargo test power_cuts_while` makes so many, spread over the time it takes.
#[test]
fn power_cuts_while_the_state_is_made_leave_a_machine_that_makes_it_anew() {
    const SPAN: Duration = Duration::from_secs(2);
    let cuts = std::env::var("ORLOP_CUTS").map_or(1, |count| count.parse().unwrap());
    for cut in 0..cuts {
        let (begun, wait) = (std::cell::Cell::new(None), SPAN * cut / cuts);
        let now = |disk: &File| {
            if begun.get().is_none() && sector(disk, 0) != [0; 512] {
                begun.set(Some(Instant::now()));
            }
            begun.get().is_some_and(|begun| begun.elapsed() >= wait)
        };
        cut_the_first_boot(&format!("{wait:?} after its begin"), now, |_| false);
    }
}

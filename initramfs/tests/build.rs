//! Builds of whole images with the distribution's kernel: reproducible, cached, inside the budgets.
#![allow(clippy::unwrap_used)] // a test that cannot go on ends

use goblin::elf::Elf;
use initramfs::{Image, Kernel, Programs};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Kernel and programs, made once for all tests here; the kernel stays cached below target/orlop.
fn inputs() -> &'static (Kernel, Programs) {
    static INPUTS: OnceLock<(Kernel, Programs)> = OnceLock::new();
    INPUTS.get_or_init(|| {
        let progress = &mut |step: &str| println!("{step}");
        let kernel = initramfs::kernel(&initramfs::out(), None, progress).expect("a kernel");
        (kernel, initramfs::programs(progress).expect("the programs"))
    })
}

fn build(out: &Path) -> Image {
    let (kernel, programs) = inputs();
    initramfs::image(out, kernel, programs, &mut |step| println!("{step}")).expect("an image")
}

fn same_bytes(one: &Path, other: &Path) {
    assert_ne!(one, other, "two builds, not one found twice");
    let (one_bytes, other_bytes) = (fs::read(one).expect("read"), fs::read(other).expect("read"));
    let first = one_bytes.iter().zip(&other_bytes).position(|(a, b)| a != b);
    assert_eq!(first, None, "{} and {} differ from this byte on", one.display(), other.display());
    assert_eq!(one_bytes.len(), other_bytes.len(), "{} and {}", one.display(), other.display());
}

fn seeds(out: &Path) -> PathBuf {
    let mut entries = fs::read_dir(out).expect("the out folder").flatten();
    entries.find(|entry| entry.file_name().to_string_lossy().starts_with("seeds-")).expect("seeds").path()
}

#[test]
fn two_builds_of_the_same_inputs_are_the_same_bytes() {
    // One below target, one in the temporary folder: different file systems name files in different orders.
    let near = tempfile::tempdir_in(initramfs::out()).unwrap();
    let far = tempfile::tempdir().unwrap();
    let (one, other) = (build(near.path()), build(far.path()));
    same_bytes(&one.initramfs, &other.initramfs);
    // A static program that is started with closed descriptors, and without these, may end before its first line.
    let nodes = character_devices(&one.initramfs);
    assert_eq!(nodes, ["dev/console 600 5:1", "dev/null 666 1:3"]);
    same_bytes(&one.root, &other.root);
    for seed in ["1.xfsseed", "16.xfsseed", "256.xfsseed"] {
        same_bytes(&seeds(near.path()).join(seed), &seeds(far.path()).join(seed));
    }
    let disk = |out: &Path, image: &Image| initramfs::raw_disk(out, image, 64 << 20, &mut |_| {}).unwrap();
    same_bytes(&disk(near.path(), &one), &disk(far.path(), &other));

    let quiet = &mut |step: &str| panic!("nothing has changed, and yet: {step}");
    let (kernel, programs) = inputs();
    let again = initramfs::image(near.path(), kernel, programs, quiet).unwrap();
    assert_eq!((again.root, again.sizes), (one.root, one.sizes));
    initramfs::kernel(&initramfs::out(), None, quiet).unwrap();
}

/// Those of an initramfs.
fn character_devices(initramfs: &Path) -> Vec<String> {
    let archive = zstd::decode_all(fs::File::open(initramfs).expect("read")).expect("zstd");
    let (mut rest, mut found) = (&archive[..], Vec::new());
    loop {
        let reader = cpio::newc::Reader::new(rest).expect("an archive");
        let entry = reader.entry();
        if entry.is_trailer() {
            return found;
        }
        if entry.mode() & 0o170_000 == 0o020_000 {
            let (major, minor) = (entry.rdev_major(), entry.rdev_minor());
            found.push(format!("{} {:o} {major}:{minor}", entry.name(), entry.mode() & 0o7777));
        }
        rest = reader.finish().expect("an archive");
    }
}

/// Without a single capability, as anybody is: the same bytes.
#[test]
fn nobody_has_to_be_root() {
    let ours = build(&initramfs::out());
    let kernel = inputs().0.image.parent().and_then(Path::parent).unwrap();
    let out = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_orlop-image");
    let mut command = Command::new(program);
    if nix::unistd::geteuid().is_root() {
        command = Command::new("setpriv");
        command.args(["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", program]);
    }
    command.args(["build", "--json", "--kernel"]).arg(kernel).arg("--out").arg(out.path());
    let output = command.output().expect("run setpriv");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let built: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    for (name, ours) in [("initramfs", &ours.initramfs), ("root", &ours.root)] {
        same_bytes(Path::new(built["paths"][name].as_str().unwrap()), ours);
    }
}

/// The programs have budgets of their own, which the tests of the repository hold.
#[test]
fn the_root_stays_inside_its_budget() {
    let sizes = build(&initramfs::out()).sizes;
    for (name, bytes) in sizes.list() {
        println!("size.{name} {bytes}");
    }
    assert!(sizes.root_without_modules <= 6 << 20, "the root takes {} bytes", sizes.root_without_modules);
    assert!(sizes.root >= sizes.root_without_modules && sizes.uki() == sizes.kernel + sizes.initramfs);
}

/// What mkfs made and the seed keeps is a whole file system: xfs_repair, looking only, finds nothing to do.
#[test]
fn a_seed_is_a_clean_file_system() {
    build(&initramfs::out());
    let seed = fs::read(seeds(&initramfs::out()).join("1.xfsseed")).unwrap();
    let number = |at: usize, bytes: usize| {
        seed[at..at + bytes].iter().rev().fold(0u64, |number, byte| number << 8 | u64::from(*byte))
    };
    assert_eq!(&seed[..8], b"ORLOPXFS");
    assert_eq!(number(8, 8), 1 << 30);
    let image = tempfile::NamedTempFile::new().unwrap();
    image.as_file().set_len(number(8, 8)).unwrap();
    let (mut at, mut last) = (20, None);
    for _ in 0..number(16, 4) {
        let (offset, length) = (number(at, 8), usize::try_from(number(at + 8, 4)).unwrap());
        assert!(last < Some(offset), "offsets ascend");
        last = Some(offset);
        let bytes = &seed[at + 12..at + 12 + length];
        std::os::unix::fs::FileExt::write_all_at(image.as_file(), bytes, offset).unwrap();
        at += 12 + length;
    }
    assert_eq!(at, seed.len(), "nothing behind the last block");
    let repair = Command::new("xfs_repair").args(["-n", "-f"]).arg(image.path()).output().expect("run xfs_repair");
    let said = String::from_utf8_lossy(&repair.stderr).into_owned() + &String::from_utf8_lossy(&repair.stdout);
    // An empty log is what a machine begins with, and the one thing repair would like to fill.
    let complaints = said.lines().filter(|line| line.to_lowercase().contains("would"));
    let complaints: Vec<&str> = complaints.filter(|line| !line.starts_with("Would format log to cycle")).collect();
    assert!(complaints.is_empty() && said.contains("totally zeroed log") && said.contains("Phase 7"), "{said}");
}

#[test]
fn the_disk_has_two_slots_and_room_for_state() {
    let image = build(&initramfs::out());
    let path = initramfs::raw_disk(&initramfs::out(), &image, 2 << 30, &mut |_| {}).unwrap();
    let disk = gpt::GptConfig::new().open(&path).expect("a valid table");
    assert!(disk.backup_header().is_ok(), "the second table is valid too");
    let partitions: Vec<_> = disk.partitions().values().collect();
    let names: Vec<&str> = partitions.iter().map(|partition| partition.name.as_str()).collect();
    assert_eq!(names, ["orlop-root-a", "orlop-root-b", "orlop-state"]);
    assert!(partitions.iter().all(|partition| partition.first_lba % 2048 == 0));
    assert_eq!(partitions[0].sectors_len().unwrap(), partitions[1].sectors_len().unwrap());
    assert_eq!(partitions[2].sectors_len().unwrap() * 512, 2 << 30);
    assert!(partitions[0].sectors_len().unwrap() * 512 >= 2 * image.sizes.root, "an update may be twice as large");

    let mut start = vec![0; usize::try_from(image.sizes.root).unwrap()];
    let file = fs::File::open(&path).unwrap();
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut start, partitions[0].first_lba * 512).unwrap();
    assert!(start == fs::read(&image.root).unwrap(), "slot A holds the root image");
    let blocks = std::os::unix::fs::MetadataExt::blocks(&file.metadata().unwrap());
    assert!(blocks * 512 < 64 << 20, "the file is sparse");
}

/// The files of the root, unpacked once.
fn root() -> &'static Path {
    static ROOT: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, root) = ROOT.get_or_init(|| {
        let image = build(&initramfs::out());
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        let mut extract = Command::new("fsck.erofs");
        extract.arg("--preserve-perms").arg(format!("--extract={}", root.display())).arg(&image.root);
        assert!(extract.output().expect("run fsck.erofs").status.success());
        (folder, root)
    });
    root
}

/// All paths below a folder.
fn below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let more = |path: PathBuf| {
        if path.is_symlink() || !path.is_dir() { vec![path] } else { [vec![path.clone()], below(&path)].concat() }
    };
    entries.flat_map(more).collect()
}

/// A bare module is its original but for what is left out and the calls by which it could be traced, which the loader would have
/// made NOPs.
#[test]
fn bare_modules_are_their_originals_without_the_calls_for_tracing() {
    const CALL_BYTES: usize = 5;
    let bares: Vec<PathBuf> =
        below(root()).into_iter().filter(|path| path.extension() == Some("bare".as_ref())).collect();
    assert!(bares.len() > 10, "{bares:?}");
    let mut calls = 0;
    for path in bares {
        let (packed, bare) = (fs::read(path.with_extension("")).unwrap(), fs::read(&path).unwrap());
        let mut original = packed.clone();
        if path.with_extension("").extension() == Some("xz".as_ref()) {
            original.clear();
            std::io::Read::read_to_end(&mut liblzma::read::XzDecoder::new(&packed[..]), &mut original).unwrap();
        }
        let traced = calls_for_tracing(&original);
        assert_eq!(calls_for_tracing(&bare).len(), 0, "{}", path.display());
        let mut expected = original.clone();
        for call in &traced {
            assert_eq!(original[*call], 0xe8, "{}", path.display());
            expected[*call..call + CALL_BYTES].copy_from_slice(b"\x0f\x1f\x44\0\0");
        }
        calls += traced.len();
        let (original, bare_elf) = (Elf::parse(&original).unwrap(), Elf::parse(&bare).unwrap());
        let mut kept = 0;
        for (from, to) in original.section_headers.iter().zip(&bare_elf.section_headers) {
            // The relocations are the same but for the calls.
            if let (1, Some(from), Some(to)) = (from.sh_type, from.file_range(), to.file_range())
                && !to.is_empty()
            {
                assert!(expected[from] == bare[to], "{}", path.display());
                kept += 1;
            }
        }
        assert!(kept > 3 && original.section_headers.len() == bare_elf.section_headers.len(), "{}", path.display());
    }
    assert_eq!(calls > 1000, cfg!(target_arch = "x86_64"), "{calls} calls");
}

/// Where a module's file has them: a byte before each relocation that names `__fentry__`.
fn calls_for_tracing(module: &[u8]) -> Vec<usize> {
    let elf = Elf::parse(module).unwrap();
    let mut found = Vec::new();
    for (at, relocations) in &elf.shdr_relocs {
        let target = &elf.section_headers[elf.section_headers[*at].sh_info as usize];
        let is_call = |symbol: usize| elf.strtab.get_at(elf.syms.get(symbol).unwrap().st_name) == Some("__fentry__");
        let calls = relocations.iter().filter(|relocation| is_call(relocation.r_sym));
        found.extend(calls.map(|call| usize::try_from(target.sh_offset + call.r_offset).unwrap() - 1));
    }
    found
}

/// The demo lies in the root twice: packed, and as the supervisor would unpack it.
#[test]
fn the_demos_layer_is_unpacked_as_it_is_packed() {
    let shipped = root().join("usr/lib/orlop");
    let blob = |descriptor: &serde_json::Value| {
        let digest = descriptor["digest"].as_str().unwrap().replace(':', "/");
        fs::read(shipped.join("images/blobs").join(digest)).unwrap()
    };
    let document = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).unwrap();
    let index = document(&fs::read(shipped.join("images/index.json")).unwrap());
    let manifest = document(&blob(&index["manifests"][0]));
    let diff_id =
        document(&blob(&manifest["config"]))["rootfs"]["diff_ids"][0].as_str().unwrap().replace("sha256:", "");
    let mut packed = Vec::new();
    let layer = blob(&manifest["layers"][0]);
    for entry in tar::Archive::new(flate2::read::GzDecoder::new(&layer[..])).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
        packed.push((entry.path().unwrap().into_owned(), entry.header().mode().unwrap(), bytes));
    }
    let folder = shipped.join("layers").join(diff_id);
    let unpacked = below(&folder).into_iter().map(|path| {
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
        let bytes = if path.is_dir() { Vec::new() } else { fs::read(&path).unwrap() };
        (path.strip_prefix(&folder).unwrap().to_path_buf(), mode, bytes)
    });
    let mut unpacked: Vec<_> = unpacked.collect();
    packed.sort();
    unpacked.sort();
    let names =
        |files: &[(PathBuf, u32, Vec<u8>)]| files.iter().map(|file| (file.0.clone(), file.1)).collect::<Vec<_>>();
    assert_eq!(names(&packed), names(&unpacked));
    assert!(packed.len() >= 3 && packed == unpacked, "the same bytes");
}

/// Every module's dependencies lie before it can be loaded, in the same list.
#[test]
fn the_module_lists_of_the_root_are_closed() {
    let root = root();
    let modules = root.join("usr/lib/modules").join(&inputs().0.release);
    let list = fs::read_to_string(modules.join("modules.orlop")).unwrap();
    let names: Vec<&str> = list.lines().map(|line| line.split('\t').next().unwrap()).collect();
    for line in list.lines() {
        let [name, path, depends] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line:?}") };
        assert!(modules.join(path).is_file(), "{name} is in the image");
        for dependency in depends.split(',').filter(|name| !name.is_empty()) {
            assert!(names.contains(&dependency), "{name} needs {dependency}");
        }
    }
    let aliases = fs::read_to_string(modules.join("modules.alias")).unwrap();
    for wanted in ["alias fs-xfs xfs", "alias fs-overlay overlay", "alias virtio:d00000001v* virtio_net"] {
        let name = wanted.rsplit(' ').next().unwrap();
        assert!(!names.contains(&name) || aliases.lines().any(|line| line == wanted), "{wanted}");
    }

    // The rest of the layout, as init and the supervisor rely on it.
    for program in ["sbin/init", "usr/bin/orlop", "usr/bin/orlop-oci"] {
        assert!(root.join(program).is_file(), "{program}");
    }
    for folder in ["dev", "proc", "sys", "run", "tmp", "var", "mnt", "etc/containers.d"] {
        assert!(root.join(folder).is_dir(), "{folder}");
    }
    assert_eq!(fs::read_link(root.join("sbin/modprobe")).unwrap(), Path::new("init"));
    assert_eq!(fs::read_link(root.join("etc/resolv.conf")).unwrap(), Path::new("/run/orlop/resolv.conf"));
    assert!(root.join("usr/lib/containers.d/demo.container").is_file());
    assert!(root.join("usr/lib/orlop/images/index.json").is_file());
}

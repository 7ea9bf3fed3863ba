//! What is done once per life: the seed disk, the unit files, the network, the interface, and at the boot the enabled units.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::mount::{MsFlags, mount};

use super::{
    clock,
    core::{Daemon, Mail},
    paths::Paths,
    store,
};
use crate::api::server::Server;

const SEED_SERIAL: &str = "orlop-seed";
/// Serial ports that are not there yet are looked for so long after the start.
const PORTS_MAY_COME: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Daemon {
    /// From the start of the process to the loop.
    pub(crate) fn start(&mut self) {
        self.stage("supervisor".to_owned());
        let exits = self.greet();
        for folder in [self.paths.run(), self.paths.units(), self.paths.runtime_root()] {
            if let Err(error) = fs::create_dir_all(&folder) {
                log::error!("{}: {error}", folder.display());
            }
        }
        let mode = fs::Permissions::from_mode(0o700);
        let _ = fs::set_permissions(self.paths.units(), mode);
        match take_seed(&self.paths) {
            Ok(None) => {}
            Ok(Some(1)) => self.say(format!("{:<9} one unit file", "seed")),
            Ok(Some(units)) => self.say(format!("{:<9} {units} unit files", "seed")),
            Err(error) => self.say(format!("{:<9} not used: {error}", "seed")),
        }
        self.start_network();
        // Instances that an earlier supervisor made live on.
        for (unit, _) in store::load(&self.paths) {
            self.files.ask(&unit);
        }
        self.read_files();
        self.load_timers();
        let taken_over = self.adopt(exits);
        self.listen();
        self.sync_sockets();
        self.find_ports(clock::monotonic());
        if taken_over {
            let generation = self.generation;
            self.say(format!("{:<9} taken over, supervisor {generation} of this boot", "orlop"));
        } else {
            self.engine.start_enabled(clock::now());
        }
        self.begin_timers();
        // From here on a new supervisor takes over instead of starting everything; the jobs are written with it.
        self.save();
        self.booted = true;
        if let Err(error) = fs::write(self.paths.booted(), "") {
            log::error!("{}: {error}", self.paths.booted().display());
        }
    }

    fn start_network(&mut self) {
        let sender = self.mail.sender();
        let cmdline = fs::read_to_string("/proc/cmdline").unwrap_or_default();
        if let Err(text) =
            self.network.start(&cmdline, clock::monotonic(), move |event| sender.send(Mail::Network(event)))
        {
            log::error!("network: {text}");
            self.say(format!("{:<9} {text}", "network"));
        }
        // `ip=off`: whoever wants that waits for nothing. Under an earlier supervisor it was waited for.
        if self.network.patience.is_none() || self.paths.network_online().exists() {
            self.network_is_online();
        }
    }

    /// network-online.target is reached, and stays so until the machine goes down.
    pub(crate) fn network_is_online(&mut self) {
        self.network.patience = None;
        let path = self.paths.network_online();
        if !path.exists()
            && let Err(error) = fs::write(&path, "")
        {
            log::error!("{}: {error}", path.display());
        }
        self.engine.network_is_online(clock::now());
    }

    /// Serial ports that carry the interface and are not served yet.
    pub(crate) fn find_ports(&mut self, now: Duration) {
        for port in Server::find_ports(Path::new("/sys/class/virtio-ports"), Path::new("/dev")) {
            if self.ports.insert(port.clone()) {
                log::info!("control interface on {}", port.display());
                self.server.open_port(&self.epoll, port, now);
            }
        }
        // One by one: the first is no sign that it was the last.
        self.look_for_ports = (now < PORTS_MAY_COME).then_some(now + LOOK_EVERY);
    }
}

/// Mounts the seed disk and copies its units over the machine's. The number of units; `None` without such a disk.
fn take_seed(paths: &Paths) -> io::Result<Option<usize>> {
    let seed = paths.seed();
    if seed.join("images").exists() || seed.join("containers.d").exists() {
        return Ok(None);
    }
    let Some(device) = find_disk(Path::new("/sys/block"), SEED_SERIAL)? else { return Ok(None) };
    fs::create_dir_all(&seed)?;
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some(&device), &seed, Some("erofs"), flags, None::<&str>)
        .map_err(|errno| io::Error::other(format!("mount {}: {errno}", device.display())))?;
    let from = seed.join("containers.d");
    if from.exists() { plant(&from, paths).map(Some) } else { Ok(Some(0)) }
}

/// Makes the machine's units those of the seed: what an earlier seed brought and this one does not is gone with it, what came
/// another way stays. The list is written before a file is, so that a power cut leaves no file that belongs to nobody.
fn plant(from: &Path, paths: &Paths) -> io::Result<usize> {
    let (etc, list) = (paths.machine_units(), paths.seeded_units());
    let before = fs::read_to_string(&list).unwrap_or_default();
    let mut names = Vec::new();
    list_files(from, Path::new(""), &mut names)?;
    let both: BTreeSet<&str> = before.lines().chain(names.iter().map(String::as_str)).collect();
    store::replace_durably(&list, lines(both.iter().copied()).as_bytes())?;
    copy_units(from, &etc)?;
    for gone in both.iter().filter(|name| !names.iter().any(|new| new == *name)) {
        match fs::remove_file(etc.join(gone)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    store::replace_durably(&list, lines(names.iter().map(String::as_str)).as_bytes())?;
    Ok(names.len())
}

fn lines<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("{name}\n")).collect()
}

/// Every file and link below `folder`, relative to it; a name that is not UTF-8 is no unit's.
fn list_files(folder: &Path, below: &Path, names: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(folder.join(below))? {
        let entry = entry?;
        let name = below.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            list_files(folder, &name, names)?;
        } else if let Some(name) = name.to_str() {
            names.push(name.to_owned());
        }
    }
    Ok(())
}

fn find_disk(class: &Path, serial: &str) -> io::Result<Option<PathBuf>> {
    let entries = match fs::read_dir(class) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries?,
    };
    for entry in entries.flatten() {
        let read = |path: &str| fs::read_to_string(entry.path().join(path)).unwrap_or_default();
        if read("serial").trim() == serial || read("device/serial").trim() == serial {
            return Ok(Some(Path::new("/dev").join(entry.file_name())));
        }
    }
    Ok(None)
}

/// Files and drop-in folders, each replaced whole: a power cut leaves the old or the new.
fn copy_units(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy_units(&entry.path(), &target)?;
        } else if kind.is_file() {
            // Hidden, so that nobody takes it for a unit.
            let unfinished = to.join(format!(".{}.new", entry.file_name().display()));
            fs::copy(entry.path(), &unfinished)?;
            fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o644))?;
            fs::File::open(&unfinished)?.sync_all()?;
            fs::rename(&unfinished, &target)?;
        } else if kind.is_symlink() {
            let link = fs::read_link(entry.path())?;
            let unfinished = to.join(format!(".{}.new", entry.file_name().display()));
            let _ = fs::remove_file(&unfinished);
            std::os::unix::fs::symlink(link, &unfinished)?;
            fs::rename(&unfinished, &target)?;
        }
    }
    fs::File::open(to)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_units_replace_those_of_the_same_name_and_of_the_seed_before() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::new(folder.path());
        let (seed, etc) = (folder.path().join("seed"), paths.machine_units());
        fs::create_dir_all(seed.join("web.container.d")).unwrap();
        fs::create_dir_all(&etc).unwrap();
        fs::create_dir_all(folder.path().join("var/lib/orlop")).unwrap();
        fs::write(seed.join("web.container"), "new").unwrap();
        fs::write(seed.join("web.container.d/10.conf"), "drop-in").unwrap();
        std::os::unix::fs::symlink("/dev/null", seed.join("demo.container")).unwrap();
        fs::write(etc.join("web.container"), "old").unwrap();
        fs::write(etc.join("db.container"), "kept").unwrap();
        assert_eq!(plant(&seed, &paths).unwrap(), 3);
        assert_eq!(fs::read_to_string(etc.join("web.container")).unwrap(), "new");
        assert_eq!(fs::read_to_string(etc.join("db.container")).unwrap(), "kept");
        assert_eq!(fs::read_to_string(etc.join("web.container.d/10.conf")).unwrap(), "drop-in");
        assert_eq!(fs::read_link(etc.join("demo.container")).unwrap(), Path::new("/dev/null"));
        assert_eq!(fs::read_dir(&etc).unwrap().count(), 4, "nothing unfinished is left");

        fs::rename(seed.join("web.container"), seed.join("shop.container")).unwrap();
        fs::remove_file(seed.join("web.container.d/10.conf")).unwrap();
        assert_eq!(plant(&seed, &paths).unwrap(), 2);
        assert!(!etc.join("web.container").exists() && !etc.join("web.container.d/10.conf").exists());
        assert!(etc.join("shop.container").exists() && etc.join("db.container").exists());
    }

    #[test]
    fn disks_are_found_by_their_serial() {
        let folder = tempfile::tempdir().unwrap();
        for (disk, serial) in [("vda", "orlop-root\n"), ("vdb", "orlop-seed\n")] {
            fs::create_dir(folder.path().join(disk)).unwrap();
            fs::write(folder.path().join(disk).join("serial"), serial).unwrap();
        }
        assert_eq!(find_disk(folder.path(), SEED_SERIAL).unwrap(), Some(PathBuf::from("/dev/vdb")));
        assert_eq!(find_disk(folder.path(), "other").unwrap(), None);
        assert_eq!(find_disk(Path::new("/nonexistent"), "other").unwrap(), None);
    }
}

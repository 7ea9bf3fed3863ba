//! Where things lie: the architecture's table of files, in one place, below a root that tests choose.

use std::path::{Path, PathBuf};

use crate::unit::UnitName;

#[derive(Debug, Clone)]
pub(crate) struct Paths {
    root: PathBuf,
}

impl Paths {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    pub(crate) fn run(&self) -> PathBuf {
        self.at("run/orlop")
    }

    pub(crate) fn control_socket(&self) -> PathBuf {
        self.at("run/orlop/control.sock")
    }

    /// There once every enabled unit of this boot was asked for.
    pub(crate) fn booted(&self) -> PathBuf {
        self.at("run/orlop/booted")
    }

    /// There once all of them were active, finished or failed.
    pub(crate) fn settled(&self) -> PathBuf {
        self.at("run/orlop/settled")
    }

    /// There once network-online.target was reached.
    pub(crate) fn network_online(&self) -> PathBuf {
        self.at("run/orlop/network-online")
    }

    /// Holds the kind of the shutdown that is under way.
    pub(crate) fn shutdown(&self) -> PathBuf {
        self.at("run/orlop/shutdown")
    }

    pub(crate) fn seed(&self) -> PathBuf {
        self.at("run/orlop/seed")
    }

    pub(crate) fn resolv_conf(&self) -> PathBuf {
        self.at("run/orlop/resolv.conf")
    }

    /// A folder each for the commands that `exec` runs.
    pub(crate) fn execs(&self) -> PathBuf {
        self.at("run/orlop/exec")
    }

    pub(crate) fn runtime_root(&self) -> PathBuf {
        self.at("run/orlop/oci")
    }

    pub(crate) fn units(&self) -> PathBuf {
        self.at("run/orlop/units")
    }

    pub(crate) fn pods(&self) -> PathBuf {
        self.at("run/orlop/pods")
    }

    /// Its namespaces, each a file of its name, and its /dev/shm.
    pub(crate) fn pod(&self, pod: &UnitName) -> PathBuf {
        self.pods().join(pod.as_str())
    }

    /// The other container's network, where it has that one's.
    pub(crate) fn joined_network(&self, unit: &UnitName) -> PathBuf {
        self.unit(unit).join("net")
    }

    /// The records that one turn of the loop changed, while they are written.
    pub(crate) fn turn(&self) -> PathBuf {
        self.at("run/orlop/turn")
    }

    pub(crate) fn unit(&self, unit: &UnitName) -> PathBuf {
        self.units().join(unit.as_str())
    }

    pub(crate) fn rootfs(&self, unit: &UnitName) -> PathBuf {
        self.unit(unit).join("rootfs")
    }

    pub(crate) fn state(&self, unit: &UnitName) -> PathBuf {
        self.unit(unit).join("state.json")
    }

    /// How its container is joined to its networks.
    pub(crate) fn connection(&self, unit: &UnitName) -> PathBuf {
        self.unit(unit).join("net.json")
    }

    /// The containers' addresses on the networks.
    pub(crate) fn networks(&self) -> PathBuf {
        self.at("var/lib/orlop/networks.json")
    }

    /// What the descriptors are called that PID 1 keeps for its containers.
    pub(crate) fn stored_fds(&self, unit: &UnitName) -> PathBuf {
        self.unit(unit).join("fds.json")
    }

    pub(crate) fn containers(&self) -> PathBuf {
        self.at("var/lib/orlop/containers")
    }

    /// What the container writes and nobody keeps.
    pub(crate) fn container(&self, unit: &UnitName) -> PathBuf {
        self.containers().join(unit.as_str())
    }

    /// The files it gets instead of its image's. It may write them as it may write its layer: below /run one container could
    /// fill what all units' records need.
    pub(crate) fn etc(&self, unit: &UnitName) -> PathBuf {
        self.container(unit).join("etc")
    }

    /// The folder of its notification socket.
    pub(crate) fn notify(&self, unit: &UnitName) -> PathBuf {
        self.unit(unit).join("notify")
    }

    /// The lowest layer of every container.
    pub(crate) fn mount_points(&self) -> PathBuf {
        self.at("var/lib/orlop/mount-points")
    }

    /// Which ids of the machine are whose.
    pub(crate) fn id_ranges(&self) -> PathBuf {
        self.at("var/lib/orlop/id-ranges.json")
    }

    pub(crate) fn secrets(&self) -> PathBuf {
        self.at("var/lib/orlop/secrets")
    }

    /// Those that something is mounted for.
    pub(crate) fn mounted_volumes(&self) -> PathBuf {
        self.at("run/orlop/volumes")
    }

    pub(crate) fn volume(&self, name: &str) -> PathBuf {
        self.at("var/lib/orlop/volumes").join(name)
    }

    pub(crate) fn layers(&self) -> PathBuf {
        self.at("var/lib/orlop/layers")
    }

    /// Layers that the root image has unpacked.
    pub(crate) fn sealed_layers(&self) -> PathBuf {
        self.at("usr/lib/orlop/layers")
    }

    /// OCI layouts, the first that has an image wins.
    pub(crate) fn layouts(&self) -> [PathBuf; 3] {
        [self.at("run/orlop/seed/images"), self.at("var/lib/orlop/images"), self.at("usr/lib/orlop/images")]
    }

    pub(crate) fn shipped_units(&self) -> PathBuf {
        self.at("usr/lib/containers.d")
    }

    pub(crate) fn machine_units(&self) -> PathBuf {
        self.at("etc/containers.d")
    }

    /// The machine's units that came from the seed disk, one path a line.
    pub(crate) fn seeded_units(&self) -> PathBuf {
        self.at("var/lib/orlop/seeded-units")
    }

    pub(crate) fn timer_state(&self, timer: &UnitName) -> PathBuf {
        self.at("run/orlop/timers").join(timer.as_str())
    }

    /// As old as its listening.
    pub(crate) fn socket_stamp(&self, socket: &UnitName) -> PathBuf {
        self.at("run/orlop/sockets").join(socket.as_str())
    }

    /// When a persistent timer triggered last, in µs since 1970.
    pub(crate) fn timer_stamp(&self, timer: &UnitName) -> PathBuf {
        self.at("var/lib/orlop/timers").join(timer.as_str())
    }

    pub(crate) fn machine_id(&self) -> PathBuf {
        self.at("etc/machine-id")
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.at("var/log/orlop")
    }

    /// What containers wrote and no log has yet.
    pub(crate) fn spools(&self) -> PathBuf {
        self.at("run/orlop/spools")
    }

    /// The kernel's messages.
    pub(crate) fn kmsg(&self) -> PathBuf {
        self.at("dev/kmsg")
    }

    pub(crate) fn cgroups(&self) -> PathBuf {
        self.at("sys/fs/cgroup")
    }

    /// Not in every kernel.
    pub(crate) fn io_latency(&self) -> PathBuf {
        self.at("sys/fs/cgroup/containers/io.latency")
    }

    pub(crate) fn cgroup(&self, unit: &UnitName) -> PathBuf {
        self.at("sys/fs/cgroup/containers").join(unit.as_str())
    }
}

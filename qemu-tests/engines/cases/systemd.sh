set -e
# Podman with the systemd cgroup manager, its default where systemd runs: in a machine whose PID 1 is Debian's systemd. It is one
# in namespaces, so that the other cases keep theirs.
machine=/run/systemd-machine
# From a cgroup of that machine: nothing is moved over a cgroup namespace's border.
inside() { (echo 0 >/sys/fs/cgroup/machine/shell/cgroup.procs && exec /usr/bin/nsenter -t "$(cat $machine/pid)" -m -p -C -- "$@"); }
p() { inside podman --root /var/lib/inside --runroot /run/inside --cgroup-manager systemd --runtime $runtime "$@"; }
sleeper() {
    name=$1
    shift
    p run -d --name "$name" "$@" $image sleep 1000 >/dev/null
    scope=libpod-$(p inspect -f '{{.Id}}' "$name").scope
}
gone() { p rm -f -t 0 "$@" >/dev/null; }
property() { inside systemctl show -P "$2" "$1"; }
no_unit_failed() { is "$(inside systemctl list-units --failed --plain --no-legend)" ""; }

### setup
mkdir -p $machine /sys/fs/cgroup/machine
cat >$machine/start <<END
echo 0 >/sys/fs/cgroup/machine/cgroup.procs
exec /usr/bin/unshare -C sh $machine/init
END
cat >$machine/init <<END
mount -t proc proc /proc
umount -l /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs -o mode=755 run /tmp
mkdir -p /tmp/media /tmp/systemd/system /tmp/${machine##*/}
mount --rbind $machine /tmp/${machine##*/}
mount --rbind /run/media /tmp/media
printf '[Unit]\nDescription=The cases\nDefaultDependencies=no\n' >/tmp/systemd/system/cases.target
mount --move /tmp /run
exec env container=orlop /usr/lib/systemd/systemd --unit=cases.target --log-target=console
END
setsid /usr/bin/unshare -m -p --fork --propagation private sh $machine/start >$machine/log 2>&1 </dev/null &
init() { pgrep -x -f '/usr/lib/systemd/systemd --unit=cases.target.*' >$machine/pid; }
eventually init
mkdir /sys/fs/cgroup/machine/shell
eventually inside systemctl is-active cases.target
p load -q -i /run/media/image.tar
p info --format '{{.Host.OCIRuntime.Name}} {{.Host.CgroupManager}}'

### run under systemd
is "$(p run --rm --memory 64m $image cat /sys/fs/cgroup/memory.max)" 67108864
is "$(echo typed | p run --rm -i $image cat)" typed
set +e
p run --rm $image sh -c 'exit 7'
is $? 7
set -e
no_unit_failed

### a scope with its limits
sleeper scope --memory 64m --cpus 0.5 --pids-limit 50
has "$(p exec scope cat /proc/1/cgroup)" "0::/"
pid=$(p inspect -f '{{.State.Pid}}' scope)
has "$(inside cat "/proc/$pid/cgroup")" "/machine.slice/$scope"
is "$(property "$scope" MemoryMax) $(property "$scope" TasksMax) $(property "$scope" CPUQuotaPerSecUSec)" "67108864 50 500ms"
is "$(property "$scope" Delegate) $(property "$scope" ActiveState)" "yes active"
p update --memory 80m scope >/dev/null
is "$(property "$scope" MemoryMax) $(p exec scope cat /sys/fs/cgroup/memory.max)" "83886080 83886080"
# systemd sets all cgroups up anew.
inside systemctl daemon-reload
is "$(p exec scope cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max | xargs)" "83886080 50"
has "$(p stats --no-stream --format '{{.MemUsage}}' scope)" "83.89MB"
p pause scope >/dev/null
is "$(p inspect -f '{{.State.Status}}' scope)" paused
p unpause scope >/dev/null
p restart -t 0 scope >/dev/null
is "$(property "$scope" ActiveState)" active
gone scope
is "$(property "$scope" LoadState)" not-found
no_unit_failed

### a pod under systemd
p pod create --name pod >/dev/null
p run -d --pod pod --name one $image sleep 1000 >/dev/null
p run -d --pod pod --name two $image sleep 1000 >/dev/null
pid=$(p inspect -f '{{.State.Pid}}' two)
has "$(inside cat "/proc/$pid/cgroup")" "machine-libpod_pod_"
p pod rm -f -t 0 pod >/dev/null
no_unit_failed

### the runtime alone under systemd
mkdir -p $machine/bundle/rootfs/bin
cp /usr/bin/busybox $machine/bundle/rootfs/bin/sh
cd $machine/bundle
rm -f config.json
$runtime spec
sed -i 's/"terminal": true/"terminal": false/; s/"args": \["sh"\]/"args": ["sh", "-c", "exec sleep 100"]/' config.json
cp config.json plain.json
sed 's/"linux": {/"linux": { "cgroupsPath": "cases.slice:orlop:alone",/' plain.json >config.json
r() { inside sh -c "cd $machine/bundle; exec $runtime $*"; }
fails "slice:prefix:name, which needs --systemd-cgroup" r create alone
r --systemd-cgroup create alone '>/dev/null 2>&1 </dev/null'
is "$(property orlop-alone.scope ActiveState) $(property orlop-alone.scope Slice)" "active cases.slice"
# The scope's name is taken: the other one's container is left alone.
fails "systemd does not start it" r --systemd-cgroup create second
is "$(property orlop-alone.scope ActiveState)" active
r start alone
r update --memory 64M alone
is "$(property orlop-alone.scope MemoryMax)" 67108864
# A limit that would call the OOM killer is refused where that is asked for.
echo '{"memory":{"limit":4096,"checkBeforeUpdate":true}}' >$machine/bundle/small.json
fails "is below what is used now" r update --resources small.json alone
is "$(property orlop-alone.scope MemoryMax)" 67108864
r delete --force alone
is "$(property orlop-alone.scope LoadState)" not-found
# systemd and the runtime both see that a scope is empty, in either order; neither waits for the other.
for _ in 1 2 3 4 5 6 7 8 9 10; do
    r --systemd-cgroup create alone '>/dev/null 2>&1 </dev/null'
    is "$(r delete --force alone 2>&1)" ""
done
# Outside, no systemd answers.
fails "no systemd answers at /run/systemd/private" $runtime --systemd-cgroup run --config plain.json plain

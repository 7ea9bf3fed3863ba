set -e
# Podman, Docker and containerd with the systemd cgroup manager, Podman's default where systemd runs: in a machine whose PID 1 is
# Debian's systemd. It is one in namespaces, so that the other cases keep theirs.
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
# Containerd and Docker's daemon of that machine.
docker=/run/docker-inside
d() { inside docker -H unix://$docker.sock "$@"; }
c() { inside ctr -a $docker-containerd.sock "$@"; }
containerd_there() {
    c version >/dev/null 2>&1 && return
    inside containerd --address $docker-containerd.sock --root /var/lib/inside-containerd --state $docker-containerd >$machine/containerd.log 2>&1 </dev/null &
    eventually c version
}
# A session of an ordinary user of that machine: in a scope of the user's own systemd.
user=/sys/fs/cgroup/machine/user.slice/user-1000.slice/own.service
u() {
    (echo 0 >$user/init.scope/cgroup.procs && exec /usr/bin/nsenter -t "$(cat $machine/pid)" -m -p -C -- \
        su tester -c "export HOME=/home/tester XDG_RUNTIME_DIR=/run/user/1000; cd; exec systemd-run --user --scope -q sh -c '$1'")
}
user_there() {
    [ -d $user ] && return
    inside install -d -o 1000 -g 1000 /run/user/1000
    inside systemd-run -q --unit=own.service --slice=user-1000.slice --uid=1000 --gid=1000 -p Type=notify -p NotifyAccess=all \
        -p Delegate=yes -p DefaultDependencies=no -E XDG_RUNTIME_DIR=/run/user/1000 -E HOME=/home/tester /usr/lib/systemd/systemd --user --unit=basic.target
}
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

### containerd with cgroups of systemd
containerd_there
c images import /run/media/image.tar
c run -d --runc-binary $runtime --runc-root /run/orlop/inside --runc-systemd-cgroup --cgroup system.slice:ctr:a+b --memory-limit 33554432 $image a sleep 1000
scope='ctr-a\x2bb.scope'
is "$(property "$scope" MemoryMax) $(property "$scope" ActiveState)" "33554432 active"
is "$(c task exec --exec-id one a cat /proc/self/cgroup)" "0::/system.slice/$scope"
has "$(c task metrics a)" "33554432"
c task pause a
has "$(c task ls)" PAUSED
c task resume a
c task kill -s KILL a
stopped() { c task ls | grep -q STOPPED; }
eventually stopped
c task rm a || true
c container rm a
is "$(property "$scope" LoadState)" not-found
no_unit_failed

### Docker with the systemd driver
containerd_there
cat >$machine/docker.json <<END
{ "default-runtime": "orlop", "runtimes": { "orlop": { "path": "$runtime" } }, "exec-opts": ["native.cgroupdriver=systemd"],
  "data-root": "/var/lib/inside-docker", "exec-root": "$docker", "pidfile": "$docker.pid", "hosts": ["unix://$docker.sock"],
  "bridge": "none", "iptables": false, "ip6tables": false }
END
# Without a network of its own it would take the other daemon's bridge away.
inside /usr/bin/unshare -n dockerd --config-file $machine/docker.json --containerd $docker-containerd.sock >$machine/docker.log 2>&1 </dev/null &
eventually d version || { tail -30 $machine/docker.log; exit 1; }
is "$(d info -f '{{.DefaultRuntime}} {{.CgroupVersion}} {{.CgroupDriver}}')" "orlop 2 systemd"
d load -q -i /run/media/image.tar
d run -d --name scope --network none --memory 64m --cpus 0.5 --pids-limit 50 $image sleep 1000
scope=docker-$(d inspect -f '{{.Id}}' scope).scope
is "$(property "$scope" MemoryMax) $(property "$scope" TasksMax) $(property "$scope" CPUQuotaPerSecUSec)" "67108864 50 500ms"
is "$(property "$scope" Slice) $(property "$scope" Delegate)" "system.slice yes"
is "$(d exec scope cat /proc/self/cgroup /sys/fs/cgroup/memory.max | xargs)" "0::/ 67108864"
d update --memory 32m --memory-swap 32m scope
is "$(property "$scope" MemoryMax)" 33554432
inside systemctl daemon-reload
is "$(d exec scope cat /sys/fs/cgroup/memory.max)" 33554432
has "$(d stats --no-stream --format '{{.PIDs}} {{.MemUsage}}' scope)" "/ 32MiB"
d pause scope
is "$(d inspect -f '{{.State.Status}}' scope)" paused
d unpause scope
d rm -f scope
is "$(property "$scope" LoadState)" not-found
no_unit_failed

### the runtime alone under a user's systemd
user_there
mkdir -p /home/tester/own/rootfs/bin
cp /usr/bin/busybox /home/tester/own/rootfs/bin/sh
chown -R 1000:1000 /home/tester/own
r() { u "cd own; $runtime --root /run/user/1000/alone $*"; }
r spec --rootless
sed -i 's/"terminal": true/"terminal": false/; s/"args": \["sh"\]/"args": ["sh", "-c", "exec sleep 100"]/
    s/"linux": {/"linux": { "resources": { "memory": { "limit": 33554432 }, "pids": { "limit": 20 } },/' /home/tester/own/config.json
r --systemd-cgroup run -d alone '>/dev/null 2>&1 </dev/null'
has "$(u 'systemctl --user show -P ControlGroup orlop-alone.scope')" own.service/user.slice/orlop-alone.scope
is "$(u 'systemctl --user show -P MemoryMax -P TasksMax orlop-alone.scope' | xargs)" "33554432 20"
r update --memory 64M alone
is "$(u 'systemctl --user show -P MemoryMax orlop-alone.scope')" 67108864
is "$(r exec alone sh -c '"read -r x </proc/self/cgroup; echo \$x"')" "0::/"
r pause alone
has "$(r state alone)" paused
r resume alone
r delete --force alone
is "$(u 'systemctl --user show -P LoadState orlop-alone.scope')" not-found

### rootless Podman under a user's systemd
user_there
# What it asks for: a seat of logind, and the user's own bus.
cat >$machine/bus.conf <<END
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_type="*"/><allow send_destination="*"/><allow receive_type="*"/></policy></busconfig>
END
inside mkdir -p /run/dbus /run/user/1000/systemd/user
inside dbus-daemon --config-file $machine/bus.conf --fork --nopidfile
inside /usr/lib/systemd/systemd-logind >$machine/logind.log 2>&1 </dev/null &
eventually grep -q seat0 $machine/logind.log
printf '[Socket]\nListenStream=%%t/bus\n' >$machine/dbus.socket
printf '[Unit]\nRequires=dbus.socket\n[Service]\nType=notify\nNotifyAccess=main\nSockets=dbus.socket\nExecStart=%s\n' \
    '/usr/bin/dbus-daemon --session --address=systemd: --nofork --nopidfile --systemd-activation' >$machine/dbus.service
inside cp $machine/dbus.socket $machine/dbus.service /run/user/1000/systemd/user/
u 'systemctl --user daemon-reload; systemctl --user start dbus.socket dbus.service'
q() { u "podman --runtime $runtime --cgroup-manager systemd $*" 2>$machine/said || { cat $machine/said; return 1; }; }
is "$(q info --format '"{{.Host.CgroupManager}}"')" systemd
q load -q -i /run/media/image.tar
q run -d --network none --name own --memory 64m --pids-limit 50 $image sleep 1000
scope=libpod-$(q inspect -f '"{{.Id}}"' own).scope
is "$(u "systemctl --user show -P MemoryMax -P TasksMax $scope" | xargs)" "67108864 50"
is "$(q exec own cat /proc/self/cgroup /sys/fs/cgroup/memory.max | xargs)" "0::/ 67108864"
q update --memory 80m own
is "$(u "systemctl --user show -P MemoryMax $scope")" 83886080
q pause own
is "$(q inspect -f '"{{.State.Status}}"' own)" paused
q unpause own
q stop -t 0 own
q rm own
is "$(u "systemctl --user show -P LoadState $scope")" not-found

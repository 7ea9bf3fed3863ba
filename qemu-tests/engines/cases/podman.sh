set -e
p() { podman --runtime $runtime "$@"; }
# A container that sleeps: its name, then options.
sleeper() {
    name=$1
    shift
    p run -d --name "$name" "$@" $image sleep 1000 >/dev/null
}
gone() { p rm -f -t 0 "$@" >/dev/null; }
# A value of the container's own cgroup, read in the container.
limit() { p exec "$1" cat "/sys/fs/cgroup/$2"; }
state() { p inspect -f '{{.State.Status}}' "$1"; }
# A script of an ordinary user.
rootless() {
    su tester -c "export HOME=/home/tester XDG_RUNTIME_DIR=/run/user/1000; cd; podman() { command podman --runtime $runtime \"\$@\"; }; $1"
}
is_state() { [ "$(state "$1")" = "$2" ]; }

### setup
p load -q -i /run/media/image.tar
p info --format '{{.Host.OCIRuntime.Name}} {{.Host.CgroupsVersion}} {{.Host.CgroupManager}}'

### short run
is "$(p run --rm $image echo hello)" hello
is "$(echo typed | p run --rm -i $image cat)" typed
set +e
p run --rm $image sh -c 'exit 7'
is $? 7
p run --rm $image /no/such/program
is $? 127
p run --rm $image /etc/passwd
is $? 126

### run -d, logs, wait, rm
p run -d --name job $image sh -c 'echo one; echo two >&2; exit 3' >/dev/null
is "$(p wait job)" 3
is "$(p logs job 2>&1 | sort | xargs)" "one two"
is "$(p inspect -f '{{.State.ExitCode}} {{.OCIRuntime}}' job)" "3 $runtime"
p rm job

### exec
# AppArmor's default profile lets nobody mount.
sleeper exec --security-opt apparmor=unconfined
is "$(p exec exec sh -c 'echo $0' name)" name
is "$(p exec -e A=b -w /tmp -u 1000:1000 exec sh -c 'echo $A $PWD $(id -u):$(id -g)')" "b /tmp 1000:1000"
is "$(echo typed | p exec -i exec cat)" typed
is "$(p exec -u guest exec id -un)" guest
set +e
p exec exec sh -c 'exit 9'
is $? 9
p exec exec /no/such
is $? 127
p exec exec sh -c 'kill -9 $$'
is $? 137
set -e
p exec -d exec touch /tmp/detached
eventually p exec exec test -e /tmp/detached
p exec --privileged exec mount -t tmpfs tmpfs /mnt || p exec --privileged exec mount -t tmpfs tmpfs /tmp
gone exec

### exec -it
sleeper terminal
terminal_says "/dev/pts/0 33 77 all" "podman --runtime $runtime exec -it terminal sh -c 'tty; stty size; test -t 0 && test -t 1 && test -t 2 && echo all'"
gone terminal

### run -it
terminal_says "/dev/pts/0 console in" "podman --runtime $runtime run --rm -it $image sh -c 'tty; test -c /dev/console && echo console; test -t 0 && echo in'"

### run -t
is "$(p run --rm -t $image sh -c 'test -t 1 && echo terminal' | tr -d '\r')" terminal

### create, start, attach
p create --name made $image sh -c 'read line; echo "got $line"' >/dev/null
is "$(state made)" created
p create -i --name asked $image sh -c 'read line; echo "got $line"' >/dev/null
is "$(echo word | p start -ai asked)" "got word"
p rm made asked

### stop
p run -d --name stop $image sh -c 'trap "echo term; exit 5" TERM; while :; do sleep 0.2; done' >/dev/null
eventually p exec stop true
p stop -t 60 stop
is "$(p inspect -f '{{.State.ExitCode}}' stop)" 5
has "$(p logs stop)" term
p rm stop
# Without a handler PID 1 is deaf to TERM, and is killed when the time is up.
sleeper deaf
p stop -t 1 deaf
is "$(p inspect -f '{{.State.ExitCode}}' deaf)" 137
p start deaf
eventually is_state deaf running
p restart -t 0 deaf
is "$(state deaf)" running
gone deaf

### kill
p run -d --name kill $image sh -c 'trap "exit 21" USR1; while :; do sleep 0.2; done' >/dev/null
eventually p exec kill true
p kill --signal USR1 kill
is "$(p wait kill)" 21
p start kill
p kill kill
is "$(p wait kill)" 137
fails "can only kill running containers" p kill kill
p rm kill

### pause, unpause
p run -d --name pause $image sh -c 'i=0; while :; do i=$((i+1)); echo $i >/count; sleep 0.1; done' >/dev/null
eventually p exec pause test -s /count
p pause pause
is "$(state pause)" paused
cgroup=/sys/fs/cgroup$(cut -d: -f3 "/proc/$(p inspect -f '{{.State.Pid}}' pause)/cgroup")
has "$(cat "$cgroup/cgroup.events")" "frozen 1"
fails "on running containers" p exec pause true
p unpause pause
is "$(state pause)" running
has "$(cat "$cgroup/cgroup.events")" "frozen 0"
p exec pause true
# A paused container can be removed by force.
p pause pause
gone pause
[ ! -e "$cgroup" ] || fail "$cgroup is still there"

### stats --no-stream
sleeper stats --memory 64m
out=$(p stats --no-stream --format '{{.Name}} {{.PIDs}} {{.MemUsage}}' stats)
has "$out" "stats 1 "
has "$out" "/ 67.11MB"
gone stats
p run -d --name busy --cpus 0.2 --memory 16m $image sh -c "$busy" >/dev/null
full() { p logs busy | grep -q there; }
eventually full
set -- $(p stats --no-stream --format '{{.CPUPerc}} {{.MemPerc}}' busy)
at_least 5 "$1"
at_least 25 "$2"
gone busy

### top
sleeper top
out=$(p top top pid comm args)
has "$out" "sleep 1000"
has "$(p top top -ef)" "sleep 1000"
gone top

### --memory
sleeper memory --memory 40m --memory-reservation 20m --memory-swap 60m
is "$(limit memory memory.max)" 41943040
is "$(limit memory memory.low)" 20971520
is "$(limit memory memory.swap.max)" 20971520
gone memory
set +e
p run --name oom --memory 16m --memory-swap 16m $image sh -c 'head -c 100m /dev/zero | tail -c 90m >/dev/null'
status=$?
set -e
[ $status -ne 0 ] || fail "lived on 16 MiB"
p rm oom

### --cpus, --cpu-shares, --cpuset-cpus
sleeper cpus --cpus 0.5 --cpu-shares 2048 --cpuset-cpus 0
is "$(limit cpus cpu.max)" "50000 100000"
weight=$(limit cpus cpu.weight)
[ "$weight" -gt 60 ] || fail "cpu.weight $weight"
is "$(limit cpus cpuset.cpus)" 0
gone cpus

### --pids-limit
sleeper pids --pids-limit 7
is "$(limit pids pids.max)" 7
said=$(p exec pids sh -c 'for i in 1 2 3 4 5 6 7 8 9; do sleep 5 & done' 2>&1 || true)
has "$said" "fork"
gone pids

### update
sleeper update --memory 64m --pids-limit 50
p update --memory 32m --memory-swap 32m --cpus 0.25 --pids-limit 20 --cpu-shares 512 update >/dev/null
is "$(limit update memory.max)" 33554432
is "$(limit update memory.swap.max)" 0
is "$(limit update cpu.max)" "25000 100000"
is "$(limit update pids.max)" 20
p exec update true
gone update

### --read-only
fails "Read-only file system" p run --rm --read-only $image touch /file
p run --rm --read-only $image sh -c 'touch /tmp/a /run/b /dev/shm/c'
fails "Read-only file system" p run --rm --read-only --read-only-tmpfs=false $image touch /tmp/a

### short --userns=auto
is "$(p run --rm --userns=auto $image cat /proc/self/uid_map | xargs)" "0 2147483648 1024"
sleeper mapped --userns=auto:size=5000
pid=$(p inspect -f '{{.State.Pid}}' mapped)
is "$(stat -c %u "/proc/$pid")" "$(awk '{print $2}' "/proc/$pid/uid_map")"
is "$(p exec mapped id -u)" 0
is "$(p exec mapped stat -c '%u %g' /etc/passwd)" "0 0"
p exec mapped touch /new
gone mapped

### --uidmap, --gidmap
is "$(p run --rm --uidmap 0:10000:2000 --gidmap 0:20000:2000 -u 1000:1000 $image sh -c 'id -u; id -g; cat /proc/self/uid_map /proc/self/gid_map' | xargs)" \
    "1000 1000 0 10000 2000 0 20000 2000"

### --cap-drop, --cap-add
caps() { p run --rm "$@" $image sed -n 's/^Cap\(Inh\|Prm\|Eff\|Bnd\|Amb\):\t//p' /proc/self/status | xargs; }
is "$(caps --cap-drop all)" "0000000000000000 0000000000000000 0000000000000000 0000000000000000 0000000000000000"
is "$(caps --cap-drop all --cap-add net_admin)" "0000000000000000 0000000000001000 0000000000001000 0000000000001000 0000000000000000"
is "$(caps --cap-drop chown --cap-drop kill | cut -d' ' -f4)" "00000000800405da"
is "$(caps -u guest --cap-drop all --cap-add net_admin | cut -d' ' -f5)" "0000000000001000"

### --security-opt seccomp=FILE
cat >profile.json <<'P'
{ "defaultAction": "SCMP_ACT_ALLOW",
  "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
  "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 122 }] }
P
out=$(p run --rm --security-opt "seccomp=$PWD/profile.json" $image sh -c 'mkdir /x; touch /y && echo touched; grep Seccomp: /proc/self/status' 2>&1 || true)
has "$out" "quota exceeded"
has "$out" touched
has "$out" "Seccomp:	2"
# The default one, and none.
has "$(p run --rm $image grep Seccomp: /proc/self/status)" 2
has "$(p run --rm --security-opt seccomp=unconfined $image grep Seccomp: /proc/self/status)" 0
fails "Operation not permitted" p run --rm --cap-add sys_admin $image sh -c 'unshare -U true; swapoff /x; reboot -f'

### --security-opt no-new-privileges
is "$(p run --rm --security-opt no-new-privileges $image sed -n 's/^NoNewPrivs:\t//p' /proc/self/status)" 1
is "$(p run --rm $image sed -n 's/^NoNewPrivs:\t//p' /proc/self/status)" 0

### masked and unmasked paths
out=$(p run --rm $image sh -c 'cat /proc/kcore | wc -c; touch /proc/sysrq-trigger 2>&1; ls /proc/acpi | wc -l' || true)
has "$out" "Read-only file system"
p run --rm --security-opt unmask=ALL --security-opt apparmor=unconfined $image sh -c 'echo >/proc/sys/kernel/domainname'
p run --rm --security-opt mask=/etc/passwd $image sh -c '! test -s /etc/passwd'

### volumes
mkdir -p /var/tmp/shared/below
echo host >/var/tmp/shared/file
is "$(p run --rm -v /var/tmp/shared:/data $image sh -c 'cat /data/file; echo guest >/data/made')" host
is "$(cat /var/tmp/shared/made)" guest
fails "Read-only file system" p run --rm -v /var/tmp/shared:/data:ro $image touch /data/x
p volume create data >/dev/null
p run --rm -v data:/data $image sh -c 'echo kept >/data/file'
is "$(p run --rm -v data:/data:ro $image cat /data/file)" kept
p run --rm -v /var/tmp/shared/file:/etc/one:ro -v named:/etc/two $image sh -c 'test -f /etc/one && test -d /etc/two'
is "$(p run --rm --mount type=bind,src=/var/tmp/shared,dst=/d,ro=true,bind-propagation=rslave $image sh -c 'touch /d/x 2>/dev/null || cat /d/file')" host
is "$(p run --rm -v /var/tmp/shared:/data:O $image sh -c 'echo over >/data/over; cat /data/over')" over
[ ! -e /var/tmp/shared/over ] || fail "an overlay volume wrote through"
p volume rm data named

### volumes in a user namespace, idmapped
mkdir -p /var/tmp/idmapped
chown 0:0 /var/tmp/idmapped
is "$(p run --rm --userns=auto -v /var/tmp/idmapped:/data:idmap $image sh -c 'touch /data/made; stat -c %u /data')" 0
is "$(stat -c '%u:%g' /var/tmp/idmapped/made)" 0:0

### --tmpfs, --shm-size
out=$(p run --rm --tmpfs /scratch:size=1m,mode=1777,noexec --shm-size 3m $image grep -E ' (/scratch|/dev/shm) ' /proc/mounts)
has "$out" "/scratch tmpfs rw,nosuid,nodev,noexec,relatime,size=1024k"
has "$out" "size=3072k"
# What the image has at the place is copied up.
p run --rm --tmpfs /etc:rw,tmpcopyup $image test -e /etc/passwd

### --init
is "$(p run --rm --init $image sh -c 'echo $$; cat /proc/1/comm' | xargs)" "2 podman-init"

### --rm
p run -d --rm --name short $image sleep 0.1 >/dev/null
absent() { ! p container exists short; }
eventually absent

### hostname, hosts, user, groups, workdir, environment
is "$(p run --rm --hostname box --add-host other:10.1.2.3 -u 1000:1000 --group-add 44 --group-add 45 -w /var -e A=1 $image sh -c 'hostname; grep -c other /etc/hosts; id -G; pwd; echo $A' | xargs)" \
    "box 1 1000 44 45 /var 1"

### sysctl, ulimit, oom-score-adj, umask, personality
is "$(p run --rm --sysctl net.ipv4.ip_unprivileged_port_start=80 --sysctl kernel.msgmax=4096 --ulimit nofile=100:200 --oom-score-adj 300 --umask 0077 \
    $image sh -c 'cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/msgmax; ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj; umask' | xargs)" \
    "80 4096 100 200 300 0077"

### devices
is "$(p run --rm --device /dev/fuse:/dev/fuse:rwm $image sh -c 'test -c /dev/fuse && echo there')" there
fails "Operation not permitted" p run --rm --cap-add mknod $image sh -c 'mknod /sda b 254 0 && cat /sda >/dev/null'
is "$(p run --rm $image sh -c 'ls /dev | xargs')" "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero"

### --privileged
is "$(p run --rm --privileged $image sh -c 'mount -t tmpfs x /mnt 2>/dev/null || mount -t tmpfs x /tmp; test -e /dev/vda && test -w /sys/fs/cgroup && echo all')" all

### namespaces of the host and of others
is "$(p run --rm --net host --pid host --ipc host --uts host --cgroupns host $image sh -c 'for n in net pid ipc uts cgroup; do readlink /proc/self/ns/$n; done' | xargs)" \
    "$(for n in net pid ipc uts cgroup; do readlink /proc/1/ns/$n; done | xargs)"
sleeper owner
is "$(p run --rm --net container:owner --pid container:owner --ipc container:owner $image readlink /proc/self/ns/net)" "$(p exec owner readlink /proc/self/ns/net)"
gone owner

### network, published ports
mkdir -p /var/tmp/www
echo page >/var/tmp/www/index.html
p run -d --name web -p 8081:80 -v /var/tmp/www:/www:ro $image httpd -f -p 80 -h /www >/dev/null
address=$(p inspect -f '{{.NetworkSettings.IPAddress}}' web)
eventually wget -q -O /dev/null "http://$address/"
is "$(wget -q -O - http://127.0.0.1:8081/)" page
is "$(p run --rm $image wget -q -O - "http://$address/")" page
gone web

### a network whose containers know each other by name
p network create shop >/dev/null
mkdir -p /var/tmp/www
echo page >/var/tmp/www/index.html
p run -d --name front --network shop -v /var/tmp/www:/www:ro $image httpd -f -p 80 -h /www >/dev/null
eventually p run --rm --network shop $image wget -q -T 5 -O - http://front/
gone front
p network rm shop

### a pod of three
p pod create --name trio --share net,ipc,uts --hostname trio >/dev/null
p run -d --pod trio --name one $image sh -c 'mkdir /w; echo from one >/w/index.html; exec httpd -f -p 8000 -h /w' >/dev/null
p run -d --pod trio --name two $image sleep 1000 >/dev/null
p run -d --pod trio --name three $image sleep 1000 >/dev/null
is "$(p pod inspect -f '{{.State}} {{.NumContainers}}' trio)" "Running 4"
eventually p exec two wget -q -O - http://127.0.0.1:8000/
is "$(p exec three wget -q -O - http://127.0.0.1:8000/)" "from one"
is "$(p exec two hostname)" trio
is "$(p exec two readlink /proc/self/ns/net)" "$(p exec three readlink /proc/self/ns/net)"
p pod pause trio >/dev/null
is "$(p pod inspect -f '{{.State}}' trio)" Paused
p pod unpause trio >/dev/null
p pod stop -t 1 trio >/dev/null
p pod start trio >/dev/null
p pod rm -f -t 0 trio >/dev/null

### healthcheck
p run -d --name healthy --health-cmd 'test -e /tmp/well' --health-interval disable --health-retries 1 $image sleep 1000 >/dev/null
set +e
p healthcheck run healthy
is $? 1
set -e
is "$(p inspect -f '{{.State.Health.Status}}' healthy)" unhealthy
p exec healthy touch /tmp/well
p healthcheck run healthy
is "$(p inspect -f '{{.State.Health.Status}}' healthy)" healthy
gone healthy

### play kube
cat >pod.yaml <<'P'
apiVersion: v1
kind: Pod
metadata:
  name: kube
spec:
  containers:
    - name: web
      image: localhost/busybox:latest
      imagePullPolicy: Never
      command: [sh, -c, 'mkdir -p /data/w; echo from kube >/data/w/index.html; exec httpd -f -p 8000 -h /data/w']
      resources: { limits: { memory: 32Mi, cpu: 500m } }
      securityContext: { readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: { drop: [ALL] } }
      volumeMounts: [{ name: data, mountPath: /data }]
    - name: side
      image: localhost/busybox:latest
      imagePullPolicy: Never
      command: [sleep, '1000']
      volumeMounts: [{ name: data, mountPath: /data }]
  volumes:
    - name: data
      emptyDir: {}
P
p play kube pod.yaml >/dev/null
eventually p exec kube-side wget -q -O - http://127.0.0.1:8000/
is "$(p exec kube-side cat /data/w/index.html)" "from kube"
is "$(limit kube-web memory.max)" 33554432
is "$(limit kube-web cpu.max)" "50000 100000"
is "$(p exec kube-web sed -n 's/^CapBnd:\t//p' /proc/self/status)" 0000000000000000
p play kube --down pod.yaml >/dev/null

### cp, diff, commit
sleeper files
echo in >in
p cp in files:/tmp/in
is "$(p exec files cat /tmp/in)" in
p exec files sh -c 'echo out >/out'
p cp files:/out out
is "$(cat out)" out
has "$(p diff files)" "A /out"
gone files

### restart policy
p run -d --name again --restart on-failure:2 $image sh -c 'echo run; exit 1' >/dev/null
thrice() { [ "$(p logs again | grep -c run)" = 3 ]; }
eventually thrice
gone again

### --preserve-fds
exec 3<<'P'
through
P
is "$(p run --rm --preserve-fds 1 $image sh -c 'cat <&3')" through

### --log-driver, --cidfile, --pidfile, --annotation
p run -d --name written --cidfile cid --pidfile pid --annotation a.b=c --log-driver k8s-file $image sleep 1000 >/dev/null
is "$(cat cid)" "$(p inspect -f '{{.Id}}' written)"
is "$(cat pid)" "$(p inspect -f '{{.State.Pid}}' written)"
has "$($runtime --root /run/orlop state "$(cat cid)" 2>/dev/null || $runtime state "$(cat cid)")" '"a.b"'
gone written

### hooks of a folder
mkdir -p hooks
cat >hook.sh <<'P'
#!/bin/sh
cat >"$1.state"
P
chmod 755 hook.sh
for stage in prestart createRuntime createContainer poststart; do
    echo "{ \"version\": \"1.0.0\", \"hook\": { \"path\": \"$PWD/hook.sh\", \"args\": [\"hook.sh\", \"$PWD/$stage\"] },
            \"when\": { \"always\": true }, \"stages\": [\"$stage\"] }" >hooks/$stage.json
done
p --hooks-dir "$PWD/hooks" run --rm $image true
for stage in prestart createRuntime createContainer; do has "$(cat $stage.state)" '"status":"creating"'; done
has "$(cat poststart.state)" '"pid"'

### --cgroup-conf, --device-read-bps, --device-cgroup-rule
is "$(p run --rm --cgroup-conf memory.high=30000000 $image cat /sys/fs/cgroup/memory.high)" 29999104
has "$(p run --rm --device-read-bps /dev/vda:1mb --device-write-iops /dev/vda:100 $image cat /sys/fs/cgroup/io.max)" "rbps=1048576 wbps=max riops=max wiops=100"
is "$(p run --rm --cap-add mknod --device-cgroup-rule 'b 254:* r' $image sh -c 'mknod /v b 254 0; head -c 4 /v | wc -c')" 4

### --stop-signal, --secret
p run -d --name signal --stop-signal USR1 $image sh -c 'trap "exit 33" USR1; while :; do sleep 0.2; done' >/dev/null
eventually p exec signal true
p stop -t 60 signal
is "$(p inspect -f '{{.State.ExitCode}}' signal)" 33
p rm signal
echo word | p secret create key - >/dev/null
is "$(p run --rm --secret key,mode=0400,uid=1000 -u 1000 $image cat /run/secrets/key)" word

### --rootfs, --systemd=always, --network ns:
mkdir -p /var/tmp/rootfs/bin
cp /usr/bin/busybox /var/tmp/rootfs/bin
is "$(p run --rm --rootfs /var/tmp/rootfs:O /bin/busybox echo overlay)" overlay
has "$(p run --rm --systemd=always $image sh -c 'mkdir /sys/fs/cgroup/below && echo made')" made
unshare -n sleep 1000 &
eventually sh -c "[ \$(readlink /proc/$!/ns/net) != \$(readlink /proc/1/ns/net) ]"
is "$(p run --rm --network ns:/proc/$!/ns/net $image readlink /proc/self/ns/net)" "$(readlink /proc/$!/ns/net)"
kill $!
# Podman sets net.ipv4.ping_group_range, which would be the host's own.
fails "that is not the host's" p run --rm --network ns:/proc/1/ns/net $image true

### checkpoint is refused
sleeper frozen
# Podman asks for criu first; the runtime has a sentence of its own.
fails "criu" p container checkpoint frozen
fails "checkpoint is not available" $runtime checkpoint frozen
is "$(state frozen)" running
gone frozen

### ps, events, kill --all, rm --all
p rm --all -f -t 0 >/dev/null
sleeper a
sleeper b
is "$(p ps --format '{{.Names}} {{.State}}' | sort | xargs)" "a running b running"
p kill --all >/dev/null
p rm --all -f -t 0 >/dev/null
is "$(p ps -aq)" ""

### nothing is left behind
p rm --all -f -t 0 >/dev/null
is "$(find /sys/fs/cgroup/libpod_parent -mindepth 1 -type d ! -name conmon 2>/dev/null)" ""
# What is remembered across containers is one file, and the next boot's root is empty (oci, cgroup/program.rs).
is "$(ls /run/orlop/oci 2>/dev/null | grep -vx 'last device program')" ""
is "$(grep -c overlay-containers /proc/self/mountinfo)" 0

### AppArmor
printf 'profile cases flags=(attach_disconnected,mediate_deleted) {\n file,\n signal,\n deny /etc/passwd r,\n}\n' | apparmor_parser -r
is "$(p run -d --name confined --security-opt apparmor=cases $image sleep 1000 | wc -l)" 1
is "$(p exec confined cat /proc/1/attr/current /proc/self/attr/current | xargs)" "cases (enforce) cases (enforce)"
fails "Permission denied" p exec confined cat /etc/passwd
gone confined
has "$(p run --rm $image cat /proc/self/attr/current)" "containers-default"
is "$(p run --rm --security-opt apparmor=unconfined $image cat /proc/self/attr/current)" unconfined

### a shared cgroup namespace under nsdelegate
has "$(grep cgroup2 /proc/mounts)" nsdelegate
sleeper first --cgroupns private
is "$(p run --rm --cgroupns container:first --memory 64m $image readlink /proc/self/ns/cgroup)" "$(p exec first readlink /proc/self/ns/cgroup)"
is "$(p run --rm --privileged --cgroupns private $image sh -c 'mkdir /sys/fs/cgroup/x; echo 0 >/sys/fs/cgroup/x/cgroup.procs; cat /proc/self/cgroup')" "0::/x"
gone first

### rootless run
rootless 'podman load -q -i /run/media/image.tar'
is "$(rootless 'podman run --rm --network none localhost/busybox:latest sh -c "id -u; cat /proc/self/uid_map; test -w /dev/null && echo null"' | xargs)" \
    "0 0 1000 1 1 100000 65536 null"
is "$(rootless 'podman run --rm --network none --userns keep-id localhost/busybox:latest id -u')" 1000
is "$(rootless 'podman run --rm --network none --read-only -v /home/tester:/data --tmpfs /x --init --cap-drop all localhost/busybox:latest sh -c "touch /data/made; cat /proc/1/comm"')" podman-init
is "$(stat -c %u /home/tester/made)" 1000
# By pasta's own network.
has "$(rootless 'podman run --rm localhost/busybox:latest ip address')" 10.0.2.15

### rootless exec, stop
rootless 'podman run -d --network none --name own localhost/busybox:latest sleep 1000'
is "$(rootless 'podman exec -u 1000 own id -un')" guest
is "$(rootless 'script -qec "podman --runtime /run/media/orlop-oci exec -it own tty" /dev/null </dev/null' | tr -d '\r' | sed 's/\^@//g')" /dev/pts/0
has "$(rootless 'podman top own')" "sleep 1000"
fails "runs without a cgroup of its own" rootless 'podman pause own'
rootless 'podman stop -t 0 own; podman rm own'
is "$(ls /run/user/1000/orlop/oci)" ""
# Nobody has given this user a part of the hierarchy: a limit that cannot be set is no limit to be silent about.
fails "no cgroup is delegated" rootless 'podman run --rm --network none --memory 30m localhost/busybox:latest true'

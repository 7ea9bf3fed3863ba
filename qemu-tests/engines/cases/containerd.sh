set -e
c() { ctr -a /run/containerd/containerd.sock "$@"; }
run() { c run --runc-binary $runtime --runc-root /run/orlop/ctr "$@"; }
sleeper() {
    name=$1
    shift
    run -d "$@" $image "$name" sleep 1000
}
gone() {
    c task kill -s KILL "$1" || true
    c task rm -f "$1" >/dev/null 2>&1 || true
    c container rm "$1"
}
status() { c task ls | awk -v name="$1" '$1 == name { print $3 }'; }
is_status() { [ "$(status "$1")" = "$2" ]; }

### setup
setsid containerd >/run/containerd.log 2>&1 &
eventually ctr -a /run/containerd/containerd.sock version
c images import /run/media/image.tar
c images ls

### short run
is "$(run --rm $image hello echo hello)" hello
set +e
run --rm $image seven sh -c 'exit 7'
is $? 7
fails "no such file" run --rm $image nothing /no/such/program

### run -d, task ls, kill, rm
sleeper daemon
is "$(status daemon)" RUNNING
c task kill -s TERM daemon
c task kill -s KILL daemon
eventually is_status daemon STOPPED
c task rm daemon || true
c container rm daemon

### task exec
sleeper exec
is "$(c task exec --exec-id one exec sh -c 'echo in; id -u' | xargs)" "in 0"
is "$(c task exec --exec-id two --user 1000:1000 --cwd /tmp exec sh -c 'id -u; pwd' | xargs)" "1000 /tmp"
set +e
c task exec --exec-id three exec sh -c 'exit 9'
is $? 9
set -e
terminal_says "/dev/pts/0 terminal" "ctr -a /run/containerd/containerd.sock task exec -t --exec-id four exec sh -c 'tty; test -t 1 && echo terminal'"
fails "no such file" c task exec --exec-id five exec /no/such
gone exec

### task pause, resume
sleeper pause
c task pause pause
is "$(status pause)" PAUSED
c task resume pause
is "$(status pause)" RUNNING
gone pause

### task metrics
run -d --cpus 0.2 --memory-limit 16777216 $image metrics sh -c "$busy" >/dev/null
metric() { c task metrics metrics | awk -v name="$1" '$1 == name { print $2 }'; }
full() { [ "$(metric memory.usage)" -ge 4194304 ]; }
eventually full
is "$(metric memory.usage_limit)" 16777216
alone() { [ "$(metric pids.current)" = 1 ]; }
eventually alone
before=$(metric cpu.usage_usec)
more() { [ "$(metric cpu.usage_usec)" -ge $((before + 10000)) ]; }
eventually more
gone metrics

### task ps
sleeper ps
has "$(c task ps ps)" "$(c task ls | awk '$1 == "ps" { print $2 }')"
gone ps

### limits
sleeper limits --memory-limit 33554432 --cpus 0.5
cgroup=/sys/fs/cgroup$(cut -d: -f3 "/proc/$(c task ls | awk '$1 == "limits" { print $2 }')/cgroup")
is "$(cat "$cgroup/memory.max")" 33554432
is "$(cat "$cgroup/cpu.max")" "50000 100000"
gone limits
[ ! -e "$cgroup" ] || fail "$cgroup is still there"

### run -t
terminal_says "/dev/pts/0 terminal" "ctr -a /run/containerd/containerd.sock run --runc-binary $runtime --rm -t $image term sh -c 'tty; test -t 1 && echo terminal'"

### options of run
is "$(run --rm --read-only --env A=b --cwd /tmp --user 1000 --mount type=tmpfs,dst=/scratch,options=size=1m --seccomp $image options \
    sh -c 'touch /x 2>/dev/null || echo sealed; echo $A; pwd; id -u; grep -c /scratch /proc/mounts; sed -n "s/^Seccomp:.//p" /proc/self/status' | xargs)" "sealed b /tmp 1000 1 2"
is "$(run --rm --privileged $image all sh -c 'sed -n "s/^CapEff:.//p" /proc/self/status')" "$(sed -n 's/^CapEff:.//p' /proc/self/status)"
is "$(run --rm --uidmap 0:10000:2000 --gidmap 0:10000:2000 --snapshotter native $image mapped cat /proc/self/uid_map | xargs)" "0 10000 2000"

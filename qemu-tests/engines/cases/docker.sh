set -e
d() { docker "$@"; }
sleeper() {
    name=$1
    shift
    d run -d --name "$name" "$@" $image sleep 1000 >/dev/null
}
gone() { d rm -f "$@" >/dev/null; }
limit() { d exec "$1" cat "/sys/fs/cgroup/$2"; }
state() { d inspect -f '{{.State.Status}}' "$1"; }
is_state() { [ "$(state "$1")" = "$2" ]; }

### setup
if ! pgrep -x containerd >/dev/null; then
    setsid containerd >/run/containerd.log 2>&1 &
    eventually ctr -a /run/containerd/containerd.sock version
fi
setsid dockerd --containerd /run/containerd/containerd.sock >/run/dockerd.log 2>&1 &
eventually docker version || { tail -30 /run/dockerd.log; exit 1; }
d load -q -i /run/media/image.tar
is "$(d info -f '{{.DefaultRuntime}} {{.CgroupVersion}} {{.CgroupDriver}}')" "orlop 2 cgroupfs"

### run
is "$(d run --rm $image echo hello)" hello
is "$(echo typed | d run --rm -i $image cat)" typed
set +e
d run --rm $image sh -c 'exit 7'
is $? 7
d run --rm $image /no/such/program
is $? 127
d run --rm $image /etc/passwd
is $? 126

### short run -d, exec, AppArmor
sleeper confined
is "$(d exec confined sh -c 'echo $0; cat /proc/1/attr/current /proc/self/attr/current' hello | xargs)" "hello docker-default (enforce) docker-default (enforce)"
gone confined

### run -d -p
mkdir -p /var/tmp/www
echo page >/var/tmp/www/index.html
d run -d --name web -p 8082:80 -v /var/tmp/www:/www:ro $image httpd -f -p 80 -h /www >/dev/null
eventually wget -q -O /dev/null http://127.0.0.1:8082/
is "$(wget -q -O - http://127.0.0.1:8082/)" page
has "$(d port web)" "8082"
has "$(d top web)" httpd
gone web

### exec
sleeper exec
is "$(d exec -e A=b -w /tmp -u 1000:1000 exec sh -c 'echo $A $PWD $(id -u):$(id -g)')" "b /tmp 1000:1000"
is "$(echo typed | d exec -i exec cat)" typed
set +e
d exec exec sh -c 'exit 9'
is $? 9
# Docker says 126 with runc, too.
d exec exec /no/such
is $? 126
set -e
terminal_says "/dev/pts/0 33 77 terminal" "docker exec -it exec sh -c 'tty; stty size; test -t 0 && echo terminal'"
gone exec

### run -it
terminal_says "/dev/pts/0 terminal" "docker run --rm -it $image sh -c 'tty; test -t 0 && echo terminal'"

### stats
sleeper stats --memory 64m
has "$(d stats --no-stream --format '{{.Name}} {{.PIDs}} {{.MemUsage}}' stats)" "stats 1 "
has "$(d stats --no-stream --format '{{.MemUsage}}' stats)" "/ 64MiB"
gone stats
d run -d --name busy --cpus 0.2 --memory 16m $image sh -c "$busy" >/dev/null
full() { d logs busy | grep -q there; }
eventually full
set -- $(d stats --no-stream --format '{{.CPUPerc}} {{.MemPerc}}' busy)
at_least 5 "$1"
at_least 25 "$2"
gone busy

### stop, kill, start, restart
d run -d --name stop $image sh -c 'trap "exit 5" TERM; while :; do sleep 0.2; done' >/dev/null
eventually d exec stop true
d stop -t 60 stop >/dev/null
is "$(d inspect -f '{{.State.ExitCode}}' stop)" 5
d start stop >/dev/null
d kill stop >/dev/null
is "$(d wait stop)" 137
gone stop

### pause, unpause
sleeper pause
d pause pause >/dev/null
is "$(state pause)" paused
d unpause pause >/dev/null
is "$(state pause)" running
gone pause

### update
sleeper update --memory 64m
d update --memory 32m --memory-swap 32m --cpus 0.25 --pids-limit 20 update >/dev/null
is "$(limit update memory.max)" 33554432
is "$(limit update cpu.max)" "25000 100000"
is "$(limit update pids.max)" 20
gone update

### --restart
d run -d --name again --restart on-failure:2 $image sh -c 'echo run; exit 1' >/dev/null
thrice() { [ "$(d logs again | grep -c run)" = 3 ]; }
eventually thrice
gone again
d run -d --name always --restart always $image sleep 1000 >/dev/null
first=$(d inspect -f '{{.State.Pid}}' always)
kill -9 "$first"
back() { is_state always running && [ "$(d inspect -f '{{.State.Pid}}' always)" != "$first" ]; }
eventually back
gone always

### security options
is "$(d run --rm --cap-drop all --security-opt no-new-privileges --read-only $image sh -c 'touch /x 2>/dev/null || echo sealed; sed -n "s/^\(CapBnd\|NoNewPrivs\|Seccomp\):.//p" /proc/self/status' | xargs)" "sealed 0000000000000000 1 2"
is "$(d run --rm --privileged $image sed -n 's/^\(CapEff\|Seccomp\):.//p' /proc/self/status | xargs)" "$(sed -n 's/^CapEff:.//p' /proc/self/status) 0"

### --init, --tmpfs, volumes, --ulimit, --sysctl, --pid host, --device
is "$(d run --rm --init --tmpfs /scratch:size=1m -v kept:/data --ulimit nofile=100:200 --sysctl net.ipv4.ip_unprivileged_port_start=80 --device /dev/fuse \
    $image sh -c 'cat /proc/1/comm; grep -c /scratch /proc/mounts; touch /data/a && echo wrote; ulimit -n; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; test -c /dev/fuse && echo fuse' | xargs)" \
    "docker-init 1 wrote 100 80 fuse"
is "$(d run --rm --pid host $image readlink /proc/self/ns/pid)" "$(readlink /proc/1/ns/pid)"
d volume rm kept >/dev/null

### healthcheck
d run -d --name healthy --health-cmd 'test -e /tmp/well' --health-interval 1s --health-retries 1 $image sleep 1000 >/dev/null
health() { [ "$(d inspect -f '{{.State.Health.Status}}' healthy)" = "$1" ]; }
eventually health unhealthy
d exec healthy touch /tmp/well
eventually health healthy
gone healthy

### three services that talk to each other
d network create shop >/dev/null
d run -d --name store --network shop $image sh -c 'mkdir /w; echo goods >/w/index.html; exec httpd -f -p 80 -h /w' >/dev/null
d run -d --name middle --network shop $image sh -c 'mkdir /w; until wget -q -O /w/index.html http://store/; do sleep 0.5; done; exec httpd -f -p 80 -h /w' >/dev/null
d run -d --name front --network shop -p 8083:80 $image sh -c 'mkdir /w; until wget -q -O /w/index.html http://middle/; do sleep 0.5; done; exec httpd -f -p 80 -h /w' >/dev/null
eventually wget -q -O - http://127.0.0.1:8083/
is "$(wget -q -O - http://127.0.0.1:8083/)" goods
gone store middle front
d network rm shop >/dev/null

### compose
mkdir -p shop
cat >shop/compose.yaml <<'P'
services:
  store:
    image: localhost/busybox:latest
    pull_policy: never
    command: [sh, -c, 'mkdir /w; echo goods >/w/index.html; exec httpd -f -p 80 -h /w']
    healthcheck: { test: 'wget -q -O - http://127.0.0.1/', interval: 1s, retries: 60 }
  middle:
    image: localhost/busybox:latest
    pull_policy: never
    depends_on: { store: { condition: service_healthy } }
    command: [sh, -c, 'mkdir /w; until wget -q -O /w/index.html http://store/; do sleep 0.5; done; exec httpd -f -p 80 -h /w']
    deploy: { resources: { limits: { memory: 32M, cpus: '0.5' } } }
  front:
    image: localhost/busybox:latest
    pull_policy: never
    depends_on: [middle]
    command: [sh, -c, 'mkdir /w; until wget -q -O /w/index.html http://middle/; do sleep 0.5; done; exec httpd -f -p 80 -h /w']
    ports: ['8084:80']
    read_only: true
    tmpfs: [/w]
    cap_drop: [ALL]
    cap_add: [NET_BIND_SERVICE]
P
sed -i "s/mkdir \/w; until wget -q -O \/w\/index.html http:\/\/middle/until wget -q -O \/w\/index.html http:\/\/middle/" shop/compose.yaml
d compose -f shop/compose.yaml up -d
eventually wget -q -O - http://127.0.0.1:8084/
is "$(wget -q -O - http://127.0.0.1:8084/)" goods
is "$(d compose -f shop/compose.yaml ps -q | wc -l)" 3
d compose -f shop/compose.yaml down -t 1

### nothing is left behind
is "$(d ps -aq)" ""
is "$(find /sys/fs/cgroup/docker -mindepth 1 -type d 2>/dev/null)" ""

set -e
# The runtime without an engine: what the host's kernel may not have the controllers for.
bundle=/run/runtime-bundle
cgroup=/sys/fs/cgroup/cases/limits
disk=$(awk '$5 == "/run/media" { print $3 }' /proc/self/mountinfo)
r() { (cd $bundle && $runtime "$@"); }
# Runs a container with these resources.
limited() {
    r delete --force limits
    awk -v resources="$1" '/"resources":/ { print "\"cgroupsPath\": \"/cases/limits\", \"resources\": " resources ","; next } { print }' \
        $bundle/plain.json >$bundle/config.json
    r run -d limits </dev/null >/dev/null 2>&1 || r run limits
}
gone() { r delete --force limits; }
resources() { echo "$1" | r update --resources - limits; }
# FILE=VALUE...: the container's cgroup has it, of a file of several lines in one.
set_to() {
    for one in "$@"; do
        grep -qxF -e "${one#*=}" "$cgroup/${one%%=*}" || fail "${one%%=*} is '$(cat "$cgroup/${one%%=*}")' where '${one#*=}' was expected"
    done
}
throttles() {
    echo "\"throttleReadBpsDevice\": [{ $device, \"rate\": $1 }], \"throttleWriteBpsDevice\": [{ $device, \"rate\": $2 }],
        \"throttleReadIOPSDevice\": [{ $device, \"rate\": $3 }], \"throttleWriteIOPSDevice\": [{ $device, \"rate\": $4 }]"
}
device="\"major\": ${disk%:*}, \"minor\": ${disk#*:}"
fuse='"type": "c", "major": 10, "minor": 229, "access": "rw"'
# What comes of opening the device.
opened() { r exec --cap CAP_MKNOD limits sh -c 'test -c /dev/other || mknod /dev/other c 10 229; { : </dev/other; } 2>&1 || true'; }
all() {
    echo '{ "memory": { "limit": 67108864, "swap": 100663296, "reservation": 33554432 },
        "cpu": { "shares": 2048, "quota": 60000, "period": 100000, "burst": 20000, "idle": 0, "cpus": "0-1", "mems": "0" },
        "pids": { "limit": 40 },
        "blockIO": { "weight": 500, "weightDevice": [{ '"$device"', "weight": 250 }], '"$(throttles 1048576 2097152 300 400)"' },
        "hugepageLimits": [{ "pageSize": "2MB", "limit": 4194304 }],
        "devices": [{ "allow": false, "access": "rwm" }, { "allow": true, '"$fuse"' }],
        "unified": { "memory.high": "62914560", "memory.oom.group": "1", "memory.min": "4096", "cgroup.max.depth": "5" } }'
}
all_set() {
    set_to memory.max=67108864 memory.swap.max=33554432 memory.low=33554432 memory.high=62914560 memory.oom.group=1 memory.min=4096 \
        cpu.weight=174 "cpu.max=60000 100000" cpu.max.burst=20000 cpu.idle=0 cpuset.cpus=0-1 cpuset.mems=0 pids.max=40 \
        "io.weight=default 4950" "io.weight=$disk 2425" "io.max=$disk rbps=1048576 wbps=2097152 riops=300 wiops=400" \
        hugetlb.2MB.max=4194304 hugetlb.2MB.rsvd.max=4194304 cgroup.max.depth=5
}

### setup
mkdir -p $bundle/rootfs/bin
cp /usr/bin/busybox $bundle/rootfs/bin/
for name in sh sleep mknod test; do ln -s busybox $bundle/rootfs/bin/$name; done
r spec
sed 's/"terminal": true/"terminal": false/; s/"args": \["sh"\]/"args": ["sh", "-c", "exec sleep 1000"]/' $bundle/config.json >$bundle/plain.json
# A disk of its own weight needs the kernel's cost model of it.
echo "$disk enable=1" >/sys/fs/cgroup/io.cost.qos

### every limit of config.json is the cgroup's, then every one of a file
limited "$(all)"
all_set
is "$(opened)" ""
resources '{ "memory": { "limit": 33554432, "swap": 50331648, "reservation": 16777216 },
    "cpu": { "shares": 512, "quota": 30000, "period": 50000, "burst": 10000, "idle": 0, "cpus": "1", "mems": "0" },
    "pids": { "limit": 20 },
    "blockIO": { "weight": 100, "weightDevice": [{ '"$device"', "weight": 10 }], '"$(throttles 1000000 0 100 0)"' },
    "hugepageLimits": [{ "pageSize": "2MB", "limit": 2097152 }],
    "devices": [{ "allow": false, "access": "rwm" }],
    "unified": { "memory.high": "max", "memory.oom.group": "0", "memory.min": "0", "cgroup.max.depth": "max" } }'
set_to memory.max=33554432 memory.swap.max=16777216 memory.low=16777216 memory.high=max memory.oom.group=0 memory.min=0 \
    cpu.weight=59 "cpu.max=30000 50000" cpu.max.burst=10000 cpu.idle=0 cpuset.cpus=1 cpuset.mems=0 pids.max=20 \
    "io.weight=default 910" "io.weight=$disk 1" "io.max=$disk rbps=1000000 wbps=max riops=100 wiops=max" \
    hugetlb.2MB.max=2097152 hugetlb.2MB.rsvd.max=2097152 cgroup.max.depth=max
has "$(opened)" "not permitted"
# And back, where everything is larger.
resources "$(all)"
all_set
gone

### every limit that is an option of update, together and alone
limited "$(all)"
r update --memory 32m --memory-swap 48m --memory-reservation 16m --cpu-share 512 --cpu-quota 30000 --cpu-period 50000 --cpu-burst 10000 \
    --cpuset-cpus 1 --cpuset-mems 0 --pids-limit 20 --blkio-weight 100 limits
set_to memory.max=33554432 memory.swap.max=16777216 memory.low=16777216 cpu.weight=59 "cpu.max=30000 50000" cpu.max.burst=10000 \
    cpu.idle=0 cpuset.cpus=1 cpuset.mems=0 pids.max=20 "io.weight=default 910"
# What nobody named is as it was.
set_to "io.weight=$disk 2425" "io.max=$disk rbps=1048576 wbps=2097152 riops=300 wiops=400" hugetlb.2MB.max=4194304 memory.oom.group=1
r update --memory 128m --memory-swap 192m --cpu-quota 90000 --cpu-burst 80000 limits
set_to memory.max=134217728 memory.swap.max=67108864 "cpu.max=90000 50000" cpu.max.burst=80000
r update --cpu-quota 20000 --cpu-burst 5000 --memory 16m --memory-swap 16m limits
set_to "cpu.max=20000 50000" cpu.max.burst=5000 memory.max=16777216 memory.swap.max=0
r update --cpu-period 100000 limits
r update --cpu-quota 40000 limits
r update --cpu-burst 40000 limits
set_to "cpu.max=40000 100000" cpu.max.burst=40000
# Memory and swap together, of which the memory is what it was; the memory alone.
r update --memory-swap 64m limits
set_to memory.max=16777216 memory.swap.max=50331648
r update --memory 24m limits
set_to memory.max=25165824 memory.swap.max=50331648
r update --cpu-quota -1 --pids-limit -1 --memory -1 --memory-reservation -1 limits
set_to "cpu.max=max 100000" pids.max=max memory.max=max memory.swap.max=max memory.low=max
gone

### an idle cgroup and its weight
limited '{ "cpu": { "shares": 2048, "idle": 1 } }'
set_to cpu.idle=1
r update --cpu-period 50000 limits
set_to cpu.idle=1 "cpu.max=max 50000"
r update --cpu-share 2048 limits
set_to cpu.idle=0 cpu.weight=174
has "$(r update --cpu-idle 1 --cpu-share 512 limits 2>&1)" "an idle cgroup has no weight"
set_to cpu.idle=1
resources '{ "unified": { "cpu.weight": "8" } }'
set_to cpu.idle=0 cpu.weight=8
r update --cpu-idle 1 limits
r update --cpu-idle 0 --cpu-share 1024 limits
set_to cpu.idle=0 cpu.weight=100
fails "cpu.idle" r update --cpu-idle 2 limits
gone

### limits that cannot be
limited '{ "cpu": { "quota": 60000, "burst": 20000 } }'
fails "cpu.quota: 10000 is below the burst that is set, 20000" r update --cpu-quota 10000 limits
fails "cpu.burst: 70000 is above the quota, 60000" r update --cpu-burst 70000 limits
set_to "cpu.max=60000 100000" cpu.max.burst=20000
fails "cpuset.cpus" r update --cpuset-cpus 999 limits
# No machine has this one.
fails "rdma.max" resources '{ "rdma": { "mlx5_999": { "hcaHandles": 3, "hcaObjects": 7 } } }'
fails "hugetlb.3MB.max" resources '{ "hugepageLimits": [{ "pageSize": "3MB", "limit": 2097152 }] }'
fails "memory and swap together (16777216) are below the memory limit (33554432)" r update --memory 32m --memory-swap 16m limits
set_to memory.max=max
gone
# A controller that no cgroup had until somebody asks.
limited '{ "pids": { "limit": 10 } }'
resources '{ "hugepageLimits": [{ "pageSize": "2MB", "limit": 0 }] }'
set_to hugetlb.2MB.max=0 hugetlb.2MB.rsvd.max=0
gone

### weights where the disk's scheduler is BFQ
modprobe bfq
queue=/sys/dev/block/$disk/queue/scheduler
before=$(sed 's/.*\[\(.*\)\].*/\1/' $queue)
echo bfq >$queue
limited "$(all)"
set_to "io.bfq.weight=default 500" "io.bfq.weight=$disk 250"
r update --blkio-weight 20 limits
set_to "io.bfq.weight=default 20" "io.bfq.weight=$disk 250"
gone
echo "$before" >$queue

### nothing is left behind
[ ! -e $cgroup ] || fail "$cgroup is still there"

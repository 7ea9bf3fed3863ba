set -e
p() { podman --runtime $runtime "$@"; }
bundle=/run/selinux-bundle
label=system_u:system_r:container_t:s0:c1,c2
files=system_u:object_r:container_file_t:s0:c1,c2
# Changes config.json from how `spec` wrote it, by sed's commands; runs it.
labelled() {
    cd $bundle
    sed "$1" plain.json >config.json
    shift
    $runtime "$@"
}
process='s/"process": {/"process": { "selinuxLabel": "'$label'",/'
mount='s/"linux": {/"linux": { "mountLabel": "'$files'",/'

### setup
mkdir -p $bundle/rootfs/bin $bundle/rootfs/etc $bundle/policy
cp /usr/bin/busybox $bundle/rootfs/bin/
for name in sh cat grep sleep touch stat; do ln -s busybox $bundle/rootfs/bin/$name; done
cd $bundle
$runtime spec
sed '/"\/proc\/keys",/d; s/"terminal": true/"terminal": false/; s/"args": \["sh"\]/"args": ["sh", "-c", "exec sleep 100"]/' config.json >plain.json
# Until there is a policy nobody would hear of a label.
mount -t selinuxfs selinuxfs /sys/fs/selinux
fails "process.selinuxLabel: is not supported: this kernel runs without SELinux or a policy of it" labelled "$process" run early
awk '$0 == "CATEGORIES" { for (i = 0; i < 1024; i++) print "category c" i ";"; next } { print }' /run/media/selinux.policy >policy/conf
checkpolicy -M -U allow -c 33 -o policy/binary policy/conf
# The kernel takes it in one piece.
dd if=policy/binary of=/sys/fs/selinux/load bs=4M 2>/dev/null
echo 1 >/sys/fs/selinux/enforce
mkdir -p /etc/selinux/cases/contexts
printf 'SELINUX=enforcing\nSELINUXTYPE=cases\n' >/etc/selinux/config
printf 'process = "%s"\nfile = "%s"\n' system_u:system_r:container_t:s0 system_u:object_r:container_file_t:s0 >/etc/selinux/cases/contexts/lxc_contexts
p load -q -i /run/media/image.tar

### short a process and its mounts are labelled
labelled "$process; $mount" run -d labels </dev/null >/dev/null 2>&1
pid=$($runtime state labels | sed -n 's/.*"pid": *\([0-9]*\).*/\1/p')
is "$(tr -d '\0' <"/proc/$pid/attr/current")" "$label"
is "$($runtime exec labels cat /proc/self/attr/current | tr -d '\0')" "$label"
is "$($runtime exec --process-label system_u:system_r:other_t:s0 labels cat /proc/self/attr/current | tr -d '\0')" system_u:system_r:other_t:s0
for path in /dev /dev/shm /dev/pts /dev/mqueue; do
    is "$path $(/usr/bin/stat -c %C "/proc/$pid/root$path")" "$path $files"
done
# What it makes is its own.
$runtime exec labels touch /dev/shm/made
is "$(/usr/bin/stat -c %C "/proc/$pid/root/dev/shm/made")" "$files"
# The session's keyring is not the runtime's: it would not be seen here.
has "$($runtime exec labels cat /proc/keys)" keyring
$runtime delete --force labels

### short what the policy forbids is forbidden
mkdir -p $bundle/secret $bundle/rootfs/secret
/usr/bin/mount -t tmpfs -o context=system_u:object_r:secret_t:s0 secret $bundle/secret
echo secret >$bundle/secret/file
volume='s#"mounts": \[#"mounts": [ { "destination": "/secret", "type": "bind", "source": "'$bundle/secret'", "options": ["bind"] },#'
reads='s/exec sleep 100/cat \/secret\/file/'
is "$(labelled "$volume; $reads" run free)" secret
fails "Permission denied" labelled "$process; $volume; $reads" run confined
umount $bundle/secret
# Files of other categories, too.
/usr/bin/mount -t tmpfs -o 'context="system_u:object_r:container_file_t:s0:c1,c3"' secret $bundle/secret
echo secret >$bundle/secret/file
fails "Permission denied" labelled "$process; $volume; $reads" run other
umount $bundle/secret

### short wrong labels
fails 'process.selinuxLabel: "nobody:r:t:s0" is no context of the loaded SELinux policy' labelled "$(echo "$process" | sed "s/$label/nobody:r:t:s0/")" run wrong
fails 'linux.mountLabel: "nobody:r:t:s0" is no context of the loaded SELinux policy' labelled "$(echo "$mount" | sed "s/$files/nobody:r:t:s0/")" run wrong
labelled "$process" run -d right </dev/null >/dev/null 2>&1
fails 'process.selinuxLabel: "x" is no context of the loaded SELinux policy' $runtime exec --process-label x right cat /proc/self/attr/current
$runtime delete --force right
fails "does not exist" $runtime state wrong

### Podman under SELinux
own=$(p run --rm $image cat /proc/self/attr/current | tr -d '\0')
has "$own" system_u:system_r:container_t:s0:c
is "$(p run --rm --security-opt label=type:other_t --security-opt label=level:s0:c5,c6 $image cat /proc/self/attr/current | tr -d '\0')" system_u:system_r:other_t:s0:c5,c6
has "$(p run --rm --security-opt label=disable $image cat /proc/self/attr/current)" :host_t:
p run -d --name labelled --tmpfs /x $image sleep 1000 >/dev/null
pid=$(p inspect -f '{{.State.Pid}}' labelled)
process=$(tr -d '\0' <"/proc/$pid/attr/current")
is "$(p inspect -f '{{.ProcessLabel}}' labelled)" "$process"
is "$(p exec labelled cat /proc/self/attr/current | tr -d '\0')" "$process"
for path in / /x /dev /dev/shm; do
    is "$path $(/usr/bin/stat -c %C "/proc/$pid/root$path")" "$path system_u:object_r:container_file_t:${process#*container_t:}"
done
p rm -f -t 0 labelled >/dev/null

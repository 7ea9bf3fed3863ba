use super::{language, units};
use crate::unit::{UnitSet, podman_args::options};

/// Options, and lines that say the same.
const SAME: &[(&str, &str)] = &[
    ("--add-host=db:192.0.2.1,web:192.0.2.2", "AddHost=db:192.0.2.1\nAddHost=web:192.0.2.2"),
    ("--annotation 'a=1 2,b=3'", "Annotation=\"a=1 2,b=3\""),
    ("--cap-add=chown,CAP_KILL", "AddCapability=CAP_CHOWN CAP_KILL"),
    ("--cap-drop=all", "DropCapability=all"),
    ("--cgroups=split", "CgroupsMode=split"),
    ("--cpus=1.5", "[Service]\nCPUQuota=150%"),
    ("--cpuset-cpus=0-1", "[Service]\nAllowedCPUs=0-1"),
    ("--cpuset-mems=0", "[Service]\nAllowedMemoryNodes=0"),
    ("--detach --rm -d --replace", ""),
    ("--device=/dev/fuse:/dev/f:rw --device=/dev/kvm", "AddDevice=/dev/fuse:/dev/f:rw /dev/kvm"),
    ("--dns=192.0.2.1,192.0.2.2", "DNS=192.0.2.1\nDNS=192.0.2.2"),
    ("--dns-option=ndots:1,timeout:2", "DNSOption=ndots:1\nDNSOption=timeout:2"),
    ("--dns-search=a.example,b.example", "DNSSearch=a.example\nDNSSearch=b.example"),
    ("--entrypoint=/bin/x", "Entrypoint=/bin/x"),
    ("--entrypoint \"\"", "Entrypoint="),
    ("--env=A=1 -eB=2 -e C=3 --env 'D=4 \\\\ \"5\"'", "Environment=A=1 B=2 C=3 'D=4 \\\\ \"5\"'"),
    ("--env-file=/x.env --env-file /y.env", "EnvironmentFile=/x.env /y.env"),
    ("--env-host=false", "EnvironmentHost=no"),
    ("--expose=50-59/udp", "ExposeHostPort=50-59/udp"),
    ("--gidmap=0:10000:10 --uidmap=0:10000:10", "GIDMap=0:10000:10\nUIDMap=0:10000:10"),
    ("--group-add=video", "GroupAdd=video"),
    (
        "--health-cmd='curl -f http://localhost/' --health-interval=1m --health-on-failure=kill --health-retries=5 \
         --health-start-period=1m --health-timeout=20s",
        "HealthCmd=curl -f http://localhost/\nHealthInterval=1m\nHealthOnFailure=kill\nHealthRetries=5\n\
         HealthStartPeriod=1m\nHealthTimeout=20s",
    ),
    (
        "--health-cmd=true --health-startup-cmd=true --health-startup-interval=1m --health-startup-retries=2 \
         --health-startup-success=2 --health-startup-timeout=1m",
        "HealthCmd=true\nHealthStartupCmd=true\nHealthStartupInterval=1m\nHealthStartupRetries=2\n\
         HealthStartupSuccess=2\nHealthStartupTimeout=1m",
    ),
    ("--hostname=%p-x", "HostName=%p-x"),
    ("--http-proxy", "HttpProxy=true"),
    ("--image-volume=bind", "ImageVolume=bind"),
    ("--init=false", "RunInit=no"),
    (
        "--ip=10.88.0.9 --ip6=2001:db8::9 --network-alias=x,y",
        "IP=10.88.0.9\nIP6=2001:db8::9\nNetworkAlias=x\nNetworkAlias=y",
    ),
    ("--label=a -l b=c", "Label=a b=c"),
    (
        "--log-driver=json-file --log-opt=max-size=10mb --log-opt=max-file=3",
        "LogDriver=json-file\nLogOpt=max-size=10mb max-file=3",
    ),
    ("-m 1g --memory-reservation=512m", "Memory=1g\n[Service]\nMemoryLow=512M"),
    ("--mount=type=tmpfs,destination=/m", "Mount=type=tmpfs,destination=/m"),
    ("--mount='type=bind,src=/a b,dst=/c'", "Mount=\"type=bind,src=/a b,dst=/c\""),
    ("--name=other", "ContainerName=other"),
    ("--network=none", "Network=none"),
    ("--oom-score-adj=-5", "[Service]\nOOMScoreAdjust=-5"),
    ("--pids-limit=-1", "PidsLimit=-1"),
    ("-p 8080:80,8081:81", "PublishPort=8080:80\nPublishPort=8081:81"),
    ("--pull=never", "Pull=never"),
    ("--read-only --read-only-tmpfs=false", "ReadOnly=yes\nReadOnlyTmpfs=no"),
    ("--secret=db,type=env", "Secret=db,type=env"),
    (
        "--security-opt=no-new-privileges --security-opt seccomp=unconfined --security-opt=label=disable \
         --security-opt=mask=/proc/a --security-opt=unmask=ALL --security-opt=apparmor=unconfined",
        "NoNewPrivileges=yes\nSeccompProfile=unconfined\nSecurityLabelDisable=yes\nMask=/proc/a\nUnmask=ALL\nAppArmor=unconfined",
    ),
    ("--shm-size=1m", "ShmSize=1m"),
    ("--stop-signal=INT --stop-timeout=30", "StopSignal=INT\nStopTimeout=30"),
    ("--subgidname=x --subuidname=x", "SubGIDMap=x\nSubUIDMap=x"),
    ("--sysctl=kernel.msgmax=9,kernel.msgmnb=8", "Sysctl=kernel.msgmax=9 kernel.msgmnb=8"),
    ("--timeout=90", "[Service]\nRuntimeMaxSec=90"),
    ("--timeout=0 --cpus=0", ""),
    ("--tmpfs=/t:size=1m,mode=1777", "Tmpfs=/t:size=1m,mode=1777"),
    ("--tz=Europe/Berlin", "Timezone=Europe/Berlin"),
    ("--ulimit=nofile=1:2,nproc=5", "Ulimit=nofile=1:2\nUlimit=nproc=5"),
    ("--umask=0077", "Umask=0077"),
    ("-u app", "User=app"),
    ("--userns=auto", "UserNS=auto"),
    ("-v /a:/b:ro --volume=data.volume:/c", "Volume=/a:/b:ro\nVolume=data.volume:/c"),
    ("-w /srv", "WorkingDir=/srv"),
];

/// What holds anyway.
const HOLDS: [&str; 7] = [
    "--cgroups=split",
    "--detach --rm -d --replace",
    "--env-host=false",
    "--timeout=0 --cpus=0",
    "--http-proxy",
    "--image-volume=bind",
    "--init=false",
];

fn with(lines: &str) -> UnitSet {
    let text = format!("[Container]\nImage=localhost/x\n{lines}\n");
    language(&[("web.container", &text), ("data.volume", "[Volume]\n")])
}

fn said(set: &UnitSet) -> Vec<&str> {
    set.problems.iter().map(|one| one.text.as_str()).collect()
}

fn meaning(set: &UnitSet) -> String {
    let unit = set.units.values().next().unwrap_or_else(|| panic!("{:?}", said(set)));
    format!("{:?} {:?}", unit.container, unit.service)
}

#[test]
fn an_option_is_the_key_that_says_the_same() {
    for (options, lines) in SAME {
        let (by_option, by_key) = (with(&format!("PodmanArgs={options}")), with(lines));
        assert_eq!(said(&by_option), said(&by_key), "{options}");
        assert_eq!(meaning(&by_option), meaning(&by_key), "{options}");
        assert_eq!(meaning(&by_option) == meaning(&with("")), HOLDS.contains(options), "{options}");
    }
    for names in options().map(|(names, _)| names) {
        let shown = |(all, _): &(&str, &str)| all.split([' ', '=']).any(|one| names.split(' ').any(|name| one == name));
        assert!(SAME.iter().any(shown), "{names} is not in the list above");
    }
}

/// Keys that are lists to podman, which Quadlet hands on as they are.
#[test]
fn a_comma_is_one_for_podman() {
    for (one, several) in [
        ("AddHost=a:192.0.2.1,b:192.0.2.2", "AddHost=a:192.0.2.1\nAddHost=b:192.0.2.2"),
        ("DNS=192.0.2.1, 192.0.2.2", "DNS=192.0.2.1\nDNS=192.0.2.2"),
        ("DNSSearch=\"a.b\",c.d", "DNSSearch=a.b\nDNSSearch=c.d"),
        ("PublishPort=80:80,443:443", "PublishPort=80:80\nPublishPort=443:443"),
        ("Ulimit=nofile=1:2,nproc=5", "Ulimit=nofile=1:2\nUlimit=nproc=5"),
        ("GroupAdd=44,\"107\"", "GroupAdd=44\nGroupAdd=107"),
        ("GroupAdd=\"44\"", "GroupAdd=44"),
        ("NetworkAlias=a,b", "NetworkAlias=a\nNetworkAlias=b"),
        ("Sysctl=kernel.msgmax=9,kernel.msgmnb=8", "Sysctl=kernel.msgmax=9 kernel.msgmnb=8"),
        ("UIDMap=0:1000:1,1:2000:5\nGIDMap=0:1000:9", "UIDMap=0:1000:1\nUIDMap=1:2000:5\nGIDMap=0:1000:9"),
        ("AddCapability=chown,CAP_KILL", "AddCapability=chown CAP_KILL"),
    ] {
        assert_eq!(meaning(&with(one)), meaning(&with(several)), "{one}");
        assert_eq!(said(&with(one)), said(&with(several)), "{one}");
    }
    for (one, several) in [
        ("Environment=A=1,B=2", "Environment=A=1 B=2"),
        ("Annotation=a=1,b=2", "Annotation=a=1 b=2"),
        ("EnvironmentFile=/a,/b", "EnvironmentFile=/a /b"),
    ] {
        assert_ne!(meaning(&with(one)), meaning(&with(several)), "{one}");
    }
    for wrong in
        ["DNS=,", "DNS=192.0.2.1,", "PublishPort=80:80,,81:81", "AddCapability=chown,", "DNSSearch=\"a.b,c.d\""]
    {
        assert!(!said(&with(wrong)).is_empty(), "{wrong}");
    }
    // The place is the part's own.
    let set = units(&[("web.container", "[Container]\nImage=localhost/x\nDNS=192.0.2.1,x\n")]);
    assert_eq!((set.problems.len(), set.problems[0].place.column), (1, 15), "{:?}", set.problems);
}

#[test]
fn options_stand_behind_the_keys() {
    let unit = |text: &str| meaning(&with(text));
    assert_eq!(unit("PodmanArgs=--hostname=b\nHostName=a"), unit("HostName=b"));
    assert_eq!(unit("PodmanArgs=--hostname=b\nPodmanArgs=\nHostName=a"), unit("HostName=a"));
    assert_eq!(unit("PodmanArgs=--env=A=1\nEnvironment=B=2"), unit("Environment=A=1 B=2"));
    // The last of them counts, and 0 is none.
    assert_eq!(unit("PodmanArgs=--cpus=1 --timeout=5\nPodmanArgs=--cpus=2 --timeout=0"), unit("PodmanArgs=--cpus=2"));
    assert_eq!(unit("PodmanArgs=--cpus=2 --cpus=0"), unit(""));
    assert_eq!(unit("PodmanArgs=--cpus=0\n[Service]\nCPUQuota=50%"), unit("[Service]\nCPUQuota=50%"));
}

#[test]
fn what_no_key_says_is_told_at_its_word() {
    for (options, column, width, words) in [
        (
            "--cpus=1 --hostnam=x",
            21,
            11,
            "PodmanArgs=--hostnam=x: no key of this system says that, and there is no podman to say it to; did you mean --hostname?",
        ),
        ("--restart always", 12, 9, "PodmanArgs=--restart: not read here; write Restart= in [Service]"),
        ("-dt", 12, 3, "PodmanArgs=-dt: write each option by itself"),
        ("-it", 12, 3, "nobody types at a unit"),
        ("--rm=false", 12, 10, "that holds here anyway; take it away"),
        ("--read-only=yes", 12, 15, "PodmanArgs=--read-only=yes: expected true or false"),
        ("--dns=192.0.2.1,", 12, 16, "there is nothing between two of its commas"),
        ("--init=", 12, 7, "PodmanArgs=--init=: expected"),
        ("$EXTRA", 12, 6, "there is no environment here to take it from"),
        ("--timeout=5min", 12, 14, "expected a number of seconds, without a unit"),
        ("--cpus=1\n[Service]\nCPUQuota=50%", 12, 1, "[Service] says CPUQuota= already; leave one of them out"),
        ("--env", 12, 5, "PodmanArgs=--env: it needs a value: --env=…"),
        ("--env=", 12, 6, "PodmanArgs=--env=: it needs a value: --env=…"),
        ("--cpus=many", 12, 11, "PodmanArgs=--cpus=many: expected a number of processors: 2, 0.5"),
        ("-m 1x", 15, 2, "Memory=1x: "),
        ("--cap-add=chown,CAP_KIL", 12, 1, "did you mean CAP_KILL?"),
        ("--security-opt=secomp=x", 12, 23, "did you mean seccomp?"),
        ("--init", 12, 1, "RunInit=true: known, not available in this version"),
        ("\"--env=A", 12, 1, "never closed"),
        ("x", 12, 1, "the program's own words belong in Exec="),
    ] {
        let set = units(&[("web.container", &format!("[Container]\nImage=localhost/x\nPodmanArgs={options}\n"))]);
        let one = match set.problems.as_slice() {
            [one] => one,
            more => panic!("{options}: {more:?}"),
        };
        assert!(one.text.contains(words), "{options}: {}", one.text);
        assert_eq!((one.place.line, one.place.column, one.place.width), (3, column, width), "{options}: {}", one.text);
    }
}

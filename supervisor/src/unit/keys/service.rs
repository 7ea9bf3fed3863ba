//! `[Service]`: the keys of systemd.service(5), systemd.exec(5), systemd.kill(5) and systemd.resource-control(5), up to systemd 258.

use super::{
    Rows, Value, inert, later, only, refused,
    unit::{NO, YES},
    yes,
};

pub(super) const SERVICE: &[Rows] = &[
    yes(Value::Own("notify, oneshot"), "Type"),
    yes(Value::Own("boolean"), "RemainAfterExit"),
    yes(Value::Own("no, on-success, on-failure, on-abnormal, on-watchdog, on-abort, always"), "Restart"),
    // The second one: systemd 262.
    yes(Value::Own("time span"), "RestartSec RestartRandomizedDelaySec"),
    yes(Value::Own("time span or infinity"), "TimeoutStartSec TimeoutStopSec TimeoutSec"),
    yes(Value::Own("-1000 … 1000"), "OOMScoreAdjust"),
    yes(Value::Own("number"), "RestartSteps"),
    yes(Value::Own("time span or infinity"), "RestartMaxDelaySec"),
    yes(Value::Own("time span or infinity"), "WatchdogSec"),
    yes(Value::Own("time span or infinity"), "RuntimeMaxSec TimeoutAbortSec"),
    yes(Value::Own("exit codes and signals"), "SuccessExitStatus RestartPreventExitStatus RestartForceExitStatus"),
    yes(Value::Own("time span"), "RuntimeRandomizedExtraSec"),
    only(&["normal", "direct"], Value::Choice(&["normal", "direct", "debug"]), "RestartMode"),
    // A container ends with its first process.
    only(&["main"], Value::Choice(&["main", "cgroup"]), "ExitType"),
    only(
        &["terminate"],
        Value::Choice(&["terminate", "abort", "kill"]),
        "TimeoutStartFailureMode TimeoutStopFailureMode",
    ),
    yes(Value::Own("number"), "FileDescriptorStoreMax"),
    yes(Value::Choice(&["no", "yes", "restart"]), "FileDescriptorStorePreserve"),
    later("write Service= in the .socket", Value::Units, "Sockets"),
    later("write Volume= in [Container], and the program opens the file", Value::Text, "OpenFile"),
    later("descriptors come of a .socket, or of FileDescriptorStoreMax=", Value::Text, "ExtraFileDescriptors"),
    later(
        "a reload is the container's own business, by ReloadCmd= or ReloadSignal= in [Container]",
        Value::Text,
        "RefreshOnReload",
    ),
    later("write ReloadSignal= in [Container]", Value::Signal, "ReloadSignal"),
    // Quadlet takes these two alone, and so does what stops a container here: its first process is asked, all are killed.
    yes(Value::Choice(&["mixed", "control-group"]), "KillMode"),
    yes(Value::Own("signal; StopSignal= in [Container] goes before it, it goes before the image's"), "KillSignal"),
    only(&["SIGKILL", "KILL", "9"], Value::Signal, "FinalKillSignal"),
    only(YES, Value::Own("boolean, or controllers"), "Delegate"),
    only(YES, Value::Boolean, "SendSIGKILL"),
    only(NO, Value::Boolean, "SendSIGHUP"),
    only(&["all", "main", "exec", "none"], Value::Choice(&["all", "main", "exec", "none"]), "NotifyAccess"),
    inert("lines of the log carry the unit's name", Value::Text, "SyslogIdentifier"),
    inert("the main process is known, it is the container's first", Value::Text, "GuessMainPID PIDFile"),
    later("write StopSignal= in [Container]", Value::Signal, "RestartKillSignal WatchdogSignal"),
];

/// Settings of the container's cgroup, and limits of its processes: written into config.json.
pub(super) const RESOURCES: &[Rows] = &[
    yes(
        Value::Own("size, percent or infinity"),
        "MemoryMin MemoryLow MemoryHigh MemoryMax MemorySwapMax MemoryZSwapMax StartupMemoryLow StartupMemoryHigh \
         StartupMemoryMax StartupMemorySwapMax StartupMemoryZSwapMax",
    ),
    yes(Value::Own("boolean"), "MemoryZSwapWriteback"),
    yes(Value::Own("number, percent or infinity"), "TasksMax"),
    yes(Value::Own("1 … 10000 or idle"), "CPUWeight StartupCPUWeight"),
    yes(Value::Own("percent"), "CPUQuota"),
    yes(Value::Own("time span"), "CPUQuotaPeriodSec"),
    yes(
        Value::Own("numbers and ranges"),
        "AllowedCPUs AllowedMemoryNodes StartupAllowedCPUs StartupAllowedMemoryNodes",
    ),
    yes(Value::Own("1 … 10000"), "IOWeight StartupIOWeight"),
    yes(Value::Own("continue, stop, kill"), "OOMPolicy"),
    yes(
        Value::Own("number or size, infinity, soft:hard"),
        "LimitCPU LimitFSIZE LimitDATA LimitSTACK LimitCORE LimitRSS LimitNOFILE LimitAS LimitNPROC LimitMEMLOCK LimitLOCKS \
         LimitSIGPENDING LimitMSGQUEUE LimitNICE LimitRTPRIO LimitRTTIME",
    ),
    yes(Value::Own("-20 … 19"), "Nice"),
    yes(Value::Own("other, batch, idle, fifo, rr"), "CPUSchedulingPolicy"),
    yes(Value::Own("1 … 99"), "CPUSchedulingPriority"),
    yes(Value::Own("realtime, best-effort, idle, none"), "IOSchedulingClass"),
    yes(Value::Own("0 … 7"), "IOSchedulingPriority"),
    inert(
        "accounting is always on",
        Value::Boolean,
        "CPUAccounting MemoryAccounting IOAccounting TasksAccounting IPAccounting BlockIOAccounting",
    ),
    yes(Value::Own("path, 1 … 10000"), "IODeviceWeight"),
    yes(Value::Own("path, number a second"), "IOReadBandwidthMax IOWriteBandwidthMax IOReadIOPSMax IOWriteIOPSMax"),
    // Where the kernel has it; Debian's has not, and the unit's log says so at each start.
    yes(Value::Own("path, time span"), "IODeviceLatencyTargetSec"),
    inert(
        "it is for the units below a slice, and below a container there are none",
        Value::Amount,
        "DefaultMemoryMin DefaultMemoryLow DefaultStartupMemoryLow",
    ),
    later("each container has a cgroup of its own; write its limits in its own file", Value::Text, "Slice"),
    later("all below its cgroup is the container's own", Value::Text, "DelegateSubgroup"),
    later("all below its cgroup is the container's own", Value::Words, "DisableControllers"),
    // There is no systemd-oomd, so nothing is killed by it: what holds anyway may be said.
    only(&["auto"], Value::Choice(&["auto", "kill"]), "ManagedOOMSwap ManagedOOMMemoryPressure"),
    inert(
        "it counts only where systemd-oomd kills, and there is none",
        Value::Percent,
        "ManagedOOMMemoryPressureLimit",
    ),
    inert(
        "it counts only where systemd-oomd kills, and there is none",
        Value::Span,
        "ManagedOOMMemoryPressureDurationSec",
    ),
    inert(
        "it counts only where systemd-oomd kills, and there is none",
        Value::Choice(&["none", "avoid", "omit"]),
        "ManagedOOMPreference",
    ),
    inert(
        "it counts only with MemoryPressureWatch=, which sets variables of podman's",
        Value::Span,
        "MemoryPressureThresholdSec",
    ),
    // It sets variables of podman's environment and none of the container's.
    only(&["off", "no", "skip"], Value::Choice(&["auto", "on", "off", "skip", "yes", "no"]), "MemoryPressureWatch"),
    // Nothing on the machine passes core dumps into containers.
    only(NO, Value::Boolean, "CoredumpReceive"),
    yes(Value::Own("numbers and ranges"), "CPUAffinity"),
    yes(Value::Own("boolean"), "CPUSchedulingResetOnFork"),
    only(&["default"], Value::Choice(&["default", "preferred", "bind", "interleave", "local"]), "NUMAPolicy"),
    later("write AllowedMemoryNodes=", Value::Cpus, "NUMAMask"),
    later("the program can set it for itself, in /proc/self/coredump_filter", Value::Text, "CoredumpFilter"),
    later("all that a container writes is in its log; what reads the log can choose", Value::Text, "LogFilterPatterns"),
    later("lines of the log carry the unit's name and no fields", Value::Text, "LogExtraFields"),
    later("the program can set it for itself, by prctl(2)", Value::Span, "TimerSlackNSec"),
    yes(Value::Span, "LogRateLimitIntervalSec"),
    // A container's is in its config.json, and Podman writes 0022 there whatever its own is.
    inert("it is about what podman makes; a container begins with 0022", Value::Mode, "UMask"),
    yes(Value::Number, "LogRateLimitBurst"),
    later("lines that a container writes have no level", Value::Text, "LogLevelMax"),
    refused("write AddDevice= in [Container]", "DeviceAllow"),
    only(&["auto"], Value::Choice(&["auto", "closed", "strict"]), "DevicePolicy"),
    later(
        "with Network=none the container has no network at all",
        Value::Text,
        "IPAddressAllow IPAddressDeny IPIngressFilterPath IPEgressFilterPath SocketBindAllow SocketBindDeny \
         RestrictNetworkInterfaces NFTSet BPFProgram",
    ),
];

/// The environment of the service's process: on a Podman host that is podman's, and never the container's.
pub(super) const EXEC: &[Rows] = &[
    refused(
        "the host has no shell and no programs of its own; the container is the service, its command is Exec= in [Container]",
        "ExecStart ExecStartPre ExecStartPost ExecStop ExecStopPost ExecCondition",
    ),
    refused("the host has no programs of its own to run", "ExecReload ExecReloadPost"),
    refused(
        "it sets the environment of podman, not of the container; write it in [Container]",
        "Environment EnvironmentFile PassEnvironment UnsetEnvironment SetLoginEnvironment",
    ),
    refused(
        "it is about the podman process, not the container; write it in [Container]",
        "User Group DynamicUser SupplementaryGroups NoNewPrivileges",
    ),
    refused("write WorkingDir= in [Container]", "WorkingDirectory"),
    refused(
        "the container's root is its image; write Image= in [Container]",
        "RootDirectory RootDirectoryStartOnly RootImage RootImageOptions RootImagePolicy RootHash RootHashSignature RootVerity \
                RootEphemeral ExtensionDirectories ExtensionImages ExtensionImagePolicy MountImages MountImagePolicy RootMStack",
    ),
    refused(
        "write AddCapability= and DropCapability= in [Container]",
        "CapabilityBoundingSet AmbientCapabilities SecureBits Capabilities",
    ),
    refused(
        "write Volume= in [Container]",
        "BindPaths BindReadOnlyPaths ReadWritePaths ReadOnlyPaths ReadWriteDirectories ReadOnlyDirectories RuntimeDirectory \
                RuntimeDirectoryMode RuntimeDirectoryPreserve StateDirectory StateDirectoryMode StateDirectoryAccounting \
                StateDirectoryQuota CacheDirectory CacheDirectoryMode CacheDirectoryAccounting CacheDirectoryQuota LogsDirectory \
                LogsDirectoryMode LogsDirectoryAccounting LogsDirectoryQuota ConfigurationDirectory ConfigurationDirectoryMode",
    ),
    refused("write Tmpfs= in [Container]", "TemporaryFileSystem"),
    refused(
        "write Mask= in [Container]",
        "InaccessiblePaths InaccessibleDirectories ExecPaths NoExecPaths ExecSearchPath",
    ),
    refused(
        "a container has this from its own namespaces and default privileges",
        "PrivateTmp PrivateDevices PrivateNetwork PrivateUsers PrivateMounts PrivateIPC PrivatePIDs PrivateBPF ProtectSystem \
                ProtectHome ProtectKernelTunables ProtectKernelModules ProtectKernelLogs ProtectClock ProtectControlGroups \
                ProtectHostname ProtectProc ProcSubset MountFlags MountAPIVFS BindLogSockets NetworkNamespacePath IPCNamespacePath \
                LogNamespace KeyringMode RemoveIPC DelegateNamespaces UserNamespacePath",
    ),
    refused(
        "system calls are filtered by SeccompProfile= in [Container]",
        "SystemCallFilter SystemCallArchitectures SystemCallErrorNumber SystemCallLog MemoryDenyWriteExecute \
                RestrictNamespaces RestrictRealtime RestrictSUIDSGID RestrictAddressFamilies LockPersonality \
                RestrictFileSystems Personality LandlockConfig BPFDelegateCommands BPFDelegateMaps BPFDelegatePrograms \
                BPFDelegateAttachments",
    ),
    refused(
        "a container's output goes to its log, `orlop logs`; its input is empty",
        "StandardInput StandardOutput StandardError StandardInputText StandardInputData TTYPath TTYReset TTYVHangup \
                TTYVTDisallocate TTYRows TTYColumns UtmpIdentifier UtmpMode PAMName SyslogFacility SyslogLevel SyslogLevelPrefix",
    ),
    later(
        "write Secret= in [Container]",
        Value::Text,
        "SetCredential SetCredentialEncrypted LoadCredential LoadCredentialEncrypted ImportCredential",
    ),
    refused(
        "it is no part of the system",
        "SELinuxContext AppArmorProfile SmackProcessLabel BusName BusPolicy USBFunctionDescriptors USBFunctionStrings \
                NonBlocking IgnoreSIGPIPE TimeoutCleanSec MemoryKSM",
    ),
    refused("it is an old name; write MemoryMax=", "MemoryLimit"),
    refused("it is an old name; write CPUWeight=", "CPUShares StartupCPUShares"),
    refused(
        "it is an old name; the IO… keys have replaced it",
        "BlockIOWeight StartupBlockIOWeight BlockIODeviceWeight BlockIOReadBandwidth BlockIOWriteBandwidth",
    ),
    refused("systemd has given it up", "NetClass PermissionsStartOnly"),
    refused(
        "it moved to [Unit]; write it there, the interval as StartLimitIntervalSec=",
        "StartLimitBurst StartLimitInterval StartLimitAction FailureAction RebootArgument",
    ),
];

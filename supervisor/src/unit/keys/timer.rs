//! `[Timer]` of systemd.timer(5) and `[Socket]` of systemd.socket(5), up to systemd 258.

use super::{
    Rows, Value, later, only, refused,
    unit::{NO, YES},
    yes,
};

pub(super) const TIMER: &[Rows] = &[
    yes(Value::Own("calendar event, in UTC"), "OnCalendar"),
    yes(Value::Own("time span"), "OnActiveSec OnBootSec OnStartupSec OnUnitActiveSec OnUnitInactiveSec"),
    yes(Value::Own("unit"), "Unit"),
    yes(Value::Own("time span"), "AccuracySec RandomizedDelaySec RandomizedOffsetSec"),
    yes(Value::Own("boolean"), "FixedRandomDelay Persistent RemainAfterElapse DeferReactivation"),
    refused("the machine has no sleep to be woken from", "WakeSystem"),
    refused("the machine's clock is UTC and set by the network", "OnClockChange OnTimezoneChange"),
];

pub(super) const SOCKET: &[Rows] = &[
    yes(Value::Own("path, port or address:port"), "ListenStream ListenDatagram ListenSequentialPacket"),
    yes(Value::Own("absolute path"), "ListenFIFO"),
    yes(Value::Own("unit"), "Service"),
    only(NO, Value::Own("boolean"), "Accept"),
    yes(Value::Own("name"), "FileDescriptorName"),
    yes(Value::Own("number: the machine has no users with names"), "SocketUser SocketGroup"),
    later("", Value::Own("name"), "BindToDevice"),
    yes(Value::Own("file mode"), "SocketMode DirectoryMode"),
    yes(Value::Own("number"), "Backlog"),
    later("", Value::Own("number"), "MaxConnections MaxConnectionsPerSource TriggerLimitBurst PollLimitBurst"),
    only(&["default", "both"], Value::Choice(&["default", "both", "ipv6-only"]), "BindIPv6Only"),
    later("", Value::Choice(&["udplite", "sctp", "mptcp"]), "SocketProtocol"),
    only(
        NO,
        Value::Boolean,
        "KeepAlive NoDelay ReusePort FreeBind Transparent Broadcast PassCredentials PassSecurity PassPacketInfo PassPIDFD \
         PassFileDescriptorsToExec RemoveOnStop FlushPending Writable",
    ),
    only(YES, Value::Boolean, "AcceptFileDescriptors"),
    later("", Value::Span, "KeepAliveTimeSec KeepAliveIntervalSec DeferAcceptSec"),
    later("", Value::Span, "TriggerLimitIntervalSec PollLimitIntervalSec DeferTriggerMaxSec"),
    later("", Value::Timeout, "TimeoutSec"),
    only(
        NO,
        Value::Choice(&["no", "n", "false", "f", "off", "0", "yes", "y", "true", "t", "on", "1", "patient"]),
        "DeferTrigger",
    ),
    later("", Value::Number, "KeepAliveProbes Mark MessageQueueMaxMessages"),
    later("", Value::Range(0, 6), "Priority"),
    later("", Value::Range(1, 255), "IPTTL"),
    later("", Value::Text, "IPTOS TCPCongestion"),
    later("", Value::Choice(&["off", "us", "usec", "µs", "ns", "nsec"]), "Timestamping"),
    later("", Value::Size, "ReceiveBuffer SendBuffer PipeSize MessageQueueMessageSize"),
    later("", Value::Own("absolute paths"), "Symlinks"),
    refused(
        "such sockets mean nothing inside a container",
        "ListenSpecial ListenNetlink ListenMessageQueue ListenUSBFunction",
    ),
    refused("it is no part of the system", "SmackLabel SmackLabelIPIn SmackLabelIPOut SELinuxContextFromNet"),
    refused("the host has no shell and no programs of its own", "ExecStartPre ExecStartPost ExecStopPre ExecStopPost"),
];

/// A socket's own processes, those of its Exec…= keys, are what these are about.
pub(super) const PROCESSES: &[Rows] = &[refused(
    "a socket has no processes; write it in the container",
    "ExecSearchPath WorkingDirectory RootDirectory RootImage RootImageOptions RootHash RootHashSignature \
     RootVerity MountAPIVFS ProtectProc ProcSubset BindPaths BindReadOnlyPaths MountImages ExtensionImages \
     ExtensionDirectories User Group DynamicUser SupplementaryGroups PAMName CapabilityBoundingSet \
     AmbientCapabilities NoNewPrivileges SecureBits SELinuxContext AppArmorProfile SmackProcessLabel LimitCPU \
     LimitFSIZE LimitDATA LimitSTACK LimitCORE LimitRSS LimitNOFILE LimitAS LimitNPROC LimitMEMLOCK LimitLOCKS \
     LimitSIGPENDING LimitMSGQUEUE LimitNICE LimitRTPRIO LimitRTTIME UMask CoredumpFilter KeyringMode \
     OOMScoreAdjust TimerSlackNSec Personality IgnoreSIGPIPE Nice CPUSchedulingPolicy CPUSchedulingPriority \
     CPUSchedulingResetOnFork CPUAffinity NUMAPolicy NUMAMask IOSchedulingClass IOSchedulingPriority \
     ProtectSystem ProtectHome RuntimeDirectory StateDirectory CacheDirectory LogsDirectory \
     ConfigurationDirectory RuntimeDirectoryMode StateDirectoryMode CacheDirectoryMode LogsDirectoryMode \
     ConfigurationDirectoryMode RuntimeDirectoryPreserve TimeoutCleanSec ReadWritePaths ReadOnlyPaths \
     InaccessiblePaths ExecPaths NoExecPaths TemporaryFileSystem PrivateTmp PrivateDevices PrivateNetwork \
     NetworkNamespacePath PrivateIPC IPCNamespacePath PrivateUsers ProtectHostname ProtectClock \
     ProtectKernelTunables ProtectKernelModules ProtectKernelLogs ProtectControlGroups RestrictAddressFamilies \
     RestrictFileSystems RestrictNamespaces LockPersonality MemoryDenyWriteExecute RestrictRealtime \
     RestrictSUIDSGID RemoveIPC PrivateMounts MountFlags SystemCallFilter SystemCallErrorNumber \
     SystemCallArchitectures SystemCallLog Environment EnvironmentFile PassEnvironment UnsetEnvironment \
     StandardInput StandardOutput StandardError StandardInputText StandardInputData LogLevelMax LogExtraFields \
     LogRateLimitIntervalSec LogRateLimitBurst LogNamespace SyslogIdentifier SyslogFacility SyslogLevel \
     SyslogLevelPrefix TTYPath TTYReset TTYVHangup TTYRows TTYColumns TTYVTDisallocate LoadCredential \
     LoadCredentialEncrypted SetCredential SetCredentialEncrypted UtmpIdentifier UtmpMode KillMode KillSignal \
     RestartKillSignal SendSIGHUP SendSIGKILL FinalKillSignal WatchdogSignal CPUAccounting CPUWeight \
     StartupCPUWeight CPUQuota CPUQuotaPeriodSec AllowedCPUs StartupAllowedCPUs AllowedMemoryNodes \
     StartupAllowedMemoryNodes MemoryAccounting MemoryMin MemoryLow MemoryHigh MemoryMax MemorySwapMax \
     TasksAccounting TasksMax IOAccounting IOWeight StartupIOWeight IODeviceWeight IOReadBandwidthMax \
     IOWriteBandwidthMax IOReadIOPSMax IOWriteIOPSMax IODeviceLatencyTargetSec IPAccounting IPAddressAllow \
     IPAddressDeny IPIngressFilterPath IPEgressFilterPath BPFProgram SocketBindAllow SocketBindDeny \
     RestrictNetworkInterfaces DeviceAllow DevicePolicy Slice Delegate DisableControllers ManagedOOMSwap \
     ManagedOOMMemoryPressure ManagedOOMMemoryPressureLimit ManagedOOMPreference BPFDelegateAttachments \
     BPFDelegateCommands BPFDelegateMaps BPFDelegatePrograms BindLogSockets BlockIOAccounting BlockIODeviceWeight \
     BlockIOReadBandwidth BlockIOWeight BlockIOWriteBandwidth CPUShares CacheDirectoryAccounting \
     CacheDirectoryQuota Capabilities CoredumpReceive DefaultMemoryLow DefaultMemoryMin DefaultStartupMemoryLow \
     DelegateNamespaces DelegateSubgroup ExtensionImagePolicy ImportCredential InaccessibleDirectories \
     LandlockConfig LogFilterPatterns LogsDirectoryAccounting LogsDirectoryQuota \
     ManagedOOMMemoryPressureDurationSec MemoryKSM MemoryLimit MemoryPressureThresholdSec MemoryPressureWatch \
     MemoryZSwapMax MemoryZSwapWriteback MountImagePolicy NFTSet NetClass PrivateBPF PrivatePIDs \
     ReadOnlyDirectories ReadWriteDirectories RootEphemeral RootImagePolicy RootMStack SetLoginEnvironment \
     StartupBlockIOWeight StartupCPUShares StartupMemoryHigh StartupMemoryLow StartupMemoryMax \
     StartupMemorySwapMax StartupMemoryZSwapMax StateDirectoryAccounting StateDirectoryQuota UserNamespacePath",
)];

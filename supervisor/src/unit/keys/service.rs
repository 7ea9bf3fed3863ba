//! `[Service]`: the keys of systemd.service(5), systemd.exec(5), systemd.kill(5) and systemd.resource-control(5), up to systemd 258.

use super::{Rows, Status};

pub(super) const SERVICE: &[Rows] = &[
    Rows {
        status: Status::Supported,
        names: "Type RemainAfterExit Restart RestartSec TimeoutStartSec TimeoutStopSec TimeoutSec MemoryMax TasksMax OOMScoreAdjust",
    },
    Rows { status: Status::Only(&["mixed", "control-group"]), names: "KillMode" },
    Rows { status: Status::Only(&["yes", "true", "on", "1"]), names: "Delegate SendSIGKILL" },
    Rows { status: Status::Only(&["all", "main", "exec", "none"]), names: "NotifyAccess" },
    Rows {
        status: Status::Inert("accounting is always on"),
        names: "CPUAccounting MemoryAccounting IOAccounting TasksAccounting IPAccounting BlockIOAccounting",
    },
    Rows { status: Status::Inert("lines of the log carry the unit's name"), names: "SyslogIdentifier" },
    Rows {
        status: Status::Inert("the main process is known, it is the container's first"),
        names: "GuessMainPID PIDFile",
    },
    // What a container's own processes get; the rest of the start is the supervisor's.
    Rows {
        status: Status::NotYet(""),
        names: "RestartSteps RestartMaxDelaySec RestartMode SuccessExitStatus RestartPreventExitStatus RestartForceExitStatus \
                RuntimeMaxSec RuntimeRandomizedExtraSec WatchdogSec OOMPolicy ExitType TimeoutAbortSec TimeoutStartFailureMode \
                TimeoutStopFailureMode FileDescriptorStoreMax FileDescriptorStorePreserve Sockets OpenFile ReloadSignal \
                ExtraFileDescriptors RefreshOnReload",
    },
    Rows {
        status: Status::NotYet(""),
        names: "MemoryMin MemoryLow MemoryHigh MemorySwapMax MemoryZSwapMax MemoryZSwapWriteback StartupMemoryLow StartupMemoryHigh \
                StartupMemoryMax StartupMemorySwapMax StartupMemoryZSwapMax DefaultMemoryMin DefaultMemoryLow \
                DefaultStartupMemoryLow CPUWeight StartupCPUWeight CPUQuota CPUQuotaPeriodSec AllowedCPUs StartupAllowedCPUs \
                AllowedMemoryNodes StartupAllowedMemoryNodes IOWeight StartupIOWeight IODeviceWeight IOReadBandwidthMax \
                IOWriteBandwidthMax IOReadIOPSMax IOWriteIOPSMax IODeviceLatencyTargetSec Slice DelegateSubgroup \
                DisableControllers ManagedOOMSwap ManagedOOMMemoryPressure ManagedOOMMemoryPressureLimit \
                ManagedOOMMemoryPressureDurationSec ManagedOOMPreference MemoryPressureThresholdSec MemoryPressureWatch \
                CoredumpReceive",
    },
    Rows {
        status: Status::NotYet(""),
        names: "Nice CPUAffinity NUMAPolicy NUMAMask CPUSchedulingPolicy CPUSchedulingPriority CPUSchedulingResetOnFork \
                IOSchedulingClass IOSchedulingPriority CoredumpFilter TimerSlackNSec UMask LogLevelMax LogRateLimitIntervalSec \
                LogRateLimitBurst LogFilterPatterns LogExtraFields",
    },
    Rows {
        status: Status::NotYet("write Ulimit= in [Container]"),
        names: "LimitCPU LimitFSIZE LimitDATA LimitSTACK LimitCORE LimitRSS LimitNOFILE LimitAS LimitNPROC LimitMEMLOCK LimitLOCKS \
                LimitSIGPENDING LimitMSGQUEUE LimitNICE LimitRTPRIO LimitRTTIME",
    },
    Rows {
        status: Status::NotYet("write AddDevice= in [Container] when it is available"),
        names: "DeviceAllow DevicePolicy",
    },
    Rows {
        status: Status::NotYet("with Network=none the container has no network at all"),
        names: "IPAddressAllow IPAddressDeny IPIngressFilterPath IPEgressFilterPath SocketBindAllow SocketBindDeny \
                RestrictNetworkInterfaces NFTSet BPFProgram",
    },
    Rows {
        status: Status::Refused(
            "the host has no shell and no programs of its own; the container is the service, its command is Exec= in [Container]",
        ),
        names: "ExecStart ExecStartPre ExecStartPost ExecStop ExecStopPost ExecCondition",
    },
    Rows { status: Status::Refused("the host has no programs of its own to run"), names: "ExecReload ExecReloadPost" },
    Rows {
        status: Status::Refused("it names the signal for podman's own processes; write StopSignal= in [Container]"),
        names: "KillSignal RestartKillSignal FinalKillSignal SendSIGHUP WatchdogSignal",
    },
    Rows {
        status: Status::Refused("it sets the environment of podman, not of the container; write it in [Container]"),
        names: "Environment EnvironmentFile PassEnvironment UnsetEnvironment SetLoginEnvironment",
    },
    Rows {
        status: Status::Refused("it is about the podman process, not the container; write it in [Container]"),
        names: "User Group DynamicUser SupplementaryGroups NoNewPrivileges",
    },
    Rows { status: Status::Refused("write WorkingDir= in [Container]"), names: "WorkingDirectory" },
    Rows {
        status: Status::Refused("the container's root is its image; write Image= in [Container]"),
        names: "RootDirectory RootDirectoryStartOnly RootImage RootImageOptions RootImagePolicy RootHash RootHashSignature RootVerity \
                RootEphemeral ExtensionDirectories ExtensionImages ExtensionImagePolicy MountImages MountImagePolicy RootMStack",
    },
    Rows {
        status: Status::Refused("write AddCapability= and DropCapability= in [Container]"),
        names: "CapabilityBoundingSet AmbientCapabilities SecureBits Capabilities",
    },
    Rows {
        status: Status::Refused("write Volume= in [Container]"),
        names: "BindPaths BindReadOnlyPaths ReadWritePaths ReadOnlyPaths ReadWriteDirectories ReadOnlyDirectories RuntimeDirectory \
                RuntimeDirectoryMode RuntimeDirectoryPreserve StateDirectory StateDirectoryMode StateDirectoryAccounting \
                StateDirectoryQuota CacheDirectory CacheDirectoryMode CacheDirectoryAccounting CacheDirectoryQuota LogsDirectory \
                LogsDirectoryMode LogsDirectoryAccounting LogsDirectoryQuota ConfigurationDirectory ConfigurationDirectoryMode",
    },
    Rows { status: Status::Refused("write Tmpfs= in [Container]"), names: "TemporaryFileSystem" },
    Rows {
        status: Status::Refused("write Mask= in [Container]"),
        names: "InaccessiblePaths InaccessibleDirectories ExecPaths NoExecPaths ExecSearchPath",
    },
    Rows {
        status: Status::Refused("a container has this from its own namespaces and default privileges"),
        names: "PrivateTmp PrivateDevices PrivateNetwork PrivateUsers PrivateMounts PrivateIPC PrivatePIDs PrivateBPF ProtectSystem \
                ProtectHome ProtectKernelTunables ProtectKernelModules ProtectKernelLogs ProtectClock ProtectControlGroups \
                ProtectHostname ProtectProc ProcSubset MountFlags MountAPIVFS BindLogSockets NetworkNamespacePath IPCNamespacePath \
                LogNamespace KeyringMode RemoveIPC DelegateNamespaces UserNamespacePath",
    },
    Rows {
        status: Status::Refused("system calls are filtered by SeccompProfile= in [Container]"),
        names: "SystemCallFilter SystemCallArchitectures SystemCallErrorNumber SystemCallLog MemoryDenyWriteExecute \
                RestrictNamespaces RestrictRealtime RestrictSUIDSGID RestrictAddressFamilies LockPersonality \
                RestrictFileSystems Personality LandlockConfig BPFDelegateCommands BPFDelegateMaps BPFDelegatePrograms \
                BPFDelegateAttachments",
    },
    Rows {
        status: Status::Refused("a container's output goes to its log, `orlop logs`; its input is empty"),
        names: "StandardInput StandardOutput StandardError StandardInputText StandardInputData TTYPath TTYReset TTYVHangup \
                TTYVTDisallocate TTYRows TTYColumns UtmpIdentifier UtmpMode PAMName SyslogFacility SyslogLevel SyslogLevelPrefix",
    },
    Rows {
        status: Status::NotYet("write Secret= in [Container] when it is available"),
        names: "SetCredential SetCredentialEncrypted LoadCredential LoadCredentialEncrypted ImportCredential",
    },
    Rows {
        status: Status::Refused("it is no part of the system"),
        names: "SELinuxContext AppArmorProfile SmackProcessLabel BusName BusPolicy USBFunctionDescriptors USBFunctionStrings \
                NonBlocking IgnoreSIGPIPE TimeoutCleanSec MemoryKSM",
    },
    Rows { status: Status::Refused("it is an old name; write MemoryMax="), names: "MemoryLimit" },
    Rows { status: Status::Refused("it is an old name; write CPUWeight="), names: "CPUShares StartupCPUShares" },
    Rows {
        status: Status::Refused("it is an old name; the IO… keys have replaced it"),
        names: "BlockIOWeight StartupBlockIOWeight BlockIODeviceWeight BlockIOReadBandwidth BlockIOWriteBandwidth",
    },
    Rows { status: Status::Refused("systemd has given it up"), names: "NetClass PermissionsStartOnly" },
    Rows {
        status: Status::Refused("it moved to [Unit]; write it there, the interval as StartLimitIntervalSec="),
        names: "StartLimitBurst StartLimitInterval StartLimitAction FailureAction RebootArgument",
    },
];

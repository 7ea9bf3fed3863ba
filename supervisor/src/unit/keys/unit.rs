//! `[Unit]` and `[Install]` of systemd.unit(5), up to systemd 258.

use super::{Rows, Status};

pub(super) const UNIT: &[Rows] = &[
    Rows {
        status: Status::Supported,
        names: "Description Documentation After Before Requires Wants StartLimitBurst StartLimitIntervalSec",
    },
    Rows { status: Status::Inert("it is a note for people and tools"), names: "SourcePath" },
    Rows {
        status: Status::Inert(
            "the state file system is mounted before any unit starts, and there are no other mount units",
        ),
        names: "RequiresMountsFor WantsMountsFor",
    },
    Rows { status: Status::Inert("there is no isolate"), names: "AllowIsolate IgnoreOnIsolate" },
    Rows { status: Status::Inert("units are never unloaded while their file exists"), names: "CollectMode" },
    Rows { status: Status::Only(&["yes", "true", "on", "1"]), names: "DefaultDependencies" },
    Rows {
        status: Status::NotYet(""),
        names: "BindsTo PartOf Conflicts Upholds Requisite OnFailure OnSuccess OnFailureJobMode OnSuccessJobMode PropagatesReloadTo \
                ReloadPropagatedFrom PropagatesStopTo StopPropagatedFrom JoinsNamespaceOf StopWhenUnneeded RefuseManualStart \
                RefuseManualStop JobTimeoutSec JobRunningTimeoutSec JobTimeoutAction JobTimeoutRebootArgument StartLimitAction \
                FailureAction SuccessAction FailureActionExitStatus SuccessActionExitStatus RebootArgument SurviveFinalKillSignal",
    },
    Rows {
        status: Status::NotYet(""),
        names: "ConditionPathExists ConditionPathExistsGlob ConditionPathIsDirectory ConditionPathIsSymbolicLink \
                ConditionPathIsMountPoint ConditionPathIsReadWrite ConditionPathIsEncrypted ConditionDirectoryNotEmpty \
                ConditionFileNotEmpty ConditionFileIsExecutable ConditionNeedsUpdate ConditionFirstBoot ConditionArchitecture \
                ConditionFirmware ConditionVirtualization ConditionHost ConditionKernelCommandLine ConditionKernelVersion \
                ConditionVersion ConditionCredential ConditionSecurity ConditionCapability ConditionACPower ConditionMemory \
                ConditionCPUFeature ConditionCPUs ConditionEnvironment ConditionUser ConditionGroup \
                ConditionControlGroupController ConditionOSRelease ConditionMemoryPressure ConditionCPUPressure \
                ConditionIOPressure ConditionKernelModuleLoaded",
    },
    Rows {
        status: Status::NotYet(""),
        names: "AssertPathExists AssertPathExistsGlob AssertPathIsDirectory AssertPathIsSymbolicLink AssertPathIsMountPoint \
                AssertPathIsReadWrite AssertPathIsEncrypted AssertDirectoryNotEmpty AssertFileNotEmpty AssertFileIsExecutable \
                AssertNeedsUpdate AssertFirstBoot AssertArchitecture AssertFirmware AssertVirtualization AssertHost \
                AssertKernelCommandLine AssertKernelVersion AssertVersion AssertCredential AssertSecurity AssertCapability \
                AssertACPower AssertMemory AssertCPUFeature AssertCPUs AssertEnvironment AssertUser AssertGroup \
                AssertControlGroupController AssertOSRelease AssertMemoryPressure AssertCPUPressure AssertIOPressure \
                AssertKernelModuleLoaded",
    },
    Rows { status: Status::Refused("it is an old name; write StartLimitIntervalSec="), names: "StartLimitInterval" },
    Rows { status: Status::Refused("it is an old name; write BindsTo="), names: "BindTo" },
    Rows { status: Status::Refused("it is an old name; write PropagatesReloadTo="), names: "PropagateReloadTo" },
    Rows { status: Status::Refused("it is an old name; write ReloadPropagatedFrom="), names: "PropagateReloadFrom" },
    Rows { status: Status::Refused("systemd has given it up; write Requires="), names: "RequiresOverridable" },
    Rows { status: Status::Refused("systemd has given it up; write Requisite="), names: "RequisiteOverridable" },
    Rows { status: Status::Refused("it is an old name; write OnFailureJobMode="), names: "OnFailureIsolate" },
    Rows { status: Status::Refused("systemd has given it up"), names: "IgnoreOnSnapshot" },
];

pub(super) const INSTALL: &[Rows] = &[
    Rows { status: Status::Supported, names: "WantedBy RequiredBy" },
    Rows { status: Status::NotYet(""), names: "Alias UpheldBy" },
    Rows { status: Status::NotYet("write WantedBy= in the other unit too"), names: "Also" },
    Rows {
        status: Status::NotYet("templates are not available; write one file per instance"),
        names: "DefaultInstance",
    },
];

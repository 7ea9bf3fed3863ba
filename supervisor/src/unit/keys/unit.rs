//! `[Unit]` and `[Install]` of systemd.unit(5), up to systemd 258.

use super::{Rows, Value, inert, later, only, refused, yes};

pub(super) const YES: &[&str] = &["yes", "y", "true", "t", "on", "1"];
pub(super) const NO: &[&str] = &["no", "n", "false", "f", "off", "0"];
pub(super) const ACTION: Value = Value::Choice(&[
    "none",
    "reboot",
    "reboot-force",
    "reboot-immediate",
    "poweroff",
    "poweroff-force",
    "poweroff-immediate",
    "exit",
    "exit-force",
    "soft-reboot",
    "soft-reboot-force",
    "kexec",
    "kexec-force",
    "halt",
    "halt-force",
    "halt-immediate",
]);
const JOB_MODE: Value = Value::Choice(&[
    "fail",
    "replace",
    "replace-irreversibly",
    "isolate",
    "flush",
    "ignore-dependencies",
    "ignore-requirements",
    "restart-dependencies",
]);

pub(super) const UNIT: &[Rows] = &[
    yes(Value::Own("text"), "Description"),
    yes(Value::Own("words"), "Documentation"),
    yes(Value::Own("units"), "After Before Requires Wants"),
    yes(Value::Own("number"), "StartLimitBurst"),
    yes(Value::Own("time span"), "StartLimitIntervalSec"),
    yes(
        Value::Own("units"),
        "BindsTo PartOf Conflicts Upholds Requisite OnFailure OnSuccess PropagatesStopTo StopPropagatedFrom",
    ),
    only(
        &["none", "reboot", "reboot-force", "poweroff", "poweroff-force", "halt", "halt-force"],
        Value::Own("none, reboot, poweroff, … (systemd.unit(5))"),
        "StartLimitAction FailureAction SuccessAction",
    ),
    yes(Value::Own("units"), "PropagatesReloadTo ReloadPropagatedFrom"),
    later("write Network=other.container in [Container], or Pod=", Value::Units, "JoinsNamespaceOf"),
    // The unit is started, with what it requires; nothing else is stopped for it.
    only(&["replace", "fail"], JOB_MODE, "OnFailureJobMode OnSuccessJobMode"),
    yes(Value::Own("boolean"), "StopWhenUnneeded RefuseManualStart RefuseManualStop"),
    only(NO, Value::Boolean, "SurviveFinalKillSignal"),
    // A start has a time of its own, TimeoutStartSec=, and so has a stop.
    yes(Value::Own("time span or infinity"), "JobTimeoutSec"),
    only(&["infinity", "0"], Value::Timeout, "JobRunningTimeoutSec"),
    only(&["none"], ACTION, "JobTimeoutAction"),
    inert(
        "it is of …Action=exit, and a machine has no exit status",
        Value::Range(0, 255),
        "FailureActionExitStatus SuccessActionExitStatus",
    ),
    inert("it is of JobTimeoutAction=, which is none", Value::Text, "JobTimeoutRebootArgument"),
    later("the machine starts anew without an argument", Value::Text, "RebootArgument"),
    inert("it is a note for people and tools", Value::Text, "SourcePath"),
    inert(
        "the state file system is mounted before any unit starts, and there are no other mount units",
        Value::Words,
        "RequiresMountsFor WantsMountsFor",
    ),
    inert("there is no isolate", Value::Boolean, "AllowIsolate IgnoreOnIsolate"),
    inert(
        "units are never unloaded while their file exists",
        Value::Choice(&["inactive", "inactive-or-failed"]),
        "CollectMode",
    ),
    only(YES, Value::Boolean, "DefaultDependencies"),
    refused("it is an old name; write StartLimitIntervalSec=", "StartLimitInterval"),
    refused("it is an old name; write BindsTo=", "BindTo"),
    refused("it is an old name; write PropagatesReloadTo=", "PropagateReloadTo"),
    refused("it is an old name; write ReloadPropagatedFrom=", "PropagateReloadFrom"),
    refused("systemd has given it up; write Requires=", "RequiresOverridable"),
    refused("systemd has given it up; write Requisite=", "RequisiteOverridable"),
    refused("it is an old name; write OnFailureJobMode=", "OnFailureIsolate"),
    refused("systemd has given it up", "IgnoreOnSnapshot"),
];

const CHECKS: Value = Value::Own("[|][!]argument");

/// What can be asked of such a machine, and what cannot: nobody logs in, nothing is decrypted, there is no systemd.
pub(super) const CONDITIONS: &[Rows] = &[
    yes(
        CHECKS,
        "ConditionPathExists ConditionPathExistsGlob ConditionPathIsDirectory ConditionPathIsSymbolicLink \
         ConditionPathIsMountPoint ConditionPathIsReadWrite ConditionDirectoryNotEmpty ConditionFileNotEmpty \
         ConditionFileIsExecutable ConditionFirstBoot ConditionArchitecture ConditionFirmware ConditionVirtualization \
         ConditionHost ConditionKernelCommandLine ConditionKernelVersion ConditionACPower ConditionMemory \
         ConditionCPUFeature ConditionCPUs ConditionControlGroupController ConditionOSRelease ConditionMemoryPressure \
         ConditionCPUPressure ConditionIOPressure ConditionKernelModuleLoaded",
    ),
    yes(
        CHECKS,
        "AssertPathExists AssertPathExistsGlob AssertPathIsDirectory AssertPathIsSymbolicLink AssertPathIsMountPoint \
         AssertPathIsReadWrite AssertDirectoryNotEmpty AssertFileNotEmpty AssertFileIsExecutable AssertFirstBoot \
         AssertArchitecture AssertFirmware AssertVirtualization AssertHost AssertKernelCommandLine AssertKernelVersion \
         AssertACPower AssertMemory AssertCPUFeature AssertCPUs AssertControlGroupController AssertOSRelease \
         AssertMemoryPressure AssertCPUPressure AssertIOPressure AssertKernelModuleLoaded",
    ),
    refused(
        "it asks something of systemd or of an ordinary distribution that this system has no answer to",
        "ConditionPathIsEncrypted ConditionNeedsUpdate ConditionVersion ConditionCredential ConditionSecurity \
         ConditionCapability ConditionEnvironment ConditionUser ConditionGroup AssertPathIsEncrypted AssertNeedsUpdate \
         AssertVersion AssertCredential AssertSecurity AssertCapability AssertEnvironment AssertUser AssertGroup",
    ),
];

pub(super) const INSTALL: &[Rows] = &[
    yes(Value::Own("units"), "WantedBy RequiredBy UpheldBy"),
    yes(Value::Own("unit names"), "Alias"),
    yes(Value::Own("instance"), "DefaultInstance"),
    // As Quadlet, which applies Alias=, WantedBy=, RequiredBy= and UpheldBy= only.
    refused("Quadlet does not apply it; write WantedBy= in the other unit too", "Also"),
];

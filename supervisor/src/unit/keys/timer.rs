//! `[Timer]` of systemd.timer(5) and `[Socket]` of systemd.socket(5), up to systemd 258.

use super::{Rows, Value, later, only, refused, yes};

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
    later("", Value::Own("absolute path"), "ListenFIFO"),
    yes(Value::Own("unit"), "Service"),
    only(&["no", "false", "off", "0"], Value::Own("boolean"), "Accept"),
    yes(Value::Own("name"), "FileDescriptorName"),
    later("", Value::Own("name"), "SocketUser SocketGroup BindToDevice"),
    yes(Value::Own("file mode"), "SocketMode DirectoryMode"),
    yes(Value::Own("number"), "Backlog"),
    later("", Value::Own("number"), "MaxConnections MaxConnectionsPerSource TriggerLimitBurst PollLimitBurst"),
    later("", Value::Choice(&["default", "both", "ipv6-only"]), "BindIPv6Only"),
    later("", Value::Choice(&["udplite", "sctp", "mptcp"]), "SocketProtocol"),
    later(
        "",
        Value::Boolean,
        "KeepAlive NoDelay ReusePort FreeBind Transparent Broadcast PassCredentials PassSecurity PassPacketInfo PassPIDFD \
         PassFileDescriptorsToExec AcceptFileDescriptors RemoveOnStop FlushPending Writable",
    ),
    later("", Value::Span, "KeepAliveTimeSec KeepAliveIntervalSec DeferAcceptSec"),
    later("", Value::Span, "TriggerLimitIntervalSec PollLimitIntervalSec DeferTriggerMaxSec"),
    later("", Value::Timeout, "TimeoutSec"),
    later("", Value::Choice(&["no", "yes", "patient"]), "DeferTrigger"),
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
    refused("a socket has no processes; write it in the container", "KillMode KillSignal SendSIGKILL SendSIGHUP"),
];

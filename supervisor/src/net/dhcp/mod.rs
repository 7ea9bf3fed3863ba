//! DHCPv4, the client (RFC 2131, 3396, 3442, 6842): `machine` decides, `message` and `frame` know the bytes.

pub(super) mod frame;
pub(super) mod machine;
pub(super) mod message;

//! For tests: a lease.

use std::net::Ipv4Addr;

use super::lease::{Lease, Route};

pub(super) fn lease(seconds: u32) -> Lease {
    Lease {
        address: Ipv4Addr::new(10, 99, 0, 50),
        prefix: 24,
        server: Ipv4Addr::new(10, 99, 0, 1),
        renew_seconds: seconds / 2,
        rebind_seconds: seconds - seconds / 8,
        lease_seconds: seconds,
        routes: vec![Route {
            destination: Ipv4Addr::UNSPECIFIED,
            prefix: 0,
            gateway: Some(Ipv4Addr::new(10, 99, 0, 1)),
        }],
        dns: vec![Ipv4Addr::new(10, 99, 0, 1)],
        search: vec!["example.net".into()],
        mtu: None,
        hostname: None,
    }
}

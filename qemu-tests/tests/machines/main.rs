//! Every test that needs a machine. Each reads as a script: boot, expect, act, expect.
//!
//! Questions that only look are asked of one machine (`first`); whoever changes or ends a machine boots its own.
#![allow(clippy::unwrap_used, reason = "a test ends with the sentence of the error, its place and the console's tail")]

mod cargo_boot;
mod crashes;
mod engines;
mod facts;
mod first;
mod forwarding;
mod hardware;
mod identities;
mod kinds;
mod limits;
mod many;
mod networks;
mod nginx;
mod power;
mod runtime;
mod seizure;
mod state;
mod supervisor;
mod support;
mod watchdog;

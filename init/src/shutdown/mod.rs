//! The end of the machine: in which order ([`plan`]), and what each step does ([`processes`], [`mounts`],
//! [`devices`]). Steps that may hang in the kernel run in a forked child that is left behind at its deadline.

pub(crate) mod devices;
pub(crate) mod mounts;
pub(crate) mod plan;
pub(crate) mod processes;

//! PID 1's one child: when it is started and given up ([`policy`]), how it is started ([`child`]), and what is said
//! to it and heard from it ([`link`]).

pub(crate) mod child;
pub(crate) mod link;
pub(crate) mod policy;

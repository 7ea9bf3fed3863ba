//! Orlop's supervisor: units, their supervision, the control interface and its command line.

pub mod api;
pub mod cli;
pub mod daemon;
pub mod net;
pub mod unit;
